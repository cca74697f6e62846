"""
What is told of activities, once for all that tell the same.

Revision ID: 0012
"""

import hashlib

import sqlalchemy as sa
from alembic import op

from epista.server.stores.columns import FreeText, Integer, Text

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_AT_ONCE = 1000


def upgrade() -> None:
    op.create_table(
        "tellings",
        sa.Column("id", Integer, nullable=False),
        sa.Column("sha256", Text, nullable=False, unique=True),
        sa.Column("document", FreeText, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.add_column("activities", sa.Column("telling_id", Integer, nullable=False, server_default="0"))
    _move(op.get_bind())
    op.drop_column("activities", "document")
    op.create_index("activities_by_telling", "activities", ["telling_id"])


def _move(tx: sa.Connection) -> None:
    activities = sa.table("activities", *map(sa.column, ("id", "document", "telling_id")))
    tellings = sa.table("tellings", *map(sa.column, ("id", "sha256", "document")))
    ids: dict[str, int] = {}
    after = 0
    while rows := tx.execute(
        sa.select(activities.c.id, activities.c.document).where(activities.c.id > after).order_by(activities.c.id).limit(_AT_ONCE)
    ).all():
        for row in rows:
            sha256 = hashlib.sha256(row.document.encode()).hexdigest()
            if sha256 not in ids:
                ids[sha256] = len(ids) + 1
                tx.execute(sa.insert(tellings).values(sha256=sha256, document=row.document))
            tx.execute(sa.update(activities).where(activities.c.id == row.id).values(telling_id=ids[sha256]))
        after = rows[-1].id
