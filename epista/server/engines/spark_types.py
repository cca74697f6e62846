"""Types as Arrow names them, and how Spark reads parquet columns of them."""

from __future__ import annotations

import re
from typing import NamedTuple

from epista.contract.errors import QueryError
from epista.server.engines.spark_sql import DUCKDB_ONLY


class SparkType(NamedTuple):
    """How Spark reads a column."""

    ddl: str
    """The type that it is read as."""
    read: str
    """What is made of it; ``{}`` stands for the column."""


_PLAIN = {
    "null": "STRING",
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INT",
    "int64": "BIGINT",
    # Spark has no unsigned integers, and reads them into the next wider ones.
    "uint8": "SMALLINT",
    "uint16": "INT",
    "uint32": "BIGINT",
    "uint64": "DECIMAL(20, 0)",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "STRING",
    "large_string": "STRING",
    "binary": "BINARY",
    "large_binary": "BINARY",
    "date32[day]": "DATE",
    "date64[ms]": "DATE",
}

_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(, tz=.*)?\]")
_DECIMAL = re.compile(r"decimal(?:32|64|128|256)\((\d+), (\d+)\)")
_LIST = re.compile(r"(?:large_)?list<\w+: (.*?)(?: not null)?>|fixed_size_list<\w+: (.*?)(?: not null)?>\[\d+\]")
_DICTIONARY = re.compile(r"dictionary<values=(.*), indices=\w+, ordered=\d>")
_FIXED = re.compile(r"fixed_size_binary\[\d+\]")


def spark_type(arrow: str) -> SparkType:
    """
    Return how Spark reads a column whose type Arrow calls so.

    Raises:
        QueryError: Spark has no such type.
    """
    if arrow in _PLAIN:
        return SparkType(_PLAIN[arrow], "{}")
    if _FIXED.fullmatch(arrow):
        return SparkType("BINARY", "{}")
    if found := _DECIMAL.fullmatch(arrow):
        precision, scale = int(found[1]), int(found[2])
        if precision <= 38:
            return SparkType(f"DECIMAL({precision}, {scale})", "{}")
    if found := _TIMESTAMP.fullmatch(arrow):
        kind = "TIMESTAMP_LTZ" if found[2] else "TIMESTAMP_NTZ"
        # Nanoseconds are plain numbers to Spark; microseconds are as fine as its moments are.
        if found[1] == "ns":
            return SparkType("BIGINT", f"CAST(timestamp_micros(CAST(FLOOR({{}} / 1000BD) AS BIGINT)) AS {kind})")
        return SparkType(kind, "{}")
    if found := _DICTIONARY.fullmatch(arrow):
        return spark_type(found[1])
    if found := _LIST.fullmatch(arrow):
        item = spark_type(found[1] or found[2])
        if item.read == "{}":
            return SparkType(f"ARRAY<{item.ddl}>", "{}")
    if arrow.startswith("struct<") and arrow.endswith(">"):
        return _struct(arrow[len("struct<") : -1])
    raise QueryError(f"the Spark engine reads no columns of type {arrow}", hint=DUCKDB_ONLY)


def _struct(fields: str) -> SparkType:
    """Read the fields of a structure; commas part them where no bracket is open."""
    parts, depth = [""], 0
    for char in fields:
        depth += (char in "<[(") - (char in ">])")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    read = []
    for part in parts:
        name, colon, kind = part.strip().partition(": ")
        inner = spark_type(kind.removesuffix(" not null")) if colon else None
        if inner is None or inner.read != "{}":
            raise QueryError(f"the Spark engine reads no columns of type struct<{fields}>")
        quoted = name.replace("`", "``")
        read.append(f"`{quoted}`: {inner.ddl}")
    return SparkType(f"STRUCT<{', '.join(read)}>", "{}")
