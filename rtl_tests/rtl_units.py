# SPDX-License-Identifier: Apache-2.0
"""The units that the RTL tests run: by canonical name, or by tables where a name cannot say it."""

from __future__ import annotations

from itertools import product

from fpsim.base.errors import FpsimError
from fpsim.base.resources import golden_dir
from fpsim.hdl.rtl.parameters import rtl_top
from fpsim.units.spec import MacSpec

ROUNDINGS = ("rne", "rna", "rtz", "rup", "rdn", "rto")


def unit(a: str, b: str, **accumulate: object) -> MacSpec:
    """Return the unit of these operand formats and this stage."""
    return MacSpec.from_dict({"operands": {"a": a, "b": b}, "accumulate": accumulate})


def chain(fmt: str, a: str = "e2m1", b: str = "e2m1", **options: object) -> MacSpec:
    return unit(a, b, kind="chain", format=fmt, **options)


def fixed(width: int, lsb: int, a: str = "e2m1", b: str = "e2m1", **options: object) -> MacSpec:
    return unit(a, b, kind="fixed", width=width, lsb=lsb, **options)


def golden() -> list[MacSpec]:
    """Return the published units that the reference RTL implements."""
    specs = [MacSpec.from_toml(path) for path in sorted(golden_dir().glob("*.toml"))]
    return [spec for spec in specs if _has_rtl(spec)]


def macs() -> list[MacSpec]:
    """Return those that are a MAC working on every clock."""
    return [spec for spec in golden() if rtl_top(spec).name.startswith("mac_")]


def aligned(products: int, bits: int, fmt: str, a: str, b: str, **options: object) -> MacSpec:
    stage = {"products": products, "fraction_bits": bits, "format": fmt} | options
    return unit(a, b, kind="aligned", **stage)


def tree(products: int, fmt: str, a: str, b: str, **options: object) -> MacSpec:
    return unit(a, b, kind="tree", products=products, format=fmt, **options)


def exact(fmt: str, a: str = "e2m1", b: str = "e2m1", **options: object) -> MacSpec:
    return unit(a, b, kind="exact", format=fmt, **options)


def chunked(size: int, inner: MacSpec, fmt: str, **outer: object) -> MacSpec:
    """Return the unit whose chunks are summed as ``inner`` sums, into a chain."""
    tables = inner.to_dict()
    chain = {"kind": "chain", "format": fmt} | outer
    stage = {"kind": "chunked", "size": size, "inner": tables["accumulate"], "outer": chain}
    return MacSpec.from_dict({"operands": tables["operands"], "accumulate": stage})


def blocks(size: int, into: MacSpec, **options: object) -> MacSpec:
    """Return the unit whose block sums are summed as ``into`` sums products."""
    tables = into.to_dict()
    stage = {"kind": "block", "size": size, "into": tables["accumulate"]} | options
    return MacSpec.from_dict({"operands": tables["operands"], "accumulate": stage})


def scaled(spec: MacSpec, a: str, b: str, split: str = "none") -> MacSpec:
    """Return the unit with other scales."""
    tables = spec.to_dict()
    scales = {"a_scale": a, "b_scale": b, "sign_split": split}
    return MacSpec.from_dict(
        {"operands": tables["operands"] | scales, "accumulate": tables["accumulate"]}
    )


def block(
    size: int,
    fmt: str,
    a: str,
    b: str,
    scales: tuple[str, str] = ("e8m0", "e8m0"),
    split: str = "none",
    nan_scale: str = "nan",
    **into: object,
) -> MacSpec:
    operands = {"a": a, "b": b, "a_scale": scales[0], "b_scale": scales[1], "sign_split": split}
    stage = {"kind": "block", "size": size, "nan_scale": nan_scale}
    chained = {"kind": "chain", "format": fmt} | into
    return MacSpec.from_dict({"operands": operands, "accumulate": stage | {"into": chained}})


