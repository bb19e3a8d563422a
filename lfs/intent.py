"""Intent: why the person came; an example of a task with more than two classes.

They run where the configuration has a task `intent`::

    [tasks.intent]
    classes = ["browse", "compare", "buy", "gift"]
    prior = [0.5, 0.25, 0.2, 0.05]
"""

from __future__ import annotations

import re
from typing import Final

from lfs.core import ABSTAIN, Example, labeling_function
from lfs.text import folded

__all__ = [
    "bought",
    "came_back_to_look",
    "gift_options",
    "gift_words",
    "passed_by",
    "shopping_words",
    "weighing_words",
]

_GIFT: Final = re.compile(
    r"\b(?:gifts?|presents?|birthday|wedding|christmas|(?:for|to) (?:my|a|his|her) "
    r"(?:wife|husband|mother|father|mum|dad|son|daughter|friend|partner|grand\w+))\b"
)
_WEIGHING: Final = re.compile(
    r"\b(?:vs|versus|compar\w+|best|top \d+|reviews?|tests?|alternatives?|difference)\b"
)
_SHOPPING: Final = re.compile(
    r"\b(?:buy|order|price|cheap\w*|discount|coupon|sale|in stock|delivery|near me)\b"
)
_LONG_LOOK_S: Final = 45.0
_GLANCE_S: Final = 10.0


@labeling_function(task="intent", version=1, needs=("purchases", "carts"))
def bought(example: Example) -> str | int:
    """Vote buy for what was bought, or put into the cart.

    Rationale: the deed shows the intention.
    Sources: `purchase` and `add_to_cart` events.
    Known errors: gifts are bought too; carts kept as a list for comparing.
    """
    return "buy" if (example.purchases or 0) + (example.carts or 0) > 0 else ABSTAIN


@labeling_function(task="intent", version=1, needs=("dwells",))
def passed_by(example: Example) -> str | int:
    """Vote browse for a look of less than ten seconds.

    Rationale: who wants something gives it more than a glance.
    Sources: `dwell` events.
    Known errors: people who know the thing already.
    """
    glance = (example.dwells or 0) > 0 and (example.dwell_s or 0.0) < _GLANCE_S
    return "browse" if glance and not (example.carts or 0) else ABSTAIN


@labeling_function(task="intent", version=1, needs=("dwell_s",))
def came_back_to_look(example: Example) -> str | int:
    """Vote compare for a long look at a thing seen before, without putting it into the cart.

    Rationale: weighing things up takes returns and time.
    Sources: earlier engagements with the item, `dwell` events, no `add_to_cart`.
    Known errors: favourites that one likes to look at.
    """
    again = (example.repeats or 0) > 0 or (example.clicks or 0) + (example.views or 0) > 1
    long_look = (example.dwell_s or 0.0) >= _LONG_LOOK_S
    return "compare" if again and long_look and not (example.carts or 0) else ABSTAIN


@labeling_function(task="intent", version=1, needs=("context.query",))
def gift_words(example: Example) -> str | int:
    """Vote gift for a query that speaks of a gift, an occasion, or somebody close.

    Rationale: people search for gifts by the person or the day.
    Sources: `query` in the context.
    Known errors: gift cards; books about weddings.
    """
    return "gift" if _GIFT.search(_query(example)) else ABSTAIN


@labeling_function(
    task="intent",
    version=1,
    needs=("context.gift_wrap", "context.gift_message", "context.ship_to_other"),
)
def gift_options(example: Example) -> str | int:
    """Vote gift where wrapping or a message was asked for, or another's address was given.

    Rationale: nobody wraps for himself.
    Sources: `gift_wrap`, `gift_message` and `ship_to_other` in the context.
    Known errors: parcels for the office.
    """
    context = example.context
    asked = any(context.get(key) for key in ("gift_wrap", "gift_message", "ship_to_other"))
    return "gift" if asked else ABSTAIN


@labeling_function(
    task="intent", version=1, needs=("context.sort", "context.filter", "context.query")
)
def weighing_words(example: Example) -> str | int:
    """Vote compare for a query with words of weighing up, or a list sorted or filtered by hand.

    Rationale: "best", "versus" and "review" ask for a comparison.
    Sources: `query`, `sort` and `filter` in the context.
    Known errors: a default order that the product logs as if it were chosen.
    """
    context = example.context
    sorted_by_hand = bool(context.get("sort")) or bool(context.get("filter"))
    return "compare" if sorted_by_hand or _WEIGHING.search(_query(example)) else ABSTAIN


@labeling_function(task="intent", version=1, needs=("context.query",))
def shopping_words(example: Example) -> str | int:
    """Vote buy for a query with words of buying.

    Rationale: who asks for price and delivery has made up his mind.
    Sources: `query` in the context.
    Known errors: the curious who only ask what it costs.
    """
    return "buy" if _SHOPPING.search(_query(example)) else ABSTAIN


def _query(example: Example) -> str:
    query = example.context.get("query")
    return folded(query) if isinstance(query, str) else ""
