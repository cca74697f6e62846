"""
Which older servers may go on with a database that was migrated.

Revision ID: 0006
"""

import sqlalchemy as sa
from alembic import op

from epista.server.stores.columns import Text

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("compatibility", sa.Column("oldest", Text, nullable=False), sa.PrimaryKeyConstraint("oldest"))
