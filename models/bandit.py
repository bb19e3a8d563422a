"""Choose a slate that explores within a budget, and say with what probability.

Every policy here gives the *true* probability of each item at each position, so that whoever
evaluates another policy from the log divides by what really happened. The draw is a function of
the seed: the same request is answered the same way, whoever answers it.

*Math* — with the best items first and b the budget, a policy's exploring slate has the matrix
Q[i, p] = P(item i at position p), from a closed form or from the draws that are sampled from.
What is served is a mixture of three slates,

    P = f·b·(1/m) + (1 − f·b)·(λ·Q + (1 − λ)·I),

the uniform one (share f of the budget: every item of the pool keeps a chance at every position),
the policy's, and the best one; λ is the largest for which the expected share of positions that
hold another item than the best slate would is at most b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.bandit_kernels import Drawn, draw_slate

__all__ = [
    "Choice",
    "EpsilonGreedy",
    "InverseGap",
    "Policy",
    "Thompson",
    "choose",
    "propensity_matrix",
]

_EPSILON: Final = 0
_INVERSE_GAP: Final = 1
_THOMPSON: Final = 2
_SEED_BITS: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class EpsilonGreedy:
    """Each position is, with probability ``budget``, filled by chance from the best ``pool``.

    Positions explore independently of each other, so one slate seldom explores twice.
    """

    pool: int = 100


@dataclass(frozen=True, slots=True)
class InverseGap:
    """Items nearly as good as the best are tried more (SquareCB's inverse gap weighting).

    An item beyond the slate is dealt to one position by chance and takes it with probability
    1 / (μ + γ·gap), its gap to the position's best item measured in the pool's range of scores
    and μ the number of items that compete there.

    References
    ----------
    Foster and Rakhlin (2020), "Beyond UCB", algorithm 1; here by position, without replacement.
    """

    pool: int = 100
    gamma: float = 20.0
    floor: float = 0.1


@dataclass(frozen=True, slots=True)
class Thompson:
    """Slates are the best under scores drawn from N(score, uncertainty²).

    ``draws`` slates are drawn from the seed and one of them is served, so an item's share of them
    at a position is its probability there by construction; 1 / draws is the finest share.
    """

    pool: int = 100
    draws: int = 64
    floor: float = 0.1


Policy = EpsilonGreedy | InverseGap | Thompson


class Choice(NamedTuple):
    """A slate: positions in ``scores`` by rank, and the probability of each at its rank.

    ``explored`` tells where the slate differs from the best one.
    """

    items: NDArray[np.int64]
    propensities: NDArray[np.float64]
    explored: NDArray[np.bool_]


def choose(
    scores: ArrayLike,
    k: int,
    policy: Policy,
    *,
    budget: float,
    seed: int,
    uncertainty: ArrayLike | None = None,
) -> Choice:
    """Choose ``k`` items by score, exploring at most a share ``budget`` of the positions.

    Parameters
    ----------
    scores
        One number a candidate, higher is better, shape (n,). Equal ones keep their order.
    k
        Length of the slate; with fewer candidates all of them.
    policy
        How to explore.
    budget
        Largest expected share of positions that differ from the best slate, 0 to 1.
    seed
        Whatever identifies the request, as a hash: 64 bits of it count.
    uncertainty
        Standard deviation of each score, shape (n,); needed by `Thompson`.

    Raises
    ------
    ValueError
        If the budget is no share, a score is not finite, or `Thompson` lacks uncertainty.

    *Complexity* — O(n) to find the pool, O(pool · k) to choose; `Thompson` O(pool · draws).
    Measured (10,000 candidates, 100 in the pool, slate of 10): 0.04 ms, Thompson 0.24 ms.

    *Replay* — a function of its arguments: the random numbers are a counter hashed with the seed.

    Examples
    --------
    >>> chosen = choose([0.1, 0.9, 0.5, 0.4], 2, EpsilonGreedy(), budget=0.0, seed=7)
    >>> chosen.items.tolist(), chosen.propensities.tolist()
    ([1, 2], [1.0, 1.0])
    >>> chosen = choose([0.1, 0.9, 0.5, 0.4], 2, EpsilonGreedy(), budget=0.2, seed=7)
    >>> bool(0 < chosen.propensities.min() <= chosen.propensities.max() < 1)
    True
    """
    return Choice(*_drawn(scores, k, policy, budget, seed, uncertainty)[:3])


def propensity_matrix(
    scores: ArrayLike,
    k: int,
    policy: Policy,
    *,
    budget: float,
    seed: int,
    uncertainty: ArrayLike | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pool (m,), best first, and the probability of each at each rank (m, k).

    Arguments as for `choose`. Only `Thompson`'s depends on the seed.
    """
    *_, best, matrix = _drawn(scores, k, policy, budget, seed, uncertainty)
    return best, matrix


def _drawn(
    scores: ArrayLike,
    k: int,
    policy: Policy,
    budget: float,
    seed: int,
    uncertainty: ArrayLike | None,
) -> Drawn:
    if not 0.0 <= budget <= 1.0:
        raise ValueError(f"budget should be a share from 0 to 1; found {budget}")
    values = np.ascontiguousarray(scores, dtype=np.float64)
    spread = np.zeros(0)
    kind, gamma, draws, floor = _EPSILON, 0.0, 0, 0.0
    if isinstance(policy, InverseGap):
        kind, gamma, floor = _INVERSE_GAP, policy.gamma, policy.floor
    elif isinstance(policy, Thompson):
        if uncertainty is None:
            raise ValueError("Thompson needs the uncertainty of each score")
        kind, draws, floor = _THOMPSON, policy.draws, policy.floor
        spread = np.ascontiguousarray(uncertainty, dtype=np.float64)
        if spread.shape != values.shape or not (spread >= 0.0).all():
            raise ValueError("uncertainty should hold a number of at least 0 for each score")
    return draw_slate(
        kind,
        values,
        spread,
        k,
        policy.pool,
        budget,
        gamma,
        floor,
        draws,
        np.uint64(seed & _SEED_BITS),
    )
