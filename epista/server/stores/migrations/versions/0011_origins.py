"""
What had been read when versions were made, and how much of what is named as read was erased since.

Revision ID: 0011
"""

import sqlalchemy as sa
from alembic import op

from epista.server.stores.columns import Integer, Text

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("versions", "activities", "queries"):
        op.add_column(table, sa.Column("gone_inputs", Integer, nullable=False, server_default="0"))
    op.add_column("activities", sa.Column("within", Text, nullable=True))
    op.create_index("versions_by_activity", "versions", ["activity_id"])
    op.create_table(
        "activity_inputs",
        sa.Column("activity_id", Integer, sa.ForeignKey("activities.id"), nullable=False),
        sa.Column("version_id", Integer, sa.ForeignKey("versions.id"), nullable=False),
        sa.PrimaryKeyConstraint("activity_id", "version_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_activity_inputs_version_id", "activity_inputs", ["version_id"])
