"""From a question to a slate: candidates, filters, diversity, exploration, reasons."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from models.bandit import EpsilonGreedy, InverseGap, Policy, Thompson, choose
from models.diversity import marginal_relevance, overlaps
from models.recommender.slate import AGAIN, REASONS, candidates
from models.recommender.tables import Cell
from stream.serving.model import Person, ServedModel

__all__ = ["BEST", "Catalogued", "Place", "Question", "Slate", "recommend"]

BEST: Final = "best"
"""Policy that does not explore."""

_POOL: Final = 200
_POOL_FACTOR: Final = 4
_FILLERS: Final = 20_000
_POLICIES: Final[Mapping[str, Policy]] = {
    BEST: EpsilonGreedy(),
    "epsilon_greedy": EpsilonGreedy(),
    "inverse_gap": InverseGap(),
    "thompson": Thompson(),
}


class Catalogued(Protocol):
    """What is known of the items, as serving needs it."""

    def __call__(self, item_id: str) -> Mapping[str, Any]:
        """Return an item's entry, empty if there is none."""
        ...

    def in_category(self, category: str) -> Collection[str]:
        """Return the items of a category."""
        ...

    def newest(self, n: int) -> Sequence[str]:
        """Return the items that became known last, the newest first."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for.

    Parameters
    ----------
    request_id
        Names the answer; the draws of exploration follow from it.
    k
        Length of the slate.
    exclude
        Items that must not be in it.
    categories
        Only items of one of these; empty: all.
    available_only
        Leave out what the catalogue calls unavailable.
    diversity
        From 0, by score alone, to 1, as different as can be.
    policy, exploration
        How to explore, and the largest expected share of places that exploration fills.
    """

    request_id: str
    k: int = 10
    exclude: Collection[str] = ()
    categories: Collection[str] = ()
    available_only: bool = True
    diversity: float = 0.0
    policy: str = BEST
    exploration: float = 0.0


class Place(NamedTuple):
    """An item of a slate: with what probability it stands there, and why."""

    item_id: str
    propensity: float
    score: float
    reason: str
    because: str | None
    explored: bool


@dataclass(frozen=True, slots=True)
class Slate:
    """The answer: places from the first on, the policy that chose, the model that scored."""

    places: Sequence[Place]
    policy: str
    model_version: str


@dataclass(slots=True)
class _Pool:
    """Candidates that passed the filters, the best first."""

    item_ids: list[str]
    scores: list[float]
    counts: list[float]
    reasons: list[str]
    because: list[str | None]

    def add(
        self, item_id: str, score: float, count: float, reason: str, because: str | None
    ) -> None:
        self.item_ids.append(item_id)
        self.scores.append(score)
        self.counts.append(count)
        self.reasons.append(reason)
        self.because.append(because)


def recommend(
    model: ServedModel | None, catalogue: Catalogued, person: Person, question: Question
) -> Slate:
    """Return a slate for a person, from what is known; it may be short where nothing is.

    *Replay* — a function of its arguments: the same request is answered the same way.
    """
    pool = _Pool([], [], [], [], [])
    if model is not None:
        _from_history(pool, model, catalogue, person, question)
    if len(pool.item_ids) < question.k:
        _fill(pool, model, catalogue, question)
    return _slate(pool, catalogue, question, model.version if model is not None else "0")


def _allowed(entry: Mapping[str, Any], question: Question, wanted: frozenset[str]) -> bool:
    if question.available_only and entry.get("available") is False:
        return False
    return not wanted or not wanted.isdisjoint(entry.get("categories", ()))


def _from_history(
    pool: _Pool, model: ServedModel, catalogue: Catalogued, person: Person, question: Question
) -> None:
    """Add what the model recommends for the person's history."""
    core = model.core
    excluded = np.array([model.index(item_id) for item_id in question.exclude], np.int32)
    items, weights, length = model.history(person)
    found = candidates(
        core,
        items,
        weights,
        length,
        # Filters may leave few of the best ones.
        max(_POOL, _POOL_FACTOR * question.k) * (4 if question.categories else 1),
        excluded=excluded,
        segment=model.segment(person),
    )
    wanted = frozenset(question.categories)
    counts = core.tables.cells[found.item, Cell.COUNT].tolist()
    ids = core.item_ids(found.item)
    causes = core.item_ids(np.maximum(found.because, 0)) if len(ids) else []
    because = found.because.tolist()
    enough = max(_POOL, question.k)
    for at, (item_id, score, reason) in enumerate(
        zip(ids, found.score.tolist(), found.reason.tolist(), strict=True)
    ):
        if _allowed(catalogue(item_id), question, wanted):
            cause = causes[at] if because[at] >= 0 and reason != AGAIN else None
            pool.add(item_id, score, counts[at], REASONS[reason], cause)
            if len(pool.item_ids) >= enough:
                return


