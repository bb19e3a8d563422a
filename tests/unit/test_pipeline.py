"""The pipeline around the join: who is loaded, what is saved, what a restart may change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from stream.assembly import pipeline_spec
from stream.config import Settings
from stream.events import EVENTS, GOLD
from stream.evidence import COLUMNS
from stream.ids import user_key
from stream.partitioning import partition_for
from stream.peers import RECOMMENDER_CHUNKS, Peers
from stream.pipeline import PartitionPipeline, PipelineSpec
from stream.quality import LabelQuality
from stream.records import RecordBatch
from stream.replay import Replay
from stream.report import report
from stream.state import PartitionHead, SharedChunk, StoreError
from stream.stored_evidence import unpacked_row
from stream.stores.memory import MemoryStore
from stream.user_state import USER_FORMAT, UserState, stored_history
from tests.unit.partition_harness import DAY_S, EPOCH, NOW, Partition, T, event, gold, spec


def test_who_is_forgotten_and_comes_back_in_one_batch_is_no_stranger_to_the_pipeline() -> None:
    partition = Partition(spec())
    partition.run(event(1, "click", T))
    partition.run(event(2, "click", T + 200 * DAY_S, "v"), event(3, "click", T + 200 * DAY_S))
    partition.runner.checkpoint()
    assert set(partition.users()) == {user_key("u"), user_key("v")}


@pytest.mark.parametrize("when", ["before the cut", "while the cut is being saved"])
def test_the_stored_state_of_the_forgotten_is_not_taken_up_again(when: str) -> None:
    expected = Partition(spec())
    partition = Partition(spec(worker={"cached_users": 1}))
    for one in (expected, partition):
        one.run(event(1, "click", T))
        one.runner.checkpoint()
    expected.run(event(2, "click", T + 200 * DAY_S, "v"))
    expected.runner.checkpoint()
    expected.run(event(3, "click", T + 200 * DAY_S + 1.0))
    expected.runner.checkpoint()

    partition.run(event(2, "click", T + 200 * DAY_S, "v"))
    cut = partition.pipeline.cut() if when == "while the cut is being saved" else None
    partition.run(event(3, "click", T + 200 * DAY_S + 1.0))
    if cut is not None:
        partition.store.save(cut, EPOCH)
        partition.pipeline.saved()
    partition.runner.checkpoint()
    assert partition.users() == expected.users()


def test_a_chunk_that_did_not_change_is_written_once() -> None:
    partition = Partition(spec())
    seldom = {"own/decisions", "own/gold", "own/label-answers/relevance"}
    held = []
    for number in range(3):
        partition.run(event(number, "click", T + number))
        if number == 1:
            partition.run(gold(0, "negative", T + 0.5), topic=GOLD)
        checkpoint = partition.pipeline.cut()
        partition.store.save(checkpoint, EPOCH)
        partition.pipeline.saved()
        held.append(checkpoint.chunks.keys())
    assert seldom <= held[0]
    # The second time, an answer was learned.
    assert [seldom & names for names in held[1:]] == [{"own/label-answers/relevance"}, set()]
    assert "own/labels/relevance" in held[1]
    assert "own/clock" in held[1] & held[2]
    again = PartitionPipeline(spec(), 0)
    again.restore(partition.store.claim(0, EPOCH))
    assert again.shared() == partition.pipeline.shared()


@pytest.mark.parametrize("save_every", [1, 5])
def test_people_in_memory_are_bounded(save_every: int) -> None:
    partition = Partition(spec(worker={"cached_users": 40}))
    for number in range(60):
        lines = [event(n, "click", T + n, f"u{n}") for n in range(10 * number, 10 * number + 10)]
        partition.run(*lines)
        if number % save_every == 0:
            partition.runner.checkpoint()
        assert len(partition.pipeline.join.resident) <= 40 + 40 // 4 + 10 * (save_every + 1)


def test_a_save_that_fails_is_repeated_before_what_came_after_it() -> None:
    class Failing(MemoryStore):
        fail = False

        def save(self, *args: Any) -> None:
            if self.fail:
                raise ConnectionError
            super().save(*args)

    store = Failing()
    partition, expected = Partition(spec(), store), Partition(spec())
    partition.run(event(1, "click", T))
    store.fail = True
    with pytest.raises(ConnectionError):
        partition.runner.checkpoint()
    store.fail = False
    partition.run(event(2, "purchase", T + 1.0), event(3, "click", T + 2.0, "v"))
    partition.runner.checkpoint()
    partition.runner.checkpoint()
    expected.run(
        event(1, "click", T), event(2, "purchase", T + 1.0), event(3, "click", T + 2.0, "v")
    )
    expected.runner.checkpoint()
    assert partition.users() == expected.users()


def test_no_tick_before_the_first_event_and_none_for_gold_of_the_future() -> None:
    partition = Partition(spec())
    partition.run(gold(1, "positive", T + 100.0), topic=GOLD)
    assert partition.pipeline.tick(1e6) is None
    partition.run(event(1, "impression", T))
    assert partition.pipeline.tick(50.0) is None
    tick = partition.pipeline.tick(200.0)
    assert tick is not None
    (label,) = partition.run(tick.value)
    assert (label["stage"], label["reason"]) == ("revised", "gold")


def test_tasks_of_many_classes_and_without_functions_are_labelled() -> None:
    partition = Partition(spec(tasks={"kind": {"classes": ["a", "b", "c"]}}))
    labels = partition.run(event(1, "click", T))
    partition.run(gold(1, "c", T + 1.0, task="kind"), topic=GOLD)
    labels += partition.run(event(2, "search", T + 5.0))
    kinds = [label for label in labels if label["task"] == "kind"]
    assert [label["probabilities"]["c"] for label in kinds] == [pytest.approx(1 / 3, abs=1e-5), 1.0]


def _with_lfs(base: PipelineSpec, names: Sequence[str]) -> PipelineSpec:
    task = base.tasks[0]
    by_name = {lf.name: lf for lf in task.lfs}
    return replace(base, tasks=[replace(task, lfs=tuple(by_name[name] for name in names))])


def test_figures_of_functions_follow_their_names_through_a_restart() -> None:
    first = Partition(_with_lfs(spec(), ["clicked", "purchased"]))
    first.run(event(1, "click", T))
    first.run(gold(1, "positive", T + 1.0), topic=GOLD)
    first.run(event(2, "search", T + 2.0))
    first.runner.checkpoint()
    second = Partition(_with_lfs(spec(), ["rated", "clicked"]), first.store)
    second.run(event(3, "purchase", T + 3.0))
    second.runner.checkpoint()
    found = report([second.pipeline], seconds=1.0, peak_rss_bytes=0)["lfs"]
    assert list(found) == ["rated", "clicked"]
    assert found["rated"]["gold_accuracy"] is None
    assert found["clicked"]["gold_accuracy"] == 1.0


def test_a_task_whose_classes_change_begins_anew() -> None:
    before = Partition(spec(tasks={"kind": {"classes": ["a", "b", "c"]}}))
    before.run(event(1, "click", T))
    before.run(gold(1, "a", T + 1.0, task="kind"), topic=GOLD)
    before.run(event(2, "search", T + 2.0))
    before.runner.checkpoint()
    others = before.pipeline.labelling.contributions(7)
    after = Partition(spec(tasks={"kind": {"classes": ["x", "y"]}}), before.store)
    after.pipeline.take_in(others)
    labels = after.run(event(3, "purchase", T + 3.0))
    assert {label["task"] for label in labels} <= {"relevance", "kind"}
    after.runner.checkpoint()
    found = report([after.pipeline], seconds=1.0, peak_rss_bytes=0)["labels"]
    assert found["kind"]["gold"]["n"] == 0
    assert found["relevance"]["count"] > found["kind"]["count"]


def test_what_comes_while_others_are_read_whole_does_not_hide_them() -> None:
    shared = pipeline_spec(Settings(), partitions=2)
    peers = Peers(shared.recommender.config, awaits=True)
    here = PartitionPipeline(shared, 0, peers=peers)
    there = PartitionPipeline(shared, 1)
    users = {partition_for(name.encode(), 2): name for name in "abcdefgh"}
    offsets = [0, 0]

    def click(pipeline: PartitionPipeline) -> None:
        at, partition = offsets[pipeline.partition], pipeline.partition
        offsets[partition] += 1
        line = event(at, "click", T + at, users[partition], item_id=f"i{at}")
        pipeline.process(pipeline.prepare(RecordBatch(EVENTS, partition, [at], [line], [NOW])), {})

    told: dict[str, bytes | None] = {}
    for _ in range(2):
        click(there)
        latest = dict(there.cut().chunks)
        there.saved()
        told |= latest
    updates = [
        SharedChunk(1, name, 2, data)
        for name, data in latest.items()
        if name.startswith("peers/") and data is not None
    ]
    # The first update was missed, so the partition is needed whole.
    assert here.take_in(updates) == RECOMMENDER_CHUNKS
    click(here)
    # Whatever this process looks at, or saves, meanwhile.
    here.settle()
    assert peers.world.lacking
    whole = [
        SharedChunk(1, name, 2, data)
        for name, data in told.items()
        if name.startswith(RECOMMENDER_CHUNKS) and data is not None
    ]
    assert here.take_in(whole, whole=True) is None
    assert peers.world.positions() == {0: 1, 1: 2}
    assert peers.world.core.n_items == 2


def test_a_newcomer_is_told_when_others_have_learned_nothing() -> None:
    shared = pipeline_spec(Settings(), partitions=2)
    before = PartitionPipeline(shared, 0, peers=Peers(shared.recommender.config))
    line = event(0, "click", T, "a")
    before.process(before.prepare(RecordBatch(EVENTS, 0, [0], [line], [NOW])), {})
    chunks = {name: data for name, data in before.cut().chunks.items() if data is not None}
    peers = Peers(shared.recommender.config, awaits=True)
    after = PartitionPipeline(shared, 0, peers=peers)
    after.restore(PartitionHead(0, {EVENTS: 1}, (), chunks))
    assert after.take_in([]) == RECOMMENDER_CHUNKS
    assert after.take_in([], whole=True) is None
    assert peers.world.core.n_items == 1


def test_a_frozen_pipeline_learns_nothing_and_labels_all_the_same() -> None:
    partition = Partition(spec(learn=False))
    model = partition.pipeline.labelling.tasks["relevance"].model
    untouched = model.own_stats()
    labels = partition.run(event(1, "click", T))
    partition.run(gold(1, "negative", T + 1.0), topic=GOLD)
    labels += partition.run(event(2, "purchase", T + 5.0))
    assert [label["stage"] for label in labels] == ["provisional", "revised"]
    assert labels[1]["probabilities"]["negative"] == 1.0
    assert model.own_stats() == untouched


def test_closing_answers_gold_about_people_who_left_memory(tmp_path: Any) -> None:
    path, answers = tmp_path / "events.ndjson", tmp_path / "gold.ndjson"
    lines = [event(n, "click", T + n, f"u{n}" if n != 1 else "u") for n in range(200)]
    path.write_bytes(b"\n".join(lines))
    answers.write_bytes(gold(1, "positive", T + DAY_S))
    run = Replay(spec(worker={"cached_users": 10}), block=20)
    run.read_gold(answers)
    run.read_events([path])
    assert user_key("u") not in run.pipelines[0].join.by_key
    run.close_windows()
    run.answer_rest()
    assert run.report()["labels"]["relevance"]["gold"]["n"] == 1


def test_functions_of_one_name_in_two_tasks_are_reported_apart() -> None:
    votes = ["said", "intent:said", "intent:alone"]
    run = Replay(spec(tasks={"intent": {"classes": ["a", "b"]}}, lfs={"context_votes": votes}))
    lfs = run.report()["lfs"]
    assert {"relevance/said", "intent/said", "alone", "clicked"} <= set(lfs)
    assert "said" not in lfs


def test_a_replay_goes_on_from_a_store(tmp_path: Any) -> None:
    parts = []
    for part in range(2):
        path = tmp_path / f"{part}.ndjson"
        path.write_bytes(
            b"\n".join(event(n, "click", T + DAY_S * n, "u") for n in range(part, part + 2))
        )
        parts.append(path)
    store = MemoryStore()
    first = Replay(spec(), store=store)
    first.read_events(parts[:1])
    first.checkpoint()
    second = Replay(spec(), store=store)
    second.read_events(parts[1:])
    assert second.report()["duplicates"] == 1


@pytest.mark.parametrize("chunk", ["own/labels/relevance", "share/drift", "share/counts"])
def test_a_newer_state_of_a_partition_is_refused(chunk: str) -> None:
    partition = Partition(spec())
    partition.run(event(1, "click", T))
    partition.runner.checkpoint()
    chunks = partition.store.claim(0, EPOCH).chunks
    newer = {"kind": "headrace label model", "version": 99, "format": 99}
    stored = msgspec.msgpack.encode([99] if chunk == "share/drift" else newer)
    head = PartitionHead(0, {EVENTS: 1}, (), {**chunks, chunk: stored})
    # What refuses ends with a line that says so, and exit code 2.
    with pytest.raises(StoreError, match="the state of partition 0 cannot be read: .*up to"):
        PartitionPipeline(spec(), 0).restore(head)


@pytest.mark.parametrize("change", ["format", "format and types", "columns"])
def test_a_newer_state_of_a_person_is_refused_with_the_remedy(change: str) -> None:
    user = UserState("u", user_key("u"))
    fields = msgspec.msgpack.decode(user.to_bytes("layout"))
    if change == "columns":
        fields[11] = [[1, "i", bytes(8 * 99), 0.0, 0, 0, False, b"", None, {}]]
    else:
        fields[0] = USER_FORMAT + 1
        if change == "format and types":
            fields[3] = {"last": 1.0}
    stored = msgspec.msgpack.encode(fields)
    with pytest.raises(ValueError, match="run the newer version"):
        UserState.from_bytes(stored, user.key)
    if change != "columns":
        with pytest.raises(ValueError, match="run the newer version"):
            stored_history(stored)


def test_half_a_state_of_a_person_is_refused() -> None:
    stored = UserState("u", user_key("u")).to_bytes("layout")
    with pytest.raises(ValueError, match="cannot be read"):
        stored_history(stored[:-1])


@pytest.mark.parametrize("older", [1, 2, 3, 4, 5])
def test_a_person_stored_in_an_older_format_reads_the_same(older: int) -> None:
    partition = Partition(spec())
    partition.run(event(1, "impression", T), event(2, "click", T + 1.5))
    partition.runner.checkpoint()
    now = partition.users()[user_key("u")]
    fields = msgspec.msgpack.decode(now)
    assert fields[0] == USER_FORMAT == 6
    fields[0] = older
    for example in fields[11]:
        # Up to format 5 all columns of evidence were stored.
        example[2] = unpacked_row(example[2]).tobytes()
        assert len(example[2]) == 8 * len(COLUMNS)
    if older <= 3:
        # Before format 4 nobody kept decisions, or where revisions go on.
        del fields[13:]
    if older <= 2:
        # Up to format 2 a history was stored a hundred items wide, whatever was in it.
        used = 4 * fields[7]
        items, weights = fields[6][:used], fields[6][used:]
        assert used
        fields[6] = items.ljust(400, b"\xff") + weights.ljust(400, b"\0")
    if older == 1:
        for example in fields[11]:
            example[2] = np.frombuffer(example[2], dtype="<f8").tolist()
    stored = msgspec.msgpack.encode(fields)
    user, layout = UserState.from_bytes(stored, user_key("u"))
    assert user.to_bytes(layout) == now
    assert stored_history(stored) == (user.packed_history, user.segment)


def test_quality_is_the_same_after_bytes() -> None:
    quality = LabelQuality(("no", "yes"), ("a@1", "b@1"))
    quality.labels, quality.class_mass = 1, np.array([0.25, 0.75])
    quality.answer(np.array([0.25, 0.75]), np.array([1, -1], dtype=np.int8), 1)
    fields = msgspec.msgpack.decode(quality.to_bytes())
    assert LabelQuality.from_bytes(msgspec.msgpack.encode([1, *fields[1:10]])).classes == ()
    with pytest.raises(ValueError, match="run the newer version"):
        LabelQuality.from_bytes(msgspec.msgpack.encode([3, *fields[1:]]))
    again = LabelQuality.from_bytes(quality.to_bytes())
    assert again.to_bytes() == quality.to_bytes()
    assert again.with_lfs(["b@1", "a@1"]).lf_gold.tolist() == [[0, 0], [1, 1]]
