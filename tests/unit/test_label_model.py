"""Edges of the label model: stages, gold, degenerate inputs, columns, snapshots."""

import copy

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from models import LabelModel
from models.checks import planted_votes
from models.label_model.snapshot import SNAPSHOT_VERSION, SnapshotError
from models.label_model.state import IN_BLOCK

CLASSES = ["no", "yes"]


def columns(n: int) -> list[str]:
    return [f"lf{j}" for j in range(n)]


class Table:
    """An example table, as the pipeline keeps one."""

    def __init__(self, size: int, m: int, n_classes: int) -> None:
        self.votes = np.full((size, m), -1, dtype=np.int8)
        self.proba = np.zeros((size, n_classes))
        self.clock = np.full(size, -1, dtype=np.int64)

    def step(
        self,
        model: LabelModel,
        votes: npt.ArrayLike,
        example: npt.ArrayLike,
        emit: bool = True,
        learn: bool = True,
    ) -> npt.NDArray[np.float64]:
        rows = np.array(votes, dtype=np.int8)
        return model.step_many(
            rows,
            np.array(example, dtype=np.int32),
            np.full(len(rows), emit),
            self.votes,
            self.proba,
            self.clock,
            learn,
        ).proba


def test_assessing_changes_nothing() -> None:
    model, table = LabelModel(CLASSES, columns(3)), Table(1, 3, 2)
    before = model.to_bytes()
    table.step(model, [[1, 0, 1]], [0], emit=False)
    assert model.to_bytes() == before
    assert table.clock[0] == -1


def test_a_later_stage_learns_the_difference() -> None:
    votes, _ = planted_votes(300, 4, 2)
    staged, whole = LabelModel(CLASSES, columns(4)), LabelModel(CLASSES, columns(4))
    early, once = Table(301, 4, 2), Table(301, 4, 2)
    early.step(staged, votes, np.arange(300))
    once.step(whole, votes, np.arange(300))
    early.step(staged, [[1, -1, -1, -1]], [300])
    early.step(staged, [[1, 1, -1, 0]], [300])
    once.step(whole, [[1, 1, -1, 0]], [300])
    assert staged.clock == whole.clock == 301
    assert np.allclose(staged.state.own.counts, whole.state.own.counts, atol=1e-9)
    assert np.allclose(staged.state.own.mass, whole.state.own.mass, atol=1e-9)
    assert np.array_equal(staged.state.own.cast, whole.state.own.cast)


def test_a_stage_repeated_within_a_block_changes_no_sum() -> None:
    votes, _ = planted_votes(7, 4, 2)
    model, table = LabelModel(CLASSES, columns(4)), Table(7, 4, 2)
    model.learn_many(planted_votes(320, 4, 2)[0])
    while model.state.counters[IN_BLOCK]:
        model.learn_many(votes[:1])
    before = model.clock
    table.step(model, votes, np.arange(7))
    counts = model.state.own.counts.copy()
    table.step(model, votes, np.arange(7))
    assert np.allclose(model.state.own.counts, counts, atol=1e-12)
    assert model.clock == before + 7


def test_frozen_examples_are_learned_whole_later() -> None:
    model, table = LabelModel(CLASSES, columns(2)), Table(1, 2, 2)
    before = model.to_bytes()
    table.step(model, [[1, 1]], [0], learn=False)
    assert model.to_bytes() == before
    assert table.clock[0] == -1
    table.step(model, [[1, 1]], [0])
    assert model.clock == 1


def test_views_of_a_table_are_written_back() -> None:
    votes, _ = planted_votes(40, 4, 2)
    plain, model = LabelModel(CLASSES, columns(4)), LabelModel(CLASSES, columns(4))
    one, two = Table(40, 4, 2), Table(40, 4, 2)
    one.step(plain, votes, np.arange(40))
    wide = np.zeros((40, 9))
    two.proba = wide[:, 3:5]
    two.step(model, votes, np.arange(40))
    assert np.array_equal(two.proba, one.proba)
    assert model.to_bytes() == plain.to_bytes()


def test_a_gold_answer_is_not_overruled_by_later_votes() -> None:
    votes, _ = planted_votes(100, 4, 2)
    model, table = LabelModel(CLASSES, columns(4)), Table(100, 4, 2)
    table.step(model, votes, np.arange(100))
    table.proba[5] = model.gold_step(table.votes[5], 1, table.proba[5], int(table.clock[5]))
    assert table.proba[5].tolist() == [0.0, 1.0]
    table.step(model, [[0, 0, 0, 0]], [5])
    assert table.proba[5].tolist() == [0.0, 1.0]


