# SPDX-License-Identifier: Apache-2.0
"""``fpsim plot``: the figures of `fpsim.plots`, with their numbers as CSV or JSON.

Every figure is a subcommand whose function returns a `Picture`; all share the options ``--out``,
``--theme``, ``--csv`` and ``--json``.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import io
import json
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fpsim
from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.base.progress import bar, say
from fpsim.cli.output import MODEL_HELP, Commands, examples_text, needs
from fpsim.studies.distributions import DISTRIBUTIONS, samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["register"]

#: Other names of distributions.
_ALIASES = {"normal": "gaussian"}
#: Samples that a command accepts: 2^28 float64 values are 2 GiB.
_MAX_SAMPLES = 1 << 28


@dataclass(frozen=True)
class Picture:
    """A figure, its numbers as rows, and the data and units that its caption names."""

    figure: Any
    rows: Sequence[dict[str, Any]]
    about: str


def _run(args: argparse.Namespace) -> int:
    with needs("plot"):
        from fpsim import plots
    plots.check_target(args.out, args.theme)
    with bar("measuring") if args.draw is not _accumulator else nullcontext():
        picture: Picture = args.draw(args)
    plots.caption(picture.figure, f"{picture.about}; fpsim {fpsim.__version__}")
    # Numbers first: no figure is left without its numbers if a file cannot be written.
    if args.csv is not None:
        write_atomic(args.csv, _csv(picture.rows).encode(), "csv")
    if args.numbers is not None:
        text = json.dumps([_finite(row) for row in picture.rows], indent=1)
        write_atomic(args.numbers, text.encode(), "json")
    plots.save(picture.figure, args.out, args.theme)
    print(args.out)
    return 0


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.9g}" if isinstance(v, float) else v for k, v in row.items()})
    return text.getvalue()


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


# -- data ----------------------------------------------------------------------------------------


def _data(args: argparse.Namespace) -> tuple[dict[str, NDArray[Any]], str]:
    """Return the arrays that ``--data`` and ``--from-model`` name, and words for the caption."""
    found: dict[str, NDArray[Any]] = {}
    if not 1 <= args.samples <= _MAX_SAMPLES:
        raise FpsimError(f"samples: {args.samples} is not in 1..{_MAX_SAMPLES}")
    names = args.data or ([] if args.from_model else ["gaussian", "laplace"])
    about = []
    for name in names:
        known = _ALIASES.get(name, name)
        if known in DISTRIBUTIONS:
            found[known] = samples(known, args.samples, args.seed)
        elif Path(name).suffix in (".npy", ".npz", ".safetensors"):
            for key, array in _file_arrays(Path(name), args.tensors).items():
                found[f"{name}: {key}" if key in found else key] = array
            about.append(Path(name).name)
        else:
            raise FpsimError(
                f"data: {name!r} is neither {', '.join(DISTRIBUTIONS)} nor a .npy, .npz or "
                f".safetensors file"
            )
    if any(_ALIASES.get(name, name) in DISTRIBUTIONS for name in names):
        about.append(f"{args.samples} samples, seed {args.seed}")
    if args.from_model:
        found |= _model_arrays(args.from_model, args.tensors)
        about.append(f"weights of {args.from_model}")
    return found, ", ".join(about)


def _file_arrays(path: Path, pattern: str) -> dict[str, NDArray[Any]]:
    import numpy as np

    try:
        if path.suffix == ".npy":
            arrays = {path.stem: np.load(path, allow_pickle=False, mmap_mode="r")}
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as data:
                arrays = {name: data[name] for name in data.files if fnmatch.fnmatch(name, pattern)}
        else:
            arrays = _safetensors(path, pattern)
    except FpsimError:
        raise
    except (OSError, ValueError, EOFError, KeyError, MemoryError, TypeError) as error:
        raise FpsimError(f"data: {path} cannot be read as arrays ({error})") from None
    except Exception as error:
        # zipfile and safetensors raise errors of their own for damaged files.
        raise FpsimError(f"data: {path} is damaged ({error})") from None
    return _chosen(arrays, pattern, str(path))


def _chosen(arrays: dict[str, Any], pattern: str, where: str) -> dict[str, NDArray[Any]]:
    import numpy as np

    if not arrays:
        raise FpsimError(f"tensors: nothing in {where} matches {pattern!r}")
    return {name: np.asarray(array) for name, array in arrays.items()}


def _safetensors(path: Path, pattern: str) -> dict[str, Any]:
    with needs("torch"):
        from safetensors import safe_open
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if fnmatch.fnmatch(name, pattern)]  # noqa: SIM118
        tensors = {name: file.get_tensor(name) for name in names}
        return {name: t.float().numpy() for name, t in tensors.items() if t.is_floating_point()}


def _model_arrays(name: str, pattern: str) -> dict[str, NDArray[Any]]:
    with needs("torch"):
        from fpsim.bridge.measure import models
    state = models.load(name, say).model.state_dict()
    found = {
        key: tensor.float().numpy()
        for key, tensor in state.items()
        if tensor.dim() > 1 and fnmatch.fnmatch(key, pattern)
    }
    return _chosen(found, pattern, name)


# -- pictures ------------------------------------------------------------------------------------


def _formats(args: argparse.Namespace) -> Picture:
    from fpsim import plots

    figure = plots.format_figure(args.formats)
    rows = plots.format_rows(args.formats)
    return Picture(figure, rows, "values of " + ", ".join(args.formats))


def _sqnr(args: argparse.Namespace) -> Picture:
    from fpsim import plots
    from fpsim.blocks.block_format import BLOCK_FORMATS
    from fpsim.studies import sqnr

    for name in args.formats:
        if name in BLOCK_FORMATS:
            raise FpsimError(f"formats: {name!r} is a block format; `fpsim plot error` takes it")
    data, about = _data(args)
    rows = sqnr.measure(data, args.formats)
    return Picture(plots.sqnr_figure(rows), [asdict(row) for row in rows], about)


def _error(args: argparse.Namespace) -> Picture:
    from fpsim import plots
    from fpsim.studies.error import BEST, ErrorRow, measure_error, quantizers

    clips = [BEST if clip == BEST else _number("clip", clip) for clip in args.clips]
    casts = quantizers(args.formats, args.blocks, args.rules, clips)
    earlier = _earlier(args.compare, ErrorRow)
    data, about = _data(args)
    rows = measure_error(data, casts)
    figure = plots.error_figure(rows, args.against, args.metric, earlier)
    if args.compare:
        about += f"; crosses: {args.compare.name}"
    return Picture(figure, [asdict(row) for row in rows], about)


def _number(field: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise FpsimError(f"{field}: {text!r} is not a number") from None


def _earlier(path: Path | None, kind: type[Any]) -> list[Any]:
    """Return the rows of a file that ``fpsim plot error --json`` wrote."""
    if path is None:
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        # JSON has no NaN: `_finite` wrote None.
        floats = {f.name for f in fields(kind) if f.type == "float"}
        return [
            kind(**{k: math.nan if v is None and k in floats else v for k, v in row.items()})
            for row in rows
        ]
    except OSError as error:
        raise FpsimError(f"compare: {path} cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, AttributeError):
        raise FpsimError(
            f"compare: {path} is no file that `fpsim plot error --json` wrote"
        ) from None


def _bias(args: argparse.Namespace) -> Picture:
    from fpsim import plots
    from fpsim.studies.error import bias_curve

    data, about = _data(args)
    curves = [bias_curve(x, fmt, name) for name, x in data.items() for fmt in args.formats]
    rows = [
        {"data": c.data, "format": c.format, "bias": float(b), "sqnr_db": float(s)}
        for c in curves
        for b, s in zip(c.biases, c.sqnr_db, strict=True)
    ]
    return Picture(plots.bias_figure(curves), rows, about)


def _rounding(args: argparse.Namespace) -> Picture:
    from fpsim import plots

    curves = [
        plots.rounding_curve(args.format, mode, random_bits=args.random_bits) for mode in args.modes
    ]
    rows = [
        {"mode": c.mode.value, "x": x, "low": low, "high": high, "probability_high": up}
        for c in curves
        for x, low, high, up in zip(*(v.tolist() for v in (c.x, c.low, c.high, c.up)), strict=True)
    ]
    about = f"{args.format}; stochastic: {args.random_bits} random bits, exact distribution"
    return Picture(plots.rounding_figure(curves), rows, about)


def _accumulator(args: argparse.Namespace) -> Picture:
    from fpsim import plots
    from fpsim.studies.accumulation import measure_accumulation

    with bar("accumulators") as update:
        rows = measure_accumulation(
            [fpsim.get_unit(unit) for unit in args.units],
            args.lengths,
            args.orders,
            args.dots,
            args.data,
            args.seed,
            not args.independent,
            lambda done, total: update(done, total),
        )
    operands = "independent operands" if args.independent else "a vector with itself"
    about = f"{args.dots} dot products of {args.data} data, {operands}, seed {args.seed}"
    return Picture(plots.accumulation_figure(rows), [asdict(row) for row in rows], about)


def _recipes(args: argparse.Namespace) -> Picture:
    from fpsim import plots
    from fpsim.explore.storage import storage_bits
    from fpsim.plots.recipes import RecipePoint

    points: list[RecipePoint] = []
    reference = None
    for path in args.results:
        try:
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            for cell in cells.values():
                if "error" in cell:  # a recipe or unit that failed in the study
                    continue
                if cell["recipe"] in (None, "none", "float32"):
                    reference = float(cell["perplexity"])
                elif args.units is None or cell["unit"] in args.units:
                    bits = storage_bits(cell["recipe"])
                    points.append(
                        RecipePoint(cell["recipe"], cell["unit"], *bits, float(cell["perplexity"]))
                    )
        except OSError as error:
            raise FpsimError(f"results: {path} cannot be read ({error.strerror})") from None
        except (ValueError, TypeError, AttributeError, KeyError):
            raise FpsimError(
                f"results: {path} is no file of cells with recipe, unit and perplexity, such as "
                "analysis/recipes.py writes"
            ) from None
    about = ", ".join(path.name for path in args.results)
    return Picture(plots.recipes_figure(points, reference), [asdict(p) for p in points], about)


def _layers(args: argparse.Namespace) -> Picture:
    from fpsim import plots

    with needs("torch"):
        from fpsim.bridge import Calibration, get_recipe
        from fpsim.bridge.measure import models
        from fpsim.bridge.measure.tasks import task_for
    from fpsim.explore.layers import layer_rows, sample_layers

    # Bad names should not wait for the model.
    get_recipe(args.recipe)
    unit = fpsim.get_unit(args.unit)
    calibration = None if args.calibration is None else Calibration.load(args.calibration)
    loaded = models.load(args.model, say)
    batches = task_for(loaded, count=1, length=args.window).calibration()
    samples = sample_layers(loaded.model, batches, args.layer)
    with bar("layers") as update:
        rows = layer_rows(
            samples, args.recipe, unit, calibration, lambda done, total: update(done, total)
        )
    if not rows:
        raise FpsimError(f"recipe: {args.recipe} casts none of the layers {args.layer!r}")
    about = f"{args.model}, {args.recipe} on {unit.name}, 16 inputs and 32 outputs of each layer"
    numbers = [asdict(row) | {"output_db": row.output_db} for row in rows]
    return Picture(plots.layers_figure(rows), numbers, about)


def _pareto(args: argparse.Namespace) -> Picture:
    from fpsim import plots

    points: list[tuple[str, float, float, bool]] = []
    try:
        data = json.loads(args.points.read_text(encoding="utf-8"))
        for place, point in enumerate(data["points"]):
            cost, value = point[args.cost], point[args.figure]
            name = f"{point['recipe']} on {point['unit']}"
            numbers = [math.nan if v is None else float(v) for v in (cost, value)]
            points.append((name, numbers[0], numbers[1], place in data["front"]))
        winner = data["winner"]
        if winner not in (None, *range(len(points))):
            raise ValueError("of no point")
        model, limit = data["settings"]["model"], data["settings"]["budget"]
        budget = limit.partition(" ")[0]
    except OSError as error:
        raise FpsimError(f"points: {args.points} cannot be read ({error.strerror})") from None
    except KeyError as error:
        raise FpsimError(f"points: {args.points} has no field {error}") from None
    except (ValueError, TypeError, AttributeError):
        raise FpsimError(
            f"points: {args.points} is no points.json that `fpsim explore` wrote"
        ) from None
    label = budget if args.figure == "figure" else args.figure
    figure = plots.pareto_figure(points, winner, None, (args.cost.replace("_", " "), label))
    rows = [{"point": n, args.cost: c, label: v, "front": f} for n, c, v, f in points]
    return Picture(figure, rows, f"{model}, {limit}")


def _training(args: argparse.Namespace) -> Picture:
    from fpsim import plots

    with needs("torch"):
        from fpsim.bridge.training.run import read_log, read_settings
    curves: dict[str, list[list[float]]] = {}
    rows: list[dict[str, Any]] = []
    for folder in args.runs:
        settings, _ = read_settings(folder)
        label = f"{settings.recipe} on {settings.unit}"
        log = read_log(folder)
        curves.setdefault(label, []).append([row.loss for row in log])
        rows += [{"run": str(folder), "label": label, **asdict(row)} for row in log]
    figure = plots.training_figure(
        [plots.TrainingCurve(label, losses) for label, losses in curves.items()]
    )
    return Picture(figure, rows, f"{len(args.runs)} runs, bands over seeds")


# -- options -------------------------------------------------------------------------------------


def _data_options(sub: argparse.ArgumentParser) -> None:
    known = ", ".join(DISTRIBUTIONS)
    sub.add_argument(
        "--data",
        nargs="+",
        metavar="DATA",
        help=f"{known}, or .npy, .npz and .safetensors files (default: gaussian laplace)",
    )
    sub.add_argument("--tensors", default="*", help="shell pattern on names in files and models")
    sub.add_argument("--from-model", metavar="MODEL", help="weights of a model, by --tensors")
    sub.add_argument("--samples", type=int, default=1 << 18, help="random values (default 262144)")
    sub.add_argument("--seed", type=int, default=1, help="seed of random values (default 1)")


def register(commands: Commands) -> None:
    """Add the command with a subcommand for each picture."""
    plot = commands.add(
        "plot", _run, "Draw formats, errors, accumulators, recipes or training", False,
        ["plot formats --out formats.svg", "plot error --help"],
    )  # fmt: skip
    kinds = plot.add_subparsers(dest="what", required=True, metavar="PICTURE")

    def add(
        name: str, draw: Callable[[argparse.Namespace], Picture], text: str, example: str
    ) -> Any:
        epilog = examples_text([f"plot {name} {example}"])
        sub = kinds.add_parser(name, help=text, description=text, epilog=epilog)
        sub.set_defaults(draw=draw)
        sub.add_argument("--out", type=Path, required=True, help="an .svg, .png or .pdf file")
        sub.add_argument("--theme", default="light", choices=["light", "dark"], help="colours")
        sub.add_argument("--csv", type=Path, metavar="FILE", help="write the numbers as CSV")
        sub.add_argument(
            "--json", type=Path, metavar="FILE", dest="numbers", help="write the numbers as JSON"
        )
        return sub

    four_bit = ["e1m2", "e2m1", "e3m0", "int4s"]
    sub = add("formats", _formats, "Number lines of element and block formats",
              "--formats e2m1 mxfp4 nvfp4 --out formats.svg")  # fmt: skip
    sub.add_argument("--formats", nargs="+", default=four_bit, metavar="FORMAT", help="names")

    sub = add("sqnr", _sqnr, "SQNR of element formats under four ways to scale",
              "--formats e2m1 int4s --data normal --out sqnr.svg --csv sqnr.csv")  # fmt: skip
    sub.add_argument("--formats", nargs="+", default=four_bit, metavar="FORMAT", help="names")
    _data_options(sub)

    sub = add("error", _error, "Quantization error of element and block formats on any data",
              "--formats mxfp4 nvfp4 mine.toml --data normal --out error.svg")  # fmt: skip
    sub.add_argument(
        "--formats",
        nargs="+",
        default=["int4s", "e2m1", "mxfp4", "nvfp4"],
        metavar="FORMAT",
        help="element formats, block formats or TOML files",
    )
    sub.add_argument("--blocks", nargs="+", type=int, default=[], help="elements per block")
    sub.add_argument("--rules", nargs="+", default=[], help="scale rules, such as floor rceil")
    sub.add_argument(
        "--clips", nargs="+", default=[], help="clip ratios of scales per tensor, or best"
    )
    sub.add_argument(
        "--against",
        default="format",
        help="horizontal axis: format, block, rule, clip or bits (default format)",
    )
    sub.add_argument(
        "--metric", default="sqnr", help="vertical axis: sqnr, mse, max or relative (default sqnr)"
    )
    sub.add_argument("--compare", type=Path, help="--json file of an earlier run, drawn as crosses")
    _data_options(sub)

    sub = add("bias", _bias, "SQNR against the exponent bias, the curve LLM-FP4 searches",
              "--formats e2m1 e3m0 --data student-t --out bias.svg")  # fmt: skip
    default = ["e1m2", "e2m1", "e3m0"]
    sub.add_argument("--formats", nargs="+", default=default, metavar="FORMAT", help="names")
    _data_options(sub)

    sub = add("rounding", _rounding, "Transfer curve and error of rounding modes",
              "--format e2m1 --modes rne rtz sr --out rounding.svg")  # fmt: skip
    sub.add_argument("--format", default="e2m1", help="a format of at most 8 bits (default e2m1)")
    sub.add_argument("--modes", nargs="+", default=["rne", "rtz", "sr"], metavar="MODE",
                     help="rounding modes: rne rna rtz rup rdn rto sr")  # fmt: skip
    sub.add_argument(
        "--random-bits", type=int, default=8, help="random bits of sr, 1 to 12 (default 8)"
    )

    sub = add("accumulator", _accumulator, "Error and swamping against the length of a sum",
              "--units e2m1-chain-e5m10 --lengths 16 256 --out accumulator.svg")  # fmt: skip
    sub.add_argument(
        "--units",
        nargs="+",
        metavar="UNIT",
        default=["e2m1-chain-e5m10", "e2m1-chain-e8m7", "e2m1-tree8-e5m10", "e2m1-chain-e8m23"],
        help="names",
    )
    sub.add_argument("--lengths", nargs="+", type=int, default=[16, 64, 256, 1024, 4096],
                     metavar="K", help="products in a dot product")  # fmt: skip
    sub.add_argument("--orders", nargs="+", default=["natural"],
                     help="orders of the products: natural, ascending, ...")  # fmt: skip
    sub.add_argument("--dots", type=int, default=64, help="dot products per point (default 64)")
    sub.add_argument("--data", default="gaussian", help=", ".join(DISTRIBUTIONS))
    sub.add_argument("--independent", action="store_true",
                     help="draw a and b apart; else multiply a vector with itself")  # fmt: skip
    sub.add_argument("--seed", type=int, default=1, help="seed of the data (default 1)")

    sub = add("recipes", _recipes, "Perplexity against storage bits, a dot per recipe",
              "analysis/results/recipes-smollm2-135m.json --out recipes.svg")  # fmt: skip
    sub.add_argument("results", nargs="+", type=Path, help="JSON files of analysis/recipes.py")
    sub.add_argument("--units", nargs="+", metavar="UNIT", help="only these units")

    sub = add("training", _training, "Losses of training runs, bands over seeds",
              "run --out loss.svg")  # fmt: skip
    sub.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of fpsim train")

    sub = add("layers", _layers, "Range, error, losses and accumulator bits of a model's layers",
              "--recipe mxfp4 --unit e2m1-chain-e5m10 --out layers.svg")  # fmt: skip
    sub.add_argument("--model", default="smollm2-135m", help=MODEL_HELP)
    sub.add_argument("--recipe", default="mxfp4", help="how operands are cast (default mxfp4)")
    sub.add_argument("--unit", default="exact", help="unit of the products (default exact)")
    sub.add_argument("--layer", default="*", metavar="PATTERN", help="shell pattern of layer names")
    sub.add_argument(
        "--calibration", type=Path, help="file of fpsim calibrate, if the recipe needs it"
    )
    sub.add_argument("--window", type=int, default=128, help="tokens of text (default 128)")

    sub = add("pareto", _pareto, "Accuracy against cost of the points of `fpsim explore`",
              "explore/points.json --cost area --out pareto.svg")  # fmt: skip
    sub.add_argument("points", type=Path, help="a points.json of `fpsim explore`")
    sub.add_argument(
        "--cost",
        default="area_per_product",
        help="horizontal axis: area_per_product, area, depth, flipflops, energy_ratio or bits",
    )
    sub.add_argument(
        "--figure", default="figure", help="vertical axis: figure (of the budget) or layer_db"
    )
