# SPDX-License-Identifier: Apache-2.0
"""Directed corner classes: sequences built to reach what random operands do not.

Each class is a function that appends vectors for *this* unit. The classes follow the IBM floating-
point coverage models on the accumulator (Aharoni et al., "FPgen", HLDVT 2003: B1 special values,
B3 rounding bits, B4/B5 overflow and underflow, B10/B14 every alignment shift, B12 cancellation)
and the corner list of FP4 multiply-accumulate units in CONTRIBUTING.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import product as pairs

import numpy as np
from numpy.typing import NDArray

from fpsim.formats.floating import FixedFormat, FloatFormat
from fpsim.formats.names import E8M0
from fpsim.units.spec import MacSpec
from fpsim.vectors.corners.beats import Palette
from fpsim.vectors.corners.stochastic import word_rows
from fpsim.vectors.coverage.ibm_models import MODEL_SECTIONS, MODELS
from fpsim.vectors.coverage.search import search
from fpsim.vectors.sets.record import Shape
from fpsim.vectors.sets.stream import EXPONENT_MAX, EXPONENT_MIN, Op, Stimulus

__all__ = ["add_products", "directed"]

Codes = NDArray[np.int64]
#: Products a corner class pairs with every accumulator; all of them for 4-bit operands.
MAX_PRODUCTS = 64
#: Operand pairs that are all there: those of 8-bit operands.
MAX_PAIRS = 1 << 16


@lru_cache(maxsize=8)
def distinct_products(spec: MacSpec) -> tuple[Codes, Codes]:
    """Return one operand pair for each distinct product value, -0 apart from +0, by value.

    Wide operands have thousands: then `MAX_PRODUCTS` of them, spread evenly from end to end.
    """
    a, b, _ = Palette(Shape(spec, 1)).products
    if a.size > MAX_PRODUCTS:
        places = np.linspace(0, a.size - 1, MAX_PRODUCTS).astype(np.int64)
        a, b = a[places], b[places]
    return a, b


def add_products(spec: MacSpec, out: Stimulus) -> None:
    """Append every operand pair (of wide operands a choice), each from a cleared accumulator."""
    out.section("products")
    palette = Palette(Shape(spec, 1))
    every: Iterable[tuple[int, int]] = pairs(palette.a.tolist(), palette.b.tolist())
    if palette.a.size * palette.b.size > MAX_PAIRS:
        a_codes, b_codes, _ = palette.products
        every = zip(a_codes.tolist(), b_codes.tolist(), strict=True)
    for a, b in every:
        out.add([Op.CLEAR, Op.MAC], a=[0, a], b=[0, b])


def _loaded(out: Stimulus, c: Codes, a: Codes, b: Codes, exp: int = 0) -> None:
    """Append every (accumulator, product) pair, the accumulator loaded first."""
    for code in c.tolist():
        count = 2 * a.size
        rows = np.zeros((4, count), dtype=np.int64)
        rows[0, 0::2], rows[0, 1::2] = Op.LOAD, Op.MAC
        rows[1, 0::2] = code
        rows[2, 1::2], rows[3, 1::2] = a, b
        out.add(rows[0], a=rows[2], b=rows[3], exp=np.where(rows[0] == Op.MAC, exp, 0), c=rows[1])


def _signed(fmt: FloatFormat, magnitudes: Codes) -> Codes:
    return np.concatenate([magnitudes, magnitudes + fmt.sign_bit])


def _neighbours(fmt: FloatFormat, magnitudes: Codes, reach: int = 1) -> Codes:
    """Return the magnitude codes within ``reach`` of the given ones, finite only."""
    spread = (magnitudes[:, None] + np.arange(-reach, reach + 1)).reshape(-1)
    return np.unique(spread[(spread >= 0) & (spread <= fmt.max_code)])


# -- floating-point accumulators -----------------------------------------------------------------


def signed_zeros(spec: MacSpec, fmt: FloatFormat, out: Stimulus) -> None:
    """+-0 plus every product of a zero: which sign survives."""
    a, b = distinct_products(spec)
    zero = spec.a.decode(a) * spec.b.decode(b) == 0
    zeros = np.array([0, fmt.sign_bit] if fmt.has_negative_zero else [0], dtype=np.int64)
    _loaded(out, zeros, a[zero], b[zero])


def special_values(spec: MacSpec, fmt: FloatFormat, out: Stimulus) -> None:
    """Infinities and NaN patterns in the accumulator stay what the format says they become."""
    codes = np.arange(fmt.max_code + 1, 1 << fmt.magnitude_bits, dtype=np.int64)
    codes = codes if codes.size <= 8 else codes[[0, 1, codes.size // 2, -1]]
    a, b = distinct_products(spec)
    pick = np.unique([0, a.size // 3, a.size // 2, a.size - 1])
    _loaded(out, _signed(fmt, codes), a[pick], b[pick])


def every_shift(spec: MacSpec, fmt: FloatFormat, out: Stimulus) -> None:
    """Every alignment of product and accumulator, with even, odd, low and high significands.

    One accumulator per row and significand pattern against every distinct product: all
    combinations of sign, last bit, guard and sticky, ties among them, carries into the next row.
    """
    m = fmt.mantissa_bits
    rows = np.arange((fmt.max_code >> m) + 1, dtype=np.int64)
    patterns = np.unique([0, 1, (1 << m) // 2, (1 << m) - 2, (1 << m) - 1])
    magnitudes = rows[:, None] * (1 << m) + patterns[(patterns >= 0) & (patterns < 1 << m)]
    magnitudes = magnitudes.reshape(-1)
    a, b = distinct_products(spec)
    positive = spec.a.decode(a) * spec.b.decode(b) > 0
    negative = spec.a.decode(a) * spec.b.decode(b) < 0
    finite = magnitudes[magnitudes <= fmt.max_code]
    _loaded(out, finite, a[positive], b[positive])
    _loaded(out, finite + fmt.sign_bit, a[positive], b[positive])
    few = slice(None, None, 4)
    _loaded(out, _signed(fmt, finite), a[negative][few], b[negative][few])


def subnormal_accumulators(spec: MacSpec, fmt: FloatFormat, out: Stimulus) -> None:
    """Accumulators around the smallest subnormal and normal numbers."""
    smallest_normal = np.int64(1 << fmt.mantissa_bits)
    magnitudes = _neighbours(fmt, np.array([1, smallest_normal // 2, smallest_normal], np.int64), 2)
    a, b = distinct_products(spec)
    _loaded(out, _signed(fmt, magnitudes), a, b)


def overflow_edge(spec: MacSpec, fmt: FloatFormat, out: Stimulus) -> None:
    """Accumulators at and just below the largest value."""
    magnitudes = _neighbours(fmt, np.array([fmt.max_code], dtype=np.int64), 3)
    a, b = distinct_products(spec)
    _loaded(out, _signed(fmt, magnitudes), a, b)


def cancellation(spec: MacSpec, fmt: FloatFormat, out: Stimulus) -> None:
    """Accumulators equal to minus a product and their neighbours: every drop of the exponent."""
    a, b = distinct_products(spec)
    values = spec.a.decode(a) * spec.b.decode(b)
    for x, y, value in zip(a.tolist(), b.tolist(), values.tolist(), strict=True):
        if value == 0 or abs(value) > fmt.max_value:
            continue
        magnitude = int(fmt.encode([abs(value)], "rtz")[0])
        near = _neighbours(fmt, np.array([magnitude], dtype=np.int64), 2)
        codes = near if value < 0 else near + fmt.sign_bit
        _loaded(out, codes, np.array([x]), np.array([y]))


# -- fixed-point accumulators --------------------------------------------------------------------


def range_edges(spec: MacSpec, fmt: FixedFormat, out: Stimulus) -> None:
    """Accumulators around both ends of the range, around zero and at every power of two."""
    ends = [fmt.max_integer - i for i in range(4)] + [fmt.min_integer + i for i in range(4)]
    powers = [sign * (1 << i) for i in range(fmt.width - 1) for sign in (1, -1)]
    integers = np.array(sorted({*ends, *range(-2, 3), *powers}), dtype=object)
    codes = np.array([int(i) % (1 << fmt.width) for i in integers], dtype=np.uint64).view(np.int64)
    a, b = distinct_products(spec)
    _loaded(out, codes, a, b)


def out_and_back(spec: MacSpec, fmt: FixedFormat, out: Stimulus) -> None:
    """Across the end of the range and back: saturation per add forgets, wrapping does not."""
    a, b = distinct_products(spec)
    largest, smallest = (a[-1], b[-1]), (a[0], b[0])
    for start, first, second in (
        (fmt.max_integer - 1, largest, smallest),
        (fmt.min_integer + 1, smallest, largest),
    ):
        code = np.array([start % (1 << fmt.width)], dtype=np.uint64).view(np.int64)
        out.add(Op.LOAD, c=code)
        for x, y in (first, first, second, second, second, first):
            out.add(Op.MAC, a=x, b=y)


# -- both ----------------------------------------------------------------------------------------


def reachable(spec: MacSpec, out: Stimulus) -> None:
    """Sequences that need no LOAD: growth, swamping, alternation, order-dependent triples."""
    a, b = distinct_products(spec)
    largest, smallest = (a[-1], b[-1]), (a[0], b[0])
    values = spec.a.decode(a) * spec.b.decode(b)
    least = np.flatnonzero(values > 0)[0]
    tiny = (a[least], b[least])

    def run(*parts: tuple[tuple[np.int64, np.int64], int]) -> None:
        out.add(Op.CLEAR)
        for (x, y), count in parts:
            out.add(np.full(count, Op.MAC), a=x, b=y)

    run((largest, 2048))
    run((smallest, 2048))
    run((largest, 64), (tiny, 64), (smallest, 64))
    run((tiny, 64), (largest, 64), (tiny, 64))
    for _ in range(8):
        run((largest, 1), (smallest, 1), (tiny, 1))
    run((tiny, 1), (largest, 32), (smallest, 32))


def scaled(spec: MacSpec, out: Stimulus) -> None:
    """Exponent inputs: every product at the ends of the range and across the accumulator's rows."""
    a, b = distinct_products(spec)
    low, high = _useful_exponents(spec)
    exponents = {EXPONENT_MIN, EXPONENT_MIN + 1, -1, 1, EXPONENT_MAX - 1, EXPONENT_MAX}
    exponents |= set(np.unique(np.linspace(low, high, 24).astype(int)).tolist())
    for exp in sorted(exponents):
        for start in (0, 1):
            out.add(Op.CLEAR)
            if start:
                out.add(Op.MAC, a=a[-1], b=b[-1])
            out.add(np.full(a.size, Op.MAC), a=a, b=b, exp=exp)


