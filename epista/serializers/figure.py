"""
Figures and pictures.

matplotlib, plotly and altair figures, PIL images, uint8 arrays, and whatever draws itself for notebooks, in every format that
its library writes. ``width`` and ``height`` are pixels, ``dpi`` pixels an inch. They are read as a `Picture`.
"""

from __future__ import annotations

import functools
import io
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from epista.contract.errors import FormatError, MissingExtraError, UnreadableError
from epista.contract.formats import BY_NAME
from epista.serializers import stable, text
from epista.serializers.picture import Picture
from epista.serializers.serializer import Options, Serializer, Written, is_a, positive_numbers, require

OPTIONS = ("dpi", "width", "height")
"""The options of every picture format."""

FORMATS = ("svg", "html", "png", "pdf", "jpg", "webp", "gif", "bmp")
"""What a figure can be, those first that look well at every size."""

_HEAD_BYTES = 4096

_MAGIC: Mapping[str, tuple[bytes, ...]] = {
    "png": (b"\x89PNG\r\n\x1a\n",),
    "jpg": (b"\xff\xd8\xff",),
    "gif": (b"GIF87a", b"GIF89a"),
    "bmp": (b"BM",),
    "webp": (b"RIFF",),
    "pdf": (b"%PDF-",),
}


class Library(NamedTuple):
    """Who draws."""

    name: str
    """Its name, for messages."""
    draws: Callable[[object], bool]
    """Whether this object is one of its own."""
    formats: tuple[str, ...]
    """What it writes."""
    write: Callable[..., bytes]
    """``write(obj, format, *, dpi, width, height)``."""
    kind: str | None = "FIGURE"
    """The kind of what it makes; None leaves it to the format."""


def write(obj: Any, *, format: str, dpi: float | None = None, width: float | None = None, height: float | None = None) -> Written:
    """Write a figure as *format*."""
    libraries = [library for library in _LIBRARIES if library.draws(obj)]
    for library in libraries:
        if format in library.formats:
            data = library.write(obj, format, dpi=dpi, width=width, height=height)
            given = {"dpi": dpi, "width": width, "height": height}
            options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
            if format == "html":
                # Read as a picture: other .html is text.
                options["figure"] = True
            return Written(data, options, library.kind)
    # A self-drawing object writes what it has methods for, which none of its formats may be.
    fits = [name for library in libraries for name in library.formats]
    raise FormatError(
        f"a {type(obj).__name__} cannot be written as {format}; its library writes {', '.join(dict.fromkeys(fits))}"
        if fits
        else f"a {type(obj).__name__} is no figure"
    )


def read(data: bytes, *, format: str, **options: Any) -> Picture:
    """Read a picture; its pixels are decoded by `Picture.to_pil` only."""
    magic = _MAGIC.get(format)
    if magic and not data.startswith(magic):
        raise UnreadableError(f"the bytes do not begin as those of a {format} do")
    if format == "svg" and b"<svg" not in data:
        raise UnreadableError("there is no <svg> in it")
    return Picture(data, BY_NAME[format].media_type)


def formats_of(obj: object) -> list[str]:
    """Return the formats that a figure can be written in, those first that look well at every size."""
    return [name for name in FORMATS if _accepts(obj, name)]


def title_of(obj: Any) -> str | None:
    """Return the title that a figure of matplotlib, plotly or altair shows, if it has one."""
    if is_a(obj, ("seaborn.axisgrid.Grid",)):
        obj = obj.figure
    if is_a(obj, ("matplotlib.figure.FigureBase",)):
        found = obj.get_suptitle() or next((axes.get_title() for axes in obj.axes if axes.get_title()), None)
    elif is_a(obj, ("matplotlib.axes.Axes",)):
        found = obj.get_title()
    elif is_a(obj, ("plotly.basedatatypes.BaseFigure",)):
        found = re.sub(r"<[^>]*>", " ", obj.layout.title.text or "")
    elif is_a(obj, ("altair.TopLevelMixin",)):
        title = _vega(obj).get("title")
        found = title.get("text") if isinstance(title, dict) else title
    else:
        found = None
    return " ".join(found) if isinstance(found, list) else found or None


def specification_of(obj: Any) -> tuple[str, bytes] | None:
    """Return the JSON document that plotly or altair draws a figure from, and the extension that says which."""
    if is_a(obj, ("plotly.basedatatypes.BaseFigure",)):
        return "plotly.json", obj.to_json().encode()
    if is_a(obj, ("altair.TopLevelMixin",)):
        return "vl.json", json.dumps(_vega(obj)).encode()
    return None


