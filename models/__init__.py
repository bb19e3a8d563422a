"""Models that learn from a stream: pure values in and out, no clock and no I/O."""

from models.kernel_cache import keep_entries_apart
from models.label_model import LabelModel, StepResult
from models.recommender import Recommender

__all__ = ["LabelModel", "Recommender", "StepResult"]

# Before anything is compiled, whoever's it is: who imports this package is the first to compile.
keep_entries_apart()
