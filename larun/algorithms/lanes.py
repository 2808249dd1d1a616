"""Sums of single precision numbers in sixteen lanes: many at a time, and in an order that no compiler chooses.

A plain loop over floats is summed one by one, since its order is part of what it means; a compiler that may choose the
order does so differently for code that was just compiled and for the same code from a cache. So the order is written
down here, as vectors of sixteen, which every processor can add.
"""

from __future__ import annotations

from typing import Any

from larun.algorithms.jit import Builtin

__all__ = ["LANES", "lane_sum"]

LANES = 16


def _lane_sum() -> Any:
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.extending import intrinsic

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.VectorType(ir.FloatType(), LANES)
        plane = context.make_array(signature.args[0])(context, builder, args[0])
        word = args[1].type
        first = builder.mul(args[1], builder.extract_value(plane.strides, 0))
        base = cgutils.pointer_add(builder, plane.data, first)
        total = cgutils.alloca_once_value(builder, ir.Constant(lanes, [0.0] * LANES))
        begin, step = ir.Constant(word, 0), ir.Constant(word, LANES)
        with cgutils.for_range_slice(builder, begin, args[2], step, word) as (at, _):
            part = builder.load(builder.bitcast(builder.gep(base, [at]), lanes.as_pointer()), align=4)
            builder.store(builder.fadd(builder.load(total), part), total)
        value, width = builder.load(total), LANES
        while width > 1:
            width //= 2
            halves = [
                ir.Constant(ir.VectorType(ir.IntType(32), width), [start + k for k in range(width)])
                for start in (0, width)
            ]
            value = builder.fadd(*(builder.shuffle_vector(value, value, half) for half in halves))
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    def lane_sum(typing_context: Any, array: Any, row: Any, size: Any) -> Any:
        return types.float32(array, types.intp, types.intp), code

    return intrinsic(lane_sum)


#: ``lane_sum(array, row, size)``, for kernels: the sum of the first ``size`` numbers, a whole number of lanes, of a row
#: of a float32 array. Lane ``k`` adds up numbers ``k``, ``k + 16`` …; then lanes are added, halves upon halves.
lane_sum = Builtin(_lane_sum)
