# SPDX-License-Identifier: Apache-2.0
"""``fpsim size`` and ``order``: accumulator losses on codes of a file or a model."""

from __future__ import annotations

import argparse
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fpsim
from fpsim.base.errors import FpsimError
from fpsim.base.progress import bar
from fpsim.cli import from_model
from fpsim.cli.output import Commands, print_json, refuse_given, table

if TYPE_CHECKING:
    from fpsim.studies.sizing import Sizing

__all__ = ["register"]

#: Arrays that a file of operands may have.
OPERANDS = ("a", "b", "c", "a_scale", "b_scale")
#: Random orders listed one by one; the rest are only counted.
MAX_LISTED = 12


# -- size ----------------------------------------------------------------------------------------


def _size(args: argparse.Namespace) -> int:
    from fpsim.studies import sizing

    unit = fpsim.get_unit(args.unit)
    if (args.operands is None) == (args.from_model is None):
        both = "" if args.operands is None else ", not both"
        raise FpsimError(f"operands: give a file of codes, or --from-model MODEL{both}")
    if args.from_model is not None:
        return _size_layers(args, unit)
    of_model = ("layer", "recipe", "calibration", "text", "window", "results")
    refuse_given(args, of_model, "only with --from-model")
    given = _arrays(args.operands)
    if args.block is not None:
        given["block"] = args.block
    if unit.spec.random_bits:
        given["random"] = fpsim.RandomBits(args.seed)
    with bar(unit.name):
        found = sizing.study(unit, **given, dots=args.dots)
    if args.json:
        print_json(found.to_dict())
        return 0
    table(f"{unit.name} on {args.operands}", ["", ""], _size_rows(found))
    return 0


def _size_layers(args: argparse.Namespace, unit: fpsim.MacUnit) -> int:
    refuse_given(args, ("dots", "block"), "only for a file of codes; layers say it themselves")
    if min(args.results) < 1:
        raise FpsimError(f"results: {args.results} are not two positive integers")
    operands = from_model.read(args, unit).operands

    from fpsim.bridge import size_layer

    found = {}
    rows, columns = args.results
    with bar(unit.name) as update:
        for name, pair in operands.items():
            found[name] = size_layer(pair, unit, rows, columns, args.seed)
            update(len(found), len(operands), name)
    if args.json:
        print_json({name: one.to_dict() for name, one in found.items()})
        return 0
    shared = _shared_path(list(found))
    where = f"each layer of {shared}" if shared else "each layer"
    title = f"{unit.name}, {args.recipe}: {rows} x {columns} results of {where}"
    named = {name.removeprefix(f"{shared}."): one for name, one in found.items()}
    columns = ["layer", "over %", "inexact %", "swamped %", "SQNR dB", "max |sum|", "bits", "LSB"]
    table(title, columns, [[n, *_layer_cells(one)] for n, one in named.items()])
    print("bits, LSB: the narrowest lossless fixed-point register")
    return 0


def _shared_path(names: list[str]) -> str:
    """Return the dotted path that all names, if there are several, begin with."""
    parts = [name.split(".") for name in names]
    if len(parts) < 2:
        return ""
    levels = zip(*parts, strict=False)
    return ".".join(level[0] for level in takewhile(lambda x: len(set(x)) == 1, levels))


def _layer_cells(found: Sizing) -> list[object]:
    shares = (found.overflows, found.inexact, found.swamped)
    return [
        *(f"{100 * count / found.steps:.2g}" for count in shares),
        f"{found.sqnr_db:.1f}",
        f"{found.largest:.3g}",
        found.fixed_width,
        f"2^{found.fixed_lsb}",
    ]


def _size_rows(found: Sizing) -> list[list[object]]:
    def share(count: int) -> str:
        return f"{count} ({100 * count / found.steps:.3g} %)"

    fmt = found.float_format
    return [
        ["dot products, steps", f"{found.dots}, {found.steps}"],
        ["overflowing steps", share(found.overflows)],
        ["of them saturated or wrapped", share(found.saturations)],
        ["inexact steps", share(found.inexact)],
        ["fully swamped steps", share(found.swamped)],
        ["results not finite", found.not_finite],
        ["relative error, largest", f"{found.max_relative_error:.3g}"],
        ["relative error, mean", f"{found.mean_relative_error:.3g}"],
        ["SQNR against exact", f"{found.sqnr_db:.4g} dB"],
        ["largest partial sum", f"{found.largest:.17g}"],
        ["lossless fixed point", f"{found.fixed_width} bits, LSB 2^{found.fixed_lsb}"],
        ["in any order", f"{found.any_order_width} bits"],
        [
            "lossless floating point",
            f"{found.exponent_bits} exponent and {found.mantissa_bits} mantissa bits"
            + (f" ({fmt.name})" if fmt is not None else ""),
        ],
    ]


# -- order ---------------------------------------------------------------------------------------


