"""
The grammar of search: text in, a tree of conditions out.

    query := and ("OR" and)*       and := not (["AND"] not)*      not := ["NOT"|"-"] item
    item  := "(" query ")" | field ":" value | text
    text  := word | prefix* | "phrase" | 'phrase'
    value := text | (> >= < <= =)text | [a TO b] | {a TO b} | "(" query ")"

The tree says what is meant, not how it is found: words are folded, units and dates are numbers, defaults are filled in.
Nesting, length and the number of terms are bounded, and with them the SQL that a tree becomes.
"""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple, TypeAlias

from epista.contract.errors import SearchSyntaxError
from epista.server.stores.search import attributes, dates, words
from epista.server.stores.search.words import Term

MAX_BYTES = 4096
"""The longest query, in bytes of UTF-8."""

MAX_LEVELS = 20
"""How deeply parentheses and NOT may nest; SQLite's own parser has a stack of 100 entries, and a level takes up to four."""

MAX_TERMS = 250
"""How many terms a query may have."""

MAX_INTEGER = 2**63 - 1
"""What integers are cut to: no size or moment in a database is beyond."""


@dataclass(frozen=True, slots=True)
class Everything:
    """No condition."""


@dataclass(frozen=True, slots=True)
class All:
    """Every one of the conditions."""

    items: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of the conditions."""

    items: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of the condition."""

    item: Tree


@dataclass(frozen=True, slots=True)
class Words:
    """The words stand side by side, within one value of the field."""

    field: Literal["text", "name", "meta"]
    """``text`` is name, key, tags, metadata and content."""
    term: Term


@dataclass(frozen=True, slots=True)
class Value:
    """The field's whole value, or its beginning: `key` exactly, the others in any case."""

    field: Literal["kind", "format", "experiment", "author", "sha256", "tags", "key"]
    value: str
    """For `key` in normal form C, else caseless."""
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Has:
    """There is an experiment, a tag, or any metadata."""

    field: Literal["experiment", "tags", "meta"]


@dataclass(frozen=True, slots=True)
class Between:
    """Size in bytes, or creation in microseconds since 1970; both ends included, None is open."""

    field: Literal["size", "created"]
    low: int | None
    high: int | None


@dataclass(frozen=True, slots=True)
class MetaHas:
    """Metadata has something at the path, be it an object or null."""

    path: str


@dataclass(frozen=True, slots=True)
class MetaWords:
    """A string at the path has the words side by side."""

    path: str
    term: Term


@dataclass(frozen=True, slots=True)
class MetaIs:
    """Exactly this value stands at the path."""

    path: str
    value: attributes.Attribute


@dataclass(frozen=True, slots=True)
class MetaBetween:
    """A number or date at the path; both ends included, None is open."""

    path: str
    type: Literal["number", "date"]
    low: float | None
    high: float | None


Tree: TypeAlias = Everything | All | AnyOf | Not | Words | Value | Has | Between | MetaHas | MetaWords | MetaIs | MetaBetween
"""A condition on assets."""

