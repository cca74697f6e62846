"""Publishing: what a notebook made, where others find it, open it and see where it came from."""

from __future__ import annotations

import io
import urllib.request
import warnings
import xml.etree.ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import altair
import matplotlib.figure
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from choreographer.browsers.chromium import Chromium
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import epista
from epista.client import artifacts
from epista.contract import keys
from epista.serializers import figure
from tests.makers import Server

DOSES = pd.DataFrame({"dose": [1, 2, 4], "od": [0.1, 0.5, 0.9]})
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'


@pytest.fixture
def here(server: Server) -> Iterator[epista.Workspace]:
    token = server.manager
    with epista.Workspace(server.url, token=token, workspace="lab", experiment="EXP-12", notebook="doses.ipynb") as opened:
        yield opened


def drawn(title: str = "") -> matplotlib.figure.Figure:
    fig = matplotlib.figure.Figure(figsize=(3, 2))
    fig.subplots().plot(DOSES["dose"], DOSES["od"])
    fig.suptitle(title)
    return fig


def plotted(title: str | None = None) -> Any:
    return go.Figure(go.Scatter(x=[1, 2, 4], y=[0.1, 0.5, 0.9]), layout={"title": title})


def charted() -> Any:
    return altair.Chart(DOSES).mark_line().encode(x="dose:Q", y="od:Q")


class Drawing:
    def _repr_svg_(self) -> str:
        return SVG


class Sheet:
    """A table of a library that nobody knows."""

    def to_csv(self, path: str) -> None:
        Path(path).write_text("well,count\nA1,17\n", encoding="utf-8")


class Folder:
    def to_csv(self, path: str) -> None:
        Path(path).mkdir()


def png(size: int = 4) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (size, size), "red").save(out, "PNG")
    return out.getvalue()


