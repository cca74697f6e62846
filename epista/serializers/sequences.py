"""
Sequences: FASTA, FASTQ and GenBank as records, and the index of a FASTA file.

Sources: the index is that of ``samtools faidx`` (htslib, faidx(5)); FASTQ as in Cock et al., Nucleic Acids Research 38, 2010,
with Sanger qualities, in lines of any length; GenBank is read by Biopython. All readers are lazy and take a binary file.
"""

from __future__ import annotations

import codecs
import io
import re
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple
from xml.parsers import expat

from epista.contract.errors import EpistaError, FormatError, UnreadableError, ValidationError
from epista.serializers.serializer import Serializer, require

MAX_LINE_BYTES = 1 << 30
"""How long a line may be, its end included; a chromosome on one line has a quarter of a gigabyte."""

MAX_DIGITS = 30
"""How long a number of a region may be, its commas included."""

WIDTH = 70
"""How many letters a written line has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One sequence of a file."""

    id: str
    """The first word of its title."""
    description: str = ""
    """The rest of its title."""
    seq: str
    """Its letters, as they stand in the file."""
    quality: tuple[int, ...] | None = None
    """Phred qualities, one for each letter (FASTQ)."""
    features: tuple[Mapping[str, Any], ...] = ()
    """``type, start, stop, strand, qualifiers`` (GenBank); from 1, both ends included; None for a place that cannot be read."""
    annotations: Mapping[str, Any] = field(default_factory=dict)
    """What the file says of the record as a whole (GenBank)."""

    def __len__(self) -> int:
        return len(self.seq)

    def __repr__(self) -> str:
        return f"<Record {self.id!r} {len(self.seq):,} letters>"


class Entry(NamedTuple):
    """A line of an index: where the letters of a record lie (faidx(5))."""

    name: str
    length: int
    """Letters."""
    offset: int
    """Of the first letter, in bytes of the unpacked file."""
    line_bases: int
    """Letters of a line."""
    line_width: int
    """Bytes of a line, its end included."""

    def at(self, position: int) -> int:
        """Where the letter *position*, from 0, lies."""
        if not self.line_bases:
            return self.offset
        line, column = divmod(position, self.line_bases)
        return self.offset + line * self.line_width + column


class RaggedError(UnreadableError):
    """The lines of a record differ in length, or hold more than letters, so that no index tells where its letters lie."""

    code = "ragged"


def lines(file: BinaryIO, *, limit: int = MAX_LINE_BYTES) -> Iterator[bytes]:
    """
    Read the lines of a file, with their ends.

    Raises:
        UnreadableError: one is longer than *limit* bytes, so that its rest would pass for the next.
    """
    while line := file.readline(limit):
        if len(line) == limit and not line.endswith(b"\n") and file.read(1):
            raise UnreadableError(f"a line is longer than {limit:,} bytes")
        yield line


def fasta(file: BinaryIO) -> Iterator[Record]:
    """
    Read FASTA. Lines that begin with ``;`` are comments, blanks within sequences are left out.

    Raises:
        UnreadableError: letters stand before the first title.
    """
    title: str | None = None
    letters: list[str] = []
    for line in _lines(file):
        if line.startswith(">"):
            if title is not None:
                yield _record(title, "".join(letters))
            if "\r" in line:
                raise UnreadableError(_CR_ONLY)
            title, letters = line[1:], []
        elif title is None:
            if line.strip() and not line.startswith(";"):
                raise UnreadableError("no FASTA file: it does not begin with '>'")
        elif not line.startswith(";"):
            letters.append("".join(line.split()))
    if title is not None:
        yield _record(title, "".join(letters))


def fastq(file: BinaryIO) -> Iterator[Record]:
    """
    Read FASTQ, in lines of any length.

    Raises:
        UnreadableError: a record is cut or has not as many qualities as letters.
    """
    rows = iter(_lines(file))
    number = 0
    for line in rows:
        if not line.strip():
            continue
        number += 1
        if not line.startswith("@"):
            raise UnreadableError(f"no FASTQ file: record {number} does not begin with '@'")
        letters = []
        for part in rows:
            if part.startswith("+"):
                break
            letters.append(part.strip())
        else:
            raise UnreadableError(f"record {number} is cut: it has no qualities")
        seq, marks = "".join(letters), ""
        # A line of qualities may begin with '@', so only their number tells where they end.
        while len(marks) < len(seq):
            part = next(rows, None)  # type: ignore[assignment]
            if part is None:
                raise UnreadableError(f"record {number} is cut: {len(marks):,} qualities for {len(seq):,} letters")
            marks += part.strip()
        if len(marks) != len(seq):
            raise UnreadableError(f"record {number} has {len(marks):,} qualities for {len(seq):,} letters")
        yield _record(line[1:], seq, tuple(ord(mark) - 33 for mark in marks))


def genbank(file: BinaryIO) -> Iterator[Record]:
    """Read GenBank, with annotations and features."""
    return _by_biopython(file, "genbank", text=True)


