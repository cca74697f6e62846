from __future__ import annotations

import io
import pickle
import re
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from matplotlib.figure import Figure
from PIL import Image

from epista.contract.errors import FormatError, MissingExtraError, UnreadableError
from epista.serializers import Picture, deserialize, serialize


def matplotlib_figure() -> Figure:
    figure = Figure()
    axes = figure.subplots()
    axes.plot([1, 2], [3, 4])
    axes.set_title("title")
    return figure


def altair_chart() -> Any:
    frame = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    return alt.Chart(frame, title="title").mark_point().encode(x="a", y="b").interactive()


class Drawing:
    def _repr_svg_(self) -> str:
        return "<svg xmlns='http://www.w3.org/2000/svg'/>"

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        Image.new("L", (2, 2)).save(out, "PNG")
        return out.getvalue()


FIGURES: dict[str, tuple[Any, str, str | None]] = {
    "matplotlib figure": (matplotlib_figure(), "png svg pdf jpg webp", "FIGURE"),
    "matplotlib axes": (matplotlib_figure().axes[0], "png svg pdf jpg webp", "FIGURE"),
    "altair": (altair_chart(), "html png svg pdf", "FIGURE"),
    "plotly": (go.Figure(go.Scatter(y=[1, 2])), "html", "FIGURE"),
    "PIL": (Image.new("RGB", (4, 3)), "png jpg gif bmp webp pdf", None),
    "array": (np.zeros((4, 3, 3), "uint8"), "png jpg gif bmp webp pdf", None),
    "grey array": (np.zeros((4, 3), "uint8"), "png jpg gif bmp webp pdf", None),
    "drawing": (Drawing(), "svg png", "FIGURE"),
}
MEDIA_TYPES = {"svg": "image/svg+xml", "jpg": "image/jpeg", "html": "text/html", "pdf": "application/pdf"}


@pytest.mark.parametrize(("name", "format"), [(name, one) for name, row in FIGURES.items() for one in row[1].split()])
def test_a_figure_saves_in_every_format_of_its_library_and_displays_on_read(name: str, format: str) -> None:
    figure, _, kind = FIGURES[name]
    made = serialize(f"x.{format}", figure)
    read = deserialize(f"x.{format}", made.data, recorded_format=made.format, recorded_options=made.options)

    assert serialize(f"x.{format}", figure).data == made.data, "the same figure twice is the same file"
    assert made.kind == kind
    assert isinstance(read, Picture)
    assert read == made.data
    assert read.media_type == MEDIA_TYPES.get(format, f"image/{format}")
    assert set(read._repr_mimebundle_()) - {"text/plain"}


@pytest.mark.parametrize(
    ("name", "format", "fits"),
    [
        ("matplotlib figure", "html", ".jpg, .pdf, .png, .svg, .webp"),
        ("altair", "jpg", ".html, .pdf, .png, .svg"),
        ("plotly", "gif", ".html, .jpg, .pdf, .png, .svg, .webp"),
        ("PIL", "svg", ".bmp, .gif, .jpg, .pdf, .png, .webp"),
        ("drawing", "pdf", ".png, .svg"),
    ],
)
def test_a_figure_is_told_which_formats_are_possible(name: str, format: str, fits: str) -> None:
    with pytest.raises(FormatError, match=re.escape(f"fits {fits}") + "$"):
        serialize(f"x.{format}", FIGURES[name][0])


def test_plotly_draws_with_chrome_or_says_so() -> None:
    figure = go.Figure(go.Scatter(y=[1, 2]))
    try:
        made = serialize("x.svg", figure)
    except MissingExtraError as error:
        assert error.hint in (
            'pip install "epista[plotly]"',
            "apt-get install chromium, or plotly_get_chrome; .html needs neither",
        )
    else:
        assert serialize("x.svg", figure).data == made.data


def test_the_same_figure_drawn_anew_is_the_same_file() -> None:
    for format in ("png", "svg", "pdf"):
        assert serialize(f"x.{format}", matplotlib_figure()).data == serialize(f"x.{format}", matplotlib_figure()).data
    for format in ("html", "png", "svg", "pdf"):
        assert serialize(f"x.{format}", altair_chart()).data == serialize(f"x.{format}", altair_chart()).data


def test_no_dates_are_left() -> None:
    for figure in (matplotlib_figure(), Image.new("RGB", (2, 2))):
        pdf = serialize("x.pdf", figure).data
        assert not re.search(rb"/(CreationDate|ModDate) ?\(D:(?!20000101)", pdf)
    assert b"dc:date" not in serialize("x.svg", matplotlib_figure()).data


