"""Pour drift into the metrics of a process, and let ADWIN look on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN

from monitoring.drift import DriftMonitor
from monitoring.drift_view import DriftView, Readings, contribution
from monitoring.metrics import Labels, Metrics

__all__ = ["SEGMENT_SERIES", "DriftFeed"]

SEGMENT_SERIES: Final = 20
"""Signals of segments that have a series: those furthest out. All of them are detected on."""


class _Detector(Protocol):
    @property
    def drift_detected(self) -> bool: ...

    def update(self, x: float) -> object: ...


# River's classes carry no types.
_NEW_ADWIN: Final[Callable[[], _Detector]] = ADWIN


class DriftFeed:
    """The drift metrics of one process, over all partitions that it has; safe from any thread.

    Parameters
    ----------
    adwin
        Whether river's ADWIN looks at the blocks that monitors keep (``keep_blocks=True``). Its
        detections are counted as information: on votes that come in sessions it fires without
        any change. It is not part of any state and starts afresh with the process.

    Examples
    --------
    >>> from monitoring.signals import SignalGroup
    >>> metrics = Metrics(process=False)
    >>> drift, monitor = DriftFeed(metrics), DriftMonitor([SignalGroup("a", ("b",), ("x", "y"))])
    >>> drift.begin(0, monitor)
    >>> readings = drift.update(0, monitor)
    >>> metrics.value("drift_zscore", ("a/b",))
    0.0
    """

    def __init__(self, metrics: Metrics, *, adwin: bool = True) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._view = DriftView()
        self._fed: dict[int, tuple[int, NDArray[np.int64]]] = {}
        self._adwin: dict[str, _Detector] | None = {} if adwin else None
        self._labels: dict[tuple[str, ...], tuple[Labels, ...]] = {}

    def begin(self, partition: int, monitor: DriftMonitor) -> None:
        """Take a partition's monitor, as restored, for its beginning here."""
        with self._lock:
            self._fed[partition] = (id(monitor), monitor.state.detected.copy())
            for signal, overall in zip(monitor.signals, monitor.overall, strict=True):
                if overall:
                    # A counter that begins at 0 has a rate from its first detection on.
                    self._metrics.add("drift_detections_total", (signal, "zscore"), 0.0)

    def update(self, partition: int, monitor: DriftMonitor) -> Readings:
        """Bring the metrics up to date with one partition; return how all stand together."""
        with self._lock:
            self._count(partition, monitor)
            self._view.put(partition, contribution(monitor))
            readings = self._view.readings(monitor.signals)
            self._export(monitor, readings)
        return readings

    def end(self, partition: int) -> None:
        """Forget a partition that has moved away."""
        with self._lock:
            self._fed.pop(partition, None)
            self._view.drop(partition)

    def _count(self, partition: int, monitor: DriftMonitor) -> None:
        detected = monitor.state.detected
        known, fed = self._fed.get(partition, (id(monitor), np.zeros_like(detected)))
        if known != id(monitor):
            fed = detected.copy()
        for at in np.flatnonzero(detected > fed).tolist():
            labels = (monitor.signals[at], "zscore")
            self._metrics.add("drift_detections_total", labels, float(detected[at] - fed[at]))
        self._fed[partition] = (id(monitor), detected.copy())
        overall = dict(zip(monitor.signals, monitor.overall, strict=True))
        for signal, mean in monitor.drain_blocks():
            if self._adwin is None or not overall[signal]:
                continue
            detector = self._adwin.get(signal)
            if detector is None:
                detector = self._adwin[signal] = _NEW_ADWIN()
            detector.update(mean)
            if detector.drift_detected:
                self._metrics.add("drift_detections_total", (signal, "adwin"))

    def _export(self, monitor: DriftMonitor, readings: Readings) -> None:
        metrics = self._metrics
        overall = np.array(monitor.overall)
        of_segments = np.flatnonzero(~overall)
        order = np.lexsort((of_segments, -np.abs(readings.z[of_segments])))
        shown = np.flatnonzero(overall)
        worst = of_segments[order[:SEGMENT_SERIES]]
        names = [monitor.signals[at] for at in (*shown.tolist(), *worst.tolist())]
        metrics.replace("drift_zscore", self._series(names),
                        readings.z[np.concatenate([shown, worst])])  # fmt: skip
        detailed = np.array(
            [at for at in shown.tolist() if monitor.owners[at].detail], dtype=np.intp
        )
        names = [monitor.signals[at] for at in detailed.tolist()]
        for measure, score, floor in (
            ("psi", readings.psi, readings.psi_floor),
            ("js", readings.js, readings.js_floor),
        ):
            series = self._series(names, measure)
            metrics.set_array("drift_score", series, score[detailed])
            metrics.set_array("drift_noise_floor", series, floor[detailed])
        series = self._series(names)
        metrics.set_array("drift_reference_timestamp_seconds", series, readings.since[detailed])
        metrics.set_array("drift_reference_samples", series, readings.samples[detailed])

    def _series(self, names: list[str], *more: str) -> tuple[Labels, ...]:
        # The metrics recognise the same object and skip their look-ups.
        key = (*more, *names)
        found = self._labels.get(key)
        if found is None:
            if len(self._labels) > SEGMENT_SERIES:
                self._labels.clear()
            found = self._labels[key] = tuple((name, *more) for name in names)
        return found
