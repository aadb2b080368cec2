# SPDX-License-Identifier: Apache-2.0
"""From a unit to the reference SystemVerilog: top module, parameters, ports and sources.

The parameters are derived from the spec alone, so model and RTL cannot drift apart. A unit outside
what the RTL implements is refused with the field and what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fpsim.base.errors import FpsimError
from fpsim.base.resources import rtl_dir
from fpsim.formats.floating import FixedFormat, FloatFormat
from fpsim.formats.rounding import Overflow
from fpsim.hdl.dut.dut import EXPONENT_BITS
from fpsim.hdl.rtl.rtl_codes import OVERFLOW_CODES, accumulator, operand, refusal, rounding, scale
from fpsim.units.spec import MacSpec, SignSplit
from fpsim.units.stages import Aligned, Block, Chain, Fixed, Tree
from fpsim.units.stages.aligned import Addend
from fpsim.units.stages.composite import NanScale
from fpsim.units.stages.simple import OverflowAt, ProductRounding
from fpsim.units.stages.tree import Joins

__all__ = ["RtlTop", "rtl_top", "sources_of"]

PACKAGE = "fpsim_pkg.sv"
_INSTANCE = re.compile(r"^\s+(\w+) #\($", re.MULTILINE)
MAX_PIPELINE = 64


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
    tied: tuple[str, ...] = ()  #: inputs that this unit leaves at 0


@dataclass(frozen=True)
class _Family:
    """What a stage says about its top: elements and scales per beat, and parameters."""

    name: str
    parameters: dict[str, int]
    lanes: int = 1
    scaled: bool = False


def rtl_top(
    spec: MacSpec, *, stream: bool = False, scaled: bool = False, pipeline: int = 1
) -> RtlTop:
    """Return the reference RTL of a unit.

    A chain or fixed unit is a MAC that works on every clock, with a run-time exponent; ``stream``
    asks for its dot product with valid/ready instead, which the other stages always are.

    Args:
        spec: the unit.
        stream: a valid/ready stream of beats.
        scaled: of a chain's stream: with scale codes per element.
        pipeline: registers before the accumulator of a stream.

    Raises:
        FpsimError: a unit that the RTL does not implement, naming the field.
    """
    if not 0 <= pipeline <= MAX_PIPELINE:
        raise FpsimError(f"pipeline: {pipeline} is not in 0..{MAX_PIPELINE}")
    stage = spec.accumulate
    if not isinstance(stage, tuple(_FAMILIES)):
        kinds = ", ".join(kind.kind for kind in _FAMILIES)
        raise refusal("accumulate.kind", repr(stage.kind), kinds)
    operands = operand("a", spec.a) | operand("b", spec.b)
    if isinstance(stage, Fixed):  # takes finite operands alone
        operands = {key: code for key, code in operands.items() if not key.endswith("_SPECIALS")}
    family = _FAMILIES[type(stage)](spec, stage)
    _check_specials(spec)
    if isinstance(stage, Chain | Fixed) and not stream:
        return _mac(spec, family, operands)
    return _stream(spec, family, operands, scaled, pipeline)


# -- tops ------------------------------------------------------------------------------------------


def _mac(spec: MacSpec, family: _Family, operands: dict[str, int]) -> RtlTop:
    parameters = operands | family.parameters | {"SCALE_W": EXPONENT_BITS}
    name = f"mac_{family.name}"
    width = spec.result.bits
    inputs = {
        "op_i": 2,
        "a_i": spec.a.bits,
        "b_i": spec.b.bits,
        "c_i": width,
        "exp_i": EXPONENT_BITS,
    }
    return RtlTop(name, parameters, sources_of(name), inputs, {"acc_o": width})


def _stream(
    spec: MacSpec, family: _Family, operands: dict[str, int], scaled: bool, pipeline: int
) -> RtlTop:
    chain = family.name == "chain"
    if scaled and not (chain or family.scaled):
        raise FpsimError(f"scaled: {spec.name} takes no scales; allowed: chain and block stages")
    parameters = operands | family.parameters | {"PIPELINE": pipeline}
    if family.lanes > 1 or not isinstance(spec.accumulate, Chain | Fixed):
        parameters = {"LANES": family.lanes} | parameters
    if chain:
        parameters["SCALED"] = int(scaled)
    width = spec.result.bits
    inputs = {"valid_i": 1, "ready_i": 1, "op_i": 3, "last_i": 1}
    inputs |= {"a_i": spec.a.bits * family.lanes, "b_i": spec.b.bits * family.lanes}
    if scaled or family.scaled:
        parameters |= scale("a", spec.a_scale) | scale("b", spec.b_scale)
        for name, fmt in (("a", spec.a_scale), ("b", spec.b_scale)):
            inputs[f"{name}_scale_i"] = fmt.bits * (1 + spec.splits(name))
    inputs["c_i"] = width
    outputs = {"ready_o": 1, "valid_o": 1, "acc_o": width}
    name = f"dot_{family.name}"
    tied = ("a_scale_i", "b_scale_i") if chain and not scaled else ()
    return RtlTop(name, parameters, sources_of(name), inputs, outputs, tied=tied)


def sources_of(name: str) -> tuple[Path, ...]:
    """Return a module's files in compile order: the package, then leaves before their users."""
    root = rtl_dir()
    found: list[Path] = [root / PACKAGE]

    def add(module: str) -> None:
        path = root / f"{module}.sv"
        for child in _INSTANCE.findall(path.read_text(encoding="utf-8")):
            add(child)
        if path not in found:
            found.append(path)

    add(name)
    return tuple(found)


