"""Artifacts: figures and tables that are published, so that others find them, open them and see where they came from."""

from __future__ import annotations

import re
import tempfile
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from epista.client import assets, links, listings, objects
from epista.client.assets import Asset
from epista.client.objects import Inputs, Metadata
from epista.client.queries import QueryResult
from epista.contract import keys
from epista.contract.assets import AssetRef
from epista.contract.errors import (
    ConflictError,
    EpistaError,
    FormatError,
    InvalidKeyError,
    MissingExtraError,
    ValidationError,
)
from epista.contract.formats import BY_NAME, GZIP_SUFFIXES

if TYPE_CHECKING:
    from epista.client.links import Link
    from epista.client.session import Session
    from epista.serializers import Serialized

SHOWN_ROWS = 20
"""How many rows a notebook shows of a published table."""

MOST_SHOWN_BYTES = 4 * 1024 * 1024
"""How large a picture a notebook shows."""

_HEAD_BYTES = 65536
_TRIES = 5

_TABLES = tuple(name for name, row in BY_NAME.items() if row.kind == "TABLE")
_STARTS = {"parquet": b"PAR1", "arrow": b"ARROW1", "xlsx": b"PK\x03\x04", "xls": b"\xd0\xcf\x11\xe0"}

# What tells CD4- from CD4 and -5 from 5, but not a hyphen within or between words; and a dot within a number.
_MINUS = re.compile(r"(?<=\w)-(?!\w)|(?<!\w)-(?=\d)")
_DOT = re.compile(r"(?<!\d)\.|\.(?!\d)")
_SIGNS = {"<": "lt", ">": "gt", "%": "percent"}


@dataclass(frozen=True)
class Published:
    """What became of a figure or a table that was published. A notebook shows it."""

    asset: Asset
    """What stands in the catalog, in the version that was published."""
    specification: Asset | None = None
    """The document that the figure is drawn from, published with it: that of plotly or Vega-Lite."""
    _here: Session | None = field(default=None, repr=False, compare=False)
    _preview: str = field(default="", repr=False, compare=False)

    @property
    def catalog_asset_id(self) -> str:
        """The id of the asset."""
        return self.asset.id

    @property
    def download_url(self) -> Link:
        """
        A new link from which any browser downloads what was published; good for an hour, as `Workspace.link` makes it.

        Raises:
            ForbiddenError: the server makes no links, or the token may not read.
        """
        assert self._here is not None
        return links.of_version(self._here, self.asset.version)

    def __repr__(self) -> str:
        return f"<Published {self.asset.key!r} version {self.asset.number} {self.asset.id}>"

    def _repr_html_(self) -> str:
        # Without a link: what a notebook shows is kept with it, and a link opens the bytes to whoever finds it.
        fields = [("published", f"{self.asset.key} (version {self.asset.number})"), ("id", self.asset.id)]
        if self.specification:
            fields.append(("drawn from", self.specification.key))
        if self.asset.lineage.inputs:
            fields.append(("made from", ", ".join(f"{one.key} (version {one.number})" for one in self.asset.lineage.inputs)))
        return f"{self._preview}{listings.html_fields(fields)}"


class _Made(NamedTuple):
    """Something that is ready to be published."""

    file: Serialized
    preview: str
    """HTML."""
    specification: tuple[str, Serialized] | None = None
    """What it is drawn from, and the extension of that."""


