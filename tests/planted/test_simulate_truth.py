"""What the simulated shop plants must be found in what it emits, by whoever looks properly."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from math import exp
from typing import Any

import numpy as np
import orjson
import pytest

from stream.simulate import Drift, FeedbackRates, SimulatedLF, World, WorldConfig

Document = dict[str, Any]
Key = tuple[str, str | None, str]

DAY_S = 86_400.0


class Log:
    """A whole world in memory, by kind of event."""

    def __init__(self, config: WorldConfig) -> None:
        self.world = World(config)
        self.planted = self.world.summary()
        self.truth: dict[Key, Document] = {}
        self.of_type: dict[str, list[Document]] = defaultdict(list)
        for part in self.world.slices(truth=True):
            for event in map(orjson.loads, part.events):
                self.of_type[event["type"]].append(event)
            for truth in map(orjson.loads, part.truth):
                key = (truth["user_id"], truth["request_id"], truth["item_id"])
                self.truth[key] = truth

    def votes(self, name: str) -> Iterator[tuple[Document, str, Document]]:
        """Yield (impression, vote, truth) of one LF."""
        for event in self.of_type["impression"]:
            if name in event["context"]:
                yield event, event["context"][name], self.truth[key_of(event)]


def key_of(event: Document) -> Key:
    return event["user_id"], event.get("request_id"), event["item_id"]


LFS = (
    SimulatedLF(accuracy=0.9, abstention=0.5),
    SimulatedLF(accuracy=0.6, abstention=0.1),
    SimulatedLF(accuracy=0.75, abstention=0.3, task="intent"),
    SimulatedLF(copy_of=0),
    SimulatedLF(accuracy=0.7, abstention=0.0, session_correlation=0.9),
)


@cache
def shop() -> Log:
    config = WorldConfig(
        seed=5,
        users=300,
        items=240,
        events=60_000,
        days=5,
        sim_lfs=LFS,
        drift=(Drift(at=0.5, kind="lf_flip", lfs=(0,)),),
        bots=0.03,
        new_items=0.0,
    )
    return Log(config)


def share_right(pairs: list[tuple[str, str]]) -> float:
    return sum(vote == truth for vote, truth in pairs) / len(pairs)


def planted_class(truth: Document, task: str) -> str:
    return (
        str(truth["intent"]) if task == "intent" else ("negative", "positive")[truth["relevance"]]
    )


@pytest.mark.parametrize("number", range(len(LFS)))
def test_planted_accuracies_are_found_in_the_votes(number: int) -> None:
    log = shop()
    planted = log.planted["lfs"][number]
    bounds = [step["from_ts"] for step in planted["accuracy"]] + [float("inf")]
    for step, (begin, end) in zip(planted["accuracy"], pairwise(bounds), strict=True):
        # The change comes with the sessions that begin after it, so its first hour is mixed.
        pairs = [
            (vote, planted_class(truth, planted["task"]))
            for event, vote, truth in log.votes(planted["name"])
            if begin + 3_600 <= event["ts"] < end
        ]
        assert len(pairs) > 5_000
        tolerance = 0.05 if planted["session_correlation"] else 0.02
        assert share_right(pairs) == pytest.approx(step["accuracy"], abs=tolerance)


def test_a_flip_is_written_down_for_the_lf_and_for_its_copy() -> None:
    steps = [[step["accuracy"] for step in lf["accuracy"]] for lf in shop().planted["lfs"]]
    assert steps[0] == steps[3] == [0.9, pytest.approx(0.1)]
    assert steps[1] == [0.6]


@pytest.mark.parametrize("number", [0, 1, 2, 4])
def test_planted_abstentions_are_found_in_the_votes(number: int) -> None:
    impressions = shop().of_type["impression"]
    silent = sum(f"sim_lf_{number}" not in event["context"] for event in impressions)
    assert silent / len(impressions) == pytest.approx(LFS[number].abstention, abs=0.01)


def test_a_copy_repeats_every_vote() -> None:
    for event in shop().of_type["impression"]:
        assert event["context"].get("sim_lf_0") == event["context"].get("sim_lf_3")


def test_errors_of_a_session_come_together_only_where_planned() -> None:
    log = shop()

    def spread(name: str) -> float:
        """Return the variance of sessions' error shares over what independence would give."""
        wrong: dict[str, list[bool]] = defaultdict(list)
        for event, vote, truth in log.votes(name):
            wrong[event["session_id"]].append(vote != planted_class(truth, "relevance"))
        shares = np.array([np.mean(w) for w in wrong.values() if len(w) >= 8])
        mean = shares.mean()
        sizes = np.array([len(w) for w in wrong.values() if len(w) >= 8])
        return float(np.var(shares) / np.mean(mean * (1 - mean) / sizes))

    assert spread("sim_lf_4") > 5.0
    assert spread("sim_lf_1") < 1.3


