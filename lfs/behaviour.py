"""Behaviour: what a person did with the thing, as evidence of whether it was relevant.

Time spent is one fact and gets one vote: under 2 s `lfs.trust` sees an accident, up to 10 s and
from 30 s `long_dwell` speaks (`quick_return` where time was not measured), and `clicked` only
where nothing is known of it. What was bought is not counted again as put into the cart.
"""

from __future__ import annotations

import numpy as np

from lfs.core import ExampleBatch, Votes, labeling_function
from lfs.readings import (
    QUICK_RETURN_S,
    has_statement,
    is_bare,
    is_measured,
    is_robotic,
    is_visited,
    spent_s,
    visits,
    votes,
)

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

LONG_DWELL_S = 30.0
SHORT_DWELL_S = 10.0
ACCIDENT_S = 2.0
GOOD_RATING, BAD_RATING = 4.0, 2.0
SEEN_POSITIONS = 3.0


@labeling_function(task="relevance", version=2, needs=("clicks",))
def clicked(batch: ExampleBatch) -> Votes:
    """Vote positive for a click of which nothing more is known.

    Rationale: a click costs attention, and people spend it on what looks relevant. As soon as
    the time spent is known, that speaks instead: a click is only its promise.
    Sources: `click` events; withheld after `dwell`, a quick return, or more events a minute than
    a person causes.
    Known errors: titles that promise too much; accidental clicks whose end nobody reported.
    """
    return votes(batch, positive=(batch.column("clicks") > 0) & is_bare(batch))


@labeling_function(task="relevance", version=2, needs=("views", "plays"))
def viewed(batch: ExampleBatch) -> Votes:
    """Vote positive for a thing that was viewed or played, and of which nothing more is known.

    Rationale: in feeds without impressions a view is what a click is elsewhere.
    Sources: `view` and `play` events; withheld as `clicked` is, and where there was a click.
    Known errors: autoplay, and pages that are opened to be left at once.
    """
    unclicked = batch.column("clicks") == 0
    return votes(batch, positive=is_visited(batch) & unclicked & is_bare(batch))


@labeling_function(task="relevance", version=2, needs=("dwells", "play_s"))
def long_dwell(batch: ExampleBatch) -> Votes:
    """Vote positive after 30 s of dwell, negative when a dwell ended within 10 s.

    Rationale: time spent is the best cheap sign of satisfaction (Yi et al. 2014, "Beyond clicks").
    Sources: `dwell` events with their seconds, and `play` with seconds played; below 2 s
    `accidental_click` votes instead.
    Known errors: a tab left open; an answer found at a glance.
    """
    measured, seconds = is_measured(batch), spent_s(batch)
    return votes(
        batch,
        positive=measured & (seconds >= LONG_DWELL_S),
        negative=measured & (seconds < SHORT_DWELL_S) & (seconds >= ACCIDENT_S),
    )


@labeling_function(task="relevance", version=2, needs=("clicks", "views", "plays"))
def quick_return(batch: ExampleBatch) -> Votes:
    """Vote negative when a visit of unmeasured length was followed within 8 s by something else.

    Rationale: who comes straight back did not find what the title promised.
    Sources: visits, and the time until the user's next event about another item; withheld where
    a `dwell` tells the time itself.
    Known errors: people who open several results in tabs.
    """
    seconds = spent_s(batch)
    left = (seconds >= ACCIDENT_S) & (seconds < QUICK_RETURN_S)
    return votes(batch, negative=left & ~is_measured(batch))


@labeling_function(task="relevance", version=2, needs=("carts",))
def added_to_cart(batch: ExampleBatch) -> Votes:
    """Vote positive for a thing that was put into the cart, and not bought so far.

    Rationale: an intention to buy is rarely shown for what is not relevant.
    Sources: `add_to_cart` events; once bought, `purchased` and `returned` tell more.
    Known errors: carts used as a list for comparing.
    """
    waiting = (batch.column("carts") > 0) & (batch.column("purchases") == 0)
    return votes(batch, positive=waiting)


@labeling_function(task="relevance", version=1, needs=("purchases", "returns"))
def purchased(batch: ExampleBatch) -> Votes:
    """Vote positive for a thing that was bought and kept so far.

    Rationale: money is the strongest statement a shop sees.
    Sources: `purchase` and `return` events.
    Known errors: gifts, and what will be returned later.
    """
    return votes(batch, positive=batch.column("purchases") > batch.column("returns"))


@labeling_function(task="relevance", version=1, needs=("returns",))
def returned(batch: ExampleBatch) -> Votes:
    """Vote negative for a thing that was sent back.

    Rationale: the buyer has seen the thing itself and does not want it.
    Sources: `return` events.
    Known errors: the right thing in the wrong size.
    """
    return votes(batch, negative=batch.column("returns") > 0)


@labeling_function(task="relevance", version=1, needs=("rating",))
def rated(batch: ExampleBatch) -> Votes:
    """Vote positive for a rating of 4 or more, negative for 2 or less.

    Rationale: a rating is the person's own label.
    Sources: `rating` events with a value on a scale of five.
    Known errors: products with another scale; anger about the delivery.
    """
    rating = batch.column("rating")
    return votes(batch, positive=rating >= GOOD_RATING, negative=rating <= BAD_RATING)


@labeling_function(task="relevance", version=1, needs=("likes", "shares"))
def shared_or_liked(batch: ExampleBatch) -> Votes:
    """Vote positive for a thing that was liked or shared.

    Rationale: people recommend what they found worth their time.
    Sources: `like` and `share` events.
    Known errors: sharing in order to mock.
    """
    return votes(batch, positive=batch.column("likes") + batch.column("shares") > 0)


@labeling_function(task="relevance", version=1, needs=("skips", "hides", "reports"))
def dismissed(batch: ExampleBatch) -> Votes:
    """Vote negative for a thing that was skipped, hidden or reported.

    Rationale: the person took the trouble to say no.
    Sources: `skip`, `hide` and `report` events.
    Known errors: a skip of what was just bought.
    """
    said_no = batch.column("skips") + batch.column("hides") + batch.column("reports")
    return votes(batch, negative=said_no > 0)


@labeling_function(task="relevance", version=2, needs=("clicks", "views", "plays"))
def repeated(batch: ExampleBatch) -> Votes:
    """Vote positive for a thing to which a person came back.

    Rationale: nobody returns to what disappointed.
    Sources: earlier exposures of the same user to the same item, and repeated visits; withheld
    until it is known that the person stayed or did something, and when events came faster than
    a person causes them.
    Known errors: shops whose navigation leads through the same page.
    """
    uses = visits(batch)
    again = (uses > 1) | ((uses > 0) & (batch.column("repeats") > 0))
    stayed = (spent_s(batch) >= SHORT_DWELL_S) | has_statement(batch)
    return votes(batch, positive=again & stayed & ~is_robotic(batch))


@labeling_function(task="relevance", version=2, needs=("impressions",))
def ignored(batch: ExampleBatch) -> Votes:
    """Vote negative for an exposure in plain sight whose windows closed without any engagement.

    Rationale: it was shown where people look, and left alone.
    Sources: `impression` events with their position, and the closing of their windows by the
    watermark; below the third place nobody knows whether it was seen.
    Known errors: eyes that were elsewhere.
    """
    shown = (batch.column("impressions") > 0) & (batch.column("closed") > 0)
    untouched = np.isnan(batch.column("first_feedback_ts"))
    in_sight = ~(batch.column("position") > SEEN_POSITIONS)
    return votes(batch, negative=shown & untouched & in_sight & ~has_statement(batch))
