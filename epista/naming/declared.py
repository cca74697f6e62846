"""
Conventions declared as data: the tokens of a name in their order, and what stands between them.

A lab writes a table, never a regular expression: what is compiled here reads any component in time that grows with its length,
because a token of variable length never holds a character of a separator and is never given back.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from epista.contract.errors import ValidationError
from epista.naming import moments
from epista.naming.parsed import Refused
from epista.naming.vocabulary import cut_extension, is_word

MAX_TOKENS = 16
MAX_OPTIONAL = 6
MAX_VALUES = 100
MAX_LENGTH = 64
"""The longest value of a token, and what is longest without being told."""

FIELDS = ("subject_id", "platform", "date", "time", "started", "number", "lims_id", "label", "label_time")
"""The fields that a token may be; any other name is a token of the lab's own."""

FORMS = {"digits": "0-9", "letters": "A-Za-z", "alphanumeric": "A-Za-z0-9", "token": "A-Za-z0-9-"}
"""What the value of a token is made of."""

_UNITS = {"YYYY": "year", "YY": "year", "MM": "month", "DD": "day", "hh": "hour", "mm": "minute", "ss": "second"}
_units = re.compile("YYYY|YY|MM|DD|hh|mm|ss")
_moment_form = re.compile(r"(?:YYYY|YY|MM|DD|hh|mm|ss|[-_.:T ])+")
_separator = re.compile(r"[ !#$%&'()+,.:;=@\[\]^_{}~-]{0,3}")
_own_name = re.compile(r"[a-z][a-z0-9_]{0,63}")
_needs = {"date": {"year", "month", "day"}, "time": {"hour"}, "started": {"year", "month", "day", "hour"}}
_times = {"date", "time", "started", "label_time"}
_keys = {"field", "text", "form", "length", "lead", "values", "optional", "separator"}


def declaration(given: Any) -> dict[str, Any]:
    """
    Read a declaration, the text of a TOML or JSON document or a mapping, and return it complete and plain.

    Raises:
        ValidationError: it breaks a rule; lists every violation.
    """
    given = _document(given) if isinstance(given, str) else given
    violations = list(_violations(given))
    if violations:
        raise ValidationError(
            f"{len(violations)} of the declaration's lines break a rule; the first: {violations[0][0]}: {violations[0][1]}",
            details={"violations": [{"path": path, "message": text, "rule": "convention"} for path, text in violations]},
        )
    return {
        "description": given.get("description", ""),
        "separator": given.get("separator", "_"),
        "extension": given.get("extension", True),
        "tokens": [dict(token) for token in given["tokens"]],
    }


def _document(text: str) -> Any:
    try:
        return json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except RecursionError:
        raise ValidationError("this is no declaration: it is nested too deeply") from None
    except ValueError as error:
        raise ValidationError(f"this is no TOML, and no JSON: {error}") from None


