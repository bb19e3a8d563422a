"""Pour drift into the metrics of a process, and let ADWIN look on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from monitoring.calibration import LabelCalibration
from monitoring.drift import DriftMonitor
from monitoring.drift_view import DriftView, Readings, contribution
from monitoring.lf_pairs import WORST, LfPairs, Pair
from monitoring.metrics import Labels, Metrics
from monitoring.pipeline_drift import PipelineDrift
from monitoring.recent import Recent
from monitoring.recent_feed import export_recent

__all__ = ["SEGMENT_SERIES", "Detector", "DriftFeed"]

SEGMENT_SERIES: Final = 20
"""Signals of segments that have a series: those furthest out. All of them are detected on."""


class Detector(Protocol):
    """A drift detector as river has them."""

    @property
    def drift_detected(self) -> bool:
        """Whether the value that came last is of another kind than those before."""
        ...

    def update(self, x: float) -> object:
        """Look at one more value."""
        ...


class DriftFeed:
    """The drift metrics of one process, over all partitions that it has; safe from any thread.

    Parameters
    ----------
    adwin
        Makes river's ADWIN, which then looks at the blocks that monitors keep
        (``keep_blocks=True``). Its detections are counted as information: on votes that come in
        sessions it fires without any change. It is not part of any state and starts afresh with
        the process.
    counted
        Whether detections are counted: in the processes that own the partitions only.

    Examples
    --------
    >>> metrics, drift = Metrics(process=False), PipelineDrift({}, ["click"], [])
    >>> feed = DriftFeed(metrics)
    >>> feed.begin(0, drift)
    >>> feed.put(0, drift)
    >>> readings = feed.export()
    >>> metrics.value("drift_zscore", ("features:events/type",))
    0.0
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        adwin: Callable[[], Detector] | None = None,
        counted: bool = True,
    ) -> None:
        self._metrics = metrics
        self._counted = counted
        self._lock = threading.Lock()
        self._view = DriftView()
        self._fed: dict[int, tuple[int, NDArray[np.int64]]] = {}
        self._new_adwin = adwin
        self._adwin: dict[str, Detector] = {}
        self._pairs: dict[int, dict[str, tuple[LfPairs, NDArray[np.float64]]]] = {}
        self._calibration: dict[int, dict[str, LabelCalibration]] = {}
        self._recent: dict[int, Recent] = {}
        self._monitor: DriftMonitor | None = None
        self._labels: dict[tuple[str, ...], tuple[Labels, ...]] = {}

    def begin(self, partition: int, drift: PipelineDrift) -> None:
        """Take what a partition watches, as restored, for its beginning here."""
        monitor = drift.monitor
        with self._lock:
            self._fed[partition] = (id(monitor), monitor.state.detected.copy())
            for at in _foremost(monitor, monitor.detailed).tolist():
                # A counter that begins at 0 has a rate from its first detection on.
                self._metrics.add("drift_detections_total", (monitor.signals[at], "zscore"), 0.0)

    def put(self, partition: int, drift: PipelineDrift) -> None:
        """Take over how a partition stands, and count what it detected."""
        monitor = drift.monitor
        with self._lock:
            self._monitor = monitor
            if self._counted:
                self._count(partition, monitor)
            self._view.put(partition, contribution(monitor))
            self._pairs[partition] = {
                task: (pairs, pairs.sums) for task, pairs in drift.pairs.items()
            }
            # A copy: another thread may go on with this partition while its sums are added up.
            self._calibration[partition] = {
                task: recent.copy() for task, recent in drift.calibration.items()
            }
            self._recent[partition] = drift.recent.copy()

    def export(self) -> Readings | None:
        """Bring the gauges up to date with all partitions; return how the signals stand."""
        with self._lock:
            if self._monitor is None:
                return None
            readings = self._view.readings(self._monitor.signals)
            self._export(self._monitor, readings)
            self._export_pairs()
            self._export_trust()
            export_recent(self._metrics, [part for _, part in sorted(self._recent.items())])
        return readings

    def end(self, partition: int) -> None:
        """Forget a partition that has moved away."""
        with self._lock:
            self._fed.pop(partition, None)
            self._view.drop(partition)
            self._pairs.pop(partition, None)
            self._calibration.pop(partition, None)
            self._recent.pop(partition, None)

    def _count(self, partition: int, monitor: DriftMonitor) -> None:
        detected = monitor.state.detected
        known, fed = self._fed.get(partition, (id(monitor), np.zeros_like(detected)))
        if known != id(monitor):
            fed = detected.copy()
        for at in np.flatnonzero(detected > fed).tolist():
            labels = (monitor.signals[at], "zscore")
            self._metrics.add("drift_detections_total", labels, float(detected[at] - fed[at]))
        self._fed[partition] = (id(monitor), detected.copy())
        if self._new_adwin is None or monitor.block_means is None:
            return
        # Votes and labels only: what looks on must not cost more than what watches.
        for at, mean in monitor.block_means.drain(monitor.detailed):
            signal = monitor.signals[at]
            detector = self._adwin.get(signal)
            if detector is None:
                detector = self._adwin[signal] = self._new_adwin()
            detector.update(mean)
            if detector.drift_detected:
                self._metrics.add("drift_detections_total", (signal, "adwin"))

    def _export(self, monitor: DriftMonitor, readings: Readings) -> None:
        metrics = self._metrics
        overall = np.array(monitor.overall)
        of_segments = np.flatnonzero(~overall)
        order = np.lexsort((of_segments, -np.abs(readings.z[of_segments])))
        shown = overall.copy()
        shown[of_segments[order[:SEGMENT_SERIES]]] = True
        signals = _foremost(monitor, shown)
        names = [monitor.signals[at] for at in signals.tolist()]
        metrics.replace("drift_zscore", self._series(names), readings.z[signals])
        detailed = _foremost(monitor, monitor.detailed)
        # Of votes one measure is enough: with few classes both say the same.
        few = np.flatnonzero(monitor.detailed & ~_of_functions(monitor))
        for measure, score, floor, signals in (
            ("psi", readings.psi, readings.psi_floor, detailed),
            ("js", readings.js, readings.js_floor, few),
        ):
            names = [monitor.signals[at] for at in signals.tolist()]
            series = self._series(names, measure)
            metrics.set_array("drift_score", series, score[signals])
            metrics.set_array("drift_noise_floor", series, floor[signals])
        series = self._series([monitor.signals[at] for at in detailed.tolist()])
        metrics.set_array("drift_reference_timestamp_seconds", series, readings.since[detailed])
        metrics.set_array("drift_reference_samples", series, readings.samples[detailed])

    def _export_pairs(self) -> None:
        conflicts: list[Pair] = []
        correlations: list[Pair] = []
        merged: dict[str, tuple[LfPairs, NDArray[np.float64]]] = {}
        for _, tasks in sorted(self._pairs.items(), key=lambda item: item[0]):
            for task, (pairs, sums) in tasks.items():
                known = merged.get(task)
                merged[task] = (pairs, sums if known is None else known[1] + sums)
        for pairs, sums in merged.values():
            conflicts += pairs.conflicts(sums=sums)
            correlations += pairs.correlations(sums=sums)
        for name, found in (
            ("lf_pair_conflict_ratio", conflicts),
            ("lf_pair_correlation_ratio", correlations),
        ):
            found.sort(key=lambda pair: -pair.ratio)
            # A function of two tasks may be in the same pair twice: the worse one is shown.
            shown: dict[Labels, float] = {}
            for pair in found:
                if len(shown) < WORST:
                    shown.setdefault((pair.a, pair.b), pair.ratio)
            self._metrics.replace(name, tuple(shown), list(shown.values()))

    def _export_trust(self) -> None:
        totals: dict[str, LabelCalibration] = {}
        for _, tasks in sorted(self._calibration.items(), key=lambda item: item[0]):
            for task, recent in tasks.items():
                totals.setdefault(task, LabelCalibration()).add(recent)
        for task, total in totals.items():
            estimated = total.trust().estimated_accuracy
            if estimated is not None:
                self._metrics.set("estimated_accuracy_ratio", (task,), estimated)

    def _series(self, names: list[str], *more: str) -> tuple[Labels, ...]:
        # The metrics recognise the same object and skip their look-ups.
        key = (*more, *names)
        found = self._labels.get(key)
        if found is None:
            if len(self._labels) > SEGMENT_SERIES:
                self._labels.clear()
            found = self._labels[key] = tuple((name, *more) for name in names)
        return found


def _of_functions(monitor: DriftMonitor) -> NDArray[np.bool_]:
    return np.array([owner.name.startswith("lf_") for owner in monitor.owners], dtype=np.bool_)


def _foremost(monitor: DriftMonitor, wanted: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return wanted signals, those of functions last: where there is no room for all, they miss."""
    signals = np.flatnonzero(wanted)
    return signals[np.argsort(_of_functions(monitor)[signals], kind="stable")]
