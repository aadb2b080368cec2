# SPDX-License-Identifier: Apache-2.0
"""Units of real silicon, each with the evidence for its description.

One row per instruction. The settings come from Khattak and Mikaitis (arXiv 2512.07004), who
recorded dot products on eight NVIDIA GPUs, and from Xie et al., MMA-Sim (arXiv 2511.10909), who
also describe AMD's matrix cores and Blackwell's block-scaled FP4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from fpsim.formats.names import get_format
from fpsim.formats.rounding import Rounding
from fpsim.units.spec import Evidence, MacSpec
from fpsim.units.stages import Addend, Aligned, Block, Chain, Joins, ProductRounding, Stage, Tree

__all__ = ["presets"]

RECORDINGS = "recordings of Khattak and Mikaitis, arXiv 2512.07004"
MMA_SIM = "MMA-Sim, arXiv 2511.10909"

_PLAIN = ("fp16", "bf16", "tf32")
_FP8 = ("e4m3", "e5m2")


@dataclass(frozen=True)
class _Gpu:
    """How one NVIDIA GPU adds 16-bit products; tf32 takes half as many per step."""

    products: int
    fraction_bits: int
    exponent_floor: int | None
    inputs: tuple[str, ...]
    fp8_products: int = 0
    fp8_fraction_bits: int = 13
    fp8_format: str = "e8m13"  #: float32 results of FP8 products keep 13 fraction bits


_AMPERE = _Gpu(8, 24, -132, _PLAIN)
_ADA = replace(_AMPERE, inputs=(*_PLAIN, *_FP8), fp8_products=16)
_HOPPER = _Gpu(16, 25, -133, (*_PLAIN, *_FP8), fp8_products=32)
_GPUS = {
    "v100": _Gpu(4, 23, None, ("fp16",)),
    "turing": _Gpu(8, 24, None, ("fp16",)),
    "a100": _AMPERE,
    "a2": _AMPERE,
    "ada": _ADA,
    "l40s": _ADA,
    "h100": _HOPPER,
    "h200": _HOPPER,
    "b200": replace(_HOPPER, fp8_fraction_bits=25, fp8_format="e8m23"),
}
_OPERANDS = {"fp16": "e5m10", "bf16": "e8m7", "tf32": "e8m10", "e4m3": "e4m3fn", "e5m2": "e5m2"}
#: GPU and input of the recordings that the tests hold the preset against, on every row.
VALIDATED = frozenset(
    {
        ("v100", "fp16"),
        ("a100", "fp16"),
        ("a100", "bf16"),
        ("a100", "tf32"),
        ("h100", "fp16"),
        ("h100", "bf16"),
        ("l40s", "e4m3"),
        ("l40s", "e5m2"),
    }
)
#: NVIDIA's NaN, of any origin.
_NAN32, _NAN16 = 0x7FFFFFFF, 0x7FFF


def _float(name: str) -> Any:
    return get_format(name)


def _unit(name: str, operand: str, stage: Stage, evidence: Evidence, source: str, what: str,
          **more: Any) -> MacSpec:  # fmt: skip
    fmt = get_format(operand)
    return MacSpec(
        fmt, fmt, stage, name=name, description=what, evidence=evidence, source=source, **more
    )


def _nvidia_evidence(gpu: str, operand: str) -> tuple[Evidence, str]:
    if (gpu, operand) in VALIDATED:
        return Evidence.VALIDATED, RECORDINGS
    if gpu == "turing" or (gpu == "b200" and operand in _FP8):
        return Evidence.SINGLE_SOURCE, MMA_SIM
    source = f"{RECORDINGS}; its rows are not part of the data the tests compare with"
    return Evidence.SINGLE_SOURCE, source


def _nvidia() -> Iterator[MacSpec]:
    for gpu, settings in _GPUS.items():
        for operand in settings.inputs:
            name = f"nvidia-{gpu}-{operand}"
            evidence, source = _nvidia_evidence(gpu, operand)
            stage = _nvidia_stage(settings, operand)
            what = f"tensor core of {gpu.upper()}, {operand} operands, float32 result"
            yield _unit(name, _OPERANDS[operand], stage, evidence, source, what)
            if operand in ("fp16", *_FP8):
                narrow = replace(
                    stage,
                    format=_float("e5m10"),
                    container=_float("e5m10"),
                    rounding=Rounding.RNE,
                    exponent_floor=None,
                    overflow=None,
                    nan_code=_NAN16,
                )
                what = f"tensor core of {gpu.upper()}, {operand} operands, float16 result"
                yield _unit(f"{name}-f16", _OPERANDS[operand], narrow, evidence, source, what)


def _nvidia_stage(gpu: _Gpu, operand: str) -> Aligned:
    products, bits, fmt = gpu.products, gpu.fraction_bits, "e8m23"
    if operand in _FP8:
        products, bits, fmt = gpu.fp8_products, gpu.fp8_fraction_bits, gpu.fp8_format
    elif operand == "tf32":
        products //= 2
    return Aligned(
        products,
        bits,
        _float(fmt),
        container=_float("e8m23"),
        exponent_floor=gpu.exponent_floor,
        nan_code=_NAN32,
    )


def _blackwell() -> Iterator[MacSpec]:
    late = replace(_nvidia_stage(_GPUS["b200"], "e4m3"), addend=Addend.LATE)
    for operand in _FP8:
        yield _unit(
            f"nvidia-b200-mma-{operand}",
            _OPERANDS[operand],
            late,
            Evidence.SINGLE_SOURCE,
            f"{RECORDINGS}; its rows are not part of the data the tests compare with",
            f"B200, {operand} operands through mma.sync: the addend joins late",
        )
    window = Aligned(4, 35, _float("e8m23"), exponent_floor=None, nan_code=_NAN32)
    for name, scale in (("mxf4", "e8m0"), ("nvf4", "ue4m3fn")):
        yield _unit(
            f"nvidia-b200-{name}",
            "e2m1",
            Block(16, window),
            Evidence.SINGLE_SOURCE,
            MMA_SIM,
            f"B200 block-scaled FP4, {scale.removesuffix('fn')} scales, four groups of 16",
            a_scale=get_format(scale),
            b_scale=get_format(scale),
        )


_LEAVES = {"": ProductRounding.FUSED, "-bf16": ProductRounding.ROUNDED}


def _amd() -> Iterator[MacSpec]:
    single = Evidence.SINGLE_SOURCE
    cdna1b = "Khattak and Mikaitis, arXiv 2512.07004"
    # Products are float32 numbers: float16's exactly, bfloat16's only within float32's exponents.
    for suffix, operand, products in (("", "e5m10", 4), ("-bf16", "e8m7", 2)):
        tree = Tree(_float("e8m23"), products=products, product=_LEAVES[suffix])
        what = f"MI100, {operand} operands: a float32 tree over {products} products, then c"
        yield _unit(f"amd-cdna1a{suffix}", operand, tree, single, MMA_SIM, what)
        sums = replace(tree, product=ProductRounding.FUSED)
        fused = replace(sums, radix=max(products, 2), addend=Joins.FUSED)
        what = f"MI100, {operand} operands: {products} products and c, rounded once"
        yield _unit(f"amd-cdna1b{suffix}", operand, fused, single, cdna1b, what)
    for suffix, operand in (("", "e5m10_flush"), ("-bf16", "e8m7_flush")):
        tree = Tree(_float("e8m23_flush"), products=4, product=_LEAVES[suffix])
        what = (
            "MI250X: a float32 tree over 4 products, then c; subnormals flushed everywhere, to a "
            "zero of their sign (of operands and c MMA-Sim drops it)"
        )
        yield _unit(f"amd-cdna2{suffix}", operand, tree, single, MMA_SIM, what)
    window = Aligned(
        8,
        24,
        _float("e8m23"),
        rounding=Rounding.RNE,
        addend=Addend.JOINED,
        exponent_floor=-126,
        product_limit=128,
    )
    rows = (
        ("fp16", "e5m10", window),
        ("bf16", "e8m7", window),
        ("xf32", "e8m10", replace(window, products=4)),
        ("e4m3", "e4m3fnuz", replace(window, products=16, lanes=2, join_reach=25)),
        ("e5m2", "e5m2fnuz", replace(window, products=16, lanes=2, join_reach=25)),
    )
    for name, operand, stage in rows:
        what = f"MI300, {name} operands: aligned products joined with c by floor"
        yield _unit(f"amd-cdna3-{name}", operand, stage, single, MMA_SIM, what)


def _others() -> Iterator[MacSpec]:
    yield _unit(
        "intel-amx-bf16",
        "e8m7_flush",
        Tree(_float("e8m23_flush"), products=32, lanes=2),
        Evidence.MODELLED,
        "Intel's description of TDPBF16PS",
        "AMX bfloat16 tile: even and odd products in two float32 chains, then added to c",
    )
    for operand, size in (("e4m3", 8), ("e2m1", 16)):
        yield _unit(
            f"pulp-mxdotp-{operand}",
            _OPERANDS.get(operand, operand),
            Block(size, Chain(_float("e8m23"))),
            Evidence.MODELLED,
            "RTL of the PULP platform MXDOTP unit; its limit on left shifts is not modelled",
            f"fused MX dot product: {size} products, scaled, and the accumulator rounded once",
        )


@cache
def presets() -> dict[str, MacSpec]:
    """Return the units of real silicon by name."""
    return {s.name: s for part in (_nvidia, _blackwell, _amd, _others) for s in part()}
