"""What a partition watches: it changes no label, survives a restart, and obeys orders."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest

from monitoring.drift_kernels import BLOCK
from monitoring.drift_view import DriftView, contribution
from monitoring.packing import unpacked
from monitoring.pipeline_drift import PipelineDrift, WatchedTask
from monitoring.references import references_from_bytes, references_to_bytes
from monitoring.signals import DriftRules
from stream.assembly import pipeline_spec
from stream.config import Settings
from stream.events import CONTROL, EVENTS, ReferenceReset, ReferenceSet, SignalReference
from stream.merged_view import MergedView
from stream.pipeline import PartitionPipeline, PipelineSpec
from stream.records import RecordBatch
from stream.runner import PartitionRunner
from stream.state import Epoch
from stream.stores.memory import MemoryStore

T = 1_700_000_000.0
EPOCH = Epoch(1, "one")
SIGNAL = "features:events/type"
FIXTURES = Path(__file__).parents[1] / "replay" / "fixtures"


def made() -> PipelineSpec:
    settings = Settings(
        monitoring={"first_reference": 2048, "reference_values": 2048, "segments": ["mobile"]}
    )
    return pipeline_spec(settings, partitions=1)


class Partition:
    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.pipeline = PartitionPipeline(made(), 0)
        self.runner = PartitionRunner(self.pipeline, store, 0, EPOCH)

    def events(self, n: int, kinds: tuple[str, ...]) -> None:
        first = self.pipeline.next_offsets.get(EVENTS, 0)
        lines = [
            orjson.dumps(
                {
                    "event_id": f"e{at}",
                    "type": kinds[at % len(kinds)],
                    "ts": T + at,
                    "user_id": f"u{at % 50}",
                    "item_id": f"i{at % 20}",
                    "segment": "mobile" if at % 2 else None,
                }
            )
            for at in range(first, first + n)
        ]
        batch = RecordBatch(EVENTS, 0, range(first, first + n), lines, [T + 1e7] * n)
        self.runner.run(batch)

    def order(self, order: ReferenceReset | ReferenceSet) -> list[dict[str, Any]]:
        first = self.pipeline.next_offsets.get(CONTROL, 0)
        value = order.model_dump_json().encode()
        effects = self.runner.run(RecordBatch(CONTROL, 0, [first], [value], [T]))
        return [orjson.loads(record.value) for record in effects.governance]

    def version(self) -> int | None:
        found = self.pipeline.watch.drift.monitor.references()
        return {one.signal: one.version for one in found}.get(SIGNAL)


@pytest.fixture
def partition() -> Partition:
    partition = Partition(MemoryStore())
    partition.events(6_000, ("impression", "click"))
    return partition


def reset(signal: str | None = SIGNAL) -> ReferenceReset:
    return ReferenceReset(kind="reset_reference", ts=T, who="op", why="new season", signal=signal)


def test_a_reference_is_reset_told_and_kept_across_a_restart(partition: Partition) -> None:
    assert partition.version() == 1
    (told,) = partition.order(reset())
    assert told["action"] == "reference_reset"
    assert told["subject"] == SIGNAL
    assert partition.version() is None
    partition.events(6_000, ("view", "click"))
    assert partition.version() == 2
    partition.runner.checkpoint()
    again = Partition(partition.store)
    assert again.version() == 2
    assert again.pipeline.watch.drift.to_bytes() == partition.pipeline.watch.drift.to_bytes()
    assert again.pipeline.watch.drift.monitor.detections == []


def test_recorded_references_are_set_again(partition: Partition) -> None:
    partition.runner.checkpoint()
    view = MergedView(partition.store, made())
    recorded = references_from_bytes(references_to_bytes(view.references()))
    assert SIGNAL in {one.signal for one in recorded}
    partition.order(reset(None))
    partition.events(3_000, ("view",))
    assert partition.pipeline.watch.drift.monitor.firing == []
    order = ReferenceSet(
        kind="set_reference",
        ts=T,
        who="op",
        why="as it was in May",
        references=[
            SignalReference.model_validate_json(msgspec.json.encode(one)) for one in recorded
        ],
    )
    (told,) = partition.order(order)
    assert told["action"] == "reference_set"
    assert SIGNAL in told["after"]["signals"]
    partition.events(2_000, ("view",))
    # What is the rule by now is none by the reference that was recorded.
    assert SIGNAL in partition.pipeline.watch.drift.monitor.firing


def test_an_order_about_a_signal_that_is_not_watched_is_no_error(partition: Partition) -> None:
    partition.order(reset("lf_votes/long_gone"))
    assert partition.version() == 1


def test_repeats_are_not_watched_twice(partition: Partition) -> None:
    before = partition.pipeline.watch.drift.to_bytes()
    lines = [
        orjson.dumps(
            {"event_id": f"e{at}", "type": "click", "ts": T + at, "user_id": f"u{at % 50}",
             "item_id": "i"}
        )
        for at in range(5_000, 5_100)
    ]  # fmt: skip
    batch = RecordBatch(EVENTS, 0, range(6_000, 6_100), lines, [T + 1e7] * 100)
    partition.runner.run(batch)
    assert partition.pipeline.join.duplicates == 100
    assert partition.pipeline.watch.drift.to_bytes() == before


def test_a_checkpoint_of_before_is_read(partition: Partition) -> None:
    partition.runner.checkpoint()
    head = partition.store.claim(0, Epoch(2, "two"))
    chunks = {name: data for name, data in head.chunks.items() if name != "share/drift"}
    older = PartitionPipeline(made(), 0)
    older.restore(type(head)(0, head.next_offsets, head.timers, chunks))
    assert older.watch.drift.monitor.references() == []


def test_the_merged_view_shows_segments_drift_and_changes(partition: Partition) -> None:
    partition.order(reset())
    partition.runner.checkpoint()
    figures = MergedView(partition.store, made()).read()
    assert figures["drift"]["with_reference"] > 20
    assert [row["segment"] for row in figures["segments"]] == ["all", "mobile", "other"]
    mobile = figures["segments"][1]
    assert mobile["tasks"]["relevance"]["labels"] > 0
    assert mobile["functions"] == []
    assert figures["drift"]["watched"] > 50
    assert figures["drift"]["signals"]
    (change,) = figures["governance"]
    assert change["action"] == "reference_reset"
    assert "who" not in change
    assert orjson.dumps(figures)


def old_watch() -> PipelineDrift:
    lfs = ("clicked", "viewed", "bought", "returned")
    return PipelineDrift(
        {"relevance": WatchedTask(("negative", "positive"), lfs, (1, 2, 1, 1))},
        ["click", "view"],
        ["clicks", "dwell_s", "last_ts"],
        DriftRules(first_reference=2048, reference_values=8192),
        ["mobile", "desktop"],
    )


@pytest.mark.parametrize("written", [1, 2])
def test_what_an_older_format_watched_is_read(written: int) -> None:
    data = zlib.decompress((FIXTURES / f"drift_v{written}.bin.z").read_bytes())
    said = json.loads((FIXTURES / "drift_v1.expected.json").read_text("utf-8"))
    drift = old_watch()
    drift.load(data)
    monitor = drift.monitor
    assert monitor.signals == said["signals"]
    assert monitor.firing == said["firing"]
    assert [found.as_dict() for found in monitor.detections] == said["detections"]
    readings = DriftView({0: contribution(monitor)}).readings(monitor.signals)
    # Signals that were looked at more often have the same shares, and weights of that time.
    assert readings.z == pytest.approx(said["z"], rel=0.05)
    same = [group.block == BLOCK for group in monitor.owners]
    assert readings.z[same] == pytest.approx(np.array(said["z"])[same])
    assert 0 < sum(same) < len(same)
    assert readings.samples.tolist() == said["samples"]
    pairs = drift.pairs["relevance"]
    for found, known in (
        (pairs.conflicts(), said["conflicts"]),
        (pairs.correlations(), said["correlations"]),
    ):
        assert [[pair.a, pair.b] for pair in found] == [row[:2] for row in known]
        assert [pair.ratio for pair in found] == pytest.approx([row[2] for row in known])
    task = drift.recent.tasks()["relevance"]
    assert task.functions.ravel() == pytest.approx(np.array(said["functions"]).ravel())
    assert task.head.ravel() == pytest.approx(np.array(said["head"]).ravel())
    assert drift.recent.quality()["mobile"] == pytest.approx(said["quality"]["mobile"])
    assert list(drift.calibration["relevance"].trust()) == pytest.approx(said["trust"])
    again = old_watch()
    again.load(drift.to_bytes())
    assert again.to_bytes() == drift.to_bytes()


def test_what_was_deflated_is_read() -> None:
    drift = old_watch()
    drift.load(zlib.decompress((FIXTURES / "drift_v1.bin.z").read_bytes()))
    _, monitor, rest = msgspec.msgpack.decode(drift.to_bytes())
    signals = msgspec.msgpack.decode(monitor)
    signals["arrays"] = zlib.compress(unpacked(signals["arrays"]), 1)
    older = (2, msgspec.msgpack.encode(signals), zlib.compress(unpacked(rest), 1))
    again = old_watch()
    again.load(msgspec.msgpack.encode(older))
    assert again.to_bytes() == drift.to_bytes()


@pytest.mark.parametrize("data", [b"", b"xyz", b"L", b"Lyz", b"?"])
def test_what_is_no_packed_state_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no packed state"):
        unpacked(data)