def _useful_exponents(spec: MacSpec) -> tuple[int, int]:
    """Return the exponents that move products across the accumulator's range, clipped."""
    result = spec.result
    if isinstance(result, FixedFormat):
        low, high = result.lsb - 8, result.lsb + result.width + 2
    else:
        low, high = result.exponent_min - result.mantissa_bits - 8, result.exponent_max + 2
    return max(low, EXPONENT_MIN), min(high, EXPONENT_MAX)


_FLOAT: tuple[Callable[[MacSpec, FloatFormat, Stimulus], None], ...] = (
    signed_zeros,
    special_values,
    every_shift,
    subnormal_accumulators,
    overflow_edge,
    cancellation,
)
_FIXED: tuple[Callable[[MacSpec, FixedFormat, Stimulus], None], ...] = (range_edges, out_and_back)


def models(spec: MacSpec, out: Stimulus, exponents: bool) -> None:
    """A section per IBM model with what `fpsim.vectors.coverage.search` found for its bins."""
    found = search(Shape(spec, 1, int(exponents)))
    for model in MODELS:
        out.section(f"{model.lower()}-{MODEL_SECTIONS[model]}")
        for row in (f.row for f in found if f.bin.startswith(f"{model}:")):
            out.add(Op.LOAD, c=row["c"].astype(np.uint64).view(np.int64))
            exp = 0
            if exponents:
                exp = int(row["a_scale"][0]) + int(row["b_scale"][0]) - 2 * E8M0.bias
            out.add(Op.MAC, a=row["a"][0], b=row["b"][0], exp=exp)


