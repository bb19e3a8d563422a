"""Models that learn from a stream: pure values in and out, no clock and no I/O."""

from models.label_model import LabelModel, StepResult
from models.recommender import Recommender

__all__ = ["LabelModel", "Recommender", "StepResult"]
