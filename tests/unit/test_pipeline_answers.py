"""Gold answers and decisions in a partition: what they meet, and what they change."""

from __future__ import annotations

import orjson

from stream.assembly import pipeline_spec
from stream.config import Settings
from stream.events import DECISIONS, GOLD
from stream.partitioning import partition_for
from stream.pipeline import PartitionPipeline
from stream.records import RecordBatch
from stream.user_state import UserState
from tests.unit.partition_harness import DAY_S, NOW, Partition, T, event, gold, spec


def test_a_second_opinion_is_not_scored_as_if_the_model_had_said_the_first() -> None:
    partition = Partition(spec())
    partition.run(event(1, "click", T))
    partition.run(gold(1, "positive", T + 1.0), gold(1, "negative", T + 2.0), topic=GOLD)
    labels = partition.run(event(2, "click", T + 3.0, "v"))
    answered = [label for label in labels if label["reason"] == "gold"]
    assert [label["probabilities"]["positive"] for label in answered] == [1.0, 0.0]
    assert [label["revision"] for label in answered] == [1, 2]
    quality = partition.pipeline.labelling.tasks["relevance"].quality
    assert (quality.n, quality.correct) == (1, 1)


def test_the_weights_of_a_gold_label_belong_to_its_votes() -> None:
    partition = Partition(spec())
    partition.run(event(1, "click", T))
    # Coming straight back changes what would be voted now, not what was learned.
    partition.run(event(2, "view", T + 2.0, item_id="other"))
    partition.run(gold(1, "positive", T + 3.0), topic=GOLD)
    labels = partition.run(event(3, "search", T + 4.0))
    (label,) = [label for label in labels if label["reason"] == "gold"]
    assert label["votes"]
    assert all(vote["weight"] != 0.0 for vote in label["votes"])


def test_gold_stands_whatever_happens_afterwards_and_counts_one_revision_each() -> None:
    partition = Partition(spec())
    labels = partition.run(event(1, "impression", T))
    partition.run(gold(1, "negative", T + 1.0), topic=GOLD)
    for number, kind in enumerate(("click", "purchase"), 2):
        labels += partition.run(event(number, kind, T + 10.0 * number))
    labels += partition.run(event(9, "search", T + 90 * DAY_S))
    mine = [label for label in labels if label["item_id"] == "i"]
    assert [label["revision"] for label in mine] == list(range(len(mine)))
    assert {label["probabilities"]["positive"] for label in mine} == {0.0}
    assert mine[-1]["stage"] == "final"


def test_gold_for_unknown_examples_tasks_and_classes_harms_nobody() -> None:
    partition = Partition(spec())
    partition.run(event(1, "click", T))
    told = partition.run(
        gold(99, "positive", T + 1.0),
        gold(1, "maybe", T + 1.0) + b"\n" + gold(1, "positive", T + 1.0, task="nothing"),
        topic=GOLD,
    )
    # What is no class, and what is no task, is a bad record; whose example is gone is none.
    assert [(letter["line"], letter["field"], letter["reason"]) for letter in told] == [
        (1, "label", "is no class of relevance; found 'maybe', allowed: negative, positive"),
        (2, "task", "is unknown; found 'nothing', allowed: relevance"),
    ]
    assert told[1]["value"] == gold(1, "positive", T + 1.0, task="nothing").decode()
    partition.run(event(2, "click", T + 5.0))
    quality = partition.pipeline.labelling.tasks["relevance"].quality
    assert (quality.n, quality.unmatched) == (0, 1)


def made(ts: float, user: str = "u", request: str = "r", propensity: float = 0.25) -> bytes:
    place = {"item_id": "i", "position": 1, "propensity": propensity}
    return orjson.dumps(
        {"request_id": request, "user_id": user, "ts": ts, "policy": "softmax", "items": [place]}
    )


def test_it_does_not_matter_which_topic_was_fetched_first() -> None:
    """A decision waits for the first event after it; who was never heard of is no exception."""
    shown = [
        event(n, "impression", T + n, user, request_id="r", propensity=1.0)
        for n, user in ((1, "u"), (2, "v"))
    ]
    clicks = [event(3, "click", T + 3.0, request_id="r")]
    early, late, between = (Partition(spec()) for _ in range(3))
    early.run(made(T - 5.0), made(T - 4.0, "v"), topic=DECISIONS)
    assert early.pipeline.counts.consumed[DECISIONS] == 2
    early.runner.checkpoint()
    assert not early.users(), "it waits"
    early = Partition(spec(), early.store)
    early.run(*shown, *clicks)
    late.run(*shown, *clicks)
    late.run(made(T - 5.0), made(T - 4.0, "v"), topic=DECISIONS)
    between.run(*shown[:1])
    between.run(made(T - 5.0), made(T - 4.0, "v"), topic=DECISIONS)
    between.run(*shown[1:], *clicks)
    for one in (early, late, between):
        one.runner.checkpoint()
        assert len(one.users()) == 2
        for key, data in one.users().items():
            [example] = UserState.from_bytes(data, key)[0].examples.values()
            assert (example.evidence[20], example.policy) == (0.25, "softmax")


def test_a_decision_about_somebody_elsewhere_is_sent_on() -> None:
    of = pipeline_spec(Settings(), partitions=8)
    home = partition_for(b"u", 8)
    for number in range(8):
        pipeline = PartitionPipeline(of, number)
        batch = RecordBatch(DECISIONS, number, [0], [made(T)], [NOW])
        effects = pipeline.process(pipeline.prepare(batch), {})
        sent = [(record.topic, record.key) for record in effects.outgoing()]
        assert sent == ([] if number == home else [(DECISIONS, b"u")])
        if number != home:
            again = RecordBatch(DECISIONS, home, [0], [effects.outgoing()[0].value], [NOW])
            assert len(PartitionPipeline(of, home).prepare(again).decisions) == 1


def test_a_decision_that_is_none_becomes_a_dead_letter() -> None:
    [letter] = Partition(spec()).run(b'{"request_id":"r","user_id":"u","ts":1}', topic=DECISIONS)
    assert letter["field"] == "policy"
