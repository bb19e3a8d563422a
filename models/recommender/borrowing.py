"""Keep a recommender's lenders in step with what the catalogue says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.content import ContentIndex
from models.recommender.lenders import SLOTS
from models.recommender.vocabulary import UNKNOWN

__all__ = ["Borrower", "Borrowing"]


class Borrower(Protocol):
    """A recommender, as far as lenders concern it."""

    def item_indexes(self, item_ids: Sequence[str]) -> NDArray[np.int32]:
        """Return the items' indexes, admitting new ones in order; -1 where there is no room."""
        ...

    def set_lenders(
        self, items: NDArray[np.int32], lenders: NDArray[np.int32], alike: NDArray[np.float32]
    ) -> None:
        """Let items that are new borrow from those that are like them."""
        ...


class Borrowing:
    """Tells one recommender what is new in a content index.

    Parameters
    ----------
    content
        Filled by whoever reads the catalogue.
    """

    def __init__(self, content: ContentIndex) -> None:
        self._content = content
        self._seen = 0
        self._places = np.zeros(0, np.int32)

    def catch_up(self, model: Borrower) -> None:
        """Admit the items that were announced, and tell what became like what, since last time."""
        content = self._content
        now = content.clock
        if now == self._seen:
            return
        fresh = content.ids[len(self._places) : len(content)]
        if fresh:
            self._places = np.concatenate([self._places, model.item_indexes(fresh)])
        n = len(self._places)
        # More than there is room for would push each other out.
        rows = np.flatnonzero(content.changed[:n] > self._seen)[-SLOTS:]
        # One more, so that -1 stays -1.
        places = np.append(self._places, np.int32(UNKNOWN))
        near = content.near[rows]
        near[near >= n] = UNKNOWN
        model.set_lenders(self._places[rows], places[near], content.likeness[rows])
        self._seen = now
