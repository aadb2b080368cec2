# SPDX-License-Identifier: Apache-2.0
"""From the fields of a block format to its grids and to the wide codes that a unit sees."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.blocks.grids import (
    MAX_WIDE_BITS,
    Codebook,
    Fit,
    Table,
    Top,
    Variant,
    fixed_format,
    make_grid,
    special_code,
)
from fpsim.formats.floating import FixedFormat, FloatFormat, Format

if TYPE_CHECKING:
    from fpsim.blocks.block_format import BlockFormat

__all__ = ["Meaning", "all_variants", "has_row_tables", "meaning", "stored_grids", "top_values"]


class Meaning(NamedTuple):
    """The grids of a format, one per variant, and how their codes become wide codes.

    ``ratios`` are the products of one ratio of each level, the last level's changing fastest.
    """

    grids: tuple[Codebook, ...]
    limits: tuple[float, ...]  #: value that the largest magnitude maps to, per variant
    ratios: tuple[Fraction, ...]
    wide: Format
    divisor: int  #: D
    wide_codes: NDArray[Any]  #: (variants, ratios, storage codes)
    decoded: NDArray[np.float64]  #: their values W, with signed zeros
    wide_tops: NDArray[Any]  #: (top codes,) or (codes, offsets), without sign
    keys: NDArray[np.int32]  #: (variants, n - 1), padded
    sizes: NDArray[np.int64]
    values: NDArray[np.float64]  #: (variants, n): W
    codes: NDArray[np.uint8]  #: (variants, n): storage code of each index


def has_row_tables(fmt: BlockFormat) -> bool:
    """Return whether each row of a matrix has a table of its own: grid i is then row i's."""
    return isinstance(fmt.element, Table) and fmt.element.rows > 1


def stored_grids(fmt: BlockFormat) -> int:
    """Return how many grids a block chooses from and stores the number of."""
    return 1 if has_row_tables(fmt) else len(all_variants(fmt))


def all_variants(fmt: BlockFormat) -> tuple[Variant, ...]:
    """Return the grids a block chooses from: the element with each special value, then others.

    Where rows have tables of their own, nothing is chosen, and the grids are the rows' tables.
    """
    factor = Fraction(fmt.factor)
    if isinstance(fmt.element, Table) and fmt.element.rows > 1:
        return tuple(Variant(table, factor, None, fmt.target) for table in fmt.element.tables)
    specials: tuple[float | None, ...] = fmt.special or (None,)
    base = [Variant(fmt.element, factor, special, fmt.target) for special in specials]
    return (*base, *fmt.variants)


def top_values(top: Top, element: Any) -> list[list[Fraction]]:
    """Return magnitudes: (1, codes) of a stored top element, (codes, offsets) of a refined one."""
    count = 1 << (element.bits - 1)
    if top.is_stored:
        step = Fraction(top.step)
        return [[Fraction(top.base) + step * i for i in range(count)]]
    wide = top.element
    assert wide is not None
    finer = 1 << (wide.mantissa_bits - element.mantissa_bits)
    codes = np.array([[finer * i + o for o in top.offsets] for i in range(count)])
    values = wide.decode(np.clip(codes, 0, wide.max_code))
    return [[Fraction(v) for v in row] for row in values.tolist()]


