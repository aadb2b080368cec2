# SPDX-License-Identifier: Apache-2.0
"""From a unit to the reference SystemVerilog: top module, parameters, ports and sources.

The parameters are derived from the spec alone, so model and RTL cannot drift apart. A unit outside
what the RTL implements is refused with the field and what is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fpsim.errors import FpsimError
from fpsim.formats import FloatFormat, Format, NanCodes, Subnormals
from fpsim.resources import rtl_dir
from fpsim.rounding import Overflow, Rounding
from fpsim.spec import MacSpec
from fpsim.stages import Chain, Fixed
from fpsim.vectors.stream import EXPONENT_BITS

__all__ = ["PARAMETER_NAMES", "RtlTop", "rtl_top"]

MAX_ACC_EXPONENT_BITS = 8

# The codes of fpsim_pkg.sv.
ROUNDING_CODES = {
    Rounding.RNE: 0,
    Rounding.RNA: 1,
    Rounding.RTZ: 2,
    Rounding.RUP: 3,
    Rounding.RDN: 4,
    Rounding.RTO: 5,
}
OVERFLOW_CODES = {Overflow.SATURATE: 0, Overflow.INF: 1, Overflow.NAN: 2, Overflow.WRAP: 3}
SPECIALS_CODES = {
    (NanCodes.NONE, False): 0,
    (NanCodes.IEEE, True): 1,
    (NanCodes.TOP, False): 2,
}

#: The package's names of those codes, by parameter.
PARAMETER_NAMES = {
    "ROUNDING": {code: f"ROUND_{mode.name}" for mode, code in ROUNDING_CODES.items()},
    "OVERFLOW": {code: f"OVERFLOW_{policy.name}" for policy, code in OVERFLOW_CODES.items()},
    "ACC_SPECIALS": {0: "SPECIALS_NONE", 1: "SPECIALS_IEEE", 2: "SPECIALS_TOP"},
}

#: Compile order: the package, then modules from the leaves up; a top comes last.
_CORE = ("fpsim_pkg.sv", "shift_right_jam.sv", "fp_decode.sv", "fp_multiply.sv", "fp_product.sv")
_TAIL = ("acc_register.sv",)
_FILES = {
    "mac_chain": (*_CORE, "fp_normalise.sv", "fp_align_add.sv", "fp_round_pack.sv", *_TAIL),
    "mac_fixed": (*_CORE, "fp_to_grid.sv", "fixed_add.sv", *_TAIL),
}


@dataclass(frozen=True)
class RtlTop:
    """A top module ready to compile."""

    name: str
    parameters: dict[str, int]
    sources: tuple[Path, ...]
    #: Width of every input besides clock and reset, by port name.
    inputs: dict[str, int]
    #: Width of every output, by port name.
    outputs: dict[str, int] = field(default_factory=dict)
    clock: str = "clk_i"
    reset: str = "rst_ni"  #: active low


def rtl_top(spec: MacSpec) -> RtlTop:
    """Return the reference RTL of a unit.

    Raises:
        FpsimError: a unit that the RTL does not implement, naming the field.
    """
    stage = spec.accumulate
    parameters = _operand("a", spec.a) | _operand("b", spec.b)
    if isinstance(stage, Chain):
        name = "mac_chain"
        parameters |= _accumulator(stage.format)
    elif isinstance(stage, Fixed):
        name = "mac_fixed"
        parameters |= {"W_ACC": stage.width, "LSB": stage.lsb}
    else:
        raise FpsimError(
            f"accumulate.kind: {stage.kind!r} has no reference RTL; allowed: chain, fixed"
        )
    assert stage.overflow is not None
    parameters["ROUNDING"] = _rounding(stage.rounding)
    parameters["OVERFLOW"] = OVERFLOW_CODES[stage.overflow]
    parameters["SCALE_W"] = EXPONENT_BITS
    width = spec.result.bits
    inputs = {
        "op_i": 2,
        "a_i": spec.a.bits,
        "b_i": spec.b.bits,
        "c_i": width,
        "exp_i": EXPONENT_BITS,
    }
    root = rtl_dir()
    sources = tuple(root / file for file in (*_FILES[name], f"{name}.sv"))
    return RtlTop(name, parameters, sources, inputs, {"acc_o": width})


def _operand(name: str, fmt: Format) -> dict[str, int]:
    allowed = (
        "signed floating-point formats with an exponent field, subnormals and no NaN or infinity"
    )
    if (
        not isinstance(fmt, FloatFormat)
        or not fmt.signed
        or not fmt.exponent_bits
        or fmt.subnormals is not Subnormals.GRADUAL
        or SPECIALS_CODES.get((fmt.nan, fmt.infinity)) != 0
    ):
        raise FpsimError(f"operands.{name}: {fmt.name} has no reference RTL; allowed: {allowed}")
    return _layout(name.upper(), fmt)


def _accumulator(fmt: FloatFormat) -> dict[str, int]:
    where = "accumulate.format"
    if not 1 <= fmt.exponent_bits <= MAX_ACC_EXPONENT_BITS:
        raise FpsimError(
            f"{where}: {fmt.name} has no reference RTL; "
            f"allowed: 1..{MAX_ACC_EXPONENT_BITS} exponent bits"
        )
    if fmt.subnormals is not Subnormals.GRADUAL:
        raise FpsimError(f"{where}: {fmt.name} has no reference RTL; allowed: gradual subnormals")
    specials = SPECIALS_CODES.get((fmt.nan, fmt.infinity))
    if specials is None:
        raise FpsimError(
            f"{where}: {fmt.name} has no reference RTL; allowed: no special codes (suffix f), "
            "IEEE 754's (i), or NaN where all magnitude bits are one (fn)"
        )
    return _layout("ACC", fmt) | {"ACC_SPECIALS": specials}


def _rounding(rounding: Rounding) -> int:
    if rounding not in ROUNDING_CODES:
        allowed = ", ".join(ROUNDING_CODES)
        raise FpsimError(
            f"accumulate.rounding: {rounding.value!r} has no reference RTL; allowed: {allowed}"
        )
    return ROUNDING_CODES[rounding]


def _layout(prefix: str, fmt: FloatFormat) -> dict[str, int]:
    return {
        f"{prefix}_EXP": fmt.exponent_bits,
        f"{prefix}_MAN": fmt.mantissa_bits,
        f"{prefix}_BIAS": fmt.bias,
    }
