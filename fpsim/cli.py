# SPDX-License-Identifier: Apache-2.0
"""The ``fpsim`` command: parses, calls, prints.

Exit status: 0 done, 1 a comparison failed or the demo is incomplete, 2 bad input (one sentence on
standard error).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import fpsim
from fpsim import describe, vectors
from fpsim.errors import FpsimError
from fpsim.formats import FixedFormat, Format
from fpsim.names import NAMED_FORMATS, get_format
from fpsim.progress import bar, say
from fpsim.rounding import MAX_RANDOM_BITS, Flag, InfPolicy, NanPolicy, Overflow, Rounding

__all__ = ["main"]

INCOMPLETE, BAD_INPUT = 1, 2
_out = Console(highlight=False)


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=1))


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=i == 0)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    _out.print(table)


def _rows_table(title: str, rows: Sequence[dict[str, Any]], digits: int = 17) -> None:
    def cell(value: object) -> object:
        if isinstance(value, float) and len(repr(value)) > digits + 1:
            return f"{value:.{digits}g}"
        return "" if value is None else value

    _table(title, list(rows[0]), [[cell(value) for value in row.values()] for row in rows])


# -- formats and codes ---------------------------------------------------------------------------


def _format_row(fmt: Format) -> dict[str, Any]:
    row: dict[str, Any] = {"name": fmt.name, "bits": fmt.bits, "max": fmt.max_value}
    if isinstance(fmt, FixedFormat):
        return row | {"min_positive": float(np.ldexp(1.0, fmt.lsb)), "special": "two's complement"}
    smallest = int(not fmt.has_zero) ^ 1
    special = [f"nan: {fmt.nan.value}"] + ["inf"] * fmt.infinity
    special += ["-0"] * fmt.has_negative_zero + ["no zero"] * (not fmt.has_zero)
    return row | {"min_positive": float(fmt.decode([smallest])[0]), "special": ", ".join(special)}


def _formats(args: argparse.Namespace) -> int:
    if args.name is None:
        return _list_formats(args)
    block_format = describe.find_block_format(args.name)
    if block_format is not None:
        return _block_format(block_format, args.json)
    fmt = get_format(args.name, also=fpsim.blocks.BLOCK_FORMATS)
    rows, title = describe.code_rows(fmt), f"{fmt.name}: {fmt.bits} bits"
    if args.json:
        _print_json(rows)
    else:
        _rows_table(title, rows)
    return 0


def _list_formats(args: argparse.Namespace) -> int:
    elements = [_format_row(get_format(name)) | {"name": name} for name in NAMED_FORMATS]
    blocks = [describe.block_row(fmt) for fmt in fpsim.blocks.BLOCK_FORMATS.values()]
    if args.json:
        kinds = (("element", elements), ("block", blocks))
        _print_json([{**row, "kind": kind} for kind, rows in kinds for row in rows])
        return 0
    _rows_table("Named formats; any e<E>m<M>[b<bias>][f|i|fn|fnuz] works too", elements, 9)
    _rows_table("Block formats; others are a few lines of TOML or Python", blocks)
    return 0


def _block_format(fmt: fpsim.BlockFormat, as_json: bool) -> int:
    equations, example = describe.equations(fmt), describe.block_example(fmt)
    if as_json:
        _print_json({"fields": fmt.to_dict(), "equations": equations, "example": example})
        return 0
    print("\n".join([*equations, "", fmt.to_toml()]))
    _rows_table("One block", example, 9)
    return 0


def _flush(fmt: Format, option: str, wanted: bool) -> dict[str, Any]:
    if wanted and isinstance(fmt, FixedFormat):
        raise FpsimError(f"{option}: {fmt.name} is fixed point and has no subnormals")
    return {option: True} if wanted else {}


def _flag_names(flags: int) -> str:
    return ", ".join(flag.name.lower() for flag in Flag if flag.name and flags & flag)


def _encode(args: argparse.Namespace) -> int:
    fmt = get_format(args.format)
    options: dict[str, Any] = {"nan": args.nan, "inf": args.inf, **_flush(fmt, "ftz", args.ftz)}
    if args.random is not None:
        options |= {"random": args.random, "random_bits": args.random_bits}
    codes, flags = fmt.encode(
        np.array(args.values), args.rounding, args.overflow, flags=True, **options
    )
    values = fmt.decode(codes)
    rows = [
        {"value": v, "code": int(c), "bits": f"{int(c):0{fmt.bits}b}", "decoded": float(d)}
        | ({"flags": _flag_names(int(f))} if args.flags else {})
        for v, c, d, f in zip(args.values, codes, values, flags, strict=True)
    ]
    if args.json:
        _print_json(rows)
    else:
        _table(
            f"{fmt.name}, {args.rounding}, {args.overflow}",
            list(rows[0]),
            [list(r.values()) for r in rows],
        )
    return 0


def _decode(args: argparse.Namespace) -> int:
    fmt = get_format(args.format)
    values = fmt.decode(np.array(args.codes), **_flush(fmt, "daz", args.daz))
    rows = [
        {"code": code, "bits": f"{code:0{fmt.bits}b}", "value": float(value)}
        for code, value in zip(args.codes, values, strict=True)
    ]
    if args.json:
        _print_json(rows)
    else:
        _table(fmt.name, list(rows[0]), [list(r.values()) for r in rows])
    return 0


# -- units, vectors, RTL -------------------------------------------------------------------------


def _units(args: argparse.Namespace) -> int:
    names = [args.name] if args.name else fpsim.unit_names()
    specs = [fpsim.get_unit(name).spec for name in names]
    rows = [
        {
            "name": s.name,
            "canonical": s.canonical_name,
            "equation": s.equation,
            "description": s.description,
        }
        for s in specs
    ]
    if args.json:
        _print_json(rows)
    elif args.name:
        print(f"{rows[0]['equation']}\n\n{specs[0].to_toml()}", end="")
    else:
        _table("Published units", ["name", "equation"], [[r["name"], r["equation"]] for r in rows])
    return 0


def _vectors(args: argparse.Namespace) -> int:
    if args.check is not None:
        checked = vectors.check(args.check)
        print(
            f"{args.check}: {checked.count} vectors of {checked.spec.name}, "
            "each as the unit gives it"
        )
        return 0
    if args.unit is None or args.out is None:
        raise FpsimError("vectors: give a unit and --out DIR, or --check DIR")
    made = vectors.generate(
        fpsim.get_unit(args.unit),
        strategy=args.strategy,
        count=args.count,
        seed=args.seed,
        exponents=args.exponents,
        load=not args.no_load,
    )
    path = vectors.write(made, args.out)
    rows = [[s.name, s.count] for s in made.sections]
    if args.json:
        _print_json(
            {
                "unit": made.spec.name,
                "count": made.count,
                "out": str(path),
                "sections": {s.name: s.count for s in made.sections},
            }
        )
    else:
        _table(f"{made.count} vectors of {made.spec.name} in {path}", ["section", "vectors"], rows)
    return 0


def _rtl(args: argparse.Namespace) -> int:
    from fpsim.hdl.instantiation import instantiation

    print(instantiation(fpsim.get_unit(args.unit).spec), end="")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from fpsim.hdl.verify import verify

    unit = fpsim.get_unit(args.unit)
    with bar(f"{unit.name} on {args.simulator}") as update:
        result = verify(
            unit,
            args.simulator,
            args.build,
            args.vectors,
            lambda stage, done, total: update(done, total),
        )
    if args.json:
        _print_json(
            {
                "unit": result.unit,
                "simulator": result.simulator,
                "vectors": result.vectors,
                "compared": result.compared,
                "mismatches": result.mismatch_count,
                "first": [str(m) for m in result.mismatches],
                "passed": result.passed,
            }
        )
    else:
        print(result)
        for mismatch in result.mismatches:
            print(f"  {mismatch}")
    return 0 if result.passed else INCOMPLETE


# -- models and pictures -------------------------------------------------------------------------


def _eval(args: argparse.Namespace) -> int:
    from fpsim.bridge import Calibration, calibrate_for, evaluate, evaluate_task, models, text
    from fpsim.bridge.tasks import PerplexityTask

    # A bad name, option or file should not wait for the model.
    source = text.topics_text() if args.text is None else text.read_text(args.text)
    recipe = None if args.recipe in ("none", "float32") else _recipe(args)
    fpsim.get_unit(args.unit)
    calibration = None if args.calibration is None else Calibration.load(args.calibration)
    if recipe is not None and calibration is not None:
        recipe.calibrated(calibration)
    loaded = models.load(args.model, say)
    task = _task(args, loaded, source)
    windows = None
    if isinstance(task, PerplexityTask):
        tokens = text.tokenize(loaded.tokenizer, source)
        windows = text.windows(tokens, args.windows, args.window, args.stride)
    if recipe is not None and recipe.needs_calibration and calibration is None:
        with bar(f"calibrating {recipe.name}") as progress:
            rows = args.calibration_tokens
            calibration = calibrate_for(loaded, task, recipe, rows=rows, report=progress)
    with bar(f"{args.recipe} on {args.unit}") as progress:
        if windows is None or args.transforms:
            figures = evaluate_task(
                loaded, task, recipe, args.unit, progress, calibration, args.transforms
            )
            _print_json(figures) if args.json else _table(
                f"{loaded.name}", list(figures), [list(figures.values())]
            )
            return 0
        result = evaluate(loaded, windows, recipe, args.unit, progress, calibration)
    if args.json:
        _print_json(result.as_dict())
    else:
        unit = f" on {result.unit}" if result.unit else ""
        print(
            f"{result.model}, {result.recipe or 'float32'}{unit}: "
            f"perplexity {result.result.perplexity:.4f}"
        )
        print(
            f"  {result.result.tokens} tokens in {result.result.seconds:.1f} s; "
            f"{result.kernel}: {result.why}"
        )
    return 0


def _task(args: argparse.Namespace, loaded: Any, source: str) -> Any:
    from fpsim.bridge.tasks import task_for

    return task_for(loaded, text=source, count=args.windows, length=args.window, stride=args.stride)


def _recipe(args: argparse.Namespace) -> Any:
    from fpsim.bridge import get_recipe

    return get_recipe(args.recipe, **({} if args.bits is None else {"bits": args.bits}))


def _calibrate(args: argparse.Namespace) -> int:
    from fpsim.bridge import calibrate_for, models, text

    source = text.topics_text() if args.text is None else text.read_text(args.text)
    recipe = _recipe(args)
    if not recipe.needs_calibration:
        raise FpsimError(f"recipe: {recipe.name} needs no calibration")
    loaded = models.load(args.model, say)
    task = _task(args, loaded, source)
    with bar(f"calibrating {recipe.name}") as progress:
        found = calibrate_for(
            loaded, task, recipe, rows=args.calibration_tokens, out=args.out, report=progress
        )
    errors = {name: layer.error for name, layer in found.layers.items()}
    if args.json:
        _print_json({"out": str(args.out), "layers": len(errors), "errors": errors})
    else:
        mean = sum(errors.values()) / len(errors)
        print(f"{args.out}: {len(errors)} layers, mean output error {100 * mean:.3f} %")
    return 0


def _text_options(sub: Any) -> None:
    sub.add_argument("--model", default="smollm2-135m", help="a known name, a hub name or a folder")
    sub.add_argument("--bits", help="E/W/A, such as 4/4/8; 16 is floating point")
    sub.add_argument("--text", type=Path, help="default: the topics of pydoc_data")
    sub.add_argument("--windows", type=int, default=4)
    sub.add_argument("--window", type=int, default=512, help="tokens per window")
    sub.add_argument("--stride", type=int, default=5000, help="tokens between window starts")
    sub.add_argument(
        "--calibration-tokens", type=int, default=1024, help="rows of each layer's input to keep"
    )


def _plot(args: argparse.Namespace) -> int:
    from fpsim import plots, sqnr

    if args.what == "formats":
        figure = plots.format_figure(args.formats)
    else:
        data = {name: sqnr.samples(name, args.samples, args.seed) for name in sqnr.DISTRIBUTIONS}
        figure = plots.sqnr_figure(sqnr.measure(data, args.formats))
    plots.save(figure, args.out)
    print(args.out)
    return 0


def _demo(args: argparse.Namespace) -> int:
    from fpsim.demo import run

    complete = run(args.out, with_model=not args.no_model)
    return 0 if complete else INCOMPLETE


# -- the parser ----------------------------------------------------------------------------------


def _code(text: str) -> int:
    return int(text, 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fpsim", description=(fpsim.__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--version", action="version", version=f"fpsim {fpsim.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], int], text: str, reports: bool = True
    ) -> Any:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        if reports:
            sub.add_argument("--json", action="store_true", help="print JSON")
        return sub

    sub = command("formats", _formats, "List formats, or show every code or a block of one")
    sub.add_argument(
        "name", nargs="?", help="a format, such as e2m1 or e2m1b3, or a block format, such as mxfp4"
    )

    sub = command("encode", _encode, "Round values to codes")
    sub.add_argument("format")
    sub.add_argument("values", nargs="+", type=float)
    sub.add_argument("--rounding", default="rne", choices=[r.value for r in Rounding])
    sub.add_argument("--overflow", default="saturate", choices=[o.value for o in Overflow])
    sub.add_argument("--random", type=_code, help="for sr: the random integer")
    sub.add_argument(
        "--random-bits", type=int, default=8, help=f"for sr: its bits, 1..{MAX_RANDOM_BITS}"
    )
    sub.add_argument("--nan", default="error", choices=[p.value for p in NanPolicy])
    sub.add_argument("--inf", default="overflow", choices=[p.value for p in InfPolicy])
    sub.add_argument("--ftz", action="store_true", help="flush subnormal results to zero")
    sub.add_argument("--flags", action="store_true", help="show inexact, underflow, overflow, ...")

    sub = command("decode", _decode, "Show what codes mean")
    sub.add_argument("format")
    sub.add_argument("codes", nargs="+", type=_code, help="such as 7, 0x7 or 0b0111")
    sub.add_argument("--daz", action="store_true", help="read subnormal codes as zero")

    sub = command("units", _units, "List published units, or show one as an equation and TOML")
    sub.add_argument("name", nargs="?")

    sub = command(
        "vectors", _vectors, "Write golden vectors of a unit, or check a directory of them"
    )
    sub.add_argument("unit", nargs="?")
    sub.add_argument("--out", type=Path, metavar="DIR")
    sub.add_argument("--check", type=Path, metavar="DIR", help="recompute every value and checksum")
    sub.add_argument("--strategy", default="mixed", choices=vectors.STRATEGIES)
    sub.add_argument("--count", type=int, default=4096, help="least number of random vectors")
    sub.add_argument("--seed", type=int, default=1)
    sub.add_argument("--exponents", action="store_true", help="drive the run-time exponent too")
    sub.add_argument("--no-load", action="store_true", help="only clear and mac, no load")

    sub = command("rtl", _rtl, "Print the SystemVerilog instantiation of a unit", reports=False)
    sub.add_argument("unit")

    sub = command("verify", _verify, "Replay golden vectors through the unit's RTL in a simulator")
    sub.add_argument("unit")
    sub.add_argument("--simulator", default="verilator", choices=["verilator", "icarus"])
    sub.add_argument("--vectors", type=Path, metavar="DIR", help="default: generated, seed 1")
    sub.add_argument("--build", type=Path, default=Path("out/rtl"), metavar="DIR")

    sub = command("eval", _eval, "Perplexity of a model with its linear layers on a unit")
    _text_options(sub)
    sub.add_argument(
        "--recipe", default="mxfp4", help="such as mxfp4, mxfp4-rceil, nvfp4-weights, llm-fp4, none"
    )
    sub.add_argument("--unit", default="exact")
    sub.add_argument("--calibration", type=Path, help="a file of fpsim calibrate")
    sub.add_argument(
        "--transforms", default="", help="such as hadamard or smoothquant:alpha=0.5+hadamard"
    )

    sub = command("calibrate", _calibrate, "Search the constants of a recipe; resumes where it was")
    _text_options(sub)
    sub.add_argument("--recipe", default="llm-fp4")
    sub.add_argument("--out", type=Path, required=True, help="a .safetensors file")

    sub = command(
        "plot", _plot, "Draw formats, or quantization error against format", reports=False
    )
    sub.add_argument("what", choices=["formats", "sqnr"])
    sub.add_argument("--formats", nargs="+", default=["e1m2", "e2m1", "e3m0", "int4s"])
    sub.add_argument("--samples", type=int, default=1 << 18)
    sub.add_argument("--seed", type=int, default=1)
    sub.add_argument("--out", type=Path, required=True, help="an .svg or .png file")

    sub = command(
        "demo", _demo, "Run the whole demonstration and write out/report.html", reports=False
    )
    sub.add_argument("--out", type=Path, default=Path("out"))
    sub.add_argument("--no-model", action="store_true", help="leave out the language model")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    args = _parser().parse_args(argv)
    try:
        status: int = args.run(args)
    except FpsimError as error:
        print(f"fpsim: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("fpsim: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main())