def _has_rtl(spec: MacSpec) -> bool:
    try:
        rtl_top(spec)
    except FpsimError:
        return False
    return True


#: One unit per thing that can differ; each also moves the run-time exponent.
TYPICAL = [
    *(chain("e4m3", rounding=rounding) for rounding in ROUNDINGS),
    chain("e4m3", overflow="saturate", rounding="rup"),
    chain("e4m3", overflow="nan", rounding="rdn"),
    chain("e4m3fn"),
    chain("e4m3fn", overflow="nan", rounding="rto"),
    chain("e8m7"),
    chain("e8m13", rounding="rtz"),
    chain("e8m23", a="e2m1b3"),
    chain("e5m10", a="e3m0b5", b="e1m2b-2"),
    chain("e4m3f", a="e4m3f", b="e5m2f"),  # products with more bits than the accumulator
    chain("e3m0f", rounding="rne"),  # no mantissa: the exponent decides ties
    fixed(4, 0, overflow="saturate"),
    fixed(8, -3, rounding="rup", overflow="wrap"),
    fixed(16, 1, a="e3m0", b="e1m2", rounding="rdn", overflow="saturate"),
    fixed(24, -6, rounding="rto", overflow="saturate"),
    fixed(5, 2, a="e4m3f", rounding="rna"),  # products with more bits than the accumulator
    fixed(64, -40, overflow="saturate", rounding="rtz"),
    fixed(64, 2),
    chain("e5m10_flush", "uint4", "ue3m2f"),
    fixed(12, -1, "uint4", "e2m1", overflow="saturate"),
]


#: Dot products: one unit per thing that can differ.
DOTS = [
    aligned(4, 25, "e8m23", "e2m1", "e4m3fn", exponent_floor=3, nan_code=0x7FFFFFFF),
    aligned(4, 5, "e8m7", "e2m1", "e2m1", width=8, signed_zero=True),
    aligned(3, 10, "e8m7", "e5m2", "e3m2f", rounding="rdn", align="rdn", addend="late",
            late_rounding="rto", signed_zero=True),
    block(4, "e8m13", "e3m2f", "e5m2", ("e5m2", "ue4m3fn"), "a", rounding="rup",
          overflow="saturate"),
    tree(5, "e5m10", "e5m2", "e4m3fn", rounding="rdn"),
    chain("e5m10", a="e4m3fnuz", b="e4m3_flush", rounding="rdn"),
    aligned(4, 5, "e8m7", "e2m1", "e2m1", width=8, width_overflow="saturate"),
    aligned(4, 25, "e8m23", "e2m1", "e4m3fn", exponent_floor=-20),
    aligned(4, 3, "e5m10", "e2m1", "e4m3fn", normalised=True, rounding="rne", align="rdn"),
    aligned(1, 1, "e5m2", "e2m1", "e2m1"),
    aligned(32, 13, "e8m13", "e4m3fn", "e4m3fn", container="e8m23", overflow="nan"),
    block(8, "e8m7", "e2m1", "e2m1", nan_scale="zero"),
    block(8, "e8m23", "int8", "int8"),
    block(4, "e5m10", "e2m1", "e4m3fnuz", rounding="rto"),
    tree(1, "e8m7", "e2m1", "e2m1"),
    tree(8, "e8m7", "e5m2", "e4m3fn", overflow="saturate"),
    chain("e5m10", a="int4"),
    chain("e8m7", a="e4m3fn", b="e5m2"),
    fixed(12, 1, a="int8", rounding="rup", overflow="saturate"),
]  # fmt: skip


#: Operands of up to 32 bits.
WIDE = [
    chain("e8m23", "e8m23", "e8m23"),
    fixed(64, 0, "int32", "int32"),
    chain("e8m23", "int32", "e8m23", rounding="rtz"),
    exact("e8m23", "int32", "int32"),
    aligned(4, 24, "e8m23", "e8m23", "e8m23"),
    tree(3, "e8m23", "e8m23", "e2m1", product="rounded"),
    block(4, "e8m23", "e8m23", "e2m1"),
]

