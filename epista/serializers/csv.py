"""
CSV and TSV, by way of Arrow.

What is written comes back: column types are recorded with the version, missing differs from empty, and cells are quoted where
a reader could mistake them. Lines end in ``\\n`` on every system. NaN becomes missing; lost are categories, the index unless
asked for, and that labels were no strings. What was not written here is read by the rules of `text_tables`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from epista.contract.errors import FormatError
from epista.serializers import tables, text_tables
from epista.serializers.serializer import Options, Serializer, Written, is_a
from epista.serializers.text import check_encoding

OPTIONS = ("sep", "header", "index", "dtype", "na", "decimal", "encoding")
"""The options of both formats, in both directions."""

_BATCH_ROWS = 65536

_NULLABLE = re.compile("U?Int(8|16|32|64)|Float(32|64)|boolean")


def write(
    obj: Any,
    *,
    sep: str = ",",
    header: bool | Sequence[str] = True,
    index: bool | str | Sequence[str] | None = None,
    dtype: Mapping[str, str] | str | None = None,
    na: str | Sequence[str] = "",
    decimal: str = ".",
    encoding: str = "utf-8",
) -> Written:
    """
    Write a table.

    *index* keeps the index of a DataFrame as columns, or names columns that shall be it on reading. *na* is written for what
    is missing. Without *header* the names are recorded only.
    """
    import pyarrow as pa

    missing = na if isinstance(na, str) else (list(na) or [""])[0]
    _check_marks(sep, decimal, missing)
    table, index = _table(obj, index)
    nullable = _nullable(obj, index)
    if dtype is not None:
        table = _cast(table, dtype)
    names = table.column_names
    if not names and (table.num_rows or getattr(obj, "shape", (0,))[0]):
        raise FormatError("rows without columns cannot be written")
    if not isinstance(header, bool) and list(header) != names:
        raise FormatError("header= names the columns of a file that is read; rename the columns instead")
    columns = [_quoted(_text(name, table[name], decimal), sep, missing, decimal) for name in names]
    titles = [_quoted(pa.chunked_array([pa.array([name])]), sep, missing, decimal) for name in names]
    text = (_lines(titles, sep, missing) if header is True else "") + _lines(columns, sep, missing)
    try:
        data = text.encode(encoding)
    except UnicodeEncodeError as error:
        raise FormatError(f"the character {text[error.start]!r} cannot be written in {encoding}") from error
    recorded: dict[str, Any] = {
        "sep": sep,
        "header": True if header is True else names,
        "encoding": encoding,
        "decimal": decimal,
        "dtype": {name: nullable.get(name, _recorded(table.schema.field(name).type)) for name in names},
    }
    if missing:
        recorded["na"] = na if isinstance(na, str) else list(na)
    if index:
        recorded["index"] = index
    return Written(data, recorded)


def read(
    data: bytes,
    *,
    as_type: str,
    index: bool | str | Sequence[str] | None = None,
    na: str | Sequence[str] = (),
    dtype: Mapping[str, str] | str | None = None,
    **options: Any,
) -> Any:
    """Read a table. What was assumed is in ``.attrs["notes"]`` of a DataFrame, or in the metadata of an Arrow schema."""
    words = [na] if isinstance(na, str) else list(na)
    table, notes = text_tables.read(data, na=[word for word in words if word], dtype=dtype, **options)
    if notes:
        table = table.replace_schema_metadata({"notes": json.dumps(notes)})
    wanted = [index] if isinstance(index, str) else list(index) if isinstance(index, Sequence) else []
    if index is True:
        wanted = table.column_names[:1]
    if unknown := [name for name in wanted if name not in table.column_names]:
        raise FormatError(f"index= names no column {', '.join(map(repr, unknown))}; columns: {', '.join(table.column_names)}")
    kinds = dtype if isinstance(dtype, Mapping) else dict.fromkeys(table.column_names, dtype or "")
    nullable = tuple(name for name, kind in kinds.items() if _NULLABLE.fullmatch(kind))
    found = tables.from_arrow(table, as_type, nullable=nullable, index=wanted)
    if notes and as_type == "pandas":
        found.attrs["notes"] = notes
    return found


def check(options: Options) -> dict[str, Any]:
    """Check the values of options, and return them as JSON."""
    checked = dict(options)
    names = "a column name, or a list of them"
    _expect(checked, "index", bool | str | list | tuple, f"True, {names}")
    _expect(checked, "header", bool | list | tuple, "True, False, or a list of column names")
    _expect(checked, "na", str | list | tuple, "a word for missing values, or a list of them")
    for name in ("sep", "decimal", "encoding"):
        _expect(checked, name, str, "a string")
    if "encoding" in checked:
        check_encoding(checked["encoding"])
    _check_marks(checked.get("sep"), checked.get("decimal", "."), None)
    for name in ("index", "header", "na"):
        if isinstance(checked.get(name), tuple | list):
            checked[name] = list(checked[name])
            if not all(isinstance(item, str) for item in checked[name]):
                raise FormatError(f"option {name}={checked[name]!r}: strings are needed")
    if "dtype" in checked:
        dtype = checked["dtype"]
        if isinstance(dtype, Mapping):
            checked["dtype"] = {str(name): _type_name(kind) for name, kind in dtype.items()}
        else:
            checked["dtype"] = _type_name(dtype)
    return checked


def _expect(options: dict[str, Any], name: str, kinds: Any, words: str) -> None:
    # None is what an option is when it is not given.
    if name in options and options[name] is None:
        del options[name]
    if name in options and not isinstance(options[name], kinds):
        raise FormatError(f"option {name}={options[name]!r}: {words} is needed")


def _check_marks(sep: str | None, decimal: str, na: str | None) -> None:
    if decimal not in (".", ","):
        raise FormatError(f"option decimal={decimal!r}: '.' or ',' is needed")
    if sep is not None and (len(sep) != 1 or not sep.isascii() or sep.isalnum() or sep in '".+-\r\n\0 #' or sep == decimal):
        also = "; with decimal=',' another one than ','" if sep == decimal else ""
        raise FormatError(f"option sep={sep!r}: one character is needed, such as ',' ';' '|' or a tab{also}")
    if na and (set(na) & {'"', "\r", "\n", sep} or na != na.strip()):
        raise FormatError(f"option na={na!r}: a word without separators, quotes and line ends is needed")


def _type_name(kind: Any) -> str:
    """Return the name of a type that may be given as Python's, numpy's or pandas' own."""
    name = kind.__name__ if isinstance(kind, type) else str(kind)
    text_tables.arrow_type(name)
    return name


