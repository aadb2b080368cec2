# SPDX-License-Identifier: Apache-2.0
"""The fields of a block format: their values, what TOML spells them as, and which fit together."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from fpsim.base.errors import FpsimError, nearest
from fpsim.blocks.scale_rules import POWER_RULES, RANGE_RULES, Arithmetic, ScaleRule, ZeroScale
from fpsim.formats.floating import FixedFormat, FloatFormat
from fpsim.formats.floating_fields import read_enum
from fpsim.formats.names import E8M0, get_format
from fpsim.formats.rounding import Rounding, parse_rounding

if TYPE_CHECKING:
    from fpsim.blocks.block_format import BlockFormat

__all__ = [
    "DEFAULT_EXPANSION",
    "FIELD_READERS",
    "REQUIRED_FIELDS",
    "Choice",
    "NanPolicy",
    "Span",
    "check_fields",
    "write_field",
]


#: How much larger Four Over Six's second scale is: 6 / 4.
DEFAULT_EXPANSION = 1.5


class Span(StrEnum):
    """A block that is not a number of elements."""

    ROW = "row"  #: all elements along the axis
    TENSOR = "tensor"  #: all elements


class Choice(StrEnum):
    """Error by which a block chooses between two candidates; see `BlockFormat`."""

    MSE = "mse"
    MAE = "mae"
    ABS_MAX = "abs_max"


class NanPolicy(StrEnum):
    """What a block that holds NaN or an infinity becomes; never silently a number."""

    ERROR = "error"  #: FpsimError
    SATURATE = "saturate"  #: infinities: the largest code, left out of the scale; NaN: FpsimError
    SCALE = "scale"  #: the NaN scale, codes 0; for scale formats that have NaN


_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


# -- which fields fit each other -----------------------------------------------------------------


def check_fields(fmt: BlockFormat) -> None:
    """Raise FpsimError, naming a field, unless the fields of ``fmt`` fit each other."""
    if not _NAME.fullmatch(fmt.name):
        raise FpsimError(f"name: {fmt.name!r} must be lower-case letters, digits, '.', '_' and '-'")
    if not isinstance(fmt.block, Span) and fmt.block < 1:
        raise FpsimError(f"block: {fmt.block!r} is not a positive integer, 'row' or 'tensor'")
    if fmt.rounding is Rounding.SR:
        raise FpsimError("rounding: a block format rounds deterministically, not 'sr'")
    if fmt.scale_rounding is Rounding.SR:
        raise FpsimError("scale_rounding: a block format rounds deterministically, not 'sr'")
    nearest_only = not (fmt.is_mx or fmt.rule is ScaleRule.RAZOR)
    if nearest_only and fmt.rounding not in (Rounding.RNE, Rounding.RNA):
        raise FpsimError(
            f"rounding: {fmt.rounding.value!r} is possible only in MX; {fmt.name} takes rne or rna"
        )
    for name in ("tensor_range", "target", "expansion"):
        value = getattr(fmt, name)
        if not 0 <= value < float("inf"):
            raise FpsimError(f"{name}: {value!r} is not a non-negative number")
    if fmt.target > fmt.element.max_value:
        raise FpsimError(f"target: {fmt.target!r} is beyond {fmt.element.name}'s largest value")
    if fmt.limit * fmt.tensor_range >= 2.0**128:
        raise FpsimError(f"tensor_range: {fmt.tensor_range!r} leaves float32")
    _check_rule(fmt)
    _check_options(fmt)


def _check_rule(fmt: BlockFormat) -> None:
    rule, scale, fixed = fmt.rule, fmt.scale, isinstance(fmt.element, FixedFormat)
    name = "real" if scale is None else scale.name
    powers = (*POWER_RULES, ScaleRule.RANGE_FLOOR, ScaleRule.RANGE_ROUND)
    if rule in powers and scale != E8M0:
        raise FpsimError(f"rule: {rule.value!r} gives powers of two; scale {name} is not e8m0")
    if rule in (ScaleRule.ABSMAX, ScaleRule.RANGE) and scale == E8M0:
        allowed = POWER_RULES if rule is ScaleRule.ABSMAX else RANGE_RULES[1:]
        raise FpsimError(
            f"rule: {rule.value!r} does not fit scale e8m0; allowed: {', '.join(allowed)}"
        )
    integers = fixed and fmt.element.bits <= 16
    if rule in RANGE_RULES and (
        not (integers and scale)
        or not isinstance(fmt.element, FixedFormat)
        or not fmt.element.signed
        or fmt.element.lsb
        or fmt.element.symmetric
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
    elif scale is not None and scale != E8M0 and not scale.has_zero:
        raise FpsimError(f"scale: {name} has no zero; allowed without one is e8m0")
    if isinstance(fmt.element, FloatFormat) and not fmt.element.has_zero and not fmt.is_mx:
        raise FpsimError(f"element: {fmt.element.name} has no zero")
    if not fixed and not fmt.is_mx and not fmt.element.signed:
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
        ("target", bool(fmt.target)),
        ("choice", fmt.choice is not None),
    ):
        if used and not float_scale:
            raise FpsimError(f"{name}: needs rule 'absmax' and a scale format")
    if fmt.arithmetic is not Arithmetic.DIVIDE and not fmt.tensor_range:
        raise FpsimError(f"arithmetic: {fmt.arithmetic.value!r} needs a tensor_range")
    if fmt.expansion != DEFAULT_EXPANSION and (fmt.choice is None or fmt.alternative is not None):
        raise FpsimError(f"expansion: {fmt.expansion!r} needs a choice, and no alternative")
    if not fmt.expansion:
        raise FpsimError("expansion: 0 leaves nothing to choose")
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
    if fmt.alternative is not None:
        if fmt.choice is None:
            raise FpsimError("alternative: needs a choice: mse, mae or abs_max")
        if scale is None or not scale.signed:
            raise FpsimError("alternative: needs a scale with a sign bit, such as e4m3fn")
        if fmt.alternative.bits != fmt.element.bits:
            raise FpsimError(
                f"alternative: {fmt.alternative.name} is not as wide as {fmt.element.name}"
            )
    if fmt.nan is NanPolicy.SCALE and scale is not None and scale.nan_code is None:
        raise FpsimError(f"nan: 'scale' is not possible: scale {scale.name} has no NaN")


# -- reading -------------------------------------------------------------------------------------


def _enum(kind: type[StrEnum]) -> Callable[[str, Any], Any]:
    return lambda key, value: read_enum(key, kind, value)


def _typed(kind: type) -> Callable[[str, Any], Any]:
    def read(key: str, value: Any) -> Any:
        allowed = (float, int) if kind is float else (kind,)
        if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
            names = {int: "an integer", float: "a number", str: "text", bool: "true or false"}
            raise FpsimError(f"{key}: {value!r} is not {names[kind]}")
        return value

    return read


def _format(key: str, value: Any) -> Any:
    if key == "scale" and value == "real":
        return None
    try:
        fmt = get_format(value)
    except FpsimError as error:
        raise FpsimError(f"{key}: {error}") from None
    wanted = {"scale": FloatFormat, "alternative": FixedFormat}.get(key)
    if wanted is not None and not isinstance(fmt, wanted):
        kind = "floating-point" if wanted is FloatFormat else "fixed-point"
        raise FpsimError(f"{key}: {fmt.name} is not a {kind} format")
    return fmt


def _block(key: str, value: Any) -> Any:
    if isinstance(value, Span) or (isinstance(value, str) and value in list(Span)):
        return Span(value)
    if isinstance(value, np.integer):
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        hint = nearest(str(value), [span.value for span in Span])
        raise FpsimError(f"{key}: {value!r} is not a positive integer, 'row' or 'tensor'{hint}")
    return value


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
    "expansion": _typed(float),
    "alternative": _format,
    "base_bits": _typed(int),
    "nan": _enum(NanPolicy),
}

#: What a format says of itself even where it is the default.
REQUIRED_FIELDS = ("name", "element", "block", "scale", "rule", "rounding")


def write_field(value: Any) -> Any:
    """Return a field's value as `FIELD_READERS` reads it back; only a scale is None and written."""
    if value is None:
        return "real"
    if isinstance(value, FloatFormat | FixedFormat):
        return value.name
    return str(value) if isinstance(value, StrEnum) else value
