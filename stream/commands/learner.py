"""The process that learns, where another one answers: started, asked and ended by that one."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import ExitStack
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Final

import msgspec

from monitoring.exposition import encoded
from monitoring.metrics import Metrics
from stream.assembly import pipeline_spec
from stream.commands.console import BUG, REFUSED, log_to_stderr
from stream.commands.learner_messages import (
    FAILED,
    METRICS,
    READY,
    REFUSED_BECAUSE,
    STOP,
    Message,
)
from stream.config import Settings
from stream.embedded import EmbeddedEngine
from stream.embedded_files import open_embedded
from stream.merged_export import MergedExport
from stream.merged_view import MergedView
from stream.refusal import Refusal
from stream.serving.fresh_people import PeopleTeller
from stream.sole_learner import sole_learner
from stream.supervision import Supervision, supervised

__all__ = ["learn"]

_log = logging.getLogger(__name__)

_POLL_S: Final = 0.2
_NICE: Final = 5
"""Where both want the same core, whoever answers gets three quarters of it: people wait there.
A core that is free is this process's, too."""
_DECODER: Final = msgspec.msgpack.Decoder(Message)


class _Told(BaseException):
    """A signal says that the process shall end."""


def learn(settings: Settings, connection: Connection, people: Connection) -> None:
    """Learn until told to stop, or until nobody is left to tell; then save, and end.

    ``people`` is told what people did since the last checkpoint.
    """
    # Ctrl-C reaches every process of the terminal; who started this one says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_to_stderr()
    if hasattr(os, "nice"):  # Windows has none
        os.nice(_NICE)
    failure: BaseException | None
    try:
        with supervised() as threads:
            _learn(settings, connection, people, threads)
        failure = threads.failure
    except Refusal as error:
        _send(connection, 0, REFUSED_BECAUSE, str(error).encode())
        sys.exit(REFUSED)
    except Exception as error:
        failure = error
    if failure is not None:
        _log.critical("learning stopped by a bug; nothing wrong was saved", exc_info=failure)
        _send(connection, 0, FAILED, type(failure).__name__.encode())
        sys.exit(BUG)


def _learn(
    settings: Settings, connection: Connection, people: Connection, threads: Supervision
) -> None:
    learns = threading.Event()
    threading.Thread(target=_end_in_vain, args=(learns,), name="starting", daemon=True).start()
    with ExitStack() as stack:
        log, store = open_embedded(settings)
        stack.callback(log.close)
        stack.callback(store.close)
        starter = parent_process()
        stack.enter_context(
            sole_learner(settings.log.path, service=starter.pid if starter else None)
        )
        metrics = Metrics()
        engine = EmbeddedEngine(settings, log, store, metrics)
        learns.set()
        # Everything else is filled by the partitions themselves: all of them run here.
        export = MergedExport(MergedView(store, pipeline_spec(settings)), metrics, whole=False)
        teller = PeopleTeller({one.partition: one for one in engine.pipelines}, people)
        engine.on_step = teller.stepped
        try:
            try:
                signal.signal(signal.SIGTERM, _tell)
                _send(connection, 0, READY)
                export.start()
                teller.start()
                engine.start()
                _answer(connection, engine, metrics, threads)
            finally:
                # Whatever comes until here is caught below: nothing interrupts the end.
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
        except _Told:
            _log.info("told to end")
        finally:
            export.stop()
            teller.stop()
            engine.stop()


def _end_in_vain(learns: threading.Event) -> None:
    """End at once where whoever started this process goes before it learns: nothing is to be saved.

    Else it would compile for a while, and then take the partitions from whoever has them by then.
    """
    starter = parent_process()
    if starter is not None:
        wait([starter.sentinel])
        if not learns.is_set():
            os._exit(BUG)


def _tell(number: int, frame: FrameType | None) -> None:
    del frame
    signal.signal(number, signal.SIG_IGN)  # once is enough
    raise _Told


def _answer(
    connection: Connection, engine: EmbeddedEngine, metrics: Metrics, threads: Supervision
) -> None:
    """Answer questions until told to stop; a failure of the engine, or a thread, ends it, too."""
    while engine.failure is None and threads.failure is None:
        if not connection.poll(_POLL_S):
            continue
        try:
            number, question, _ = _DECODER.decode(connection.recv_bytes())
        except (EOFError, OSError):
            _log.warning("whoever answers has gone: learning ends")
            return
        if question == STOP:
            return
        if question == METRICS:
            _send(connection, number, METRICS, encoded(metrics.families()))


def _send(connection: Connection, number: int, what: str, data: bytes = b"") -> None:
    try:
        connection.send_bytes(msgspec.msgpack.encode((number, what, data)))
    except OSError:
        # Whoever asked has gone; the next look at the connection tells.
        return
