# SPDX-License-Identifier: Apache-2.0
"""From a unit to the reference SystemVerilog: top module, parameters, ports and sources.

The parameters are derived from the spec alone, so model and RTL cannot drift apart. A unit that the
RTL does not implement is refused with the field and its allowed values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fpsim.base.errors import FpsimError
from fpsim.base.resources import rtl_dir
from fpsim.blocks.code_table import CodeTable
from fpsim.formats.floating import FixedFormat, FloatFormat
from fpsim.formats.lfsr import GaloisLfsr
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.hdl.dut.dut import EXPONENT_BITS
from fpsim.hdl.rtl.rtl_codes import (
    JOIN_CODES,
    OVERFLOW_CODES,
    STAGE_CODES,
    accumulator,
    operand,
    refusal,
    rounding,
    scale,
    table,
)
from fpsim.units.spec import MacSpec, SignSplit
from fpsim.units.stages import (
    Aligned,
    Block,
    Chain,
    Chunked,
    Exact,
    Fixed,
    Stage,
    Tree,
    first_sum,
    stages_of,
)
from fpsim.units.stages.aligned import Addend
from fpsim.units.stages.composite import NanScale
from fpsim.units.stages.simple import OverflowAt, ProductRounding
from fpsim.vectors.sets.status_flags import FLAG_BITS

__all__ = ["RtlTop", "rtl_top", "sources_of"]

PACKAGE = "fpsim_pkg.sv"
_INSTANCE = re.compile(r"^\s+(\w+) #\($", re.MULTILINE)
MAX_PIPELINE = 64
#: An exact accumulator holds the sum of up to 2^this terms.
COUNT_BITS = 16


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
    open: tuple[str, ...] = ()  #: outputs that it does not use
    lfsr: GaloisLfsr | None = None  #: of a design that makes its random bits itself
    #: Of operands, by ``a`` and ``b``, that come in as codes of a table.
    tables: Mapping[str, CodeTable] = field(default_factory=dict)


def rtl_top(
    spec: MacSpec,
    *,
    stream: bool = False,
    scaled: bool = False,
    pipeline: int = 1,
    lfsr: GaloisLfsr | None = None,
    flags: bool = False,
    tables: Mapping[str, CodeTable] | None = None,
) -> RtlTop:
    """Return the reference RTL of a unit.

    A chain or fixed unit is by default a MAC that works on every clock, with a run-time exponent.
    All other units, and stages with settings that this MAC lacks, are dot products with
    valid/ready: streams of beats.

    Args:
        spec: the unit.
        stream: a valid/ready stream of beats for a chain or fixed unit too.
        scaled: of a stream without blocks: with a scale code of each operand per beat.
        pipeline: registers before the accumulator of a stream.
        lfsr: source of the random bits of stochastic rounding; None: a port.
        flags: with the status flags of `fpsim.vectors.sets.status_flags`; a chain or fixed unit
            becomes a stream.
        tables: of operands, by ``a`` and ``b``, that come in as 4-bit codes of a table, whose
            numbers have the format of the unit's operand.

    Returns:
        The top with its parameters, ports and sources.

    Raises:
        FpsimError: a unit that the RTL does not implement, or a table of another operand format,
            naming the field.
    """
    if not 0 <= pipeline <= MAX_PIPELINE:
        raise FpsimError(f"pipeline: {pipeline} is not in 0..{MAX_PIPELINE}")
    tables = tables or {}
    _check_specials(spec, tables)
    stage = spec.accumulate
    parameters = operand("a", spec.a) | operand("b", spec.b)
    for name, held in tables.items():
        parameters |= table(name, held, getattr(spec, name))
    if not isinstance(stage, Block | Chunked) and spec.sign_split is not SignSplit.NONE:
        raise refusal("operands.sign_split", repr(str(spec.sign_split)), "none, but in blocks")
    own = _stage(spec, stage, "accumulate")
    if lfsr is not None and lfsr != GaloisLfsr(lfsr.state):
        raise FpsimError("lfsr: the reference RTL has the register of 32 bits alone")
    if lfsr is not None and "RANDOM_BITS" not in own:
        raise FpsimError(f"lfsr: {spec.name} takes no random bits; leave it out")
    if isinstance(stage, Chain | Fixed) and not (stream or flags or _more_than_mac(stage)):
        return _mac(spec, parameters | own, tables)
    top = _stream(spec, parameters, own, scaled, pipeline, tables)
    if flags:
        top = _with_flags(spec, top, scaled)
    return top if lfsr is None else _with_lfsr(spec, top, lfsr)


# -- tops ------------------------------------------------------------------------------------------


def _more_than_mac(stage: Chain | Fixed) -> bool:
    """Return whether a stage has settings that the MACs without a stream do not have."""
    if isinstance(stage, Fixed):
        return stage.convert is not None
    return stage.random_bits > 0 or stage.product is not ProductRounding.FUSED


def _mac(spec: MacSpec, parameters: dict[str, int], tables: Mapping[str, CodeTable]) -> RtlTop:
    name = "mac_fixed" if isinstance(spec.accumulate, Fixed) else "mac_chain"
    parameters = {key: value for key, value in parameters.items() if key not in _OF_STREAMS}
    if isinstance(spec.accumulate, Fixed):  # takes finite operands alone
        parameters = {k: v for k, v in parameters.items() if not k.endswith("_SPECIALS")}
    width = spec.result.bits
    inputs = {
        "op_i": 2,
        **_operand_bits(spec, tables),
        "c_i": width,
        "exp_i": EXPONENT_BITS,
    }
    parameters |= {"SCALE_W": EXPONENT_BITS}
    sources = sources_of(name)
    return RtlTop(name, parameters, sources, inputs, {"acc_o": width}, tables=tables)


def _operand_bits(spec: MacSpec, tables: Mapping[str, CodeTable], lanes: int = 1) -> dict[str, int]:
    """Return the widths of the ports of both operands."""
    return {f"{n}_i": lanes * tables.get(n, getattr(spec, n)).bits for n in "ab"}


def _stream(
    spec: MacSpec, operands: dict[str, int], own: dict[str, int], scaled: bool, pipeline: int,
    tables: Mapping[str, CodeTable],
) -> RtlTop:  # fmt: skip
    block = spec.block
    if block is not None and scaled:
        raise FpsimError(f"scaled: {spec.name} has a scale per block; leave it out")
    lanes = own["LANES"]
    parameters = {"LANES": lanes} | operands
    if block is None:
        parameters["SCALED"] = int(scaled)
    if scaled or block is not None:
        parameters |= scale("a", spec.a_scale) | scale("b", spec.b_scale)
    parameters |= own | {"PIPELINE": pipeline}
    inputs = {"valid_i": 1, "ready_i": 1, "op_i": 3, "last_i": 1}
    inputs |= _operand_bits(spec, tables, lanes)
    unused = []
    scales = lanes // block.size if block is not None else 1
    for name, fmt in (("a", spec.a_scale), ("b", spec.b_scale)):
        if scaled or block is not None:
            inputs[f"{name}_scale_i"] = scales * fmt.bits * (1 + spec.splits(name))
        else:
            unused.append(f"{name}_scale_i")
    if "RANDOM_BITS" in own:
        terms = 1 if isinstance(first_sum(spec.accumulate), Exact) else scales * spec.quadrants
        inputs["random_i"] = own["RANDOM_BITS"] * (terms if block is not None else 1)
    else:
        unused.append("random_i")
    inputs["c_i"] = spec.initial.bits
    outputs = {"ready_o": 1, "valid_o": 1, "acc_o": spec.result.bits}
    sources = sources_of("dot", _modules(parameters))
    return RtlTop(
        "dot", parameters, sources, inputs, outputs, tied=tuple(unused), open=("flags_o",),
        tables=tables,
    )  # fmt: skip


def _with_flags(spec: MacSpec, top: RtlTop, scaled: bool) -> RtlTop:
    """Return a stream with a port of status flags."""
    for stage in stages_of(spec.accumulate):
        if isinstance(stage, Fixed) and stage.overflow_at is not OverflowAt.ADD:
            allowed = "add, with status flags: what left the register and came back is not seen"
            raise refusal("accumulate.overflow_at", repr(str(stage.overflow_at)), allowed)
    if scaled:  # the model scales operands before they are multiplied, and a NaN comes too late
        for name in ("a", "b"):
            own, scale = getattr(spec, name), getattr(spec, f"{name}_scale")
            infinite = getattr(own, "infinity", False) and getattr(scale, "has_zero", True)
            if infinite or getattr(scale, "infinity", False):
                allowed = "with status flags, formats whose products with an operand are numbers"
                raise refusal(f"operands.{name}_scale", scale.name, allowed)
    return replace(
        top,
        parameters=top.parameters | {"FLAGS": 1},
        outputs=top.outputs | {"flags_o": FLAG_BITS},
        open=(),
    )


def _with_lfsr(spec: MacSpec, top: RtlTop, lfsr: GaloisLfsr) -> RtlTop:
    """Return a stream that makes its random bits itself."""
    seed = lfsr.state - (1 << 32 if lfsr.state >> 31 else 0)  # a parameter is a signed int
    return replace(
        top,
        parameters=top.parameters | {"LFSR": 1, "LFSR_SEED": seed},
        sources=sources_of(top.name, {*_modules(top.parameters), "galois_lfsr"}),
        inputs={name: width for name, width in top.inputs.items() if name != "random_i"},
        tied=(*top.tied, "random_i"),
        lfsr=lfsr,
    )


def sources_of(name: str, used: Collection[str] | None = None) -> tuple[Path, ...]:
    """Return a module's files in compile order: the package, then leaves before their users.

    ``used`` are the modules that it instantiates itself with its parameters; None: all it names.
    """
    root = rtl_dir()
    found: list[Path] = [root / PACKAGE]

    def add(module: str, used: Collection[str] | None = None) -> None:
        path = root / f"{module}.sv"
        for child in _INSTANCE.findall(path.read_text(encoding="utf-8")):
            if used is None or child in used:
                add(child)
        if path not in found:
            found.append(path)

    add(name, used)
    return tuple(found)


#: Modules of a stream, by the stage that its terms go into.
_STAGE_MODULES = {
    "chain": ("stage_chain",),
    "fixed": ("stage_fixed",),
    "exact": ("stage_exact",),
    "aligned": ("aligned_add", "max_exponent"),
    "tree": ("stage_tree",),
}


def _modules(parameters: dict[str, int]) -> set[str]:
    """Return the modules that a stream with these parameters instantiates itself."""
    has = parameters.get
    (kind,) = (kind for kind, code in STAGE_CODES.items() if code == has("STAGE"))
    used = {"stream_pipe", "code_lookup", "acc_stream", "any_flags", *_STAGE_MODULES[kind]}
    used.add("block_sum" if has("BLOCK") else "fp_product")
    if has("BLOCK") or has("SCALED"):
        used.add("fp_scale")
    if has("NORMALISED") or has("LIMIT_ON"):
        used.add("fp_normalise")
    if has("T_CONVERT") or has("R_CONVERT"):
        used |= {"fp_convert", "fp_decode"}
    if has("CHUNK") or (kind == "tree" and has("JOIN") == 0):
        used |= {"stage_chain", "fp_decode"}
    return used


# -- stages ----------------------------------------------------------------------------------------

#: Parameters that the MACs without a stream do not have.
_OF_STREAMS = frozenset({"STAGE", "LANES"})


def _stage(spec: MacSpec, stage: Stage, where: str) -> dict[str, int]:
    """Return the parameters of a stage and of its inner stages, LANES among them."""
    if type(stage) not in _STAGES:
        kinds = ", ".join(kind.kind for kind in _STAGES)
        raise refusal(f"{where}.kind", repr(stage.kind), kinds)
    return _STAGES[type(stage)](spec, stage, where)


def _chain(spec: MacSpec, stage: Chain, where: str) -> dict[str, int]:
    own = {"LANES": 1, "STAGE": STAGE_CODES["chain"]} | _float_sum(stage, stage.format, where)
    if stage.product is not ProductRounding.FUSED:
        own["ROUNDED"] = 1
    return own


def _exact(spec: MacSpec, stage: Exact, where: str) -> dict[str, int]:
    own = {"LANES": 1, "STAGE": STAGE_CODES["exact"], "COUNT_W": COUNT_BITS}
    return own | _float_sum(stage, stage.format, where)


def _fixed(spec: MacSpec, stage: Fixed, where: str) -> dict[str, int]:
    if stage.random_bits:
        raise refusal(f"{where}.rounding", "'sr' in fixed point", "roundings without random bits")
    if stage.sums_first:
        raise refusal(f"{where}.overflow_at", repr(str(OverflowAt.END)), "add, or wrap")
    own = {
        "LANES": 1,
        "STAGE": STAGE_CODES["fixed"],
        "W_ACC": stage.width,
        "LSB": stage.lsb,
        "ROUNDING": rounding(stage.rounding, f"{where}.rounding"),
        "OVERFLOW": OVERFLOW_CODES[stage.overflow],
    }
    if stage.convert is not None:
        own |= _conversion("R", stage.convert, stage.convert_rounding, where)
    return own


def _aligned(spec: MacSpec, stage: Aligned, where: str) -> dict[str, int]:
    for name, fmt in (("a", spec.a), ("b", spec.b)):
        if isinstance(fmt, FixedFormat) and fmt.symmetric and spec.block is None:
            raise refusal(f"operands.{name}", fmt.name, "integers that are not symmetric")
    nan = stage.nan or 0
    own = {"LANES": stage.products, "STAGE": STAGE_CODES["aligned"]}
    own |= accumulator(stage.result, f"{where}.container")
    own |= {
        "FRACTION_BITS": stage.fraction_bits,
        "ALIGN": rounding(stage.align, f"{where}.align"),
        "LATE": int(stage.addend is Addend.LATE),
        "LATE_ROUNDING": rounding(stage.late_rounding, f"{where}.late_rounding"),
        "FLOOR_ON": int(stage.exponent_floor is not None),
        "FLOOR": stage.exponent_floor or 0,
        "NORMALISED": int(stage.normalised),
        "LIMIT_ON": int(stage.product_limit is not None),
        "LIMIT": stage.product_limit or 0,
        "W_SUM": stage.width or 0,
        "SUM_OVERFLOW": OVERFLOW_CODES[stage.width_overflow],
        "SIGNED_ZERO": int(stage.signed_zero),
        "NAN_CODE": nan - (1 << 32 if nan >> 31 else 0),  # a parameter is a signed int
        "OUT_MAN": stage.format.mantissa_bits,
        "ROUNDING": rounding(stage.rounding, f"{where}.rounding"),
        "OVERFLOW": _policy(stage.overflow),
    }
    if stage.addend is Addend.JOINED:
        own |= {
            "JOINED": 1,
            "WINDOWS": stage.lanes,
            "JOIN_SUM_BITS": stage.join_sum_bits,
            "JOIN_C_BITS": stage.join_addend_bits,
            "JOIN_ROUNDING": rounding(stage.join_rounding, f"{where}.join_rounding"),
            "JOIN_REACH": -1 if stage.join_reach is None else stage.join_reach,
        }
    return own


def _tree(spec: MacSpec, stage: Tree, where: str) -> dict[str, int]:
    if stage.products is None:
        raise refusal(f"{where}.products", "all of K", "a number")
    own = {"LANES": stage.products, "STAGE": STAGE_CODES["tree"]}
    own |= _float_sum(stage, stage.format, where)
    return own | {
        "RADIX": stage.radix,
        "TREE_LANES": stage.lanes,
        "JOIN": JOIN_CODES[stage.addend],
        "ROUNDED": int(stage.product is not ProductRounding.FUSED),
    }


def _block(spec: MacSpec, stage: Block, where: str) -> dict[str, int]:
    drops = stage.nan_scale is NanScale.ZERO
    if drops and (spec.a_scale.infinity or spec.b_scale.infinity):  # type: ignore[union-attr]
        raise refusal(f"{where}.nan_scale", "'zero' with scales that can be infinite", "nan")
    own = _stage(spec, stage.into, f"{where}.into")
    terms = own["LANES"]  # of a beat: one per block and combination of signs
    if terms % spec.quadrants and terms > 1:
        raise refusal(
            f"{where}.into.products", terms, f"a multiple of {spec.quadrants}, the sums of a block"
        )
    blocks = max(terms // spec.quadrants, 1)
    own["LANES"] = blocks * stage.size
    own |= {
        "BLOCK": stage.size,
        "NAN_ZERO": int(drops),
        "A_SPLIT": int(spec.splits("a")),
        "B_SPLIT": int(spec.splits("b")),
    }
    if stage.convert is not None:
        own |= _conversion("T", stage.convert, stage.convert_rounding, where)
    if isinstance(stage.into, Chunked):  # whose chunks count terms
        terms = blocks * spec.quadrants
        own["CHUNK"] = _beats(stage.into, terms, f"{where}.into")
    return own


def _chunked(spec: MacSpec, stage: Chunked, where: str) -> dict[str, int]:
    if stage.size is None:
        raise refusal(f"{where}.parts", stage.parts, "size, a number of terms per chunk")
    if not isinstance(stage.outer, Chain):
        raise refusal(f"{where}.outer.kind", repr(stage.outer.kind), "chain")
    if isinstance(stage.inner, Chunked):
        raise refusal(f"{where}.inner.kind", "'chunked'", "stages that are not chunked")
    outer = _chain(spec, stage.outer, f"{where}.outer")
    if {"ROUNDED", "RANDOM_BITS"} & outer.keys():
        setting = "product" if "ROUNDED" in outer else "rounding"
        value = getattr(stage.outer, setting)
        raise refusal(f"{where}.outer.{setting}", repr(str(value)), "fused, without 'sr'")
    own = _stage(spec, stage.inner, f"{where}.inner")
    if own.get("R_CONVERT"):
        raise refusal(f"{where}.inner.convert", stage.inner.result.name, "none")
    own |= {key.replace("ACC_", "S_"): v for key, v in outer.items() if key.startswith("ACC_")}
    own |= {f"S_{key}": outer[key] for key in ("ROUNDING", "OVERFLOW")}
    return own | {"CHUNK": _beats(stage, own["LANES"], where)}


def _beats(stage: Chunked, step: int, where: str) -> int:
    """Return the beats of a chunk, of ``step`` terms each."""
    assert stage.size is not None
    if stage.size % step:
        raise refusal(f"{where}.size", stage.size, f"multiples of {step}, the terms of a beat")
    return stage.size // step


_STAGES: dict[Any, Callable[[MacSpec, Any, str], dict[str, int]]] = {
    Chain: _chain,
    Fixed: _fixed,
    Exact: _exact,
    Aligned: _aligned,
    Tree: _tree,
    Block: _block,
    Chunked: _chunked,
}


def _float_sum(stage: Chain | Exact | Tree, fmt: FloatFormat, where: str) -> dict[str, int]:
    own = accumulator(fmt, f"{where}.format")
    own |= {
        "ROUNDING": rounding(stage.rounding, f"{where}.rounding"),
        "OVERFLOW": _policy(stage.overflow),
    }
    bits = getattr(stage, "random_bits", 0)
    return own | ({"RANDOM_BITS": bits} if bits else {})


def _conversion(prefix: str, fmt: FloatFormat, mode: Rounding, where: str) -> dict[str, int]:
    return (
        {f"{prefix}_CONVERT": 1}
        | accumulator(fmt, f"{where}.convert", prefix)
        | {
            f"{prefix}_ROUNDING": rounding(mode, f"{where}.convert_rounding"),
            f"{prefix}_OVERFLOW": OVERFLOW_CODES[fmt.default_overflow],
        }
    )


def _policy(overflow: Overflow | None) -> int:
    assert overflow is not None
    return OVERFLOW_CODES[overflow]


def _check_specials(spec: MacSpec, tables: Collection[str]) -> None:
    """Refuse operands that can be NaN where a format on the way to the result cannot."""
    for stage in stages_of(spec.accumulate):
        for fmt in (getattr(stage, name, None) for name in ("initial", "format", "convert")):
            if fmt is None or (isinstance(fmt, FloatFormat) and fmt.nan_code is not None):
                continue
            for name, own in (("a", spec.a), ("b", spec.b)):
                if name in tables:  # of numbers alone
                    continue
                if isinstance(own, FloatFormat) and (own.nan_code is not None or own.infinity):
                    allowed = f"finite formats, as {fmt.name} has no NaN"
                    raise refusal(f"operands.{name}", own.name, allowed)
