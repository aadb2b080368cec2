# SPDX-License-Identifier: Apache-2.0
"""Commands on vectors (make, check, explain, coverage), and the C model of a unit."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import fpsim
from fpsim.base.errors import FpsimError
from fpsim.base.progress import bar, say
from fpsim.cli import from_model
from fpsim.cli.operations import add_unit_or_operation, unit_or_operation
from fpsim.cli.output import INCOMPLETE, Commands, print_json, refuse_given
from fpsim.cli.tables import add_tables, no_tables, tables_of
from fpsim.cli.workers import add_workers
from fpsim.vectors.sets.choices import STARTS, STRATEGIES

if TYPE_CHECKING:
    from fpsim.unit import MacUnit
    from fpsim.vectors.plans.tiles import TileSize
    from fpsim.vectors.sets.vector_set import BlockSource

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the commands."""
    sub = commands.add(
        "vectors", _vectors, "Write golden vectors of a unit, or check a directory of them",
        examples=[
            "vectors e2m1-chain-e5m10 --out vectors/mac",
            "vectors --check vectors/mac",
            "vectors mac.toml --out vectors/mac --count 100000 --start load --format readmemh,csv",
            "vectors e2m1-fixed14q4 --strategy exhaustive --out vectors/all --jobs 8",
            "vectors e2m1-chain-e5m10 --count 9999999 --out vectors/x --shards 20 --workers 4",
            "vectors mxfp4-block32-e8m23 --tile 16x16 --format matrices --out vectors/tiles",
            "vectors --op quantize:mxfp4 --out vectors/quantizer",
            "vectors --op convert:e5m10:e4m3fn:rna --out vectors/converter",
            "vectors e2m1-chain-e5m10 --op add --out vectors/adder",
        ],
    )  # fmt: skip
    sub.add_argument("unit", nargs="?", help="a name or a .toml file")
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder of the new set")
    sub.add_argument(
        "--check", type=Path, metavar="DIR", help="recompute every value and checksum of a set"
    )
    sub.add_argument(
        "--op",
        metavar="OP",
        help="vectors of an operation: quantize:mxfp4[:e8m7], convert:e5m10:e4m3fn[:rna[:inf]], "
        "mul:e2m1:e2m1:e5m10, add:e5m10:e5m10:e5m10; mul or add alone: formats of the given unit",
    )
    sub.add_argument("--merge", type=Path, metavar="DIR", help="join DIR.shard-i-of-n into DIR")
    sub.add_argument(
        "--strategy",
        default="mixed",
        choices=STRATEGIES,
        help="exhaustive: all inputs of a vector if they are at most 2^24, else pairs of operand "
        "codes with addend 0; directed: corner classes; mixed (default): pairs, corner classes and "
        "random vectors",
    )
    sub.add_argument("--count", type=int, default=4096, help="number of random vectors")
    sub.add_argument("--seed", type=int, default=1, help="seed of the random vectors")
    sub.add_argument(
        "--start",
        default="dot",
        choices=STARTS,
        help="where a sum takes its addend from: dot (default), its own vector; load, a load "
        "before it; clear, nowhere: sums start from +0",
    )
    sub.add_argument(
        "--format",
        metavar="F,F",
        default="readmemh,jsonl",
        help="file formats: readmemh, jsonl (both by default), csv, testfloat, npz, svh; matrices, "
        "of tiles",
    )
    sub.add_argument(
        "--k", type=int, help="elements per vector; default: one step of the unit (1 for a chain)"
    )
    sub.add_argument(
        "--group", type=int, help="elements per scale; 0: no scales; default: the unit's blocks"
    )
    sub.add_argument(
        "--flags", action="store_true", help="add status flags of every vector; slow, use --jobs"
    )
    sub.add_argument("--jobs", type=int, default=1, help="processes; they do not change the set")
    _tile_options(sub)
    sub.add_argument("--shard", metavar="i/n", help="write part i of n into DIR.shard-i-of-n")
    sub.add_argument("--shards", type=int, help="make n shards by workers, and join them")
    add_workers(sub)

    sub = commands.add(
        "explain", _explain, "Show one vector step by step",
        examples=["explain vectors/mac --line 400", "explain vectors/mac --line 400 --all"],
    )  # fmt: skip
    sub.add_argument("directory", type=Path, metavar="DIR", help="a set")
    sub.add_argument("--line", type=int, required=True, help="line of vectors.hex, from 1")
    sub.add_argument("--all", action="store_true", help="do not shorten long sums")

    sub = commands.add(
        "coverage", _coverage, "Count coverage bins that a set meets, or mutants that it kills",
        examples=["coverage vectors/mac", "coverage vectors/mac --mutants"],
    )  # fmt: skip
    sub.add_argument("directory", type=Path, metavar="DIR", help="a set")
    sub.add_argument("--mutants", action="store_true", help="list mutants of the unit and kills")

    sub = commands.add(
        "golden", _golden, "Check the published sets, the large ones too",
        examples=["golden --released", "golden e2m1-chain-e5m10"],
    )  # fmt: skip
    sub.add_argument("names", nargs="*", metavar="UNIT", help="units; default: all published ones")
    sub.add_argument("--write", action="store_true", help="make and prove the published sets anew")
    sub.add_argument("--released", action="store_true", help="leave the large sets out")

    sub = commands.add(
        "export-c", _export_c, "Write a C99 model of a unit or an operation, also for DPI-C",
        examples=["export-c e2m1-chain-e5m10 --out mac.h", "export-c mac.toml --k 4 --out mac.h",
                  "export-c --op quantize:mxfp4 --out quantizer.h"],
    )  # fmt: skip
    add_unit_or_operation(sub)
    sub.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="MAC.h",
        help="the header; a SystemVerilog package and a C program go beside it",
    )
    sub.add_argument("--k", type=int, help="elements per call of the DPI-C function")
    sub.add_argument(
        "--group", type=int, help="elements per scale in the DPI-C function; 0: no scales"
    )
    sub.add_argument("--flags", action="store_true", help="the C program compares status flags too")


