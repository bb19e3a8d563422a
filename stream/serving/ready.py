"""Compile what answers before the first question comes."""

from __future__ import annotations

import numpy as np

from models.content import ContentIndex
from models.label_model import LabelModel
from models.recommender import HISTORY, Config, Recommender
from stream.compiled_files import keep_entries_apart
from stream.compiling import said_if_long
from stream.interrupts import interruptible
from stream.serving.catalogue import ServedCatalogue
from stream.serving.model import Person, merged
from stream.serving.recommend import BEST, Question, recommend

__all__ = ["get_ready_to_serve"]


@interruptible()
@said_if_long()
def get_ready_to_serve() -> None:
    """Answer made-up questions from made-up contributions, so that everything is compiled."""
    keep_entries_apart()
    config = Config(max_items=64)
    content = ContentIndex()
    parts = {}
    for number in range(2):
        part = parts[number] = Recommender(config)
        for item in "ab":
            content.add(item, {"title": "alike"})
            part.learn_one("somebody", item, True)
    model = merged(parts, config, "0", content)
    items = np.full(HISTORY, -1, np.int32)
    items[0] = model.index("a")
    person = Person(-1, items, np.ones(HISTORY, np.float32), 1, None)
    for policy in (BEST, "inverse_gap", "thompson"):
        question = Question("0", k=2, diversity=0.5, policy=policy, exploration=0.5)
        recommend(model, ServedCatalogue(), person, question)
    # An example is explained by a label model that was read back.
    labels = LabelModel.from_bytes(LabelModel(["a", "b"], ["x", "y"]).to_bytes())
    labels.assess_many([[0, 1]])