class Declared:
    """A convention made from a declaration that was found complete; see `declaration`."""

    def __init__(self, declared: Mapping[str, Any]) -> None:
        self.declared = dict(declared)
        self._tokens: Sequence[Mapping[str, Any]] = declared["tokens"]
        self._between = [token.get("separator", declared["separator"]) for token in self._tokens]
        self._has_extension = bool(declared["extension"]) and not any("." in text for text in self._between[1:])
        self.characters = "".join(sorted({*"".join(self._between[1:]), *"".join(map(_letters, self._tokens))}))
        """What its names hold besides letters and digits; prose is not cut there."""
        held_out = "".join(self._between[1:])
        self._pieces = [_piece(token, held_out) for token in self._tokens]
        pattern = ""
        for place, (token, piece) in enumerate(zip(self._tokens, self._pieces, strict=True)):
            whole = f"{re.escape(self._between[place]) if place else ''}{re.escape(token.get('lead', ''))}(?P<t{place}>{piece})"
            pattern += f"(?:{whole})?" if token.get("optional") else whole
        self._pattern = re.compile(pattern)

    def parse(self, component: str) -> Mapping[str, Any]:
        """Read a whole component, token by token."""
        stem, extension = cut_extension(component) if self._has_extension else (component, None)
        found = self._pattern.fullmatch(stem)
        if found is None:
            raise Refused(*self._refusal(stem))
        fields: dict[str, Any] = {"extension": extension}
        units: dict[str, int] = {}
        own: list[tuple[str, str]] = []
        for place, token in enumerate(self._tokens):
            value, name = found[f"t{place}"], token.get("field")
            if value is None or name is None:
                continue
            if name in ("date", "time", "started"):
                units |= _read_units(token["form"], value)
            elif name == "label_time":
                fields[name] = _moment(_read_units(token["form"], value), found.start(f"t{place}"))
            elif name == "number":
                fields[name] = int(value)
            elif name in FIELDS:
                fields[name] = value
            else:
                own.append((name, value))
        if "label_time" in fields and "label" not in fields:
            raise Refused("a label_time without a label", 0)
        subject = fields.get("subject_id")
        if subject is not None and is_word(subject) and not any(subject in token.get("values", ()) for token in self._tokens):
            raise Refused(f"{subject!r} is a platform or a label, no subject", component.index(subject))
        if units:
            moment = _moment(units, 0)
            fields["date"] = moment.date()
            if "hour" in units:
                fields["started"] = moment
            fields["warnings"] = moments.odd_year(moment.year)
        if own:
            fields["tokens"] = tuple(own)
        return fields

    def format(self, fields: Mapping[str, Any]) -> str:
        """Write every token that the fields hold."""
        written = ""
        own = dict(fields.get("tokens") or ())
        for place, token in enumerate(self._tokens):
            value = self._value(token, fields, own)
            if value is None:
                if token.get("optional"):
                    continue
                raise Refused(f"this convention needs {token['field']}")
            written += (self._between[place] if place else "") + token.get("lead", "") + value
        return written + (fields.get("extension") or "")

    @staticmethod
    def _value(token: Mapping[str, Any], fields: Mapping[str, Any], own: Mapping[str, str]) -> str | None:
        if (name := token.get("field")) is None:
            # An optional literal is not written: a name reads the same without it.
            return None if token.get("optional") else str(token["text"])
        if name in _times:
            moment = fields.get("started") if name != "label_time" else fields.get(name)
            if moment is None and name == "date":
                moment = fields.get("date")
            return None if moment is None else _write_moment(token["form"], moment)
        value = fields.get(name) if name in FIELDS else own.get(name)
        if value is None:
            return None
        length = token.get("length")
        if name == "number" and length is not None:
            return str(value).zfill(length if isinstance(length, int) else length[0])
        return str(value)

    def _refusal(self, stem: str) -> tuple[str, int]:
        """Tell which token the name leaves off at."""
        at = 0
        for place, (token, piece) in enumerate(zip(self._tokens, self._pieces, strict=True)):
            lead = (self._between[place] if place else "") + token.get("lead", "")
            found = re.compile(re.escape(lead) + piece).match(stem, at)
            if found is None and not token.get("optional"):
                return f"no {token.get('field') or repr(token['text'])}{_expected(token)}", at
            at = found.end() if found else at
        return f"{stem[at : at + 20]!r} is left over", at


def _letters(token: Mapping[str, Any]) -> str:
    """The characters besides letters and digits that a token may hold."""
    texts = (
        token.get("lead", ""),
        token.get("text", ""),
        *token.get("values", ()),
        token.get("form", "") if token.get("field") in _times else "",
    )
    return "".join(character for text in texts for character in text if not character.isalnum())


def _piece(token: Mapping[str, Any], held_out: str) -> str:
    """The pattern of one token's value; possessive, so that no character is read twice."""
    if "text" in token:
        return re.escape(str(token["text"]))
    if token["field"] in _times:
        return _units.sub(lambda unit: f"[0-9]{{{len(unit.group())}}}", re.sub(r"([.])", r"\\\1", token["form"]))
    if values := token.get("values"):
        return f"(?>{'|'.join(re.escape(value) for value in sorted(values, key=len, reverse=True))})"
    letters = FORMS["digits" if token["field"] == "number" else token.get("form", "token")]
    if "-" in held_out:
        letters = letters.removesuffix("-")
    low, high = _bounds(token)
    return f"[{letters}]{{{low},{high}}}+"


