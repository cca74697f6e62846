"""
The tables of the catalog.

Integer ids join rows; `uid` is what the world sees. Moments are microseconds since 1970 in UTC. Documents are JSON text, kept
as they came. An Alembic migration makes what stands here; a test compares the two.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    CursorResult,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
    text,
)

from epista.server.stores.columns import FreeText, Integer, Text

metadata = MetaData()

users = Table(
    "users",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False, unique=True),
    Column("is_lab_admin", Boolean, nullable=False),
    Column("created_at", Integer, nullable=False),
)

workspaces = Table(
    "workspaces",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", Integer, nullable=False),
    # What it holds, counted in every commit: each content once, live assets, versions; and the most it may hold.
    Column("stored_bytes", Integer, nullable=False, server_default="0"),
    Column("assets", Integer, nullable=False, server_default="0"),
    Column("versions", Integer, nullable=False, server_default="0"),
    Column("max_bytes", Integer),
    Column("max_assets", Integer),
    # A digest of the conventions by which `recordings` was filled; null if it is to be filled anew.
    Column("conventions", Text),
)

members = Table(
    "members",
    metadata,
    Column("workspace_id", ForeignKey("workspaces.id"), primary_key=True),
    Column("user_id", ForeignKey("users.id"), primary_key=True),
    Column("role", Text, nullable=False),
    # JSON list, or null for every experiment.
    Column("experiments", Text),
    sqlite_with_rowid=False,
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
    Column("user_id", ForeignKey("users.id"), nullable=False, index=True),
    # personal, kernel, or link: the code of a one-time sign-in link.
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    # sha256 of the secret. Secrets are 256 random bits, so a slow hash would add nothing.
    Column("hash", Text, nullable=False, unique=True),
    Column("scopes", Text, nullable=False),
    Column("workspace_id", ForeignKey("workspaces.id")),
    Column("experiments", Text),
    Column("created_at", Integer, nullable=False),
    Column("expires_at", Integer),
    Column("renew_until", Integer),
    Column("revoked_at", Integer),
    # Tokens made with a token, and renewals of it, end with it.
    Column("parent_id", ForeignKey("tokens.id"), index=True),
)

# What links are signed with, shared by all servers of the lab.
signing_keys = Table(
    "signing_keys",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
    Column("secret", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # From when on its links are refused; null for the one that signs.
    Column("retired_at", BigInteger),
)

# Named groups of experiments, never part of a key.
projects = Table(
    "projects",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
    Column("workspace_id", ForeignKey("workspaces.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("title", FreeText),
    Column("description", FreeText),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", ForeignKey("users.id"), nullable=False),
    UniqueConstraint("workspace_id", "name"),
)

experiments = Table(
    "experiments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("workspace_id", ForeignKey("workspaces.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("number", Text, nullable=False),
    Column("title", FreeText),
    Column("meta", Text, nullable=False),
    # False while only a folder of that name made it known.
    Column("described", Boolean, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("created_by", ForeignKey("users.id"), nullable=False),
    # Added later: SQLite can neither require it nor declare a foreign key then.
    Column("uid", Text),
    Column("description", FreeText),
    Column("status", Text, nullable=False, server_default="active"),
    # JSON list, in the order in which they were given; `experiment_tags` has them too.
    Column("tags", Text, nullable=False, server_default="[]"),
    Column("project_id", Integer),
    UniqueConstraint("workspace_id", "name"),
    Index("experiments_by_uid", "uid", unique=True),
    Index("experiments_by_number", "workspace_id", "number"),
    Index("experiments_by_project", "project_id"),
)

experiment_tags = Table(
    "experiment_tags",
    metadata,
    Column("experiment_id", ForeignKey("experiments.id"), primary_key=True),
    Column("tag", Text, primary_key=True),
    sqlite_with_rowid=False,
)

# What experiments were called before: these names are never given to another.
experiment_names = Table(
    "experiment_names",
    metadata,
    Column("workspace_id", ForeignKey("workspaces.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("experiment_id", ForeignKey("experiments.id"), nullable=False, index=True),
    sqlite_with_rowid=False,
)

# What members are in one experiment besides what they are in the workspace: viewer, editor or owner.
experiment_roles = Table(
    "experiment_roles",
    metadata,
    Column("workspace_id", ForeignKey("workspaces.id"), primary_key=True),
    Column("user_id", ForeignKey("users.id"), primary_key=True),
    Column("experiment_id", ForeignKey("experiments.id"), primary_key=True, index=True),
    Column("role", Text, nullable=False),
    sqlite_with_rowid=False,
)

# What names say: a row for each folder and asset whose name tells of a recording, and for each experiment whatever its name is.
# Whether something lives there now, the assets say.
recordings = Table(
    "recordings",
    metadata,
    Column("workspace_id", ForeignKey("workspaces.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("experiment", Text),
    # The same for all names of one recording; of an experiment whose name tells of none, ``name:`` and its name.
    Column("recording", Text, nullable=False),
    # By which a recording's main name comes before others: what lies less deep, folders, what is raw. Always as long.
    Column("rank", Text, nullable=False),
    Column("convention", Text),
    Column("subject", Text),
    # Both in one case.
    Column("platform", Text),
    Column("label", Text),
    # Microseconds since 1970, of the clock on the wall where it was recorded.
    Column("started", BigInteger),
    # JSON: all that the name says.
    Column("parsed", Text),
    # When the first asset came there.
    Column("created_at", BigInteger, nullable=False),
    Index("recordings_by_recording", "workspace_id", "recording"),
    Index("recordings_by_subject", "workspace_id", "subject"),
    Index("recordings_by_experiment", "workspace_id", "experiment"),
    sqlite_with_rowid=False,
)

blobs = Table(
    "blobs",
    metadata,
    Column("id", Integer, primary_key=True),
    # Null while nobody has read the whole of a linked file, and of manifests of tables.
    Column("sha256", Text),
    Column("size", Integer, nullable=False),
    # The store's object that holds the bytes, and where in it they begin; of a linked file its root, version and path.
    Column("object", Text, nullable=False),
    Column("offset", Integer, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("damaged_at", Integer),
    # The root of the settings below which a linked file lies; null for what the lab keeps itself.
    Column("root", Text),
    # What the lab keeps itself, it keeps once.
    Index("blobs_by_sha256", "sha256", unique=True, sqlite_where=text("root IS NULL"), postgresql_where=text("root IS NULL")),
    Index("blobs_linked_by_sha256", "sha256", sqlite_where=text("root IS NOT NULL"), postgresql_where=text("root IS NOT NULL")),
    # What of a pack is alive, in the order in which it lies there.
    Index("blobs_by_object", "object", "offset"),
)

# Contents that lie in a pack although no row points at them there: they came twice, or were forgotten. A purge erases them too.
remains = Table(
    "remains",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("object", Text, primary_key=True, index=True),
    sqlite_with_rowid=False,
)

# Who has shown to possess which content: only they may commit it without being able to read it elsewhere.
uploads = Table(
    "uploads",
    metadata,
    Column("blob_id", ForeignKey("blobs.id"), primary_key=True),
    Column("workspace_id", ForeignKey("workspaces.id"), primary_key=True),
    Column("user_id", ForeignKey("users.id"), primary_key=True),
    Column("at", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# Contents that come in parts. What is complete stays until it expires, so that a lost reply can be given again.
incomplete_uploads = Table(
    "incomplete_uploads",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
    Column("workspace_id", ForeignKey("workspaces.id"), nullable=False),
    Column("user_id", ForeignKey("users.id"), nullable=False),
    # The store's name for what is not whole yet.
    Column("unfinished", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("part_size", BigInteger, nullable=False),
    # As announced; and, once complete, as the server computed it.
    Column("announced", Text),
    Column("sha256", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Index("incomplete_uploads_by_user", "workspace_id", "user_id"),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("upload_id", ForeignKey("incomplete_uploads.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("crc32", BigInteger, nullable=False),
    # What the store calls the part.
    Column("tag", Text, nullable=False),
    sqlite_with_rowid=False,
)

# What is set aside for one commit of more than fits a request, by whoever may commit it.
batches = Table(
    "batches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uid", Text, nullable=False),
    Column("workspace_id", ForeignKey("workspaces.id"), nullable=False),
    Column("user_id", ForeignKey("users.id"), nullable=False),
    Column("at", Integer, nullable=False, index=True),
    # When its versions were made; null while it waits.
    Column("made_at", Integer),
    UniqueConstraint("user_id", "workspace_id", "uid"),
)

# Pieces of a part, so that none of them is long. Keys with what they shall say, as JSON; once made, the ids of the versions.
batch_parts = Table(
    "batch_parts",
    metadata,
    Column("batch_id", ForeignKey("batches.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("piece", Integer, primary_key=True),
    Column("document", LargeBinary, nullable=False),
)

assets = Table(
    "assets",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
    Column("workspace_id", ForeignKey("workspaces.id"), nullable=False),
    Column("key", Text, nullable=False),
    Column("experiment", Text),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("format", Text, nullable=False),
    # Not declared as a foreign key: a version points at its asset, and one circle would need the other row first.
    Column("head_id", Integer, nullable=False),
    Column("deleted_at", Integer),
    # What a query may call it, in any case: `assets.stem_of`.
    Column("stem", Text, nullable=False, server_default=""),
    UniqueConstraint("workspace_id", "key"),
    # Serves names too: a name begins with its stem. By key within it, so that one experiment's are found among thousands.
    Index("assets_by_stem", "workspace_id", "stem", "key"),
    Index("assets_by_experiment", "workspace_id", "experiment"),
    Index("assets_by_head", "head_id"),
)

versions = Table(
    "versions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
    Column("asset_id", ForeignKey("assets.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("blob_id", ForeignKey("blobs.id"), nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("meta", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("author_id", ForeignKey("users.id"), nullable=False),
    Column("note", FreeText, nullable=False),
    Column("notebook", FreeText),
    # Of `activities`, if it was told; added later, so that SQLite cannot declare it as a foreign key.
    Column("activity_id", Integer),
    # How many of its stated inputs were erased since.
    Column("gone_inputs", Integer, nullable=False, server_default="0"),
    UniqueConstraint("asset_id", "number"),
    Index("versions_by_activity", "activity_id"),
)

# What was told of activities, as JSON: once for all commits of a cell or a script that told the same.
tellings = Table(
    "tellings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sha256", Text, nullable=False, unique=True),
    Column("document", FreeText, nullable=False),
)

# What people and programs did when they made versions, one row for each commit.
activities = Table(
    "activities",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
    Column("workspace_id", ForeignKey("workspaces.id"), nullable=False),
    Column("user_id", ForeignKey("users.id"), nullable=False),
    Column("at", BigInteger, nullable=False),
    # How many of the versions that it had read were erased since.
    Column("gone_inputs", Integer, nullable=False, server_default="0"),
    # The experiments that existed for whoever told, as JSON; null for all.
    Column("within", Text),
    # Of `tellings`, but for what had been read; added later, so that SQLite cannot declare it as a foreign key.
    Column("telling_id", Integer, nullable=False, server_default="0"),
    Index("activities_by_telling", "telling_id"),
)

# What had been read before, by the way or in a run: once for all that was made from it.
activity_inputs = Table(
    "activity_inputs",
    metadata,
    Column("activity_id", ForeignKey("activities.id"), primary_key=True),
    Column("version_id", ForeignKey("versions.id"), primary_key=True, index=True),
    sqlite_with_rowid=False,
)

# The query log. A row is committed before its query runs, and completed when it has ended.
queries = Table(
    "queries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
    Column("workspace_id", ForeignKey("workspaces.id"), nullable=False),
    Column("user_id", ForeignKey("users.id"), nullable=False),
    Column("experiment", Text),
    # The experiments that existed for whoever asked, as JSON; null for all. Nothing in the row tells of others.
    Column("within", Text),
    Column("notebook", FreeText),
    # As typed.
    Column("sql", FreeText, nullable=False),
    # JSON, or null for none; likewise `as_of`.
    Column("params", FreeText),
    Column("as_of", FreeText),
    Column("engine", Text, nullable=False),
    Column("limits", Text, nullable=False),
    # running, done, failed, cancelled or refused.
    Column("status", Text, nullable=False),
    # The code and the message of the error that it ended with.
    Column("error", Text),
    Column("message", FreeText),
    Column("rows", BigInteger),
    Column("bytes", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    # Until when the server that runs it has said that it lives; later, the query is lost.
    Column("alive_until", BigInteger),
    Column("cancel_asked_at", BigInteger),
    # How many of the versions that it read were erased since.
    Column("gone_inputs", Integer, nullable=False, server_default="0"),
    Index("queries_by_user", "workspace_id", "user_id", "id"),
)

query_inputs = Table(
    "query_inputs",
    metadata,
    Column("query_id", ForeignKey("queries.id"), primary_key=True),
    Column("version_id", ForeignKey("versions.id"), primary_key=True, index=True),
    sqlite_with_rowid=False,
)

activity_queries = Table(
    "activity_queries",
    metadata,
    Column("activity_id", ForeignKey("activities.id"), primary_key=True),
    Column("query_id", ForeignKey("queries.id"), primary_key=True, index=True),
    sqlite_with_rowid=False,
)

# The parquet files of a table of several. `blob_id` is its manifest: a list of their sha256s, which only the server writes, and
# which has no sha256 of its own in its row, so that no bytes that anybody sends can be taken for it.
table_parts = Table(
    "table_parts",
    metadata,
    Column("blob_id", ForeignKey("blobs.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("part_id", ForeignKey("blobs.id"), nullable=False, index=True),
    sqlite_with_rowid=False,
)

# What the server made a content from, all of which stands in it too: a purge of the one erases the other, if nothing needs that.
blob_sources = Table(
    "blob_sources",
    metadata,
    Column("blob_id", ForeignKey("blobs.id"), primary_key=True),
    Column("source_id", ForeignKey("blobs.id"), primary_key=True, index=True),
    sqlite_with_rowid=False,
)

# What was found out about a content that is a table, read in one way.
table_facts = Table(
    "table_facts",
    metadata,
    Column("blob_id", ForeignKey("blobs.id"), primary_key=True),
    # sha256 of the format, the options, the sheet and the version of the converter.
    Column("reading", Text, primary_key=True),
    # A JSON object: columns, rows, notes, and statistics of each file and column.
    Column("document", FreeText, nullable=False),
    sqlite_with_rowid=False,
)

version_inputs = Table(
    "version_inputs",
    metadata,
    Column("version_id", ForeignKey("versions.id"), primary_key=True),
    Column("input_id", ForeignKey("versions.id"), primary_key=True, index=True),
    sqlite_with_rowid=False,
)

asset_tags = Table(
    "asset_tags",
    metadata,
    Column("asset_id", ForeignKey("assets.id"), primary_key=True),
    Column("tag", Text, primary_key=True),
    Column("workspace_id", ForeignKey("workspaces.id"), nullable=False),
    Index("asset_tags_by_tag", "workspace_id", "tag"),
    sqlite_with_rowid=False,
)

rules = Table(
    "rules",
    metadata,
    Column("workspace_id", ForeignKey("workspaces.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Text, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("created_by", ForeignKey("users.id"), nullable=False),
    sqlite_with_rowid=False,
)

# The naming conventions that workspaces declare, as JSON; every version is kept.
conventions = Table(
    "conventions",
    metadata,
    Column("workspace_id", ForeignKey("workspaces.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Text, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("created_by", ForeignKey("users.id"), nullable=False),
    sqlite_with_rowid=False,
)

# By which version of its extractor the words of each format were read, and how far a newer one has come.
extractions = Table(
    "extractions",
    metadata,
    Column("format", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("towards", Integer, nullable=False),
    Column("after_id", Integer, nullable=False),
    Column("holder", Text, nullable=False),
    Column("held_until", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# Replies by idempotency key, so that a retried request gives the reply that was lost.
replies = Table(
    "replies",
    metadata,
    Column("user_id", ForeignKey("users.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    # sha256 of the request: the same key for another request is a mistake of the caller.
    Column("request", Text, nullable=False),
    Column("reply", LargeBinary, nullable=False),
    Column("at", Integer, nullable=False, index=True),
    sqlite_with_rowid=False,
)

# Triggers refuse to change or delete rows. workspace_id 0 is the lab itself.
audit = Table(
    "audit",
    metadata,
    Column("workspace_id", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", Integer, nullable=False),
    Column("actor", Text, nullable=False),
    Column("token", Text),
    Column("action", Text, nullable=False),
    Column("target", FreeText, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("hash", Text, nullable=False),
    sqlite_with_rowid=False,
)

# The newest row of each chain, kept apart: without it, cutting off the end of the log would leave no trace.
audit_heads = Table(
    "audit_heads",
    metadata,
    Column("workspace_id", Integer, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("hash", Text, nullable=False),
)

# One row: the oldest schema whose servers may go on with this database.
compatibility = Table("compatibility", metadata, Column("oldest", Text, primary_key=True))


def inserted(result: CursorResult[Any]) -> int:
    """Return the id of the row that an INSERT added."""
    key = result.inserted_primary_key
    assert key is not None, "an INSERT of one row has a key"
    return int(key[0])
