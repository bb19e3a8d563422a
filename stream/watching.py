"""What a partition watches of its own stages: drift, from the rows that went through them.

Pure and part of the checkpoint, as everything in the pipeline; nothing that is watched changes
what is published or learned. The stages call it once a batch each, with rows in their order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import isnan
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitoring.pipeline_drift import PipelineDrift, WatchedTask
from monitoring.references import Reference
from monitoring.signals import DriftRules
from stream.events import ReferenceReset
from stream.evidence import COLUMNS, Column

if TYPE_CHECKING:
    from stream.effects import LabelBlock
    from stream.events import Interaction, ReferenceSet
    from stream.records import Outgoing
    from stream.rows import Rows
    from stream.tasks import TaskSpec
    from stream.user_state import Example

__all__ = ["DRIFT_CHUNK", "GOVERNANCE_CHUNK", "Watch", "pipeline_drift"]

DRIFT_CHUNK: Final = "share/drift"
GOVERNANCE_CHUNK: Final = "share/governance"

_CHANGES: Final = 20
_DELAYS: Final = 1000
_NO_FEEDBACK: Final = ("impression", "search")


def pipeline_drift(
    tasks: Sequence[TaskSpec],
    event_types: Sequence[str],
    segments: Sequence[str],
    rules: DriftRules,
) -> PipelineDrift:
    """Return what is watched for drift in any partition of a deployment; nothing is seen yet.

    ``event_types`` are those of feedback; the other two are known.
    """
    watched = {
        task.name: WatchedTask(
            task.classes,
            tuple(lf.name for lf in task.lfs),
            tuple(lf.version for lf in task.lfs),
        )
        for task in tasks
    }
    types = (*_NO_FEEDBACK, *event_types)
    return PipelineDrift(watched, types, COLUMNS, rules, segments, keep_blocks=True)


class Watch:
    """What one partition watches.

    Attributes
    ----------
    drift
        Signals of votes, labels, features, predictions and rewards.
    """

    def __init__(
        self,
        tasks: Sequence[TaskSpec],
        event_types: Sequence[str],
        segments: Sequence[str] = (),
        rules: DriftRules | None = None,
    ) -> None:
        self.drift = pipeline_drift(tasks, event_types, segments, rules or DriftRules())
        self._changes: deque[Any] = deque(maxlen=_CHANGES)
        # The examples of a batch are asked for twice: with their labels, and as engagements.
        self._coded: tuple[Sequence[Example], NDArray[np.int64]] = ((), np.zeros(0, np.int64))
        self._answer_delays: dict[str, deque[float]] = {
            task.name: deque(maxlen=_DELAYS) for task in tasks
        }

    def events(self, events: Sequence[Interaction], ignored: Sequence[Interaction]) -> None:
        """Take a batch's events in, except those that were ignored: repeats, and too late ones."""
        if ignored:
            known = {id(event) for event in ignored}
            events = [event for event in events if id(event) not in known]
        self.drift.events([event.type for event in events], [event.ts for event in events])

    def published(self, rows: Rows, block: LabelBlock) -> NDArray[np.int64]:
        """Take in the evidence of rows of which labels were published; return their segments.

        The labels themselves go to `drift`, with these.
        """
        self.drift.evidence(rows.evidence(), rows.published, block.ts)
        return self._segments(block.examples, block.example)

    def answered(
        self, task: str, proba: NDArray[np.float64], label: int, ts: float, example: Example
    ) -> None:
        """Take a gold answer in, with the probabilities (K,) that stood before it."""
        self.drift.answered(task, proba, label, ts)
        opened = example.evidence[Column.OPENED_TS]
        if not isnan(opened):
            self._answer_delays[task].append(max(0.0, ts - opened))

    def obey(self, order: ReferenceReset | ReferenceSet) -> None:
        """Take references anew, or take recorded ones; what is not watched here is left out."""
        if isinstance(order, ReferenceReset):
            with suppress(KeyError):
                self.drift.reset(order.signal)
            return
        self.drift.set_references(
            Reference(
                one.signal,
                one.tag,
                tuple(one.categories),
                one.version,
                one.since,
                one.values,
                tuple(one.shares),
                tuple(one.design_effects),
                one.freedom,
            )
            for one in order.references
        )

    def told(self, records: Sequence[Outgoing]) -> None:
        """Remember what the partition told about governance: the latest changes are shown."""
        for record in records:
            self._changes.append(msgspec.json.decode(record.value))

    def drain_answer_delays(self, task: str) -> list[float]:
        """Return how long after its example's opening each new answer came, in event time.

        For who exports them: no part of the state, and at most the latest thousand.
        """
        found = list(self._answer_delays[task])
        self._answer_delays[task].clear()
        return found

    def engaged(
        self,
        rank: NDArray[np.int32],
        predicted: NDArray[np.float32],
        weight: NDArray[np.float64],
        ts: NDArray[np.float64],
        examples: Sequence[Example],
        example: NDArray[np.int32],
    ) -> None:
        """Take engagements in, each (n,).

        Rank and probability that were predicted, weight, time, and slot of the example.
        """
        segments = self._segments(examples, example)
        self.drift.engaged(rank, predicted, weight, ts, segments)

    def _segments(self, examples: Sequence[Example], slots: NDArray[np.int32]) -> NDArray[np.int64]:
        if not self.drift.segments.names:
            return np.zeros(len(slots), dtype=np.int64)
        known, codes = self._coded
        if known is not examples or len(codes) != len(examples):
            codes = self.drift.segment_codes([example.segment for example in examples])
            self._coded = (examples, codes)
        return codes[slots]

    def chunks(self) -> dict[str, bytes]:
        """Return the partition's contributions, as the checkpoint holds them."""
        chunks = {DRIFT_CHUNK: self.drift.to_bytes()}
        if self._changes:
            chunks[GOVERNANCE_CHUNK] = msgspec.msgpack.encode(list(self._changes))
        return chunks

    def load(self, chunks: Mapping[str, bytes]) -> None:
        """Take contributions up; what an older version did not write stays empty.

        Raises
        ------
        ValueError
            If one is damaged, or of a newer format than this program reads.
        """
        if DRIFT_CHUNK in chunks:
            self.drift.load(chunks[DRIFT_CHUNK])
        if GOVERNANCE_CHUNK in chunks:
            self._changes.extend(msgspec.msgpack.decode(chunks[GOVERNANCE_CHUNK]))