def _bounds(token: Mapping[str, Any]) -> tuple[int, int]:
    length = token.get("length", [1, 9 if token.get("field") == "number" else MAX_LENGTH])
    return (length, length) if isinstance(length, int) else (length[0], length[1])


def _expected(token: Mapping[str, Any]) -> str:
    if token.get("field") in _times:
        return f" as {token['form']}"
    return f" of {', '.join(token['values'])}" if "values" in token else ""


def _read_units(form: str, value: str) -> dict[str, int]:
    units = {}
    for found in _units.finditer(form):
        number = int(value[found.start() : found.end()])
        units[_UNITS[found.group()]] = number + 2000 if found.group() == "YY" else number
    return units


def _moment(units: Mapping[str, int], at: int) -> datetime:
    try:
        return datetime(**units)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        raise Refused("its date and time are none of a calendar", at) from None


def _write_moment(form: str, moment: Any) -> str:
    def write(found: re.Match[str]) -> str:
        number = getattr(moment, _UNITS[found.group()])
        return f"{number % 100:02}" if found.group() == "YY" else f"{number:0{len(found.group())}}"

    return _units.sub(write, form)


def _violations(given: Any) -> Any:
    """Yield every violation of a declaration, with its path."""
    if not isinstance(given, Mapping):
        yield "", "a declaration is a table"
        return
    for key in sorted(set(given) - {"name", "description", "separator", "extension", "tokens"}, key=str):
        yield str(key), "nobody knows this; there are description, separator, extension and tokens"
    if not isinstance(given.get("description", ""), str) or len(given.get("description", "")) > 1000:
        yield "description", "a text of at most 1,000 characters"
    if not isinstance(given.get("extension", True), bool):
        yield "extension", "true or false"
    if not (has_separator := _is_separator(given.get("separator", "_"))):
        yield "separator", "at most three characters, no letter, digit or slash"
    tokens = given.get("tokens")
    if not isinstance(tokens, Sequence) or isinstance(tokens, str) or not 0 < len(tokens) <= MAX_TOKENS:
        yield "tokens", f"a list of 1 to {MAX_TOKENS} tables"
        return
    for place, token in enumerate(tokens):
        for key, text in _token_violations(token) if isinstance(token, Mapping) else [("", "a token is a table")]:
            yield f"tokens[{place}]{key and '.'}{key}", text
            tokens = ()
    if not tokens or not has_separator:
        return
    names = [token["field"] for token in tokens if "field" in token]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield "tokens", f"{name} stands there twice"
    if sum(bool(token.get("optional")) for token in tokens) > MAX_OPTIONAL:
        yield "tokens", f"at most {MAX_OPTIONAL} may be optional"
    if tokens[0].get("optional"):
        yield "tokens[0].optional", "the first may not be optional"
    if "started" in names and {"date", "time"} & set(names):
        yield "tokens", "started is date and time already"
    if "time" in names and "date" not in names:
        yield "tokens", "a time needs a date"
    if "label_time" in names and "label" not in names:
        yield "tokens", "a label_time needs a label"
    if not {"subject_id", "lims_id"} & set(names) and not [name for name in names if name not in FIELDS]:
        yield "tokens", "nothing names the recording: a subject_id, a lims_id or a token of one's own"
    between = {*given.get("separator", "_"), *(c for token in tokens for c in token.get("separator", ""))}
    for place, token in enumerate(tokens):
        if any(between & {*value} for value in token.get("values", ())):
            yield f"tokens[{place}].values", "no value may hold a character of a separator"
    for place in range(1, len(tokens)):
        if tokens[place].get("separator", given.get("separator", "_")) == "" and not tokens[place].get("lead"):
            before = tokens[place - 1]
            if before.get("optional") or not _fixed(before):
                yield f"tokens[{place}].separator", "may be empty only after a token of fixed length"


