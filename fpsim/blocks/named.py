# SPDX-License-Identifier: Apache-2.0
"""The named block formats as data, each as its source defines it.

mxfp4, mxfp6-*, mxfp8-*     OCP MX v1.0; a suffix -rceil, -ceil or -even selects the scale rule
nvfp4, nvfp4-torchao        a zero scale becomes 1 (ModelOpt), or is clamped to 2^-6 (torchao)
amxfp4, amxfp4-rne          arXiv 2411.09909: an E5M2 scale per sign; ties away, or to even
amxfp4-e4m3, amxfp4-fp32    its other scales: E4M3 of which every code is finite, and float32
amxfp4-pot, amxfp4-pot-r    its power-of-two scales: floor, and "PoT-R" (even)
amxint4, amxint4-pot[-r]    its asymmetric INT4: E5M2 scale, or power of two, and a zero point
fouroversix[-mae|-abs-max]  arXiv 2512.02010: the largest value maps to 6 or 4, by error
fouroversix-static-6, -4    its modes without the choice: no headroom for 1.5 is needed, so E4M3's
                            full range 448 is used; the largest value maps to 6 (NVFP4) or 4
if4                         FP4, or INT4 stretched by 6/7, in the E4M3 scale's sign bit
llmfp4-*-row, -tensor       arXiv 2310.16836: a real scale 2^-b (see `fpsim.blocks.preshift`)
qrazor-w4-g*, qrazor-a4-g*  arXiv 2501.13331: 4 of 8 (weights) or of 16 (activations) bits
nvif4                       if4 whose INT4 has a scale of its own, the maximum over 7
nvfp4-2d                    tiles of 16 x 16 under one scale, for weights in training
amdfp4, amdfp4-g32          UE5M3 scales without a tensor scale, blocks of 16 or 32
mxfp4-div3                  MR-GPTQ: scales 2^floor(log2 amax) / 3, which never clip
mxfp4-ggml, nvfp4-ggml      as ggml encodes them
mxint8, mxint4              MX with integers

Formats whose codes a unit sees widened name in their ``source`` where they are from and which parts
are inferred: tables (nf4, af4, sf4, bof4, bof4-s, fp4-bnb, dint4), grids per block (blockdialect,
razer, nxfp4, mxffp), levels (mx4, mx6, mx9, hif4, m2xfp, mxfp4-mbs) and top elements (mxfp4+,
mxfp4++, m2xfp-a). ``-a`` is the form for activations.
"""

from __future__ import annotations

from typing import Any

from fpsim.blocks.tables import (
    AF4,
    BNB_FP4,
    BOF4,
    BOF4_S,
    E2M1_ONE_ZERO,
    NF4,
    SF4,
    dialects,
    dint4,
)

__all__ = ["ALIASES", "LEARNED", "named_block_formats"]

#: Other names of named formats.
ALIASES = {
    "four-over-six": "fouroversix",
    "four-over-six-mae": "fouroversix-mae",
    "four-over-six-abs-max": "fouroversix-abs-max",
}
#: Formats that a name is not enough for, and why.
LEARNED = {
    "any4": "has 16 values of its own for every row, which recipe any4 learns from a weight; an "
    "element {table = [[...], ...], wide = 'e5m10'} gives them",
}


#: Sources of formats whose entry names none, by the beginning of their names; the first that fits.
_SOURCES = {
    "mxint4": "OCP MX v1.0's MXINT8 with 4 bits, as arXiv 2310.10537 compares",
    "mx": "OCP MX v1.0",
    "nvfp4-torchao": "torchao's NVFP4: scales clamped to 2^-6, reciprocals",
    "nvfp4-2d": "NVIDIA, arXiv 2509.25149: weights in training; zero scales as in ModelOpt",
    "nvfp4": "NVIDIA NVFP4 as in ModelOpt: a zero scale becomes 1",
    "amxfp4": "arXiv 2411.09909",
    "amxint4": "arXiv 2411.09909, its asymmetric MXINT4",
    "fouroversix": "arXiv 2512.02010",
    "if4": "arXiv 2603.28765",
    "nvif4": "the re-implementation of IF4 beside RaZeR (arXiv 2501.04052): INT4 has its own scale",
    "llmfp4": "arXiv 2310.16836; biases before the search",
    "qrazor": "arXiv 2501.13331",
    "amdfp4": "arXiv 2601.19026 and AMD Quark; zero scales inferred",
}


