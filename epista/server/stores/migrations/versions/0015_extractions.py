"""
By which version of its extractor the words of each format were read.

Revision ID: 0015
"""

import sqlalchemy as sa
from alembic import op

from epista.server.stores.columns import Integer, Text

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# The formats that had words before; all of them were at their first version.
_BEFORE = (
    *("text", "markdown", "rst", "xml", "yaml", "code", "html", "json"),
    *("jsonl", "csv", "tsv", "ipynb", "svg", "parquet", "arrow"),
)


def upgrade() -> None:
    extractions = op.create_table(
        "extractions",
        sa.Column("format", Text, nullable=False),
        sa.Column("version", Integer, nullable=False),
        sa.Column("towards", Integer, nullable=False),
        sa.Column("after_id", Integer, nullable=False),
        sa.Column("holder", Text, nullable=False),
        sa.Column("held_until", Integer, nullable=False),
        sa.PrimaryKeyConstraint("format"),
        sqlite_with_rowid=False,
    )
    row = {"version": 1, "towards": 1, "after_id": 0, "holder": "", "held_until": 0}
    op.bulk_insert(extractions, [{"format": format, **row} for format in _BEFORE])
