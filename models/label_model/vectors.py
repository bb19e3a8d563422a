"""Compiled steps on several numbers at once, written out as such.

A compiler works on several cells of arrays at once where it can tell that no two arrays are one,
and that loops are long. Of a row's votes it can tell neither.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic

from models.label_model.compiling import hot

__all__ = ["FEW", "LANES", "add_few", "add_four", "exponentials", "lanes", "log_few"]

FloatArray = npt.NDArray[np.float64]

# These two say nothing of their types.
ir: Any = importlib.import_module("llvmlite.ir")
arrays: Any = importlib.import_module("numba.np.arrayobj")

LANES = 8
"""Numbers that are raised at once: as many as the widest registers hold."""
FEW = 4
"""Cells that are added to, or whose logarithm is taken, at once."""
LEAST = -708.0
MOST = 709.0
"""Bounds between which e to a number is neither 0 nor infinite."""
OCTAVE = 6.93147180369123816490e-01
OCTAVE_REST = 1.90821492927058770002e-10
"""ln 2 in two parts, of which the first times a power's exponent is exact."""
ROUNDING = 1.5 * 2.0**52
"""Beside it no fraction has room, and a whole number stands in the lowest bits."""
BIAS = 1023
MANTISSA = 52
DEGREE = 12
ROOT = 0x3FE6A09E667F3BCD
"""The bits of the root of 1/2."""
TERMS = 10
DOUBLE = 8
"""Bytes of a number."""


def lanes(n: int) -> int:
    """Return the room that ``n`` values need, in whole `LANES`."""
    return n + -n % LANES


def _cells(context: Any, builder: Any, kind: Any, array: Any, place: Any, n: int) -> Any:
    """Return where ``n`` cells of an array begin; its cells are counted in one row."""
    data = arrays.make_array(kind)(context, builder, array).data
    vector = ir.VectorType(ir.DoubleType(), n)
    return builder.bitcast(builder.gep(data, [place]), vector.as_pointer())


def _load(builder: Any, cells: Any) -> Any:
    value = builder.load(cells)
    value.align = DOUBLE
    return value


def _exp(b: Any, x: Any, n: int) -> Any:
    """Write out e to each of ``n`` numbers, within two units of the last place.

    *Math* — e^x = 2^m e^r, m whole and |r| <= ln 2 / 2; e^r to the power r^12, in pairs of pairs.
    """
    kind, whole = ir.VectorType(ir.DoubleType(), n), ir.VectorType(ir.IntType(64), n)

    def all_(value: float) -> Any:
        return ir.Constant(kind, [float(value)] * n)

    def two(i: int) -> Any:
        return b.fadd(all_(1 / math.factorial(i)), b.fmul(r, all_(1 / math.factorial(i + 1))))

    def four(i: int) -> Any:
        return b.fadd(two(i), b.fmul(two(i + 2), r2))

    x = b.select(b.fcmp_ordered(">", x, all_(LEAST)), x, all_(LEAST))
    x = b.select(b.fcmp_ordered("<", x, all_(MOST)), x, all_(MOST))
    shifted = b.fadd(b.fmul(x, all_(1.0 / math.log(2.0))), all_(ROUNDING))
    m = b.fsub(shifted, all_(ROUNDING))
    r = b.fsub(b.fsub(x, b.fmul(m, all_(OCTAVE))), b.fmul(m, all_(OCTAVE_REST)))
    r2 = b.fmul(r, r)
    r4 = b.fmul(r2, r2)
    high = b.fadd(four(8), b.fmul(r4, all_(1 / math.factorial(DEGREE))))
    power = b.fadd(four(0), b.fmul(r4, b.fadd(four(4), b.fmul(r4, high))))
    bits = b.add(b.bitcast(shifted, whole), ir.Constant(whole, [BIAS] * n))
    bits = b.shl(bits, ir.Constant(whole, [MANTISSA] * n))
    return b.fmul(power, b.bitcast(bits, kind))


