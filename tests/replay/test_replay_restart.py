"""A replay that was killed and goes on from its checkpoint reports what an undisturbed one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.rewards import HeadConfig
from models.rewards.kernels import WIDTH
from models.rewards.table_chunks import TableChunks
from stream.assembly import pipeline_spec
from stream.config import Settings
from stream.replay import EXCHANGE_EVENTS, Replay
from stream.stores.memory import MemoryStore
from tests.replay.streams import random_lines

BLOCKS, KILLED_AFTER, SAVED_AFTER = 6, 4, 3


def write(path: Path, lines: list[bytes]) -> Path:
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def figures(run: Replay) -> dict[str, Any]:
    report = run.report()
    for measured in ("seconds", "events_per_second", "peak_rss_bytes"):
        del report[measured]
    for lf in report["lfs"].values():
        del lf["seconds"]
    return report


def states(store: MemoryStore, partitions: int) -> list[dict[str, bytes]]:
    """Return every partition's chunks; heads' tables as they are, however saves cut them."""
    found: list[dict[str, bytes]] = [{} for _ in range(partitions)]
    tables: dict[tuple[int, str], dict[str, bytes]] = {}
    for chunk in store.shared("", {}):
        head, _, part = chunk.name.rpartition("/")
        if head.startswith("own/rewards/") and (part.isdigit() or part.startswith("changes-")):
            tables.setdefault((chunk.partition, head), {})[part] = chunk.data
        else:
            found[chunk.partition][chunk.name] = chunk.data
    for (partition, head), parts in tables.items():
        table = np.zeros((1 << HeadConfig(window_s=1.0).bits, WIDTH))
        TableChunks(len(table)).read(table, parts)
        found[partition][head] = table.tobytes()
    return found


@pytest.mark.parametrize("partitions", [1, 4])
def test_killed_in_the_middle_and_restored(partitions: int, tmp_path: Path) -> None:
    spec = pipeline_spec(Settings(), partitions=partitions)
    lines = random_lines(5, BLOCKS * EXCHANGE_EVENTS)

    def replay(store: MemoryStore) -> Replay:
        every = SAVED_AFTER * EXCHANGE_EVENTS
        return Replay(spec, store=store, block=EXCHANGE_EVENTS, checkpoint_every=every)

    undisturbed = MemoryStore()
    whole = replay(undisturbed)
    whole.read_events([write(tmp_path / "whole", lines)])
    store = MemoryStore()
    killed = replay(store)
    killed.read_events([write(tmp_path / "first", lines[: KILLED_AFTER * EXCHANGE_EVENTS])])
    del killed
    restored = replay(store)
    restored.read_events([write(tmp_path / "rest", lines[SAVED_AFTER * EXCHANGE_EVENTS :])])
    assert figures(restored) == figures(whole)
    assert figures(whole)["recommender"]["prequential"]["ndcg@10"] > 0.0
    for run in (whole, restored):
        run.checkpoint()
    assert states(store, partitions) == states(undisturbed, partitions)
