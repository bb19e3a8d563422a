"""Popularity by segment: a segment is a row of its own, of what its people choose.

The row stands among the items' rows, so that it decays, is bounded, is stored and adds up as they
do, and is told to other processes in the same way. It is no item: nobody engages with it, and it
is never recommended. Scoring reads it for people who have no history; how far it is believed is
learned as it is of every expert, by length of history.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.recommender.vocabulary import SEGMENT_MARK, UNKNOWN, Vocabulary

__all__ = ["interleaved", "refuse_marked", "segment_in", "segment_places"]


def segment_in(vocabulary: Vocabulary, segment: str | None) -> int:
    """Return the index of a segment's row, or `UNKNOWN`; admits nothing."""
    return vocabulary.find(SEGMENT_MARK + segment) if segment else UNKNOWN


def refuse_marked(item_ids: Sequence[str]) -> None:
    """Refuse items that are called like the row of a segment.

    Raises
    ------
    ValueError
        For the first of them.
    """
    for item_id in item_ids:
        if item_id.startswith(SEGMENT_MARK):
            raise ValueError(
                f"an item's id must not begin with {SEGMENT_MARK!r}; found {item_id!r}"
            )


def interleaved(item_ids: Sequence[str], segments: Sequence[str | None]) -> list[str]:
    """Return the names to admit, row by row, so that indexes do not depend on how rows are cut."""
    names = []
    for item_id, segment in zip(item_ids, segments, strict=True):
        names.append(item_id)
        if segment:
            names.append(SEGMENT_MARK + segment)
    return names


def segment_places(
    found: NDArray[np.int32], segments: Sequence[str | None]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the items' indexes and the segments', of those that `interleaved` names have."""
    has = np.fromiter(map(bool, segments), np.bool_, len(segments))
    at = np.arange(len(has)) + np.cumsum(has) - has
    places = np.full(len(has), UNKNOWN, np.int32)
    places[has] = found[at[has] + 1]
    return found[at], places
