"""Reward heads: what an exposure will bring, learned from outcomes that arrive late."""

from models.rewards.head import (
    ARRIVED,
    EXPOSED,
    FEATURES,
    HEAD_STATE,
    NO_FEATURE,
    UNDONE,
    HeadConfig,
    RewardHead,
)
from models.rewards.records import ExposureRecords

__all__ = [
    "ARRIVED",
    "EXPOSED",
    "FEATURES",
    "HEAD_STATE",
    "NO_FEATURE",
    "UNDONE",
    "ExposureRecords",
    "HeadConfig",
    "RewardHead",
]