def test_stages_of_first_examples_survive_their_second_look() -> None:
    votes, _ = planted_votes(150, 6, 2)
    model, table = LabelModel(CLASSES, columns(6), form="crowd"), Table(150, 6, 2)
    table.step(model, votes, np.arange(150))
    table.step(model, np.full((150, 6), -1), np.arange(150))
    assert np.abs(model.state.own.counts).max() < 1e-9


def test_silence_is_the_prior() -> None:
    model = LabelModel(CLASSES, columns(3), prior=[0.9, 0.1])
    model.learn_many(planted_votes(100, 3, 2)[0])
    assert np.allclose(model.predict_proba_many([[-1, -1, -1]]), [[0.9, 0.1]])


def annotated(
    n: int, share: list[float], seed: int = 0, misleading: float = 0.0, known: float = 0.8
) -> npt.NDArray[np.int8]:
    """Return the votes of six annotators on classes of these shares, who know some and guess.

    Four in five votes on a misleading example go to the wrong class that it suggests.
    """
    rng = np.random.default_rng(seed)
    truth = rng.choice(len(share), n, p=share)
    wrong = rng.integers(0, len(share), (n, 6))
    votes = np.where(rng.random((n, 6)) < known, truth[:, None], wrong)
    suggests = (truth + rng.integers(1, len(share), n)) % len(share)
    led = (rng.random(n) < misleading)[:, None] & (rng.random((n, 6)) < 0.8)
    return np.where(led, suggests[:, None], votes).astype(np.int8)


def log_odds(chance: float, others: int) -> float:
    """Return the log-odds against ``others`` classes that share the rest."""
    return float(np.log(chance / (1.0 - chance) * others))


def test_published_labels_of_many_classes_lean_less_on_a_balance_that_items_bias() -> None:
    kept = []
    for misleading in (0.0, 0.2, 0.4):
        model = LabelModel(["a", "b", "c"], columns(6), form="crowd")
        model.learn_many(annotated(600, [0.8, 0.1, 0.1], misleading=misleading, known=0.6))
        learned = model.summary()["class_balance"]["a"]
        assert learned > 0.4
        kept.append(log_odds(model.predict_proba_one({})["a"], 2) / log_odds(learned, 2))
    assert kept[0] > 0.9
    assert kept[0] > kept[1] + 0.05
    assert kept[1] > kept[2] + 0.05


def test_published_labels_of_two_classes_believe_the_balance() -> None:
    two = LabelModel(CLASSES, columns(6), form="crowd")
    two.learn_many(annotated(600, [0.8, 0.2], misleading=0.4))
    learned_of_two = two.summary()["class_balance"]["no"]
    assert two.predict_proba_one({})["no"] == pytest.approx(learned_of_two)


def test_a_new_annotator_is_as_good_as_all_at_first() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400)
    believed = []
    for accuracy in (0.95, 0.75):
        right = rng.random((400, 7)) < accuracy
        votes = np.where(right, truth[:, None], 1 - truth[:, None]).astype(np.int8)
        votes[:, 6] = -1
        model = LabelModel(CLASSES, columns(7), form="crowd")
        model.learn_many(votes)
        believed.append(model.summary()["lfs"]["lf6"]["estimated_accuracy"])
    assert believed[0] > believed[1] + 0.08


