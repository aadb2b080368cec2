# SPDX-License-Identifier: Apache-2.0
"""``fpsim check``: compares a function of yours with a format, a block format or a unit."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fpsim.base.errors import FpsimError
from fpsim.cli.output import INCOMPLETE, Commands, print_json

if TYPE_CHECKING:
    from fpsim.testing import CheckResult

__all__ = ["register"]

_MODES = ("rne", "rna", "rtz", "rup", "rdn", "rto")


def _function(text: str) -> Callable[..., Any]:
    """Return the function that ``module:name`` or ``file.py:name`` means."""
    where, _, name = text.rpartition(":")
    if not where or not name:
        raise FpsimError(f"function: {text!r} is not MODULE:NAME, such as my_module:my_round")
    folder, module = Path.cwd(), where
    if where.endswith(".py"):
        folder, module = Path(where).resolve().parent, Path(where).stem
    sys.path.insert(0, str(folder))
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise FpsimError(
            f"function: {where} cannot be imported ({type(error).__name__}: {said})"
        ) from None
    finally:
        sys.path.remove(str(folder))
    for part in name.split("."):
        if not hasattr(found, part):
            raise FpsimError(f"function: {where} has no {name!r}")
        found = getattr(found, part)
    if not callable(found):
        raise FpsimError(f"function: {text!r} is not a function")
    return found  # type: ignore[no-any-return]


def _report(result: CheckResult, args: argparse.Namespace) -> int:
    if args.json:
        print_json(result.to_dict())
    else:
        print(result)
    return 0 if result else INCOMPLETE


def _rounding(args: argparse.Namespace) -> int:
    from fpsim.testing import check_rounding

    result = check_rounding(
        _function(args.function), args.format, None if args.mode == "any" else args.mode,
        overflow=args.overflow, nan=args.nan, inputs=args.inputs, returns=args.returns,
        arrays=args.arrays, flags=args.flags, signed_zero=not args.any_zero,
    )  # fmt: skip
    return _report(result, args)


def _block(args: argparse.Namespace) -> int:
    from fpsim.testing import check_block_cast

    result = check_block_cast(
        _function(args.function), args.format, returns=args.returns, packing=args.packing,
        arrays=args.arrays, signed_zero=not args.any_zero, seed=args.seed,
    )  # fmt: skip
    return _report(result, args)


def _dot(args: argparse.Namespace) -> int:
    from fpsim.testing import check_dot

    result = check_dot(
        _function(args.function), args.unit, form=args.form, operands=args.operands,
        returns=args.returns, addend=args.addend, scales=args.scales, k=tuple(args.k) or None,
        count=args.count, seed=args.seed, tolerance=args.tolerance, reason=args.reason,
        arrays=args.arrays,
    )  # fmt: skip
    return _report(result, args)


def _stochastic(args: argparse.Namespace) -> int:
    from fpsim.testing import check_stochastic

    result = check_stochastic(
        _function(args.function), args.format, args.random_bits, trials=args.trials,
        arrays=args.arrays, seed=args.seed,
    )  # fmt: skip
    return _report(result, args)


def _c(args: argparse.Namespace) -> int:
    from fpsim.testing import check_c

    result = check_c(
        args.file, args.function, unit=args.unit, format=args.format, rounding=args.mode,
        sanitize=tuple(args.sanitize), timeout=args.timeout,
    )  # fmt: skip
    return _report(result, args)


def register(commands: Commands) -> None:
    """Add the command ``check`` with its subcommands."""
    parser = commands.add(
        "check", lambda _: 0, "Check a function of yours: rounding, block casts, dot products, C",
        reports=False,
        examples=["check dot my_module:gemm --unit nvidia-h100-e4m3",
                  "check rounding my_module:to_e2m1 --format e2m1"],
    )  # fmt: skip
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")

    def kind(name: str, run: Callable[[argparse.Namespace], int], text: str, example: str) -> Any:
        epilog = f"examples:\n  fpsim check {name} {example}"
        sub = kinds.add_parser(name, help=text, description=text, epilog=epilog)
        sub.set_defaults(run=run)
        sub.add_argument("--json", action="store_true", help="print JSON")
        return sub

    def function(sub: Any) -> None:
        sub.add_argument("function", metavar="MODULE:NAME", help="the function, or FILE.py:NAME")
        sub.add_argument(
            "--arrays",
            default="numpy",
            choices=["numpy", "torch"],
            help="library whose arrays the function takes",
        )

    def returns(sub: Any) -> None:
        sub.add_argument(
            "--returns", default="either", choices=["either", "codes", "values"],
            help="results of the function: codes (bit patterns), values (numbers), or either",
        )  # fmt: skip

    def seed(sub: Any) -> None:
        sub.add_argument("--seed", type=int, default=1, help="seed of the random inputs")

    def any_zero(sub: Any) -> None:
        sub.add_argument("--any-zero", action="store_true", help="do not compare signs of zeros")

    sub = kind("rounding", _rounding, "A converter of values to a format, in one rounding mode",
               "my_module:my_round --format e2m1 --mode rne")  # fmt: skip
    function(sub)
    returns(sub)
    sub.add_argument("--format", required=True, help="format of the results, such as e2m1")
    text = "rounding mode; any: check only what holds in every mode"
    sub.add_argument("--mode", default="rne", choices=[*_MODES, "any"], help=text)
    text = "result for values beyond the largest (default: inf if the format has it)"
    sub.add_argument("--overflow", choices=["saturate", "inf", "nan", "wrap"], help=text)
    text = "result for NaN if the format has no NaN (default: NaN is not tried)"
    sub.add_argument("--nan", choices=["zero", "saturate"], help=text)
    text = "dtype of the inputs: float32, float64, or a format tried whole: float16, bfloat16, ..."
    sub.add_argument("--inputs", default="float32", metavar="TYPE", help=text)
    sub.add_argument("--flags", action="store_true", help="the function returns codes and flags")
    any_zero(sub)

    sub = kind("block", _block, "A quantizer of tensors to a block format",
               "my_module:quantize --format mxfp4 --packing low-first")  # fmt: skip
    function(sub)
    returns(sub)
    sub.add_argument(
        "--format", required=True, help="a block format, such as mxfp4 or nvfp4, or a TOML file"
    )
    text = "packing of two codes in a byte: the first in its low or its high half (default: none)"
    sub.add_argument("--packing", choices=["low-first", "high-first"], help=text)
    any_zero(sub)
    seed(sub)

    sub = kind("dot", _dot, "Dot products or a matrix product against a unit",
               "my_module:gemm --unit nvidia-h100-e4m3 --operands values")  # fmt: skip
    function(sub)
    returns(sub)
    sub.add_argument("--unit", required=True, help="name of a unit, or path of its TOML file")
    text = "shapes of a and b: (M, K) and (K, N), batches of them, or (n, K) and (n, K)"
    sub.add_argument("--form", default="matmul", choices=["matmul", "batched", "dot"], help=text)
    text = "arguments of the function: codes (bit patterns) or values (numbers)"
    sub.add_argument("--operands", default="codes", choices=["codes", "values"], help=text)
    sub.add_argument("--addend", action="store_true", help="the function takes c, the addend, too")
    sub.add_argument("--scales", action="store_true", help="the function takes scale codes too")
    text = "length of a dot product; may be repeated (default: 1, one step, four steps)"
    sub.add_argument("--k", type=int, action="append", default=[], help=text)
    sub.add_argument("--count", type=int, default=4096, help="random dot products of each length")
    seed(sub)
    text = "allowed distance from the unit's result, in codes; needs --reason"
    sub.add_argument("--tolerance", type=int, default=0, metavar="CODES", help=text)
    sub.add_argument("--reason", default="", help="why --tolerance is right; the report quotes it")

    sub = kind("stochastic", _stochastic, "Stochastic rounding: exact if random integers are given",
               "my_module:sr --format e2m1 --random-bits 8")  # fmt: skip
    function(sub)
    sub.add_argument("--format", required=True, help="format of the results, such as e2m1")
    text = "bits of the random integers that the function takes (default: it draws its own)"
    sub.add_argument("--random-bits", type=int, help=text)
    text = "conversions of each value, if the function draws its own random numbers"
    sub.add_argument("--trials", type=int, default=1 << 16, help=text)
    seed(sub)

    sub = kind("c", _c, "A C function: a multiply-add on codes, or a converter of floats",
               "mac.c --function mac --unit unit.toml --sanitize undefined")  # fmt: skip
    sub.add_argument("file", type=Path, help="the C file; the check includes all of it")
    sub.add_argument("--function", required=True, metavar="NAME", help="name of the C function")
    sub.add_argument("--unit", help="the unit that a multiply-add f(a, b, c) must equal")
    sub.add_argument("--format", help="the format that a converter f(x) must round to")
    sub.add_argument("--mode", default="rne", choices=_MODES, help="rounding mode of a converter")
    text = "faults that the compiler's sanitizers report; may be repeated"
    names = ["address", "undefined"]
    sub.add_argument("--sanitize", action="append", default=[], choices=names, help=text)
    text = "time limit of one run"
    sub.add_argument("--timeout", type=float, default=120.0, metavar="SECONDS", help=text)
