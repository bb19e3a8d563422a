"""The metrics of a service that is several processes, shown by one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client.core import Metric

from monitoring.catalogue import CATALOGUE, by_name
from monitoring.exposition import decoded, rendered, without_parts
from monitoring.metrics import Labels, Metrics

__all__ = ["JoinedMetrics"]

_SPECS: Final = by_name(CATALOGUE)


class JoinedMetrics(Metrics):
    """Metrics of this process, shown together with another one's.

    Parameters
    ----------
    other
        Asks the other process for `monitoring.exposition.encoded` families; None while it does not
        answer, and then its series are left out: they would be out of date. So are the sums in
        which it has a part: one that falls looks as if it had begun anew, and what comes back as
        if all of it had just been counted. A gauge says so.
    """

    def __init__(self, other: Callable[[], bytes | None]) -> None:
        super().__init__()
        self._other = other
        self._last: list[Metric] | None = None

    def render(self) -> bytes:
        """Return both processes' families in Prometheus' text format."""
        others = self._others()
        if others is None:
            return rendered(without_parts(self.families(), self._last))
        return rendered(others, self.families())

    def known(self, name: str, labels: Labels = ()) -> float | None:
        """Return a counter or gauge of this process, else of the other one; None if neither."""
        own = super().known(name, labels)
        if own is not None:
            return own
        spec = _SPECS[name]
        wanted = dict(zip(spec.labels, labels, strict=True))
        for family in self._others() or ():
            for sample in family.samples:
                if sample.name == spec.full_name and sample.labels == wanted:
                    return float(sample.value)
        return None

    def _others(self) -> list[Metric] | None:
        data = self._other()
        self.set("learner_up", (), float(data is not None))
        if data is None:
            return None
        self._last = decoded(data)
        return self._last
