"""What happens within a session: requests, slates, who looks, clicks and lingers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stream.simulate.catalogue import Catalogue
from stream.simulate.config import INTENTS, WorldConfig
from stream.simulate.people import People

__all__ = ["Exposures", "Sessions", "Shop", "begin_sessions", "browse", "wander"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.intp]
Flags: TypeAlias = NDArray[np.bool_]

_MOST_REQUESTS = 40
_THINK_S = 20.0
_GLANCE_S = 1.2
_BOT_GLANCE_S = 0.15
_BOT_CLICKS = 0.9
_BOT_REQUESTS = 4.0
_LONGEST_DWELL_S = 1_800.0
_STRAY_REQUESTS = 0.2
_OWN_WISH = 2.0
_COLDEST = -20.0


@dataclass(frozen=True, slots=True)
class Shop:
    """Who and what there is, as of now: drift replaces it."""

    config: WorldConfig
    catalogue: Catalogue
    people: People
    birth_ms: NDArray[np.int64]
    label_shift: float
    lf_accuracy: Floats


@dataclass(frozen=True, slots=True)
class Sessions:
    """Visits: who came, when, why, for whose sake (a gift is for another), and to look at what."""

    start_ms: NDArray[np.int64]
    user: Ints
    intent: NDArray[np.int8]
    beneficiary: Ints
    shelf: Ints
    device: NDArray[np.int8]
    searched: Flags
    bot: Flags


@dataclass(frozen=True, slots=True)
class Exposures:
    """Things that a user was confronted with: one entry each, slate by slate."""

    session: Ints
    request: Ints
    item: Ints
    position: Ints
    propensity: Floats
    policy: NDArray[np.int8]
    ts_ms: NDArray[np.int64]
    relevance: Flags
    seen: Flags
    engaged: Flags
    engaged_ms: NDArray[np.int64]
    dwell_s: Floats


def begin_sessions(shop: Shop, start_ms: NDArray[np.int64], rng: np.random.Generator) -> Sessions:
    """Return the visits that begin at the given moments."""
    people = shop.people
    n = start_ms.size
    user = people.arrivals(n, rng)
    intent = people.intents(user, rng)
    other = people.arrivals(n, rng)
    beneficiary = np.where(intent == INTENTS.index("gift"), other, user)
    return Sessions(
        start_ms=start_ms,
        user=user,
        intent=intent,
        beneficiary=beneficiary,
        shelf=people.interests(beneficiary, rng),
        device=rng.choice(3, size=n, p=(0.55, 0.38, 0.07)).astype(np.int8),
        searched=rng.random(n) < shop.config.rates.search,
        bot=people.bot[user],
    )


def browse(shop: Shop, visits: Sessions, rng: np.random.Generator) -> Exposures:
    """Return the slates that the visits' requests were answered with, and what became of them."""
    config, catalogue = shop.config, shop.catalogue
    session = _requests(config, visits, rng)
    n, k = session.size, config.slate
    # Some requests look at another shelf than the visit's own.
    strays = shop.people.interests(visits.beneficiary[session], rng)
    shelf = np.where(rng.random(n) < _STRAY_REQUESTS, strays, visits.shelf[session])
    slots = catalogue.slots[shelf]
    live = (slots >= 0) & (shop.birth_ms[slots] <= visits.start_ms[session][:, None])
    vectors = catalogue.vectors[slots]
    taste = _affinity(vectors, shop.people.tastes[visits.beneficiary[session]])
    own = _affinity(vectors, shop.people.tastes[visits.user[session]])
    # The policy knows what sells and has some idea of the user.
    scores = (1.5 * catalogue.quality[slots] + 1.5 * own).astype(np.float64) / config.temperature
    uniform = rng.random(n) < config.uniform_share
    epsilon = np.where(uniform, 1.0, config.epsilon)
    chosen, propensity = _draw_slates(scores, live, epsilon, k, rng)
    item = np.take_along_axis(slots, chosen, axis=1)

    log_odds = _log_odds(shop, np.take_along_axis(taste, chosen, axis=1), item)
    bot = visits.bot[session][:, None]
    relevant = (rng.random((n, k)) < 1.0 / (1.0 + np.exp(-log_odds))) & ~bot
    seen = rng.random((n, k)) < np.arange(1, k + 1) ** -config.position_bias
    accident = rng.random((n, k)) < config.accidental_clicks
    wanted = rng.random((n, k)) < np.where(relevant, config.click_relevant, config.click_irrelevant)
    robotic = bot & (rng.random((n, k)) < _BOT_CLICKS)
    clicked = (seen & wanted & ~bot) | (accident & ~bot) | robotic

    dwell = _dwell(config, relevant, accident & ~(seen & wanted), bot, rng)
    glance = rng.exponential(1.0, size=(n, k)) * np.where(bot, _BOT_GLANCE_S, _GLANCE_S)
    spent = np.where(clicked, dwell, 0.0)
    # A page is left before the next item is looked at.
    engaged_s = np.cumsum(glance, axis=1) + np.cumsum(spent, axis=1) - spent
    pause = rng.exponential(1.0, size=n) * np.where(bot[:, 0], 0.5, _THINK_S)
    start_ms = _request_starts(visits, session, (glance + spent).sum(axis=1) + pause)
    shown_ms = start_ms[:, None] + 5 * np.arange(k)
    return Exposures(
        session=np.repeat(session, k),
        request=np.repeat(np.arange(n), k),
        item=item.ravel(),
        position=np.tile(np.arange(1, k + 1), n),
        propensity=propensity.ravel(),
        policy=np.repeat(uniform.astype(np.int8), k),
        ts_ms=shown_ms.ravel(),
        relevance=relevant.ravel(),
        seen=(seen | clicked).ravel(),
        engaged=clicked.ravel(),
        engaged_ms=(shown_ms + _ms(engaged_s) + 5).ravel(),
        dwell_s=dwell.ravel(),
    )