def _table(obj: Any, index: bool | str | Sequence[str] | None) -> tuple[Any, list[str]]:
    """Return *obj* as an Arrow table, and the names of the columns that are its index."""
    if not is_a(obj, ("pandas.DataFrame", "pandas.Series")):
        if index is True:
            raise FormatError(f"index=True: a {type(obj).__name__} has no index")
    else:
        obj = obj.to_frame() if is_a(obj, ("pandas.Series",)) else obj
        if obj.columns.nlevels > 1:
            raise FormatError("columns on several levels cannot be written; join their names first")
        obj = obj.rename(columns=str)
    wanted = [] if index is None or isinstance(index, bool) else [index] if isinstance(index, str) else list(index)
    if is_a(obj, ("pandas.DataFrame",)) and (index is True or (wanted and set(wanted) <= set(obj.index.names))):
        levels = obj.index.nlevels
        fallback = ["index"] if levels == 1 else [f"level_{n}" for n in range(levels)]
        names = [str(n) if n is not None else fallback[at] for at, n in enumerate(obj.index.names)]
        if clash := [name for name in names if name in obj.columns]:
            raise FormatError(f"the index and a column are both called {clash[0]!r}; rename one")
        obj, wanted = obj.reset_index(names=names), names
    table = tables.to_arrow(obj, index=False).replace_schema_metadata(None)
    if unknown := [name for name in wanted if name not in table.column_names]:
        raise FormatError(f"index= names no column {', '.join(map(repr, unknown))}")
    return table, wanted


