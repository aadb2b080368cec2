# SPDX-License-Identifier: Apache-2.0
"""Emits the loop that sums the products of one block: in a lane's floats, or in integers of bytes.

Four products of bytes are one word's dot product, which an instruction adds to a 32-bit integer
(AVX512-VNNI); or two pairs, which are added to two 16-bit integers, and together after the block.
"""

from __future__ import annotations

from typing import Any, Protocol

from llvmlite import ir

from fpsim.kernels.llvm.tiles import Source, Tile
from fpsim.kernels.llvm.vector import Lanes, Vec, byte_dots, byte_pairs, pair_sums

__all__ = ["BlockLoads", "block_sums"]

_INDEX = ir.IntType(64)
#: Row and vector of a cell, and the signs of its elements.
Key = tuple[int, int, int, int]


class BlockLoads(Protocol):
    """The loads that the loop over a block emits (`fpsim.kernels.llvm.tile_loop.Emitter`)."""

    lanes: Lanes
    source: Source
    tile: Tile
    cells: list[tuple[int, int]]

    def row_element(self, cell: tuple[int, int], k: Any, sign: int) -> Any:
        """Load an entry of a row of ``a`` into all lanes; of paired operands, one per column.

        Args:
            cell: row and vector in the tile.
            k: LLVM index along K.
            sign: number of the plane, a sign or a part of the elements.

        Returns:
            LLVM vector.
        """
        ...

    def panel_vector(self, v: int, k: Any, sign: int) -> Any:
        """Load an entry of each column of a vector of ``b``.

        Args:
            v: vector in the tile.
            k: LLVM index along K.
            sign: number of the plane, a sign or a part of the elements.

        Returns:
            LLVM vector.
        """
        ...

    def block_start(self, r: int, block: Any, sign: int) -> Any:
        """Load the integer that a row's sum of bytes starts at into all lanes.

        Args:
            r: row in the tile.
            block: LLVM number of the block.
            sign: number of the plane of ``a``.

        Returns:
            LLVM vector of int32.
        """
        ...


def block_sums(loads: BlockLoads, k: Any) -> dict[Key, Vec]:
    """Emit the sums of the products of the block at ``k``, by cell and planes, as floats."""
    source, lanes = loads.source, loads.lanes
    builder = lanes.builder
    size = _number(source.size // source.per_word)
    block = builder.udiv(k, _number(source.size))
    signs = [(i, j) for i in range(source.a_signs) for j in range(source.b_signs)]
    keys: list[Key] = [(r, v, i, j) for r, v in loads.cells for i, j in signs]
    starts = {key: _start(loads, key, block) for key in keys}

    before, body = builder.block, builder.append_basic_block("block")
    after = builder.append_basic_block("summed")
    builder.branch(body)
    builder.position_at_end(body)
    inner = builder.phi(_INDEX)
    inner.add_incoming(_number(0), before)
    sums = {key: builder.phi(starts[key].type) for key in keys}
    for key in keys:
        sums[key].add_incoming(starts[key], before)
    here = builder.add(builder.mul(block, size), inner)
    columns = {
        (v, j): loads.panel_vector(v, here, j)
        for v in range(loads.tile.vectors)
        for j in range(source.b_signs)
    }
    rows = {
        (r, v, i): loads.row_element((r, v), here, i)
        for r, v in loads.cells
        if source.paired or v == 0
        for i in range(source.a_signs)
    }
    totals = {}
    for r, v, i, j in keys:
        row = rows[r, v if source.paired else 0, i]
        totals[r, v, i, j] = _added(lanes, source, sums[r, v, i, j], row, columns[v, j])
    following = builder.add(inner, _number(1))
    inner.add_incoming(following, body)
    for key in keys:
        sums[key].add_incoming(totals[key], body)
    builder.cbranch(builder.icmp_signed("<", following, size), body, after)
    builder.position_at_end(after)
    return {key: _value(loads, totals[key], key, block) for key in keys}


def _start(loads: BlockLoads, key: Key, block: Any) -> Any:
    r, _, a_sign, _ = key
    lanes = loads.lanes
    if not loads.source.bytes:
        return lanes.constant(0.0, False).value
    if lanes.carries_mode:
        return loads.block_start(r, block, a_sign)
    return ir.Constant(ir.VectorType(ir.IntType(16), 2 * lanes.count), None)


def _added(lanes: Lanes, source: Source, total: Any, row: Any, column: Any) -> Any:
    if source.bytes:
        return (byte_dots if lanes.carries_mode else byte_pairs)(lanes, total, column, row)
    added = Vec(lanes, row, False).intrinsic(
        "fma", Vec(lanes, column, False), Vec(lanes, total, False)
    )
    return added.value


def _value(loads: BlockLoads, total: Any, key: Key, block: Any) -> Vec:
    """Return a sum as floats; bytes of ``b`` with the sign bit set are stored as magnitudes."""
    (r, _, a_sign, b_sign), lanes = key, loads.lanes
    if not loads.source.bytes:
        return Vec(lanes, total, False)
    if not lanes.carries_mode:
        start = loads.block_start(r, block, a_sign)
        total = lanes.builder.add(pair_sums(lanes, total), start)
    if b_sign:
        total = lanes.builder.neg(total)
    return Vec(lanes, lanes.builder.sitofp(total, lanes.real_type), False)


def _number(value: int) -> Any:
    return ir.Constant(_INDEX, value)
