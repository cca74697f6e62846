"""What holds for every name: generated fields survive, and hostile texts are refused in time that grows with their length."""

from __future__ import annotations

import re
import string
import time
import unicodedata
from datetime import date, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from epista import naming
from epista.contract.errors import AmbiguousNameError, UnrecognizedNameError, ValidationError
from epista.naming.declared import FORMS, Declared
from epista.naming.vocabulary import LABELS, PLATFORMS, is_word

WORDS = string.ascii_letters + string.digits
RAW = "ecephys_676909_2023-12-13_13-43-40"

moments = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(lambda moment: moment.replace(microsecond=0))
tokens = st.text(WORDS + "-", min_size=1, max_size=8)
platforms = st.sampled_from(PLATFORMS) | st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,8}", fullmatch=True).filter(
    lambda text: text.casefold() not in {label.casefold() for label in LABELS}
)
subjects = (
    st.from_regex(r"[0-9]{4,8}", fullmatch=True)
    | st.from_regex(r"[A-Z][0-9]{1,5}", fullmatch=True)
    | st.just("calibration")
    | st.text(WORDS, min_size=2, max_size=8).filter(lambda text: re.search("[a-zA-Z]", text) and re.search("[0-9]", text))
).filter(lambda text: not is_word(text))
extensions = st.sampled_from([".nwb", ".ome.zarr", ".nii.gz", ".h5", ".7z"])
# No label of these looks like a date or a staging folder, which another part of a name would be.
words = tokens.filter(lambda token: not re.match(r"[0-9]", token) and not re.fullmatch("[0-9a-f]{10}", token))
labels = st.sampled_from(LABELS) | st.lists(words, min_size=1, max_size=3).map("_".join)
steps = st.lists(st.tuples(labels, moments), max_size=2).map(tuple)


@st.composite
def sessions(draw: st.DrawFn, *, platform: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {"subject_id": draw(subjects), "started": draw(moments)}
    if platform:
        fields["platform"] = draw(platforms)
    if draw(st.booleans()):
        fields["label"] = draw(labels)
        fields["earlier"] = draw(steps)
        if draw(st.booleans()):
            fields["label_time"] = draw(moments)
    if draw(st.booleans()):
        fields["extension"] = draw(extensions)
    return {name: value for name, value in fields.items() if value != ()}


@st.composite
def mindscope(draw: st.DrawFn) -> dict[str, Any]:
    fields: dict[str, Any] = {"subject_id": draw(st.from_regex(r"[0-9]{6,7}", fullmatch=True))}
    if draw(st.booleans()):
        fields["started"] = draw(moments)
    else:
        fields["date"] = draw(moments).date()
    if draw(st.booleans()):
        fields["number"] = draw(st.integers(1, 999))
    if draw(st.booleans()):
        fields["platform"] = draw(platforms)
    elif draw(st.booleans()):
        fields["lims_id"] = draw(st.from_regex(r"[0-9]{9,10}", fullmatch=True))
    return fields


@st.composite
def bids(draw: st.DrawFn) -> dict[str, Any]:
    alphanumeric = st.text(WORDS, min_size=1, max_size=5)
    pairs = draw(st.dictionaries(st.sampled_from(["task", "run", "acq", "desc", "session"]), alphanumeric, max_size=3))
    fields: dict[str, Any] = {"subject_id": draw(alphanumeric), "tokens": (("ses", draw(alphanumeric)), *pairs.items())}
    if draw(st.booleans()):
        fields["label"] = draw(st.sampled_from(["bold", "T1w", "events"]))
        fields["extension"] = draw(extensions)
    return fields


lims = st.fixed_dictionaries(
    {"lims_id": st.from_regex(r"[0-9]{9,10}", fullmatch=True), "started": moments, "platform": platforms},
    optional={"label": labels, "extension": extensions},
)

GENERATED = {
    "aibs-lims": lims,
    "aind-platform": sessions(platform=True),
    "aind-underscore-datetime": sessions(platform=True),
    "aind-subject": sessions(platform=False),
    "aind-subject-iso": sessions(platform=False),
    "mindscope": mindscope(),
    "bids": bids(),
}

fields_of_any = st.one_of(*(st.tuples(st.just(name), fields) for name, fields in GENERATED.items()))


def test_fields_are_generated_for_every_packaged_convention() -> None:
    assert list(GENERATED) == list(naming.registry.PACKAGED)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(fields_of_any)
def test_fields_survive_being_written_and_read(generated: tuple[str, dict[str, Any]]) -> None:
    convention, fields = generated

    name = naming.format(fields, convention)
    parsed = naming.parse(name, convention=convention)

    assert {key: parsed.fields.get(key) for key in fields} == fields
    assert set(parsed.fields) - set(fields) <= {"date"}
    assert parsed.canonical == name == naming.format(parsed)
    if convention in ("aind-platform", "aind-subject", "bids"):
        assert naming.parse(parsed.session_id).recording == parsed.recording
    if parsed.parent is not None:
        parent = naming.parse(parsed.parent, convention=convention)
        assert parent.recording == parsed.recording
        assert parent.label == (parsed.earlier[-1][0] if parsed.earlier else None)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    fields_of_any, st.sampled_from(["/{}/x.bin", "a/{}", "C:\\b\\{}\\", "s3://bucket/{}/y", '("{}"),', "see {}, and", "{}.\n"])
)
def test_a_written_name_is_found_in_paths_and_in_prose(generated: tuple[str, dict[str, Any]], around: str) -> None:
    convention, fields = generated
    # The first convention to accept a name has read it: some names of one are names of another, with a prefix.
    name = naming.format(fields, convention)
    alone = naming.parse(name)
    text = around.format(name)

    (found,) = naming.find_all(text)

    assert text[slice(*found.span)] == found.text == name
    assert found.recording == alone.recording


