"""
The query log, what made a version, tables of several files, and the names that queries find tables by.

Revision ID: 0010
"""

import sqlalchemy as sa
from alembic import op

from epista.server.stores.assets import stem_of
from epista.server.stores.columns import Integer, Text

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


_AT_ONCE = 10_000


def upgrade() -> None:
    op.add_column("assets", sa.Column("stem", Text, nullable=False, server_default=""))
    _fill_stems(op.get_bind())
    op.drop_index("assets_by_name", table_name="assets")
    op.create_index("assets_by_stem", "assets", ["workspace_id", "stem", "key"])
    op.add_column("versions", sa.Column("activity_id", Integer, nullable=True))
    op.create_table(
        "activities",
        sa.Column("id", Integer, nullable=False),
        sa.Column("uid", Text, nullable=False, unique=True),
        sa.Column("workspace_id", Integer, sa.ForeignKey("workspaces.id"), nullable=False),
        sa.Column("user_id", Integer, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("document", Text, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "queries",
        sa.Column("id", Integer, nullable=False),
        sa.Column("uid", Text, nullable=False, unique=True),
        sa.Column("workspace_id", Integer, sa.ForeignKey("workspaces.id"), nullable=False),
        sa.Column("user_id", Integer, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("experiment", Text, nullable=True),
        sa.Column("within", Text, nullable=True),
        sa.Column("notebook", Text, nullable=True),
        sa.Column("sql", Text, nullable=False),
        sa.Column("params", Text, nullable=True),
        sa.Column("as_of", Text, nullable=True),
        sa.Column("engine", Text, nullable=False),
        sa.Column("limits", Text, nullable=False),
        sa.Column("status", Text, nullable=False),
        sa.Column("error", Text, nullable=True),
        sa.Column("message", Text, nullable=True),
        sa.Column("rows", sa.BigInteger, nullable=True),
        sa.Column("bytes", sa.BigInteger, nullable=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger, nullable=True),
        sa.Column("alive_until", sa.BigInteger, nullable=True),
        sa.Column("cancel_asked_at", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("queries_by_user", "queries", ["workspace_id", "user_id", "id"])
    op.create_table(
        "query_inputs",
        sa.Column("query_id", Integer, sa.ForeignKey("queries.id"), nullable=False),
        sa.Column("version_id", Integer, sa.ForeignKey("versions.id"), nullable=False),
        sa.PrimaryKeyConstraint("query_id", "version_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_query_inputs_version_id", "query_inputs", ["version_id"])
    op.create_table(
        "activity_queries",
        sa.Column("activity_id", Integer, sa.ForeignKey("activities.id"), nullable=False),
        sa.Column("query_id", Integer, sa.ForeignKey("queries.id"), nullable=False),
        sa.PrimaryKeyConstraint("activity_id", "query_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_activity_queries_query_id", "activity_queries", ["query_id"])
    op.create_table(
        "table_parts",
        sa.Column("blob_id", Integer, sa.ForeignKey("blobs.id"), nullable=False),
        sa.Column("position", Integer, nullable=False),
        sa.Column("part_id", Integer, sa.ForeignKey("blobs.id"), nullable=False),
        sa.PrimaryKeyConstraint("blob_id", "position"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_table_parts_part_id", "table_parts", ["part_id"])
    op.create_table(
        "blob_sources",
        sa.Column("blob_id", Integer, sa.ForeignKey("blobs.id"), nullable=False),
        sa.Column("source_id", Integer, sa.ForeignKey("blobs.id"), nullable=False),
        sa.PrimaryKeyConstraint("blob_id", "source_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_blob_sources_source_id", "blob_sources", ["source_id"])
    op.create_table(
        "table_facts",
        sa.Column("blob_id", Integer, sa.ForeignKey("blobs.id"), nullable=False),
        sa.Column("reading", Text, nullable=False),
        sa.Column("document", Text, nullable=False),
        sa.PrimaryKeyConstraint("blob_id", "reading"),
        sqlite_with_rowid=False,
    )


def _fill_stems(tx: sa.Connection) -> None:
    assets = sa.table("assets", sa.column("id"), sa.column("name"), sa.column("stem"))
    after = 0
    while True:
        found = sa.select(assets.c.id, assets.c.name).where(assets.c.id > after).order_by(assets.c.id).limit(_AT_ONCE)
        rows = tx.execute(found).all()
        if not rows:
            return
        named = sa.update(assets).where(assets.c.id == sa.bindparam("row")).values(stem=sa.bindparam("new"))
        tx.execute(named, [{"row": row.id, "new": stem_of(row.name)} for row in rows])
        after = rows[-1].id
