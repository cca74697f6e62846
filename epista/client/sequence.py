"""``ws.sequence``: FASTA, FASTQ, GenBank and the like, as records and regions."""

from __future__ import annotations

import contextlib
import gzip
import heapq
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from epista.contract import formats
from epista.contract import sequences as wire
from epista.contract.assets import AssetRef
from epista.contract.errors import FormatError, IntegrityError, NotFoundError, UnreadableError, ValidationError
from epista.serializers import sequences
from epista.serializers.sequences import Record

if TYPE_CHECKING:
    import re

    from epista.client.workspace import Workspace

INDEX_SECONDS = 3600.0
"""How long the lab may take to index a file that nobody fetched from before."""


MAX_BLOCK_BYTES = 65_536
"""How large a stored block of bgzip is at most."""


class Info(NamedTuple):
    """What is in a file of sequences."""

    records: int
    """How many."""
    letters: int
    """In all records."""
    shortest: int
    longest: int
    n50: int
    """Half of all letters are in records at least as long as this."""
    gc: float
    """The share of G and C among A, C, G, T and U; 0 where there are none."""
    names: tuple[str, ...]
    """Of the first hundred."""
    alphabet: str
    """Each letter that stands there, as capitals, sorted."""


class Match(NamedTuple):
    """A place where a motif stands."""

    record: str
    start: int
    """From 1."""
    stop: int
    """Included."""
    strand: int
    """1, or -1 for the reverse complement."""
    seq: str
    """The letters there, as they stand in the file."""


