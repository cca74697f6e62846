"""
What lies in which object.

Revision ID: 0003
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("blobs_by_object", "blobs", ["object", "offset"])
