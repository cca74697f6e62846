"""
Tables in text files: what their cells mean.

One reading for notebooks and SQL. What was not recorded with the file is found out from it:

- Encoding: byte order mark, else UTF-8, else cp1252 with a note. Separator: among ``, ; tab |``. Leading comment lines (``#``)
  and blank lines are skipped. The first row is a header when its types differ from those below it.
- A column is bool, int64, double, date or timestamp only if *every* value fits; else it is string. Leading zeros, integers
  that would lose digits, and mixed columns stay string.
- An unquoted empty field is missing, a quoted one is the empty string. ``NA``, ``N/A``, ``NaN``, ``null`` (and quoted empty
  fields) are missing only where every other value is a number, bool, date or timestamp.
- Decimal commas only where ``;`` or tab separates. Under a tab, ``1,234`` alone proves none: it may be a thousand.
- Dates in ISO form, or in the one form that the values allow: ``01/02/2026`` alone is a string, beside ``31/12/2025`` a date.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from epista.contract.errors import FormatError, UnreadableError

SEPARATORS = (",", ";", "\t", "|")
"""What may separate cells without being told; earlier ones win where nothing else decides."""

NA = ("NA", "N/A", "NaN", "null", "na", "n/a", "nan", "NULL")
"""Words for a missing value, in columns that are no text."""

HEAD_ROWS = 1000
"""How many rows are looked at before a whole column is."""

_SAMPLE_BYTES = 64 * 1024

_PIECE_BYTES = 16 * 1024**2


class TextTable(NamedTuple):
    """A table as read from text."""

    table: Any
    """The `pyarrow.Table`."""
    notes: list[str]
    """What was assumed, in sentences."""


def read(
    data: bytes,
    *,
    sep: str | None = None,
    header: bool | Sequence[str] | None = None,
    dtype: Mapping[str, str] | str | None = None,
    na: Sequence[str] = (),
    decimal: str | None = None,
    encoding: str | None = None,
) -> TextTable:
    """
    Read a table from text; what is None is found out from the file.

    *header* may be the column names of a file that has none. *dtype* is the type of some columns, or of all, as `arrow_type`
    knows them. *na* are further words for a missing value, where they stand unquoted or in columns that are no text.

    Raises:
        UnreadableError: no such table, or a value that does not fit its declared type, with line and column.
        FormatError: options that do not fit the file.
    """
    import pyarrow as pa

    text, notes = _decoded(data, encoding)
    # The only column of a file without header may begin with missing values, which are blank lines.
    start = _start(text, keep_blank=isinstance(header, Sequence) and len(header) == 1)
    body = text[start:]
    if not body:
        names = list(header) if isinstance(header, Sequence) else []
        types = _types(names, dtype)
        return TextTable(pa.table({name: pa.array([], types.get(name, pa.string())) for name in names}), notes)
    sep = sep or _separator(body)
    cells = _cells(body, sep, na)
    decimal = decimal or (_decimal(cells, sep))
    names, skipped, columns = _named(cells, header, decimal)
    # From here on each column of text goes when its values are there.
    del cells
    types = _types(names, dtype)
    for position, name in enumerate(names):
        try:
            if name in types:
                columns[position] = _declared(columns[position], types[name], decimal, na)
            else:
                columns[position] = _inferred(columns[position], decimal)
        except _MisfitError as misfit:
            line = text[:start].count(b"\n") + _line(body, sep, misfit.row + skipped)
            raise UnreadableError(
                f"line {line}, column {name!r}: {misfit.value!r} is no {types[name]}", details={"line": line, "column": name}
            ) from None
    return TextTable(pa.table(columns, names=names), notes)


_ALIASES = {
    **dict.fromkeys(("str", "string", "object", "text", "varchar", "category", "large_string"), "string"),
    **dict.fromkeys(("int", "integer", "bigint"), "int64"),
    **dict.fromkeys(("float", "float64", "double", "real"), "double"),
    "float32": "float",
    "float16": "halffloat",
    "boolean": "bool",
    "date": "date32",
    "date32[day]": "date32",
    "date64[ms]": "date64",
    **dict.fromkeys(("timestamp", "datetime", "datetime64"), "timestamp[us]"),
}


def arrow_type(name: str) -> Any:
    """
    Return the Arrow type that *name* means: Arrow's own names (``int64``, ``timestamp[us, tz=UTC]``) and those of pandas;
    ``float`` is Python's, of 64 bits.

    Raises:
        FormatError: no type of a text table has this name.
    """
    import pyarrow as pa

    # Case does not matter (pandas' nullable Int64 is int64 in a file), except in the names of time zones.
    plain = _ALIASES.get(name.strip().lower(), name.strip())
    if found := re.fullmatch(r"(?:timestamp|datetime64)\[(s|ms|us|ns)(?:,\s*(?:tz=)?(.+))?\]", plain, re.IGNORECASE):
        return pa.timestamp(found[1].lower(), found[2])
    plain = plain.lower()
    if found := re.fullmatch(r"(?:duration|timedelta64)\[(s|ms|us|ns)\]", plain):
        return pa.duration(found[1])
    if found := re.fullmatch(r"time(?:32|64)\[(s|ms|us|ns)\]", plain):
        return pa.time32(found[1]) if found[1] in ("s", "ms") else pa.time64(found[1])
    try:
        if found := re.fullmatch(r"decimal(128|256)\((\d+),\s*(-?\d+)\)", plain):
            return (pa.decimal128 if found[1] == "128" else pa.decimal256)(int(found[2]), int(found[3]))
        kind = pa.type_for_alias(plain)
    except ValueError:
        kind = None
    if kind is None or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise FormatError(f"{name!r} is no type of a column; such as: string, int64, double, bool, date, timestamp")
    return kind


# --- From bytes to cells


def _decoded(data: bytes, encoding: str | None) -> tuple[bytes, list[str]]:
    """Return the text as UTF-8 without byte order mark, and what was assumed of it."""
    notes: list[str] = []
    if encoding is None:
        encoding = _encoding(data)
        if encoding == "cp1252":
            notes.append("not UTF-8; read as cp1252 (Windows, Western Europe)")
    try:
        if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii"):
            _check(data, encoding)
            return data.removeprefix(codecs.BOM_UTF8), notes
        return data.decode(encoding).removeprefix("\ufeff").encode(), notes
    except UnicodeError as error:
        raise UnreadableError(f"no text in {encoding}: {error}", hint="say encoding=") from error


def _encoding(data: bytes) -> str:
    if data.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    head = data[:1000]
    if b"\0" in head:
        # UTF-16 without its mark: every other byte of mostly Latin text is zero.
        for encoding, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
            if zeros.count(0) > 0.8 * len(zeros):
                return encoding
        raise UnreadableError("no text: it has zero bytes")
    try:
        _check(data, "utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _check(data: bytes, encoding: str) -> None:
    """Make sure that *data* is text in *encoding*, without having all of it in memory once more."""
    decoder, whole = codecs.getincrementaldecoder(encoding)(), memoryview(data)
    for start in range(0, len(data), _PIECE_BYTES):
        decoder.decode(whole[start : start + _PIECE_BYTES])
    decoder.decode(b"", final=True)


def _start(text: bytes, *, keep_blank: bool) -> int:
    """Return where the first line begins that is neither blank nor a comment."""
    start = 0
    while start < len(text):
        end = text.find(b"\n", start) + 1 or len(text)
        line = text[start:end].strip(b" \r\n")
        if line[:1] != b"#" and (line or keep_blank):
            break
        start = end
    return start


def _separator(body: bytes) -> str:
    """Return the separator that splits the first lines evenly; where several do, the one that leaves most values typed."""
    # Decoding may cut the last character, never one before it.
    sample = body[:_SAMPLE_BYTES].decode(errors="ignore")
    best = ((0.0, 0), ",")
    for sep in SEPARATORS:
        try:
            rows = [row for row in csv.reader(io.StringIO(sample, newline=""), delimiter=sep) if row]
        except csv.Error:
            continue
        if len(body) > _SAMPLE_BYTES:
            rows = rows[:-1]
        width = len(rows[0]) if rows else 0
        if width < 2 or any(len(row) != width for row in rows):
            continue
        values = [cell.strip() for row in rows for cell in row]
        number = re.compile(_number(r"[.,]" if sep in ";\t" else r"\."), re.IGNORECASE)
        typed = sum(1 for cell in values if not cell or number.search(cell) or cell in NA) / len(values)
        if (typed, width) > best[0]:
            best = ((typed, width), sep)
    return best[1]


def _cells(body: bytes, sep: str, na: Sequence[str]) -> list[Any]:
    """Split the file into columns of strings; unquoted empty cells and those in *na* are null."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    width = _width(body, sep)
    names = [str(n) for n in range(width)]

    def split(block_bytes: int) -> Any:
        return arrow_csv.read_csv(
            pa.BufferReader(body),
            read_options=arrow_csv.ReadOptions(column_names=names, block_size=block_bytes),
            # In a table of one column a blank line is a missing value.
            parse_options=arrow_csv.ParseOptions(delimiter=sep, newlines_in_values=True, ignore_empty_lines=width > 1),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=["", *na],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    try:
        try:
            table = split(8 * 1024**2)
        except pa.ArrowInvalid as error:
            if "straddling" not in str(error):
                raise
            table = split(min(len(body) + 1, 2**31 - 1))
    except pa.ArrowInvalid as error:
        raise UnreadableError(f"no table separated by {sep!r}: {_ragged(body, sep, width) or error}") from error
    return list(table.columns)


def _width(body: bytes, sep: str) -> int:
    """Count the cells of the first record."""
    mark = re.escape(sep.encode())
    cell = re.compile(rb'(?:"[^"]*(?:""[^"]*)*")?[^' + mark + rb"\r\n]*(" + mark + rb"|\r|\n|\Z)")
    width, position = 0, 0
    while found := cell.match(body, position):
        width += 1
        if found[1] != sep.encode():
            break
        position = found.end()
    return width


def _ragged(body: bytes, sep: str, width: int) -> str | None:
    """Name the first record that has not *width* cells."""
    for line, row in _records(body, sep):
        if len(row) != width:
            return f"line {line} has {len(row)} cell{'s' if len(row) > 1 else ''}, the first has {width}"
    return None


def _records(body: bytes, sep: str) -> Iterator[tuple[int, list[str]]]:
    """Read the file once more, slowly, to say at which line a record begins."""
    reader = csv.reader(io.StringIO(body.decode(errors="replace"), newline=""), delimiter=sep)
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error:
        return


def _line(body: bytes, sep: str, record: int) -> int:
    """Return the line, counted from 1, at which a *record* begins, counted from 0."""
    # In a table of one column a blank line is a record.
    blank = _width(body, sep) == 1
    reader = csv.reader(io.StringIO(body.decode(errors="replace"), newline=""), delimiter=sep)
    line, seen = 1, 0
    try:
        for row in reader:
            if row or blank:
                if seen == record:
                    return line
                seen += 1
            line = reader.line_num + 1
    except csv.Error:
        pass  # a cell too long for Python's reader: the record's number is the best that can be said
    return record + 1


# --- From cells to columns


def _named(cells: list[Any], header: bool | Sequence[str] | None, decimal: str) -> tuple[list[str], int, list[Any]]:
    """Return the column names, how many records they took, and the columns below them."""
    if isinstance(header, Sequence):
        if len(header) != len(cells):
            raise FormatError(f"header= has {len(header)} names, the file {len(cells)} columns")
        return list(header), 0, cells
    first = [column[0].as_py() for column in cells]
    if not (_is_header(first, cells, decimal) if header is None else header):
        return [f"column{n}" for n in range(len(cells))], 0, cells
    names: list[str] = []
    for position, cell in enumerate(first):
        found = cell.strip() if cell and header is None else cell
        # A file of ours may have a column called "".
        name = found if found or (found is not None and header is not None) else f"column{position}"
        unique, count = name, 0
        while unique in names:
            count += 1
            unique = f"{name}_{count}"
        names.append(unique)
    return names, 1, [column.slice(1) for column in cells]


def _is_header(first: list[str | None], cells: list[Any], decimal: str) -> bool:
    """Whether the first row is of other types than the rows below it."""
    import pyarrow as pa

    evidence = False
    for cell, column in zip(first, cells, strict=True):
        below = _inferred(column.slice(1), decimal)
        if cell and cell.strip() not in NA and below.type != pa.string():
            if _inferred(column, decimal).type == pa.string():
                return True
            evidence = True
    if evidence:
        return False
    # Nothing but text: names are there, and no two alike; those of rows often have no title. A row of numbers alone is data.
    alone = all(_inferred(column.slice(0, 1), decimal).type == pa.string() for column in cells)
    return bool(all(first[1:]) and any(first)) and len(set(first)) == len(first) and (alone or len(cells[0]) > 1)


def _types(names: list[str], dtype: Mapping[str, str] | str | None) -> dict[str, Any]:
    if dtype is None:
        return {}
    if isinstance(dtype, str):
        return dict.fromkeys(names, arrow_type(dtype))
    if missing := [name for name in dtype if name not in names]:
        raise FormatError(f"dtype= names no column {', '.join(map(repr, missing))}; columns: {', '.join(names[:50])}")
    return {name: arrow_type(kind) for name, kind in dtype.items()}


def _decimal(cells: list[Any], sep: str) -> str:
    """Return the decimal mark of a file; a comma where one column has commas and fits nothing else."""
    if sep not in (";", "\t"):
        return "."
    for column in cells:
        # The first row may be the header.
        values = _present(column.slice(1) if len(column) > 1 else column)
        if not _any(values, ",") or not _fits(values, _number(",")):
            continue
        if sep == ";" or not _fits(values, r"^[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})*$"):
            return ","
    return "."


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_D = r"(?P<d>0?[1-9]|[12][0-9]|3[01])"
_M = r"(?P<m>0?[1-9]|1[0-2])"
_Y = r"(?P<y>[0-9]{4})"
_TIME = r"(?P<h>[01]?[0-9]|2[0-3])(?P<t>:[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?)"
_ZONE = r"(?:Z|[+-][0-9]{2}:?[0-9]{2})"
_ISO_DATE = r"^[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_ISO_TIME = r"[T ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?"
_DATE_FORMS = (
    *(rf"^{_Y}{mark}{_M}{mark}{_D}" for mark in (r"/", r"\.")),
    *(rf"^{one}{mark}{two}{mark}{_Y}" for mark in (r"/", r"\.", r"-") for one, two in ((_D, _M), (_M, _D))),
    *(rf"^{_D}{mark}(?P<m>{'|'.join(_MONTHS)}){mark}{_Y}" for mark in ("-", " ", "/")),
)


def _number(decimal: str) -> str:
    """Return the pattern of a number that a double holds without losing digits of an integer."""
    whole, power = r"(?:0|[1-9][0-9]*)", r"(?:e[+-]?[0-9]+)"
    return (
        rf"^[+-]?(?:{whole}(?:{decimal}[0-9]*{power}?|{power})|{decimal}[0-9]+{power}?|(?:0|[1-9][0-9]{{0,14}})|inf(?:inity)?)$"
    )


def _present(column: Any) -> Any:
    """Return *column* trimmed, with null for every word that means missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.is_in(text, pa.array(["", *NA])), pa.scalar(None, pa.string()), text)


def _fits(values: Any, pattern: str) -> bool:
    """Whether every value that is there matches *pattern*, in any case."""
    import pyarrow.compute as pc

    return all(
        pc.all(pc.match_substring_regex(part, pattern, ignore_case=True), min_count=0).as_py() is not False
        for part in (values.slice(0, HEAD_ROWS), values.slice(HEAD_ROWS))
        if len(part)
    )


def _any(values: Any, piece: str) -> bool:
    import pyarrow.compute as pc

    return bool(pc.any(pc.match_substring(values, piece), min_count=0).as_py())


def _inferred(column: Any, decimal: str) -> Any:
    """Return *column* in the narrowest type that fits every value of it, else as it is."""
    import pyarrow as pa
    import pyarrow.compute as pc

    head = _present(column.slice(0, HEAD_ROWS))
    # Most columns of text give themselves away early.
    if head.null_count < len(head) and not any(_fits(head, pattern) for pattern in _all_patterns(decimal)):
        return column
    values = _present(column)
    if values.null_count == len(values):
        return column
    try:
        if _fits(values, "^(?:true|false)$"):
            return pc.utf8_lower(values).cast(pa.bool_())
        if _fits(values, r"^[+-]?(?:0|[1-9][0-9]*)$"):
            return pc.utf8_ltrim(values, "+").cast(pa.int64())
        if _fits(values, _number(re.escape(decimal))):
            return _double(values, decimal)
        return _moment(values) or column
    except pa.ArrowInvalid:
        # An integer of 20 digits, 31 February: it looks like one, and is none.
        return column


def _all_patterns(decimal: str) -> list[str]:
    dates = [form + rf"(?:[T ]{_TIME})?$" for form in _DATE_FORMS]
    return ["^(?:true|false)$", r"^[+-]?[0-9]+$", _number(re.escape(decimal)), _ISO_DATE, *dates]


def _double(values: Any, decimal: str) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = values if decimal == "." else pc.replace_substring(values, decimal, ".")
    return pc.utf8_ltrim(plain, "+").cast(pa.float64())


def _moment(values: Any) -> Any | None:
    """Return dates or timestamps, if every value has one form and only one form fits."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if _fits(values, _ISO_DATE + "$"):
        return values.cast(pa.date32())
    if _fits(values, _ISO_DATE + _ISO_TIME + "$"):
        return _timestamp(values, None)
    if _fits(values, _ISO_DATE + _ISO_TIME + _ZONE + "$"):
        return _timestamp(values, "UTC")
    for suffix in ("$", rf"[T ]{_TIME}$"):
        forms = [form + suffix for form in _DATE_FORMS if _fits(values, form + suffix)]
        if len(forms) != 1:
            continue
        part = pc.extract_regex(pc.utf8_lower(values), forms[0].replace("[T ]", "[t ]"))
        year, month, day = (pc.struct_field(part, name) for name in ("y", "m", "d"))
        if "jan" in forms[0]:
            month = pc.add(pc.index_in(month, pa.array(_MONTHS)), 1).cast(pa.string())
        iso = pc.binary_join_element_wise(year, pc.utf8_lpad(month, 2, "0"), pc.utf8_lpad(day, 2, "0"), "-")
        if suffix == "$":
            return iso.cast(pa.date32())
        hour = pc.utf8_lpad(pc.struct_field(part, "h"), 2, "0")
        clock = pc.binary_join_element_wise(hour, pc.struct_field(part, "t"), "")
        return _timestamp(pc.binary_join_element_wise(iso, clock, " "), None)
    return None


def _timestamp(values: Any, zone: str | None) -> Any:
    import pyarrow as pa

    try:
        return values.cast(pa.timestamp("us", zone))
    except pa.ArrowInvalid:
        return values.cast(pa.timestamp("ns", zone))


# --- Declared types


class _MisfitError(Exception):
    def __init__(self, row: int, value: str) -> None:
        super().__init__(row, value)
        self.row, self.value = row, value


def _declared(column: Any, kind: Any, decimal: str, na: Sequence[str]) -> Any:
    """Return *column* in the type that was declared for it; `_MisfitError` names the first value that does not fit."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column.cast(kind)
    values = pc.if_else(pc.is_in(column, pa.array(na, pa.string())), pa.scalar(None, pa.string()), _present(column))
    try:
        return _parsed(values, kind, decimal)
    except pa.ArrowInvalid:
        pass
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        try:
            moments = _moment(values)
            if moments is not None:
                return moments.cast(kind)
        except pa.ArrowInvalid:
            pass
    # The first misfit: fits without it, does not fit with it.
    fitting, failing = 0, len(values)
    while failing - fitting > 1:
        middle = (fitting + failing) // 2
        try:
            _parsed(values.slice(fitting, middle - fitting), kind, decimal)
            fitting = middle
        except pa.ArrowInvalid:
            failing = middle
    raise _MisfitError(fitting, column[fitting].as_py())


def _parsed(values: Any, kind: Any, decimal: str) -> Any:
    """Parse text as *kind*; `pyarrow.ArrowInvalid` if a value does not fit."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_boolean(kind):
        return pc.utf8_lower(values).cast(kind)
    if pa.types.is_integer(kind) or pa.types.is_duration(kind):
        # Arrow would take hexadecimal.
        if not _fits(values, "^[+-]?[0-9]+$"):
            raise pa.ArrowInvalid("no integer")
        whole = pc.utf8_ltrim(values, "+").cast(pa.int64() if pa.types.is_duration(kind) else kind)
        return whole.cast(kind)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        plain = values if decimal == "." else pc.replace_substring(values, decimal, ".")
        return pc.utf8_ltrim(plain, "+").cast(kind)
    if pa.types.is_time(kind):
        moments = pc.binary_join_element_wise("1970-01-01", values, " ").cast(pa.timestamp(kind.unit))
        return moments.cast(kind)
    if pa.types.is_timestamp(kind) and kind.tz and not _fits(values, _ZONE + "$"):
        return pc.assume_timezone(values.cast(pa.timestamp(kind.unit)), kind.tz)
    if pa.types.is_date64(kind):
        return values.cast(pa.date32()).cast(kind)
    if pa.types.is_null(kind) and values.null_count == len(values):
        return pa.chunked_array([pa.nulls(len(values))])
    return values.cast(kind)
