"""
The spine: people, workspaces, assets and versions, search, audit.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

from epista.server.stores.columns import Integer, Text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The audit log only grows.
TRIGGERS = {
    "sqlite": (
        "CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END",
        "CREATE TRIGGER audit_is_never_cut BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log only grows' USING ERRCODE = 'integrity_constraint_violation'; END $$",
        "CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit EXECUTE FUNCTION audit_only_grows()",
        "CREATE TRIGGER audit_is_never_cut BEFORE DELETE OR TRUNCATE ON audit EXECUTE FUNCTION audit_only_grows()",
    ),
}

# Folded text by asset: the rowid, or asset_id.
WORDS = {
    "sqlite": ("CREATE VIRTUAL TABLE words USING fts5(name, key, tags, meta, content, attributes, tokenize='ascii')",),
    "postgresql": (
        "CREATE TABLE words (asset_id BIGINT NOT NULL REFERENCES assets (id), part INTEGER NOT NULL, is_part BOOLEAN NOT NULL, "
        "size BIGINT NOT NULL, vector TSVECTOR NOT NULL, PRIMARY KEY (asset_id, part))",
        "CREATE INDEX words_by_vector ON words USING gin (vector) WHERE NOT is_part",
        "CREATE INDEX words_by_vector_of_part ON words USING gin (vector) WHERE is_part",
        "CREATE TABLE word_counts (documents BIGINT NOT NULL, words BIGINT NOT NULL)",
        "INSERT INTO word_counts VALUES (0, 0)",
    ),
}


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("workspace_id", Integer, nullable=False),
        sa.Column("number", Integer, nullable=False),
        sa.Column("at", Integer, nullable=False),
        sa.Column("actor", Text, nullable=False),
        sa.Column("token", Text, nullable=True),
        sa.Column("action", Text, nullable=False),
        sa.Column("target", Text, nullable=False),
        sa.Column("outcome", Text, nullable=False),
        sa.Column("request_id", Text, nullable=False),
        sa.Column("details", Text, nullable=False),
        sa.Column("hash", Text, nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "number"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "audit_heads",
        sa.Column("workspace_id", Integer, nullable=False),
        sa.Column("number", Integer, nullable=False),
        sa.Column("hash", Text, nullable=False),
        sa.PrimaryKeyConstraint("workspace_id"),
    )
    op.create_table(
        "blobs",
        sa.Column("id", Integer, nullable=False),
        sa.Column("sha256", Text, nullable=False),
        sa.Column("size", Integer, nullable=False),
        sa.Column("object", Text, nullable=False),
        sa.Column("offset", Integer, nullable=False),
        sa.Column("created_at", Integer, nullable=False),
        sa.Column("damaged_at", Integer, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("sha256"),
    )
    op.create_table(
        "users",
        sa.Column("id", Integer, nullable=False),
        sa.Column("uid", Text, nullable=False),
        sa.Column("name", Text, nullable=False),
        sa.Column("is_lab_admin", sa.Boolean(), nullable=False),
        sa.Column("created_at", Integer, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.UniqueConstraint("uid"),
    )
    op.create_table(
        "workspaces",
        sa.Column("id", Integer, nullable=False),
        sa.Column("uid", Text, nullable=False),
        sa.Column("name", Text, nullable=False),
        sa.Column("created_at", Integer, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.UniqueConstraint("uid"),
    )
    op.create_table(
        "assets",
        sa.Column("id", Integer, nullable=False),
        sa.Column("uid", Text, nullable=False),
        sa.Column("workspace_id", Integer, nullable=False),
        sa.Column("key", Text, nullable=False),
        sa.Column("experiment", Text, nullable=True),
        sa.Column("name", Text, nullable=False),
        sa.Column("kind", Text, nullable=False),
        sa.Column("format", Text, nullable=False),
        sa.Column("head_id", Integer, nullable=False),
        sa.Column("deleted_at", Integer, nullable=True),
        sa.ForeignKeyConstraint(
            ["workspace_id"],
            ["workspaces.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("uid"),
        sa.UniqueConstraint("workspace_id", "key"),
    )
    op.create_index("assets_by_experiment", "assets", ["workspace_id", "experiment"], unique=False)
    op.create_index("assets_by_head", "assets", ["head_id"], unique=False)
    op.create_index("assets_by_name", "assets", ["workspace_id", "name"], unique=False)
    op.create_table(
        "experiments",
        sa.Column("id", Integer, nullable=False),
        sa.Column("workspace_id", Integer, nullable=False),
        sa.Column("name", Text, nullable=False),
        sa.Column("number", Text, nullable=False),
        sa.Column("title", Text, nullable=True),
        sa.Column("meta", Text, nullable=False),
        sa.Column("described", sa.Boolean(), nullable=False),
        sa.Column("created_at", Integer, nullable=False),
        sa.Column("created_by", Integer, nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by"],
            ["users.id"],
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id"],
            ["workspaces.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("workspace_id", "name"),
    )
    op.create_table(
        "members",
        sa.Column("workspace_id", Integer, nullable=False),
        sa.Column("user_id", Integer, nullable=False),
        sa.Column("role", Text, nullable=False),
        sa.Column("experiments", Text, nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id"],
            ["workspaces.id"],
        ),
        sa.PrimaryKeyConstraint("workspace_id", "user_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "replies",
        sa.Column("user_id", Integer, nullable=False),
        sa.Column("key", Text, nullable=False),
        sa.Column("request", Text, nullable=False),
        sa.Column("reply", sa.LargeBinary(), nullable=False),
        sa.Column("at", Integer, nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
        ),
        sa.PrimaryKeyConstraint("user_id", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_replies_at"), "replies", ["at"], unique=False)
    op.create_table(
        "rules",
        sa.Column("workspace_id", Integer, nullable=False),
        sa.Column("version", Integer, nullable=False),
        sa.Column("document", Text, nullable=False),
        sa.Column("created_at", Integer, nullable=False),
        sa.Column("created_by", Integer, nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by"],
            ["users.id"],
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id"],
            ["workspaces.id"],
        ),
        sa.PrimaryKeyConstraint("workspace_id", "version"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tokens",
        sa.Column("id", Integer, nullable=False),
        sa.Column("uid", Text, nullable=False),
        sa.Column("user_id", Integer, nullable=False),
        sa.Column("kind", Text, nullable=False),
        sa.Column("name", Text, nullable=False),
        sa.Column("hash", Text, nullable=False),
        sa.Column("scopes", Text, nullable=False),
        sa.Column("workspace_id", Integer, nullable=True),
        sa.Column("experiments", Text, nullable=True),
        sa.Column("created_at", Integer, nullable=False),
        sa.Column("expires_at", Integer, nullable=True),
        sa.Column("renew_until", Integer, nullable=True),
        sa.Column("revoked_at", Integer, nullable=True),
        sa.Column("parent_id", Integer, nullable=True),
        sa.ForeignKeyConstraint(
            ["parent_id"],
            ["tokens.id"],
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id"],
            ["workspaces.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash"),
        sa.UniqueConstraint("uid"),
    )
    op.create_index(op.f("ix_tokens_parent_id"), "tokens", ["parent_id"], unique=False)
    op.create_index(op.f("ix_tokens_user_id"), "tokens", ["user_id"], unique=False)
    op.create_table(
        "uploads",
        sa.Column("blob_id", Integer, nullable=False),
        sa.Column("workspace_id", Integer, nullable=False),
        sa.Column("user_id", Integer, nullable=False),
        sa.Column("at", Integer, nullable=False),
        sa.ForeignKeyConstraint(
            ["blob_id"],
            ["blobs.id"],
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id"],
            ["workspaces.id"],
        ),
        sa.PrimaryKeyConstraint("blob_id", "workspace_id", "user_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "asset_tags",
        sa.Column("asset_id", Integer, nullable=False),
        sa.Column("tag", Text, nullable=False),
        sa.Column("workspace_id", Integer, nullable=False),
        sa.ForeignKeyConstraint(
            ["asset_id"],
            ["assets.id"],
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id"],
            ["workspaces.id"],
        ),
        sa.PrimaryKeyConstraint("asset_id", "tag"),
        sqlite_with_rowid=False,
    )
    op.create_index("asset_tags_by_tag", "asset_tags", ["workspace_id", "tag"], unique=False)
    op.create_table(
        "attributes",
        sa.Column("workspace_id", Integer, autoincrement=False, nullable=False),
        sa.Column("path", Text, nullable=False),
        sa.Column("type", Text, nullable=False),
        sa.Column("number", sa.Float(), nullable=False),
        sa.Column("text", Text, nullable=False),
        sa.Column("asset_id", Integer, nullable=False),
        sa.ForeignKeyConstraint(
            ["asset_id"],
            ["assets.id"],
        ),
        sa.PrimaryKeyConstraint("workspace_id", "path", "type", "number", "text", "asset_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("attributes_by_asset", "attributes", ["asset_id"], unique=False)
    op.create_table(
        "documents",
        sa.Column("asset_id", Integer, autoincrement=False, nullable=False),
        sa.Column("content", Text, nullable=False),
        sa.ForeignKeyConstraint(
            ["asset_id"],
            ["assets.id"],
        ),
        sa.PrimaryKeyConstraint("asset_id"),
    )
    op.create_table(
        "versions",
        sa.Column("id", Integer, nullable=False),
        sa.Column("uid", Text, nullable=False),
        sa.Column("asset_id", Integer, nullable=False),
        sa.Column("number", Integer, nullable=False),
        sa.Column("blob_id", Integer, nullable=False),
        sa.Column("kind", Text, nullable=False),
        sa.Column("format", Text, nullable=False),
        sa.Column("options", Text, nullable=False),
        sa.Column("meta", Text, nullable=False),
        sa.Column("tags", Text, nullable=False),
        sa.Column("created_at", Integer, nullable=False),
        sa.Column("author_id", Integer, nullable=False),
        sa.Column("note", Text, nullable=False),
        sa.Column("notebook", Text, nullable=True),
        sa.ForeignKeyConstraint(
            ["asset_id"],
            ["assets.id"],
        ),
        sa.ForeignKeyConstraint(
            ["author_id"],
            ["users.id"],
        ),
        sa.ForeignKeyConstraint(
            ["blob_id"],
            ["blobs.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("asset_id", "number"),
        sa.UniqueConstraint("uid"),
    )
    op.create_index(op.f("ix_versions_blob_id"), "versions", ["blob_id"], unique=False)
    op.create_index("versions_by_age", "versions", ["created_at"], unique=False)
    op.create_table(
        "version_inputs",
        sa.Column("version_id", Integer, nullable=False),
        sa.Column("input_id", Integer, nullable=False),
        sa.ForeignKeyConstraint(
            ["input_id"],
            ["versions.id"],
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["versions.id"],
        ),
        sa.PrimaryKeyConstraint("version_id", "input_id"),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_version_inputs_input_id"), "version_inputs", ["input_id"], unique=False)
    dialect = op.get_bind().dialect.name
    for statement in (*TRIGGERS[dialect], *WORDS[dialect]):
        op.execute(statement)
