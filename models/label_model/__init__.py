"""Online label model: what labeling functions and annotators vote, as probabilities."""

from models.label_model.config import HALF_LIVES
from models.label_model.model import LabelModel
from models.label_model.stepping import StepResult

__all__ = ["HALF_LIVES", "LabelModel", "StepResult"]
