"""
Files that stay where they are: a blob may lie below a root of the server's, and its sha256 be unknown.

Revision ID: 0009
"""

import sqlalchemy as sa
from alembic import op

from epista.server.stores.columns import Integer, Text

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        # SQLite cannot take a constraint off a table, only make the table anew.
        op.create_table(
            "blobs_0009",
            sa.Column("id", Integer, nullable=False),
            sa.Column("sha256", Text, nullable=True),
            sa.Column("size", Integer, nullable=False),
            sa.Column("object", Text, nullable=False),
            sa.Column("offset", Integer, nullable=False),
            sa.Column("created_at", Integer, nullable=False),
            sa.Column("damaged_at", Integer, nullable=True),
            sa.Column("root", Text, nullable=True),
            sa.PrimaryKeyConstraint("id"),
        )
        op.execute(
            """
            INSERT INTO blobs_0009 (id, sha256, size, object, "offset", created_at, damaged_at)
            SELECT id, sha256, size, object, "offset", created_at, damaged_at FROM blobs
            """
        )
        op.drop_table("blobs")
        op.rename_table("blobs_0009", "blobs")
        op.create_index("blobs_by_object", "blobs", ["object", "offset"])
    else:
        op.add_column("blobs", sa.Column("root", Text, nullable=True))
        op.alter_column("blobs", "sha256", nullable=True)
        op.drop_constraint("blobs_sha256_key", "blobs")
    kept, linked = sa.text("root IS NULL"), sa.text("root IS NOT NULL")
    op.create_index("blobs_by_sha256", "blobs", ["sha256"], unique=True, sqlite_where=kept, postgresql_where=kept)
    op.create_index("blobs_linked_by_sha256", "blobs", ["sha256"], sqlite_where=linked, postgresql_where=linked)
