"""
Routes of the pages and of what they consist of.

What a page shows is untrusted: templates escape it, scripts set it as text, and the policy of the page lets nothing run that is
not a file of ours. All addresses in a page are relative, so that a lab may live below any path.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from epista.contract import images as wire
from epista.contract.endpoints import Endpoint
from epista.contract.errors import EpistaError, InvalidRequestError, NotFoundError
from epista.server.routes import conditions, problems
from epista.server.routes.dispatch import Door
from epista.server.services.images import Images

if TYPE_CHECKING:
    import jinja2

_HERE = Path(__file__).parent

_VIEW = Endpoint("images.view", "GET", wire.TILES + "/{token}/view", None, wire.DescribeImage, None)

_STATIC = "/web/"

_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".json": "application/json", ".txt": "text/plain"}

_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)

_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    # The address of a page may be a right to look: it goes to no other site, and not into the log of ours.
    "Referrer-Policy": "no-referrer",
}


def routes(door: Door, images: Images) -> list[Route]:
    """Return the routes."""

    async def view(request: Request) -> Response:
        request.scope["epista.endpoint"] = _VIEW.name
        try:
            # Whoever has the address of a page has nothing else: no other token counts.
            known, _ = door.identify(request.scope, _VIEW)
            if request.query_params:
                raise InvalidRequestError("the viewer takes nothing in the query; its view stands after #")
            asked = wire.DescribeImage(token=request.path_params["token"])
            actor = await run_in_threadpool(images.maker, asked.token, known)
            door.limit.take(actor.caller)
            async with door.looks.turn(actor.caller):
                shown = await door.looks.run(images.view, actor, asked)
        except EpistaError as error:
            return _refusal(request, error)
        return _page("viewer.html", shown=shown, info=shown.info)

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        found = _files().get(name)
        if found is None:
            return problems.response(NotFoundError(f"there is no file {name!r} here"), request.scope["epista.request_id"])
        # A page and its modules belong together: a browser asks each time whether what it has is still so.
        headers = {"ETag": found.tag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        answer = conditions.answer(request.method, request.headers, tag=found.tag, size=len(found.body))
        if answer.status == 304:
            return Response(status_code=304, headers=headers)
        return Response(found.body, headers=headers, media_type=found.media_type)

    return [Route(_VIEW.path, view, methods=["GET"]), Route(_STATIC + "{name:path}", static, methods=["GET"])]


class _File(NamedTuple):
    body: bytes
    media_type: str
    tag: str


@functools.cache
def _files() -> dict[str, _File]:
    """Return what pages consist of, by name; whatever else somebody names does not exist."""
    folder = _HERE / "static"
    found = {}
    for path in sorted(folder.rglob("*.*")):
        body = path.read_bytes()
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        found[path.relative_to(folder).as_posix()] = _File(body, f"{_MEDIA_TYPES[path.suffix]}; charset=utf-8", tag)
    return found


@functools.cache
def _templates() -> jinja2.Environment:
    # Not with the module: most labs in a folder never show a page.
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _page(template: str, status: int = 200, **given: Any) -> Response:
    text = _templates().get_template(template).render(given)
    return Response(text, status, {**_HEADERS, "Cache-Control": "no-store"}, "text/html")


def _refusal(request: Request, error: EpistaError) -> Response:
    """Answer in the language of whoever asks: a page for people, a problem for programs."""
    if "text/html" in request.headers.get("accept", ""):
        return _page("error.html", error.status, error=error)
    return problems.response(error, request.scope["epista.request_id"])
