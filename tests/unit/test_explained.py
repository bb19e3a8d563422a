"""A deployment explains itself from its state: functions as they stand, and single examples."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from stream.assembly import pipeline_spec
from stream.config import Settings
from stream.control import Switches, Told
from stream.events import CONTROL, EVENTS, GOLD, LABELS, LfSwitch
from stream.explained import Explained, explained
from stream.merged_view import MergedView
from stream.pipeline import PartitionPipeline
from stream.records import RecordBatch
from stream.runner import PartitionRunner
from stream.state import Epoch
from stream.stores.memory import MemoryStore

TS = 1_700_000_000.0


class Deployment:
    """One partition that runs, and what explains it."""

    def __init__(self, store: MemoryStore, **settings: Any) -> None:
        self.store = store
        self.spec = pipeline_spec(Settings(**settings))
        self.pipeline = PartitionPipeline(self.spec, 0)
        self.runner = PartitionRunner(self.pipeline, store, 0, Epoch(0, "owner"))
        self.offsets = dict(self.pipeline.next_offsets)
        self.labels: list[dict[str, Any]] = []

    def take(self, topic: str, *values: dict[str, Any]) -> None:
        first = self.offsets.get(topic, 0)
        self.offsets[topic] = first + len(values)
        lines = [orjson.dumps(value) for value in values]
        batch = RecordBatch(topic, 0, range(first, first + len(lines)), lines, [TS] * len(lines))
        for record in self.runner.run(batch).outgoing():
            if record.topic == LABELS:
                self.labels.append(orjson.loads(record.value))

    def explained(self) -> Explained:
        self.runner.checkpoint()
        return explained(self.store, self.spec, MergedView(self.store, self.spec))

    def row(self, name: str) -> dict[str, Any]:
        (found,) = [row for row in self.explained().lfs.read() if row["name"] == name]
        return found


def event(n: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"event_id": f"e{n}", "type": kind, "ts": TS + n, "user_id": "u1", "item_id": "i1"} | (
        fields
    )


def switch(enabled: bool, ts: float = TS, **fields: Any) -> dict[str, Any]:
    order = {"kind": "lf", "name": "clicked", "enabled": enabled, "ts": ts, "who": "ann"}
    return order | {"why": "new page layout"} | fields


@pytest.mark.parametrize(
    ("orders", "told"),
    [
        ([], None),
        ([switch(False)], Told(TS, "ann", "new page layout")),
        ([switch(False), switch(True, TS + 1, who="bob")], Told(TS + 1, "bob", "new page layout")),
        # The narrowest order decides, also about who is named; a wider one replaces it.
        (
            [switch(False), switch(True, TS + 1, task="relevance", why="here only")],
            Told(TS + 1, "ann", "here only"),
        ),
        (
            [switch(False, task="relevance"), switch(True, TS + 1)],
            Told(TS + 1, "ann", "new page layout"),
        ),
        ([switch(False, task="another")], None),
    ],
)
def test_who_decided_about_a_function_survives_a_restart(
    orders: list[dict[str, Any]], told: Told | None
) -> None:
    switches = Switches()
    for order in orders:
        switches.apply(LfSwitch.model_validate(order))
    restored = Switches()
    restored.load(switches.to_bytes())
    for one in (switches, restored):
        assert one.told("relevance", "clicked", 2) == told
        assert one.told("relevance", "viewed", 1) is None


def test_functions_are_described_with_what_they_are_worth() -> None:
    running = Deployment(MemoryStore())
    running.take(EVENTS, event(0, "impression"), event(1, "click"), event(2, "purchase"))
    rows = running.explained().lfs.read()
    assert [row["name"] for row in rows] == [lf.name for lf in running.spec.tasks[0].lfs]
    (row,) = [row for row in rows if row["name"] == "purchased"]
    assert (row["task"], row["family"], row["form"]) == ("relevance", "behaviour", "lf")
    assert row["enabled"] and row["switched"] is None and row["off_in_partitions"] == []
    assert all(row["documentation"][part] for part in ("summary", "rationale", "sources"))
    assert row["documentation"]["known_errors"]
    view = MergedView(running.store, running.spec).read()["tasks"]["relevance"]["lfs"]
    (live,) = [one for one in view if one["name"] == "purchased"]
    assert row["figures"] == {k: v for k, v in live.items() if k in row["figures"]}
    assert {"coverage", "overlap", "conflict", "estimated_accuracy", "failures"} <= set(
        row["figures"]
    )


def test_every_built_in_function_documents_itself_section_by_section() -> None:
    for row in Deployment(MemoryStore()).explained().lfs.read():
        assert all(row["documentation"].values()), row["name"]


def test_a_switch_shows_with_who_and_why_and_after_a_restart() -> None:
    store = MemoryStore()
    running = Deployment(store)
    running.take(CONTROL, switch(False))
    row = running.row("clicked")
    assert row["enabled"] is False
    assert row["switched"] == {"ts": TS, "who": "ann", "why": "new page layout"}
    assert running.row("viewed")["enabled"] is True
    assert Deployment(store).row("clicked") == row


def test_what_the_settings_switch_off_is_off_before_anything_was_saved() -> None:
    spec = pipeline_spec(Settings(lfs={"disabled": ["clicked"]}))
    store = MemoryStore()
    rows = explained(store, spec, MergedView(store, spec)).lfs.read()
    assert [row["name"] for row in rows if not row["enabled"]] == ["clicked"]
    (row,) = [row for row in rows if row["name"] == "clicked"]
    assert row["switched"]["why"] == "lfs.disabled in the settings"


def test_an_example_has_the_votes_of_its_last_label() -> None:
    running = Deployment(MemoryStore())
    running.take(
        EVENTS,
        event(0, "impression", request_id="r1", position=2, propensity=0.5, segment="new"),
        event(1, "click", request_id="r1", context={"device": "phone"}),
        event(2, "purchase", request_id="r1", value=9.0),
    )
    (label,) = running.labels
    # Published at the first feedback; the purchase was learned since.
    found = running.explained().examples.find(label["example_id"])
    assert found is not None
    assert (found["user_id"], found["item_id"], found["segment"]) == ("u1", "i1", "new")
    assert (found["stage"], found["revision"]) == ("provisional", label["revision"])
    assert found["context"] == {"device": "phone"}
    join = found["join"]
    assert (join["opened_ts"], join["first_feedback_ts"], join["last_ts"]) == (TS, TS + 1, TS + 2)
    assert (join["position"], join["propensity"], join["closed"]) == (2, 0.5, False)
    assert join["closes_ts"] > TS and join["forgotten_ts"] is None
    assert found["evidence"]["purchases"] == 1
    task = found["labels"]["relevance"]
    assert task["stage"] == "provisional" and task["gold"] is None
    assert [{**vote, "weight": 0} for vote in task["votes"]] == [
        {**vote, "weight": 0} for vote in label["votes"]
    ]
    # Judged by the model as it stands: it has learned this very example since.
    assert task["votes"] and task["confidence"] == max(task["probabilities"].values())
    assert task["probabilities"] == pytest.approx(label["probabilities"], abs=0.05)
    for vote, published in zip(task["votes"], label["votes"], strict=True):
        assert vote["weight"] == pytest.approx(published["weight"], abs=0.2)
    assert task["model_version"].split("-")[0] == label["model_version"].split("-")[0]


def test_a_gold_answer_stands_in_the_example() -> None:
    running = Deployment(MemoryStore())
    running.take(EVENTS, event(0, "impression"), event(1, "click"))
    (label,) = running.labels
    answer = {"example_id": label["example_id"], "task": "relevance", "label": "negative"}
    running.take(GOLD, answer | {"annotator": "ann", "ts": TS + 2, "reason": "asked"})
    running.take(EVENTS, event(5, "click", item_id="i2"))
    found = running.explained().examples.find(label["example_id"])
    assert found is not None
    task = found["labels"]["relevance"]
    assert (task["stage"], task["gold"], task["confidence"]) == ("revised", "negative", 1.0)
    assert task["probabilities"] == running.labels[1]["probabilities"]
    assert found["revision"] == running.labels[1]["revision"]


def test_an_exposure_without_a_label_says_so() -> None:
    running = Deployment(MemoryStore())
    running.take(EVENTS, event(0, "click", item_id="other"), event(1, "impression"))
    (label,) = running.labels
    examples = running.explained().examples
    name = next(
        f"{key.hex()}{example.hash:016x}"
        for key, user in running.pipeline.join.by_key.items()
        for example in user.examples.values()
        if example.item_id == "i1"
    )
    assert name != label["example_id"]
    found = examples.find(name)
    assert found is not None and found["stage"] == "open" and found["revision"] is None
    for task in found["labels"].values():
        assert task["stage"] is None and task["probabilities"] is None and task["votes"] == []


def test_an_example_of_older_functions_is_read_in_their_layout() -> None:
    store = MemoryStore()
    running = Deployment(store)
    running.take(EVENTS, event(0, "impression"), event(1, "click"))
    (label,) = running.labels
    running.runner.checkpoint()
    later = Deployment(store, lfs={"families": ["behaviour"]})
    found = later.explained().examples.find(label["example_id"])
    assert found is not None
    votes = found["labels"]["relevance"]["votes"]
    assert [(vote["lf"], vote["vote"]) for vote in votes] == [
        (vote["lf"], vote["vote"]) for vote in label["votes"]
    ]


@pytest.mark.parametrize("name", ["", "x", "0" * 35, "0" * 36, "g" * 36, "A" * 36])
def test_an_unknown_example_is_none(name: str) -> None:
    running = Deployment(MemoryStore())
    running.take(EVENTS, event(0, "click"))
    examples = running.explained().examples
    assert examples.find(name) is None
    assert examples.find(running.labels[0]["example_id"][:20] + "0" * 16) is None
