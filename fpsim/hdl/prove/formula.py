# SPDX-License-Identifier: Apache-2.0
"""One step of a chain or fixed unit as a formula over bits, built from answers of the oracle.

The oracle's code runs on fractions, which no solver reads. So the formula takes from it, as tables:
every product, every decision to round up, every zero's sign, every code beyond the largest and
every special. The remainder is integer arithmetic on one grid, the finest that any operand needs:

    sum = c + a * b;   low: the code whose value is at or below |sum|, and the next one above;
    result = low, or low + 1 where the oracle rounds up for this place between the two

`grid_checks` compares the formula's decoding with the oracle's, code by code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from fpsim import oracle
from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FloatFormat, Format, Subnormals
from fpsim.formats.rounding import Overflow
from fpsim.hdl.prove.words import Algebra, Word
from fpsim.oracle import Number
from fpsim.oracle.numbers import add, fit, multiply, round_up, to_grid, two_to
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Chain, Fixed
from fpsim.units.stages.simple import OverflowAt, ProductRounding

__all__ = ["StepFormula", "grid_checks"]

#: Bits of both operands together of which the oracle is asked every product.
MAX_PAIR_BITS = 12
#: Codes of an accumulator that are compared one by one; of wider ones a part.
LISTED_BITS = 16
_ZERO = Fraction(0)


@dataclass(frozen=True)
class _Product:
    """A product as integers: the entry of a formula's table for a pair of codes."""

    negative: bool
    units: int  #: its magnitude on the grid, or, of a fixed unit, what is added
    infinite: bool = False
    nan: bool = False