def _order(args: argparse.Namespace) -> int:
    from fpsim.studies import order

    unit = fpsim.get_unit(args.unit)
    given = _one_result(_arrays(args.operands), *args.result)
    if args.block is not None:
        given["block"] = args.block
    with bar(unit.name):
        found = order.study(unit, **given, random_orders=args.random_orders, seed=args.seed)
    if args.json:
        print_json(found.to_dict())
        return 0
    named = [o for o in found.outcomes if o.order != "random"]
    drawn = [o for o in found.outcomes if o.order == "random"]
    rows = [[o.order, f"{o.value:.9g}", f"0x{o.code:x}"] for o in named + drawn[:MAX_LISTED]]
    if len(drawn) > MAX_LISTED:
        rows.append([f"{len(drawn) - MAX_LISTED} more random orders", "", ""])
    depends = "depends on the order" if found.depends else "is the same in every order"
    table(f"{unit.name}: result {args.result} {depends}", ["order", "value", "code"], rows)
    print(f"distinct results {len(found.codes)}, exact sum {found.exact:.9g}, "
          f"spread {found.spread:.3g}, largest error {found.largest_error:.3g}")  # fmt: skip
    return 0


def _one_result(arrays: dict[str, Any], m: int, n: int) -> dict[str, Any]:
    """Return the operands of the result (m, n) of a matrix product."""
    for name in ("a", "b"):
        if arrays[name].ndim != 2:
            raise FpsimError(f"{name}: shape {arrays[name].shape} is not a matrix")
    shape = (arrays["a"].shape[0], arrays["b"].shape[1])
    if not (0 <= m < shape[0] and 0 <= n < shape[1]):
        raise FpsimError(f"result: ({m}, {n}) is not in the product of shape {shape}")
    picked = {"a": arrays["a"][m], "b": arrays["b"][:, n]}
    if "c" in arrays:
        picked["c"] = arrays["c"][m, n]
    if "a_scale" in arrays:
        picked["a_scale"] = arrays["a_scale"][m]
    if "b_scale" in arrays:
        picked["b_scale"] = arrays["b_scale"][:, n]
    return picked


def _arrays(path: Path) -> dict[str, Any]:
    """Return the operands in an .npz file."""
    import numpy as np

    try:
        data = np.load(path, allow_pickle=False)
        if isinstance(data, np.ndarray):
            raise FpsimError(f"{path}: one array, not an .npz with arrays a and b")
        with data:
            unknown = sorted(set(data.files) - set(OPERANDS))
            if unknown:
                raise FpsimError(
                    f"{path}: {unknown[0]!r} is not an operand; known: {', '.join(OPERANDS)}"
                )
            for name in ("a", "b"):
                if name not in data.files:
                    raise FpsimError(f"{path}: array {name!r} is missing")
            return {name: data[name] for name in data.files}
    except OSError as error:
        raise FpsimError(f"{path}: cannot be read ({error.strerror or error})") from None
    except FpsimError:
        raise
    except Exception as error:
        # zipfile, zlib and NumPy raise errors of their own for damaged files.
        raise FpsimError(f"{path}: is not an .npz file of arrays ({error})") from None


def register(commands: Commands) -> None:
    """Add the commands."""
    sub = commands.add(
        "size", _size, "Count accumulator losses on data, and find the width without losses",
        examples=[
            "size e2m1-chain-e5m10 layer.npz",
            "size e2m1-chain-e5m10 --from-model smollm2-135m --layer '*layers.3.*'",
        ],
    )  # fmt: skip
    sub.add_argument("unit", help="a name or a .toml file")
    sub.add_argument(
        "operands",
        type=Path,
        nargs="?",
        help="an .npz of codes: a (M, K), b (K, N), c, a_scale, b_scale",
    )
    sub.add_argument("--dots", action="store_true", help="a and b (..., K) are dot products")
    sub.add_argument(
        "--block", type=int, help="elements per scale, if scales do not divide K evenly"
    )
    sub.add_argument("--seed", type=int, default=1, help="seed of stochastic rounding")

    from_model.add_options(sub)
    sub.add_argument(
        "--results", type=int, nargs=2, default=[64, 64], metavar=("M", "N"),
        help="inputs (M) and output channels (N) taken from each layer, spread evenly",
    )  # fmt: skip

    sub = commands.add(
        "order", _order, "Sum one dot product in many orders and compare the results",
        examples=["order e2m1-chain-e4m3fn layer.npz --result 0 3 --random-orders 200"],
    )  # fmt: skip
    sub.add_argument("unit", help="a name or a .toml file")
    sub.add_argument("operands", type=Path, help="an .npz of codes, as for fpsim size")
    sub.add_argument(
        "--result",
        type=int,
        nargs=2,
        default=[0, 0],
        metavar=("M", "N"),
        help="row and column of the matrix product",
    )
    sub.add_argument(
        "--random-orders", type=int, default=100, metavar="COUNT", help="orders drawn at random"
    )
    sub.add_argument("--seed", type=int, default=1, help="seed of the random orders")
    sub.add_argument(
        "--block", type=int, help="elements per scale, if scales do not divide K evenly"
    )
