"""Sizes and rates of a recommender."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXPERTS", "HISTORY", "LAGS", "POWER_STEPS", "Config", "Parameters"]

HISTORY = 400
"""Items of a user's own history that are kept, newest first.

Scoring looks at the latest 20; the others are there so that what the user had is not
recommended again where users do not repeat (films: 100 kept items reach 96 % of the nDCG that
400 reach, and 1,000 add 0.3 %).
"""

LAGS = 100
"""Steps back whose repeats are counted apart; all that lie further back count as the last one."""

EXPERTS = ("near", "far", "fresh", "steady")
"""What is mixed: co-visitation with the last few items, with many; popularity lately, over long."""

POWER_STEPS = 16
"""Entries of a table of decays for each step back; between two of them it is interpolated."""


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes and rates of a recommender. The defaults need no tuning; sizes bound its memory.

    Parameters
    ----------
    max_items
        Items that the vocabulary admits; later ones are dropped and counted.
    neighbours, min_neighbours, slots
        Neighbours kept per item: as many as ``slots`` allow for all items, within these bounds.
        A small catalogue with long histories needs long rows, a large one cannot have them.
    popular
        Length of the two lists of popular items, candidates for everybody.
    window, near_window
        Items of the history that a new engagement is paired with and that the far expert looks
        at; that the near expert looks at.
    pair_decay, long_pair_decay, near_decay, far_decay
        Factor per step back in the history: when learning pairs, from a history of more than
        ``long_from`` items, and in each expert. Who consumes a hundred things has tastes, of
        which any twenty tell; a session has an aim, which the last few tell.
    long_from
        Items that a history must hold for ``long_pair_decay``.
    target_power, source_power
        Exponents of the counts that a score is divided by: of the candidate, and of the item in
        the history that brings it up.
    indirect_window, indirect_below, indirect_through, indirect_part
        The latest items that bring up what goes with their neighbours, too, if these are fewer
        than ``indirect_below``: through so many of the strongest, at this part of the strength.
    mixture_prior
        Events after which evidence weighs as much as the prior mixture of experts.
    refusal
        Part of a pair's strength that one certain refusal takes away.
    half_life_s, fresh_half_life_s
        Event time after which what was learned counts half; the same of what is popular lately.
    experts
        Which of `EXPERTS` are mixed; repeats are always learned. Fewer cost less and know less:
        without ``fresh`` and ``steady`` there is nothing for who has no history.
    """

    max_items: int = 1_000_000
    neighbours: int = 256
    min_neighbours: int = 32
    slots: int = 1 << 22
    popular: int = 64
    window: int = 20
    near_window: int = 5
    pair_decay: float = 0.7
    long_pair_decay: float = 0.9
    long_from: int = 40
    near_decay: float = 0.5
    far_decay: float = 0.85
    target_power: float = 0.3
    source_power: float = 0.7
    indirect_window: int = 2
    indirect_below: int = 16
    indirect_through: int = 4
    indirect_part: float = 0.3
    mixture_prior: float = 50.0
    refusal: float = 0.05
    half_life_s: float = 365 * 86_400.0
    fresh_half_life_s: float = 86_400.0
    experts: tuple[str, ...] = EXPERTS

    def __post_init__(self) -> None:
        """Refuse a mixture of nothing, or of what there is not."""
        object.__setattr__(self, "experts", tuple(self.experts))
        if not self.experts or not set(self.experts) <= set(EXPERTS):
            raise ValueError(f"experts are some of {', '.join(EXPERTS)}")
        sizes = ("popular", "window", "near_window", "min_neighbours")
        for name in (*sizes, "half_life_s", "fresh_half_life_s"):
            # Compiled code takes sizes as they are, and reads beyond what is too small.
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0; found {getattr(self, name)}")
        indirect = ("indirect_window", "indirect_below", "indirect_through", "indirect_part")
        for name in ("max_items", "neighbours", "slots", "long_from", *indirect):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0; found {getattr(self, name)}")
        if not self.near_window <= self.window <= HISTORY:
            raise ValueError(
                f"near_window ({self.near_window}) must be at most window ({self.window}), and "
                f"that at most {HISTORY}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """Return the configuration in ``values``; names that this version lacks are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    def row_slots(self, capacity: int) -> int:
        """Return the neighbours kept per item when there is room for ``capacity`` items."""
        return max(self.min_neighbours, min(self.neighbours, self.slots // max(1, capacity)))

    def widest_rows(self) -> int:
        """Return for how many items there may be room before rows must become narrower."""
        return self.slots // max(1, self.neighbours)

    def powers(self) -> NDArray[np.float64]:
        """Return the decays of the near and the far expert, of pairs and of long ones, by step."""
        steps = np.arange(self.window * POWER_STEPS + 2) / POWER_STEPS
        decays = np.array([self.near_decay, self.far_decay, self.pair_decay, self.long_pair_decay])
        return decays[:, None] ** steps

    def parameters(self) -> Parameters:
        """Return what the compiled code reads."""
        return Parameters(
            scored_window=int(self.window if "far" in self.experts else self.near_window),
            window=int(self.window),
            near_window=int(self.near_window),
            lists=bool({"fresh", "steady"} & set(self.experts)),
            mixed=len(set(self.experts)) > 1,
            pair_decay=float(self.pair_decay),
            long_pair_decay=float(self.long_pair_decay),
            long_from=int(self.long_from),
            target_power=float(self.target_power),
            source_power=float(self.source_power),
            indirect_window=int(self.indirect_window),
            indirect_below=int(self.indirect_below),
            indirect_through=int(self.indirect_through),
            indirect_part=float(self.indirect_part),
            mixture_prior=float(self.mixture_prior),
            refusal=float(self.refusal),
            half_life_s=float(self.half_life_s),
            fresh_half_life_s=float(self.fresh_half_life_s),
        )


class Parameters(NamedTuple):
    """Rates of a `Config`, as compiled code takes them.

    ``lists``: whether popular items are candidates; ``mixed``: whether there is a mixture to learn.
    """

    scored_window: int
    window: int
    near_window: int
    lists: bool
    mixed: bool
    pair_decay: float
    long_pair_decay: float
    long_from: int
    target_power: float
    source_power: float
    indirect_window: int
    indirect_below: int
    indirect_through: int
    indirect_part: float
    mixture_prior: float
    refusal: float
    half_life_s: float
    fresh_half_life_s: float
