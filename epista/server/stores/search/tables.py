"""
The tables of search.

`attributes` answers conditions on metadata and tags, `documents` keeps extracted text for excerpts and for indexing again,
the FTS5 table `words` answers words. The tokenizer `ascii` splits at the spaces that folding left and takes everything else
as it is, so that folding stays in one place.
"""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Index, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from epista.server.stores.columns import FreeText, Integer, Text
from epista.server.stores.tables import metadata, versions

# The key is the index for equality and ranges alike: the columns that a type does not use are 0 and ''.
attributes = Table(
    "attributes",
    metadata,
    Column("workspace_id", Integer, primary_key=True, autoincrement=False),
    Column("path", FreeText, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("number", Float, primary_key=True),
    Column("text", FreeText, primary_key=True),
    Column("asset_id", ForeignKey("assets.id"), primary_key=True),
    Index("attributes_by_asset", "asset_id"),
    sqlite_with_rowid=False,
)

# Only assets with text inside have a row. At most 256 KiB, which whoever extracts it sees to.
documents = Table(
    "documents",
    metadata,
    Column("asset_id", ForeignKey("assets.id"), primary_key=True, autoincrement=False),
    Column("content", FreeText, nullable=False),
)

# Newest first, without sorting a whole workspace for its first page.
versions_by_age = Index("versions_by_age", versions.c.created_at)

WORDS = "CREATE VIRTUAL TABLE words USING fts5(name, key, tags, meta, content, attributes, tokenize='ascii')"
"""Folded text by asset (the rowid). `attributes` has each word with its path in front and is no part of free text."""

_DIALECT = sqlite.dialect()

SQLITE_DDL = (
    *(str(CreateTable(table).compile(dialect=_DIALECT)).strip() for table in (attributes, documents)),
    *(str(CreateIndex(index).compile(dialect=_DIALECT)) for index in (*attributes.indexes, versions_by_age)),
    WORDS,
)
"""Everything search needs beside the tables of the catalog, one statement each."""
