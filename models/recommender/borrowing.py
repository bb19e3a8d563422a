"""Keep a recommender's lenders in step with what the catalogue says."""

from __future__ import annotations

import numpy as np

from models.content import ContentIndex
from models.recommender.core import RecommenderCore
from models.recommender.lenders import SLOTS
from models.recommender.vocabulary import UNKNOWN

__all__ = ["Borrowing"]


class Borrowing:
    """Tells one recommender what is new in a content index.

    Parameters
    ----------
    content
        Filled by whoever reads the catalogue.
    most
        Items admitted to the recommender's vocabulary before anybody chose them; a long catalogue
        must leave room for what people do choose.
    """

    def __init__(self, content: ContentIndex, most: int = 500_000) -> None:
        self._content = content
        self._most = most
        self._model: RecommenderCore | None = None
        self._seen = 0
        self._places = np.zeros(0, np.int32)

    def catch_up(self, model: RecommenderCore, now: int | None = None) -> None:
        """Admit the items that were announced, and tell what became like what, since last time.

        ``now`` is the content's clock up to which items are admitted; its own unless given.
        """
        content = self._content
        if not model.lends or model is not self._model:
            # Another one, or one that was loaded anew.
            self._model, self._seen, self._places = model, 0, np.zeros(0, np.int32)
        if now is None:
            now = content.clock
        if now == self._seen:
            return
        fresh = content.ids[len(self._places) : min(now, self._most)]
        if fresh:
            self._places = np.concatenate([self._places, model.item_indexes(fresh)])
        n = len(self._places)
        # More than there is room for would push each other out.
        rows = np.flatnonzero(content.changed[:n] > self._seen)[-SLOTS:]
        # One more, so that -1 stays -1.
        places = np.append(self._places, np.int32(UNKNOWN))
        near = content.near[rows]
        near[near >= n] = UNKNOWN
        model.set_lenders(
            self._places[rows], places[near], content.likeness[rows], content.since[rows]
        )
        self._seen = now
