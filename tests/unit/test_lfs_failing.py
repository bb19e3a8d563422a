"""A function that fails is stopped at the same example however the stream is cut, and recorded."""

from __future__ import annotations

import types
from collections import Counter
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest

from lfs.core import ABSTAIN, Example, LabelingFunction, labeling_function
from lfs.registry import collect
from monitoring.lf_analysis import analyse
from stream.assembly import pipeline_spec
from stream.config import Settings
from stream.control import Switches
from stream.effects import Effects
from stream.events import CONTROL, EVENTS, GOVERNANCE, TOPICS, LfSwitch
from stream.failing import FailureRule
from stream.lf_sample import LabelCollector
from stream.pipeline import PartitionPipeline, PipelineSpec
from stream.records import RecordBatch
from stream.runner import PartitionRunner
from stream.state import Epoch
from stream.stores.memory import MemoryStore

TS = 1_700_000_000.0


def fragile(version: int = 1) -> LabelingFunction:
    def fragile(example: Example) -> str | int:
        """Vote negative, and fail on every fourth item.

        Rationale: none. Sources: the item's number. Known errors: every fourth item.
        """
        if int(example.item_id[1:]) % 4 == 0:
            raise LookupError(example.item_id)
        return "negative"

    return labeling_function(version=version)(fragile)


def spec(ratio: float, version: int = 1) -> PipelineSpec:
    made = pipeline_spec(Settings(lfs={"max_failure_ratio": ratio, "failure_window": 20}))
    task = made.tasks[0]
    lfs = (fragile(version), *task.lfs)
    return replace(made, tasks=[replace(task, lfs=lfs)])


def lines(first: int, last: int) -> list[bytes]:
    return [
        orjson.dumps(
            {
                "event_id": f"e{n}",
                "type": "view",
                "ts": TS + n,
                "user_id": f"u{n % 7}",
                "item_id": f"i{n}",
            }
        )
        for n in range(first, last)
    ]


def run(pipeline: PartitionPipeline, first: int, last: int, cut: int) -> Effects:
    effects = Effects()
    for start in range(first, last, cut):
        part = lines(start, min(start + cut, last))
        batch = RecordBatch(EVENTS, 0, range(start, start + len(part)), part, [TS] * len(part))
        effects.extend(pipeline.process(pipeline.prepare(batch), {}))
    return effects


def order(pipeline: PartitionPipeline, offset: int, **fields: Any) -> Effects:
    value = orjson.dumps({"kind": "lf", "name": "fragile", "ts": TS, "who": "ann", **fields})
    batch = RecordBatch(CONTROL, 0, [offset], [value], [TS])
    return pipeline.process(pipeline.prepare(batch), {})


def voters(effects: Effects) -> Counter[str]:
    return Counter(
        vote["lf"]
        for record in effects.outgoing()
        if record.topic == "headrace.labels"
        for vote in orjson.loads(record.value)["votes"]
    )


def test_it_is_stopped_above_the_rate_and_recorded() -> None:
    pipeline = PartitionPipeline(spec(0.1), 0)
    effects = run(pipeline, 0, 60, 60)
    (record,) = effects.governance
    said = TOPICS[GOVERNANCE].validate_json(record.value)
    # Items 0, 4 and 8 fail: the third failure is more than a tenth of 20.
    assert (said.action, said.subject, said.who) == (
        "lf_disabled",
        "relevance/fragile@1",
        "headrace",
    )
    assert said.ts == TS + 8
    assert "3 failures within 20 examples" in said.why and "LookupError" in said.why
    assert voters(effects)["fragile"] == 6
    counted = pipeline.counts.tasks["relevance"]
    assert counted.failures == {("fragile", "LookupError"): 3}
    assert pipeline.labelling.enabled("relevance")[0] is False


def test_an_analysis_says_that_it_was_stopped_however_long_the_sample_is() -> None:
    pipeline, collector = PartitionPipeline(spec(0.1), 0), LabelCollector()
    collector(run(pipeline, 0, 2_000, 2_000))
    found = analyse(collector.sample([pipeline], "relevance"))
    (lf,) = [lf for lf in found.lfs if lf.name == "fragile"]
    assert lf.failures == 3
    assert lf.advice.verdict == "review"
    assert "switched off after 3 failures" in lf.advice.reason


def test_below_the_rate_it_goes_on_for_ever() -> None:
    pipeline = PartitionPipeline(spec(0.25), 0)
    effects = run(pipeline, 0, 200, 64)
    assert effects.governance == []
    assert voters(effects)["fragile"] == 150
    assert pipeline.counts.tasks["relevance"].failures["fragile", "LookupError"] == 50


