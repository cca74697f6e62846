"""
Coverage-guided fuzzing of what reads users' bytes on the server and is written in Python: ``python -m tests.fuzz.guided``.

Needs atheris (https://github.com/google/atheris, 3.0), which tells which new paths an input takes and mutates those further. Each
target runs in a process of its own, with limits on the time of one input, on memory, and on all of it. Only Epista's own errors
may come out; what else does is printed as bytes, to be pasted into a regression test, and the exit code is 1. What targets begin
with is made here; the beginnings of real files join in where they are.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

INPUT_SECONDS = 10
"""How long one input may take; libFuzzer watches it."""

MEMORY_MIB = 1024
"""How much memory a target may take at any moment, atheris included."""

INPUT_BYTES = 16 * 1024
"""How long an input grows."""

Target = Callable[[bytes], object]


def main() -> int:
    """Run targets one after the other; return the exit code."""
    if sys.argv[1:2] == ["--child"]:
        _fuzz(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long each target runs")
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(NAMES)}; all of them if none is given")
    given = parser.parse_args()
    if unknown := sorted(set(given.targets) - set(NAMES)):
        parser.error(f"no target {', '.join(unknown)}")
    return 1 if [name for name in given.targets or NAMES if not _run(name, given.seconds)] else 0


def _run(name: str, seconds: int) -> bool:
    """Run a target in a child; return whether nothing was found."""
    with tempfile.TemporaryDirectory(prefix="epista-fuzz-") as folder:
        corpus, found = Path(folder) / "corpus", Path(folder) / "found"
        corpus.mkdir()
        found.mkdir()
        for number, seed in enumerate(seeds(name)):
            (corpus / str(number)).write_bytes(seed[:INPUT_BYTES])
        limits = (f"-timeout={INPUT_SECONDS}", f"-rss_limit_mb={MEMORY_MIB}", f"-max_len={INPUT_BYTES}")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz.guided", "--child", name),
                *(f"-max_total_time={seconds}", *limits),
                *(f"-artifact_prefix={found}/", "-print_final_stats=1", "-verbosity=0", str(corpus)),
            ],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds + 20 * INPUT_SECONDS,
        )
        said = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("INFO: ")]
        runs = next((line.split()[-1] for line in said if "number_of_executed_units" in line), "?")
        print(f"{name}: {runs} inputs, {len(list(corpus.iterdir()))} kept{', FOUND' * bool(done.returncode)}", flush=True)
        if done.returncode:
            print("\n".join(said[-60:]))
            for path in sorted(found.iterdir()):
                print(f"{path.name}: {path.read_bytes()!r}")
        return not done.returncode


def _fuzz(name: str, rest: list[str]) -> None:
    """Be the child; does not return."""
    import atheris

    logging.disable()
    with atheris.instrument_imports(include=["epista"], enable_loader_override=False):
        target = targets()[name]
        # What it imports when it is first used is followed too.
        for seed in seeds(name):
            tried(target, seed)

    def one(data: bytes) -> None:
        tried(target, data)
        # The most there ever was: libFuzzer looks once a second, and would miss what is soon given back.
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < MEMORY_MIB * 1024, "it took more memory than it may"

    atheris.Setup([sys.argv[0], *rest], one)
    atheris.Fuzz()


def tried(target: Target, data: bytes) -> None:
    """Give *data* to a target; an error of our own is an answer."""
    from epista.contract.errors import EpistaError

    with suppress(EpistaError):
        target(data)


_WORDS = ("text", "html", "json", "csv", "ipynb", "svg", "fcs", "fasta", "fastq", "genbank")
_SHOWN = ("text", "json", "jsonl", "csv", "ipynb", "fcs", "fasta", "fastq", "npy", "zip")
_TEXTS: Mapping[str, tuple[str, ...]] = {
    "names": (
        "ecephys_676909_2023-12-13_13-43-40_sorted_2024-03-01_10-00-00",
        "sub-01_ses-02_task-rest_bold",
        "1234567890_2023-12-13 x",
    ),
    "convention": (
        '[[tokens]]\nfield = "subject_id"\nform = "digits"\nlength = [4, 8]\n[[tokens]]\nfield = "date"\nform = "YYYY-MM-DD"\n',
        '{"tokens": [{"text": "plate"}, {"field": "number", "form": "digits", "lead": "P", "optional": true}]}',
    ),
    "search": ('kind:FLOW -tag:old "two words" meta.dose:>=0.5 created:2024-01..2024-02 (a OR b*)',),
    "keys": ("EXP-12/raw/plate 1.csv", "a/../b", "é/\u0301"),
    "times": ("2023-12-13 13:43:40.5", "20231213134340", "2023-12"),
    "metadata": ('{"a": {"b": [1, 2.5, null, "x"]}, "n": 1e300}',),
    "cursor": ("[true, 1, 7]", "[false, 1, 7]"),
    "ome": (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image Name="a"><Pixels DimensionOrder="XYZCT" '
        'SizeX="4" SizeY="4" SizeZ="1" SizeC="1" SizeT="1" Type="uint8" PhysicalSizeX="0.5"><Channel Name="DAPI" Color="-1"/>'
        '<TiffData IFD="0"><UUID FileName="a.tif">urn:uuid:1</UUID></TiffData></Pixels></Image></OME>',
    ),
    "rois": (
        '<OME><Image ID="i"><ROIRef ID="r"/></Image><ROI ID="r" Name="c"><Union><Rectangle X="1" Y="2" Width="3" Height="4"/>'
        '<Ellipse X="1" Y="2" RadiusX="3" RadiusY="4"><Transform A00="0" A01="-1" A02="9" A10="2" A11="0" A12="7"/></Ellipse>'
        '<Shape Transform="matrix(1 0 0 1 2 3)"><Polyline Points="0,0 1,1" Closed="true"/></Shape><Mask/></Union></ROI></OME>',
    ),
    "geojson": (
        '[{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[1, 2], [3, 4.5], [1e3, 2]]]}, "properties": '
        '{"a": [NaN, {"b": null}]}}, {"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": []}}]',
    ),
    "zarr": ('{"zarr_format": 2, "compressor": {"id": "blosc", "cname": "lz4"}, "filters": [{"id": "delta"}], "shape": [2]}',),
    "schema": ('{"type": "object", "properties": {"a": {"type": "number", "minimum": 1}, "b": {"$ref": "#/properties/a"}}}',),
    "region": ("chr1:1,001-2,000", "chr1", "HLA-A*01:01:01:01"),
    "link": ("sk_1.ws_2.vr_3.tk_4.1700000000.c2lnbmF0dXJl",),
    "sql": (
        'WITH a AS (SELECT x, count(*) n FROM counts GROUP BY x) SELECT * EXCLUDE (n) FROM a JOIN "plate@3" USING (x)',
        "SELECT x FROM counts QUALIFY row_number() OVER (PARTITION BY x ORDER BY y DESC) = 1 UNION ALL VALUES (1), (NULL)",
        "SELECT * FROM read_csv('/etc/passwd')",
    ),
    "spark": (
        "SELECT date_diff('day', y, now()) / 2, round(avg(x), 2)::INT, list(x ORDER BY y) FROM counts GROUP BY ALL LIMIT 5",
        "SELECT regexp_replace(y, 'a', 'b', 'g'), x % 3, x[1:2], substring(y, -2) FROM counts WHERE y LIKE 'a%' ESCAPE '!'",
    ),
}
NAMES = (
    *("fcs", "fasta", "fastq", "index", "bgzip", "table", "image", "npy", "npz", "frames", "messages", "headers"),
    *_TEXTS,
    *(f"words-{format}" for format in _WORDS),
    *(f"preview-{format}" for format in _SHOWN),
)
"""Of the targets."""


def targets() -> Mapping[str, Target]:
    """Return what is fuzzed: functions of bytes, which may raise Epista's own errors and nothing else."""
    from starlette.datastructures import Headers

    from epista import naming
    from epista.contract import frames, keys, metadata, times
    from epista.contract.endpoints import ENDPOINTS
    from epista.naming import declared, registry
    from epista.serializers import fcs, numpy, sequences, text_tables, zarr_stores
    from epista.server.access import links
    from epista.server.engines import extractors, plans, preview_files, schemas, sequence_files, spark_sql
    from epista.server.engines.sources import Job
    from epista.server.imaging import features, image, ome, rois
    from epista.server.routes import conditions, decode
    from epista.server.services import binding
    from epista.server.stores.search import attributes, dates, grammar, index
    from tests.server.imaging.makers import Memory

    path = Path(tempfile.mkdtemp(prefix="epista-fuzz-")) / "file"

    def job(format: str, data: bytes, *, gzipped: bool = False) -> Job:
        path.write_bytes(data)
        return Job(path=os.fsencode(path), offset=0, size=len(data), format=format, gzipped=gzipped, options={})

    def convention(text: str) -> None:
        found = registry.conventions({"own": declared.Declared(declared.declaration(text))})
        for name in ("plate_P1", "mouse-1234_2023-12-13", text[:200]):
            found.explain(name)

    def headers(data: bytes) -> None:
        sent = Headers(raw=[(name, data) for name in (b"range", b"if-range", b"if-match", b"if-none-match")])
        for one in (sent, Headers(raw=[(b"range", data)])):
            conditions.answer("GET", one, tag='"a"', size=100)

    def searched(text: str) -> None:
        grammar.parse(text)
        dates.span(text)

    def described(text: str) -> None:
        document = json.loads(text)
        if isinstance(document, dict):
            metadata.check(document)
            attributes.rows(document)
            attributes.tokens(document)

    def named(text: str) -> None:
        naming.explain(text)
        naming.find_all(text)

    # Both as a child does it.
    def words(data: bytes, format: str) -> bytes:
        return msgspec.msgpack.encode(extractors.extract(job(format, data)))

    def preview(data: bytes, format: str) -> bytes:
        return msgspec.msgpack.encode(preview_files.show(job(format, data)))

    def seen(data: bytes) -> None:
        opened = image.open_image(Memory(data))
        for scene, one in enumerate(opened.index.scenes[:3]):
            for level in range(min(len(one.levels), 3)):
                opened.read_region(0, 0, 256, 256, level=level, scene=scene, channels=[0], z=one.size_z - 1)

    def said_to_spark(sql: str) -> None:
        bound = binding.bind(sql, str, engine="spark")
        columns = (plans.Column(name="x", type="int64"), plans.Column(name="y", type="string"))
        tables = tuple(plans.BoundTable(internal=name, version="vr_1", files=(), schema=columns) for name in bound.tables)
        spark_sql.translate(plans.Plan(ast=bound.ast, tables=tables, limits=plans.Limits()))

    def ruled(text: str) -> None:
        json.loads(text)
        schemas.check(schemas.Job(schemas=[text], documents=[]))

    of_text: dict[str, Callable[[str], object]] = {
        "names": named,
        "convention": convention,
        "search": searched,
        "keys": keys.normalise,
        "times": times.span,
        "metadata": _suppressing(described, ValueError, RecursionError),
        "cursor": lambda text: index.position(base64.urlsafe_b64encode(text.encode("utf-8", "replace")).decode(), ranked=True),
        "ome": ome.read,
        "rois": lambda text: rois.read(text, 0),
        "geojson": lambda text: features.of_geojson(text.encode("utf-8", "replace"), {}, 0),
        "zarr": lambda text: zarr_stores.refuse_pickles(text.encode("utf-8", "replace")),
        "schema": _suppressing(ruled, ValueError, RecursionError),
        "region": sequences.region,
        "link": links.read,
        "sql": lambda text: binding.bind(text, str),
        "spark": said_to_spark,
    }
    return {
        "fcs": fcs.read,
        "fasta": lambda data: list(sequences.fasta(io.BytesIO(data))),
        "fastq": lambda data: list(sequences.fastq(io.BytesIO(data))),
        "index": lambda data: list(sequences.index(sequences.lines(io.BytesIO(data)))),
        "bgzip": lambda data: sequence_files.make(job("fasta", data, gzipped=True)),
        "table": lambda data: text_tables.read(data, sep=None),
        "image": seen,
        "npy": numpy.read,
        "npz": numpy.read_dict,
        "frames": frames.parse,
        "messages": lambda data: decode.from_json(ENDPOINTS[data[0] % len(ENDPOINTS)], {}, data[1:]) if data else None,
        "headers": headers,
        **{name: _decoded(target) for name, target in of_text.items()},
        **{f"words-{format}": _about(words, format) for format in _WORDS},
        **{f"preview-{format}": _about(preview, format) for format in _SHOWN},
    }


