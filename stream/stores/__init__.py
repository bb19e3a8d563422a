"""State stores: SQLite for one machine, Redis for several workers, memory for tests and replay."""

from __future__ import annotations

import re
from importlib import import_module

from stream.sqlite_file import sqlite_path
from stream.state import StateStore, StoreError
from stream.stores.memory import MemoryStore
from stream.stores.redis_access import RedisAccess
from stream.stores.sqlite import SqliteStore

__all__ = ["MemoryStore", "RedisAccess", "SqliteStore", "open_store"]

_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def open_store(
    url: str,
    *,
    instance: str = "headrace",
    access: RedisAccess | None = None,
    timeout_s: float = 5.0,
) -> StateStore:
    """Open the state store that a URL names.

    Parameters
    ----------
    url
        ``sqlite:///path``, ``redis://…``, ``rediss://…`` (TLS) or ``memory:``.
    instance
        Name of the deployment: letters, digits, ``_``, ``.``, ``-``. Two instances never see each
        other's state.
    access
        Redis only: credentials and certificates that do not stand in the URL.
    timeout_s
        Redis only: how long to wait for a connection, and for each answer.

    Raises
    ------
    StoreError
        The URL or the instance's name is not one, or the store cannot be opened. A Redis that
        does not answer shows at the first call (`StateStore.ping`), not here.
    NewerSchema
        An SQLite file was written by a newer version; on Redis the claim tells.
    """
    if not _INSTANCE.fullmatch(instance):
        raise StoreError(
            f"instance {instance!r}: letters, digits, '_', '.' and '-' are allowed, 64 at most"
        )
    scheme = url.partition(":")[0]
    if scheme == "memory":
        return MemoryStore()
    if scheme == "sqlite":
        try:
            return SqliteStore(sqlite_path(url), instance=instance)
        except ValueError as failure:
            raise StoreError(f"store.url: {failure}") from failure
    if scheme in ("redis", "rediss"):
        # Imported when asked for: the client takes a third of a second, which embedded use saves.
        module = import_module("stream.stores.redis")
        store: StateStore = module.RedisStore(
            url, instance=instance, access=access, timeout_s=timeout_s
        )
        return store
    # Only the scheme: the rest may hold a password.
    raise StoreError(
        f"store.url: {scheme!r} is no kind of store; sqlite:///path, redis://…, rediss://… and"
        " memory: are"
    )
