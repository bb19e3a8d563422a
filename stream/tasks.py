"""Tasks: what is asked of examples, by whom it is answered, and the label model at work on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from lfs.core import Asked, LabelingFunction
from models import LabelModel, StepResult
from stream.numbers import TaskLayout
from stream.quality import LabelQuality

__all__ = ["TaskAtWork", "TaskSpec", "class_mark", "stats_chunk", "version_before"]


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task: its classes, the prior of each (None: equal), and who votes on it.

    ``accuracies`` are those that labeling functions start from, by name; the usual for others.
    """

    name: str
    classes: tuple[str, ...]
    lfs: tuple[LabelingFunction, ...]
    prior: tuple[float, ...] | None = None
    accuracies: Mapping[str, float] = field(default_factory=dict)

    @property
    def layout(self) -> TaskLayout:
        """Return how the task lies in an example's numbers."""
        return TaskLayout(
            self.name, self.classes, tuple(f"{lf.name}@{lf.version}" for lf in self.lfs)
        )

    def model(self) -> LabelModel:
        """Return a label model that has learned nothing yet."""
        return LabelModel(
            list(self.classes),
            list(self.layout.lfs),
            prior=list(self.prior) if self.prior is not None else None,
            forms={f"{lf.name}@{lf.version}": lf.form for lf in self.lfs},
            accuracies={
                f"{lf.name}@{lf.version}": self.accuracies[lf.name]
                for lf in self.lfs
                if lf.name in self.accuracies
            },
        )


def stats_chunk(task: TaskSpec) -> str:
    """Return the name of the chunk that holds a partition's share of a label model.

    Sums over other classes cannot be added, so the classes are part of it: partitions whose
    configuration is older do not disturb those that were restarted already.
    """
    return f"share/labels/{task.name}/stats/{class_mark(task.classes)}"


def class_mark(classes: Sequence[str]) -> str:
    """Return what tells one list of classes from another."""
    return f"{xxhash.xxh3_64_intdigest(msgspec.msgpack.encode(list(classes))):016x}"


def version_before(name: str, known: Sequence[str]) -> str | None:
    """Return the newest version of a function that is older than the named one.

    Examples
    --------
    >>> version_before("rated@10", ["rated@2", "rated@9", "rated@11", "liked@3"])
    'rated@9'
    >>> version_before("rated@1", ["rated@2"]) is None
    True
    """
    lf, _, version = name.rpartition("@")
    found = (column.rpartition("@") for column in known)
    older = [int(other) for same, _, other in found if same == lf and int(other) < int(version)]
    return f"{lf}@{max(older)}" if older else None


class TaskAtWork:
    """A task at work in one partition.

    The model may know more functions than run now: those that were retired stay in its columns
    and abstain, so that their statistics are still there if they come back.
    """

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec
        self.model = spec.model()
        self.quality = LabelQuality(spec.classes, spec.layout.lfs)
        self.others: dict[int, bytes] = {}
        self.names = [lf.name for lf in spec.lfs]
        self.versions = [lf.version for lf in spec.lfs]
        self.shown = list(zip(self.names, self.versions, strict=True))
        self.asked = Asked(spec.lfs)
        # Fields of the examples' numbers.
        self.votes, self.proba = f"votes_{spec.name}", f"proba_{spec.name}"
        self.clock, self.gold = f"clock_{spec.name}", f"gold_{spec.name}"
        self._columns: NDArray[np.intp] | None = None

    def adopt(self, model: LabelModel) -> None:
        """Go on with a stored model; functions that it does not know start as new ones.

        A new version of a function is held to be as accurate as the one before was found to be,
        until its own votes tell. A model of other classes is of no use: the task starts anew.
        """
        if model.classes != self.spec.classes:
            return
        wanted = self.spec.layout.lfs
        for name, lf in zip(wanted, self.spec.lfs, strict=True):
            if name not in model.lf_names:
                like = version_before(name, model.lf_names) if lf.form == "lf" else None
                known = None if like else self.spec.accuracies.get(lf.name)
                model.add_lf(name, lf.form, accuracy=known, like=like)
        self.model = model
        if model.lf_names == wanted:
            self._columns = None
        else:
            self._columns = np.array([model.lf_names.index(name) for name in wanted])

    def step(
        self,
        votes: NDArray[np.int8],
        example: NDArray[np.int32],
        emit: NDArray[np.bool_],
        ex_votes: NDArray[np.int8],
        ex_proba: NDArray[np.float64],
        ex_clock: NDArray[np.int64],
        learn: bool,
    ) -> StepResult:
        """Judge and learn rows; weights have the columns of the task, shape (n, m)."""
        columns = self._columns
        if columns is None:
            result = self.model.step_many(votes, example, emit, ex_votes, ex_proba, ex_clock, learn)
            return result
        wide = self._widened(ex_votes)
        result = self.model.step_many(
            self._widened(votes), example, emit, wide, ex_proba, ex_clock, learn
        )
        ex_votes[:] = wide[:, columns]
        return result._replace(weights=result.weights[:, columns])

    def learn_gold(
        self,
        votes: NDArray[np.int8],
        label: int,
        proba: NDArray[np.float64],
        clock: int,
        inclusion: float,
    ) -> NDArray[np.float64]:
        """Learn one answer; return what the example's probabilities are now, (K,)."""
        return self.model.gold_step(
            self._widened(votes[None, :])[0], label, proba, clock, inclusion
        )

    def _widened(self, votes: NDArray[np.int8]) -> NDArray[np.int8]:
        if self._columns is None:
            return votes
        wide = np.full((len(votes), len(self.model.lf_names)), -1, dtype=np.int8)
        wide[:, self._columns] = votes
        return wide
