"""Regions and blocks that somebody made wrong on purpose."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import pytest

from epista.client import sequence
from epista.contract.errors import NotFoundError, UnreadableError, ValidationError
from epista.serializers import fcs, sequences
from epista.server.engines import sequence_files
from epista.server.engines.sequences import located
from epista.server.engines.sources import Job


def block(data: bytes, *, bsize: int | None = None) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    body = packer.compress(data) + packer.flush()
    size = len(body) + 25 if bsize is None else bsize
    head = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff\x06\x00BC\x02\x00" + struct.pack("<H", size)
    return head + body + struct.pack("<II", zlib.crc32(data), len(data))


@pytest.mark.parametrize("bsize", [0, 2, 17])
def test_a_block_smaller_than_its_own_header_is_no_bgzip(tmp_path: Path, bsize: int) -> None:
    path = tmp_path / "a.fa.gz"
    path.write_bytes(block(b">a\nACGT\n", bsize=bsize))
    job = Job(path=os.fsencode(path), offset=0, size=path.stat().st_size, format="fasta", gzipped=True, options={})
    assert sequence_files.make(job).is_scanned


def test_numbers_of_the_index_are_no_part_of_a_name() -> None:
    index = sequence_files.Index(fai=b"chr1\t4\t6\t4\t5\nchr2\t4\t17\t4\t5\n")
    assert located(index, "chr2", "v", "a.fa").first == 17
    for name in ("chr1\t4", "chr1\t4\t6", "4\t5\nchr2", "", "\n", "chr1\t4:1-2"):
        with pytest.raises(NotFoundError):
            located(index, name, "v", "a.fa")


@pytest.mark.parametrize("end", [b"", b"\n"], ids=["open", "ended"])
def test_the_rest_of_a_line_that_is_too_long_is_not_taken_for_another(end: bytes) -> None:
    whole = b">a\n" + b"A" * 20 + end
    assert list(sequences.lines(io.BytesIO(whole), limit=20 + len(end))) == [b">a\n", b"A" * 20 + end]
    with pytest.raises(UnreadableError, match="a line is longer than 19 bytes"):
        list(sequences.lines(io.BytesIO(whole), limit=19))


def test_a_position_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(ValidationError):
        sequences.region("chr1:" + "9" * 5000)


def test_blocks_are_unpacked_one_after_the_other_and_a_cut_one_is_left_out() -> None:
    whole = block(b"ACGT" * 9000) + block(b"") + block(b"TTTT")
    assert sequence._unpacked(whole + block(b"G" * 99)[:14]) == b"ACGT" * 9000 + b"TTTT"


@pytest.mark.parametrize("digits", [30, 5000])
def test_a_number_of_fcs_that_no_file_can_have_is_unreadable(digits: int) -> None:
    with pytest.raises(UnreadableError):
        fcs._number({"$NEXTDATA": "9" * digits}, "$NEXTDATA", 0)
    with pytest.raises(UnreadableError):
        fcs.spill_of({"$SPILLOVER": "9" * digits + ",a,1"})
