"""Partitions that are claimed: what the worker cannot take up stops it with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import pytest
from faust.types import TP

from monitoring.metrics import Metrics
from stream.distributed.owned_partition import OwnedPartition
from stream.distributed.ownership import Ownership
from stream.distributed.store_calls import StoreCalls, WorkerStop
from stream.events import EVENTS
from stream.metering import MeteredPipeline
from stream.pipeline import PartitionPipeline
from stream.state import Checkpoint, Epoch
from stream.stores.memory import MemoryStore
from tests.unit.partition_harness import spec


class Reader:
    """A log of ten records a partition."""

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        return dict.fromkeys(partitions, 0)

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        return dict.fromkeys(partitions, 10)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        del partitions


async def nothing(claimed: Sequence[OwnedPartition]) -> None:
    del claimed


def make(partition: int) -> MeteredPipeline:
    return MeteredPipeline(PartitionPipeline(spec(), partition), Metrics())


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def ownership(store: MemoryStore) -> Iterator[Ownership]:
    calls = StoreCalls(store)
    yield Ownership(calls, make, [EVENTS], patience_s=1.0, on_claimed=nothing)
    calls.close()


def test_state_of_a_newer_program_stops_the_worker_with_a_reason(
    store: MemoryStore, ownership: Ownership
) -> None:
    before = Epoch(0, "newer")
    store.claim(0, before)
    counts = msgspec.msgpack.encode({"format": 99})
    store.save(Checkpoint(0, {}, {EVENTS: 3}, {}, {"share/counts": counts}), before)
    with pytest.raises(WorkerStop, match="partition 0 cannot be read: .*up to"):
        asyncio.run(ownership.assign(Reader(), 1, {TP(EVENTS, 0): 3}))


def test_a_generation_that_ended_before_it_was_claimed_is_not_claimed(
    ownership: Ownership,
) -> None:
    async def run() -> tuple[list[int], list[int]]:
        await ownership.assign(Reader(), 1, {TP(EVENTS, 0): None})
        ownership.revoke(1)
        # The group's offsets of generation 2 are being fetched; meanwhile it ends.
        ownership.revoke(2)
        await ownership.assign(Reader(), 2, {TP(EVENTS, 0): None, TP(EVENTS, 1): None})
        late = [owned.partition for owned in ownership.live()]
        await ownership.assign(Reader(), 3, {TP(EVENTS, 1): None})
        return late, [owned.partition for owned in ownership.live()]

    assert asyncio.run(run()) == ([], [1])
