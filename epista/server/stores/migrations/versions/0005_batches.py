"""
Batches that are set aside part by part.

Revision ID: 0005
"""

import sqlalchemy as sa
from alembic import op

from epista.server.stores.columns import Integer, Text

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("id", Integer, nullable=False),
        sa.Column("uid", Text, nullable=False),
        sa.Column("workspace_id", Integer, nullable=False),
        sa.Column("user_id", Integer, nullable=False),
        sa.Column("at", Integer, nullable=False),
        sa.Column("made_at", Integer, nullable=True),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"]),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("user_id", "workspace_id", "uid"),
    )
    op.create_index(op.f("ix_batches_at"), "batches", ["at"])
    op.create_table(
        "batch_parts",
        sa.Column("batch_id", Integer, nullable=False),
        sa.Column("number", Integer, nullable=False),
        sa.Column("piece", Integer, nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"]),
        sa.PrimaryKeyConstraint("batch_id", "number", "piece"),
    )
