"""What follows an engagement, at once or days later, and what is said about things ignored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.simulate.config import INTENTS, DelayPart, WorldConfig
from stream.simulate.rows import GOLD, NO_REQUEST, Rows, code_of

__all__ = ["answers", "draw_delays", "follow_up", "reactions"]

_DAY_MS = 86_400_000.0
_MINUTE_S = 60.0
_WEEK_S = 7 * 86_400.0
# Odds of a cart by intent, relative to one who came to buy.
_CART_BY_INTENT = (0.15, 0.40, 1.0, 0.8)
_RATINGS_RELEVANT = (0.02, 0.03, 0.10, 0.35, 0.50)
_RATINGS_IRRELEVANT = (0.40, 0.30, 0.20, 0.07, 0.03)


def draw_delays(
    parts: tuple[DelayPart, ...], count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return delays in seconds, drawn from a mixture of exponentials."""
    weights = np.array([part.weight for part in parts])
    edges = np.cumsum(weights / weights.sum())[:-1]
    which = np.searchsorted(edges, rng.random(count), side="right")
    means = np.array([part.mean_s for part in parts])[which]
    return np.asarray(rng.exponential(1.0, size=count) * means)


def follow_up(
    config: WorldConfig, pages: Rows, price: NDArray[np.float64], rng: np.random.Generator
) -> list[Rows]:
    """Return what visitors of items' pages did there and afterwards.

    Parameters
    ----------
    config
        Its rates and delays.
    pages
        One row for each page that a human opened; ``ts_ms`` is when, ``value`` the time there
        in seconds.
    price
        Of every item.
    rng
        Every draw comes from here, in a fixed order.
    """
    rates = config.rates
    n = len(pages)
    relevant = pages["relevance"] == 1
    told = _events(pages[rng.random(n) < rates.dwell], "dwell")
    told["ts_ms"] += _ms(told["value"])
    liked = _events(pages[relevant & (rng.random(n) < rates.like)], "like")
    liked["ts_ms"] += _ms(liked["value"] * rng.random(len(liked)))
    shared = _events(pages[relevant & (rng.random(n) < rates.share)], "share")
    shared["ts_ms"] += _ms(shared["value"] * rng.random(len(shared)))

    willing = rates.cart * np.array(_CART_BY_INTENT)[pages["intent"]]
    willing = np.where(relevant, willing, willing * rates.mistaken)
    carts = _events(pages[rng.random(n) < willing], "add_to_cart")
    carts["ts_ms"] += _ms(carts["value"] * (0.3 + 0.7 * rng.random(len(carts))))
    carts["value"] = price[carts["item"]]

    bought = _events(carts[rng.random(len(carts)) < rates.purchase], "purchase")
    bought["ts_ms"] += 1 + _ms(draw_delays(config.purchase_delay, len(bought), rng))
    _forget_requests(bought, config.lost_requests, rng)

    regret = np.where(bought["relevance"] == 1, rates.regretted, rates.returned)
    returns = _events(bought[rng.random(len(bought)) < regret], "return")
    low, high = config.return_days
    returns["ts_ms"] += np.rint(rng.uniform(low, high, len(returns)) * _DAY_MS).astype(np.int64)
    _forget_requests(returns, config.lost_requests, rng)

    rated = _events(bought[rng.random(len(bought)) < rates.rating], "rating")
    rated["ts_ms"] += 1 + _ms(rng.exponential(2 * 86_400.0, len(rated)))
    rated["value"] = _stars(rated["relevance"] == 1, rng)
    _forget_requests(rated, config.lost_requests, rng)
    return [told, liked, shared, carts, bought, returns, rated]


def reactions(config: WorldConfig, ignored: Rows, rng: np.random.Generator) -> list[Rows]:
    """Return what was said about things that were seen, not wanted and not opened."""
    rates = config.rates
    made = []
    for name, rate in (("skip", rates.skip), ("hide", rates.hide), ("report", rates.report)):
        rows = _events(ignored[rng.random(len(ignored)) < rate], name)
        rows["ts_ms"] += 300 + _ms(rng.exponential(3.0, len(rows)))
        made.append(rows)
    return made


def answers(config: WorldConfig, exposures: Rows, rng: np.random.Generator) -> Rows:
    """Return the annotators' answers about a random share of the exposures.

    The answered class lies in ``position``, the task's place among the configured in ``policy``,
    the annotator in ``device``; ``value`` is when the exposure was, in seconds.
    """
    gold = exposures[rng.random(len(exposures)) < config.gold].copy()
    n = len(gold)
    gold["type"] = GOLD
    delay = config.gold_delay_median_s * rng.lognormal(0.0, 1.2, size=n)
    gold["ts_ms"] += _ms(np.clip(delay, _MINUTE_S, _WEEK_S))
    task = rng.integers(0, len(config.gold_tasks), size=n)
    of_intent = np.array([name == "intent" for name in config.gold_tasks])[task]
    truth = np.where(of_intent, gold["intent"], gold["relevance"])
    classes = np.where(of_intent, len(INTENTS), 2)
    wrong = (truth + 1 + rng.integers(0, classes - 1)) % classes
    gold["position"] = np.where(rng.random(n) < config.gold_accuracy, truth, wrong)
    gold["policy"] = task
    gold["device"] = rng.integers(0, 4, size=n)
    return gold


def _events(rows: Rows, name: str) -> Rows:
    made = rows.copy()
    made["type"] = code_of(name)
    return made


def _forget_requests(rows: Rows, share: float, rng: np.random.Generator) -> None:
    rows["request"] = np.where(rng.random(len(rows)) < share, NO_REQUEST, rows["request"])


def _stars(relevant: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float64]:
    drawn = rng.random(relevant.size)
    kind = np.searchsorted(np.cumsum(_RATINGS_RELEVANT)[:-1], drawn)
    unkind = np.searchsorted(np.cumsum(_RATINGS_IRRELEVANT)[:-1], drawn)
    return np.asarray(np.where(relevant, kind, unkind) + 1.0)


def _ms(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(seconds * 1000.0).astype(np.int64)
