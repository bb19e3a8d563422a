"""Where the door puts what it accepted: durable in the events log before it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from stream.records import Outgoing
from stream.refusal import Refusal
from stream.supervision import report_bug

__all__ = ["AppendFailed", "AppendLog", "EmbeddedSink", "EventSink"]


class AppendFailed(Refusal):
    """Not every record is known to be durable.

    Parameters
    ----------
    reason
        What failed, for the operator; it names no user.
    stored
        Positions of the records that are durable all the same.
    unknown
        Positions of those that may become so: sent, and not answered for in time.
    """

    def __init__(
        self, reason: str, stored: Collection[int] = (), unknown: Collection[int] = ()
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.stored = frozenset(stored)
        self.unknown = frozenset(unknown)


class EventSink(Protocol):
    """Port to an events log, as the API needs it."""

    async def start(self) -> None:
        """Connect; raise `AppendFailed` with the setting at fault if that cannot be done."""
        ...

    async def partitions(self, topic: str) -> int:
        """Return how many partitions the topic has, or raise `AppendFailed`."""
        ...

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Make the records durable before returning, or raise `AppendFailed`."""
        ...

    async def ping(self) -> str:
        """Return a short description of what answers, or raise `AppendFailed` saying why not."""
        ...

    async def close(self) -> None:
        """Finish what was handed over, and disconnect; harmless when repeated."""
        ...


class AppendLog(Protocol):
    """What `EmbeddedSink` asks of a log: synchronous, durable, all records or none."""

    def append(self, records: Sequence[Outgoing]) -> object:
        """Make all records durable in one transaction, or raise and keep none of them.

        Raises
        ------
        Refusal
            Something outside must change; whatever else is raised is a bug.
        """
        ...

    def partitions_of(self, topic: str) -> int:
        """Return how many partitions the topic has."""
        ...

    def ping(self) -> str:
        """Return a short description of what answers, or raise saying why not."""
        ...


class EmbeddedSink:
    """Append to the embedded log from one thread; who waits meanwhile shares the next commit.

    Parameters
    ----------
    log
        The log; it stays open when the sink closes. A bug of it ends the process, where threads
        are `supervised`.
    group_bytes
        How much one commit takes at most, unless a single request has more.

    State
    -----
    Requests that wait for their commit; the API bounds how many there can be.
    """

    def __init__(self, log: AppendLog, *, group_bytes: int = 32 * 1024 * 1024) -> None:
        self._log = log
        self._group_bytes = group_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedded-sink")
        self._waiting: list[tuple[list[Outgoing], asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Do nothing: the log is open already."""

    async def partitions(self, topic: str) -> int:
        """Return how many partitions the topic has."""
        return self._log.partitions_of(topic)

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Wait until the records are committed with whatever else was waiting."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((list(records), done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all())
        # Whoever gives up waiting does not take its records back.
        await asyncio.shield(done)

    async def ping(self) -> str:
        """Ask the log; not in the writer's thread, which may be busy for good reason."""
        try:
            return await asyncio.to_thread(self._log.ping)
        except Exception as error:
            raise AppendFailed(str(error)) from error

    async def close(self) -> None:
        """Commit what waits, then end the thread."""
        while self._writer is not None:
            await asyncio.wait([self._writer])
        self._thread.shutdown(wait=True)

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                group = self._take()
                records = [record for each, _ in group for record in each]
                try:
                    await loop.run_in_executor(self._thread, self._append, records)
                except Exception as error:
                    refused = isinstance(error, Refusal)
                    for _, done in group:
                        if not done.cancelled():
                            # Each waiter gets one of its own.
                            done.set_exception(AppendFailed(str(error)) if refused else error)
                else:
                    for _, done in group:
                        if not done.cancelled():
                            done.set_result(None)
        finally:
            self._writer = None

    def _append(self, records: Sequence[Outgoing]) -> None:
        try:
            self._log.append(records)
        except Refusal:
            raise
        except BaseException as error:
            # Who waits is told, too; but this is nothing that trying again mends.
            report_bug(error)
            raise

    def _take(self) -> list[tuple[list[Outgoing], asyncio.Future[None]]]:
        size = taken = 0
        for records, _ in self._waiting:
            size += sum(len(record.value) for record in records)
            if taken and size > self._group_bytes:
                break
            taken += 1
        group, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return group