hostile = (
    st.text()
    | st.text(WORDS + "_-.:/\\ \n\0０é", max_size=60)
    | st.lists(
        st.sampled_from(
            [*RAW.split("_"), "sorted", "2024_01_01", "116ea12439", "", "sub-1", "ses-2", "x.nwb", "1299958728", "２０２３"]
        )
    ).map("_".join)
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(hostile)
@example(f"{RAW}\n")
@example(f"{RAW}_" * 30)
@example("2023-12-13_13-43-40_" * 20)
def test_any_text_is_read_or_refused_and_never_more(text: str) -> None:
    try:
        parsed = naming.parse(text)
    except (UnrecognizedNameError, AmbiguousNameError) as error:
        assert len(str(error)) < 5_000
    else:
        again = naming.parse(parsed.canonical)
        assert text[slice(*parsed.span)] == parsed.text
        assert (again.canonical, again.recording) == (parsed.canonical, parsed.recording)
        assert parsed in naming.find_all([text]) or text != text.strip()
    for found in naming.find_all(text):
        assert text[slice(*found.span)] == found.text
    for reading in naming.explain(text):
        assert (reading.parsed is None) is (reading.reason is not None)
        assert reading.at is None or 0 <= reading.at <= len(text)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(fields_of_any, st.data())
def test_a_name_with_one_character_changed_holds_no_foreign_character_in_any_field(
    generated: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    convention, fields = generated
    name = naming.format(fields, convention)
    at = data.draw(st.integers(0, len(name)))
    changed = name[:at] + data.draw(st.characters()) + name[at + data.draw(st.integers(0, 1)) :]

    for parsed in naming.find_all([changed]):
        if parsed.text == changed:
            assert re.fullmatch(r"[A-Za-z0-9_.:-]+", changed)
            texts = [parsed.platform, parsed.subject_id, parsed.label, *(part for pair in parsed.tokens for part in pair)]
            assert all(re.fullmatch(r"[A-Za-z0-9_-]+", text) for text in texts if text is not None)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_are_the_same_in_every_normal_form(form: Any) -> None:
    assert unicodedata.normalize(form, RAW) == RAW
    assert naming.find_all([unicodedata.normalize(form, "é_676909_2023-12-13_13-43-40")]) == []
    assert naming.find_all(unicodedata.normalize(form, f"Müller’s {RAW}é, {RAW}０, ０{RAW}")) == []
    assert [parsed.text for parsed in naming.find_all(unicodedata.normalize(form, f"Müller’s “{RAW}”, 数据{RAW}是"))] == [
        RAW,
        RAW,
    ]


SLOW = {
    "hyphens": "-" * 1024,
    "letters and hyphens": "a-" * 512,
    "digits": "1" * 1024,
    "digits and underscores": "1_" * 512,
    "hexadecimal": "a1" * 512,
    "dates": "2023-12-13_" * 93,
    "dots": "a." * 512,
    "fractions": f"{RAW}." + "1" * 900,
    "subjects": "a1_" * 341,
    "pairs of BIDS": "sub-1_ses-2" + "_a-1" * 250,
    "labels": RAW + "_x" * 490,
    "blanks": " " * 1024,
}


def _seconds(work: Any) -> float:
    """The least CPU time of some runs."""
    least = float("inf")
    for _ in range(5):
        start = time.process_time()
        for _ in range(5):
            work()
        least = min(least, time.process_time() - start)
    return least


@pytest.mark.parametrize("text", SLOW.values(), ids=SLOW)
def test_reading_takes_time_in_proportion_to_the_length(text: str) -> None:
    conventions = naming.conventions()
    half = _seconds(lambda: conventions.explain(text[: len(text) // 2]))

    whole = _seconds(lambda: conventions.explain(text))

    # Twice as long takes twice the time; quadratic would be four times, and exponential for ever.
    assert whole < 16 * max(half, 0.0005)


def test_a_text_of_a_million_characters_is_searched() -> None:
    text = f"{RAW}, and " * 5_000 + "_a-1" * 250_000 + "." * 100_000

    assert len(naming.find_all(text)) == 5_000


def test_a_component_longer_than_a_key_is_no_name() -> None:
    with pytest.raises(UnrecognizedNameError) as caught:
        naming.parse(RAW + "_x" * 500)

    assert set(caught.value.details["reasons"].values()) == {"it is longer than 1024 characters"}


# Declarations.

CLOCK = {"hh": "%H", "mm": "%M", "ss": "%S"}
literals = st.text(WORDS, min_size=1, max_size=4)
TIMES = {
    "date": ["YYYY-MM-DD", "YYYYMMDD", "YYMMDD", "DD.MM.YYYY"],
    "started": ["YYYY-MM-DD_hh-mm-ss", "YYYYMMDDThhmm", "YYYY-MM-DD hh"],
    "label_time": ["YYYYMMDD", "YYYYMMDDhhmmss"],
}


@st.composite
def declarations(draw: st.DrawFn) -> dict[str, Any]:
    separators = st.sampled_from(["_", "-", ".", " ", "+", "__", "~-"])
    names = draw(
        st.permutations(["subject_id", "platform", "number", "label", "rig", "operator"]).flatmap(
            lambda order: st.integers(1, len(order)).map(lambda count: order[:count])
        )
    )
    if not {"subject_id", "rig", "operator"} & set(names):
        names = ["subject_id", *names]
    if draw(st.booleans()):
        names.insert(draw(st.integers(0, len(names))), draw(st.sampled_from(["date", "started"])))
    if "label" in names and draw(st.booleans()):
        names.append("label_time")
    tokens: list[dict[str, Any]] = []
    for name in names:
        token: dict[str, Any] = {"field": name}
        if name in TIMES:
            token["form"] = draw(st.sampled_from(TIMES[name]))
        elif name != "number":
            if draw(st.booleans()):
                token["form"] = draw(st.sampled_from(sorted(FORMS)))
            elif draw(st.booleans()):
                token["values"] = draw(st.lists(literals, min_size=1, max_size=4, unique=True))
        if name not in TIMES and "values" not in token and draw(st.booleans()):
            low = draw(st.integers(1, 4))
            token["length"] = [low, low + draw(st.integers(0, 5))]
        if draw(st.booleans()):
            token["lead"] = draw(literals)
        if tokens and draw(st.integers(0, 3)) == 0:
            token["separator"] = draw(separators)
        if tokens and draw(st.integers(0, 3)) == 0:
            token["optional"] = True
        tokens.append(token)
    declared = {"tokens": tokens, "separator": draw(separators)}
    try:
        return naming.declaration(declared)
    except ValidationError:
        # Such as a value that holds a separator: that it is refused is tested elsewhere.
        return naming.declaration({"tokens": [{"field": "subject_id"}]})


@st.composite
def filled(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    declared = draw(declarations())
    fields: dict[str, Any] = {}
    own: list[tuple[str, str]] = []
    held = set(declared["separator"]).union(*(token.get("separator", "") for token in declared["tokens"]))
    for token in declared["tokens"]:
        name = token["field"]
        if token.get("optional") and draw(st.booleans()):
            continue
        if name in TIMES:
            moment = draw(st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)))
            form = f"%Y-%m-%d {' '.join(unit for short, unit in CLOCK.items() if short in token['form'])}"
            moment = datetime.strptime(moment.strftime(form), form)
            fields[name] = moment.date() if name == "date" else moment
            continue
        low, high = token.get("length", [1, 6])
        if name == "number":
            fields[name] = draw(st.integers(1, 10**high - 1))
            continue
        if "values" in token:
            value = draw(st.sampled_from(token["values"]))
        else:
            letters = {"digits": string.digits, "letters": string.ascii_letters, "alphanumeric": WORDS}.get(
                token.get("form", ""), WORDS
            )
            value = draw(st.text(sorted(set(letters) - held), min_size=low, max_size=high))
        if name in ("rig", "operator"):
            own.append((name, value))
        else:
            fields[name] = value
    return declared, {**fields, **({"tokens": tuple(own)} if own else {})}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(filled())
def test_fields_survive_a_declared_convention_or_are_refused(case: tuple[dict[str, Any], dict[str, Any]]) -> None:
    declared, fields = case
    conventions = naming.Conventions({"mine": Declared(declared)})

    try:
        name = conventions.format(fields, "mine")
    except ValidationError:
        # An optional token can be taken for the next one: then it is refused, and never read as something else.
        assert any(token.get("optional") for token in declared["tokens"])
        return

    parsed = conventions.parse(name)
    assert {key: getattr(parsed, key) for key in fields} == fields
    assert conventions.parse(parsed.canonical).recording == parsed.recording


WORST = {
    "optional tokens that look alike": {
        "tokens": [
            {"field": "subject_id"},
            *({"field": f"f{n}", "optional": True} for n in range(6)),
            {"field": "z", "form": "digits"},
        ]
    },
    "as many tokens as may be": {"separator": "-", "tokens": [{"field": f"f{n}"} for n in range(16)]},
    "values within values": {
        "tokens": [{"field": f"f{n}", "values": ["a" * length for length in range(1, 60)], "optional": n > 9} for n in range(16)]
    },
    "leads": {"tokens": [{"field": "f"}, *({"field": f"f{n}", "lead": "a", "optional": n < 6} for n in range(15))]},
    "literals": {"separator": "", "tokens": [{"text": "a"}, *({"field": f"f{n}", "lead": "a", "length": 1} for n in range(15))]},
}


@pytest.mark.parametrize("declared", WORST.values(), ids=WORST)
@pytest.mark.parametrize("text", ["a", "a_", "a-", "1_", "-", "_", "aa-a_"])
def test_no_declaration_makes_reading_slow(declared: dict[str, Any], text: str) -> None:
    convention = Declared(naming.declaration(declared))
    conventions = naming.Conventions({"mine": convention})
    packaged = naming.conventions()
    name = text * (1024 // len(text))

    ours = _seconds(lambda: conventions.read(name))

    # Against what seven packaged conventions take for the same text, which is known to grow with its length.
    assert ours < 100 * max(_seconds(lambda: packaged.read(name)), 0.0005)


@pytest.mark.parametrize(
    ("token", "path"),
    [
        ({"field": "subject_id", "pattern": ".*"}, "pattern"),
        ({"field": "subject_id", "text": "a"}, "field"),
        ({}, "field"),
        ({"text": "a/b"}, "text"),
        ({"text": "é"}, "text"),
        ({"field": "Subject"}, "field"),
        ({"field": "kind"}, "field"),
        ({"field": "date"}, "form"),
        ({"field": "date", "form": "YYYY-MM"}, "form"),
        ({"field": "date", "form": "YYYY-MM-DD-hh"}, "form"),
        ({"field": "started", "form": "YYYY-MM-DDThh:ss"}, "form"),
        ({"field": "started", "form": "YYYY-MM-DD(.*)hh"}, "form"),
        ({"field": "date", "form": "YYYY-MM-DD" * 10}, "form"),
        ({"field": "subject_id", "form": "[a-z]"}, "form"),
        ({"field": "subject_id", "length": 0}, "length"),
        ({"field": "subject_id", "length": [5, 2]}, "length"),
        ({"field": "subject_id", "length": [1, 10**9]}, "length"),
        ({"field": "subject_id", "length": True}, "length"),
        ({"field": "subject_id", "values": []}, "values"),
        ({"field": "subject_id", "values": ["a"] * 101}, "values"),
        ({"field": "subject_id", "values": ["a_b"]}, "values"),
        ({"field": "subject_id", "values": "ab"}, "values"),
        ({"field": "subject_id", "values": [1]}, "values"),
        ({"field": "subject_id", "optional": True}, "optional"),
        ({"field": "subject_id", "optional": 1}, "optional"),
        ({"field": "subject_id", "separator": "a"}, "separator"),
        ({"field": "subject_id", "lead": ""}, "lead"),
        ({"field": "number", "values": ["a"]}, "values"),
        ({"field": "number", "form": "letters"}, "form"),
        ({"field": "date", "form": "YYYYMMDD", "length": 8}, "length"),
        ({"text": "a", "lead": "b"}, "lead"),
        ("subject_id", ""),
        (None, ""),
    ],
)
def test_a_token_that_breaks_a_rule_is_named(token: Any, path: str) -> None:
    with pytest.raises(ValidationError) as caught:
        naming.declaration({"tokens": [token]})

    assert f"tokens[0]{path and '.'}{path}" in [violation["path"] for violation in caught.value.violations]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["tokens", "field", "form", "separator", "length", "values", "text", "optional"]), inner
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_a_declaration_or_refused(given_: Any) -> None:
    try:
        declared = naming.declaration(given_)
    except ValidationError as error:
        assert error.violations or isinstance(given_, str)
    else:
        Declared(declared)


@pytest.mark.parametrize(
    ("declared", "path"),
    [
        ({"tokens": [{"field": "rig"}], "separator": 5}, "separator"),
        ({"tokens": [{"field": "rig"}], "separator": "a"}, "separator"),
        ({"tokens": [{"field": "rig"}], "extension": "yes"}, "extension"),
        ({"tokens": [{"field": "rig"}], "description": "a" * 1001}, "description"),
        ({"tokens": [{"field": "rig"}], "colour": "red"}, "colour"),
        ({"tokens": []}, "tokens"),
        ({"tokens": [{"field": f"f{n}"} for n in range(17)]}, "tokens"),
        ({"tokens": [{"field": "f"}, *({"field": f"f{n}", "optional": True} for n in range(7))]}, "tokens"),
        ({"tokens": [{"field": "rig"}, {"field": "rig"}]}, "tokens"),
        ({"tokens": [{"field": "date", "form": "YYYYMMDD"}]}, "tokens"),
        ({"tokens": [{"field": "rig"}, {"field": "time", "form": "hhmm"}]}, "tokens"),
        ({"tokens": [{"field": "rig"}, {"field": "label_time", "form": "YYYYMMDD"}]}, "tokens"),
        ({"tokens": [{"field": "rig"}, {"field": "subject_id", "separator": ""}]}, "tokens[1].separator"),
        ({"tokens": [{"field": "rig", "values": ["a-b"]}, {"field": "x", "separator": "-"}]}, "tokens[0].values"),
    ],
)
def test_a_declaration_that_breaks_a_rule_as_a_whole_is_refused(declared: dict[str, Any], path: str) -> None:
    with pytest.raises(ValidationError) as caught:
        naming.declaration(declared)

    assert path in [violation["path"] for violation in caught.value.violations]


def test_a_convention_in_which_every_name_has_a_label_still_knows_its_recordings() -> None:
    declared = naming.declaration({"tokens": [{"field": "run", "lead": "run", "form": "digits"}, {"field": "label"}]})
    conventions = naming.Conventions({"runs": Declared(declared)})

    (first, second, other) = conventions.find_all("run7_raw.tif run7_sorted.npz run8_raw.tif")

    assert first.recording == second.recording != other.recording
    assert (first.kind, second.kind, second.parent, second.extension) == ("raw", "derived", None, ".npz")


def test_what_a_declared_convention_refuses_is_said_with_its_place() -> None:
    declared = naming.declaration({"tokens": [{"field": "date", "form": "YYYYMMDD"}, {"field": "subject_id", "lead": "m"}]})
    conventions = naming.Conventions({"mine": Declared(declared)})

    found = {text: conventions.explain(text)[0] for text in ("2024-05-01_m1", "20240501_x1", "20240501_m1_y", "20241301_m1")}

    assert [(row.reason, row.at) for row in found.values()] == [
        ("no date as YYYYMMDD", 0),
        ("no subject_id", 8),
        ("'_y' is left over", 11),
        ("its date and time are none of a calendar", 0),
    ]
    assert conventions.parse("20240501_m1.tif").date == date(2024, 5, 1)
