"""The table of formats."""

from __future__ import annotations

import re

import pytest

from epista.contract import formats


def test_names_and_extensions_are_unique() -> None:
    names = [row.name for row in formats.FORMATS]
    extensions = [extension for row in formats.FORMATS for extension in row.extensions]

    assert len(set(names)) == len(names)
    assert len(set(extensions)) == len(extensions)


def test_every_row_is_well_formed() -> None:
    for row in formats.FORMATS:
        assert row.kind in formats.KINDS, row
        assert re.fullmatch(r"[a-z]+/[a-z0-9.+-]+", row.media_type), row
        assert all(re.fullmatch(r"[a-z0-9]+(\.[a-z0-9]+)*", extension) for extension in row.extensions), row


@pytest.mark.parametrize(
    ("key", "format", "gzipped"),
    [
        ("a.csv", "csv", False),
        ("A.CSV", "csv", False),
        ("a.ome.tif", "ome-tiff", False),
        ("a.b.tif", "tiff", False),
        ("a.csv.gz", "csv", True),
        ("a.vcf.bgz", "vcf", True),
        ("a.tar.gz", "gzip", False),
        ("a.gz", "gzip", False),
        ("csv", None, False),
        (".csv", "csv", False),
        ("a.csv/b", None, False),
        ("a.", None, False),
        ("a.csv.unknown", None, False),
        ("a.unknown.csv", "csv", False),
    ],
)
def test_the_longest_extension_decides(key: str, format: str | None, gzipped: bool) -> None:
    found = formats.of_key(key)

    assert (found and found.name) == format
    assert formats.is_gzipped(key) == gzipped
