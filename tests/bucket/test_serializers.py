"""Serializers at work in a workspace: items 70 to 79 of the acceptance list. More of each stands in tests/serializers."""

from __future__ import annotations

import datetime as dt
import functools
import gzip
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import altair
import matplotlib.figure
import numpy as np
import pandas as pd
import PIL.Image
import plotly.graph_objects
import polars as pl
import pyarrow as pa
import pytest

import epista


@pytest.mark.parametrize(
    ("key", "make", "fits"),
    [
        ("l.csv", lambda: [1, 2], ".json"),
        ("t.png", lambda: pd.DataFrame({"a": [1]}), ".parquet"),
        ("t.npy", lambda: pd.DataFrame({"a": [1]}), ".csv"),
        ("f.csv", lambda: matplotlib.figure.Figure(), ".svg"),
        ("d.txt", lambda: {"a": 1}, ".json"),
        ("x.nosuch", lambda: {"a": 1}, ".json"),
        ("noextension", lambda: {"a": 1}, ".json"),
        ("s.parquet", lambda: "text", ".txt"),
    ],
)
def test_70_a_clash_of_type_and_extension_is_refused_and_lists_what_fits(
    ws: epista.Workspace, key: str, make: Callable[[], object], fits: str
) -> None:
    with pytest.raises(epista.FormatError, match=re.escape(fits)) as failure:
        ws.put(key, make())

    assert isinstance(failure.value, TypeError)
    assert ws.keys() == []


def test_70_a_format_may_name_an_unknown_extension_and_never_contradict_a_known_one(ws: epista.Workspace) -> None:
    assert ws.put("x.plate", [{"n": 1}], format="csv").format == "csv"
    assert ws("x.plate")["n"].tolist() == [1]
    with pytest.raises(epista.FormatError, match="contradicts"):
        ws.put("x.json", [{"n": 1}], format="csv")


