"""
The formats Epista knows by name: their extensions, kind and media type.

The one table that both ends share: serializers are registered under these names, the server infers kinds from them.
A key's longest matching extension decides (``.ome.tif`` before ``.tif``), in any case; ``.gz`` and ``.bgz`` wrap any of them.
"""

from __future__ import annotations

from typing import NamedTuple

KINDS = ("FLOW", "IMAGE", "TABLE", "VOLUME", "SEQUENCE", "FIGURE", "DOCUMENT", "NOTEBOOK", "ARRAY", "OTHER")
"""What an asset can be."""

GZIP_SUFFIXES = (".gz", ".bgz")
"""Endings of a key whose bytes are gzip around the format that the rest of the key says (bgzip is gzip in blocks)."""


class Format(NamedTuple):
    """One row of the table."""

    name: str
    """The format's name, as recorded with every version."""
    kind: str
    """The kind of an asset in this format, unless its author says otherwise."""
    media_type: str
    """The registered media type, or the one in common use."""
    extensions: tuple[str, ...]
    """Endings of a key, without the leading dot, lower case."""


FORMATS = (
    Format("csv", "TABLE", "text/csv", ("csv",)),
    Format("tsv", "TABLE", "text/tab-separated-values", ("tsv", "tab")),
    Format("parquet", "TABLE", "application/vnd.apache.parquet", ("parquet", "pq")),
    Format("arrow", "TABLE", "application/vnd.apache.arrow.file", ("arrow", "feather", "ipc")),
    Format("jsonl", "TABLE", "application/jsonl", ("jsonl", "ndjson")),
    Format("xlsx", "TABLE", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ("xlsx", "xlsm")),
    Format("xls", "TABLE", "application/vnd.ms-excel", ("xls",)),
    Format("json", "DOCUMENT", "application/json", ("json", "geojson")),
    Format("text", "DOCUMENT", "text/plain", ("txt", "text", "log", "ini", "cfg", "toml")),
    Format("markdown", "DOCUMENT", "text/markdown", ("md", "markdown")),
    Format("rst", "DOCUMENT", "text/x-rst", ("rst",)),
    Format("html", "DOCUMENT", "text/html", ("html", "htm")),
    Format("xml", "DOCUMENT", "application/xml", ("xml",)),
    Format("yaml", "DOCUMENT", "application/yaml", ("yaml", "yml")),
    Format("code", "DOCUMENT", "text/plain", ("py", "r", "sh", "jl", "m", "sql", "js", "c", "cpp", "java")),
    Format("pdf", "DOCUMENT", "application/pdf", ("pdf",)),
    Format("docx", "DOCUMENT", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", ("docx",)),
    Format("pptx", "DOCUMENT", "application/vnd.openxmlformats-officedocument.presentationml.presentation", ("pptx",)),
    Format("ipynb", "NOTEBOOK", "application/x-ipynb+json", ("ipynb",)),
    Format("svg", "FIGURE", "image/svg+xml", ("svg",)),
    Format("png", "IMAGE", "image/png", ("png",)),
    Format("jpg", "IMAGE", "image/jpeg", ("jpg", "jpeg")),
    Format("gif", "IMAGE", "image/gif", ("gif",)),
    Format("bmp", "IMAGE", "image/bmp", ("bmp",)),
    Format("webp", "IMAGE", "image/webp", ("webp",)),
    Format("tiff", "IMAGE", "image/tiff", ("tif", "tiff")),
    Format("ome-tiff", "IMAGE", "image/tiff", ("ome.tif", "ome.tiff", "ome.tf2", "ome.tf8", "ome.btf")),
    Format("ome-zarr", "IMAGE", "application/zip", ("ome.zarr.zip", "ome.zarr", "ozx")),
    Format("svs", "IMAGE", "image/tiff", ("svs",)),
    Format("ndpi", "IMAGE", "image/tiff", ("ndpi",)),
    Format("scn", "IMAGE", "image/tiff", ("scn",)),
    Format("mrxs", "IMAGE", "application/octet-stream", ("mrxs",)),
    Format("czi", "IMAGE", "application/octet-stream", ("czi",)),
    Format("nd2", "IMAGE", "application/octet-stream", ("nd2",)),
    Format("lif", "IMAGE", "application/octet-stream", ("lif",)),
    Format("dicom", "IMAGE", "application/dicom", ("dcm", "dicom")),
    Format("nifti", "VOLUME", "application/octet-stream", ("nii",)),
    Format("nrrd", "VOLUME", "application/octet-stream", ("nrrd",)),
    Format("mrc", "VOLUME", "application/octet-stream", ("mrc",)),
    Format("fcs", "FLOW", "application/vnd.isac.fcs", ("fcs",)),
    Format("flowjo", "FLOW", "application/xml", ("wsp",)),
    Format("fasta", "SEQUENCE", "text/x-fasta", ("fasta", "fa", "fna", "faa", "ffn", "frn")),
    Format("fastq", "SEQUENCE", "text/x-fastq", ("fastq", "fq")),
    Format("genbank", "SEQUENCE", "text/x-genbank", ("gb", "gbk", "genbank")),
    Format("embl", "SEQUENCE", "text/plain", ("embl",)),
    Format("clustal", "SEQUENCE", "text/plain", ("aln",)),
    Format("gff", "SEQUENCE", "text/x-gff3", ("gff", "gff3", "gtf")),
    Format("bed", "SEQUENCE", "text/x-bed", ("bed",)),
    Format("vcf", "SEQUENCE", "text/x-vcf", ("vcf",)),
    Format("sam", "SEQUENCE", "text/x-sam", ("sam",)),
    Format("bam", "SEQUENCE", "application/octet-stream", ("bam",)),
    Format("cram", "SEQUENCE", "application/octet-stream", ("cram",)),
    Format("abi", "SEQUENCE", "application/octet-stream", ("ab1", "abi")),
    Format("snapgene", "SEQUENCE", "application/octet-stream", ("dna",)),
    Format("npy", "ARRAY", "application/x-npy", ("npy",)),
    Format("npz", "ARRAY", "application/zip", ("npz",)),
    Format("hdf5", "ARRAY", "application/x-hdf5", ("h5", "hdf5")),
    Format("anndata", "ARRAY", "application/x-hdf5", ("h5ad",)),
    Format("zarr", "ARRAY", "application/zip", ("zarr.zip", "zarr")),
    Format("bytes", "OTHER", "application/octet-stream", ("bin",)),
    Format("zip", "OTHER", "application/zip", ("zip",)),
    Format("gzip", "OTHER", "application/gzip", ("gz", "bgz")),
)
"""Every known format. Extensions are unique; where one ends another, the longer one wins."""

BY_NAME = {row.name: row for row in FORMATS}
"""Formats by their name."""

_BY_EXTENSION = {extension: row for row in FORMATS for extension in row.extensions}

UNKNOWN = BY_NAME["bytes"]
"""What a key without a known extension is."""


def of_key(key: str) -> Format | None:
    """Return the format that the extension of *key* says, looking through ``.gz``; None if nothing is known of it."""
    name = key.rpartition("/")[2].lower()
    for suffix in GZIP_SUFFIXES:
        inner = name.removesuffix(suffix)
        if inner != name and (found := _by_extension(inner)):
            return found
    return _by_extension(name)


def is_gzipped(key: str) -> bool:
    """Whether the bytes at *key* are gzip around the format that the rest of the key says."""
    row = of_key(key)
    return key.lower().endswith(GZIP_SUFFIXES) and row is not None and row.name != "gzip"


def _by_extension(name: str) -> Format | None:
    # "a.ome.tif": try "ome.tif", then "tif". The part before the first dot is never an extension.
    parts = name.split(".")[1:]
    for start in range(len(parts)):
        if found := _BY_EXTENSION.get(".".join(parts[start:])):
            return found
    return None