def abi(file: BinaryIO) -> Iterator[Record]:
    """Read an AB1 trace: its called letters and their qualities."""
    return _by_biopython(file, "abi", text=False)


def snapgene(file: BinaryIO) -> Iterator[Record]:
    """Read a SnapGene file."""
    return _by_biopython(file, "snapgene", text=False)


READERS: Mapping[str, Callable[[BinaryIO], Iterator[Record]]] = {
    "fasta": fasta,
    "fastq": fastq,
    "genbank": genbank,
    "abi": abi,
    "snapgene": snapgene,
}
"""By the names of formats."""


def index(file: Iterable[bytes]) -> Iterator[Entry]:
    """
    Index FASTA as ``samtools faidx`` does, from the lines of an unpacked file; but comments and blanks, which samtools takes for
    letters, are none, as in `fasta`.

    Raises:
        RaggedError: a line before the last of a record is longer or shorter than its first, or a comment or blanks stand in it.
        UnreadableError: no FASTA file.
    """
    entry: list[Any] | None = None
    at, is_last = 0, False
    for line in file:
        start, at = at, at + len(line)
        if not start:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line.startswith(b";"):
            is_last = entry is not None and entry[1] > 0
            continue
        if line.startswith(b">"):
            if entry is not None:
                yield Entry(*entry)
            if b"\r" in line.rstrip(b"\r\n"):
                raise UnreadableError(_CR_ONLY)
            name = (line[1:].split(None, 1) or [b""])[0].decode("utf-8", "replace")
            entry, is_last = [name, 0, at, 0, 0], False
            continue
        rest = line.translate(None, _LETTERS)
        bases = len(line) - len(rest)
        width = len(line) if line.endswith(b"\n") else bases + 1  # of the last line, as if it were ended
        if entry is None:
            if bases:
                raise UnreadableError("no FASTA file: it does not begin with '>'")
            continue
        if bases and rest not in _ENDS:
            raise RaggedError(f"the lines of {entry[0]!r} hold more than letters")
        if entry[1] == 0 and bases:
            entry[2:] = [start, bases, width]
        elif bases and (is_last or bases > entry[3]):
            raise RaggedError(f"the lines of {entry[0]!r} differ in length")
        is_last = bool(entry[1] or bases) and (bases < entry[3] or width != entry[4])
        entry[1] += bases
    if entry is not None:
        yield Entry(*entry)


_REGION = re.compile(r"(.+):([0-9][0-9,]*)(?:-([0-9][0-9,]*)?)?")


def region(text: str) -> tuple[str, int, int | None] | None:
    """
    Return the name, the first and the last letter of ``chr1:101-600``, from 1 and included; None for a mere name.

    As in samtools, ``chr1:101`` and ``chr1:101-`` go to the end.

    Raises:
        ValidationError: a number is longer than that of any letter.
    """
    found = _REGION.fullmatch(text)
    if found is None:
        return None
    if max(len(number or "") for number in found.groups()[1:]) > MAX_DIGITS:
        raise ValidationError(f"a region has numbers of at most {MAX_DIGITS} digits")
    return found[1], int(found[2].replace(",", "")), int(found[3].replace(",", "")) if found[3] else None


_LETTERS = bytes(range(33, 127))
_ENDS = (b"", b"\n", b"\r", b"\r\n")
_CR_ONLY = "its lines end in CR alone; end them in LF"

_COMPLEMENT = str.maketrans("ACGTUNRYSWKMBDHVacgtunryswkmbdhv", "TGCAANYRSWMKVHDBtgcaanyrswmkvhdb")
_IUPAC = {letter: letter for letter in "ACGT"} | {
    "U": "T",
    "R": "AG",
    "Y": "CT",
    "S": "CG",
    "W": "AT",
    "K": "GT",
    "M": "AC",
    "B": "CGT",
    "D": "AGT",
    "H": "ACT",
    "V": "ACG",
    "N": "ACGT",
}


def reverse_complement(seq: str) -> str:
    """Return the other strand of DNA, in IUPAC codes."""
    return seq.translate(_COMPLEMENT)[::-1]


def motif(text: str) -> re.Pattern[str]:
    """
    Return a pattern for a motif in IUPAC codes, which finds overlapping places too.

    Raises:
        FormatError: a letter is no IUPAC code of a nucleotide.
    """
    letters = text.upper()
    if not letters or (odd := sorted(set(letters) - set(_IUPAC))):
        raise FormatError(f"a motif is IUPAC codes of nucleotides, not {''.join(odd) if letters else 'nothing'!r}")
    parts = [f"[{_IUPAC[letter]}{'U' if 'T' in _IUPAC[letter] else ''}]" for letter in letters]
    return re.compile(f"(?=({''.join(parts)}))", re.IGNORECASE)


