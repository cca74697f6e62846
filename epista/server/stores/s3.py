"""
Blobs in S3 or a store that speaks like it.

obstore moves the bytes; addresses for others are signed here, and objects in parts are multipart uploads, which obstore cannot
take up again.
"""

from __future__ import annotations

import base64
import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree

import obstore.store
import urllib3

from epista.contract.errors import IntegrityError
from epista.server.stores.blobs import Address, Found, IncomingPart, checked, is_name, missing, new_name, object_of
from epista.server.stores.presigner import Presigner
from epista.server.stores.remote import CONNECT_SECONDS, RETRY_SECONDS, RemoteBlobs, how_to_try, refusing, unavailable

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
        super().__init__(opened(bucket, stall_seconds=stall_seconds, retry_seconds=retry_seconds))
        self._is_checked = bucket.checksum != "none"
        self._prefix = f"{bucket.prefix}/" if bucket.prefix else ""
        self._presigner = _presigner(bucket, bucket.endpoint)
        self._public = _presigner(bucket, bucket.public_endpoint)
        self._http = urllib3.PoolManager(
            maxsize=4,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=stall_seconds),
            retries=urllib3.Retry(
                7,
                redirect=False,
                backoff_factor=0.1,
                status_forcelist=(429, 500, 502, 503, 504),
                allowed_methods=None,
                respect_retry_after_header=False,
            ),
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

    # What comes in parts is one multipart upload of the store's own: to join the parts then moves no bytes. Its id is needed to
    # the end, so it stands in the name of the unfinished object. Without keys to sign with, parts are objects as elsewhere.

    def begin(self, size: int) -> str:
        """Begin an object that comes in parts."""
        if self._presigner is None:
            return super().begin(size)
        name = new_name()
        headers = {"x-amz-checksum-algorithm": "CRC32"} if self._is_checked else {}
        made = self._ask("POST", name, {"uploads": ""}, headers=headers)
        return name + made.findtext("{*}UploadId", "")

    def part(self, unfinished: str, number: int, start: int) -> IncomingPart:
        """Let a part come in; of several who send the same one, the last counts."""
        if not _upload_of(unfinished):
            return super().part(unfinished, number, start)
        return _Part(self, unfinished, number)

    def send_part(self, unfinished: str, number: int, body: bytes, crc32: int) -> str:
        """Send a whole part, and return its tag."""
        answer = self._request(
            "PUT",
            object_of(unfinished),
            {"partNumber": str(number), "uploadId": _upload_of(unfinished)},
            headers=self._checksum(crc32),
            body=body,
        )
        if answer.status == 404:
            raise missing()
        return self._tag(answer.headers.get("ETag", ""), crc32)

    def entrance(self, unfinished: str, number: int, *, size: int, crc32: int, seconds: int) -> Address | None:
        """Return an address where anybody can send a part."""
        if self._public is None or not _upload_of(unfinished):
            return None
        headers = {"content-length": str(size), **self._checksum(crc32)}
        query = {"partNumber": str(number), "uploadId": _upload_of(unfinished)}
        key = self._prefix + checked(object_of(unfinished))
        return Address(self._public.url("PUT", key, seconds=seconds, query=query, headers=headers), headers)

    def entered(self, unfinished: str, parts: Mapping[int, tuple[int, int]]) -> dict[int, str]:
        """Return the tags of those *parts* that have come in by their addresses, whole."""
        if not _upload_of(unfinished):
            return {}
        found = {}
        for number, size, tag in self._parts(unfinished, after=min(parts) - 1):
            if number > max(parts):
                break
            if number in parts and parts[number][0] == size:
                found[number] = self._tag(tag, parts[number][1])
        return found

    def join(self, unfinished: str, tags: Sequence[str]) -> str:
        """Make one object of finished parts."""
        if not (upload := _upload_of(unfinished)):
            return super().join(unfinished, tags)
        # Of two who sent the same bytes, only one's tag is recorded. That they are the same, the checksum tells the store.
        lying: dict[int, list[str]] = {}
        for number, _, etag in self._parts(unfinished):
            lying.setdefault(number, []).append(etag)
        whole = ElementTree.Element("CompleteMultipartUpload")
        for number, tag in enumerate(tags, 1):
            part = ElementTree.SubElement(whole, "Part")
            etag, _, checksum = tag.partition(" ")
            ElementTree.SubElement(part, "PartNumber").text = str(number)
            known = lying.get(number, [etag])
            ElementTree.SubElement(part, "ETag").text = etag if etag in known else known[0]
            if checksum:
                ElementTree.SubElement(part, "ChecksumCRC32").text = checksum
        name = object_of(unfinished)
        answer = self._request("POST", name, {"uploadId": upload}, body=ElementTree.tostring(whole))
        if answer.status == 404:
            self._size(name)  # which is there if an answer got lost
        elif answer.status == 400:
            raise IntegrityError("a part is not what was recorded of it", hint="send the content again")
        elif b"<Error>" in answer.data:  # the store found out only after it had said 200
            raise unavailable()
        return name

    def abandon(self, unfinished: str) -> None:
        """Remove an unfinished object."""
        if not (upload := _upload_of(unfinished)):
            super().abandon(unfinished)
        else:
            self._ask("DELETE", object_of(unfinished), {"uploadId": upload})

    def unfinished(self) -> Iterator[Found]:
        """Walk over all unfinished objects, also those that a server left half sent when it was killed."""
        yield from super().unfinished()
        query = {"uploads": "", "prefix": self._prefix}
        while self._presigner is not None:
            page = self._ask("GET", "", query)
            for one in page.iterfind("{*}Upload"):
                began = datetime.fromisoformat(one.findtext("{*}Initiated", ""))
                name = one.findtext("{*}Key", "").removeprefix(self._prefix) + one.findtext("{*}UploadId", "")
                if is_name(object_of(name)):
                    yield Found(name, sum(size for _, size, _ in self._parts(name)), began.timestamp())
            if page.findtext("{*}IsTruncated") != "true":
                return
            query["key-marker"] = page.findtext("{*}NextKeyMarker", "")
            query["upload-id-marker"] = page.findtext("{*}NextUploadIdMarker", "")

    def _parts(self, unfinished: str, *, after: int = 0) -> Iterator[tuple[int, int, str]]:
        """Walk over the parts that the store has: number, size and tag."""
        query = {"uploadId": _upload_of(unfinished)}
        if after:
            query["part-number-marker"] = str(after)
        while True:
            page = self._ask("GET", object_of(unfinished), query)
            for one in page.iterfind("{*}Part"):
                yield int(one.findtext("{*}PartNumber", "")), int(one.findtext("{*}Size", "")), one.findtext("{*}ETag", "")
            if page.findtext("{*}IsTruncated") != "true":
                return
            query["part-number-marker"] = page.findtext("{*}NextPartNumberMarker", "")

    def _checksum(self, crc32: int) -> dict[str, str]:
        return {"x-amz-checksum-crc32": _base64(crc32)} if self._is_checked else {}

    def _tag(self, etag: str, crc32: int) -> str:
        return f"{etag} {_base64(crc32)}" if self._is_checked else etag

    def _ask(self, method: str, name: str, query: Mapping[str, str], *, headers: Mapping[str, str] = {}) -> ElementTree.Element:
        """Return the document that the store answers; an empty one if there is no such thing."""
        answer = self._request(method, name, query, headers=headers)
        if answer.status >= 300 or not answer.data:
            return ElementTree.Element("Nothing")
        return ElementTree.fromstring(answer.data)  # noqa: S314 - from the lab's own store, of which we believe all bytes

    def _request(
        self, method: str, name: str, query: Mapping[str, str], *, headers: Mapping[str, str] = {}, body: bytes | None = None
    ) -> urllib3.BaseHTTPResponse:
        """Ask for what obstore cannot, about an object or, without a name, the bucket; 400 and 404 are answers too."""
        assert self._presigner, "only with keys is there something to ask"
        key = self._prefix + checked(name) if name else ""
        address = self._presigner.url(method, key, seconds=_OWN_SECONDS, query=query, headers=headers)
        try:
            answer = self._http.request(method, address, body=body, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            # Its words have the address, which is signed.
            _log.error("the store of the lab's bytes does not answer: %s", type(error).__name__)
            raise unavailable() from None
        if answer.status >= 300 and answer.status not in (400, 404):
            _log.error("the store of the lab's bytes answers %s with status %d", method, answer.status)
            raise refusing() if answer.status in (401, 403) else unavailable()
        return answer


class _Part:
    """A part on its way, in memory until it is whole: the store wants to know its checksum first."""

    def __init__(self, store: S3Blobs, unfinished: str, number: int) -> None:
        self._store = store
        self._unfinished = unfinished
        self._number = number
        self._pieces: list[bytes] | None = []
        self._crc32 = 0

    def write(self, data: bytes | memoryview) -> None:
        pieces = self._pieces
        if pieces is not None:
            pieces.append(bytes(data))
            self._crc32 = zlib.crc32(data, self._crc32)

    def finish(self) -> str:
        return self._store.send_part(self._unfinished, self._number, b"".join(self._pieces or ()), self._crc32)

    def discard(self) -> None:
        self._pieces = None


def _upload_of(unfinished: str) -> str:
    """Return the store's id of an upload; empty for one whose parts are objects."""
    return unfinished[len(object_of(unfinished)) :]


def _base64(crc32: int) -> str:
    return base64.b64encode(crc32.to_bytes(4, "big")).decode()


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


def opened(bucket: Bucket, *, stall_seconds: float, retry_seconds: float = RETRY_SECONDS) -> obstore.store.S3Store:
    """Return obstore's view of a bucket."""
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
