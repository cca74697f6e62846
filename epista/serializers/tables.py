"""
Tables of every library, by way of Arrow.

Whatever is put becomes a `pyarrow.Table`; whatever is read leaves as the class that the caller chose.
"""

from __future__ import annotations

import base64
import json
import warnings
from typing import Any

from epista.contract.errors import FormatError
from epista.serializers.serializer import is_a, require

CLASSES = ("pandas", "arrow", "polars")
"""What ``as_type`` may say."""

_PANDAS = ("pandas.DataFrame", "pandas.Series")
_OTHERS = ("polars.DataFrame", "polars.Series", "pyarrow.Table", "pyarrow.RecordBatch", "pyarrow.RecordBatchReader")

_NOTE = b"epista.pandas"
"""What Arrow's own note on pandas leaves out, in a table's metadata: JSON, by column."""


def is_table(obj: object) -> bool:
    """Whether *obj* is a table: pandas, polars, Arrow, anything with Arrow's C stream."""
    return is_a(obj, _PANDAS + _OTHERS) or hasattr(type(obj), "__arrow_c_stream__")


def is_table_or_rows(obj: object) -> bool:
    """Whether *obj* is a table, or a list whose first item is a dict; only writing it looks at the others."""
    return is_table(obj) or (isinstance(obj, list) and all(isinstance(row, dict) for row in obj[:1]))


def to_arrow(obj: Any, *, index: bool | None = None) -> Any:
    """
    Return any table as a `pyarrow.Table`, column names being unique strings.

    A pandas *index* is kept where it is one (None), always or never. NaN in a pandas column means missing.

    Raises:
        FormatError: no table, or a column that Arrow has no type for.
    """
    import pyarrow as pa

    if is_a(obj, _PANDAS):
        table = _from_pandas(obj, index)
    elif isinstance(obj, list):
        table = _from_rows(obj)
    elif is_a(obj, ("pyarrow.Table",)):
        table = obj
    elif is_a(obj, ("polars.Series",)):
        table = obj.to_frame().to_arrow()
    elif is_table(obj):
        table = pa.table(obj)
    else:
        raise FormatError(f"a {type(obj).__name__} is no table")
    if len(set(table.column_names)) != len(table.column_names):
        twice = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
        raise FormatError(f"several columns are called {', '.join(map(repr, twice))}; rename them")
    return _without_views(table)


def from_arrow(table: Any, as_type: str = "pandas", *, nullable: tuple[str, ...] = (), index: list[str] | None = None) -> Any:
    """
    Return *table* as the class that *as_type* names.

    For pandas, columns named in *nullable* get pandas' nullable types, and those in *index* become the index.
    """
    if as_type == "arrow":
        return table
    if as_type == "polars":
        return require("polars", "polars").from_arrow(table)
    import pandas as pd
    import pyarrow as pa

    frame = table.to_pandas()
    own = b"pandas" in (table.schema.metadata or {})
    if own:
        frame = _restored(frame, table)
    for field in table.schema:
        # pandas makes integers with missing values floats, which hold 53 bits only.
        large = (
            not own and pa.types.is_integer(field.type) and table[field.name].null_count and not _fits_float(table[field.name])
        )
        if field.name in nullable or large:
            dtypes = {pa.bool_(): "boolean", pa.float32(): "Float32", pa.float64(): "Float64"}
            dtype = dtypes.get(field.type) or str(field.type).replace("int", "Int").replace("uI", "UI")
            # Through Arrow, not through the frame, where the large integers are floats already.
            frame[field.name] = pd.array(table[field.name].to_pylist(), dtype=dtype)
    return frame.set_index(index) if index else frame


def convert(frame: Any, as_type: str) -> Any:
    """Return a pandas *frame* as the class that *as_type* names."""
    return frame if as_type == "pandas" else from_arrow(to_arrow(frame), as_type)


def _from_pandas(obj: Any, index: bool | None) -> Any:
    import pyarrow as pa

    frame = obj.to_frame() if is_a(obj, ("pandas.Series",)) else obj
    with warnings.catch_warnings():
        # Labels of mixed types and attributes that are no JSON: Arrow warns that they would not come back.
        warnings.simplefilter("error", UserWarning)
        try:
            table = pa.Table.from_pandas(frame, preserve_index=index)
        except UserWarning as warning:
            raise FormatError(f"the DataFrame would not come back as it is: {warning}") from warning
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise FormatError(f"the DataFrame does not fit: {_first_line(error)}") from error
    return _with_note(table, frame)


