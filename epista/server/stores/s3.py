"""
Blobs in S3 or a store that speaks like it.

obstore moves the bytes; addresses for others are signed here, and what a killed server left half sent is found and removed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree

import obstore.store
import urllib3

from epista.server.stores.blobs import checked
from epista.server.stores.presigner import Presigner
from epista.server.stores.remote import CONNECT_SECONDS, RETRY_SECONDS, RemoteBlobs, how_to_try, unavailable

_log = logging.getLogger("epista.stores")

_OWN_SECONDS = 300
"""How long the addresses are good for that this server uses itself."""


class Bucket(NamedTuple):
    """Where a bucket is, and with what keys; without keys, those that the machine gives its programs are used."""

    name: str
    prefix: str
    endpoint: str | None
    """Where it is, if not at Amazon's."""
    public_endpoint: str | None
    """Where others reach it."""
    region: str
    access_key: str | None
    secret_key: str | None
    is_path_style: bool
    checksum: str
    """crc64nvme, sha256 or none: what the store checks each request and part by."""

    def __repr__(self) -> str:
        return f"Bucket(s3://{self.name}/{self.prefix})"


class S3Blobs(RemoteBlobs):
    """Objects of an S3 bucket, below a prefix."""

    def __init__(self, bucket: Bucket, *, stall_seconds: float = 60.0, retry_seconds: float = RETRY_SECONDS) -> None:
        super().__init__(_open(bucket, stall_seconds, retry_seconds))
        self._prefix = f"{bucket.prefix}/" if bucket.prefix else ""
        self._presigner = _presigner(bucket, bucket.endpoint)
        self._public = _presigner(bucket, bucket.public_endpoint)
        self._http = urllib3.PoolManager(
            maxsize=4,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=stall_seconds),
            retries=urllib3.Retry(5, backoff_factor=0.2, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None),
        )

    def link(self, object: str, *, name: str, media_type: str, seconds: int) -> str | None:
        """Return an address of the store where anybody can read the object for a while."""
        if self._public is None:
            return None
        query = {
            "response-content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
            "response-content-type": media_type,
        }
        return self._public.url("GET", self._prefix + checked(object), seconds=seconds, query=query)

    def sweep(self, grace_seconds: float, *, dry_run: bool) -> tuple[int, int]:
        """Take back the parts of uploads that began before the grace period and never ended."""
        count = size = 0
        for key, upload, began in self._unfinished():
            if time.time() - began >= grace_seconds:
                count, size = count + 1, size + sum(self._part_sizes(key, upload))
                if not dry_run:
                    self._ask("DELETE", key, {"uploadId": upload})
        return count, size

    def _unfinished(self) -> Iterator[tuple[str, str, float]]:
        query = {"uploads": "", "prefix": self._prefix}
        while self._presigner is not None:
            page = self._ask("GET", "", query)
            for one in page.iterfind("{*}Upload"):
                began = datetime.fromisoformat(one.findtext("{*}Initiated", ""))
                yield one.findtext("{*}Key", ""), one.findtext("{*}UploadId", ""), began.timestamp()
            if page.findtext("{*}IsTruncated") != "true":
                return
            query["key-marker"] = page.findtext("{*}NextKeyMarker", "")
            query["upload-id-marker"] = page.findtext("{*}NextUploadIdMarker", "")

    def _part_sizes(self, key: str, upload: str) -> Iterator[int]:
        query = {"uploadId": upload}
        while True:
            page = self._ask("GET", key, query)
            yield from (int(one.findtext("{*}Size", "0")) for one in page.iterfind("{*}Part"))
            if page.findtext("{*}IsTruncated") != "true":
                return
            query["part-number-marker"] = page.findtext("{*}NextPartNumberMarker", "")

    def _ask(self, method: str, key: str, query: dict[str, str]) -> ElementTree.Element:
        """Ask for what obstore cannot; an answer that the upload is gone meanwhile is an empty one."""
        assert self._presigner, "only with keys is there something to ask"
        try:
            answer = self._http.request(method, self._presigner.url(method, key, seconds=_OWN_SECONDS, query=query))
        except urllib3.exceptions.HTTPError as error:
            # Its words have the address, which is signed.
            _log.error("the store does not answer: %s", type(error).__name__)
            raise unavailable() from None
        if answer.status == 404 or (answer.status < 300 and not answer.data):
            return ElementTree.Element("Nothing")
        if answer.status >= 300:
            _log.error("the store answers %s with status %d", method, answer.status)
            raise unavailable()
        return ElementTree.fromstring(answer.data)  # noqa: S314 - from the lab's own store, of which we believe all bytes


def _presigner(bucket: Bucket, endpoint: str | None) -> Presigner | None:
    if not bucket.access_key or not bucket.secret_key:
        return None
    return Presigner(
        bucket=bucket.name,
        endpoint=endpoint,
        region=bucket.region,
        access_key=bucket.access_key,
        secret_key=bucket.secret_key,
        is_path_style=bucket.is_path_style,
    )


def _open(bucket: Bucket, stall_seconds: float, retry_seconds: float) -> obstore.store.S3Store:
    options: dict[str, Any] = how_to_try(stall_seconds=stall_seconds, retry_seconds=retry_seconds)
    if bucket.access_key and bucket.secret_key:
        options |= {"access_key_id": bucket.access_key, "secret_access_key": bucket.secret_key}
    if bucket.checksum != "none":
        options["checksum_algorithm"] = bucket.checksum
    if bucket.endpoint:
        scheme, _, host = bucket.endpoint.rstrip("/").partition("://")
        # obstore wants the bucket in the endpoint, unless it stands in the path.
        options["endpoint"] = f"{scheme}://{host if bucket.is_path_style else f'{bucket.name}.{host}'}"
    return obstore.store.S3Store(
        bucket.name,
        prefix=bucket.prefix or None,
        region=bucket.region,
        virtual_hosted_style_request=not bucket.is_path_style,
        # The checksum is of the same bytes, and the SHA-256 of a signature would cost as much as all else together.
        unsigned_payload=True,
        **options,
    )
