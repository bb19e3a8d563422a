"""Provisional labels foresee what is awaited: in a pipeline, cut, saved and restored."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from stream.assembly import pipeline_spec
from stream.config import Settings
from stream.early_labels import EARLY_CHUNK
from stream.events import EVENTS, GOLD
from stream.pipeline import PartitionPipeline, PipelineSpec
from stream.records import RecordBatch
from stream.report import report
from stream.runner import PartitionRunner
from stream.state import Epoch
from stream.stores.memory import MemoryStore

T = 1_700_000_000.0
HOUR_S = 3_600.0
EPOCH = Epoch(1, "one")
EARLY_S = 300.0


def spec(**labels: Any) -> PipelineSpec:
    """Return settings in which clicks take up to some hours, and labels five minutes."""
    settings = Settings(
        join={"exposure_window_s": 6 * HOUR_S, "early_after_s": EARLY_S},
        rewards={"outcomes": {"click": {"window_s": 6 * HOUR_S}}},
        labels=labels,
    )
    return pipeline_spec(settings, partitions=1)


def slow_clicks(n: int, seed: int = 0) -> list[bytes]:
    """Return exposures of a loved and of an unloved item; clicks come after an hour or so."""
    rng = random.Random(seed)
    events: list[tuple[float, dict[str, object]]] = []
    for number in range(n):
        ts = T + 60.0 * number
        item = rng.choice(["loved", "unloved"])
        about = {"user_id": f"u{number % 97}", "item_id": item, "request_id": f"r{number}"}
        events.append((ts, {"type": "impression", "event_id": f"i{number}", **about}))
        if rng.random() < (0.6 if item == "loved" else 0.03):
            ts += 400.0 + rng.expovariate(1 / HOUR_S) % (5 * HOUR_S)
            events.append((ts, {"type": "click", "event_id": f"c{number}", **about}))
    return [orjson.dumps({"ts": ts, **event}) for ts, event in sorted(events, key=lambda e: e[0])]


def on(topic: str, offset: int, line: bytes) -> RecordBatch:
    return RecordBatch(topic, 0, [offset], [line], [T + 1e9])


class Run:
    """Lines through a pipeline, in batches, saved after each; and the labels that came of them."""

    def __init__(self, of: PipelineSpec, lines: list[bytes], size: int, restart: bool = False):
        store = MemoryStore()
        self.labels: list[dict[str, Any]] = []
        self.pipeline = PartitionPipeline(of, 0)
        runner = PartitionRunner(self.pipeline, store, 0, EPOCH)
        for first in range(0, len(lines), size):
            part = lines[first : first + size]
            offsets = range(first, first + len(part))
            batch = RecordBatch(EVENTS, 0, offsets, part, [T + 1e9] * len(part))
            for block in runner.run(batch).labels:
                self.labels += [orjson.loads(record.value or b"") for record in block.records()]
            if restart:
                runner.checkpoint()
                self.pipeline = PartitionPipeline(of, 0)
                runner = PartitionRunner(self.pipeline, store, 0, EPOCH)

    def early(self, item: str) -> list[float]:
        return [
            label["probabilities"]["positive"]
            for label in self.labels
            if label["reason"] == "early" and label["item_id"] == item
        ]


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    return slow_clicks(3_000)


@pytest.fixture(scope="module")
def whole(lines: list[bytes]) -> Run:
    return Run(spec(), lines, len(lines))


def test_early_labels_tell_what_is_loved_from_what_is_not(lines: list[bytes], whole: Run) -> None:
    loved, unloved = (sum(whole.early(item)[-300:]) / 300 for item in ("loved", "unloved"))
    assert loved > unloved + 0.1
    plain = Run(spec(foresee=False), lines, len(lines))
    posteriors = {round(p, 3) for p in plain.early("loved")[-300:]}
    assert posteriors == {round(p, 3) for p in plain.early("unloved")[-300:]}


def test_they_are_nearer_to_the_final_labels_than_posteriors(whole: Run) -> None:
    found = report([whole.pipeline], seconds=1.0, peak_rss_bytes=0)["labels"]["relevance"]
    assert found["foresight"]["n"] > 1_500
    assert found["foresight"]["log_loss"] < found["foresight"]["posterior_log_loss"] - 0.005


def test_the_label_model_and_the_recommender_learn_what_has_come(
    lines: list[bytes], whole: Run
) -> None:
    plain = Run(spec(foresee=False), lines, len(lines)).pipeline
    models = [run.labelling.tasks["relevance"].model for run in (plain, whole.pipeline)]
    assert models[0].to_bytes() == models[1].to_bytes()
    assert plain.learning.report() == whole.pipeline.learning.report()


@pytest.mark.parametrize(("size", "restart"), [(1, False), (173, True), (700, False)])
def test_labels_do_not_depend_on_cuts_and_restarts(
    size: int, restart: bool, lines: list[bytes], whole: Run
) -> None:
    again = Run(spec(), lines, size, restart)
    assert again.labels == whole.labels
    assert again.pipeline.early is not None and whole.pipeline.early is not None
    assert again.pipeline.early.to_bytes() == whole.pipeline.early.to_bytes()


def test_examples_that_are_closed_remember_nothing(whole: Run) -> None:
    examples = [e for u in whole.pipeline.join.resident.values() for e in u.examples.values()]
    assert any(one.foreseen for one in examples if one.stage == 1)
    assert not any(one.foreseen for one in examples if one.stage == 2)


def test_state_of_other_classes_is_of_no_use(whole: Run) -> None:
    assert whole.pipeline.early is not None
    other = pipeline_spec(
        Settings(tasks={"relevance": {"classes": ["no", "maybe", "negative", "positive"]}}),
        partitions=1,
    )
    pipeline = PartitionPipeline(other, 0)
    assert pipeline.early is not None
    before = pipeline.early.to_bytes()
    pipeline.early.load(whole.pipeline.early.to_bytes())
    assert pipeline.early.to_bytes() == before
    assert EARLY_CHUNK in pipeline.cut().chunks


def test_without_rewards_labels_are_foreseen_from_what_became_of_others() -> None:
    settings = Settings(
        join={"exposure_window_s": 6 * HOUR_S, "early_after_s": EARLY_S},
        rewards={"enabled": False},
    )
    run = Run(pipeline_spec(settings, partitions=1), slow_clicks(200), 50)
    assert len(run.early("loved")) > 50


def test_an_annotators_vote_on_an_open_example_does_not_end_what_is_awaited() -> None:
    settings = Settings(
        join={"exposure_window_s": 6 * HOUR_S, "early_after_s": EARLY_S},
        lfs={"annotators": ["ann"]},
    )
    shown = {"event_id": "e", "type": "impression", "ts": T, "user_id": "u", "item_id": "i"}
    run = Run(pipeline_spec(settings, partitions=1), [orjson.dumps(shown)], 1)
    pipeline = run.pipeline
    tick = orjson.dumps({"tick": T + 2 * EARLY_S})
    (early,) = pipeline.process(pipeline.prepare(on(EVENTS, 1, tick)), {}).labels
    name = orjson.loads(next(early.records()).value or b"")["example_id"]
    answer = {"example_id": name, "label": "positive", "annotator": "ann", "user_id": "u"}
    said = orjson.dumps({**answer, "ts": T + EARLY_S})
    pipeline.process(pipeline.prepare(on(GOLD, 0, said)), {})
    pipeline.answer_rest({})
    (example,) = next(iter(pipeline.join.resident.values())).examples.values()
    assert pipeline.early is not None
    model = pipeline.early.models["relevance"]
    assert (example.revision, example.stage, model.losses[0]) == (2, 1, 0) and example.foreseen
    late = orjson.dumps({"tick": T + 48 * HOUR_S})
    pipeline.process(pipeline.prepare(on(EVENTS, 2, late)), {})
    assert model.losses[0] == 1 and not example.foreseen