def test_published_labels_believe_the_balance_that_answers_show() -> None:
    votes = annotated(600, [0.8, 0.1, 0.1], misleading=0.6)
    model = LabelModel(["a", "b", "c"], columns(6), form="crowd")
    model.learn_many(votes)
    before = model.predict_proba_one({})["a"]
    silent = np.full((4000, 6), -1, dtype=np.int8)
    model.learn_many(silent)
    model.learn_gold(silent, np.arange(4000) % 10 // 8)
    assert before < 0.75
    assert model.predict_proba_one({})["a"] == pytest.approx(0.8, abs=0.03)


def test_few_answers_hardly_move_the_balance_of_a_crowd() -> None:
    model = LabelModel(CLASSES, columns(6), form="crowd")
    votes = annotated(600, [0.5, 0.5])
    model.learn_many(votes)
    before = model.summary()["class_balance"]["no"]
    model.learn_gold(np.full((20, 6), -1), np.zeros(20, dtype=np.int64))
    assert abs(model.summary()["class_balance"]["no"] - before) < 0.02


def test_the_corrector_waits_for_a_gain_that_chance_does_not_explain() -> None:
    model = LabelModel(CLASSES, columns(3))
    model.learn_many(planted_votes(100, 3, 2)[0])
    model.state.own.gold_size[:] = 40.0
    for gain, on in ((1.3, False), (1.7, True)):
        model.state.own.gate[:] = (40.0, gain, 1.0, 40.0)
        model.state.rebuild()
        assert model.summary()["corrector_on"] is on


def test_a_snapshot_without_the_published_balance_is_read() -> None:
    model = LabelModel(["a", "b", "c"], columns(6), form="crowd")
    model.learn_many(annotated(100, [0.8, 0.1, 0.1]))
    content = msgspec.msgpack.decode(model.to_bytes())
    del content["state"]["shown_prior"]
    older = LabelModel.from_bytes(msgspec.msgpack.encode(content))
    for each in (older, model):
        each.learn_many(annotated(64, [0.8, 0.1, 0.1], seed=1))
    assert older.to_bytes() == model.to_bytes()


def test_a_class_never_seen_keeps_a_share() -> None:
    model = LabelModel(["a", "b", "c"], columns(4))
    votes, _ = planted_votes(500, 4, 2)
    model.learn_many(votes)
    proba = model.predict_proba_many(votes)
    assert (proba[:, 2] > 0).all()
    assert proba[:, 2].mean() < 0.2


def test_one_sided_functions_are_informative() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, 3000)
    votes = np.full((3000, 4), -1, dtype=np.int8)
    for j in range(4):
        fires = rng.random(3000) < np.where(truth == j % 2, 0.6, 0.15)
        votes[fires, j] = j % 2
    model = LabelModel(CLASSES, columns(4))
    model.learn_many(votes)
    assert (model.predict_proba_many(votes).argmax(axis=1) == truth).mean() > 0.78


def test_columns_appear_at_any_time() -> None:
    votes, truth = planted_votes(600, 5, 2)
    model = LabelModel(CLASSES, columns(4))
    model.learn_many(votes[:305, :4])
    before = model.predict_proba_many(votes[:10, :4])
    model.add_lf("lf4")
    assert model.lf_names[-1] == "lf4"
    padded = np.append(votes[:10, :4], np.full((10, 1), -1), axis=1)
    assert np.allclose(model.predict_proba_many(padded), before, atol=0.05)
    model.learn_many(votes[305:])
    lf = model.summary()["lfs"]["lf4"]
    assert lf["coverage"] == pytest.approx(0.6, abs=0.1)
    with pytest.raises(ValueError, match="distinct"):
        model.add_lf("lf4")


def test_a_new_version_starts_from_what_the_old_one_showed() -> None:
    votes, _ = planted_votes(3000, 6, 2)
    model = LabelModel(CLASSES, columns(6))
    model.learn_many(votes)
    old = model.summary()["lfs"]["lf0"]["estimated_accuracy"]
    model.add_lf("lf0@2", like="lf0")
    model.add_lf("lf9")
    found = model.summary()["lfs"]
    assert found["lf0@2"]["estimated_accuracy"] == pytest.approx(old, abs=0.02)
    assert found["lf9"]["estimated_accuracy"] == pytest.approx(0.7, abs=0.02)
    again = LabelModel.from_bytes(model.to_bytes())
    assert again.to_bytes() == model.to_bytes()
    again.merge(LabelModel(CLASSES, columns(2)))
    assert again.summary()["lfs"]["lf0@2"]["estimated_accuracy"] == pytest.approx(old, abs=0.02)
    with pytest.raises(ValueError, match="called"):
        model.add_lf("lf1@2", like="nobody")
    with pytest.raises(ValueError, match="between 0 and 1"):
        model.add_lf("lf1@2", accuracy=1.0)


def test_priors_may_be_given_by_name() -> None:
    model = LabelModel(CLASSES, columns(2), accuracies={"lf1": 0.9})
    found = model.summary()["lfs"]
    assert found["lf0"]["estimated_accuracy"] == pytest.approx(0.7)
    assert found["lf1"]["estimated_accuracy"] == pytest.approx(0.9)


def test_others_are_taken_in_at_the_next_block_start() -> None:
    votes, _ = planted_votes(300, 4, 2)
    model, other = (LabelModel(CLASSES, columns(4), block=16) for _ in range(2))
    other.learn_many(votes[:100])
    model.learn_many(votes[:200])
    learned = 200
    while not model.state.counters[IN_BLOCK]:
        model.learn_many(votes[learned : learned + 1])
        learned += 1
    before = model.predict_proba_many(votes)
    model.set_others(other.own_stats())
    assert np.array_equal(model.predict_proba_many(votes), before)
    while model.state.counters[IN_BLOCK]:
        model.learn_many(votes[learned : learned + 1])
        learned += 1
    assert model.clock == learned + 100
    assert not np.array_equal(model.predict_proba_many(votes), before)


