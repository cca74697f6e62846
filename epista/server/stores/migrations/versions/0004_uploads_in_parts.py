"""
Contents that come in parts.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

from epista.server.stores.columns import Integer, Text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "incomplete_uploads",
        sa.Column("id", Integer, nullable=False),
        sa.Column("uid", Text, nullable=False),
        sa.Column("workspace_id", Integer, nullable=False),
        sa.Column("user_id", Integer, nullable=False),
        sa.Column("unfinished", Text, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("part_size", sa.BigInteger(), nullable=False),
        sa.Column("announced", Text, nullable=True),
        sa.Column("sha256", Text, nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"]),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("uid"),
    )
    op.create_index("ix_incomplete_uploads_expires_at", "incomplete_uploads", ["expires_at"])
    op.create_index("incomplete_uploads_by_user", "incomplete_uploads", ["workspace_id", "user_id"])
    op.create_table(
        "upload_parts",
        sa.Column("upload_id", Integer, nullable=False),
        sa.Column("number", Integer, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("crc32", sa.BigInteger(), nullable=False),
        sa.Column("tag", Text, nullable=False),
        sa.ForeignKeyConstraint(["upload_id"], ["incomplete_uploads.id"]),
        sa.PrimaryKeyConstraint("upload_id", "number"),
        sqlite_with_rowid=False,
    )