class StepFormula:
    """The step of a unit: ``result = step(c, a, b)``.

    Args:
        spec: the unit: a chain of fused products, or fixed point that overflows on every add.
        algebra: computes.

    Raises:
        FpsimError: another stage, or operands of too many bits, naming the field.
    """

    def __init__(self, spec: MacSpec, algebra: Algebra) -> None:
        self.spec, self.algebra, self.stage = spec, algebra, spec.accumulate
        if spec.a.bits + spec.b.bits > MAX_PAIR_BITS:
            raise FpsimError(
                f"operands: {spec.a.bits} and {spec.b.bits} bits; the oracle is asked every "
                f"product of at most {MAX_PAIR_BITS} bits together"
            )
        plain = isinstance(self.stage, Chain) and self.stage.product is ProductRounding.FUSED
        adds = isinstance(self.stage, Fixed) and (
            self.stage.convert is None
            and not (self.stage.sums_first and self.stage.overflow_at is OverflowAt.END)
        )
        if not plain and not adds:
            raise FpsimError(
                f"accumulate.kind: {self.stage.kind!r} as in this unit has no formula; allowed: "
                "chain with fused products, fixed that overflows on every add"
            )
        if spec.random_bits:
            raise FpsimError("accumulate.rounding: 'sr' has no formula; allowed: the others")
        self._products = [
            multiply(oracle.decode(x, spec.a), oracle.decode(y, spec.b))
            for x in range(1 << spec.a.bits)
            for y in range(1 << spec.b.bits)
        ]

    def step(self, a: Word, b: Word, c: Word) -> tuple[Word, list[Word]]:
        """Return the code of one step, ``c + a * b`` rounded.

        Args:
            a: code of an operand.
            b: code of the other operand.
            c: code of the accumulator.

        Returns:
            The result's code, and bits that are all 1 for exactly one choice of the formula's free
            words.
        """
        pair = self.algebra.joined([a, b])
        if isinstance(self.stage, Fixed):
            return self._fixed(self.stage, pair, c), []
        assert isinstance(self.stage, Chain)
        return self._chain(self.stage, pair, c)

    # -- fixed point ---------------------------------------------------------------------------

    def _fixed(self, stage: Fixed, pair: Word, c: Word) -> Word:
        algebra, fmt = self.algebra, stage.initial
        added = [to_grid(product, fmt.lsb, stage.rounding) for product in self._products]
        width = max(fmt.width, max(abs(n) for n in added).bit_length() + 1) + 2
        term = self._table(pair, [n % (1 << width) for n in added], width)
        total = algebra.apply("add", [algebra.widened(c, width, signed=True), term])
        if stage.overflow is Overflow.WRAP:
            return algebra.part(total, fmt.width - 1, 0)
        low, high = (fit(sign << (width - 2), fmt, stage.overflow) for sign in (-1, 1))
        for end, beyond in ((low, "slt"), (high, "sgt")):
            bound = algebra.number(width, end)
            over = algebra.apply(beyond, [total, bound])
            total = algebra.chosen(over, bound, total)
        return algebra.part(total, fmt.width - 1, 0)

    # -- floating point ------------------------------------------------------------------------

    def _chain(self, stage: Chain, pair: Word, c: Word) -> tuple[Word, list[Word]]:
        algebra, fmt = self.algebra, stage.format
        grid = _Grid(algebra, fmt, [p.magnitude for p in self._products if p.magnitude])
        rows = [
            _Product(
                p.negative,
                0 if p.magnitude is None else int(p.magnitude / grid.unit),
                p.infinite,
                p.is_nan,
            )
            for p in self._products
        ]
        width = grid.width
        term = self._table(pair, [row.units for row in rows], width)
        p_negative, p_infinite, p_nan = (
            self._table(pair, [int(getattr(row, name)) for row in rows], 1)
            for name in ("negative", "infinite", "nan")
        )
        magnitude = algebra.part(c, fmt.magnitude_bits - 1, 0)
        c_negative = algebra.part(c, fmt.bits - 1, fmt.bits - 1)
        top = algebra.number(fmt.magnitude_bits, fmt.max_code)
        c_special = algebra.apply("ugt", [magnitude, top])
        c_infinite = Word(1, 0)
        if fmt.inf_code is not None:
            c_infinite = algebra.same(magnitude, algebra.number(fmt.magnitude_bits, fmt.inf_code))
        c_nan = algebra.apply("and", [c_special, algebra.opposite(c_infinite)])

        onto = grid.value(magnitude)
        total = algebra.apply("add", [self._with_sign(onto, c_negative),
                                      self._with_sign(term, p_negative)])  # fmt: skip
        below_zero = algebra.part(total, width - 1, width - 1)
        size = algebra.chosen(below_zero, algebra.apply("neg", [total]), total)
        zero = algebra.same(size, algebra.number(width, 0))
        negative = algebra.chosen(zero, self._zero_sign(stage, c_negative, p_negative), below_zero)
        code, chosen = self._rounded(stage, grid, size, negative)

        nan_code = self._special(Number(False, None), stage)
        either = algebra.apply("or", [c_infinite, p_infinite])
        sign = algebra.chosen(c_infinite, c_negative, p_negative)
        infinite = self._by_sign(
            sign, *(self._special(Number(n, None, infinite=True), stage) for n in (False, True))
        )
        opposed = algebra.both(
            [c_infinite, p_infinite, algebra.apply("xor", [c_negative, p_negative])]
        )
        no_number = algebra.apply("or", [algebra.apply("or", [c_nan, p_nan]), opposed])
        code = algebra.chosen(either, infinite, code)
        return algebra.chosen(no_number, nan_code, code), chosen

    def _rounded(
        self, stage: Chain, grid: _Grid, size: Word, negative: Word
    ) -> tuple[Word, list[Word]]:
        """Return the code of a magnitude with a sign, and the bits that say which code is low."""
        algebra, fmt = self.algebra, stage.format
        low, chosen = grid.floor(size)
        below, above = grid.value(low), grid.value(algebra.apply("inc", [low]))
        twice = algebra.apply("sll", [algebra.apply("sub", [size, below]),
                                      algebra.number(grid.width, 1)])  # fmt: skip
        gap = algebra.apply("sub", [above, below])
        odd = algebra.part(low, 0, 0)
        exact = algebra.same(size, below)
        places = {
            Fraction(0): exact,
            Fraction(1, 4): algebra.both(
                [algebra.opposite(exact), algebra.apply("ult", [twice, gap])]
            ),
            Fraction(1, 2): algebra.same(twice, gap),
            Fraction(3, 4): algebra.apply("ugt", [twice, gap]),
        }
        up = Word(1, 0)
        for fraction, here in places.items():
            for is_odd in (False, True):
                for below_zero in (False, True):
                    if round_up(fraction, is_odd, below_zero, stage.rounding, 0, 0):
                        case = [here, algebra.same(odd, Word(1, int(is_odd))),
                                algebra.same(negative, Word(1, int(below_zero)))]  # fmt: skip
                        up = algebra.apply("or", [up, algebra.both(case)])
        code = algebra.apply("add", [low, algebra.widened(up, low.width)])
        beyond = algebra.apply("ugt", [code, algebra.number(low.width, fmt.max_code)])
        finite = algebra.part(code, fmt.magnitude_bits - 1, 0)
        signed = algebra.joined([negative, finite])
        huge = two_to(fmt.exponent_max + 2)
        over = [self._special(Number(n, huge), stage) for n in (False, True)]
        return algebra.chosen(beyond, self._by_sign(negative, *over), signed), chosen

    def _with_sign(self, size: Word, negative: Word) -> Word:
        return self.algebra.chosen(negative, self.algebra.apply("neg", [size]), size)

    def _zero_sign(self, stage: Chain, x: Word, y: Word) -> Word:
        """Return whether a zero sum is negative, for the signs of its two addends."""
        algebra, out = self.algebra, Word(1, 0)
        for p in (False, True):
            for q in (False, True):
                if add(Number(p, _ZERO), Number(q, _ZERO), stage.rounding).negative:
                    case = [algebra.same(x, Word(1, int(p))), algebra.same(y, Word(1, int(q)))]
                    out = algebra.apply("or", [out, algebra.both(case)])
        return out

    def _by_sign(self, negative: Word, positive_code: Word, negative_code: Word) -> Word:
        return self.algebra.chosen(negative, negative_code, positive_code)

    def _special(self, number: Number, stage: Chain) -> Word:
        """Return the oracle's code; 0 if it has none, since then no operand leads there."""
        fmt = stage.format
        if number.is_nan and fmt.nan_code is None:
            return Word(fmt.bits, 0)
        assert stage.overflow is not None
        return Word(fmt.bits, oracle.encode(number, fmt, stage.rounding, stage.overflow))

    def _table(self, index: Word, entries: Sequence[int], width: int) -> Word:
        """Return the entry that an index names, as a tree of choices by its bits."""
        algebra = self.algebra
        level = [algebra.number(width, entry) for entry in entries]
        for bit in range(index.width):
            pick = algebra.part(index, bit, bit)
            level = [
                algebra.chosen(pick, odd, even)
                for even, odd in zip(level[::2], level[1::2], strict=True)
            ]
        return level[0]


