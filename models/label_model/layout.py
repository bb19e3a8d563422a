"""Arrays that the label model is made of: sums that partitions add up, tables derived from them."""

from __future__ import annotations

from collections.abc import Sized
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.label_model.vectors import lanes

__all__ = [
    "ANSWER_SIZE",
    "CROWD",
    "LF",
    "PAIR_LIMIT",
    "REPLAY_SIZE",
    "TEMPERATURES",
    "Answers",
    "ColumnArray",
    "Config",
    "Recent",
    "Room",
    "Sizes",
    "FloatArray",
    "Sums",
    "Tables",
    "new_answers",
    "new_recent",
    "new_room",
    "new_sizes",
    "new_sums",
    "new_tables",
    "pair_count",
    "widen_sums",
]

FloatArray = npt.NDArray[np.float64]
ColumnArray = npt.NDArray[np.uint32]
"""Columns of a row, or what they voted: never below 0, so that no index need be looked at."""

LF = 0
"""Joint form: P(vote, voted at all | class), so that one-sided functions are informative."""
CROWD = 1
"""Conditional form: P(vote | class, voted), for annotators whose choice of items says nothing."""

PAIR_LIMIT = 512
"""Columns beyond this number are left out of the pairwise statistics, which grow as m²."""

ANSWER_SIZE = 512
"""Latest gold answers that the corrector is fitted to."""

FEW_CLASSES = 3
USUAL_LIVES = 4
"""Half-lives of the models whose loops are compiled for this number, and for that of classes."""

REPLAY_SIZE = 512
"""First examples that get a second look."""

TEMPERATURES: FloatArray = np.exp(np.linspace(np.log(0.5), np.log(8.0), 25))
"""Grid of temperatures, log-spaced; T = 1 is its seventh value."""


class Config(NamedTuple):
    """Numbers that do not change while a model lives; one global setting serves every set."""

    half_lives: FloatArray  # (H,) examples; inf never forgets
    growth: FloatArray  # (H,) weight gained by each later example of a block
    temperatures: FloatArray  # (J,)
    lf_accuracy: float
    lf_strength: float
    crowd_accuracy: float
    crowd_strength: float
    crowd_limit: float
    spread_votes: float
    crowd_lasting: float
    coin_strength: float
    crowd_shrinkage: float
    hard_share: float
    hard_weight: float
    vote_share: float
    evidence_half_life: float
    pair_half_life: float
    pair_shrinkage: float
    pair_z: float
    pair_floor: float
    gold_half_life: float
    prior_strength: float
    crowd_prior_strength: float
    balance_strength: float
    balance_answers: float
    temperature_strength: float
    corrector_variance: float
    corrector_z: float
    learn_balance: bool
    replay_passes: int
    block_growth: int
    use_pairs: bool


class Sums(NamedTuple):
    """Everything learned, as sums over examples: the contribution of one or more partitions.

    Indices: w column, l vote, h half-life, k class, p pair (w < v at v(v−1)/2 + w).
    """

    counts: FloatArray  # (m, K, H, K) posterior mass of votes, [w, l, h, k]
    mass: FloatArray  # (H, K) posterior mass of all examples
    belief: FloatArray  # (H, K) the same under the configured balance, gold left out
    before: FloatArray  # (m, H, K) mass of the examples before column w appeared
    evidence: FloatArray  # (m, H) predictive log-likelihood of each half-life
    cast: FloatArray  # (m,) votes cast: the clock by which evidence decays
    pairs: FloatArray  # (p, 4) agreements, expected, 1 − expected, variance
    gold_share: FloatArray  # (K,) Σ (answer − posterior) / inclusion
    gold_size: FloatArray  # (3,) Σ weight, Σ weight², number
    gold_loss: FloatArray  # (J,) weighted log-loss at each temperature
    gate: FloatArray  # (4,) corrector against posterior: Σ weight, Σ gain, Σ gain², number
    gold_hits: FloatArray  # (m, 2) weighted correct votes, weighted votes