def _vega(chart: Any) -> dict[str, Any]:
    import altair

    # However many rows: that limit is for notebooks, and saving does without it, too.
    with altair.data_transformers.disable_max_rows():
        document: dict[str, Any] = chart.to_dict()
    return document


def sniffed(data: bytes) -> str | None:
    """Return the format of the bytes of a picture; None if no browser shows them."""
    head = data[:_HEAD_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "html"
    if head.startswith((b"<svg", b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in head:
        return "svg"
    found = next((name for name, starts in _MAGIC.items() if data.startswith(starts)), None)
    return None if found == "webp" and data[8:12] != b"WEBP" else found


def _write_html(obj: Any, *, figure: bool = False, encoding: str | None = None, **options: Any) -> bytes | Written:
    if isinstance(obj, str):
        given = {"figure": figure or None, "encoding": encoding}
        return Written(text.write(obj, encoding=encoding), {name: value for name, value in given.items() if value})
    return write(obj, format="html", **options)


def _read_html(data: bytes, *, figure: bool = False, encoding: str | None = None, **options: Any) -> object:
    return read(data, format="html") if figure else text.read(data, encoding=encoding)


def _write_svg(obj: Any, **options: Any) -> bytes | Written:
    return text.write(obj) if isinstance(obj, str) else write(obj, format="svg", **options)


def _matplotlib(obj: Any, format: str, *, dpi: float | None, width: float | None, height: float | None) -> bytes:
    import matplotlib as mpl

    figure = obj if is_a(obj, ("matplotlib.figure.Figure",)) else obj.figure
    figure = figure.get_figure(root=True) if hasattr(figure, "get_figure") else figure
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(format)
    was = tuple(figure.get_size_inches())
    dots = dpi or figure.dpi
    try:
        if width or height:
            scale = (width or height or 0) / dots / (was[0] if width else was[1])
            figure.set_size_inches(width / dots if width else was[0] * scale, height / dots if height else was[1] * scale)
        out = io.BytesIO()
        with mpl.rc_context({"svg.hashsalt": "epista"}):
            figure.savefig(out, format=format, dpi=dots, metadata=metadata)
    finally:
        figure.set_size_inches(was)
    return out.getvalue()


def _plotly(obj: Any, format: str, *, dpi: float | None, width: float | None, height: float | None) -> bytes:
    if format == "html":
        page: str = obj.to_html(div_id="figure", default_width=width or "100%", default_height=height or "100%")
        return page.encode()
    require("kaleido", "epista[plotly]")
    try:
        data: bytes = obj.to_image(format=format, width=width, height=height, scale=dpi / 96 if dpi else None)
    except RuntimeError as error:
        if "Chrome" not in str(error):
            raise
        raise MissingExtraError(
            "plotly draws this format with Chrome, which is not installed",
            hint="apt-get install chromium, or plotly_get_chrome; .html needs neither",
        ) from error
    if format == "svg":
        # plotly marks each trace with a random class, which nothing refers to.
        return stable.svg(re.sub(r"\btrace[0-9a-f]{6}\b", "trace", data.decode())).encode()
    return stable.pdf(data) if format == "pdf" else data


def _altair(obj: Any, format: str, *, dpi: float | None, width: float | None, height: float | None) -> bytes:
    if width or height:
        if not hasattr(obj, "width"):
            raise FormatError("width and height of a compound chart are those of its parts; use .properties(...)")
        size = {name: value for name, value in (("width", width), ("height", height)) if value}
        obj = obj.properties(autosize={"type": "fit", "contains": "padding"}, **size)
    if format == "html":
        page = io.StringIO()
        obj.save(page, format="html")
        return page.getvalue().encode()
    require("vl_convert", "vl-convert-python")
    if format == "svg":
        drawing = io.StringIO()
        obj.save(drawing, format="svg")
        return stable.svg(drawing.getvalue()).encode()
    out = io.BytesIO()
    obj.save(out, format=format, **({"ppi": dpi} if format == "png" and dpi else {}))
    return stable.pdf(out.getvalue()) if format == "pdf" else out.getvalue()


def _pil(obj: Any, format: str, *, dpi: float | None, width: float | None, height: float | None) -> bytes:
    if width or height:
        raise FormatError("an image has its own width and height; resize it first")
    if format in ("jpg", "pdf") and obj.mode in ("RGBA", "LA", "PA"):
        raise FormatError(f"{format} cannot hold transparency (mode {obj.mode}); save as .png, or .convert('RGB')")
    options: dict[str, Any] = {"dpi": (dpi, dpi)} if dpi else {}
    if format == "pdf":
        options = {"resolution": dpi} if dpi else {}
    out = io.BytesIO()
    try:
        obj.save(out, format={"jpg": "JPEG"}.get(format, format.upper()), **options)
    except (OSError, ValueError, KeyError) as error:
        raise FormatError(f"an image of mode {obj.mode} cannot be written as {format}: {error}") from error
    return stable.pdf(out.getvalue()) if format == "pdf" else out.getvalue()


def _array(obj: Any, format: str, **options: Any) -> bytes:
    shape = obj.shape
    if str(obj.dtype) != "uint8" or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))) or 0 in shape:
        raise FormatError(
            f"an image array is uint8 of shape (height, width), (height, width, 3) or (height, width, 4), "
            f"not {obj.dtype} of shape {shape}",
            hint="scale it to 0..255 yourself, or keep the numbers as .npy",
        )
    return _pil(require("PIL.Image", "epista[image]").fromarray(obj), format, **options)


