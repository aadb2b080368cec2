# SPDX-License-Identifier: Apache-2.0
"""Casting to grids of arbitrary values: the best variant and scale, ratios of sub-blocks, tops.

All arithmetic is float32 as in `fpsim.blocks.scale_rules`; y = fl(x / d) or fl(x f) under the scale
with its ratio, then fl(y / factor) of the grid, and the nearest value of the grid. Errors are those
of decoded values, in float64 and summed in the order of the elements, sub-block by sub-block.
`fpsim.blocks.cast_loops` computes; here a format becomes the numbers that it computes with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import get_num_threads
from numpy.typing import NDArray

from fpsim.blocks import cast_loops as loops
from fpsim.blocks.fields import Choice, Errors
from fpsim.blocks.grids import Codebook, Fit, Macro, Table, Ties, Variant, make_grid
from fpsim.blocks.meaning import Meaning, all_variants, has_row_tables, meaning
from fpsim.blocks.scale_rules import (
    POWER_RULES,
    RANGE_RULES,
    Arithmetic,
    Outer,
    ScaleEncoder,
    ScaleRule,
    ZeroScale,
)
from fpsim.formats.floating import FixedFormat, FloatFormat, Subnormals
from fpsim.formats.rounding import Rounding

if TYPE_CHECKING:
    from fpsim.blocks.block_format import BlockFormat

__all__ = [
    "Chosen",
    "choose",
    "cut",
    "fits_loops",
    "flat",
    "in_parts",
    "largest_magnitudes",
    "macro_codes",
    "macro_values",
    "scale_parameters",
]

#: Choices by error.
KINDS = {Choice.MSE: loops.MSE, Choice.MAE: loops.MAE, Choice.ABS_MAX: loops.ABS_MAX}
ARITHMETICS = {
    Arithmetic.DIVIDE: loops.DIVIDE,
    Arithmetic.RECIPROCAL: loops.RECIPROCAL,
    Arithmetic.RATIO: loops.RATIO,
    Arithmetic.BF16: loops.BF16,
}
#: Grids of more values than this are rounded by arithmetic where their values are equally spaced.
MOST_COMPARED = 32
#: A scale times a tensor scale times 24 bits is exact in float64 up to this many bits of the scale.
MOST_FOLDED = 29
#: Parts of a sum of float32 errors.
SUMMED = 8
FLIP = np.int32(0x7FFFFFFF)
#: Elements of a part that one thread casts: at most, and, where there are several, at least.
PART, LEAST = 1 << 19, 1 << 15
#: So many blocks fill the lanes; fewer are cut into pieces of at most, and at least, so much.
FEW, PIECE, SHORTEST = 64, 1 << 10, 16


class Chosen(NamedTuple):
    """The decisions of `choose` for whole blocks of rows (R, K)."""

    codes: NDArray[np.uint8]
    scales: NDArray[Any]  #: (R, G), without the number of the variant
    variants: NDArray[np.uint8]  #: (R, G)
    ratios: NDArray[np.uint8] | None  #: (R, S): index into the products of ratios
    tops: NDArray[np.uint8] | None  #: (R, T): index in its (sub-)block, or index of the offset


#: Exponent, bump, limit, expansion and the numbers of the scale format; `scale_parameters`.
Scaling = tuple[int, int, np.float32, np.float32, loops.ScaleNumbers]


class Plan(NamedTuple):
    """A format as `fpsim.blocks.cast_loops` takes it; candidates are pairs (grid, expansion).

    Where rows have tables of their own, the candidates do not compete: one is each row's.
    """

    meaning: Meaning
    candidates: list[tuple[int, float]]
    limits: list[float]  #: per candidate, or per row with a table
    scaling: list[Scaling]  #: `scale_parameters` per candidate
    rows: list[int]  #: the first of the same scales, per candidate that others compete with
    #: per candidate that others compete with: the first that is the same but for a special value,
    #: and that value's bits
    specials: list[tuple[int, int]]
    grids: loops.Grids
    ratios: NDArray[np.float32]
    #: whether a value over D times a scale times a tensor scale is rounded once, per grid
    folded: list[bool]


def fits_loops(fmt: BlockFormat) -> bool:
    """Return whether compiled loops cast the format: one scale per block, elements to nearest."""
    scale, element = fmt.scale, fmt.element
    rule = fmt.rule in POWER_RULES or fmt.rule is ScaleRule.ABSMAX or fmt.choice is Choice.ZERO
    if scale is None or not rule or fmt.signs or fmt.macro is not None:
        return False
    nearest = (Rounding.RNE, Rounding.RNA)
    if element.bits > 8 or fmt.rounding not in nearest or fmt.scale_rounding not in nearest:
        return False
    if isinstance(element, FloatFormat) and not fmt.is_coded:
        plain = element.signed and element.has_negative_zero and element.nan_code is None
        if not plain or element.infinity or fmt.rule in POWER_RULES:
            return False
    return scale.subnormals is not Subnormals.FLUSH


def largest_magnitudes(
    x: NDArray[np.float32], block: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the largest magnitudes (R, G) of whole blocks, and which hold NaN or an infinity.

    Those count as 0.
    """
    shape = (x.shape[0], x.shape[1] // block)
    pieces = cut(shape[0] * shape[1], block)
    bits = np.empty((*shape, pieces), dtype=np.int32)
    work = partial(loops.largest_magnitudes, flat(x), block // pieces, bits.reshape(-1))
    in_parts(bits.size, block // pieces, work)
    found = bits.max(axis=-1).view(np.float32) if pieces > 1 else bits[..., 0].view(np.float32)
    bad = ~np.isfinite(found)
    if bad.any():
        found[bad] = 0
    return found, bad


def flat(x: NDArray[Any]) -> NDArray[Any]:
    """Return x flat; read-only arrays would have kernels compiled once more."""
    return (x if x.flags.writeable else x.copy()).reshape(-1)


def cut(blocks: int, block: int) -> int:
    """Return into how many pieces to cut long blocks, of which there are too few for the lanes."""
    if blocks >= FEW or block <= PIECE:
        return 1
    size = next(size for size in range(PIECE, 0, -1) if block % size == 0)
    return block // size if size >= SHORTEST else 1


def in_parts(blocks: int, block: int, work: Callable[[int, int], object]) -> None:
    """Do ``work(first, stop)`` for parts of all blocks, on the threads that Numba may use.

    What is worked out about a part stays in the cache.
    """
    threads = get_num_threads()
    size = min(PART, max(blocks * block // threads, LEAST))
    each = max(size // block, 1)
    parts = [(first, min(first + each, blocks)) for first in range(0, blocks, each)]
    threads = min(threads, len(parts))
    if threads < 2:
        for first, stop in parts:
            work(first, stop)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, *part) for part in parts]:
            done.result()


def choose(
    fmt: BlockFormat, x: NDArray[np.float32], block: int, outer: Outer, amax: NDArray[np.float32]
) -> Chosen:
    """Return codes of finite rows (R, K), K a multiple of ``block``; ``amax`` (R, G) of blocks."""
    assert fmt.scale is not None
    levels, top, plan = fmt.levels, fmt.top, _plan(fmt)
    alone = len(plan.candidates) == 1 and not (levels or top or fmt.signed_max)
    pieces = cut(amax.size, block) if alone else 1
    whole, block = amax.shape, block // pieces
    amax = np.repeat(amax, pieces, axis=1) if pieces > 1 else amax
    shape = amax.shape
    values, blocks = flat(x), amax.size
    parts = block // levels[-1].block if levels else 0
    found = Chosen(
        codes=np.empty(values.size, dtype=np.uint8),
        scales=np.empty(blocks, dtype=fmt.scale.dtype),
        variants=np.zeros(blocks, dtype=np.uint8),
        ratios=np.zeros(blocks * parts, dtype=np.uint8) if levels else None,
        tops=np.empty(values.size // top.block, dtype=np.uint8) if top is not None else None,
    )
    above, ratio, largest = (np.ravel(np.asarray(o, np.float32)) for o in outer)
    if above.size > 1:
        above, ratio, largest = (np.repeat(o, shape[1]) for o in (above, ratio, largest))
    magnitudes = np.ravel(amax)
    row_of = np.empty(0, dtype=np.int32)
    if has_row_tables(fmt):
        row_of = np.repeat(np.arange(shape[0], dtype=np.int32), shape[1])

    def work(first: int, stop: int) -> None:
        def own(array: NDArray[Any] | None, each: int = 1) -> Any:
            return None if array is None else array[first * each : stop * each]

        outers = (above, ratio, largest)
        if above.size > 1:
            outers = (own(above), own(ratio), own(largest))
        part = Chosen(
            own(found.codes, block), own(found.scales), own(found.variants),
            own(found.ratios, parts),
            None if top is None else own(found.tops, block // top.block),
        )  # fmt: skip
        rows = own(row_of)
        _cast_part(fmt, plan, own(values, block), block, outers, own(magnitudes), rows, part)

    in_parts(blocks, block, work)
    rows = x.shape[0]
    return Chosen(
        found.codes.reshape(x.shape),
        found.scales[::pieces].reshape(whole),
        found.variants[::pieces].reshape(whole),
        *(None if a is None else a.reshape(rows, -1) for a in (found.ratios, found.tops)),
    )


def _cast_part(
    fmt: BlockFormat,
    plan: Plan,
    values: NDArray[np.float32],
    block: int,
    outers: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    amax: NDArray[np.float32],
    rows: NDArray[np.int32],
    out: Chosen,
) -> None:
    """Fill ``out`` with what becomes of some blocks; ``outers`` are those of `Outer`.

    ``rows`` are the rows that the blocks are of, where those have tables; else there are none.
    """
    above, ratio, largest = outers
    scale, what = fmt.scale, plan.meaning
    assert scale is not None
    span = (0, amax.size)
    by_rule = fmt.choice in (Choice.DIALECT, Choice.ZERO)
    smallest = sign = np.empty(0, dtype=np.float32)
    # What looks at elements once only lays them out itself.
    single = fmt.errors is Errors.FLOAT32
    looks = (fmt.choice in KINDS and not single) or fmt.choice is Choice.DIALECT
    once = not (looks or fmt.levels or fmt.top)
    laid = np.empty(0, dtype=np.float32) if once else loops.lay_out(values, block)
    if fmt.rule in RANGE_RULES:
        top, smallest = np.empty_like(amax), np.empty_like(amax)
        loops.spans(values, block, top, smallest, *span)
        with np.errstate(over="ignore"):
            amax = top - smallest
    if fmt.signed_max:
        sign = np.empty_like(amax)
        loops.signs(values, block, sign, *span)
    multiply = fmt.rule not in POWER_RULES and fmt.arithmetic is not Arithmetic.DIVIDE
    grids = plan.grids
    sub = fmt.levels[-1].block if fmt.levels else block
    searched = bool(fmt.levels) and fmt.levels[-1].by is Fit.MSE
    scales, factor = np.empty(amax.size, dtype=np.int64), np.empty_like(amax)
    decoded = np.empty(amax.size)
    index = np.zeros(amax.size * (block // sub) if fmt.levels else 0, dtype=np.uint8)
    chosen = np.zeros(amax.size, dtype=np.uint8)
    tops = np.empty(0, dtype=np.uint8) if out.tops is None else out.tops

    def scale_by(c: int, factor: NDArray[np.float32], scales: NDArray[np.int64]) -> None:
        """Work out the scales of a candidate, or, whatever it is, of rows with their tables."""
        ends = [*(np.flatnonzero(np.diff(rows)) + 1).tolist(), amax.size]
        for start, stop in pairwise([0, *ends]):
            own = plan.scaling[rows[start] if rows.size else c]
            loops.scale_blocks(amax, *own, above, ratio, scales, factor, decoded, start, stop)
        if sign.size:
            np.multiply(factor, sign, out=factor)
            np.multiply(decoded, sign, out=decoded)

    scale_by(0, factor, scales)
    if fmt.top is not None and fmt.top.is_stored:
        loops.top_indices(laid, fmt.top.block, block, scales, tops, *span)
    if fmt.choice is Choice.DIALECT:
        loops.dialects(laid, block, factor, _pairs(what), chosen, *span)
    elif fmt.choice is Choice.ZERO:
        with np.errstate(all="ignore"):
            z = np.rint(-smallest / factor)
        chosen[:] = np.clip(z, 0, len(plan.candidates) - 1)
    if by_rule and len(set(plan.limits)) > 1:
        for c in range(1, len(plan.candidates)):
            other_factor, other_scales = np.empty_like(factor), np.empty_like(scales)
            scale_by(c, other_factor, other_scales)
            np.copyto(factor, other_factor, where=chosen == c)
            np.copyto(scales, other_scales, where=chosen == c)
    if single:
        lowest = np.full(amax.size, np.inf, dtype=np.float32)
        trial, trial_scales = np.empty_like(factor), np.empty_like(scales)
        codes = np.empty(values.size, dtype=np.uint8)
        for c in range(len(plan.candidates)):
            scale_by(c, trial, trial_scales)
            loops.codes_of_blocks(
                values, None, block, block, trial, plan.ratios, index, multiply, rows, grids,
                codes, *span,
            )  # fmt: skip
            back = what.decoded[0, 0].astype(np.float32)[codes].reshape(-1, block)
            full = np.float32(fmt.limit * fmt.tensor_range)
            found = _float32_errors(fmt.choice, values, back, decoded, largest, full)
            better = found < lowest
            np.copyto(lowest, found, where=better)
            np.copyto(factor, trial, where=better)
            np.copyto(scales, trial_scales, where=better)
    elif fmt.choice in KINDS and not fmt.levels:
        scalings = sorted(set(plan.rows))
        factors, held, each = (
            np.empty((len(scalings), amax.size), kind) for kind in (np.float32, float, np.int64)
        )
        for row, c in enumerate(scalings):
            scale_by(c, factors[row], each[row])
            held[row] = decoded
        candidates = [
            (scalings.index(plan.rows[c]), v, plan.folded[v], *plan.specials[c])
            for c, (v, _) in enumerate(plan.candidates)
        ]
        outer = np.full(amax.size, above, dtype=np.float64)
        loops.best_candidates(
            laid, block, amax, np.array(candidates, dtype=np.int64), factors, held, outer,
            float(what.divisor), multiply, grids, KINDS[fmt.choice], chosen, *span,
        )  # fmt: skip
        if len(scalings) > 1:
            scaled = np.array([row for row, *_ in candidates])[chosen]
            every = np.arange(amax.size)
            factor, scales = factors[scaled, every], each[scaled, every]
    elif fmt.choice in KINDS or searched:
        kind = KINDS.get(fmt.choice, loops.MSE)  # type: ignore[arg-type]
        best = factor, scales, index
        for c, (v, _) in enumerate(plan.candidates):
            if c:
                factor, scales, index = map(np.empty_like, best)
                scale_by(c, factor, scales)
            if not searched:
                _fit(fmt, laid, block, factor, multiply, tops, index)
            weights, apart, divisor = decoded * above, np.empty(0), 1.0
            if not plan.folded[v]:
                weights, divisor = decoded, float(what.divisor)
                apart = np.full(amax.size, above, dtype=np.float64)
            errors = np.empty(amax.size)
            loops.errors_of_blocks(
                laid, block, sub, factor, weights, apart, divisor, multiply, grids, v, kind,
                searched, plan.ratios, index, errors, *span,
            )  # fmt: skip
            if c == 0:
                least = errors
                continue
            better = errors < least
            chosen[better] = c
            np.copyto(least, errors, where=better)
            np.copyto(best[0], factor, where=better)
            np.copyto(best[1], scales, where=better)
            parted = (amax.size, -1)
            np.copyto(best[2].reshape(parted), index.reshape(parted), where=better[:, None])
        factor, scales, index = best
    elif fmt.levels:
        _fit(fmt, laid, block, factor, multiply, tops, index)
    grid = chosen // np.uint8(len(fmt.expansions))
    own_grids = rows
    if not rows.size and len(what.grids) > 1:
        own_grids = grid.astype(np.int32)
    loops.codes_of_blocks(
        values, None if once else laid, block, sub, factor, plan.ratios, index, multiply, own_grids,
        grids, out.codes, *span,
    )  # fmt: skip
    if fmt.top is not None:
        _top_codes(fmt, laid, block, factor, multiply, out.codes, tops)
    if sign.size:
        scales[sign < 0] |= scale.sign_bit
    out.scales[:] = scales
    out.variants[:] = grid
    if out.ratios is not None:
        out.ratios[:] = index


def _float32_errors(
    choice: Choice | None,
    values: NDArray[np.float32],
    held: NDArray[np.float32],
    scales: NDArray[np.float64],
    largest: NDArray[np.float32],
    full: np.float32,
) -> NDArray[np.float32]:
    """Return the error of each block, as `Errors` says of float32."""
    with np.errstate(all="ignore"):
        back = held * scales.astype(np.float32)[:, None] * largest[:, None] / full
        errors = back - values.reshape(held.shape)
        errors = errors * errors if choice is Choice.MSE else np.abs(errors)
        if choice is Choice.ABS_MAX:
            return np.asarray(errors.max(axis=1))
        parts = errors.reshape(len(errors), -1, SUMMED)
        sums = parts[:, 0]
        for i in range(1, parts.shape[1]):
            sums = sums + parts[:, i]
        total = sums[:, 0]
        for i in range(1, SUMMED):
            total = total + sums[:, i]
    return np.asarray(total)


def _fit(
    fmt: BlockFormat,
    laid: NDArray[np.float32],
    block: int,
    factor: NDArray[np.float32],
    multiply: bool,
    tops: NDArray[np.uint8],
    index: NDArray[np.uint8],
) -> None:
    levels = fmt.levels
    ratios = np.ones((len(levels), max(len(level.ratios) for level in levels)), dtype=np.float32)
    for i, level in enumerate(levels):
        ratios[i, : len(level.ratios)] = level.ratios
    loops.fit_ratios(
        laid, block, np.array([level.block for level in levels]), ratios,
        np.array([len(level.ratios) for level in levels]),
        np.array([level.limit for level in levels], dtype=np.float32),
        factor, multiply, tops, fmt.top.block if fmt.top is not None else 1, index, 0, factor.size,
    )  # fmt: skip


def _top_codes(
    fmt: BlockFormat,
    laid: NDArray[np.float32],
    block: int,
    factor: NDArray[np.float32],
    multiply: bool,
    codes: NDArray[np.uint8],
    tops: NDArray[np.uint8],
) -> None:
    """Write codes of stored top elements into ``codes``, or the offsets of refined ones."""
    top, element = fmt.top, fmt.element
    assert top is not None
    assert isinstance(element, FloatFormat)
    size, sign_code = top.block, 1 << (element.bits - 1)
    common = (laid, size, block, factor, multiply)
    span = (0, factor.size)
    if top.element is None:
        ends = (float(top.base), float(top.step))
        loops.store_tops(*common, tops, *ends, sign_code, codes, *span)
        return
    keys = _refined_keys(top.element)
    finer = 1 << (top.element.mantissa_bits - element.mantissa_bits)
    loops.refine_tops(
        *common, keys, finer, top.offsets[0], top.offsets[-1], sign_code, codes, tops, *span
    )


@lru_cache(maxsize=64)
def _refined_keys(element: FloatFormat) -> NDArray[np.int32]:
    keys = make_grid(Variant(element), None, "rne").keys
    return np.asarray(keys[keys > 0])


@lru_cache(maxsize=256)
def _plan(fmt: BlockFormat) -> Plan:
    scale, what = fmt.scale, meaning(fmt)
    assert scale is not None
    candidates = [(v, e) for v in range(len(what.grids)) for e in fmt.expansions]
    bits = scale.mantissa_bits + 1 + max(_significant_bits(float(r)) for r in what.ratios)
    # Of a grid whose W are multiples of D, W s / D is exact.
    whole = [all((w * what.divisor) % what.divisor == 0 for w in g.values) for g in what.grids]
    folded = [each and bits <= MOST_FOLDED for each in whole]
    limits = [what.limits[v] if fmt.is_coded else fmt.limit for v, _ in candidates]
    scaling = [scale_parameters(fmt, limits[c], e) for c, (_, e) in enumerate(candidates)]
    # Powers of two follow from the exponent and the bump.
    used: list[Any] = [s[:2] if s[-1].power else s[2:4] for s in scaling]
    compared = fmt.choice is not None
    rows = [used.index(own) for own in used] if compared else []
    return Plan(
        what,
        candidates,
        limits,
        scaling,
        rows,
        _specials(fmt, what, candidates, rows, folded) if compared else [],
        _grids(fmt, what, folded),
        np.array([float(r) for r in what.ratios], dtype=np.float32),
        folded,
    )


def _specials(
    fmt: BlockFormat,
    what: Meaning,
    candidates: list[tuple[int, float]],
    rows: list[int],
    folded: list[bool],
) -> list[tuple[int, int]]:
    variants, found, same = all_variants(fmt), [], []
    for (v, _), row in zip(candidates, rows, strict=True):
        own = variants[v]
        same.append((row, folded[v], own.element, own.factor))
        stretch = 1 if folded[v] else what.divisor
        value = np.float32(np.nan if own.special is None else Fraction(own.special) * stretch)
        found.append((same.index(same[-1]), int(value.view(np.int32))))
    return found


# -- scales ----------------------------------------------------------------------------------------


def scale_parameters(fmt: BlockFormat, limit: float, expansion: float) -> Scaling:
    """Return the numbers of a format's scale rule, as `cast_loops.scale_blocks` takes them.

    Args:
        fmt: the format.
        limit: L, what the largest magnitude maps to.
        expansion: a factor on the scale.

    Returns:
        Exponent, bump, limit, expansion and the numbers of the scale format.
    """
    assert fmt.scale is not None
    shift = math.frexp(expansion)[1] - math.frexp(limit)[1]
    exponent, bump = fmt.scale.bias + shift, _bump(fmt, limit)
    return exponent, bump, np.float32(limit), np.float32(expansion), _scales(fmt)


@lru_cache(maxsize=256)
def _scales(fmt: BlockFormat) -> loops.ScaleNumbers:
    scale = fmt.scale
    assert scale is not None
    floor = 0.0
    if fmt.zero is ZeroScale.SMALLEST:
        floor = 2.0**scale.exponent_min
    elif fmt.zero is ZeroScale.LEAST:
        floor = float(scale.decode([int(scale.has_zero)])[0])
    with np.errstate(under="ignore"):
        floor = float(np.float32(floor))
    return loops.ScaleNumbers(
        power=fmt.rule in POWER_RULES,
        arithmetic=ARITHMETICS[fmt.arithmetic],
        floor=floor,
        zero_code=int(scale.encode(1.0)) if fmt.zero is ZeroScale.ONE else -1,
        mantissa_bits=scale.mantissa_bits,
        exponent_min=scale.exponent_min,
        has_zero=scale.has_zero,
        max_code=scale.max_code,
        even=fmt.scale_rounding is Rounding.RNE and fmt.scale_encoder is ScaleEncoder.FORMAT,
        ggml=fmt.scale_encoder is ScaleEncoder.GGML,
    )


def _bump(fmt: BlockFormat, limit: float) -> int:
    """Return the fraction bits of a float64 magnitude from which a power of two doubles."""
    one = 1 << 52
    if fmt.rule is ScaleRule.RCEIL:
        return int((math.frexp(limit)[0] * 2 - 1) * one) + 1
    if fmt.rule is ScaleRule.CEIL:
        return 1
    if fmt.rule is ScaleRule.EVEN:
        assert not isinstance(fmt.element, Table)
        float_element = isinstance(fmt.element, FloatFormat)
        m = fmt.element.mantissa_bits if float_element else fmt.element.bits - 2  # type: ignore[union-attr]
        return one - (one >> (m + 1))
    return one


# -- grids -----------------------------------------------------------------------------------------


def _grids(fmt: BlockFormat, what: Meaning, folded: list[bool]) -> loops.Grids:
    spaced = _equally_spaced(fmt, what)
    mirrored = [_mirrored(grid) for grid in what.grids]
    symmetric = all(m is not None for m in mirrored)
    lists: list[tuple[list[int], list[Any], list[int]]] = []
    for grid, half in zip(what.grids, mirrored, strict=True):
        keys = half if symmetric and half is not None else grid.keys
        n = len(keys) + 1
        held_values = grid.values[-n:]
        codes = grid.codes[-n:].astype(int)
        other = grid.codes[:n][::-1].astype(int) if symmetric else codes
        lists.append((list(keys), list(held_values), list(codes + (other << 8))))
    most = max(len(keys) for keys, _, _ in lists)
    width = next((n for n in ((7, 15) if symmetric else (15,)) if most <= n), -(-most // 4) * 4)
    count = len(lists)
    thresholds = np.full((count, width), np.iinfo(np.int32).max, dtype=np.int32)
    held = np.zeros((count, width + 1), dtype=np.float32)
    codes_of = np.zeros((count, width + 1), dtype=np.int32)
    for v, (own_keys, values, own_codes) in enumerate(lists):
        n, stretch = len(own_keys), 1 if folded[v] else what.divisor
        thresholds[v, :n] = own_keys
        held[v, : n + 1] = [float(value * stretch) for value in values]
        # A padded threshold is reached by NaN only, of which a block holds none.
        held[v, n + 1 :] = held[v, n]
        codes_of[v, : n + 1] = own_codes
        codes_of[v, n + 1 :] = own_codes[-1]
    base = spaced or Spaced([1.0] * count, [1] * count, [1] * count, 0, 0, 0)
    ties = fmt.ties or (Ties.EVEN if fmt.rounding is Rounding.RNE else Ties.AWAY)
    up = {Ties.EVEN: (1, 0, 0), Ties.AWAY: (0, 1, 1), Ties.UP: (0, 1, 0), Ties.DOWN: (0, 0, 1)}
    variants = all_variants(fmt)
    weights = [
        float(s) * float(variant.factor * (1 if fold else what.divisor))
        for s, variant, fold in zip(base.steps, variants, folded, strict=True)
    ]
    return loops.Grids(
        symmetric=symmetric,
        thresholds=thresholds,
        values=held.view(np.int32),
        codes=codes_of,
        equal=spaced is not None,
        steps=np.array(base.steps, dtype=np.float32),
        weights=np.array(weights, dtype=np.float32),
        backs=np.array([1 / variant.factor for variant in variants], dtype=np.float32),
        highest=np.array(base.highest, dtype=np.int32),
        lowest=np.array(base.lowest, dtype=np.int32),
        base=base.base,
        down=base.down,
        mask=base.mask,
        ties=np.array(up.get(ties, (0, 0, 0)), dtype=np.int32),
    )


class Spaced(NamedTuple):
    steps: list[float]
    highest: list[int]
    lowest: list[int]
    base: int
    down: int
    mask: int


def _equally_spaced(fmt: BlockFormat, what: Meaning) -> Spaced | None:
    """Return steps and ends of grids of multiples of powers of two whose codes count them."""
    if max(len(grid.values) for grid in what.grids) <= MOST_COMPARED:
        return None
    variants = all_variants(fmt)
    kinds = {type(v.element) for v in variants}
    if len(kinds) != 1 or any(v.special is not None for v in variants):
        return None
    steps, highest, lowest = [], [], []
    for variant in variants:
        element = variant.element
        if isinstance(element, FixedFormat) and element.signed:
            steps.append(2.0**element.lsb)
            highest.append(element.max_integer)
            lowest.append(-element.min_integer)
        elif isinstance(element, FloatFormat) and not element.exponent_bits and element.signed:
            steps.append(float(element.decode([1])[0]))
            highest.append(element.max_code)
            lowest.append(element.max_code)
        else:
            return None
    bits = fmt.element.bits
    if kinds == {FixedFormat}:
        return Spaced(steps, highest, lowest, 1 << bits, -1, (1 << bits) - 1)
    return Spaced(steps, highest, lowest, 1 << (bits - 1), 1, (1 << bits) - 1)


def _mirrored(grid: Codebook) -> list[int] | None:
    """Return the magnitude bits at which a grid goes on, if it does so alike on both sides of 0."""
    keys, values = grid.keys.astype(np.int64), list(grid.values)
    plus = [int(k) for k in keys if k > 0]
    # Below zero a key is passed downward by the magnitude after its own.
    minus = sorted(int((k ^ int(FLIP)) & int(FLIP)) + 1 for k in keys if k < 0)
    n = len(plus) + 1
    if plus != minus or len(keys) - 2 * len(plus) not in (0, 1) or len(values) < n:
        return None
    upper, lower = values[-n:], values[:n][::-1]
    return plus if all(a == -b for a, b in zip(upper, lower, strict=True)) else None


# -- blocks ----------------------------------------------------------------------------------------


def _significant_bits(value: float) -> int:
    numerator = np.float32(value).item().as_integer_ratio()[0]
    return (numerator // (numerator & -numerator)).bit_length()


def _pairs(what: Meaning) -> NDArray[np.int32]:
    """Return the dialect that BlockDialect's rule for activations gives each largest magnitude.

    Magnitudes are rounded to quarters first (to even, at most 7.75), the maximum again to halves
    (up). Of a pair with the same largest magnitude, A is taken if at least half of the values lie
    from the middle of both second largest magnitudes to that of A's two largest.
    """
    highest = np.array([float(grid.values[-1]) for grid in what.grids])
    second = np.array([float(grid.values[-2]) for grid in what.grids])
    found = []
    for quarters in range(32):
        top = math.floor(quarters / 2 + 0.5) / 2
        pair = int(np.argmin(np.abs(highest[::2] - top)))
        first, other, most = second[2 * pair], second[2 * pair + 1], highest[2 * pair]
        low, high = (first + other) * 2, (first + most) * 2
        found.append((pair, math.ceil(low), math.ceil(high)))
    return np.array(found, dtype=np.int32)


# -- macro scales ----------------------------------------------------------------------------------


def macro_codes(macro: Macro, largest: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return m of the significands of the largest magnitudes of macro blocks."""
    fraction, _ = np.frexp(largest / np.float32(macro.target))
    m = np.rint((2.0 * fraction.astype(np.float64) - 1.0) * 2.0**macro.bits)
    return np.asarray(np.clip(m, 0, 2**macro.bits - 1)).astype(np.uint8)


def macro_values(macro: Macro, codes: NDArray[Any]) -> NDArray[np.float32]:
    """Return 1 + m / 2^bits."""
    return (1.0 + np.ldexp(codes.astype(np.float64), -macro.bits)).astype(np.float32)
