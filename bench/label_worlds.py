"""Votes with known truth for the label model's benchmark: real sets, and planted streams."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["Stream", "VoteSet", "data_folder", "drifting_stream", "load_set", "rare_stream"]

FloatArray = npt.NDArray[np.float64]
VoteArray = npt.NDArray[np.int8]


@dataclass(frozen=True)
class VoteSet:
    """Real votes in arrival order; ``truth`` is -1 where it is not known."""

    name: str
    votes: VoteArray
    truth: npt.NDArray[np.int64]
    n_classes: int

    @property
    def form(self) -> str:
        """Return whose votes these are: functions' in tennis and planted ones, else annotators'."""
        return "lf" if self.name.startswith(("tennis", "planted")) else "crowd"


@dataclass(frozen=True)
class Stream:
    """Planted votes: accuracies before and after the change, and what an oracle believes."""

    votes: VoteArray
    truth: npt.NDArray[np.int64]
    accuracy: FloatArray  # (2, m)
    change: int
    oracle: FloatArray  # (n,) probability of class 1
    copies: tuple[tuple[int, int], ...]


def data_folder() -> Path | None:
    """Return the folder of the vote sets, or None where it is absent."""
    given = os.environ.get("HEADRACE_SHARED_DATA")
    root = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = root / "truth-inference"
    return folder if folder.is_dir() else None


def load_set(folder: Path, name: str) -> VoteSet:
    """Read one set; of repeated votes of an annotator on an item the last one counts."""
    items: dict[str, int] = {}
    voters: dict[str, int] = {}
    cells: list[tuple[int, int, int]] = []
    with (folder / name / "votes.csv").open() as lines:
        for row in csv.DictReader(lines):
            item = items.setdefault(row["item"], len(items))
            voter = voters.setdefault(row["lf_or_worker"], len(voters))
            cells.append((item, voter, int(row["label"])))
    votes = np.full((len(items), len(voters)), -1, dtype=np.int8)
    for item, voter, label in cells:
        votes[item, voter] = label
    truth = np.full(len(items), -1, dtype=np.int64)
    with (folder / name / "truth.csv").open() as lines:
        for row in csv.DictReader(lines):
            if row["item"] in items:
                truth[items[row["item"]]] = int(row["label"])
    n_classes = int(max(votes.max(), truth.max())) + 1
    return VoteSet(name, votes, truth, n_classes)


def _vote(
    rng: np.random.Generator, truth: npt.NDArray[np.int64], accuracy: float, abstain: float
) -> VoteArray:
    n = len(truth)
    votes = np.where(rng.random(n) < accuracy, truth, 1 - truth)
    return np.where(rng.random(n) < abstain, -1, votes).astype(np.int8)


def drifting_stream(seed: int, n: int = 20_000, *, copied: bool = False) -> Stream:
    """Return ten binary LFs of accuracy .55 to .9, two of which fall to .3 half-way.

    With ``copied``, two exact copies of one more LF of accuracy .6 are there too.
    """
    rng = np.random.default_rng(seed)
    m = 10
    base = np.linspace(0.55, 0.9, m)
    abstain = rng.uniform(0.3, 0.6, m)
    flipped = rng.choice(m, 2, replace=False)
    accuracy = np.stack([base, base])
    accuracy[1, flipped] = 0.3
    truth = rng.integers(0, 2, n)
    change = n // 2
    columns = [
        np.concatenate(
            [
                _vote(rng, truth[:change], accuracy[0, j], abstain[j]),
                _vote(rng, truth[change:], accuracy[1, j], abstain[j]),
            ]
        )
        for j in range(m)
    ]
    copies: tuple[tuple[int, int], ...] = ()
    if copied:
        original = _vote(rng, truth, 0.6, 0.4)
        columns += [original, original, original]
        copies = ((m, m + 1), (m, m + 2), (m + 1, m + 2))
        accuracy = np.concatenate([accuracy, np.full((2, 3), 0.6)], axis=1)
    votes = np.stack(columns, axis=1)
    odds = np.log(accuracy / (1.0 - accuracy))
    if copied:
        odds[:, m + 1 :] = 0.0
    signed = np.where(votes < 0, 0.0, 2.0 * votes - 1.0)
    score = np.concatenate([signed[:change] @ odds[0], signed[change:] @ odds[1]])
    return Stream(votes, truth, accuracy, change, 1.0 / (1.0 + np.exp(-score)), copies)


def rare_stream(seed: int, n: int = 20_000, share: float = 0.1) -> Stream:
    """Return ten binary LFs on a rare class, without drift."""
    rng = np.random.default_rng(seed)
    m = 10
    base = np.linspace(0.6, 0.9, m)
    abstain = rng.uniform(0.3, 0.6, m)
    truth = (rng.random(n) < share).astype(np.int64)
    votes = np.stack([_vote(rng, truth, base[j], abstain[j]) for j in range(m)], axis=1)
    odds = np.log(base / (1.0 - base))
    score = np.where(votes < 0, 0.0, 2.0 * votes - 1.0) @ odds + np.log(share / (1.0 - share))
    return Stream(votes, truth, np.stack([base, base]), n, 1.0 / (1.0 + np.exp(-score)), ())