class Tables(NamedTuple):
    """What a block of examples is judged with: frozen between two block starts.

    Rows of columns and of pairs are derived when the block first needs them: before any of its
    examples changes the sums that they come from, so that when that happens does not matter.
    """

    log_prior: FloatArray  # (K,)
    shown_prior: FloatArray  # (K,) the one that published labels start from
    log_like: FloatArray  # (m, K, K) log θ [w, l, k]
    bank: FloatArray  # (m, K, H, K) θ normalised over votes, by half-life
    given_vote: FloatArray  # (m, K, K) their mixture
    agree: FloatArray  # (p, K) chance that a pair agrees, given the class
    rho: FloatArray  # (m, m) excess agreement, zero where not significant
    corrector: FloatArray  # (D, K)
    scalars: FloatArray  # (4,) temperature, corrector on, any pairs, weight of the next agreement
    weight: FloatArray  # (H,) weight of the next example relative to the block start
    product: FloatArray  # (m, H) product of predictive probabilities in this block
    voted: FloatArray  # (m,) votes in this block
    column_prior: FloatArray  # (m, 2) accuracy and strength, 0 for the usual; a function's only
    moments: FloatArray  # (6,) sums over annotators' pairs: x, q, u, x², x q, q²; see `pairs`
    start: FloatArray  # (H, K) mass of all examples at the block start
    population: FloatArray  # (K, H, K) pseudo-votes of an annotator
    pooled: FloatArray  # (H,) accuracy of all annotators
    tally: FloatArray  # (4, H) of annotators with n votes, r of them right: their number, Σ r² / n,
    # Σ (n − 1) and Σ n (n − 1), both of those above 0
    common: FloatArray  # (3,) annotators, excess that their pairs share, variance around it
    voted_share: FloatArray  # (K,) annotators' votes for each class, by the longest half-life
    balance: FloatArray  # (2, K) room for class balances
    lives: FloatArray  # (m, H) weights of half-lives; below 0 where evidence has changed since
    mixture: FloatArray  # (1 + K, H) room for a number of each half-life, and a column's mass
    alone: npt.NDArray[np.int8]  # (1,) whether the others' sums of votes are known to be zero
    derived: npt.NDArray[np.int8]  # (m,) whether the column's rows are those of this block
    turn: npt.NDArray[np.int64]  # (p,) the turn at which a pair's rows were derived
    now: npt.NDArray[np.int64]  # (1,) the present turn, an even number


class Sizes(NamedTuple):
    """What has as many members as there are classes, and half-lives.

    Tuples' lengths are part of their type: few classes and four half-lives, which nearly all
    models have, get loops of their own, in which both numbers are constants.
    """

    classes: Sized
    lives: Sized


class Room(NamedTuple):
    """Room for one row: compiled loops allocate nothing, and count no references.

    And the largest tables once more, in one row of cells [w, l, h, k]: with all but the first
    index's number of places known, a cell is found without looking at an array's shape.
    """

    columns: ColumnArray  # (m,) who voted
    labels: ColumnArray  # (m,) what
    before: ColumnArray  # (m,) who had voted at an earlier stage
    labels_before: ColumnArray  # (m,) what
    listed: ColumnArray  # (p,) pairs that were compared anew
    shares: FloatArray  # (m,) of each vote, 1 / (1 + Σ rho)
    weighed: npt.NDArray[np.int64]  # (m + 2,) who the shares are for, how many, and the turn
    fresh: ColumnArray  # (m,) columns that are to be derived
    inverse: FloatArray  # (m, K) what takes a vote out, up to a factor
    without: FloatArray  # (m, K) the posterior without a vote
    score: FloatArray  # (K,)
    posterior: FloatArray  # (K,)
    change: FloatArray  # (K,)
    fair: FloatArray  # (K,)
    published: FloatArray  # (6, K)
    powers: FloatArray  # (m (K − 1),) or (2 K,), in whole lanes: what e is raised to
    factor: FloatArray  # (H,)
    gain: FloatArray  # (H, K)
    counts: FloatArray  # (m K H K,) own sums
    others: FloatArray  # (m K H K,) the others'
    bank: FloatArray  # (m K H K,)


class Recent(NamedTuple):
    """The first examples, kept for a second look: memory of a fixed size."""

    votes: npt.NDArray[np.int8]  # (R, m)
    posterior: FloatArray  # (R, K) what the sums hold
    clock: npt.NDArray[np.int64]  # (R,)


class Answers(NamedTuple):
    """The latest gold answers at hand, which the corrector is fitted to; a ring of fixed size."""

    votes: npt.NDArray[np.int8]  # (G, m)
    label: npt.NDArray[np.int64]  # (G,)
    clock: npt.NDArray[np.int64]  # (G,) stream clock at which each arrived
    total: npt.NDArray[np.int64]  # (1,) answers ever taken in


def pair_count(m: int) -> int:
    """Return the number of column pairs whose agreement is followed."""
    width = min(m, PAIR_LIMIT)
    return width * (width - 1) // 2