class _Grid:
    """Values of a format's codes as multiples of a unit, with an exponent that does not end."""

    def __init__(self, algebra: Algebra, fmt: FloatFormat, others: Sequence[Fraction] = ()) -> None:
        if fmt.subnormals is not Subnormals.GRADUAL or not fmt.signed:
            allowed = "signed formats with gradual subnormals"
            raise FpsimError(f"accumulate.format: {fmt.name} has no formula; allowed: {allowed}")
        self.algebra, self.format = algebra, fmt
        least = two_to(fmt.exponent_min - fmt.mantissa_bits)
        self.unit = min([least, *(Fraction(1, x.denominator) for x in others)])
        self._shift = int(least / self.unit).bit_length() - 1
        most = 2 * max([two_to(fmt.exponent_max + 1), *others]) / self.unit
        self.width = int(most).bit_length() + 3
        # Codes go on beyond the format's until their value is larger than any sum.
        rows = (self.width - self._shift - fmt.mantissa_bits).bit_length() + 1
        self.code_bits = max(rows, fmt.exponent_bits + 1) + fmt.mantissa_bits
        #: The code whose value is the last that fits.
        self.end = (self.width - self._shift - fmt.mantissa_bits) << fmt.mantissa_bits

    def value(self, code: Word) -> Word:
        """Return the value of a magnitude code in units."""
        algebra, fmt = self.algebra, self.format
        man = fmt.mantissa_bits
        field = algebra.part(code, code.width - 1, man) if code.width > man else Word(1, 0)
        normal = algebra.apply("redor", [field])
        parts = [normal, algebra.part(code, man - 1, 0)] if man else [normal]
        significand = algebra.widened(algebra.joined(parts), self.width)
        wide = algebra.widened(field, max(self.width, field.width))
        row = algebra.part(wide, self.width - 1, 0)
        row = algebra.apply("sub", [row, algebra.widened(normal, self.width)])
        shift = algebra.apply("add", [row, algebra.number(self.width, self._shift)])
        return algebra.apply("sll", [significand, shift])

    def floor(self, size: Word) -> tuple[Word, list[Word]]:
        """Return the code at or below a magnitude, and the bits that make it that one."""
        algebra = self.algebra
        if size.known:
            first, past = 0, self.end
            while past - first > 1:
                middle = (first + past) // 2
                fits = self.value(Word(self.code_bits, middle)).value <= size.value
                first, past = (middle, past) if fits else (first, middle)
            return Word(self.code_bits, first), []
        low = algebra.free(self.code_bits, "low")
        # Beyond the last row a value would no longer fit.
        last = algebra.number(self.code_bits, self.end)
        return low, [
            algebra.apply("ult", [low, last]),
            algebra.apply("ulte", [self.value(low), size]),
            algebra.apply("ult", [size, self.value(algebra.apply("inc", [low]))]),
        ]


