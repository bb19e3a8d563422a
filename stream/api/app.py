"""Put the API together: the one place where its parts meet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI

from monitoring.metrics import Metrics
from stream.api import examples, health, ingest, lfs, problems, recommendations, status
from stream.api.auth import LoopbackOnly, TokenTable
from stream.api.direct import DirectRecommendations
from stream.api.health import Readiness
from stream.api.limits import DEFAULT_LIMITS, Limits
from stream.api.meter import RequestMeter
from stream.api.recommendations import Recommendations
from stream.api.status import StatusSource
from stream.api.unread import ReadToTheEnd
from stream.config import Settings
from stream.explained import Explained
from stream.serving.sources import Served
from stream.sinks import EventSink

__all__ = ["create_app"]


def create_app(
    settings: Settings,
    sink: EventSink,
    metrics: Metrics,
    readiness: Readiness,
    limits: Limits = DEFAULT_LIMITS,
    status_source: StatusSource | None = None,
    served: Served | None = None,
    explained: Explained | None = None,
) -> FastAPI:
    """Return the application.

    It starts the sink with itself, and closes it after its last request.

    Parameters
    ----------
    settings
        Who may come, what a valid event is, and how fast events may come.
    sink
        The events log.
    metrics
        Filled by every request; rendered at ``/metrics``.
    readiness
        What must answer for ``/readyz`` to be 200.
    limits
        How much is taken on.
    status_source
        What the status page shows; without one there is no page.
    served
        What recommendations are made from; without it there are none.
    explained
        Where labeling functions and examples are read from; without it neither is answered for.
    """
    answers: Recommendations | None = None
    if served is not None:
        answers = Recommendations(settings, served.source, served.catalogue, sink, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        await sink.start()
        try:
            yield
        finally:
            if answers is not None:
                await answers.close()
            await sink.close()

    app = FastAPI(
        title="Headrace",
        summary="Send events, and learn from every one of them.",
        version=_own_version(),
        lifespan=lifespan,
        # Spans and logged exceptions would carry paths and values, which hold ids of people.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    tokens = TokenTable.from_tokens(
        {token.token.get_secret_value(): token.roles for token in settings.api.tokens},
        [token.name for token in settings.api.tokens],
    )
    app.state.tokens = tokens
    app.state.metrics = metrics
    app.state.readiness = readiness
    app.state.ingest = ingest.Ingest(settings, limits, sink, metrics)
    problems.install(app)
    app.include_router(ingest.router)
    app.include_router(health.router)
    if answers is not None:
        app.state.recommendations = answers
        app.include_router(recommendations.router)
    if explained is not None:
        app.state.explained = explained
        app.state.lfs = lfs.Lfs(explained.lfs, sink, settings.api.body_timeout_s)
        app.include_router(lfs.router)
        app.include_router(examples.router)
    if status_source is not None:
        app.state.status = status_source
        app.include_router(status.router)
    # The last one added is the outermost.
    if answers is not None:
        app.add_middleware(DirectRecommendations, recommendations=answers, tokens=tokens)
    if not tokens:
        app.add_middleware(LoopbackOnly)
    app.add_middleware(ReadToTheEnd)
    app.add_middleware(RequestMeter, metrics=metrics)
    return app


def _own_version() -> str:
    try:
        return version("headrace")
    except PackageNotFoundError:
        return "0"