_FIELDS = {
    **{name: name for name in ("text", "name", "key", "tags", "kind", "format", "experiment", "author", "sha256")},
    "tag": "tags",
    "size": "size",
    "created": "created",
    "user_meta": "meta",
    "meta": "meta",
}
_SHOWN = "kind, format, experiment, author, sha256, tags, key, name, text, size, created, user_meta.<path>"
_COMPARABLE = ("size", "created", "meta")
_OPERATORS = ("AND", "OR", "NOT")
_QUOTES = "\"'"
_UNITS = {"": 1, "b": 1} | {
    f"{letter}{infix}b": base**power for power, letter in enumerate("kmgtp", start=1) for infix, base in (("", 1000), ("i", 1024))
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_CONSTANTS = {"true": ("boolean", 1.0), "false": ("boolean", 0.0), "null": ("null", 0.0)}


class _Field(NamedTuple):
    name: str
    path: str
    """Of metadata; empty for the whole of it."""
    said: str
    """As the query has it, for messages."""


class _Text(NamedTuple):
    value: str
    """Without quotes and escapes."""
    quoted: bool
    star: bool
    """Whether a ``*`` ends it."""
    at: int


def parse(query: str) -> Tree:
    """
    Return what *query* asks for.

    Raises:
        SearchSyntaxError: it cannot be read; ``details`` has the column, the hint a caret line and the likely intent.
    """
    return _Parser(query).parse()


def leaves(tree: Tree, *, positive: bool | None = None) -> Iterator[Tree]:
    """Yield the conditions of *tree* that have no parts, in order; only those (not) below an odd number of NOTs, if asked."""
    match tree:
        case All(items) | AnyOf(items):
            for item in items:
                yield from leaves(item, positive=positive)
        case Not(item):
            yield from leaves(item, positive=None if positive is None else not positive)
        case _ if positive is not False:
            yield tree


class _Parser:
    """Recursive descent: one method for each rule of the grammar, `at` is the next character."""

    def __init__(self, query: str) -> None:
        self.text = query
        self.at = 0
        self.level = 0
        self.terms = 0

    def parse(self) -> Tree:
        for at, char in enumerate(self.text):
            if "\ud800" <= char <= "\udfff":
                raise self.error("the query has half a surrogate pair", at, "leave that character out")
        size = len(self.text.encode())
        if size > MAX_BYTES:
            at = len(self.text.encode()[:MAX_BYTES].decode(errors="ignore"))
            raise self.error(f"the query is {size:,} bytes long; at most {MAX_BYTES:,}", at, "search for less at once")
        if self.ended():
            return Everything()
        tree = self.either(None)
        if not self.ended():
            raise self.error("this ')' closes nothing", self.at, "remove it, or quote it to search for it")
        return tree

    def either(self, field: _Field | None) -> Tree:
        items = [self.both(field)]
        while self.operator() == "OR":
            self.at += 2
            items.append(self.both(field))
        return _joined(AnyOf, items)

    def both(self, field: _Field | None) -> Tree:
        items = [self.negated(field)]
        while not self.ended() and self.text[self.at] != ")" and (operator := self.operator()) != "OR":
            if operator == "AND":
                self.at += 3
            items.append(self.negated(field))
        return _joined(All, items)

    def negated(self, field: _Field | None) -> Tree:
        operator = self.operator()
        start = self.at
        if operator == "NOT":
            self.at += 3
        elif not self.ended() and self.text[self.at] == "-":
            self.at += 1
            if self.at == len(self.text) or self.text[self.at].isspace():
                raise self.error(
                    "nothing follows this '-'", start, "write -word, without a space, to leave out what has the word"
                )
        elif operator or self.ended() or self.text[self.at] == ")":
            raise self.missing(operator)
        else:
            return self.item(field)
        self.deeper(start)
        item = self.negated(field)
        self.level -= 1
        return Not(item)

    def item(self, field: _Field | None) -> Tree:
        if self.text[self.at] == "(":
            return self.group(field)
        named = self.field()
        return self.value(named) if named else self.condition(field)

    def group(self, field: _Field | None) -> Tree:
        start = self.at
        self.deeper(start)
        self.at += 1
        tree = self.either(field)
        if self.ended():
            raise self.error("this '(' is never closed", start, "add ')', or quote it to search for it")
        self.at += 1
        self.level -= 1
        return tree

    def field(self) -> _Field | None:
        """Take ``field:``, if that is what comes next."""
        segments: list[str] = []
        segment, at = "", self.at
        while at < len(self.text):
            char = self.text[at]
            if char == ":":
                field = self.known([*segments, segment], at)
                self.at = at + 1
                return field
            if char.isspace() or char in "()" or (char in _QUOTES and at == self.at):
                return None
            if char == "\\":
                at += 1
                segment += self.text[at : at + 1]
            elif char == ".":
                segments.append(segment)
                segment = ""
            elif char in _QUOTES and not segment and segments and segments[0].lower() in ("user_meta", "meta"):
                segment, at = self.until(char, at)
                at -= 1
            else:
                segment += char
            at += 1
        return None

    def known(self, segments: list[str], end: int) -> _Field:
        said = self.text[self.at : end]
        first = segments[0].lower()
        name = _FIELDS.get(first)
        if name == "meta":
            if "" in segments[1:] and '""' not in said and "''" not in said:
                raise self.error(f"the path {said!r} has an empty part", self.at, "write user_meta.a.b:value")
            return _Field(name, attributes.path_of(segments[1:]), said)
        if name and len(segments) == 1:
            return _Field(name, "", said)
        near = difflib.get_close_matches(first, [*_FIELDS], n=1)
        nearest = f"nearest: {near[0]!r}" if near else f"there are: {_SHOWN}"
        if name:
            nearest = f"{name!r} has no parts"
        intent = f"did you mean {near[0]}:…? To search for the text, " if near else "to search for the text, "
        raise self.error(f"no field {said!r}; {nearest}", self.at, intent + f'quote it: "{said}:…"')

    def value(self, field: _Field) -> Tree:
        if self.at == len(self.text) or self.text[self.at].isspace() or self.text[self.at] == ")":
            raise self.error(f"{field.said!r} has no value", self.at, f"write {field.said}:value, without a space")
        if self.text[self.at] == "(":
            return self.group(field)
        return self.condition(field)

    def condition(self, field: _Field | None) -> Tree:
        """Take a text, comparison or range, on *field* if there is one."""
        self.terms += 1
        if self.terms > MAX_TERMS:
            raise self.error(f"the query has more than {MAX_TERMS} terms", self.at, "search for less at once")
        char = self.text[self.at]
        if field and char in "><=[{":
            if field.name not in _COMPARABLE:
                intent = f"comparisons and ranges work on size, created and user_meta; quote a value that begins with {char!r}"
                raise self.error(f"{field.said!r} cannot be compared", self.at, intent)
            if field.name == "meta" and not field.path:
                raise self.error("a comparison needs a path in the metadata", self.at, f"write {field.said}.name:…")
            return self.range(field) if char in "[{" else self.comparison(field)
        text = self.words()
        if text.star and not text.value:
            return self.present(field)
        if text.star and len(text.value) < 2:
            raise self.error("'*' needs two characters before it", text.at, "write more of the word")
        match field.name if field else "text":
            case ("text" | "name") as name:
                return Words(name, self.term(text))
            case "meta":
                return self.meta(field, text) if field and field.path else Words("meta", self.term(text))
            case ("size" | "created") as name:
                assert field
                if text.star:
                    raise self.error(f"{name!r} has no prefixes", text.at, f"write a range, {name}:[a TO b]")
                return self.limits(field, text, text, closed=True)
            case "tags":
                if text.star:
                    raise self.error(
                        "a tag is matched whole, without '*'", text.at, "write the whole tag, or search for the word"
                    )
                return Value("tags", words.caseless(text.value))
            case "key":
                # A folder is everything that begins with it.
                value = unicodedata.normalize("NFC", text.value)
                return Value("key", value, text.star or value.endswith("/"))
            case ("kind" | "format" | "experiment" | "author" | "sha256") as name:
                return Value(name, words.caseless(text.value), text.star)
        raise AssertionError(field)

    def present(self, field: _Field | None) -> Tree:
        if not field:
            return Everything()
        match field.name:
            case "meta" if field.path:
                return MetaHas(field.path)
            case ("meta" | "tags" | "experiment") as name:
                return Has(name)
        # The others every asset has.
        return Everything()

    def comparison(self, field: _Field) -> Tree:
        start = self.at
        sign = self.text[start : start + 2]
        if sign not in (">=", "<="):
            sign = sign[0]
        self.at += len(sign)
        if self.at == len(self.text) or self.text[self.at].isspace() or self.text[self.at] in "()":
            raise self.error(f"nothing follows this {sign!r}", start, f"write {field.said}:{sign}value, without a space")
        text = self.words()
        if text.star:
            raise self.error(f"'*' does not go with {sign!r}", text.at, "write the whole value")
        if sign == "=":
            if field.name == "meta":
                return _joined(AnyOf, self.exactly(field.path, text))
            return self.limits(field, text, text, closed=True)
        return self.limits(field, text if sign[0] == ">" else None, text if sign[0] == "<" else None, closed=sign[1:] == "=")

    def range(self, field: _Field) -> Tree:
        start = self.at
        opening, closing = self.text[start], {"[": "]", "{": "}"}[self.text[start]]
        shape = f"write {field.said}:{opening}a TO b{closing}"
        self.at += 1
        low = self.bound(start, closing, shape)
        self.skip()
        if self.text[self.at : self.at + 2] != "TO" or not self.text[self.at + 2 : self.at + 3].isspace():
            raise self.error("a range needs 'TO' between its ends", self.at, shape)
        self.at += 2
        high = self.bound(start, closing, shape)
        self.skip()
        if self.text[self.at : self.at + 1] != closing:
            raise self.error(f"this range is not closed by {closing!r}", start, shape)
        self.at += 1
        return self.limits(field, low, high, closed=opening == "[")

    def bound(self, start: int, closing: str, shape: str) -> _Text | None:
        self.skip()
        if self.at == len(self.text):
            raise self.error(f"this range is not closed by {closing!r}", start, shape)
        if self.text[self.at] in "]}":
            raise self.error("a range needs two ends", self.at, f"{shape}; '*' leaves an end open")
        text = self.words(stop="]}")
        if text.star and text.value:
            raise self.error("'*' does not go with a range", text.at, "write the whole value, or '*' alone for an open end")
        return None if text.star else text

    def limits(self, field: _Field, low: _Text | None, high: _Text | None, *, closed: bool) -> Tree:
        """Return the condition between two texts; *closed* takes in its ends, of which a day or month is all of it."""
        first = self.span(field, low) if low else None
        last = self.span(field, high) if high else None
        one = first or last
        if one is None:
            return self.present(field)
        if low and first and last and first.type != last.type:
            raise self.error("the ends of a range are two numbers or two dates", low.at, "write both in the same way")
        start = None if first is None else first.low if closed else _after(first.high)
        end = None if last is None else last.high if closed else _before(last.low)
        if one.type != "integer" and field.name == "meta":
            return MetaBetween(field.path, one.type, start, end)
        return Between("size" if field.name == "size" else "created", _cut(start), _cut(end))

    def span(self, field: _Field, text: _Text) -> _Span:
        if field.name == "size":
            return self.size(text)
        if field.name == "meta" and not text.quoted and _NUMBER.fullmatch(text.value):
            number = attributes.real(_number(text.value))
            return _Span("number", number, number)
        try:
            moments = dates.span(text.value)
        except ValueError as error:
            raise self.error(
                f"there is no {text.value!r}: {error}", text.at, "write a date as 2026, 2026-01 or 2026-01-31"
            ) from None
        if moments:
            return _Span("date", moments[0], moments[1] - 1)
        if field.name == "meta":
            intent = "write a number, or a date as 2026-01 or 2026-01-31; strings match by words, or whole with ="
            raise self.error(f"{text.value!r} is no number and no date, and only those are compared", text.at, intent)
        raise self.error(f"{text.value!r} is no date", text.at, "write 2026, 2026-01, 2026-01-31 or 2026-01-31T09:30+01:00")

    def size(self, text: _Text) -> _Span:
        found = _SIZE.fullmatch(text.value)
        if not found or not (unit := _UNITS.get(found[2].lower())):
            raise self.error(
                f"{text.value!r} is no size", text.at, "write bytes, or a number with kB, MB, GB, TB, KiB, MiB, GiB or TiB"
            )
        bytes_ = Fraction(found[1]) * unit
        # Between two bytes there is no size: such a span is empty, its low end above its high end.
        return _Span("integer", math.ceil(bytes_), math.floor(bytes_))

    def meta(self, field: _Field, text: _Text) -> Tree:
        if not text.quoted and not text.star and _literal(text.value):
            return _joined(AnyOf, self.exactly(field.path, text))
        return MetaWords(field.path, self.term(text, f'for the whole string write {field.said}:="{text.value}"'))

    def exactly(self, path: str, text: _Text) -> list[Tree]:
        """Return what equals *text*: the string, and what else it says unless it is quoted."""
        string = attributes.Attribute(path, "string", text=attributes.exact(text.value))
        literal = None if text.quoted else _literal(text.value)
        values = [attributes.Attribute(path, *literal), string] if literal else [string]
        return [MetaIs(path, value) for value in values]

    def term(self, text: _Text, intent: str = "leave it out, or search for a word") -> Term:
        found = words.split(text.value)
        if not found:
            raise self.error(f"{text.value!r} has no letter and no digit to search for", text.at, intent)
        return Term(tuple(found), text.star and words.ends_in_word(text.value))

    def words(self, stop: str = "") -> _Text:
        """Take a phrase or word, which ends at white space, a parenthesis or one of *stop*."""
        start = self.at
        if self.text[start] in _QUOTES:
            value, self.at = self.until(self.text[start], start)
            if self.at < len(self.text) and not self.text[self.at].isspace() and self.text[self.at] not in "()" + stop:
                raise self.error(
                    "this phrase goes on after its closing quote", self.at, "put a space there, or \\ before a quote you mean"
                )
            return _Text(value, True, False, start)
        value, star = "", None
        while self.at < len(self.text):
            char = self.text[self.at]
            if char.isspace() or char in "()" + stop:
                break
            if star is not None:
                raise self.error("'*' stands only at the end of a word", star, "remove it, or write \\* to mean it")
            if char == "\\":
                char = self.escaped(self.at)
                self.at += 1
            elif char == "*":
                char, star = "", self.at
            value += char
            self.at += 1
        return _Text(value, False, star is not None, start)

    def until(self, quote: str, start: int) -> tuple[str, int]:
        """Return what stands between the quote at *start* and the next one, and where the query goes on."""
        value, at = "", start + 1
        while at < len(self.text):
            char = self.text[at]
            if char == quote:
                return value, at + 1
            if char == "\\":
                char = self.escaped(at)
                at += 1
            value += char
            at += 1
        raise self.error(f"this {quote} is never closed", start, f"add {quote} at the end, or write \\{quote} to mean it")

    def escaped(self, at: int) -> str:
        if at + 1 == len(self.text):
            raise self.error("nothing follows this '\\'", at, "write \\\\ to mean it")
        return self.text[at + 1]

    def operator(self) -> str | None:
        """Return the operator that comes next, without taking it."""
        self.skip()
        for name in _OPERATORS:
            after = self.text[self.at + len(name) : self.at + len(name) + 1]
            if self.text.startswith(name, self.at) and (not after or after.isspace() or after in "()"):
                return name
        return None

    def skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def ended(self) -> bool:
        self.skip()
        return self.at == len(self.text)

    def deeper(self, at: int) -> None:
        self.level += 1
        if self.level > MAX_LEVELS:
            raise self.error(f"the query nests deeper than {MAX_LEVELS} levels", at, "search for less at once")

    def missing(self, operator: str | None) -> SearchSyntaxError:
        if operator:
            return self.error(
                f"{operator} stands where a term should", self.at, f'remove it, or quote it to search for it: "{operator}"'
            )
        if self.at < len(self.text):
            return self.error("a term is missing before this ')'", self.at, "write one, or quote ')' to search for it")
        return self.error("the query ends where a term should stand", self.at, "write one, or remove the operator before it")

    def error(self, message: str, at: int, intent: str) -> SearchSyntaxError:
        start = max(0, at - 60)
        near = "".join(char if char.isprintable() else " " for char in self.text[start : at + 60])
        return SearchSyntaxError(
            f"{message} (column {at + 1})",
            hint=f"{near}\n{' ' * (at - start)}^ {intent}",
            details={"column": at + 1, "query": self.text},
        )


class _Span(NamedTuple):
    type: Literal["integer", "number", "date"]
    low: float
    high: float


def _joined(kind: type[All] | type[AnyOf], items: list[Tree]) -> Tree:
    if len(items) == 1:
        return items[0]
    # (a AND b) AND c is a AND b AND c.
    return kind(tuple(part for item in items for part in (item.items if isinstance(item, kind) else (item,))))


def _literal(text: str) -> tuple[str, float, str] | None:
    """Return type, number and digits of what *text* says beside a string."""
    if constant := _CONSTANTS.get(text.lower()):
        return *constant, ""
    if _NUMBER.fullmatch(text):
        number = _number(text)
        return "number", attributes.real(number), attributes.digits(number)
    return None


def _number(text: str) -> float:
    found = _NUMBER.fullmatch(text)
    return float(text) if found and any(found.groups()) else int(text)


def _after(value: float) -> float:
    return value + 1 if isinstance(value, int) else math.nextafter(value, math.inf)


def _before(value: float) -> float:
    return value - 1 if isinstance(value, int) else math.nextafter(value, -math.inf)


def _cut(value: float | None) -> int | None:
    return None if value is None else max(-MAX_INTEGER, min(int(value), MAX_INTEGER))
