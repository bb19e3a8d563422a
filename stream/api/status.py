"""The status page at `/`: what a person looks at first; it needs nothing from outside.

Like `/metrics` it is open to whoever reaches the port, and like it, it names nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.resources import files
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from monitoring.attention import lag_concern
from monitoring.metrics import Metrics
from stream.api.stored import read_stored
from stream.events import EVENTS

__all__ = ["StatusSource", "router"]

StatusSource = Callable[[], dict[str, Any]]
"""Returns the figures that the page shows, or raises `StoreError`."""

_PAGES: Final = {"": "text/html", "status.css": "text/css", "status.js": "text/javascript"}
_SAFE: Final = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

router = APIRouter(tags=["operation"])


def _page(name: str) -> Response:
    content = files("stream.api").joinpath("pages", name or "status.html").read_bytes()
    return Response(content, media_type=f"{_PAGES[name]}; charset=utf-8", headers=_SAFE)


@router.get("/", include_in_schema=False)
def index() -> Response:
    """Answer with the page."""
    return _page("")


@router.get("/status.css", include_in_schema=False)
def style() -> Response:
    """Answer with its style."""
    return _page("status.css")


@router.get("/status.js", include_in_schema=False)
def script() -> Response:
    """Answer with its script."""
    return _page("status.js")


@router.get("/v1/status")
async def status(request: Request) -> Response:
    """Answer with the figures of the whole deployment, as of the partitions' checkpoints."""
    source: StatusSource = request.app.state.status
    figures = await read_stored(source)
    # Known where this service consumes the events; else the workers export it.
    metrics: Metrics = request.app.state.metrics
    lag_s = await asyncio.to_thread(metrics.known, "consumer_lag_seconds", (EVENTS,))
    figures = {
        **figures,
        "lag_s": lag_s,
        "concerns": [*lag_concern(lag_s), *figures["concerns"]],
    }
    return Response(orjson.dumps(figures), media_type="application/json")
