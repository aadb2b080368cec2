# SPDX-License-Identifier: Apache-2.0
"""Compiled casts of whole blocks of float32: scales, ratios, the best of several grids, codes.

Each program does one step for the blocks ``first`` to ``stop``, a lane for each block
(`fpsim.kernels.llvm.side_by_side`). What is written here is the code of one block; the flags that
it differs by are the arguments of the cached functions, and numbers are read at run time. Steps
that look at elements take them laid out side by side (`lay_out`).

A grid is a list of thresholds on the bits of a float32 (`Grids`); a value is what the last
threshold that it reaches gives. Errors are defined as float64 sums in the order of the elements;
float32 sums choose first, where a bound shows that they choose the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from fpsim.kernels.llvm.side_by_side import (
    BYTE,
    INDEX,
    WORD,
    Blocks,
    Variable,
    lanes_of_blocks,
    program,
)
from fpsim.kernels.llvm.vector import DOUBLE, FLOAT, Vec

MSE, MAE, ABS_MAX = range(3)
DIVIDE, RECIPROCAL, RATIO, BF16 = range(4)
MAGNITUDE = 0x7FFFFFFF
INFINITY = float("inf")
FRACTION = (1 << 52) - 1
#: Thresholds of grids that are compared one after another without a loop.
UNROLLED = (7, 15)
Array = NDArray[Any]

__all__ = [
    "ABS_MAX",
    "BF16",
    "DIVIDE",
    "MAE",
    "MSE",
    "RATIO",
    "RECIPROCAL",
    "Grids",
    "ScaleNumbers",
    "best_candidates",
    "codes_of_blocks",
    "dialects",
    "errors_of_blocks",
    "fit_ratios",
    "largest_magnitudes",
    "lay_out",
    "razor",
    "real_blocks",
    "refine_tops",
    "scale_blocks",
    "shift_integers",
    "signs",
    "spans",
    "store_tops",
    "top_indices",
]


def _program(name: str, arrays: int, build: Callable[[Blocks], None]) -> Callable[..., None]:
    return program(f"cast {name}", arrays, build, (__file__,))


class Grids(NamedTuple):
    """The V grids of a format.

    A value's index counts the thresholds that its key has reached: its magnitude bits if all grids
    are ``symmetric``, else its bits in the order of the reals, -0 below +0. ``values`` are float32
    bits. ``codes`` hold the code of a positive value and, 256 times, that of a negative one.

    Grids of equally spaced values (``steps`` > 0) round ``|y| back / step`` instead; the magnitudes
    of negative numbers end at ``lowest`` and their codes are ``base + down * magnitude``.
    """

    symmetric: bool
    thresholds: Any  #: (V, n) int32; n is 7, 15 or a multiple of 4, the rest is the largest int32
    values: Any  #: (V, n + 1) int32
    codes: Any  #: (V, n + 1) int32
    equal: bool  #: every grid is of equally spaced values
    steps: Any  #: (V,) float32, a power of two
    weights: Any  #: (V,) float32, W of the first value above zero
    backs: Any  #: (V,) float32
    highest: Any  #: (V,) int32
    lowest: Any  #: (V,) int32
    base: int
    down: int
    mask: int
    ties: Any  #: (3,) int32: whether ties go up from odd magnitudes, if positive, if negative

    @property
    def width(self) -> int:
        """Thresholds of a grid."""
        return int(self.thresholds.shape[1])

    @property
    def kind(self) -> GridKind:
        """What the code of a program depends on."""
        unrolled = self.width if self.width in UNROLLED and not self.equal else 0
        return GridKind(self.symmetric, self.equal, unrolled)


class GridKind(NamedTuple):
    """What code depends on: the thresholds that are compared without a loop, or 0."""

    symmetric: bool
    equal: bool
    unrolled: int


class ScaleNumbers(NamedTuple):
    """How scales follow from largest magnitudes; `fpsim.blocks.scale_rules` has the equations."""

    power: bool  #: powers of two, from exponents
    arithmetic: int
    floor: float  #: scales are at least this
    zero_code: int  #: what code 0 becomes; -1: 0
    mantissa_bits: int
    exponent_min: int
    has_zero: bool
    max_code: int
    even: bool  #: ties go to even codes, else away from zero
    ggml: bool


# -- elements side by side -------------------------------------------------------------------------


@cache
def _lay_out() -> Callable[..., None]:
    def build(b: Blocks) -> None:
        block = b.number(2, 0, INDEX)
        b.lay_out(0, block, 1, _elements(b, block))

    return _program("lay out", 3, build)


def lay_out(x: Array, block: int) -> Array:
    """Return float32 blocks side by side, as many as a vector has lanes.

    Args:
        x: values of whole blocks.
        block: elements of a block.
    """
    lanes, blocks = lanes_of_blocks(), x.size // block
    laid = np.empty(-(-blocks // lanes) * lanes * block, dtype=np.float32)
    _lay_out()(x, laid, np.array([block]), 0, blocks)
    return laid


# -- scales ----------------------------------------------------------------------------------------


def _bfloat16(x: Vec) -> Vec:
    bits = x.as_bits
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000).as_real


def _at_least(x: Vec, least: Vec) -> Vec:
    return (x > least).where(x, least)


def _at_most(x: Vec, most: Vec) -> Vec:
    return (x < most).where(x, most)


def _flag(mask: Vec, lanes: Any) -> Vec:
    return mask.where(lanes.constant(1, True), lanes.constant(0, True))


class _Scales(NamedTuple):
    """Arrays of `scale_blocks`."""

    amax: int
    outer: int
    ratio: int
    reals: int
    integers: int
    codes: int
    factor: int
    decoded: int


@cache
def _scale_blocks(
    power: bool, arithmetic: int, zero_one: bool, has_zero: bool, even: bool, ggml: bool, each: bool
) -> Callable[..., None]:
    a = _Scales(*range(8))

    def above(b: Blocks, array: int) -> Vec:
        return b.get(array, FLOAT) if each else b.same(array, 0, FLOAT)

    def finish(b: Blocks, code: Vec, decoded: Vec, factor: Vec, good: Vec, flush: float) -> None:
        b.put(a.codes, INDEX, code)
        b.put(a.decoded, DOUBLE, decoded)
        b.put(a.factor, FLOAT, good.where(factor, b.floats.constant(flush, False)))

    def powers(b: Blocks) -> None:
        exponent, bump, most, _, low = (b.same(a.integers, i, INDEX) for i in range(5))
        wide, zero = b.doubles, b.doubles.constant(0, True)
        amax = b.get(a.amax, FLOAT).as_lanes(wide)
        bits = amax.as_bits
        code = (bits >> 52) - 1023 + exponent + _flag((bits & FRACTION) >= bump, wide)
        code = _at_most(_at_least(code, zero), most)
        code = (amax > 0.0).where(code, zero)
        decoded = ((code + low + 1023) << 52).as_real
        factor = decoded.as_lanes(b.floats)
        finish(b, code, decoded, factor, factor > 0.0, INFINITY)

    def raw(b: Blocks) -> Vec:
        limit, expansion, floor = (b.same(a.reals, i, FLOAT) for i in range(3))
        amax, one = b.get(a.amax, FLOAT), b.floats.constant(1.0, False)
        if arithmetic == RATIO:
            scale = _over(amax, limit) * above(b, a.ratio)
        elif arithmetic == RECIPROCAL:
            scale = _over(_over(amax, limit), above(b, a.outer))
        elif arithmetic == BF16:
            scale = _bfloat16(amax * _bfloat16(_over(one, limit)))
        else:
            scale = _over(amax, limit * above(b, a.outer))
        scale = _at_least(scale * expansion, b.floats.constant(0.0, False))  # NaN is 0 / 0, 0 * inf
        return _at_least(scale, floor)

    def floating(b: Blocks) -> None:
        wide, floats = b.doubles, b.floats
        most, m, low, zero_code = (b.same(a.integers, i, INDEX) for i in range(2, 6))
        one, shift = wide.constant(1, True), wide.constant(52, True) - m
        value = raw(b).as_lanes(wide)
        half = one << (shift - 1)
        bits = value.as_bits - ((low + (1023 - has_zero)) << 52)
        to = half - (one - ((bits >> shift) & 1)) if even else half
        code = (bits + to) >> shift
        smallest = ((low + 1023) << 52).as_real
        # 2^52 + x is a whole number, to even; what is small enough for that to matter stays below.
        start = wide.constant(2.0**52, False)
        scaled = _at_most(value * ((m - low + 1023) << 52).as_real, wide.constant(2.0**40, False))
        scaled = scaled if even else (scaled + 0.5).intrinsic("floor")
        under = (scaled + start).as_bits - start.as_bits
        normal = value >= smallest
        code = _at_most(normal.where(code, under if has_zero else wide.constant(0, True)), most)
        if ggml:
            row = one << m
            carried = (smallest > value).where(code, wide.constant(0, True)).equals(row)
            code = carried.where(row - 1, code)
            code = (code >= ((most >> m) << m)).where(most, code)
        if zero_one:
            code = code.equals(0).where(zero_code, code)
        field, fraction = code >> m, code & ((one << m) - 1)
        decoded = (((field + low + (1023 - has_zero)) << 52) | (fraction << shift)).as_real
        if has_zero:
            lowest = ((low - m + 1023) << 52).as_real
            whole = (code + start.as_bits).as_real - start
            decoded = field.equals(0).where(whole * lowest, decoded)
        narrow, unit = decoded.as_lanes(floats), floats.constant(1.0, False)
        if arithmetic == RECIPROCAL:
            factor = _over(_over(unit, above(b, a.outer)), narrow)
        elif arithmetic == RATIO:
            factor = _over(unit, above(b, a.outer) * narrow)
        elif arithmetic == BF16:
            factor = _bfloat16(_over(unit, narrow))
        else:
            factor = narrow * above(b, a.outer)
        finite = (factor > 0.0).where(factor, floats.constant(INFINITY, False)) < INFINITY
        finish(b, code, decoded, factor, finite, INFINITY if arithmetic == DIVIDE else 0.0)

    kinds = (arithmetic, zero_one, has_zero, even, ggml, each)
    name = "powers" if power else f"scales {kinds}"
    return _program(name, len(a), powers if power else floating)


def scale_blocks(
    amax: Array,
    exponent: int,
    bump: int,
    limit: Any,
    expansion: Any,
    p: ScaleNumbers,
    outer: Array,
    ratio: Array,
    codes: Array,
    factor: Array,
    decoded: Array,
    first: int,
    stop: int,
) -> None:
    """Fill scale codes (int64), divisors or factors (float32) and decoded scales (float64).

    Args:
        amax: largest magnitudes, finite.
        exponent: code of a largest magnitude in [1, 2), of powers of two.
        bump: fraction bits of a float64 from which a power of two doubles.
        limit: L, float32.
        expansion: c, float32.
        p: `ScaleNumbers`.
        outer: the tensor scale, float32, of each block or one.
        ratio: e of the arithmetic `RATIO`, the same way.
        codes: filled.
        factor: filled.
        decoded: filled.
        first: first block.
        stop: block after the last.
    """
    reals = np.array([limit, expansion, p.floor], dtype=np.float32)
    integers = np.array(
        [exponent, bump, p.max_code, p.mantissa_bits, p.exponent_min, p.zero_code], dtype=np.int64
    )
    if p.power:
        run = _scale_blocks(True, DIVIDE, False, False, False, False, False)
    else:
        zero_one, each = p.zero_code >= 0, outer.size > 1
        run = _scale_blocks(False, p.arithmetic, zero_one, p.has_zero, p.even, p.ggml, each)
    run(amax, outer, ratio, reals, integers, codes, factor, decoded, first, stop)


# -- elements --------------------------------------------------------------------------------------


def _over(x: Vec, divisor: Vec) -> Vec:
    return Vec(x.lanes, x.lanes.builder.fdiv(x.value, divisor.value), False)


def _key(y: Vec, symmetric: bool) -> Vec:
    bits = y.as_bits
    return bits & MAGNITUDE if symmetric else bits ^ (_negative(bits) & MAGNITUDE)


def _negative(bits: Vec) -> Vec:
    """Return -1 where the sign bit is set, else 0."""
    return bits.floor_shifted(bits.lanes.constant(31, True))


#: Arrays of a grid's numbers after its thresholds and outcomes: steps, weights, backs, highest,
#: lowest, ties.
SPACED = 6


def _spaced(g: Grids) -> tuple[Array, ...]:
    return g.steps, g.weights, g.backs, g.highest, g.lowest, g.ties


class _Grid:
    """One grid for every block, or one for each: what becomes of the elements of blocks.

    Args:
        b: the blocks.
        kind: `GridKind`.
        arrays: number of the array of thresholds; outcomes and `SPACED` follow.
        v: the number of the grid in each lane, int64 scalars.
        width: thresholds of a grid.
    """

    def __init__(self, b: Blocks, kind: GridKind, arrays: int, v: list[Any], width: Any) -> None:
        self._b, self._kind, self._at, self._v, self._width = b, kind, arrays, v, width
        count = kind.unrolled
        self._thresholds = [self._threshold(INDEX(j)) for j in range(count)]
        self._outcomes = [self._outcome(INDEX(j)) for j in range(count + 1)] if count else []
        if kind.equal:
            numbers = (FLOAT, FLOAT, FLOAT, WORD, WORD)
            steps, self.weight, self._back, self._highest, self._lowest = (
                self._entry(arrays + 2 + i, number, None, None) for i, number in enumerate(numbers)
            )
            self._inverse = _over(b.floats.constant(1.0, False), steps)
            self._ties = [b.same(arrays + 2 + len(numbers), i, WORD) for i in range(3)]

    def _entry(self, array: int, kind: Any, per: Any, at: Any) -> Vec:
        """Return each lane's number of an array with ``per`` numbers of each grid."""
        b, builder = self._b, self._b.builder

        def place(v: Any) -> Any:
            return v if per is None else builder.add(builder.mul(v, per), at)

        if len(self._v) == 1:
            return b.same(array, place(self._v[0]), kind)
        pointer, lanes = b.pointer(array, kind), b.floats
        value = ir.Constant(ir.VectorType(kind, b.count), ir.Undefined)
        for lane, v in enumerate(self._v):
            entry = builder.load(builder.gep(pointer, [place(v)]))
            value = builder.insert_element(value, entry, WORD(lane))
        return Vec(lanes, value, kind == WORD)

    def _threshold(self, j: Any) -> Vec:
        return self._entry(self._at, WORD, self._width, j)

    def _outcome(self, j: Any) -> Vec:
        return self._entry(self._at + 1, WORD, self._b.builder.add(self._width, INDEX(1)), j)

    @property
    def most(self) -> Vec:
        """The largest magnitude of a value."""
        if self._kind.equal:
            return _at_least(self._highest, self._lowest).signed_reals * self.weight
        ends = (self._outcome(INDEX(0)), self._outcome(self._width))
        return _at_least(*(_magnitude(end.as_real) for end in ends))

    def pick(self, key: Vec) -> Vec:
        """Return the outcome of the last threshold that each key has reached."""
        if self._kind.unrolled:
            found, *others = self._outcomes
            for threshold, outcome in zip(self._thresholds, others, strict=True):
                found = (key >= threshold).where(outcome, found)
            return found
        builder, last = self._b.builder, Variable(self._outcome(INDEX(0)))
        with self._b.loop(self._width) as loop:
            reached = key >= self._threshold(loop.index)
            last.set(reached.where(self._outcome(builder.add(loop.index, INDEX(1))), last.get()))
        return last.get()

    def steps(self, y: Vec) -> Vec:
        """Return signed magnitudes of y in steps of an equally spaced grid."""
        odd, plus, minus = self._ties
        scaled = y * self._back
        size = _magnitude(scaled) * self._inverse
        size = _at_most(size, y.lanes.constant(float(1 << 20), False))
        whole = size.truncated
        rest = size - whole.signed_reals
        negative = scaled < 0.0
        tie = (whole & odd) | negative.where(minus, plus)
        lanes = y.lanes
        up = _flag(rest > 0.5, lanes) | (_flag(rest.equals(0.5), lanes) & tie)
        most = negative.where(self._lowest, self._highest)
        whole = _at_most(whole + up, most)
        return negative.where(lanes.constant(0, True) - whole, whole)

    def values(self, y: Vec) -> Vec:
        """Return the values that y becomes; magnitudes, if the grid is `mirrored`."""
        if self._kind.equal:
            return self.steps(y).signed_reals * self.weight
        return self.pick(_key(y, self._kind.symmetric)).as_real


