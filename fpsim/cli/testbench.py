# SPDX-License-Identifier: Apache-2.0
"""``fpsim verify``, ``testbench``: compare the RTL of a unit, or your design, with a unit."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from fpsim.base.errors import FpsimError
from fpsim.base.progress import bar, say
from fpsim.cli import arrays
from fpsim.cli.operations import add_unit_or_operation, unit_or_operation
from fpsim.cli.output import INCOMPLETE, Commands, print_json
from fpsim.cli.tables import add_tables, no_tables, tables_of
from fpsim.vectors.sets.choices import STRATEGIES

if TYPE_CHECKING:
    from fpsim.hdl.dut.dut import Dut
    from fpsim.hdl.verify.vector_source import VectorSource
    from fpsim.unit import MacUnit
    from fpsim.vectors.operations.operation import Operation

__all__ = ["register"]


def _dut(args: argparse.Namespace, what: MacUnit | Operation) -> Dut:
    from fpsim.formats.lfsr import GaloisLfsr
    from fpsim.hdl.dut.dut_toml import read_dut
    from fpsim.hdl.rtl.parameters import rtl_top
    from fpsim.hdl.rtl.reference import quantizer_dut, reference_dut
    from fpsim.unit import MacUnit

    lfsr = None if args.lfsr is None else GaloisLfsr(args.lfsr)
    if lfsr is not None and (args.dut is not None or not isinstance(what, MacUnit)):
        raise FpsimError("lfsr: only without --dut, for the unit's own RTL")
    if args.dut is not None or not isinstance(what, MacUnit):
        no_tables(args, "only without --dut, for the unit's own RTL; a dut.toml has the key table")
    if args.dut is not None:
        return read_dut(args.dut)
    if isinstance(what, MacUnit):
        top = rtl_top(what.spec, lfsr=lfsr, tables=tables_of(args))
        return reference_dut(what.spec, top)
    if what.kind != "quantize":
        raise FpsimError(
            f"dut: missing; there is no reference RTL of {what.title}, give the TOML of your "
            "design with --dut"
        )
    return quantizer_dut(what)


def _name(what: MacUnit | Operation) -> str:
    from fpsim.unit import MacUnit

    return what.name if isinstance(what, MacUnit) else what.title


def _verify(args: argparse.Namespace) -> int:
    if args.array is not None:
        return arrays.verify(args)
    for name in ("dataflow", "scaled", "pipeline"):
        if getattr(args, name) not in (None, False, 1):
            raise FpsimError(f"{name}: only with --array ROWSxCOLUMNS")
    from fpsim.hdl.bench.replay import Options
    from fpsim.hdl.verify import junit
    from fpsim.hdl.verify.verify import Plan, verify_design

    unit = unit_or_operation(args)
    dut, name = _dut(args, unit), _name(unit)
    simulator = args.simulator or ("ghdl" if dut.vhdl else "verilator")
    plan = Plan(
        args.vectors,
        args.strategy,
        args.count,
        args.seed,
        args.bench,
        Options(args.waves, args.stall, args.resets, args.stall_seed, args.patience, args.timeout),
        bundle=args.bundle,
    )
    try:
        with bar(f"{name} on {simulator}") as update:
            report = verify_design(
                unit, dut, simulator, args.build, plan, lambda _, done, total: update(done, total)
            )
    except FpsimError as error:
        if args.junit is not None:
            junit.write_error(name, dut.top, str(error), args.junit)
        raise
    if args.junit is not None:
        junit.write(report, dut.top, args.junit)
    if args.json:
        print_json(report.to_dict())
    else:
        print(report)
    return 0 if report.passed else INCOMPLETE


def _testbench(args: argparse.Namespace) -> int:
    from fpsim.hdl.bench.stimulus import PACKED, write_stimulus
    from fpsim.hdl.bench.sv_bench import write_testbench
    from fpsim.hdl.dut.adapter import beat_writer
    from fpsim.hdl.verify.verify import fitted

    unit = unit_or_operation(args)
    name = _name(unit)
    dut, ports = fitted(_dut(args, unit))
    source = _source(args, unit, dut)
    writer = beat_writer(dut, source)
    out = args.out.resolve()
    title = f"{name}: {source.equation}; design {dut.top}"
    path, commands = write_testbench(dut, writer, out, title, ports)
    with bar(name):
        made = write_stimulus(source, writer, out / PACKED, dut.output.flush)
    # The commands run from any folder, with the Verilator that `fpsim verify` uses.
    commands = [shlex.join(["cd", str(out)]), 'eval "$(fpsim simulators --env)"', *commands]
    if args.json:
        print_json(
            {
                "unit": name,
                "bench": str(path),
                "stimulus": str(made.path),
                "vectors": made.applied,
                "left_out": made.left_out,
                "compared": made.compared,
                "commands": commands,
            }
        )
        return 0
    print(f"{path}\n{made.path}: {made.applied} vectors, {made.compared} results compared")
    if made.left_out:
        print(made.left_out_text)
    say("compile and run it, with Verilator or with Icarus:")
    print("\n".join(f"    {command}" for command in commands))
    return 0


def _source(args: argparse.Namespace, unit: MacUnit | Operation, dut: Dut) -> VectorSource:
    from fpsim.hdl.verify.verify import Plan, vectors_for

    return vectors_for(unit, dut, Plan(args.vectors, args.strategy, args.count, args.seed))


def _add_vectors(sub: argparse.ArgumentParser) -> None:
    add_unit_or_operation(sub)
    sub.add_argument(
        "--dut", type=Path, metavar="TOML", help="your design; default: the reference RTL"
    )
    sub.add_argument(
        "--lfsr",
        type=int,
        metavar="SEED",
        help="take the reference RTL's random bits from an LFSR with this seed",
    )
    add_tables(sub)
    sub.add_argument(
        "--vectors", type=Path, metavar="DIR", help="a set; default: vectors made for the design"
    )
    sub.add_argument(
        "--strategy", default="mixed", choices=STRATEGIES, help="which vectors, as in fpsim vectors"
    )
    sub.add_argument("--count", type=int, default=4096, help="least number of random vectors")
    sub.add_argument("--seed", type=int, default=1, help="seed of the random vectors")


def register(commands: Commands) -> None:
    """Add the commands."""
    sub = commands.add(
        "verify", _verify, "Run vectors of a unit through your RTL, or its own, in a simulator",
        examples=[
            "verify e2m1-fixed24q2 --simulator verilator",
            "verify e5m10xe4m3fn-chain-e8m23 --a-table nf4",
            "verify mac.toml --dut dut.toml --junit mac.xml",
            "verify mac.toml --dut dut.toml --bench native --count 1000000",
            "verify e2m1-chain-e5m10 --array 8x8 --dataflow weight-stationary --vectors tiles",
            "verify --op quantize:mxfp4:e8m7",
            "verify --op quantize:mxfp4 --dut dut.toml",
        ],
    )  # fmt: skip
    _add_vectors(sub)
    sub.add_argument(
        "--simulator",
        choices=["verilator", "icarus", "ghdl"],
        help="default: verilator, and ghdl for VHDL",
    )
    sub.add_argument(
        "--bench",
        default="cocotb",
        choices=["cocotb", "native"],
        help="cocotb, or generated SystemVerilog (native) for millions of vectors",
    )
    sub.add_argument(
        "--build",
        type=Path,
        default=Path("out/rtl"),
        metavar="DIR",
        help="folder of the compiled design",
    )
    sub.add_argument("--waves", action="store_true", help="write a waveform")
    sub.add_argument("--junit", type=Path, metavar="XML", help="write the result as JUnit XML too")
    sub.add_argument("--bundle", type=Path, metavar="ZIP",
                     help="write a ZIP that repeats the run without fpsim")  # fmt: skip
    sub.add_argument("--stall", type=float, default=0.1, metavar="SHARE",
                     help="share of clocks without a beat, or that take no result")  # fmt: skip
    sub.add_argument("--resets", type=float, default=0.0, metavar="SHARE",
                     help="share of vectors before which a reset stops another vector")  # fmt: skip
    sub.add_argument(
        "--stall-seed", type=int, default=1, metavar="SEED", help="seed of stalls and resets"
    )
    sub.add_argument("--patience", type=int, default=2000, metavar="CLOCKS",
                     help="clocks without a handshake after which the run fails")  # fmt: skip
    sub.add_argument("--timeout", type=float, metavar="SECONDS", help="time limit of a simulation")
    arrays.add_options(sub)
    sub.add_argument(
        "--scaled", action="store_true", help="with --array of a chain: scales per element"
    )
    sub.add_argument(
        "--pipeline",
        type=int,
        default=1,
        metavar="N",
        help="with --array: register stages of its MACs",
    )

    sub = commands.add(
        "testbench", _testbench, "Write a self-checking SystemVerilog bench of a design",
        examples=[
            "testbench mac.toml --dut dut.toml --out bench",
            "testbench --op convert:e5m10:e4m3fn --dut dut.toml --out bench",
        ],
    )  # fmt: skip
    _add_vectors(sub)
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the bench")
