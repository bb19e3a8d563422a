"""Online label model: what labeling functions and annotators vote, as calibrated probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from models.label_config import HALF_LIVES, default_config
from models.label_entry import gold, step
from models.label_inputs import (
    class_code,
    form_code,
    read_labels,
    read_prior,
    read_row,
    read_votes,
)
from models.label_layout import FloatArray
from models.label_replay import find_recent
from models.label_snapshot import pack, unpack
from models.label_state import AT_HAND, BLOCK, CLOCK, LabelState
from models.label_stats import decode, encode, merge_contributions
from models.label_summary import summarise, triplet_gaps

__all__ = ["LabelModel", "StepResult"]

KIND = "headrace label model"
CHUNK = 4096


Column = TypeVar(
    "Column",
    npt.NDArray[np.int8],
    npt.NDArray[np.int32],
    npt.NDArray[np.int64],
    npt.NDArray[np.bool_],
    FloatArray,
)


def _own_layout(array: Column) -> Column:
    """Return the array in the one layout that the loop is compiled for, or a copy in it."""
    return array if array.flags.carray else array.copy()


class StepResult(NamedTuple):
    """Outcome of rows, in order.

    ``proba`` (n, K) are calibrated probabilities; ``weights`` (n, m) each column's part, in
    log-odds of the most probable class: with the prior's log-odds they sum to the posterior's.
    ``clock`` (n,) is the stream's count of examples at each row.
    """

    proba: FloatArray
    weights: FloatArray
    clock: npt.NDArray[np.int64]


class LabelModel:
    """Estimate labels and the accuracy of whoever votes, from each example once.

    *Math* — posterior r_k ∝ π_k exp Σ_w ω_w log θ_w(l_w|k) over columns that voted; sums
    S ← 2^(−Δ/h) S + δ with δC_w[l_w, k] = r_k, for several half-lives h at once; θ_w mixes the
    half-lives by how well each one predicted the recent votes of w.

    Parameters
    ----------
    classes
        Names of the classes; votes and labels are positions in it.
    lfs
        Names of the columns of ``votes``. Statistics belong to a name: give a new version of a
        labeling function a name of its own.
    prior
        Class balance, (K,) or by name; uniform by default. Without gold, labeling functions
        keep it; for a crowd it is only where learning starts.
    form, forms
        ``"lf"`` or ``"crowd"`` for all columns, and exceptions by name. A labeling function's
        silence is informative, an annotator's is not.
    block
        Examples judged with the same parameters. Counted by the model, so that results do not
        depend on how a stream is split into calls.
    correlations
        Whether to find columns that agree more than their accuracies explain.
    half_lives
        Examples of the whole stream after which evidence counts half, increasing.
    accuracies
        Prior accuracy of labeling functions by name, in (0, 1); .7 for those not named.

    A column that never votes where others do cannot be judged by them: without gold it stays
    near its prior.

    *State* — grows as columns² + columns × classes² × half-lives; never with examples.

    *Replay* — parameters change at block starts and gold answers only, by position.

    Examples
    --------
    >>> model = LabelModel(["ham", "spam"], ["caps", "link"])
    >>> model.learn_many([[1, 1], [0, -1], [0, 0], [1, -1]])
    >>> model.predict_proba_many([[1, 1]]).round(1)
    array([[0.1, 0.9]])
    """

    def __init__(
        self,
        classes: Sequence[str],
        lfs: Sequence[str],
        prior: Sequence[float] | Mapping[str, float] | None = None,
        form: str = "lf",
        forms: Mapping[str, str] | None = None,
        *,
        block: int = 32,
        correlations: bool = True,
        half_lives: Sequence[float] = HALF_LIVES,
        accuracies: Mapping[str, float] | None = None,
    ) -> None:
        self.classes = tuple(classes)
        self.form = form
        if not self.classes or len(set(self.classes)) != len(self.classes):
            message = f"classes must be distinct and at least one: {self.classes}"
            raise ValueError(message)
        if block < 1:
            message = f"block must be at least 1, not {block}"
            raise ValueError(message)
        form_code(form)
        config = default_config(
            learn_balance=form == "crowd", correlations=correlations, half_lives=half_lives
        )
        self.state = LabelState.empty(config, read_prior(prior, self.classes), block)
        self.state.append(
            list(lfs),
            [form_code((forms or {}).get(name, form)) for name in lfs],
            np.array([self._column_prior((accuracies or {}).get(name)) for name in lfs]).reshape(
                -1, 2
            ),
        )

    @property
    def lf_names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return self.state.lfs

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def block(self) -> int:
        """Examples per learning block, by the model's own count."""
        return int(self.state.counters[BLOCK])

    @property
    def clock(self) -> int:
        """Examples of the whole stream that this model knows of: its own and others'."""
        return int(self.state.counters[CLOCK])

    # Learning and judging ---------------------------------------------------------------------

    def step_many(
        self,
        votes: npt.NDArray[np.int8],
        example: npt.NDArray[np.int32],
        emit: npt.NDArray[np.bool_],
        ex_votes: npt.NDArray[np.int8],
        ex_proba: FloatArray,
        ex_clock: npt.NDArray[np.int64],
        learn: bool = True,
    ) -> StepResult:
        """Judge rows in order, then learn each one that is emitted as a stage of its example.

        The example table (``ex_votes`` (e, m), ``ex_proba`` (e, K), ``ex_clock`` (e,), -1 for
        an example not learned yet) is changed in place: it records what the sums hold of each
        example, so that a later stage can learn the difference. A gold answer is recorded as
        an exact 0 and 1, and later votes do not overrule it.
        """
        return self._step(votes, example, emit, ex_votes, ex_proba, ex_clock, learn, True)

    def _step(
        self,
        votes: npt.NDArray[np.int8],
        example: npt.NDArray[np.int32],
        emit: npt.NDArray[np.bool_],
        ex_votes: npt.NDArray[np.int8],
        ex_proba: FloatArray,
        ex_clock: npt.NDArray[np.int64],
        learn: bool,
        publish: bool,
    ) -> StepResult:
        n, m = votes.shape
        votes, example, emit = _own_layout(votes), _own_layout(example), _own_layout(emit)
        in_votes, in_proba, in_clock = ex_votes, ex_proba, ex_clock
        ex_votes, ex_proba = _own_layout(ex_votes), _own_layout(ex_proba)
        ex_clock = _own_layout(ex_clock)
        shown = n if publish else 0
        proba = np.empty((shown, len(self.classes)))
        weights = np.empty((shown, m))
        clock = np.empty(n, dtype=np.int64)
        row = 0
        state = self.state
        while True:
            row = step(
                state.handle(), row, votes, example, emit, ex_votes, ex_proba, ex_clock, learn,
                proba, weights, clock,
            )  # fmt: skip
            state.take_in_waiting()
            if row >= n:
                break
        if ex_votes is not in_votes:
            in_votes[...] = ex_votes
        if ex_proba is not in_proba:
            in_proba[...] = ex_proba
        if ex_clock is not in_clock:
            in_clock[...] = ex_clock
        return StepResult(proba, weights, clock)

    def learn_many(
        self,
        votes: npt.ArrayLike,
        ts: npt.ArrayLike | None = None,
        groups: npt.ArrayLike | None = None,
    ) -> None:
        """Learn new examples, (n, m) votes, in order.

        ``ts`` and ``groups`` (event times, segments) are accepted for the caller's convenience:
        the clock counts examples, and the estimate does not depend on them.
        """
        matrix = read_votes(votes, len(self.lf_names))
        for given in (ts, groups):
            if given is not None and len(np.asarray(given)) != len(matrix):
                message = f"{len(np.asarray(given))} values beside {len(matrix)} rows of votes"
                raise ValueError(message)
        for start in range(0, len(matrix), CHUNK):
            rows = matrix[start : start + CHUNK]
            n, m = rows.shape
            self._step(
                rows,
                np.arange(n, dtype=np.int32),
                np.ones(n, dtype=np.bool_),
                np.empty((n, m), dtype=np.int8),
                np.empty((n, self.n_classes)),
                np.full(n, -1, dtype=np.int64),
                learn=True,
                publish=False,
            )

    def predict_proba_many(self, votes: npt.ArrayLike) -> FloatArray:
        """Return calibrated (n, K) probabilities of (n, m) votes; change nothing."""
        return self.assess_many(votes).proba

    def assess_many(self, votes: npt.ArrayLike) -> StepResult:
        """Return probabilities and each vote's weight; change nothing."""
        matrix = read_votes(votes, len(self.lf_names))
        n, m = matrix.shape
        return self.step_many(
            matrix,
            np.zeros(n, dtype=np.int32),
            np.zeros(n, dtype=np.bool_),
            np.empty((1, m), dtype=np.int8),
            np.empty((1, self.n_classes)),
            np.full(1, -1, dtype=np.int64),
            learn=False,
        )

    def learn_one(self, x: Mapping[str, Any], y: str | int | None = None) -> None:
        """Learn one example's votes, a mapping of column to class; ``y`` is its gold label."""
        row = read_row(x, self.lf_names, self.classes)
        self.learn_many(row)
        if y is not None:
            self.learn_gold(row, [class_code(y, self.classes)])

    def predict_proba_one(self, x: Mapping[str, Any]) -> dict[str, float]:
        """Return the probability of each class, given a mapping of column to class."""
        proba = self.predict_proba_many(read_row(x, self.lf_names, self.classes))[0]
        return dict(zip(self.classes, proba.tolist(), strict=True))

    def predict_one(self, x: Mapping[str, Any]) -> str:
        """Return the most probable class, given a mapping of column to class."""
        return self.classes[
            int(self.predict_proba_many(read_row(x, self.lf_names, self.classes))[0].argmax())
        ]

    def learn_gold(
        self,
        votes: npt.ArrayLike,
        labels: npt.ArrayLike,
        delay: npt.ArrayLike = 0,
        inclusion: npt.ArrayLike = 1.0,
    ) -> None:
        """Learn the true labels of examples whose votes were learned ``delay`` examples ago.

        ``inclusion`` is the probability with which each example was chosen to be asked about;
        0 says that it is not known, as when the model's doubt alone chose it. Class balance,
        temperature and gold accuracy use 1 / inclusion.
        """
        matrix = read_votes(votes, len(self.lf_names))
        n = len(matrix)
        codes = np.broadcast_to(read_labels(labels, self.classes), n)
        ages = np.broadcast_to(np.asarray(delay, dtype=np.float64), n)
        chances = np.broadcast_to(np.asarray(inclusion, dtype=np.float64), n)
        for row, label, age, chance in zip(matrix, codes, ages, chances, strict=True):
            believed = np.empty(self.n_classes)
            self._gold(row, int(label), believed, known=False, age=float(age), chance=float(chance))

    def gold_step(
        self,
        votes: npt.NDArray[np.int8],
        label: int,
        ex_proba: FloatArray,
        ex_clock: int,
        inclusion: float = 1.0,
    ) -> FloatArray:
        """Learn one late gold answer of an example of the table; return its row of ``ex_proba``.

        ``ex_clock`` below 0 says that the example's votes were not learned.
        """
        believed = np.array(ex_proba, dtype=np.float64)
        known = ex_clock >= 0
        age = float(self.clock - ex_clock) if known else 0.0
        recent = self.state.recent
        place = find_recent(recent, int(self.state.counters[AT_HAND]), int(ex_clock))
        if place >= 0:
            believed = recent.posterior[place].copy()
        self._gold(
            np.ascontiguousarray(votes, dtype=np.int8),
            int(label),
            believed,
            known=known,
            age=age,
            chance=inclusion,
        )
        if place >= 0:
            recent.posterior[place] = believed
        return believed

    def _gold(
        self,
        row: npt.NDArray[np.int8],
        label: int,
        believed: FloatArray,
        *,
        known: bool,
        age: float,
        chance: float,
    ) -> None:
        if not 0 <= label < self.n_classes:
            message = f"label {label} is not a position in {self.classes}"
            raise ValueError(message)
        state = self.state
        gold(state.handle(), row, label, believed, known, max(age, 0.0), chance)

    # Columns ----------------------------------------------------------------------------------

    def add_lf(
        self,
        name: str,
        form: str | None = None,
        *,
        accuracy: float | None = None,
        like: str | None = None,
    ) -> None:
        """Append a column; its statistics start now.

        ``accuracy`` is its prior accuracy, if it is a labeling function; ``like`` names a column,
        such as its version before, whose estimated accuracy is taken instead. Both weigh as much
        as any prior: the new version's own votes soon tell.

        A column that retires keeps its place and abstains: what it has taught fades.
        """
        if like is not None:
            known = self.summary()["lfs"]
            if like not in known:
                message = f"no column is called {like!r}"
                raise ValueError(message)
            accuracy = min(max(known[like]["estimated_accuracy"], 0.01), 0.99)
        prior = np.array([self._column_prior(accuracy)])
        self.state.append([name], [form_code(form or self.form)], prior)

    def _column_prior(self, accuracy: float | None) -> tuple[float, float]:
        """Return accuracy and strength of a column's prior; zeros for the usual one."""
        if accuracy is None:
            return 0.0, 0.0
        if not 0.0 < accuracy < 1.0:
            message = f"an accuracy must be between 0 and 1, not {accuracy}"
            raise ValueError(message)
        return float(accuracy), self.state.config.lf_strength

    # Partitions -------------------------------------------------------------------------------

    def own_stats(self) -> bytes:
        """Return this partition's contribution: its own sums, as of now."""
        return encode(self.state.contribution())

    @staticmethod
    def merge_stats(contributions: list[bytes]) -> bytes | None:
        """Return the sum of contributions, at the latest of their clocks; None for none."""
        if not contributions:
            return None
        parts = [decode(data) for data in contributions]
        config = default_config(
            learn_balance=False, correlations=True, half_lives=parts[0].half_lives
        )
        return encode(merge_contributions(parts, config))

    def set_others(self, data: bytes | None) -> None:
        """Replace the other partitions' sums, at the next block start (now, if between two)."""
        self.state.wait_for(data)

    def merge(self, other: LabelModel) -> Self:
        """Add what ``other`` learned itself, at the later of both clocks; return this model."""
        mine, theirs = self.state.config.half_lives, other.state.config.half_lives
        if other.classes != self.classes or not np.array_equal(mine, theirs):
            message = "models of different classes or half-lives cannot be merged"
            raise ValueError(message)
        self.state.absorb(other.state)
        return self

    # Snapshots and summary --------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Return the whole state, the block under way and others' sums included."""
        return pack(
            KIND, {"classes": list(self.classes), "form": self.form, "state": self.state.dump()}
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the model whose state this is; refuse bytes of a newer version."""
        content = unpack(KIND, data)
        model = cls(content["classes"], [], form=content["form"])
        state = content["state"]
        config = default_config(
            learn_balance=state["learn_balance"],
            correlations=state["correlations"],
            half_lives=state["half_lives"],
        )
        model.state = LabelState.load(state, config)
        return model

    def summary(self) -> dict[str, Any]:
        """Return what is believed now, in plain values, by name."""
        return summarise(self.state, self.classes)

    def triplet_gaps(self) -> dict[str, float]:
        """Return, by column, the estimated accuracy less the triplet estimate, two classes only.

        A cross-check that shares the statistics but not the model: where both disagree, the
        columns depend on each other, or the class balance is not what it is held to be.
        """
        return triplet_gaps(self.state)