def _magnitude(x: Vec) -> Vec:
    return (x.as_bits & MAGNITUDE).as_real


def _scaled(x: Vec, step: Vec, multiply: bool) -> Vec:
    return x * step if multiply else _over(x, step)


def _step(factor: Vec, ratio: Vec, multiply: bool) -> Vec:
    if multiply:
        return _over(factor, ratio)
    step = factor * ratio
    # One that underflowed flushes as such scales do.
    return step.equals(0.0).where(step.lanes.constant(INFINITY, False), step)


def _lane_entries(b: Blocks, array: int, kind: Any, lanes: Vec) -> Vec:
    """Return the entries of an array that int32 lanes number."""
    builder, pointer = b.builder, b.pointer(array, kind)
    value = ir.Constant(ir.VectorType(kind, b.count), ir.Undefined)
    for lane in range(b.count):
        at = builder.extract_element(lanes.value, WORD(lane))
        entry = builder.load(builder.gep(pointer, [builder.zext(at, INDEX)]))
        value = builder.insert_element(value, entry, WORD(lane))
    return Vec(b.lanes(kind), value, kind == WORD)


def _elements(b: Blocks, block: Any) -> Any:
    """Return where the elements of these blocks begin among laid out ones."""
    builder = b.builder
    return builder.mul(builder.sdiv(b.start, INDEX(b.count)), block)


