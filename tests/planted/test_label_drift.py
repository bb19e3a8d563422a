"""The label model finds planted accuracies, follows a change, and sees through copies."""

import numpy as np

from bench.label_drift import label_partitions
from bench.label_gold import with_gold
from bench.label_scores import label_stream
from bench.label_worlds import VoteSet, drifting_stream, rare_stream
from models import LabelModel
from models.majority import MajorityVote


def columns(n: int) -> list[str]:
    return [f"lf{j:03d}" for j in range(n)]


def test_follows_two_flipped_functions() -> None:
    stream = drifting_stream(7, 8000)
    model = LabelModel(["0", "1"], columns(10))
    right = label_stream(model, stream.votes).argmax(axis=1) == stream.truth
    oracle = (stream.oracle > 0.5) == (stream.truth == 1)
    assert oracle[-3000:].mean() - right[-3000:].mean() < 0.01
    believed = [lf["estimated_accuracy"] for lf in model.summary()["lfs"].values()]
    assert np.abs(np.array(believed) - stream.accuracy[1]).mean() < 0.03


def test_finds_the_copies_and_nothing_else() -> None:
    stream = drifting_stream(8, 6000, copied=True)
    model = LabelModel(["0", "1"], columns(13))
    right = label_stream(model, stream.votes).argmax(axis=1) == stream.truth
    pairs = {
        tuple(sorted((name, other)))
        for name, lf in model.summary()["lfs"].items()
        for other in lf["correlated_with"]
    }
    assert pairs == {("lf010", "lf011"), ("lf010", "lf012"), ("lf011", "lf012")}
    majority = MajorityVote(["0", "1"]).predict_proba_many(stream.votes).argmax(axis=1)
    assert right.mean() > (majority == stream.truth).mean() + 0.02


def test_partitions_follow_at_the_speed_of_one() -> None:
    stream = drifting_stream(9, 4000)
    one, four = (label_partitions(stream.votes, count, 64) for count in (1, 4))
    scores = [(proba.argmax(axis=1) == stream.truth)[2500:].mean() for proba in (one, four)]
    assert abs(scores[0] - scores[1]) < 0.02


def test_uncertain_gold_beside_an_audit_is_unbiased() -> None:
    stream = rare_stream(3, 8000)
    rng = np.random.default_rng(0)
    model = LabelModel(["0", "1"], columns(10), (0.8, 0.2))
    proba = label_stream(model, stream.votes)
    unsure = np.argsort(proba.max(axis=1), kind="stable")[:300]
    audit = np.setdiff1d(np.flatnonzero(rng.random(8000) < 0.05), unsure)
    model.learn_gold(stream.votes[unsure], stream.truth[unsure], 8000 - unsure, 1.0)
    model.learn_gold(stream.votes[audit], stream.truth[audit], 8000 - audit, 0.05)
    summary = model.summary()
    assert abs(summary["class_balance"]["1"] - stream.truth.mean()) < 0.03
    gold = np.array([lf["gold_accuracy"] for lf in summary["lfs"].values()])
    assert np.abs(gold - stream.accuracy[0]).mean() < 0.04


def test_gold_that_votes_for_its_own_choice_moves_no_balance() -> None:
    stream = rare_stream(4, 3000)
    model = LabelModel(["0", "1"], columns(10), (0.9, 0.1))
    model.learn_many(stream.votes)
    before = model.summary()["class_balance"]["1"]
    rare = np.flatnonzero(stream.truth == 1)[:100]
    model.learn_gold(stream.votes[rare], stream.truth[rare], 0, 0.0)
    assert model.summary()["class_balance"]["1"] == before
    assert model.summary()["temperature"] == 1.0


def test_late_gold_repairs_what_all_functions_get_wrong() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 3000)
    votes = np.where(rng.random((3000, 5)) < 0.7, truth[:, None], 1 - truth[:, None])
    votes[:, 3] = np.where(rng.random(3000) < 0.9, 1 - truth, truth)
    data = VoteSet("planted", votes.astype(np.int8), truth, 2)
    asked = np.flatnonzero(rng.random(3000) < 0.1)
    plain = LabelModel(["0", "1"], columns(5))
    gold = LabelModel(["0", "1"], columns(5))
    without = with_gold(plain, data, asked[:0], 50, 0.1)
    late = with_gold(gold, data, asked, 50, 0.1)
    last = np.arange(3000) >= 2000
    assert (late.argmax(axis=1) == truth)[last].mean() >= (without.argmax(axis=1) == truth)[
        last
    ].mean()


def test_one_sided_functions_are_not_taken_for_copies() -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        truth = rng.random(4000) < 0.3
        votes = np.full((4000, 10), -1, dtype=np.int8)
        for j in range(10):
            fires = rng.random(4000) < np.where(truth == j % 2, 0.5, 0.12)
            votes[fires, j] = j % 2
        model = LabelModel(["0", "1"], columns(10), (0.7, 0.3))
        model.learn_many(votes)
        assert not any(lf["correlated_with"] for lf in model.summary()["lfs"].values())
        assert model.triplet_gaps() == {}


def test_triplets_agree_unless_the_balance_is_wrong() -> None:
    stream = rare_stream(5, 6000, share=0.5)
    model = LabelModel(["0", "1"], columns(10))
    model.learn_many(stream.votes)
    gaps = model.triplet_gaps()
    assert len(gaps) == 10
    assert max(map(abs, gaps.values())) < 0.05
    wrong = LabelModel(["0", "1"], columns(10), (0.995, 0.005))
    wrong.learn_many(stream.votes)
    assert max(map(abs, wrong.triplet_gaps().values())) > 0.1
