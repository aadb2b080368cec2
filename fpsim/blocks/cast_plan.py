# SPDX-License-Identifier: Apache-2.0
"""From the fields of a block format to the numbers that `fpsim.blocks.cast_loops` casts with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpsim.blocks import cast_steps as steps
from fpsim.blocks.cast_choice import ChoiceKind
from fpsim.blocks.cast_loops import CastKind
from fpsim.blocks.cast_steps import GridKind, ScaleNumbers, SubBlocks, Tops
from fpsim.blocks.fields import Choice, Errors
from fpsim.blocks.grids import Codebook, Fit, Table, Ties, Variant, make_grid, special_code
from fpsim.blocks.meaning import Meaning, all_variants, has_row_tables, meaning
from fpsim.blocks.scale_rules import (
    POWER_RULES,
    RANGE_RULES,
    Arithmetic,
    ScaleEncoder,
    ScaleRule,
    ZeroScale,
)
from fpsim.formats.floating import FixedFormat, FloatFormat
from fpsim.formats.rounding import Rounding
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.side_by_side import TABLE

if TYPE_CHECKING:
    from fpsim.blocks.block_format import BlockFormat

__all__ = ["KINDS", "Plan", "Scaling", "plan_cast", "scale_parameters", "split_grids"]

#: Choices by error.
KINDS = {Choice.MSE: steps.MSE, Choice.MAE: steps.MAE, Choice.ABS_MAX: steps.ABS_MAX}
RULED = {Choice.DIALECT: "dialect", Choice.ZERO: "zero"}
ARITHMETICS = {
    Arithmetic.DIVIDE: steps.DIVIDE,
    Arithmetic.RECIPROCAL: steps.RECIPROCAL,
    Arithmetic.RATIO: steps.RATIO,
    Arithmetic.BF16: steps.BF16,
}
#: Grids of more values than this are rounded by arithmetic where their values are equally spaced.
MOST_COMPARED = 32
#: A scale times a tensor scale times 24 bits is exact in float64 up to this many bits of the scale.
MOST_FOLDED = 29
#: Mantissa bits of the float formats whose values are rounded by arithmetic.
MOST_MANTISSA = 8
#: Errors that are summed at a time.
MOST_TOGETHER = 16
NEVER = np.iinfo(np.int32).max
FLIP = np.int32(0x7FFFFFFF)

#: Exponent, bump, limit, expansion and the numbers of the scale format; `scale_parameters`.
Scaling = tuple[int, int, np.float32, np.float32, ScaleNumbers]


class Plan(NamedTuple):
    """A format as `fpsim.blocks.cast_loops` takes it; candidates are pairs (grid, expansion).

    Where rows have tables of their own, the candidates do not compete: each row has its own.
    """

    kind: CastKind  #: for one tensor scale and largest magnitudes that are not given
    fixed: dict[str, NDArray[Any]]  #: the arrays of `CastArrays` that hold numbers of the format
    grids: tuple[NDArray[Any], ...]
    scales: int  #: different scales of the candidates


@lru_cache(maxsize=256)
def plan_cast(fmt: BlockFormat) -> Plan:
    """Return how a format is cast that compiled loops take (`fpsim.blocks.chosen.fits_loops`)."""
    what = meaning(fmt)
    candidates = [(v, e) for v in range(len(what.grids)) for e in fmt.expansions]
    folded = _folded(fmt, what)
    limits = [what.limits[v] if fmt.is_coded else fmt.limit for v, _ in candidates]
    scaling = [scale_parameters(fmt, limits[c], e) for c, (_, e) in enumerate(candidates)]
    numbers = scaling[0][-1]
    # Powers of two follow from the exponent and the bump.
    used: list[Any] = [s[:2] if numbers.power else s[2:4] for s in scaling]
    different = [c for c, own in enumerate(used) if used.index(own) == c]
    rows = [different.index(used.index(own)) for own in used]
    grids, kind, width, floats = _grids(fmt, what, folded)
    by_error = fmt.choice in KINDS or _is_searched(fmt)
    families = [[c] for c in range(len(candidates))]
    if kind.special and by_error:
        families = _families(fmt, candidates, rows, folded)
    specials = len(families[0]) if kind.special else 0
    together = _is_searched(fmt) and floats and numbers.power and len(what.grids) == 1
    together &= len(candidates) * len(what.ratios) <= MOST_TOGETHER
    twins = [-1] * len(candidates)
    if floats and numbers.power and not specials:
        twins = _twins(fmt, what, candidates, scaling, folded)
    sub = SubBlocks(fmt.levels[-1].block, len(what.ratios)) if fmt.levels else None
    tops, keys = _tops(fmt)
    scale = fmt.scale
    assert scale is not None
    by = "error" if by_error else RULED.get(fmt.choice, "")  # type: ignore[arg-type]
    spaced = _equally_spaced(fmt, what) or Spaced([], [], [], 0, 0, 0)
    cast_kind = CastKind(
        scale=numbers.kind,
        scale_bits=8 * scale.dtype.itemsize,
        sign_bit=scale.sign_bit if fmt.signed_max else 0,
        ranges=fmt.rule in RANGE_RULES,
        each=False,
        given=False,
        multiply=fmt.rule not in POWER_RULES and fmt.arithmetic is not Arithmetic.DIVIDE,
        grid=kind,
        expansions=len(fmt.expansions),
        by="row" if has_row_tables(fmt) else by,
        apart=not by_error and len(set(limits)) > 1,
        choice=ChoiceKind(
            KINDS.get(fmt.choice, steps.MSE),  # type: ignore[arg-type]
            fmt.errors is Errors.FLOAT32,
            fmt.rule not in POWER_RULES and fmt.arithmetic is not Arithmetic.DIVIDE,
            what.divisor != 1,
            floats,
            specials,
            bool(specials) and floats and all(_opposite(fmt, candidates, own) for own in families),
            numbers.power and what.divisor == 1 and _powers_of_two(grids[-1][-1].view(np.float32)),
            any(twin >= 0 for twin in twins),
            len(candidates) if together else 1,
            _is_searched(fmt),
        )
        if by_error
        else ChoiceKind(0, False, False, False, False, 0, False, False, False, 1, False),
        levels=()
        if _is_searched(fmt)
        else tuple(SubBlocks(level.block, len(level.ratios)) for level in fmt.levels),
        sub=sub,
        tops=tops,
        block=fmt.block if (sub or tops) and isinstance(fmt.block, int) else 0,
    )
    listed = [(rows[c], v, folded[v]) for c, (v, _) in enumerate(candidates)]
    firsts = [[*listed[family[0]], twins[family[0]], *family] for family in families]
    full = float(np.float32(fmt.limit * fmt.tensor_range)) if fmt.tensor_range else 1.0
    level_ratios = np.ones((max(len(fmt.levels), 1), TABLE), dtype=np.float32)
    for own, level in zip(level_ratios, fmt.levels, strict=False):
        own[: len(level.ratios)] = level.ratios
    ratios = np.ones(max(TABLE, len(what.ratios)), dtype=np.float32)
    ratios[: len(what.ratios)] = [float(r) for r in what.ratios]
    ends = (fmt.top.base, fmt.top.step) if fmt.top is not None else (0.0, 1.0)
    sizes = [
        width, kind.entries or len(what.grids), len(candidates), len(candidates), spaced.base,
        spaced.down, spaced.mask, keys.size,
    ]  # fmt: skip
    fixed: dict[str, NDArray[Any]] = {
        "scaling_reals": np.array([[s[i] for s in scaling] for i in (2, 3)], dtype=np.float32),
        "scaling_integers": np.array([[s[i] for s in scaling] for i in (0, 1)], dtype=np.int64),
        "scale_floor": np.array([numbers.floor], dtype=np.float32),
        "scale_integers": np.array(
            [numbers.max_code, numbers.mantissa_bits, numbers.exponent_min, numbers.zero_code]
        ),
        "sizes": np.array([0, *sizes], dtype=np.int64),
        "choice_rows": np.array(different, dtype=np.int64),
        "choice_candidates": np.array(listed, dtype=np.int64),
        "choice_families": np.array(firsts, dtype=np.int64),
        "choice_reals": np.array([what.divisor, full], dtype=np.float64),
        "choice_sizes": np.array([len(candidates), len(families), len(different)]),
        "ratios": ratios,
        "level_ratios": level_ratios,
        "limits": np.array([level.limit for level in fmt.levels], dtype=np.float32),
        "pairs": _pairs(what) if fmt.choice is Choice.DIALECT else np.zeros(0, dtype=np.int32),
        "top_ends": np.array(ends, dtype=np.float64),
        "top_keys": keys,
    }
    return Plan(cast_kind, fixed, grids, len(different))


def _is_searched(fmt: BlockFormat) -> bool:
    return bool(fmt.levels) and fmt.levels[-1].by is Fit.MSE


def _powers_of_two(factors: NDArray[np.float32]) -> bool:
    return bool(np.isin(np.frexp(factors)[0], (0.0, 0.5)).all())


def _folded(fmt: BlockFormat, what: Meaning) -> list[bool]:
    """Return of each grid whether a value over D times a scale times a tensor scale rounds once."""
    assert fmt.scale is not None
    bits = fmt.scale.mantissa_bits + 1 + max(_significant_bits(float(r)) for r in what.ratios)
    # Of a grid whose W are multiples of D, W s / D is exact.
    whole = [all((w * what.divisor) % what.divisor == 0 for w in g.values) for g in what.grids]
    return [each and bits <= MOST_FOLDED for each in whole]


def _families(
    fmt: BlockFormat, candidates: list[tuple[int, float]], rows: list[int], folded: list[bool]
) -> list[list[int]]:
    """Return equally long lists of candidates that differ in a special value only."""
    variants, found = all_variants(fmt), dict[Any, list[int]]()
    for c, ((v, _), row) in enumerate(zip(candidates, rows, strict=True)):
        own = variants[v]
        found.setdefault((row, folded[v], own.element, own.factor), []).append(c)
    families = list(found.values())
    if len({len(family) for family in families}) > 1:
        return [[c] for c in range(len(candidates))]
    return families


def _opposite(fmt: BlockFormat, candidates: list[tuple[int, float]], family: list[int]) -> bool:
    """Return whether candidates differ in the sign of a special value."""
    values = [all_variants(fmt)[candidates[c][0]].special or 0.0 for c in family]
    return len(values) == 2 and values[0] == -values[1] != 0


def _twins(
    fmt: BlockFormat,
    what: Meaning,
    candidates: list[tuple[int, float]],
    scaling: list[Scaling],
    folded: list[bool],
) -> list[int]:
    """Return the first other candidate whose values and thresholds differ by a power of two.

    Scales differ by its inverse, unless one is at an end of its range.
    """
    halves, _ = split_grids(fmt, what)
    found = []
    for c, (v, _) in enumerate(candidates):
        found.append(-1)
        for other, (w, _) in enumerate(candidates[:c]):
            shift = scaling[other][0] - scaling[c][0]
            keys = [k + (shift << 23) if k > 0 else k - (shift << 23) for k in halves[w].keys]
            values = [value * Fraction(2) ** shift for value in halves[w].values]
            same = scaling[c][1] == scaling[other][1] and folded[v] == folded[w]
            if same and halves[v].values == values and halves[v].keys == keys:
                found[c] = other
                break
    return found


def _tops(fmt: BlockFormat) -> tuple[Tops | None, NDArray[np.int32]]:
    """Return top elements, and the thresholds of refined ones."""
    top, element = fmt.top, fmt.element
    if top is None:
        return None, np.zeros(0, dtype=np.int32)
    assert isinstance(element, FloatFormat)
    sign_code = 1 << (element.bits - 1)
    if top.element is None:
        return Tops(top.block, True, sign_code), np.zeros(0, dtype=np.int32)
    keys = make_grid(Variant(top.element), None, "rne").keys
    finer = 1 << (top.element.mantissa_bits - element.mantissa_bits)
    tops = Tops(top.block, False, sign_code, finer, top.offsets[0], top.offsets[-1])
    return tops, np.asarray(keys[keys > 0])


# -- scales ----------------------------------------------------------------------------------------


def scale_parameters(fmt: BlockFormat, limit: float, expansion: float) -> Scaling:
    """Return the numbers of a format's scale rule, for `cast_steps.scale_of`.

    Args:
        fmt: the format.
        limit: L, the element value that the largest magnitude maps to.
        expansion: a factor on the scale.

    Returns:
        Exponent, bump, limit, expansion and the numbers of the scale format.
    """
    assert fmt.scale is not None
    shift = math.frexp(expansion)[1] - math.frexp(limit)[1]
    exponent, bump = fmt.scale.bias + shift, _bump(fmt, limit)
    return exponent, bump, np.float32(limit), np.float32(expansion), _scales(fmt)


@lru_cache(maxsize=256)
def _scales(fmt: BlockFormat) -> ScaleNumbers:
    scale = fmt.scale
    assert scale is not None
    floor = 0.0
    if fmt.zero is ZeroScale.SMALLEST:
        floor = 2.0**scale.exponent_min
    elif fmt.zero is ZeroScale.LEAST:
        floor = float(scale.decode([int(scale.has_zero)])[0])
    with np.errstate(under="ignore"):
        floor = float(np.float32(floor))
    return ScaleNumbers(
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


class Half(NamedTuple):
    """A grid without its special value, or the half of it above zero, and that value's interval."""

    keys: list[int]
    values: list[Fraction]
    codes: list[int]  #: of half a grid: the code of each value plus 256 times its negative's
    low: int  #: keys from here
    high: int  #: and below here mean the special value
    special: Fraction | None
    special_code: int