@cache
def _codes_of_blocks(
    kind: GridKind, multiply: bool, levels: bool, several: bool, apart: bool
) -> Callable[..., None]:
    laid, factor, ratios, index, chosen, sizes, scratch, codes, values, grid = range(10)

    def build(b: Blocks) -> None:
        builder = b.builder
        block, sub, width = (b.number(sizes, i, INDEX) for i in range(3))
        mask, base, down = (b.same(sizes, i, INDEX) for i in range(3, 6))
        mask, base, down = (
            Vec(b.floats, builder.trunc(v.value, b.floats.integer_type), True)
            for v in (mask, base, down)
        )
        v = [INDEX(0)]
        if several:
            own = b.get(chosen, WORD)
            lanes = (builder.extract_element(own.value, WORD(i)) for i in range(b.count))
            v = [builder.zext(lane, INDEX) for lane in lanes]
        held = _Grid(b, kind, grid, v, width)
        begin, whole = _elements(b, block), b.get(factor, FLOAT)
        if apart:
            begin = INDEX(0)
            b.lay_out(values, block, laid)
        parts = builder.sdiv(block, sub)
        with b.loop(parts) as part:
            step = whole
            if levels:
                pick = b.get(index, BYTE, parts, part.index)
                step = _step(whole, _lane_entries(b, ratios, FLOAT, pick), multiply)
            start = builder.mul(part.index, sub)
            with b.loop(sub) as loop:
                at = builder.add(start, loop.index)
                y = _scaled(b.kept(laid, builder.add(begin, at)), step, multiply)
                negative = y.as_bits < 0
                if kind.equal:
                    steps = held.steps(y)
                    size = (steps < 0).where(y.lanes.constant(0, True) - steps, steps)
                    below = Vec(y.lanes, builder.mul(down.value, size.value), True) + base
                    code = negative.where(below, size) & mask
                else:
                    code = held.pick(_key(y, kind.symmetric))
                    code = negative.where(code >> 8, code)
                b.keep(scratch, at, code)
        b.hand_out(scratch, block, codes)

    return _program(f"codes {tuple(kind), multiply, levels, several, apart}", 11 + SPACED, build)


