"""What is asked about the server itself: health, metrics, and the description of its API."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from epista.contract import openapi
from epista.contract.endpoints import Endpoint
from epista.contract.errors import EpistaError
from epista.contract.tokens import Me, WhoAmI
from epista.server.access import policy
from epista.server.routes import problems
from epista.server.routes.dispatch import Door
from epista.server.routes.metrics import MEDIA_TYPE, Metrics

_METRICS = Endpoint("metrics", "GET", "/metrics", "lab", WhoAmI, Me)


def routes(door: Door, metrics: Metrics, is_ready: Callable[[], bool]) -> list[Route]:
    """Return the routes."""

    async def live(request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(request: Request) -> Response:
        if await run_in_threadpool(is_ready):
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready"}, status_code=503)

    async def figures(request: Request) -> Response:
        if not door.resources.config.metrics_public:
            try:
                known, secret = door.identify(request.scope, _METRICS)
                policy.require_lab(await run_in_threadpool(door.admit, known, secret))
            except EpistaError as error:
                return problems.response(error, request.scope["epista.request_id"])
        return Response(await run_in_threadpool(metrics.text), media_type=MEDIA_TYPE)

    async def described(request: Request) -> Response:
        return Response(msgspec.json.encode(await run_in_threadpool(openapi.document)), media_type="application/json")

    return [
        Route("/health/live", live, methods=["GET"]),
        Route("/health/ready", ready, methods=["GET"]),
        Route("/metrics", figures, methods=["GET"]),
        Route("/openapi.json", described, methods=["GET"]),
    ]
