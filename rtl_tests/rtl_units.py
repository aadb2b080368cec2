# SPDX-License-Identifier: Apache-2.0
"""The units that the RTL tests run: by canonical name, or by tables where a name cannot say it."""

from __future__ import annotations

from itertools import product

from fpsim.errors import FpsimError
from fpsim.hdl.parameters import rtl_top
from fpsim.resources import golden_dir
from fpsim.spec import MacSpec

ROUNDINGS = ("rne", "rna", "rtz", "rup", "rdn", "rto")


def unit(a: str, b: str, **accumulate: object) -> MacSpec:
    """Return the unit of these operand formats and this stage."""
    return MacSpec.from_dict({"operands": {"a": a, "b": b}, "accumulate": accumulate})


def chain(fmt: str, a: str = "e2m1", b: str = "e2m1", **options: str) -> MacSpec:
    return unit(a, b, kind="chain", format=fmt, **options)


def fixed(width: int, lsb: int, a: str = "e2m1", b: str = "e2m1", **options: str) -> MacSpec:
    return unit(a, b, kind="fixed", width=width, lsb=lsb, **options)


def golden() -> list[MacSpec]:
    """Return the published units that the reference RTL implements."""
    specs = [MacSpec.from_toml(path) for path in sorted(golden_dir().glob("*.toml"))]
    return [spec for spec in specs if _has_rtl(spec)]


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
]


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