def _log(b: Any, x: Any, n: int) -> Any:
    """Write out the logarithm of each of ``n`` numbers above 0 with all their digits.

    *Math* — x = 2^e m, √½ <= m < √2; log m = 2 artanh s, s = (m − 1) / (m + 1), to s^19.
    """
    kind, whole = ir.VectorType(ir.DoubleType(), n), ir.VectorType(ir.IntType(64), n)

    def all_(value: float) -> Any:
        return ir.Constant(kind, [float(value)] * n)

    shift = ir.Constant(whole, [MANTISSA] * n)
    bits = b.bitcast(x, whole)
    e = b.ashr(b.sub(bits, ir.Constant(whole, [ROOT] * n)), shift)
    m = b.bitcast(b.sub(bits, b.shl(e, shift)), kind)
    e = b.sitofp(e, kind)
    s = b.fdiv(b.fsub(m, all_(1.0)), b.fadd(m, all_(1.0)))
    z = b.fmul(s, s)
    series = all_(1.0 / (2 * TERMS - 1))
    for i in range(TERMS - 2, -1, -1):
        series = b.fadd(b.fmul(series, z), all_(1.0 / (2 * i + 1)))
    rest = b.fadd(b.fmul(b.fmul(all_(2.0), s), series), b.fmul(e, all_(OCTAVE_REST)))
    return b.fadd(b.fmul(e, all_(OCTAVE)), rest)


def _reduce(typing: Any, values: Any, first: Any) -> Any:
    """Replace `FEW` values by their logarithms."""

    def write(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        cells = _cells(context, builder, signature.args[0], given[0], given[1], FEW)
        builder.store(_log(builder, _load(builder, cells), FEW), cells).align = DOUBLE
        return context.get_dummy_value()

    return types.void(values, first), write


def _raise(typing: Any, values: Any, first: Any) -> Any:
    """Replace `LANES` values by e to them."""

    def write(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        cells = _cells(context, builder, signature.args[0], given[0], given[1], LANES)
        builder.store(_exp(builder, _load(builder, cells), LANES), cells).align = DOUBLE
        return context.get_dummy_value()

    return types.void(values, first), write


def _add(typing: Any, values: Any, first: Any, more: Any, first_more: Any) -> Any:
    """Add `FEW` cells to as many others."""

    def write(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        cells = _cells(context, builder, signature.args[0], given[0], given[1], FEW)
        others = _cells(context, builder, signature.args[2], given[2], given[3], FEW)
        total = builder.fadd(_load(builder, cells), _load(builder, others))
        builder.store(total, cells).align = DOUBLE
        return context.get_dummy_value()

    return types.void(values, first, more, first_more), write


def _add_four(typing: Any, values: Any, first: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Add four numbers to as many cells."""

    def write(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        cells = _cells(context, builder, signature.args[0], given[0], given[1], FEW)
        more = ir.Constant(ir.VectorType(ir.DoubleType(), FEW), ir.Undefined)
        for place, number in enumerate(given[2:]):
            more = builder.insert_element(more, number, ir.Constant(ir.IntType(32), place))
        total = builder.fadd(_load(builder, cells), more)
        builder.store(total, cells).align = DOUBLE
        return context.get_dummy_value()

    return types.void(values, first, *[types.float64] * FEW), write


# The types of an intrinsic are not those of the function that describes it.
_exp_lanes: Callable[[FloatArray, int], None] = cast(Any, intrinsic)(_raise)
add_few: Callable[[FloatArray, int | np.uint64, FloatArray, int], None] = cast(Any, intrinsic)(_add)
"""Add to `FEW` cells of an array, from a place on, those of another; their cells in one row."""
add_four: Callable[[FloatArray, np.uint64, float, float, float, float], None] = cast(
    Any, intrinsic
)(_add_four)
"""Add four numbers to as many cells of an array, from a place on; its cells in one row."""
log_few: Callable[[FloatArray, int | np.uint32], None] = cast(Any, intrinsic)(_reduce)
"""Replace `FEW` cells of an array, from a place on, by their logarithms."""


@hot
def exponentials(values: FloatArray, n: int) -> None:
    """Replace the first ``n`` values by e to them; there must be room for whole `LANES`.

    What comes of a value depends neither on its place nor on those beside it. What has no number
    is bounded.
    """
    for first in range(0, n, LANES):
        _exp_lanes(values, first)