def _tile_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--tile", metavar="MxN[xK]", help="vectors of matrix products, M x N results each"
    )
    sub.add_argument(
        "--tiles", type=int, default=1, help="tiles in all, or of each layer of a model"
    )
    add_tables(sub, "of random tiles has the numbers")
    from_model.add_options(sub)
    sub.add_argument(
        "--from-training", type=Path, metavar="RUN",
        help="operands of a step of fpsim train; unit: the run's, or the given one",
    )  # fmt: skip
    sub.add_argument("--step", type=int, default=0, help="training step, from 0 (default 0)")
    sub.add_argument(
        "--product",
        default="wgrad",
        help="product of the training step: forward, dgrad or wgrad (default)",
    )


def _print(args: argparse.Namespace, data: dict[str, Any], text: str) -> None:
    if args.json:
        print_json(data)
    else:
        print(text)


#: Options that say what vectors to make; those of a model or training run among them.
_SINGLE = ("strategy", "count")
_MODEL = ("recipe", "calibration", "text", "window")
_TRAINING = ("step", "product")
_OF_PLANS = (
    "unit", "op", "out", *_SINGLE, "seed", "start", "format", "k", "group", "flags", "tile",
    "tiles", "a_table", "b_table", "from_model", "layer", *_MODEL, "from_training", *_TRAINING,
    "shard", "shards", "workers", "dask", "scheduler",
)  # fmt: skip


def _vectors(args: argparse.Namespace) -> int:
    if args.check is not None:
        refuse_given(args, ("merge", *_OF_PLANS), "not with --check, which reads the set alone")
        return _check(args)
    if args.merge is not None:
        refuse_given(args, ("jobs", *_OF_PLANS), "not with --merge, which reads the parts alone")
        return _merge(args)
    if args.from_model is None:
        refuse_given(args, _MODEL, "only with --from-model")
    if args.from_training is None:
        refuse_given(args, _TRAINING, "only with --from-training")
    elif args.from_model is not None:
        raise FpsimError(
            "from-training: not with --from-model, which is another source of operands"
        )
    if args.from_model is None and args.from_training is None:
        refuse_given(args, ["layer"], "only with --from-model or --from-training")
        if args.tile is None:
            refuse_given(args, ["tiles"], "only with --tile, --from-model or --from-training")
            return _write(args, _planned(args))
    refuse_given(args, _SINGLE, "not for tiles; --tiles says how many there are")
    return _write(args, _planned(args))


def _planned(args: argparse.Namespace) -> BlockSource:
    """Return the set that the command line describes."""
    if args.op is not None:
        return _operation(args)
    if args.from_training is not None and args.out is not None:
        return _training_tiles(args)
    if args.unit is None or args.out is None:
        raise FpsimError("vectors: give a unit and --out DIR, or --check DIR, or --merge DIR")
    return _source(args, fpsim.get_unit(args.unit))