def grid_checks(spec: MacSpec, algebra: Algebra) -> Iterator[tuple[str, bool]]:
    """Compare the formula's decoding of the accumulator's codes with the oracle's.

    Codes of up to 16 bits are all compared; of wider formats every exponent with five mantissas.
    Nothing is compared for a fixed unit.

    Yields:
        A sentence on the comparison, and whether the two agree.

    Raises:
        FpsimError: a unit without formula.
    """
    stage = spec.accumulate
    if not isinstance(stage, Chain):
        return
    fmt = stage.format
    grid = _Grid(algebra, fmt)
    codes = _some_codes(fmt)
    agree = all(
        grid.value(Word(fmt.magnitude_bits, code)).value * grid.unit
        == oracle.decode(code, fmt).magnitude
        for code in codes
    )
    yield f"decoding of {fmt.name} equals the oracle's for {len(codes)} codes", agree
    values = [grid.value(Word(grid.code_bits, code)).value for code in (0, 1)]
    ends = grid.value(Word(grid.code_bits, grid.end)).value
    most = 2 * two_to(fmt.exponent_max + 1) / grid.unit
    sure = values[0] == 0 < values[1] and ends > most
    yield "every sum lies between two codes of the grid", bool(sure)


def _some_codes(fmt: Format) -> list[int]:
    assert isinstance(fmt, FloatFormat)
    if fmt.bits <= LISTED_BITS:
        return list(range(fmt.max_code + 1))
    ones = (1 << fmt.mantissa_bits) - 1
    mantissas = {0, 1, ones, ones >> 1, (ones >> 1) + 1}
    rows = range((fmt.max_code >> fmt.mantissa_bits) + 1)
    codes = {row << fmt.mantissa_bits | man for row in rows for man in mantissas}
    return sorted(code for code in codes if code <= fmt.max_code)
