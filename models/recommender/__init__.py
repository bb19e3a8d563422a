"""Recommend the next item, learning from every event."""

from models.recommender.config import EXPERTS, HISTORY, Config
from models.recommender.histories import pack_histories, unpack_histories, width_for
from models.recommender.prequential import PrequentialMetrics
from models.recommender.recommender import Recommender
from models.recommender.shared import SharedRecommender, contribution_of
from models.recommender.step import (
    CORRECT,
    ENGAGE,
    MISS,
    NEGATIVE,
    NOT_PREDICTED,
    StepOutput,
)
from models.recommender.updates import Updates
from models.recommender.world import World

__all__ = [
    "CORRECT",
    "ENGAGE",
    "EXPERTS",
    "HISTORY",
    "MISS",
    "NEGATIVE",
    "NOT_PREDICTED",
    "Config",
    "PrequentialMetrics",
    "Recommender",
    "SharedRecommender",
    "StepOutput",
    "Updates",
    "World",
    "contribution_of",
    "pack_histories",
    "unpack_histories",
    "width_for",
]