def _token_violations(token: Mapping[str, Any]) -> Any:
    for key in sorted(set(token) - _keys, key=str):
        yield str(key), f"nobody knows this; there are {', '.join(sorted(_keys))}"
    name, text = token.get("field"), token.get("text")
    if (name is None) == (text is None):
        yield "field", "a token has either a field or a text"
        return
    if text is not None and not _is_literal(text):
        yield "text", f"1 to {MAX_LENGTH} printable characters of ASCII without slashes"
    if name is not None and not (isinstance(name, str) and _own_name.fullmatch(name)):
        yield "field", "lower-case letters, digits and underscores"
        return
    if name in ("kind", "canonical", "recording", "extension", "prefix", "parent", "warnings", "tokens", "earlier"):
        yield "field", f"{name} follows from the others"
    for key in sorted(_useless(name) & set(token)):
        yield key, f"has no meaning for a {name or 'text'}"
    form = token.get("form")
    if name in _times:
        yield from _moment_violations(name, form)
    elif form is not None and (not isinstance(form, str) or form not in FORMS):
        yield "form", f"one of {', '.join(FORMS)}"
    if "lead" in token and not _is_literal(token["lead"]):
        yield "lead", f"1 to {MAX_LENGTH} printable characters of ASCII without slashes"
    if "separator" in token and not _is_separator(token["separator"]):
        yield "separator", "at most three characters, no letter, digit or slash"
    if not isinstance(token.get("optional", False), bool):
        yield "optional", "true or false"
    values = token.get("values")
    if values is not None and (
        not isinstance(values, Sequence)
        or isinstance(values, str)
        or not 0 < len(values) <= MAX_VALUES
        or not all(map(_is_literal, values))
    ):
        yield "values", f"a list of 1 to {MAX_VALUES} texts"
    length = token.get("length")
    if length is not None:
        bounds = [length, length] if isinstance(length, int) else length
        if (
            not isinstance(bounds, Sequence)
            or len(bounds) != 2
            or not all(type(one) is int for one in bounds)
            or not 1 <= bounds[0] <= bounds[1] <= MAX_LENGTH
        ):
            yield "length", f"a number, or two, from 1 to {MAX_LENGTH}"


def _useless(name: str | None) -> set[str]:
    """The keys that say nothing about a token."""
    if name is None:
        return {"form", "length", "lead", "values"}
    return {"length", "values"} if name in _times else {"form", "values"} if name == "number" else set()


def _moment_violations(name: str, form: Any) -> Any:
    if not isinstance(form, str) or len(form) > 32 or not _moment_form.fullmatch(form):
        yield "form", "made of YYYY, MM, DD, hh, mm, ss and - _ . : T or a blank between them"
        return
    units = [_UNITS[unit] for unit in _units.findall(form)]
    needed = _needs.get(name, {"year", "month", "day"})
    clock = [unit for unit in ("hour", "minute", "second") if unit in units]
    if len(set(units)) != len(units) or not needed <= set(units):
        yield "form", f"a {name} needs each of {', '.join(sorted(needed))} once"
    elif (name == "date" and clock) or (name == "time" and len(clock) != len(units)):
        yield "form", f"a {name} holds nothing else; use started for both"
    elif clock != ["hour", "minute", "second"][: len(clock)]:
        yield "form", "seconds need minutes, and minutes hours"


def _is_literal(text: Any) -> bool:
    return (
        isinstance(text, str) and 0 < len(text) <= MAX_LENGTH and text.isascii() and text.isprintable() and not {*"/\\"} & {*text}
    )


def _is_separator(text: Any) -> bool:
    return isinstance(text, str) and _separator.fullmatch(text) is not None


def _fixed(token: Mapping[str, Any]) -> bool:
    return "text" in token or token.get("field") in _times or isinstance(token.get("length"), int)
