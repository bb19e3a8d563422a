"""Rows on which each labeling function must vote, and rows on which it must not.

For each function at least two rows of every class that it votes for, two near misses (rows that
look like it, on which it must abstain), and two rows about something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CASES", "Case"]

ABSTAINS = "abstain"


@dataclass(frozen=True)
class Case:
    """One row: its evidence, its expected vote, and what is known beside the evidence."""

    vote: str
    evidence: Mapping[str, float] = field(default_factory=dict)
    context: Mapping[str, str | float | bool] = field(default_factory=dict)
    item: Mapping[str, Any] = field(default_factory=dict)


def pos(item: Mapping[str, Any] | None = None, /, context: Any = None, **evidence: float) -> Case:
    return Case("positive", evidence, context or {}, item or {})


def neg(item: Mapping[str, Any] | None = None, /, context: Any = None, **evidence: float) -> Case:
    return Case("negative", evidence, context or {}, item or {})


def none(item: Mapping[str, Any] | None = None, /, context: Any = None, **evidence: float) -> Case:
    return Case(ABSTAINS, evidence, context or {}, item or {})


def says(vote: str, context: Any = None, **evidence: float) -> Case:
    return Case(vote, evidence, context or {})


KNIFE = {"title": "Chef's knife", "categories": ["kitchen", "knife"], "tags": ["steel"]}
WINE = {"title": "Wine", "attributes": {"min_age": 18, "language": "fr"}, "price": 30.0}

CASES: dict[tuple[str, str], list[Case]] = {
    ("relevance", "clicked"): [
        pos(clicks=1),
        pos(clicks=2, away_s=20),
        none(clicks=1, dwells=1, dwell_s=60),
        none(clicks=1, away_s=3),
        none(clicks=1, user_rate=300),
        none(impressions=1),
        none(views=1),
    ],
    ("relevance", "viewed"): [
        pos(views=1),
        pos(plays=1, away_s=40),
        none(views=1, clicks=1),
        none(views=1, away_s=2),
        none(plays=1, play_s=100),
        none(clicks=1),
        none(impressions=1),
    ],
    ("relevance", "long_dwell"): [
        pos(clicks=1, dwells=1, dwell_s=30),
        pos(play_s=200),
        neg(clicks=1, dwells=1, dwell_s=5),
        neg(dwells=1, dwell_s=9.9),
        none(dwells=1, dwell_s=15),
        none(dwells=1, dwell_s=1),
        none(clicks=1),
        none(impressions=1),
    ],
    ("relevance", "quick_return"): [
        neg(clicks=1, away_s=3),
        neg(views=1, away_s=7.9),
        none(clicks=1, away_s=8),
        none(clicks=1, away_s=3, dwells=1, dwell_s=20),
        none(clicks=1, away_s=3, carts=1),
        none(impressions=1, away_s=3),
        none(clicks=1),
    ],
    ("relevance", "added_to_cart"): [
        pos(carts=1),
        pos(carts=2, clicks=1),
        none(carts=1, purchases=1),
        none(clicks=1),
        none(impressions=1),
    ],
    ("relevance", "purchased"): [
        pos(purchases=1),
        pos(purchases=2, returns=1),
        none(purchases=1, returns=1),
        none(carts=1),
        none(clicks=1),
    ],
    ("relevance", "returned"): [
        neg(purchases=1, returns=1),
        neg(returns=1),
        none(purchases=1),
        none(clicks=1),
        none(impressions=1),
    ],
    ("relevance", "rated"): [
        pos(ratings=1, rating=4),
        pos(ratings=1, rating=5),
        neg(ratings=1, rating=2),
        neg(ratings=1, rating=0.5),
        none(ratings=1, rating=3),
        none(clicks=1),
    ],
    ("relevance", "shared_or_liked"): [
        pos(likes=1),
        pos(shares=2),
        none(hides=1),
        none(clicks=1),
        none(purchases=1),
    ],
    ("relevance", "dismissed"): [
        neg(skips=1),
        neg(hides=1, clicks=1),
        neg(reports=1),
        none(likes=1),
        none(impressions=1, closed=1),
    ],
    ("relevance", "repeated"): [
        pos(clicks=2, dwells=1, dwell_s=20),
        pos(clicks=1, repeats=1, carts=1),
        none(clicks=1, repeats=1),
        none(clicks=2, dwells=1, dwell_s=2),
        none(clicks=9, likes=1, user_rate=500),
        none(repeats=2),
        none(clicks=1, dwells=1, dwell_s=20),
    ],
    ("relevance", "ignored"): [
        neg(impressions=1, closed=1),
        neg(impressions=2, closed=1, position=3),
        none(impressions=1),
        none(impressions=1, closed=1, position=4),
        none(impressions=1, closed=1, clicks=1, first_feedback_ts=5),
        none(closed=1),
    ],
    ("relevance", "robotic_rate"): [
        neg(clicks=1, user_rate=100),
        neg(views=1, user_rate=900),
        none(clicks=1, user_rate=99),
        none(impressions=1, user_rate=900),
        none(clicks=1),
    ],
    ("relevance", "click_burst"): [
        neg(clicks=3, first_feedback_ts=10, last_ts=12),
        neg(clicks=20, first_feedback_ts=10, last_ts=20),
        none(clicks=3, first_feedback_ts=10, last_ts=60),
        none(clicks=3, first_feedback_ts=10, last_ts=12, carts=1),
        none(clicks=3, first_feedback_ts=10, last_ts=12, user_rate=200),
        none(clicks=2, first_feedback_ts=10, last_ts=11),
    ],
    ("relevance", "accidental_click"): [
        neg(clicks=1, dwells=1, dwell_s=0.4),
        neg(clicks=1, away_s=1.9),
        none(clicks=1, dwells=1, dwell_s=2),
        none(clicks=1, dwells=1, dwell_s=1, likes=1),
        none(clicks=1),
        none(impressions=1, away_s=0.5),
    ],
    ("relevance", "position_explained"): [
        neg(clicks=1, position=1, dwells=1, dwell_s=12),
        neg(clicks=1, position=7, propensity=0.9, dwells=1, dwell_s=14),
        none(clicks=1, position=1, dwells=1, dwell_s=40),
        none(clicks=1, position=2, dwells=1, dwell_s=12),
        none(clicks=1, position=1, dwells=1, dwell_s=12, carts=1),
        none(clicks=1, position=1),
    ],
    ("relevance", "query_mismatch"): [
        pos(KNIFE, {"query": "knife"}),
        pos(KNIFE, {"query": "The STEEL knife"}),
        neg(KNIFE, {"query": "garden hose"}),
        neg(KNIFE, {"query": "atlas"}),
        none(KNIFE, {"query": "knife sharpener"}),
        none(KNIFE, {"query": "the"}),
        none(KNIFE),
        none({}, {"query": "knife"}),
    ],
    ("relevance", "unavailable"): [
        neg({"available": False}),
        neg({"available": False}, clicks=1),
        none({"available": True}),
        none({"available": None}),
        none(),
        none(clicks=1),
    ],
    ("relevance", "shouting_title"): [
        neg({"title": "BEST KNIFE EVER MADE"}),
        neg({"title": "You will not believe this knife!!!"}),
        neg({"title": "Click here for a knife!"}),
        none({"title": "USB hub"}),
        none({"title": "Sugar-free sweets"}),
        none(KNIFE),
        none(),
    ],
    ("relevance", "wrong_language"): [
        neg(WINE, {"language": "de"}),
        neg(WINE, {"language": "en-GB"}),
        none(WINE, {"language": "fr-CA"}),
        none(WINE, {"language": "FR_fr"}),
        none(WINE),
        none(KNIFE, {"language": "de"}),
    ],
    ("relevance", "condition_complaint"): [
        neg({}, {"return_reason": "Wrong size"}),
        neg({}, {"comment": "It arrived broken, sadly"}, ratings=1, rating=3),
        none({}, {"comment": "Fits perfectly"}),
        none({}, {"comment": "the size is right"}),
        none({}, {"return_reason": 7.0}),
        none(returns=1),
    ],
    ("relevance", "favourite_category"): [
        pos(KNIFE, {"interests": "garden, Kitchen"}),
        pos(KNIFE, {"interests": "steel"}),
        none(KNIFE, {"interests": "garden"}),
        none(KNIFE, {"interests": ""}),
        none(KNIFE),
        none({}, {"interests": "kitchen"}),
    ],
    ("relevance", "excluded_category"): [
        neg(KNIFE, {"excluded": "kitchen"}),
        neg(KNIFE, {"excluded": "wood, STEEL"}),
        none(KNIFE, {"excluded": "garden"}),
        none(KNIFE, {"excluded": 1.0}),
        none(KNIFE),
        none({}, {"excluded": "kitchen"}),
    ],
    ("relevance", "below_minimum_age"): [
        neg(WINE, {"age": 17.0}),
        neg(WINE, {"age": 3.0}),
        none(WINE, {"age": 18.0}),
        none(WINE, {"age": "17"}),
        none(WINE),
        none(KNIFE, {"age": 3.0}),
    ],
    ("relevance", "over_budget"): [
        neg(WINE, {"budget": 10.0}),
        neg(WINE, {"budget": 23.9}),
        none(WINE, {"budget": 24.0}),
        none(WINE, {"budget": "10"}),
        none(WINE),
        none(KNIFE, {"budget": 1.0}),
    ],
    ("relevance", "served_similarity"): [
        pos({}, {"similarity": 0.6}),
        pos({}, {"similarity": 1.0}),
        neg({}, {"similarity": 0.15}),
        neg({}, {"similarity": -1.0}),
        none({}, {"similarity": 0.4}),
        none({}, {"similarity": "0.9"}),
        none({}, {"similarity": True}),
        none(),
    ],
    ("relevance", "query_similarity"): [
        pos(KNIFE, {"query": "chef's knife for the kitchen"}),
        pos(KNIFE, {"query": "steel kitchen knife for chefs"}),
        neg(KNIFE, {"query": "poetry volume about quiet mornings"}),
        neg(KNIFE, {"query": "waterproof rucksack with many pockets"}),
        none(KNIFE, {"query": "chef's knife"}),
        none({}, {"query": "chef's knife for the kitchen"}),
        none(KNIFE),
    ],
    ("intent", "bought"): [
        says("buy", purchases=1),
        says("buy", carts=1, clicks=1),
        says(ABSTAINS, clicks=1),
        says(ABSTAINS, likes=1),
        says(ABSTAINS, impressions=1),
    ],
    ("intent", "passed_by"): [
        says("browse", dwells=1, dwell_s=3),
        says("browse", clicks=1, dwells=1, dwell_s=9.9),
        says(ABSTAINS, dwells=1, dwell_s=10),
        says(ABSTAINS, dwells=1, dwell_s=3, carts=1),
        says(ABSTAINS, clicks=1),
    ],
    ("intent", "came_back_to_look"): [
        says("compare", repeats=1, dwells=1, dwell_s=60),
        says("compare", clicks=2, dwells=1, dwell_s=45),
        says(ABSTAINS, repeats=1, dwells=1, dwell_s=20),
        says(ABSTAINS, repeats=1, dwells=1, dwell_s=60, carts=1),
        says(ABSTAINS, clicks=1, dwells=1, dwell_s=60),
    ],
    ("intent", "gift_words"): [
        says("gift", {"query": "birthday present"}),
        says("gift", {"query": "perfume for my mother"}),
        says(ABSTAINS, {"query": "gifted children"}),
        says(ABSTAINS, {"query": "my mother's day off"}),
        says(ABSTAINS, clicks=1),
    ],
    ("intent", "gift_options"): [
        says("gift", {"gift_wrap": True}),
        says("gift", {"gift_message": "For you"}),
        says(ABSTAINS, {"gift_wrap": False}),
        says(ABSTAINS, {"gift_message": ""}),
        says(ABSTAINS, purchases=1),
    ],
    ("intent", "weighing_words"): [
        says("compare", {"query": "best kettle reviews"}),
        says("compare", {"sort": "price"}),
        says(ABSTAINS, {"query": "bestseller"}),
        says(ABSTAINS, {"sort": ""}),
        says(ABSTAINS, clicks=1),
    ],
    ("intent", "shopping_words"): [
        says("buy", {"query": "buy kettle"}),
        says("buy", {"query": "cheapest kettle"}),
        says(ABSTAINS, {"query": "kettle"}),
        says(ABSTAINS, {"query": "buyer's guide"}),
        says(ABSTAINS, carts=1),
    ],
}
