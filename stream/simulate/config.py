"""What a simulated shop is made of: every number that a world is drawn from, with its unit."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

__all__ = [
    "INTENTS",
    "RELEVANCE",
    "DelayPart",
    "Drift",
    "FeedbackRates",
    "Segment",
    "SimulatedLF",
    "WorldConfig",
]

RELEVANCE = ("negative", "positive")
"""Classes of the task ``relevance``, in the order of the planted 0/1."""

INTENTS = ("browse", "compare", "buy", "gift")
"""Classes of the task ``intent``: why the user came."""

# The rest of an event's 64 context keys is left to the shop itself (device, query).
MOST_LFS = 56

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(gt=0.0)]


class _Plan(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SimulatedLF(_Plan):
    """A labeling function that is nothing but its plan: how often it votes, how often rightly."""

    accuracy: Share = Field(0.8, description="P(vote is the planted class | it votes)")
    abstention: Share = Field(0.4, description="P(it abstains)")
    task: Literal["relevance", "intent"] = Field("relevance", description="what it votes on")
    copy_of: int | None = Field(
        None, ge=0, description="number of an earlier LF whose every vote it repeats"
    )
    session_correlation: Share = Field(
        0.0, description="share of its votes that are right or wrong together within a session"
    )


class DelayPart(_Plan):
    """One part of a mixture of exponential delays."""

    weight: float = Field(gt=0.0, description="relative share of this part")
    mean_s: Seconds = Field(description="mean delay, seconds")


class Segment(_Plan):
    """A group of users that behave alike."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_.-]+$", description="as events carry it")
    share: float = Field(gt=0.0, description="relative share of users")
    activity: float = Field(1.0, gt=0.0, description="sessions, relative to the others")
    buying: float = Field(1.0, ge=0.0, description="odds of coming to buy, relative to the others")


class Drift(_Plan):
    """A planted change."""

    at: Share = Field(description="when: share of the world's sessions that have begun")
    kind: Literal["lf_flip", "label_shift", "taste_shift", "traffic"] = Field(
        description="what changes: some LFs' accuracy, how common relevance is, "
        "what users like, or how many sessions a day"
    )
    amount: float | None = Field(
        None,
        description="lf_flip: the accuracy from then on (default: one minus the old); label_shift: "
        "added to the log-odds of relevance (-1); taste_shift: share of users who turn to other "
        "shelves (0.5); traffic: factor on sessions a day (3)",
    )
    lfs: tuple[int, ...] = Field((0,), description="lf_flip: numbers of the LFs that flip")

    @property
    def size(self) -> float:
        """The amount, or the default of this kind (an LF's own flip has none)."""
        if self.amount is not None:
            return self.amount
        return {"label_shift": -1.0, "taste_shift": 0.5, "traffic": 3.0}.get(self.kind, 0.0)

    @model_validator(mode="after")
    def _amount_fits_its_kind(self) -> Self:
        size = self.size
        if self.kind in ("lf_flip", "taste_shift") and not 0.0 <= size <= 1.0:
            raise ValueError(f"amount of {self.kind} is a share between 0 and 1, not {size}")
        if self.kind == "traffic" and size <= 0.0:
            raise ValueError(f"amount of traffic is a factor above 0, not {size}")
        return self


class FeedbackRates(_Plan):
    """How often users say something, given what they saw."""

    cart: Share = Field(0.30, description="P(add to cart | a relevant item's page, came to buy)")
    purchase: Share = Field(0.60, description="P(purchase | added to cart)")
    mistaken: Share = Field(0.25, description="odds of a cart for irrelevant against relevant")
    returned: Share = Field(0.70, description="P(return | purchase of an irrelevant item)")
    regretted: Share = Field(0.01, description="P(return | purchase of a relevant item)")
    rating: Share = Field(0.30, description="P(rating | purchase)")
    like: Share = Field(0.08, description="P(like | a relevant item's page)")
    share: Share = Field(0.02, description="P(share | a relevant item's page)")
    skip: Share = Field(0.04, description="P(skip | irrelevant, seen, not clicked)")
    hide: Share = Field(0.01, description="P(hide | irrelevant, seen, not clicked)")
    report: Share = Field(0.0005, description="P(report | irrelevant, seen, not clicked)")
    search: Share = Field(0.25, description="P(a session begins with a search)")
    dwell: Share = Field(0.95, description="P(the time on an item's page is reported)")


def _ladder(value: object) -> object:
    """Turn a number of LFs into that many, their accuracy falling from .9 to .55."""
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    steps = max(value - 1, 1)
    return tuple(
        SimulatedLF(accuracy=round(0.9 - 0.35 * k / steps, 3), abstention=0.3 + 0.1 * (k % 4))
        for k in range(value)
    )


# Sessions by UTC hour, relative to each other: a quiet night, a lunch and an evening peak.
_HOURS = (2, 1, 1, 1, 1, 2, 4, 7, 9, 10, 11, 12, 13, 12, 11, 11, 12, 13, 15, 17, 18, 15, 9, 4)

_SEGMENTS = (
    Segment(name="newcomer", share=0.3, activity=0.5, buying=0.6),
    Segment(name="regular", share=0.55, activity=1.0, buying=1.0),
    Segment(name="loyal", share=0.15, activity=2.5, buying=1.8),
)

_PURCHASE_DELAY = (
    DelayPart(weight=0.5, mean_s=600.0),
    DelayPart(weight=0.3, mean_s=6 * 3600.0),
    DelayPart(weight=0.2, mean_s=2 * 86400.0),
)