def wander(shop: Shop, visits: Sessions, rng: np.random.Generator) -> Exposures:
    """Return the items that visitors came upon by themselves: views that no request led to."""
    config, catalogue = shop.config, shop.catalogue
    mean = np.where(visits.bot, 0.0, config.organic_views)
    session = np.repeat(np.arange(visits.user.size), rng.poisson(mean))
    n = session.size
    shelf = shop.people.interests(visits.beneficiary[session], rng)
    slots = catalogue.slots[shelf]
    start_ms = visits.start_ms[session]
    live = (slots >= 0) & (shop.birth_ms[slots] <= start_ms[:, None])
    taste = _affinity(catalogue.vectors[slots], shop.people.tastes[visits.beneficiary[session]])
    chosen, _ = _draw_slates(2.0 * taste.astype(np.float64), live, np.zeros(n), 1, rng)
    item = np.take_along_axis(slots, chosen, axis=1)
    log_odds = _log_odds(shop, np.take_along_axis(taste, chosen, axis=1), item)
    # Who comes by himself more often wants what he finds.
    relevant = rng.random(n) < 1.0 / (1.0 + np.exp(-log_odds[:, 0] - _OWN_WISH))
    ts_ms = start_ms + _ms(rng.exponential(300.0, size=n))
    nobody = np.zeros(n, dtype=bool)
    return Exposures(
        session=session,
        request=np.full(n, -1),
        item=item[:, 0],
        position=np.zeros(n, dtype=np.intp),
        propensity=np.ones(n),
        policy=np.zeros(n, dtype=np.int8),
        ts_ms=ts_ms,
        relevance=relevant,
        seen=~nobody,
        engaged=~nobody,
        engaged_ms=ts_ms,
        dwell_s=_dwell(config, relevant, nobody, nobody, rng),
    )


def _requests(config: WorldConfig, visits: Sessions, rng: np.random.Generator) -> Ints:
    """Return, for every request, the visit that it belongs to."""
    count = rng.geometric(1.0 / config.requests_per_session, size=visits.user.size)
    count = np.where(visits.bot, np.ceil(count * _BOT_REQUESTS), count).astype(np.intp)
    return np.repeat(np.arange(visits.user.size), np.minimum(count, _MOST_REQUESTS))


def _affinity(vectors: NDArray[np.float32], tastes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((vectors * tastes[:, None, :]).sum(axis=2))


def _log_odds(shop: Shop, taste: NDArray[np.float32], item: Ints) -> Floats:
    config = shop.config
    bias = config.relevance_bias + shop.label_shift
    appeal = config.taste_strength * taste.astype(np.float64) + shop.catalogue.quality[item]
    return np.asarray(appeal + bias)


def _draw_slates(
    scores: Floats, live: Flags, epsilon: Floats, k: int, rng: np.random.Generator
) -> tuple[Ints, Floats]:
    """Fill slates place by place from what is left, and return who was drawn with what chance.

    Math: P(item at place j) = (1 − ε)·softmax(score over what is left) + ε/|what is left|.
    """
    n = len(scores)
    rows = np.arange(n)
    behind = scores - np.where(live, scores, -np.inf).max(axis=1, keepdims=True)
    # The floor keeps the last places drawable when a cold softmax leaves nothing of them.
    weight = np.where(live, np.exp(np.clip(behind, _COLDEST, 0.0)), 0.0)
    left = live.astype(np.float64)
    chosen = np.zeros((n, k), dtype=np.intp)
    propensity = np.ones((n, k))
    for place in range(k):
        chance = weight * ((1.0 - epsilon) / np.maximum(weight.sum(axis=1), 1e-300))[:, None]
        chance += left * (epsilon / np.maximum(left.sum(axis=1), 1.0))[:, None]
        edges = np.cumsum(chance, axis=1)
        drawn = (edges <= (rng.random(n) * edges[:, -1])[:, None]).sum(axis=1)
        chosen[:, place] = drawn
        propensity[:, place] = chance[rows, drawn]
        weight[rows, drawn] = 0.0
        left[rows, drawn] = 0.0
    return chosen, propensity


def _dwell(
    config: WorldConfig, relevant: Flags, accident: Flags, bot: Flags, rng: np.random.Generator
) -> Floats:
    median = np.where(relevant, config.dwell_relevant_s, config.dwell_irrelevant_s)
    median = np.where(accident, config.dwell_accidental_s, median)
    median = np.where(bot, 0.2, median)
    spread = rng.lognormal(0.0, config.dwell_sigma, size=relevant.shape)
    return np.asarray(np.round(np.clip(median * spread, 0.05, _LONGEST_DWELL_S), 2))


def _request_starts(visits: Sessions, session: Ints, took_s: Floats) -> NDArray[np.int64]:
    """Return when each request was made: after all earlier requests of its visit."""
    before = np.cumsum(took_s) - took_s
    first = np.searchsorted(session, session, side="left")
    # A search, where there is one, comes first.
    lead = np.where(visits.searched, 4.0, 0.0)[session]
    return visits.start_ms[session] + _ms(before - before[first] + lead)


def _ms(seconds: Floats) -> NDArray[np.int64]:
    return np.rint(seconds * 1000.0).astype(np.int64)
