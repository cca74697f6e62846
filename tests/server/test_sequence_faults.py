"""Regions and blocks that somebody made wrong on purpose."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import pytest

from epista.client import sequence
from epista.contract.errors import UnreadableError, ValidationError
from epista.serializers import fcs, sequences
from epista.server.engines import sequence_files
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
