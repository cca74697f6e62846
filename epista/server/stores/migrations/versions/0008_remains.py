"""
What lies in packs and no row points at.

Revision ID: 0008
"""

import sqlalchemy as sa
from alembic import op

from epista.server.stores.columns import Text

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "remains",
        sa.Column("sha256", Text, nullable=False),
        sa.Column("object", Text, nullable=False),
        sa.PrimaryKeyConstraint("sha256", "object"),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_remains_object"), "remains", ["object"])
