"""A simulated shop as streams: events in the order of arrival, gold, truth and items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import merge
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from stream.simulate.behaviour import Counters, live_through
from stream.simulate.browsing import Shop
from stream.simulate.catalogue import Catalogue
from stream.simulate.config import Drift, WorldConfig
from stream.simulate.corruption import Rejection, corrupt
from stream.simulate.people import People
from stream.simulate.rows import GOLD, Rows, row_dtype
from stream.simulate.timeline import Span, Timeline
from stream.simulate.votes import VoteCodec, after_flip, planned_accuracy
from stream.simulate.writing import Writer

__all__ = ["Sent", "World", "WorldSlice"]

# Streams of random numbers, one for each purpose: a slice's draws depend on nothing but its number.
_CATALOGUE, _PEOPLE, _PILOT, _SLICE, _TURN, _DAMAGE = range(6)


class Sent(NamedTuple):
    """A line and the moment, in event time, at which the shop sends it."""

    ts: float
    topic: Literal["items", "events", "gold"]
    line: bytes


@dataclass(frozen=True, slots=True)
class WorldSlice:
    """What arrives in a stretch of time; all lists in the order of arrival.

    Parameters
    ----------
    events, sent_at
        Lines, and when each arrives (seconds since the epoch).
    gold, gold_at
        Annotators' answers, likewise.
    truth
        Planted classes of the exposures among the events.
    rejections
        The damaged lines among ``events``; lines count from 0 within the slice.
    """

    events: list[bytes]
    sent_at: list[float]
    gold: list[bytes]
    gold_at: list[float]
    truth: list[bytes]
    rejections: list[Rejection]


class World:
    """A simulated shop with planted truth.

    Every iterator begins anew and yields the same bytes each time, however it is cut.

    Parameters
    ----------
    config
        What the shop is made of.

    State
    -----
    Arrays of users and items, drawn at construction. An iterator keeps, besides, one slice of
    about 1,024 sessions and what is still to arrive (purchases, returns, answers): memory grows
    with the rate of events and the longest delay, not with the length of the stream.
    """

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self._codec = VoteCodec(config.sim_lfs)
        self._catalogue = Catalogue(config, self._rng(_CATALOGUE))
        self._people = People(config, self._catalogue, self._rng(_PEOPLE))
        self._writer = Writer(config, self._catalogue, self._people, self._codec)
        per_session = self._events_per_session()
        self._timeline = Timeline(config, per_session)
        self._expected = config.events or round(self._timeline.sessions * per_session)
        birth = np.rint(self._catalogue.birth_share * self._timeline.sessions)
        self._birth_ms = self._timeline.moments(birth)

    def _rng(self, purpose: int, number: int = 0) -> np.random.Generator:
        seed = np.random.SeedSequence(self.config.seed, spawn_key=(purpose, number))
        return np.random.Generator(np.random.PCG64(seed))

    def _shop(self, birth_ms: NDArray[np.int64]) -> Shop:
        accuracy = planned_accuracy(self.config.sim_lfs)
        return Shop(self.config, self._catalogue, self._people, birth_ms, 0.0, accuracy)

    def _events_per_session(self) -> float:
        """Return what a session yields on average, found by living through some beforehand."""
        sessions = 512
        born = np.zeros(len(self._catalogue), dtype=np.int64)
        start_ms = np.zeros(sessions, dtype=np.int64)
        rng = self._rng(_PILOT)
        rows = live_through(self._shop(born), self._codec, start_ms, Counters(), rng)
        return float(np.count_nonzero(rows["type"] != GOLD)) / sessions

    @property
    def expected_events(self) -> int:
        """How many event lines the world has: exactly where ``events`` is set, else about."""
        return self._expected

    def items(self) -> Iterator[dict[str, object]]:
        """Yield the items, in the order in which they appear."""
        return self._catalogue.records(self._birth_ms)

    def chunks(self, size: int = 20_000) -> Iterator[list[bytes]]:
        """Yield event lines in the order of arrival, ``size`` at a time."""
        if size < 1:
            raise ValueError(f"size of a chunk must be at least 1, not {size}")
        held: list[bytes] = []
        for part in self.slices():
            held.extend(part.events)
            whole = len(held) - len(held) % size
            for begin in range(0, whole, size):
                yield held[begin : begin + size]
            del held[:whole]
        if held:
            yield held

    def gold(self) -> Iterator[bytes]:
        """Yield the annotators' answers in the order of arrival."""
        for part in self.slices():
            yield from part.gold

    def truth(self) -> Iterator[bytes]:
        """Yield the planted classes of every exposure, in the order of arrival."""
        for part in self.slices(truth=True):
            yield from part.truth

    def live(self) -> Iterator[Sent]:
        """Yield items, events and answers in one stream, each with the moment it is sent at.

        Moments never fall, so that a caller can pace the stream by its own clock.
        """
        births = np.sort(self._birth_ms) / 1000.0
        shelf = (
            Sent(ts, "items", orjson.dumps(record))
            for ts, record in zip(births.tolist(), self.items(), strict=True)
        )
        return merge(shelf, self._sent(), key=lambda sent: sent.ts)

    def _sent(self) -> Iterator[Sent]:
        for part in self.slices():
            events = (
                Sent(ts, "events", line) for ts, line in zip(part.sent_at, part.events, strict=True)
            )
            gold = (
                Sent(ts, "gold", line) for ts, line in zip(part.gold_at, part.gold, strict=True)
            )
            yield from merge(events, gold, key=lambda sent: sent.ts)

    def slices(self, *, truth: bool = False) -> Iterator[WorldSlice]:
        """Yield the world, one stretch of time after the other.

        Parameters
        ----------
        truth
            Write the truth, too.
        """
        wanted = self.config.events
        written = 0
        for number, rows in enumerate(self._arrivals()):
            events = rows[rows["type"] != GOLD]
            gold = rows[rows["type"] == GOLD]
            last = wanted is not None and written + len(events) >= wanted
            if wanted is not None and last:
                events = events[: wanted - written]
                gold = gold[gold["arrival_ms"] <= events["arrival_ms"][-1]]
            written += len(events)
            yield self._written(number, events, gold, truth=truth)
            if last:
                return

    def _written(self, number: int, events: Rows, gold: Rows, *, truth: bool) -> WorldSlice:
        lines = self._writer.events(events)
        rejections: list[Rejection] = []
        if self.config.corrupted:
            seed = int(self._rng(_DAMAGE, number).integers(2**63))
            lines, rejections = corrupt(lines, self.config.corrupted, seed)
        return WorldSlice(
            events=lines,
            sent_at=(events["arrival_ms"] / 1000.0).tolist(),
            gold=self._writer.gold(gold),
            gold_at=(gold["arrival_ms"] / 1000.0).tolist(),
            truth=self._writer.truth(events) if truth else [],
            rejections=rejections,
        )

    def _arrivals(self) -> Iterator[Rows]:
        """Yield rows in the order of arrival, a span of sessions at a time."""
        changes = sorted(
            (round(d.at * self._timeline.sessions), number, d)
            for number, d in enumerate(self.config.drift)
        )
        shop = self._shop(self._birth_ms)
        counters = Counters()
        waiting = np.zeros(0, dtype=row_dtype(self._codec.groups))
        for span in self._timeline.spans(endless=self.config.events is not None):
            while changes and changes[0][0] <= span.first:
                _, number, drift = changes.pop(0)
                shop = self._drifted(shop, drift, number)
            rng = self._rng(_SLICE, span.number)
            start_ms = self._starts(span, rng)
            made = live_through(shop, self._codec, start_ms, counters, rng)
            rows = np.concatenate([waiting, made])
            due = rows["arrival_ms"] < span.until_ms
            waiting, rows = rows[~due], rows[due]
            yield rows[np.lexsort((rows["copy"], rows["number"], rows["arrival_ms"]))]

    def _starts(self, span: Span, rng: np.random.Generator) -> NDArray[np.int64]:
        drawn = np.sort(rng.uniform(span.first, span.beyond, size=span.beyond - span.first))
        return self._timeline.moments(drawn)

    def _drifted(self, shop: Shop, drift: Drift, number: int) -> Shop:
        people, shift, accuracy = shop.people, shop.label_shift, shop.lf_accuracy
        if drift.kind == "taste_shift":
            people = people.turned(drift.size, self._catalogue, self._rng(_TURN, number))
        elif drift.kind == "label_shift":
            shift += drift.size
        elif drift.kind == "lf_flip":
            accuracy = after_flip(self.config.sim_lfs, accuracy, drift)
        return Shop(self.config, self._catalogue, people, self._birth_ms, shift, accuracy)

    def summary(self) -> dict[str, Any]:
        """Return what was planted, for ``world.json``.

        ``lfs`` holds, for each simulated LF, its accuracy from each moment on; ``drift`` the
        moments of the planted changes; ``bots`` the users that are bots.
        """
        accuracy = planned_accuracy(self.config.sim_lfs)
        history = [[{"from_ts": self.config.start_ts, "accuracy": a}] for a in accuracy.tolist()]
        moments = []
        for drift in sorted(self.config.drift, key=lambda d: d.at):
            ts = self._timeline.moment(drift.at)
            moments.append({"ts": ts, "kind": drift.kind, "at": drift.at, "amount": drift.size})
            if drift.kind == "lf_flip":
                before, accuracy = accuracy, after_flip(self.config.sim_lfs, accuracy, drift)
                for lf in np.flatnonzero(accuracy != before).tolist():
                    history[lf].append({"from_ts": ts, "accuracy": float(accuracy[lf])})
        return {
            "schema_version": 1,
            "config": self.config.model_dump(mode="json"),
            "sessions": self._timeline.sessions,
            "start_ts": self.config.start_ts,
            "end_ts": self._timeline.moment(1.0),
            "lfs": [
                {
                    "name": f"sim_lf_{number}",
                    "task": lf.task,
                    "abstention": lf.abstention,
                    "copy_of": lf.copy_of,
                    "session_correlation": lf.session_correlation,
                    "accuracy": history[number],
                }
                for number, lf in enumerate(self.config.sim_lfs)
            ],
            "drift": moments,
            "bots": [f"u{user}" for user in np.flatnonzero(self._people.bot).tolist()],
        }
