"""Settings of late rewards: what an exposure may bring, what it is worth, how long to wait."""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, model_validator

from stream.settings.durations import Duration
from stream.settings.setting import DAY_S, Name, Names, Section, key, refused

__all__ = ["RewardSettings", "RewardsSettings"]


class RewardSettings(Section):
    """What an exposure may bring: predicted at once, corrected as it arrives."""

    events: Names = key((), "event types", "Bring it about; none with back_after_s.")
    undone_by: Names = key((), "event types", "Take it back.")
    window_s: Duration = key(
        ..., "seconds", "How long it may take; later is counted, not learned.", gt=0
    )
    value: float = key(1.0, "worth", "What it adds to the reward; may be below 0.")
    amount: bool = key(
        False, "true or false", "Its worth is multiplied by the value of the event that brought it."
    )
    back_after_s: Duration = key(
        0.0, "seconds", "Above 0: it is that the person comes back after at least such a pause."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.events) == (self.back_after_s > 0.0):
            raise refused(
                "events",
                "should name at least one event type, or back_after_s should be above 0, not both; "
                f"found {list(self.events)} and {self.back_after_s:g} s",
            )
        if self.back_after_s >= self.window_s:
            raise refused(
                "back_after_s",
                f"should be less than window_s ({self.window_s:g} s); found "
                f"{self.back_after_s:g} s",
            )
        return self


_REWARDS: Final[dict[str, dict[str, Any]]] = {
    "click": {"events": ("click", "play", "view"), "window_s": 1_800.0, "value": 0.1},
    "purchase": {"events": ("purchase",), "undone_by": ("return",), "window_s": 7 * DAY_S},
    "retention": {"window_s": 7 * DAY_S, "back_after_s": 43_200.0, "value": 0.1},
}


def _with_defaults(value: object) -> object:
    if isinstance(value, dict):
        merged = {name: dict(reward) for name, reward in _REWARDS.items()}
        for name, reward in value.items():
            default = merged.get(name)
            both = default is not None and isinstance(reward, dict)
            merged[name] = {**default, **reward} if both and default is not None else reward
        return merged
    return value


class RewardsSettings(Section):
    """Rewards that arrive late."""

    enabled: bool = key(
        True, "true or false", "Whether rewards are predicted, awaited and learned."
    )
    outcomes: Annotated[dict[Name, RewardSettings], BeforeValidator(_with_defaults)] = Field(
        default_factory=lambda: {
            name: RewardSettings(**reward) for name, reward in _REWARDS.items()
        },
        description="What an exposure may bring; the reward is the sum of their worths.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        visits = [name for name, reward in self.outcomes.items() if reward.back_after_s > 0.0]
        if len(visits) > 1:
            raise refused("outcomes", f"only one may have back_after_s; found {', '.join(visits)}")
        return self
