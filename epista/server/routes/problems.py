"""Errors as they go over the wire: problem details for HTTP APIs, RFC 9457."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from epista.contract.errors import AuthenticationError, EpistaError, RateLimitError, ServerError, UnavailableError

MEDIA_TYPE = "application/problem+json"


def body(error: EpistaError, request_id: str) -> dict[str, Any]:
    """Return an error as a problem document."""
    return {
        "type": f"https://epista.dev/errors/{error.code}",
        "title": error.code.replace("_", " "),
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        "hint": error.hint,
        "details": error.details,
        "request_id": request_id,
    }


def response(error: EpistaError, request_id: str) -> Response:
    """Return an error as an answer."""
    headers = {}
    if isinstance(error, AuthenticationError):
        headers["WWW-Authenticate"] = 'Bearer realm="epista"'
    if isinstance(error, RateLimitError):
        headers["Retry-After"] = str(error.details.get("retry_after_seconds", 1))
    content = msgspec.json.encode(body(error, request_id))
    return Response(content, status_code=error.status, media_type=MEDIA_TYPE, headers=headers)


def fault() -> ServerError:
    """Return what a caller hears of a fault of the server: that there was one."""
    return ServerError("the server failed on this request", hint="tell whoever runs the server the request id")


def stopping() -> UnavailableError:
    """Return what a caller hears whose request is cut short by the end of the server."""
    return UnavailableError("the server is stopping", hint="try again in a moment")
