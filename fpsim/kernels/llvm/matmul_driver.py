# SPDX-License-Identifier: Apache-2.0
"""Matrix products one accumulator step at a time, with the accumulators kept in registers.

    for each tile of R rows and C vectors of columns:
        acc = c tile
        for k in 0..K-1, in order:  acc = step(acc, terms at k)
        c tile = acc

The order of K is the order of the hardware being modelled, so vectors run along rows and columns
of the result only. ``a`` is row-major and padded to R rows; ``b`` is packed into panels of C
vectors of columns, so that a tile reads it front to back (`fpsim.kernels.pack.panels`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, prange, types
from numba.extending import intrinsic

from fpsim.kernels.cache import kernel
from fpsim.kernels.llvm.tile_loop import build_tile
from fpsim.kernels.llvm.tiles import PRODUCTS, Source, Tile, turn

__all__ = ["gemm", "histories"]


def tile_intrinsic(step: Any, source: Source, tile: Tile) -> Any:
    """Return what runs one tile: its arguments are a tuple of arrays, as those of `gemm`, and the
    tile's row and column, K, N and M."""

    @intrinsic
    def run(typingctx: Any, arrays: Any, sizes: Any) -> Any:
        signature = types.void(arrays, sizes)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = []
            for i, kind in enumerate(signature.args[0]):
                value = builder.extract_value(args[0], i)
                pointer = context.make_array(kind)(context, builder, value).data
                # float16 travels as uint16; numbers, random bits and words of bytes stay.
                lane = step.lane if i == 2 else step.levels[0].lane
                if i not in (3, 4, 5, 10) and not (source.bytes and i < 2):
                    pointer = builder.bitcast(pointer, lane.real.as_pointer())
                data.append(pointer)
            sizes = [builder.extract_value(args[1], i) for i in range(5)]
            build_tile(step, source, tile, builder, data, sizes)
            return context.get_dummy_value()

        return signature, codegen

    return run


_drivers: dict[Any, Any] = {}


def _kept(make: Callable[..., Any], step: Any, tile: Tile, source: Source) -> Any:
    """Return a driver; steps of one key share it."""
    key = (make, step.key, tile, source)
    if key not in _drivers:
        _drivers[key] = make(step, tile, source)
    return _drivers[key]


def gemm(step: Any, tile: Tile, source: Source = PRODUCTS) -> Any:
    """Return the compiled driver of a step over terms from a source.

    It is called as ``run(a, b, c, reals, integers, random, x, y, x_powers, y_powers, starts)``
    with, in the step's lane type (float16 as its uint16 bits), ``a`` (planes, M, K), ``b`` (planes,
    panels, K, columns per panel) and ``c`` (M, N), which holds the initial accumulators and
    receives the results; M and N are multiples of the tile's, K of
    `fpsim.kernels.llvm.tiles.turn`. ``reals`` and ``integers`` are the step's numbers, float64 and
    int64, those of random integers last; ``random`` has unsigned integers (M, K, N) that are
    loaded, or uint32 streams (M, 1, N) that they are made of.

    Blocks of K have scales ``x`` (M, G, signs) and ``y`` (panels, G, signs, columns). A step that
    aligns reads powers of two, 0 for what does not count: of the scales, shaped like them, or
    without blocks of the elements, shaped like ``a`` and ``b``.

    Elements that are bytes come as int32 words of four along K, signed in ``a``, unsigned in ``b``;
    ``starts`` (planes, M, G) has the integers that sums of blocks start at.

    Where a source is paired, every column has an ``a`` of its own: M is 1, ``a`` and its powers are
    panels as those of ``b``, and ``x`` is shaped like ``y``.
    """
    return _kept(_driver, step, tile, source)


def _driver(step: Any, tile: Tile, source: Source) -> Any:
    run_tile = tile_intrinsic(step, source, tile)
    rows, columns, per_word = tile.rows, tile.columns, source.per_word

    @kernel(f"gemm {step.key} {source} {tile}", parallel=True)
    def run(
        a: Any, b: Any, c: Any, reals: Any, integers: Any, random: Any, x: Any, y: Any, px: Any,
        py: Any, starts: Any,
    ) -> None:  # fmt: skip
        row_tiles = c.shape[0] // rows
        panels = c.shape[1] // columns
        for t in prange(row_tiles * panels):
            row = (t % row_tiles) * rows
            column = (t // row_tiles) * columns
            depth = a.shape[2] * per_word
            sizes = (np.int64(row), np.int64(column), depth, c.shape[1], c.shape[0])
            run_tile((a, b, c, reals, integers, random, x, y, px, py, starts), sizes)

    return run


def histories(step: Any, tile: Tile, source: Source) -> Any:
    """Return the compiled driver that keeps the accumulators after every turn of the loop over K.

    It takes the arguments of a `gemm` of paired operands with one plane each, for a step that is
    not seeded, and one more: ``out`` (turns, N) in the lane type receives the accumulators.
    """
    return _kept(_history_driver, step, tile, source)


def _history_driver(step: Any, tile: Tile, source: Source) -> Any:
    run_tile = tile_intrinsic(step, source, tile)
    span, columns = turn(step, source), tile.columns
    groups = span // source.size
    scales_of = _groups_of if source.block else _all_of
    powers_of = _all_of
    if step.powers:
        powers_of = _groups_of if source.block else _elements_of

    @kernel(f"histories {step.key} {source} {tile}", parallel=True)
    def run(
        a: Any, b: Any, c: Any, reals: Any, integers: Any, random: Any, x: Any, y: Any, px: Any,
        py: Any, starts: Any, out: Any,
    ) -> None:  # fmt: skip
        for p in prange(a.shape[1]):
            column = p * columns
            sizes = (np.int64(0), np.int64(0), np.int64(span), c.shape[1], np.int64(1))
            for t in range(out.shape[0]):
                k, g = t * span, t * groups
                own = a[0, p, k:], b[0, p, k:], c[0, column:], reals, integers
                scales = scales_of(x, p, k, g), scales_of(y, p, k, g)
                powers = powers_of(px, p, k, g), powers_of(py, p, k, g)
                run_tile((*own, random[0, g:, column:], *scales, *powers, starts), sizes)
                out[t, column : column + columns] = c[0, column : column + columns]

    return run


@njit
def _groups_of(scales: Any, p: int, k: int, g: int) -> Any:
    """Return the scales of a panel from a group on."""
    return scales[p, g:]


@njit
def _elements_of(powers: Any, p: int, k: int, g: int) -> Any:
    """Return the powers of a panel's elements from one on."""
    return powers[0, p, k:]


@njit
def _all_of(unread: Any, p: int, k: int, g: int) -> Any:
    """Return an array that no term is read from."""
    return unread