def _fill(
    pool: _Pool, model: ServedModel | None, catalogue: Catalogued, question: Question
) -> None:
    """Add items that nothing speaks for but their popularity, or that they are new."""
    had = {*pool.item_ids, *question.exclude}
    wanted = frozenset(question.categories)
    offered: dict[str, None] = {}
    for category in question.categories:
        offered.update(dict.fromkeys(catalogue.in_category(category)))
    reason = "category"
    if not question.categories:
        reason = "new"
        offered = dict.fromkeys(catalogue.newest(question.k + len(had)))
        if model is not None:
            for item_id in model.popular(question.k + len(had)):
                offered.setdefault(item_id)
    counts = core_counts(model, list(offered)[:_FILLERS])
    lowest = min(pool.scores, default=1.0)
    most = max(counts.values(), default=0.0) + 1.0
    ranked = sorted(counts.items(), key=lambda pair: -pair[1])
    missing = max(question.k, _POOL) - len(pool.item_ids)
    for item_id, count in ranked:
        if missing <= 0:
            return
        if item_id in had or not _allowed(catalogue(item_id), question, wanted):
            continue
        missing -= 1
        named = "popular" if count > 0.0 and not question.categories else reason
        # Below whatever the history speaks for, in order of popularity.
        pool.add(item_id, 0.5 * lowest * (1.0 + count) / most, count, named, None)


def core_counts(model: ServedModel | None, item_ids: Sequence[str]) -> dict[str, float]:
    """Return how often each item was engaged with, decayed, in units of the model."""
    if model is None:
        return dict.fromkeys(item_ids, 0.0)
    index = np.array([model.index(item_id) for item_id in item_ids], np.int64)
    counts = np.zeros(len(index))
    known = index >= 0
    counts[known] = model.core.tables.cells[index[known], Cell.COUNT]
    return dict(zip(item_ids, counts.tolist(), strict=True))


def _slate(pool: _Pool, catalogue: Catalogued, question: Question, version: str) -> Slate:
    order, values = _ordered(pool, catalogue, question)
    policy = _POLICIES[question.policy]
    budget = 0.0 if question.policy == BEST else question.exploration
    spread = None
    if isinstance(policy, Thompson):
        counts = np.array(pool.counts)[order]
        spread = np.abs(values) / np.sqrt(1.0 + counts)
    chosen = choose(
        values, question.k, policy, budget=budget, seed=_seed(question), uncertainty=spread
    )
    places = []
    for rank, propensity, explored in zip(
        chosen.items.tolist(), chosen.propensities.tolist(), chosen.explored.tolist(), strict=True
    ):
        at = int(order[rank])
        places.append(
            Place(
                pool.item_ids[at],
                min(1.0, propensity),
                pool.scores[at],
                pool.reasons[at],
                pool.because[at],
                explored,
            )
        )
    return Slate(places, question.policy if budget else BEST, version)


def _ordered(
    pool: _Pool, catalogue: Catalogued, question: Question
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pool's positions, best first, and values that exploration goes by."""
    scores = np.array(pool.scores)
    if question.diversity <= 0.0 or len(scores) < 2:  # noqa: PLR2004 - one is as it is
        order = np.argsort(-scores, kind="stable")
        return order, scores[order]
    features = [_features(catalogue(item_id)) for item_id in pool.item_ids]
    return marginal_relevance(scores, overlaps(features), question.k, question.diversity)


def _features(entry: Mapping[str, Any]) -> frozenset[str]:
    return frozenset((*entry.get("categories", ()), *entry.get("tags", ())))


def _seed(question: Question) -> int:
    digest = blake2b(question.request_id.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")