def _self_drawn(obj: Any, format: str, **options: Any) -> bytes:
    if given := [name for name, value in options.items() if value is not None]:
        raise FormatError(f"a {type(obj).__name__} draws itself; {', '.join(given)} cannot be chosen")
    drawn = getattr(obj, f"_repr_{format}_")()
    # Notebooks allow (data, metadata), and None for "not this time".
    drawn = drawn[0] if isinstance(drawn, tuple) else drawn
    if not drawn:
        raise FormatError(f"this {type(obj).__name__} does not draw itself as {format}")
    return drawn.encode() if isinstance(drawn, str) else bytes(drawn)


def _draws_itself(format: str) -> Callable[[object], bool]:
    return lambda obj: callable(getattr(type(obj), f"_repr_{format}_", None))


def _is(*names: str) -> Callable[[object], bool]:
    return lambda obj: is_a(obj, names)


_RASTER = ("png", "jpg", "gif", "bmp", "webp", "pdf")

_LIBRARIES = (
    Library(
        "matplotlib",
        _is("matplotlib.figure.Figure", "matplotlib.figure.FigureBase", "matplotlib.axes.Axes", "seaborn.axisgrid.Grid"),
        ("png", "svg", "pdf", "jpg", "webp"),
        _matplotlib,
    ),
    Library("plotly", _is("plotly.basedatatypes.BaseFigure"), ("html", "png", "svg", "pdf", "jpg", "webp"), _plotly),
    Library("altair", _is("altair.TopLevelMixin"), ("html", "png", "svg", "pdf"), _altair),
    Library("PIL", _is("PIL.Image.Image"), _RASTER, _pil, None),
    Library("numpy", _is("numpy.ndarray"), _RASTER, _array, None),
    Library("itself", _draws_itself("svg"), ("svg",), _self_drawn),
    Library("itself", _draws_itself("png"), ("png",), _self_drawn),
)


def _accepts(obj: object, format: str) -> bool:
    return any(format in library.formats for library in _LIBRARIES if library.draws(obj))


def _accepts_text(obj: object, format: str) -> bool:
    return isinstance(obj, str) or _accepts(obj, format)


def _check_html(options: Options) -> dict[str, Any]:
    if not isinstance(options.get("figure", False), bool):
        raise FormatError(f"option figure={options['figure']!r}: True or False is needed")
    numbers = {name: value for name, value in options.items() if name in OPTIONS}
    return {**text.check({k: v for k, v in options.items() if k not in OPTIONS}), **positive_numbers(numbers)}


def _serializer(name: str) -> Serializer:
    return Serializer(
        name=name,
        takes="a figure or image",
        accepts=functools.partial(_accepts, format=name),
        write=functools.partial(write, format=name),
        read=functools.partial(read, format=name),
        options=OPTIONS,
        check=positive_numbers,
    )


SERIALIZERS = (
    *(_serializer(name) for name in _RASTER),
    Serializer(
        name="svg",
        takes="a figure, or the text of an SVG",
        accepts=functools.partial(_accepts_text, format="svg"),
        write=_write_svg,
        read=functools.partial(read, format="svg"),
        options=OPTIONS,
        check=positive_numbers,
    ),
    Serializer(
        name="html",
        takes="str, a plotly figure or an altair chart",
        accepts=functools.partial(_accepts_text, format="html"),
        write=_write_html,
        read=_read_html,
        options=(*OPTIONS, "figure", "encoding"),
        check=_check_html,
    ),
)
