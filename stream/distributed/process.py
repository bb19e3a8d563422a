"""A worker as an operating-system process: signals, exit codes, and a loud end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from mode.threads import WorkerThread

from monitoring.metrics import Metrics
from stream import event_loop
from stream.distributed.health import Health
from stream.distributed.metrics_server import MetricsServer
from stream.distributed.options import WorkerOptions
from stream.distributed.publishing import Publisher
from stream.distributed.store_calls import WorkerStop
from stream.ending import told_to_end
from stream.http_server import StartFailed
from stream.processor import ProcessorFactory
from stream.records import RecordBatch
from stream.state import StateStore
from stream.supervision import Supervision, supervised
from stream.worker import Worker

__all__ = ["BUG", "OK", "REFUSED", "serve"]

log = logging.getLogger(__name__)

OK = 0
BUG = 1
REFUSED = 2
"""Something outside must change first; the message says what."""

STOP_S = 15.0
SWITCH_S = 0.0005
"""A thread that computes gives way after this time. The consumer's and the store's threads have
microseconds of work for each answer of theirs, and would wait 5 ms for their turn each time."""
JOIN_S = 5.0


def serve(
    options: WorkerOptions,
    store: StateStore,
    make_processor: ProcessorFactory,
    *,
    whole: Mapping[str, Callable[[RecordBatch], None]] | None = None,
    publisher: Publisher | None = None,
    metrics: Metrics | None = None,
) -> int:
    """Run a worker until it is told to stop, and return the process's exit code.

    A bug in any of its threads stops it.
    """

    def make_worker() -> Worker:
        return Worker(
            options, store, make_processor, whole=whole, publisher=publisher, metrics=metrics
        )

    sys.setswitchinterval(SWITCH_S)
    with supervised() as threads:
        code, reason = event_loop.run(_serve(options, make_worker, threads))
    ended = _join_threads()
    if reason is not None:
        # Once more, below what ended meanwhile: who looks finds it in the last line.
        log.critical("the worker has stopped: %s", reason)
    if not ended:
        logging.shutdown()
        os._exit(code)
    return code


def _join_threads() -> bool:
    """Wait for Faust's threads; tell whether they ended.

    One that hangs on a dead broker would keep the process alive for ever.
    """
    for thread in threading.enumerate():
        if isinstance(thread, WorkerThread):
            thread.join(JOIN_S)
            if thread.is_alive():
                log.critical("the consumer does not end; leaving it behind")
                return False
    return True


async def _serve(
    options: WorkerOptions, make_worker: Callable[[], Worker], threads: Supervision
) -> tuple[int, WorkerStop | None]:
    """Run a worker to its end; return the exit code, and what must change outside if that is 2."""
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[Any] = loop.create_task(told_to_end().wait())
    worker = make_worker()
    health = Health(worker)
    server = MetricsServer(options, health.report, worker.metrics.render)
    starting = loop.create_task(worker.start())
    crashed = loop.create_task(_crashed(worker, threads))
    try:
        try:
            await server.start()
        except StartFailed as error:
            worker.fail(WorkerStop(str(error)))
        await asyncio.wait(
            {starting, stopping, worker.failure, crashed}, return_when=asyncio.FIRST_COMPLETED
        )
        if starting.done() and starting.exception() is None:
            log.info("joined group %s", options.group)
            watching = loop.create_task(health.watch())
            await asyncio.wait(
                {stopping, worker.failure, crashed, watching},
                return_when=asyncio.FIRST_COMPLETED,
            )
            if watching.done():
                worker.fail(watching.exception() or RuntimeError("the watchdog ended"))
            watching.cancel()
        elif starting.done():
            worker.fail(starting.exception() or RuntimeError("the worker did not start"))
        if crashed.done():
            worker.fail(crashed.result())
        return await _end(worker, starting)
    finally:
        stopping.cancel()
        crashed.cancel()
        await server.stop()


async def _end(worker: Worker, starting: asyncio.Task[None]) -> tuple[int, WorkerStop | None]:
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting}, timeout=1.0)
    if not worker.failure.done():
        began = time.monotonic()
        try:
            await asyncio.wait_for(worker.stop(), STOP_S)
        except TimeoutError:
            log.warning("stopping took over %g s; the rest is dropped", STOP_S)
        except Exception as failure:
            worker.fail(failure)
        log.info("stopped in %.2f s", time.monotonic() - began)
        if not worker.failure.done():
            return OK, None
    error = worker.failure.exception()
    if isinstance(error, WorkerStop):
        log.critical("the worker stops: %s", error)
    else:
        log.critical("the worker stops on a bug; nothing was saved after it", exc_info=error)
    starting.cancel()
    with contextlib.suppress(TimeoutError, Exception):
        await asyncio.wait_for(worker.abandon(), STOP_S)
    return (REFUSED, error) if isinstance(error, WorkerStop) else (BUG, None)


async def _crashed(worker: Worker, threads: Supervision) -> BaseException:
    """Wait until a service of Faust has crashed, or a bug has ended a thread; return why."""
    while not worker.app.crashed:
        if threads.failure is not None:
            return threads.failure
        await asyncio.sleep(0.2)
    return worker.app.crash_reason or RuntimeError("Faust crashed")