def _write(args: argparse.Namespace, source: BlockSource) -> int:
    from fpsim.base.executor import executor
    from fpsim.vectors.files.sharded import write_sharded
    from fpsim.vectors.files.shards import Shard
    from fpsim.vectors.files.writer import parse_formats, write

    formats = parse_formats(args.format)
    shard = Shard() if args.shard is None else Shard.parse(args.shard)
    if args.shards is not None and (args.shard is not None or args.jobs != 1):
        raise FpsimError("shards: with --workers; neither with --shard nor with --jobs")
    if args.shards is None and (args.workers or args.dask or args.scheduler):
        raise FpsimError("workers: they make shards; say --shards N too, or --jobs N instead")
    name, kind = source.record.title, "unit" if args.op is None else "operation"
    more: dict[str, Any] = {"jobs": args.jobs, "shard": shard}
    try:
        with executor(args.workers, args.scheduler, args.dask) as pool, bar(name) as update:
            if args.shards is None:
                path = write(source, args.out, formats, progress=update, **more)
            else:
                path = write_sharded(source, args.out, args.shards, pool, formats, update)
    except KeyboardInterrupt:
        say("what is done is kept beside the directory; the same command goes on")
        raise
    data = {kind: name, "count": source.count, "out": str(path),
            "sections": {s.name: s.count for s in source.sections}}  # fmt: skip
    pairs = any(section.name == "products" for section in source.sections)
    if args.strategy == "exhaustive" and pairs and args.start != "clear":
        say("a vector has more than 2^24 cases: all pairs of operand codes onto 0 take their place")
    lines = [f"{source.count} vectors of {name} in {path}"]
    lines += [f"  {s.count:9d} {s.name}" for s in source.sections]
    _print(args, data, "\n".join(lines))
    return 0


def _operation(args: argparse.Namespace) -> BlockSource:
    from fpsim.vectors.operations.operation import parse_operation
    from fpsim.vectors.operations.operation_plan import plan_operation

    if args.out is None:
        raise FpsimError("vectors: give --out DIR with --op")
    for name in ("k", "group", "tile", "from_model", "from_training"):
        if getattr(args, name) is not None:
            raise FpsimError(f"{name.replace('_', '-')}: not for vectors of an operation")
    if args.start != "dot":
        raise FpsimError(f"start: {args.start!r} accumulates; vectors of an operation do not")
    unit = None if args.unit is None else fpsim.get_unit(args.unit)
    operation = parse_operation(args.op, unit)
    return plan_operation(operation, strategy=args.strategy, count=args.count, seed=args.seed)


def _source(args: argparse.Namespace, unit: MacUnit) -> BlockSource:
    from fpsim.vectors.plans.planner import plan
    from fpsim.vectors.plans.tiles import TileSize, random_tiles
    from fpsim.vectors.sets.record import Record

    if args.tile is None or args.from_model is not None:
        no_tables(
            args, "only with --tile, of random tiles; fpsim verify makes what its tables have"
        )
    if args.tile is None and args.from_model is None:
        return plan(
            unit, strategy=args.strategy, count=args.count, seed=args.seed, k=args.k,
            group=args.group, flags=args.flags, start=args.start,
        )  # fmt: skip
    if args.start != "dot":
        raise FpsimError(f"start: {args.start!r} is not for tiles, whose outputs start with a dot")
    size = TileSize.parse(args.tile or "16x16")
    if args.from_model is None:
        record = Record.of(unit.spec, args.k, args.group, args.flags)
        return random_tiles(record, size, args.tiles, args.seed, _told(args, unit))
    if args.group is not None:
        raise FpsimError("group: a model's recipe says how many elements a scale has")
    return _model_tiles(args, unit, size)


def _told(args: argparse.Namespace, unit: MacUnit) -> dict[str, NDArray[np.int64]]:
    """Return the codes of operands that have a table."""
    tables = tables_of(args)
    for name, table in tables.items():
        table.check(name, getattr(unit.spec, name))
    return {name: np.unique(np.array(table.codes)) for name, table in tables.items()}


def _model_tiles(args: argparse.Namespace, unit: MacUnit, size: TileSize) -> BlockSource:
    found = from_model.read(args, unit)

    from fpsim.bridge.tiles import model_tiles

    return model_tiles(
        found.operands, unit, size, per_layer=args.tiles, k=args.k, flags=args.flags,
        source=found.source, seed=args.seed,
    )  # fmt: skip


