"""
Flow cytometry: FCS files, versions 2.0 to 3.2.

Source: ISAC's Data File Standard for Flow Cytometry (FCS 3.1, Spidlen et al., Cytometry A 77A, 2010; FCS 3.2, 2021). HEADER and
TEXT are read in a few small reads, so that the channels of a file of gigabytes cost kilobytes. Values are made linear and times
seconds. Nothing is compensated unless that is asked for.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

from epista.contract.errors import FormatError, UnreadableError
from epista.serializers import tables
from epista.serializers.serializer import Options, Serializer

MAX_TEXT_BYTES = 16 * 1024**2
"""How large the TEXT of a file may be; that of a hundred channels has some ten kilobytes."""

MAX_CHANNELS = 10_000

_HEADER_BYTES = 58
_SPILL = ("$SPILLOVER", "SPILL", "$SPILL", "SPILLOVER", "$COMP", "COMP")
_FLOATS = {"F": 4, "D": 8}
_LITTLE, _BIG = ("1,2,3,4", "1,2", "1"), ("4,3,2,1", "2,1")


class Header(NamedTuple):
    """The first 58 bytes of a data set: where its segments lie, the last byte included; zeros where they do not say."""

    version: str
    start: int
    """Where in the file the data set begins, which all offsets count from."""
    text: tuple[int, int]
    data: tuple[int, int]


class Channel(NamedTuple):
    """One parameter of the events."""

    name: str
    """``$PnN``; a second one of the same name ends in ``_2``."""
    label: str
    """``$PnS``, such as the marker that was stained; empty where nobody said."""
    bits: int
    """``$PnB``: bits of a stored value."""
    range: float
    """``$PnR``: stored values are below this."""
    decades: float
    """Of logarithmic amplification; 0 for linear."""
    log_zero: float
    """What a stored 0 is on a logarithmic scale."""
    gain: float
    """``$PnG``: linear values are stored times this."""


class Head(NamedTuple):
    """What stands before the events."""

    header: Header
    keywords: dict[str, str]
    """As in the file; standard keywords begin with ``$`` and are upper case here, as their case does not matter."""
    channels: tuple[Channel, ...]
    events: int
    """How many events, by ``$TOT``."""
    warnings: tuple[str, ...]


def read_head(file: BinaryIO, *, dataset: int = 0) -> Head:
    """
    Read all but the events of a data set of a file: three small reads, for each data set before it too.

    Raises:
        UnreadableError: this is no FCS file, or its TEXT cannot be read; it has no such data set.
    """
    start, number = 0, 0
    while True:
        header = _header(file, start)
        keywords, notes = _keywords(file, header)
        following = _number(keywords, "$NEXTDATA", 0)
        if number == dataset:
            break
        number += 1
        # Offsets only grow, so that no chain comes back to where it was.
        if following <= 0 or number > 1000:
            raise UnreadableError(f"the file has {number} data set{'s' if number > 1 else ''}, counted from 0; no {dataset}")
        start += following
    if dataset == 0 and following > 0:
        notes.append("the file has further data sets: dataset=1 is the next")
    return Head(header, keywords, _channels(keywords, notes), _number(keywords, "$TOT", 0), tuple(notes))


def spill_of(keywords: Mapping[str, str]) -> dict[str, Any] | None:
    """
    Return the spillover matrix of a file, ``{"channels": [...], "matrix": [[...]]}``, a row for what spills; None without one.

    Raises:
        UnreadableError: there is one that cannot be read.
    """
    for name in _SPILL:
        if value := keywords.get(name, "").strip():
            count, *rest = (part.strip() for part in value.split(","))
            size = int(count) if count.isascii() and count.isdigit() and len(count) < 9 else 0
            if not 0 < size <= MAX_CHANNELS or len(rest) != size + size * size:
                raise UnreadableError(f"{name} is no matrix: {value[:60]!r}")
            try:
                values = [float(part) for part in rest[size:]]
            except ValueError as error:
                raise UnreadableError(f"{name} is no matrix: {error}") from error
            return {"channels": rest[:size], "matrix": [values[row * size : (row + 1) * size] for row in range(size)]}
    return None


def read(
    data: bytes,
    *,
    as_type: str = "pandas",
    dtype: str = "float32",
    preprocess: bool = True,
    compensate: bool | dict[str, Any] = False,
    dataset: int = 0,
) -> Any:
    """
    Read the events of a file: a column for each channel, a row for each event.

    Values are linear and times in seconds, or as stored with ``preprocess=False``. *dtype* ``float64`` keeps integers above
    2**24. *compensate* applies the file's own spillover matrix, or one given as ``{"channels": [...], "matrix": [[...]]}``. The
    ``attrs`` of the frame hold ``keywords``, ``labels``, ``spill`` and ``warnings``, all plain JSON.
    """
    import pandas as pd

    head = read_head(io.BytesIO(data), dataset=dataset)
    notes = list(head.warnings)
    events = _stored(data, head, notes).astype("float64", copy=False)
    if preprocess:
        events = _linear(events, head, notes)
    spill = _spill_or_note(head.keywords, notes)
    frame = pd.DataFrame(events, columns=[channel.name for channel in head.channels])
    if compensate is not False:
        if not preprocess:
            raise FormatError("stored values cannot be compensated; leave preprocess=False away")
        frame = compensated(frame, compensate if isinstance(compensate, dict) else spill)
    frame = frame.astype("float64" if dtype == "float64" else "float32")
    frame.attrs = {
        "keywords": head.keywords,
        "labels": {channel.name: channel.label for channel in head.channels if channel.label},
        "spill": spill,
        "warnings": notes,
    }
    return frame if as_type == "pandas" else tables.convert(frame, as_type)


def compensated(events: Any, spill: Mapping[str, Any] | None) -> Any:
    """
    Return *events* with the spillover between channels removed: the events times the inverse of the matrix.

    Raises:
        FormatError: there is no matrix; it names channels that are not there, or cannot be inverted.
    """
    import numpy as np

    if spill is None:
        raise FormatError("the file has no spillover matrix; give one: compensate={'channels': [...], 'matrix': [[...]]}")
    try:
        channels, matrix = [str(name) for name in spill["channels"]], np.asarray(spill["matrix"], dtype="float64")
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError("a matrix is {'channels': [...], 'matrix': [[...]]}, of numbers") from error
    if missing := [name for name in channels if name not in events.columns]:
        known = ", ".join(map(str, events.columns))
        raise FormatError(f"the spillover matrix names {', '.join(map(repr, missing))}; channels: {known}")
    if matrix.shape != (len(channels), len(channels)):
        raise FormatError(f"a matrix of {len(channels)} channels is {len(channels)} x {len(channels)}, not {matrix.shape}")
    try:
        inverse = np.linalg.inv(matrix)
    except np.linalg.LinAlgError as error:
        raise FormatError("the spillover matrix cannot be inverted") from error
    done = events.copy()
    done[channels] = events[channels].to_numpy("float64") @ inverse
    return done


def _header(file: BinaryIO, start: int) -> Header:
    file.seek(start)
    data = file.read(_HEADER_BYTES)
    if not re.fullmatch(rb"FCS[0-9]\.[0-9]", data[:6]):
        raise UnreadableError("not an FCS file: no header")
    fields = [_offset(data[at : at + 8]) for at in range(10, 42, 8)]
    return Header(data[3:6].decode(), start, (fields[0], fields[1]), (fields[2], fields[3]))


def _offset(field: bytes) -> int:
    text = field.strip()
    return int(text) if text.isdigit() else 0


def _keywords(file: BinaryIO, header: Header) -> tuple[dict[str, str], list[str]]:
    notes: list[str] = []
    keywords = _text(file, header, *header.text)
    if header.version != "2.0":
        first, last = _number(keywords, "$BEGINSTEXT", 0), _number(keywords, "$ENDSTEXT", 0)
        if last > first > 0 and (first, last) != header.text:
            try:
                keywords = {**_text(file, header, first, last), **keywords}
            except UnreadableError as error:
                notes.append(f"the supplemental TEXT is left out: {error.message}")
    return keywords, notes


def _text(file: BinaryIO, header: Header, first: int, last: int) -> dict[str, str]:
    size = last - first + 1
    if first < _HEADER_BYTES or size < 2:
        raise UnreadableError(f"the header says that TEXT is from byte {first} to byte {last}")
    if size > MAX_TEXT_BYTES:
        raise UnreadableError(f"a TEXT of {size:,} bytes; at most {MAX_TEXT_BYTES:,} are read")
    file.seek(header.start + first)
    data = file.read(size)
    if len(data) < size:
        raise UnreadableError(f"the file ends within TEXT, {size - len(data):,} bytes early")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    delimiter, body = text[0], text[1:].rstrip("\r\n\0 ")
    body = body.removesuffix(delimiter)
    # A delimiter within a value is doubled. Some programs write empty values all the same, which then look alike.
    parts = [part.replace("\0", delimiter) for part in body.replace("\0", "").replace(delimiter * 2, "\0").split(delimiter)]
    if len(parts) % 2:
        parts = body.split(delimiter)
    found = {}
    for name, value in zip(parts[::2], parts[1::2], strict=False):
        name = name.strip()
        found[name.upper() if name.startswith("$") else name] = value
    if "$PAR" not in found:
        raise UnreadableError("its TEXT names no parameters ($PAR)")
    return found


def _number(keywords: Mapping[str, str], name: str, default: int) -> int:
    text = keywords.get(name, "").strip()
    if not text:
        return default
    try:
        value = int(text)
    except ValueError as error:
        raise UnreadableError(f"{name} is no whole number: {text[:40]!r}") from error
    # No file is that large, and nothing can be sought there.
    if abs(value) >= 1 << 60:
        raise UnreadableError(f"{name} is too large: {text[:40]!r}")
    return value


def _real(keywords: Mapping[str, str], name: str, default: float, notes: list[str]) -> float:
    text = keywords.get(name, "").strip()
    try:
        value = float(text) if text else default
    except ValueError:
        value = math.nan
    if math.isfinite(value):
        return value
    notes.append(f"{name} is no number: {text[:40]!r}")
    return default


def _channels(keywords: Mapping[str, str], notes: list[str]) -> tuple[Channel, ...]:
    count = _number(keywords, "$PAR", 0)
    if not 0 < count <= MAX_CHANNELS:
        raise UnreadableError(f"{count} channels; from 1 to {MAX_CHANNELS:,} are read")
    channels: list[Channel] = []
    taken: set[str] = set()
    for number in range(1, count + 1):
        wanted = keywords.get(f"$P{number}N", "").strip()
        if not wanted:
            wanted = f"P{number}"
            notes.append(f"channel {number} has no name")
        name = next(name for name in _names(wanted) if name not in taken)
        taken.add(name)
        decades, log_zero = _amplification(keywords.get(f"$P{number}E", ""), number, notes)
        channels.append(
            Channel(
                name=name,
                label=keywords.get(f"$P{number}S", "").strip(),
                bits=0 if keywords.get(f"$P{number}B", "").strip() == "*" else _number(keywords, f"$P{number}B", 0),
                range=_real(keywords, f"$P{number}R", 0.0, notes),
                decades=decades,
                log_zero=log_zero,
                gain=_real(keywords, f"$P{number}G", 1.0, notes),
            )
        )
    return tuple(channels)


def _names(wanted: str) -> Any:
    yield wanted
    yield from (f"{wanted}_{number}" for number in range(2, MAX_CHANNELS + 2))


def _amplification(text: str, number: int, notes: list[str]) -> tuple[float, float]:
    """Read ``$PnE``: decades, and the value of 0, for which the standard says 1 where it is missing."""
    try:
        decades, log_zero = (float(part) for part in text.split(",")) if text.strip() else (0.0, 0.0)
    except ValueError:
        notes.append(f"$P{number}E is no amplification: {text[:40]!r}; taken for linear")
        return 0.0, 0.0
    if not (math.isfinite(decades) and math.isfinite(log_zero)) or decades < 0:
        notes.append(f"$P{number}E is no amplification: {text[:40]!r}; taken for linear")
        return 0.0, 0.0
    return decades, (log_zero or 1.0) if decades else log_zero


def _stored(data: bytes, head: Head, notes: list[str]) -> Any:
    """Return the events as stored: a row for each, a column for each channel."""
    import numpy as np

    keywords, count = head.keywords, len(head.channels)
    if keywords.get("$MODE", "L").strip().upper() != "L":
        raise UnreadableError(f"a histogram ($MODE {keywords['$MODE']}), not a list of events")
    kind = keywords.get("$DATATYPE", "").strip().upper()
    if kind not in ("I", *_FLOATS):
        raise UnreadableError(f"events of $DATATYPE {kind or '(none)'}; I, F and D are read")
    order = keywords.get("$BYTEORD", "").replace(" ", "")
    if order not in _LITTLE + _BIG:
        raise UnreadableError(f"$BYTEORD {order or '(none)'} is neither little- nor big-endian")
    little = order in _LITTLE
    widths = [channel.bits for channel in head.channels] if kind == "I" else [8 * _FLOATS[kind]] * count
    if odd := sorted({width for width in widths if width <= 0 or width > 64 or width % 8}):
        raise UnreadableError(f"integers of {', '.join(map(str, odd))} bits; whole bytes, 8 at most, are read")
    step = sum(widths) // 8
    start, rows = _where(data, head, step, notes)
    if kind == "I":
        return _integers(np.frombuffer(data, "u1", rows * step, start).reshape(rows, step), head.channels, little=little)
    dtype = np.dtype(f"{'<' if little else '>'}f{_FLOATS[kind]}")
    return np.frombuffer(data, dtype, rows * count, start).reshape(rows, count)


def _where(data: bytes, head: Head, step: int, notes: list[str]) -> tuple[int, int]:
    """Return where the events begin, and how many of *step* bytes there are. From FCS 3.0 on, TEXT says so better than HEADER."""
    first, last = head.header.data
    if head.header.version != "2.0":
        told = _number(head.keywords, "$BEGINDATA", 0), _number(head.keywords, "$ENDDATA", 0)
        if all(told) and told != (first, last):
            # Offsets of more than eight digits do not fit HEADER, which has zeros then.
            if any((first, last)):
                notes.append(
                    f"HEADER says that the events are in bytes {first} to {last}, TEXT {told[0]} to {told[1]}, which counts"
                )
            first, last = told
    if head.events == 0 and last <= first:
        return 0, 0
    size, start = last - first + 1, head.header.start + first
    if first <= 0 or size < 0 or start + size // step * step > len(data):
        raise UnreadableError(f"the events are said to be in bytes {first} to {last}, of {len(data) - head.header.start:,}")
    if size % step not in (0, 1):
        raise UnreadableError(f"{size:,} bytes are no whole number of events of {step} bytes")
    if size % step:
        notes.append("the events are said to end one byte later than they do")
    if head.events != size // step:
        notes.append(f"$TOT says {head.events:,} events; there are {size // step:,}")
    return start, size // step


def _integers(rows: Any, channels: Sequence[Channel], *, little: bool) -> Any:
    """Return integers of whole bytes, masked to their range: bits above the next power of two are no part of the value."""
    import numpy as np

    events = np.empty((len(rows), len(channels)), dtype="u8")
    at = 0
    for number, channel in enumerate(channels):
        value = np.zeros(len(rows), dtype="u8")
        places = range(at, at + channel.bits // 8)
        for place in reversed(places) if little else places:
            value = (value << np.uint64(8)) | rows[:, place]
        bits = max(0, math.ceil(channel.range) - 1).bit_length() if channel.range > 0 else channel.bits
        events[:, number] = value & np.uint64((1 << min(bits, 64)) - 1)
        at += channel.bits // 8
    return events


def _linear(events: Any, head: Head, notes: list[str]) -> Any:
    """Return linear values, and times in seconds."""
    events = events.copy()
    for number, channel in enumerate(head.channels):
        if channel.name.lower() == "time":
            events[:, number] *= _time_step(head.keywords, notes)
            continue
        if channel.decades > 0 and channel.range > 0:
            events[:, number] = 10 ** (channel.decades * events[:, number] / channel.range) * channel.log_zero
        if channel.gain not in (0.0, 1.0):
            events[:, number] /= channel.gain
    return events


def _time_step(keywords: Mapping[str, str], notes: list[str]) -> float:
    text = keywords.get("$TIMESTEP", "").strip()
    try:
        step = float(text)
    except ValueError:
        step = math.nan
    if math.isfinite(step) and step > 0:
        return step
    notes.append(f"times are in ticks: $TIMESTEP is {text[:40]!r}" if text else "times are in ticks: there is no $TIMESTEP")
    return 1.0


def _spill_or_note(keywords: Mapping[str, str], notes: list[str]) -> dict[str, Any] | None:
    try:
        return spill_of(keywords)
    except UnreadableError as error:
        notes.append(error.message)
        return None


def _check(options: Options) -> dict[str, Any]:
    if options.get("dtype", "float32") not in ("float32", "float64"):
        raise FormatError(f"option dtype={options['dtype']!r}: float32 or float64 is needed")
    for name in ("preprocess",):
        if not isinstance(options.get(name, True), bool):
            raise FormatError(f"option {name}={options[name]!r}: True or False is needed")
    if not isinstance(options.get("compensate", False), bool | dict):
        raise FormatError("option compensate: True, False or {'channels': [...], 'matrix': [[...]]} is needed")
    dataset = options.get("dataset", 0)
    if isinstance(dataset, bool) or not isinstance(dataset, int) or dataset < 0:
        raise FormatError(f"option dataset={dataset!r}: the number of a data set, from 0, is needed")
    try:
        json.dumps(dict(options))
    except (TypeError, ValueError) as error:
        raise FormatError(f"option compensate: {error}; lists and numbers are needed") from error
    return dict(options)


SERIALIZERS = (
    Serializer(
        name="fcs",
        takes="nothing (it is only read; put a table as .parquet)",
        accepts=lambda obj: False,
        read=read,
        options=("dtype", "preprocess", "compensate", "dataset"),
        check=_check,
        table=True,
    ),
)
