"""The catalogue as serving asks it: by category, the unavailable, and the newest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from itertools import islice
from typing import Any, Final

from stream.catalogue import Catalogue
from stream.decoding.decode import MAX_LINE_BYTES

__all__ = ["ServedCatalogue"]

_NONE: Final[Mapping[str, None]] = {}


class ServedCatalogue(Catalogue):
    """Items by id, by category, by availability and by age.

    One thread may fill it while another one asks: every step of either is whole.
    """

    def __init__(self, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        super().__init__(max_line_bytes=max_line_bytes)
        self._categories: dict[str, dict[str, None]] = {}
        self._by_age: dict[str, None] = {}
        self._unavailable: set[str] = set()

    @property
    def unavailable(self) -> Set[str]:
        """The items whose entries call them unavailable."""
        return self._unavailable

    def in_category(self, category: str) -> Collection[str]:
        """Return the items of a category, those known first first."""
        return list(self._categories.get(category, _NONE))

    def newest(self, n: int) -> Sequence[str]:
        """Return the items that became known last, the newest first."""
        try:
            return list(islice(reversed(self._by_age), n))
        except RuntimeError:
            # Another thread put one in meanwhile; a copy is whole, but as long as the catalogue.
            return list(islice(reversed(list(self._by_age)), n))

    def _changed(
        self, item_id: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
    ) -> None:
        old = frozenset(before.get("categories", ())) if before else frozenset()
        new = frozenset(after.get("categories", ())) if after else frozenset()
        for category in old - new:
            self._categories.get(category, {}).pop(item_id, None)
        for category in new - old:
            self._categories.setdefault(category, {})[item_id] = None
        if after is not None and after.get("available") is False:
            self._unavailable.add(item_id)
        else:
            self._unavailable.discard(item_id)
        if after is None:
            self._by_age.pop(item_id, None)
        else:
            self._by_age.setdefault(item_id)
