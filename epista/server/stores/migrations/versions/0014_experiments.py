"""
Experiments with projects, roles, tags and names of their own; what names tell of recordings.

Revision ID: 0014
"""

import secrets

import sqlalchemy as sa
from alembic import op

from epista.server.stores.columns import FreeText, Integer, Text

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "projects",
        sa.Column("id", Integer, primary_key=True),
        sa.Column("uid", Text, nullable=False),
        sa.Column("workspace_id", Integer, sa.ForeignKey("workspaces.id"), nullable=False),
        sa.Column("name", Text, nullable=False),
        sa.Column("title", FreeText, nullable=True),
        sa.Column("description", FreeText, nullable=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("created_by", Integer, sa.ForeignKey("users.id"), nullable=False),
        sa.UniqueConstraint("uid"),
        sa.UniqueConstraint("workspace_id", "name"),
    )
    op.add_column("experiments", sa.Column("uid", Text, nullable=True))
    op.add_column("experiments", sa.Column("description", FreeText, nullable=True))
    op.add_column("experiments", sa.Column("status", Text, nullable=False, server_default="active"))
    op.add_column("experiments", sa.Column("tags", Text, nullable=False, server_default="[]"))
    op.add_column("experiments", sa.Column("project_id", Integer, nullable=True))
    rows = sa.table("experiments", sa.column("id"), sa.column("uid"))
    there = op.get_bind()
    ids = there.execute(sa.select(rows.c.id)).scalars().all()
    if ids:
        named = sa.update(rows).where(rows.c.id == sa.bindparam("row")).values(uid=sa.bindparam("new"))
        there.execute(named, [{"row": id, "new": f"ex_{secrets.token_hex(12)}"} for id in ids])
    op.create_index("experiments_by_uid", "experiments", ["uid"], unique=True)
    op.create_index("experiments_by_number", "experiments", ["workspace_id", "number"])
    op.create_index("experiments_by_project", "experiments", ["project_id"])
    op.create_table(
        "experiment_tags",
        sa.Column("experiment_id", Integer, sa.ForeignKey("experiments.id"), nullable=False),
        sa.Column("tag", Text, nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", "tag"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "experiment_names",
        sa.Column("workspace_id", Integer, sa.ForeignKey("workspaces.id"), nullable=False),
        sa.Column("name", Text, nullable=False),
        sa.Column("experiment_id", Integer, sa.ForeignKey("experiments.id"), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_experiment_names_experiment_id", "experiment_names", ["experiment_id"])
    op.create_table(
        "experiment_roles",
        sa.Column("workspace_id", Integer, sa.ForeignKey("workspaces.id"), nullable=False),
        sa.Column("user_id", Integer, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("experiment_id", Integer, sa.ForeignKey("experiments.id"), nullable=False),
        sa.Column("role", Text, nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "user_id", "experiment_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_experiment_roles_experiment_id", "experiment_roles", ["experiment_id"])
    op.add_column("workspaces", sa.Column("conventions", Text, nullable=True))
    op.create_table(
        "recordings",
        sa.Column("workspace_id", Integer, sa.ForeignKey("workspaces.id"), nullable=False),
        sa.Column("key", Text, nullable=False),
        sa.Column("experiment", Text, nullable=True),
        sa.Column("recording", Text, nullable=False),
        sa.Column("rank", Text, nullable=False),
        sa.Column("convention", Text, nullable=True),
        sa.Column("subject", Text, nullable=True),
        sa.Column("platform", Text, nullable=True),
        sa.Column("label", Text, nullable=True),
        sa.Column("started", sa.BigInteger, nullable=True),
        sa.Column("parsed", Text, nullable=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index("recordings_by_recording", "recordings", ["workspace_id", "recording"])
    op.create_index("recordings_by_subject", "recordings", ["workspace_id", "subject"])
    op.create_index("recordings_by_experiment", "recordings", ["workspace_id", "experiment"])
