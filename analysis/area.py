# SPDX-License-Identifier: Apache-2.0
"""What does a 4-bit format cost in silicon, and what an accumulator?

Maps multiplier, adder and MAC of INT4, FP4 and 6-bit formats with Yosys on the generic library of
`fpsim.hdl.rtl.cell_library`, and sets them beside the 40 nm figures of LLM-FP4 (arXiv 2310.16836,
table 6) as ratios to INT4. Every accumulator is fixed-point and holds `PRODUCTS` products exactly.
Then the E2M1 MAC with one accumulator after another. Writes ``area.svg``, ``area.csv`` and
``accumulators.csv``.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fpsim
from fpsim import plots
from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FixedFormat, FloatFormat
from fpsim.hdl.rtl.parameters import RtlTop, rtl_top, sources_of
from fpsim.hdl.rtl.rtl_codes import operand
from fpsim.hdl.rtl.synthesis import synthesise
from fpsim.units.spec import MacSpec

#: Products that every accumulator holds without overflow or rounding.
PRODUCTS = 256
#: Bits that hold every exponent of these formats' products.
EXPONENT_BITS = 6
#: Area in square micrometres as published: adder, multiplier, MAC.
PUBLISHED = {
    "int4": (93, 182, 410),
    "int6": (132, 340, 529),
    "e2m1": (111, 92, 443),
    "e3m2f": (223, 138, 498),
    "e2m1 x e1m2": (105, 107, 432),
}
PAIRS = ["int4", "e2m1", "e1m2", "e3m0", "e2m1 x e1m2", "e2m1 x e3m0", "int6", "e2m3f", "e3m2f"]
FLOATS = ["e4m3", "e5m2", "e5m6", "e5m10", "e8m7", "e6m9", "e8m13", "e8m17", "e8m23"]
WIDTHS = [12, 14, 16, 17, 20, 24, 28, 32, 40]
INTEGERS = Path(__file__).parent / "rtl" / "int_mac.sv"


@dataclass(frozen=True)
class Row:
    """Areas in NAND2 equivalents of one pair of operand formats."""

    name: str
    accumulator_bits: int
    adder: float  #: what a MAC has besides multiplier and register: alignment and add
    multiplier: float
    mac: float  #: with its register


def pair_of(name: str) -> tuple[str, str]:
    """Return the operand formats that ``e2m1`` or ``e2m1 x e1m2`` names."""
    a, _, b = name.partition(" x ")
    return a, b or a


def exact_accumulator(a: str, b: str) -> tuple[int, int]:
    """Return (width, lsb) of the fixed-point accumulator that holds `PRODUCTS` products."""
    lsb, largest = 0, 1
    for name in (a, b):
        fmt = fpsim.get_format(name)
        if isinstance(fmt, FixedFormat):
            lsb, largest = lsb + fmt.lsb, largest * -fmt.min_integer
        else:
            low = fmt.exponent_min - fmt.mantissa_bits
            lsb, largest = lsb + low, largest * int(fmt.max_value * 2.0**-low)
    return (PRODUCTS * largest).bit_length() + 1, lsb


def mac(a: str, b: str, **accumulate: object) -> RtlTop:
    """Return the MAC of a unit, without its run-time exponent."""
    spec = MacSpec.from_dict({"operands": {"a": a, "b": b}, "accumulate": accumulate})
    top = rtl_top(spec)
    return replace(top, parameters=top.parameters | {"SCALE_W": 0})


def area(name: str, parameters: dict[str, int], *more: Path) -> float:
    """Return the area of a module, by itself, of the reference RTL or of ``more`` sources."""
    sources = (*sources_of("acc_register"), *more) if more else sources_of(name)
    return synthesise(RtlTop(name, parameters, sources, {})).area


def row_of(name: str, width: int, multiplier: float, whole: float) -> Row:
    """Return a row from the area of the multiplier and of the MAC."""
    register = area("acc_register", {"W": width})
    return Row(name, width, whole - multiplier - register, multiplier, whole)


def integer(name: str, width: int) -> Row:
    """Return the areas of an integer format: plain two's complement."""
    bits = fpsim.get_format(name).bits
    multiplier = area("int_multiply", {"W": bits}, INTEGERS)
    return row_of(name, width, multiplier, area("int_mac", {"W": bits, "W_ACC": width}, INTEGERS))