#: What stages are composed to: one unit per thing that can differ.
COMPOSED = [
    exact("e8m7", "e5m2", "e4m3fn", rounding="rdn"),
    exact("e5m10", "e2m1", "e3m2f", rounding="sr", random_bits=7),
    exact("e4m3", "int8", "e2m1", overflow="saturate", rounding="rup"),
    scaled(exact("e8m7"), "ue4m3fn", "ue4m3fn"),
    chain("e5m10", rounding="sr", random_bits=12),
    chain("e4m3", "e5m2", "e4m3fn", rounding="sr", random_bits=1),
    chunked(8, chain("e5m10"), "e8m23"),
    chunked(3, fixed(10, -2, overflow="saturate"), "e8m13", rounding="rtz"),
    chunked(6, exact("e5m10", rounding="rtz"), "e8m23", rounding="rdn"),
    chunked(4, chain("e4m3", rounding="sr", random_bits=5), "e8m7"),
    chunked(8, aligned(4, 5, "e8m7", "e2m1", "e4m3fn"), "e8m23"),
    chunked(8, tree(4, "e5m10", "e5m2", "e2m1"), "e8m7", rounding="rup"),
    tree(9, "e5m10", "e2m1", "e4m3fn", radix=3),
    tree(7, "e8m7", "e5m2", "e2m1", radix=4, addend="fused", rounding="rdn"),
    tree(6, "e5m10", "e2m1", "e4m3fn", addend="leaf", rounding="rtz"),
    tree(8, "e4m3", "e2m1", "e2m1", addend="leaf", lanes=3, overflow="saturate"),
    tree(5, "e8m7", "e2m1", "e5m2", lanes=2, product="rounded", addend="fused"),
    tree(4, "e4m3", "e4m3fn", "e2m1", product="rounded", radix=5),
    blocks(8, scaled(aligned(2, 9, "e8m13", "e2m1", "e2m1"), "ue4m3fn", "e8m0")),
    blocks(4, scaled(aligned(4, 12, "e8m23", "e3m2f", "e2m1"), "ue4m3fn", "ue4m3fn", "a")),
    blocks(4, fixed(24, -8, rounding="rtz")),
    blocks(4, scaled(exact("e8m23"), "ue4m3fn", "ue4m3fn")),
    blocks(8, exact("e8m7", "e2m1", "e4m3fn")),
    blocks(2, tree(3, "e8m13", "e2m1", "e4m3fn", addend="leaf")),
    blocks(4, chunked(2, chain("e5m10"), "e8m23")),
    blocks(4, chain("e8m7", rounding="sr", random_bits=9)),
    chunked(16, blocks(8, chain("e8m7")), "e8m23"),
    blocks(4, chain("e8m23"), convert="e5m10", convert_rounding="rtz"),
    blocks(4, aligned(2, 9, "e8m7", "e2m1", "e4m3fn"), convert="e8m7"),
    fixed(12, -2, convert="e5m10", overflow="saturate"),
    fixed(9, 0, convert="e3m2f", convert_rounding="rup"),
    chain("e5m10", "e5m2", "e4m3fn", product="rounded"),
    chain("e4m3fn", product="rounded", rounding="rup"),
    chain("e4m3_flush", rounding="rdn"),
    chain("e4m3fnuz", "e4m3fnuz", "e2m1", rounding="rtz"),
    aligned(4, 9, "e5m10_flush", "e2m1", "e4m3fn", addend="late", signed_zero=True),
    aligned(4, 9, "e8m7", "e4m3fn", "e4m3fn", product_limit=9, normalised=True),
    scaled(aligned(4, 9, "e8m7", "e2m1", "e2m1"), "ue4m3fn", "ue4m3fn"),
    chain("e5m10", "uint4", "ue4m3fn", rounding="rtz"),
    blocks(4, exact("e8m23", "uint8", "int4")),
    aligned(4, 9, "e8m7", "uint4", "ue2m1"),
    aligned(5, 9, "e8m7", "e2m1", "e4m3fn", addend="joined"),
    aligned(8, 7, "e8m13", "e2m1", "e4m3fn", addend="joined", lanes=2, join_sum_bits=12,
            join_addend_bits=15, join_rounding="rtz", join_reach=20, exponent_floor=-6),
    blocks(4, aligned(2, 9, "e8m7", "e2m1", "e2m1", addend="joined", lanes=2)),
]  # fmt: skip


