"""
Naming conventions that workspaces declare.

Revision ID: 0013
"""

import sqlalchemy as sa
from alembic import op

from epista.server.stores.columns import Integer, Text

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "conventions",
        sa.Column("workspace_id", Integer, nullable=False),
        sa.Column("version", Integer, nullable=False),
        sa.Column("document", Text, nullable=False),
        sa.Column("created_at", Integer, nullable=False),
        sa.Column("created_by", Integer, nullable=False),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"]),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"]),
        sa.PrimaryKeyConstraint("workspace_id", "version"),
        sqlite_with_rowid=False,
    )
