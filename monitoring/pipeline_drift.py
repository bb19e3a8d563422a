"""Everything that is watched for drift in one partition, as the stages of the pipeline see it.

Where a pipeline calls it, always with rows in the order of the stream::

    drift = PipelineDrift(tasks, event_types, COLUMNS, rules, segment_names)    # when it is made
    drift.events([event.type for event in events], [event.ts for event in events])
                                        # `PartitionPipeline._apply_events`, events that counted
    drift.labelled(task, block.votes, block.proba, block.ts, segments)
                                        # `Labelling._count`, of published rows
    drift.evidence(evidence[published], block.ts)      # `Labelling.step`, once, not for each task
    drift.answered(task, proba_before, label, answer.ts)          # `Labelling.answer`
    drift.engaged(rank, weight, ts, segments)                     # `Learning.step`, engagements
    chunks["share/drift"] = drift.to_bytes()                      # `Snapshot.shared`
    drift.load(chunks["share/drift"])                             # `Snapshot.restore`
    report["drift"] = drift_report([pipeline.drift for pipeline in pipelines])
    drift_feed.begin(partition, drift)      # shell: `MeteredPipeline.restore`; one feed a process
    drift_feed.update(partition, drift)     # `MeteredPipeline.feed`
    drift_feed.end(partition)               # `MeteredPipeline.close`

``serve`` makes a `PipelineDrift` of the same settings for each partition, loads the chunk into it,
and feeds it to a `DriftFeed` of its own: that is the merged view.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitoring.calibration import CONFIDENCE_EDGES, LabelCalibration
from monitoring.detections import Detection
from monitoring.drift import DriftMonitor
from monitoring.lf_pairs import LfPairs
from monitoring.references import Reference
from monitoring.segments import Segments
from monitoring.signals import DriftRules, SignalGroup, coverage_of, numbers

__all__ = ["PipelineDrift", "WatchedTask", "drift_report"]

_FORMAT: Final = 1
_HIT: Final = 10
_SHARES: Final = (0.1, 0.3, 0.5, 0.7, 0.9)
_MAX_TYPES: Final = 63


class WatchedTask(NamedTuple):
    """A task: its classes, and the names and versions of its labeling functions."""

    classes: tuple[str, ...]
    lfs: tuple[str, ...]
    versions: tuple[int, ...]


class PipelineDrift:
    """Signals of votes, labels, features, predictions and rewards; pairs; calibration.

    Parameters
    ----------
    tasks
        By name.
    event_types
        Types of events whose mix is watched; others are counted as ``other``.
    columns
        Names of the columns of evidence; times (``…_ts``) are left out.
    segments
        Configured segments; at most 20 have signals of their own.

    State
    -----
    Bounded by the configuration: about 200 bytes a category of a signal, 40 a pair of functions.

    Examples
    --------
    >>> task = WatchedTask(("no", "yes"), ("viewed", "bought"), (1, 1))
    >>> drift = PipelineDrift({"relevance": task}, ["click"], ["dwell_s", "last_ts"])
    >>> votes, proba = np.array([[1, -1]], dtype=np.int8), np.array([[0.2, 0.8]])
    >>> drift.labelled("relevance", votes, proba, [7.0], drift.segment_codes([None]))
    >>> drift.monitor.signals[:4]
    ['lf_votes/viewed', 'lf_votes/bought', 'lf_coverage/viewed', 'lf_coverage/bought']
    """

    def __init__(
        self,
        tasks: Mapping[str, WatchedTask],
        event_types: Sequence[str],
        columns: Sequence[str],
        rules: DriftRules | None = None,
        segments: Sequence[str] = (),
        *,
        keep_blocks: bool = False,
    ) -> None:
        self.segments = Segments(segments)
        by_segment = bool(self.segments.names)
        several = len(tasks) > 1
        groups: list[SignalGroup] = []
        self._votes: dict[str, str] = {}
        for name, task in tasks.items():
            # With one task its name would only make every signal longer.
            kind = self._votes[name] = f"lf_votes:{name}" if several else "lf_votes"
            tags = tuple(str(version) for version in task.versions)
            votes = SignalGroup(kind, task.lfs, task.classes, tags, by_segment=by_segment)
            groups += [votes, coverage_of(votes)]
        for name, task in tasks.items():
            groups += [
                SignalGroup(f"labels:{name}", ("class",), task.classes, by_segment=by_segment),
                numbers(f"confidence:{name}", ("max_p",), CONFIDENCE_EDGES),
                SignalGroup(f"gold:{name}", ("label",), ("wrong", "right")),
            ]
        self._types = {name: at for at, name in enumerate(list(event_types)[:_MAX_TYPES])}
        self._columns = np.array(
            [at for at, name in enumerate(columns) if not name.endswith("_ts")], dtype=np.intp
        )
        groups += [
            SignalGroup("features:events", ("type",), (*self._types, "other")),
            numbers("features", [columns[at] for at in self._columns.tolist()]),
            SignalGroup("predictions", (f"hit@{_HIT}",), ("miss", "hit"), by_segment=by_segment),
            SignalGroup("rewards", ("weight",), numbers("", ("",), _SHARES).categories,
                        edges=_SHARES, by_segment=by_segment),
        ]  # fmt: skip
        self.monitor = DriftMonitor(groups, rules, self.segments.names, keep_blocks=keep_blocks)
        self.pairs = {name: LfPairs(task.lfs) for name, task in tasks.items()}
        self.calibration = {name: LabelCalibration() for name in tasks}

    # --- values in ------------------------------------------------------------------------

    def segment_codes(self, segments: Iterable[str | None]) -> NDArray[np.int64]:
        """Return the codes of rows' segments, for the calls that ask for them."""
        return self.segments.codes(segments)

    def labelled(
        self,
        task: str,
        votes: NDArray[np.int8],
        proba: NDArray[np.float64],
        ts: ArrayLike,
        segments: NDArray[np.int64],
    ) -> None:
        """Take published labels in: votes (n, m), probabilities (n, K), times and segments (n,)."""
        monitor = self.monitor
        best = proba.argmax(axis=1)
        monitor.update_votes(self._votes[task], votes, ts, segments)
        monitor.update(f"labels:{task}", best[:, None], ts, segments)
        monitor.update(f"confidence:{task}", proba.max(axis=1)[:, None], ts)
        self.pairs[task].update(votes, best)
        self.calibration[task].observe(proba)

    def answered(self, task: str, proba: NDArray[np.float64], label: int, ts: float) -> None:
        """Take a gold answer in, with the probabilities (K,) that stood before it."""
        right = int(proba.argmax()) == label
        self.monitor.update(f"gold:{task}", np.array([[right]]), np.array([ts]))
        self.calibration[task].answer(proba, label)

    def evidence(self, rows: NDArray[np.float64], ts: ArrayLike) -> None:
        """Take evidence in, all its columns, of the rows that were published."""
        self.monitor.update("features", rows[:, self._columns], ts)

    def events(self, types: Iterable[str], ts: ArrayLike) -> None:
        """Take the types of events in that were applied."""
        code, other = self._types.get, len(self._types)
        codes = np.array([code(name, other) for name in types], dtype=np.int8)
        self.monitor.update("features:events", codes[:, None], ts)

    def engaged(
        self,
        rank: NDArray[Any],
        weight: NDArray[np.float64],
        ts: ArrayLike,
        segments: NDArray[np.int64],
    ) -> None:
        """Take engagements in: the rank that was predicted (0 is best, negative: not at all).

        ``weight`` is the probability by which each is learned: the reward.
        """
        hit = (rank >= 0) & (rank < _HIT)
        self.monitor.update("predictions", hit[:, None], ts, segments)
        self.monitor.update("rewards", weight[:, None], ts, segments)

    # --- references -----------------------------------------------------------------------

    def reset(self, signal: str | None = None) -> None:
        """Take a new reference of a signal, or of all; KeyError if there is no such signal."""
        self.monitor.reset(signal)

    def set_references(self, references: Iterable[Reference]) -> list[str]:
        """Compare with recorded references from now on; return the signals that took theirs."""
        return self.monitor.set_references(references)

    # --- bytes ----------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Return the whole state; equal states give equal bytes."""
        return msgspec.msgpack.encode(
            (
                _FORMAT,
                self.monitor.to_bytes(),
                {name: pairs.to_bytes() for name, pairs in self.pairs.items()},
                {name: recent.to_bytes() for name, recent in self.calibration.items()},
            )
        )

    def load(self, data: bytes) -> None:
        """Take up what was written, as far as the configuration still is the same.

        Raises
        ------
        ValueError
            If the bytes are none of these, or of a newer format.
        """
        try:
            stored: Any = msgspec.msgpack.decode(data)
            written = int(stored[0])
        except (msgspec.DecodeError, TypeError, LookupError) as error:
            raise ValueError(f"this is no state of drift detection: {error}") from error
        if written > _FORMAT:
            raise ValueError(
                f"drift state has format {written}, this program reads up to {_FORMAT}"
            )
        _, monitor, pairs, calibration = stored
        self.monitor.load(monitor)
        for name in self.pairs.keys() & pairs.keys():
            self.pairs[name].load(pairs[name])
        for name in self.calibration.keys() & calibration.keys():
            self.calibration[name] = LabelCalibration.from_bytes(calibration[name])


def drift_report(partitions: Iterable[PipelineDrift]) -> list[dict[str, Any]]:
    """Return the latest detections of all partitions in order of event time, as plain values."""
    found: list[Detection] = []
    for drift in partitions:
        found += drift.monitor.detections
    return [detection.as_dict() for detection in sorted(found)]
