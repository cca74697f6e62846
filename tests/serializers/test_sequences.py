"""Real sequence files against Biopython and samtools."""

from __future__ import annotations

import gzip
import importlib
import io
import warnings
from pathlib import Path
from typing import Any

import pysam
import pytest

from epista.contract.errors import UnreadableError
from epista.serializers import sequences

REAL = Path(__file__).parents[3] / "shared" / "data" / "sequences"
FORMATS = {
    "NC_000932.faa": "fasta",
    "NC_005816.fna": "fasta",
    "f002": "fasta",
    "nucleotide_lib.fa": "fasta",
    "example.fastq": "fastq",
    "example.fastq.bgz": "fastq",
    "longreads_original_sanger.fastq": "fastq",
    "NC_000932.gb": "genbank",
    "NC_000932.gb.bgz": "genbank",
    "NC_005816.gb": "genbank",
    "addgene-plasmid-39296-sequence-49545.gbk": "genbank",
    "310.ab1": "abi",
    "sample-d.dna": "snapgene",
}


@pytest.mark.real_data
@pytest.mark.parametrize("path", sorted(path for path in REAL.glob("*") if path.name in FORMATS), ids=lambda path: path.name)
def test_records_are_those_of_biopython(path: Path) -> None:
    format = FORMATS[path.name]
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".bgz" else path.read_bytes()
    source: Any = io.BytesIO(data) if format in ("abi", "snapgene") else io.StringIO(data.decode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seqio: Any = importlib.import_module("Bio.SeqIO")
        theirs = list(seqio.parse(source, format))

    mine = list(sequences.READERS[format](io.BytesIO(data)))

    assert [(one.id, one.seq, len(one.features)) for one in mine] == [(one.id, str(one.seq), len(one.features)) for one in theirs]
    for one, other in zip(mine, theirs, strict=True):
        assert other.description.endswith(one.description)
        assert list(one.quality or ()) == other.letter_annotations.get("phred_quality", [])


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["NC_000932.faa", "NC_005816.fna", "f002"])
def test_the_index_of_a_real_file_is_that_of_samtools(name: str, tmp_path: Path) -> None:
    if not REAL.is_dir():
        return
    path = tmp_path / name
    path.write_bytes((REAL / name).read_bytes())
    pysam.faidx(str(path))

    with path.open("rb") as file:
        mine = ["\t".join(map(str, entry)) for entry in sequences.index(file)]

    assert mine == Path(f"{path}.fai").read_text().splitlines()


ODD = b"""LOCUS       X 8 bp DNA
FEATURES             Location/Qualifiers
     gene            nonsense
     gene            2..5
ORIGIN
        1 acgtacgt
//
"""


@pytest.mark.filterwarnings("ignore:Attempting to parse malformed locus line")
def test_a_feature_whose_place_cannot_be_read_costs_no_other() -> None:
    (record,) = sequences.genbank(io.BytesIO(ODD))

    assert [(one["start"], one["stop"]) for one in record.features] == [(None, None), (2, 5)]


def test_noise_is_no_genbank() -> None:
    with pytest.raises(UnreadableError, match="no record"):
        list(sequences.genbank(io.BytesIO(b"z" * 400)))


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["310.ab1", "sample-d.dna", "NC_005816.gb"])
def test_a_cut_file_is_unreadable_and_nothing_of_a_library_is_raised(name: str) -> None:
    if not REAL.is_dir():
        return
    data = (REAL / name).read_bytes()
    for stop in range(0, 3000, 37):
        try:
            list(sequences.READERS[FORMATS[name]](io.BytesIO(data[:stop])))
        except UnreadableError:
            continue