@pytest.mark.parametrize("name", ["altair", "PIL"])
def test_a_reordered_pdf_has_every_object_where_its_table_says(name: str) -> None:
    pdf = serialize("x.pdf", FIGURES[name][0]).data
    start = int(re.findall(rb"startxref\n(\d+)", pdf)[-1])
    entries = re.findall(rb"(\d{10}) 00000 n ", pdf[start:])

    assert pdf[start : start + 5] == b"xref\n"
    for number, entry in enumerate(entries, start=1):
        assert pdf[int(entry) :].startswith(b"%d 0 obj\n" % number)
    # Every reference leads to an object, and streams are as long as they say.
    assert {int(number) for number in re.findall(rb"(\d+) 0 R\b", pdf)} <= set(range(1, len(entries) + 1))
    for stream in re.finditer(rb"/Length (\d+)[^>]*>>\s*stream\n", pdf):
        assert pdf[stream.end() + int(stream[1]) :].lstrip(b"\r\n").startswith(b"endstream")


def test_options_choose_the_size_and_leave_the_figure_alone() -> None:
    figure = matplotlib_figure()
    sizes = []
    for options in ({}, {"dpi": 200}, {"width": 320}, {"width": 400, "height": 100, "dpi": 50}):
        made = serialize("x.png", figure, options=options)
        picture = deserialize("x.png", made.data, recorded_format="png", recorded_options=made.options)
        assert isinstance(picture, Picture)
        sizes.append(picture.to_pil().size)

    assert sizes == [(640, 480), (1280, 960), (320, 240), (400, 100)]
    assert tuple(figure.get_size_inches()) == (6.4, 4.8)
    chart = deserialize("x.png", serialize("x.png", altair_chart(), options={"width": 300, "height": 200, "dpi": 144}).data)
    assert isinstance(chart, Picture)
    assert chart.to_pil().size == (600, 400)


@pytest.mark.parametrize(
    ("obj", "options", "message"),
    [
        (np.zeros((2, 2)), {}, "an image array is uint8 of shape"),
        (np.zeros((2, 2, 2), "uint8"), {}, "an image array is uint8 of shape"),
        (Image.new("RGB", (2, 2)), {"width": 4}, "resize it first"),
        (Drawing(), {"dpi": 100}, "draws itself; dpi cannot be chosen"),
        (matplotlib_figure(), {"dpi": 0}, "a positive number is needed"),
        (matplotlib_figure(), {"scale": 2}, "unknown option for png: scale; known: dpi, height, width"),
        (alt.hconcat(altair_chart()), {"width": 100}, "those of its parts"),
    ],
)
def test_what_cannot_be_drawn_is_refused(obj: object, options: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        serialize("x.png", obj, options=options)


def test_transparency_is_not_dropped_in_silence() -> None:
    with pytest.raises(FormatError, match="cannot hold transparency"):
        serialize("x.jpg", Image.new("RGBA", (2, 2)))


def test_html_that_was_no_figure_is_text() -> None:
    made = serialize("x.html", "<p>text")

    assert made.kind is None
    assert deserialize("x.html", made.data, recorded_format="html", recorded_options=made.options) == "<p>text"
    assert isinstance(deserialize("x.html", made.data, options={"figure": True}), Picture)


def test_the_text_of_an_svg_is_a_figure() -> None:
    made = serialize("x.svg", "<svg/>")

    assert (made.data, made.kind) == (b"<svg/>", "FIGURE")


def test_no_script_of_a_picture_reaches_the_notebook() -> None:
    evil = b'"><script>parent.alert(1)</script><svg onload="alert(1)"/>'
    svg = Picture(evil, "image/svg+xml")._repr_html_()
    page = Picture(evil, "text/html")._repr_html_()

    assert re.fullmatch(r'<img src="data:image/svg\+xml;base64,[A-Za-z0-9+/=]+" style="[^"]*">', svg)
    assert re.fullmatch(r'<iframe sandbox="allow-scripts" srcdoc="[^"<>]*" style="[^"]*"></iframe>', page)


def test_a_picture_is_bytes_and_travels_between_processes() -> None:
    picture = Picture(b"\x89PNG", "image/png")
    copy = pickle.loads(pickle.dumps(picture))

    assert (bytes(copy), copy.media_type) == (b"\x89PNG", "image/png")
    assert repr(picture) == "<Picture image/png, 4 bytes>"
    with pytest.raises(FormatError, match="has no pixels"):
        Picture(b"<svg/>", "image/svg+xml").to_pil()


@pytest.mark.parametrize("format", ["png", "jpg", "gif", "bmp", "webp", "pdf", "svg"])
def test_bytes_that_are_no_picture_are_unreadable(format: str) -> None:
    with pytest.raises(UnreadableError, match=f"'x.{format}' is no readable {format}"):
        deserialize(f"x.{format}", b"text")
