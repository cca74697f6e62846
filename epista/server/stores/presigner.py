"""
Addresses of an S3 store that say themselves what they allow, to whoever has them, for a while.

AWS Signature Version 4 with the signature in the query (the S3 API reference, "Authenticating Requests: Using Query Parameters").
Headers that are signed must be sent as they were signed; everything else of a request is free, its body too.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

MOST_SECONDS = 7 * 24 * 3600
"""How long an address can be good for at most."""


class Presigner:
    """Signs addresses in one bucket."""

    def __init__(
        self, *, bucket: str, endpoint: str | None, region: str, access_key: str, secret_key: str, is_path_style: bool
    ) -> None:
        address = urlsplit(endpoint or f"https://s3.{region}.amazonaws.com")
        self._host = _without_usual_port(address.scheme, address.netloc)
        self._root = ""
        if is_path_style:
            self._root = f"/{quote(bucket, safe='-._~')}"
        else:
            self._host = f"{bucket}.{self._host}"
        self._scheme = address.scheme
        self._region = region
        self._access_key = access_key
        self._secret_key = secret_key

    def url(
        self,
        method: str,
        key: str,
        *,
        seconds: int,
        query: Mapping[str, str] = {},
        headers: Mapping[str, str] = {},
        at: float | None = None,
    ) -> str:
        """
        Return an address that allows *method* on *key* for some *seconds* from *at* (now), with just this *query*.

        An empty *key* is the bucket. A parameter without a value, such as ``uploads``, has an empty one.
        """
        moment = datetime.fromtimestamp(time.time() if at is None else at, UTC).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{moment[:8]}/{self._region}/s3/aws4_request"
        signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()} | {"host": self._host}
        names = ";".join(sorted(signed))
        parameters = {
            **query,
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self._access_key}/{scope}",
            "X-Amz-Date": moment,
            "X-Amz-Expires": str(min(seconds, MOST_SECONDS)),
            "X-Amz-SignedHeaders": names,
        }
        encoded = sorted((quote(name, safe="-._~"), quote(value, safe="-._~")) for name, value in parameters.items())
        search = "&".join(f"{name}={value}" for name, value in encoded)
        path = f"{self._root}/{quote(key, safe='/-._~')}"
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        request = "\n".join([method, path, search, lines, names, "UNSIGNED-PAYLOAD"])
        to_sign = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(request.encode()).hexdigest()])
        signature = hmac.new(self._key(scope), to_sign.encode(), hashlib.sha256).hexdigest()
        return f"{self._scheme}://{self._host}{path}?{search}&X-Amz-Signature={signature}"

    def _key(self, scope: str) -> bytes:
        key = b"AWS4" + self._secret_key.encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key


def _without_usual_port(scheme: str, host: str) -> str:
    """Return the host as clients name it in their requests."""
    usual = {"http": ":80", "https": ":443"}.get(scheme, "")
    return host.removesuffix(usual) if usual else host
