"""The worker's own small door: `/metrics` for Prometheus, `/healthz` for whoever restarts it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import orjson
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from monitoring.metrics import CONTENT_TYPE
from stream.http_server import HttpServer

__all__ = ["MetricsAddress", "MetricsServer"]

log = logging.getLogger(__name__)

_READABLE: Final = ("GET", "HEAD")


class MetricsAddress(Protocol):
    """Where to listen."""

    @property
    def metrics_host(self) -> str:
        """Interface."""
        ...

    @property
    def metrics_port(self) -> int | None:
        """Port; 0 for any free one, None for nowhere."""
        ...


class MetricsServer:
    """Answer `/metrics` and `/healthz` of one process.

    Open to whoever reaches the port, as Prometheus expects: nothing in it names a person.

    Parameters
    ----------
    address
        Where to listen.
    report
        Returns whether the process does its work, and what `/healthz` shows.
    metrics_text
        Renders the metrics; None answers an empty page.
    """

    def __init__(
        self,
        address: MetricsAddress,
        report: Callable[[], tuple[bool, Mapping[str, Any]]],
        metrics_text: Callable[[], bytes] | None = None,
    ) -> None:
        self._report = report
        self._metrics_text = metrics_text or bytes
        self._server: HttpServer | None = None
        if address.metrics_port is not None:
            self._server = HttpServer(
                self._answer,
                address.metrics_host,
                address.metrics_port,
                setting="worker.metrics_port",
                finish_s=1.0,
                lifespan=False,
            )

    @property
    def port(self) -> int | None:
        """Return the port that it listens on; None for nowhere."""
        return None if self._server is None else self._server.port

    async def start(self) -> None:
        """Begin to listen, or raise `StartFailed`."""
        if self._server is not None:
            await self._server.start()
            log.info("metrics and health at %s", self._server.url)

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
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
            page = await asyncio.to_thread(self._metrics_text)
            return Response(page, media_type=CONTENT_TYPE)
        healthy, shown = self._report()
        return Response(orjson.dumps(shown), 200 if healthy else 503, media_type="application/json")
