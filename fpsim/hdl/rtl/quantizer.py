# SPDX-License-Identifier: Apache-2.0
"""From a block format to the reference SystemVerilog of its quantizer: parameters and ports.

A format that the RTL does not implement is refused with the field and its allowed values.
"""

from __future__ import annotations

import numpy as np

from fpsim.base.errors import FpsimError
from fpsim.blocks.block_format import BlockFormat
from fpsim.blocks.grids import Table
from fpsim.blocks.scale_rules import POWER_RULES, Arithmetic, ScaleEncoder, ScaleRule, ZeroScale
from fpsim.formats.floating import FloatFormat, Format, NanCodes, Subnormals
from fpsim.hdl.rtl.parameters import MAX_PIPELINE, RtlTop, sources_of
from fpsim.hdl.rtl.rtl_codes import RULE_CODES, SPECIALS_CODES, refusal, rounding
from fpsim.vectors.operations.operation import Quantize

__all__ = ["quantizer_top"]

TOP = "quantize_block"
MAX_BLOCK = 256
#: Float32 numbers are exact quotients of no fewer bits down to this exponent.
LEAST_EXPONENT = -125
MAX_MANTISSA = 20


def quantizer_top(operation: Quantize, pipeline: int = 1) -> RtlTop:
    """Return the reference RTL of a quantizer.

    Args:
        operation: the quantizer, read by `fpsim.vectors.operations.operation.parse_operation`.
        pipeline: registers, 0..64.

    Returns:
        The top with its parameters.

    Raises:
        FpsimError: a format that the RTL does not implement, naming the field.
    """
    fmt, source = operation.format, operation.source
    if not 0 <= pipeline <= MAX_PIPELINE:
        raise FpsimError(f"pipeline: {pipeline} is not in 0..{MAX_PIPELINE}")
    _check(fmt)
    assert fmt.scale is not None and isinstance(fmt.block, int)
    element = _float("EL", fmt.element, "element")
    tensor = int(operation.has_tensor_scale)
    parameters = {"BLOCK": fmt.block} | _source(source) | element
    parameters["EL_ROUNDING"] = rounding(fmt.rounding, "rounding")
    parameters |= {"RULE": RULE_CODES[fmt.rule], "LIMIT": _limit(fmt)}
    parameters |= _scale(fmt, fmt.scale)
    parameters |= {"SIGNS": int(fmt.signs), "TENSOR": tensor, "PIPELINE": pipeline}
    inputs = {"valid_i": 1, "x_i": fmt.block * source.bits, "ready_i": 1}
    inputs |= {"tensor_scale_i": 32} if tensor else {}
    outputs = {
        "ready_o": 1,
        "valid_o": 1,
        "codes_o": fmt.block * fmt.element.bits,
        "scales_o": (1 + fmt.signs) * fmt.scale.bits,
        "invalid_o": 1,
    }
    tied = () if tensor else ("tensor_scale_i",)
    return RtlTop(TOP, parameters, sources_of(TOP), inputs, outputs, tied=tied)


def _check(fmt: BlockFormat) -> None:
    if not isinstance(fmt.block, int) or fmt.block > MAX_BLOCK:
        raise refusal("block", repr(fmt.block), f"1..{MAX_BLOCK} elements")
    if fmt.is_coded or fmt.macro is not None:
        raise refusal(
            "format", fmt.name, "ExMy elements that one scale, or one per sign, multiplies"
        )
    if fmt.rule not in RULE_CODES:
        raise refusal("rule", repr(str(fmt.rule)), ", ".join(RULE_CODES))
    if fmt.rule is ScaleRule.ABSMAX and fmt.arithmetic is not Arithmetic.DIVIDE:
        raise refusal("arithmetic", repr(str(fmt.arithmetic)), str(Arithmetic.DIVIDE))
    if fmt.scale_encoder is not ScaleEncoder.FORMAT:
        raise refusal("scale_encoder", repr(str(fmt.scale_encoder)), str(ScaleEncoder.FORMAT))


def _source(source: FloatFormat) -> dict[str, int]:
    if source.nan is not NanCodes.IEEE or not source.infinity or source.exponent_bits > 8:
        raise refusal("source", source.name, "IEEE 754's special codes: e8m23, e8m7, e5m10")
    layout = _layout("X", source, "source")
    del layout["X_SPECIALS"]
    return layout


def _float(prefix: str, fmt: Format | Table, where: str) -> dict[str, int]:
    """Return the parameters of elements, or of scales that are rounded."""
    if not isinstance(fmt, FloatFormat) or not (fmt.signed or where == "scale"):
        raise refusal(where, fmt.name, "signed floating-point formats")
    if fmt.mantissa_bits > MAX_MANTISSA:
        raise refusal(where, fmt.name, f"at most {MAX_MANTISSA} mantissa bits")
    layout = _layout(prefix, fmt, where)
    if fmt.exponent_min - fmt.mantissa_bits - 1 < LEAST_EXPONENT:
        raise refusal(where, fmt.name, f"halves of the smallest code above 2^{LEAST_EXPONENT}")
    return layout


def _layout(prefix: str, fmt: FloatFormat, where: str) -> dict[str, int]:
    if not 1 <= fmt.exponent_bits <= 8:
        raise refusal(where, fmt.name, "1..8 exponent bits")
    if fmt.subnormals is not Subnormals.GRADUAL:
        raise refusal(where, fmt.name, "gradual subnormals")
    specials = SPECIALS_CODES.get((fmt.nan, fmt.infinity))
    if specials is None or fmt.nan is NanCodes.NEGATIVE_ZERO:
        raise refusal(where, fmt.name, "no special codes, IEEE 754's, or NaN of all ones")
    return {
        f"{prefix}_EXP": fmt.exponent_bits,
        f"{prefix}_MAN": fmt.mantissa_bits,
        f"{prefix}_BIAS": fmt.bias,
        f"{prefix}_SPECIALS": specials,
    }


def _limit(fmt: BlockFormat) -> int:
    """Return as a float32 code the target that the largest magnitude maps to."""
    limit = np.float32(fmt.limit)
    if limit < np.finfo(np.float32).tiny:
        raise refusal("target", repr(fmt.limit), "normal float32 numbers")
    return int(limit.view(np.uint32))


def _scale(fmt: BlockFormat, scale: FloatFormat) -> dict[str, int]:
    least = zero = 0
    if fmt.rule in POWER_RULES:
        layout = {
            "S_EXP": scale.exponent_bits,
            "S_MAN": 0,
            "S_BIAS": scale.bias,
            "S_SPECIALS": 2 if scale.nan_code is not None else 0,
        }
    else:
        if not scale.mantissa_bits:
            raise refusal("scale", scale.name, "scales with mantissa bits under the rule absmax")
        layout = _float("S", scale, "scale")
        if fmt.zero is ZeroScale.SMALLEST:
            least = 1 << scale.mantissa_bits
        elif fmt.zero is ZeroScale.LEAST:
            least = 1
        elif fmt.zero is ZeroScale.ONE:
            zero = int(scale.encode(1.0, fmt.scale_rounding, "saturate"))
    return (
        {"S_SIGNED": int(scale.signed)}
        | layout
        | {
            "S_ROUNDING": rounding(fmt.scale_rounding, "scale_rounding"),
            "S_LEAST": least,
            "S_ZERO": zero,
            "S_NAN": scale.nan_code or 0,
        }
    )
