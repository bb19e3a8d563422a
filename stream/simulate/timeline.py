"""When sessions begin: a clock that counts sessions, and its translation into event time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.simulate.config import WorldConfig

__all__ = ["Span", "Timeline"]

_DAY_S = 86_400.0
_SESSIONS_PER_SLICE = 1_024


@dataclass(frozen=True, slots=True)
class Span:
    """The sessions ``first`` to ``beyond`` (exclusive), between two moments of event time."""

    number: int
    first: int
    beyond: int
    from_ms: int
    until_ms: int


class Timeline:
    """Sessions counted from the world's beginning, and the moments at which they begin.

    Sessions are a Poisson-like process whose rate follows the hour of the day and planted changes
    of traffic. Session *n* begins where the integral of the rate reaches *n*; so cutting time by
    sessions gives slices of even work, whatever the rate.

    Parameters
    ----------
    config
        Its hours, days and drift.
    events_per_session
        What a session yields on average; turns a wanted number of events into a rate.
    """

    def __init__(self, config: WorldConfig, events_per_session: float) -> None:
        changes = sorted((d.at, d.size) for d in config.drift if d.kind == "traffic" and d.at < 1.0)
        self._cuts = sorted({d.at for d in config.drift if 0.0 < d.at < 1.0})
        shares = np.array([0.0, *(at for at, _ in changes), 1.0])
        factors = np.cumprod(np.array([1.0, *(size for _, size in changes)]))
        profile = np.asarray(config.hours, dtype=np.float64)
        self._profile = np.concatenate([[0.0], np.cumsum(profile / profile.sum())])
        midnight = config.start_ts // _DAY_S
        self._midnight = midnight
        self._origin = self._busy(np.array([config.start_ts / _DAY_S - midnight]))[0]
        end = self._busy(np.array([config.start_ts / _DAY_S - midnight + config.days]))[0]
        busy_days = max(float(end - self._origin), 1e-6)
        # Sessions per busy day before any change, so that the whole takes `busy_days`.
        slowness = float(np.sum(np.diff(shares) / factors))
        if config.events is None:
            rate = config.sessions_per_user_day * config.users
            self.sessions = max(1, round(rate * busy_days / slowness))
        else:
            self.sessions = max(1, round(config.events / events_per_session))
        rate = self.sessions * slowness / busy_days
        self._knots = shares[:-1] * self.sessions
        self._slopes = 1.0 / (rate * factors)
        lengths = np.diff(self._knots) * self._slopes[:-1]
        self._starts = np.concatenate([[0.0], np.cumsum(lengths)])

    def _busy(self, days: NDArray[np.float64]) -> NDArray[np.float64]:
        whole = np.floor(days)
        hours = np.arange(25) / 24.0
        return np.asarray(whole + np.interp(days - whole, hours, self._profile))

    def moments(self, sessions: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the event time, in milliseconds, at which the count of sessions is reached."""
        part = np.searchsorted(self._knots, sessions, side="right") - 1
        busy = (sessions - self._knots[part]) * self._slopes[part] + self._starts[part]
        busy = busy + self._origin
        whole = np.floor(busy)
        days = whole + np.interp(busy - whole, self._profile, np.arange(25) / 24.0)
        return np.asarray(np.rint((self._midnight + days) * _DAY_S * 1000.0), dtype=np.int64)

    def moment(self, share: float) -> float:
        """Return the event time, in seconds, at which a share of the sessions have begun."""
        session = np.array([float(round(share * self.sessions))])
        return float(self.moments(session)[0]) / 1000.0

    def spans(self, *, endless: bool) -> Iterator[Span]:
        """Yield slices of even work, cut where anything drifts.

        Parameters
        ----------
        endless
            Go on beyond the planned number of sessions.
        """
        cuts = [round(share * self.sessions) for share in self._cuts]
        number = first = 0
        while endless or first < self.sessions:
            beyond = first + _SESSIONS_PER_SLICE
            beyond = min([beyond, *(cut for cut in cuts if cut > first)])
            if not endless:
                beyond = min(beyond, self.sessions)
            edges = self.moments(np.array([first, beyond], dtype=np.float64))
            yield Span(number, first, beyond, int(edges[0]), int(edges[1]))
            number, first = number + 1, beyond
