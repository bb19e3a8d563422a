"""`headrace up`, `worker` and `serve`: the processes that stay."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Iterator
from typing import Final

import typer

from monitoring.metrics import Metrics
from stream.api.health import Check, blocking
from stream.api.serving import ApiService
from stream.assembly import open_state, pipeline_spec
from stream.commands.apart import up_apart
from stream.commands.console import BUG, ConfigOption, Refused, log_to_stderr, note, out
from stream.config import Settings, load_settings
from stream.distributed.deployment import run_worker
from stream.distributed.store_calls import WorkerStop
from stream.embedded import EmbeddedEngine, open_embedded
from stream.explained import explained
from stream.merged_export import MergedExport
from stream.merged_view import MergedView
from stream.serving.catalogue import ServedCatalogue
from stream.serving.items_feed import ItemsFeed
from stream.serving.ready import get_ready_to_serve
from stream.serving.sources import Served
from stream.serving.wiring import engine_source, store_source
from stream.sinks import EmbeddedSink, KafkaSink

__all__ = ["embedded_service", "serve", "up", "worker"]

_SWITCH_S: Final = 0.000_1
"""While one thread learns, another answers; each of its five to ten turns waits so long."""


def up(config: ConfigOption = None) -> None:
    """Run the whole service, always on: HTTP, log, learning, metrics.

    Log and state are one SQLite file; nothing else is needed. One process answers and another one
    learns, unless api.own_process is false. SIGTERM and Ctrl-C finish the requests that have
    begun, save, and end.
    """
    log_to_stderr()
    settings = load_settings(config)
    if settings.api.own_process:
        up_apart(settings)
        return
    # What compiles comes before the event loop, which would take Ctrl-C and not heed it.
    with embedded_service(settings) as (engine, service):
        asyncio.run(_up(engine, service))


async def _up(engine: EmbeddedEngine, service: ApiService) -> None:
    try:
        await service.start()
        engine.start()
        out.print(
            f"Headrace answers at {service.url} (status page; API documentation at /docs)",
            soft_wrap=True,
        )
        await _until_stopped(service, engine)
    finally:
        await service.stop()
        await asyncio.to_thread(_stop_quietly, engine)
    if engine.failure is not None:
        note.print("headrace: stopped by a bug; nothing wrong was saved", style="red")
        raise engine.failure


def _stop_quietly(engine: EmbeddedEngine) -> None:
    with contextlib.suppress(BaseException):
        engine.stop()


@contextlib.contextmanager
def embedded_service(settings: Settings) -> Iterator[tuple[EmbeddedEngine, ApiService]]:
    """Open log and store, and yield what learns from them and what listens; close them after."""
    log, store = open_embedded(settings)
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        metrics = Metrics()
        engine = EmbeddedEngine(settings, log, store, metrics)

        def learning() -> str:
            if engine.failure is not None:
                raise RuntimeError(f"learning stopped: {type(engine.failure).__name__}")
            return "learning"

        checks: dict[str, Check] = {"store": blocking(store.ping), "engine": blocking(learning)}
        spec = pipeline_spec(settings)
        view = MergedView(store, spec)
        get_ready_to_serve()
        source = engine_source(settings, engine, store)
        engine.on_step = source.stepped
        # Everything else is filled by the partitions themselves: all of them run here.
        export = MergedExport(view, metrics, whole=False)
        export.start()
        try:
            yield (
                engine,
                ApiService(
                    settings,
                    EmbeddedSink(log),
                    metrics,
                    checks,
                    status_source=view.read,
                    served=Served(source, engine.catalogue),
                    explained=explained(store, spec, view),
                ),
            )
        finally:
            export.stop()
    finally:
        sys.setswitchinterval(switch_s)
        store.close()
        log.close()


async def _until_stopped(service: ApiService, engine: EmbeddedEngine) -> None:
    """Wait for a signal, the end of the server, or a failure of the engine."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def end(error: BaseException) -> None:
        del error
        loop.call_soon_threadsafe(stop.set)

    engine.on_failure = end
    waiting = [asyncio.create_task(stop.wait()), asyncio.create_task(service.wait())]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


def worker(config: ConfigOption = None) -> None:
    """Consume events from Kafka, learn, publish labels, checkpoint; run as many as wanted.

    Partitions are shared by all workers of a group. `/metrics` and `/healthz` answer at
    worker.metrics_port. SIGTERM saves, commits and hands the partitions over.
    """
    log_to_stderr()
    for handler in logging.getLogger().handlers:
        handler.addFilter(_not_a_refusal)
    settings = load_settings(config)
    if settings.log.embedded:
        raise Refused(
            f"log.url: found {settings.log.url!r}, allowed for a worker: "
            "kafka://HOST:PORT; for SQLite run `headrace up`"
        )
    code = run_worker(settings)
    if code:
        raise typer.Exit(code)


def _not_a_refusal(record: logging.LogRecord) -> bool:
    """Leave out what others say of a refusal, with a traceback: the worker says it itself."""
    return record.exc_info is None or not isinstance(record.exc_info[1], WorkerStop)


def serve(config: ConfigOption = None) -> None:
    """Serve HTTP for a deployment on Kafka: events in, health, readiness, metrics.

    Without api.tokens it binds to loopback only.
    """
    log_to_stderr()
    settings = load_settings(config)
    if settings.log.embedded:
        raise Refused(
            f"log.url: found {settings.log.url!r}, allowed for `serve`: kafka://HOST:PORT; "
            "for SQLite run `headrace up`, which serves, too"
        )
    get_ready_to_serve()  # before the loop, which would not heed Ctrl-C meanwhile
    code = asyncio.run(_serve(settings))
    if code:
        raise typer.Exit(code)


async def _serve(settings: Settings) -> int:
    sys.setswitchinterval(_SWITCH_S)
    store = open_state(settings)
    try:
        checks: dict[str, Check] = {"store": blocking(store.ping)}
        spec = pipeline_spec(settings)
        view = MergedView(store, spec)
        sink = KafkaSink.from_settings(settings)
        catalogue = ServedCatalogue(max_line_bytes=settings.events.max_line_bytes)
        metrics = Metrics()
        export = MergedExport(view, metrics, whole=True)
        source = store_source(settings, store, catalogue.content)
        service = ApiService(
            settings,
            sink,
            metrics,
            checks,
            status_source=view.read,
            served=Served(source, catalogue),
            explained=explained(store, spec, view),
        )
        feed = ItemsFeed(settings, catalogue)
        await service.start()
        await feed.start()
        source.start()
        export.start()
        out.print(
            f"Headrace answers at {service.url} (status page; API documentation at /docs)",
            soft_wrap=True,
        )
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        stopped = asyncio.create_task(stop.wait())
        ended = asyncio.create_task(service.wait())
        await asyncio.wait([stopped, ended], return_when=asyncio.FIRST_COMPLETED)
        failed = not stop.is_set()
        stopped.cancel()
        await service.stop()
        await feed.stop()
        await asyncio.to_thread(source.stop)
        await asyncio.to_thread(export.stop)
        return BUG if failed else 0
    finally:
        store.close()