def codes_of_blocks(
    x: Array,
    laid: Array | None,
    block: int,
    sub: int,
    factor: Array,
    ratios: Array,
    index: Array,
    multiply: bool,
    chosen: Array,
    g: Grids,
    codes: Array,
    first: int,
    stop: int,
) -> None:
    """Fill the codes of blocks.

    Args:
        x: finite values.
        laid: the same, side by side, if something else needs them so, too.
        block: elements of a block.
        sub: elements that share a ratio.
        factor: float32 per block, what values are divided by or multiplied with.
        ratios: (Q,) float32 ratios on scales.
        index: uint8 per sub-block, its ratio; without levels, empty.
        multiply: whether values are multiplied.
        chosen: int32, the grid of each block; of one grid, empty.
        g: `Grids`.
        codes: uint8 per element, filled.
        first: first block.
        stop: block after the last.
    """
    sizes = np.array([block, sub, g.width, g.mask, g.base, g.down], dtype=np.int64)
    scratch = _scratch(block)
    apart = laid is None
    run = _codes_of_blocks(g.kind, bool(multiply), index.size > 0, chosen.size > 0, apart)
    own = _scratch(block).view(np.float32) if laid is None else laid
    run(
        own, factor, ratios, index, chosen, sizes, scratch, codes, x, g.thresholds, g.codes,
        *_spaced(g), first, stop,
    )  # fmt: skip


# -- what a block decides --------------------------------------------------------------------------


#: Candidates whose float32 errors differ by more than these shares of them and of n A^2 (or of n A,
#: of A) are told apart; `_best_candidates` has the proof.
SHARE, APART = 2.0**-15, {MSE: 2.0**-21, MAE: 2.0**-18, ABS_MAX: 2.0**-18}


@cache
def _best_candidates(
    kind: GridKind, error: int, multiply: bool, special: bool
) -> Callable[..., None]:
    """Return the program that chooses.

    Errors are first summed in float32, of quotients by reciprocals. With t = 2^-24, a quotient is
    within 3 t of the definition's, so a value is another neighbour's only if both are as far from x
    to 4 t (|x| + |v|); a difference is thus within D = 2^-20 A of the exact one, A the largest of
    x and of all values under the scale, whose product with the factor is 1 within 2^-20. Then
    |E' - E| <= 2 D sum|e| + n D^2 + n t E' <= E' (2^-16 + n t) + n A^2 2^-23 for n <= 2^8, by
    2 D |e| <= 2^-16 e^2 + 2^16 D^2. Blocks whose candidates are no further apart, or whose factors
    are not such, have all errors summed as they are defined.

    Grids that differ in a ``special`` value have the same errors in blocks where nothing becomes
    it, for what is nearest among more values is so among fewer. There quotients are exact.
    """
    laid, amax, rows, factors, weights, above, reals, sizes, chosen, grid = range(10)
    mirrored = kind.symmetric and not kind.equal

    def build(b: Blocks) -> None:
        builder, lanes, wide = b.builder, b.floats, b.doubles
        block, blocks, width, candidates = (b.number(sizes, i, INDEX) for i in range(4))
        begin, most, outer = _elements(b, block), b.get(amax, FLOAT), b.get(above, DOUBLE)
        one, zero = lanes.constant(1.0, False), lanes.constant(0, True)
        over, terms = b.same(reals, 0, DOUBLE), b.same(reals, 1, DOUBLE).as_lanes(lanes)

        def each(body: Callable[[Any, _Grid, Vec, Vec, Vec, Vec], None]) -> None:
            """Do something for each candidate: W scale / ``under`` * ``top`` are its values."""
            with b.loop(candidates) as loop:
                place = builder.mul(loop.index, INDEX(5))
                row, v, folded = (
                    builder.load(
                        builder.gep(b.pointer(rows, INDEX), [builder.add(place, INDEX(i))])
                    )
                    for i in range(3)
                )
                start = builder.mul(row, blocks)
                own, scale = b.get(factors, FLOAT, None, start), b.get(weights, DOUBLE, None, start)
                single = Vec(lanes, builder.icmp_signed("!=", folded, INDEX(0)), False)
                scale = single.where(scale * outer, scale)
                under = single.where(wide.constant(1.0, False), over)
                top = single.where(wide.constant(1.0, False), outer)
                body(loop.index, _Grid(b, kind, grid, [v], width), own, scale, under, top)

        def number(index: Any) -> Vec:
            return lanes.splat(builder.trunc(index, WORD), True)

        best, bound, other = (
            Variable(lanes.constant(value, False)) for value in (INFINITY, 0.0, INFINITY)
        )
        pick, right = (
            Variable(zero),
            Variable(_flag(most > 2.0**-40, lanes) & _flag(terms < 257.0, lanes)),
        )

        alike = Variable(lanes.constant(-1, True))

        def roughly(c: Any, held: _Grid, own: Vec, scale: Vec, under: Vec, top: Vec) -> None:
            full = (scale * top).as_lanes(lanes)
            times = own if multiply else _over(one, own)
            weight = _over(scale * top, under).as_lanes(lanes)
            weight = _magnitude(weight) if mirrored else weight
            total, uses = Variable(lanes.constant(0.0, False)), Variable(zero)
            place = builder.mul(c, INDEX(5))
            family, value = (
                Vec(lanes, builder.trunc(entry.value, lanes.integer_type), True)
                for entry in (b.same(rows, builder.add(place, INDEX(i)), INDEX) for i in (3, 4))
            )
            with b.loop(block) as loop:
                x = b.kept(laid, builder.add(begin, loop.index))
                found = held.values(_scaled(x, own, multiply) if special else x * times)
                if special:
                    uses.set(uses.get() | _flag(found.as_bits.equals(value), lanes))
                off = found * weight - (_magnitude(x) if mirrored else x)
                if error == MSE:
                    total.set(total.get() + off * off)
                elif error == MAE:
                    total.set(total.get() + _magnitude(off))
                else:
                    total.set(_at_least(_magnitude(off), total.get()))
            now, far = total.get(), _at_least(_magnitude(held.most * weight), most)
            size = far * far if error == MSE else far
            size = size if error == ABS_MAX else size * terms
            slack = now * SHARE + size * APART[error]
            near = _magnitude(full * times - 1.0) < 2.0**-20
            right.set(right.get() & _flag(near, lanes) & _flag(size < 2.0**100, lanes))
            if special:
                # -1: the special value is used; else the first candidate that is the same without.
                own_kind = uses.get().equals(0).where(family, lanes.constant(-1, True))
                again = _flag(own_kind.equals(alike.get()), lanes) & _flag(own_kind >= 0, lanes)
                now = again.equals(1).where(lanes.constant(INFINITY, False), now)
            better = now < best.get()
            if special:
                alike.set(better.where(own_kind, alike.get()))
            low = better.where(best.get() - bound.get(), now - slack)
            other.set(_at_most(low, other.get()))
            best.set(better.where(now, best.get()))
            bound.set(better.where(slack, bound.get()))
            pick.set(better.where(number(c), pick.get()))

        each(roughly)
        clear = _flag(best.get() + bound.get() < other.get(), lanes) & right.get()
        least = Variable(wide.constant(INFINITY, False))

        def exactly(c: Any, held: _Grid, own: Vec, scale: Vec, under: Vec, top: Vec) -> None:
            total = Variable(wide.constant(0.0, False))
            scale = scale.intrinsic("fabs") if mirrored else scale
            with b.loop(block) as loop:
                x = b.kept(laid, builder.add(begin, loop.index))
                value = held.values(_scaled(x, own, multiply)).as_lanes(wide) * scale
                value = _over(value, under) * top
                _add_error(total, value - (_magnitude(x) if mirrored else x).as_lanes(wide), error)
            better = total.get() < least.get()
            least.set(better.where(total.get(), least.get()))
            pick.set(better.where(number(c), pick.get()))

        lowest = lanes.call(f"llvm.vector.reduce.umin.v{b.count}i32", WORD, [clear.value])
        with builder.if_then(builder.icmp_signed("==", lowest, WORD(0))):
            pick.set(zero)
            each(exactly)
        b.put(chosen, BYTE, pick.get())

    return _program(f"candidates {tuple(kind), error, multiply, special}", 11 + SPACED, build)


