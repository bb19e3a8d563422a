"""The metrics of one process: array accumulators, rendered for Prometheus on demand.

A `Metrics` belongs to whoever made it: there is no global registry, so two services can live in
one process. It is filled from arrays once a batch, never once an event.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector, CollectorRegistry

from monitoring.catalogue import CATALOGUE, Kind, MetricSpec, by_name
from monitoring.counts import BucketCounts
from monitoring.exposition import text
from monitoring.series import Labels, SeriesRows

__all__ = ["CATALOGUE", "CONTENT_TYPE", "Labels", "Metrics"]

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
"""Media type of what `Metrics.render` returns."""


_KNOWN_SEQUENCES = 32
_DECIMALS = 5
_DECIMALS_OF_SUMS = 6


class _Family:
    """All series of one metric: a row each."""

    def __init__(self, spec: MetricSpec) -> None:
        self.spec = spec
        self.rows = SeriesRows(spec)
        self.values: NDArray[np.float64] = np.zeros(0)
        self.buckets: NDArray[np.int64] = np.zeros((0, len(spec.buckets) + 1), dtype=np.int64)
        self.since: dict[int, float] = {}
        self._known: dict[int, tuple[Sequence[Labels], NDArray[np.intp]]] = {}
        if not spec.labels and spec.kind is not Kind.GAUGE:
            # A counter that begins at 0 has a rate from its first increment on.
            self.row(())

    def row(self, labels: Labels) -> int:
        # May replace the arrays: look the row up before taking hold of one.
        row = self.rows.row(labels)
        self._grow()
        return row

    def row_array(self, labels: Sequence[Labels]) -> NDArray[np.intp]:
        # The caller passes the same sequence batch after batch; its rows are looked up once.
        # While it is kept here, nothing else can have its identity.
        known = self._known.get(id(labels))
        if known is None:
            if len(self._known) >= _KNOWN_SEQUENCES:
                self._known.clear()
            rows = np.array([self.rows.row(each) for each in labels], np.intp)
            known = self._known[id(labels)] = (labels, rows)
            self._grow()
        return known[1]

    def put(self, rows: NDArray[np.intp], values: NDArray[np.float64]) -> None:
        fits = rows >= 0
        self.values[rows[fits]] = values[fits]

    def forget(self, labels: Labels) -> None:
        row = self.rows.forget(labels)
        if row is None:
            return
        self.values[row] = 0.0
        if self.spec.kind is Kind.HISTOGRAM:
            self.buckets[row] = 0
        self.since.pop(row, None)
        self._known.clear()

    def _grow(self) -> None:
        missing = self.rows.size - len(self.values)
        if missing > 0:
            self.values = np.concatenate([self.values, np.zeros(missing)])
            if self.spec.kind is Kind.HISTOGRAM:
                more = np.zeros((missing, self.buckets.shape[1]), dtype=np.int64)
                self.buckets = np.concatenate([self.buckets, more])

    def collect(self, now: float) -> Metric:
        spec, name = self.spec, self.spec.full_name
        if spec.kind is Kind.COUNTER:
            counter = CounterMetricFamily(name, spec.help, labels=spec.labels)
            for labels, row in self.rows:
                counter.add_metric(labels, float(self.values[row]))
            return counter
        if spec.kind is Kind.GAUGE:
            gauge = GaugeMetricFamily(name, spec.help, labels=spec.labels)
            for labels, row in self.rows:
                since = self.since.get(row)
                value = float(self.values[row]) if since is None else max(0.0, now - since)
                # Ratios have no more digits than they mean; a page of them is smaller by a tenth.
                gauge.add_metric(labels, round(value, _DECIMALS))
            return gauge
        histogram = HistogramMetricFamily(name, spec.help, labels=spec.labels)
        bounds = [*(repr(bound) for bound in spec.buckets), "+Inf"]
        for labels, row in self.rows:
            cumulative = np.cumsum(self.buckets[row]).tolist()
            histogram.add_metric(labels, list(zip(bounds, cumulative, strict=True)),
                                 round(float(self.values[row]), _DECIMALS_OF_SUMS))  # fmt: skip
        return histogram


class Metrics(Collector):
    """Every metric of the catalogue, for one process.

    Metrics are named without the prefix (``"events_consumed_total"``); a name that the catalogue
    lacks raises KeyError, a metric of another type TypeError. Safe to call from any thread.

    Parameters
    ----------
    catalogue
        What there is; the service's own by default.
    process
        Whether memory, CPU and file descriptors of the process are rendered too.
    clock
        Wall clock for gauges that are ages (`set_since`), seconds since the epoch.

    State
    -----
    One row a series; the catalogue bounds them, so memory is bounded whatever label values come.

    Complexity
    ----------
    An array of m series costs O(m) once; nothing costs anything per event.

    Examples
    --------
    >>> metrics = Metrics(process=False)
    >>> metrics.add("events_consumed_total", ("headrace.events",), 500)
    >>> functions = (("long_dwell",), ("quick_return",))
    >>> metrics.add_array("lf_abstains_total", functions, np.array([3, 7]))
    >>> metrics.value("lf_abstains_total", ("quick_return",))
    7.0
    """

    def __init__(
        self,
        catalogue: Iterable[MetricSpec] = CATALOGUE,
        *,
        process: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._families = {name: _Family(spec) for name, spec in by_name(catalogue).items()}
        self._lock = threading.Lock()
        self._clock = clock
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        if process:
            ProcessCollector(registry=self._registry)
        if "build_info" in self._families:
            self.set("build_info", (_own_version(), python_version()), 1.0)

    def add(self, name: str, labels: Labels = (), value: float = 1.0) -> None:
        """Increase a counter; ValueError for a value that is negative or not a number."""
        family = self._family(name, Kind.COUNTER)
        if not value >= 0.0:
            raise ValueError(f"{name}: a counter cannot grow by {value}")
        with self._lock:
            row = family.row(labels)
            family.values[row] += value

    def add_array(self, name: str, labels: Sequence[Labels], values: ArrayLike) -> None:
        """Increase many series of a counter, ``values[i]`` that of ``labels[i]``.

        Pass the same ``labels`` object each time and the series are looked up only once; it must
        not change afterwards.
        """
        family = self._family(name, Kind.COUNTER)
        array = _as_vector(name, labels, values)
        if not (array >= 0.0).all():
            raise ValueError(f"{name}: a counter cannot grow by {array.min()}")
        with self._lock:
            rows = family.row_array(labels)
            np.add.at(family.values, rows, array)

    def set(self, name: str, labels: Labels, value: float) -> None:
        """Set a gauge."""
        family = self._family(name, Kind.GAUGE)
        with self._lock:
            row = family.row(labels)
            if row >= 0:
                family.values[row] = value
                family.since.pop(row, None)

    def set_array(self, name: str, labels: Sequence[Labels], values: ArrayLike) -> None:
        """Set many series of a gauge, ``labels[i]`` to ``values[i]``; others stay."""
        family = self._family(name, Kind.GAUGE)
        array = _as_vector(name, labels, values)
        with self._lock:
            family.put(family.row_array(labels), array)

    def replace(self, name: str, labels: Sequence[Labels], values: ArrayLike) -> None:
        """Set a gauge to exactly these series and forget its others: a new top 20."""
        family = self._family(name, Kind.GAUGE)
        array = _as_vector(name, labels, values)
        wanted = set(labels)
        with self._lock:
            for gone in [each for each, _ in family.rows if each not in wanted]:
                family.forget(gone)
            family.put(family.row_array(labels), array)

    def set_since(self, name: str, labels: Labels, since: float) -> None:
        """Make a gauge an age: rendered as the clock's time minus ``since``, at least 0.

        So an age goes on growing when whoever should have refreshed it has stopped.
        """
        family = self._family(name, Kind.GAUGE)
        with self._lock:
            row = family.row(labels)
            if row >= 0:
                family.since[row] = since

    def forget(self, name: str, labels: Labels) -> None:
        """Remove a series: a partition that moved away, a pair that left the top 20."""
        with self._lock:
            self._families[name].forget(labels)

    def observe(self, name: str, labels: Labels, value: float) -> None:
        """Count one value, where there is only one: a request's duration, a batch's."""
        family = self._family(name, Kind.HISTOGRAM)
        slot = bisect_left(family.spec.buckets, value)
        with self._lock:
            row = family.row(labels)
            family.buckets[row, slot] += 1
            family.values[row] += value

    def observe_many(self, name: str, labels: Labels, values: ArrayLike) -> None:
        """Count all values in one series of a histogram; NaN is left out."""
        family = self._family(name, Kind.HISTOGRAM)
        counts = BucketCounts(family.spec.buckets)
        counts.observe_many(values)
        self.add_buckets(name, labels, counts)

    def observe_each(self, name: str, labels: Sequence[Labels], values: ArrayLike) -> None:
        """Count ``values[i]`` in the series of ``labels[i]``."""
        family = self._family(name, Kind.HISTOGRAM)
        array = _as_vector(name, labels, values)
        slots = np.searchsorted(np.asarray(family.spec.buckets), array, side="left")
        with self._lock:
            rows = family.row_array(labels)
            np.add.at(family.buckets, (rows, slots), 1)
            np.add.at(family.values, rows, array)

    def add_buckets(self, name: str, labels: Labels, counts: BucketCounts) -> None:
        """Add a histogram that was counted elsewhere with the same bounds."""
        family = self._family(name, Kind.HISTOGRAM)
        if counts.bounds != family.spec.buckets:
            raise ValueError(f"{name}: bounds are {family.spec.buckets}, not {counts.bounds}")
        with self._lock:
            row = family.row(labels)
            family.buckets[row] += counts.counts
            family.values[row] += counts.total

    def value(self, name: str, labels: Labels = ()) -> float:
        """Return a counter or gauge, or the number of a histogram's values; 0 if unknown."""
        family = self._families[name]
        with self._lock:
            row = family.rows.find(labels)
            if row is None:
                return 0.0
            if family.spec.kind is Kind.HISTOGRAM:
                return float(family.buckets[row].sum())
            since = family.since.get(row)
            return float(family.values[row]) if since is None else max(0.0, self._clock() - since)

    def known(self, name: str, labels: Labels = ()) -> float | None:
        """Return a counter or gauge, None if it has not been set."""
        with self._lock:
            unknown = self._families[name].rows.find(labels) is None
        return None if unknown else self.value(name, labels)

    def collect(self) -> Iterator[Metric]:
        """Yield every family that has a series, as prometheus_client wants it."""
        now = self._clock()
        with self._lock:
            self._count_overflow()
            families = [f.collect(now) for f in self._families.values() if len(f.rows)]
        yield from families

    def families(self) -> Iterator[Metric]:
        """Yield every family that has a series, those of the process itself among them."""
        return iter(self._registry.collect())

    def render(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return text(self._registry)

    def _count_overflow(self) -> None:
        overflow = self._families.get("metrics_overflow_total")
        if overflow is None:
            return
        for name, family in self._families.items():
            if family.rows.overflowed and family is not overflow:
                row = overflow.row((name,))
                overflow.values[row] += family.rows.overflowed
                family.rows.overflowed = 0

    def _family(self, name: str, kind: Kind) -> _Family:
        family = self._families[name]
        if family.spec.kind is not kind:
            raise TypeError(f"{name} is a {family.spec.kind}, not a {kind}")
        return family


def _as_vector(name: str, labels: Sequence[Labels], values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (len(labels),):
        raise ValueError(f"{name}: {len(labels)} series, but values of shape {array.shape}")
    return array


def _own_version() -> str:
    try:
        return version("headrace")
    except PackageNotFoundError:
        return "unknown"
