"""The embedded service as two processes: this one answers, another one learns."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import Iterator
from typing import Final

import typer

from stream import event_loop
from stream.api.health import Check, blocking
from stream.api.serving import ApiService
from stream.assembly import open_state, pipeline_spec
from stream.commands.console import BUG, Refused, note, out
from stream.commands.learner_process import LearnerProcess
from stream.commands.switching import quick_switches
from stream.config import Settings
from stream.embedded_files import open_embedded
from stream.ending import told_to_end
from stream.explained import explained
from stream.joined_metrics import JoinedMetrics
from stream.log_items import LogItems, LogItemsFeed
from stream.merged_view import MergedView
from stream.readiness import calm_collector
from stream.serving.catalogue import ServedCatalogue
from stream.serving.fresh_people import FreshPeople
from stream.serving.ready import get_ready_to_serve
from stream.serving.sources import Served
from stream.serving.wiring import near_source
from stream.sinks import EmbeddedSink
from stream.supervision import Supervision

__all__ = ["run", "service_apart"]

_GRACE_S: Final = 2.0
"""A service manager that ends all processes at once tells this one, too."""


def run(settings: Settings, threads: Supervision) -> None:
    """Run the service until a signal ends it, one of its processes, or a bug in a thread."""
    with service_apart(settings) as (learner, service):
        told = event_loop.run(_until_ended(learner, service, threads))
        # The loop has set it free: what is being ended is not to be cut off.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        code = learner.stop()
        if threads.failure is not None:
            note.print("headrace: stopped by a bug; nothing wrong was saved", style="red")
            raise typer.Exit(BUG)
        if told and not code:
            return
        if learner.refused:
            raise Refused(f"the learning process {learner.ended()}")
        note.print(f"headrace: the learning process {learner.ended()}", style="red")
        raise typer.Exit(BUG)


async def _until_ended(learner: LearnerProcess, service: ApiService, threads: Supervision) -> bool:
    """Serve; return whether a signal ended it."""
    told = told_to_end()
    try:
        await service.start()
        out.print(
            f"Headrace answers at {service.url} (status page; API documentation at /docs)",
            soft_wrap=True,
        )
        waiting = [
            asyncio.create_task(one) for one in (told.wait(), service.wait(), threads.wait())
        ]
        learning = asyncio.create_task(learner.wait())
        await asyncio.wait([*waiting, learning], return_when=asyncio.FIRST_COMPLETED)
        if learning.done():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(told.wait(), _GRACE_S)
        for task in (*waiting, learning):
            task.cancel()
    finally:
        await service.stop()
    return told.is_set()


@contextlib.contextmanager
def service_apart(settings: Settings) -> Iterator[tuple[LearnerProcess, ApiService]]:
    """Start what learns, and yield it with what listens; end and close both after."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(quick_switches())
        log, store = open_embedded(settings, folds=False)
        stack.callback(log.close)
        stack.callback(store.close)
        # Who asks for a person does not wait for whoever reads a whole model.
        people = open_state(settings)
        stack.callback(people.close)
        spec = pipeline_spec(settings)
        learner = LearnerProcess(settings)
        fresh = FreshPeople(learner.people)
        # It ends with what tells it.
        stack.callback(fresh.stop)
        stack.callback(learner.stop)
        learner.start()
        # After the other process, which has compiled most of it.
        get_ready_to_serve()
        calm_collector()
        catalogue = ServedCatalogue(max_line_bytes=settings.events.max_line_bytes)
        follower = LogItemsFeed(LogItems(log, catalogue))
        follower.start()
        stack.callback(follower.stop)
        source = near_source(settings, store, people, catalogue.content, fresh)
        source.start()
        stack.callback(source.stop)
        # What is there by now stays: it need not be looked through again and again.
        gc.collect()
        gc.freeze()
        view = MergedView(store, spec)
        checks: dict[str, Check] = {
            "store": blocking(store.ping),
            "engine": blocking(learner.learning),
        }
        yield (
            learner,
            ApiService(
                settings,
                EmbeddedSink(log),
                JoinedMetrics(learner.metrics),
                checks,
                status_source=view.read,
                served=Served(source, catalogue),
                explained=explained(store, spec, view),
            ),
        )