def test_71_a_separator_given_at_put_needs_no_option_at_read(ws: epista.Workspace, folder: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x|y", "z,w"]})

    ws.put("x.csv", frame, sep="|")
    assert ws("x.csv", format="bytes") == b'a|b\n1|"x|y"\n2|z,w\n'
    pd.testing.assert_frame_equal(ws("x.csv"), frame)

    (folder / "y.csv").write_bytes(b"a;b\n1,5;x\n")
    ws.put_file("y.csv", folder / "y.csv", sep=";", decimal=",")
    assert ws("y.csv").to_dict("list") == {"a": [1.5], "b": ["x"]}
    with pytest.raises(epista.UnreadableError, match="separated by ','"):
        ws("y.csv", sep=",")
    with pytest.raises(epista.FormatError, match="sepp"):
        ws.put("x.csv", frame, sepp="|")


TRICKY = ["001", "NA", "", None, 'a,"\tb', "a\rb", "a\r\nb", " x ", "1e5", "é"]


@pytest.mark.parametrize("key", ["x.csv", "x.tsv", "x.csv.gz"])
@pytest.mark.parametrize("others", [{}, {"n": list(range(10))}], ids=["alone", "beside another"])
def test_72_tricky_strings_survive_csv(ws: epista.Workspace, key: str, others: dict[str, Any]) -> None:
    frame = pd.DataFrame({"only": TRICKY, **others})

    ws.put(key, frame)

    pd.testing.assert_frame_equal(ws(key), frame)


def test_72_the_bytes_are_alike_on_every_system(ws: epista.Workspace) -> None:
    ws.put("x.csv", pd.DataFrame({"id": ["001", "NA", "", None, 'a,"\tb', "a\rb"]}))

    assert ws("x.csv", format="bytes") == b'id\n001\nNA\n""\n\n"a,""\tb"\n"a\rb"\n'


def _frames() -> dict[str, pd.DataFrame]:
    zoned = pd.date_range("2026-03-28", periods=3, freq="D", tz="Europe/Berlin")
    return {
        "numpy": pd.DataFrame({str(t): np.array([0, 1, 2], t) for t in ("int8", "uint64", "float32", "float64", "bool")}),
        "nullable": pd.DataFrame({"i": pd.array([1, None, 2**62 + 1], "Int64"), "b": pd.array([True, None, False], "boolean")}),
        "strings": pd.DataFrame({"s": ["a", None, ""]}),
        "ordered categories": pd.DataFrame({"c": pd.Categorical(["lo", "hi", None], ["lo", "mid", "hi"], ordered=True)}),
        "time zone": pd.DataFrame({"t": zoned, "d": pd.to_timedelta([1, 2, 3], unit="s")}),
        "named index": pd.DataFrame({"n": [1, 2, 3]}, index=pd.Index(["x", "y", "z"], name="well")),
        "range index": pd.DataFrame({"n": [1, 2, 3]}, index=pd.RangeIndex(5, 11, 2)),
        "time index": pd.DataFrame({"n": [1, 2, 3]}, index=pd.DatetimeIndex(list(zoned))),
        "two levels": pd.DataFrame({"n": [1, 2]}, index=pd.MultiIndex.from_tuples([("A", 1), ("B", 2)], names=["row", "column"])),
        "empty": pd.DataFrame({"n": pd.Series([], dtype="int16")}),
    }


@pytest.mark.parametrize("name", _frames())
def test_73_parquet_returns_an_equal_frame(ws: epista.Workspace, name: str) -> None:
    frame = _frames()[name]

    ws.put("x.parquet", frame)

    pd.testing.assert_frame_equal(ws("x.parquet"), frame, check_freq=False)


def test_73_the_caller_chooses_the_class_of_the_table(ws: epista.Workspace) -> None:
    table = pa.table({"n": pa.array([1, None], pa.int32()), "l": [["a"], None]})

    ws.put("x.parquet", table)

    assert ws("x.parquet", as_type="arrow").equals(table)
    assert ws("x.parquet", as_type="polars")["l"].to_list() == [["a"], None]
    assert ws("x.parquet", columns=["n"], as_type="arrow").column_names == ["n"]


def test_74_numbers_of_numpy_a_series_and_polars_are_accepted(ws: epista.Workspace) -> None:
    ws.put("i.json", np.int64(3))
    ws.put("f.json", {"deep": [np.float64(0.5), np.bool_(True), np.int16(-1)]})
    assert ws("i.json") == 3
    assert ws("f.json") == {"deep": [0.5, True, -1]}

    for ending in ("csv", "parquet", "arrow"):
        ws.put(f"s.{ending}", pd.Series([1.5, 2.5], name="dose"))
        assert ws(f"s.{ending}")["dose"].tolist() == [1.5, 2.5]
        ws.put(f"p.{ending}", pl.DataFrame({"n": [1, 2], "s": ["001", None]}))
        assert ws(f"p.{ending}", as_type="polars").equals(pl.DataFrame({"n": [1, 2], "s": ["001", None]}))
    ws.put("np.csv", [{"n": np.int64(1), "t": dt.date(2026, 1, 31)}])
    assert ws("np.csv")["n"].tolist() == [1]


def _matplotlib() -> Any:
    figure = matplotlib.figure.Figure(figsize=(2, 1))
    figure.subplots().plot([1, 3, 2])
    return figure


class _Drawn:
    def _repr_svg_(self) -> str:
        return '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"></svg>'


FIGURES: dict[str, tuple[Callable[[], Any], tuple[str, ...], str, str]] = {
    "matplotlib": (_matplotlib, ("png", "svg", "pdf", "jpg"), "html", "png, svg, pdf, jpg"),
    "plotly": (lambda: plotly.graph_objects.Figure({"data": [{"y": [1, 2]}]}), ("html",), "gif", "html, png, svg"),
    "altair": (
        lambda: altair.Chart(pd.DataFrame({"x": [1]})).mark_point().encode(x="x:Q"),
        ("html", "png", "svg", "pdf"),
        "jpg",
        "html, png, svg, pdf",
    ),
    "PIL": (lambda: PIL.Image.new("RGB", (4, 3), "red"), ("png", "jpg", "gif", "bmp", "webp", "pdf"), "svg", "png"),
    "an array": (lambda: np.zeros((3, 4, 3), "uint8"), ("png", "jpg", "pdf"), "svg", "png"),
    "an object that draws itself": (_Drawn, ("svg",), "png", "svg"),
}


@pytest.mark.parametrize("library", FIGURES)
def test_75_a_figure_saves_in_every_format_of_its_library_and_displays_on_read(ws: epista.Workspace, library: str) -> None:
    make, endings, refused, fits = FIGURES[library]
    for ending in endings:
        put = ws.put(f"x.{ending}", make())
        picture = ws(f"x.{ending}")

        assert put.kind == ("IMAGE" if library in ("PIL", "an array") and ending != "pdf" else put.kind)
        assert isinstance(picture, epista.Picture)
        assert bytes(picture) == ws(f"x.{ending}", format="bytes")
        shown = picture._repr_html_()
        assert ('sandbox="allow-scripts"' in shown) == (ending == "html")
        assert "<svg" not in shown
        assert "allow-same-origin" not in shown
        if ending in ("png", "jpg", "gif", "bmp", "webp"):
            assert min(picture.to_pil().size) > 0
    with pytest.raises(epista.FormatError) as failure:
        ws.put(f"x.{refused}", make())
    assert fits.split(", ")[0] in str(failure.value)


def test_75_a_figure_is_of_kind_figure_and_a_picture_of_kind_image(ws: epista.Workspace) -> None:
    assert ws.put("a.png", _matplotlib()).kind == "FIGURE"
    assert ws.put("a.svg", _matplotlib()).kind == "FIGURE"
    assert ws.put("b.png", PIL.Image.new("L", (1, 1))).kind == "IMAGE"
    assert ws.put("c.png", ws("a.png")).kind == "IMAGE"
    assert ws.put("d.html", "<p>text</p>").kind == "DOCUMENT"
    assert ws("d.html") == "<p>text</p>"


class _Bomb:
    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._trace,)


NAMES = [
    "x.pkl",
    "x.pickle",
    "x.joblib",
    "x.npy",
    "x.npz",
    "x.parquet",
    "x.csv",
    "x.json",
    "x.h5",
    "x.bin",
    "x",
    "x.csv.gz",
    "x.arrow",
]