def best_candidates(
    laid: Array,
    block: int,
    amax: Array,
    rows: Array,
    factors: Array,
    weights: Array,
    above: Array,
    divisor: float,
    multiply: bool,
    g: Grids,
    error: int,
    chosen: Array,
    first: int,
    stop: int,
) -> None:
    """Fill ``chosen`` with the candidate of the least error, the first of several.

    Args:
        laid: finite values, side by side.
        block: elements of a block.
        amax: float32 per block, the largest magnitude.
        rows: (C, 5) int64 of each candidate: its row of scales, its grid, whether a scale times the
            tensor's is exact (else a value is over ``divisor`` in between), the first candidate
            that is the same but for a special value, and the float32 bits of that value.
        factors: (U, B) float32, what values are divided by or multiplied with.
        weights: (U, B) float64, decoded scales.
        above: float64 per block, the tensor's scale.
        divisor: what values of grids are divided by where not exact.
        multiply: whether values are multiplied.
        g: `Grids`.
        error: the error to choose by.
        chosen: uint8 per block, filled.
        first: first block.
        stop: block after the last.
    """
    sizes = np.array([block, factors.shape[1], g.width, len(rows)], dtype=np.int64)
    special = len(set(rows[:, 3])) < len(rows)
    run = _best_candidates(g.kind, error, bool(multiply), special)
    run(
        laid, amax, rows, factors, weights, above, np.array([divisor, block]), sizes, chosen,
        g.thresholds, g.values, *_spaced(g), first, stop,
    )  # fmt: skip


def _add_error(total: Variable, off: Vec, error: int) -> None:
    """Add a difference to the error of a block, or raise it to the largest."""
    if error == MSE:
        total.set(total.get() + off * off)
    elif error == MAE:
        total.set(total.get() + off.intrinsic("fabs"))
    else:
        total.set(_at_least(off.intrinsic("fabs"), total.get()))


@cache
def _errors_of_blocks(
    kind: GridKind, error: int, multiply: bool, apart: bool, searched: bool
) -> Callable[..., None]:
    laid, factor, scales, above, divisor, ratios, index, sizes, errors, grid = range(10)
    mirrored = kind.symmetric and not kind.equal

    def build(b: Blocks) -> None:
        builder, wide = b.builder, b.doubles
        block, sub, width, v, choices = (b.number(sizes, i, INDEX) for i in range(5))
        held = _Grid(b, kind, grid, [v], width)
        begin, whole = _elements(b, block), b.get(factor, FLOAT)
        scale = b.get(scales, DOUBLE)
        over, top = b.same(divisor, 0, DOUBLE), b.get(above, DOUBLE) if apart else None
        parts = builder.sdiv(block, sub)
        nothing = wide.constant(0.0, False)

        def add(total: Variable, start: Any, step: Vec, weight: Vec, by: int) -> None:
            """Add the errors of a sub-block, or raise to the largest."""
            weight = Vec(wide, weight.intrinsic("fabs").value, False) if mirrored else weight
            with b.loop(sub) as loop:
                at = builder.add(builder.add(begin, start), loop.index)
                x = b.kept(laid, at)
                value = held.values(_scaled(x, step, multiply)).as_lanes(wide) * weight
                if top is not None:
                    value = _over(value, over) * top
                _add_error(total, value - (_magnitude(x) if mirrored else x).as_lanes(wide), by)

        every = Variable(nothing)
        with b.loop(parts) as part:
            start = builder.mul(part.index, sub)

            def under(ratio: Vec, by: int, start: Any = start) -> Vec:
                total = Variable(nothing)
                step = _step(whole, ratio, multiply)
                add(total, start, step, scale * ratio.as_lanes(wide), by)
                return total.get()

            if searched:
                least = Variable(wide.constant(INFINITY, False))
                pick = Variable(b.floats.constant(0, True))
                with b.loop(choices) as loop:
                    now = under(b.same(ratios, loop.index, FLOAT), MSE)
                    better = now < least.get()
                    least.set(better.where(now, least.get()))
                    number = builder.trunc(loop.index, WORD)
                    pick.set(better.where(b.floats.splat(number, True), pick.get()))
                b.put(index, BYTE, pick.get(), parts, part.index)
                found = least.get()
                if error != MSE:
                    found = under(_lane_entries(b, ratios, FLOAT, pick.get()), error)
            else:
                own = b.get(index, BYTE, parts, part.index)
                found = under(_lane_entries(b, ratios, FLOAT, own), error)
            so_far = every.get()
            every.set(_at_least(found, so_far) if error == ABS_MAX else so_far + found)
        b.put(errors, DOUBLE, every.get())

    name = f"errors {tuple(kind), error, multiply, apart, searched}"
    return _program(name, 11 + SPACED, build)


def errors_of_blocks(
    laid: Array,
    block: int,
    sub: int,
    factor: Array,
    scales: Array,
    above: Array,
    divisor: float,
    multiply: bool,
    g: Grids,
    v: int,
    error: int,
    searched: bool,
    ratios: Array,
    index: Array,
    errors: Array,
    first: int,
    stop: int,
) -> None:
    """Fill the error of each block under one candidate, with the best of several ratios.

    Args:
        laid: finite values, side by side.
        block: elements of a block.
        sub: elements of a sub-block.
        factor: float32 per block, what values are divided by or multiplied with.
        scales: float64 per block, the decoded scale, times the tensor's where that is exact.
        above: float64 per block, the tensor's scale; empty where ``scales`` include it.
        divisor: what values are divided by.
        multiply: whether values are multiplied.
        g: `Grids`.
        v: the grid.
        error: the error that is returned.
        searched: whether ``index`` is filled, with the ratio of the least squared error, or given.
        ratios: (Q,) float32.
        index: uint8 per sub-block, filled or given.
        errors: float64 per block, filled.
        first: first block.
        stop: block after the last.
    """
    run = _errors_of_blocks(g.kind, error, bool(multiply), above.size > 0, searched)
    sizes = np.array([block, sub, g.width, v, ratios.size], dtype=np.int64)
    run(
        laid, factor, scales, above, np.array([divisor]), ratios, index, sizes, errors,
        g.thresholds, g.values, *_spaced(g), first, stop,
    )  # fmt: skip


