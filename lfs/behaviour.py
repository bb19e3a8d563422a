"""Behaviour: what a person did with the thing, as evidence of whether it was relevant."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lfs.core import ABSTAIN, ExampleBatch, Votes, labeling_function

__all__ = [
    "added_to_cart",
    "clicked",
    "dismissed",
    "ignored",
    "long_dwell",
    "purchased",
    "quick_return",
    "rated",
    "repeated",
    "returned",
    "shared_or_liked",
    "viewed",
]

NEGATIVE, POSITIVE = 0, 1

LONG_DWELL_S = 30.0
SHORT_DWELL_S = 5.0
QUICK_RETURN_S = 8.0
GOOD_RATING, BAD_RATING = 4.0, 2.0


@labeling_function(task="relevance", version=1)
def clicked(batch: ExampleBatch) -> Votes:
    """Vote positive for an exposure that was clicked, and not left at once.

    Rationale: a click costs attention, and people spend it on what looks relevant; of those who
    come straight back other functions tell.
    Sources: `click` events, `dwell` events, the time until the user's next event.
    Known errors: clicks by bots; pages left open after a title that promised too much.
    """
    left = (batch.column("away_s") < QUICK_RETURN_S) | _short_dwell(batch)
    return np.where((batch.column("clicks") > 0) & ~left, POSITIVE, ABSTAIN).astype(np.int8)


def _short_dwell(batch: ExampleBatch) -> NDArray[np.bool_]:
    measured = (batch.column("dwells") > 0) | (batch.column("play_s") > 0)
    short: NDArray[np.bool_] = measured & (
        batch.column("dwell_s") + batch.column("play_s") < SHORT_DWELL_S
    )
    return short


@labeling_function(task="relevance", version=1)
def viewed(batch: ExampleBatch) -> Votes:
    """Vote positive for a thing that was viewed or played.

    Rationale: in feeds without impressions a view is what a click is elsewhere.
    Sources: `view` and `play` events.
    Known errors: autoplay, and pages that are opened to be left at once.
    """
    seen = (batch.column("views") > 0) | (batch.column("plays") > 0)
    return np.where(seen, POSITIVE, ABSTAIN).astype(np.int8)


@labeling_function(task="relevance", version=1)
def long_dwell(batch: ExampleBatch) -> Votes:
    """Vote positive after 30 s of dwell, negative when a dwell ended within 5 s.

    Rationale: time spent is the best cheap sign of satisfaction (Yi et al. 2014, "Beyond clicks").
    Sources: `dwell` events with their seconds, and `play` with seconds played.
    Known errors: a tab left open; an answer found at a glance.
    """
    dwell_s = batch.column("dwell_s") + batch.column("play_s")
    measured = (batch.column("dwells") > 0) | (batch.column("play_s") > 0)
    votes = np.full(len(batch), ABSTAIN, dtype=np.int8)
    votes[measured & (dwell_s >= LONG_DWELL_S)] = POSITIVE
    votes[_short_dwell(batch)] = NEGATIVE
    return votes


@labeling_function(task="relevance", version=1)
def quick_return(batch: ExampleBatch) -> Votes:
    """Vote negative when a click was followed within 8 s by something else.

    Rationale: who comes straight back did not find what the title promised.
    Sources: `click` events, and the time until the user's next event about another item.
    Known errors: people who open several results in tabs.
    """
    away_s = batch.column("away_s")
    left = (batch.column("clicks") > 0) & (away_s < QUICK_RETURN_S)
    stayed_longer = batch.column("dwell_s") >= LONG_DWELL_S
    return np.where(left & ~stayed_longer, NEGATIVE, ABSTAIN).astype(np.int8)


@labeling_function(task="relevance", version=1)
def added_to_cart(batch: ExampleBatch) -> Votes:
    """Vote positive for a thing that was put into the cart.

    Rationale: an intention to buy is rarely shown for what is not relevant.
    Sources: `add_to_cart` events.
    Known errors: carts used as a list for comparing.
    """
    return np.where(batch.column("carts") > 0, POSITIVE, ABSTAIN).astype(np.int8)


@labeling_function(task="relevance", version=1)
def purchased(batch: ExampleBatch) -> Votes:
    """Vote positive for a thing that was bought and kept so far.

    Rationale: money is the strongest statement a shop sees.
    Sources: `purchase` and `return` events.
    Known errors: gifts, and what will be returned later.
    """
    kept = batch.column("purchases") > batch.column("returns")
    return np.where(kept, POSITIVE, ABSTAIN).astype(np.int8)


@labeling_function(task="relevance", version=1)
def returned(batch: ExampleBatch) -> Votes:
    """Vote negative for a thing that was sent back.

    Rationale: the buyer has seen the thing itself and does not want it.
    Sources: `return` events.
    Known errors: the right thing in the wrong size.
    """
    return np.where(batch.column("returns") > 0, NEGATIVE, ABSTAIN).astype(np.int8)


@labeling_function(task="relevance", version=1)
def rated(batch: ExampleBatch) -> Votes:
    """Vote positive for a rating of 4 or more, negative for 2 or less.

    Rationale: a rating is the person's own label.
    Sources: `rating` events with a value on a scale of five.
    Known errors: products with another scale; anger about the delivery.
    """
    rating = batch.column("rating")
    votes = np.full(len(batch), ABSTAIN, dtype=np.int8)
    votes[rating >= GOOD_RATING] = POSITIVE
    votes[rating <= BAD_RATING] = NEGATIVE
    return votes


@labeling_function(task="relevance", version=1)
def shared_or_liked(batch: ExampleBatch) -> Votes:
    """Vote positive for a thing that was liked or shared.

    Rationale: people recommend what they found worth their time.
    Sources: `like` and `share` events.
    Known errors: sharing in order to mock.
    """
    shown = (batch.column("likes") > 0) | (batch.column("shares") > 0)
    return np.where(shown, POSITIVE, ABSTAIN).astype(np.int8)


@labeling_function(task="relevance", version=1)
def dismissed(batch: ExampleBatch) -> Votes:
    """Vote negative for a thing that was skipped, hidden or reported.

    Rationale: the person took the trouble to say no.
    Sources: `skip`, `hide` and `report` events.
    Known errors: a skip of what was just bought.
    """
    said_no = (
        (batch.column("skips") > 0) | (batch.column("hides") > 0) | (batch.column("reports") > 0)
    )
    return np.where(said_no, NEGATIVE, ABSTAIN).astype(np.int8)


@labeling_function(task="relevance", version=1)
def repeated(batch: ExampleBatch) -> Votes:
    """Vote positive for a thing to which the person came back.

    Rationale: nobody returns to what disappointed.
    Sources: earlier exposures of the same user to the same item, and repeated views and clicks.
    Known errors: shops whose navigation leads through the same page.
    """
    uses = batch.column("clicks") + batch.column("views") + batch.column("plays")
    engaged = uses > 0
    again = (uses > 1) | (batch.column("repeats") > 0)
    return np.where(engaged & again, POSITIVE, ABSTAIN).astype(np.int8)


@labeling_function(task="relevance", version=1)
def ignored(batch: ExampleBatch) -> Votes:
    """Vote negative for an exposure whose windows closed without any engagement.

    Rationale: it was shown, and left alone.
    Sources: `impression` events, and the closing of their windows by the watermark.
    Known errors: positions nobody scrolls to.
    """
    shown = (batch.column("impressions") > 0) & (batch.column("closed") > 0)
    untouched = np.isnan(batch.column("first_feedback_ts"))
    return np.where(shown & untouched, NEGATIVE, ABSTAIN).astype(np.int8)
