"""``ws.sequence`` on every kind of lab: records, regions and motifs of what lies in the bucket."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pysam
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import epista
from epista.serializers import sequences

GENOME = {
    "chr1": "".join(random.Random(1).choices("ACGT", k=100_000)),
    "chr2": "acgtn" * 50,
    "HLA:A*01:01": "GATTACA",
    "empty": "",
}

REGIONS = (
    ("chr1:101-600", "chr1", 101, 600),
    ("chr1:99,990-100,000", "chr1", 99_990, 100_000),
    ("chr1:7-7", "chr1", 7, 7),
    ("chr2", "chr2", 1, 250),
    ("chr2:3-4", "chr2", 3, 4),
    ("chr1:69-72", "chr1", 69, 72),
    ("chr1:99000", "chr1", 99_000, 100_000),
)


@pytest.fixture
def genome(ws: epista.Workspace) -> str:
    ws.put("EXP-12/genome.fa", GENOME)
    return "EXP-12/genome.fa"


def test_records_come_one_by_one_and_a_key_is_a_list_of_them(ws: epista.Workspace, genome: str) -> None:
    assert ws.get(genome).kind == "SEQUENCE"
    assert {record.id: record.seq for record in ws.sequence.records(genome)} == GENOME
    assert [record.id for record in ws(genome)] == list(GENOME)
    assert ws.sequence.info(genome)[:5] == (4, 100_257, 0, 100_000, 100_000)


@pytest.mark.parametrize("key", ["genome.fa", "genome.fa.bgz", "genome.fa.gz"])
def test_a_region_is_what_samtools_fetches(ws: epista.Workspace, tmp_path: Path, key: str) -> None:
    data = sequences.write(GENOME)
    ws.put(f"EXP-12/{key}", gzip.compress(data) if key.endswith(".gz") else GENOME)
    # samtools knows no empty records.
    (tmp_path / "genome.fa").write_bytes(data.replace(b">empty\n", b""))

    with pysam.FastaFile(str(tmp_path / "genome.fa")) as oracle:
        for region, name, first, stop in REGIONS:
            assert ws.sequence.fetch(f"EXP-12/{key}", region) == oracle.fetch(name, first - 1, stop)
    assert ws.sequence.fetch(f"EXP-12/{key}", "chr1:99999-200000") == GENOME["chr1"][99_998:]
    assert ws.sequence.fetch(f"EXP-12/{key}", "HLA:A*01:01") == "GATTACA"
    assert ws.sequence.fetch(f"EXP-12/{key}", "HLA:A*01:01:2-3") == "AT"
    assert ws.sequence.fetch(f"EXP-12/{key}", "empty") == ""


def test_what_cannot_be_fetched_is_said(ws: epista.Workspace, genome: str) -> None:
    with pytest.raises(epista.NotFoundError, match="no record"):
        ws.sequence.fetch(genome, "chr9:1-2")
    with pytest.raises(epista.ValidationError, match="letters 1 to 250"):
        ws.sequence.fetch(genome, "chr2:251-300")
    with pytest.raises(epista.KeyNotFoundError):
        ws.sequence.fetch("EXP-12/absent.fa", "chr1")
    ws.put("EXP-12/notes.txt", "no sequence")
    with pytest.raises(epista.FormatError):
        ws.sequence.fetch("EXP-12/notes.txt", "chr1")
    with pytest.raises(epista.FormatError):
        list(ws.sequence.records("EXP-12/notes.txt"))
    ws.put("EXP-12/noise.fa", b"no title\n")
    with pytest.raises(epista.UnreadableError, match="does not begin"):
        ws.sequence.fetch("EXP-12/noise.fa", "chr1")


def test_lines_that_differ_in_length_are_read_from_the_beginning(ws: epista.Workspace) -> None:
    ws.put("EXP-12/ragged.fa", b">a one\nAC\nGTAC\nG\n>b\nTTT\n")

    assert ws.sequence.fetch("EXP-12/ragged.fa", "a:3-5") == "GTA"
    assert ws.sequence.fetch("EXP-12/ragged.fa", "b") == "TTT"


def test_a_motif_is_found_on_both_strands(ws: epista.Workspace) -> None:
    ws.put("EXP-12/plasmid.fa", {"p": "AAGGTCCTTGGACCAAgaattc"})

    found = [(hit.start, hit.stop, hit.strand, hit.seq) for hit in ws.sequence.find("EXP-12/plasmid.fa", "GGWCC")]

    assert found == [(3, 7, 1, "GGTCC"), (10, 14, 1, "GGACC")]
    assert [hit.start for hit in ws.sequence.find("EXP-12/plasmid.fa", "GAATTC")] == [17]
    assert [(hit.start, hit.strand) for hit in ws.sequence.find("EXP-12/plasmid.fa", "AAGG")] == [(1, 1), (6, -1)]
    with pytest.raises(epista.FormatError, match="IUPAC"):
        list(ws.sequence.find("EXP-12/plasmid.fa", "GGXCC"))


def test_records_are_found_by_name_and_title(ws: epista.Workspace) -> None:
    ws.put("EXP-12/genes.fa", b">NP_051037.1 ribosomal protein S12\nMPTIKQ\n>other photosystem\nMTAI\n")
    ws.put("EXP-12/reads.fastq", b"@EAS54_6_R1 lane 7\nACGT\n+\nIIII\n")

    assert [hit.key for hit in ws.search("kind:SEQUENCE ribosomal")] == ["EXP-12/genes.fa"]
    assert [hit.key for hit in ws.search("photosystem")] == ["EXP-12/genes.fa"]
    assert [hit.key for hit in ws.search("EAS54_6_R1")] == ["EXP-12/reads.fastq"]


def test_fastq_has_qualities_in_lines_of_any_length(ws: epista.Workspace) -> None:
    ws.put("EXP-12/reads.fastq", b"@one x\nAC\nGT\n+\n@I\nII\n@two\n\n+\n\n")
    first = next(ws.sequence.records("EXP-12/reads.fastq"))

    assert (first.id, first.description, first.seq, first.quality) == ("one", "x", "ACGT", (31, 40, 40, 40))
    ws.put("EXP-12/cut.fastq", b"@one\nACGT\n+\nII\n")
    with pytest.raises(epista.UnreadableError, match="2 qualities for 4 letters"):
        list(ws.sequence.records("EXP-12/cut.fastq"))


@pytest.mark.parametrize(
    ("data", "letters"),
    [
        (b">a\nACGT\n;xyz\nGGGG\n", "ACGTGGGG"),
        (b">a\nAC GT\nACGTA\n", "ACGTACGTA"),
        (b">a\nACGT \nACG\n", "ACGTACG"),
        (b";of us\n>a\n;of a\nACGT\nAC\n;end\n", "ACGTAC"),
        (b"\xef\xbb\xbf>a\r\nACGT\r\nAC", "ACGTAC"),
        (b">a\tx\nAC\n\n>a\nGT\n", "AC"),
    ],
    ids=["comment", "blank", "trailing", "comments around", "byte order mark", "the first of its name"],
)
def test_a_region_has_the_letters_of_the_record_and_nothing_else(ws: epista.Workspace, data: bytes, letters: str) -> None:
    ws.put("EXP-12/odd.fa", data)

    assert next(ws.sequence.records("EXP-12/odd.fa")).seq == letters
    assert ws.sequence.fetch("EXP-12/odd.fa", "a") == letters
    assert ws.sequence.fetch("EXP-12/odd.fa", "a:2-5") == letters[1:5]


PACKED = gzip.compress(b">a\n" + "".join(random.Random(2).choices("ACGT", k=20_000)).encode(), mtime=0)


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("lying.fa.gz", b">a\nACGT\n"),
        ("cut.fa.gz", PACKED[: len(PACKED) // 2]),
        ("noise.fa.gz", PACKED[:40] + bytes(3000)),
        ("mac.fa", b">a\rACGT\r"),
        ("packed.fa", PACKED),
    ],
    ids=["lying", "cut", "noise", "mac", "packed"],
)
def test_a_damaged_file_is_said_to_be_so(ws: epista.Workspace, key: str, data: bytes) -> None:
    ws.put(f"EXP-12/{key}", data)

    with pytest.raises(epista.UnreadableError):
        list(ws.sequence.records(f"EXP-12/{key}"))
    with pytest.raises(epista.UnreadableError):
        ws.sequence.fetch(f"EXP-12/{key}", "a:2-3")


def test_a_cut_file_of_bgzip_is_said_to_be_so(ws: epista.Workspace, tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_bytes(sequences.write(GENOME))
    pysam.tabix_compress(str(tmp_path / "a.fa"), str(tmp_path / "a.fa.bgz"))
    whole = (tmp_path / "a.fa.bgz").read_bytes()
    ws.put("EXP-12/whole.fa.bgz", whole)
    ws.put("EXP-12/cut.fa.bgz", whole[: len(whole) // 2])

    assert ws.sequence.fetch("EXP-12/whole.fa.bgz", "chr1:64000-66000") == GENOME["chr1"][63_999:66_000]
    with pytest.raises(epista.UnreadableError, match="cut or damaged"):
        ws.sequence.fetch("EXP-12/cut.fa.bgz", "chr1:1-2")


def test_what_an_asset_was_put_as_counts_where_its_key_says_nothing(ws: epista.Workspace) -> None:
    ws.put("EXP-12/f002", b">a\nACGT\n", format="fasta")

    assert [record.seq for record in ws.sequence.records("EXP-12/f002")] == ["ACGT"]
    assert ws.sequence.fetch("EXP-12/f002", "a:2-3") == "CG"


def test_places_of_a_motif_are_told_as_they_are_found(ws: epista.Workspace) -> None:
    ws.put("EXP-12/long.fa", {"r": "AU" * 500_000})

    found = ws.sequence.find("EXP-12/long.fa", "AU")

    assert [next(found)[1:4], next(found)[1:4]] == [(1, 2, 1), (3, 4, 1)]
    assert ws.sequence.info("EXP-12/long.fa").alphabet == "AU"


letters = st.text(alphabet="ACGTNacgt", min_size=1, max_size=300)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(letters, min_size=1, max_size=5), st.sampled_from([b"\n", b"\r\n"]), st.integers(1, 80), st.booleans())
def test_an_index_is_that_of_samtools(tmp_path: Path, seqs: list[str], end: bytes, width: int, closed: bool) -> None:
    lines = []
    for number, seq in enumerate(seqs):
        lines += [f">s{number} title".encode(), *(seq[at : at + width].encode() for at in range(0, len(seq), width))]
    path = tmp_path / "a.fa"
    path.write_bytes(end.join(lines) + (end if closed else b""))
    Path(f"{path}.fai").unlink(missing_ok=True)
    pysam.faidx(str(path))

    with path.open("rb") as file:
        mine = ["\t".join(map(str, entry)) for entry in sequences.index(file)]

    assert mine == Path(f"{path}.fai").read_text().splitlines()
