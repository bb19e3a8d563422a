"""Reward heads: what an exposure will bring, learned from outcomes that arrive late."""

from models.rewards.head import (
    ARRIVED,
    EXPOSED,
    FEATURES,
    NO_FEATURE,
    UNDONE,
    Exposure,
    HeadConfig,
    RewardHead,
)

__all__ = [
    "ARRIVED",
    "EXPOSED",
    "FEATURES",
    "NO_FEATURE",
    "UNDONE",
    "Exposure",
    "HeadConfig",
    "RewardHead",
]
