# SPDX-License-Identifier: Apache-2.0
"""Meanings of a block's codes: tables, variants, levels, top elements, and the wide format.

A block's storage codes and metadata mean numbers ``W``: of the grid that the block chose, times the
ratio of the element's sub-block, or of the wider code of its top element. All of them lie on one
wide format, so that a unit sees only codes of it and one scale per block:

    x^ = W s s_t / D

``D`` is 1 but for factors with an odd denominator, such as IF4's 6/7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FixedFormat, FloatFormat, Format, NanCodes
from fpsim.formats.inputs import check_codes

__all__ = [
    "MAX_WIDE_BITS",
    "Codebook",
    "Fit",
    "Level",
    "Macro",
    "Table",
    "Ties",
    "Top",
    "Variant",
]

#: Most bits of an element that units multiply.
MAX_WIDE_BITS = 19
TABLE_CODES = 16


class Ties(StrEnum):
    """The neighbour that a value exactly between two of a grid goes to."""

    EVEN = "even"  #: to the even code
    AWAY = "away"  #: away from zero
    ZERO = "zero"  #: toward zero: the first index of a search from zero on, as in ggml
    UP = "up"  #: to the larger value: comparisons ``x >= midpoint``
    DOWN = "down"  #: to the smaller value: comparisons ``x > midpoint``


@dataclass(frozen=True)
class Table:
    """An element whose 16 codes mean arbitrary numbers, one list for all rows or one for each.

    Args:
        values: the number of each code, in the order of codes. ``-0.0`` next to ``0.0`` makes zeros
            keep their sign. Of two codes with one value, encoding gives the first. With several
            ``rows``: the 16 numbers of the first row, then those of the next.
        wide: the format that holds the values for a unit. Each value is rounded to it once, to
            nearest even, and means the rounded number from there on. None: exact fixed point if up
            to 19 bits hold the values, else float16.
        rows: of a matrix that has a table for each of its rows, their number; 1: one table for all.

    Raises:
        FpsimError: not 16 finite numbers per row, or a wide format that is too wide or too small
            for them.
    """

    values: tuple[float, ...]
    wide: Format | None = None
    rows: int = 1

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "values", tuple(float(v) for v in self.values))
        except OverflowError:
            raise FpsimError("table: a value is beyond float64") from None
        if not isinstance(self.rows, int) or self.rows < 1:
            raise FpsimError(f"table: rows: {self.rows!r} is not a positive integer")
        if len(self.values) != TABLE_CODES * self.rows:
            each = "" if self.rows == 1 else f" in each of {self.rows} rows"
            raise FpsimError(f"table: {len(self.values)} values; 16 are needed, one per code{each}")
        for at, value in enumerate(self.values):
            if not math.isfinite(value):
                row, code = divmod(at, TABLE_CODES)
                where = f"code {code}" + f" of row {row}" * (self.rows > 1)
                raise FpsimError(f"table: value {value} of {where} is not a finite number")
        if not any(self.values):
            raise FpsimError("table: every value is zero")
        if self.rows > 1:
            _ = self.tables  # made once, and so checked, each by itself
        wide = self.wide
        if wide is None:
            return
        if wide.bits > MAX_WIDE_BITS:
            raise FpsimError(f"wide: {wide.name} has {wide.bits} bits; allowed: {MAX_WIDE_BITS}")
        held = _held(wide, self.values)
        top = max(abs(v) for v in self.values)
        if max(abs(v) for v in held.tolist()) * 2 < top or wide.max_value < top / 1.01:
            raise FpsimError(f"wide: {wide.name} does not hold {top:g}, the largest of the table")
        if min(self.values) < 0 and not wide.signed:
            raise FpsimError(f"wide: {wide.name} has no sign for {min(self.values):g} of the table")

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """The table of each row, all in one wide format."""
        return (self,) if self.rows == 1 else tuple(map(self._of_row, range(self.rows)))

    def _of_row(self, row: int) -> Table:
        start = row * TABLE_CODES
        try:
            return Table(self.values[start : start + TABLE_CODES], self.wide_format)
        except FpsimError as error:
            raise FpsimError(f"row {row}: {error}") from None

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return 4

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of codes, uint8."""
        return np.dtype(np.uint8)

    @property
    def name(self) -> str:
        """The name in messages and lists; a table has no name that could be read back."""
        return "table"

    @cached_property
    def held(self) -> NDArray[np.float64]:
        """The numbers that the codes mean, ``values`` in the wide format: 16 per row."""
        wide, given = self.wide_format, np.array(self.values)
        held = _held(wide, self.values)
        # Fixed point has no -0, but a zero of the table may have a sign.
        return np.where(held == 0, np.copysign(0.0, given), held)

    @cached_property
    def wide_format(self) -> Format:
        """The format that holds the values: ``wide``, or fixed point or float16 if that is None."""
        if self.wide is not None:
            return self.wide
        exact = fixed_format([Fraction(v) for v in self.values])
        return exact or FloatFormat(5, 10, 15, nan=NanCodes.IEEE, infinity=True)

    @property
    def is_rounded(self) -> bool:
        """Whether the wide format holds other numbers than ``values``."""
        return bool((self.held != np.array(self.values)).any())

    @property
    def max_value(self) -> float:
        """Largest magnitude of a value."""
        return float(np.abs(self.held).max())

    def decode(self, codes: Any) -> NDArray[np.float64]:
        """Return the values of codes (any shape).

        Raises:
            FpsimError: not codes of 4 bits, or a table per row, whose codes need one.
        """
        if self.rows > 1:
            raise FpsimError(f"table: there is one for each of {self.rows} rows; see `tables`")
        return np.asarray(self.held[check_codes(codes, self, "codes")])