def _from_rows(rows: list[Any]) -> Any:
    import pyarrow as pa

    if not rows:
        raise FormatError("an empty list says nothing about its columns; put a DataFrame that has them")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise FormatError(f"a table is a list of dicts; item {number} is a {type(row).__name__}")
    names = list(dict.fromkeys(name for row in rows for name in row))
    if odd := [name for name in names if not isinstance(name, str)]:
        raise FormatError(f"column names are strings, not {odd[0]!r}")
    columns = {}
    for name in names:
        try:
            columns[name] = pa.array([row.get(name) for row in rows])
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise FormatError(f"column {name!r} does not fit: {_first_line(error)}") from error
    return pa.table(columns)


def _first_line(error: BaseException) -> str:
    return "; ".join(str(part) for part in error.args).strip().partition("\n")[0]


def _without_views(table: Any) -> Any:
    """Return *table* with plain strings for string views, which other engines refuse."""
    import pyarrow as pa

    def plain(field: Any) -> Any:
        kind = field.type
        if kind == pa.string_view():
            return field.with_type(pa.string())
        if kind == pa.binary_view():
            return field.with_type(pa.binary())
        if pa.types.is_list(kind):
            return field.with_type(pa.list_(plain(kind.value_field)))
        if pa.types.is_large_list(kind):
            return field.with_type(pa.large_list(plain(kind.value_field)))
        if pa.types.is_struct(kind):
            return field.with_type(pa.struct([plain(kind.field(n)) for n in range(kind.num_fields)]))
        return field

    schema = pa.schema([plain(field) for field in table.schema], metadata=table.schema.metadata)
    return table if schema == table.schema else table.cast(schema)


def _fits_float(column: Any) -> bool:
    import pyarrow.compute as pc

    extremes = pc.min_max(column).as_py()
    return bool(extremes["min"] >= -(2**53) and extremes["max"] <= 2**53)


def _with_note(table: Any, frame: Any) -> Any:
    """Note what Arrow's own note on pandas does not tell apart, and what Parquet does not keep."""
    import pandas as pd
    import pyarrow as pa

    notes: dict[str, Any] = {}
    strings = (pa.string(), pa.large_string())
    for name, column in zip(table.column_names, (frame.iloc[:, n] for n in range(frame.shape[1])), strict=False):
        dtype = column.dtype
        if isinstance(dtype, pd.StringDtype) and dtype.storage == "python":
            notes[name] = {"string": "NA" if dtype.na_value is pd.NA else "nan"}
        elif isinstance(dtype, pd.CategoricalDtype) and table.schema.field(name).type.value_type not in strings:
            categories = pa.table({"c": pa.array(dtype.categories, from_pandas=True)})
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, categories.schema) as writer:
                writer.write_table(categories)
            packed = base64.b64encode(sink.getvalue()).decode()
            notes[name] = {"categories": packed, "ordered": bool(dtype.ordered), "dtype": str(dtype.categories.dtype)}
    return table.replace_schema_metadata({**table.schema.metadata, _NOTE: json.dumps(notes)}) if notes else table


def _restored(frame: Any, table: Any) -> Any:
    """Give the columns of *frame* the dtypes they had when it was put, where Arrow alone does not."""
    import pandas as pd

    notes = json.loads(table.schema.metadata.get(_NOTE, b"{}"))
    pandas = json.loads(table.schema.metadata[b"pandas"])
    known = {column["field_name"]: column for column in pandas["columns"]}
    # Labels that are no strings are strings in Arrow; the order is the same, index columns excepted.
    index = [name for name in pandas["index_columns"] if isinstance(name, str)]
    for position, name in enumerate(name for name in table.column_names if name not in index):
        column = frame.iloc[:, position]
        was, note = known.get(name, {}), notes.get(name, {})
        numpy_type = str(was.get("numpy_type"))
        if numpy_type == "object" and isinstance(column.dtype, pd.StringDtype):
            column = pd.Series(table[name].to_pylist(), index=frame.index, dtype=object)
        elif numpy_type == "string[pyarrow]":
            column = column.astype(pd.ArrowDtype(table.schema.field(name).type))
        elif numpy_type.startswith("datetime64[") and str(column.dtype).startswith("datetime64["):
            column = column.dt.as_unit(numpy_type[len("datetime64[") :].partition("]")[0])
        elif "string" in note:
            column = column.astype(pd.StringDtype("python", na_value=pd.NA if note["string"] == "NA" else float("nan")))
        elif "categories" in note:
            import pyarrow as pa

            with pa.ipc.open_stream(base64.b64decode(note["categories"])) as reader:
                categories = pd.Index(reader.read_all()["c"].to_pandas()).rename(None).astype(note["dtype"])
            column = column.astype(pd.CategoricalDtype(categories, ordered=note["ordered"]))
        else:
            continue
        frame.isetitem(position, column)
    return frame