@pytest.mark.parametrize("name", NAMES)
def test_76_a_pickle_is_never_executed_whatever_its_name_or_the_format(ws: epista.Workspace, folder: Path, name: str) -> None:
    trace = folder / "executed"
    payload = pickle.dumps(_Bomb(trace))
    ws.put(name, payload)

    for format in (None, "npy", "npz", "parquet", "csv", "json", "xlsx"):
        try:
            assert isinstance(ws(name, format=format), bytes | str | pd.DataFrame)
        except epista.EpistaError:
            pass
    ws.search("x")

    assert not trace.exists()
    assert ws(name, format="bytes") == payload


def test_76_an_array_of_objects_is_refused_and_never_loaded(ws: epista.Workspace, folder: Path) -> None:
    trace = folder / "executed"
    with pytest.raises(epista.FormatError):
        ws.put("x.npy", np.array([_Bomb(trace)], object))
    np.save(folder / "x.npy", np.array([_Bomb(trace)], object), allow_pickle=True)
    ws.put_file("x.npy", folder / "x.npy")

    with pytest.raises(epista.UnreadableError):
        ws("x.npy")

    assert not trace.exists()


def test_77_a_gzipped_table_reads_as_a_table(ws: epista.Workspace, folder: Path) -> None:
    (folder / "x.csv.gz").write_bytes(gzip.compress(b"n,s\n1,a\n2,b\n"))

    assert ws.put_file("x.csv.gz", folder / "x.csv.gz").format == "csv"
    assert ws("x.csv.gz").to_dict("list") == {"n": [1, 2], "s": ["a", "b"]}
    ws.put("y.csv.gz", pd.DataFrame({"n": [1]}))
    assert gzip.decompress(ws("y.csv.gz", format="bytes")) == b"n\n1\n"


@functools.cache
def _bomb_of_zeros() -> bytes:
    # Gzip of several members is one file, so a hundred copies of a small one make a large one at once.
    return gzip.compress(bytes(4 * 1024 * 1024)) * 100


def test_77_a_decompression_bomb_stops(ws: epista.Workspace) -> None:
    bomb = _bomb_of_zeros()
    ws.put("x.csv.gz", bomb)

    with pytest.raises(epista.TooLargeError, match="unpacks to more than"):
        ws("x.csv.gz")

    assert ws("x.csv.gz", format="bytes") == bomb
    assert ws.search("name:x").total == 1


def test_78_import_epista_loads_no_pandas() -> None:
    heavy = "{'pandas', 'numpy', 'pyarrow', 'requests', 'sqlalchemy', 'starlette', 'epista.server'}"
    command = f"import sys, epista; print(sorted({heavy} & sys.modules.keys()))"

    assert subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout == "[]\n"


_PLUGIN = """
import epista

class Plate:
    def __init__(self, wells):
        self.wells = wells

def register():
    epista.register_serializer(
        "plate", extensions=["plate"], types=["plates.Plate"], options=["mark"],
        write=lambda plate, mark="p": (mark + " ".join(plate.wells)).encode(),
        read=lambda data, mark="p": Plate(data.decode().removeprefix(mark).split()),
    )
"""

_USE = """
import sys, epista, plates
with epista.Workspace(sys.argv[1]) as ws:
    print(ws.put("x.plate", plates.Plate(["A1", "B2"]), mark="#").format)
    print(ws("x.plate").wells, ws("x.plate", format="bytes"))
    print([row.source for row in epista.formats() if row.name == "plate"])
"""


def test_78_a_plug_in_registers_by_entry_point(tmp_path: Path) -> None:
    (tmp_path / "plates.py").write_text(_PLUGIN)
    info = tmp_path / "plates-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plates\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[epista.serializers]\nplate = plates:register\nbroken = nosuch:register\n")

    done = subprocess.run(
        [sys.executable, "-c", _USE, str(tmp_path / "lab")],
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines() == ["plate", "['A1', 'B2'] b'#A1 B2'", "['plates']"]
    assert "the plug-in broken (nosuch:register) is left out" in done.stderr


@pytest.mark.parametrize(
    ("package", "key", "make", "install"),
    [
        ("openpyxl", "x.xlsx", lambda: pd.DataFrame({"n": [1]}), 'pip install "epista[excel]"'),
        ("PIL.Image", "x.png", lambda: np.zeros((1, 1), "uint8"), 'pip install "epista[image]"'),
        ("kaleido", "x.png", lambda: plotly.graph_objects.Figure(), 'pip install "epista[plotly]"'),
    ],
)
def test_79_the_error_of_a_missing_extra_names_its_pip_install(
    ws: epista.Workspace, monkeypatch: pytest.MonkeyPatch, package: str, key: str, make: Callable[[], object], install: str
) -> None:
    obj = make()
    # This is how Python itself marks a module that cannot be imported.
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(epista.MissingExtraError) as failure:
        ws.put(key, obj)

    assert failure.value.hint == install
    assert isinstance(failure.value, ImportError)
    assert ws.keys() == []
