# SPDX-License-Identifier: Apache-2.0
"""``fpsim rtl``, ``synth``: the reference RTL of a unit as text, and its cost."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import fpsim
from fpsim.base.errors import FpsimError
from fpsim.cli import arrays
from fpsim.cli.output import Commands, print_json
from fpsim.cli.tables import add_tables, no_tables, tables_of
from fpsim.units.spec import MacSpec

if TYPE_CHECKING:
    from fpsim.hdl.rtl.parameters import RtlTop
    from fpsim.vectors.operations.operation import Quantize

__all__ = ["register"]

QUANTIZER = "quantize:"


def _rtl(args: argparse.Namespace) -> int:
    if _of_array(args):
        return arrays.rtl(args)
    if args.out is not None:
        raise FpsimError("out: only with --array; the text of a unit goes to standard output")
    from fpsim.hdl.rtl.instantiation import instantiation, package

    spec, top = _design(args)
    instance = "u_mac" if isinstance(spec, MacSpec) else "u_quantizer"
    text = package(spec, top) if args.package else instantiation(spec, instance, top)
    if args.json:
        name = spec.name if isinstance(spec, MacSpec) else spec.title
        ports = {"inputs": top.inputs, "outputs": top.outputs}
        sources = [str(path) for path in top.sources]
        data = {"unit": name, "top": top.name, "parameters": top.parameters, **ports}
        print_json(data | {"sources": sources, "text": text})
        return 0
    print(text, end="")
    return 0


def _synth(args: argparse.Namespace) -> int:
    if _of_array(args):
        return arrays.synth(args)
    from fpsim.hdl.rtl.synthesis import synthesise

    spec, top = _design(args)
    # The elements of a quantizer are all alike.
    cost = synthesise(top, apart=() if isinstance(spec, MacSpec) else ("quantize_element",))
    name = spec.name if isinstance(spec, MacSpec) else spec.title
    if args.json:
        print_json({"unit": name} | asdict(cost) | {"logic_area": cost.logic_area})
        return 0
    print(
        f"{name}: {cost.top}, {cost.cells} cells, {cost.area:.0f} NAND2 equivalents "
        f"({cost.register_area:.0f} in {cost.flipflops} flip-flops), {cost.depth} cells deep"
    )
    return 0


def _of_array(args: argparse.Namespace) -> bool:
    """Return whether ``--array`` is given, and refuse options that only an array or a unit has."""
    for name in ("dataflow", "shape"):
        if args.array is None and getattr(args, name) is not None:
            raise FpsimError(f"{name}: only with --array ROWSxCOLUMNS")
    if args.array is not None and args.unit.startswith(QUANTIZER):
        raise FpsimError("array: not of a quantizer; give a unit")
    return args.array is not None


def _design(args: argparse.Namespace) -> tuple[MacSpec | Quantize, RtlTop]:
    from fpsim.formats.lfsr import GaloisLfsr
    from fpsim.hdl.rtl.parameters import rtl_top

    if args.unit.startswith(QUANTIZER):
        return _quantizer(args)
    spec = fpsim.get_unit(args.unit).spec
    lfsr = None if args.lfsr is None else GaloisLfsr(args.lfsr)
    top = rtl_top(
        spec, stream=args.stream, scaled=args.scaled, pipeline=args.pipeline, lfsr=lfsr,
        flags=args.flags, tables=tables_of(args),
    )  # fmt: skip
    return spec, top


def _quantizer(args: argparse.Namespace) -> tuple[Quantize, RtlTop]:
    from fpsim.hdl.rtl.quantizer import quantizer_top
    from fpsim.vectors.operations.operation import Quantize, parse_operation

    for name in ("stream", "scaled", "flags"):
        if getattr(args, name):
            raise FpsimError(f"{name}: not for a quantizer, a stream without status flags")
    no_tables(args, "not for a quantizer, which has no operands")
    operation = parse_operation(args.unit)
    assert isinstance(operation, Quantize)
    return operation, quantizer_top(operation, args.pipeline)


def register(commands: Commands) -> None:
    """Add the commands."""
    sub = commands.add(
        "rtl", _rtl, "Print the SystemVerilog of a unit, an array or a quantizer",
        examples=[
            "rtl e2m1-chain-e5m10",
            "rtl e2m1-chain-e4m3fn-sr6 --lfsr 1",
            "rtl e2m1-chain-e5m10 --flags",
            "rtl e5m10xe4m3fn-chain-e8m23 --a-table nf4",
            "rtl mxfp4-block32-e8m23 --pipeline 2",
            "rtl mxfp4-block32-e8m23 --array 8x8 --dataflow weight-stationary --out rtl",
            "rtl e2m1-chain-e5m10 --array 8x8 --shape 128x576x1536",
            "rtl quantize:mxfp4:e8m7 --pipeline 3",
            "rtl e2m1-chain-e5m10 --json",
        ],
    )  # fmt: skip
    sub.add_argument("--package", action="store_true", help="print a package of the parameters")
    sub.add_argument(
        "--out", type=Path, metavar="DIR", help="write an array and all its sources to this folder"
    )
    _add_design(sub)
    sub = commands.add(
        "synth", _synth, "Area, logic depth and flip-flops of a unit's RTL (Yosys)",
        examples=[
            "synth e2m1-chain-e5m10",
            "synth mxfp4-block32-e8m23 --json",
            "synth e2m1-chain-e5m10 --array 4x4 --shape 128x576x1536",
            "synth quantize:nvfp4",
        ],
    )  # fmt: skip
    _add_design(sub)


def _add_design(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "unit",
        help="a name or a .toml file; or quantize:BLOCKFORMAT[:SOURCE] for a quantizer",
    )
    sub.add_argument("--stream", action="store_true", help="a chain or fixed unit with handshakes")
    sub.add_argument("--scaled", action="store_true", help="such a stream with scales per element")
    sub.add_argument("--flags", action="store_true", help="such a stream with status flags")
    sub.add_argument(
        "--pipeline", type=int, default=1, metavar="N", help="register stages of a stream"
    )
    sub.add_argument(
        "--lfsr",
        type=int,
        metavar="SEED",
        help="take the random bits of 'sr' from an LFSR with this seed, not from a port",
    )
    add_tables(sub)
    arrays.add_options(sub)
    arrays.add_shape(sub)
