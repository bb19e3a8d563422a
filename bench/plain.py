"""The plain settings that speeds are aimed at, beside everything that is there by default.

The behaviour functions, the label model as it is, the recommender's nearest co-visitation with
repeats, no late rewards.
"""

from __future__ import annotations

from typing import Any

__all__ = ["PLAIN", "PLAIN_ENVIRONMENT"]

PLAIN: dict[str, dict[str, Any]] = {
    "lfs": {"families": ["behaviour"]},
    "recommender": {"experts": ["near"]},
    "rewards": {"enabled": False},
}

PLAIN_ENVIRONMENT = {
    "HEADRACE_LFS__FAMILIES": "behaviour",
    "HEADRACE_RECOMMENDER__EXPERTS": "near",
    "HEADRACE_REWARDS__ENABLED": "false",
}
