"""The learning process as the one that answers sees it: started, asked, watched and ended."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import threading
import time
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Final

import msgspec

from stream.commands.console import BUG, REFUSED, Refused
from stream.commands.learner import (
    FAILED,
    METRICS,
    READY,
    REFUSED_BECAUSE,
    STOP,
    Message,
    learn,
)
from stream.config import Settings

__all__ = ["LearnerProcess"]

_log = logging.getLogger(__name__)

# Long enough for a starved machine: one that hangs is not expected, one that fails ends.
_ANSWER_S: Final = 30.0
_STOP_S: Final = 60.0
_CTRL_C: Final = frozenset({signal.SIGINT})
_DECODER: Final = msgspec.msgpack.Decoder(Message)


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
            target=learn,
            args=(settings, self._theirs, self._telling),
            name="learner",
            daemon=True,
        )
        self._asking = threading.Lock()
        self._asked = 0
        self._refused: str | None = None
        self._ready = False

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
            _, what, data = self._receive(self._connection)
        except (EOFError, OSError):
            self._process.join()
            raise RuntimeError(f"the learning process {self.ended()}") from None
        if what == READY:
            self._ready = True
            return
        self._process.join()
        if what == REFUSED_BECAUSE:
            raise Refused(data.decode())
        raise RuntimeError(f"the learning process {self.ended()}")

    def _spawn(self) -> None:
        # It begins with Ctrl-C held back, which reaches every process of a terminal, and keeps it
        # so. What else is started with it sets that free again, and so is started before.
        resource_tracker.ensure_running()
        pressed: list[int] = []
        # Held back from this thread it comes by another one of numpy's: it is to come afterwards,
        # since a process that was not started to the end cannot be ended.
        before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
        signal.pthread_sigmask(signal.SIG_BLOCK, _CTRL_C)
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _CTRL_C)
            signal.signal(signal.SIGINT, before)
        if pressed:
            signal.raise_signal(signal.SIGINT)

    @property
    def pid(self) -> int | None:
        """Return its number."""
        return self._process.pid

    def metrics(self) -> bytes | None:
        """Return its `monitoring.exposition.packed` families; None if it does not answer."""
        with self._asking:
            self._asked += 1
            until = time.monotonic() + _ANSWER_S
            try:
                self._connection.send_bytes(msgspec.msgpack.encode((self._asked, METRICS, b"")))
                while (left := until - time.monotonic()) > 0 and self._connection.poll(left):
                    number, _, data = self._receive(self._connection)
                    if number == self._asked:
                        return data
            except (EOFError, OSError):
                return None
        _log.warning("the learning process does not answer")
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
        with self._asking:
            try:
                self._connection.send_bytes(msgspec.msgpack.encode((0, STOP, b"")))
            except OSError:
                pass  # It has ended already.
        until = time.monotonic() + _STOP_S
        # It does not hear that while an answer waits that nobody waited for any more.
        while self._drain() and (left := until - time.monotonic()) > 0:
            wait([self._process.sentinel, self._connection], left)
        self._process.join(max(0.0, until - time.monotonic()))
        if self._process.exitcode is None:
            _log.critical("the learning process did not end within %g s: killed", _STOP_S)
            self._process.kill()
            self._process.join()
        return self._process.exitcode or 0

    def ended(self) -> str:
        """Return how it ended, for people; call it after it has."""
        self._drain()
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

    def _drain(self) -> bool:
        """Take what it said; tell whether it may say more."""
        with self._asking:
            try:
                while self._connection.poll():
                    self._receive(self._connection)
            except (EOFError, OSError):
                return False
        return self._process.is_alive()

    def _receive(self, connection: Connection) -> Message:
        message: Message = _DECODER.decode(connection.recv_bytes())
        _, what, data = message
        if what in (REFUSED_BECAUSE, FAILED):
            self._refused = data.decode() if what == REFUSED_BECAUSE else None
        return message
