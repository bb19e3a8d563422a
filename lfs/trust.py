"""Trust: clicks that say little about the thing, because of who or what made them.

`lfs.readings` has the numbers.
"""

from __future__ import annotations

from lfs.core import ExampleBatch, Votes, labeling_function
from lfs.readings import VISITS, judged

__all__ = ["accidental_click", "click_burst", "position_explained", "robotic_rate"]


@labeling_function(task="relevance", version=1, needs=("clicks", "views", "plays"), joint=VISITS)
def robotic_rate(batch: ExampleBatch) -> Votes:
    """Vote negative for visits by somebody with over a hundred events a minute.

    Rationale: nobody reads at that speed; crawlers and click farms do.
    Sources: the user's decayed rate of events (half-life a minute), impressions included.
    Known errors: several people behind one id; products that send hundreds of impressions a page.
    """
    return judged(batch, "robotic_rate")


@labeling_function(task="relevance", version=1, needs=("clicks",), joint=VISITS)
def click_burst(batch: ExampleBatch) -> Votes:
    """Vote negative for three clicks or more on one exposure within ten seconds.

    Rationale: impatience, a broken button or a script, but no growing interest.
    Sources: `click` events, the times of the first and of the last feedback; withheld after a
    cart or another statement, and where `robotic_rate` speaks.
    Known errors: galleries where every picture is a click.
    """
    return judged(batch, "click_burst")


@labeling_function(task="relevance", version=1, needs=("clicks", "views", "plays"), joint=VISITS)
def accidental_click(batch: ExampleBatch) -> Votes:
    """Vote negative for a visit that ended within two seconds.

    Rationale: two seconds are what it takes to see that one is on the wrong page.
    Sources: `dwell` events, else the time until the user's next event; withheld after a
    statement.
    Known errors: dwell reported in another unit; people who open things in tabs.
    """
    return judged(batch, "accidental_click")


@labeling_function(task="relevance", version=1, needs=("clicks",), joint=VISITS)
def position_explained(batch: ExampleBatch) -> Votes:
    """Vote negative for a click on the first place that led to a glance and nothing else.

    Rationale: the first place is clicked because it is first (Joachims et al. 2005); what was
    put there with near certainty had no rival. Only a stay makes such a click a choice.
    Sources: `position` and `propensity` as logged, `dwell` from 10 to 15 s, no statement.
    Known errors: shops whose first place is right most of the time: there it is nearly a coin.
    """
    return judged(batch, "position_explained")