# -- stages ----------------------------------------------------------------------------------------


def _chain(spec: MacSpec, stage: Chain, where: str = "accumulate") -> _Family:
    if stage.product is not ProductRounding.FUSED:
        raise refusal(f"{where}.product", repr(str(stage.product)), "fused")
    _no_split(spec)
    return _Family("chain", _float_sum(stage, stage.format, where))


def _fixed(spec: MacSpec, stage: Fixed) -> _Family:
    if stage.sums_first:
        raise refusal("accumulate.overflow_at", repr(str(OverflowAt.END)), "add, or wrap")
    if stage.convert is not None:
        raise refusal("accumulate.convert", stage.convert.name, "none")
    _no_split(spec)
    return _Family(
        "fixed",
        {
            "W_ACC": stage.width,
            "LSB": stage.lsb,
            "ROUNDING": rounding(stage.rounding),
            "OVERFLOW": OVERFLOW_CODES[stage.overflow],
        },
    )


def _aligned(spec: MacSpec, stage: Aligned) -> _Family:
    if stage.addend is Addend.JOINED:
        raise refusal("accumulate.addend", repr(str(stage.addend)), "early, late")
    if stage.product_limit is not None:
        raise refusal("accumulate.product_limit", stage.product_limit, "none")
    _no_split(spec)
    for name, fmt in (("a", spec.a), ("b", spec.b)):
        if isinstance(fmt, FixedFormat) and fmt.symmetric:
            raise refusal(f"operands.{name}", fmt.name, "integers that are not symmetric")
    nan = stage.nan or 0
    parameters = accumulator(stage.result, "accumulate.container") | {
        "FRACTION_BITS": stage.fraction_bits,
        "ALIGN": rounding(stage.align, "accumulate.align"),
        "LATE": int(stage.addend is Addend.LATE),
        "LATE_ROUNDING": rounding(stage.late_rounding, "accumulate.late_rounding"),
        "FLOOR_ON": int(stage.exponent_floor is not None),
        "FLOOR": stage.exponent_floor or 0,
        "NORMALISED": int(stage.normalised),
        "W_SUM": stage.width or 0,
        "SUM_OVERFLOW": OVERFLOW_CODES[stage.width_overflow],
        "SIGNED_ZERO": int(stage.signed_zero),
        "NAN_CODE": nan - (1 << 32 if nan >> 31 else 0),  # a parameter is a signed int
        "OUT_MAN": stage.format.mantissa_bits,
        "ROUNDING": rounding(stage.rounding),
        "OVERFLOW": _policy(stage.overflow),
    }
    return _Family("aligned", parameters, stage.products)


def _tree(spec: MacSpec, stage: Tree) -> _Family:
    if stage.products is None:
        raise refusal("accumulate.products", "all of K", "a number")
    for name, value, allowed in (
        ("radix", stage.radix, 2),
        ("lanes", stage.lanes, 1),
        ("addend", str(stage.addend), str(Joins.ROOT)),
        ("product", str(stage.product), str(ProductRounding.FUSED)),
    ):
        if value != allowed:
            raise refusal(f"accumulate.{name}", repr(value), str(allowed))
    _no_split(spec)
    return _Family("tree", _float_sum(stage, stage.format, "accumulate"), stage.products)


def _block(spec: MacSpec, stage: Block) -> _Family:
    into = stage.into
    if not isinstance(into, Chain):
        raise refusal("accumulate.into.kind", repr(into.kind), "chain")
    if into.product is not ProductRounding.FUSED:
        raise refusal("accumulate.into.product", repr(str(into.product)), "fused")
    if stage.convert is not None:
        raise refusal("accumulate.convert", stage.convert.name, "none")
    drops = stage.nan_scale is NanScale.ZERO
    if drops and (spec.a_scale.infinity or spec.b_scale.infinity):  # type: ignore[union-attr]
        raise refusal("accumulate.nan_scale", "'zero' with scales that can be infinite", "nan")
    parameters = _float_sum(into, into.format, "accumulate.into") | {
        "NAN_ZERO": int(drops),
        "A_SPLIT": int(spec.splits("a")),
        "B_SPLIT": int(spec.splits("b")),
    }
    return _Family("block", parameters, stage.size, scaled=True)


_FAMILIES: dict[Any, Callable[[MacSpec, Any], _Family]] = {
    Chain: _chain,
    Fixed: _fixed,
    Aligned: _aligned,
    Tree: _tree,
    Block: _block,
}


def _float_sum(stage: Chain | Tree, fmt: FloatFormat, where: str) -> dict[str, int]:
    return accumulator(fmt, f"{where}.format") | {
        "ROUNDING": rounding(stage.rounding, f"{where}.rounding"),
        "OVERFLOW": _policy(stage.overflow),
    }


def _policy(overflow: Overflow | None) -> int:
    assert overflow is not None
    return OVERFLOW_CODES[overflow]


def _no_split(spec: MacSpec) -> None:
    if spec.sign_split is not SignSplit.NONE:
        raise refusal("operands.sign_split", repr(str(spec.sign_split)), "none, but in blocks")


def _check_specials(spec: MacSpec) -> None:
    """Refuse operands that can be NaN where the result cannot."""
    if isinstance(spec.result, FloatFormat) and spec.result.nan_code is not None:
        return
    for name, fmt in (("a", spec.a), ("b", spec.b)):
        if isinstance(fmt, FloatFormat) and (fmt.nan_code is not None or fmt.infinity):
            raise refusal(
                f"operands.{name}", fmt.name, f"finite formats, as {spec.result.name} has no NaN"
            )
