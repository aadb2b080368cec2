# SPDX-License-Identifier: Apache-2.0
"""Units of chunks of chunks, of block sums in chunks, and of stochastic rounding inside them."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fpsim import MacUnit, Rounding
from fpsim.units.stages import Aligned, Block, Chain, Chunked, Exact, Fixed, Stage, Tree
from support.helpers import float_format, unit_of

F32 = float_format("e8m23")
COARSE = float_format("e8m2")
E4M3, E5M10 = float_format("e4m3"), float_format("e5m10")
Codes = NDArray[Any]


def sr(fmt: Any, bits: int) -> Chain:
    return Chain(fmt, Rounding.SR, None, bits)


def chunked(inner: Stage, outer: Stage, a: str = "e8m7", **more: Any) -> MacUnit:
    return unit_of(Chunked(inner, outer, **more), a)


#: Every place that a stage may have, with and without random integers; of several widths.
STAGES: dict[str, Stage] = {
    "inner": Chunked(sr(E4M3, 3), Chain(F32), 4),
    "inner, seeds in mid-word": Chunked(sr(E5M10, 5), Tree(E5M10), 4),
    "outer": Chunked(Chain(E4M3), sr(E5M10, 9), 3),
    "bytes of wider integers": Chunked(sr(E5M10, 8), sr(E5M10, 10), 4),
    "both": Chunked(sr(E4M3, 4), Exact(E5M10, Rounding.SR, random_bits=11), 5),
    "grids": Chunked(Fixed(12, 0, "saturate", "sr", 6), Fixed(9, 1, "wrap", "sr", 2), parts=4),
    "saturated at the end": Chunked(
        Fixed(12, 0, "saturate", "sr", 5, "end", E4M3, Rounding.RTZ), sr(E5M10, 5), 7
    ),
    "chunks of chunks": Chunked(Chunked(sr(E4M3, 3), sr(E5M10, 7), 2), sr(E5M10, 4), 5),
    "results in chunks": Chunked(Chain(E4M3), Chunked(sr(E4M3, 4), Chain(F32), 2), parts=7),
    "results in chunks in chunks": Chunked(
        Chain(E4M3), Chunked(sr(E4M3, 4), Chunked(Chain(E5M10), sr(E4M3, 7), 2), 3), 2
    ),
    "windows in chunks of chunks": Chunked(
        Chunked(Aligned(2, 4, E5M10), Aligned(3, 3, E5M10), 4),
        Chunked(Tree(E4M3), Chain(F32), 2),
        8,
    ),
    "three deep": Chunked(
        Chunked(Chunked(sr(E4M3, 1), Chain(E4M3), 2), sr(E4M3, 2), parts=3), sr(E4M3, 6), 9
    ),
    "blocks": Chunked(Block(2, sr(E4M3, 5)), sr(E5M10, 6), 6),
    "block sums in chunks": Block(2, Chunked(sr(E4M3, 3), sr(E5M10, 4), 3)),
    "chunks of block sums in chunks": Chunked(
        Block(2, Chunked(Chain(E5M10), sr(E4M3, 3), 2), E4M3), sr(E5M10, 8), 8
    ),
}
