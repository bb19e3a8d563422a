"""Recommend the next item, learning from every event."""

from models.recommender.histories import pack_histories, unpack_histories
from models.recommender.prequential import PrequentialMetrics
from models.recommender.recommender import Recommender
from models.recommender.shared import SharedRecommender
from models.recommender.step import (
    CORRECT,
    ENGAGE,
    MISS,
    NEGATIVE,
    NOT_PREDICTED,
    StepOutput,
)
from models.recommender.tables import HISTORY, Config

__all__ = [
    "CORRECT",
    "ENGAGE",
    "HISTORY",
    "MISS",
    "NEGATIVE",
    "NOT_PREDICTED",
    "Config",
    "PrequentialMetrics",
    "Recommender",
    "SharedRecommender",
    "StepOutput",
    "pack_histories",
    "unpack_histories",
]
