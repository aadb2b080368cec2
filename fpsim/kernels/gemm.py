# SPDX-License-Identifier: Apache-2.0
"""Matrix products one accumulator step at a time, with the accumulators kept in registers.

    for each tile of R rows and C vectors of columns:
        acc = c tile
        for k in 0..K-1, in order:  acc = step(acc, a[row, k], b[k, columns])
        c tile = acc

The order of K is the order of the hardware being modelled, so vectors run along rows and columns
of the result only. ``a`` is row-major and padded to R rows; ``b`` is packed into panels of C
vectors of columns, so that a tile reads it front to back (`pack_rows`, `pack_panels`).
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from fpsim.kernels.cache import kernel
from fpsim.kernels.lanes import Parameters
from fpsim.kernels.steps import Step, step_named
from fpsim.kernels.vector import HALF, Lanes, Vec, vector_bytes

__all__ = ["Tile", "gemm", "pack_panels", "pack_rows", "tile_of", "to_half"]

_INDEX = ir.IntType(64)


class Tile(NamedTuple):
    """Shape of a register tile, in rows and columns of the result."""

    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        """Columns of a tile."""
        return self.vectors * self.lanes


def tile_of(step: Step) -> Tile:
    """Return the tile for a step: cheap steps get more accumulators to hide their latency."""
    width = {"half": 16, "float": 32, "double": 64}[str(step.real)]
    lanes = vector_bytes() * 8 // width
    wide = vector_bytes() == 64
    if step.integers:
        return Tile(2, 2, lanes)
    return Tile(4, 4 if wide else 2, lanes)


def _build_tile(step: Step, tile: Tile, builder: Any, pointers: Any, sizes: Any) -> None:
    """Emit the loop over K of one tile; see `gemm` for the layout of the arrays."""
    lanes = Lanes(builder, step.real, tile.lanes)
    a, b, c, reals, integers, random = pointers
    row, column, depth, columns = sizes
    align = lanes.bits // 8

    def at(pointer: Any, *terms: Any) -> Any:
        offset = terms[0]
        for term in terms[1:]:
            offset = builder.add(offset, term)
        return builder.gep(pointer, [offset])

    def number(value: int) -> Any:
        return ir.Constant(_INDEX, value)

    def vector_at(pointer: Any) -> Any:
        return builder.bitcast(pointer, lanes.real_type.as_pointer())

    def parameter(pointer: Any, index: int, integer: bool) -> Vec:
        return lanes.splat(builder.load(at(pointer, number(index))), integer)

    parameters = Parameters(
        {name: parameter(reals, i, False) for i, name in enumerate(step.reals)},
        {name: parameter(integers, i, True) for i, name in enumerate(step.integers)},
    )
    cells = [(r, v) for r in range(tile.rows) for v in range(tile.vectors)]
    a_rows = [at(a, builder.mul(builder.add(row, number(r)), depth)) for r in range(tile.rows)]
    panel = at(b, builder.mul(column, depth))
    targets = {}
    for r, v in cells:
        start = builder.mul(builder.add(row, number(r)), columns)
        targets[r, v] = vector_at(at(c, start, column, number(v * tile.lanes)))
    initial = {cell: builder.load(targets[cell], align=align) for cell in cells}

    before = builder.block
    body = builder.append_basic_block("k")
    after = builder.append_basic_block("done")
    builder.branch(body)
    builder.position_at_end(body)
    k = builder.phi(_INDEX)
    k.add_incoming(number(0), before)
    acc = {cell: builder.phi(lanes.real_type) for cell in cells}
    for cell in cells:
        acc[cell].add_incoming(initial[cell], before)

    base = builder.mul(k, number(tile.columns))
    b_vectors = [
        Vec(
            lanes,
            builder.load(vector_at(at(panel, base, number(v * tile.lanes))), align=align),
            False,
        )
        for v in range(tile.vectors)
    ]
    a_values = [lanes.splat(builder.load(at(a_rows[r], k))) for r in range(tile.rows)]
    result = {}
    for r, v in cells:
        bits = None
        if step.random:
            cube_row = builder.mul(builder.add(row, number(r)), depth)
            start = builder.mul(builder.add(cube_row, k), columns)
            word = ir.VectorType(ir.IntType(32), tile.lanes)
            where = builder.bitcast(
                at(random, start, column, number(v * tile.lanes)), word.as_pointer()
            )
            loaded = builder.load(where, align=4)
            if lanes.bits > 32:
                loaded = builder.zext(loaded, lanes.integer_type)
            bits = Vec(lanes, loaded, True)
        new = step.build(Vec(lanes, acc[r, v], False), a_values[r], b_vectors[v], parameters, bits)
        result[r, v] = new.value

    following = builder.add(k, number(1))
    k.add_incoming(following, body)
    for cell in cells:
        acc[cell].add_incoming(result[cell], body)
    builder.cbranch(builder.icmp_signed("<", following, depth), body, after)
    builder.position_at_end(after)
    for cell in cells:
        builder.store(result[cell], targets[cell], align=align)


def _tile_intrinsic(step: Step, tile: Tile) -> Any:
    @intrinsic
    def run(
        typingctx: Any, a: Any, b: Any, c: Any, reals: Any, integers: Any, random: Any, sizes: Any
    ) -> Any:
        signature = types.void(a, b, c, reals, integers, random, sizes)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            arrays = zip(signature.args[:6], args[:6], strict=True)
            data = [
                context.make_array(kind)(context, builder, value).data for kind, value in arrays
            ]
            for i in range(4):  # float16 travels as uint16
                data[i] = builder.bitcast(data[i], step.real.as_pointer())
            sizes = [builder.extract_value(args[6], i) for i in range(4)]
            _build_tile(step, tile, builder, data, sizes)
            return context.get_dummy_value()

        return signature, codegen

    return run


@cache
def gemm(step_name: str) -> Any:
    """Return the compiled driver of a step.

    It is called as ``run(a, b, c, reals, integers, random)`` with, in the step's lane type (float16
    as its uint16 bits), ``a`` (M, K), ``b`` (panels, K, columns per panel), ``c`` (M, N), which
    holds the initial accumulators and receives the results; M and N are multiples of the tile's.
    ``reals`` and ``integers`` are the step's parameters (integers as wide as the lane), ``random``
    is uint32 of shape (M, K, N), or (1, 1, 1) for a step without random bits.
    """
    step = step_named(step_name)
    tile = tile_of(step)
    run_tile = _tile_intrinsic(step, tile)
    rows, columns = tile.rows, tile.columns

    @kernel(f"gemm {step_name} {tile}", parallel=True)
    def run(a: Any, b: Any, c: Any, reals: Any, integers: Any, random: Any) -> None:
        row_tiles = c.shape[0] // rows
        panels = c.shape[1] // columns
        for t in prange(row_tiles * panels):
            row = (t % row_tiles) * rows
            column = (t // row_tiles) * columns
            sizes = (np.int64(row), np.int64(column), a.shape[1], c.shape[1])
            run_tile(a, b, c, reals, integers, random, sizes)

    return run


# -- operands into lanes -------------------------------------------------------------------------


@kernel(parallel=True)
def pack_rows(codes, table, scale, sign_shift, scale_table, block, out):
    """Write ``table[codes] * scale_table[scale]`` of (M, K) codes into ``out`` (padded rows).

    ``scale`` is (M, G, 1), (M, G, 2) to select by the bit ``sign_shift`` of a code, or empty.
    """
    scaled = scale.shape[0] > 0
    split = scale.shape[2] == 2
    for m in prange(codes.shape[0]):
        for k in range(codes.shape[1]):
            code = codes[m, k]
            value = table[code]
            if scaled:
                sign = np.int64(code) >> sign_shift if split else np.int64(0)
                value = value * scale_table[scale[m, k // block, sign]]
            out[m, k] = value


@kernel(parallel=True)
def pack_panels(codes, table, scale, sign_shift, scale_table, block, out):
    """Write ``table[codes] * scale_table[scale]`` of (K, N) codes into panels (P, K, width).

    ``scale`` is (G, N, 1), (G, N, 2) to select by the bit ``sign_shift`` of a code, or empty.
    """
    scaled = scale.shape[0] > 0
    split = scale.shape[2] == 2
    width = out.shape[2]
    for p in prange(out.shape[0]):
        start = p * width
        count = min(width, codes.shape[1] - start)
        for k in range(codes.shape[0]):
            group = k // block
            for j in range(count):
                code = codes[k, start + j]
                value = table[code]
                if scaled:
                    sign = np.int64(code) >> sign_shift if split else np.int64(0)
                    value = value * scale_table[scale[group, start + j, sign]]
                out[p, k, j] = value
            for j in range(count, width):
                out[p, k, j] = 0


@intrinsic
def _half_bits(typingctx, value):
    """Return the float16 bits of a float32 that float16 holds exactly."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        half = builder.fptrunc(args[0], HALF)
        return builder.bitcast(half, ir.IntType(16))

    return types.uint16(types.float32), codegen


@kernel(parallel=True)
def to_half(values, out):
    """Write the float16 bits of float32 ``values`` (flat) into ``out`` (uint16, flat)."""
    for i in prange(values.size):
        out[i] = _half_bits(values[i])  # type: ignore[call-arg]
