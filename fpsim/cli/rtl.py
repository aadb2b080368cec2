# SPDX-License-Identifier: Apache-2.0
"""``fpsim rtl``, ``synth``: the reference RTL of a unit as text, and what it costs."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

import fpsim
from fpsim.cli.output import Commands, print_json
from fpsim.units.spec import MacSpec

if TYPE_CHECKING:
    from fpsim.hdl.rtl.parameters import RtlTop

__all__ = ["register"]


def _rtl(args: argparse.Namespace) -> int:
    from fpsim.hdl.rtl.instantiation import instantiation, package

    spec, top = _design(args)
    print(package(spec, top) if args.package else instantiation(spec, top=top), end="")
    return 0


def _synth(args: argparse.Namespace) -> int:
    from fpsim.hdl.rtl.synthesis import synthesise

    spec, top = _design(args)
    cost = synthesise(top)
    if args.json:
        print_json({"unit": spec.name} | asdict(cost) | {"logic_area": cost.logic_area})
        return 0
    print(
        f"{spec.name}: {cost.top}, {cost.cells} cells, {cost.area:.0f} NAND2 equivalents "
        f"({cost.register_area:.0f} in {cost.flipflops} flip-flops), {cost.depth} cells deep"
    )
    return 0


def _design(args: argparse.Namespace) -> tuple[MacSpec, RtlTop]:
    from fpsim.hdl.rtl.parameters import rtl_top

    spec = fpsim.get_unit(args.unit).spec
    top = rtl_top(spec, stream=args.stream, scaled=args.scaled, pipeline=args.pipeline)
    return spec, top


def register(commands: Commands) -> None:
    """Add the commands."""
    sub = commands.add(
        "rtl", _rtl, "Print the SystemVerilog of a unit", reports=False,
        examples=["rtl e2m1-chain-e5m10", "rtl mxfp4-block32-e8m23 --pipeline 2"],
    )  # fmt: skip
    sub.add_argument("--package", action="store_true", help="a package of its parameters instead")
    _add_design(sub)
    sub = commands.add(
        "synth", _synth, "Area, logic depth and flip-flops of a unit's RTL (Yosys)",
        examples=["synth e2m1-chain-e5m10", "synth mxfp4-block32-e8m23 --json"],
    )  # fmt: skip
    _add_design(sub)


def _add_design(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("unit", help="a name or a .toml file")
    sub.add_argument("--stream", action="store_true", help="a chain or fixed unit as a stream")
    sub.add_argument("--scaled", action="store_true", help="its stream with scales per element")
    sub.add_argument("--pipeline", type=int, default=1, metavar="N", help="registers of a stream")
