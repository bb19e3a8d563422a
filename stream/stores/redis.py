"""State in Redis: for several workers and API servers.

Layout (schema version 1); the braces keep a partition's keys in one slot of a Redis Cluster::

    {instance:p}:head      hash: schema, generation, owner, offsets (JSON), saves
    {instance:p}:users     hash: user key -> blob
    {instance:p}:timers    hash: user key -> due (little-endian double, event time in seconds)
    {instance:p}:chunks    hash: name -> data
    {instance:p}:versions  hash: name -> ``saves`` when it was written
    instance:partitions    set of partition numbers that were ever claimed

Timers have a key of their own, so that a claim reads them without reading every user. Each
operation on a partition is one Lua script (beside this file): Redis runs it alone, and writes it
to its append-only file as one transaction. All checks come before the first write.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from stream.state import (
    SCHEMA_VERSION,
    Checkpoint,
    ClaimRefused,
    Epoch,
    Fenced,
    NewerSchema,
    PartitionHead,
    SharedChunk,
)
from stream.stores.redis_access import RedisAccess
from stream.stores.redis_server import Argument, RedisServer, Script
from stream.stores.refusals import (
    check_dues,
    decode_offsets,
    encode_offsets,
    older_generation,
    wrong_offsets,
    wrong_owner,
)

__all__ = ["RedisStore"]

_DUE = struct.Struct("<d")
_SCHEMA = str(SCHEMA_VERSION)
_PARTS = ("head", "users", "timers", "chunks", "versions")


class RedisStore:
    """A `stream.state.StateStore` in Redis (5 or later, or Valkey), usable from any thread.

    Every call repeats itself after a lost connection, for about a second. That is safe for saves
    too: see `save`.

    Parameters
    ----------
    url
        ``redis://[user:password@]host[:port][/database]``; ``rediss://`` for TLS.
    instance
        Name of the deployment; several may share a server.
    access
        Credentials and certificates that do not stand in the URL.
    timeout_s
        How long to wait for a connection, and for each answer.
    """

    def __init__(
        self,
        url: str,
        *,
        instance: str = "headrace",
        access: RedisAccess | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        self._instance = instance
        self._server = RedisServer(url, access or RedisAccess(), timeout_s)
        self._scripts = {
            name: Script(name) for name in ("claim", "save", "release", "shared", "reset")
        }

    def claim(self, partition: int, epoch: Epoch, *, force: bool = False) -> PartitionHead:
        """Take the partition and return its head; see `stream.state.StateStore.claim`."""
        self._server.run("SADD", self._registry(), partition)
        reply = self._script(
            "claim", partition, [_SCHEMA, epoch.generation, epoch.owner, "1" if force else "0"]
        )
        if reply[0] == b"refused":
            raise ClaimRefused(older_generation(partition, epoch, int(reply[1])))
        offsets, length, timers, chunks = reply[1:]
        return PartitionHead(
            partition,
            decode_offsets(offsets),
            _timers(length, timers),
            {name.decode(): data for name, data in _pairs(chunks)},
        )

    def load_users(self, partition: int, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the stored users among ``keys``, in one round trip."""
        return self.load_users_of({partition: keys})[partition]

    def load_users_of(self, wanted: Mapping[int, Sequence[bytes]]) -> dict[int, dict[bytes, bytes]]:
        """Return the stored users of several partitions, in one round trip."""
        self._server.check_open()
        found: dict[int, dict[bytes, bytes]] = {partition: {} for partition in wanted}
        asked = [(partition, keys) for partition, keys in wanted.items() if keys]
        replies = self._server.each(
            [("HMGET", self._key(partition, "users"), *keys) for partition, keys in asked]
        )
        for (partition, keys), blobs in zip(asked, replies, strict=True):
            found[partition] = {
                key: blob for key, blob in zip(keys, blobs, strict=True) if blob is not None
            }
        return found

    def save(self, checkpoint: Checkpoint, epoch: Epoch) -> None:
        """Write the checkpoint with one script; see `stream.state.StateStore.save`.

        If the connection dies, nobody can tell whether the save was done. Repeat it unchanged: if
        it was, the stored offsets are its own and its owner's, and the repetition writes nothing.
        """
        check_dues(checkpoint)
        users: list[bytes] = []
        timers: list[bytes] = []
        no_user: list[bytes] = []
        no_timer: list[bytes] = []
        for key, write in checkpoint.users.items():
            if write is None:
                no_user.append(key)
            else:
                users += (key, write.blob)
            if write is None or write.due is None:
                no_timer.append(key)
            else:
                timers += (key, _DUE.pack(write.due))
        chunks = [(n, data) for n, data in checkpoint.chunks.items() if data is not None]
        no_chunk = [n for n, data in checkpoint.chunks.items() if data is None]
        groups: tuple[Sequence[bytes | str], ...] = (
            users,
            timers,
            no_user,
            no_timer,
            list(chain.from_iterable(chunks)),
            no_chunk,
        )
        reply = self._script(
            "save",
            checkpoint.partition,
            [
                _SCHEMA,
                epoch.generation,
                epoch.owner,
                encode_offsets(checkpoint.expected),
                encode_offsets(checkpoint.next_offsets),
                *map(len, groups),
                *chain.from_iterable(groups),
            ],
        )
        if reply[0] == b"owner":
            generation = int(reply[1]) if reply[1] else None
            raise Fenced(wrong_owner(checkpoint.partition, epoch, generation, reply[2].decode()))
        if reply[0] == b"offsets":
            stored = decode_offsets(reply[1])
            raise Fenced(wrong_offsets(checkpoint.partition, checkpoint.expected, stored))

    def release(self, partition: int, epoch: Epoch) -> None:
        """Give the partition up; no-op if not owned."""
        self._script("release", partition, [epoch.generation, epoch.owner])

    def shared(
        self,
        prefix: str,
        known: Mapping[tuple[int, str], int],
        *,
        besides: Container[int] = (),
    ) -> list[SharedChunk]:
        """Return contributions whose version is not known, in two round trips."""
        partitions = [number for number in self._registered() if number not in besides]
        arguments: dict[int, list[str | int]] = {p: [_SCHEMA, prefix] for p in partitions}
        for (partition, name), version in known.items():
            if partition in arguments:
                arguments[partition] += (name, version)
        replies = self._server.script(
            self._scripts["shared"], [(self._keys(p), arguments[p]) for p in partitions]
        )
        changed: list[SharedChunk] = []
        for partition, reply in zip(partitions, replies, strict=True):
            self._check_schema(reply)
            changed += sorted(
                SharedChunk(partition, name.decode(), int(version), data)
                for name, version, data in zip(*[iter(reply[1:])] * 3, strict=True)
            )
        return changed

    def partitions(self) -> dict[int, dict[str, int]]:
        """Return next offsets of every partition that was ever saved."""
        partitions = self._registered()
        replies = self._server.pipeline(
            [("HGET", self._key(partition, "head"), "offsets") for partition in partitions]
        )
        return {
            partition: decode_offsets(offsets)
            for partition, offsets in zip(partitions, replies, strict=True)
            if offsets is not None
        }

    def find_user(self, key: bytes, partition: int | None = None) -> tuple[int, bytes] | None:
        """Return (partition, blob) of the user with this key."""
        partitions = self._registered() if partition is None else [partition]
        replies = self._server.pipeline(
            [("HGET", self._key(place, "users"), key) for place in partitions]
        )
        for place, blob in zip(partitions, replies, strict=True):
            if blob is not None:
                return place, blob
        return None

    def reset(self, partitions: Iterable[int] | None = None) -> None:
        """Delete the state of these partitions, or everything of this instance."""
        for partition in self._registered() if partitions is None else partitions:
            self._script("reset", partition, [])
        if partitions is None:
            self._sweep()

    def _sweep(self) -> None:
        # What a newer version may have added beside the keys that this one knows.
        cursor: Any = 0
        heads = {self._key(partition, "head").encode() for partition in self._registered()}
        while True:
            cursor, found = self._server.run(
                "SCAN", cursor, "MATCH", f"{{{self._instance}:*}}:*", "COUNT", 1000
            )
            for key in found:
                if key not in heads:
                    self._server.run("UNLINK", key)
            if int(cursor) == 0:
                return

    def ping(self) -> str:
        """Return the server's version and how durable it is, or say why it does not answer."""
        info = self._server.info()
        if not info:
            return self._server.where
        policy = info.get("maxmemory_policy", "noeviction")
        notes = [f"AOF {'on' if info.get('aof_enabled') else 'off: a restart may lose state'}"]
        if info.get("maxmemory") and policy != "noeviction":
            notes.append(f"maxmemory-policy {policy} may evict state: set noeviction")
        return f"{self._server.where}, version {info.get('redis_version')}, {', '.join(notes)}"

    def close(self) -> None:
        """Close connections; afterwards every call raises `StoreError`."""
        self._server.close()

    def _key(self, partition: int, part: str) -> str:
        return f"{{{self._instance}:{partition}}}:{part}"

    def _keys(self, partition: int) -> list[str]:
        return [self._key(partition, part) for part in _PARTS]

    def _registry(self) -> str:
        return f"{self._instance}:partitions"

    def _registered(self) -> list[int]:
        return sorted(int(member) for member in self._server.run("SMEMBERS", self._registry()))

    def _script(self, name: str, partition: int, arguments: Sequence[Argument]) -> Any:
        (reply,) = self._server.script(self._scripts[name], [(self._keys(partition), arguments)])
        self._check_schema(reply)
        return reply

    def _check_schema(self, reply: Sequence[bytes]) -> None:
        if reply[0] == b"newer":
            raise NewerSchema(
                f"{self._server.where}: the state of instance {self._instance!r} has schema version"
                f" {int(reply[1])}, this program reads up to {SCHEMA_VERSION}; run the version of"
                " Headrace that wrote it (or a later one), or use another instance or database"
            )


def _timers(length: int, timers: Any) -> list[tuple[bytes, float]]:
    if length:
        return list(struct.iter_unpack(f"<{length}sd", timers))
    return [(key, _DUE.unpack(due)[0]) for key, due in _pairs(timers)]


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)
