"""
Whatever is typed, binding answers: with a tree of allowed nodes, or with one of Epista's own errors, and soon.

Queries that work and attacks that do not are cut, doubled, swapped and mixed with what parsers stumble over. That happens in a
child with limits on memory and time, so that what grows or never ends is a failure, and nothing worse.
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ODDITIES = (
    *("(", ")", "((((((((", "[", "]", "{", "}", ",", ";", "::", ":=", "->", "=>", "..", "*", "**", "$1", "?", "@", "#", "\\"),
    *("`", "'", '"', "''", '""', "$$", "$tag$", "e'\\x'", "x'00'", "--", "/*", "*/", "0x", "1_", ".", "1.2.3"),
    *("\n", "\r", "\t", "\0", "\x1b", "/* /*"),
    *("\u00a0", "\u200b", "\u202e", "\ufeff", "\uff1b", "\u0130", "\U0001f600", "\ud800", "e\u0301", "\u0430"),
    *(" SELECT ", " FROM ", " WITH RECURSIVE ", " AS ", " UNION ALL ", " JOIN LATERAL ", " PIVOT ", " QUALIFY ", " OVER ("),
    *(" NOT ", " CASE WHEN ", " INTERVAL ", " ARRAY[", " STRUCT(", " MAP {", " CAST(", " IN (", " VALUES (", " EXCLUDE "),
    *(" REPLACE (", " AT (", "secret", '"EXP-2".secret', "read_text('/etc/passwd')", "getenv", "1e999", "9" * 400, "lambda x: "),
)
"""What is put into queries."""

CHILD_BYTES = 1024**3
CHILD_SECONDS = 900


def queries() -> list[str]:
    """Return what is mutated: queries that work, and attacks."""
    from tests.server.engines.spark_calls import AGGREGATES, SCALARS
    from tests.server.engines.test_conformance import EXTRAS
    from tests.server.services.test_binding import REFUSED

    calls = [f"SELECT {call} FROM counts" for call in (*SCALARS, *AGGREGATES)]
    return [*EXTRAS.values(), *REFUSED, *calls]


def mutated(sql: str, other: str, dice: random.Random) -> str:
    """Return a query with one to five changes."""
    for _ in range(dice.randint(1, 5)):
        start = dice.randint(0, len(sql))
        end = min(len(sql), start + dice.randint(0, 30))
        match dice.randint(0, 5):
            case 0:
                sql = sql[:start] + sql[end:]
            case 1:
                sql = sql[:end] + sql[start:end] * dice.choice((1, 2, 50)) + sql[end:]
            case 2:
                sql = sql[:start] + dice.choice(ODDITIES) + sql[start:]
            case 3:
                sql = sql[:start] + dice.choice(ODDITIES) * dice.choice((1, 1, 3, 200)) + sql[end:]
            case 4:
                cut = dice.randint(0, len(other))
                sql = sql[:start] + other[cut : cut + 60] + sql[end:]
            case _:
                sql = sql[:start] + sql[start:end].swapcase() + sql[end:]
    return sql


def fuzz(seed: int, count: int) -> None:
    """Bind so many mutated queries for each engine; what must not be is raised, with the query before it."""
    import duckdb

    from epista.contract.errors import EpistaError, ServerError
    from epista.server.services.binding import bind

    dice, known = random.Random(seed), queries()
    bound = 0
    for _ in range(count):
        sql = mutated(dice.choice(known), dice.choice(known), dice)
        engine = dice.choice(("duckdb", "duckdb", "spark"))
        try:
            found = bind(sql, str, engine=engine)
            printed = found.ast.sql("duckdb")
        except EpistaError as error:
            if isinstance(error, ServerError):
                raise AssertionError(repr(sql)) from error
            continue
        except BaseException as error:
            raise AssertionError(repr(sql)) from error
        bound += 1
        try:
            read = duckdb.get_table_names(printed)
        except duckdb.Error:
            continue
        if strange := {name for name in read if not name.startswith("c_")} - set(found.tables):
            raise AssertionError(f"{strange} in {sql!r}")
    assert bound > count // 20, f"only {bound} of {count} were bound: the mutations are too wild to tell anything"


def run(seed: int, count: int) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (CHILD_BYTES, CHILD_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (CHILD_SECONDS, CHILD_SECONDS))

    command = [sys.executable, "-m", "tests.fuzz.test_binding", str(seed), str(count)]
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(command, cwd=root, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.returncode}\n{done.stderr[-4000:]}"


def test_binding_answers_whatever_is_typed() -> None:
    run(seed=1, count=2500)


@pytest.mark.fuzz
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(2, 6))
def test_binding_answers_whatever_is_typed_for_long(seed: int) -> None:
    run(seed=seed, count=40_000)


if __name__ == "__main__":
    fuzz(int(sys.argv[1]), int(sys.argv[2]))
