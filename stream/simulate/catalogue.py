"""The shop's items: where each stands, what it is like, when it appears, what is written of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stream.simulate.config import WorldConfig
from stream.simulate.vocabulary import (
    BRANDS,
    CATEGORIES,
    COLOURS,
    OCCASIONS,
    QUALIFIERS,
    Category,
)

__all__ = ["DIMENSIONS", "Catalogue", "unit"]

DIMENSIONS = 8
"""Of the planted space in which tastes and items lie."""

_ITEM_SPREAD = 0.8
_SHELF_SPREAD = 0.7


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vectors scaled to length one."""
    lengths = np.sqrt(np.einsum("...d,...d->...", vectors, vectors))
    return np.asarray(vectors / lengths[..., None], dtype=np.float32)


class Catalogue:
    """Items on shelves; a shelf holds things of one kind and category.

    Parameters
    ----------
    config
        Its items, shelf, slate, new_items, embeddings.
    rng
        Every draw comes from here, in a fixed order.

    State
    -----
    Arrays of one entry an item; ``slots`` (shelves × width) names the item in each place of a
    shelf, −1 where a place is empty.
    """

    def __init__(self, config: WorldConfig, rng: np.random.Generator) -> None:
        n = config.items
        shelves = max(1, n // config.shelf)
        width = -(-n // shelves)
        places = np.arange(shelves * width)
        self.slots = np.where(places < n, places, -1).reshape(width, shelves).T.copy()
        self.shelf = (np.arange(n) % shelves).astype(np.int32)
        self.category = np.arange(shelves) % len(CATEGORIES)
        centres = unit(rng.normal(size=(len(CATEGORIES), DIMENSIONS)).astype(np.float32))
        spread = rng.normal(size=(shelves, DIMENSIONS)).astype(np.float32) / DIMENSIONS**0.5
        self.centres = unit(centres[self.category] + _SHELF_SPREAD * spread)
        spread = rng.normal(size=(n, DIMENSIONS)).astype(np.float32) / DIMENSIONS**0.5
        self.vectors = unit(self.centres[self.shelf] + _ITEM_SPREAD * spread)
        self.quality = rng.normal(0.0, 0.6, size=n).astype(np.float32)
        level = np.array([category.price for category in CATEGORIES])[self.category[self.shelf]]
        self.price = np.maximum(np.round(level * rng.lognormal(0.0, 0.5, size=n), 2), 0.5)
        # The first places of every shelf are never empty, so that a slate can be filled.
        born_later = (rng.random(n) < config.new_items) & (places[:n] >= config.slate * shelves)
        self.birth_share = np.where(born_later, rng.random(n), 0.0)
        self._words = rng.integers(0, 2**31, size=(n, 8))
        self._noise = rng.normal(size=(n, DIMENSIONS)) * 0.3 if config.embeddings else None

    def __len__(self) -> int:
        return int(self.shelf.size)

    def shelf_name(self, shelf: int) -> str:
        """Return what a customer would type to find a shelf."""
        category = CATEGORIES[shelf % len(CATEGORIES)]
        kind = shelf // len(CATEGORIES)
        thing = category.things[kind % len(category.things)]
        round_ = kind // len(category.things)
        if round_ == 0:
            return thing
        name = f"{QUALIFIERS[(round_ - 1) % len(QUALIFIERS)]} {thing}"
        series = (round_ - 1) // len(QUALIFIERS)
        return f"{name} {series + 1}" if series else name

    def records(self, birth_ms: NDArray[np.int64]) -> Iterator[dict[str, object]]:
        """Yield every item as the items topic carries it, in the order of appearance."""
        for item in np.argsort(birth_ms, kind="stable").tolist():
            yield self._record(item, int(birth_ms[item]) / 1000)

    def _record(self, item: int, ts: float) -> dict[str, object]:
        shelf = int(self.shelf[item])
        category: Category = CATEGORIES[int(self.category[shelf])]
        thing = self.shelf_name(shelf)
        w = self._words[item].tolist()
        brand, colour = BRANDS[w[0] % len(BRANDS)], COLOURS[w[1] % len(COLOURS)]
        material = category.materials[w[2] % len(category.materials)]
        first = category.praise[w[3] % len(category.praise)]
        second = category.praise[w[4] % len(category.praise)]
        occasion = OCCASIONS[w[5] % len(OCCASIONS)]
        model = f"{chr(65 + w[6] % 26)}{w[7] % 900 + 100}"
        record: dict[str, object] = {
            "item_id": f"i{item}",
            "title": f"{brand} {colour} {thing} {model}",
            "text": (
                f"A {thing} of {material}, {first}. {occasion.capitalize()}: "
                f"{second}, in {colour}. {brand} makes it for the {category.name} shelf."
            ),
            "categories": [category.name, thing],
            "tags": sorted({colour, material, first}),
            "attributes": {"brand": brand, "colour": colour, "material": material, "model": model},
            "price": float(self.price[item]),
            "available": True,
            "ts": ts,
        }
        if self._noise is not None:
            view = self.vectors[item] + self._noise[item]
            record["embedding"] = [round(x, 4) for x in view.tolist()]
        return record
