"""Expected labels: what is foreseen, when it is said, and that it does not depend on cuts."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models.foresight import BETWEEN, FINAL, Foresight

Stream = tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]


class One:
    """A model of one outcome and one example at a time."""

    def __init__(self) -> None:
        self.model = Foresight(2, outcomes=1)
        self.memory = np.zeros((1, self.model.width))

    def row(
        self, kind: int, positive: float, chance: float = 0.0, came: bool = False, **more: bool
    ) -> float:
        said = self.model.step(
            np.array([kind], dtype=np.int8),
            np.zeros(1, dtype=np.int32),
            np.array([[1.0 - positive, positive]]),
            np.array([[chance]]),
            np.array([[came]]),
            self.memory,
            answered=np.array([more.get("answered", False)]),
            learn=more.get("learn", True),
        )
        assert said.sum() == pytest.approx(1.0)
        return float(said[0, 1])


def taught(labels: int, chance: float = 0.3) -> One:
    """Return a model of examples that end at .9 where the outcome comes, else at .2."""
    rng = np.random.default_rng(0)
    one = One()
    for _ in range(labels):
        one.row(0, 0.5, chance)
        came = bool(rng.random() < chance)
        if came:
            one.row(BETWEEN, 0.8, came=True)
        one.row(FINAL, 0.9 if came else 0.2, came=came)
    return one


def test_before_anything_ended_the_posterior_is_what_is_said() -> None:
    assert One().row(0, 0.5, 0.4) == 0.5


@pytest.mark.parametrize(("chance", "expected"), [(0.0, 0.2), (0.3, 0.41), (1.0, 0.89)])
def test_what_is_said_is_the_mean_of_what_may_come(chance: float, expected: float) -> None:
    assert taught(2_000).row(0, 0.5, chance) == pytest.approx(expected, abs=0.03)


def test_outcomes_count_before_their_examples_are_final() -> None:
    one = taught(300, chance=0.0)
    before = one.row(0, 0.5, 1.0)
    for _ in range(200):
        one.row(0, 0.5, 1.0)
        one.row(BETWEEN, 0.8, came=True)
        one.row(BETWEEN, 0.1, came=True)
    assert one.row(0, 0.5, 1.0) > before + 0.3
    assert one.model.losses[0] == 500


def test_what_foresees_worse_than_the_posterior_is_not_said() -> None:
    one = One()
    for final in (0.05, 0.95) * 200:
        # The posteriors knew it all; what was foreseen is the same of both.
        one.row(1, final)
        one.memory[0, 3:] = 0.5
        one.row(FINAL, final)
    assert one.row(1, 0.7, 1.0) == 0.7
    n, raw, ahead = one.model.losses
    assert n == 400 and raw < ahead


def test_what_a_person_said_is_neither_foreseen_nor_learned_from() -> None:
    one = taught(200)
    before = one.model.to_bytes()
    assert one.row(0, 0.5, 0.3, answered=True) == 0.5
    one.row(FINAL, 1.0, answered=True)
    one.row(0, 0.5, 0.3)
    one.row(FINAL, 1.0, answered=True)
    assert one.model.to_bytes() == before and not one.memory[0, 0]


def rows(n: int = 600, seed: int = 1) -> Stream:
    """Return early and final rows of the same examples, mixed."""
    rng = np.random.default_rng(seed)
    kind = rng.choice([0, 1, BETWEEN, FINAL, -1], n).astype(np.int8)
    positive = rng.random(n)
    chance = np.where(rng.random((n, 2)) < 0.3, 0.0, rng.random((n, 2)))
    return (
        kind,
        rng.integers(0, 80, n).astype(np.int32),
        np.column_stack((1.0 - positive, positive)),
        chance,
    )


def run(stream: Stream, edges: list[int]) -> tuple[bytes, NDArray[np.float64]]:
    model = Foresight(2, outcomes=2)
    memory = np.zeros((80, model.width))
    kind, example, proba, chance = stream
    said = [
        model.step(kind[a:b], example[a:b], proba[a:b], chance[a:b], chance[a:b] > 0.5, memory)
        for a, b in zip([0, *edges], [*edges, len(kind)], strict=True)
    ]
    return model.to_bytes() + memory.tobytes(), np.concatenate(said)


def test_any_split_into_calls_gives_the_same_bits() -> None:
    stream = rows()
    whole, said = run(stream, [])
    assert (said[stream[0] == FINAL] == stream[2][stream[0] == FINAL]).all()
    assert (said != stream[2]).any()
    for edges in ([1], [77, 300], list(range(1, 600))):
        again, parts = run(stream, edges)
        assert again == whole
        assert (parts == said).all()


def test_a_snapshot_goes_on_as_the_model_does() -> None:
    one = taught(100)
    again = One()
    again.model = Foresight.from_bytes(one.model.to_bytes())
    assert again.model.to_bytes() == one.model.to_bytes()
    assert again.row(0, 0.5, 0.2) == one.row(0, 0.5, 0.2)


def test_frozen_it_says_what_it_knows_and_learns_nothing() -> None:
    one = taught(200)
    before = one.model.to_bytes()
    assert one.row(0, 0.5, 0.3, learn=False) != 0.5
    one.row(BETWEEN, 0.8, came=True, learn=False)
    one.row(FINAL, 0.9, learn=False)
    assert one.model.to_bytes() == before


def test_a_newer_snapshot_and_too_many_outcomes_are_refused() -> None:
    stored = msgspec.msgpack.decode(One().model.to_bytes())
    with pytest.raises(ValueError, match="newer version"):
        Foresight.from_bytes(msgspec.msgpack.encode([stored[0] + 1, *stored[1:]]))
    with pytest.raises(ValueError, match="at most 12"):
        Foresight(2, outcomes=13)
