# SPDX-License-Identifier: Apache-2.0
"""Formats and modes as parameters of the reference SystemVerilog: the codes of ``fpsim_pkg.sv``.

A format, rounding or policy that the RTL does not have is refused with its field and the allowed
values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from fpsim.base.errors import FpsimError
from fpsim.blocks.code_table import CodeTable
from fpsim.blocks.scale_rules import ScaleRule
from fpsim.formats.floating import FixedFormat, FloatFormat, Format, NanCodes, Subnormals
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.units.stages import Joins

__all__ = [
    "JOIN_CODES",
    "OVERFLOW_CODES",
    "RULE_CODES",
    "STAGE_CODES",
    "TABLE_BITS",
    "accumulator",
    "is_table",
    "operand",
    "parameter_text",
    "refusal",
    "rounding",
    "scale",
    "table",
]

MAX_ACC_EXPONENT_BITS = 8
#: Bits in which an entry of a table stands: whole digits of the widest format of a table.
TABLE_ENTRY = 20
TABLE_BITS = 16 * TABLE_ENTRY

ROUNDING_CODES = {
    Rounding.RNE: 0,
    Rounding.RNA: 1,
    Rounding.RTZ: 2,
    Rounding.RUP: 3,
    Rounding.RDN: 4,
    Rounding.RTO: 5,
    Rounding.SR: 6,
}
OVERFLOW_CODES = {Overflow.SATURATE: 0, Overflow.INF: 1, Overflow.NAN: 2, Overflow.WRAP: 3}
SPECIALS_CODES = {
    (NanCodes.NONE, False): 0,
    (NanCodes.IEEE, True): 1,
    (NanCodes.TOP, False): 2,
    (NanCodes.NEGATIVE_ZERO, False): 3,
}
#: Scale rules of the quantizer.
RULE_CODES = {
    ScaleRule.FLOOR: 0,
    ScaleRule.RCEIL: 1,
    ScaleRule.CEIL: 2,
    ScaleRule.EVEN: 3,
    ScaleRule.ABSMAX: 4,
}
STAGE_CODES = {"chain": 0, "fixed": 1, "exact": 2, "aligned": 3, "tree": 4}
JOIN_CODES = {Joins.ROOT: 0, Joins.LEAF: 1, Joins.FUSED: 2}
SUBNORMALS_CODES = {Subnormals.GRADUAL: 0, Subnormals.FLUSH: 1, Subnormals.NONE: 2}

#: The package's names of those codes, by the end of the parameter's name.
_NAMES = {
    "SUBNORMALS": {code: f"SUBNORMALS_{kind.name}" for kind, code in SUBNORMALS_CODES.items()},
    "SPECIALS": dict(enumerate(f"SPECIALS_{kind}" for kind in ("NONE", "IEEE", "TOP", "ZERO"))),
    "OVERFLOW": {code: f"OVERFLOW_{policy.name}" for policy, code in OVERFLOW_CODES.items()},
    "ROUNDING": {code: f"ROUND_{mode.name}" for mode, code in ROUNDING_CODES.items()},
    "RULE": {code: f"RULE_{rule.name}" for rule, code in RULE_CODES.items()},
    "ALIGN": {code: f"ROUND_{mode.name}" for mode, code in ROUNDING_CODES.items()},
    "STAGE": {code: f"STAGE_{kind.upper()}" for kind, code in STAGE_CODES.items()},
    "JOIN": {code: f"JOIN_{place.name}" for place, code in JOIN_CODES.items()},
}

Key = TypeVar("Key")


def parameter_text(name: str, value: int) -> str:
    """Return a parameter's value in SystemVerilog: the package's name of a code, or the number."""
    if is_table(name):
        digits = TABLE_ENTRY // 4
        text = f"{value:0{TABLE_BITS // 4}x}"
        entries = [text[at : at + digits] for at in range(0, len(text), digits)]
        return f"{TABLE_BITS}'h{'_'.join(entries)}"
    for end, names in _NAMES.items():
        if name.endswith(end):
            return f"fpsim_pkg::{names[value]}"
    return str(value)


def is_table(name: str) -> bool:
    """Return whether a parameter is a table of `TABLE_BITS` bits, not an ``int``."""
    return name.endswith("TABLE")


def refusal(where: str, value: object, allowed: str) -> FpsimError:
    """Return the error for a setting that the RTL does not have.

    Args:
        where: the field.
        value: its value.
        allowed: the allowed values, in words.

    Returns:
        The error, to be raised.
    """
    return FpsimError(f"{where}: {value} has no reference RTL; allowed: {allowed}")


def rounding(mode: Rounding, where: str = "accumulate.rounding") -> int:
    """Return the code of a rounding mode."""
    return _code(ROUNDING_CODES, mode, where, repr(str(mode)), ", ".join(ROUNDING_CODES))


def operand(name: str, fmt: Format) -> dict[str, int]:
    """Return the parameters of operand ``a`` or ``b``: a float or integer format."""
    where, prefix = f"operands.{name}", name.upper()
    sign = {f"{prefix}_SIGNED": int(fmt.signed)}
    if isinstance(fmt, FixedFormat):
        return sign | {
            f"{prefix}_EXP": 0,
            f"{prefix}_MAN": fmt.width - 1,
            f"{prefix}_BIAS": -fmt.lsb,
            f"{prefix}_SPECIALS": 0,
            f"{prefix}_SUBNORMALS": 0,
        }
    if not fmt.exponent_bits:
        raise refusal(where, fmt.name, "formats with an exponent field, and integers")
    return sign | _float(prefix, fmt, where)


def table(name: str, own: CodeTable, fmt: Format) -> dict[str, int]:
    """Return the parameters of an operand that comes in as codes of a table.

    Args:
        name: ``a`` or ``b``.
        own: the table.
        fmt: the operand's format.

    Returns:
        Parameters by name.

    Raises:
        FpsimError: a table whose numbers have another format than the operand's.
    """
    own.check(name, fmt)
    entries = sum(code << i * TABLE_ENTRY for i, code in enumerate(own.codes))
    return {f"{name.upper()}_SPECIALS": 0, f"{name.upper()}_TABLE": entries}


def scale(name: str, fmt: Format) -> dict[str, int]:
    """Return the parameters of the scales of operand ``a`` or ``b``."""
    where, prefix = f"operands.{name}_scale", f"S{name.upper()}"
    if not isinstance(fmt, FloatFormat) or not fmt.exponent_bits:
        raise refusal(where, fmt.name, "floating-point formats with an exponent field")
    return {f"{prefix}_SIGNED": int(fmt.signed)} | _float(prefix, fmt, where)


def accumulator(
    fmt: FloatFormat, where: str = "accumulate.format", prefix: str = "ACC"
) -> dict[str, int]:
    """Return the parameters of a floating-point format that results are rounded to.

    Args:
        fmt: the format.
        where: the field that names it, for an error.
        prefix: before the names of the parameters.

    Returns:
        Parameters by name.

    Raises:
        FpsimError: a format that the RTL cannot round to.
    """
    if not 1 <= fmt.exponent_bits <= MAX_ACC_EXPONENT_BITS:
        raise refusal(where, fmt.name, f"1..{MAX_ACC_EXPONENT_BITS} exponent bits")
    return _float(prefix, fmt, where)


def _float(prefix: str, fmt: FloatFormat, where: str) -> dict[str, int]:
    allowed = "IEEE 754's special codes, NaN with all magnitude bits one or at -0, or none"
    return {
        f"{prefix}_EXP": fmt.exponent_bits,
        f"{prefix}_MAN": fmt.mantissa_bits,
        f"{prefix}_BIAS": fmt.bias,
        f"{prefix}_SPECIALS": _code(
            SPECIALS_CODES, (fmt.nan, fmt.infinity), where, fmt.name, allowed
        ),
        f"{prefix}_SUBNORMALS": SUBNORMALS_CODES[fmt.subnormals],
    }


def _code(table: Mapping[Key, int], key: Key, where: str, value: str, allowed: str) -> int:
    if key not in table:
        raise refusal(where, value, allowed)
    return table[key]
