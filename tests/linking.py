"""Places whose files are linked, and what others do there meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import obstore
import obstore.store
from obstore.store import ObjectStore

from epista.server.stores import s3
from epista.server.stores.linked import FolderOrigin, Origin
from epista.server.stores.linked_remote import RemoteOrigin
from epista.server.stores.s3 import Bucket


class Files(Protocol):
    """Files that somebody else writes."""

    origin: Origin

    def write(self, path: str, data: bytes) -> None: ...

    def remove(self, path: str) -> None: ...


class FolderFiles:
    """In a folder."""

    def __init__(self, root: Path) -> None:
        root.mkdir(exist_ok=True)
        self.root = root
        self.origin: Origin = FolderOrigin("archive", root)

    def write(self, path: str, data: bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        before = file.stat().st_mtime_ns if file.exists() else 0
        file.write_bytes(data)
        # A file's time may be as coarse as a hundredth of a second.
        now = max(file.stat().st_mtime_ns, before + 10_000_000)
        os.utime(file, ns=(now, now))

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    def settings(self) -> dict[str, Any]:
        return {"url": str(self.root)}


class RemoteFiles:
    """In an object store."""

    def __init__(self, store: ObjectStore, bucket: Bucket | None = None) -> None:
        self._store = store
        self._bucket = bucket
        self.origin: Origin = RemoteOrigin("archive", store)

    def write(self, path: str, data: bytes) -> None:
        obstore.put(self._store, path, data)

    def remove(self, path: str) -> None:
        obstore.delete(self._store, path)

    def settings(self, folder: Path) -> dict[str, Any]:
        bucket = self._bucket
        assert bucket and bucket.secret_key
        secret = folder / "secret-of-the-root"
        secret.write_text(bucket.secret_key)
        return {
            "url": f"s3://{bucket.name}/{bucket.prefix}",
            "s3_endpoint": bucket.endpoint,
            "s3_access_key": bucket.access_key,
            "s3_secret_key_file": str(secret),
        }


def in_bucket(bucket: Bucket) -> RemoteFiles:
    return RemoteFiles(s3.opened(bucket, stall_seconds=20, retry_seconds=5), bucket)
