# SPDX-License-Identifier: Apache-2.0
"""The fields of a floating-point format: allowed values, spelling in names, and joint checks."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.formats.inputs import check_int

if TYPE_CHECKING:
    from fpsim.formats.floating import FloatFormat

__all__ = [
    "BORROWED_NAMES",
    "SPECIAL_SUFFIXES",
    "SUBNORMAL_SUFFIXES",
    "NanCodes",
    "Subnormals",
    "check_float_fields",
    "default_bias",
    "default_specials",
    "read_enum",
]

#: Widest floating-point code (E8M23).
MAX_FLOAT_BITS = 32
# Every value and every midpoint must be an exact, normal float64.
F64_EXPONENT_MIN = -1022
F64_EXPONENT_MAX = 1023

Member = TypeVar("Member", bound=StrEnum)


class NanCodes(StrEnum):
    """Which codes are NaN."""

    NONE = "none"  #: no code
    IEEE = "ieee"  #: exponent field all ones, mantissa not zero (mantissa zero is infinity)
    TOP = "top"  #: all magnitude bits one, with either sign
    NEGATIVE_ZERO = "negative-zero"  #: the sign bit alone; the format has no -0


class Subnormals(StrEnum):
    """Meanings of codes with exponent field 0."""

    GRADUAL = "gradual"  #: T / 2^m * 2^(1-b)
    FLUSH = "flush"  #: zero, whatever T is; results that round into this row become zero
    NONE = "none"  #: (1 + T / 2^m) * 2^(-b): the format has no zero, the smallest code stands in


#: Name suffix of each set of special codes; a name omits the suffix of `default_specials`.
SPECIAL_SUFFIXES: dict[tuple[NanCodes, bool], str] = {
    (NanCodes.NONE, False): "f",
    (NanCodes.NONE, True): "fi",
    (NanCodes.IEEE, True): "i",
    (NanCodes.TOP, False): "fn",
    (NanCodes.TOP, True): "fni",
    (NanCodes.NEGATIVE_ZERO, False): "fnuz",
    (NanCodes.NEGATIVE_ZERO, True): "fnuzi",
}
SUBNORMAL_SUFFIXES: dict[Subnormals, str] = {
    Subnormals.GRADUAL: "",
    Subnormals.FLUSH: "_flush",
    Subnormals.NONE: "_nozero",
}


#: Bit formats that the field names otherwise; see `fpsim.formats.names.ALIASES`.
BORROWED_NAMES = frozenset({"e2m1fn", "e2m3fn", "e3m2fn", "e4m3fnuz", "e5m2fnuz", "ue4m3"})


def default_bias(exponent_bits: int) -> int:
    """Return 2^(e-1) - 1, the bias of a name that states none (0 if there is no exponent field)."""
    return (1 << (exponent_bits - 1)) - 1 if exponent_bits else 0


def default_specials(bits: int) -> tuple[NanCodes, bool]:
    """Return the special codes of a name without a suffix: none up to 6 bits, else IEEE 754's."""
    return (NanCodes.NONE, False) if bits <= 6 else (NanCodes.IEEE, True)


def read_enum(name: str, kind: type[Member], value: object) -> Member:
    """Return a member of an enumeration by name.

    Args:
        name: name of the field, for errors.
        kind: the enumeration.
        value: a member, or the name of one.

    Returns:
        The member.

    Raises:
        FpsimError: no member has the name; the message names the field.
    """
    try:
        return kind(value)  # type: ignore[arg-type]
    except ValueError:
        allowed = [member.value for member in kind]
        raise not_one_of(name, value, allowed) from None


def check_float_fields(fmt: FloatFormat) -> None:
    """Raise FpsimError, naming a field, if the fields of ``fmt`` do not fit together."""
    for name in ("signed", "infinity"):
        if not isinstance(getattr(fmt, name), bool):
            raise FpsimError(f"{name}: {getattr(fmt, name)!r} is not true or false")
    check_int("exponent_bits", fmt.exponent_bits, 0, 11)
    check_int("mantissa_bits", fmt.mantissa_bits, 0, 23)
    check_int("bias", fmt.bias, -2000, 2000)
    if not fmt.magnitude_bits >= 1 or fmt.bits > MAX_FLOAT_BITS:
        raise FpsimError(
            f"format: E{fmt.exponent_bits}M{fmt.mantissa_bits} has {fmt.bits} bits; "
            f"allowed are 1 magnitude bit up to {MAX_FLOAT_BITS} bits in all"
        )
    if fmt.nan is NanCodes.IEEE and not (fmt.infinity and fmt.mantissa_bits):
        raise FpsimError("nan: 'ieee' needs infinity=True and at least one mantissa bit")
    if fmt.nan is NanCodes.IEEE and not fmt.exponent_bits:
        raise FpsimError("nan: 'ieee' needs an exponent field")
    if fmt.nan is NanCodes.NEGATIVE_ZERO and not fmt.signed:
        raise FpsimError("nan: 'negative-zero' needs a signed format")
    if fmt.subnormals is not Subnormals.GRADUAL and not fmt.exponent_bits:
        raise FpsimError(
            f"subnormals: {fmt.subnormals.value!r} needs an exponent field; "
            "with none every code is subnormal"
        )
    if fmt.subnormals is Subnormals.NONE and fmt.nan is NanCodes.NEGATIVE_ZERO:
        raise FpsimError("nan: 'negative-zero' needs a zero, which subnormals='none' leaves out")
    lowest = 1 << fmt.mantissa_bits if fmt.subnormals is Subnormals.FLUSH else 1
    if fmt.max_code < lowest:
        raise FpsimError(f"format: {fmt.name} has no finite code above zero")
    if fmt.exponent_min - fmt.mantissa_bits < F64_EXPONENT_MIN:
        raise FpsimError(f"bias: {fmt.bias} puts the smallest value of {fmt.name} below 2^-1022")
    if fmt.exponent_max > F64_EXPONENT_MAX:
        raise FpsimError(f"bias: {fmt.bias} puts the largest value of {fmt.name} above 2^1024")
