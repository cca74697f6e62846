"""Objects: contents come in, versions are made of them, and what stands at a key is hidden or brought back."""

from __future__ import annotations

import json

from sqlalchemy import Connection, RowMapping

from epista.contract import assets as asset_messages
from epista.contract import keys, metadata
from epista.contract import objects as wire
from epista.contract.errors import (
    InvalidKeyError,
    KeyNotFoundError,
)
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.services import purges, usage, words
from epista.server.services.activities import Origin
from epista.server.services.assets import asset, locate, refuse_folder, version_row
from epista.server.services.contents import Contents
from epista.server.services.experiment_names import require_writable
from epista.server.services.relocations import Relocations
from epista.server.services.resources import Resources
from epista.server.services.versions import (
    LISTED_IN_AUDIT,
    Checked,
    Draft,
    Fresh,
    Made,
    Versions,
    for_audit,
    refuse_stale,
    require_checked,
)
from epista.server.stores import assets as rows


class Objects(Contents):
    """Nothing is overwritten: a put makes a version, a delete hides, and one act is one transaction."""

    def __init__(self, resources: Resources, versions: Versions) -> None:
        super().__init__(resources)
        self._versions = versions
        self._relocations = Relocations(resources, versions)

    def commit(self, actor: Actor, wanted: wire.CommitObjects) -> wire.Assets:
        """Make versions of contents that are there: all of them in one transaction, or none."""
        return wire.Assets(assets=tuple(self.put(actor, wanted)))

    def put(self, actor: Actor, wanted: wire.CommitObjects, fresh: Fresh | None = None) -> list[asset_messages.Asset]:
        """Make versions, of contents that are there or *fresh*, which are recorded in the same transaction."""
        self._versions.check(wanted.objects, wanted.inputs)
        texts = words.of_objects(self._all, actor, wanted.workspace, wanted.objects, fresh)
        checked: Checked = set()

        def work(tx: Connection, access: Access) -> Made:
            ids = fresh.record(tx, access) if fresh else {}
            drafts = self._versions.drafts(tx, actor, access, wanted.objects, ids)
            self._versions.refuse_conflicts(tx, access, drafts)
            require_checked(tx, access, drafts, checked)
            origin = self._versions.origin(tx, actor, access, wanted)
            made = self._versions.make(tx, actor, access, drafts, texts, origin, note="put")
            self._all.record(tx, actor, access.workspace_id, *for_audit(drafts))
            return Made(versions=tuple(made[draft.key] for draft in drafts))

        return self._versions.receipts(actor, wanted.workspace, work, checked)

    def set_meta(self, actor: Actor, wanted: wire.SetMetadata) -> asset_messages.Asset:
        """Describe an asset anew: a version on the same bytes."""
        refuse_folder(wanted.key, "put_dir(..., meta=...)")
        metadata.check(wanted.meta)
        checked: Checked = set()

        def work(tx: Connection, access: Access) -> asset_messages.Asset:
            row = locate(tx, access, wanted.key, wanted.experiment)
            access.require_key(row["key"])
            draft = as_draft(row, row)
            draft.meta = json.dumps(wanted.meta, ensure_ascii=False)
            refuse_stale(draft, wanted.expect)
            require_checked(tx, access, [draft], checked)
            text = self._all.search.contents_of(tx, [row["asset_id"]]).get(row["asset_id"], "")
            self._versions.make(tx, actor, access, [draft], {draft.key: text}, Origin(inputs=[row["id"]]), note="metadata")
            return self._versions.receipt(tx, actor, access, row["key"])

        return self._versions.write(actor, wanted.workspace, asset_messages.Asset, work, checked)

    def delete(self, actor: Actor, wanted: wire.DeleteAsset) -> asset_messages.Asset:
        """Hide an asset; its versions stay."""
        refuse_folder(wanted.key, f"delete_dir({wanted.key!r}), or: epista rm --dir {wanted.key}")

        def work(tx: Connection, access: Access) -> asset_messages.Asset:
            try:
                row = locate(tx, access, wanted.key, wanted.experiment)
            except KeyNotFoundError as error:
                if folder := error.details.get("folder"):
                    raise InvalidKeyError(
                        f"{folder!r} is a folder", hint=f"for a folder: delete_dir({folder!r}), or: epista rm --dir {folder}"
                    ) from None
                raise
            require_writable(tx, access, [row["key"]])
            hidden = asset(tx, access, row)
            self._versions.hide(tx, access, [row["asset_id"]])
            self._all.record(tx, actor, access.workspace_id, hidden.key, {"version": hidden.version})
            return hidden

        return self._all.write(actor, "write", wanted.workspace, asset_messages.Asset, work)

    def delete_dir(self, actor: Actor, wanted: wire.DeleteFolder) -> wire.Keys:
        """Hide everything below a folder, at its boundary: all or nothing."""
        folder = keys.normalise_folder(wanted.path)
        if not folder:
            raise InvalidKeyError("an empty folder would mean the whole workspace", hint="delete_dir('EXP-12/')")

        def work(tx: Connection, access: Access) -> wire.Keys:
            here = access.workspace_id, access.experiments
            found = rows.keys_after(tx, *here, prefix=folder, after=None, limit=2**62)
            require_writable(tx, access, found)
            if not wanted.dry_run:
                known = rows.by_keys(tx, access.workspace_id, found, light=True)
                self._versions.hide(tx, access, [known[key]["asset_id"] for key in found])
            details = {"keys": found[:LISTED_IN_AUDIT], "count": len(found), "dry_run": wanted.dry_run}
            self._all.record(tx, actor, access.workspace_id, folder, details)
            return wire.Keys(keys=tuple(found))

        return self._all.write(actor, "write", wanted.workspace, wire.Keys, work)

    def restore(self, actor: Actor, wanted: wire.RestoreAsset) -> asset_messages.Asset:
        """Bring a deleted asset back, or make an old version the current one; doing it again changes nothing."""
        refuse_folder(wanted.key, "restore each of its keys")
        texts = self._restored_text(actor, wanted)
        checked: Checked = set()

        def work(tx: Connection, access: Access) -> asset_messages.Asset:
            row = locate(tx, access, wanted.key, wanted.experiment, deleted=True)
            require_writable(tx, access, [row["key"]])
            draft = as_draft(row, row if wanted.version is None else version_row(tx, row, wanted.version))
            self._versions.refuse_conflicts(tx, access, [draft])
            if wanted.version is not None:
                require_checked(tx, access, [draft], checked)
            if _says_the_same(row, draft):
                if not draft.is_live:
                    usage.count(tx, access, assets=1)
                    rows.show(tx, row["asset_id"])
                    self._versions.index(tx, access, [(row["asset_id"], draft)], texts)
            else:
                old = version_row(tx, row, str(wanted.version))
                note = f"restored from version {old['number']}"
                self._versions.make(tx, actor, access, [draft], texts, Origin(inputs=[old["id"]]), note=note)
            return self._versions.receipt(tx, actor, access, row["key"])

        return self._versions.write(actor, wanted.workspace, asset_messages.Asset, work, checked)

    def purge(self, actor: Actor, wanted: wire.PurgeVersions) -> wire.Purged:
        """Erase versions for good."""
        return purges.purge(self._all, actor, wanted)

    def copy(self, actor: Actor, wanted: wire.CopyObjects) -> wire.Assets:
        """Make versions of what stands at other keys, without moving bytes: all of them, or none."""
        return self._relocations.relocate(actor, wanted, wanted.objects, note="copied")

    def move(self, actor: Actor, wanted: wire.MoveObjects) -> wire.Assets:
        """Copy and hide the sources in one commit; their versions stay with them."""
        return self._relocations.relocate(actor, wanted, wanted.objects, note="moved")

    def _restored_text(self, actor: Actor, wanted: wire.RestoreAsset) -> dict[str, str]:
        with self._all.read(actor, "write", wanted.workspace) as (tx, access):
            row = locate(tx, access, wanted.key, wanted.experiment, deleted=True)
            version = row if wanted.version is None else version_row(tx, row, wanted.version)
            blob = rows.blob_of(tx, access.workspace_id, access.experiments, version["uid"])
        assert blob is not None, "a version has a blob"
        return {row["key"]: words.of_blob(self._all, row["key"], dict(blob), version["format"], json.loads(version["options"]))}


def as_draft(row: RowMapping, version: RowMapping) -> Draft:
    """Return a draft for the asset in *row* that says what *version* says."""
    return Draft(
        sha256=version["sha256"],
        key=row["key"],
        before=row,
        blob_id=version["blob_id"],
        kind=version["kind"],
        format=version["format"],
        meta=version["meta"],
        tags=tuple(json.loads(version["tags"])),
        options=version["options"],
    )


def _says_the_same(row: RowMapping, draft: Draft) -> bool:
    names = ("kind", "format", "meta", "options")
    return (
        row["blob_id"] == draft.blob_id
        and tuple(json.loads(row["tags"])) == draft.tags
        and all(row[name] == getattr(draft, name) for name in names)
    )
