"""The learning process as the one that answers sees it: started, asked, watched and ended."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import threading
import time
from importlib import import_module
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Final

import msgspec

from stream.commands.console import BUG, REFUSED, Refused
from stream.commands.learner_messages import METRICS, READY, REFUSED_BECAUSE, STOP, Message
from stream.config import Settings

__all__ = ["LearnerProcess"]

_log = logging.getLogger(__name__)

_ANSWER_S: Final = 1.0
"""Whoever asks for the page of metrics waits no longer for one that hangs, or is starved."""
_STOP_S: Final = 60.0
_GRACE_S: Final = 2.0
_CTRL_C: Final = frozenset({signal.SIGINT})
_DECODER: Final = msgspec.msgpack.Decoder(Message)


def _learn(settings: Settings, connection: Connection, people: Connection) -> None:
    # Imported there only: it brings libraries into memory of which who answers needs none.
    import_module("stream.commands.learner").learn(settings, connection, people)


class LearnerProcess:
    """Log and state are the files that the settings name; nothing else is shared.

    If this process ends in whatever way, the learning one saves and ends, too.

    Parameters
    ----------
    settings
        Of the deployment, whose log is embedded.

    Attributes
    ----------
    people
        Comes from the learning process's `PeopleTeller`.
    """

    def __init__(self, settings: Settings) -> None:
        # Not forked: threads and open files of SQLite do not survive that.
        context = multiprocessing.get_context("spawn")
        self._connection, self._theirs = context.Pipe()
        self.people, self._telling = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_learn,
            args=(settings, self._theirs, self._telling),
            name="learner",
            daemon=True,
        )
        self._heard = threading.Condition()
        self._asked = self._answered = 0
        self._answer: bytes | None = None
        self._refused: str | None = None
        self._ready = False
        self._listener = threading.Thread(target=self._listen, name="learner", daemon=True)

    def start(self) -> None:
        """Start it, and wait until all is compiled and the last checkpoint is loaded.

        Raises
        ------
        Refused
            Something outside must change first.
        RuntimeError
            It ended by a bug, or was killed.
        """
        self._spawn()
        self._theirs.close()
        self._telling.close()
        try:
            _, what, data = _DECODER.decode(self._connection.recv_bytes())
        except (EOFError, OSError):
            self._process.join()
            if self._process.exitcode == -signal.SIGTERM:
                # A service manager that ends all processes at once tells this one, too.
                time.sleep(_GRACE_S)
            raise RuntimeError(f"the learning process {self.ended()}") from None
        if what == READY:
            self._ready = True
            self._listener.start()
            return
        self._process.join()
        if what == REFUSED_BECAUSE:
            raise Refused(data.decode())
        raise RuntimeError(f"the learning process {self.ended()}")

    def _spawn(self) -> None:
        # It begins with Ctrl-C held back, which reaches every process of a terminal, and keeps it
        # so. What else is started with it sets that free again, and so is started before.
        resource_tracker.ensure_running()
        came: list[int] = []
        # Held back from this thread it comes by another one of numpy's: it is to come afterwards,
        # since a process that was not started to the end cannot be ended.
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, lambda number, _: came.append(number))
        signal.pthread_sigmask(signal.SIG_BLOCK, _CTRL_C)
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _CTRL_C)
            for number, handler in before.items():
                signal.signal(number, handler)
        for each in dict.fromkeys(came):
            signal.raise_signal(each)

    @property
    def pid(self) -> int | None:
        """Return its number."""
        return self._process.pid

    def metrics(self) -> bytes | None:
        """Return its `monitoring.exposition.encoded` families; None if it does not answer."""
        with self._heard:
            if self._answered == self._asked:
                if not self._send(self._asked + 1, METRICS):
                    return None
                self._asked += 1
            # Else it was asked and has not answered yet: what it says now will do.
            wanted = self._asked
            if self._heard.wait_for(lambda: self._answered >= wanted, _ANSWER_S):
                return self._answer
        _log.warning("the learning process has not answered within %g s", _ANSWER_S)
        return None

    def learning(self) -> str:
        """Return that it learns, or raise saying that it does not."""
        if not self._process.is_alive():
            raise RuntimeError(f"the learning process {self.ended()}")
        return f"learning, process {self._process.pid}"

    async def wait(self) -> None:
        """Wait until it has ended."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        sentinel = self._process.sentinel

        def end() -> None:
            loop.remove_reader(sentinel)
            if not ended.done():
                ended.set_result(None)

        loop.add_reader(sentinel, end)
        try:
            await ended
        finally:
            loop.remove_reader(sentinel)

    def stop(self) -> int:
        """Let it finish the batch at hand, save and end; return its exit code."""
        if self._process.pid is None:
            return 0  # It was never started.
        if not self._ready and self._process.is_alive():
            # It compiles and loads: there is nothing to save.
            self._process.terminate()
        with self._heard:
            self._send(0, STOP)
        self._process.join(_STOP_S)
        if self._process.exitcode is None:
            _log.critical("the learning process did not end within %g s: killed", _STOP_S)
            self._process.kill()
            self._process.join()
        return self._process.exitcode or 0

    def ended(self) -> str:
        """Return how it ended, for people; call it after it has."""
        if self._ready:
            self._listener.join(_GRACE_S)  # Its last words.
        code = self._process.exitcode
        if self._refused is not None:
            return f"has stopped: {self._refused}"
        if code == BUG:
            return "was stopped by a bug; nothing wrong was saved"
        if code is not None and code < 0:
            return f"was ended by signal {-code}"
        return f"has ended (exit code {code})"

    @property
    def refused(self) -> bool:
        """Whether it ended since something outside must change first."""
        return self._process.exitcode == REFUSED

    def _send(self, number: int, what: str) -> bool:
        """Tell it something; False: it has ended."""
        try:
            self._connection.send_bytes(msgspec.msgpack.encode((number, what, b"")))
        except OSError:
            return False
        return True

    def _listen(self) -> None:
        """Hear all that it says, whether or not somebody waits for it: it must not wait, either."""
        gone = False
        while not gone:
            number, what, data = 0, METRICS, b""
            try:
                number, what, data = _DECODER.decode(self._connection.recv_bytes())
            except (EOFError, OSError):
                gone = True
            with self._heard:
                if what == REFUSED_BECAUSE:
                    self._refused = data.decode()
                elif what == METRICS:
                    self._answer = data or None
                    self._answered = self._asked if gone else number
                    self._heard.notify_all()
