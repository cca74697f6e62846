"""Around every request: an id, one line in the log, figures for the metrics, and a plain answer when the server is at fault."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from epista.server.routes import problems
from epista.server.routes.metrics import Metrics

log = logging.getLogger("epista.requests")


class Requests:
    """ASGI middleware, outermost."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope["epista.request_id"] = request_id
        scope["epista.endpoint"] = "other"
        started, status = time.monotonic(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            with self._metrics.in_flight():
                await self._app(scope, receive, answer)
        except asyncio.CancelledError:
            # The server stops, and this request took longer than that may take: a retry finds the next server.
            if not status:
                await problems.response(problems.stopping(), request_id)(scope, receive, answer)
            raise
        except Exception as error:
            # The message may quote what a user sent; the type and the traceback say where to look.
            log.exception("fault", extra={"request_id": request_id, "fault": type(error).__name__})
            if status:
                raise  # too late for a status: the server closes the connection
            await problems.response(problems.fault(), request_id)(scope, receive, answer)
        finally:
            seconds = time.monotonic() - started
            self._metrics.observe(scope["epista.endpoint"], scope["method"], status, seconds)
            # The path and query are left out: they hold keys and search words, which belong to the audit log.
            log.info(
                "request",
                extra={
                    "request_id": request_id,
                    "endpoint": scope["epista.endpoint"],
                    "method": scope["method"],
                    "status": status,
                    "milliseconds": round(seconds * 1000, 1),
                },
            )