def publish_figure(
    here: Session,
    fig: Any,
    name: str | None = None,
    *,
    format: str | None = None,
    experiment: str | None = None,
    experiment_id: str | None = None,
    meta: Metadata | None = None,
    tags: Iterable[str] | None = None,
    expect: str | None = None,
    inputs: Inputs | None = None,
    **options: Any,
) -> Published:
    """
    Publish a figure, at ``figures/`` in the active experiment, and return where it is.

    *fig* is of matplotlib, plotly, altair or PIL, an image array, anything that draws itself in notebooks as SVG or PNG, or the
    bytes of a picture. It is SVG, unless its *name* ends in another extension or *format* says ``png``, ``pdf``, ``html`` or
    what else its library writes. What cannot be SVG, and is not told what to be, becomes HTML or PNG. The document that plotly
    and altair draw from is kept beside the picture.

    The key is made of *name*, else of the figure's title: "Dose response" is ``figures/dose-response.svg``. What has neither
    gets a number. Published again, it is a new version. *experiment*, or *experiment_id*, is another than the active one;
    *meta*, *tags*, *expect* and *inputs* are as for `put`: without any it is made from what was read before. *options* are
    ``dpi``, ``width`` and ``height``.

    Raises:
        FormatError: no figure, or one that cannot be written in *format*.
        MissingExtraError: drawing it takes a package or a browser that is not here; ``format="html"`` takes none.
    """
    from epista.serializers import figure

    fig = _bytes_of_text(fig)
    title, format = _name_and_format(name, format, figure.FORMATS)
    made = _figure(fig, format, options)
    folder = _folder(here, experiment, experiment_id, "figures")
    title = figure.title_of(fig) if name is None else title
    if name is None and title and not any(map(str.isalnum, title)):
        title = None
    return _publish(here, made, title, f"{folder}figure", meta=meta, tags=tags, expect=expect, inputs=inputs)


def publish_table(
    here: Session,
    table: Any,
    name: str | None = None,
    *,
    format: str | None = None,
    experiment: str | None = None,
    experiment_id: str | None = None,
    meta: Metadata | None = None,
    tags: Iterable[str] | None = None,
    expect: str | None = None,
    inputs: Inputs | None = None,
    **options: Any,
) -> Published:
    """
    Publish a table, at ``tables/`` in the active experiment, and return where it is.

    *table* is a DataFrame of pandas or polars, an Arrow table, a `QueryResult`, whatever has Arrow's C stream, ``to_csv`` or
    ``to_parquet``, a list of dicts, or the text or bytes of a file. It is CSV, unless its *name* ends in another extension or
    *format* says ``parquet`` or another format of tables. The index of a DataFrame is kept if it has a name, or is no number.

    A `QueryResult` has its own *inputs*, unless some are given. *options* are those of the format; all else is as for
    `publish_figure`.

    Raises:
        FormatError: no table, or one that cannot be written in *format*.
    """
    if inputs is None and isinstance(table, QueryResult):
        inputs = table
    title, format = _name_and_format(name, format, _TABLES)
    made = _table(_bytes_of_text(table), format, options)
    folder = _folder(here, experiment, experiment_id, "tables")
    return _publish(here, made, title, f"{folder}table", meta=meta, tags=tags, expect=expect, inputs=inputs)


def slug(name: str) -> str:
    """
    Return the last part of a key for what is called *name*: "Dose response (µM)" gives ``dose-response-μm``.

    Letters and digits of every script stay, in lower case, and signs that tell two names apart are kept or spelt: ``CD4+``
    and ``CD4-`` give ``cd4+`` and ``cd4minus``. Everything else separates words.

    Raises:
        ValidationError: nothing is left.
    """
    text = unicodedata.normalize("NFKC", name).lower().replace("\N{MINUS SIGN}", "-")
    text = _MINUS.sub("minus", text)
    for sign, word in _SIGNS.items():
        text = text.replace(sign, f" {word} ")
    kept = (char if unicodedata.category(char)[0] in "LMN" or char in "+_." else " " for char in text)
    # Also no marks that have lost their letter.
    words = [word for word in _DOT.sub(" ", "".join(kept)).split() if word == "+" or any(map(str.isalnum, word))]
    if not any(char.isalnum() for word in words for char in word):
        raise ValidationError(f"the name {name!r} has no letter and no digit, so no key can be made of it")
    return unicodedata.normalize("NFC", "-".join(words))


def _name_and_format(name: str | None, format: str | None, formats: Sequence[str]) -> tuple[str | None, str | None]:
    """Return the name without its extension, and the format, which either of them may say."""
    from epista.serializers import registry

    wanted = registry.resolve(format) if format else None
    said = registry.format_of_key(name) if name and not name.lower().endswith(GZIP_SUFFIXES) else None
    if name is None or said not in formats:
        return name, wanted
    if wanted not in (None, said):
        raise FormatError(f"format={format!r} contradicts the name {name!r}, which says {said}", hint="leave format= out")
    return name[: name.rindex(".")], said