@pytest.mark.parametrize("cut", [1, 3, 7, 59])
def test_the_cut_of_the_stream_changes_nothing(cut: int) -> None:
    whole, parts = PartitionPipeline(spec(0.1), 0), PartitionPipeline(spec(0.1), 0)
    expected, found = run(whole, 0, 60, 60), run(parts, 0, 60, cut)
    assert Counter(found.outgoing()) == Counter(expected.outgoing())
    assert parts.switches.to_bytes() == whole.switches.to_bytes()
    assert parts.counts.tasks["relevance"].failures == whole.counts.tasks["relevance"].failures


@pytest.mark.parametrize("stop", [6, 30])
def test_a_restart_keeps_it_off_and_the_count_going(stop: int) -> None:
    store, epoch = MemoryStore(), Epoch(1, "one")
    pipeline = PartitionPipeline(spec(0.1), 0)
    runner = PartitionRunner(pipeline, store, 0, epoch)
    effects = Effects()
    for part in (lines(0, stop), lines(stop, 60)):
        first = pipeline.next_offsets.get(EVENTS, 0)
        batch = RecordBatch(EVENTS, 0, range(first, first + len(part)), part, [TS] * len(part))
        effects.extend(runner.run(batch))
        runner.checkpoint()
        before = pipeline.switches.to_bytes()
        pipeline = PartitionPipeline(spec(0.1), 0)
        runner = PartitionRunner(pipeline, store, 0, epoch)
        assert pipeline.switches.to_bytes() == before
    assert len(effects.governance) == 1
    assert voters(effects)["fragile"] == 6


def test_an_order_forgives_and_is_recorded_once() -> None:
    pipeline = PartitionPipeline(spec(0.1), 0)
    run(pipeline, 0, 40, 10)
    effects = order(pipeline, 0, enabled=True, why="mended")
    (record,) = effects.governance
    said = TOPICS[GOVERNANCE].validate_json(record.value)
    assert (said.action, said.who, said.why) == ("lf_enabled", "ann", "mended")
    assert pipeline.labelling.enabled("relevance")[0] is True
    assert len(run(pipeline, 40, 80, 10).governance) == 1
    elsewhere = PartitionPipeline(spec(0.1), 3)
    assert order(elsewhere, 0, enabled=False, why="x").governance == []
    assert elsewhere.labelling.enabled("relevance")[0] is False


def test_a_new_version_starts_with_a_clean_record() -> None:
    pipeline = PartitionPipeline(spec(0.1), 0)
    run(pipeline, 0, 40, 10)
    newer = PartitionPipeline(spec(0.1, version=2), 0)
    newer.switches.load(pipeline.switches.to_bytes())
    assert newer.labelling.enabled("relevance")[0] is True


def test_a_new_version_is_held_to_be_as_accurate_as_the_one_before() -> None:
    model = spec(0.1).tasks[0].model()
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 4_000)
    votes = np.full((len(truth), len(model.lf_names)), ABSTAIN, dtype=np.int8)
    for column, accuracy in enumerate((0.95, 0.8, 0.75, 0.7)):
        votes[:, column] = np.where(rng.random(len(truth)) < accuracy, truth, 1 - truth)
    model.learn_many(votes)
    assert model.lf_names[0] == "fragile@1"
    (task,) = PartitionPipeline(spec(0.1, version=2), 0).labelling.tasks.values()
    task.adopt(model)
    estimates = task.model.summary()["lfs"]
    assert estimates["fragile@1"]["estimated_accuracy"] > 0.85
    assert estimates["fragile@2"]["estimated_accuracy"] == pytest.approx(
        estimates["fragile@1"]["estimated_accuracy"], abs=0.02
    )


def test_orders_of_the_older_format_are_read() -> None:
    old = msgspec.msgpack.encode([("", "clicked", 0, False)])
    switches = Switches((), FailureRule())
    switches.load(old)
    assert switches.enabled("relevance", ["clicked", "rated"], [2, 1]) == [False, True]


def test_ids_of_records_fit_however_long_the_names_are() -> None:
    long = "x" * 256
    switch = LfSwitch(
        kind="lf", name=long, task=long, enabled=False, ts=TS, who=long, why="y" * 2_048
    )
    pipeline = PartitionPipeline(spec(0.1), 0)
    batch = RecordBatch(CONTROL, 0, [0], [switch.model_dump_json().encode()], [TS])
    (record,) = pipeline.process(pipeline.prepare(batch), {}).governance
    TOPICS[GOVERNANCE].validate_json(record.value)


def test_modules_of_a_team_are_collected() -> None:
    module = types.ModuleType("shop")
    module.__dict__["fragile"] = fragile()
    assert [lf.name for lf in collect([module])] == ["fragile"]
