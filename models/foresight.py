"""What a label that is given early will be in the end, as far as late outcomes tell.

A provisional label knows what has come so far and takes the silence of everything else for an
answer. What is still to come is known by its chance; what labels became of examples on which it
came, and on which it did not, is learned here.
"""

from __future__ import annotations

from typing import Any, Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.foresight_kernels import (
    BETWEEN,
    CONTEXTS,
    FACTS,
    FINAL,
    MOST_OUTCOMES,
    foresee_rows,
)
from models.formats import refuse_newer

__all__ = ["BETWEEN", "FINAL", "MOST_OUTCOMES", "Foresight"]

_FORMAT: Final = 1


class Foresight:
    """One task's provisional labels: what was said early, and what became of it.

    *Math* — with q the posterior of an open example, e_o the chance that outcome o still comes and
    e = max_o e_o (outcomes follow each other: who buys has clicked),

        p = (1 − e)·softmax(log q + δ) + e·Σ_o e_o·a_o / Σ_o e_o,

    where δ, one for examples without and one for those with feedback, makes what is expected of
    examples on which nothing came equal to their final labels on average (a Newton step a label),
    and a_o is the mean label of those on which o came: final ones, and until there are enough of
    them, for they take longest, posteriors at the arrival. The past fades by count.

    Where p was not nearer than q so far to the label of when an outcome came, or to the final one
    if none did, q is what is given: each is scored before it is learned from.

    *State* — (2 + outcomes)·K sums. *Complexity* — below 1 µs a label.
    *Replay* — rows in order, plain arithmetic: any split into calls gives the same bits.

    Examples
    --------
    >>> model = Foresight(2, outcomes=1)
    >>> memory, none = np.zeros((1, model.width)), np.zeros((1, 1))
    >>> def row(kind, positive):
    ...     kinds, places = np.array([kind], dtype=np.int8), np.zeros(1, dtype=np.int32)
    ...     proba = np.array([[1.0 - positive, positive]])
    ...     return model.step(kinds, places, proba, none, none > 0, memory)[0, 1]
    >>> for _ in range(50):
    ...     _ = row(1, 0.4), row(FINAL, 0.1)
    >>> bool(row(1, 0.4) < 0.15)
    True
    """

    def __init__(self, n_classes: int, outcomes: int) -> None:
        if outcomes > MOST_OUTCOMES:
            raise ValueError(f"{outcomes} outcomes; at most {MOST_OUTCOMES} are foreseen")
        self.shift = np.zeros((CONTEXTS, n_classes))
        self.bend = np.zeros((CONTEXTS, n_classes))
        self.came = np.zeros((outcomes, n_classes + 1))
        self.facts = np.zeros((CONTEXTS, FACTS))

    @property
    def width(self) -> int:
        """Return the columns that an example's memory takes."""
        return 1 + 2 * self.shift.shape[1]

    def step(
        self,
        kind: NDArray[np.int8],
        example: NDArray[np.int32],
        proba: NDArray[np.float64],
        chance: NDArray[np.float64],
        came: NDArray[np.bool_],
        memory: NDArray[np.float64],
        *,
        at: int = 0,
        answered: NDArray[np.bool_] | None = None,
        learn: bool = True,
    ) -> NDArray[np.float64]:
        """Handle rows in order; return what to say of each, (n, K).

        Parameters
        ----------
        kind, example
            (n,) 0 or 1: first of an example without feedback, or with; `BETWEEN`; `FINAL`; -1:
            none of them. And the place of its example in ``memory``.
        proba
            (n, K) posteriors.
        chance, came
            (n, o) that each outcome still comes; whether it has.
        memory
            (e, columns) what is kept of each example until its final label, from column ``at`` on
            (`width` columns; at first zeros). Changed in place.
        answered
            (n,) what a person has said is neither foreseen nor learned from.
        """
        said = proba.copy()
        foresee_rows(
            kind,
            example,
            np.zeros(len(kind), dtype=np.bool_) if answered is None else answered,
            proba,
            chance,
            came,
            memory,
            at,
            self.shift,
            self.bend,
            self.came,
            self.facts,
            learn,
            said,
        )
        return said

    @property
    def losses(self) -> tuple[int, float, float]:
        """Return of how many early labels it is known what came; sums of log-losses against that.

        Of the posteriors as they were, and of what was foreseen.
        """
        n, raw, ahead = self.facts[:, :3].sum(axis=0).tolist()
        return int(n), raw, ahead

    def to_bytes(self) -> bytes:
        """Return the state as versioned bytes."""
        arrays = (self.shift, self.bend, self.came, self.facts)
        return msgspec.msgpack.encode((_FORMAT, *(array.tolist() for array in arrays)))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the state that was written.

        Raises
        ------
        ValueError
            If it is of a newer format than this program reads.
        """
        stored: list[Any] = msgspec.msgpack.decode(data)
        refuse_newer("what is foreseen of labels", stored[0], _FORMAT)
        shift, bend, came, facts = stored[1:5]
        made = cls(len(shift[0]), len(came))
        made.shift, made.bend = np.array(shift), np.array(bend)
        made.came = np.array(came).reshape(made.came.shape)
        made.facts = np.array(facts)
        return made
