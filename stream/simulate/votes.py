"""Simulated labeling functions: votes of planted accuracy, packed into a few small numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream.simulate.config import INTENTS, RELEVANCE, Drift, SimulatedLF

__all__ = ["VoteCodec", "after_flip", "cast_votes", "planned_accuracy"]

# A group's code indexes a table of ready-made JSON, so the table bounds the group.
_TABLE_LIMIT = 8_192


def _classes(lf: SimulatedLF) -> tuple[str, ...]:
    return RELEVANCE if lf.task == "relevance" else INTENTS


class VoteCodec:
    """Packs a row of votes into one small integer a group of LFs, and writes it as JSON.

    Digits are 0 for an abstention and ``1 + class`` for a vote; a group is a number with as many
    digits as it has LFs.
    """

    def __init__(self, lfs: Sequence[SimulatedLF]) -> None:
        self._places: list[tuple[int, int]] = []
        self.fragments: list[list[str]] = []
        table: list[str] = []
        for number, lf in enumerate(lfs):
            names = _classes(lf)
            digits = ["", *(f',"sim_lf_{number}":"{name}"' for name in names)]
            if not table or len(table) * len(digits) > _TABLE_LIMIT:
                table = [""]
                self.fragments.append(table)
            self._places.append((len(self.fragments) - 1, len(table)))
            # The new LF is the most significant digit, so earlier codes keep their places.
            table = [earlier + digit for digit in digits for earlier in table]
            self.fragments[-1] = table

    @property
    def groups(self) -> int:
        """How many codes a row of votes takes."""
        return len(self.fragments)

    def pack(self, votes: NDArray[np.int8]) -> NDArray[np.int16]:
        """Return the codes ``(n, groups)`` of votes ``(n, lfs)``, where −1 abstains."""
        codes = np.zeros((len(votes), self.groups), dtype=np.int16)
        for column, (group, weight) in enumerate(self._places):
            codes[:, group] += (votes[:, column].astype(np.int16) + 1) * weight
        return codes


def cast_votes(
    lfs: Sequence[SimulatedLF],
    accuracy: NDArray[np.float64],
    planted: dict[str, NDArray[np.int8]],
    session: NDArray[np.intp],
    rng: np.random.Generator,
) -> NDArray[np.int8]:
    """Return the votes ``(n, lfs)`` on exposures whose classes are planted; −1 abstains.

    Parameters
    ----------
    lfs
        Who votes.
    accuracy
        P(right | votes) of each, as of now: drift moves it away from the plan.
    planted
        By task, the class of each exposure.
    session
        Number of the session of each exposure, from 0: errors may come together in one.
    rng
        Every draw comes from here.
    """
    n = session.size
    votes = np.full((n, len(lfs)), -1, dtype=np.int8)
    for number, lf in enumerate(lfs):
        if lf.copy_of is not None:
            votes[:, number] = votes[:, lf.copy_of]
            continue
        luck = rng.random(n)
        if lf.session_correlation and n:
            shared = rng.random(int(session.max()) + 1)[session]
            luck = np.where(rng.random(n) < lf.session_correlation, shared, luck)
        truth, classes = planted[lf.task], len(_classes(lf))
        other = (truth + rng.integers(1, classes, size=n)) % classes
        vote = np.where(luck < accuracy[number], truth, other)
        votes[:, number] = np.where(rng.random(n) < lf.abstention, -1, vote)
    return votes


def planned_accuracy(lfs: Sequence[SimulatedLF]) -> NDArray[np.float64]:
    """Return the LFs' accuracies before anything drifts; a copy has its original's."""
    return _copied(lfs, np.array([lf.accuracy for lf in lfs]))


def after_flip(
    lfs: Sequence[SimulatedLF], accuracy: NDArray[np.float64], flip: Drift
) -> NDArray[np.float64]:
    """Return the LFs' accuracies after some of them have flipped."""
    after = accuracy.copy()
    for number in flip.lfs:
        after[number] = 1.0 - accuracy[number] if flip.amount is None else flip.amount
    return _copied(lfs, after)


def _copied(lfs: Sequence[SimulatedLF], accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
    for number, lf in enumerate(lfs):
        if lf.copy_of is not None:
            accuracy[number] = accuracy[lf.copy_of]
    return accuracy
