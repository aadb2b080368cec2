# SPDX-License-Identifier: Apache-2.0
"""Options and output of commands that make, map or verify a systolic array of a unit."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fpsim
from fpsim.base.errors import FpsimError
from fpsim.base.progress import bar, say
from fpsim.cli.output import INCOMPLETE, print_json
from fpsim.cli.tables import tables_of

if TYPE_CHECKING:
    from fpsim.hdl.rtl.array import SystolicArray

__all__ = ["add_options", "rtl", "synth", "verify"]

DATAFLOWS = ("output-stationary", "weight-stationary")


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add ``--array`` and ``--dataflow``."""
    sub.add_argument(
        "--array", metavar="ROWSxCOLUMNS", help="a systolic array of so many MACs of the unit"
    )
    sub.add_argument(
        "--dataflow", choices=DATAFLOWS,
        help="operand that stays in the array's cells: outputs or weights (output-stationary)",
    )  # fmt: skip


def add_shape(sub: argparse.ArgumentParser) -> None:
    """Add ``--shape``."""
    sub.add_argument(
        "--shape",
        metavar="MxNxK",
        help="print clocks and utilization of the array for this product",
    )


def rtl(args: argparse.Namespace) -> int:
    """Print the module of an array, or write its files; with ``--shape``, print its clocks."""
    from fpsim.hdl.rtl.array_text import array_sources, array_text, array_top

    if args.package:
        raise FpsimError("package: an array has no parameters; leave --package out")
    array = _array(args)
    speed = _speed(array, args.shape)
    about = {"unit": array.spec.name, "array": array.size, "dataflow": str(array.dataflow)} | speed
    if args.out is None and args.json:
        print_json(about | {"text": array_text(array)})
        return 0
    if args.out is None:
        print("".join(f"// {line}\n" for line in _told(speed)) + array_text(array), end="")
        return 0
    top = array_top(array, args.out)
    for source in array_sources(array):
        shutil.copyfile(source, args.out / source.name)
    files = [str(args.out / path.name) for path in top.sources]
    if args.json:
        print_json(about | {"files": files})
        return 0
    print("\n".join(files))
    for line in _told(speed):
        say(line)
    return 0


def synth(args: argparse.Namespace) -> int:
    """Print cells, area and depth of an array; with ``--shape``, its clocks and utilization."""
    from fpsim.hdl.rtl.array_text import array_parts, array_top
    from fpsim.hdl.rtl.synthesis import synthesise

    array = _array(args)
    speed = _speed(array, args.shape)
    with tempfile.TemporaryDirectory(prefix="fpsim-array-") as scratch:
        top = array_top(array, Path(scratch))
        with bar(top.name):
            cost = synthesise(top, apart=array_parts(array))
    if args.json:
        print_json(
            {"unit": array.spec.name, "array": array.size, "dataflow": str(array.dataflow)}
            | asdict(cost) | {"logic_area": cost.logic_area} | speed
        )  # fmt: skip
        return 0
    print(
        f"{array.spec.name}, {array.size} {array.dataflow}: {cost.cells} cells, {cost.area:.0f} "
        f"NAND2 equivalents ({cost.register_area:.0f} in {cost.flipflops} flip-flops), "
        f"{cost.depth} cells deep"
    )
    print("".join(f"  {line}\n" for line in _told(speed)), end="")
    return 0


def verify(args: argparse.Namespace) -> int:
    """Run a set of tiles through an array in a simulator and print the comparison."""
    from fpsim.hdl.bench.array_bench import run_tiles
    from fpsim.hdl.bench.simulator import find

    for name in ("dut", "junit", "bundle", "waves", "resets"):
        if getattr(args, name):
            raise FpsimError(f"{name}: not for arrays, which are fpsim's own")
    array = _array(args)
    if args.vectors is None:
        raise FpsimError(
            "vectors: an array takes tiles; give --vectors DIR, as "
            f"fpsim vectors {args.unit} --tile {array.size} --out DIR makes it"
        )
    tool = find(args.simulator or "verilator")
    with bar(f"{array.spec.name} on {tool.name}"):
        report = run_tiles(
            array, args.vectors, tool, args.build, stall=args.stall, seed=args.stall_seed
        )
    if args.json:
        print_json(report.to_dict())
    else:
        print(report)
    return 0 if report.passed else INCOMPLETE


def _array(args: argparse.Namespace) -> SystolicArray:
    from fpsim.hdl.rtl.array import Dataflow, SystolicArray

    rows, columns = SystolicArray.parse_size(args.array)
    return SystolicArray(
        fpsim.get_unit(args.unit).spec, rows, columns, Dataflow(args.dataflow or DATAFLOWS[0]),
        args.scaled, args.pipeline, tables_of(args),
    )  # fmt: skip


def _speed(array: SystolicArray, shape: str | None) -> dict[str, Any]:
    from fpsim.hdl.rtl.array import ProductShape

    if shape is None:
        return {}
    product = ProductShape.parse(shape)
    clocks, share = array.clocks(product), array.utilization(product)
    return {"shape": str(product), "clocks": clocks, "utilization": share}


def _told(speed: dict[str, Any]) -> list[str]:
    if not speed:
        return []
    share = 100 * speed["utilization"]
    return [f"{speed['shape']}: {speed['clocks']} clocks, utilization {share:.1f} %"]