class Sequence:
    """Sequences: records one by one, regions by an index, motifs on both strands."""

    def __init__(self, host: Workspace) -> None:
        self._here = host

    def records(self, ref: str | AssetRef, *, version: str | int | None = None) -> Iterator[Record]:
        """
        Read the records one after the other: ``id, description, seq, quality, features``.

        FASTA and FASTQ need no package; GenBank, AB1 and SnapGene need Biopython.

        Raises:
            UnreadableError: it is no such file.
            FormatError: the asset is of another format.
            MissingExtraError: Biopython is needed, and not installed.
        """
        with self._opened(ref, version) as (format, file):
            yield from sequences.READERS[format](file)

    def fetch(self, ref: str | AssetRef, region: str, *, version: str | int | None = None) -> str:
        """
        Return the letters of a *region* of FASTA: a record's name, or ``chr1:101-600``, from 1 with both ends included.

        A whole name wins over a region. An end beyond the record is cut. The lab indexes the file at first use; from then on a
        region is one read of its bytes, also within bgzip. Where lines differ in length, or the file is plain gzip, it is read
        from its beginning.

        Raises:
            NotFoundError: no record has that name.
            ValidationError: the region begins outside the record.
        """
        found = self._located(ref, region, version)
        if found.is_scanned:
            return self._scanned(ref, region, found.version)
        if found.stop < found.start:
            return ""
        count = found.stop - found.start + 1
        # An end past the file's means its end.
        last = found.first + found.size - 1
        with self._here.open(ref, version=found.version, byte_range=(found.first, last)) as stream:
            data = stream.read()
        if found.is_packed:
            data = _unpacked(data)[found.skip :]
        letters = data.translate(None, b"\r\n")[:count].decode("utf-8", "replace")
        if len(letters) != count:
            raise IntegrityError(f"of {region!r} {len(letters):,} letters are there, not {count:,}")
        return letters

    def info(self, ref: str | AssetRef, *, version: str | int | None = None) -> Info:
        """Count the records and letters; the file is read once, a record at a time."""
        lengths: Counter[int] = Counter()
        alphabet: set[str] = set()
        names: list[str] = []
        gc = nucleotides = 0
        for record in self.records(ref, version=version):
            seq = record.seq.upper()
            lengths[len(seq)] += 1
            alphabet.update(seq)
            gc += seq.count("G") + seq.count("C")
            nucleotides += sum(map(seq.count, "ACGTU"))
            if len(names) < 100:
                names.append(record.id)
        total, half, n50 = sum(length * count for length, count in lengths.items()), 0, 0
        for length in sorted(lengths, reverse=True):
            half += length * lengths[length]
            n50 = length
            if 2 * half >= total:
                break
        return Info(
            records=lengths.total(),
            letters=total,
            shortest=min(lengths, default=0),
            longest=max(lengths, default=0),
            n50=n50,
            gc=gc / nucleotides if nucleotides else 0.0,
            names=tuple(names),
            alphabet="".join(sorted(alphabet)),
        )

    def find(self, ref: str | AssetRef, motif: str, *, version: str | int | None = None) -> Iterator[Match]:
        """
        Find a *motif* in IUPAC codes, such as ``GGWCC``, on both strands; places may overlap. One that is its own reverse
        complement is told once.

        Raises:
            FormatError: the motif is none.
        """
        there, back = sequences.motif(motif), sequences.reverse_complement(motif)
        strands = [(1, there)] if back.upper() == motif.upper().replace("U", "T") else [(1, there), (-1, sequences.motif(back))]
        for record in self.records(ref, version=version):
            # Lazily: a motif of two letters stands in a chromosome more often than memory holds.
            found = (_matches(record, pattern, strand) for strand, pattern in strands)
            yield from heapq.merge(*found, key=lambda match: (match.start, -match.strand))

    def _located(self, ref: str | AssetRef, region: str, version: str | int | None) -> wire.Region:
        if not region.strip():
            raise ValidationError("a region is a record's name, or chr1:101-600")
        wanted = wire.LocateRegion(
            workspace=self._here.name,
            ref=ref.id if isinstance(ref, AssetRef) else ref,
            region=region,
            experiment=self._here.experiment_name,
            version=None if version is None else str(version),
        )
        return self._here.wire.call("sequences.locate", wanted, reply=wire.Region, read_seconds=INDEX_SECONDS)

    def _scanned(self, ref: str | AssetRef, region: str, version: str) -> str:
        parts = sequences.region(region)
        within: Record | None = None
        for record in self.records(ref, version=version):
            if record.id == region:
                return record.seq
            if parts is not None and record.id == parts[0] and within is None:
                within = record
        if within is None or parts is None:
            raise NotFoundError(f"no record is called {region!r}", hint="ws.sequence.info(ref) lists the records")
        _, start, stop = parts
        if not 1 <= start <= max(len(within.seq), 1) or (stop is not None and stop < start - 1):
            raise ValidationError(f"{region!r}: {within.id!r} has letters 1 to {len(within.seq):,}")
        return within.seq[start - 1 : stop]

    @contextlib.contextmanager
    def _opened(self, ref: str | AssetRef, version: str | int | None) -> Iterator[tuple[str, BinaryIO]]:
        with self._here.open(ref, version=version) as stream:
            name = str(stream.raw.name)  # type: ignore[attr-defined]
            row = formats.of_key(name)
            # The extension says it, but where the asset was put with another format.
            format = row.name if row and row.name in sequences.READERS else self._here.get(ref).format
            if format not in sequences.READERS:
                known = ", ".join(sequences.READERS)
                raise FormatError(f"{name!r} is {format or 'of no known format'}; sequences are read from {known}")
            if formats.is_gzipped(name):
                try:
                    with gzip.GzipFile(fileobj=stream) as unpacked:
                        yield format, cast("BinaryIO", unpacked)
                except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                    raise UnreadableError(f"{name!r} is no gzip, or cut or damaged") from error
            elif stream.peek(2)[:2] == b"\x1f\x8b":
                raise UnreadableError(f"{name!r} is gzip, which its name does not say", hint=f"epista mv {name} {name}.gz")
            else:
                yield format, cast("BinaryIO", stream)


def _matches(record: Record, pattern: re.Pattern[str], strand: int) -> Iterator[Match]:
    for hit in pattern.finditer(record.seq):
        yield Match(record.id, hit.start(1) + 1, hit.end(1), strand, hit[1])


def _unpacked(data: bytes) -> bytes:
    """Return what blocks of bgzip hold; one that is cut at the end is left out."""
    pieces, view, at = [], memoryview(data), 0
    while at < len(data):
        # No more than a block at once: what is left over is copied each time.
        given = view[at : at + MAX_BLOCK_BYTES]
        unpacker = zlib.decompressobj(wbits=31)
        try:
            pieces.append(unpacker.decompress(given))
        except zlib.error as error:
            raise IntegrityError("the blocks of this file are not where its index says") from error
        if not unpacker.eof:
            break
        at += len(given) - len(unpacker.unused_data)
    return b"".join(pieces)
