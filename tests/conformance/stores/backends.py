"""The three stores behind one face, and the checkpoints that their tests write."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from redis import Redis

from stream.state import Checkpoint, Epoch, StateStore, UserWrite
from stream.stores import MemoryStore, open_store

KINDS = ("memory", "sqlite", "redis")
DURABLE = ("sqlite", "redis")

ANN, BOB, EVE = b"ann-------", b"bob-------", b"\x00\xff{\n}:\r\x00\x80'"
A, B = Epoch(5, "process-a"), Epoch(5, "process-b")


class Backend:
    """One place where state is kept, and as many clients as a test opens."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind = kind
        self.url = url
        self.instance = f"test-{uuid.uuid4().hex}" if kind == "redis" else "headrace"
        self._memory = MemoryStore()
        self._stack = ExitStack()

    def open(self) -> StateStore:
        """Give one more client of the same state."""
        if self.kind == "memory":
            return self._memory
        return self._stack.enter_context(closing(open_store(self.url, instance=self.instance)))

    def close(self) -> None:
        self._stack.close()

    def redis(self) -> Redis:
        return self._stack.enter_context(closing(Redis.from_url(self.url)))

    def sqlite(self) -> sqlite3.Connection:
        path = self.url.removeprefix("sqlite:///")
        return self._stack.enter_context(closing(sqlite3.connect(path, isolation_level=None)))

    def key(self, partition: int, part: str) -> str:
        return f"{{{self.instance}:{partition}}}:{part}"

    def break_chunks(self, partition: int) -> None:
        """Make every later write of a chunk fail, whatever else the save writes before it."""
        if self.kind == "sqlite":
            self.sqlite().execute(
                "CREATE TRIGGER broken BEFORE INSERT ON state_chunks"
                " BEGIN SELECT RAISE(ABORT, 'broken on purpose'); END"
            )
        else:
            self.redis().delete(self.key(partition, "chunks"))
            self.redis().set(self.key(partition, "chunks"), "broken on purpose")

    def repair_chunks(self, partition: int) -> None:
        if self.kind == "sqlite":
            self.sqlite().execute("DROP TRIGGER broken")
        else:
            self.redis().delete(self.key(partition, "chunks"))

    def pretend_newer(self, partition: int, version: int) -> None:
        """Mark the state as written by a later version of the program."""
        if self.kind == "sqlite":
            self.sqlite().execute(
                "UPDATE meta SET value = ? WHERE key = 'state_schema'", (str(version),)
            )
        else:
            self.redis().hset(self.key(partition, "head"), "schema", str(version))


def make_backend(
    kind: str, folder: Path, request: pytest.FixtureRequest, server: str = "redis_server"
) -> Backend:
    """Give an empty store of the kind; Redis comes from the fixture ``server``."""
    urls: dict[str, Callable[[], str]] = {
        "memory": lambda: "memory:",
        "sqlite": lambda: f"sqlite:///{folder}/store/headrace.db",
        "redis": lambda: str(request.getfixturevalue(server).url),
    }
    return Backend(kind, urls[kind]())


def at(n: int) -> dict[str, int]:
    return {"events": n, "gold": 2 * n} if n else {}


def step(
    n: int,
    users: Mapping[bytes, UserWrite | None] | None = None,
    chunks: Mapping[str, bytes | None] | None = None,
    partition: int = 3,
) -> Checkpoint:
    """Give the save that leads from step n to n + 1."""
    return Checkpoint(partition, at(n), at(n + 1), users or {}, chunks or {})


def contents(store: StateStore, epoch: Epoch, keys: tuple[bytes, ...] = (ANN, BOB, EVE)) -> object:
    head = store.claim(3, epoch)
    return (
        dict(head.next_offsets),
        dict(head.timers),
        dict(head.chunks),
        store.load_users(3, keys),
    )
