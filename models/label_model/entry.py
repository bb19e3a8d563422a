"""The label model's compiled functions that Python calls, kept on disk for the next process.

Everything that they call is compiled into them, and is not kept by itself: a fingerprint of all
of it is part of the key. They take the state as one handle, because Numba looks at every array
of every call, and a state has fifty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit, types
from numba.experimental import structref

from models.kernel_cache import fingerprint
from models.label_model import (
    agreements,
    columns,
    corrector,
    kernels,
    labels,
    pairs,
    replay,
    rows,
    tables,
    vectors,
)
from models.label_model import gold as gold_kernels
from models.label_model.columns import derive_all, restore_tables
from models.label_model.corrector import fit_corrector
from models.label_model.gold import learn_gold_row
from models.label_model.kernels import fold_evidence, scale_sums, step_rows
from models.label_model.layout import Answers, Config, FloatArray, Recent, Room, Sizes, Sums, Tables
from models.label_model.pairs import complete_pairs, pair_width, start_pairs, sum_pairs
from models.label_model.tables import find_alone, start_tables

__all__ = [
    "Arrays",
    "Handle",
    "bind",
    "derive",
    "fold",
    "gold",
    "rebuild",
    "restore",
    "scale",
    "step",
]

IntArray = npt.NDArray[np.int64]
VoteArray = npt.NDArray[np.int8]


class Arrays(NamedTuple):
    """What a handle holds: all that the compiled functions read and change."""

    counters: IntArray
    recent: Recent
    room: Room
    sizes: Sizes
    own: Sums
    other: Sums
    tables: Tables
    config: Config
    prior: FloatArray
    forms: IntArray
    answers: Answers


@structref.register
class _HandleType(types.StructRef):
    """Type of a handle inside compiled code."""


class Handle(structref.StructRefProxy):
    """A state as compiled functions take it: it refers to the arrays, and copies none."""

    content: Arrays


# Numba's own types leave out these two.
structref.define_proxy(Handle, _HandleType, ["content"])  # type: ignore[no-untyped-call]


def _compiled(mark: int) -> tuple[Callable[..., Any], ...]:
    """Return the entry points; ``mark`` is part of the key under which they are kept."""

    @njit(cache=True)
    def bind(arrays: Arrays) -> Handle:
        return Handle(arrays)  # type: ignore[no-untyped-call]

    @njit(cache=True)
    def step(
        handle: Handle,
        first: int,
        votes: VoteArray,
        example: npt.NDArray[np.int32],
        emit: npt.NDArray[np.bool_],
        ex_votes: VoteArray,
        ex_proba: FloatArray,
        ex_clock: IntArray,
        learn: bool,
        proba: FloatArray,
        weights: FloatArray,
        clock: IntArray,
    ) -> int:
        a = handle.content
        return mark * 0 + step_rows(
            first, votes, example, emit, ex_votes, ex_proba, ex_clock, learn, a.counters,
            a.recent, a.room, a.own, a.other, a.tables, a.config, a.prior, a.forms, proba,
            weights, clock, a.sizes,
        )  # fmt: skip

    @njit(cache=True)
    def gold(
        handle: Handle,
        row: VoteArray,
        label: int,
        believed: FloatArray,
        known: bool,
        age: float,
        inclusion: float,
    ) -> int:
        a = handle.content
        learn_gold_row(
            row, label, believed, known, age, inclusion, a.counters[1], a.answers, a.room, a.own,
            a.other, a.tables, a.config, a.prior, a.forms, a.sizes,
        )  # fmt: skip
        return mark

    @njit(cache=True)
    def rebuild(handle: Handle) -> int:
        a = handle.content
        find_alone(a.other, a.tables)
        a.tables.lives[:, :] = -1.0
        sum_pairs(a.own.pairs, a.other.pairs, a.forms, pair_width(a.own), a.tables.moments)
        start_tables(a.room, a.own, a.other, a.tables, a.config, a.prior, a.forms, a.sizes)
        start_pairs(a.tables, a.config)
        size = min(a.answers.total[0], a.answers.label.shape[0])
        fit_corrector(a.answers, size, a.room, a.own, a.other, a.tables, a.config, a.forms, a.sizes)
        return mark

    @njit(cache=True)
    def derive(handle: Handle) -> int:
        a = handle.content
        derive_all(a.room, a.own, a.other, a.tables, a.config, a.forms, a.sizes)
        return mark

    @njit(cache=True)
    def restore(handle: Handle, older: bool) -> int:
        a = handle.content
        find_alone(a.other, a.tables)
        restore_tables(a.tables, a.config, a.forms)
        if older:
            complete_pairs(pair_width(a.own), a.tables.given_vote, a.tables.agree)
            sum_pairs(a.own.pairs, a.other.pairs, a.forms, pair_width(a.own), a.tables.moments)
        return mark

    @njit(cache=True)
    def fold(sums: Sums, other: Sums, tables: Tables, config: Config) -> int:
        fold_evidence(sums, other, tables, config, Sizes(sums.gold_share, config.half_lives))
        return mark

    @njit(cache=True)
    def scale(sums: Sums, config: Config, age: float, weight: FloatArray) -> int:
        counts = sums.counts.reshape(-1)
        scale_sums(sums, counts, config, age, 1.0 / weight, Sizes(sums.gold_share, weight))
        sums.pairs[:, :] *= 2.0 ** (-age / config.pair_half_life)
        return mark

    return bind, step, gold, rebuild, derive, restore, fold, scale


bind, step, gold, rebuild, derive, restore, fold, scale = _compiled(
    fingerprint(
        agreements,
        columns,
        corrector,
        gold_kernels,
        kernels,
        labels,
        pairs,
        replay,
        rows,
        tables,
        vectors,
    )  # fmt: skip
)