def dots() -> list[MacSpec]:
    """Return every rounding of every family of dot products, with formats in rotation."""
    units = []
    for i, rounding in enumerate(ROUNDINGS):
        other, third = ROUNDINGS[(i + 1) % 6], ROUNDINGS[(i + 2) % 6]
        policy = ("saturate", "nan", "inf")[i % 3]
        units += [
            aligned(4, 6 + i, "e5m10", "e2m1", "e4m3fn", rounding=rounding, align=other),
            aligned(3, 10, "e8m7", "e5m2", "e3m2f", rounding=rounding, align=rounding,
                    addend="late", late_rounding=third, signed_zero=True),
            aligned(8, 4, "e4m3", "e2m1", "e2m1", rounding=rounding, align=rounding,
                    signed_zero=True, overflow=policy),
            tree(5, ("e5m10", "e8m7")[i % 2], "e5m2", "e4m3fn", rounding=rounding,
                 overflow=("inf", "saturate")[i % 2]),
            block(4, "e5m10", "e2m1", "e4m3fnuz", rounding=rounding),
            block(4, "e8m13", "e3m2f", "e5m2", ("e5m2", "ue4m3fn"), "a", rounding=rounding,
                  overflow="saturate"),
        ]  # fmt: skip
    return units


def wide() -> list[MacSpec]:
    """Return every rounding and overflow policy for many formats, with operands in rotation."""
    pairs = [
        ("e2m1", "e2m1"),
        ("e3m0b3", "e1m2b0"),
        ("e3m0", "e3m0"),
        ("e4m3f", "e4m3f"),
        ("e2m1b3", "e4m3f"),
        ("e5m2f", "e5m2f"),
        ("e1m2b-4", "e1m2"),
        ("e2m1b120", "e2m1"),
        ("e5m10f", "e2m1"),
    ]
    formats = [
        *product(("e5m10", "e4m3", "e5m2"), ("inf", "saturate", "nan")),
        *product(("e4m3fn", "e8m0fn", "e3m3fn"), ("saturate", "nan")),
        *product(("e8m7", "e8m13", "e8m23", "e6m9b20"), ("inf",)),
        *product(("e4m3f", "e3m0f", "e2m1", "e1m6f", "e1m2", "e8m0f"), ("saturate",)),
    ]
    grids = [(4, 0), (4, -2), (5, 1), (8, -1), (8, -3), (12, -20), (16, -2), (24, -2), (24, -6)]
    grids += [(32, 3), (48, -20), (63, -1), (64, -2), (64, -40)]
    units = []
    for (fmt, overflow), rounding in product(formats, ROUNDINGS):
        a, b = pairs[len(units) % len(pairs)]
        units.append(chain(fmt, a, b, rounding=rounding, overflow=overflow))
    for (width, lsb), rounding in product(grids, ROUNDINGS):
        a, b = pairs[len(units) % len(pairs)]
        overflow = ("wrap", "saturate")[len(units) % 2]
        units.append(fixed(width, lsb, a, b, rounding=rounding, overflow=overflow))
    return units


def name(spec: MacSpec) -> str:
    """Return a test's name for a unit."""
    return spec.canonical_name
