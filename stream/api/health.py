"""Is the process alive, can it do its work, and what has it counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from monitoring.metrics import CONTENT_TYPE, Metrics

__all__ = ["Check", "Readiness", "blocking", "router"]

Check = Callable[[], Awaitable[str]]
"""Returns a short description of what answered, or raises with the reason why it did not."""

_JSON: Final = "application/json"
_UNHEALTHY: Final = 503


def blocking(call: Callable[[], str]) -> Check:
    """Return a check that runs a synchronous one, such as `StateStore.ping`, in a thread."""

    async def check() -> str:
        return await asyncio.to_thread(call)

    return check


class Readiness:
    """Everything that must answer before traffic makes sense.

    Parameters
    ----------
    checks
        By name (``log``, ``store``).
    timeout_s
        How long one check may take.
    fresh_s
        For how long an answer is repeated: probes must not become a load of their own.
    """

    def __init__(
        self, checks: Mapping[str, Check], *, timeout_s: float = 3.0, fresh_s: float = 1.0
    ) -> None:
        self._checks = dict(checks)
        self._timeout_s = timeout_s
        self._fresh_s = fresh_s
        self._asking = asyncio.Lock()
        self._answer: dict[str, Any] = {}
        self._until = float("-inf")

    async def ask(self) -> dict[str, Any]:
        """Return ``ready`` and, by check, whether it is ``ok`` and the ``detail``."""
        async with self._asking:
            if time.monotonic() >= self._until:
                results = await asyncio.gather(*map(self._run, self._checks.values()))
                self._answer = {
                    "ready": all(result["ok"] for result in results),
                    "checks": dict(zip(self._checks, results, strict=True)),
                }
                self._until = time.monotonic() + self._fresh_s
            return self._answer

    async def _run(self, check: Check) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._timeout_s):
                return {"ok": True, "detail": await check()}
        except TimeoutError:
            return {"ok": False, "detail": f"no answer within {self._timeout_s:g} s"}
        except Exception as error:
            # Whatever it is, it is why we are not ready.
            return {"ok": False, "detail": str(error) or type(error).__name__}


router = APIRouter(tags=["operation"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer that the process is alive; it says nothing of what it depends on."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"description": "Something does not answer."}})
async def readyz(request: Request) -> Response:
    """Answer 200 if the log and the store answer, else 503 with the reasons."""
    readiness: Readiness = request.app.state.readiness
    answer = await readiness.ask()
    return Response(orjson.dumps(answer), 200 if answer["ready"] else _UNHEALTHY, media_type=_JSON)


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Answer in Prometheus' text format. Open to whoever reaches the port: it names nobody."""
    source: Metrics = request.app.state.metrics
    return Response(await asyncio.to_thread(source.render), media_type=CONTENT_TYPE)