def named_block_formats() -> list[dict[str, Any]]:
    """Return the fields of each named format, in the form that `BlockFormat.from_dict` takes."""
    return [
        fields if "source" in fields else fields | {"source": _source(fields["name"])}
        for fields in _named()
    ]


def _source(name: str) -> str:
    return next(text for start, text in _SOURCES.items() if name.startswith(start))


def _named() -> list[dict[str, Any]]:
    mx = {
        "mxfp4": "e2m1",
        "mxfp6-e2m3": "e2m3",
        "mxfp6-e3m2": "e3m2",
        "mxfp8-e4m3": "e4m3fn",
        "mxfp8-e5m2": "e5m2",
    }
    nv: dict[str, Any] = {"element": "e2m1", "block": 16, "scale": "e4m3fn", "tensor_range": 448}
    six = {**nv, "arithmetic": "ratio", "zero": "keep"}
    adaptive = {**six, "tensor_range": 256, "expansions": [1.0, 1.5]}
    amx: dict[str, Any] = {"element": "e2m1", "block": 32, "signs": True, "rounding": "rna"}
    fp8: dict[str, Any] = {"scale": "e5m2", "scale_rounding": "rna", "zero": "one"}
    amxint: dict[str, Any] = {"element": "int4", "block": 32, "rounding": "rna"}
    razor: dict[str, Any] = {"element": "int4s", "rule": "razor", "rounding": "rna"}
    flags = {"w": (8, "ue3m0b0_nozero"), "a": (16, "ue4m0b0_nozero")}
    return [
        *({"name": name, "element": element, "block": 32} for name, element in mx.items()),
        dict(name="nvfp4", zero="one", **nv),
        dict(name="nvfp4-torchao", arithmetic="reciprocal", **nv),
        dict(name="amxfp4", **amx, **fp8),
        dict(
            name="amxfp4-rne",
            **{**amx, "rounding": "rne"},
            **{**fp8, "scale_rounding": "rne"},
        ),
        dict(name="amxfp4-e4m3", **amx, **{**fp8, "scale": "e4m3f"}),
        dict(name="amxfp4-fp32", **amx, **{**fp8, "scale": "e8m23"}),
        dict(name="amxfp4-pot", **amx),
        dict(name="amxfp4-pot-r", rule="even", **amx),
        dict(name="amxint4", rule="range", **amxint, **fp8),
        dict(name="amxint4-pot", rule="range-floor", **amxint),
        dict(name="amxint4-pot-r", rule="range-round", **amxint),
        dict(name="fouroversix", choice="mse", **adaptive),
        dict(name="fouroversix-mae", choice="mae", **adaptive),
        dict(name="fouroversix-abs-max", choice="abs_max", **adaptive),
        dict(name="fouroversix-static-6", **six),
        dict(name="fouroversix-static-4", target=4, **six),
        dict(
            name="if4",
            choice="mse",
            variants=[{"element": "int4s", "factor": "6/7"}],
            stored="scale",
            **six,
        ),
        *(
            {
                "name": f"llmfp4-{element}-{span}",
                "element": element,
                "block": span,
                "scale": "real",
                "rule": "absmax",
                "zero": "one",
            }
            for element in ("e2m1", "e1m2", "e3m0")
            for span in ("row", "tensor")
        ),
        *(
            dict(name=f"qrazor-{kind}4-g{size}", block=size, base_bits=bits, scale=flag, **razor)
            for kind, (bits, flag) in flags.items()
            for size in (8, 16, 32, 128)
        ),
        dict(name="nvif4", choice="mse", variants=[{"element": "int4s"}], stored="scale", **six),
        dict(name="nvfp4-2d", **{**nv, "block": [16, 16]}, zero="one"),
        {"name": "amdfp4", "element": "e2m1", "block": 16, "scale": "ue5m3fn", "zero": "one"},
        {"name": "amdfp4-g32", "element": "e2m1", "block": 32, "scale": "ue5m3fn", "zero": "one"},
        {"name": "mxint8", "element": "int8q6", "block": 32},
        {"name": "mxint4", "element": "int4q2", "block": 32},
        *_tables(),
        *_grids(six),
        *_levels(),
        *_tops(),
    ]


