"""How large the things are that are moved."""

from __future__ import annotations

from typing import NamedTuple

MIB = 1024 * 1024


class Scale(NamedTuple):
    """Sizes of one run."""

    object_bytes: int
    """Of the large object."""
    files: int
    """How many small files a folder has."""
    boto3_files: int
    """How many of them boto3 moves, one after the other; its time is scaled to all of them."""
    file_bytes: int
    """The size of a small file."""
    repeats: int
    """How often something short is timed within one turn, for its median."""
    assets: int
    """How many assets the large catalog has."""
    s3_keys: int
    """How many keys are listed by boto3; its time is taken by key."""
    array_bytes: int
    """The size of an array."""
    table_rows: int
    """How many rows a table of eight columns has."""
    image_px: int
    """How wide and how high an image is."""
    people: int
    """How many look at it at once."""
    look_seconds: float
    """How long each looks at what is on the screen before moving on."""


SCALES = {
    "published": Scale(1024 * MIB, 10_000, 10_000, 4096, 200, 1_000_000, 50_000, 64 * MIB, 1_000_000, 8192, 50, 3.0),
    "local": Scale(1024 * MIB, 10_000, 1_000, 4096, 100, 1_000_000, 20_000, 64 * MIB, 1_000_000, 8192, 50, 3.0),
    "quick": Scale(256 * MIB, 2_000, 200, 4096, 50, 1_000_000, 5_000, 32 * MIB, 500_000, 8192, 50, 3.0),
    "toy": Scale(5 * MIB, 30, 10, 4096, 3, 3_000, 50, 1 * MIB, 1_000, 1024, 3, 0.01),
}
"""`quick` is for a machine that others use too; `toy` only shows that everything runs, and its times mean nothing."""
