"""
What each workspace holds, and may hold.

Revision ID: 0007
"""

import sqlalchemy as sa
from alembic import op

from epista.server.stores.columns import Integer

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("stored_bytes", "assets", "versions"):
        op.add_column("workspaces", sa.Column(name, Integer, nullable=False, server_default="0"))
    for name in ("max_bytes", "max_assets"):
        op.add_column("workspaces", sa.Column(name, Integer, nullable=True))
    op.execute(
        """
        UPDATE workspaces SET
            assets = (SELECT count(*) FROM assets WHERE workspace_id = workspaces.id AND deleted_at IS NULL),
            versions = (
                SELECT count(*) FROM versions JOIN assets ON assets.id = versions.asset_id
                WHERE assets.workspace_id = workspaces.id
            ),
            stored_bytes = (
                SELECT coalesce(sum(blobs.size), 0) FROM blobs WHERE blobs.id IN (
                    SELECT versions.blob_id FROM versions JOIN assets ON assets.id = versions.asset_id
                    WHERE assets.workspace_id = workspaces.id
                )
            )
        """
    )
