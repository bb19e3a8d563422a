"""What people did since the last checkpoint, told by the process that learns to one that serves.

Only changes travel, and only until they are saved: then the state store has them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Final

import msgspec

from stream.pipeline import PartitionPipeline
from stream.serving.model import Person, person_from
from stream.user_state import UserState

__all__ = ["FreshPeople", "PeopleTeller"]

_EVERY_S: Final = 0.05
_MOST: Final = 20_000
"""Who catches up with a long log changes so many people that they had better wait for the save."""

_Row = tuple[bytes, int, bytes, bytes | None]
"""Key, partition, packed history, segment."""

_Message = tuple[bool, list[_Row]]
"""Whether what was told before is saved, and what changed since."""

_DECODER: Final = msgspec.msgpack.Decoder(_Message)


class PeopleTeller:
    """Tells whose history changed; the learning thread never waits for whoever is told.

    Parameters
    ----------
    pipelines
        The partitions' pipelines, by number.
    connection
        Leads to a `FreshPeople`.

    clock
        Monotonic, seconds.

    *State* — who changed since the last checkpoint, as the pipelines keep it themselves.
    """

    def __init__(
        self,
        pipelines: Mapping[int, PartitionPipeline],
        connection: Connection,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pipelines = dict(pipelines)
        self._connection = connection
        self._told: dict[int, tuple[dict[bytes, UserState], dict[bytes, bytes]]] = {}
        self._clock = clock
        self._due = float("-inf")
        self._changed = False
        self._saved = False
        self._waiting: dict[bytes, _Row] = {}
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="people", daemon=True)

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        self._news.set()
        if self._thread.ident is not None:
            self._thread.join(1.0)

    def stepped(self, learned: bool) -> None:
        """Take note of what changed: called by the learning thread, between steps."""
        self._changed |= learned
        now = self._clock()
        if not self._changed or now < self._due:
            return
        self._changed = False
        self._due = now + _EVERY_S
        saved, rows = False, {}
        for partition, pipeline in self._pipelines.items():
            # Histories are told as they stand.
            pipeline.learning.flush()
            dirty = pipeline.join.dirty
            known = self._told.get(partition)
            if known is None or known[0] is not dirty:
                # All partitions are saved in one go, and each begins a new collection then.
                saved |= known is not None
                known = self._told[partition] = (dirty, {})
            histories = known[1]
            if len(dirty) > _MOST:
                continue
            for key, user in dirty.items():
                if histories.get(key) is not user.packed_history:
                    histories[key] = user.packed_history
                    segment = user.segment
                    rows[key] = (
                        key,
                        partition,
                        user.packed_history,
                        None if segment is None else segment.encode("utf-8", "surrogatepass"),
                    )
        if not saved and not rows:
            return
        with self._lock:
            if saved:
                self._saved = True
                self._waiting = {}
            self._waiting.update(rows)
        self._news.set()

    def _tell(self) -> None:
        while not self._stopping.is_set():
            self._news.wait()
            self._news.clear()
            with self._lock:
                saved, rows = self._saved, self._waiting
                self._saved, self._waiting = False, {}
            try:
                message = msgspec.msgpack.encode((saved, list(rows.values())))
                self._connection.send_bytes(message)
            except OSError:
                return  # Nobody is there any more, and the process is about to end.
            # A few at a time: each message costs whoever serves a turn.
            self._stopping.wait(_EVERY_S)


class FreshPeople:
    """Knows what people did since the last checkpoint.

    Parameters
    ----------
    connection
        Of a `PeopleTeller`; what is known ends with it.

    *State* — who changed since the last checkpoint.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._people: dict[bytes, _Row] = {}
        self._thread = threading.Thread(target=self._listen, name="people", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for the other side's end."""
        if self._thread.ident is not None:
            self._thread.join(1.0)

    def find(self, key: bytes) -> Person | None:
        """Return what is known of a person; None: the store knows no less."""
        found = self._people.get(key)
        if found is None:
            return None
        _, partition, packed, segment = found
        named = None if segment is None else segment.decode("utf-8", "surrogatepass")
        return person_from(partition, packed, named)

    def _listen(self) -> None:
        while True:
            try:
                saved, rows = _DECODER.decode(self._connection.recv_bytes())
            except (EOFError, OSError):
                self._people = {}
                return
            changed = {row[0]: row for row in rows}
            if saved:
                self._people = changed
            else:
                self._people.update(changed)
