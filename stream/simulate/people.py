"""The shop's users: what they like, how often they come, and which of them are bots."""

from __future__ import annotations

from copy import copy
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stream.simulate.catalogue import DIMENSIONS, Catalogue, unit
from stream.simulate.config import INTENTS, WorldConfig

__all__ = ["FAVOURITES", "People"]

FAVOURITES = 4
"""Shelves to which a user keeps returning."""

_FAVOURITE_WEIGHTS = (0.45, 0.27, 0.17, 0.11)
_INTENT_SHARES = (0.50, 0.25, 0.18, 0.07)
_BOT_ACTIVITY = 2.0
_STRAY_INTERESTS = 0.1


class People:
    """Users, by number.

    Parameters
    ----------
    config
        Its users, segments and bots.
    catalogue
        Where their favourites stand.
    rng
        Every draw comes from here, in a fixed order.
    """

    def __init__(self, config: WorldConfig, catalogue: Catalogue, rng: np.random.Generator) -> None:
        n = config.users
        segments = config.segments
        shares = np.array([segment.share for segment in segments])
        self.segment = np.searchsorted(np.cumsum(shares / shares.sum())[:-1], rng.random(n))
        self.bot = rng.random(n) < config.bots
        activity = np.array([segment.activity for segment in segments])[self.segment]
        activity = activity * rng.lognormal(0.0, 0.8, size=n)
        activity[self.bot] = _BOT_ACTIVITY * activity.mean()
        self._cumulative = np.cumsum(activity)
        self._intents = self._intent_table([segment.buying for segment in segments])
        # Some shelves are favourites of many: popularity is Zipf-like.
        fame = 1.0 / (1.0 + rng.permutation(len(catalogue.centres))) ** 0.6
        self._fame = np.cumsum(fame / fame.sum())
        self.favourites, self.tastes = self._likings(n, catalogue, rng)

    @staticmethod
    def _intent_table(buying: list[float]) -> NDArray[np.float64]:
        shares = np.tile(np.array(_INTENT_SHARES), (len(buying), 1))
        shares[:, INTENTS.index("buy")] *= buying
        return np.asarray(np.cumsum(shares / shares.sum(axis=1, keepdims=True), axis=1))

    def _likings(
        self, count: int, catalogue: Catalogue, rng: np.random.Generator
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        drawn = np.searchsorted(self._fame, rng.random((count, FAVOURITES)))
        favourites = np.minimum(drawn, self._fame.size - 1).astype(np.int32)
        weights = np.array(_FAVOURITE_WEIGHTS, dtype=np.float32)
        centre = np.einsum("ufd,f->ud", catalogue.centres[favourites], weights)
        own = rng.normal(size=(count, DIMENSIONS)).astype(np.float32) / DIMENSIONS**0.5
        return favourites, unit(centre + 0.5 * own)

    def turned(self, share: float, catalogue: Catalogue, rng: np.random.Generator) -> Self:
        """Return the users after a share of them has turned to other shelves."""
        turning = np.flatnonzero(rng.random(self.bot.size) < share)
        after = copy(self)
        after.favourites, after.tastes = self.favourites.copy(), self.tastes.copy()
        after.favourites[turning], after.tastes[turning] = self._likings(
            turning.size, catalogue, rng
        )
        return after

    def arrivals(self, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
        """Return the users who begin the next sessions."""
        total = self._cumulative[-1]
        who = np.searchsorted(self._cumulative, rng.random(count) * total, side="right")
        return np.asarray(np.minimum(who, self._cumulative.size - 1), dtype=np.intp)

    def intents(self, who: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.int8]:
        """Return why each of them came."""
        table = self._intents[self.segment[who]]
        drawn = (rng.random(who.size)[:, None] > table).sum(axis=1)
        return np.asarray(np.minimum(drawn, len(INTENTS) - 1), dtype=np.int8)

    def interests(self, who: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
        """Return a shelf that each of them looks at: a favourite, sometimes any."""
        edges = np.cumsum(_FAVOURITE_WEIGHTS)[:-1]
        shelf = self.favourites[who, np.searchsorted(edges, rng.random(who.size))]
        stray = np.searchsorted(self._fame, rng.random(who.size))
        strays = rng.random(who.size) < _STRAY_INTERESTS
        return np.where(strays, np.minimum(stray, self._fame.size - 1), shelf).astype(np.intp)
