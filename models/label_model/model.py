"""Online label model: what labeling functions and annotators vote, as calibrated probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from river import base

from models.label_model.config import HALF_LIVES, default_config
from models.label_model.inputs import (
    FORMS,
    class_code,
    form_code,
    read_column,
    read_column_priors,
    read_labels,
    read_prior,
    read_row,
    read_votes,
    require_known,
)
from models.label_model.layout import FloatArray
from models.label_model.snapshot import pack, pack_small, unpack
from models.label_model.state import BLOCK, CLOCK, LabelState
from models.label_model.stats import decode, encode, merged
from models.label_model.stepping import (
    StepResult,
    answer_example,
    answer_row,
    judge_rows,
    learn_rows,
    run_rows,
)
from models.label_model.summary import summarise, triplet_gaps

__all__ = ["LabelModel"]

KIND = "headrace label model"
KIND_OF_ANSWERS = "headrace label model's answers"
MAX_CLASSES = 127


class LabelModel(base.Classifier):
    """Estimate labels and the accuracy of whoever votes, from each example once.

    *Math* — posterior r_k ∝ π_k exp Σ_w ω_w log θ_w(l_w|k) over columns that voted; sums
    S ← 2^(−Δ/h) S + δ with δC_w[l_w, k] = r_k, for several half-lives h at once; θ_w mixes the
    half-lives by how well each one predicted the recent votes of w. Labels mix r_k with what it
    would be if annotators' votes said little, as they do of an item that is hard for all.

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
        Examples judged with the same parameters; up to four times as many where only annotators
        vote, in a long stream, and eight times in a very long one. Counted by the model, so that
        results do not depend on how a stream is split into calls.
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
        if len(self.classes) > MAX_CLASSES:
            message = f"{len(self.classes)} classes; a vote has room for {MAX_CLASSES}"
            raise ValueError(message)
        require_known(lfs, forms=forms, accuracies=accuracies)
        if block < 1:
            message = f"block must be at least 1, not {block}"
            raise ValueError(message)
        form_code(form)
        config = default_config(
            learn_balance=form == "crowd", correlations=correlations, half_lives=half_lives
        )
        balance = read_prior(prior, self.classes)
        codes = [form_code((forms or {}).get(name, form)) for name in lfs]
        priors = read_column_priors([(accuracies or {}).get(name) for name in lfs], config)
        self.state = LabelState.empty(config, balance, block, list(lfs), codes, priors)

    def __repr__(self) -> str:
        return f"LabelModel({list(self.classes)}, {list(self.lf_names)})"

    def _get_params(self) -> dict[str, Any]:
        # What river's `clone` makes a fresh model from.
        config = self.state.config
        names = {code: form for form, code in FORMS.items()}
        return {
            "classes": list(self.classes),
            "lfs": list(self.lf_names),
            "prior": self.state.prior.tolist(),
            "form": self.form,
            "forms": {
                lf: names[code]
                for lf, code in zip(self.lf_names, self.state.forms.tolist(), strict=True)
            },
            "block": self.block,
            "correlations": bool(config.use_pairs),
            "half_lives": config.half_lives.tolist(),
            "accuracies": {
                lf: accuracy
                for lf, (accuracy, strength) in zip(
                    self.lf_names, self.state.tables.column_prior.tolist(), strict=True
                )
                if strength > 0.0
            },
        }

    @property
    def _multiclass(self) -> bool:
        return True

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
        return run_rows(self.state, votes, example, emit, ex_votes, ex_proba, ex_clock, learn=learn)

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
        matrix = read_votes(votes, len(self.lf_names), self.classes)
        for given in (ts, groups):
            if given is not None and len(np.asarray(given)) != len(matrix):
                message = f"{len(np.asarray(given))} values beside {len(matrix)} rows of votes"
                raise ValueError(message)
        learn_rows(self.state, matrix)

    def predict_proba_many(self, votes: npt.ArrayLike) -> FloatArray:
        """Return calibrated (n, K) probabilities of (n, m) votes; change nothing."""
        return judge_rows(self.state, read_votes(votes, len(self.lf_names), self.classes)).proba

    def assess_many(self, votes: npt.ArrayLike) -> StepResult:
        """Return probabilities and each vote's weight; change nothing."""
        matrix = read_votes(votes, len(self.lf_names), self.classes)
        return judge_rows(self.state, matrix, weights=True)

    def learn_one(self, x: Mapping[Any, Any], y: Any = None) -> None:
        """Learn one example's votes, a mapping of column to class; ``y`` is its gold label."""
        row = read_row(x, self.lf_names, self.classes)
        label = class_code(y, self.classes, "y")
        self.learn_many(row)
        if label >= 0:
            self.learn_gold(row, [label])

    def predict_proba_one(self, x: Mapping[Any, Any], **kwargs: Any) -> dict[Any, float]:
        """Return the probability of each class, given a mapping of column to class.

        Further keywords are river's; there are none that this model knows.
        """
        proba = self.predict_proba_many(read_row(x, self.lf_names, self.classes))[0]
        return dict(zip(self.classes, proba.tolist(), strict=True))

    def predict_one(self, x: Mapping[Any, Any], **kwargs: Any) -> str:
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
        matrix = read_votes(votes, len(self.lf_names), self.classes)
        n = len(matrix)
        codes = read_labels(labels, self.classes)
        if len(codes) != n:
            message = f"{len(codes)} labels beside {n} rows of votes"
            raise ValueError(message)
        ages = read_column("delay", delay, n, 0.0, float("inf"))
        chances = read_column("inclusion", inclusion, n, 0.0, 1.0)
        for row, label, age, chance in zip(matrix, codes, ages, chances, strict=True):
            believed = np.empty(self.n_classes)
            answer_row(
                self.state, row, int(label), believed, known=False, age=float(age),
                inclusion=float(chance),
            )  # fmt: skip

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
        return answer_example(self.state, votes, label, ex_proba, ex_clock, inclusion)

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
        priors = read_column_priors([accuracy], self.state.config)
        self.state.append([name], [form_code(form or self.form)], priors)

    # Partitions -------------------------------------------------------------------------------

    def own_stats(self) -> bytes:
        """Return this partition's contribution: its own sums, as of now."""
        return encode(self.state.contribution())

    @staticmethod
    def merge_stats(contributions: list[bytes]) -> bytes | None:
        """Return the sum of contributions, at the latest of their clocks; None for none."""
        if not contributions:
            return None
        return encode(merged(contributions))

    def set_others(self, data: bytes | None) -> None:
        """Replace the other partitions' sums, at the next block start (now, if between two)."""
        self.state.wait_for(None if data is None else decode(data))

    def take_others(self, contributions: Sequence[bytes]) -> None:
        """Replace the other partitions' sums as `set_others` does, by each one's contribution."""
        self.state.wait_for(merged(contributions) if contributions else None)

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

    def to_parts(self) -> tuple[bytes, bytes]:
        """Return the whole state in two parts: what examples change, and the answers at hand.

        Only gold changes the second: whoever writes the state often need not write that each time.
        """
        state = self.state.dump(answers=False)
        return (
            pack_small(KIND, {"classes": list(self.classes), "form": self.form, "state": state}),
            pack_small(KIND_OF_ANSWERS, {"answers": self.state.dump_answers()}),
        )

    @classmethod
    def from_bytes(cls, data: bytes, answers: bytes | None = None) -> Self:
        """Return the model whose state this is; refuse bytes of a newer version.

        ``answers`` are the second part of `to_parts`; without them nothing is lost that judges,
        but what the next answer teaches.
        """
        content = unpack(KIND, data)
        model = cls(content["classes"], [], form=content["form"])
        state = content["state"]
        config = default_config(
            learn_balance=state["learn_balance"],
            correlations=state["correlations"],
            half_lives=state["half_lives"],
        )
        model.state = LabelState.load(state, config)
        if answers is not None and "answers" not in state:
            model.state.take_answers(unpack(KIND_OF_ANSWERS, answers)["answers"])
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