def split_grids(fmt: BlockFormat, what: Meaning) -> tuple[list[Half], bool]:
    """Return the grids, and whether both halves of each are alike but for special values."""
    bases, mirrored, specials = [], [], []
    for variant, grid in zip(all_variants(fmt), what.grids, strict=True):
        base = grid
        own: tuple[int, int, Fraction | None, int] = (NEVER, NEVER, None, 0)
        if variant.special is not None:
            own, base = _without_special(fmt, variant, grid)
        bases.append(base)
        specials.append(own)
        mirrored.append(_mirrored(base))
    symmetric = all(m is not None for m in mirrored)
    halves = []
    for base, half, special in zip(bases, mirrored, specials, strict=True):
        keys = half if symmetric and half is not None else base.keys
        n = len(keys) + 1
        codes = base.codes[-n:].astype(int)
        other = base.codes[:n][::-1].astype(int) << 8 if symmetric else 0
        both = list(codes + other)
        halves.append(Half([int(k) for k in keys], list(base.values[-n:]), both, *special))
    return halves, symmetric


def _without_special(
    fmt: BlockFormat, variant: Variant, grid: Codebook
) -> tuple[tuple[int, int, Fraction | None, int], Codebook]:
    """Return where a grid has its special value, and the grid without it."""
    base = make_grid(replace(variant, special=None), fmt.ties, str(fmt.rounding))
    code = special_code(variant.element)
    zero = grid.codes[[not value for value in grid.values]]
    codes = np.where(base.codes == code, zero[:1] if zero.size else code, base.codes)
    base = base._replace(codes=codes.astype(np.uint8))
    places = np.flatnonzero(grid.codes == code)
    if not places.size:
        return (NEVER, NEVER, None, 0), base
    ends = [-NEVER - 1, *grid.keys.tolist(), NEVER]
    at = int(places[0])
    return (ends[at], ends[at + 1], grid.values[at], code), base