def _tables() -> list[dict[str, Any]]:
    absmax: dict[str, Any] = {"block": 64, "scale": "e8m23", "zero": "keep", "ties": "down"}

    def lookup(name: str, values: tuple[float, ...], source: str, **more: Any) -> dict[str, Any]:
        element = {"table": list(values), "wide": "e5m10"}
        return {"name": name, "element": element, "source": source, **absmax, **more}

    ggml = {"table": list(E2M1_ONE_ZERO), "wide": "e2m1"}
    return [
        lookup("nf4", NF4, "QLoRA, arXiv 2305.14314; scales not quantized again"),
        lookup("af4", AF4, "arXiv 2306.06965"),
        lookup("sf4", SF4, "arXiv 2405.03103, 5 degrees of freedom"),
        lookup("bof4", BOF4, "arXiv 2505.06653, no outliers apart; ties inferred"),
        lookup(
            "bof4-s",
            BOF4_S[64],
            "arXiv 2505.06653, no outliers apart; ties inferred",
            signed_max=True,
        ),
        lookup(
            "bof4-s-g32",
            BOF4_S[32],
            "arXiv 2505.06653, no outliers apart; ties inferred",
            signed_max=True,
            block=32,
        ),
        {
            **lookup("fp4-bnb", BNB_FP4, "bitsandbytes; its decimal thresholds as exact midpoints"),
            "element": {"table": list(BNB_FP4)},
            "factor": "1/12",
            "ties": "zero",
        },
        {
            "name": "dint4",
            "block": "row",
            "rule": "range",
            "scale": "e8m23",
            "zero": "one",
            "ties": "zero",
            "element": dint4(0),
            "target": 13,
            "variants": [{"element": dint4(z), "target": 13} for z in range(1, 14)],
            "choice": "zero-point",
            "source": "AQAS, arXiv 2311.05161; ties between integers toward zero, there to even",
        },
        {
            "name": "mxfp4-ggml",
            "element": ggml,
            "block": 32,
            "scale": "e8m0",
            "rule": "floor",
            "ties": "zero",
            "source": "ggml; distances exact, there in float32",
        },
        {
            "name": "nvfp4-ggml",
            "element": ggml,
            "block": 16,
            "scale": "ue4m3fn",
            "scale_encoder": "ggml",
            "zero": "keep",
            "ties": "zero",
            "source": "ggml; distances exact, there in float32",
        },
        {
            "name": "mxfp4-div3",
            "element": "e2m1",
            "block": 32,
            "target": 1,
            "factor": "1/3",
            "source": "MR-GPTQ, arXiv 2509.23202",
        },
    ]