class TestFigures:
    def test_a_figure_stands_in_the_active_experiment_under_a_clean_key(self, here: epista.Workspace) -> None:
        published = here.publish_figure(drawn(), "Dose response (µM)", meta={"operator": "ada"}, tags=["paper"])

        asset = here.get(published.catalog_asset_id)
        assert asset.key == "EXP-12/figures/dose-response-μm.svg"
        assert (asset.kind, asset.format, asset.meta, asset.tags) == ("FIGURE", "svg", {"operator": "ada"}, ("paper",))
        assert asset.lineage.notebook == "doses.ipynb"
        assert published.asset.version == asset.version
        assert published.specification is None
        assert xml.etree.ElementTree.fromstring(here(asset)).tag == "{http://www.w3.org/2000/svg}svg"

    def test_the_link_gives_any_browser_what_was_published(self, here: epista.Workspace) -> None:
        published = here.publish_figure(SVG, "first")
        here.publish_figure(SVG.replace("9", "8"), "first")

        with urllib.request.urlopen(published.download_url) as response:
            assert response.read() == SVG.encode()
            assert response.headers["Content-Type"].startswith("image/svg+xml")

    def test_what_a_notebook_shows_has_the_picture_and_no_link(self, here: epista.Workspace) -> None:
        shown = here.publish_figure(drawn("<b>Doses</b>"))._repr_html_()

        assert 'src="data:image/svg+xml;base64,' in shown
        assert "figures/lt-b-gt-doses-lt-b-gt.svg" in shown
        assert "/links/" not in shown

    @pytest.mark.parametrize(
        ("fig", "key", "starts"),
        [
            (lambda: drawn(), "mine.svg", b"<?xml"),
            (lambda: drawn().axes[0], "mine.svg", b"<?xml"),
            (charted, "mine.svg", b"<svg"),
            (lambda: Image.new("RGB", (4, 4)), "mine.png", b"\x89PNG"),
            (lambda: np.zeros((4, 4), "uint8"), "mine.png", b"\x89PNG"),
            (Drawing, "mine.svg", b"<svg"),
            (lambda: SVG, "mine.svg", b"<svg"),
            (lambda: png(), "mine.png", b"\x89PNG"),
            (lambda: memoryview(png()), "mine.png", b"\x89PNG"),
            (lambda: b"<!doctype html><p>hi</p>", "mine.html", b"<!doctype"),
            (lambda: b"%PDF-1.7\n", "mine.pdf", b"%PDF-"),
        ],
        ids=["matplotlib", "axes", "altair", "PIL", "array", "self-drawn", "svg", "png", "memoryview", "html", "pdf"],
    )
    def test_a_figure_of_any_library_is_svg_where_it_can_be(
        self, here: epista.Workspace, fig: Callable[[], object], key: str, starts: bytes
    ) -> None:
        published = here.publish_figure(fig(), "mine")

        assert published.asset.key == f"EXP-12/figures/{key}"
        assert published.asset.kind == "FIGURE"
        picture = here(published.asset)
        assert isinstance(picture, epista.Picture) and picture.startswith(starts)

    @pytest.mark.parametrize(
        ("name", "format", "key"),
        [
            ("Plate 3.png", None, "plate-3.png"),
            ("Plate 3", "png", "plate-3.png"),
            ("Plate 3.PNG", ".png", "plate-3.png"),
            ("Plate 3", "pdf", "plate-3.pdf"),
            ("Figure 1.2", None, "figure-1.2.svg"),
        ],
    )
    def test_the_name_or_the_format_says_what_it_is(
        self, here: epista.Workspace, name: str, format: str | None, key: str
    ) -> None:
        assert here.publish_figure(drawn(), name, format=format, dpi=50).asset.name == key

    @pytest.mark.parametrize(
        ("fig", "key"),
        [
            (lambda: drawn("Growth of\nplate 3"), "growth-of-plate-3.svg"),
            (lambda: drawn("Growth").axes[0], "figure-1.svg"),
            (lambda: charted().properties(title="Growth"), "growth.svg"),
            (lambda: charted().properties(title=["Growth", "of"]), "growth-of.svg"),
            (lambda: drawn("***"), "figure-1.svg"),
            (Drawing, "figure-1.svg"),
        ],
        ids=["suptitle", "axes", "altair", "altair of two lines", "no letter", "no title"],
    )
    def test_without_a_name_the_title_is_one_or_else_a_number(
        self, here: epista.Workspace, fig: Callable[[], object], key: str
    ) -> None:
        assert here.publish_figure(fig()).asset.key == f"EXP-12/figures/{key}"

    def test_what_has_neither_name_nor_title_never_takes_the_place_of_another(self, here: epista.Workspace) -> None:
        first, second = here.publish_figure(Drawing()), here.publish_figure(Drawing())

        assert [first.asset.name, second.asset.name] == ["figure-1.svg", "figure-2.svg"]

    def test_published_again_it_is_a_new_version_of_the_same_figure(self, here: epista.Workspace) -> None:
        first = here.publish_figure(drawn(), "Doses")
        again = here.publish_figure(drawn(), "Doses")
        other = here.publish_figure(drawn("another"), "Doses")

        assert again.asset.version == first.asset.version
        assert (other.catalog_asset_id, other.asset.number) == (first.catalog_asset_id, 2)
        with pytest.raises(epista.ConflictError):
            here.publish_figure(drawn("third"), "Doses", expect="absent")

    def test_altair_keeps_what_it_draws_from_beside_the_picture(self, here: epista.Workspace) -> None:
        published = here.publish_figure(charted(), "Doses", format="png", tags=["paper"])

        assert published.specification is not None
        assert published.specification.key == "EXP-12/figures/doses.vl.json"
        assert here(published.specification)["mark"] == {"type": "line"}
        assert published.asset.tags == ("paper",)

    def test_a_chart_of_many_rows_is_published_with_all_of_them(self, here: epista.Workspace) -> None:
        chart = altair.Chart(pd.DataFrame({"n": range(6000)}), title="Many").mark_bar().encode(x="n:Q")

        published = here.publish_figure(chart, format="html")

        assert published.asset.name == "many.html"
        assert published.specification is not None
        (rows,) = here(published.specification)["datasets"].values()
        assert len(rows) == 6000

    def test_a_refused_publication_leaves_nothing(self, here: epista.Workspace) -> None:
        here.put("EXP-12/figures/doses.vl.json/in the way.txt", "a folder")

        with pytest.raises(epista.ConflictError):
            here.publish_figure(charted(), "Doses")

        assert here.keys("EXP-12/figures/doses.svg") == []

    @pytest.mark.parametrize(
        ("fig", "given", "says"),
        [
            (3, {}, "a int is no figure"),
            ("doses.png", {}, "neither a table nor a figure"),
            (b"hello", {}, "no picture"),
            (png(), {"format": "svg"}, "these bytes are png, not svg"),
            (drawn(), {"name": "a.png", "format": "svg"}, "contradicts"),
            (drawn(), {"format": "html"}, "fits .jpg, .pdf, .png, .svg, .webp"),
            (drawn(), {"format": "nonsense"}, "no format is called"),
            (drawn(), {"colour": "red"}, "unknown option"),
        ],
        ids=["int", "path", "bytes", "png as svg", "two formats", "html", "nonsense", "option"],
    )
    def test_what_is_no_figure_is_refused_with_what_is_wrong(
        self, here: epista.Workspace, fig: object, given: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(epista.FormatError, match=says):
            here.publish_figure(fig, **{"name": "mine", **given})
        assert here.keys() == []

    def test_an_experiment_may_be_named_and_without_one_it_stands_at_the_root(
        self, here: epista.Workspace, http_ws: epista.Workspace
    ) -> None:
        assert here.publish_figure(SVG, "a", experiment="EXP-13").asset.key == "EXP-13/figures/a.svg"
        assert here.publish_figure(SVG, "b", experiment_id="EXP-13").asset.experiment == "EXP-13"
        assert http_ws.publish_figure(SVG, "c").asset.key == "c.svg"
        with pytest.raises(epista.ValidationError, match="two names of one thing"):
            here.publish_figure(SVG, "d", experiment="EXP-13", experiment_id="EXP-14")
        with pytest.raises(epista.InvalidKeyError):
            here.publish_figure(SVG, "d", experiment="EXP-13/raw")


class TestPlotly:
    def test_without_a_browser_it_becomes_html_with_its_document_and_says_why(
        self, http_ws: epista.Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Chromium, "find_browser", lambda **_: None)

        with pytest.warns(UserWarning, match="published as html, for svg is not possible here") as told:
            published = http_ws.publish_figure(plotted("<b>Dose</b> response"))

        assert told[0].filename == __file__
        assert (published.asset.key, published.asset.kind) == ("dose-response.html", "FIGURE")
        assert published.specification is not None
        assert published.specification.key == "dose-response.plotly.json"
        assert http_ws(published.specification)["data"][0]["x"] == [1, 2, 4]
        assert http_ws(published.asset).media_type == "text/html"

    def test_what_was_asked_for_is_never_something_else(self, http_ws: epista.Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Chromium, "find_browser", lambda **_: None)

        with pytest.raises(epista.MissingExtraError, match="Chrome") as failure:
            http_ws.publish_figure(plotted(), "Doses", format="png")

        assert failure.value.hint and "html" in failure.value.hint
        assert http_ws.keys() == []

    @pytest.mark.chrome
    def test_with_a_browser_it_is_a_picture(self, http_ws: epista.Workspace) -> None:
        published = http_ws.publish_figure(plotted(), "Doses", format="png", width=320, height=200)

        assert http_ws(published.asset).to_pil().size == (320, 200)
        assert http_ws.publish_figure(plotted(), "Doses").asset.key == "doses.svg"


class TestTables:
    @pytest.mark.parametrize(
        "table",
        [
            lambda: DOSES,
            lambda: pl.from_pandas(DOSES),
            lambda: pl.from_pandas(DOSES).lazy(),
            lambda: pa.Table.from_pandas(DOSES),
            lambda: DOSES.to_dict("records"),
            lambda: DOSES.to_csv(index=False),
            lambda: DOSES.to_csv(index=False).encode(),
        ],
        ids=["pandas", "polars", "lazy", "arrow", "rows", "text", "bytes"],
    )
    def test_a_table_of_any_library_is_csv(self, here: epista.Workspace, table: Callable[[], object]) -> None:
        published = here.publish_table(table(), "Summary table")

        assert published.asset.key == "EXP-12/tables/summary-table.csv"
        assert (published.asset.kind, published.asset.lineage.notebook) == ("TABLE", "doses.ipynb")
        pd.testing.assert_frame_equal(here(published.asset), DOSES)
        assert "3 rows" in published._repr_html_() and "<table" in published._repr_html_()

    @pytest.mark.parametrize("make", [lambda: DOSES, lambda: pl.from_pandas(DOSES)], ids=["pandas", "polars"])
    def test_or_parquet(self, here: epista.Workspace, make: Callable[[], object]) -> None:
        table = make()
        by_format = here.publish_table(table, "Summary", format="parquet")
        by_name = here.publish_table(table, "Other.parquet", compression="zstd")

        assert (by_format.asset.name, by_name.asset.name) == ("summary.parquet", "other.parquet")
        pd.testing.assert_frame_equal(here(by_name.asset), DOSES)

    def test_a_published_table_can_be_asked_in_sql(self, here: epista.Workspace) -> None:
        here.publish_table(DOSES, "Summary table")

        assert next(iter(here.query('SELECT max(dose) AS most FROM "summary-table"'))) == {"most": 4}

    def test_bytes_are_what_they_begin_with(self, here: epista.Workspace) -> None:
        whole = io.BytesIO()
        pa.parquet.write_table(pa.table({"n": [1]}), whole)

        assert here.publish_table(whole.getvalue(), "n").asset.name == "n.parquet"
        assert here.publish_table("well\tn\nA1\t1\n", "n.tsv").asset.format == "tsv"
        with pytest.raises(epista.FormatError, match="these bytes are parquet, not csv"):
            here.publish_table(whole.getvalue(), "n", format="csv")
        with pytest.raises(epista.FormatError, match="no table"):
            here.publish_table(png(), "n")
        with pytest.raises(epista.FormatError, match="no table"):
            here.publish_table(SVG, "n")

    def test_what_writes_itself_is_asked_to(self, here: epista.Workspace) -> None:
        assert here(here.publish_table(Sheet(), "sheet").asset)["count"].tolist() == [17]
        with pytest.raises(epista.FormatError, match="it writes csv"):
            here.publish_table(Sheet(), "sheet", format="parquet")
        with pytest.raises(epista.FormatError, match="did not write one file"):
            here.publish_table(Folder(), "sheet")
        with pytest.raises(epista.FormatError, match="is no table"):
            here.publish_table(object(), "sheet")

    def test_an_index_that_says_something_is_kept(self, here: epista.Workspace) -> None:
        named = here.publish_table(DOSES.set_index("dose"), "named")
        plain = here.publish_table(DOSES, "plain")
        filtered = here.publish_table(DOSES[DOSES["dose"] > 1], "filtered")

        # Each is read from its bytes, without what was recorded with it.
        heads = [here(one.asset, format="text").splitlines()[0] for one in (named, plain, filtered)]
        assert heads == ["dose,od"] * 3

    def test_a_large_table_is_shown_in_part(self, here: epista.Workspace) -> None:
        rows = pd.DataFrame({"n": range(30_000)})

        published = here.publish_table(rows, "many")
        of_text = here.publish_table(rows.to_csv(index=False), "many")

        assert "30,000 rows, 20 shown" in published._repr_html_()
        assert "20 shown" in of_text._repr_html_()

    def test_markup_in_a_table_stays_text(self, here: epista.Workspace) -> None:
        published = here.publish_table(pd.DataFrame({"<b>": ["<script>alert(1)</script>"]}), "nasty")

        assert "<script>" not in published._repr_html_() and "<b>" not in published._repr_html_()


class TestOrigins:
    def test_a_published_result_names_the_tables_it_was_asked_of(self, here: epista.Workspace) -> None:
        here.put("doses.parquet", DOSES)
        here.put("other.parquet", DOSES)
        result = here.query("SELECT dose FROM doses")

        published = here.publish_table(result, "Doses asked")

        assert [source.key for source in here.get(published.asset).lineage.inputs] == ["EXP-12/doses.parquet"]
        assert "EXP-12/doses.parquet" in published._repr_html_()

    def test_inputs_are_results_assets_and_keys(self, here: epista.Workspace) -> None:
        here.put("doses.parquet", DOSES)
        other = here.put("other.parquet", DOSES)
        result = here.query("SELECT dose FROM doses")

        one = here.publish_figure(SVG, "one", inputs=result)
        two = here.publish_figure(SVG, "two", inputs=[result, other])
        three = here.publish_figure(SVG, "three", inputs="other.parquet")

        found = [sorted(source.key for source in here.get(made.asset).lineage.inputs) for made in (one, two, three)]
        assert found == [["EXP-12/doses.parquet"], ["EXP-12/doses.parquet", "EXP-12/other.parquet"], ["EXP-12/other.parquet"]]

    def test_without_inputs_it_names_what_was_read_before(self, here: epista.Workspace) -> None:
        here.put("doses.parquet", DOSES)
        here.put("other.parquet", DOSES)
        here("doses.parquet")
        result = here.query("SELECT dose FROM other")

        figure, table = here.publish_figure(charted(), "Doses"), here.publish_table(result, "Doses")

        assert figure.specification is not None
        of_figure, of_document, of_table = (
            here.get(made.id).lineage for made in (figure.asset, figure.specification, table.asset)
        )
        for lineage in (of_figure, of_document):
            assert {source.key for source in lineage.inputs} == {"EXP-12/doses.parquet", "EXP-12/other.parquet"}
            assert lineage.activity is not None
            assert [query.sql for query in lineage.activity.queries] == ["SELECT dose FROM other"]
        # The result of a query says itself what it was made from.
        assert [source.key for source in of_table.inputs] == ["EXP-12/other.parquet"]

    def test_the_document_of_a_figure_has_the_same_origin(self, here: epista.Workspace) -> None:
        here.put("doses.parquet", DOSES)

        published = here.publish_figure(charted(), "Doses", inputs="doses.parquet")

        assert published.specification is not None
        found = here.get(published.specification).lineage
        assert ([source.key for source in found.inputs], found.notebook) == (["EXP-12/doses.parquet"], "doses.ipynb")


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Dose response", "dose-response"),
        ("  Dose -- response!  ", "dose-response"),
        ("CD4+ vs. CD4-", "cd4+-vs-cd4minus"),
        ("log10(x) at -5 °C", "log10-x-at-minus5-c"),
        ("p < 0.05 (50%)", "p-lt-0.05-50-percent"),
        ("Größe", "größe"),
        ("用量反应", "用量反应"),
        ("a/b\\c", "a-b-c"),
        ("..", None),
        ("🙂", None),
        ("", None),
    ],
)
def test_a_clean_key_of_a_name(name: str, slug: str | None) -> None:
    if slug is None:
        with pytest.raises(epista.ValidationError, match="no letter"):
            artifacts.slug(name)
    else:
        assert artifacts.slug(name) == slug
        assert artifacts.slug(slug) == slug