Element = Format | Table


@cache
def _magnitudes(wide: FloatFormat) -> NDArray[np.float64]:
    """Return the magnitudes of a format's codes, ascending."""
    return wide.decode(np.arange(wide.max_code + 1, dtype=wide.dtype))


def _held(wide: Format, values: tuple[float, ...]) -> NDArray[np.float64]:
    """Return numbers rounded to nearest even and saturated, without the compiler: they are few."""
    if isinstance(wide, FixedFormat):
        return wide.decode(wide.encode(np.array(values), "rne", "saturate"))
    magnitudes = _magnitudes(wide)
    held = []
    for value in values:
        above = min(int(np.searchsorted(magnitudes, abs(value))), magnitudes.size - 1)
        ends = [max(above - 1, 0), above]
        far = [abs(Fraction(abs(value)) - Fraction(magnitudes[code])) for code in ends]
        nearest = ends[1] if far[1] < far[0] or (far[1] == far[0] and ends[1] % 2 == 0) else ends[0]
        held.append(math.copysign(magnitudes[nearest], value))
    return np.array(held)


@dataclass(frozen=True)
class Variant:
    """A grid that a block may choose instead of its format's element.

    Args:
        element: a format or a `Table`, with as many bits as the format's element.
        factor: multiplies the values: a number or text such as ``"6/7"``.
        special: value that the code of -0 has instead of zero; None: none.
        target: value that the largest magnitude of a block maps to; 0: the grid's largest.
    """

    element: Element
    factor: Fraction = Fraction(1)
    special: float | None = None
    target: float = 0.0


class Fit(StrEnum):
    """How a sub-block gets its ratio."""

    MAX = "max"  #: the smallest under which its largest |x| / (s ratio) is below ``limit``
    MSE = "mse"  #: the one with the least squared error; the first of several


@dataclass(frozen=True)
class Level:
    """Ratios on the block's scale, one for each of its sub-blocks.

    Args:
        block: elements of a sub-block; it divides the block and the level before.
        ratios: factors on the scale, ascending.
        by: a `Fit`.
        limit: for ``max``: the bound on a scaled element.
    """

    block: int
    ratios: tuple[float, ...]
    by: Fit = Fit.MAX
    limit: float = 0.0

    @property
    def bits(self) -> int:
        """Bits that number the ratios."""
        return (len(self.ratios) - 1).bit_length()


@dataclass(frozen=True)
class Top:
    """One element per (sub-)block with a wider code.

    With ``step``: the element of largest magnitude, the first of several; its index is stored, and
    its storage code means a sign and ``base + step * i``, ``i`` to nearest even. A block whose
    scale code is 0 has none, since its largest element may be smaller than ``base``.

    With ``offsets``: the element of largest magnitude after rounding, the first of several, which
    a decoder finds by itself. Its magnitude is that of code ``2^n i + offset`` of ``element``:
    ``i`` is its storage code and n counts the mantissa bits that ``element`` has more; the nearest,
    clamped to the offsets.

    Args:
        block: elements per top element.
        base: smallest magnitude of the top element.
        step: distance of its magnitudes.
        element: format of refined top elements.
        offsets: consecutive integers that the metadata choose from.
        reserved: bits that are stored besides and mean nothing.
    """

    block: int
    base: float = 0.0
    step: float = 0.0
    element: FloatFormat | None = None
    offsets: tuple[int, ...] = ()
    reserved: int = 0

    @property
    def is_stored(self) -> bool:
        """Whether the index of the top element is stored."""
        return not self.offsets

    @property
    def bits(self) -> int:
        """Bits of metadata per top element: its index, or its offset, and reserved ones."""
        count = self.block if self.is_stored else len(self.offsets)
        return (count - 1).bit_length() + self.reserved


@dataclass(frozen=True)
class Macro:
    """A significand ``1 + m / 2^bits`` shared by several blocks; its exponent is dropped.

    The significand of (largest magnitude / target), rounded to nearest even and at most the largest
    below 2; 1 for zeros. It multiplies the scales of its blocks.
    """

    block: int
    bits: int = 8
    target: float = 1.5


class Codebook(NamedTuple):
    """The values of storage codes, ascending: ``codes[i]`` means ``values[i]``.

    ``keys`` (n - 1) decides between neighbours: a float32 y has index ``sum(key(y) >= keys)``;
    ``key`` maps float32 to int32 in the order of the reals, -0 below +0.
    """

    codes: NDArray[np.uint8]
    values: tuple[Fraction, ...]
    keys: NDArray[np.int32]
    limit: float


