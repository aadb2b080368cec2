# SPDX-License-Identifier: Apache-2.0
"""The named block formats as data, each as its source defines it.

mxfp4, mxfp6-*, mxfp8-*     OCP MX v1.0; a suffix -rceil, -ceil or -even selects the scale rule
nvfp4, nvfp4-torchao        a zero scale becomes 1 (ModelOpt), or is clamped to 2^-6 (torchao)
amxfp4, amxfp4-rne          arXiv 2411.09909: an E5M2 scale per sign; ties away, or to even
amxfp4-e4m3, amxfp4-fp32    its other scales: E4M3 of which every code is finite, and float32
amxfp4-pot, amxfp4-pot-r    the same with powers of two: floor, and "PoT-R" (even)
amxint4, amxint4-pot[-r]    its asymmetric INT4: E5M2 scale, or power of two, and a zero point
fouroversix[-mae|-abs-max]  arXiv 2512.02010: the largest value maps to 6 or 4, by error
fouroversix-static-6, -4    its modes without the choice: no headroom for 1.5 is needed, so E4M3's
                            full range 448 is used; the largest value maps to 6 (NVFP4) or 4
if4                         FP4, or INT4 stretched by 6/7, in the E4M3 scale's sign bit
llmfp4-*-row, -tensor       arXiv 2310.16836: a real scale 2^-b (see `fpsim.blocks.preshift`)
qrazor-w4-g*, qrazor-a4-g*  arXiv 2501.13331: 4 of 8 (weights) or of 16 (activations) bits
"""

from __future__ import annotations

from typing import Any

__all__ = ["named_block_formats"]


def named_block_formats() -> list[dict[str, Any]]:
    """Return the fields of each named format, as `BlockFormat.from_dict` takes them."""
    mx = {
        "mxfp4": "e2m1",
        "mxfp6-e2m3": "e2m3",
        "mxfp6-e3m2": "e3m2",
        "mxfp8-e4m3": "e4m3fn",
        "mxfp8-e5m2": "e5m2",
    }
    nv: dict[str, Any] = {"element": "e2m1", "block": 16, "scale": "e4m3fn", "tensor_range": 448}
    six = {**nv, "arithmetic": "ratio", "zero": "keep"}
    adaptive = {**six, "tensor_range": 256}
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
        dict(name="if4", choice="mse", alternative="int4s", **six),
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
    ]
