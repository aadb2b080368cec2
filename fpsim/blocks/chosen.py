# SPDX-License-Identifier: Apache-2.0
"""Casting to grids of arbitrary values: the best variant and scale, ratios of sub-blocks, tops.

All arithmetic is float32 in the order of `fpsim.blocks.scale_rules`; y = fl(x / d) or fl(x f) under
the scale with its ratio, then fl(y / factor) of the grid, and the nearest value of the grid. Errors
are of decoded values, in float64 and summed in the order of the elements, sub-block by sub-block.
`fpsim.blocks.cast_plan` turns a format into numbers, and `fpsim.blocks.cast_loops` computes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import get_num_threads
from numpy.typing import NDArray

from fpsim.blocks import cast_loops as loops
from fpsim.blocks.cast_plan import Plan, plan_cast
from fpsim.blocks.fields import Choice
from fpsim.blocks.grids import Macro
from fpsim.blocks.scale_rules import POWER_RULES, Outer, ScaleRule
from fpsim.formats.floating import FloatFormat, Subnormals
from fpsim.formats.rounding import Rounding
from fpsim.kernels.llvm.side_by_side import lanes_of_blocks
from fpsim.kernels.threads import on_threads

if TYPE_CHECKING:
    from fpsim.blocks.block_format import BlockFormat

__all__ = [
    "Chosen",
    "choose",
    "cut",
    "decides_scales_only",
    "fits_loops",
    "flat",
    "in_parts",
    "largest_magnitudes",
    "macro_codes",
    "macro_values",
    "pieces_of",
]

#: Most elements of a part; a thread is worth waking for so many.
PART = 1 << 19
#: So many blocks fill the lanes; fewer are cut into pieces of at most PIECE elements, and at least
#: SHORTEST.
FEW, PIECE, SHORTEST = 64, 1 << 10, 16


class Chosen(NamedTuple):
    """The decisions of `choose` for whole blocks of rows (R, K)."""

    codes: NDArray[np.uint8]
    scales: NDArray[Any]  #: (R, G), without the number of the variant
    variants: NDArray[np.uint8]  #: (R, G)
    ratios: NDArray[np.uint8] | None  #: (R, S): index into the products of ratios
    tops: NDArray[np.uint8] | None  #: (R, T): index in its (sub-)block, or index of the offset
    bad: NDArray[np.bool_]  #: (R, G): blocks with NaN or an infinity, cast as zeros


def fits_loops(fmt: BlockFormat, mx: bool = False) -> bool:
    """Return whether compiled loops cast the format: one scale per block, elements to nearest.

    Args:
        fmt: the format.
        mx: whether float elements under powers of two are, which have a faster kernel of their own
            where blocks are of one row, and take float64.
    """
    scale, element = fmt.scale, fmt.element
    rule = fmt.rule in POWER_RULES or fmt.rule is ScaleRule.ABSMAX or fmt.choice is Choice.ZERO
    if scale is None or not rule or fmt.signs or fmt.macro is not None:
        return False
    nearest = (Rounding.RNE, Rounding.RNA)
    if element.bits > 8 or fmt.rounding not in nearest or fmt.scale_rounding not in nearest:
        return False
    if isinstance(element, FloatFormat) and not fmt.is_coded:
        plain = element.signed and element.has_negative_zero and element.nan_code is None
        if not plain or element.infinity or (fmt.rule in POWER_RULES and not mx):
            return False
    return scale.subnormals is not Subnormals.FLUSH


def largest_magnitudes(
    x: NDArray[np.float32], block: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the largest magnitudes (R, G) of whole blocks, and which hold NaN or an infinity.

    The largest magnitude of a block with NaN or an infinity is 0.
    """
    shape = (x.shape[0], x.shape[1] // block)
    pieces = cut(shape[0] * shape[1], block)
    bits = np.empty((*shape, pieces), dtype=np.int32)
    work = partial(loops.largest_magnitudes, flat(x), block // pieces, bits.reshape(-1))
    in_parts(bits.size, block // pieces, work)
    found = bits.max(axis=-1).view(np.float32) if pieces > 1 else bits[..., 0].view(np.float32)
    return _without_bad(found)


def _without_bad(
    amax: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    bad = ~np.isfinite(amax)
    if bad.any():
        amax[bad] = 0
    return amax, bad


def flat(x: NDArray[Any]) -> NDArray[Any]:
    """Return x flat; read-only arrays would have kernels compiled once more."""
    return (x if x.flags.writeable else x.copy()).reshape(-1)


def cut(blocks: int, block: int) -> int:
    """Return the number of pieces of a block: more than 1 for a long block that is one of few."""
    if blocks >= FEW or block <= PIECE:
        return 1
    size = next(size for size in range(PIECE, 0, -1) if block % size == 0)
    return block // size if size >= SHORTEST else 1


def in_parts(blocks: int, block: int, work: Callable[[int, int], object]) -> None:
    """Run a function over parts of all blocks, on the threads that Numba may use.

    Parts are small enough to stay in the cache.

    Args:
        blocks: number of blocks.
        block: elements of a block.
        work: called as ``work(first, stop)`` for blocks first..stop - 1.
    """
    each = max(PART // block, 1)
    parts = [(first, min(first + each, blocks)) for first in range(0, blocks, each)]
    threads = max(min(get_num_threads(), blocks // each), 1)

    def share(i: int) -> None:
        for part in parts[i::threads]:
            work(*part)

    on_threads(share, threads)


def decides_scales_only(fmt: BlockFormat) -> bool:
    """Return whether a block that fits loops decides nothing but its scale."""
    alone = plan_cast(fmt).kind.by in ("", "row") and not (fmt.levels or fmt.top or fmt.signed_max)
    return alone and fmt.expansions == (1.0,)


def pieces_of(fmt: BlockFormat, blocks: int, block: int) -> int:
    """Return the number of pieces of a block: 1 unless its scale is all that a block decides.

    Args:
        fmt: the format.
        blocks: number of blocks.
        block: elements of a block.

    Returns:
        The number of pieces.
    """
    return cut(blocks, block) if decides_scales_only(fmt) else 1


def choose(
    fmt: BlockFormat,
    x: NDArray[np.float32],
    block: int,
    outer: Outer,
    amax: NDArray[np.float32] | None,
) -> Chosen:
    """Cast whole blocks to the grids of a format.

    Args:
        fmt: the format.
        x: float32 (R, K), K a multiple of ``block``; finite, if ``amax`` is given.
        block: elements of a block.
        outer: the scale above the scales of blocks.
        amax: largest magnitudes of blocks (R, G). Not needed where blocks are not cut.

    Returns:
        Codes, scales, variants, ratios and top elements.
    """
    assert fmt.scale is not None
    plan, rows = plan_cast(fmt), x.shape[0]
    whole = (rows, x.shape[1] // block)
    pieces = pieces_of(fmt, whole[0] * whole[1], block)
    assert amax is not None or pieces == 1
    block //= pieces
    values, blocks = flat(x), whole[0] * whole[1] * pieces
    given = amax is not None
    magnitudes = np.empty(blocks, dtype=np.float32)
    if amax is not None:
        magnitudes = np.ravel(np.repeat(amax, pieces, axis=1) if pieces > 1 else amax)
    sub, tops = plan.kind.sub, plan.kind.tops
    parts = block // sub.size if sub is not None else 0
    each_tops = block // tops.size if tops is not None else 0
    codes = np.empty(values.size, dtype=np.uint8)
    scales = np.empty(blocks, dtype=fmt.scale.dtype)
    variants = np.empty(blocks, dtype=np.uint8)
    ratios, top_places = (np.empty(blocks * n, dtype=np.uint8) for n in (parts, each_tops))
    outers = [np.ravel(np.asarray(o, np.float32)) for o in outer]
    each = outers[0].size > 1
    if each:
        outers = [np.repeat(o, whole[1] * pieces) for o in outers]
    row_of = np.empty(0, dtype=np.int32)
    if plan.kind.by == "row":
        row_of = np.repeat(np.arange(rows, dtype=np.int32), whole[1] * pieces)
    kind = plan.kind._replace(each=each, given=given)
    if block in loops.USUAL:
        kind = kind._replace(block=block)

    def work(first: int, stop: int) -> None:
        arrays = loops.CastArrays(
            x=values, amax=magnitudes, above=outers[0], ratio=outers[1], largest=outers[2],
            rows=row_of, codes=codes, scales=scales, variants=variants,
            ratio_index=ratios, tops=top_places, **_numbers(plan, block),
        )  # fmt: skip
        loops.cast_blocks(kind, arrays, plan.grids, first, stop)

    in_parts(blocks, block, work)
    _, bad = _without_bad(magnitudes) if not given else (None, np.zeros(blocks, dtype=bool))
    return Chosen(
        codes.reshape(x.shape),
        scales[::pieces].reshape(whole),
        variants[::pieces].reshape(whole),
        None if sub is None else ratios.reshape(rows, -1),
        None if tops is None else top_places.reshape(rows, -1),
        bad[::pieces].reshape(whole),
    )


def _numbers(plan: Plan, block: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of numbers and room for one vector of blocks."""
    lanes, kind = lanes_of_blocks(), plan.kind
    sizes = plan.fixed["sizes"].copy()
    sizes[0] = block
    parts = block // kind.sub.size if kind.sub is not None else 0
    tops = block // kind.tops.size if kind.tops is not None else 0
    room = {
        "laid": (block, np.float32),
        "spare": (block, np.int32),
        "picks": (parts, np.int32),
        "trial": (parts * kind.choice.together, np.int32),
        "places": (tops, np.int32),
        "held": (plan.scales, np.float64),
        "factors": (plan.scales, np.float32),
        "scale_codes": (plan.scales, np.int64),
    }
    scratch = {name: np.empty(count * lanes, kind) for name, (count, kind) in room.items()}
    return {**plan.fixed, **scratch, "sizes": sizes}


# -- macro scales ----------------------------------------------------------------------------------


def macro_codes(macro: Macro, largest: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return m of the significands of the largest magnitudes of macro blocks."""
    fraction, _ = np.frexp(largest / np.float32(macro.target))
    m = np.rint((2.0 * fraction.astype(np.float64) - 1.0) * 2.0**macro.bits)
    return np.asarray(np.clip(m, 0, 2**macro.bits - 1)).astype(np.uint8)


def macro_values(macro: Macro, codes: NDArray[Any]) -> NDArray[np.float32]:
    """Return 1 + m / 2^bits."""
    return (1.0 + np.ldexp(codes.astype(np.float64), -macro.bits)).astype(np.float32)