def test_blocks_are_an_eighth_of_what_was_learned_at_most() -> None:
    votes, _ = planted_votes(400, 4, 2)
    model = LabelModel(CLASSES, columns(4), block=32)
    starts = []
    for row in range(400):
        model.learn_many(votes[row : row + 1])
        if not model.state.counters[IN_BLOCK]:
            starts.append(row + 1)
    lengths = np.diff([0, *starts])
    assert (lengths[:15] == 1).all()
    assert (lengths <= np.maximum(np.array(starts) / 8.0, 1.0)).all()
    assert lengths[-1] == 32


def test_later_stages_alone_end_a_block_too() -> None:
    votes, _ = planted_votes(512, 4, 2)
    model, table = LabelModel(CLASSES, columns(4)), Table(512, 4, 2)
    table.step(model, np.full_like(votes, -1), np.arange(512))
    assert model.summary()["lfs"]["lf3"]["estimated_accuracy"] == pytest.approx(0.7)
    table.step(model, votes[:100], np.arange(100))
    assert model.summary()["lfs"]["lf3"]["estimated_accuracy"] == pytest.approx(0.7)
    again = LabelModel.from_bytes(model.to_bytes())
    other = Table(512, 4, 2)
    other.votes[:], other.proba[:], other.clock[:] = table.votes, table.proba, table.clock
    table.step(model, votes[100:], np.arange(100, 512))
    assert model.summary()["lfs"]["lf3"]["estimated_accuracy"] > 0.72
    for i in range(100, 512):
        other.step(again, votes[i : i + 1], [i])
    assert again.to_bytes() == model.to_bytes()


def test_counters_of_an_earlier_program_are_read() -> None:
    model = LabelModel(CLASSES, columns(2))
    model.learn_many([[1, 1], [0, 1]])
    content = msgspec.msgpack.decode(model.to_bytes())
    dtype, shape, data = content["state"]["arrays"]["counters"]
    content["state"]["arrays"]["counters"] = [dtype, [shape[0] - 1], data[:-8]]
    assert LabelModel.from_bytes(msgspec.msgpack.encode(content)).to_bytes() == model.to_bytes()


def test_others_may_know_other_columns() -> None:
    votes, _ = planted_votes(200, 4, 2)
    model, other = LabelModel(CLASSES, ["a", "b", "c"]), LabelModel(CLASSES, ["d", "c", "a", "x"])
    other.learn_many(votes)
    model.set_others(other.own_stats())
    assert model.state.other.cast.tolist() == [
        float((votes[:, 2] >= 0).sum()),
        0.0,
        float((votes[:, 1] >= 0).sum()),
    ]


def test_merge_adds_what_both_learned() -> None:
    votes, _ = planted_votes(200, 4, 2)
    one, two = (LabelModel(CLASSES, columns(4)) for _ in range(2))
    one.learn_many(votes[:120])
    two.learn_many(votes[120:])
    forth, back = LabelModel.from_bytes(one.to_bytes()), LabelModel.from_bytes(two.to_bytes())
    forth.merge(two)
    back.merge(one)
    assert forth.summary()["examples"] == 200
    assert np.allclose(
        forth.predict_proba_many(votes), back.predict_proba_many(votes), atol=1e-12, rtol=0
    )


def test_a_newer_version_is_refused_with_a_clear_message() -> None:
    content = msgspec.msgpack.decode(LabelModel(CLASSES, columns(2)).to_bytes())
    content["version"] = SNAPSHOT_VERSION + 1
    with pytest.raises(SnapshotError, match="newer"):
        LabelModel.from_bytes(msgspec.msgpack.encode(content))
    with pytest.raises(SnapshotError):
        LabelModel.from_bytes(b"no model")


def test_a_partition_that_stood_still_for_very_long_is_merged_without_overflow() -> None:
    votes = np.array([[1, 1], [0, 0], [1, -1]], dtype=np.int8)
    old, new = (LabelModel(["no", "yes"], ["a", "b"]) for _ in range(2))
    old.learn_many(votes)
    new.learn_many(np.tile(votes, (50_000, 1)))
    # 150,000 examples are 1,200 half-lives of the shortest memory.
    new.merge(old)
    assert np.isfinite(new.predict_proba_many(votes)).all()


def test_a_copy_goes_on_by_itself() -> None:
    votes, _ = planted_votes(90, 3, 2)
    model = LabelModel(CLASSES, columns(3))
    model.learn_many(votes)
    before = model.to_bytes()
    twin = copy.deepcopy(model)
    assert twin.to_bytes() == before
    twin.learn_many(votes)
    assert model.to_bytes() == before != twin.to_bytes()