def new_sums(m: int, n_classes: int, n_bank: int) -> Sums:
    """Return sums over no examples."""
    k, h = n_classes, n_bank
    return Sums(
        counts=np.zeros((m, k, h, k)),
        mass=np.zeros((h, k)),
        belief=np.zeros((h, k)),
        before=np.zeros((m, h, k)),
        evidence=np.zeros((m, h)),
        cast=np.zeros(m),
        pairs=np.zeros((pair_count(m), 4)),
        gold_share=np.zeros(k),
        gold_size=np.zeros(3),
        gold_loss=np.zeros(len(TEMPERATURES)),
        gate=np.zeros(4),
        gold_hits=np.zeros((m, 2)),
    )


def new_tables(m: int, n_classes: int, n_bank: int) -> Tables:
    """Return tables to be filled by the first build."""
    k, h = n_classes, n_bank
    return Tables(
        log_prior=np.zeros(k),
        shown_prior=np.zeros(k),
        log_like=np.zeros((m, k, k)),
        bank=np.zeros((m, k, h, k)),
        given_vote=np.zeros((m, k, k)),
        agree=np.zeros((pair_count(m), k)),
        rho=np.zeros((m, m)),
        corrector=np.zeros((m * k + 1, k)),
        scalars=np.array([1.0, 0.0, 0.0, 1.0]),
        weight=np.ones(h),
        product=np.ones((m, h)),
        voted=np.zeros(m),
        column_prior=np.zeros((m, 2)),
        moments=np.zeros(6),
        start=np.zeros((h, k)),
        population=np.zeros((k, h, k)),
        pooled=np.zeros(h),
        tally=np.zeros((4, h)),
        common=np.zeros(3),
        voted_share=np.zeros(k),
        balance=np.zeros((2, k)),
        lives=np.full((m, h), -1.0),
        mixture=np.zeros((1 + k, h)),
        alone=np.zeros(1, dtype=np.int8),
        derived=np.zeros(m, dtype=np.int8),
        turn=np.zeros(pair_count(m), dtype=np.int64),
        now=np.full(1, 2, dtype=np.int64),
    )


def new_sizes(prior: FloatArray, half_lives: FloatArray) -> Sizes:
    """Return as many classes as there are in a balance, and as many half-lives."""
    if 1 < len(prior) <= FEW_CLASSES and len(half_lives) == USUAL_LIVES:
        return Sizes((0,) * len(prior), (0,) * len(half_lives))
    return Sizes(prior, half_lives)


def new_room(own: Sums, other: Sums, tables: Tables) -> Room:
    """Return room for rows of votes, and views of sums and tables."""
    m, k, h, _ = own.counts.shape
    return Room(
        columns=np.empty(m, dtype=np.uint32),
        labels=np.empty(m, dtype=np.uint32),
        before=np.empty(m, dtype=np.uint32),
        labels_before=np.empty(m, dtype=np.uint32),
        listed=np.empty(pair_count(m), dtype=np.uint32),
        shares=np.empty(m),
        weighed=np.full(m + 2, -1, dtype=np.int64),
        fresh=np.empty(m, dtype=np.uint32),
        inverse=np.empty((m, k)),
        without=np.empty((m, k)),
        score=np.empty(k),
        posterior=np.empty(k),
        change=np.empty(k),
        fair=np.empty(k),
        published=np.empty((6, k)),
        powers=np.zeros(lanes(max(m * (k - 1), 2 * k))),
        factor=np.empty(h),
        gain=np.empty((h, k)),
        counts=own.counts.reshape(-1),
        others=other.counts.reshape(-1),
        bank=tables.bank.reshape(-1),
    )


def new_recent(m: int, n_classes: int, size: int = REPLAY_SIZE) -> Recent:
    """Return room for the first examples."""
    return Recent(
        votes=np.full((size, m), -1, dtype=np.int8),
        posterior=np.zeros((size, n_classes)),
        clock=np.zeros(size, dtype=np.int64),
    )


def new_answers(m: int) -> Answers:
    """Return room for gold answers."""
    return Answers(
        votes=np.full((ANSWER_SIZE, m), -1, dtype=np.int8),
        label=np.zeros(ANSWER_SIZE, dtype=np.int64),
        clock=np.zeros(ANSWER_SIZE, dtype=np.int64),
        total=np.zeros(1, dtype=np.int64),
    )


def widen_sums(sums: Sums, m: int) -> Sums:
    """Return the same sums with room for ``m`` columns; new columns start now, with no votes."""
    old = sums.counts.shape[0]
    wide = new_sums(m, sums.counts.shape[1], sums.counts.shape[2])
    for name in ("counts", "before", "evidence", "cast", "gold_hits", "pairs"):
        getattr(wide, name)[: len(getattr(sums, name))] = getattr(sums, name)
    for name in ("mass", "belief", "gold_share", "gold_size", "gold_loss", "gate"):
        getattr(wide, name)[...] = getattr(sums, name)
    wide.before[old:] = sums.mass
    return wide
