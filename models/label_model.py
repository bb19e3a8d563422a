"""Online label model: what labeling functions and annotators vote, as calibrated probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from models.base import ABSTAIN
from models.label_corrector import fit_corrector
from models.label_gold import learn_gold_row
from models.label_kernels import fold_evidence, scale_sums, step_rows
from models.label_layout import (
    CROWD,
    LF,
    TEMPERATURES,
    Config,
    FloatArray,
    Sums,
    Tables,
    Answers,
    Recent,
    new_answers,
    new_recent,
    new_sums,
    new_tables,
    widen_sums,
)
from models.label_replay import find_recent
from models.label_snapshot import pack, pack_arrays, unpack, unpack_arrays
from models.label_tables import build_pairs, build_tables, pair_width
from models.label_stats import (
    Contribution,
    age_evidence,
    align_sums,
    decode,
    encode,
    merge_contributions,
)

__all__ = ["LabelModel", "StepResult"]

KIND = "headrace label model"
FORMS = {"lf": LF, "crowd": CROWD}
CHUNK = 4096


class StepResult(NamedTuple):
    """Outcome of rows, in order.

    ``proba`` (n, K) are calibrated probabilities; ``weights`` (n, m) each column's part, in
    log-odds of the most probable class: with the prior's log-odds they sum to the posterior's.
    ``clock`` (n,) is the stream's count of examples at each row.
    """

    proba: FloatArray
    weights: FloatArray
    clock: npt.NDArray[np.int64]


def _config(*, learn_balance: bool, correlations: bool, half_lives: Sequence[float]) -> Config:
    lives = np.array(half_lives, dtype=np.float64)
    return Config(
        half_lives=lives,
        growth=2.0 ** (1.0 / lives),
        temperatures=TEMPERATURES,
        lf_accuracy=0.7,
        lf_strength=20.0,
        crowd_accuracy=0.7,
        crowd_strength=4.0,
        population_strength=1.0,
        coin_strength=1.5,
        crowd_shrinkage=15.0,
        vote_share=3000.0,
        evidence_half_life=200.0,
        pair_half_life=5000.0,
        pair_shrinkage=10.0,
        pair_z=4.5,
        pair_floor=0.25,
        gold_half_life=float("inf"),
        gold_boost=5.0,
        prior_strength=10.0,
        temperature_strength=10.0,
        corrector_variance=0.25,
        learn_balance=learn_balance,
        replay_passes=8,
        use_pairs=correlations,
    )


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

    *State* — grows as columns² + columns × classes² × half-lives; never with examples.

    *Replay* — parameters change at block starts and gold answers only, by position.

    Examples
    --------
    >>> model = LabelModel(["ham", "spam"], ["caps", "link"])
    >>> model.learn_many([[1, 1], [0, -1], [0, 0], [1, -1]])
    >>> model.predict_proba_many([[1, 1]]).round(1)
    array([[0.2, 0.8]])
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
        half_lives: Sequence[float] = (125.0, 500.0, 2000.0, float("inf")),
    ) -> None:
        self.classes = tuple(classes)
        self.lf_names: tuple[str, ...] = ()
        self.form = form
        if not self.classes or len(set(self.classes)) != len(self.classes):
            message = f"classes must be distinct and at least one: {self.classes}"
            raise ValueError(message)
        if block < 1:
            message = f"block must be at least 1, not {block}"
            raise ValueError(message)
        self._code_of(form)
        self._half_lives = tuple(float(life) for life in half_lives)
        self._correlations = correlations
        self._config = _config(
            learn_balance=form == "crowd", correlations=correlations, half_lives=self._half_lives
        )
        self._prior = self._read_prior(prior)
        self._forms = np.zeros(0, dtype=np.int64)
        # See `step_rows` for their meaning.
        self._counters = np.array([0, 0, 0, block, 0, block, 0], dtype=np.int64)
        self._others_count = 0
        self._waiting: bytes | None = None
        self._own = new_sums(0, self.n_classes, len(self._half_lives))
        self._other = new_sums(0, self.n_classes, len(self._half_lives))
        self._tables = new_tables(0, self.n_classes, len(self._half_lives))
        self._recent = new_recent(0, self.n_classes)
        self._answers = new_answers(0)
        self._append(list(lfs), [(forms or {}).get(name, form) for name in lfs])

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def block(self) -> int:
        """Examples per learning block, by the model's own count."""
        return int(self._counters[3])

    @property
    def clock(self) -> int:
        """Examples of the whole stream that this model knows of: its own and others'."""
        return int(self._counters[1])

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
        n, m = votes.shape
        proba = np.empty((n, len(self.classes)))
        weights = np.empty((n, m))
        clock = np.empty(n, dtype=np.int64)
        row = 0
        while True:
            row = step_rows(
                row,
                votes,
                example,
                emit,
                ex_votes,
                ex_proba,
                ex_clock,
                learn,
                self._counters,
                self._recent,
                self._own,
                self._other,
                self._tables,
                self._config,
                self._prior,
                self._forms,
                proba,
                weights,
                clock,
            )
            if self._counters[4] and not self._counters[2]:
                self._take_in()
            if row >= n:
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
        matrix = self._read_votes(votes)
        for given in (ts, groups):
            if given is not None and len(np.asarray(given)) != len(matrix):
                message = f"{len(np.asarray(given))} values beside {len(matrix)} rows of votes"
                raise ValueError(message)
        for start in range(0, len(matrix), CHUNK):
            rows = matrix[start : start + CHUNK]
            n, m = rows.shape
            self.step_many(
                rows,
                np.arange(n, dtype=np.int32),
                np.ones(n, dtype=np.bool_),
                np.empty((n, m), dtype=np.int8),
                np.empty((n, self.n_classes)),
                np.full(n, -1, dtype=np.int64),
            )

    def predict_proba_many(self, votes: npt.ArrayLike) -> FloatArray:
        """Return calibrated (n, K) probabilities of (n, m) votes; change nothing."""
        return self.assess_many(votes).proba

    def assess_many(self, votes: npt.ArrayLike) -> StepResult:
        """Return probabilities and each vote's weight; change nothing."""
        matrix = self._read_votes(votes)
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
        row = self._read_row(x)
        self.learn_many(row)
        if y is not None:
            self.learn_gold(row, [self._class_code(y)])

    def predict_proba_one(self, x: Mapping[str, Any]) -> dict[str, float]:
        """Return the probability of each class, given a mapping of column to class."""
        proba = self.predict_proba_many(self._read_row(x))[0]
        return dict(zip(self.classes, proba.tolist(), strict=True))

    def predict_one(self, x: Mapping[str, Any]) -> str:
        """Return the most probable class, given a mapping of column to class."""
        return self.classes[int(self.predict_proba_many(self._read_row(x))[0].argmax())]

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
        temperature, gold accuracy and the extra weight of gold use 1 / inclusion.
        """
        matrix = self._read_votes(votes)
        n = len(matrix)
        codes = np.broadcast_to(self._read_labels(labels), n)
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
        place = find_recent(self._recent, int(self._counters[6]), int(ex_clock))
        if place >= 0:
            believed = self._recent.posterior[place].copy()
        self._gold(
            np.ascontiguousarray(votes, dtype=np.int8),
            int(label),
            believed,
            known=known,
            age=age,
            chance=inclusion,
        )
        if place >= 0:
            self._recent.posterior[place] = believed
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
        learn_gold_row(
            row,
            label,
            believed,
            known,
            max(age, 0.0),
            chance,
            self.clock,
            self._answers,
            self._own,
            self._other,
            self._tables,
            self._config,
            self._prior,
            self._forms,
        )

    # Columns ----------------------------------------------------------------------------------

    def add_lf(self, name: str, form: str | None = None) -> None:
        """Append a column; its statistics start now."""
        self._append([name], [form or self.form])

    def _append(self, names: list[str], forms: list[str]) -> None:
        joined = self.lf_names + tuple(names)
        if len(set(joined)) != len(joined):
            message = f"names of columns must be distinct: {names}"
            raise ValueError(message)
        codes = [self._code_of(form) for form in forms]
        fold_evidence(self._own, self._other, self._tables, self._config)
        self.lf_names = joined
        m = len(joined)
        self._forms = np.concatenate([self._forms, np.array(codes, dtype=np.int64)])
        self._own = widen_sums(self._own, m)
        self._other = widen_sums(self._other, m)
        recent = new_recent(m, self.n_classes)
        recent.votes[:, : self._recent.votes.shape[1]] = self._recent.votes
        self._recent = recent._replace(
            posterior=self._recent.posterior, clock=self._recent.clock
        )
        answers = new_answers(m)
        answers.votes[:, : self._answers.votes.shape[1]] = self._answers.votes
        self._answers = answers._replace(
            label=self._answers.label, clock=self._answers.clock, count=self._answers.count
        )
        weight = self._tables.weight
        self._tables = new_tables(m, self.n_classes, len(self._half_lives))
        self._tables.weight[:] = weight
        self._rebuild()

    def _rebuild(self) -> None:
        """Derive the tables anew, without moving the clock or the block under way."""
        build_tables(self._own, self._other, self._tables, self._config, self._prior, self._forms)
        build_pairs(
            self._own, self._other, self._tables, self._config, self._forms, pair_width(self._own)
        )
        size = min(int(self._answers.count[0]), len(self._answers.label))
        fit_corrector(self._answers, size, self._tables, self._config)

    # Partitions -------------------------------------------------------------------------------

    def own_stats(self) -> bytes:
        """Return this partition's contribution: its own sums, as of now."""
        return encode(self._contribution())

    def _contribution(self) -> Contribution:
        sums = Sums(*(array.copy() for array in self._own))
        tables = Tables(*(array.copy() for array in self._tables))
        idle = new_sums(len(self.lf_names), self.n_classes, len(self._half_lives))
        fold_evidence(sums, idle, tables, self._config)
        scale_sums(sums, self._config, float(self._counters[2]), tables.weight)
        return Contribution(
            self.lf_names,
            int(self._counters[0]),
            self.clock,
            self._half_lives,
            self._own.cast + self._other.cast,
            sums,
        )

    @staticmethod
    def merge_stats(contributions: list[bytes]) -> bytes | None:
        """Return the sum of contributions, at the latest of their clocks; None for none."""
        if not contributions:
            return None
        parts = [decode(data) for data in contributions]
        lives = parts[0].half_lives
        config = _config(learn_balance=False, correlations=True, half_lives=lives)
        return encode(merge_contributions(parts, config))

    def set_others(self, data: bytes | None) -> None:
        """Replace the other partitions' sums, at the next block start (now, if between two)."""
        if data is not None:
            decode(data)
        self._waiting = data
        self._counters[4] = 1
        if self._counters[2] == 0:
            self._take_in()

    def _take_in(self) -> None:
        """Take in the waiting sums: the clock moves on by the examples that others have seen."""
        data, self._waiting = self._waiting, None
        self._counters[4] = 0
        m = len(self.lf_names)
        seen = self._own.cast + self._other.cast
        clock = self.clock
        if data is None:
            self._others_count = 0
            self._other = new_sums(m, self.n_classes, len(self._half_lives))
            self._rebuild()
            return
        theirs = decode(data)
        where = {name: j for j, name in enumerate(theirs.lfs)}
        columns = [where.get(name, -1) for name in self.lf_names]
        their_seen = np.array([theirs.votes_seen[j] if j >= 0 else 0.0 for j in columns])
        other = align_sums(theirs.sums, columns)
        now = max(clock, theirs.clock, int(self._counters[0]) + theirs.count)
        now_seen = np.maximum(np.maximum(seen, their_seen), self._own.cast + other.cast)
        lives = self._config.half_lives
        for sums, since, votes in (
            (self._own, float(now - clock), now_seen - seen),
            (other, float(now - theirs.clock), now_seen - their_seen),
        ):
            scale_sums(sums, self._config, since, 2.0 ** (since / lives))
            age_evidence(sums, votes, self._config.evidence_half_life)
        self._other = other
        self._others_count = theirs.count
        self._counters[1] = now
        self._rebuild()

    def merge(self, other: LabelModel) -> Self:
        """Add what ``other`` learned itself, at the later of both clocks; return this model."""
        if other.classes != self.classes or other._half_lives != self._half_lives:
            message = "models of different classes or half-lives cannot be merged"
            raise ValueError(message)
        theirs = other._contribution()
        new = [j for j, name in enumerate(theirs.lfs) if name not in self.lf_names]
        names = {LF: "lf", CROWD: "crowd"}
        mine = self._contribution()
        if new:
            self._append(
                [theirs.lfs[j] for j in new], [names[int(other._forms[j])] for j in new]
            )
        both = merge_contributions([mine, theirs], self._config)
        where = {name: j for j, name in enumerate(both.lfs)}
        columns = [where[name] for name in self.lf_names]
        since = float(both.clock - self.clock)
        self._own = align_sums(both.sums, columns)
        scale_sums(
            self._other, self._config, since, 2.0 ** (since / self._config.half_lives)
        )
        fresh = new_tables(len(self.lf_names), self.n_classes, len(self._half_lives))
        self._tables = fresh
        self._counters[:3] = (both.count, both.clock, 0)
        # What was learned elsewhere is not at hand: no second look at part of it.
        self._counters[6] = 0
        self._rebuild()
        return self

    # Snapshots and summary --------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Return the whole state, the block under way and others' sums included."""
        return pack(
            KIND,
            {
                "classes": list(self.classes),
                "lfs": list(self.lf_names),
                "form": self.form,
                "correlations": self._correlations,
                "half_lives": list(self._half_lives),
                "others_count": self._others_count,
                "waiting": self._waiting,
                "arrays": pack_arrays(
                    {"prior": self._prior, "forms": self._forms, "counters": self._counters}
                ),
                "own": pack_arrays(self._own._asdict()),
                "other": pack_arrays(self._other._asdict()),
                "tables": pack_arrays(self._tables._asdict()),
                "recent": pack_arrays(self._recent._asdict()),
                "answers": pack_arrays(self._answers._asdict()),
            },
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the model whose state this is; refuse bytes of a newer version."""
        state = unpack(KIND, data)
        arrays = unpack_arrays(state["arrays"])
        model = cls(
            state["classes"],
            [],
            arrays["prior"].tolist(),
            state["form"],
            block=int(arrays["counters"][3]),
            correlations=state["correlations"],
            half_lives=state["half_lives"],
        )
        model.lf_names = tuple(state["lfs"])
        model._prior = arrays["prior"]
        model._forms = arrays["forms"]
        model._counters = arrays["counters"]
        model._others_count = state["others_count"]
        model._waiting = state["waiting"]
        model._own = Sums(**unpack_arrays(state["own"]))
        model._other = Sums(**unpack_arrays(state["other"]))
        model._tables = Tables(**unpack_arrays(state["tables"]))
        model._recent = Recent(**unpack_arrays(state["recent"]))
        model._answers = Answers(**unpack_arrays(state["answers"]))
        return model

    def summary(self) -> dict[str, Any]:
        """Return what is believed now, in plain values, by name."""
        balance = np.exp(self._tables.log_prior)
        balance /= balance.sum()
        theta = np.exp(self._tables.log_like)
        hits = self._own.gold_hits + self._other.gold_hits
        examples = self._own.mass[-1].sum() + self._other.mass[-1].sum()
        started = self._own.before[:, -1].sum(axis=1) + self._other.before[:, -1].sum(axis=1)
        cast = (self._own.counts + self._other.counts)[:, :, -1].sum(axis=(1, 2))
        lfs: dict[str, Any] = {}
        for w, name in enumerate(self.lf_names):
            right = float(np.diagonal(theta[w]) @ balance)
            any_vote = float(theta[w].sum(axis=0) @ balance)
            lfs[name] = {
                "form": "lf" if self._forms[w] == LF else "crowd",
                "coverage": float(cast[w] / max(examples - started[w], 1.0)),
                "estimated_accuracy": right / any_vote,
                "gold_accuracy": float(hits[w, 0] / hits[w, 1]) if hits[w, 1] > 0 else None,
                "correlated_with": {
                    self.lf_names[v]: float(self._tables.rho[w, v])
                    for v in np.flatnonzero(self._tables.rho[w])
                },
            }
        return {
            "classes": list(self.classes),
            "clock": self.clock,
            "examples": int(self._counters[0]),
            "class_balance": dict(zip(self.classes, balance.tolist(), strict=True)),
            "temperature": float(self._tables.scalars[0]),
            "gold": int(round(float(self._own.gold_size[2] + self._other.gold_size[2]))),
            "lfs": lfs,
        }

    # Reading what callers give ----------------------------------------------------------------

    @staticmethod
    def _code_of(form: str) -> int:
        if form not in FORMS:
            message = f"form must be one of {sorted(FORMS)}, not {form!r}"
            raise ValueError(message)
        return FORMS[form]

    def _read_prior(self, prior: Sequence[float] | Mapping[str, float] | None) -> FloatArray:
        if prior is None:
            return np.full(self.n_classes, 1.0 / self.n_classes)
        if isinstance(prior, Mapping):
            prior = [prior[name] for name in self.classes]
        array = np.array(prior, dtype=np.float64)
        if array.shape != (self.n_classes,) or not np.all(array > 0) or not np.isfinite(array).all():
            message = f"prior must give each class a positive share: {prior}"
            raise ValueError(message)
        return array / array.sum()

    def _read_votes(self, votes: npt.ArrayLike) -> npt.NDArray[np.int8]:
        matrix = np.ascontiguousarray(votes, dtype=np.int8)
        if matrix.ndim != 2 or matrix.shape[1] != len(self.lf_names):  # noqa: PLR2004
            message = f"votes must be (n, {len(self.lf_names)}), not {matrix.shape}"
            raise ValueError(message)
        return matrix

    def _read_labels(self, labels: npt.ArrayLike) -> npt.NDArray[np.int64]:
        array = np.asarray(labels)
        if array.dtype.kind in "US" or array.dtype == object:
            array = np.array([self._class_code(label) for label in array.ravel().tolist()])
        return array.astype(np.int64).ravel()

    def _class_code(self, label: Any) -> int:
        if label is None:
            return ABSTAIN
        if isinstance(label, str):
            return self.classes.index(label)
        return int(label)

    def _read_row(self, x: Mapping[str, Any]) -> npt.NDArray[np.int8]:
        return np.array(
            [[self._class_code(x.get(name)) for name in self.lf_names]], dtype=np.int8
        ).reshape(1, len(self.lf_names))
