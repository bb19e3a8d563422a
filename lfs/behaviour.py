"""Behaviour: what a person did with the thing, as evidence of whether it was relevant.

Time spent is one fact and gets one vote: under 2 s `lfs.trust` sees an accident, up to 10 s and
from 30 s `long_dwell` speaks (`quick_return` where time was not measured), and `clicked` only
where nothing is known of it. What was bought is not counted again as put into the cart.
`lfs.readings` has the numbers.
"""

from __future__ import annotations

from lfs.core import ExampleBatch, Votes, labeling_function
from lfs.readings import VISITS, judged

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


@labeling_function(task="relevance", version=2, needs=("clicks",), joint=VISITS)
def clicked(batch: ExampleBatch) -> Votes:
    """Vote positive for a click of which nothing more is known.

    Rationale: a click costs attention, and people spend it on what looks relevant. As soon as
    the time spent is known, that speaks instead: a click is only its promise.
    Sources: `click` events; withheld after `dwell`, a quick return, or more events a minute than
    a person causes.
    Known errors: titles that promise too much; accidental clicks whose end nobody reported.
    """
    return judged(batch, "clicked")


@labeling_function(task="relevance", version=2, needs=("views", "plays"), joint=VISITS)
def viewed(batch: ExampleBatch) -> Votes:
    """Vote positive for a thing that was viewed or played, and of which nothing more is known.

    Rationale: in feeds without impressions a view is what a click is elsewhere.
    Sources: `view` and `play` events; withheld as `clicked` is, and where there was a click.
    Known errors: autoplay, and pages that are opened to be left at once.
    """
    return judged(batch, "viewed")


@labeling_function(task="relevance", version=2, needs=("dwells", "play_s"), joint=VISITS)
def long_dwell(batch: ExampleBatch) -> Votes:
    """Vote positive after 30 s of dwell, negative when a dwell ended within 10 s.

    Rationale: time spent is the best cheap sign of satisfaction (Yi et al. 2014, "Beyond clicks").
    Sources: `dwell` events with their seconds, and `play` with seconds played; below 2 s
    `accidental_click` votes instead.
    Known errors: a tab left open; an answer found at a glance.
    """
    return judged(batch, "long_dwell")


@labeling_function(task="relevance", version=2, needs=("clicks", "views", "plays"), joint=VISITS)
def quick_return(batch: ExampleBatch) -> Votes:
    """Vote negative when a visit of unmeasured length was followed within 8 s by something else.

    Rationale: who comes straight back did not find what the title promised.
    Sources: visits, and the time until the user's next event about another item; withheld where
    a `dwell` tells the time itself.
    Known errors: people who open several results in tabs.
    """
    return judged(batch, "quick_return")


@labeling_function(task="relevance", version=2, needs=("carts",), joint=VISITS)
def added_to_cart(batch: ExampleBatch) -> Votes:
    """Vote positive for a thing that was put into the cart, and not bought so far.

    Rationale: an intention to buy is rarely shown for what is not relevant.
    Sources: `add_to_cart` events; once bought, `purchased` and `returned` tell more.
    Known errors: carts used as a list for comparing.
    """
    return judged(batch, "added_to_cart")


@labeling_function(task="relevance", version=1, needs=("purchases", "returns"), joint=VISITS)
def purchased(batch: ExampleBatch) -> Votes:
    """Vote positive for a thing that was bought and kept so far.

    Rationale: money is the strongest statement a shop sees.
    Sources: `purchase` and `return` events.
    Known errors: gifts, and what will be returned later.
    """
    return judged(batch, "purchased")


@labeling_function(task="relevance", version=1, needs=("returns",), joint=VISITS)
def returned(batch: ExampleBatch) -> Votes:
    """Vote negative for a thing that was sent back.

    Rationale: the buyer has seen the thing itself and does not want it.
    Sources: `return` events.
    Known errors: the right thing in the wrong size.
    """
    return judged(batch, "returned")


@labeling_function(task="relevance", version=1, needs=("rating",), joint=VISITS)
def rated(batch: ExampleBatch) -> Votes:
    """Vote positive for a rating of 4 or more, negative for 2 or less.

    Rationale: a rating is the person's own label.
    Sources: `rating` events with a value on a scale of five.
    Known errors: products with another scale; anger about the delivery.
    """
    return judged(batch, "rated")


@labeling_function(task="relevance", version=1, needs=("likes", "shares"), joint=VISITS)
def shared_or_liked(batch: ExampleBatch) -> Votes:
    """Vote positive for a thing that was liked or shared.

    Rationale: people recommend what they found worth their time.
    Sources: `like` and `share` events.
    Known errors: sharing in order to mock.
    """
    return judged(batch, "shared_or_liked")


@labeling_function(task="relevance", version=1, needs=("skips", "hides", "reports"), joint=VISITS)
def dismissed(batch: ExampleBatch) -> Votes:
    """Vote negative for a thing that was skipped, hidden or reported.

    Rationale: the person took the trouble to say no.
    Sources: `skip`, `hide` and `report` events.
    Known errors: a skip of what was just bought.
    """
    return judged(batch, "dismissed")


@labeling_function(task="relevance", version=2, needs=("clicks", "views", "plays"), joint=VISITS)
def repeated(batch: ExampleBatch) -> Votes:
    """Vote positive for a thing to which a person came back.

    Rationale: nobody returns to what disappointed.
    Sources: earlier exposures of the same user to the same item, and repeated visits; withheld
    until it is known that the person stayed or did something, and when events came faster than
    a person causes them.
    Known errors: shops whose navigation leads through the same page.
    """
    return judged(batch, "repeated")


@labeling_function(task="relevance", version=2, needs=("impressions",), joint=VISITS)
def ignored(batch: ExampleBatch) -> Votes:
    """Vote negative for an exposure in plain sight whose windows closed without any engagement.

    Rationale: it was shown where people look, and left alone.
    Sources: `impression` events with their position, and the closing of their windows by the
    watermark; below the third place nobody knows whether it was seen.
    Known errors: eyes that were elsewhere.
    """
    return judged(batch, "ignored")
