"""Save partitions and acknowledge what was saved, in the one order that loses nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from aiokafka.errors import KafkaError
from faust.types import TP

from monitoring.metrics import Metrics
from stream.distributed.owned_partition import OwnedPartition
from stream.distributed.publishing import Publisher
from stream.distributed.store_calls import StoreCalls, WorkerStop
from stream.distributed.turns import Turn
from stream.state import Checkpoint, Fenced

__all__ = ["Checkpointer"]

log = logging.getLogger(__name__)

SAVING_POLL_S = 0.005


class Checkpointer:
    """Move effects, state and offsets of partitions to where they survive a crash.

    Parameters
    ----------
    store, publisher
        Where state and effects go.
    commit
        Commits offsets to Kafka; False when the group is rebalancing.
    metrics
        Where checkpoints are told.
    turn
        Waited for before something is computed.
    leave_s
        How long giving partitions up may take in all.
    """

    def __init__(
        self,
        store: StoreCalls,
        publisher: Publisher,
        commit: Callable[[Mapping[TP, int]], Awaitable[bool]],
        metrics: Metrics,
        turn: Turn,
        *,
        leave_s: float = 5.0,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._commit = commit
        self._metrics = metrics
        self._turn = turn
        self._leave_s = leave_s

    async def load(self, owned: OwnedPartition, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the stored state of users. Whoever waits to be saved is still in memory."""
        return await self._store.load_users(owned.partition, keys)

    async def publish(self, owned: OwnedPartition) -> None:
        """Hand over the partition's effects, in order; acknowledgements are awaited by a save."""
        async with owned.publishing:
            # What was added meanwhile goes, too: nobody else may come for it.
            while owned.outbox:
                records, owned.outbox = owned.outbox, []
                try:
                    owned.acks += await self._publisher.send(records)
                except KafkaError as error:
                    # Some of them may be lost: nothing that depends on them may be saved.
                    owned.broken = True
                    raise WorkerStop(_unpublished(error)) from error

    async def save(self, partitions: Sequence[OwnedPartition]) -> list[OwnedPartition]:
        """Save partitions, and return those whose save the store refused.

        The order, here and nowhere else:

        1. cut: what changed since the last save, as one value, while nothing is applied;
        2. publish every effect of what was applied until then, and await acknowledgements;
        3. write state and offsets in one atomic, fenced checkpoint;
        4. commit the saved offsets to Kafka (`commit_saved`, later).

        A crash before 3 repeats effects (same ids) from the state before; a crash after 3 and
        before 4 resumes from the checkpoint, which is what a partition is read from.
        """
        cuts: list[tuple[OwnedPartition, Checkpoint]] = []
        for owned in partitions:
            await self._turn.come_last()
            await self._settle(owned)
            async with owned.lock:
                if self._may_cut(owned):
                    checkpoint = owned.processor.cut()  # 1
                    owned.unsaved_records = 0
                    owned.saving = True
                    cuts.append((owned, checkpoint))
        for owned, _ in cuts:
            await self.publish(owned)  # 2
        await self._acknowledged(owned for owned, _ in cuts)
        refused = []
        for owned, checkpoint in cuts:
            if owned.broken:
                # Somebody else's `publish` has failed meanwhile, and stops the worker.
                owned.saving = False
                continue
            began = time.perf_counter()
            try:
                await self._store.call(self._store.port.save, checkpoint, owned.epoch)  # 3
            except Fenced as error:
                log.warning("partition %d: %s", owned.partition, error)
                self._metrics.add("checkpoints_total", ("refused",))
                owned.broken = True
                refused.append(owned)
            else:
                owned.processor.saved()
                owned.saved = dict(checkpoint.next_offsets)
                self._told(owned, time.perf_counter() - began)
            owned.saving = False
        return refused

    async def _settle(self, owned: OwnedPartition) -> None:
        """Do what a cut begins with, each part in a turn of its own: the cut is long enough."""
        for part in owned.processor.settling():
            async with owned.lock:
                if not self._may_cut(owned):
                    return
                part()
            await self._turn.come()

    @staticmethod
    def _may_cut(owned: OwnedPartition) -> bool:
        given_up = owned.broken or owned.closed
        return owned.unsaved_records > 0 and not owned.saving and not given_up

    async def commit_saved(self, partitions: Sequence[OwnedPartition]) -> bool:
        """Commit to Kafka exactly the saved offsets, where they differ; tell whether it worked."""
        offsets = {
            TP(topic, owned.partition): owned.saved[topic]
            for owned in partitions
            for topic, committed in owned.committed.items()
            if topic in owned.saved and owned.saved[topic] != committed
        }
        if not offsets:
            return True
        if not await self._commit(offsets):  # 4
            return False
        for owned in partitions:
            for topic in owned.committed:
                offset = offsets.get(TP(topic, owned.partition))
                if offset is not None:
                    owned.committed[topic] = offset
        return True

    async def leave(self, partitions: Sequence[OwnedPartition]) -> None:
        """Save, commit and release partitions that are being given up.

        What cannot be saved in time is dropped: its new owner repeats it from the checkpoint.
        """
        if not partitions:
            return
        try:
            async with asyncio.timeout(self._leave_s):
                await self._rest(partitions)
                await self.save(partitions)
                # A save that was asked for before may have cut first, and is under way.
                await self._rest(partitions)
                await self.commit_saved(partitions)
                for owned in partitions:
                    await self._store.call(self._store.port.release, owned.partition, owned.epoch)
        except TimeoutError:
            log.warning("giving partitions up took over %g s; the rest is dropped", self._leave_s)
        except WorkerStop as error:
            log.warning("partitions were given up unsaved: %s", error)
        finally:
            for owned in partitions:
                owned.close()
                self._metrics.forget("checkpoint_timestamp_seconds", (str(owned.partition),))

    @staticmethod
    async def _rest(partitions: Sequence[OwnedPartition]) -> None:
        """Wait until nobody is being saved."""
        while any(owned.saving for owned in partitions):
            await asyncio.sleep(SAVING_POLL_S)

    def _told(self, owned: OwnedPartition, elapsed_s: float) -> None:
        self._metrics.add("checkpoints_total", ("saved",))
        self._metrics.observe("checkpoint_duration_seconds", (), elapsed_s)
        self._metrics.set("checkpoint_timestamp_seconds", (str(owned.partition),), time.time())

    async def _acknowledged(self, partitions: Iterable[OwnedPartition]) -> None:
        acks = []
        for owned in partitions:
            taken, owned.acks = owned.acks, []
            acks += taken
        if acks:
            try:
                await asyncio.gather(*acks)
            except Exception as error:
                raise WorkerStop(_unpublished(error)) from error


def _unpublished(error: Exception) -> str:
    return (
        f"effects could not be published ({error!r}); nothing was saved that depends on them: "
        "check the brokers, then start the worker again"
    )
