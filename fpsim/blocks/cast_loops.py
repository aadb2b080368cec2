# SPDX-License-Identifier: Apache-2.0
"""Compiled casts of whole blocks of float32.

A program casts the blocks ``first`` to ``stop``, a lane for each block
(`fpsim.kernels.llvm.side_by_side`), and keeps them side by side meanwhile. Settings that change the
code are arguments of the cached functions; numbers are read at run time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from fpsim.blocks import cast_choice, cast_steps
from fpsim.blocks.cast_choice import Best, ChoiceArrays, ChoiceKind, Chooser
from fpsim.blocks.cast_steps import (
    GRID_ARRAYS,
    MAGNITUDE,
    BlockScale,
    Grid,
    GridKind,
    ScaleInputs,
    ScaleKind,
    SubBlocks,
    TopElements,
    Tops,
    at_least,
    at_most,
    dialects,
    fit_ratios,
    flag,
    key,
    minus,
    over,
    scale_of,
    scaled,
    sign_of_largest,
    span_of,
    step_under,
)
from fpsim.kernels.llvm.side_by_side import (
    BYTE,
    INDEX,
    TABLE,
    WORD,
    Blocks,
    Variable,
    lanes_of_blocks,
    program,
)
from fpsim.kernels.llvm.vector import DOUBLE, FLOAT, Vec

Array = NDArray[Any]
#: Elements of blocks that have programs of their own, where loops of a known length are faster.
USUAL = (16,)
#: Bits of the magnitude of infinity.
INFINITE = 0x7F800000

__all__ = [
    "INFINITE",
    "USUAL",
    "CastArrays",
    "CastKind",
    "cast_blocks",
    "largest_magnitudes",
    "razor",
    "real_blocks",
    "shift_integers",
    "spans",
]


def _program(name: str, arrays: int, build: Callable[[Blocks], None]) -> Callable[..., None]:
    sources = (__file__, cast_steps.__file__, cast_choice.__file__)
    return program(f"cast {name}", arrays, build, sources)


# -- grids -----------------------------------------------------------------------------------------


class CastKind(NamedTuple):
    """The settings that the code of a cast to grids depends on."""

    scale: ScaleKind
    scale_bits: int  #: of the integers that scale codes are stored in
    sign_bit: int  #: of a scale with the sign of the largest magnitude; 0: without
    ranges: bool  #: scales follow from the largest value less the smallest
    each: bool  #: each block has a tensor scale of its own
    given: bool  #: largest magnitudes are given, and values finite
    multiply: bool
    grid: GridKind
    expansions: int  #: candidates of each grid
    by: str  #: the chooser: "error", "dialect", "zero", "row"; empty: none
    apart: bool  #: candidates that no error chooses have scales of their own
    choice: ChoiceKind
    levels: tuple[SubBlocks, ...]  #: of ratios that fit the largest magnitudes
    sub: SubBlocks | None  #: sub-blocks of the last level, and the products of ratios
    tops: Tops | None
    block: (
        int  #: elements of a block if they are `USUAL` or it has sub-blocks or top elements, else 0
    )


class CastArrays(NamedTuple):
    """The arrays of a cast to grids; scratch holds one vector of blocks, side by side."""

    x: Any
    amax: Any  #: float32 per block, given or filled: infinite or NaN in blocks with such values
    above: Any  #: float32 per block, or one: the tensor's scale
    ratio: Any  #: float32, as many as ``above``: e of the arithmetic `RATIO`
    largest: Any  #: float32, as many as ``above``: the largest magnitude of the tensor
    rows: Any  #: int32 per block, its row, where rows have grids of their own
    scaling_reals: Any  #: (2, P) float32 of each candidate: limit and expansion
    scaling_integers: Any  #: (2, P) int64 of each candidate: exponent and bump
    scale_floor: Any  #: float32
    #: int64: greatest code, mantissa bits, least exponent, code of zero
    scale_integers: Any
    #: int64: block, thresholds, room for grids, room for candidates, candidates, base, down, mask
    sizes: Any
    choice_rows: Any  #: `ChoiceArrays` describes these
    choice_candidates: Any
    choice_families: Any
    choice_reals: Any
    choice_sizes: Any
    ratios: Any  #: float32, at least `TABLE`
    level_ratios: Any  #: (levels, `TABLE`) float32
    limits: Any  #: float32, the bound on a scaled element of each level
    pairs: Any  #: (32, 3) int32: `dialects`
    top_ends: Any  #: float64: `store_tops`
    top_keys: Any  #: int32: `refine_tops`
    laid: Any  #: scratch, float32 per element
    spare: Any  #: scratch, int32 per element
    picks: Any  #: scratch, int32 per sub-block
    trial: Any  #: scratch, int32 per sub-block and candidate that are tried together
    places: Any  #: scratch, int32 per top element
    held: Any  #: scratch, float64 per scale
    factors: Any  #: scratch, float32 per scale
    scale_codes: Any  #: scratch, int64 per scale
    codes: Any  #: uint8 per element, filled
    scales: Any  #: per block, filled
    variants: Any  #: uint8 per block, filled
    ratio_index: Any  #: uint8 per sub-block, filled
    tops: Any  #: uint8 per top element, filled


class _Cast:
    """Writes the cast of blocks to grids."""

    def __init__(self, b: Blocks, kind: CastKind) -> None:
        self.b, self.kind, self.at = b, kind, CastArrays(*range(len(CastArrays._fields)))
        sizes = self.at.sizes
        self.block = b.number(sizes, 0, INDEX) if not kind.block else INDEX(kind.block)
        self.width, self.room, self.scale_room, self.candidates = (
            b.number(sizes, i, INDEX) for i in range(1, 5)
        )
        self.zero, self.one = b.floats.constant(0, True), b.floats.constant(1.0, False)

    def outer(self, array: int) -> Vec:
        """Return the tensor's number, or each block's."""
        return self.b.get(array, FLOAT) if self.kind.each else self.b.same(array, 0, FLOAT)

    def grid(self, v: Any, codes: bool) -> Grid:
        """Return a grid by its number."""
        room = INDEX(self.kind.grid.entries) if self.kind.grid.entries else self.room
        first = len(CastArrays._fields)
        return Grid(self.b, self.kind.grid, first, v, self.width, room, codes)

    def lay_out(self) -> Vec:
        """Lay out the elements, as 0 in blocks with infinities or NaN; return the largest."""
        b, at, most = self.b, self.at, Variable(self.zero)
        if self.kind.given:
            b.lay_out(at.x, self.block, at.laid)
            return b.get(at.amax, FLOAT)
        b.lay_out(
            at.x,
            self.block,
            at.laid,
            lambda x: most.set(at_least(x.as_bits & MAGNITUDE, most.get())),
        )
        b.put(at.amax, FLOAT, most.get().as_real)
        bad = most.get() >= INFINITE
        with b.if_any(flag(bad, b.floats)), b.loop(self.block) as loop:
            x = b.kept(at.laid, loop.index, WORD)
            b.keep(at.laid, loop.index, bad.where(self.zero, x).as_real)
        return bad.where(self.zero, most.get()).as_real

    def scaling(self, c: Any) -> ScaleInputs:
        """Return the numbers of the scales of a candidate, or of one for each block."""
        b, at, builder = self.b, self.at, self.b.builder

        def own(array: int, kind: Any, row: int) -> Vec:
            start = builder.mul(INDEX(row), self.scale_room)
            if isinstance(c, Vec):
                return b.looked_up(array, kind, start, c, 0)
            return b.same(array, builder.add(start, c), kind)

        most, mantissa_bits, exponent_min, zero_code = (
            b.same(at.scale_integers, i, INDEX) for i in range(4)
        )
        return ScaleInputs(
            own(at.scaling_integers, INDEX, 0),
            own(at.scaling_integers, INDEX, 1),
            own(at.scaling_reals, FLOAT, 0),
            own(at.scaling_reals, FLOAT, 1),
            b.same(at.scale_floor, 0, FLOAT),
            most,
            mantissa_bits,
            exponent_min,
            zero_code,
            self.outer(at.above),
            self.outer(at.ratio),
        )

    def build(self) -> None:
        """Write the whole program."""
        b, at, kind = self.b, self.at, self.kind
        most = self.lay_out()
        amax, smallest = most, self.one
        if kind.ranges:
            high, smallest = span_of(b, at.laid, self.block)
            amax = high - smallest
        sign = sign_of_largest(b, at.laid, self.block) if kind.sign_bit else None

        def scale(c: Any) -> BlockScale:
            code, decoded, factor = scale_of(b, kind.scale, amax, self.scaling(c))
            if sign is not None:
                decoded, factor = decoded * sign.as_lanes(b.doubles), factor * sign
            return BlockScale(code, decoded, factor)

        first = scale(b.get(at.rows, WORD) if kind.by == "row" else INDEX(0))
        grid: Any
        if kind.tops is not None and kind.tops.stored:
            self.tops(kind.tops).keep_places(first.code, at.places)
        if kind.by == "error":
            code, factor, grid = self.chosen(scale, most)
            variant = grid
        else:
            code, factor, grid, variant = self.ruled(scale, first, smallest)
            if kind.levels:
                self.fit(factor, at.picks)
        self.encode(factor, grid)
        if sign is not None:
            negative = sign < 0.0
            code = negative.where(code | kind.sign_bit, code)
        b.put(at.scales, ir.IntType(kind.scale_bits), code)
        b.put(at.variants, BYTE, variant)
        if kind.sub is not None:
            b.hand_out(at.picks, INDEX(kind.block // kind.sub.size), at.ratio_index)
        if kind.tops is not None:
            b.hand_out(at.places, INDEX(kind.block // kind.tops.size), at.tops)

    def chosen(self, scale: Callable[[Any], BlockScale], most: Vec) -> Best:
        """Return the scales and the grids of the least error."""
        b, at, kind = self.b, self.at, self.kind
        arrays = ChoiceArrays(
            at.laid, at.choice_rows, at.choice_candidates, at.choice_families, at.choice_reals,
            at.choice_sizes, at.held, at.factors, at.scale_codes, at.ratios, at.trial, at.picks,
        )  # fmt: skip
        chooser = Chooser(
            b,
            kind.choice,
            arrays,
            self.block,
            kind.sub,
            lambda v: self.grid(v, codes=False),
            most,
            self.outer(at.above).as_lanes(b.doubles),
            self.outer(at.largest),
            (lambda factor: self.fit(factor, at.trial)) if kind.levels else None,
        )
        return chooser.choose(scale)

    def ruled(
        self, scale: Callable[[Any], BlockScale], first: BlockScale, smallest: Vec
    ) -> tuple[Vec, Vec, Any, Vec]:
        """Return codes and factors of scales, grids and variants that do not follow from errors."""
        b, at, kind = self.b, self.at, self.kind
        own, grid = first, INDEX(0)
        candidate = self.zero
        if kind.by == "row":
            return own.code, own.factor, b.get(at.rows, WORD), candidate
        if kind.by == "dialect":
            candidate = dialects(b, at.laid, self.block, own.factor, at.pairs, at.spare)
        elif kind.by == "zero":
            z = over(minus(smallest), own.factor).intrinsic("roundeven")
            last = b.floats.splat(b.builder.trunc(self.candidates, WORD), True) - 1
            z = at_least(z, b.floats.constant(0.0, False))
            candidate = at_most(z, last.signed_reals).truncated
        if kind.by:
            if kind.apart:
                own = scale(candidate)
            each = b.floats.constant(kind.expansions, True)
            grid = Vec(b.floats, b.builder.udiv(candidate.value, each.value), True)
            candidate = grid
        return own.code, own.factor, grid, candidate

    def tops(self, tops: Tops) -> TopElements:
        """Return the top elements of the blocks."""
        return TopElements(self.b, tops, self.kind.block, self.at.laid)

    def fit(self, factor: Vec, index: int) -> None:
        """Keep the ratios of sub-blocks that fit under a factor."""
        kind, at, tops = self.kind, self.at, self.kind.tops
        top = tops.size if tops is not None and tops.stored else 0
        fit_ratios(
            self.b, kind.levels, kind.block, at.laid, at.level_ratios, at.limits, factor,
            kind.multiply, top, at.places, index,
        )  # fmt: skip

    def encode(self, factor: Vec, grid: Any) -> None:
        """Store the codes of the elements, and keep the offsets of top elements."""
        b, at, kind, builder = self.b, self.at, self.kind, self.b.builder
        held = self.grid(grid, codes=True)
        base, down, mask = (
            b.floats.splat(builder.trunc(b.number(at.sizes, i, INDEX), WORD), True)
            for i in range(5, 8)
        )

        def elements(start: Any, count: Any, step: Vec) -> None:
            with b.loop(count) as loop:
                place = builder.add(start, loop.index)
                y = scaled(b.kept(at.laid, place), step, kind.multiply)
                b.keep(at.spare, place, held.codes(y, (base, down, mask)))

        if kind.sub is None:
            elements(INDEX(0), self.block, factor)
        else:
            entries = TABLE if kind.sub.choices <= TABLE else 0
            with b.loop(INDEX(kind.block // kind.sub.size)) as part:
                pick = b.kept(at.picks, part.index, WORD)
                ratio = b.looked_up(at.ratios, FLOAT, INDEX(0), pick, entries)
                start = builder.mul(part.index, INDEX(kind.sub.size))
                step = step_under(factor, ratio, kind.multiply)
                elements(start, INDEX(kind.sub.size), step)
        tops = kind.tops
        if tops is not None and tops.stored:
            self.tops(tops).store(factor, kind.multiply, at.places, at.top_ends, at.spare)
        elif tops is not None:
            count = b.same(at.sizes, 8, INDEX)
            count = Vec(b.floats, builder.trunc(count.value, b.floats.integer_type), True)
            self.tops(tops).refine(factor, kind.multiply, at.top_keys, count, at.spare, at.places)
        b.hand_out(at.spare, self.block, at.codes)


@cache
def _cast_blocks(kind: CastKind) -> Callable[..., None]:
    arrays = len(CastArrays._fields) + GRID_ARRAYS
    return _program(f"to grids {_flat(kind)}", arrays, lambda b: _Cast(b, kind).build())


def _flat(value: Any) -> Any:
    return tuple(map(_flat, value)) if isinstance(value, tuple) else value


def cast_blocks(
    kind: CastKind, arrays: CastArrays, grids: tuple[Array, ...], first: int, stop: int
) -> None:
    """Cast blocks to grids.

    Args:
        kind: `CastKind`.
        arrays: `CastArrays`.
        grids: the arrays of `fpsim.blocks.cast_steps.Grid`.
        first: first block.
        stop: block after the last.
    """
    _cast_blocks(kind)(*arrays, *grids, first, stop)


# -- magnitudes ------------------------------------------------------------------------------------


@cache
def _largest_magnitudes(known: int) -> Callable[..., None]:
    def build(b: Blocks) -> None:
        block = INDEX(known) if known else b.number(1, 0, INDEX)
        b.put(2, WORD, b.largest(0, block, lambda bits: bits & MAGNITUDE))

    return _program(f"magnitudes {known}", 3, build)


def largest_magnitudes(x: Array, block: int, out: Array, first: int, stop: int) -> None:
    """Fill ``out`` with the float32 bits of the largest magnitude of each block.

    A block with infinities or NaN gives the bits of infinity or of a NaN.

    Args:
        x: values.
        block: elements of a block.
        out: int32 per block, filled.
        first: first block.
        stop: block after the last.
    """
    known = block if block in USUAL else 0
    _largest_magnitudes(known)(x, np.array([block]), out, first, stop)


@cache
def _spans() -> Callable[..., None]:
    def build(b: Blocks) -> None:
        block = b.number(1, 0, INDEX)

        b.put(2, WORD, b.largest(0, block, key))
        # The smallest key, of -0 at most, is the complement of the largest complement.
        b.put(3, WORD, ~b.largest(0, block, lambda bits: ~key(bits)) ^ MAGNITUDE)

    return _program("spans", 4, build)


def spans(x: Array, block: int, largest: Array, smallest: Array, first: int, stop: int) -> None:
    """Fill the largest and smallest value of each block, 0 among them.

    Args:
        x: finite values.
        block: elements of a block.
        largest: float32 per block, filled.
        smallest: float32 per block, filled.
        first: first block.
        stop: block after the last.
    """
    _spans()(x, np.array([block]), largest, smallest, first, stop)


# -- integers and real scales ----------------------------------------------------------------------


@cache
def _shift_integers(even: bool) -> Callable[..., None]:
    x, sizes, steps, zeros, scratch, codes = range(6)

    def build(b: Blocks) -> None:
        block, mask = b.number(sizes, 0, INDEX), b.same(sizes, 3, INDEX)
        least, most = (b.same(sizes, i, INDEX).signed_reals.as_lanes(b.floats) for i in (1, 2))
        mask = Vec(b.floats, b.builder.trunc(mask.value, b.floats.integer_type), True)
        step, zero = b.get(steps, FLOAT), b.get(zeros, FLOAT)
        b.lay_out(x, block, scratch)
        with b.loop(block) as loop:
            y = over(b.kept(scratch, loop.index), step) + zero
            if even:
                y = y.intrinsic("roundeven")
            y = at_most(at_least(y, least), most)
            whole = y.truncated
            if not even:
                rest = y - whole.signed_reals
                up, down = (flag(r >= 0.5, b.floats) for r in (rest, minus(rest)))
                whole = whole + up - down
            b.keep(scratch, loop.index, whole & mask)
        b.hand_out(scratch, block, codes)

    return _program(f"shifted integers {even}", 6, build)


def shift_integers(
    x: Array,
    block: int,
    steps: Array,
    zeros: Array,
    even: bool,
    low: int,
    high: int,
    mask: int,
    codes: Array,
    first: int,
    stop: int,
) -> None:
    """Fill codes of integers with zero points, fl(fl(x / step) + zero) rounded.

    Args:
        x: finite values.
        block: elements of a block.
        steps: float32 per block.
        zeros: float32 per block, whole numbers.
        even: whether ties go to even integers, else away from zero.
        low: least integer.
        high: greatest integer.
        mask: bits of a code.
        codes: uint8 like ``x``, filled.
        first: first block.
        stop: block after the last.
    """
    sizes, scratch = np.array([block, low, high, mask]), _scratch(block)
    _shift_integers(even)(x, sizes, steps, zeros, scratch, codes, first, stop)


def _scratch(block: int) -> Array:
    return np.empty(block * lanes_of_blocks(), dtype=np.int32)


@cache
def _razor(mode: tuple[int, ...], width: int, bits: int) -> Callable[..., None]:
    x, reals, sizes, scratch, dropped, codes = range(6)
    nearest, even, up, down, odd = mode[:5]
    most, mask = (1 << (width - 1)) - 1, (1 << width) - 1

    def build(b: Blocks) -> None:
        builder, lanes = b.builder, b.floats
        block = b.number(sizes, 0, INDEX)
        scale, limit = b.same(reals, 0, DOUBLE), b.same(reals, 1, DOUBLE)
        zero, one = lanes.constant(0, True), lanes.constant(1, True)
        b.lay_out(x, block, scratch)
        union = Variable(zero)
        with b.loop(block) as loop:
            y = over(b.kept(scratch, loop.index).as_lanes(b.doubles), scale)
            y = at_least(at_most(y.intrinsic("roundeven"), limit), minus(limit))
            base = Vec(lanes, builder.fptosi(y.value, lanes.integer_type), True)
            b.keep(scratch, loop.index, base)
            union.set(union.get() | _size(base))
        own, defined = union.get(), ir.Constant(ir.IntType(1), 0)
        name = f"llvm.ctlz.v{b.count}i32"
        leading = Vec(lanes, lanes.call(name, lanes.integer_type, [own.value, defined]), True)
        shift = at_least(lanes.constant(32 - (width - 1), True) - leading, zero)
        b.put(dropped, INDEX, Vec(lanes, builder.zext(shift.value, b.doubles.integer_type), True))
        power = one << shift
        below, half, exact = power - 1, power >> 1, flag(shift.equals(0), lanes)
        with b.loop(block) as loop:
            base = b.kept(scratch, loop.index, WORD)
            size, negative = _size(base), base < 0
            add = zero
            if nearest:
                add = half - ((one - ((size >> shift) & 1)) & (one - exact)) if even else half
            if up or down:
                away = negative.where(*(below if on else zero for on in (down, up)))
                add = add + away
            kept = (size + add) >> shift
            if odd:
                kept = kept | flag((size & below).differs(0), lanes)
            kept = at_most(kept, lanes.constant(most, True))
            b.keep(scratch, loop.index, negative.where(zero - kept, kept) & mask)
        if bits == 8:
            b.hand_out(scratch, block, codes)
        else:
            with b.loop(block) as loop:
                code = b.kept(scratch, loop.index, WORD)
                b.put(codes, ir.IntType(bits), code, block, loop.index)

    return _program(f"razor {mode, width, bits}", 6, build)


def _size(integers: Vec) -> Vec:
    return (integers < 0).where(integers.lanes.constant(0, True) - integers, integers)


def razor(
    x: Array,
    block: int,
    scale: Any,
    top: int,
    width: int,
    mode: Any,
    dropped: Array,
    codes: Array,
    first: int,
    stop: int,
) -> None:
    """Fill QRazor's codes: the top bits of integers below the leading one of their OR.

    Args:
        x: finite values.
        block: elements of a block.
        scale: divides values, in float64, before they are rounded to even.
        top: greatest of these integers.
        width: bits of a code, one of them the sign.
        mode: `fpsim.kernels.codec.rounding.mode_constants` of the bits that are dropped.
        dropped: int64 per block, filled with how many bits are dropped.
        codes: unsigned integers like ``x``, filled.
        first: first block.
        stop: block after the last.
    """
    run = _razor(tuple(map(int, mode)), width, 8 * codes.itemsize)
    reals = np.array([scale, top], dtype=np.float64)
    run(x, reals, np.array([block]), _scratch(block), dropped, codes, first, stop)


@cache
def _real_blocks() -> Callable[..., None]:
    x, reals, sizes, amax, outcomes, scratch, codes = range(7)

    def build(b: Blocks) -> None:
        block = b.number(sizes, 0, INDEX)
        limit, largest = b.same(reals, 0, DOUBLE), b.get(amax, DOUBLE)
        thresholds = [b.same(reals, 1 + j, DOUBLE) for j in range(7)]
        each = [b.same(outcomes, j, WORD) for j in range(8)]
        b.lay_out(x, block, scratch)
        with b.loop(block) as loop:
            own = b.kept(scratch, loop.index)
            size = over(own.as_lanes(b.doubles) * limit, largest).intrinsic("fabs")
            code = each[0]
            for threshold, outcome in zip(thresholds, each[1:], strict=True):
                code = (size >= threshold).where(outcome, code)
            b.keep(scratch, loop.index, (own.as_bits < 0).where(code >> 8, code))
        b.hand_out(scratch, block, codes)

    return _program("real scales", 7, build)


def real_blocks(
    x: Array, block: int, limit: float, amax: Array, t: Array, r: Array, codes: Array, first: int,
    stop: int,
) -> None:  # fmt: skip
    """Fill codes of x L / amax, computed in float64, on a symmetric grid of eight magnitudes.

    Args:
        x: finite values.
        block: elements of a block.
        limit: L.
        amax: float64 per block, above 0.
        t: (7,) float64 thresholds of magnitudes.
        r: (8,) int32 from `fpsim.blocks.casts.few_magnitudes`: codes of both signs.
        codes: uint8 like ``x``, filled.
        first: first block.
        stop: block after the last.
    """
    reals = np.array([limit, *t], dtype=np.float64)
    run = _real_blocks()
    run(x, reals, np.array([block]), amax, r, _scratch(block), codes, first, stop)
