"""Settings of what is recommended, and how."""

from __future__ import annotations

from typing import Literal

from stream.settings.durations import Duration
from stream.settings.setting import Section, key

__all__ = ["RecommendationsSettings"]


class RecommendationsSettings(Section):
    """Recommendations over HTTP."""

    policy: Literal["best", "epsilon_greedy", "inverse_gap", "thompson"] = key(
        "inverse_gap",
        "policy",
        "How to explore: best (not at all), epsilon_greedy, inverse_gap or thompson.",
    )
    exploration: float = key(
        0.05, "share", "Largest expected share of places that exploration fills.", ge=0, le=1
    )
    diversity: float = key(
        0.0, "0 to 1", "Unless a request says otherwise; 0: by score alone.", ge=0, le=1
    )
    refresh_s: Duration = key(
        1.0, "seconds", "How often what was learned is taken over into what is served.", gt=0
    )
    requests_per_s: float = key(
        0.0, "requests per second", "Rate above which clients get 429; 0: no limit.", ge=0
    )