def _folder(here: Session, experiment: str | None, experiment_id: str | None, folder: str) -> str:
    """Return where to publish: in a folder of the experiment, or at the root, where a folder would be an experiment."""
    if experiment and experiment_id and experiment != experiment_id:
        raise ValidationError(f"experiment={experiment!r} and experiment_id={experiment_id!r} are two names of one thing")
    chosen = experiment or experiment_id or here.experiment_name
    if chosen is None:
        return ""
    if "/" in chosen:
        raise InvalidKeyError(f"the experiment is the first folder of a key, so it has no '/': {chosen!r}")
    return f"{here.experiment_called(keys.normalise(chosen))}/{folder}/"


def _figure(fig: Any, format: str | None, options: dict[str, Any]) -> _Made:
    from epista import serializers
    from epista.serializers import figure

    if isinstance(fig, bytes):
        found = figure.sniffed(fig)
        if found is None:
            raise FormatError("these bytes are no picture that a browser shows", hint="ws.put(key, data) stores any bytes")
        if format not in (None, found):
            raise FormatError(f"these bytes are {found}, not {format}", hint=f"format={found!r}, or leave it out")
        # Other .html is text when it is read.
        told = {**options, **({"figure": True} if found == "html" else {})}
        return _picture(serializers.serialize(f"figure.{found}", fig, options=told))
    able = figure.formats_of(fig)
    if not able:
        raise FormatError(f"a {type(fig).__name__} is no figure", hint="ws.put(key, obj) stores other objects")
    failures: list[EpistaError] = []
    for one in [format] if format else able[:3]:
        try:
            file = serializers.serialize(f"figure.{_extension(one)}", fig, options=options)
        except (FormatError, MissingExtraError) as error:
            failures.append(error)
            continue
        if failures:
            warnings.warn(f"published as {one}, for {able[0]} is not possible here: {failures[0]}", stacklevel=3)
        return _picture(file, figure.specification_of(fig))
    raise failures[0]


def _picture(file: Serialized, specification: tuple[str, bytes] | None = None) -> _Made:
    from epista.serializers import Picture, Serialized

    shown = Picture(file.data, BY_NAME[file.format].media_type)._repr_html_() if len(file.data) <= MOST_SHOWN_BYTES else ""
    beside = (specification[0], Serialized(specification[1], "json", {}, None)) if specification else None
    return _Made(file._replace(kind="FIGURE"), shown, beside)


def _table(table: Any, format: str | None, options: dict[str, Any]) -> _Made:
    from epista import serializers
    from epista.serializers import tables
    from epista.serializers.serializer import is_a

    if is_a(table, ("polars.LazyFrame",)):
        table = table.collect()
    if isinstance(table, bytes):
        return _table_file(table, format, options)
    if not tables.is_table_or_rows(table):
        return _table_file(*_written_by_itself(table, format), options)
    format = format or "csv"
    if is_a(table, ("pandas.Series",)):
        table = table.to_frame()
    if not is_a(table, ("pandas.DataFrame",)):
        # Also what can be read only once.
        table = tables.to_arrow(table)
        head = tables.from_arrow(table.slice(0, SHOWN_ROWS))
    else:
        head = table.head(SHOWN_ROWS)
        if format in ("csv", "tsv") and (list(table.index.names) != [None] or table.index.dtype.kind not in "iu"):
            options = {"index": True, **options}
    file = serializers.serialize(f"table.{_extension(format)}", table, options=options)
    return _Made(file, _rows(head, len(table)))


