"""Calls of a synchronous state store from the event loop, repeated while it cannot be reached."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from stream.refusal import Refusal
from stream.state import ClaimRefused, Fenced, NewerSchema, StateStore, StoreError

__all__ = ["StoreCalls", "WorkerStop"]

log = logging.getLogger(__name__)

A = ParamSpec("A")
R = TypeVar("R")

RETRY_S = 0.1
DECISIONS = (Fenced, ClaimRefused)


class WorkerStop(Refusal):
    """The worker cannot go on; the message says why, and what an operator can do."""


class StoreCalls:
    """Run store calls in threads of their own, so that heartbeats live on.

    Loads do not wait for saves, nor saves for loads: whoever is loaded is in no save under way.
    Neither waits for whoever looks what others have saved.

    Parameters
    ----------
    port
        The store.
    patience_s
        How long a store that does not answer is asked again before the worker stops.
    """

    def __init__(self, port: StateStore, patience_s: float = 60.0) -> None:
        self.port = port
        self._patience_s = patience_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._loads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-load")
        self._looks = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-look")
        self._wanted: dict[int, Sequence[bytes]] = {}
        self._next_load: asyncio.Task[dict[int, dict[bytes, bytes]]] | None = None
        self._loading = asyncio.Lock()

    async def load_users(self, partition: int, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the stored users among ``keys``; raises as `call` does.

        What several partitions ask for while the store answers others is asked in one round trip.
        """
        # Whoever had the partition before may have asked, too, and has gone.
        before = self._wanted.get(partition, ())
        self._wanted[partition] = list(dict.fromkeys((*before, *keys)))
        if self._next_load is None:
            self._next_load = asyncio.get_running_loop().create_task(self._load())
        # One who is cancelled takes nothing away from the others.
        found = (await asyncio.shield(self._next_load))[partition]
        return {key: found[key] for key in keys if key in found}

    async def _load(self) -> dict[int, dict[bytes, bytes]]:
        async with self._loading:
            wanted, self._wanted, self._next_load = self._wanted, {}, None
            return await self._call(self._loads, lambda: self.port.load_users_of(wanted))

    async def call(self, function: Callable[A, R], *args: A.args, **kwargs: A.kwargs) -> R:
        """Return the call's result; repeat it while the store is away.

        Raises
        ------
        Fenced, ClaimRefused
            The store decided; asking again would not change it.
        WorkerStop
            The store was away for too long, or was written by a newer version.
        """
        return await self._call(self._thread, lambda: function(*args, **kwargs))

    async def look(self, function: Callable[A, R], *args: A.args, **kwargs: A.kwargs) -> R:
        """Return what a call finds that changes nothing; raises as `call` does."""
        return await self._call(self._looks, lambda: function(*args, **kwargs))

    async def _call(self, thread: ThreadPoolExecutor, function: Callable[[], R]) -> R:
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + self._patience_s
        warned = False
        while True:
            try:
                return await loop.run_in_executor(thread, function)
            except DECISIONS:
                raise
            except NewerSchema as error:
                raise WorkerStop(str(error)) from error
            except (StoreError, OSError) as error:
                if time.monotonic() > deadline:
                    raise WorkerStop(
                        f"store.url: the state store has not answered for {self._patience_s:g} s "
                        f"({error}); nothing is lost: start it, then start the worker again"
                    ) from error
                if not warned:
                    log.warning("the state store does not answer (%s); trying again", error)
                    warned = True
                await asyncio.sleep(RETRY_S)

    def close(self) -> None:
        """Let running calls end, and drop those that wait."""
        for thread in (self._thread, self._loads, self._looks):
            thread.shutdown(wait=False, cancel_futures=True)
