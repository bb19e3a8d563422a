"""The worker's own small door: `/metrics` for Prometheus, `/healthz` for whoever restarts it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from monitoring.metrics import CONTENT_TYPE, Metrics
from stream.http_server import HttpServer

__all__ = ["MetricsServer"]

_READABLE: Final = ("GET", "HEAD")


class MetricsServer:
    """Answer `/metrics` and `/healthz` of one process.

    Open to whoever reaches the port, as Prometheus expects: nothing in it names a person.

    Parameters
    ----------
    metrics
        What to render.
    port
        Where to listen; 0 for any free one: `port` says which after `start`.
    host
        Interface; every one by default, since Prometheus runs elsewhere.
    healthy
        Returns None, or why the process should be restarted.
    """

    def __init__(
        self,
        metrics: Metrics,
        port: int,
        host: str = "0.0.0.0",  # noqa: S104 - scraped from other machines, and names nobody
        *,
        healthy: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._metrics = metrics
        self._healthy = healthy
        self._server = HttpServer(
            self._answer, host, port, setting="worker.metrics_port", finish_s=1.0, lifespan=False
        )

    @property
    def port(self) -> int:
        """Return the port that it listens on."""
        return self._server.port

    async def start(self) -> None:
        """Begin to listen, or raise `StartFailed`."""
        await self._server.start()

    async def stop(self) -> None:
        """Stop listening."""
        await self._server.stop()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            response = await self._response(scope["path"], scope["method"])
            await response(scope, receive, send)

    async def _response(self, path: str, method: str) -> Response:
        if path not in ("/metrics", "/healthz"):
            return PlainTextResponse("not found; there are /metrics and /healthz\n", 404)
        if method not in _READABLE:
            return PlainTextResponse("GET only\n", 405, {"Allow": ", ".join(_READABLE)})
        if path == "/metrics":
            # Rendering takes milliseconds; the thread that processes events keeps its turn.
            page = await asyncio.to_thread(self._metrics.render)
            return Response(page, media_type=CONTENT_TYPE)
        reason = self._healthy()
        if reason is None:
            return PlainTextResponse("alive\n")
        return PlainTextResponse(f"unhealthy: {reason}\n", 503)
