"""Collect the last label of each example from what a replay publishes, for an analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from monitoring.lf_analysis import Sample
from stream.effects import Effects
from stream.pipeline import PartitionPipeline
from stream.rows import REASONS

__all__ = ["LabelCollector"]

_GOLD = REASONS.index("gold")


@dataclass(slots=True)
class _Last:
    votes: NDArray[np.int8]
    proba: NDArray[np.float64]
    segment: str | None
    gold: int = -1


@dataclass(slots=True)
class LabelCollector:
    """Remembers labels by task and example; `Replay` tells it of every batch.

    *State* — one entry an example and task: for samples, not for streams.
    """

    labels: dict[str, dict[str, _Last]] = field(default_factory=dict)

    def __call__(self, effects: Effects) -> None:
        """Take the labels of a batch in."""
        for block in effects.labels:
            known = self.labels.setdefault(block.task, {})
            reasons, slots = block.reason.tolist(), block.example.tolist()
            for row, name in enumerate(block.example_ids()):
                # The answer of an annotator who is weighed is a vote, and its label unsure.
                if reasons[row] == _GOLD and block.proba[row].max() == 1.0:
                    last = known.get(name)
                    if last is None:
                        # Answered before anything else was published of it.
                        uniform = np.full(len(block.classes), 1.0 / len(block.classes))
                        last = known[name] = _Last(block.votes[row], uniform, None)
                    last.gold = int(block.proba[row].argmax())
                    continue
                segment = block.examples[slots[row]].segment
                before = known.get(name)
                if before is not None and before.gold >= 0:
                    # A label after the answer is the answer: only the votes are news.
                    before.votes = block.votes[row]
                    continue
                known[name] = _Last(block.votes[row], block.proba[row], segment)

    def sample(self, pipelines: Sequence[PartitionPipeline], task: str) -> Sample:
        """Return the labels of a task; estimates are those of the first partition's model."""
        at_work = pipelines[0].labelling.tasks[task]
        spec = at_work.spec
        summary = at_work.model.summary()
        labels = list(self.labels.get(task, {}).values())
        failures = np.zeros(len(spec.lfs), dtype=np.int64)
        stopped: set[tuple[str, str, int]] = set()
        for pipeline in pipelines:
            counted = pipeline.counts.task(task, spec.classes, at_work.names)
            for (name, _), n in counted.failures.items():
                failures[at_work.names.index(name)] += n
            stopped |= pipeline.switches.failing.stopped
        m, k = len(spec.lfs), len(spec.classes)
        columns = {f"{lf.name}@{lf.version}": j for j, lf in enumerate(spec.lfs)}
        correlation = np.zeros((m, m))
        for name, j in columns.items():
            for other, rho in summary["lfs"][name]["correlated_with"].items():
                if other in columns:
                    correlation[j, columns[other]] = rho
        return Sample(
            task=task,
            classes=spec.classes,
            lfs=tuple((lf.name, lf.version) for lf in spec.lfs),
            votes=np.array([label.votes for label in labels], dtype=np.int8).reshape(-1, m),
            proba=np.array([label.proba for label in labels], dtype=np.float64).reshape(-1, k),
            gold=np.array([label.gold for label in labels], dtype=np.int64),
            segments=[label.segment for label in labels],
            estimated=np.array(
                [summary["lfs"][f"{lf.name}@{lf.version}"]["estimated_accuracy"] for lf in spec.lfs]
            ),
            failures=failures,
            balance=np.array([summary["class_balance"][name] for name in spec.classes]),
            correlation=correlation,
            stopped=frozenset(name for of, name, _ in stopped if of == task),
        )
