"""Where fetched files may be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epista.client.transfer import destinations
from epista.contract.errors import TransferError

SHA256 = "ab" * 32

segments = st.one_of(
    st.sampled_from(
        ["..", ".", "", "a", "A", "con", "NUL.txt", "C:", "c:\\x", "a.", "b ", "\x00", "\n", "é", "e\u0301", "x" * 300]
    ),
    st.text(max_size=8),
)
names = st.lists(segments, min_size=1, max_size=5).map("/".join)


@given(names, st.booleans())
def test_no_name_leads_out_of_the_folder(name: str, on_windows: bool) -> None:
    root = Path("/dest/here")
    try:
        target = destinations.below(root, name, on_windows=on_windows)
    except TransferError:
        return
    assert Path(os.path.normpath(target)) == target
    assert root in target.parents
    assert target.relative_to(root).as_posix() == name


@given(st.dictionaries(st.text(max_size=4), names, max_size=6))
def test_every_name_of_a_hostile_listing_gets_a_place_or_an_error(listing: dict[str, str]) -> None:
    root = Path("/nonexistent-dest")
    places = destinations.for_folder(root, listing, ignores_case=lambda _: True)
    assert places.keys() == listing.keys()
    paths = [place for place in places.values() if isinstance(place, Path)]
    assert all(root in path.parents for path in paths)
    assert len({str(path).casefold() for path in paths}) == len(paths)


@pytest.mark.parametrize("name", ["a #?%41 é\\x.csv", "C:/x", "nul", "a. ", "-rf", "~", "$HOME", "*"])
def test_names_that_only_windows_refuses_are_written_elsewhere(name: str) -> None:
    assert destinations.below(Path("d"), name, on_windows=False) == Path("d", *name.split("/"))


@pytest.mark.parametrize("name", ["a\\b", "C:x", "nul", "NUL.txt", "com¹", "lpt9.csv", "CONIN$", "a.", "a ", "a?", "d/aux/x"])
def test_windows_has_names_of_its_own_to_refuse(name: str) -> None:
    with pytest.raises(TransferError):
        destinations.below(Path("d"), name, on_windows=True)


def test_a_name_like_that_of_a_part_file_is_refused() -> None:
    with pytest.raises(TransferError, match="not wholly arrived"):
        destinations.below(Path("d"), destinations.part_of(Path("d/x"), SHA256).name)


def test_a_file_goes_into_a_folder_or_is_named(tmp_path: Path) -> None:
    assert destinations.for_file(tmp_path, "a/x.csv") == tmp_path / "x.csv"
    assert destinations.for_file(f"{tmp_path}/new/", "a/x.csv") == tmp_path / "new" / "x.csv"
    assert destinations.for_file(tmp_path / "y.csv", "a/x.csv") == tmp_path / "y.csv"


def test_a_link_that_the_user_named_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real.csv")
    assert destinations.for_file(tmp_path / "link", "x.csv") == tmp_path / "real.csv"


def test_a_link_below_the_destination_is_not_followed(tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    dest.mkdir()
    (dest / "x.csv").symlink_to(tmp_path / "outside")
    (dest / "sub").symlink_to(tmp_path)
    with pytest.raises(TransferError, match="symbolic link"):
        destinations.for_file(dest, "x.csv")
    with pytest.raises(TransferError, match="symbolic link"):
        destinations.refuse_links(dest, dest / "sub" / "y")


def test_what_stands_in_the_way_is_told_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "sub").write_text("a file")
    (tmp_path / "x").mkdir()
    with pytest.raises(TransferError, match=r"sub' is a file.*x' is a folder"):
        destinations.for_folder(tmp_path, {"1": "sub/y", "2": "x"})
    with pytest.raises(TransferError, match="is a file, where a folder must be"):
        destinations.for_file(f"{tmp_path}/sub/", "y")
    with pytest.raises(TransferError, match="is a file, where a folder must be"):
        destinations.for_folder(tmp_path / "sub" / "deeper", {"1": "y"})


def test_names_that_differ_by_case_fail_only_where_the_disk_ignores_case(tmp_path: Path) -> None:
    listing = {"1": "Cells.fcs", "2": "cells.FCS", "3": "other"}
    assert all(
        isinstance(place, Path) for place in destinations.for_folder(tmp_path, listing, ignores_case=lambda _: False).values()
    )
    places = destinations.for_folder(tmp_path, listing, ignores_case=lambda _: True)
    assert [type(place) for place in places.values()] == [TransferError, TransferError, type(tmp_path)]


def test_a_file_and_a_folder_of_one_name_fail_on_every_disk(tmp_path: Path) -> None:
    places = destinations.for_folder(tmp_path, {"1": "a", "2": "a/b", "3": "c"}, ignores_case=lambda _: False)
    assert isinstance(places["1"], TransferError)
    assert isinstance(places["2"], TransferError)
    assert places["3"] == tmp_path / "c"


def test_asking_a_disk_about_case_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert destinations.disk_ignores_case(tmp_path / "not" / "there") == (tmp_path / "A").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_part_of_a_file_with_a_long_name_has_a_name_that_fits(tmp_path: Path) -> None:
    part = destinations.part_of(tmp_path / ("é" * 127), SHA256)
    part.touch()
    assert part.name.startswith(".")
    assert part != destinations.part_of(tmp_path / ("è" * 127), SHA256)
