"""Previews: what one sees of an asset without opening it."""

from __future__ import annotations

from epista.contract.messages import Reply, Request, Text
from epista.contract.tables import Column


class PreviewCell(Reply, frozen=True, kw_only=True):
    """A cell of a notebook."""

    kind: str
    """``code`` or ``markdown``."""
    source: str
    """What stands in it, or the beginning of that."""


class Picture(Reply, frozen=True, kw_only=True):
    """A small picture."""

    png: bytes
    """The picture, in base64 on the wire."""
    width: int
    """Of the original, in pixels."""
    height: int
    """Of the original, in pixels."""


class Preview(Reply, frozen=True, kw_only=True):
    """
    The beginning of what an asset holds, in whichever of these shapes fit it: a table of text, text, cells, a picture, facts.

    Whatever stands in it comes from the file: it is text, and never markup.
    """

    version: str
    """The version that it shows."""
    format: str
    """In which format the version was read."""
    facts: tuple[tuple[str, str], ...] = ()
    """What is known of the whole, by name."""
    columns: tuple[Column, ...] = ()
    """The first columns of a table: of its rows, of the channels of an FCS file, of the records of a sequence file."""
    rows: tuple[tuple[str, ...], ...] = ()
    """Its first rows."""
    text: str | None = None
    """The first lines."""
    cells: tuple[PreviewCell, ...] = ()
    """The first cells of a notebook."""
    picture: Picture | None = None
    """A small picture of an image."""
    is_cut: bool = False
    """Whether there is more than is shown."""
    problem: str | None = None
    """Why nothing is shown, or no more."""


class GetPreview(Request, frozen=True, kw_only=True):
    """See the beginning of what an asset holds."""

    workspace: Text
    """The workspace."""
    ref: Text
    """An id, a key or a bare name."""
    experiment: Text | None = None
    """The active experiment, in which a key without a folder is looked up first."""
    version: Text | None = None
    """An older version, by id or number."""
