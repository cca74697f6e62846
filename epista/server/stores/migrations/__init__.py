"""Alembic migrations of the catalog: append-only, run when the server starts."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, delete, insert

from epista.server.stores.catalog import COMPATIBLE
from epista.server.stores.tables import compatibility


def upgrade(tx: Connection) -> None:
    """Bring the catalog up to date within the open transaction *tx*."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = tx
    command.upgrade(config, "head")
    tx.execute(delete(compatibility))
    tx.execute(insert(compatibility).values(oldest=COMPATIBLE))