def random_words(spec: MacSpec, out: Stimulus) -> None:
    """Random integers on both sides of the threshold (`fpsim.vectors.corners.stochastic`)."""
    rows = word_rows(Shape(spec, 1))
    beats = {name: np.repeat(rows[name].reshape(-1), 2) for name in ("a", "b", "c", "random")}
    op = np.tile([Op.LOAD, Op.MAC], rows["c"].size)
    mac = op == Op.MAC
    out.add(
        op,
        a=np.where(mac, beats["a"], 0),
        b=np.where(mac, beats["b"], 0),
        c=np.where(mac, 0, beats["c"].astype(np.uint64).view(np.int64)),
        random=np.where(mac, beats["random"], 0),
    )


def directed(spec: MacSpec, out: Stimulus, exponents: bool, load: bool) -> None:
    """Append every corner class of the unit, one section each.

    ``exponents`` adds the classes that need the exponent input; ``load`` those that need LOAD.
    """
    out.section("reachable")
    reachable(spec, out)
    if exponents:
        out.section("scaled")
        scaled(spec, out)
    if not load:
        return
    result = spec.result
    if isinstance(result, FloatFormat):
        for float_class in _FLOAT:
            out.section(float_class.__name__.replace("_", "-"))
            float_class(spec, result, out)
    else:
        for fixed_class in _FIXED:
            out.section(fixed_class.__name__.replace("_", "-"))
            fixed_class(spec, result, out)
    models(spec, out, exponents)
    if spec.random_bits:
        out.section("random-words")
        random_words(spec, out)
