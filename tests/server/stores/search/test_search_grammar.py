"""The grammar of search: what queries mean, and what is said of those that mean nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epista.contract.errors import SearchSyntaxError
from epista.server.stores.search.attributes import Attribute
from epista.server.stores.search.grammar import (
    MAX_BYTES,
    MAX_INTEGER,
    MAX_LEVELS,
    MAX_TERMS,
    All,
    AnyOf,
    Between,
    Everything,
    Has,
    MetaBetween,
    MetaHas,
    MetaIs,
    MetaWords,
    Not,
    Tree,
    Value,
    Words,
    leaves,
    parse,
)
from epista.server.stores.search.words import Term

JAN_2026 = 1_767_225_600_000_000
FEB_2026 = 1_769_904_000_000_000
APR_2026 = 1_775_001_600_000_000
HOUR = 3_600_000_000


def w(*words: str, prefix: bool = False) -> Words:
    return Words("text", Term(words, prefix))


def number(path: str, value: float, digits: str = "") -> MetaIs:
    return MetaIs(path, Attribute(path, "number", value, digits))


def string(path: str, value: str) -> MetaIs:
    return MetaIs(path, Attribute(path, "string", text=value))


MEANINGS: dict[str, Tree] = {
    "": Everything(),
    "   ": Everything(),
    "*": Everything(),
    "fox": w("fox"),
    "Fóx": w("fox"),
    "a b": All((w("a"), w("b"))),
    "a AND b": All((w("a"), w("b"))),
    "a OR b c": AnyOf((w("a"), All((w("b"), w("c"))))),
    "a NOT b": All((w("a"), Not(w("b")))),
    "a -b": All((w("a"), Not(w("b")))),
    "NOT NOT a": Not(Not(w("a"))),
    "-(a b)": Not(All((w("a"), w("b")))),
    "(a b) c": All((w("a"), w("b"), w("c"))),
    "f(x)": All((w("f"), w("x"))),
    "or and not": All((w("or"), w("and"), w("not"))),
    '"OR"': w("or"),
    "ORigin ANDes": All((w("origin"), w("andes"))),
    "CD3-FITC": w("cd3", "fitc"),
    "EXP-12/cells.fcs": w("exp", "12", "cells", "fcs"),
    "EXP-12/*": w("exp", "12"),
    "5'-UTR": w("5", "utr"),
    "ab*": w("ab", prefix=True),
    "CD3-FI*": w("cd3", "fi", prefix=True),
    "ab\\*": w("ab"),
    "a\\ b": w("a", "b"),
    "a\\:b": w("a", "b"),
    "\\(a": w("a"),
    "'it is \"so\"'": w("it", "is", "so"),
    '"a \\" b"': w("a", "b"),
    "text:fox": w("fox"),
    "text:*": Everything(),
    "name:fox": Words("name", Term(("fox",))),
    "name:(a OR b)": AnyOf((Words("name", Term(("a",))), Words("name", Term(("b",))))),
    "name:(a kind:flow)": All((Words("name", Term(("a",))), Value("kind", "flow"))),
    "kind:FLOW": Value("kind", "flow"),
    "KIND:flow": Value("kind", "flow"),
    "format:ome*": Value("format", "ome", prefix=True),
    "kind:(flow OR table)": AnyOf((Value("kind", "flow"), Value("kind", "table"))),
    "kind:*": Everything(),
    "experiment:*": Has("experiment"),
    "tags:*": Has("tags"),
    "user_meta:*": Has("meta"),
    "tag:'To Do'": Value("tags", "to do"),
    "tags:(a -b)": All((Value("tags", "a"), Not(Value("tags", "b")))),
    "author:ÉVA": Value("author", "éva"),
    "sha256:ABCD*": Value("sha256", "abcd", prefix=True),
    "key:EXP-12/Raw.csv": Value("key", "EXP-12/Raw.csv"),
    "key:EXP-12/": Value("key", "EXP-12/", prefix=True),
    "key:EXP*": Value("key", "EXP", prefix=True),
    "key:'a b.csv'": Value("key", "a b.csv"),
    "key:a:b": Value("key", "a:b"),
    "key:e\u0301.csv": Value("key", "\u00e9.csv"),
    "size:1000": Between("size", 1000, 1000),
    "size:>1MB": Between("size", 1_000_001, None),
    "size:>=1MiB": Between("size", 1_048_576, None),
    "size:<1.5kB": Between("size", None, 1499),
    "size:<=1.5kib": Between("size", None, 1536),
    "size:>0.3": Between("size", 1, None),
    "size:0.3": Between("size", 1, 0),
    "size:'2 MB'": Between("size", 2_000_000, 2_000_000),
    "size:[1kB TO 2kB]": Between("size", 1000, 2000),
    "size:{1kB TO 2kB}": Between("size", 1001, 1999),
    "size:[* TO 5]": Between("size", None, 5),
    "size:[* TO *]": Everything(),
    "size:(>1 <=4)": All((Between("size", 2, None), Between("size", None, 4))),
    "size:<99999999999TB": Between("size", None, MAX_INTEGER),
    "created:2026-01": Between("created", JAN_2026, FEB_2026 - 1),
    "created:[2026-01 TO 2026-03]": Between("created", JAN_2026, APR_2026 - 1),
    "created:{2026-01 TO 2026-03}": Between("created", FEB_2026, 1_772_323_200_000_000 - 1),
    "created:>2026-01": Between("created", FEB_2026, None),
    "created:>=2026-01": Between("created", JAN_2026, None),
    "created:<2026": Between("created", None, JAN_2026 - 1),
    "created:<=2025": Between("created", None, JAN_2026 - 1),
    "created:=2026-01-01": Between("created", JAN_2026, JAN_2026 + 24 * HOUR - 1),
    "created:>=2026-01-01T02:00+02:00": Between("created", JAN_2026, None),
    "created:>2026-01-01T00:00Z": Between("created", JAN_2026 + 1, None),
    "created:<='2026-01-01 00:00:00.000001'": Between("created", None, JAN_2026 + 1),
    "created:9999": Between("created", 253_370_764_800_000_000, 253_402_300_800_000_000 - 1),
    "user_meta.a.b:x": MetaWords(".a.b", Term(("x",))),
    "meta.a:x": MetaWords(".a", Term(("x",))),
    "meta.A:X": MetaWords(".A", Term(("x",))),
    "meta:x": Words("meta", Term(("x",))),
    "user_meta.\"cell line\".'a.b':x": MetaWords(".cell line.a\\.b", Term(("x",))),
    "user_meta.a\\.b:x": MetaWords(".a\\.b", Term(("x",))),
    "user_meta.a:*": MetaHas(".a"),
    "user_meta.a:37": AnyOf((number(".a", 37.0), string(".a", "37"))),
    "user_meta.a:-1.5e3": AnyOf((number(".a", -1500.0), string(".a", "-1.5e3"))),
    "user_meta.a:9007199254740993": AnyOf(
        (number(".a", 9007199254740992.0, "9007199254740993"), string(".a", "9007199254740993"))
    ),
    "user_meta.a:'37'": MetaWords(".a", Term(("37",))),
    "user_meta.a:007": MetaWords(".a", Term(("007",))),
    "user_meta.a:true": AnyOf((MetaIs(".a", Attribute(".a", "boolean", 1.0)), string(".a", "true"))),
    "user_meta.a:null": AnyOf((MetaIs(".a", Attribute(".a", "null")), string(".a", "null"))),
    "user_meta.a:=Warm": string(".a", "Warm"),
    "user_meta.a:='+/+'": string(".a", "+/+"),
    "user_meta.a:='37'": string(".a", "37"),
    "user_meta.a:=37": AnyOf((number(".a", 37.0), string(".a", "37"))),
    "user_meta.a:>=30": MetaBetween(".a", "number", 30.0, None),
    "user_meta.a:[1 TO 2]": MetaBetween(".a", "number", 1.0, 2.0),
    "user_meta.a:{* TO 0}": MetaBetween(".a", "number", None, -5e-324),
    "user_meta.a:<2026-01": MetaBetween(".a", "date", None, JAN_2026 - 1),
    "user_meta.a:[* TO *]": MetaHas(".a"),
    "user_meta.a:(x OR >3)": AnyOf((MetaWords(".a", Term(("x",))), MetaBetween(".a", "number", 3.0000000000000004, None))),
}


@pytest.mark.parametrize(("query", "tree"), MEANINGS.items(), ids=MEANINGS)
def test_a_query_means_this_tree(query: str, tree: Tree) -> None:
    assert parse(query) == tree


@pytest.mark.parametrize("quote", ["'", '"'])
def test_59_either_quote_makes_one_phrase(quote: str) -> None:
    assert parse(f"user_meta.name:{quote}thor odinson{quote}") == MetaWords(".name", Term(("thor", "odinson")))


FAULTS: dict[str, tuple[int, str]] = {
    "kind:(flow": (6, "this '(' is never closed"),
    "nosuch:x": (1, "no field 'nosuch'"),
    "a knd:x": (3, "no field 'knd'; nearest: 'kind'"),
    "name.first:x": (1, "no field 'name.first'; 'name' has no parts"),
    ":x": (1, "no field ''"),
    "http://x": (1, "no field 'http'"),
    "kind:": (6, "'kind' has no value"),
    "kind: flow": (6, "'kind' has no value"),
    "(kind:)": (7, "'kind' has no value"),
    "kind:>x": (6, "'kind' cannot be compared"),
    "name:[a TO b]": (6, "'name' cannot be compared"),
    "tags:qc*": (6, "a tag is matched whole"),
    "size:1k*": (6, "'size' has no prefixes"),
    "a OR": (5, "the query ends where a term should stand"),
    "a AND": (6, "the query ends where a term should stand"),
    "NOT": (4, "the query ends where a term should stand"),
    "a OR AND b": (6, "AND stands where a term should"),
    "OR a": (1, "OR stands where a term should"),
    "()": (2, "a term is missing before this ')'"),
    "a) b": (2, "this ')' closes nothing"),
    "a - b": (3, "nothing follows this '-'"),
    "-": (1, "nothing follows this '-'"),
    "'thor": (1, "this ' is never closed"),
    'user_meta."cell:x': (11, 'this " is never closed'),
    '"a"b': (4, "this phrase goes on after its closing quote"),
    "a\\": (2, "nothing follows this '\\'"),
    "a*b": (2, "'*' stands only at the end of a word"),
    "*ab": (1, "'*' stands only at the end of a word"),
    "ab**": (3, "'*' stands only at the end of a word"),
    "a*": (1, "'*' needs two characters before it"),
    "x & y": (3, "'&' has no letter and no digit to search for"),
    "user_meta.g:'+/+'": (13, "'+/+' has no letter and no digit to search for"),
    "size:big": (6, "'big' is no size"),
    "size:>-1": (7, "'-1' is no size"),
    "size:1XB": (6, "'1XB' is no size"),
    "size:>": (6, "nothing follows this '>'"),
    "size:>= 1": (6, "nothing follows this '>='"),
    "size:>1*": (7, "'*' does not go with '>'"),
    "size:[1 2]": (9, "a range needs 'TO' between its ends"),
    "size:[1 TO 2": (6, "this range is not closed by ']'"),
    "size:[1 TO 2}": (6, "this range is not closed by ']'"),
    "size:[1 TO ]": (12, "a range needs two ends"),
    "size:[1": (8, "a range needs 'TO' between its ends"),
    "created:yesterday": (9, "'yesterday' is no date"),
    "created:2026-13": (9, "there is no '2026-13'"),
    "created:2026-02-30": (9, "there is no '2026-02-30'"),
    "created:2026-01-01T25:00": (9, "there is no '2026-01-01T25:00'"),
    "user_meta.a:>warm": (14, "'warm' is no number and no date"),
    "user_meta.a:>'37'": (14, "'37' is no number and no date"),
    "user_meta.a:[1 TO 2026-01-01]": (14, "the ends of a range are two numbers or two dates"),
    "user_meta:>3": (11, "a comparison needs a path in the metadata"),
    "user_meta..a:x": (1, "the path 'user_meta..a' has an empty part"),
    "a \ud800": (3, "the query has half a surrogate pair"),
}


@pytest.mark.parametrize(("query", "fault"), FAULTS.items(), ids=[repr(query) for query in FAULTS])
def test_65_a_query_that_cannot_be_read_fails_with_its_column(query: str, fault: tuple[int, str]) -> None:
    with pytest.raises(SearchSyntaxError) as caught:
        parse(query)

    column, message = fault
    assert caught.value.message.startswith(message)
    assert caught.value.column == column
    assert caught.value.details == {"column": column, "query": query}
    assert caught.value.hint is not None
    assert caught.value.hint.splitlines()[1].index("^") == column - 1


def test_the_hint_points_with_a_caret_and_says_what_was_likely_meant() -> None:
    with pytest.raises(SearchSyntaxError) as caught:
        parse("fox knd:flow")

    assert caught.value.hint == 'fox knd:flow\n    ^ did you mean kind:…? To search for the text, quote it: "knd:…"'


def test_the_caret_of_a_long_query_stays_near_its_fault() -> None:
    with pytest.raises(SearchSyntaxError) as caught:
        parse("fox " * 100 + "\tnosuch:x")

    assert caught.value.column == 402
    assert caught.value.hint is not None
    line, caret = caught.value.hint.splitlines()
    assert line[caret.index("^") :] == "nosuch:x"


def test_66_a_key_needs_no_quoting() -> None:
    assert parse("EXP-12/cells.fcs") == w("exp", "12", "cells", "fcs")


@pytest.mark.parametrize(
    "query",
    ["(" * (MAX_LEVELS + 1) + "a" + ")" * (MAX_LEVELS + 1), "-" * (MAX_LEVELS + 1) + "a", "NOT " * 1000 + "a", "(" * 4000],
    ids=["parentheses", "dashes", "nots", "unclosed"],
)
def test_nesting_is_bounded(query: str) -> None:
    with pytest.raises(SearchSyntaxError, match="nests deeper than 20 levels"):
        parse(query)


def test_what_is_nested_to_the_limit_is_read() -> None:
    assert parse("(" * MAX_LEVELS + "a" + ")" * MAX_LEVELS) == w("a")


def test_length_is_bounded_in_bytes() -> None:
    with pytest.raises(SearchSyntaxError, match=r"4,098 bytes long; at most 4,096 \(column 2049\)"):
        parse("é" * (MAX_BYTES // 2 + 1))


def test_the_number_of_terms_is_bounded() -> None:
    assert parse(" ".join(["a"] * MAX_TERMS)) == All((w("a"),) * MAX_TERMS)

    with pytest.raises(SearchSyntaxError, match="more than 250 terms"):
        parse(" ".join(["a"] * (MAX_TERMS + 1)))


def test_leaves_are_told_apart_by_the_nots_above_them() -> None:
    tree = parse("a -(b -c) OR d")

    assert list(leaves(tree)) == [w("a"), w("b"), w("c"), w("d")]
    assert list(leaves(tree, positive=True)) == [w("a"), w("c"), w("d")]


@given(st.text(alphabet=st.sampled_from("ab1 ()[]{}:<>=-*\\\"'.\0é\ud800ANDORTkindsizeuser_meta"), max_size=40) | st.text())
def test_whatever_is_typed_is_a_tree_or_a_syntax_error_within_the_query(query: str) -> None:
    try:
        parse(query)
    except SearchSyntaxError as error:
        assert 1 <= error.column <= len(query) + 1
