# SPDX-License-Identifier: Apache-2.0
"""Matrix products one accumulator step at a time, with the accumulators kept in registers.

    for each tile of R rows and C vectors of columns:
        acc = c tile
        for k in 0..K-1, in order:  acc = step(acc, terms at k)
        c tile = acc

The order of K is the order of the hardware being modelled, so vectors run along rows and columns
of the result only. ``a`` is row-major and padded to R rows; ``b`` is packed into panels of C
vectors of columns, so that a tile reads it front to back (`fpsim.kernels.pack.panels`).

Every tile is a native function of its own (`fpsim.kernels.llvm.native`); the loops over tiles are
compiled once and call it by its address.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import addressof, c_char
from functools import cache, partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from fpsim.kernels.cache import kernel
from fpsim.kernels.llvm.native import function_address
from fpsim.kernels.llvm.tile_loop import Pointers, build_tile
from fpsim.kernels.llvm.tiles import PRODUCTS, Source, Tile, turn
from fpsim.kernels.llvm.vector import DOUBLE

__all__ = ["TILE", "gemm", "histories", "write_tile"]

Array = NDArray[Any]
_INDEX, _BYTE_POINTER = ir.IntType(64), ir.IntType(8).as_pointer()
#: Addresses of the arrays of a tile, then row, column, K, N and M.
TILE = ir.FunctionType(ir.VoidType(), [_BYTE_POINTER.as_pointer(), *[_INDEX] * 5])
_BYTES = c_char * 0
_addresses: dict[Any, int] = {}


def _tile(step: Any, source: Source, tile: Tile, random_bits: int) -> int:
    """Return the address of a tile's code; steps of one key share it."""
    key = (step.key, source, tile, random_bits)
    if key not in _addresses:
        build = partial(write_tile, step, source, tile, random_bits)
        _addresses[key] = function_address(f"tile {key}", TILE, build)
    return _addresses[key]


def write_tile(
    step: Any, source: Source, tile: Tile, random_bits: int, builder: Any, arguments: Any
) -> None:
    """Write the body of a tile's function.

    Args:
        step: `fpsim.compute.lanes.steps.step.Step`.
        source: where its terms come from.
        tile: shape of the tile.
        random_bits: bits of an entry of the array of random integers.
        builder: the LLVM builder.
        arguments: LLVM arguments of a function of type `TILE`.

    Returns:
        Nothing.
    """
    inner = step.levels[0].lane.real
    elements = ir.IntType(32) if source.bytes else inner
    kinds = Pointers(
        elements, elements, step.lane.real, DOUBLE, _INDEX, ir.IntType(random_bits),
        inner, inner, inner, inner, ir.IntType(32),
    )  # fmt: skip
    table, *sizes = arguments
    pointers = [
        builder.bitcast(builder.load(builder.gep(table, [_INDEX(i)])), kind.as_pointer())
        for i, kind in enumerate(kinds)
    ]
    build_tile(step, source, tile, builder, pointers, sizes)


def gemm(step: Any, tile: Tile, source: Source = PRODUCTS) -> Callable[..., None]:
    """Return the compiled matrix product that runs a step.

    It is called as ``run(a, b, c, reals, integers, random, x, y, x_powers, y_powers, starts)`` with
    contiguous arrays, in the step's lane type (float16 as its uint16 bits): ``a`` (planes, M, K),
    ``b`` (planes, panels, K, columns per panel) and ``c`` (M, N), which holds the initial
    accumulators and receives the results; M and N are multiples of the tile's rows and columns, K
    of `fpsim.kernels.llvm.tiles.turn`. ``reals`` (float64) and ``integers`` (int64) are the step's
    numbers, last the numbers of its random integers. ``random`` has unsigned integers (M, T, N),
    one per rounding, or uint32 streams (M, 1, N) that integers are made of.

    Blocks of K have scales ``x`` (M, G, signs) and ``y`` (panels, G, signs, columns). A step that
    aligns reads powers of two, 0 for a term that does not count: ``x_powers`` and ``y_powers``
    belong to the scales and have their shapes, without blocks to the elements of ``a`` and ``b``.

    Elements that are bytes come as int32 words of four along K, signed in ``a``, unsigned in ``b``;
    ``starts`` (planes, M, G) has the integers that sums of blocks start at.

    Where a source is paired, every column has an ``a`` of its own: M is 1, ``a`` and its powers
    are panels with the shape of ``b``, and ``x`` has the shape of ``y``.

    Args:
        step: `fpsim.compute.lanes.steps.step.Step`.
        tile: shape of the register tile.
        source: where terms come from.

    Returns:
        The function ``run``.
    """

    mode, code_of = _MODES[step.direction], cache(partial(_tile, step, source, tile))

    def run(*arrays: Array) -> None:
        given = Pointers(*arrays)
        code = code_of(8 * given.random.itemsize), mode
        depth, (m, n) = given.a.shape[2] * source.per_word, given.c.shape
        _tiles(code, _pointers(given), tile.rows, tile.columns, depth, n, m)

    return run