def _decoded(target: Callable[[str], object]) -> Target:
    # What arrives in JSON may have halves of characters.
    return lambda data: target(data.decode("utf-8", "surrogatepass") if _is_text(data) else data.decode("latin-1"))


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _about(target: Callable[[bytes, str], object], format: str) -> Target:
    return lambda data: target(data, format)


def _suppressing(target: Callable[[str], object], *errors: type[Exception]) -> Callable[[str], object]:
    def quiet(text: str) -> None:
        with suppress(*errors):
            target(text)

    return quiet


def seeds(name: str) -> Iterable[bytes]:
    """Return what a target is given to begin with."""
    from epista.contract import formats, frames
    from epista.contract.endpoints import ENDPOINTS
    from tests.fuzz import test_parsers
    from tests.server.imaging.test_hostile import made, ome_tiff, tags
    from tests.server.test_sequence_faults import block

    if name in _TEXTS:
        return [text.encode() for text in _TEXTS[name]]
    if name == "frames":
        return [frames.frame([("0" * 64, b"abc"), ("1" * 64, b"")])]
    if name == "messages":
        asked = {
            "workspace": "lab",
            "key": "a",
            "sql": "SELECT 1",
            "objects": [{"key": "a", "sha256": "0" * 64}],
            "meta": {"a": [1]},
        }
        return [bytes([number]) + json.dumps(asked).encode() for number in range(len(ENDPOINTS))]
    if name == "headers":
        return [b"bytes=0-9", b"bytes=-5", b'"a", W/"b"', b"*"]
    if name == "bgzip":
        return [block(b">a one\nACGT\n") + block(b"")]
    made_here = test_parsers.seeds()
    if name == "npz":
        return [numpy_zip(made_here["npy"])]
    format = {"index": "fasta", "table": "csv", "image": "tiff"}.get(name, name.partition("-")[2] or name)
    found = [made_here[format]]
    if name == "image":
        found += [ome_tiff(), made(tags(32, 32, offsets=[8, 9, 10, 11], sizes=[1] * 4, tile=16), data=b"abcd")]
    kinds = {path: formats.of_key(path.name) for path in sorted(test_parsers.REAL.rglob("*")) if path.is_file()}
    of_format = [path for path, row in kinds.items() if row is not None and row.name.removeprefix("ome-") == format]
    # Of large ones the beginning, which is where most formats say what they are.
    return found + [path.read_bytes()[:INPUT_BYTES] for path in of_format]


def numpy_zip(array: bytes) -> bytes:
    """Return a file of one array with a name."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.npy", array)
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(main())
