"""What Spark said, as people may hear it: no path, no internal name, nothing of the machine behind it."""

from __future__ import annotations

import re

from epista.contract.errors import (
    EpistaError,
    QueryCancelledError,
    QueryError,
    QueryMemoryError,
    ResultTooLargeError,
    UnavailableError,
)
from epista.server.engines.plans import Limits
from epista.server.engines.spark_child import Failure
from epista.server.engines.spark_sql import DUCKDB_ONLY

_UNREADABLE = (
    "PATH_NOT_FOUND",
    "FAILED_READ_FILE",
    "CANNOT_READ_FILE_FOOTER",
    "UNABLE_TO_INFER_SCHEMA",
    "FAILED_RENAME_TEMP_FILE",
)

_UNSAID = ("PARSE_SYNTAX_ERROR", "UNSUPPORTED_FEATURE", "UNSUPPORTED_SUBQUERY_EXPRESSION", "INVALID_SQL_SYNTAX")

_NOTED = re.compile(r"\[([A-Z][A-Z_0-9.]+)\] (.*?)(?: SQLSTATE: ([0-9A-Z]{5}))", re.DOTALL)

# Advice that is not for whoever typed the query: settings of the cluster, functions of Spark's alone.
_ADVICE = re.compile(r"[^.!?]*(?:\bspark\.[a-z]|`try_|\bSQLSTATE\b|ANSI)[^\n]*?(?:[.!?](?=\s|$)|$)")

_TELLING = re.compile(
    r"org\.apache|java\.|scala\.|\bat [\w.$]+\(|://|file:|s3a?:|/[\w.-]+/[\w.-]|\bt_[0-9a-z]{6,}|spark\.|`?spark_catalog`?|HDFS|JVM",
)


def said(failure: Failure, limits: Limits) -> EpistaError:
    """Return the error that says what became of a query."""
    match failure.reason:
        case "lost":
            return UnavailableError("the Spark cluster went away while it worked on the query", hint="try again in a minute")
        case "cancelled":
            return QueryCancelledError("the query was ended before it was done")
        case "memory":
            return QueryMemoryError(
                "the query needs more memory than the Spark cluster has for it", hint="ask for fewer columns or groups"
            )
        case "rows" | "bytes":
            return too_large(failure.reason, limits)
        case "type":
            named = f"column {failure.message!r}" if failure.message else "a column of the result"
            return QueryError(f"{named} has a type that the Spark engine cannot give", hint="CAST it to another type")
    condition, message, state = failure.reason, failure.message, failure.state
    if not state and (noted := _NOTED.search(message)):
        # What fails on a worker comes as the text of its exception.
        condition, message, state = noted[1], noted[2], noted[3]
    if condition.startswith(_UNREADABLE):
        return UnavailableError(
            "the Spark cluster cannot read the lab's files", hint="whoever runs the server finds help in the guide on Spark"
        )
    if condition.startswith("UNRESOLVED_COLUMN") and "objectName" in failure.parameters:
        return _no_column(failure.parameters)
    if condition.startswith("UNRESOLVED_ROUTINE"):
        name = failure.parameters.get("routineName", "").replace("`", "").rpartition(".")[2].lower()
        return QueryError(f"the Spark engine has no function {name}()", hint=DUCKDB_ONLY)
    if condition.startswith(_UNSAID) or state == "42601":
        return QueryError("the Spark engine has nothing like a part of this query", hint=DUCKDB_ONLY)
    if state[:2] in ("21", "22", "42", "0A"):
        return QueryError(_clean(message) or f"the Spark engine refused the query: {_words(condition)}")
    return QueryError("the Spark engine could not run this query", hint=DUCKDB_ONLY)


def too_large(which: str, limits: Limits) -> ResultTooLargeError:
    """Return the error about a result with too many rows or bytes."""
    most = limits.rows if which == "rows" else limits.bytes
    return ResultTooLargeError(
        f"the result has more than {most:,} {which}",
        hint="add a LIMIT, or write it to a file: epista query --out FILE",
        details={"limit": which, f"limit_{which}": most},
    )


def _no_column(parameters: dict[str, str]) -> QueryError:
    name = _plain(parameters["objectName"])
    near = [_plain(one) for one in parameters.get("proposal", "").split(", ") if one]
    nearest = f"; nearest: {', '.join(near[:3])}" if near else ""
    return QueryError(f"no column {name!r}{nearest}")


def _plain(name: str) -> str:
    """Return the last parts of a name in backticks, without one that is ours."""
    parts = [part for part in re.findall(r"`((?:[^`]|``)+)`", name) or [name] if not re.fullmatch(r"t_[0-9a-z]+", part)]
    return ".".join(part.replace("``", "`") for part in parts)


def _clean(message: str) -> str:
    text = re.sub(r"^\[[A-Z_0-9.]+\] ", "", message.strip())
    text = re.split(r"\n|\bSQLSTATE:|== SQL|; line \d+", text)[0]
    text = re.sub(r"(`t_[0-9a-z]+`|\bt_[0-9a-z]{6,})\.", "", text)
    text = _ADVICE.sub("", text).strip().rstrip(".").replace("`", "")
    return "" if _TELLING.search(text) else text[:1].lower() + text[1:500]


def _words(condition: str) -> str:
    return condition.replace("_", " ").replace(".", ", ").lower()