def key_of(y: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return an int32 for each float32, in the order of the reals, with -0 below +0."""
    bits = y.view(np.int32)
    return np.asarray(bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF)))


def make_grid(variant: Variant, ties: Ties | None, rounding: str) -> Codebook:
    """Return the values of a variant's codes with the thresholds between them.

    Args:
        variant: the grid.
        ties: where ties go; None: by ``rounding``.
        rounding: ``rne`` or ``rna``.

    Returns:
        The grid, without NaN and infinities; of equal codes only the first.
    """
    element = variant.element
    wide = np.arange(1 << element.bits)
    held = element.decode(wide)
    usable = np.isfinite(held)
    if isinstance(element, FixedFormat) and element.symmetric:
        usable[1 << (element.width - 1)] = False
    values = held.copy()
    if variant.special is not None:
        values[special_code(element)] = variant.special / float(variant.factor)
    order = np.lexsort((wide, ~np.signbit(values), values))
    order = order[usable[order]]
    same = np.zeros(order.size, dtype=bool)
    same[1:] = (values[order][1:] == values[order][:-1]) & (
        np.signbit(values[order][1:]) == np.signbit(values[order][:-1])
    )
    order = order[~same]
    ascending = values[order]
    special = np.zeros(order.size, dtype=bool)
    if variant.special is not None:
        special = order == special_code(element)
    up = _ties_up(ascending, order, special, ties, rounding)
    exact = tuple(Fraction(v) * variant.factor for v in ascending.tolist())
    if variant.special is not None:
        exact = tuple(
            Fraction(variant.special) if s else e for s, e in zip(special, exact, strict=True)
        )
    keys = _keys(ascending, up, np.float32(1 / variant.factor))
    limit = variant.target or float(max(abs(v) for v in exact))
    return Codebook(order.astype(np.uint8), exact, keys, limit)


def special_code(element: Element) -> int:
    """Return the code of -0: of a table the second code of zero."""
    if isinstance(element, FloatFormat):
        return element.sign_bit
    if isinstance(element, Table):
        zeros = [code for code, value in enumerate(element.values) if value == 0]
        return zeros[1] if len(zeros) > 1 else -1
    return -1


def _ties_up(
    values: NDArray[np.float64],
    codes: NDArray[np.int64],
    special: NDArray[np.bool_],
    ties: Ties | None,
    rounding: str,
) -> NDArray[np.bool_]:
    """Return whether a tie between each value and the next goes to the next."""
    rule = ties or (Ties.EVEN if rounding == "rne" else Ties.AWAY)
    low, high = values[:-1], values[1:]
    positive = low + high > 0
    if rule is Ties.EVEN:
        up = codes[1:] % 2 == 0
    elif rule is Ties.AWAY:
        up = positive | (low + high == 0)
    elif rule is Ties.ZERO:
        up = ~positive
    else:
        up = np.full(low.shape, rule is Ties.UP)
    if ties is None:  # a special value wins its ties
        up = np.where(special[1:], True, np.where(special[:-1], False, up))
    return np.where((low == 0) & (high == 0), True, up)


def _keys(
    values: NDArray[np.float64], up: NDArray[np.bool_], back: np.float32
) -> NDArray[np.int32]:
    """Return the smallest key of each neighbour above: of y with fl(y back) past the midpoint."""
    middle = (values[:-1] + values[1:]) / 2
    zeros = (values[:-1] == 0) & (values[1:] == 0)
    low = np.full(middle.shape, -(1 << 31), dtype=np.int64)
    high = np.full(middle.shape, key_of(np.array([np.inf], np.float32))[0], dtype=np.int64)
    while (low < high).any():
        at = (low + high) >> 1
        bits = at.astype(np.int32)
        y = np.asarray(bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)
        with np.errstate(all="ignore"):
            scaled = np.float64(1) * (y * back)
        past = (scaled > middle) | ((scaled == middle) & up)
        past = np.where(zeros, at >= 0, past) & ~np.isnan(scaled)
        # NaN keys lie at both ends; those below are below every number.
        high = np.where(past, at, high)
        low = np.where(past, low, at + 1)
    return low.astype(np.int32)


def fixed_format(values: list[Fraction], most: int = MAX_WIDE_BITS) -> FixedFormat | None:
    """Return the narrowest signed fixed-point format of all values; None beyond ``most`` bits."""
    lsb = 64
    for value in values:
        if value:
            bits = value.denominator.bit_length() - 1
            if value.denominator != 1 << bits:
                return None
            numerator = value.numerator
            lsb = min(lsb, ((numerator & -numerator).bit_length() - 1) - bits)
    top = max((abs(v) for v in values), default=Fraction(0)) / Fraction(2) ** lsb
    width = max(int(top).bit_length() + 1, 2)
    return FixedFormat(width, lsb, symmetric=True) if width <= most and abs(lsb) <= 64 else None
