"""Which row of a metric's arrays holds which series, with a bound on how many there can be."""

from __future__ import annotations

from collections.abc import Iterator

from monitoring.catalogue import LABEL_BOUNDS, OTHER, Kind, MetricSpec

__all__ = ["Labels", "SeriesRows"]

Labels = tuple[str, ...]
"""Values of a metric's labels, in the order of its spec."""

_VALUE_LENGTH = 128


class SeriesRows:
    """A bounded map from label values to rows.

    Parameters
    ----------
    spec
        The metric; its labels' bounds are those of `LABEL_BOUNDS`.

    Attributes
    ----------
    size
        Rows given out so far; rows of forgotten series are given out again.
    overflowed
        How many look-ups found no room, since somebody last set it to 0.
    """

    def __init__(self, spec: MetricSpec) -> None:
        self._spec = spec
        self._rows: dict[Labels, int] = {}
        self._free: list[int] = []
        self._values: list[set[str]] = [set() for _ in spec.labels]
        self.size = 0
        self.overflowed = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[tuple[Labels, int]]:
        return iter(self._rows.items())

    def find(self, labels: Labels) -> int | None:
        """Return the row of a series that exists."""
        return self._rows.get(labels)

    def row(self, labels: Labels) -> int:
        """Return the row of a series, a new one if there is room, else that of `OTHER`.

        A gauge has none of those, -1: what does not add up would show whatever came last.
        """
        row = self._rows.get(labels)
        if row is not None:
            return row
        fitted, fits = self._fit(labels)
        if not fits:
            self.overflowed += 1
            if self._spec.kind is Kind.GAUGE:
                return -1
        row = self._rows.get(fitted)
        if row is None:
            row = self._free.pop() if self._free else self.size
            self.size = max(self.size, row + 1)
            self._rows[fitted] = row
            for seen, value in zip(self._values, fitted, strict=True):
                seen.add(value)
        return row

    def forget(self, labels: Labels) -> int | None:
        """Remove a series and return the row it had."""
        row = self._rows.pop(labels, None)
        if row is not None:
            self._free.append(row)
            self._values = [set(column) for column in zip(*self._rows, strict=True)] or [
                set() for _ in self._spec.labels
            ]
        return row

    def _fit(self, labels: Labels) -> tuple[Labels, bool]:
        """Return the labels of a series that there is room for, and whether it is this one."""
        if len(labels) != len(self._spec.labels):
            raise ValueError(f"{self._spec.name}: labels are {self._spec.labels}, found {labels}")
        fitted: list[str] = []
        fits = True
        for name, seen, raw in zip(self._spec.labels, self._values, labels, strict=True):
            # Half a surrogate pair cannot be written as UTF-8 and would spoil the whole page.
            value = raw[:_VALUE_LENGTH].encode("utf-8", "replace").decode("utf-8")
            if value not in seen and len(seen) - (OTHER in seen) >= LABEL_BOUNDS[name]:
                value = OTHER
                fits &= raw == OTHER
            fitted.append(value)
        # A series already there fits; a new one must leave the bound as it is.
        result = tuple(fitted)
        rest = (OTHER,) * len(labels)
        if result not in self._rows and len(self._rows) - (rest in self._rows) >= self._spec.bound:
            fits &= result == rest
            result = rest
        return result, fits