def _grids(six: dict[str, Any]) -> list[dict[str, Any]]:
    first, *others = dialects()
    dialect: dict[str, Any] = {
        "element": first,
        "variants": [{"element": table} for table in others],
        "block": 32,
        "scale": "ue5m0b16f_nozero",
        "rule": "floor",
    }
    ties = "ties inferred"
    return [
        dict(name="blockdialect", choice="mse", source=f"arXiv 2501.01144; {ties}", **dialect),
        dict(
            name="blockdialect-a",
            choice="dialect",
            source=f"arXiv 2501.01144; {ties}, quarters to nearest inferred",
            **dialect,
        ),
        {
            "name": "razer",
            "element": "e2m1",
            "block": 16,
            "scale": "ue3m3fn",
            "tensor_range": 28,
            "zero": "least",
            "special": [5, -5, 8, -8],
            "choice": "mse",
            "stored": "scale",
            "ties": "down",
            "source": "arXiv 2501.04052; scales rounded to a real E3M3",
        },
        {
            "name": "razer-a",
            "element": "e2m1",
            "block": 16,
            "scale": "e4m3fn",
            "tensor_range": 448,
            "zero": "one",
            "special": [-5, 5],
            "choice": "mse",
            "stored": "scale",
            "rounding": "rna",
            "source": "arXiv 2501.04052; its choice by the error of values; zero scales inferred",
        },
        {
            "name": "nxfp4",
            "element": "e2m1",
            "special": -0.25,
            "block": 32,
            "scale": "ue8m2fn_nozero",
            "variants": [{"element": "e0m3b-2", "special": -0.5}],
            "choice": "mse",
            "source": "arXiv 2412.19821; rounding of scales, ties and the integer grid inferred",
        },
        {
            "name": "mxffp",
            "element": "e2m1",
            "block": 32,
            "choice": "mse",
            "variants": [{"element": name} for name in ("e3m0", "e1m2", "e0m3")],
            "source": "MXFFP, partly read; choice by error over all four splits inferred",
        },
    ]


def _levels() -> list[dict[str, Any]]:
    pair = [{"block": 2, "ratios": [1, 2], "limit": 2}]
    return [
        *(
            {
                "name": name,
                "element": element,
                "block": 16,
                "levels": pair,
                "source": "arXiv 2302.08007; ties inferred",
            }
            for name, element in (("mx4", "e0m2"), ("mx6", "e0m4"), ("mx9", "e0m7f"))
        ),
        {
            "name": "hif4",
            "element": "e0m3",
            "block": 64,
            "scale": "ue6m2b48fn_nozero",
            "rounding": "rna",
            "arithmetic": "bf16",
            "levels": [
                {"block": 8, "ratios": [1, 2], "limit": 4},
                {"block": 4, "ratios": [1, 2], "limit": 2},
            ],
            "source": "arXiv 2602.11287",
        },
        {
            "name": "m2xfp",
            "element": "e2m1",
            "block": 32,
            "expansions": [0.5, 1, 2],
            "choice": "mse",
            "levels": [{"block": 8, "ratios": [1, 1.25, 1.5, 1.75], "by": "mse"}],
            "source": "arXiv 2601.19213",
        },
        {
            "name": "mxfp4-mbs",
            "element": "e2m1",
            "block": 16,
            "rule": "even",
            "macro": {"block": 128},
            "source": "arXiv 2603.08713; overflow-aware scaling is the rule 'even'; ties inferred",
        },
    ]


def _tops() -> list[dict[str, Any]]:
    plus: dict[str, Any] = {"element": "e2m1", "block": 32}
    top: dict[str, Any] = {"block": 32, "base": 4, "step": 0.5}
    shift = {"block": 32, "ratios": [2.0**-n for n in range(7, -1, -1)], "limit": 7}
    return [
        dict(
            name="mxfp4+",
            top={**top, "reserved": 3},
            **plus,
            source="arXiv 2510.14557; blocks of scale code 0 without a top element inferred",
        ),
        dict(
            name="mxfp4++",
            top=top,
            levels=[shift],
            **plus,
            source="arXiv 2510.14557; exponent of the rest by the second largest value inferred",
        ),
        dict(
            name="m2xfp-a",
            top={"block": 8, "element": "e2m3", "offsets": [-1, 0, 1, 2]},
            **plus,
            source="arXiv 2601.19213",
        ),
    ]