def test_logged_propensities_are_true() -> None:
    """E[1/p] of what was drawn is the number of things it was drawn from, place by place."""
    log = shop()
    shelf = 24
    for place in (1, 2, 5):
        inverse = [
            1.0 / event["propensity"]
            for event in log.of_type["impression"]
            if event["position"] == place
        ]
        error = float(np.std(inverse)) / len(inverse) ** 0.5
        assert np.mean(inverse) == pytest.approx(shelf - place + 1, abs=5 * error + 0.1)


def test_the_uniform_policy_is_uniform() -> None:
    uniform = [e for e in shop().of_type["impression"] if e["policy"] == "uniform"]
    assert len(uniform) / len(shop().of_type["impression"]) == pytest.approx(0.05, abs=0.01)
    for event in uniform:
        assert event["propensity"] == pytest.approx(1 / (24 - event["position"] + 1), rel=1e-5)


def test_clicks_follow_taste_and_position() -> None:
    log = shop()
    clicked = {key_of(event) for event in log.of_type["click"]}
    rate: dict[tuple[int, int], list[bool]] = defaultdict(list)
    for event in log.of_type["impression"]:
        truth = log.truth[key_of(event)]
        if not truth["bot"]:
            rate[truth["relevance"], event["position"]].append(key_of(event) in clicked)
    for place in (1, 2, 4, 8):
        seen = place**-0.6
        assert np.mean(rate[1, place]) == pytest.approx(0.6 * seen + 0.005, abs=0.04)
        assert np.mean(rate[0, place]) == pytest.approx(0.04 * seen + 0.005, abs=0.012)


def test_dwell_tells_relevant_from_irrelevant() -> None:
    log = shop()
    spent: dict[int, list[float]] = {0: [], 1: []}
    for event in log.of_type["dwell"]:
        truth = log.truth[key_of(event)] if "request_id" in event else None
        if truth is not None and not truth["bot"]:
            spent[truth["relevance"]].append(event["value"])
    assert np.median(spent[1]) == pytest.approx(60.0, rel=0.1)
    assert np.median(spent[0]) < 10.0


def test_bots_are_distinguishable_by_what_they_do() -> None:
    log = shop()
    bots = set(log.planted["bots"])
    assert len(bots) >= 3
    shown = Counter(event["user_id"] for event in log.of_type["impression"])
    clicks: dict[str, list[float]] = defaultdict(list)
    for event in log.of_type["click"]:
        clicks[event["user_id"]].append(event["ts"])
    for user, times in clicks.items():
        if shown[user] < 200:
            continue
        busy = len(times) / shown[user]
        pause = float(np.median(np.diff(times)))
        assert (busy > 0.7 and pause < 2.0) == (user in bots)
    buyers = {event["user_id"] for event in log.of_type["purchase"]}
    assert not buyers & bots
    assert all(truth["relevance"] == 0 for truth in log.truth.values() if truth["bot"])


def test_co_visitation_finds_the_next_click_where_popularity_does_not() -> None:
    log = shop()
    bots = set(log.planted["bots"])
    clicks = [event for event in log.of_type["click"] if event["user_id"] not in bots]
    items = 240
    seen = np.zeros(items)
    together = np.zeros((items, items))
    last: dict[str, int] = {}
    popular = visited = 0
    for event in clicks:
        item, user = int(event["item_id"][1:]), event["user_id"]
        before = last.get(user)
        popular += item in np.argpartition(-seen, 10)[:10]
        if before is not None:
            scores = together[before] + 1e-6 * seen
            visited += item in np.argpartition(-scores, 10)[:10]
            together[before, item] += 1
            together[item, before] += 1
        seen[item] += 1
        last[user] = item
    assert len(clicks) > 2_000
    assert visited / len(clicks) > 0.3
    assert visited > 1.5 * popular > 0


