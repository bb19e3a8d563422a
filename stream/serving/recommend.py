"""From a question to a slate: candidates, filters, diversity, exploration, reasons."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, islice
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from models.bandit import EpsilonGreedy, InverseGap, Policy, Thompson, choose
from models.diversity import marginal_relevance, overlaps
from models.recommender.choosing import AGAIN
from models.recommender.slate import REASONS, candidates
from models.recommender.tables import Cell
from stream.serving.model import Person, ServedModel

__all__ = ["BEST", "Catalogued", "Question", "Slate", "recommend"]

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

    @property
    def unavailable(self) -> Set[str]:
        """The items whose entries call them unavailable."""
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


@dataclass(frozen=True, slots=True)
class Slate:
    """The answer in columns: one entry a place, from the first on.

    Parameters
    ----------
    item_ids, propensities, scores
        What stands there, with what probability, and how good it is.
    reasons, because
        Why, and the item of the history that led to it.
    explored
        At how many places it differs from the best slate.
    policy, model_version
        How it was chosen, and by whose scores.
    """

    item_ids: Sequence[str]
    propensities: Sequence[float]
    scores: Sequence[float]
    reasons: Sequence[str]
    because: Sequence[str | None]
    explored: int
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

    def extend(
        self,
        item_ids: Sequence[str],
        scores: Sequence[float],
        counts: Sequence[float],
        reasons: Sequence[str],
        because: Sequence[str | None],
    ) -> None:
        self.item_ids += item_ids
        self.scores += scores
        self.counts += counts
        self.reasons += reasons
        self.because += because


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


def _filters(catalogue: Catalogued, question: Question) -> bool:
    return bool(question.categories or (question.available_only and catalogue.unavailable))


def _allowed(item_ids: Sequence[str], catalogue: Catalogued, question: Question) -> Iterable[int]:
    """Return the positions of those that pass the question's filters."""
    if not _filters(catalogue, question):
        return range(len(item_ids))
    left_out = catalogue.unavailable if question.available_only else ()
    wanted = frozenset(question.categories)
    return (
        at
        for at, item_id in enumerate(item_ids)
        if item_id not in left_out
        and (not wanted or not wanted.isdisjoint(catalogue(item_id).get("categories", ())))
    )


def _from_history(
    pool: _Pool, model: ServedModel, catalogue: Catalogued, person: Person, question: Question
) -> None:
    """Add what the model recommends for the person's history."""
    core = model.core
    excluded = np.array([model.index(item_id) for item_id in question.exclude], np.int32)
    items, weights, length = model.history(person)
    wanted = most = max(_POOL, question.k)
    if _filters(catalogue, question):
        # They may leave few of the best ones.
        most = max(_POOL, _POOL_FACTOR * question.k) * (4 if question.categories else 1)
    found = candidates(
        core,
        items,
        weights,
        length,
        most,
        excluded=excluded,
        segment=model.segment(person),
    )
    ids = core.item_ids(found.item)
    kept = list(islice(_allowed(ids, catalogue, question), wanted))
    if not kept:
        return
    # Plain values from here on: each array of a hundred costs more to make than to go through.
    scores, reasons = found.score.tolist(), found.reason.tolist()
    counts = core.tables.cells[found.item, Cell.COUNT].tolist()
    led = np.where(found.reason == AGAIN, -1, found.because).tolist()
    # Items of the history: few.
    leading = [cause for cause in set(led) if cause >= 0]
    causes = dict(zip(leading, core.item_ids(leading), strict=True))
    pool.extend(
        [ids[at] for at in kept],
        [scores[at] for at in kept],
        [counts[at] for at in kept],
        [REASONS[reasons[at]] for at in kept],
        [causes.get(led[at]) for at in kept],
    )


def _fill(
    pool: _Pool, model: ServedModel | None, catalogue: Catalogued, question: Question
) -> None:
    """Add items that nothing speaks for but their popularity, or that they are new."""
    had = {*pool.item_ids, *question.exclude}
    if question.categories:
        reason = "category"
        offered = chain.from_iterable(map(catalogue.in_category, question.categories))
        counts = core_counts(model, list(islice(dict.fromkeys(offered), _FILLERS)))
    else:
        reason = "new"
        counts = core_counts(model, catalogue.newest(question.k + len(had)))
        if model is not None:
            # What is in both keeps its place among the newest.
            counts |= model.popular(question.k + len(had))
    lowest = 0.5 * min(pool.scores, default=1.0)
    most = max(counts.values(), default=0.0) + 1.0
    # Stable: of equal ones the first stays first.
    ranked = sorted(counts, key=counts.__getitem__, reverse=True)
    left = [item_id for item_id in ranked if item_id not in had]
    missing = max(question.k, _POOL) - len(pool.item_ids)
    taken = [left[at] for at in islice(_allowed(left, catalogue, question), missing)]
    found = [counts[item_id] for item_id in taken]
    popular = reason if question.categories else "popular"
    pool.extend(
        taken,
        # Below whatever the history speaks for, in order of popularity.
        [lowest * (1.0 + count) / most for count in found],
        found,
        [popular if count > 0.0 else reason for count in found],
        [None] * len(taken),
    )


def core_counts(model: ServedModel | None, item_ids: Sequence[str]) -> dict[str, float]:
    """Return how often each item was engaged with, decayed, in units of the model."""
    if model is None or not item_ids:
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
    # Column by column: an object a place costs more than all else here.
    at = order[chosen.items].tolist()
    return Slate(
        [pool.item_ids[x] for x in at],
        np.minimum(chosen.propensities, 1.0).tolist(),
        [pool.scores[x] for x in at],
        [pool.reasons[x] for x in at],
        [pool.because[x] for x in at],
        int(np.count_nonzero(chosen.explored)),
        question.policy if budget else BEST,
        version,
    )


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
