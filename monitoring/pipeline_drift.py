"""Everything that is watched for drift in one partition, as the stages of the pipeline see it.

`stream.watching` calls it, always with rows in the order of the stream::

    drift = PipelineDrift(tasks, event_types, COLUMNS, rules, segment_names)    # when it is made
    drift.events(types, times)                                    # events that counted
    drift.labelled(task, cast, proba, ts, segments)               # published rows
    drift.evidence(evidence, published, block.ts)                 # the same, once for all tasks
    drift.answered(task, proba_before, label, answer.ts)          # gold
    drift.engaged(rank, predicted, weight, ts, segments)          # engagements
    chunks["share/drift"] = drift.to_bytes()                      # a checkpoint
    drift.load(chunks["share/drift"])                             # and back
    report["drift"] = drift_report([pipeline.watch.drift for pipeline in pipelines])
    drift_feed.begin(partition, drift)      # shell: `MeteredPipeline.restore`; one feed a process
    drift_feed.update(partition, drift)     # `MeteredPipeline.feed`
    drift_feed.end(partition)               # `MeteredPipeline.close`

Rows wait until there are some thousands of them, or until somebody looks: a small batch costs a few
references, and since nothing depends on how rows are cut into calls, nobody can tell.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitoring.binning import best_of, bin_numbers
from monitoring.calibration import CONFIDENCE_EDGES, LabelCalibration
from monitoring.detections import Detection
from monitoring.drift import DriftMonitor
from monitoring.held_rows import HeldRows, joined, placed, runs
from monitoring.lf_pairs import LfPairs
from monitoring.packing import packed, unpacked
from monitoring.recent import HIT_AT, Recent
from monitoring.references import Reference
from monitoring.segments import Segments
from monitoring.signals import WIDE_BLOCK, DriftRules, SignalGroup, coverage_of, numbers
from monitoring.sparse_votes import SparseVotes, joined_votes, majority_of

__all__ = ["PipelineDrift", "WatchedTask", "drift_report"]

_FORMAT: Final = 3
"""1: pairs, calibration and recent figures as they are; 2: compressed together; 3: faster."""
_SHARES: Final = (0.1, 0.3, 0.5, 0.7, 0.9)
_SHARE_EDGES: Final = np.asarray(_SHARES)
_CONFIDENCE_EDGES: Final = np.asarray(CONFIDENCE_EDGES)
_MAX_TYPES: Final = 63
_MAX_CATEGORIES: Final = 64
_HELD: Final = 16_384


class WatchedTask(NamedTuple):
    """A task: its classes, and the names and versions of its labeling functions."""

    classes: tuple[str, ...]
    lfs: tuple[str, ...]
    versions: tuple[int, ...]


class PipelineDrift:
    """Signals of votes, labels, features, predictions, rewards; pairs; calibration; recent.

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
    >>> from monitoring.sparse_votes import sparse_votes
    >>> votes, proba = sparse_votes(np.array([[1, -1]], dtype=np.int8)), np.array([[0.2, 0.8]])
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
            classes = _watched_classes(task.classes)
            votes = SignalGroup(kind, task.lfs, classes, tags, by_segment=by_segment)
            groups += [votes, coverage_of(votes)]
        for name, task in tasks.items():
            classes = _watched_classes(task.classes)
            groups += [
                SignalGroup(f"labels:{name}", ("class",), classes, by_segment=by_segment),
                SignalGroup(f"label_majority:{name}", ("class",), classes),
                numbers(f"confidence:{name}", ("max_p",), CONFIDENCE_EDGES),
                SignalGroup(f"gold:{name}", ("label",), ("wrong", "right")),
            ]
        self._types = {name: at for at, name in enumerate(list(event_types)[:_MAX_TYPES])}
        self._columns = np.array(
            [at for at, name in enumerate(columns) if not name.endswith("_ts")], dtype=np.int64
        )
        groups += [
            SignalGroup("features:events", ("type",), (*self._types, "other")),
            numbers(
                "features", [columns[at] for at in self._columns.tolist()], block=WIDE_BLOCK
            ),
            SignalGroup("predictions", (f"hit@{HIT_AT}",), ("miss", "hit"), by_segment=by_segment),
            SignalGroup("rewards", ("weight",), numbers("", ("",), _SHARES).categories,
                        edges=_SHARES, by_segment=by_segment),
        ]  # fmt: skip
        self._monitor = DriftMonitor(groups, rules, self.segments.names, keep_blocks=keep_blocks)
        self._pairs = {name: LfPairs(task.lfs) for name, task in tasks.items()}
        self._calibration = {name: LabelCalibration() for name in tasks}
        self._recent = Recent(
            {name: (task.classes, task.lfs) for name, task in tasks.items()}, self.segments.names
        )
        self._held = HeldRows({name: [] for name in tasks})

    @property
    def recent(self) -> Recent:
        """What happened lately, everything taken in."""
        self.flush()
        return self._recent

    @property
    def monitor(self) -> DriftMonitor:
        """The signals, everything taken in."""
        self.flush()
        return self._monitor

    @property
    def pairs(self) -> dict[str, LfPairs]:
        """Pairs of labeling functions by task, everything taken in."""
        self.flush()
        return self._pairs

    @property
    def calibration(self) -> dict[str, LabelCalibration]:
        """Calibration by task, everything taken in."""
        self.flush()
        return self._calibration

    # --- values in ------------------------------------------------------------------------

    def segment_codes(self, segments: Iterable[str | None]) -> NDArray[np.int64]:
        """Return the codes of rows' segments, for the calls that ask for them."""
        return self.segments.codes(segments)

    def labelled(
        self,
        task: str,
        votes: SparseVotes,
        proba: NDArray[np.float64],
        ts: ArrayLike,
        segments: NDArray[np.int64],
    ) -> None:
        """Take published labels in: votes by row, probabilities (n, K), times and segments (n,)."""
        times = np.asarray(ts, dtype=np.float64)
        self._held.labels[task].append((votes, proba, times, segments))
        self._hold(len(times))

    def answered(self, task: str, proba: NDArray[np.float64], label: int, ts: float) -> None:
        """Take a gold answer in, with the probabilities (K,) that stood before it."""
        right = int(proba.argmax()) == label
        self._monitor.update(f"gold:{task}", np.array([[right]]), np.array([ts]))
        self._calibration[task].answer(proba, label)

    def evidence(
        self, values: NDArray[np.float64], rows: NDArray[np.intp], ts: NDArray[np.float64]
    ) -> None:
        """Take evidence in: all its columns, the rows that were published, and their times."""
        # Values wait as they are: a compiled pass over a few rows costs as much as over hundreds.
        self._held.evidence.append((values, rows, ts))
        self._hold(len(rows))

    def events(self, types: Iterable[str], ts: Iterable[float]) -> None:
        """Take the types and times of events in that were applied."""
        codes = bytes(list(map(self._types.get, types, repeat(len(self._types)))))
        self._held.events.append(
            (np.frombuffer(codes, dtype=np.int8), np.frombuffer(array("d", ts), dtype=np.float64))
        )
        self._hold(len(codes))

    def engaged(
        self,
        rank: NDArray[Any],
        predicted: NDArray[Any],
        weight: NDArray[np.float64],
        ts: ArrayLike,
        segments: NDArray[np.int64],
    ) -> None:
        """Take engagements in: the rank that was predicted (0 is best, negative: not at all).

        ``predicted`` is the probability that was given to each, ``weight`` the one by which it is
        learned: the reward.
        """
        times = np.asarray(ts, dtype=np.float64)
        self._held.engaged.append((rank, predicted, weight, times, segments))
        self._hold(len(rank))

    def _hold(self, rows: int) -> None:
        self._held.rows += rows
        if self._held.rows >= _HELD:
            self.flush()

    def flush(self) -> None:
        """Take everything in that waits."""
        held = self._held
        if not held.rows:
            return
        self._held = HeldRows({name: [] for name in held.labels})
        monitor = self._monitor
        for task, parts in held.labels.items():
            if parts:
                votes, *rest = zip(*parts, strict=True)
                self._take_labels(task, joined_votes(votes), *map(joined, rest))
        for run in runs(held.evidence):
            values, rows, times = map(joined, zip(*placed(run), strict=True))
            monitor.update_numbers("features", values, rows, self._columns, times)
        if held.events:
            codes, times = map(joined, zip(*held.events, strict=True))
            monitor.update_columns("features:events", codes[None, :], times)
        if held.engaged:
            rank, predicted, weight, ts, segments = map(joined, zip(*held.engaged, strict=True))
            hit = (rank >= 0) & (rank < HIT_AT)
            self._take("predictions", hit, ts, segments)
            shares = bin_numbers(np.ascontiguousarray(weight), _SHARE_EDGES)
            self._take("rewards", shares, ts, segments)
            self._recent.engaged(rank, predicted, segments)

    def _take_labels(
        self,
        task: str,
        cast: SparseVotes,
        proba: NDArray[np.float64],
        ts: NDArray[np.float64],
        segments: NDArray[np.int64],
    ) -> None:
        monitor, classes = self._monitor, proba.shape[1]
        best, confidence = best_of(np.ascontiguousarray(proba))
        most = majority_of(cast, classes)
        shown, likely = cast, best
        if classes > _MAX_CATEGORIES:
            # Classes that have no category of their own are the last one together.
            rest = np.int8(_MAX_CATEGORIES - 1)
            shown = cast._replace(votes=np.minimum(cast.votes, rest))
            likely, most = np.minimum(best, rest), np.minimum(most, rest)
        monitor.update_votes(self._votes[task], shown, ts, segments)
        self._take(f"labels:{task}", likely, ts, segments)
        monitor.update_codes(f"label_majority:{task}", most[:, None], ts)
        certain = bin_numbers(confidence, _CONFIDENCE_EDGES)
        monitor.update_columns(f"confidence:{task}", certain[None, :], ts)
        self._pairs[task].update_votes(cast, best)
        self._calibration[task].observe_confidence(confidence)
        self._recent.labelled(task, cast, proba, best, ts, segments)

    def _take(
        self,
        group: str,
        codes: NDArray[Any],
        ts: NDArray[np.float64],
        segments: NDArray[np.int64],
    ) -> None:
        """Take the codes in of the only signal of a group, by segment if there are any."""
        if self.segments.names:
            self._monitor.update_codes(group, codes[:, None], ts, segments)
        else:
            self._monitor.update_columns(group, codes[None, :], ts)

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
                # Segments that nobody was in and pairs that never met are most of it.
                packed(
                    msgspec.msgpack.encode(
                        (
                            {name: pairs.to_bytes() for name, pairs in self.pairs.items()},
                            {name: one.to_bytes() for name, one in self.calibration.items()},
                            self.recent.to_bytes(),
                        )
                    )
                ),
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
        _, monitor, *rest = stored
        if written > 1:
            rest = msgspec.msgpack.decode(unpacked(rest[0]))
        pairs, calibration, *more = rest
        self._monitor.load(monitor)
        for name in self._pairs.keys() & pairs.keys():
            self._pairs[name].load(pairs[name])
        for name in self._calibration.keys() & calibration.keys():
            self._calibration[name] = LabelCalibration.from_bytes(calibration[name])
        for recent in more:
            self._recent.load(recent)


def _watched_classes(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the classes that are told apart: the last category is the rest of very many."""
    if len(classes) <= _MAX_CATEGORIES:
        return classes
    return (*classes[: _MAX_CATEGORIES - 1], "other classes")


def drift_report(partitions: Iterable[PipelineDrift]) -> list[dict[str, Any]]:
    """Return the latest detections of all partitions in order of event time, as plain values."""
    found: list[Detection] = []
    for drift in partitions:
        found += drift.monitor.detections
    return [detection.as_dict() for detection in sorted(found)]
