"""Which files of a folder go into the lab."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epista.client.transfer import folders
from epista.contract.errors import InvalidRequestError, TransferError, ValidationError

# Without "!d/" beside rules for what is in d: pathspec takes back all of a folder, git only the folder itself.
RULES = [
    "a",
    "/a",
    "*.tmp",
    "d/",
    "d/*",
    "d/**",
    "!d/e/",
    "**/e",
    "**/e/**",
    "!d/e/a",
    "e/d",
    "/*",
    "x\\ y",
    "\\#a",
    "[ab]",
    "?",
    "d/**/a",
    "# a",
    "",
    "!a",
    "!d/a",
    "!/e/**",
]


def grow(root: Path, *names: str) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return root


def taken(root: Path, **how: object) -> list[str]:
    found = folders.walk(root, **how)  # type: ignore[arg-type]
    assert not found.problems
    return list(found.files)


def test_files_come_in_the_order_of_names_and_empty_folders_do_not(tmp_path: Path) -> None:
    grow(tmp_path, "b/2", "b/1", "a", "c")
    (tmp_path / "empty").mkdir()
    assert taken(tmp_path) == ["a", "b/1", "b/2", "c"]


def test_hidden_files_count_and_what_tools_leave_behind_does_not(tmp_path: Path) -> None:
    grow(tmp_path, ".zarray", "x/.zattrs", ".git/config", "x/.git/config", ".DS_Store", "x/y/.DS_Store", "._a", "x/Thumbs.db")
    grow(tmp_path, "__pycache__/m.pyc", "x/.ipynb_checkpoints/n.ipynb", ".x.csv.0123456789ab.epista-part", "sub/.git", "git")
    found = folders.walk(tmp_path)
    assert list(found.files) == [".zarray", "git", "x/.zattrs"]
    assert ".git/" in found.left_out
    assert len(found.left_out) == 10


def test_no_rules_take_everything(tmp_path: Path) -> None:
    grow(tmp_path, ".git/config", ".DS_Store", "a.tmp").joinpath(".epistaignore").write_text("*.tmp\n")
    assert taken(tmp_path, ignore=()) == [".DS_Store", ".epistaignore", ".git/config", "a.tmp"]


def test_rules_are_gitignore_syntax(tmp_path: Path) -> None:
    grow(tmp_path, "a.tmp", "keep.tmp", "raw/x", "raw/keep", "d/raw/x", "build/y", "logs/l", "d/logs/l")
    (tmp_path / ".epistaignore").write_text("# a comment\n*.tmp\n!keep.tmp\nraw/**\n!raw/keep\n", encoding="utf-8-sig")
    assert taken(tmp_path, ignore=["build/", "/logs"]) == [".epistaignore", "d/logs/l", "d/raw/x", "keep.tmp", "raw/keep"]
    assert taken(tmp_path, ignore="d\nbuild\nlogs") == [".epistaignore", "keep.tmp", "raw/keep"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(RULES), min_size=1, max_size=4))
def test_rules_mean_what_they_mean_to_git(rules: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = grow(Path(folder), "a", "b.tmp", "d/a", "d/b.tmp", "d/e/a", "d/e/f/b.tmp", "e/a", "e/d/a", "x y", "#a")
        subprocess.run(["git", "init", "-q", folder], check=True)
        (root / ".git" / "info" / "exclude").write_text("\n".join(rules))
        listing = ["git", "-C", folder, "ls-files", "--others", "--exclude-from", ".git/info/exclude", "-z"]
        listed = subprocess.run(listing, check=True, capture_output=True).stdout.decode().split("\0")[:-1]
        assert sorted(folders.walk(root, ignore=rules).files) == sorted(listed)


def test_a_rule_can_take_back_what_is_left_out_otherwise(tmp_path: Path) -> None:
    grow(tmp_path, ".git/config", ".DS_Store")
    assert taken(tmp_path, ignore=["!.git"]) == [".git/config"]


def test_a_rule_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="gitignore"):
        folders.walk(tmp_path, ignore=["!"])
    with pytest.raises(InvalidRequestError, match="'inside', 'follow' or 'skip'"):
        folders.walk(tmp_path, links="maybe")  # type: ignore[arg-type]


def test_links_to_files_inside_are_followed_and_others_are_all_named(tmp_path: Path) -> None:
    root = grow(tmp_path / "root", "real", "sub/x")
    grow(tmp_path, "outside")
    (root / "inside").symlink_to("real")
    (root / "twice").symlink_to("inside")
    (root / "leaves").symlink_to("../outside")
    (root / "folder").symlink_to("sub")
    (root / "nowhere").symlink_to("gone")
    (root / "itself").symlink_to("itself")
    found = folders.walk(root)
    assert list(found.files) == ["inside", "real", "sub/x", "twice"]
    assert list(found.problems) == ["folder", "itself", "leaves", "nowhere"]
    assert "outside the folder" in found.problems["leaves"]
    assert list(folders.walk(root, links="skip").files) == ["real", "sub/x"]
    followed = folders.walk(root, links="follow")
    assert list(followed.files) == ["folder/x", "inside", "leaves", "real", "sub/x", "twice"]
    assert list(followed.problems) == ["itself", "nowhere"]


def test_a_sibling_whose_name_begins_alike_is_outside(tmp_path: Path) -> None:
    root = grow(tmp_path / "root", "a")
    (root / "link").symlink_to(grow(tmp_path / "root2", "x") / "x")
    assert list(folders.walk(root).problems) == ["link"]


def test_links_that_lead_back_end(tmp_path: Path) -> None:
    root = grow(tmp_path / "root", "sub/x")
    (root / "sub" / "up").symlink_to("..")
    found = folders.walk(root, links="follow")
    assert list(found.files) == ["sub/x"]
    assert found.left_out == ["sub/up/"]


def test_a_link_that_rules_leave_out_is_no_problem(tmp_path: Path) -> None:
    (grow(tmp_path, "a") / "venv").symlink_to("/usr")
    assert taken(tmp_path, ignore=["venv"]) == ["a"]


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    grow(tmp_path / "real", "x")
    (tmp_path / "link").symlink_to("real")
    assert taken(tmp_path / "link") == ["x"]


def test_pipes_are_named_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(grow(tmp_path, "a") / "pipe")
    assert folders.walk(tmp_path).problems == {"pipe": "is no regular file"}


@contextlib.contextmanager
def somebody() -> Iterator[Path]:
    """Be a user who may not read everything, as root may; yield a folder of that user."""
    was = os.geteuid()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if was == 0:
            os.chown(folder, 65534, -1)
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(was)


def test_what_cannot_be_read_is_named() -> None:
    with somebody() as folder:
        grow(folder, "a", "d/x").joinpath("a").chmod(0)
        (folder / "d").chmod(0)

        problems = folders.walk(folder).problems

        (folder / "d").chmod(0o700)

    assert list(problems) == ["a", "d/"]


def test_a_file_or_nothing_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="is a file, not a folder"):
        folders.walk(grow(tmp_path, "a") / "a")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        folders.walk(tmp_path / "b")


def test_names_are_given_as_the_disk_has_them(tmp_path: Path) -> None:
    name = unicodedata.normalize("NFD", "é")
    grow(tmp_path, name)
    assert unicodedata.normalize("NFC", taken(tmp_path)[0]) == "é"