def histories(step: Any, tile: Tile, source: Source) -> Callable[..., None]:
    """Return the compiled products that keep the accumulators after every turn of the loop over K.

    It is called with the arguments of a `gemm` of paired operands, or of one row, with one plane
    each, and one more: ``out`` (turns, N) in the lane type receives the accumulators.

    Args:
        step: `fpsim.compute.lanes.steps.step.Step` whose random integers, if any, are loaded.
        tile: shape of the register tile.
        source: where terms come from.

    Returns:
        The function.
    """
    span = turn(step, source)
    groups = span // source.size

    def run(*arrays: Array) -> None:
        *rest, out = arrays
        given = Pointers(*rest)
        code = _tile(step, source, tile, 8 * given.random.itemsize), _MODES[step.direction]

        def elements(array: Array) -> tuple[int, int]:
            """Return the bytes from one panel, and from one turn, to the next of elements.

            Elements are (1, panels, K, columns), or a row (1, 1, K).
            """
            return array.strides[1] if array.ndim == 4 else 0, span * array.strides[2]

        def scales(array: Array) -> tuple[int, int]:
            """Return the bytes from one panel, and from one turn, to the next of scales.

            Scales are (panels, G, ...).
            """
            return array.strides[0], groups * array.strides[1]

        moves = {"a": elements(given.a), "b": elements(given.b)}
        moves["c"] = tile.columns * given.c.itemsize, 0
        if source.block:
            moves |= {"x": scales(given.x), "y": scales(given.y)}
        if step.powers:
            of = scales if source.block else elements
            moves |= {"x_powers": of(given.x_powers), "y_powers": of(given.y_powers)}
        if step.random:  # (1, T, N)
            moves["random"] = tile.columns * given.random.itemsize, groups * given.random.strides[1]
        by_panel, by_turn = np.array(
            [moves.get(name, (0, 0)) for name in Pointers._fields], dtype=np.uint64
        ).T.copy()
        _turns(
            code, _pointers(given), by_panel, by_turn, span, given.c.shape[1],
            given.c.view(np.uint8), out.view(np.uint8), moves["c"][0],
        )  # fmt: skip

    return run


def _pointers(arrays: Pointers) -> NDArray[np.uint64]:
    """Return the addresses of contiguous arrays; others are a `TypeError` of ctypes."""
    # Four times as fast as `array.ctypes.data`, which makes an object first.
    addresses = map(addressof, map(_BYTES.from_buffer, arrays))
    return np.fromiter(addresses, np.uint64, len(arrays))


#: Rounding modes by the numbers of LLVM's `llvm.set.rounding`.
_MODES = {"rtz": 0, "": 1, "rup": 2, "rdn": 3}


@intrinsic
def _call(typingctx: Any, code: Any, pointers: Any, sizes: Any) -> Any:
    """Call a tile's code with the addresses of its arrays, its row and column, K, N and M.

    ``code`` is an address, and the mode in which the processor rounds meanwhile. The tile is a
    function of its own, so that no compiler moves arithmetic out of it.
    """
    signature = types.void(code, pointers, sizes)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        table = context.make_array(signature.args[1])(context, builder, args[1]).data
        address, mode = (builder.extract_value(args[0], i) for i in range(2))
        function = builder.inttoptr(address, TILE.as_pointer())
        sizes = [builder.extract_value(args[2], i) for i in range(5)]
        kind, number = ir.FunctionType(ir.VoidType(), [ir.IntType(32)]), ir.IntType(32)
        set_mode = cgutils.get_or_insert_function(builder.module, kind, "llvm.set.rounding")
        nearest = ir.Constant(number, _MODES[""])
        wanted = builder.trunc(mode, number)
        with builder.if_then(builder.icmp_signed("!=", wanted, nearest)):
            builder.call(set_mode, [wanted])
        builder.call(function, [builder.bitcast(table, TILE.args[0]), *sizes])
        with builder.if_then(builder.icmp_signed("!=", wanted, nearest)):
            builder.call(set_mode, [nearest])
        return context.get_dummy_value()

    return signature, codegen


@kernel(parallel=True)
def _tiles(code: Any, pointers: Any, rows: Any, columns: Any, depth: Any, n: Any, m: Any) -> None:
    """Run all tiles of a result (M, N)."""
    row_tiles = m // rows
    for t in prange(row_tiles * (n // columns)):
        sizes = ((t % row_tiles) * rows, (t // row_tiles) * columns, depth, n, m)
        _call(code, pointers, sizes)  # type: ignore[call-arg]


@kernel(parallel=True)
def _turns(
    code: Any, pointers: Any, by_panel: Any, by_turn: Any, depth: Any, n: Any, c: Any, out: Any,
    width: Any,
) -> None:  # fmt: skip
    """Run the panels of paired operands turn by turn, and copy ``c`` into ``out`` after each."""
    for p in prange(c.shape[1] // width):
        own = np.empty_like(pointers)
        for t in range(out.shape[0]):
            for i in range(own.size):
                own[i] = pointers[i] + np.uint64(p) * by_panel[i] + np.uint64(t) * by_turn[i]
            sizes = (np.int64(0), np.int64(0), depth, n, np.int64(1))
            _call(code, own, sizes)  # type: ignore[call-arg]
            out[t, p * width : (p + 1) * width] = c[0, p * width : (p + 1) * width]