@lru_cache(maxsize=256)
def meaning(fmt: BlockFormat) -> Meaning:
    """Return the grids and wide codes of a format.

    Raises:
        FpsimError: values that no wide format of up to 19 bits holds.
    """
    variants = all_variants(fmt)
    grids = tuple(make_grid(v, fmt.ties, str(fmt.rounding)) for v in variants)
    ratios = tuple(
        math.prod(choice, start=Fraction(1))
        for choice in product(*([Fraction(r) for r in level.ratios] for level in fmt.levels))
    )
    stretch = math.prod(max(lv.ratios) for lv in fmt.levels if lv.by is Fit.MAX)
    limits = tuple(
        variant.target or grid.limit * stretch
        for variant, grid in zip(variants, grids, strict=True)
    )
    numbers = [v * r for grid in grids for v in grid.values for r in ratios]
    tops = [] if fmt.top is None else top_values(fmt.top, fmt.element)
    numbers += [v for row in tops for v in row]
    divisor = math.lcm(*(_odd(v.denominator) for v in numbers))
    wide = _wide(fmt, variants, [v * divisor for v in numbers], divisor)
    longest = max(len(grid.values) for grid in grids)
    keys = np.full((len(grids), longest - 1), np.iinfo(np.int32).max, dtype=np.int32)
    values = np.zeros((len(grids), longest))
    codes = np.zeros((len(grids), longest), dtype=np.uint8)
    decoded = np.zeros((len(grids), len(ratios), 1 << fmt.element.bits))
    for v, grid in enumerate(grids):
        n = len(grid.values)
        keys[v, : n - 1] = grid.keys
        values[v, :n] = [float(x * divisor) for x in grid.values]
        codes[v, :n] = grid.codes
        every, negative_zero = _every_code(variants[v])
        for q, ratio in enumerate(ratios):
            row = [float(x * ratio * divisor) for x in every]
            decoded[v, q] = np.where(negative_zero, -0.0, row)
    wide_codes = wide.encode(decoded, "rne", "saturate")
    wide_tops = np.zeros((0, 0), dtype=wide.dtype)
    if tops:
        exact = np.array([[float(v * divisor) for v in row] for row in tops])
        wide_tops = wide.encode(exact, "rne", "saturate")
    sizes = np.array([len(grid.values) for grid in grids])
    return Meaning(
        grids,
        limits,
        ratios,
        wide,
        divisor,
        wide_codes,
        decoded,
        wide_tops,
        keys,
        sizes,
        values,
        codes,
    )


def _odd(n: int) -> int:
    return n // (n & -n)


def _every_code(variant: Variant) -> tuple[list[Fraction], NDArray[np.bool_]]:
    """Return the value of every storage code (NaN as 0) and which are -0."""
    element = variant.element
    held = element.decode(np.arange(1 << element.bits))
    held = np.where(np.isfinite(held), held, 0.0)
    values = [Fraction(v) * variant.factor for v in held.tolist()]
    negative_zero = np.signbit(held) & (held == 0)
    if variant.special is not None:
        at = special_code(element)
        values[at] = Fraction(variant.special)
        negative_zero[at] = False
    return values, negative_zero


def _wide(
    fmt: BlockFormat, variants: tuple[Variant, ...], numbers: list[Fraction], divisor: int
) -> Format:
    """Return the format of wide codes: the elements' own where it is enough."""
    first = fmt.element
    own = first.wide_format if isinstance(first, Table) else first
    kinds = {v.element.wide_format if isinstance(v.element, Table) else v.element for v in variants}
    scaled = any(v.factor != 1 for v in variants) and not _only_divided(fmt, divisor)
    if len(kinds) == 1 and not (fmt.levels or fmt.top or scaled) and _holds(own, numbers):
        return own
    found = fixed_format(numbers)
    if found is None:
        special = [v.special for v in variants if v.special is not None]
        what = f"special: {special} and" if special else "element:"
        raise FpsimError(
            f"{what} the values of {fmt.name} need more than the {MAX_WIDE_BITS} bits of a wide "
            "fixed-point format"
        )
    return found


def _only_divided(fmt: BlockFormat, divisor: int) -> bool:
    """Return whether the factor is 1 / D, which leaves the element's own values."""
    return not fmt.variants and Fraction(fmt.factor) * divisor == 1


def _holds(wide: Format, numbers: list[Fraction]) -> bool:
    exact = np.array([float(v) for v in numbers])
    back = wide.decode(wide.encode(exact, "rne", "saturate"))
    return bool((back == exact).all()) and isinstance(wide, FloatFormat | FixedFormat)