@given(st.text(max_size=40))
def test_any_name_gives_the_last_part_of_a_key_or_is_refused(name: str) -> None:
    try:
        slug = artifacts.slug(name)
    except epista.ValidationError:
        return

    assert keys.normalise(slug) == slug
    assert "/" not in slug and not any(map(str.isspace, slug))


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- by hand -->\n<svg/>", "svg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "webp"),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"<?xml version='1.0'?><gate/>", None),
        (b"", None),
    ],
)
def test_pictures_are_told_by_their_beginning(data: bytes, format: str | None) -> None:
    assert figure.sniffed(data) == format


def test_the_module_publishes_in_the_current_workspace(http_ws: epista.Workspace) -> None:
    epista.use(http_ws)
    try:
        assert epista.publish_figure(SVG, name="Doses", format="svg").download_url
        assert epista.publish_table(DOSES, name="Doses").catalog_asset_id.startswith("as_")
        assert epista.publish_table(DOSES, "here", session=http_ws.session).asset.key == "here.csv"
    finally:
        epista.use(None)


def test_publishing_warns_of_nothing_that_is_as_asked(http_ws: epista.Workspace) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        http_ws.publish_figure(Image.new("RGB", (4, 4)), "a picture has pixels")

    assert http_ws.keys() == ["a-picture-has-pixels.png"]
