"""Compiled second look at the first examples, whose posteriors knew least."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.label_model.agreements import compare_pairs, put_back
from models.label_model.columns import look
from models.label_model.compiling import compiled
from models.label_model.layout import Config, FloatArray, Recent, Room, Sizes, Sums, Tables
from models.label_model.pairs import pair_width, start_pairs
from models.label_model.rows import (
    add_belief,
    add_counts,
    fill_fair,
    judge,
    leave_out,
)
from models.label_model.tables import start_tables

__all__ = ["find_recent", "replay_start"]

IntArray = npt.NDArray[np.int64]

PAIR_GROWTH = 1.5
"""Pairs are compared again in all examples when there are so many times more of them."""
STILL = 1e-5
"""Least change of a posterior that sums are told of: in all examples, less than .01 of a vote."""
REPLAY_ROWS = 256
"""Examples looked at in all passes of one replay, unless one pass alone takes more."""


@compiled
def find_recent(recent: Recent, size: int, clock: int) -> int:
    """Return the place of the example learned at ``clock``, or -1."""
    low = 0
    high = size
    while low < high:
        middle = (low + high) // 2
        if recent.clock[middle] < clock:
            low = middle + 1
        else:
            high = middle
    return low if low < size and recent.clock[low] == clock else -1


@compiled
def _reaches(before: int, size: int, growth: float) -> bool:
    """Return whether one of sizes that grow by ``growth`` lies above ``before``, up to ``size``."""
    step = 1
    while step <= before:
        step = max(step + 1, int(step * growth))
    return size >= step


@compiled
def replay_start(
    before: int,
    size: int,
    now: int,
    recent: Recent,
    room: Room,
    own: Sums,
    other: Sums,
    tables: Tables,
    config: Config,
    prior: FloatArray,
    forms: IntArray,
    sizes: Sizes,
) -> None:
    """Run EM over the ``size`` examples learned so far, all of which are at hand.

    There were ``before`` of them at the block start before this one.

    For annotators only: many vote on few items each. Where labeling functions copy each other,
    EM on few examples would believe the copies before they can be told apart.

    Each pass judges them with the present tables and learns the difference to what the sums
    hold of them, so that the sums stay what one would get by learning them afresh.
    """
    m = forms.shape[0]
    k_n, h_n = len(sizes.classes), len(sizes.lives)
    columns, labels, shares = room.columns, room.labels, room.shares
    score, posterior, change, fair = room.score, room.posterior, room.change, room.fair
    inverse, without = room.inverse, room.without
    factor, gain = room.factor, room.gain
    limit = min(m, pair_width(own))
    passes = max(min(config.replay_passes, REPLAY_ROWS // size), 1)
    compare = config.use_pairs and _reaches(before, size, PAIR_GROWTH)
    for turn in range(passes):
        # How pairs agree hardly changes between passes, and takes longest to find out.
        last = turn == passes - 1
        pairs = compare and last
        listed = 0
        own.belief[:, :] = 0.0
        fill_fair(tables, prior, fair)
        for i in range(size):
            n = look(recent.votes[i], limit, room, own, other, tables, config, forms, sizes)
            judge(
                n, columns, labels, shares, tables.log_prior, tables.log_like, score, posterior,
                room.powers, sizes,
            )  # fmt: skip
            follows = i > 0 and recent.clock[i] == recent.clock[i - 1] + 1
            for h in range(h_n):
                if follows:
                    factor[h] *= config.growth[h]
                else:
                    age = now - recent.clock[i]
                    factor[h] = tables.weight[h] * 2.0 ** (-age / config.half_lives[h])
            answered = False
            for k in range(k_n):
                answered = answered or recent.posterior[i, k] == 0.0
            if answered:
                for k in range(k_n):
                    posterior[k] = recent.posterior[i, k]
            else:
                moved = 0.0
                for k in range(k_n):
                    change[k] = posterior[k] - recent.posterior[i, k]
                    moved = max(moved, abs(change[k]))
                if moved > STILL:
                    for k in range(k_n):
                        recent.posterior[i, k] = posterior[k]
                    add_counts(
                        n, columns, labels, change, factor, gain, room.counts, own.mass, sizes
                    )
                else:
                    for k in range(k_n):
                        posterior[k] = recent.posterior[i, k]
            add_belief(posterior, factor, own.belief, fair, sizes)
            if pairs:
                leave_out(
                    n, columns, labels, shares, posterior, tables.log_like, room.powers,
                    inverse, without, sizes,
                )  # fmt: skip
                listed = compare_pairs(
                    n, columns, labels, inverse, without, limit, forms, tables.scalars[3],
                    tables.now[0] + 1, room.listed, listed, own.pairs, other.pairs,
                    tables.agree, tables.turn, tables.moments, sizes,
                )  # fmt: skip
        put_back(room.listed, listed, own.pairs, other.pairs, forms, tables.moments)
        start_tables(room, own, other, tables, config, prior, forms, sizes)
        if config.use_pairs and last:
            start_pairs(tables, config)