def _training_tiles(args: argparse.Namespace) -> BlockSource:
    """Return tiles of one product of a training step, on ``UNIT`` or else on the run's unit."""
    from fpsim.bridge.tiles import model_tiles
    from fpsim.bridge.training.replay import training_operands
    from fpsim.vectors.plans.tiles import TileSize

    say(f"replaying training step {args.step} of {args.from_training}")
    operands, used, source = training_operands(
        args.from_training, args.step, args.layer, args.product
    )
    return model_tiles(
        operands, used if args.unit is None else fpsim.get_unit(args.unit),
        TileSize.parse(args.tile or "16x16"), per_layer=args.tiles, k=args.k, flags=args.flags,
        source=source, seed=args.seed,
    )  # fmt: skip


def _check(args: argparse.Namespace) -> int:
    from fpsim.vectors.files.checker import check

    with bar("check") as update:
        opened = check(args.check, update, jobs=args.jobs)
    count, name = opened.count, opened.record.title
    by = "the unit" if "unit" in opened.manifest else "it"
    text = f"{args.check}: {count} vectors of {name}, each as {by} gives it"
    _print(args, {"directory": str(args.check), "unit": name, "count": count}, text)
    return 0


def _merge(args: argparse.Namespace) -> int:
    from fpsim.vectors.files.opened_set import open_set
    from fpsim.vectors.files.writer import merge_shards

    with bar("merge") as update:
        path = merge_shards(args.merge, update)
    count = open_set(path).count
    _print(args, {"directory": str(path), "count": count}, f"{count} vectors in {path}")
    return 0


def _explain(args: argparse.Namespace) -> int:
    from fpsim.vectors.explanation import explain

    found = explain(args.directory, args.line)
    _print(args, found.to_dict(), found.full() if args.all else str(found))
    return 0 if found.right else INCOMPLETE


def _coverage(args: argparse.Namespace) -> int:
    from fpsim.vectors.coverage.set_coverage import coverage
    from fpsim.vectors.files.opened_set import open_set
    from fpsim.vectors.operations.operation import Operation

    if args.mutants:
        return _mutants(args)
    opened = open_set(args.directory)
    if isinstance(opened.record, Operation):
        from fpsim.vectors.operations.operation_coverage import operation_coverage

        of_blocks = operation_coverage(opened.record, opened.columns())
        _print(args, of_blocks.to_dict(), str(of_blocks))
        return 0 if of_blocks.complete else INCOMPLETE
    name = opened.record.spec.name
    with bar(f"traces of {name}") as update:
        found = coverage(opened.record, opened.columns(), opened.start, update)
    _print(args, found.to_dict(), str(found))
    return 0 if found.complete else INCOMPLETE


def _mutants(args: argparse.Namespace) -> int:
    from fpsim.vectors.files.opened_set import open_set
    from fpsim.vectors.mutants.kills import kills
    from fpsim.vectors.operations.operation import Operation
    from fpsim.vectors.operations.operation_mutants import operation_kills

    opened = open_set(args.directory)
    record = opened.record
    with bar(f"mutants of {record.title}"):
        if isinstance(record, Operation):
            found = operation_kills(record, opened.columns())
        else:
            found = kills(record, opened.columns())
    alive = [k for k in found if k.alive]
    lines = [f"{record.title}: {len(found)} mutants, {len(alive)} alive"]
    for kill in found:
        fate = "ALIVE" if kill.alive else f"equivalent: {kill.equivalent}"
        if kill.vector is not None:
            fate = f"killed by vector {kill.vector}"
        lines.append(f"  {kill.mutant:40s} {fate}")
    data = {"unit": record.title, "mutants": [k.to_dict() for k in found]}
    _print(args, data, "\n".join(lines))
    return INCOMPLETE if alive else 0


def _golden(args: argparse.Namespace) -> int:
    from fpsim.vectors import catalogue

    rows = {}
    for name in catalogue.names_or_all(args.names):
        with bar(name):
            if args.write:
                rows[name] = catalogue.release(name, say).selection.count
                continue
            rows[name] = catalogue.check_release(name, large=not args.released)
            say(f"{name}: {rows[name]} vectors, bit for bit")
    _print(args, rows, f"{len(rows)} units")
    return 0


def _export_c(args: argparse.Namespace) -> int:
    from fpsim.cmodel import export_c, export_operation
    from fpsim.unit import MacUnit

    what = unit_or_operation(args)
    if isinstance(what, MacUnit):
        named = {"unit": args.unit}
        files = export_c(what, args.out, args.k, args.group, args.flags)
    else:
        for name in ("k", "group", "flags"):
            if getattr(args, name) not in (None, False):
                raise FpsimError(f"{name}: not for an operation")
        named = {"operation": what.title}
        files = export_operation(what, args.out)
    paths = {name: str(path) for name, path in vars(files).items()}
    _print(args, named | paths, "\n".join(paths.values()))
    return 0
