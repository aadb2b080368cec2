# SPDX-License-Identifier: Apache-2.0
"""The fields of a block format: their values, their spelling in TOML, and which fit together."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from fpsim.base.errors import FpsimError, nearest, not_one_of
from fpsim.blocks.grids import (
    TABLE_CODES,
    Fit,
    Level,
    Macro,
    Table,
    Ties,
    Top,
    Variant,
    special_code,
)
from fpsim.blocks.meaning import all_variants, has_row_tables, meaning, stored_grids
from fpsim.blocks.scale_rules import (
    POWER_RULES,
    RANGE_RULES,
    Arithmetic,
    ScaleEncoder,
    ScaleRule,
    ZeroScale,
)
from fpsim.formats.floating import FixedFormat, FloatFormat
from fpsim.formats.floating_fields import read_enum
from fpsim.formats.names import E8M0, get_format
from fpsim.formats.rounding import Rounding, parse_rounding

if TYPE_CHECKING:
    from fpsim.blocks.block_format import BlockFormat

__all__ = [
    "FIELD_READERS",
    "LISTS_OF_NUMBERS",
    "REQUIRED_FIELDS",
    "Choice",
    "Errors",
    "NanPolicy",
    "Span",
    "StoredIn",
    "check_fields",
    "write_field",
]


class Span(StrEnum):
    """A block that is not a number of elements."""

    ROW = "row"  #: all elements along the axis
    TENSOR = "tensor"  #: all elements


class Choice(StrEnum):
    """How a block chooses between candidates; see `BlockFormat`."""

    MSE = "mse"  #: least sum of squared errors
    MAE = "mae"  #: least sum of errors
    ABS_MAX = "abs_max"  #: least largest error
    DIALECT = "dialect"  #: BlockDialect's two stages for activations, on pairs of variants
    ZERO = "zero-point"  #: the variant whose zero is at round(-min / s); rule ``range`` only


class Errors(StrEnum):
    """How the errors that a choice compares are computed.

    Four Over Six's code computes in float32: with x^ = fl(fl(fl(W s) A) / (M R)), A the largest
    magnitude of the tensor (or s_t M R of a given s_t), e = fl(x^ - x). The sum is of eight parts,
    each of every eighth e, every step rounded.
    """

    FLOAT64 = "float64"  #: of exact values in float64, in the order of the elements
    FLOAT32 = "float32"  #: in the order of Four Over Six's code


class StoredIn(StrEnum):
    """Where the number of the grid that a block chose is stored."""

    METADATA = "metadata"  #: in bits of its own
    SCALE = "scale"  #: in the bits of the scale's byte above its magnitude


class NanPolicy(StrEnum):
    """The contents of a block with NaN or an infinity; never silently a number."""

    ERROR = "error"  #: FpsimError
    SATURATE = "saturate"  #: infinities: the largest code, left out of the scale; NaN: FpsimError
    SCALE = "scale"  #: the NaN scale, codes 0; for scale formats that have NaN


#: Elements of a block along one axis where rows are filled up to whole blocks.
MAX_BLOCK = 1 << 16
_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]*")


# -- which fields fit each other -----------------------------------------------------------------


def check_fields(fmt: BlockFormat) -> None:
    """Raise FpsimError, naming a field, unless the fields of ``fmt`` fit each other."""
    if not _NAME.fullmatch(fmt.name):
        raise FpsimError(
            f"name: {fmt.name!r} must be lower-case letters, digits, '.', '_', '-' and '+'"
        )
    lengths = (fmt.block,) if isinstance(fmt.block, int) else fmt.block
    if not isinstance(lengths, Span):
        if min(lengths) < 1:
            raise FpsimError(f"block: {fmt.block!r} is not a positive integer, 'row' or 'tensor'")
        if fmt.fills_blocks and max(lengths) > MAX_BLOCK:
            raise FpsimError(f"block: {fmt.block!r} is not in 1..{MAX_BLOCK}")
    stochastic = Rounding.SR in (fmt.rounding, fmt.scale_rounding)
    plain = fmt.scale is not None and fmt.rule in (*POWER_RULES, ScaleRule.ABSMAX)
    if stochastic and (not plain or fmt.is_coded or fmt.signs or fmt.macro):
        name = "rounding" if fmt.rounding is Rounding.SR else "scale_rounding"
        raise FpsimError(f"{name}: 'sr' needs one grid and one scale per block, by its maximum")
    if stochastic and isinstance(fmt.block, tuple):
        raise FpsimError("rounding: 'sr' needs blocks along one axis")
    nearest_only = fmt.is_coded or not (fmt.is_mx or fmt.rule is ScaleRule.RAZOR)
    allowed = (Rounding.RNE, Rounding.RNA, *((Rounding.SR,) * (not fmt.is_coded)))
    if nearest_only and fmt.rounding not in allowed:
        raise FpsimError(
            f"rounding: {fmt.rounding.value!r} is possible only in MX; {fmt.name} takes rne or rna"
        )
    for name in ("tensor_range", "target"):
        value = getattr(fmt, name)
        if not 0 <= value < float("inf"):
            raise FpsimError(f"{name}: {value!r} is not a non-negative number")
    if fmt.target > fmt.element.max_value and not fmt.is_coded:
        raise FpsimError(f"target: {fmt.target!r} is beyond {fmt.element.name}'s largest value")
    if fmt.limit * fmt.tensor_range >= 2.0**128:
        raise FpsimError(f"tensor_range: {fmt.tensor_range!r} leaves float32")
    _check_rule(fmt)
    _check_options(fmt)
    _check_choice(fmt)
    if fmt.is_coded or fmt.macro is not None:
        check_coded(fmt)


def _check_rule(fmt: BlockFormat) -> None:
    rule, scale, fixed = fmt.rule, fmt.scale, isinstance(fmt.element, FixedFormat)
    name = "real" if scale is None else scale.name
    power = scale is not None and not (scale.mantissa_bits or scale.signed or scale.has_zero)
    if rule in POWER_RULES and not (power and (fmt.is_coded or scale == E8M0)):
        raise FpsimError(f"rule: {rule.value!r} gives powers of two; scale {name} is not e8m0")
    if rule in (ScaleRule.RANGE_FLOOR, ScaleRule.RANGE_ROUND) and scale != E8M0:
        raise FpsimError(f"rule: {rule.value!r} gives powers of two; scale {name} is not e8m0")
    if rule is ScaleRule.EVEN and isinstance(fmt.element, Table):
        raise FpsimError("rule: 'even' rounds to an element's mantissa, which a table has not")
    if rule in (ScaleRule.ABSMAX, ScaleRule.RANGE) and scale == E8M0:
        allowed = POWER_RULES if rule is ScaleRule.ABSMAX else RANGE_RULES[1:]
        raise FpsimError(
            f"rule: {rule.value!r} does not fit scale e8m0; allowed: {', '.join(allowed)}"
        )
    integers = fixed and fmt.element.bits <= 16
    moves = fmt.choice is Choice.ZERO and rule is ScaleRule.RANGE and scale is not None
    if (
        rule in RANGE_RULES
        and not moves
        and (
            not (integers and scale)
            or not isinstance(fmt.element, FixedFormat)
            or not fmt.element.signed
            or fmt.element.lsb
            or fmt.element.symmetric
        )
    ):
        raise FpsimError(
            f"rule: {rule.value!r} needs a scale format and two's complement integers of up to 16 "
            f"bits, such as int4, not {fmt.element.name}"
        )
    razor = rule is ScaleRule.RAZOR
    if razor != bool(fmt.base_bits) or (razor and not isinstance(fmt.base_bits, int)):
        raise FpsimError(f"base_bits: {fmt.base_bits!r} does not fit rule {rule.value!r}")
    if razor:
        _check_razor(fmt)
    elif scale is not None and scale != E8M0 and not scale.has_zero and not fmt.is_coded:
        raise FpsimError(f"scale: {name} has no zero; allowed without one is e8m0")
    if isinstance(fmt.element, FloatFormat) and not fmt.element.has_zero and not fmt.is_mx:
        raise FpsimError(f"element: {fmt.element.name} has no zero")
    if isinstance(fmt.element, FloatFormat) and not fmt.is_mx and not fmt.element.signed:
        raise FpsimError(f"element: {fmt.element.name} is unsigned")


def _check_razor(fmt: BlockFormat) -> None:
    element, scale = fmt.element, fmt.scale
    if not isinstance(element, FixedFormat) or not element.symmetric or element.lsb:
        raise FpsimError(
            f"element: {element.name} is not a symmetric integer such as int4s, as 'razor' needs"
        )
    if not element.width <= fmt.base_bits <= 24:
        raise FpsimError(f"base_bits: {fmt.base_bits!r} is not in {element.width}..24")
    dropped = fmt.base_bits - element.width
    if scale is None or scale.mantissa_bits or scale.exponent_min or scale.max_code < dropped:
        raise FpsimError(
            f"scale: 'razor' needs powers of two from 2^0 to 2^{dropped}, such as ue4m0b0_nozero"
        )


def _check_options(fmt: BlockFormat) -> None:
    scale = fmt.scale
    float_scale = scale is not None and fmt.rule is ScaleRule.ABSMAX
    for name, used in (
        ("tensor_range", bool(fmt.tensor_range)),
        ("target", bool(fmt.target) and not fmt.is_coded),
        ("scale_encoder", fmt.scale_encoder is not ScaleEncoder.FORMAT),
        ("signed_max", fmt.signed_max),
    ):
        if used and not float_scale:
            raise FpsimError(f"{name}: needs rule 'absmax' and a scale format")
    if fmt.arithmetic is Arithmetic.BF16:
        if fmt.tensor_range or not float_scale:
            raise FpsimError("arithmetic: 'bf16' needs rule 'absmax' and no tensor_range")
    elif fmt.arithmetic is not Arithmetic.DIVIDE and not fmt.tensor_range:
        raise FpsimError(f"arithmetic: {fmt.arithmetic.value!r} needs a tensor_range")
    if fmt.outer is Span.ROW and (not fmt.tensor_range or not isinstance(fmt.block, int)):
        raise FpsimError("outer: 'row' needs a tensor_range and blocks along one axis")
    ggml = fmt.scale_encoder is ScaleEncoder.GGML
    if ggml and (
        scale is None or (scale.exponent_bits, scale.mantissa_bits, scale.bias) != (4, 3, 7)
    ):
        raise FpsimError("scale_encoder: 'ggml' is for scales of E4M3, such as ue4m3fn")
    if fmt.scale_rounding is not Rounding.RNE and not (
        scale is not None and fmt.rule in (ScaleRule.ABSMAX, ScaleRule.RANGE)
    ):
        raise FpsimError("scale_rounding: needs a scale format that a rule rounds to")
    # What rules do with a zero scale where the field leaves them no choice.
    fixed_zero = ZeroScale.ONE if scale is None or fmt.rule in RANGE_RULES else ZeroScale.SMALLEST
    if not float_scale and fmt.zero not in (fixed_zero, ZeroScale.SMALLEST):
        raise FpsimError(f"zero: {fmt.zero.value!r} is not possible under rule {fmt.rule.value!r}")
    if fmt.signs and (not isinstance(fmt.element, FloatFormat) or fmt.choice is not None):
        raise FpsimError("signs: needs sign-magnitude float elements and no choice")
    if fmt.signs and (scale is None or fmt.rule not in (*POWER_RULES, ScaleRule.ABSMAX)):
        raise FpsimError("signs: needs a scale format and a rule on the largest magnitude")
    if fmt.nan is NanPolicy.SCALE and scale is not None and scale.nan_code is None:
        raise FpsimError(f"nan: 'scale' is not possible: scale {scale.name} has no NaN")


def check_coded(fmt: BlockFormat) -> None:
    """Raise FpsimError, naming a field, unless grids, levels and the rest fit each other."""
    element, block = fmt.element, fmt.block
    if fmt.scale is None or fmt.signs or fmt.rule is ScaleRule.RAZOR:
        raise FpsimError(f"element: the codes of {fmt.name} need one scale per block, in a format")
    if element.bits > 8:
        raise FpsimError(f"element: {element.name} has {element.bits} bits; allowed: up to 8")
    if isinstance(element, FloatFormat) and element.signed and element.nan_code is not None:
        raise FpsimError(f"element: {element.name} has NaN; every code must be finite here")
    for i, variant in enumerate(fmt.variants):
        if variant.element.bits != element.bits:
            raise FpsimError(
                f"variants: {variant.element.name} of variant {i} has {variant.element.bits} bits, "
                f"not the {element.bits} of the element"
            )
        if isinstance(variant.element, Table) and variant.element.rows > 1:
            raise FpsimError(f"variants: variant {i} has a table per row; allowed: one for all")
    if has_row_tables(fmt):
        _check_row_tables(fmt)
    _check_specials(fmt)
    if fmt.signed_max and (not fmt.scale.signed or fmt.stored is StoredIn.SCALE):
        raise FpsimError("signed_max: needs a scale with a sign bit that stores nothing else")
    if (fmt.levels or fmt.top or fmt.macro) and not isinstance(block, int):
        raise FpsimError("levels: sub-blocks, top elements and macros need blocks along one axis")
    _check_levels(fmt)
    if fmt.top is not None:
        _check_top(fmt, fmt.top)
    if fmt.macro is not None:
        _check_macro(fmt, fmt.macro)
    if fmt.is_coded:
        meaning(fmt)


def _check_row_tables(fmt: BlockFormat) -> None:
    for name in ("variants", "special", "levels"):
        if getattr(fmt, name):
            raise FpsimError(f"{name}: not possible beside a table per row")
    if fmt.expansions != (1.0,):
        raise FpsimError("expansions: not possible beside a table per row")
    if isinstance(fmt.block, tuple) or fmt.block is Span.TENSOR:
        raise FpsimError(
            f"block: {fmt.block!r} has elements of several rows, which have tables of their own; "
            "allowed: a number or 'row'"
        )


def _check_specials(fmt: BlockFormat) -> None:
    for variant in all_variants(fmt):
        if variant.factor <= 0:
            raise FpsimError(f"factor: {variant.factor} is not positive")
        if variant.special is None:
            continue
        if special_code(variant.element) < 0:
            raise FpsimError(f"special: {variant.element.name} has no code of -0 to give a value")
        if not math.isfinite(variant.special) or not variant.special:
            raise FpsimError(f"special: {variant.special!r} is not a finite number other than 0")
    if len(set(fmt.special)) != len(fmt.special):
        raise FpsimError(f"special: {list(fmt.special)} has a value twice")


def _check_choice(fmt: BlockFormat) -> None:
    grids = stored_grids(fmt)
    count = grids * len(fmt.expansions)
    for expansion in fmt.expansions:
        if not 0 < expansion < 2.0**64:
            raise FpsimError(f"expansions: {expansion!r} is not a positive number")
        if fmt.rule in POWER_RULES and math.frexp(expansion)[0] != 0.5:
            raise FpsimError(f"expansions: {expansion!r} is not a power of two, as its scales are")
    if not fmt.expansions or count > 64:
        raise FpsimError(f"expansions: {count} candidates; allowed: 1 to 64")
    if count > 1 and fmt.choice is None:
        raise FpsimError(f"choice: {count} candidates need one of {', '.join(Choice)}")
    if count == 1 and fmt.choice is not None:
        raise FpsimError(
            f"choice: {fmt.choice.value!r} needs variants, special values or expansions"
        )
    if fmt.stored is StoredIn.SCALE:
        width = 8 if fmt.scale is None else fmt.scale.magnitude_bits
        if grids < 2 or width + (grids - 1).bit_length() > 8:
            raise FpsimError(
                f"stored: the choice of {grids} grids does not fit in a byte beside {width} bits "
                "of scale"
            )
    if fmt.errors is Errors.FLOAT32 and not (
        fmt.choice in (Choice.MSE, Choice.MAE, Choice.ABS_MAX)
        and grids == 1
        and fmt.factor == 1
        and fmt.tensor_range
        and not fmt.levels
        and isinstance(fmt.block, int)
        and fmt.block % 8 == 0
    ):
        raise FpsimError(
            "errors: 'float32' needs a choice by error between expansions, a tensor_range and a "
            "block that 8 divides"
        )
    if fmt.choice is Choice.DIALECT:
        ends = [[abs(v) for v in (g.values[-1], g.values[0])] for g in meaning(fmt).grids]
        paired = all(a == b for a, b in zip(ends[::2], ends[1::2], strict=False))
        if len(fmt.expansions) > 1 or count % 2 or not paired:
            raise FpsimError("choice: 'dialect' needs pairs of variants with one largest magnitude")
    if fmt.choice is Choice.ZERO and (fmt.rule is not ScaleRule.RANGE or len(fmt.expansions) > 1):
        raise FpsimError("choice: 'zero-point' needs rule 'range' and no expansions")


def _check_levels(fmt: BlockFormat) -> None:
    size = fmt.block
    for i, level in enumerate(fmt.levels):
        assert isinstance(size, int)
        if level.block < 1 or size % level.block:
            raise FpsimError(f"levels: block {level.block} of level {i} does not divide {size}")
        ratios = level.ratios
        positive = all(0 < r < float("inf") for r in ratios)
        if len(ratios) < 2 or not positive or list(ratios) != sorted(set(ratios)):
            raise FpsimError(f"levels: ratios {list(ratios)} are not two or more ascending numbers")
        if level.by is Fit.MAX:
            if not level.limit > 0:
                raise FpsimError(f"levels: by 'max' needs a limit, not {level.limit!r}")
            if any(math.frexp(r)[0] != 0.5 for r in ratios):
                raise FpsimError(f"levels: by 'max' needs powers of two, not {list(ratios)}")
        elif i + 1 < len(fmt.levels) or i:
            raise FpsimError("levels: by 'mse' is possible for one level only")
        size = level.block
    if math.prod(len(level.ratios) for level in fmt.levels) > 256:
        raise FpsimError("levels: more than 256 products of ratios")


def _check_top(fmt: BlockFormat, top: Top) -> None:
    assert isinstance(fmt.block, int)
    element = fmt.element
    if top.block < 2 or fmt.block % top.block or top.block > 255:
        raise FpsimError(f"top: block {top.block} does not divide {fmt.block}")
    if fmt.choice is not None or any(level.by is Fit.MSE for level in fmt.levels):
        raise FpsimError("top: does not go with a choice by error")
    if not isinstance(element, FloatFormat) or not element.signed or fmt.special:
        raise FpsimError(f"top: needs a signed floating-point element, not {element.name}")
    if top.is_stored == (top.element is not None):
        raise FpsimError("top: takes base and step, or element and offsets")
    if top.is_stored:
        if not top.step > 0 or not top.base >= 0:
            raise FpsimError(f"top: base {top.base!r} and step {top.step!r} make no magnitudes")
        return
    wide = top.element
    assert wide is not None
    consecutive = list(top.offsets) == list(range(top.offsets[0], top.offsets[-1] + 1))
    if not consecutive or not top.offsets[0] <= 0 <= top.offsets[-1]:
        raise FpsimError(f"top: offsets {list(top.offsets)} are not consecutive around 0")
    same = (wide.exponent_bits, wide.bias) == (element.exponent_bits, element.bias)
    if not same or wide.mantissa_bits <= element.mantissa_bits or fmt.levels:
        raise FpsimError(f"top: {wide.name} does not refine {element.name}")


def _check_macro(fmt: BlockFormat, macro: Macro) -> None:
    assert isinstance(fmt.block, int)
    assert fmt.scale is not None
    if not fmt.block <= macro.block <= MAX_BLOCK or macro.block % fmt.block:
        raise FpsimError(
            f"macro: block {macro.block} is no multiple of {fmt.block} up to {MAX_BLOCK}"
        )
    if not 1 <= macro.bits <= 8 or not 0 < macro.target < float("inf"):
        raise FpsimError(
            f"macro: {macro.bits} bits, target {macro.target!r}; allowed: 1..8, above 0"
        )
    if fmt.rule not in POWER_RULES or fmt.tensor_range:
        raise FpsimError("macro: needs scales that are powers of two")


# -- reading -------------------------------------------------------------------------------------


def _enum(kind: type[StrEnum]) -> Callable[[str, Any], Any]:
    return lambda key, value: read_enum(key, kind, value)


def _typed(kind: type) -> Callable[[str, Any], Any]:
    def read(key: str, value: Any) -> Any:
        allowed = (float, int) if kind is float else (kind,)
        if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
            names = {int: "an integer", float: "a number", str: "text", bool: "true or false"}
            raise FpsimError(f"{key}: {value!r} is not {names[kind]}")
        if kind is float and isinstance(value, int) and abs(value) > sys.float_info.max:
            raise FpsimError(f"{key}: an integer of {value.bit_length()} bits is beyond float64")
        return value

    return read


def _format(key: str, value: Any) -> Any:
    if key == "scale" and value == "real":
        return None
    if key == "element" and isinstance(value, Table | dict):
        return _table(key, value)
    try:
        fmt = get_format(value)
    except FpsimError as error:
        raise FpsimError(f"{key}: {error}") from None
    if key == "scale" and not isinstance(fmt, FloatFormat):
        raise FpsimError(f"{key}: {fmt.name} is not a floating-point format")
    return fmt


def _keys(key: str, value: dict[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    for name in value:
        if name not in known:
            raise not_one_of(key, name, known)
    return value


def _table(key: str, value: Any) -> Table:
    if isinstance(value, Table):
        return value
    data = _keys(key, value, ("table", "wide"))
    given, wide = data.get("table"), data.get("wide")
    several = isinstance(given, list | tuple) and any(isinstance(v, list | tuple) for v in given)
    lists: list[Any] = list(given) if several and given is not None else [given]
    for row in lists:
        if not isinstance(row, list | tuple) or not all(_is_number(v) for v in row):
            raise FpsimError(
                f"{key}: table: {row!r} is not a list of 16 numbers, nor all lists of 16"
            )
        if several and len(row) != TABLE_CODES:
            raise FpsimError(f"{key}: table: {len(row)} values in a row; 16 are needed")
    if several and len(lists) < 2:
        raise FpsimError(f"{key}: table: one list in a list; allowed: 16 numbers, or several lists")
    numbers = tuple(v for row in lists for v in row)
    try:
        return Table(numbers, None if wide is None else _format("wide", wide), len(lists))
    except FpsimError as error:
        raise FpsimError(f"{key}: {error}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(key: str, value: Any) -> tuple[float, ...]:
    if _is_number(value):
        value = (value,)
    if not isinstance(value, list | tuple) or not all(_is_number(v) for v in value):
        raise FpsimError(f"{key}: {value!r} is not a list of numbers")
    return tuple(float(v) for v in value)


def _factor(key: str, value: Any) -> Fraction:
    try:
        factor = Fraction(value) if isinstance(value, str | int | float | Fraction) else None
    except (ValueError, ZeroDivisionError, OverflowError):
        factor = None
    if factor is None or isinstance(value, bool) or factor <= 0:
        raise FpsimError(f'{key}: {value!r} is not a positive number, or text such as "6/7"')
    if not 2.0**-64 < factor < 2.0**64:
        raise FpsimError(f"{key}: {value!r} is not between 2^-64 and 2^64")
    return factor


def _parts(kind: type, readers: dict[str, Callable[[str, Any], Any]]) -> Callable[[str, Any], Any]:
    """Return a reader of one dataclass of `fpsim.blocks.grids` from a table of its fields."""

    def read(key: str, value: Any) -> Any:
        if isinstance(value, kind):
            return value
        if not isinstance(value, dict):
            raise FpsimError(f"{key}: {value!r} is not a table of {', '.join(readers)}")
        _keys(key, value, tuple(readers))
        try:
            found = {name: readers[name](name, v) for name, v in value.items()}
        except FpsimError as error:
            raise FpsimError(f"{key}: {error}") from None
        required = [f.name for f in fields(kind) if f.default is MISSING]
        for name in required:
            if name not in found:
                raise FpsimError(f"{key}: {name} is missing")
        return kind(**found)

    return read


def _several(one: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    def read(key: str, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise FpsimError(f"{key}: {value!r} is not a list")
        return tuple(one(key, v) for v in value)

    return read


def _offsets(key: str, value: Any) -> tuple[int, ...]:
    whole = isinstance(value, list | tuple) and all(
        isinstance(v, int) and not isinstance(v, bool) for v in value
    )
    if not whole or not value:
        raise FpsimError(f"{key}: {value!r} is not a list of integers")
    return tuple(value)


def _block(key: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        whole = all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in value)
        if len(value) != 2 or not whole:
            raise FpsimError(f"{key}: {value!r} is not two positive integers, across and along")
        return tuple(value)
    if isinstance(value, Span) or (isinstance(value, str) and value in list(Span)):
        return Span(value)
    if isinstance(value, np.integer):
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        hint = nearest(str(value), [span.value for span in Span])
        raise FpsimError(f"{key}: {value!r} is not a positive integer, 'row' or 'tensor'{hint}")
    return value


def _outer(key: str, value: Any) -> Span:
    span: Span = read_enum(key, Span, value)
    return span


def _rounding(key: str, value: Any) -> Rounding:
    return parse_rounding(value, key)


#: Reader of each field: (name, TOML value) to value; a value it has read stays as it is.
FIELD_READERS: dict[str, Callable[[str, Any], Any]] = {
    "name": _typed(str),
    "element": _format,
    "block": _block,
    "rule": _enum(ScaleRule),
    "rounding": _rounding,
    "scale": _format,
    "scale_rounding": _rounding,
    "tensor_range": _typed(float),
    "target": _typed(float),
    "signs": _typed(bool),
    "zero": _enum(ZeroScale),
    "arithmetic": _enum(Arithmetic),
    "choice": _enum(Choice),
    "errors": _enum(Errors),
    "expansions": _numbers,
    "base_bits": _typed(int),
    "nan": _enum(NanPolicy),
    "variants": _several(
        _parts(
            Variant,
            {
                "element": _format,
                "factor": _factor,
                "special": _typed(float),
                "target": _typed(float),
            },
        )
    ),
    "special": _numbers,
    "stored": _enum(StoredIn),
    "levels": _several(
        _parts(
            Level,
            {"block": _typed(int), "ratios": _numbers, "by": _enum(Fit), "limit": _typed(float)},
        )
    ),
    "top": _parts(
        Top,
        {
            "block": _typed(int),
            "base": _typed(float),
            "step": _typed(float),
            "element": lambda key, value: _format("scale", value),
            "offsets": _offsets,
            "reserved": _typed(int),
        },
    ),
    "macro": _parts(Macro, {"block": _typed(int), "bits": _typed(int), "target": _typed(float)}),
    "signed_max": _typed(bool),
    "factor": _factor,
    "ties": _enum(Ties),
    "outer": lambda key, value: _outer(key, value),
    "scale_encoder": _enum(ScaleEncoder),
    "source": _typed(str),
}

#: Fields in which a number stands for a list of one number.
LISTS_OF_NUMBERS = tuple(name for name, read in FIELD_READERS.items() if read is _numbers)

#: Fields that are written even at their default.
REQUIRED_FIELDS = ("name", "element", "block", "scale", "rule", "rounding")


def write_field(value: Any) -> Any:
    """Return the form of a field's value that `FIELD_READERS` reads back.

    None becomes ``"real"``: of the fields that are written, only a scale can be None.
    """
    if value is None:
        return "real"
    if isinstance(value, FloatFormat | FixedFormat):
        return value.name
    if isinstance(value, Table):
        wide = {} if value.wide is None else {"wide": value.wide.name}
        numbers = [list(table.values) for table in value.tables]
        return {"table": numbers if value.rows > 1 else numbers[0], **wide}
    if isinstance(value, Variant | Level | Top | Macro):
        return {
            f.name: write_field(getattr(value, f.name))
            for f in fields(value)
            if f.default is MISSING or getattr(value, f.name) != f.default
        }
    if isinstance(value, tuple):
        return [write_field(v) for v in value]
    if isinstance(value, Fraction):
        return str(value)
    return str(value) if isinstance(value, StrEnum) else value
