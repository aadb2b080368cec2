# SPDX-License-Identifier: Apache-2.0
"""Transposes arrays of integers in squares of 16 by 16, in registers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from fpsim.kernels.cache import inner, kernel

__all__ = ["EDGE", "transpose_rounds", "turn"]

#: Rows and columns of a square in registers, and of one that stays in the first cache.
SIDE, EDGE = 16, 64


@intrinsic
def _turn_square(
    typingctx: Any, codes: Any, first: Any, stride: Any, out: Any, at: Any, width: Any
) -> Any:
    """Transpose a square of a flat array into a square of another flat array.

    The source starts at ``first`` with rows ``stride`` integers apart, the target at ``at`` with
    rows ``width`` apart.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.VectorType(ir.IntType(signature.args[0].dtype.bitwidth), SIDE)
        index = ir.VectorType(ir.IntType(32), SIDE)
        source, target = (
            context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 3)
        )

        def place(base: Any, start: Any, step: Any, i: int) -> Any:
            offset = builder.add(start, builder.mul(step, ir.Constant(step.type, i)))
            return builder.bitcast(builder.gep(base, [offset]), kind.as_pointer())

        rows = [builder.load(place(source, args[1], args[2], i), align=1) for i in range(SIDE)]
        # Each round exchanges the quarters that do not lie on the diagonal of squares of squares.
        for step in (1, 2, 4, 8):
            lower = [t if not t & step else SIDE + t - step for t in range(SIDE)]
            upper = [t + step if not t & step else SIDE + t for t in range(SIDE)]
            for i in range(SIDE):
                if not i & step:
                    x, y = rows[i], rows[i + step]
                    rows[i] = builder.shuffle_vector(x, y, ir.Constant(index, lower))
                    rows[i + step] = builder.shuffle_vector(x, y, ir.Constant(index, upper))
        for i, row in enumerate(rows):
            builder.store(row, place(target, args[4], args[5], i), align=1)
        return context.get_dummy_value()

    return types.void(codes, first, stride, out, at, width), codegen


@inner
def turn(codes, first, stride, rows, columns, out, at, width):
    """Transpose a rectangle of a flat array: ``out[at + c * width + r]`` becomes element (r, c).

    Args:
        codes: integers, flat; element (r, c) is ``codes[first + r * stride + c]``.
        first: place of element (0, 0).
        stride: integers from one row to the next.
        rows: rows of the rectangle.
        columns: columns of the rectangle.
        out: integers of the type of ``codes``, flat.
        at: place in ``out`` of element (0, 0).
        width: integers in ``out`` from one column to the next.

    Returns:
        Nothing.
    """
    across, down = columns // SIDE * SIDE, rows // SIDE * SIDE
    for r in range(0, down, SIDE):
        for c in range(0, across, SIDE):
            place = first + r * stride + c
            _turn_square(codes, place, stride, out, at + c * width + r, width)  # type: ignore[call-arg]
    for r in range(rows):
        for c in range(across if r < down else 0, columns):
            out[at + c * width + r] = codes[first + r * stride + c]


@kernel(parallel=True)
def transpose_rounds(integers, out):
    """Write contiguous integers (M, N, T) into ``out``, transposed to (M, T, N) and of their type.

    The last two axes of ``out`` may be longer; the rest stays as it is.
    """
    count, length = integers.shape[1:]
    rounds, columns = out.shape[1:]
    codes, flat = integers.reshape(-1), out.reshape(-1)
    panels = (count + EDGE - 1) // EDGE
    for task in prange(integers.shape[0] * panels):
        m, n = task // panels, task % panels * EDGE
        rows = min(EDGE, count - n)
        for t in range(0, length, EDGE):
            first, at = (m * count + n) * length + t, (m * rounds + t) * columns + n
            turn(codes, first, length, rows, min(EDGE, length - t), flat, at, columns)