def test_gold_is_a_random_share_that_comes_later() -> None:
    config = WorldConfig(
        users=100, items=60, days=20, gold=0.1, gold_accuracy=0.9, gold_delay_median_s=3_600.0
    )
    world = World(config)
    truth = {t["event_id"]: t for t in map(orjson.loads, world.truth())}
    answers = [orjson.loads(line) for line in world.gold()]
    assert len(answers) / len(truth) == pytest.approx(0.1, rel=0.1)
    assert {answer["inclusion"] for answer in answers} == {0.1}
    shares = Counter(answer["label"] for answer in answers)
    positive = sum(t["relevance"] for t in truth.values()) / len(truth)
    expected = 0.9 * positive + 0.1 * (1 - positive)
    assert shares["positive"] / len(answers) == pytest.approx(expected, abs=0.03)


@cache
def buyers() -> Log:
    """Return a long world of people who buy nearly everything that they open."""
    rates = FeedbackRates(cart=1.0, mistaken=1.0, purchase=1.0, rating=1.0)
    config = WorldConfig(
        users=200,
        items=60,
        days=60,
        requests_per_session=1.0,
        slate=4,
        click_irrelevant=0.3,
        rates=rates,
        bots=0.0,
    )
    return Log(config)


def since(log: Log, name: str, cause: str, until: float) -> list[float]:
    """Return the delays from a cause, in the first days, to what it led to."""
    causes = {key_of(event): event["ts"] for event in log.of_type[cause]}
    return [
        event["ts"] - causes[key_of(event)]
        for event in log.of_type[name]
        if "request_id" in event and causes.get(key_of(event), until) < until
    ]


def test_purchases_are_delayed_as_planned() -> None:
    log = buyers()
    config = log.world.config
    delays = np.array(since(log, "purchase", "add_to_cart", config.start_ts + 40 * DAY_S))
    assert delays.size > 1_000
    for within in (60.0, 600.0, 3_600.0, 6 * 3_600.0, DAY_S, 4 * DAY_S):
        planned = sum(p.weight * (1 - exp(-within / p.mean_s)) for p in config.purchase_delay)
        assert np.mean(delays < within) == pytest.approx(planned, abs=0.035)


def test_irrelevant_purchases_come_back_after_one_to_twenty_days() -> None:
    log = buyers()
    end = log.world.config.start_ts + 35 * DAY_S
    delays = np.array(since(log, "return", "purchase", end)) / DAY_S
    assert 1.0 <= delays.min() < 3.0
    assert 18.0 < delays.max() <= 20.0
    back = {key_of(event) for event in log.of_type["return"]}
    kept: dict[int, list[bool]] = {0: [], 1: []}
    for event in log.of_type["purchase"]:
        if "request_id" in event and event["ts"] < end:
            kept[log.truth[key_of(event)]["relevance"]].append(key_of(event) in back)
    # One in ten returns names no request.
    assert np.mean(kept[0]) == pytest.approx(0.7 * 0.9, abs=0.06)
    assert np.mean(kept[1]) == pytest.approx(0.01 * 0.9, abs=0.01)


def test_ratings_tell_relevant_from_irrelevant() -> None:
    log = buyers()
    stars: dict[int, list[float]] = {0: [], 1: []}
    for event in log.of_type["rating"]:
        if "request_id" in event:
            stars[log.truth[key_of(event)]["relevance"]].append(event["value"])
    assert np.mean(stars[1]) > 4.0
    assert np.mean(stars[0]) < 2.5


def test_a_label_shift_makes_relevance_rarer() -> None:
    drift = Drift(at=0.5, kind="label_shift", amount=-1.5)
    log = Log(WorldConfig(users=150, items=120, days=4, drift=(drift,), bots=0.0, gold=0.0))
    moment = log.planted["drift"][0]["ts"]
    shares = [
        np.mean([t["relevance"] for t in log.truth.values() if (t["ts"] >= moment) == later])
        for later in (False, True)
    ]
    assert shares[1] < 0.65 * shares[0]


def test_a_taste_shift_sends_users_to_other_shelves() -> None:
    def kept(amount: float) -> float:
        """Return how much of what users open after the change they had opened before it."""
        drift = Drift(at=0.5, kind="taste_shift", amount=amount)
        log = Log(WorldConfig(users=80, items=600, days=8, drift=(drift,), bots=0.0, gold=0.0))
        moment = log.planted["drift"][0]["ts"]
        shelves = 600 // 24
        before: dict[str, set[int]] = defaultdict(set)
        again = []
        for event in log.of_type["click"]:
            shelf = int(event["item_id"][1:]) % shelves
            if event["ts"] < moment:
                before[event["user_id"]].add(shelf)
            elif before[event["user_id"]]:
                again.append(shelf in before[event["user_id"]])
        return float(np.mean(again))

    assert kept(0.0) > 0.6
    assert kept(1.0) < 0.4
