"""The stage of late rewards: what is learned once, what is not, and what survives a restart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest

from monitoring.feed import CountsFeed, feed
from monitoring.metrics import Metrics
from stream.assembly import pipeline_spec
from stream.config import Settings, SettingsError, load_settings
from stream.events import EVENTS
from stream.pipeline import PartitionPipeline, PipelineSpec
from stream.records import RecordBatch
from stream.report import report
from stream.rewards import REWARDS_CHUNK, Rewards, delay_report
from stream.runner import PartitionRunner
from stream.state import Epoch
from stream.stores.memory import MemoryStore
from stream.user_state import Example

T = 1_700_000_000.0
HOUR_S, DAY_S = 3_600.0, 86_400.0
EPOCH = Epoch(1, "one")


def spec(**sections: Any) -> PipelineSpec:
    return pipeline_spec(Settings(**sections), partitions=1)


class Partition:
    """A partition over a store that survives it; every event has an id of its own."""

    def __init__(self, of: PipelineSpec | None = None, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.pipeline = PartitionPipeline(of or spec(), 0)
        self.runner = PartitionRunner(self.pipeline, self.store, 0, EPOCH)

    @property
    def rewards(self) -> Rewards:
        return self.pipeline.rewards

    def run(self, *events: dict[str, Any]) -> None:
        first = self.pipeline.next_offsets.get(EVENTS, 0)
        lines = [
            orjson.dumps({"event_id": f"e{first + n}", "user_id": "u", "item_id": "i"} | event)
            for n, event in enumerate(events)
        ]
        offsets = range(first, first + len(lines))
        self.runner.run(RecordBatch(EVENTS, 0, offsets, lines, [T + 400 * DAY_S] * len(lines)))

    def scores(self) -> dict[str, tuple[int, int]]:
        return {
            name: (head.score.n, head.score.positives) for name, head in self.rewards.heads.items()
        }

    def example(self) -> Example:
        self.rewards.flush()
        (example,) = self.pipeline.join.resident["u"].examples.values()
        return example


def shown(ts: float = T, **more: Any) -> dict[str, Any]:
    return {"type": "impression", "ts": ts, "request_id": "r", **more}


def answer(kind: str, ts: float, **more: Any) -> dict[str, Any]:
    return {"type": kind, "ts": ts, "request_id": "r", **more}


JOURNEY = [
    shown(),
    answer("click", T + 5),
    answer("purchase", T + HOUR_S, value=30.0),
    answer("return", T + 2 * DAY_S),
]


@pytest.mark.parametrize("together", [True, False])
def test_outcomes_arrive_once_and_are_taken_back(together: bool) -> None:
    partition = Partition()
    steps = [(shown(), (1, 0), (1, 0)), (answer("click", T + 5), (1, 1), (1, 0))]
    steps += [(answer("click", T + 6), (1, 1), (1, 0))]
    steps += [(answer("purchase", T + HOUR_S), (1, 1), (1, 1))]
    steps += [(answer("return", T + 2 * DAY_S), (1, 1), (1, 0))]
    steps += [(answer("return", T + 2 * DAY_S + 1), (1, 1), (1, 0))]
    if together:
        partition.run(*[event for event, _, _ in steps])
        steps = steps[-1:]
    for event, click, purchase in steps:
        if not together:
            partition.run(event)
        scores = partition.scores()
        assert (scores["click"], scores["purchase"]) == (click, purchase)


def test_what_is_repeated_or_replayed_changes_nothing() -> None:
    once, again = Partition(), Partition()
    once.run(*JOURNEY)
    again.run(*JOURNEY[:3], JOURNEY[2] | {"event_id": "e2"}, JOURNEY[3])
    assert once.scores() == again.scores()
    assert once.example().reward == again.example().reward


def test_a_click_without_exposure_is_no_click_learned() -> None:
    partition = Partition()
    partition.run({"type": "view", "ts": T}, {"type": "purchase", "ts": T + 60})
    assert partition.scores()["click"] == (0, 0)
    assert partition.scores()["purchase"] == (1, 1)


def test_what_comes_after_the_window_is_counted_not_learned() -> None:
    partition = Partition(spec(rewards={"outcomes": {"click": {"window_s": 60}}}))
    partition.run(shown(), answer("click", T + 61))
    assert partition.scores()["click"] == (1, 0)
    assert partition.rewards.late["click"] == 1
    assert delay_report([partition.rewards])["outcomes"]["click"]["late"] == 1


@pytest.mark.parametrize("split", [True, False])
def test_coming_back_belongs_to_the_last_visit(split: bool) -> None:
    partition = Partition()
    events = [
        shown(T),
        shown(T + 600, request_id="q"),
        shown(T + DAY_S, request_id="s"),
        shown(T + 20 * DAY_S, request_id="t"),
    ]
    for event in [[event] for event in events] if split else [events]:
        partition.run(*event)
    # Three visits; the second came of the first, the third too late to be of the second.
    assert partition.scores()["retention"] == (3, 1)
    assert partition.rewards.late["retention"] == 1


def test_a_restart_goes_on_where_it_was() -> None:
    whole, first = Partition(), Partition()
    for event in JOURNEY:
        whole.run(event)
    for event in JOURNEY[:2]:
        first.run(event)
    first.runner.checkpoint()
    second = Partition(store=first.store)
    for event in JOURNEY[2:]:
        second.run(event)
    assert second.scores() == whole.scores()
    for name, head in whole.rewards.heads.items():
        assert second.rewards.heads[name].to_bytes() == head.to_bytes()
    assert second.rewards.seen == whole.rewards.seen


def test_what_still_waits_is_part_of_a_checkpoint() -> None:
    """Rows wait for some hundreds of others; a cut must not leave them, or the example, behind."""
    waiting, looked = Partition(), Partition()
    for partition in (waiting, looked):
        for event in JOURNEY[:2]:
            partition.run(event)
    assert looked.rewards.seen == 1
    cuts = [partition.pipeline.cut() for partition in (waiting, looked)]
    assert cuts[0].users == cuts[1].users
    rewards = [{n: c for n, c in cut.chunks.items() if "rewards" in n} for cut in cuts]
    assert rewards[0] == rewards[1]
    assert len(rewards[0]) > 1


def test_state_that_knew_no_rewards_is_taken_up() -> None:
    """Checkpoints without the chunk, and examples without the record, come from before."""
    old = Partition(spec(rewards={"enabled": False}))
    old.run(shown(), answer("click", T + 5))
    old.runner.checkpoint()
    assert not [name for name in old.store.claim(0, EPOCH).chunks if "rewards" in name]
    new = Partition(store=old.store)
    new.run(answer("purchase", T + HOUR_S), shown(T + HOUR_S + 1, request_id="q"))
    assert new.scores()["purchase"] == (1, 0)


def test_an_outcome_configured_anew_starts_anew() -> None:
    before = Partition()
    before.run(*JOURNEY[:2])
    before.runner.checkpoint()
    changed = spec(
        rewards={
            "outcomes": {"click": {"window_s": 60}, "like": {"events": ["like"], "window_s": "1d"}}
        }
    )
    after = Partition(changed, before.store)
    assert after.scores()["click"] == (0, 0)
    assert after.scores()["purchase"] == (1, 0)
    after.run(answer("purchase", T + HOUR_S), answer("like", T + HOUR_S))
    # The example was predicted under other outcomes: nothing is made of it.
    assert after.scores()["purchase"] == (1, 0)


def test_state_of_the_first_format_goes_on_as_it_was() -> None:
    before = Partition()
    before.run(*JOURNEY)
    chunks = before.rewards.dirty_chunks()
    content = msgspec.msgpack.decode(chunks[REWARDS_CHUNK])
    first = chunks | {REWARDS_CHUNK: msgspec.msgpack.encode((1, *content[1:4]))}
    for stored, number in ((chunks, before.rewards.number), (first, 0)):
        after = Rewards(spec().outcomes)
        after.load(stored)
        assert (after.seen, after.late, after.number) == (
            before.rewards.seen,
            before.rewards.late,
            number,
        )
        heads = [{n: h.to_bytes() for n, h in one.heads.items()} for one in (after, before.rewards)]
        assert heads[0] == heads[1]


def test_newer_state_is_refused() -> None:
    with pytest.raises(ValueError, match="newer version"):
        Rewards(spec().outcomes).load({REWARDS_CHUNK: b"\x94\x63\x00\x80\x80"})


def test_the_reward_is_worth_what_is_configured() -> None:
    outcomes = {
        "click": {"value": 2.0},
        "purchase": {"value": 0.5, "amount": True},
        "retention": {"value": 0.0},
    }
    partition = Partition(spec(rewards={"outcomes": outcomes}))
    for day in range(300):
        ts = T + day * 600
        name = {"request_id": f"r{day}", "user_id": f"u{day}"}
        partition.run(
            shown(ts, **name),
            answer("click", ts + 5, **name),
            answer("purchase", ts + 60, value=40.0, **name),
        )
    last = T + 300 * 600
    partition.run(shown(last))
    waiting = partition.rewards.expected(partition.example(), last)
    assert waiting is not None
    assert waiting == pytest.approx(2.0 + 0.5 * 40.0, rel=0.25)
    given_up = partition.rewards.expected(partition.example(), last + 30 * DAY_S)
    assert given_up == pytest.approx(0.0, abs=1e-6)
    partition.run(answer("click", last + 5))
    assert partition.rewards.expected(partition.example(), last + 30 * DAY_S) == pytest.approx(2.0)
    partition.run(answer("purchase", last + 60, value=40.0))
    bought = partition.rewards.expected(partition.example(), last + 30 * DAY_S)
    assert bought == pytest.approx(2.0 + 0.5 * 40.0, rel=0.1)
    partition.run(answer("return", last + DAY_S))
    assert partition.rewards.expected(partition.example(), last + 30 * DAY_S) == pytest.approx(2.0)
    assert partition.rewards.expected(Example(**_BLANK), last) is None


_BLANK: dict[str, Any] = {
    "hash": 1,
    "item_id": "i",
    "evidence": None,
    "deadline": 0.0,
    "stage": 0,
    "revision": 0,
    "engaged": False,
    "numbers": b"",
    "segment": None,
    "context": {},
}


def test_the_report_shows_what_is_still_to_come() -> None:
    partition = Partition()
    rng = np.random.default_rng(0)
    for number in range(400):
        ts = T + number * 600
        name = {"request_id": f"r{number}", "user_id": f"u{number % 40}"}
        partition.run(shown(ts, **name))
        if number % 4 == 0:
            partition.run(answer("click", ts + rng.exponential(60.0), **name))
    delay = report([partition.pipeline], seconds=1.0, peak_rss_bytes=0)["delay"]
    click = delay["outcomes"]["click"]
    assert (click["n"], click["arrived"]) == (400, 100)
    assert 0.0 < click["log_loss"] < 0.8
    assert 0.0 <= click["share_to_come"] < 0.3
    assert delay["log_loss"] > 0.0
    partition.runner.checkpoint()
    partition.run(shown(T + 400 * 600))
    metrics, growing = Metrics(process=False), CountsFeed(Metrics(process=False))
    feed(metrics, partition.pipeline.counts)
    told = metrics.value("outcomes_to_come_ratio", ("0", "click"))
    assert told == pytest.approx(click["share_to_come"])
    growing.update(0, partition.pipeline.counts)
    growing.end(0)


def test_nothing_is_learned_when_learning_is_off() -> None:
    frozen = Partition(replace(spec(), learn=False))
    frozen.run(*JOURNEY)
    head = frozen.rewards.heads["click"]
    assert not head.table.any()
    assert frozen.scores()["click"] == (1, 1)


def test_partitions_report_together() -> None:
    one, two = Partition(), Partition()
    one.run(*JOURNEY[:2])
    two.run(shown())
    both = delay_report([one.rewards, two.rewards])["outcomes"]["click"]
    assert (both["n"], both["arrived"]) == (2, 1)
    assert delay_report([Rewards(())]) == {"log_loss": None, "outcomes": {}}


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        ({"window_s": "1d"}, "events"),
        ({"window_s": "1d", "events": ["click"], "back_after_s": "1h"}, "events"),
        ({"window_s": "1h", "back_after_s": "2h"}, "back_after_s"),
        ({"window_s": "1d", "back_after_s": "2h"}, "only one may have back_after_s"),
        ({"window_s": "1d", "events": ["unheard"]}, "unknown event type"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(
    outcome: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(env={}, overrides={"rewards": {"outcomes": {"mine": outcome}}})