def _grids(
    fmt: BlockFormat, what: Meaning, folded: list[bool]
) -> tuple[tuple[NDArray[Any], ...], GridKind, int, bool]:
    """Return the arrays of grids, their kind, their thresholds, and whether `floats` are known."""
    spaced = _equally_spaced(fmt, what)
    halves, symmetric = split_grids(fmt, what)
    most = max(len(half.keys) for half in halves)
    width = next((n for n in ((7, 15) if symmetric else (15,)) if most <= n), -(-most // 4) * 4)
    count = len(halves)
    stretches = [1 if fold else what.divisor for fold in folded]
    alike = count > 1 and all(
        (half[:3], stretch) == (halves[0][:3], stretches[0])
        for half, stretch in zip(halves, stretches, strict=True)
    )
    entries = 1 if count == 1 else TABLE if count <= TABLE else 0
    room = entries or count

    def per_grid(rows: int, kind: Any, column: Callable[[int], Sequence[Any]]) -> NDArray[Any]:
        found = np.zeros((rows, room), dtype=kind)
        for v in range(count):
            found[:, v] = column(v)
        return found

    def padded(numbers: Sequence[Any], size: int, rest: Any) -> list[Any]:
        # A padded threshold is reached by NaN only, of which a block holds none.
        return [*numbers, *[rest] * (size - len(numbers))]

    def held(v: int) -> list[float]:
        values = [float(value * stretches[v]) for value in halves[v].values]
        return padded(values, rows, values[-1])

    rows = max(width + 1, TABLE)
    thresholds = per_grid(rows, np.int32, lambda v: padded(halves[v].keys, rows, NEVER))
    values = per_grid(rows, np.float32, held).view(np.int32)
    codes = per_grid(rows, np.int32, lambda v: padded(halves[v].codes, rows, halves[v].codes[-1]))
    if alike:
        thresholds, values, codes = (
            np.ascontiguousarray(a[:, :1]) for a in (thresholds, values, codes)
        )

    def special(v: int) -> list[int]:
        half = halves[v]
        value = np.float32(np.nan if half.special is None else half.special * stretches[v])
        # One sign has them all: zero is nearer to its own. Below it, keys run against bits.
        first = half.low if half.low >= 0 else half.high - 1
        assert (first < 0) == (half.low < 0)
        numbers = np.array([first, half.high - half.low], dtype=np.int64).astype(np.int32)
        numbers[0] ^= FLIP if first < 0 else 0
        return [*numbers, value.view(np.int32), half.special_code]

    variants = all_variants(fmt)
    floats = [_float_values(grid, variant) for grid, variant in zip(halves, variants, strict=True)]
    known = all(own is not None for own in floats)
    ties = fmt.ties or (Ties.EVEN if fmt.rounding is Rounding.RNE else Ties.AWAY)
    up = {Ties.EVEN: (1, 0, 0), Ties.AWAY: (0, 1, 1), Ties.UP: (0, 1, 0), Ties.DOWN: (0, 0, 1)}
    base = spaced or Spaced([1.0] * count, [1] * count, [1] * count, 0, 0, 0)

    def one(kind: Any, number: Callable[[int], Any]) -> NDArray[Any]:
        return per_grid(1, kind, lambda v: [number(v)])

    arrays = (
        thresholds,
        values,
        codes,
        one(np.float32, lambda v: base.steps[v]),
        one(np.float32, lambda v: base.steps[v] * float(variants[v].factor * stretches[v])),
        one(np.float32, lambda v: 1 / variants[v].factor),
        one(np.int32, lambda v: base.highest[v]),
        one(np.int32, lambda v: base.lowest[v]),
        np.array(up.get(ties, (0, 0, 0)), dtype=np.int32),
        per_grid(4, np.int32, special),
        per_grid(5, np.float32, lambda v: floats[v] or [0.0] * 5).view(np.int32),
    )
    unrolled = width if width in steps.UNROLLED and spaced is None else 0
    kind = GridKind(
        symmetric=symmetric,
        equal=spaced is not None,
        unrolled=unrolled,
        searched=unrolled > 0 and (count == 1 or alike) and Machine.host().word_shuffles,
        special=any(half.special is not None for half in halves),
        alike=alike,
        entries=entries,
    )
    return arrays, kind, width, known


def _float_values(half: Half, variant: Variant) -> list[float] | None:
    """Return `cast_steps.Rounds` of a grid whose values are a float format's times a factor."""
    sizes = sorted({abs(value) for value in half.values} - {0})
    signs = [{value for value in half.values if (value < 0) == below} for below in (True, False)]
    whole = 0 in half.values and sizes
    if not whole or (signs[0] and {-value for value in signs[0]} != signs[1] - {0}):
        return None
    unit = sizes[0]
    numbers = [size / unit for size in sizes]
    for bits in range(MOST_MANTISSA + 1):
        n, found = 1, []
        while n <= numbers[-1]:
            found.append(n)
            n += max(1 << (n.bit_length() - 1) >> bits, 1)
        if found == numbers:
            shift = np.int32(((23 - bits) << 23) + (1 << 22)).view(np.float32)
            return [2.0**bits, float(shift), float(numbers[-1]), float(1 / unit), float(unit)]
    return None


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
