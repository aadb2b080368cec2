# SPDX-License-Identifier: Apache-2.0
"""The cast of one block of float32, step by step: scales, grids, choices, ratios, top elements.

The functions write the code of one block, in which a lane stands for each of several blocks
(`fpsim.kernels.llvm.side_by_side`); `fpsim.blocks.cast_loops` makes programs of it. Settings that
change the code are named tuples, and numbers are read at run time.

A grid is a list of thresholds on the bits of a float32 (`Grid`); a value becomes the entry of the
last threshold that it reaches.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

from llvmlite import ir

from fpsim.kernels.llvm.side_by_side import INDEX, TABLE, WORD, Blocks, Variable
from fpsim.kernels.llvm.vector import DOUBLE, FLOAT, Vec

MSE, MAE, ABS_MAX = range(3)
DIVIDE, RECIPROCAL, RATIO, BF16 = range(4)
MAGNITUDE = 0x7FFFFFFF
INFINITY = float("inf")
FRACTION = (1 << 52) - 1
#: Thresholds of grids that are compared one after another without a loop.
UNROLLED = (7, 15)

__all__ = [
    "ABS_MAX",
    "BF16",
    "DIVIDE",
    "GRID_ARRAYS",
    "INFINITY",
    "MAE",
    "MAGNITUDE",
    "MSE",
    "RATIO",
    "RECIPROCAL",
    "UNROLLED",
    "BlockScale",
    "Grid",
    "GridKind",
    "ScaleInputs",
    "ScaleKind",
    "ScaleNumbers",
    "SubBlocks",
    "TopElements",
    "Tops",
    "at_least",
    "at_most",
    "dialects",
    "first_largest",
    "fit_ratios",
    "flag",
    "key",
    "magnitude",
    "minus",
    "over",
    "scale_of",
    "scaled",
    "sign_of_largest",
    "span_of",
    "step_under",
]


# -- numbers ---------------------------------------------------------------------------------------


def at_least(x: Vec, least: Vec) -> Vec:
    """Return the larger, ``least`` where x is NaN."""
    return (x > least).where(x, least)


def at_most(x: Vec, most: Vec) -> Vec:
    """Return the smaller, ``most`` where x is NaN."""
    return (x < most).where(x, most)


def flag(mask: Vec, lanes: Any) -> Vec:
    """Return a mask as integers 0 and 1 of some lanes."""
    return mask.where(lanes.constant(1, True), lanes.constant(0, True))


def over(x: Vec, divisor: Vec) -> Vec:
    """Return the quotient of floats."""
    return Vec(x.lanes, x.lanes.builder.fdiv(x.value, divisor.value), False)


def minus(x: Vec) -> Vec:
    """Return 0 - x."""
    return x.lanes.constant(0.0, False) - x


def magnitude(x: Vec) -> Vec:
    """Return |x| of float32."""
    return (x.as_bits & MAGNITUDE).as_real


def key(bits: Vec) -> Vec:
    """Return the int32 of float32 bits that is ordered as the reals, with -0 below +0."""
    negative = bits.floor_shifted(bits.lanes.constant(31, True))
    return bits ^ (negative & MAGNITUDE)


def scaled(x: Vec, step: Vec, multiply: bool) -> Vec:
    """Return values under a scale.

    Args:
        x: the values.
        step: the scale, or its reciprocal.
        multiply: whether values are multiplied by ``step``; else they are divided by it.

    Returns:
        The quotients or products.
    """
    return x * step if multiply else over(x, step)


def step_under(factor: Vec, ratio: Vec, multiply: bool) -> Vec:
    """Return the factor or divisor of values whose scale is multiplied by a ratio.

    Args:
        factor: of the scale alone: its reciprocal where values are multiplied, else the scale.
        ratio: of the scales under it.
        multiply: whether values are multiplied by the result; else they are divided by it.

    Returns:
        The factor or divisor; a divisor that underflows is infinite, so that values become zero.
    """
    if multiply:
        return over(factor, ratio)
    step = factor * ratio
    # A divisor that underflowed flushes like a scale that underflowed.
    return step.equals(0.0).where(step.lanes.constant(INFINITY, False), step)


def _bfloat16(x: Vec) -> Vec:
    bits = x.as_bits
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000).as_real


def _times(x: Vec, factor: int) -> Vec:
    lanes = x.lanes
    return Vec(lanes, lanes.builder.mul(x.value, lanes.constant(factor, True).value), True)


# -- scales ----------------------------------------------------------------------------------------


class ScaleNumbers(NamedTuple):
    """How scales follow from largest magnitudes; `fpsim.blocks.scale_rules` has the equations."""

    power: bool  #: powers of two, from exponents
    arithmetic: int
    floor: float  #: scales are at least this
    zero_code: int  #: replaces code 0; -1: code 0 stays
    mantissa_bits: int
    exponent_min: int
    has_zero: bool
    max_code: int
    even: bool  #: ties go to even codes, else away from zero
    ggml: bool

    @property
    def kind(self) -> ScaleKind:
        """The settings that the code of a program depends on."""
        if self.power:
            return ScaleKind(True, DIVIDE, False, False, False, False, False)
        m, low = self.mantissa_bits, self.exponent_min
        highest = (self.max_code >> m) + low
        return ScaleKind(
            False,
            self.arithmetic,
            self.zero_code >= 0,
            self.has_zero,
            self.even,
            self.ggml,
            self.even and m <= 20 and low - m >= -120 and highest <= 120,
        )


class ScaleKind(NamedTuple):
    """The settings that the code of scales depends on."""

    power: bool
    arithmetic: int
    zero_one: bool
    has_zero: bool
    even: bool
    ggml: bool
    narrow: bool  #: float32 holds every scale and each step of rounding to one


class ScaleInputs(NamedTuple):
    """The numbers of scales, a lane for each block; reals are float32, integers int64."""

    exponent: Vec  #: code of a largest magnitude in [1, 2), of powers of two
    bump: Vec  #: fraction bits of a float64 from which a power of two doubles
    limit: Vec  #: L
    expansion: Vec  #: c
    floor: Vec
    most: Vec
    mantissa_bits: Vec
    exponent_min: Vec
    zero_code: Vec
    above: Vec  #: the tensor scale
    ratio: Vec  #: e of the arithmetic `RATIO`


class BlockScale(NamedTuple):
    """The scale of each block."""

    code: Vec  #: int64
    decoded: Vec  #: float64
    factor: Vec  #: float32, divides or multiplies values


def scale_of(b: Blocks, kind: ScaleKind, amax: Vec, n: ScaleInputs) -> BlockScale:
    """Return the scales that follow from largest magnitudes.

    Args:
        b: the blocks.
        kind: settings of the code.
        amax: largest magnitudes, float32.
        n: numbers of the scales.

    Returns:
        The scale of each block.
    """
    return _power(b, amax, n) if kind.power else _float_scale(b, kind, amax, n)


def _power(b: Blocks, amax: Vec, n: ScaleInputs) -> BlockScale:
    wide, zero = b.doubles, b.doubles.constant(0, True)
    amax = amax.as_lanes(wide)
    bits = amax.as_bits
    code = (bits >> 52) - 1023 + n.exponent + flag((bits & FRACTION) >= n.bump, wide)
    code = at_most(at_least(code, zero), n.most)
    code = (amax > 0.0).where(code, zero)
    decoded = ((code + n.exponent_min + 1023) << 52).as_real
    factor = decoded.as_lanes(b.floats)
    return BlockScale(code, decoded, _flushed(factor, factor > 0.0, INFINITY))


def _flushed(factor: Vec, good: Vec, flush: float) -> Vec:
    return good.where(factor, factor.lanes.constant(flush, False))


def _raw_scale(b: Blocks, arithmetic: int, amax: Vec, n: ScaleInputs) -> Vec:
    one = b.floats.constant(1.0, False)
    if arithmetic == RATIO:
        scale = over(amax, n.limit) * n.ratio
    elif arithmetic == RECIPROCAL:
        scale = over(over(amax, n.limit), n.above)
    elif arithmetic == BF16:
        scale = _bfloat16(amax * _bfloat16(over(one, n.limit)))
    else:
        scale = over(amax, n.limit * n.above)
    scale = at_least(scale * n.expansion, b.floats.constant(0.0, False))  # NaN is 0 / 0, 0 * inf
    return at_least(scale, n.floor)


def _float_scale(b: Blocks, kind: ScaleKind, amax: Vec, n: ScaleInputs) -> BlockScale:
    wide = b.floats if kind.narrow else b.doubles
    digits, bias = (23, 127) if kind.narrow else (52, 1023)
    floats, has_zero = b.floats, kind.has_zero
    most, m, low, zero_code = (
        n.as_integers(wide) for n in (n.most, n.mantissa_bits, n.exponent_min, n.zero_code)
    )
    one, shift = wide.constant(1, True), wide.constant(digits, True) - m
    value = _raw_scale(b, kind.arithmetic, amax, n).as_lanes(wide)
    half = one << (shift - 1)
    bits = value.as_bits - ((low + (bias - has_zero)) << digits)
    to = half - (one - ((bits >> shift) & 1)) if kind.even else half
    code = (bits + to) >> shift
    smallest = ((low + bias) << digits).as_real
    # 2^digits + x is x rounded to a whole number, to even; only small x are affected.
    start = wide.constant(2.0**digits, False)
    end = wide.constant(2.0 ** (digits - 1), False)
    steps = at_most(value * ((m - low + bias) << digits).as_real, end)
    steps = steps if kind.even else (steps + 0.5).intrinsic("floor")
    under = (steps + start).as_bits - start.as_bits
    normal = value >= smallest
    code = at_most(normal.where(code, under if has_zero else wide.constant(0, True)), most)
    if kind.ggml:
        row = one << m
        carried = (smallest > value).where(code, wide.constant(0, True)).equals(row)
        code = carried.where(row - 1, code)
        code = (code >= ((most >> m) << m)).where(most, code)
    if kind.zero_one:
        code = code.equals(0).where(zero_code, code)
    field, fraction = code >> m, code & ((one << m) - 1)
    decoded = (((field + low + (bias - has_zero)) << digits) | (fraction << shift)).as_real
    if has_zero:
        lowest = ((low - m + bias) << digits).as_real
        whole = (code + start.as_bits).as_real - start
        decoded = field.equals(0).where(whole * lowest, decoded)
    narrow, unit = decoded.as_lanes(floats), floats.constant(1.0, False)
    if kind.arithmetic == RECIPROCAL:
        factor = over(over(unit, n.above), narrow)
    elif kind.arithmetic == RATIO:
        factor = over(unit, n.above * narrow)
    elif kind.arithmetic == BF16:
        factor = _bfloat16(over(unit, narrow))
    else:
        factor = narrow * n.above
    finite = (factor > 0.0).where(factor, floats.constant(INFINITY, False)) < INFINITY
    flush = INFINITY if kind.arithmetic == DIVIDE else 0.0
    code, decoded = code.as_integers(b.doubles), decoded.as_lanes(b.doubles)
    return BlockScale(code, decoded, _flushed(factor, finite, flush))


# -- grids -----------------------------------------------------------------------------------------


class GridKind(NamedTuple):
    """The settings that the code of grids depends on."""

    symmetric: bool
    equal: bool
    unrolled: int  #: thresholds that are compared without a loop, or 0
    searched: bool  #: one list of thresholds, halved again and again
    special: bool
    alike: bool  #: all grids have the thresholds of the first
    entries: int  #: 1 grid; `TABLE`: at most so many, in rows of so many; 0: more


#: Arrays of grids: thresholds, values, codes, `SPACED`, ties, special values, `ROUNDS`.
GRID_ARRAYS = 11
(_THRESHOLDS, _VALUES, _CODES, _STEPS, _WEIGHTS, _BACKS, _HIGHEST, _LOWEST, _TIES, _SPECIALS,
 _ROUNDS) = range(GRID_ARRAYS)  # fmt: skip


class Grid:
    """One grid for every block, or one for each: thresholds, values and codes of elements.

    Args:
        b: the blocks.
        kind: settings of the code.
        arrays: number of the first of `GRID_ARRAYS` arrays.
        v: the number of the grid, an int64 scalar, or of each block's grid, int32 lanes.
        width: thresholds of a grid.
        per: grids that an array has room for.
        codes: whether codes are wanted, else values.
    """

    def __init__(
        self, b: Blocks, kind: GridKind, arrays: int, v: Any, width: Any, per: Any, codes: bool
    ) -> None:
        self._b, self._kind, self._at, self._v, self._per = b, kind, arrays, v, per
        self._width, self._codes = width, codes
        if kind.searched:
            self._search()
        else:
            count = kind.unrolled
            self._thresholds = [self._threshold(INDEX(j)) for j in range(count)]
            self._outcomes = [self._outcome(INDEX(j)) for j in range(count + 1)] if count else []
        if kind.special:
            self._first, self._span, self._special, self._special_code = (
                self._entry(_SPECIALS, WORD, j) for j in range(4)
            )
        if kind.equal:
            numbers = (FLOAT, FLOAT, FLOAT, WORD, WORD)
            steps, self.weight, self._back, self._highest, self._lowest = (
                self._entry(_STEPS + i, number, 0) for i, number in enumerate(numbers)
            )
            self._inverse = over(b.floats.constant(1.0, False), steps)
            self._ties = [b.same(arrays + _TIES, i, WORD) for i in range(3)]

    @property
    def base_mirrored(self) -> bool:
        """Whether `base_values` are magnitudes."""
        return self._kind.symmetric and not self._kind.equal

    @property
    def mirrored(self) -> bool:
        """Whether `values` are magnitudes."""
        return self.base_mirrored and not self._kind.special

    def _entry(self, array: int, kind: Any, row: Any) -> Vec:
        """Return each lane's number in a row of an array with numbers of each grid."""
        b, builder = self._b, self._b.builder
        row = INDEX(row) if isinstance(row, int) else row
        base = array in (_THRESHOLDS, _VALUES, _CODES)
        if base and self._kind.alike:
            return b.same(self._at + array, row, kind)
        start = builder.mul(row, self._per)
        if isinstance(self._v, Vec):
            return b.looked_up(self._at + array, kind, start, self._v, self._kind.entries)
        return b.same(self._at + array, builder.add(start, self._v), kind)

    def _threshold(self, j: Any) -> Vec:
        return self._entry(_THRESHOLDS, WORD, j)

    def _outcome(self, j: Any) -> Vec:
        return self._entry(_CODES if self._codes else _VALUES, WORD, j)

    def _search(self) -> None:
        b = self._b
        self._levels = 4 if self._kind.unrolled == 15 else 3
        # Node k of a tree has the children 2 k and 2 k + 1; an index is how many nodes lie left.
        orders = {3: [0, 3, 1, 5, 0, 2, 4, 6], 4: [0, 7, 3, 11, 1, 5, 9, 13, *range(0, 16, 2)]}
        order = orders[self._levels]
        # x reaches a threshold where the number below it, less x, has the sign of negative numbers.
        infinite = b.floats.constant(INFINITY, False).as_bits
        parts = self._ordered(_THRESHOLDS, order)
        self._tree = [key(at_most(part - 1, infinite)) for part in parts]
        outcomes = _CODES if self._codes else _VALUES
        self._table = self._ordered(outcomes, list(range(1 << self._levels)))

    def _ordered(self, array: int, order: list[int]) -> list[Vec]:
        """Return numbers of an array in an order, again and again if they are few."""
        b, n = self._b, self._b.count
        own = b.table(self._at + array, WORD, INDEX(0))
        found, order = [], order * max(n // len(order), 1)
        for first in range(0, len(order), n):
            places = ir.Constant(ir.VectorType(WORD, n), order[first : first + n])
            pair = own[0].value, own[-1].value
            found.append(Vec(b.floats, b.builder.shuffle_vector(*pair, places), True))
        return found

    @property
    def most(self) -> Vec:
        """The largest magnitude of a value."""
        if self._kind.equal:
            return at_least(self._highest, self._lowest).signed_reals * self.weight
        ends = (self._outcome(INDEX(0)), self._outcome(self._width))
        return at_least(*(magnitude(end.as_real) for end in ends))

    def special(self, v: Any) -> Vec:
        """Return the special value of a grid by its number."""
        at = self._b.builder.add(self._b.builder.mul(INDEX(2), self._per), v)
        return self._b.same(self._at + _SPECIALS, at, FLOAT)

    def pick(self, y: Vec) -> Vec:
        """Return the outcome of the last threshold that each y has reached."""
        lanes = y.lanes
        if self._kind.searched:
            own = magnitude(y) if self._kind.symmetric else y
            node = lanes.constant(1, True)
            for level in range(self._levels):
                # The nodes of the last of four levels may have a register of their own.
                part = self._tree[-1 if level == 3 else 0]
                below = part.permuted(node).as_real
                node = node.followed_by((below - own).as_bits, 1)
            return self._b.of_table(self._table, node)
        key = self._key(y)
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
        odd, plus, down = self._ties
        own = y * self._back
        size = magnitude(own) * self._inverse
        size = at_most(size, y.lanes.constant(float(1 << 20), False))
        whole = size.truncated
        rest = size - whole.signed_reals
        negative = own < 0.0
        tie = (whole & odd) | negative.where(down, plus)
        lanes = y.lanes
        up = flag(rest > 0.5, lanes) | (flag(rest.equals(0.5), lanes) & tie)
        most = negative.where(self._lowest, self._highest)
        whole = at_most(whole + up, most)
        return negative.where(lanes.constant(0, True) - whole, whole)

    def _key(self, y: Vec) -> Vec:
        return y.as_bits & MAGNITUDE if self._kind.symmetric else key(y.as_bits)

    def _is_special(self, y: Vec) -> Vec:
        from_first = y.as_bits - self._first
        inside = self._b.builder.icmp_unsigned("<", from_first.value, self._span.value)
        return Vec(y.lanes, inside, True)

    def base_values(self, y: Vec) -> Vec:
        """Return the values that y becomes, no special one; magnitudes, if `base_mirrored`."""
        if self._kind.equal:
            return self.steps(y).signed_reals * self.weight
        return self.pick(y).as_real

    def values(self, y: Vec) -> Vec:
        """Return the values that y becomes; magnitudes, if the grid is `mirrored`."""
        found = self.base_values(y)
        if not self._kind.special:
            return found
        bits = found.as_bits | y.sign_bits if self.base_mirrored else found.as_bits
        return self._is_special(y).where(self._special, bits).as_real

    def changed(self, change: Callable[[Vec], Vec]) -> Callable[[Vec], Vec]:
        """Return the function from y to its changed value.

        Of `mirrored` grids ``change`` gets magnitudes. If there are few values, each is changed
        once for all elements.
        """
        if not self._kind.unrolled or self._kind.special:
            return lambda y: change(self.values(y))
        count = self._kind.unrolled
        thresholds = [self._threshold(INDEX(j)) for j in range(count)]
        outcomes = [change(self._outcome(INDEX(j)).as_real) for j in range(count + 1)]

        def pick(y: Vec) -> Vec:
            own, found = self._key(y), outcomes[0]
            for threshold, outcome in zip(thresholds, outcomes[1:], strict=True):
                found = (own >= threshold).where(outcome, found)
            return found

        return pick

    def codes(self, y: Vec, spaced: tuple[Vec, Vec, Vec]) -> Vec:
        """Return the codes of y; of equally spaced grids ``spaced`` has base, down and mask."""
        negative, lanes = y.as_bits < 0, y.lanes
        if self._kind.equal:
            base, down, mask = spaced
            steps = self.steps(y)
            size = (steps < 0).where(lanes.constant(0, True) - steps, steps)
            below = Vec(lanes, lanes.builder.mul(down.value, size.value), True) + base
            return negative.where(below, size) & mask
        code = self.pick(y)
        if self._kind.symmetric:
            code = negative.where(code >> 8, code)
        return self._is_special(y).where(self._special_code, code) if self._kind.special else code

    @property
    def rounds(self) -> Rounds:
        """How the values, special ones apart, follow from the exponent, of float formats."""
        lowest, shift, most = (self._entry(_ROUNDS, WORD, i) for i in range(3))
        return Rounds(lowest, shift, most, *(self._entry(_ROUNDS, FLOAT, i) for i in (3, 4)))


class Rounds(NamedTuple):
    """A float grid: the values of a format times a factor. The first three are int32.

    Integers compare as positive floats do, on more units of a processor.
    """

    lowest: Vec  #: bits of the power of two from which spacing grows
    shift: Vec  #: added to the bits of a power of two, multiplies it by 1.5 2^(23 - mantissa bits)
    most: Vec  #: bits of the largest value
    back: Vec  #: 1 / factor
    factor: Vec

    def nearest(self, times: list[Vec]) -> Callable[[Vec], list[Vec]]:
        """Return the function to nearest values of magnitudes over the factor.

        It returns one value for each of ``times``, powers of two that multiply the grid's values.
        Of two values as near, either is returned.
        """
        starts = [((self.lowest + self.shift).as_real * own).as_bits for own in times]
        ends = [self.most.as_real * own for own in times]

        def values(y: Vec) -> list[Vec]:
            power = (y.as_bits & y.lanes.exponent_mask) + self.shift
            found = []
            for start, end in zip(starts, ends, strict=True):
                whole = at_least(power, start).as_real
                found.append(at_most((y + whole) - whole, end))
            return found

        return values


# -- what a block is like --------------------------------------------------------------------------


def span_of(b: Blocks, laid: int, block: Any) -> tuple[Vec, Vec]:
    """Return the largest and smallest value of each block, 0 among them.

    Args:
        b: the blocks.
        laid: array of the elements side by side.
        block: elements of a block.

    Returns:
        The largest and the smallest values.
    """
    zero = b.floats.constant(0, True)
    high, low = Variable(zero), Variable(zero)
    with b.loop(block) as loop:
        own = key(b.kept(laid, loop.index).as_bits)
        high.set(at_least(own, high.get()))
        # The smallest key, of -0 at most, is the complement of the largest complement.
        low.set(at_least(~own, low.get()))
    return high.get().as_real, (~low.get() ^ MAGNITUDE).as_real


def sign_of_largest(b: Blocks, laid: int, block: Any) -> Vec:
    """Return the sign of each block's largest magnitude, the first of several.

    Args:
        b: the blocks.
        laid: array of the elements side by side.
        block: elements of a block.

    Returns:
        -1 where it is negative, else 1.
    """
    zero, one = b.floats.constant(0, True), b.floats.constant(1.0, False)
    plus, down = Variable(zero), Variable(zero)
    with b.loop(block) as loop:
        bits = b.kept(laid, loop.index).as_bits
        plus.set(at_least(bits, plus.get()))
        down.set(at_least(bits ^ (1 << 31), down.get()))
    low, high = down.get(), plus.get()
    found = Variable((low > high).where(minus(one), one))
    # -0 is no negative number.
    both = flag(low.equals(high), b.floats) & flag(low > 0, b.floats)
    with b.if_any(both):
        _, bits = first_largest(b, laid, INDEX(0), block)
        found.set((bits.as_real < 0.0).where(minus(one), one))
    return found.get()


def first_largest(
    b: Blocks, laid: int, start: Any, count: Any, code: Callable[[Any], Vec] | None = None
) -> tuple[Vec, Vec]:
    """Find the largest magnitude among some elements of each block, the first of several.

    Args:
        b: the blocks.
        laid: array of the elements side by side.
        start: place of the first element.
        count: how many elements.
        code: if given, returns for a place the int32 numbers that are compared by their low 31 bits
            instead of float32 magnitudes.

    Returns:
        Its index, counted from ``start``, and its bits or number.
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


def dialects(b: Blocks, laid: int, block: Any, step: Vec, pairs: int, scratch: int) -> Vec:
    """Return BlockDialect's dialect of activations (rule: `fpsim.blocks.cast_plan`, ``_pairs``).

    Args:
        b: the blocks.
        laid: array of the elements side by side.
        block: elements of a block.
        step: divides values.
        pairs: array (32, 3) for each largest magnitude in quarters: a pair, and the quarters from
            and below which a value counts for its first dialect.
        scratch: array with room for the elements of the blocks.

    Returns:
        The number of each block's dialect: twice the pair, plus 1 for its second.
    """
    builder, most = b.builder, Variable(b.floats.constant(0, True))
    with b.loop(block) as loop:
        size = magnitude(over(b.kept(laid, loop.index), step)) * 4.0
        size = at_most(size, b.floats.constant(31.0, False)).intrinsic("roundeven")
        quarters = size.truncated
        b.keep(scratch, loop.index, quarters)
        most.set(at_least(quarters, most.get()))
    row = _times(most.get(), 3)
    pair, low, high = (b.looked_up(pairs, WORD, INDEX(i), row, 0) for i in range(3))
    inside = Variable(b.floats.constant(0, True))
    with b.loop(block) as loop:
        quarters = b.kept(scratch, loop.index, WORD)
        both = flag(quarters >= low, b.floats) & flag(quarters < high, b.floats)
        inside.set(inside.get() + both)
    elements = b.floats.splat(builder.trunc(block, WORD), True)
    return (pair << 1) + flag((inside.get() << 1) < elements, b.floats)


# -- ratios of sub-blocks --------------------------------------------------------------------------


class SubBlocks(NamedTuple):
    """Sub-blocks: how many elements they have, and how many ratios they choose from."""

    size: int
    choices: int


def fit_ratios(
    b: Blocks,
    levels: tuple[SubBlocks, ...],
    block: int,
    laid: int,
    ratios: int,
    limits: int,
    factor: Vec,
    multiply: bool,
    top: int,
    places: int,
    index: int,
) -> None:
    """Keep the ratio of each sub-block of the last level: of every level the first that fits.

    Args:
        b: the blocks.
        levels: the levels, largest sub-blocks first.
        block: elements of a block.
        laid: array of the elements side by side.
        ratios: array of float32 ratios, `TABLE` places for each level.
        limits: array of float32, the bound on a scaled element of each level.
        factor: of the blocks.
        multiply: whether values are multiplied by it or divided.
        top: elements for each top element, which is left out, or 0.
        places: where the places of top elements are kept.
        index: where the numbers of the products of ratios are kept.
    """
    builder, whole = b.builder, magnitude(factor)

    def level(i: int, start: Any, so_far: Vec, here: Vec) -> None:
        size, choices = levels[i]
        limit = b.same(limits, i, FLOAT)
        with b.loop(INDEX((levels[i - 1].size if i else block) // size)) as part:
            at = builder.add(start, builder.mul(part.index, INDEX(size)))
            largest = Variable(b.floats.constant(0, True))
            with b.loop(INDEX(size)) as loop:
                k = builder.add(at, loop.index)
                bits = b.kept(laid, k).as_bits & MAGNITUDE
                if top:
                    own = b.kept(places, builder.sdiv(k, INDEX(top)), WORD)
                    place = builder.trunc(builder.srem(k, INDEX(top)), WORD)
                    taken = own.equals(b.floats.splat(place, True))
                    bits = taken.where(b.floats.constant(0, True), bits)
                largest.set(at_least(bits, largest.get()))
            size_under = over(scaled(largest.get().as_real, whole, multiply), so_far)
            each = [b.same(ratios, i * TABLE + j, FLOAT) for j in range(choices)]
            pick, own_ratio = b.floats.constant(0, True), each[0]
            for before, ratio in pairwise(each):
                beyond = over(size_under, before) >= limit
                pick = pick + flag(beyond, b.floats)
                own_ratio = beyond.where(ratio, own_ratio)
            now = _times(here, choices) + pick
            if i + 1 < len(levels):
                level(i + 1, at, so_far * own_ratio, now)
            else:
                b.keep(index, builder.sdiv(at, INDEX(size)), now)

    level(0, INDEX(0), b.floats.constant(1.0, False), b.floats.constant(0, True))


# -- top elements ----------------------------------------------------------------------------------


class Tops(NamedTuple):
    """Top elements: one of ``size`` elements, stored, or refined by offsets ``low`` to ``high``."""

    size: int
    stored: bool
    sign_code: int  #: weight of the sign in a code
    finer: int = 0  #: codes of the finer format for each of the element's
    low: int = 0
    high: int = 0


class TopElements(NamedTuple):
    """The top elements of a block.

    Args:
        b: the blocks.
        tops: `Tops`.
        block: elements of a block.
        laid: array of the elements side by side.
    """

    b: Blocks
    tops: Tops
    block: int
    laid: int

    @property
    def _count(self) -> Any:
        return INDEX(self.block // self.tops.size)

    def _start(self, index: Any) -> Any:
        return self.b.builder.mul(index, INDEX(self.tops.size))

    def _value(self, start: Any, place: Vec) -> Vec:
        """Return one of the values from ``start`` on: the one at ``place``."""
        b = self.b
        x = Variable(b.floats.constant(0.0, False))
        with b.loop(INDEX(self.tops.size)) as inner:
            k = b.floats.splat(b.builder.trunc(inner.index, WORD), True)
            own = b.kept(self.laid, b.builder.add(start, inner.index))
            x.set(place.equals(k).where(own, x.get()))
        return x.get()

    def keep_places(self, code: Vec, places: int) -> None:
        """Keep the place of each top element: the first largest magnitude.

        Args:
            code: scale codes; under code 0 the place is ``tops.size``, for none.
            places: array where the places are kept.
        """
        b, size = self.b, self.tops.size
        none = code.equals(0)
        with b.loop(self._count) as loop:
            place, _ = first_largest(b, self.laid, self._start(loop.index), INDEX(size))
            b.keep(places, loop.index, none.where(b.floats.constant(size, True), place))

    def store(self, step: Vec, multiply: bool, places: int, ends: int, codes: int) -> None:
        """Write the codes of stored top elements over their codes.

        Args:
            step: divides or multiplies values.
            multiply: whether values are multiplied.
            places: where the places of top elements are kept.
            ends: array of the smallest magnitude and the distance of magnitudes, float64.
            codes: where codes are kept, side by side.
        """
        b, builder = self.b, self.b.builder
        zero = b.doubles.constant(0.0, False)
        base, distance = (b.same(ends, i, DOUBLE) for i in range(2))
        sign = b.doubles.constant(float(self.tops.sign_code), False)
        with b.loop(self._count) as loop:
            place = b.kept(places, loop.index, WORD)
            start = self._start(loop.index)
            y = scaled(self._value(start, place), step, multiply)
            steps = over(magnitude(y).as_lanes(b.doubles) - base, distance)
            steps = at_most(at_least(steps.intrinsic("roundeven"), zero), sign - 1.0)
            steps = (steps + (y.as_bits < 0).where(sign, zero)).value
            code = Vec(b.floats, builder.fptosi(steps, b.floats.integer_type), True)
            with b.loop(INDEX(self.tops.size)) as inner:
                k = b.floats.splat(builder.trunc(inner.index, WORD), True)
                at = builder.add(start, inner.index)
                b.keep(codes, at, place.equals(k).where(code, b.kept(codes, at, WORD)))

    def refine(
        self, step: Vec, multiply: bool, keys: int, count: Vec, codes: int, out: int
    ) -> None:
        """Keep the number of the offset that refines the first largest code.

        Args:
            step: divides or multiplies values.
            multiply: whether values are multiplied.
            keys: array of thresholds of the finer format's magnitudes.
            count: how many there are.
            codes: where codes are kept, side by side.
            out: where the numbers of offsets are kept.
        """
        b, tops, lanes = self.b, self.tops, self.b.floats
        zero = lanes.constant(0, True)
        with b.loop(self._count) as loop:
            start = self._start(loop.index)

            def code(at: Any) -> Vec:
                return b.kept(codes, at, WORD) & (tops.sign_code - 1)

            place, base = first_largest(b, self.laid, start, INDEX(tops.size), code)
            own_key = scaled(self._value(start, place), step, multiply).as_bits & MAGNITUDE
            first, offset = _times(base, tops.finer), zero
            for o in range(tops.low + 1, tops.high + 1):
                # The nearest finer code is at least that of the offset.
                at = first + (o - 1)
                inside = (at >= zero) & (at < count)
                threshold = b.looked_up(keys, WORD, INDEX(0), inside.where(at, zero), 0)
                reached = flag(own_key >= threshold, lanes) & flag(inside, lanes)
                offset = offset + (reached | flag(at < 0, lanes))
            b.keep(out, loop.index, offset)
