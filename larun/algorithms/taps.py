"""Kernels of interpolation as tables of weights, and the sum of a pixel's neighbours under them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.jit import Builtin
from larun.errors import OptionError

__all__ = ["KERNELS", "LANES", "PHASES", "REACH", "TAPS", "tap_sum", "weights"]

#: Neighbours along one axis, the first two pixels before the one at or below a position.
TAPS = 6
REACH = 2
#: Weights are kept in rows of eight, which the processor takes at once; the last two are 0.
LANES = 8
#: Positions between two pixels: a position is rounded by at most 1/4096 pixel.
PHASES = 2048

KERNELS = ("lanczos3", "bilinear", "nearest")


@functools.cache
def weights(kernel: str) -> NDArray[np.float32]:
    """Weights of six neighbours at each of :data:`PHASES` + 1 positions between two pixels, one dimension.

    Lanczos-3 is ``sinc(d) sinc(d / 3)`` (Duchon 1979, J. Appl. Meteor. 18, 1016), divided by its sum so that a flat
    image stays flat. That alone moves a star by up to 0.020 pixel; so each weight is changed a little, in proportion to
    itself, until ``Σ w d = 0``: a gradient stays what it is, stars stay where they are, and flux is kept where the
    scale changes by a per cent.

    Returns
    -------
    ndarray of float32, (PHASES + 1, LANES)
        The weight of pixel ``floor(x) - REACH + k`` is in column k.

    Raises
    ------
    OptionError
        If there is no such kernel.

    Examples
    --------
    >>> weights("bilinear")[PHASES // 4, :6].tolist()
    [0.0, 0.0, 0.75, 0.25, 0.0, 0.0]
    """
    if kernel not in KERNELS:
        raise OptionError(f"kernel={kernel!r}: must be one of {', '.join(KERNELS)}")
    phase = np.arange(PHASES + 1)[:, None] / PHASES
    away = np.arange(TAPS) - REACH - phase
    if kernel == "lanczos3":
        made = np.where(np.abs(away) < 3, np.sinc(away) * np.sinc(away / 3), 0.0)
    elif kernel == "bilinear":
        made = np.clip(1 - np.abs(away), 0, None)
    else:
        made = ((away > -0.5) & (away <= 0.5)).astype(float)
    made /= made.sum(axis=1, keepdims=True)
    if kernel == "lanczos3":
        made = _centred(made, away)
    made[np.abs(made) < 1e-9] = 0.0  # sinc of a whole number: a shift by whole pixels keeps every bit
    table = np.zeros((PHASES + 1, LANES), np.float32)
    table[:, :TAPS] = made
    table.flags.writeable = False
    return table


def _centred(made: NDArray[np.float64], away: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights whose sum is 1 and whose first moment is 0: the smallest change, relative to the weights."""
    size = np.abs(made)
    zeroth, first, second = (np.sum(size * away**power, axis=1, keepdims=True) for power in (0, 1, 2))
    moment = np.sum(made * away, axis=1, keepdims=True)
    scale = zeroth * second - first**2
    scale[scale < 1e-12] = np.inf  # at a whole pixel there is nothing to mend
    return np.asarray(made + size * moment * (first - zeroth * away) / scale)


def _tap_sum() -> Any:
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.extending import intrinsic

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.VectorType(ir.FloatType(), LANES)
        row, column, table, at_x, at_y = (args[k] for k in (1, 2, 3, 4, 5))
        plane = context.make_array(signature.args[0])(context, builder, args[0])
        kernel = context.make_array(signature.args[3])(context, builder, table)
        stride, kernel_stride = (builder.extract_value(item.strides, 0) for item in (plane, kernel))

        def vector(base: Any) -> Any:
            return builder.load(builder.bitcast(base, lanes.as_pointer()), align=4)

        x_weights = cgutils.pointer_add(builder, kernel.data, builder.mul(at_x, kernel_stride))
        y_weights = cgutils.pointer_add(builder, kernel.data, builder.mul(at_y, kernel_stride))
        first = cgutils.pointer_add(builder, plane.data, builder.mul(row, stride))
        first = builder.gep(first, [column])
        word, total = ir.IntType(32), None
        for k in range(TAPS):
            pixels = vector(cgutils.pointer_add(builder, first, builder.mul(ir.Constant(row.type, k), stride)))
            weight = builder.load(builder.gep(y_weights, [ir.Constant(row.type, k)]))
            wide = builder.insert_element(ir.Constant(lanes, ir.Undefined), weight, ir.Constant(word, 0))
            wide = builder.shuffle_vector(wide, wide, ir.Constant(ir.VectorType(word, LANES), [0] * LANES))
            part = builder.fmul(pixels, wide)
            total = part if total is None else builder.fadd(total, part)
        value, width = builder.fmul(total, vector(x_weights)), LANES
        while width > 1:  # halves upon halves: one order, which no compiler chooses
            width //= 2
            halves = [
                ir.Constant(ir.VectorType(word, width), [start + k for k in range(width)]) for start in (0, width)
            ]
            value = builder.fadd(*(builder.shuffle_vector(value, value, half) for half in halves))
        return builder.extract_element(value, ir.Constant(word, 0))

    def tap_sum(typing_context: Any, plane: Any, row: Any, column: Any, table: Any, at_x: Any, at_y: Any) -> Any:
        word = types.intp
        return types.float32(plane, word, word, table, word, word), code

    return intrinsic(tap_sum)


#: ``tap_sum(plane, row, column, table, at_x, at_y)``, for kernels: the sum over six rows from ``row`` and six columns
#: from ``column`` of a float32 plane, weighted by rows ``at_y`` and ``at_x`` of a table. Eight columns are read.
tap_sum = Builtin(_tap_sum)
