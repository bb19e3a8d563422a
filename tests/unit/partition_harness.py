"""One partition on a log of its own, in memory, and the records to feed it with."""

from __future__ import annotations

from typing import Any

import orjson

from stream.assembly import pipeline_spec
from stream.config import Settings
from stream.events import EVENTS
from stream.ids import example_id, user_key
from stream.pipeline import PartitionPipeline, PipelineSpec
from stream.records import RecordBatch
from stream.runner import PartitionRunner
from stream.state import Epoch
from stream.stores.memory import MemoryStore

T = 1_700_000_000.0
DAY_S = 86_400.0
NOW = T + 1000 * DAY_S
EPOCH = Epoch(1, "one")


def spec(**sections: Any) -> PipelineSpec:
    return pipeline_spec(Settings(**sections), partitions=1)


def event(number: int, kind: str, ts: float, user: str = "u", **more: Any) -> bytes:
    fields = {"event_id": f"e{number}", "type": kind, "ts": ts, "user_id": user, "item_id": "i"}
    return orjson.dumps({**fields, **more})


def gold(number: int, label: str, ts: float, task: str = "relevance") -> bytes:
    name = example_id(user_key("u"), None, "i", f"e{number}")
    return orjson.dumps(
        {"example_id": name, "task": task, "label": label, "annotator": "a", "ts": ts}
    )


class Partition:
    """A partition with its own log of batches, over a store that survives it."""

    def __init__(self, of: PipelineSpec, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.pipeline = PartitionPipeline(of, 0)
        self.runner = PartitionRunner(self.pipeline, self.store, 0, EPOCH)

    def run(self, *lines: bytes, topic: str = EVENTS) -> list[dict[str, Any]]:
        first = self.pipeline.next_offsets.get(topic, 0)
        offsets = range(first, first + len(lines))
        effects = self.runner.run(RecordBatch(topic, 0, offsets, lines, [NOW] * len(lines)))
        return [orjson.loads(record.value) for record in effects.outgoing()]

    def users(self) -> dict[bytes, bytes]:
        return self.store.load_users(0, [user_key(name) for name in "uvw"])