def _table_file(data: bytes, format: str | None, options: dict[str, Any]) -> _Made:
    """Return a table that is a file already, once it looks like one of its format."""
    from epista import serializers
    from epista.serializers import figure

    head = data[:_HEAD_BYTES]
    found = next((name for name, start in _STARTS.items() if data.startswith(start)), None)
    is_text = b"\0" not in head or data.startswith((b"\xff\xfe", b"\xfe\xff"))
    if found is None and (not is_text or figure.sniffed(data) in ("svg", "html", "pdf")):
        raise FormatError("these bytes are no table", hint="ws.put(key, data) stores any bytes")
    format = format or found or "csv"
    if found != (format if format in _STARTS else None):
        raise FormatError(f"these bytes are {found or 'text'}, not {format}", hint=f"format={found or 'csv'!r}")
    file = serializers.serialize(f"table.{_extension(format)}", data, options=options)
    if format not in ("csv", "tsv"):
        return _Made(file, "")
    if len(data) > len(head):
        head = head[: head.rfind(b"\n") + 1]
    try:
        frame: Any = serializers.deserialize(f"table.{format}", head, options=options)
    except EpistaError:
        if len(data) > _HEAD_BYTES:  # cut within a cell, perhaps
            return _Made(file, "")
        raise
    return _Made(file, _rows(frame.head(SHOWN_ROWS), len(frame) if len(data) <= _HEAD_BYTES else None))


def _written_by_itself(table: Any, format: str | None) -> tuple[bytes, str]:
    """Return what an unknown kind of table writes with ``to_csv`` or ``to_parquet``, and its format."""
    able = [name for name in ("csv", "parquet") if callable(getattr(table, f"to_{name}", None))]
    if not able:
        raise FormatError(f"a {type(table).__name__} is no table", hint="ws.put(key, obj) stores other objects")
    if format not in (None, *able):
        raise FormatError(f"a {type(table).__name__} cannot be written as {format}; it writes {', '.join(able)}")
    chosen = format or able[0]
    with tempfile.TemporaryDirectory(prefix="epista-") as folder:
        path = Path(folder, f"table.{chosen}")
        try:
            getattr(table, f"to_{chosen}")(str(path))
            return path.read_bytes(), chosen
        except Exception as error:
            # A boundary: whose method this is, nobody knows.
            raise FormatError(f"a {type(table).__name__} did not write one file of {chosen}: {error}") from error


def _rows(head: Any, rows: int | None) -> str:
    count = "" if rows is None else f"{rows:,} row{'' if rows == 1 else 's'}"
    shown = f"{len(head)} shown" if rows != len(head) else ""
    return f"{head.to_html(notebook=True, escape=True)}<p>{', '.join(filter(None, (count, shown)))}</p>"


def _bytes_of_text(given: Any) -> Any:
    """Return the text of a file, and what is like bytes, as bytes; everything else as it is."""
    from epista.serializers.bytes import is_bytes, write

    if isinstance(given, str):
        if "\n" not in given and "<" not in given:
            raise FormatError(f"{given[:100]!r} is neither a table nor a figure", hint="ws.put_file(key, path) stores a file")
        return given.encode()
    return write(given) if is_bytes(given) else given


def _extension(format: str) -> str:
    from epista.serializers import registry

    serializer = registry.find(format)
    return (registry.extensions_of(serializer) if serializer else BY_NAME[format].extensions)[0]


def _publish(
    here: Session,
    made: _Made,
    name: str | None,
    unnamed: str,
    *,
    meta: Metadata | None,
    tags: Iterable[str] | None,
    expect: str | None,
    inputs: Inputs | None,
) -> Published:
    def commit(stem: str, expect: str | None) -> Published:
        files = [(keys.normalise(f"{stem}.{_extension(made.file.format)}"), made.file)]
        if made.specification:
            extension, document = made.specification
            files.append((keys.normalise(f"{stem}.{extension}"), document))
        asset, *beside = objects.put_together(here, files, meta=meta, tags=tags, expect=expect, inputs=sources)
        return Published(asset, beside[0] if beside else None, here, made.preview)

    sources = inputs if inputs is None or isinstance(inputs, str | AssetRef | QueryResult) else list(inputs)
    folder = unnamed[: unnamed.rfind("/") + 1]
    if name is not None:
        return commit(folder + slug(name), expect)
    for tries_left in reversed(range(_TRIES)):
        try:
            return commit(f"{unnamed}-{_next_number(here, f'{unnamed}-')}", expect or "absent")
        except ConflictError:
            if expect or not tries_left:  # else somebody took the number
                raise
    raise AssertionError("the last try returns or raises")


def _next_number(here: Session, prefix: str) -> int:
    taken = [re.match(r"(\d+)\.", key.removeprefix(prefix)) for key in assets.keys(here, prefix)]
    return max((int(found[1]) for found in taken if found), default=0) + 1