def write(obj: Any) -> bytes:
    """Write FASTA: a list of records, or a dict of names and letters; text is written as it is."""
    if isinstance(obj, str):
        return obj.encode()
    records = obj.items() if isinstance(obj, Mapping) else ((f"{one.id} {one.description}".strip(), one.seq) for one in obj)
    out = io.StringIO()
    for name, letters in records:
        if "\n" in name or "\r" in name or not re.fullmatch(r"[A-Za-z*.\-]*", letters):
            raise FormatError(f"{name!r}: a record has a name of one line, and letters")
        out.write(f">{name}\n")
        out.writelines(f"{letters[at : at + WIDTH]}\n" for at in range(0, len(letters), WIDTH))
    return out.getvalue().encode()


def _record(title: str, seq: str, quality: tuple[int, ...] | None = None) -> Record:
    name, *rest = title.split(None, 1) or [""]
    return Record(id=name, description="".join(rest).strip(), seq=seq, quality=quality)


def _lines(file: BinaryIO) -> Iterator[str]:
    mark = codecs.BOM_UTF8
    for line in lines(file):
        yield line.removeprefix(mark).rstrip(b"\r\n").decode("utf-8", "replace")
        mark = b""


def _by_biopython(file: BinaryIO, format: str, *, text: bool) -> Iterator[Record]:
    with warnings.catch_warnings():
        # Biopython takes some environments for its own source tree, and says so.
        warnings.simplefilter("ignore")
        seqio = require("Bio.SeqIO", "epista[sequence]")
    stream: Any = io.TextIOWrapper(file, encoding="utf-8", errors="replace") if text else file
    try:
        found_all, any_found = iter(seqio.parse(stream, format)), False
        while True:
            with warnings.catch_warnings():
                # Of places that wrap around an origin, and the like; what is read is what Biopython makes of them.
                warnings.simplefilter("ignore")
                found = next(found_all, None)
            if found is None and not any_found:
                raise UnreadableError(f"it cannot be read as {format}: there is no record")
            if found is None:
                return
            any_found = True
            yield Record(
                id=found.id,
                description=found.description,
                seq=str(found.seq),
                quality=tuple(found.letter_annotations["phred_quality"]) if "phred_quality" in found.letter_annotations else None,
                features=tuple(_feature(one) for one in found.features),
                annotations={
                    name: _plain(value) for name, value in found.annotations.items() if isinstance(value, str | int | list)
                },
            )
    except EpistaError:
        raise
    except _BIOPYTHON_RAISES as error:
        first = (str(error).splitlines() or [""])[0]
        raise UnreadableError(f"it cannot be read as {format}: {first}") from error
    finally:
        if text:
            stream.detach()


_BIOPYTHON_RAISES = (
    *(ValueError, KeyError, IndexError, AttributeError, TypeError, AssertionError, OverflowError, EOFError, StopIteration),
    *(struct.error, expat.ExpatError),
)
"""For files that are cut or damaged; found by damaging real ones."""


def _plain(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    # References are objects of Biopython's.
    return [
        one
        if isinstance(one, str | int)
        else {name: getattr(one, name, "") for name in ("title", "authors", "journal", "pubmed_id")}
        for one in value
    ]


def _feature(found: Any) -> Mapping[str, Any]:
    # A place that Biopython cannot read is none, one that the file leaves open is no number.
    start, stop = (getattr(found.location, end, None) for end in ("start", "end"))
    return {
        "type": found.type,
        "start": int(start) + 1 if isinstance(start, int) else None,
        "stop": int(stop) if isinstance(stop, int) else None,
        "strand": getattr(found.location, "strand", None),
        "qualifiers": {name: list(values) for name, values in found.qualifiers.items()},
    }


def _is_text(obj: object) -> bool:
    return isinstance(obj, str)


def _accepts(obj: object) -> bool:
    if isinstance(obj, str):
        return True
    if isinstance(obj, Mapping):
        return bool(obj) and all(isinstance(name, str) for name in obj) and all(isinstance(seq, str) for seq in obj.values())
    return isinstance(obj, list) and bool(obj) and all(isinstance(one, Record) for one in obj)


def _reader(format: str) -> Callable[..., list[Record]]:
    return lambda data: list(READERS[format](io.BytesIO(data)))


SERIALIZERS = (
    Serializer(
        name="fasta",
        takes="a dict of names and sequences, a list of records, or text",
        accepts=_accepts,
        write=write,
        read=_reader("fasta"),
    ),
    Serializer(name="fastq", takes="text", accepts=_is_text, write=write, read=_reader("fastq")),
    Serializer(
        name="genbank", takes="text", accepts=_is_text, write=write, read=_reader("genbank"), requires=("Bio",), extra="sequence"
    ),
    *(
        Serializer(
            name=name,
            takes="nothing (it is only read)",
            accepts=lambda obj: False,
            read=_reader(name),
            requires=("Bio",),
            extra="sequence",
        )
        for name in ("abi", "snapgene")
    ),
)
