"""The embedded service as one process, put together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import typer

from monitoring.metrics import Metrics
from stream import event_loop
from stream.api.health import Check, blocking
from stream.api.serving import ApiService
from stream.assembly import pipeline_spec
from stream.commands.console import BUG, note, out
from stream.commands.switching import quick_switches
from stream.config import Settings
from stream.embedded import EmbeddedEngine
from stream.embedded_files import open_embedded
from stream.ending import told_to_end
from stream.explained import explained
from stream.merged_export import MergedExport
from stream.merged_view import MergedView
from stream.serving.ready import get_ready_to_serve
from stream.serving.sources import Served
from stream.serving.wiring import engine_source
from stream.sinks import EmbeddedSink
from stream.sole_learner import sole_learner
from stream.supervision import Supervision

__all__ = ["embedded_service", "run"]


def run(settings: Settings, threads: Supervision) -> None:
    """Run the service until a signal ends it, or a bug."""
    # What compiles comes before the event loop, which would take Ctrl-C and not heed it.
    with embedded_service(settings) as (engine, service):
        event_loop.run(_up(engine, service, threads))


async def _up(engine: EmbeddedEngine, service: ApiService, threads: Supervision) -> None:
    stop = told_to_end()
    try:
        await service.start()
        engine.start()
        out.print(
            f"Headrace answers at {service.url} (status page; API documentation at /docs)",
            soft_wrap=True,
        )
        await _until_stopped(stop, service, engine, threads)
    finally:
        await service.stop()
        await asyncio.to_thread(_stop_quietly, engine)
    if engine.failure is not None or threads.failure is not None:
        note.print("headrace: stopped by a bug; nothing wrong was saved", style="red")
        if engine.failure is not None:
            raise engine.failure
        raise typer.Exit(BUG)  # The log has its traceback.


def _stop_quietly(engine: EmbeddedEngine) -> None:
    with contextlib.suppress(BaseException):
        engine.stop()


async def _until_stopped(
    stop: asyncio.Event, service: ApiService, engine: EmbeddedEngine, threads: Supervision
) -> None:
    """Wait for a signal, the end of the server, or a failure of the engine or another thread."""
    loop = asyncio.get_running_loop()

    def end(error: BaseException) -> None:
        del error
        loop.call_soon_threadsafe(stop.set)

    engine.on_failure = end
    if engine.failure is not None:
        stop.set()  # It was quicker than this.
    waiting = [asyncio.create_task(one) for one in (stop.wait(), service.wait(), threads.wait())]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


@contextlib.contextmanager
def embedded_service(settings: Settings) -> Iterator[tuple[EmbeddedEngine, ApiService]]:
    """Open log and store, and yield what learns from them and what listens; close them after."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(quick_switches())
        log, store = open_embedded(settings)
        stack.callback(log.close)
        stack.callback(store.close)
        stack.enter_context(sole_learner(settings.log.path))
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
        source = engine_source(settings, engine.pipelines, store)
        engine.on_step = source.stepped
        # Everything else is filled by the partitions themselves: all of them run here.
        export = MergedExport(view, metrics, whole=False)
        export.start()
        stack.callback(export.stop)
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
