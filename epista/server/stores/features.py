"""
Which assets were drawn on an image: GeoJSON that names it among its inputs.

A move is a copy, and so is a change of metadata: what counts are contents, as far as the caller may read the versions between.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, RowMapping, and_, func, or_, select

from epista.server.stores.dialects import unindexed
from epista.server.stores.tables import assets, version_inputs, versions

EXTENSION = ".geojson"
"""How the keys of such assets end, in any case."""

_shown, _on, _stated = versions.alias("shown"), versions.alias("on_version"), versions.alias("stated")
_image, _origin = assets.alias("image"), assets.alias("origin")


def of_version(
    tx: Connection, workspace_id: int, allowed: Collection[str] | None, version_id: int, limit: int
) -> list[RowMapping]:
    """
    Return the newest of what was drawn on a version, or on others of its asset, newest first.

    A row for each content: the `key` of an asset whose current version has it, that version's `uid` and `number`, the version of
    the image that it names (`on_uid`, `on_number`), and whether that `fits`: it has the same bytes.
    """
    fits = _on.c.blob_id == _shown.c.blob_id
    best = fits.desc(), (_stated.c.asset_id == assets.c.id).desc(), versions.c.id.desc(), _on.c.id.desc()
    place = func.row_number().over(partition_by=versions.c.blob_id, order_by=best)
    found = (
        select(
            assets.c.key,
            versions.c.id,
            versions.c.uid,
            versions.c.number,
            _on.c.uid.label("on_uid"),
            _on.c.number.label("on_number"),
            fits.label("fits"),
            place.label("place"),
        )
        .select_from(_shown)
        .join(_on, or_(fits, _on.c.asset_id == _shown.c.asset_id))
        .join(_image, and_(_image.c.id == _on.c.asset_id, _seen(_image, workspace_id, allowed)))
        .join(version_inputs, version_inputs.c.input_id == _on.c.id)
        .join(_stated, _stated.c.id == version_inputs.c.version_id)
        .join(_origin, and_(_origin.c.id == _stated.c.asset_id, _seen(_origin, workspace_id, allowed)))
        .join(versions, versions.c.blob_id == _stated.c.blob_id)
        .join(assets, and_(assets.c.id == versions.c.asset_id, assets.c.head_id == versions.c.id))
        .where(
            _shown.c.id == version_id,
            _seen(assets, workspace_id, allowed),
            assets.c.deleted_at.is_(None),
            func.lower(func.substr(assets.c.key, func.length(assets.c.key) - len(EXTENSION) + 1)) == EXTENSION,
        )
        .subquery()
    )
    columns: list[Any] = [found.c[name] for name in ("key", "uid", "number", "on_uid", "on_number", "fits")]
    newest = select(*columns).where(found.c.place == 1).order_by(found.c.id.desc()).limit(limit)
    return list(tx.execute(newest).mappings())


def _seen(of: FromClause, workspace_id: int, allowed: Collection[str] | None) -> ColumnElement[bool]:
    """The same as `assets.visible`, of which no index is chosen: the way leads from the version outwards."""
    here = unindexed(of.c.workspace_id) == workspace_id
    return here if allowed is None else and_(here, unindexed(of.c.experiment).in_(sorted(allowed)))
