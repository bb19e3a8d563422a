"""`headrace serve`: HTTP for a deployment on Kafka."""

from __future__ import annotations

import asyncio
import contextlib

import typer

from monitoring.metrics import Metrics
from stream import event_loop
from stream.api.health import Check, blocking
from stream.api.serving import ApiService
from stream.assembly import open_state, pipeline_spec
from stream.commands.console import BUG, ConfigOption, Refused, log_to_stderr, out
from stream.commands.switching import quick_switches
from stream.config import Settings, load_settings
from stream.distributed.kafka_sink import KafkaSink
from stream.ending import told_to_end
from stream.explained import explained
from stream.interrupts import Terminated
from stream.merged_export import MergedExport
from stream.merged_view import MergedView
from stream.serving.catalogue import ServedCatalogue
from stream.serving.items_feed import ItemsFeed
from stream.serving.ready import get_ready_to_serve
from stream.serving.sources import Served
from stream.serving.wiring import store_source
from stream.supervision import Supervision, supervised

__all__ = ["serve"]


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
    with supervised() as threads:
        get_ready_to_serve()  # before the loop, which would not heed Ctrl-C meanwhile
        code = event_loop.run(_serve(settings, threads))
    if code:
        raise typer.Exit(code)


async def _serve(settings: Settings, threads: Supervision) -> int:
    # Before anything is begun that a signal would leave half done.
    stop = told_to_end()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(quick_switches())
        store = open_state(settings)
        stack.callback(store.close)
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
        if not await _started(service, stop):
            raise Terminated
        await feed.start()
        source.start()
        export.start()
        out.print(
            f"Headrace answers at {service.url} (status page; API documentation at /docs)",
            soft_wrap=True,
        )
        waiting = [
            asyncio.create_task(one)
            for one in (stop.wait(), service.wait(), feed.wait(), threads.wait())
        ]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        failed = not stop.is_set()
        for task in waiting:
            task.cancel()
        await service.stop()
        await feed.stop()
        await asyncio.to_thread(source.stop)
        await asyncio.to_thread(export.stop)
        return BUG if failed else 0


async def _started(service: ApiService, stop: asyncio.Event) -> bool:
    """Start the service, unless a signal comes first: a broker may keep it waiting for long."""
    starting = asyncio.create_task(service.start())
    told = asyncio.create_task(stop.wait())
    await asyncio.wait([starting, told], return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if starting.done():
        starting.result()
        return True
    starting.cancel()
    await asyncio.wait([starting])
    await service.stop()
    return False