def _nullable(obj: Any, index: list[str]) -> dict[str, str]:
    """Return pandas' nullable dtypes by column, so that they come back."""
    if not is_a(obj, ("pandas.DataFrame", "pandas.Series")):
        return {}
    frame = obj.to_frame() if is_a(obj, ("pandas.Series",)) else obj
    found = {str(name): str(dtype) for name, dtype in frame.dtypes.items() if _NULLABLE.fullmatch(str(dtype))}
    return {name: dtype for name, dtype in found.items() if name not in index}


def _cast(table: Any, dtype: Mapping[str, str] | str) -> Any:
    import pyarrow as pa

    kinds = dtype if isinstance(dtype, Mapping) else dict.fromkeys(table.column_names, dtype)
    for name, kind in kinds.items():
        if name not in table.column_names:
            raise FormatError(f"dtype= names no column {name!r}; columns: {', '.join(table.column_names)}")
        at = table.column_names.index(name)
        try:
            table = table.set_column(at, name, table[name].cast(text_tables.arrow_type(kind)))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise FormatError(f"column {name!r} is no {kind}: {error}") from error
    return table


def _plain(kind: Any) -> Any:
    """Return the type that a column of *kind* has once it is read."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    return pa.string() if pa.types.is_large_string(kind) else kind


def _recorded(kind: Any) -> str:
    """Return the name under which a type is recorded: Arrow's, except that ``float`` is Python's, of 64 bits."""
    name = str(_plain(kind))
    return "float32" if name == "float" else name


def _text(name: str, column: Any, decimal: str) -> Any:
    """Return the cells of a column as they are written, before quoting."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = _plain(column.type)
    known = pa.types
    if pa.types.is_dictionary(column.type):
        column = column.cast(kind)
    if known.is_floating(kind) or known.is_decimal(kind):
        if known.is_floating(kind):
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
        text = column.cast(pa.string())
        return text if decimal == "." else pc.replace_substring(text, ".", decimal)
    if known.is_duration(kind):
        column = column.cast(pa.int64())
    elif not (known.is_string(kind) or known.is_integer(kind) or known.is_boolean(kind) or known.is_null(kind)) and not (
        known.is_temporal(kind) and not known.is_interval(kind)
    ):
        raise FormatError(f"column {name!r} is of type {kind}, which a text table cannot hold; use .parquet")
    return column.cast(pa.string())


def _quoted(text: Any, sep: str, na: str, decimal: str) -> Any:
    """Quote the cells that a reader could mistake for something else."""
    import pyarrow.compute as pc

    special = re.escape(sep)
    pattern = rf'["\r\n{special}]|^$|^[\s#\x{{feff}}]|\s$' + (rf"|^{re.escape(na)}$" if na else "")
    doubled = pc.binary_join_element_wise('"', pc.replace_substring(text, '"', '""'), '"', "")
    return pc.if_else(pc.match_substring_regex(text, pattern), doubled, text)


def _lines(columns: list[Any], sep: str, na: str) -> str:
    """Join columns of cells to lines."""
    import pyarrow.compute as pc

    if not columns:
        return ""
    parts = []
    for start in range(0, len(columns[0]), _BATCH_ROWS):
        cells = [column.slice(start, _BATCH_ROWS) for column in columns]
        lines = pc.binary_join_element_wise(*cells, sep, null_handling="replace", null_replacement=na)
        parts.append("\n".join(lines.to_pylist()) + "\n")
    return "".join(parts)


def _serializer(name: str, sep: str | None) -> Serializer:
    given: dict[str, Any] = {"sep": sep} if sep else {}
    return Serializer(
        name=name,
        takes="a pandas, polars or Arrow table, or a list of dicts",
        accepts=tables.is_table_or_rows,
        write=functools.partial(write, **given),
        read=functools.partial(read, **given),
        options=OPTIONS,
        check=check,
        table=True,
        requires=("pyarrow",),
    )


SERIALIZERS = (_serializer("csv", None), _serializer("tsv", "\t"))