@cache
def _fit_ratios(
    block: int, sizes: tuple[int, ...], counts: tuple[int, ...], top: int, multiply: bool
) -> Callable[..., None]:
    laid, ratios, limits, factor, tops, index, most = range(7)
    parts = block // sizes[-1]

    def build(b: Blocks) -> None:
        builder, begin = b.builder, _elements(b, INDEX(block))
        whole = _magnitude(b.get(factor, FLOAT))
        columns = b.number(most, 0, INDEX)

        def level(i: int, start: Any, so_far: Vec, here: Vec) -> None:
            size, choices = sizes[i], counts[i]
            limit = b.same(limits, i, FLOAT)
            with b.loop(INDEX((sizes[i - 1] if i else block) // size)) as part:
                at = builder.add(start, builder.mul(part.index, INDEX(size)))
                largest = Variable(b.floats.constant(0, True))
                with b.loop(INDEX(size)) as loop:
                    k = builder.add(at, loop.index)
                    bits = b.kept(laid, builder.add(begin, k)).as_bits & MAGNITUDE
                    if top:
                        group = builder.sdiv(k, INDEX(top))
                        own = b.get(tops, BYTE, INDEX(block // top), group)
                        place = builder.trunc(builder.srem(k, INDEX(top)), WORD)
                        taken = own.equals(b.floats.splat(place, True))
                        bits = taken.where(b.floats.constant(0, True), bits)
                    largest.set(_at_least(bits, largest.get()))
                scaled = _over(_scaled(largest.get().as_real, whole, multiply), so_far)
                row = builder.mul(INDEX(i), columns)
                each = [b.same(ratios, builder.add(row, INDEX(j)), FLOAT) for j in range(choices)]
                pick, own_ratio = b.floats.constant(0, True), each[0]
                for before, ratio in pairwise(each):
                    beyond = _over(scaled, before) >= limit
                    pick = pick + _flag(beyond, b.floats)
                    own_ratio = beyond.where(ratio, own_ratio)
                times = builder.mul(here.value, b.floats.constant(choices, True).value)
                now = Vec(b.floats, times, True) + pick
                if i + 1 < len(sizes):
                    level(i + 1, at, so_far * own_ratio, now)
                else:
                    b.put(index, BYTE, now, INDEX(parts), builder.sdiv(at, INDEX(size)))

        level(0, INDEX(0), b.floats.constant(1.0, False), b.floats.constant(0, True))

    return _program(f"ratios {block, sizes, counts, top, multiply}", 7, build)


def fit_ratios(
    laid: Array,
    block: int,
    sizes: Array,
    ratios: Array,
    counts: Array,
    limits: Array,
    factor: Array,
    multiply: bool,
    tops: Array,
    top: int,
    index: Array,
    first: int,
    stop: int,
) -> None:
    """Fill ``index`` with the ratio of each sub-block of the last level: the first that fits.

    Args:
        laid: finite values, side by side.
        block: elements of a block.
        sizes: elements of a sub-block of each level.
        ratios: (L, n) float32 ratios of each level.
        counts: ratios of each level.
        limits: float32, what a scaled element is below.
        factor: float32 per block.
        multiply: whether values are multiplied by it or divided.
        tops: uint8, index of the top element of each ``top`` elements, left out; empty: none.
        top: elements per top element.
        index: uint8 per sub-block of the last level, filled.
        first: first block.
        stop: block after the last.
    """
    levels = tuple(map(int, sizes)), tuple(map(int, counts))
    run = _fit_ratios(block, *levels, top if tops.size else 0, bool(multiply))
    most = np.array([ratios.shape[1]], dtype=np.int64)
    run(laid, ratios, limits, factor, tops, index, most, first, stop)


@cache
def _dialects() -> Callable[..., None]:
    laid, factor, pairs, sizes, scratch, chosen = range(6)

    def build(b: Blocks) -> None:
        builder, block, step = b.builder, b.number(sizes, 0, INDEX), b.get(factor, FLOAT)
        begin, most = _elements(b, block), Variable(b.floats.constant(0, True))
        with b.loop(block) as loop:
            x = b.kept(laid, builder.add(begin, loop.index))
            size = _magnitude(_over(x, step)) * 4.0
            size = _at_most(size, x.lanes.constant(31.0, False)).intrinsic("roundeven")
            quarters = size.truncated
            b.keep(scratch, loop.index, quarters)
            most.set(_at_least(quarters, most.get()))
        row = Vec(b.floats, builder.mul(most.get().value, b.floats.constant(3, True).value), True)
        pair, low, high = (_lane_entries(b, pairs, WORD, row + i) for i in range(3))
        inside = Variable(b.floats.constant(0, True))
        with b.loop(block) as loop:
            quarters = b.kept(scratch, loop.index, True)
            both = _flag(quarters >= low, b.floats) & _flag(quarters < high, b.floats)
            inside.set(inside.get() + both)
        half = b.floats.splat(builder.trunc(block, WORD), True)
        b.put(chosen, BYTE, (pair << 1) + _flag((inside.get() << 1) < half, b.floats))

    return _program("dialects", 6, build)


def dialects(
    laid: Array, block: int, factor: Array, pairs: Array, chosen: Array, first: int, stop: int
) -> None:
    """Fill ``chosen`` with BlockDialect's dialect of activations; see `fpsim.blocks.chosen`.

    Args:
        laid: finite values, side by side.
        block: elements of a block.
        factor: float32 per block, what values are divided by.
        pairs: (32, 3) int32 of each largest magnitude in quarters: a pair, and the quarters from
            and below which a value counts for its first dialect.
        chosen: uint8 per block, filled.
        first: first block.
        stop: block after the last.
    """
    scratch = _scratch(block)
    _dialects()(laid, factor, pairs, np.array([block]), scratch, chosen, first, stop)


# -- magnitudes ------------------------------------------------------------------------------------


@cache
def _largest_magnitudes() -> Callable[..., None]:
    def build(b: Blocks) -> None:
        largest = b.largest(0, b.number(1, 0, INDEX), lambda bits: bits & MAGNITUDE)
        b.put(2, WORD, largest)

    return _program("magnitudes", 3, build)


def largest_magnitudes(x: Array, block: int, out: Array, first: int, stop: int) -> None:
    """Fill ``out`` with the float32 bits of the largest magnitude of each block.

    Infinities and NaN give bits from those of infinity on.

    Args:
        x: values.
        block: elements of a block.
        out: int32 per block, filled.
        first: first block.
        stop: block after the last.
    """
    _largest_magnitudes()(x, np.array([block]), out, first, stop)


@cache
def _spans() -> Callable[..., None]:
    def build(b: Blocks) -> None:
        block = b.number(1, 0, INDEX)

        def key(bits: Vec) -> Vec:
            return bits ^ (_negative(bits) & MAGNITUDE)

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


def _first_largest(
    b: Blocks, laid: int, start: Any, count: Any, code: Callable[[Any], Vec] | None = None
) -> tuple[Vec, Vec]:
    """Return the index of the first largest magnitude of some elements, and its bits or code.

    ``code`` gives what is compared at an index instead; it is at least 0.
    """
    builder, lanes = b.builder, b.floats
    best, place = Variable(lanes.constant(-1, True)), Variable(lanes.constant(0, True))
    held = Variable(lanes.constant(0, True))
    with b.loop(count) as loop:
        at = builder.add(start, loop.index)
        bits = b.kept(laid, at).as_bits if code is None else code(at)
        size = bits & MAGNITUDE
        better = size > best.get()
        best.set(better.where(size, best.get()))
        held.set(better.where(bits, held.get()))
        index = lanes.splat(builder.trunc(loop.index, WORD), True)
        place.set(better.where(index, place.get()))
    return place.get(), held.get()


@cache
def _signs() -> Callable[..., None]:
    x, sizes, scratch, out = range(4)

    def build(b: Blocks) -> None:
        block, zero = b.number(sizes, 0, INDEX), b.floats.constant(0, True)
        minus, plus = (b.floats.constant(sign, False) for sign in (-1.0, 1.0))
        low, high = (
            b.largest(x, block, lambda bits, side=side: _of_sign(bits, side, zero))  # type: ignore[misc]
            for side in (True, False)
        )
        b.put(out, FLOAT, (low > high).where(minus, plus))
        # -0 is no negative number.
        both = _flag(low.equals(high), b.floats) & _flag(low > 0, b.floats)
        some = b.floats.call(f"llvm.vector.reduce.umax.v{b.count}i32", WORD, [both.value])
        with b.builder.if_then(b.builder.icmp_signed("!=", some, WORD(0))):
            b.lay_out(x, block, scratch)
            _, bits = _first_largest(b, scratch, INDEX(0), block)
            b.put(out, FLOAT, (bits.as_real < 0.0).where(minus, plus))

    return _program("signs", 4, build)


def _of_sign(bits: Vec, negative: bool, zero: Vec) -> Vec:
    """Return magnitude bits of numbers of a sign, 0 of others."""
    below, size = bits < 0, bits & MAGNITUDE
    return below.where(size, zero) if negative else below.where(zero, size)


def signs(x: Array, block: int, out: Array, first: int, stop: int) -> None:
    """Fill ``out`` with -1 where the first largest magnitude of a block is negative, else with 1.

    Args:
        x: finite values.
        block: elements of a block.
        out: float32 per block, filled.
        first: first block.
        stop: block after the last.
    """
    _signs()(x, np.array([block]), _scratch(block), out, first, stop)


# -- top elements ----------------------------------------------------------------------------------


@cache
def _top_indices(block: int, top: int) -> Callable[..., None]:
    def build(b: Blocks) -> None:
        builder, begin = b.builder, _elements(b, INDEX(block))
        none = b.get(1, INDEX).equals(0)
        with b.loop(INDEX(block // top)) as loop:
            start = builder.add(begin, builder.mul(loop.index, INDEX(top)))
            place, _ = _first_largest(b, 0, start, INDEX(top))
            place = none.where(b.floats.constant(top, True), place)
            b.put(2, BYTE, place, INDEX(block // top), loop.index)

    return _program(f"tops {block, top}", 3, build)


def top_indices(
    laid: Array, top: int, block: int, scales: Array, out: Array, first: int, stop: int
) -> None:
    """Fill ``out`` with the index of the first largest magnitude of each ``top`` elements.

    Args:
        laid: finite values, side by side.
        top: elements per top element.
        block: elements of a block.
        scales: int64 scale code per block; under code 0 the index is ``top``, none.
        out: uint8 per ``top`` elements, filled.
        first: first block.
        stop: block after the last.
    """
    _top_indices(block, top)(laid, scales, out, first, stop)


def _code_place(b: Blocks, codes: int, block: int, lane: int, at: Any) -> Any:
    """Return the address of a lane's code at an index of its block."""
    builder = b.builder
    start = builder.mul(b.block(lane), INDEX(block))
    return builder.gep(b.pointer(codes, BYTE), [builder.add(start, at)])


@cache
def _store_tops(block: int, top: int, multiply: bool) -> Callable[..., None]:
    laid, factor, tops, ends, codes = range(5)

    def build(b: Blocks) -> None:
        builder, begin, step = b.builder, _elements(b, INDEX(block)), b.get(factor, FLOAT)
        base, distance, sign = (b.same(ends, i, DOUBLE) for i in range(3))
        zero = b.doubles.constant(0.0, False)
        with b.loop(INDEX(block // top)) as loop:
            places = b.get(tops, BYTE, INDEX(block // top), loop.index)
            start = builder.mul(loop.index, INDEX(top))
            x = ir.Constant(b.floats.real_type, ir.Undefined)
            at = []
            for lane in range(b.count):
                place = builder.extract_element(places.value, WORD(lane))
                at.append(builder.add(start, builder.zext(place, INDEX)))
                inside = builder.icmp_signed("<", place, WORD(top))
                own = builder.add(begin, builder.select(inside, at[-1], start))
                column = b.kept(laid, own).value
                entry = builder.extract_element(column, WORD(lane))
                x = builder.insert_element(x, entry, WORD(lane))
            y = _scaled(Vec(b.floats, x, False), step, multiply)
            steps = _over(_magnitude(y).as_lanes(b.doubles) - base, distance)
            steps = _at_most(_at_least(steps.intrinsic("roundeven"), zero), sign - 1.0)
            negative = y.as_bits < 0
            steps = (steps + negative.where(sign, zero)).value
            code = Vec(b.floats, builder.fptosi(steps, b.floats.integer_type), True)
            for lane in range(b.count):
                place = builder.extract_element(places.value, WORD(lane))
                with builder.if_then(builder.icmp_signed("<", place, WORD(top))):
                    byte = builder.trunc(builder.extract_element(code.value, WORD(lane)), BYTE)
                    builder.store(byte, _code_place(b, codes, block, lane, at[lane]))

    return _program(f"stored tops {block, top, multiply}", 5, build)


def store_tops(
    laid: Array,
    top: int,
    block: int,
    factor: Array,
    multiply: bool,
    tops: Array,
    base: float,
    step: float,
    sign_code: int,
    codes: Array,
    first: int,
    stop: int,
) -> None:
    """Write the codes of stored top elements.

    Args:
        laid: finite values, side by side.
        top: elements per top element.
        block: elements of a block.
        factor: float32 per block.
        multiply: whether values are multiplied by it or divided.
        tops: uint8, index of each top element; ``top``: none.
        base: smallest magnitude.
        step: distance of magnitudes.
        sign_code: weight of the sign in a code.
        codes: uint8 per element, changed.
        first: first block.
        stop: block after the last.
    """
    ends = np.array([base, step, sign_code], dtype=np.float64)
    _store_tops(block, top, bool(multiply))(laid, factor, tops, ends, codes, first, stop)


@cache
def _refine_tops(
    block: int, top: int, multiply: bool, finer: int, low: int, high: int, sign_code: int
) -> Callable[..., None]:
    laid, factor, keys, codes, tops, size = range(6)

    def build(b: Blocks) -> None:
        builder, begin, step = b.builder, _elements(b, INDEX(block)), b.get(factor, FLOAT)
        lanes, count = b.floats, b.same(size, 0, WORD)
        zero = lanes.constant(0, True)
        with b.loop(INDEX(block // top)) as loop:
            start = builder.mul(loop.index, INDEX(top))

            def code(at: Any, begin: Any = begin) -> Vec:
                own = b.get(codes, BYTE, INDEX(block), builder.sub(at, begin))
                return own & (sign_code - 1)

            place, base = _first_largest(b, laid, builder.add(begin, start), INDEX(top), code)
            x = Variable(lanes.constant(0.0, False))
            with b.loop(INDEX(top)) as inner:
                k = lanes.splat(builder.trunc(inner.index, WORD), True)
                at = builder.add(builder.add(begin, start), inner.index)
                x.set(place.equals(k).where(b.kept(laid, at), x.get()))
            key = _scaled(x.get(), step, multiply).as_bits & MAGNITUDE
            first = Vec(lanes, builder.mul(base.value, lanes.constant(finer, True).value), True)
            offset = zero
            for o in range(low + 1, high + 1):
                # The nearest finer code is at least that of the offset.
                at = first + (o - 1)
                inside = (at >= zero) & (at < count)
                threshold = _lane_entries(b, keys, WORD, inside.where(at, zero))
                reached = _flag(key >= threshold, lanes) & _flag(inside, lanes)
                offset = offset + (reached | _flag(at < 0, lanes))
            b.put(tops, BYTE, offset, INDEX(block // top), loop.index)

    return _program(f"refined tops {block, top, multiply, finer, low, high, sign_code}", 6, build)


def refine_tops(
    laid: Array,
    top: int,
    block: int,
    factor: Array,
    multiply: bool,
    keys: Array,
    finer: int,
    low: int,
    high: int,
    sign_code: int,
    codes: Array,
    tops: Array,
    first: int,
    stop: int,
) -> None:
    """Fill ``tops`` with the index of the offset that refines the first largest code.

    Args:
        laid: finite values, side by side.
        top: elements per top element.
        block: elements of a block.
        factor: float32 per block.
        multiply: whether values are multiplied by it or divided.
        keys: int32 thresholds of the finer format's magnitudes.
        finer: its codes per code of the element.
        low: least offset.
        high: greatest offset.
        sign_code: weight of the sign in a code.
        codes: uint8 per element.
        tops: uint8, filled.
        first: first block.
        stop: block after the last.
    """
    run = _refine_tops(block, top, bool(multiply), finer, low, high, sign_code)
    size = np.array([keys.size], dtype=np.int32)
    run(laid, factor, keys, codes, tops, size, first, stop)


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
            y = _over(b.kept(scratch, loop.index), step) + zero
            if even:
                y = y.intrinsic("roundeven")
            y = _at_most(_at_least(y, least), most)
            whole = y.truncated
            if not even:
                rest = y - whole.signed_reals
                up, down = (_flag(r >= 0.5, b.floats) for r in (rest, _minus(rest)))
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
        mask: of a code.
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
    nearest, even, plus, minus, odd = mode[:5]
    most, mask = (1 << (width - 1)) - 1, (1 << width) - 1

    def build(b: Blocks) -> None:
        builder, lanes = b.builder, b.floats
        block = b.number(sizes, 0, INDEX)
        scale, limit = b.same(reals, 0, DOUBLE), b.same(reals, 1, DOUBLE)
        zero, one = lanes.constant(0, True), lanes.constant(1, True)
        b.lay_out(x, block, scratch)
        union = Variable(zero)
        with b.loop(block) as loop:
            y = _over(b.kept(scratch, loop.index).as_lanes(b.doubles), scale)
            y = _at_least(_at_most(y.intrinsic("roundeven"), limit), _minus(limit))
            base = Vec(lanes, builder.fptosi(y.value, lanes.integer_type), True)
            b.keep(scratch, loop.index, base)
            union.set(union.get() | _size(base))
        own, flag = union.get(), ir.Constant(ir.IntType(1), 0)
        name = f"llvm.ctlz.v{b.count}i32"
        leading = Vec(lanes, lanes.call(name, lanes.integer_type, [own.value, flag]), True)
        shift = _at_least(lanes.constant(32 - (width - 1), True) - leading, zero)
        b.put(dropped, INDEX, Vec(lanes, builder.zext(shift.value, b.doubles.integer_type), True))
        power = one << shift
        below, half, exact = power - 1, power >> 1, _flag(shift.equals(0), lanes)
        with b.loop(block) as loop:
            base = b.kept(scratch, loop.index, True)
            size, negative = _size(base), base < 0
            add = zero
            if nearest:
                add = half - ((one - ((size >> shift) & 1)) & (one - exact)) if even else half
            if plus or minus:
                away = negative.where(*(below if on else zero for on in (minus, plus)))
                add = add + away
            kept = (size + add) >> shift
            if odd:
                kept = kept | _flag((size & below).differs(0), lanes)
            kept = _at_most(kept, lanes.constant(most, True))
            b.keep(scratch, loop.index, negative.where(zero - kept, kept) & mask)
        if bits == 8:
            b.hand_out(scratch, block, codes)
        else:
            with b.loop(block) as loop:
                code = b.kept(scratch, loop.index, True)
                b.put(codes, ir.IntType(bits), code, block, loop.index)

    return _program(f"razor {mode, width, bits}", 6, build)


def _size(integers: Vec) -> Vec:
    return (integers < 0).where(integers.lanes.constant(0, True) - integers, integers)


def _minus(x: Vec) -> Vec:
    return x.lanes.constant(0.0, False) - x


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
        scale: what values are divided by, in float64, before they are rounded to even.
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
            size = _over(own.as_lanes(b.doubles) * limit, largest).intrinsic("fabs")
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
    """Fill codes of x L / amax, worked out in float64, on a symmetric grid of eight magnitudes.

    Args:
        x: finite values.
        block: elements of a block.
        limit: L.
        amax: float64 per block, above 0.
        t: (7,) float64 thresholds of magnitudes.
        r: (8,) int32 codes, as `Grids` has them.
        codes: uint8 like ``x``, filled.
        first: first block.
        stop: block after the last.
    """
    reals = np.array([limit, *t], dtype=np.float64)
    run = _real_blocks()
    run(x, reals, np.array([block]), amax, r, _scratch(block), codes, first, stop)
