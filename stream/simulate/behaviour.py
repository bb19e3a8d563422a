"""A slice of the shop's life: sessions in, rows of events and answers out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.simulate.browsing import (
    Exposures,
    Sessions,
    Shop,
    begin_sessions,
    browse,
    wander,
)
from stream.simulate.config import WorldConfig
from stream.simulate.outcomes import answers, follow_up, reactions
from stream.simulate.rows import GOLD, NO_REQUEST, Rows, code_of, row_dtype
from stream.simulate.votes import VoteCodec, cast_votes

__all__ = ["Counters", "live_through"]


@dataclass(slots=True)
class Counters:
    """How many of each have been, so that ids go on where the last slice ended."""

    events: int = 0
    requests: int = 0
    sessions: int = 0


def live_through(
    shop: Shop,
    codec: VoteCodec,
    start_ms: NDArray[np.int64],
    counters: Counters,
    rng: np.random.Generator,
) -> Rows:
    """Return everything that ever comes of the sessions that begin at the given moments.

    Rows carry the moment at which they arrive, which may lie days ahead.
    """
    visits = begin_sessions(shop, start_ms, rng)
    shown = browse(shop, visits, rng)
    found = wander(shop, visits, rng)
    impressions = _exposed(shop, codec, visits, shown, "impression", counters, rng)
    views = _exposed(shop, codec, visits, found, "view", counters, rng)
    exposures = np.concatenate([impressions, views])
    impressions["origin"] = np.arange(len(impressions))
    views["origin"] = np.arange(len(impressions), len(exposures))
    exposures["origin"] = np.arange(len(exposures))

    clicks = _opened(impressions, shown)
    clicks["type"] = code_of("click")
    pages = np.concatenate([clicks, _opened(views, found)])
    human = pages[pages["bot"] == 0]
    ignored = shown.seen & ~shown.engaged & ~shown.relevance & (impressions["bot"] == 0)
    price = shop.catalogue.price
    robotic = pages[pages["bot"] == 1]
    robotic["type"] = code_of("dwell")
    robotic["ts_ms"] += np.rint(robotic["value"] * 1000.0).astype(np.int64)
    rows = np.concatenate(
        [
            exposures,
            clicks,
            robotic,
            *follow_up(shop.config, human, price, rng),
            *reactions(shop.config, impressions[ignored], rng),
            _searches(shop, codec, visits, counters),
            answers(shop.config, exposures, rng),
        ]
    )
    counters.sessions += visits.user.size
    counters.requests += int(shown.request[-1]) + 1
    rows = rows[np.argsort(rows["ts_ms"], kind="stable")]
    rows["number"] = counters.events + np.arange(len(rows))
    counters.events += len(rows)
    opening = (rows["type"] == code_of("impression")) | (rows["type"] == code_of("view"))
    number_of = np.full(len(exposures) + 1, -1, dtype=np.int64)
    number_of[rows["origin"][opening]] = rows["number"][opening]
    rows["origin"] = number_of[rows["origin"]]
    return _delivered(shop.config, rows, rng)


def _exposed(
    shop: Shop,
    codec: VoteCodec,
    visits: Sessions,
    exposures: Exposures,
    name: str,
    counters: Counters,
    rng: np.random.Generator,
) -> Rows:
    session = exposures.session
    rows = np.zeros(session.size, dtype=row_dtype(codec.groups))
    rows["type"] = code_of(name)
    rows["ts_ms"] = exposures.ts_ms
    rows["session"] = counters.sessions + session
    rows["request"] = np.where(
        exposures.request < 0, NO_REQUEST, counters.requests + exposures.request
    )
    rows["item"] = exposures.item
    rows["position"] = exposures.position
    rows["propensity"] = exposures.propensity
    rows["policy"] = exposures.policy
    rows["user"] = visits.user[session]
    rows["device"] = visits.device[session]
    rows["bot"] = visits.bot[session]
    rows["relevance"] = exposures.relevance
    rows["intent"] = visits.intent[session]
    planted = {"relevance": rows["relevance"], "intent": rows["intent"]}
    votes = cast_votes(shop.config.sim_lfs, shop.lf_accuracy, planted, session, rng)
    rows["votes"] = codec.pack(votes)
    return rows


def _opened(rows: Rows, exposures: Exposures) -> Rows:
    """Return a row for each page that was opened, with the moment and the time spent there."""
    pages = rows[exposures.engaged].copy()
    pages["ts_ms"] = exposures.engaged_ms[exposures.engaged]
    pages["value"] = exposures.dwell_s[exposures.engaged]
    return pages


def _searches(shop: Shop, codec: VoteCodec, visits: Sessions, counters: Counters) -> Rows:
    """Return the searches that some sessions begin with; the item is the one that was meant."""
    searching = np.flatnonzero(visits.searched & ~visits.bot)
    slots = shop.catalogue.slots[visits.shelf[searching]]
    start_ms = visits.start_ms[searching]
    tastes = shop.people.tastes[visits.beneficiary[searching]]
    liking = (shop.catalogue.vectors[slots] * tastes[:, None, :]).sum(axis=2)
    live = (slots >= 0) & (shop.birth_ms[slots] <= start_ms[:, None])
    best = np.where(live, liking, -np.inf).argmax(axis=1)
    rows = np.zeros(searching.size, dtype=row_dtype(codec.groups))
    rows["type"] = code_of("search")
    rows["ts_ms"] = start_ms
    rows["session"] = counters.sessions + searching
    rows["request"] = NO_REQUEST
    rows["user"] = visits.user[searching]
    rows["device"] = visits.device[searching]
    rows["intent"] = visits.intent[searching]
    rows["relevance"] = 1
    rows["origin"] = -1
    rows["item"] = slots[np.arange(searching.size), best]
    return rows


def _delivered(config: WorldConfig, rows: Rows, rng: np.random.Generator) -> Rows:
    """Return the rows with their moments of arrival, the second arrivals among them."""
    n = len(rows)
    event = rows["type"] != GOLD
    late = event & (rng.random(n) < config.disorder)
    delay = np.where(late, rng.exponential(config.disorder_mean_s, size=n), 0.0)
    rows["arrival_ms"] = rows["ts_ms"] + np.rint(delay * 1000.0).astype(np.int64)
    again = rows[event & (rng.random(n) < config.duplicates)].copy()
    again["copy"] = 1
    later = rng.exponential(config.duplicate_mean_s, size=len(again))
    again["arrival_ms"] += 1 + np.rint(later * 1000.0).astype(np.int64)
    return np.concatenate([rows, again])
