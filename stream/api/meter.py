"""Count and time every request, by route: never by path, which may hold an id."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitoring.catalogue import OTHER
from monitoring.metrics import Metrics

__all__ = ["RequestMeter"]

_FAILED = 500


class RequestMeter:
    """ASGI middleware that fills ``api_requests_total`` and ``api_request_duration_seconds``."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and measure it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = _FAILED

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            # Known only once the router has matched; refused before that, it is anything.
            route = getattr(scope.get("route"), "path", OTHER)
            self._metrics.add("api_requests_total", (route, str(status)))
            elapsed_s = time.perf_counter() - began
            self._metrics.observe("api_request_duration_seconds", (route,), elapsed_s)