class WorldConfig(_Plan):
    """A simulated shop. The same settings always make the same bytes."""

    seed: int = Field(1, ge=0, description="of every random number in the world")
    users: int = Field(2_000, ge=1, le=50_000_000, description="users, bots included")
    items: int = Field(1_000, ge=2, le=10_000_000, description="items, those born later included")
    days: float = Field(7.0, gt=0.0, description="length of the world, days")
    events: int | None = Field(
        None,
        ge=1,
        description="write exactly this many event lines; `days` then sets how fast they come",
    )
    start_ts: float = Field(
        1_767_225_600.0, ge=0.0, description="beginning, seconds since the epoch (2026-01-01)"
    )
    sessions_per_user_day: float = Field(
        0.5, gt=0.0, description="sessions a user begins in a day, where `events` does not decide"
    )
    hours: tuple[Annotated[float, Field(ge=0.0)], ...] = Field(
        _HOURS, min_length=24, max_length=24, description="sessions by UTC hour, relative"
    )
    requests_per_session: float = Field(
        4.0, ge=1.0, le=50.0, description="mean pages with recommendations in a session"
    )
    slate: int = Field(8, ge=1, le=64, description="impressions a request")
    shelf: int = Field(24, ge=2, le=512, description="items among which a request's slate is drawn")
    position_bias: float = Field(
        0.6, ge=0.0, description="P(position k is seen) = k ** -position_bias"
    )
    temperature: float = Field(1.0, gt=0.0, description="of the logging policy's softmax")
    epsilon: Share = Field(0.1, description="share of positions that the policy fills at random")
    uniform_share: Share = Field(
        0.05, description="share of requests served by the policy `uniform` instead of `softmax`"
    )
    taste_strength: float = Field(5.0, ge=0.0, description="log-odds of relevance per unit taste")
    relevance_bias: float = Field(-3.6, description="log-odds of relevance without any taste")
    click_relevant: Share = Field(0.6, description="P(click | seen, relevant)")
    click_irrelevant: Share = Field(0.04, description="P(click | seen, irrelevant)")
    accidental_clicks: Share = Field(0.005, description="P(click by accident, whatever is shown)")
    dwell_relevant_s: Seconds = Field(60.0, description="median time on a relevant item's page")
    dwell_irrelevant_s: Seconds = Field(8.0, description="median time on an irrelevant item's page")
    dwell_accidental_s: Seconds = Field(1.5, description="median time after a click by accident")
    dwell_sigma: float = Field(0.8, ge=0.0, description="spread of the logarithm of dwell times")
    rates: FeedbackRates = Field(
        default_factory=FeedbackRates, description="how often users say something"
    )
    organic_views: float = Field(
        0.3, ge=0.0, le=20.0, description="views a session that no impression led to"
    )
    purchase_delay: tuple[DelayPart, ...] = Field(
        _PURCHASE_DELAY, min_length=1, description="from cart to purchase: a mixture"
    )
    return_days: tuple[float, float] = Field(
        (1.0, 20.0), description="days from purchase to return: the least and the most"
    )
    lost_requests: Share = Field(
        0.1, description="share of purchases, returns and ratings that name no request"
    )
    bots: Share = Field(0.005, description="share of users that are bots and click in bursts")
    new_items: Share = Field(0.2, description="share of items that appear while the world runs")
    segments: tuple[Segment, ...] = Field(_SEGMENTS, min_length=1, description="groups of users")
    embeddings: bool = Field(False, description="items carry a noisy view of their planted vector")
    sim_lfs: Annotated[tuple[SimulatedLF, ...], BeforeValidator(_ladder)] = Field(
        _ladder(5),
        max_length=MOST_LFS,
        validate_default=True,
        description="LFs of known accuracy, whose votes travel in `context` as sim_lf_0 ...; "
        "a number makes that many, from accuracy .9 down to .55",
    )
    drift: tuple[Drift, ...] = Field((), description="planted changes")
    gold: Share = Field(0.02, description="share of exposures that an annotator answers")
    gold_accuracy: Share = Field(1.0, description="P(the annotator's answer is the planted class)")
    gold_delay_median_s: Seconds = Field(
        7200.0, description="median time to the answer; log-normal, a minute to a week"
    )
    gold_tasks: tuple[Literal["relevance", "intent"], ...] = Field(
        ("relevance",), min_length=1, description="tasks that annotators answer, each in turn"
    )
    disorder: Share = Field(0.0, description="share of events that arrive late")
    disorder_mean_s: Seconds = Field(30.0, description="mean lateness of those, exponential")
    duplicates: Share = Field(0.0, description="share of events that arrive a second time")
    duplicate_mean_s: Seconds = Field(60.0, description="mean time to the second arrival")
    corrupted: Share = Field(0.0, description="share of lines that are damaged")

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        if self.slate > min(self.items, self.shelf):
            raise ValueError(
                f"slate ({self.slate}) must not exceed shelf ({self.shelf}) or items ({self.items})"
            )
        low, high = self.return_days
        if not 0.0 <= low <= high:
            raise ValueError(f"return_days must rise from 0 or more, not {low} to {high}")
        if sum(self.hours) <= 0.0:
            raise ValueError("hours must contain an hour with sessions")
        names = [segment.name for segment in self.segments]
        if len(set(names)) < len(names):
            raise ValueError(f"segments need names of their own, not {names}")
        for number, lf in enumerate(self.sim_lfs):
            if lf.copy_of is not None and not (
                lf.copy_of < number and self.sim_lfs[lf.copy_of].task == lf.task
            ):
                raise ValueError(
                    f"sim_lfs.{number}.copy_of must name an earlier LF of its task, "
                    f"not {lf.copy_of}"
                )
        for drift in self.drift:
            beyond = [n for n in drift.lfs if not 0 <= n < len(self.sim_lfs)]
            if drift.kind == "lf_flip" and beyond:
                raise ValueError(f"drift names LFs {beyond}, but there are {len(self.sim_lfs)}")
        return self