def floating(name: str, width: int, lsb: int) -> Row:
    """Return the areas of a pair of floating-point formats."""
    a, b = pair_of(name)
    top = mac(a, b, kind="fixed", width=width, lsb=lsb, overflow="wrap")
    operands = operand("a", fpsim.get_format(a)) | operand("b", fpsim.get_format(b))
    multiplier = area("fp_product", operands | {"SCALE_W": 0, "EXP_W": EXPONENT_BITS})
    return row_of(name, width, multiplier, synthesise(top).area)


def measure_formats() -> list[Row]:
    """Return the areas of every pair of formats."""
    rows = []
    for name in PAIRS:
        a, b = pair_of(name)
        width, lsb = exact_accumulator(a, b)
        is_float = isinstance(fpsim.get_format(a), FloatFormat)
        rows.append(floating(name, width, lsb) if is_float else integer(name, width))
    return rows


def measure_accumulators() -> dict[str, list[tuple[str, int, float, int]]]:
    """Return (name, bits, area, depth) of E2M1 MACs by the accumulator's kind."""
    found: dict[str, list[tuple[str, int, float, int]]] = {"fixed point": [], "floating point": []}
    for width in WIDTHS:
        cost = synthesise(mac("e2m1", "e2m1", kind="fixed", width=width, lsb=-2))
        found["fixed point"].append((f"{width} bits", width, cost.area, cost.depth))
    for name in FLOATS:
        cost = synthesise(mac("e2m1", "e2m1", kind="chain", format=name))
        bits = fpsim.get_format(name).bits
        found["floating point"].append((name, bits, cost.area, cost.depth))
    return found


def csv_text(head: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return a table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue().encode()


def format_table(rows: Sequence[Row]) -> bytes:
    """Return the areas with their ratios to INT4's, and the published ratios."""
    head = ["format", "accumulator_bits"]
    parts = ("adder", "multiplier", "mac")
    head += [f"{p}{end}" for p in parts for end in ("_nand2", "_to_int4", "_published_to_int4")]
    lines = []
    for row in rows:
        cells: list[object] = [row.name, row.accumulator_bits]
        for i, part in enumerate(parts):
            area = getattr(row, part)
            published = PUBLISHED.get(row.name)
            ratio = "" if published is None else f"{published[i] / PUBLISHED['int4'][i]:.2f}"
            cells += [area, f"{area / getattr(rows[0], part):.2f}", ratio]
        lines.append(cells)
    return csv_text(head, lines)


def _label(name: str) -> str:
    """Return a pair of formats as a figure writes it."""
    return " \N{MULTIPLICATION SIGN} ".join(
        part.upper().removesuffix("F") for part in name.split(" x ")
    )


def kept_figure(folder: Path) -> Any:
    """Return the picture of the tables in a folder."""
    with (folder / "area.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    formats = {
        _label(row["format"]): (
            float(row["mac_nand2"]) / float(rows[0]["mac_nand2"]),
            float(row["mac_published_to_int4"]) if row["mac_published_to_int4"] else None,
        )
        for row in rows
    }
    points: dict[str, list[tuple[int, float]]] = {}
    with (folder / "accumulators.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            points.setdefault(row["kind"], []).append((int(row["bits"]), float(row["mac_nand2"])))
    return plots.area_figure(formats, points)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the picture and the tables, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("analysis/results"), help="directory")
    args = parser.parse_args(argv)
    try:
        rows = measure_formats()
        accumulators = measure_accumulators()
        table = format_table(rows)
        write_atomic(args.out / "area.csv", table)
        head = ["kind", "accumulator", "bits", "mac_nand2", "depth"]
        lines = [[kind, *line] for kind, group in accumulators.items() for line in group]
        write_atomic(args.out / "accumulators.csv", csv_text(head, lines))
        plots.save(kept_figure(args.out), args.out / "area.svg")
    except FpsimError as error:
        print(f"area: {error}", file=sys.stderr)
        return 2
    print(table.decode(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
