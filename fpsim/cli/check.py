# SPDX-License-Identifier: Apache-2.0
"""``fpsim check``: a function of yours against a format, a block format or a unit."""

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
    """Add the command and its kinds."""
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
            "--arrays", default="numpy", choices=["numpy", "torch"], help="what it takes"
        )

    def returns(sub: Any) -> None:
        sub.add_argument(
            "--returns", default="either", choices=["either", "codes", "values"],
            help="what it promises: bit patterns, or numbers",
        )  # fmt: skip

    def seed(sub: Any) -> None:
        sub.add_argument("--seed", type=int, default=1, help="of the random inputs")

    def any_zero(sub: Any) -> None:
        sub.add_argument("--any-zero", action="store_true", help="signs of zeros do not count")

    sub = kind("rounding", _rounding, "A converter of values to a format, in one rounding mode",
               "my_module:my_round --format e2m1 --mode rne")  # fmt: skip
    function(sub)
    returns(sub)
    sub.add_argument("--format", required=True, help="what it converts to, such as e2m1")
    text = "how it rounds; any: only what holds in every mode"
    sub.add_argument("--mode", default="rne", choices=[*_MODES, "any"], help=text)
    text = "what becomes of values beyond the largest (default: inf where there is one)"
    sub.add_argument("--overflow", choices=["saturate", "inf", "nan", "wrap"], help=text)
    text = "what NaN becomes in a format without NaN (default: it is not tried)"
    sub.add_argument("--nan", choices=["zero", "saturate"], help=text)
    text = "float32, float64, or a format to try whole: float16, bfloat16, ..."
    sub.add_argument("--inputs", default="float32", metavar="TYPE", help=text)
    sub.add_argument("--flags", action="store_true", help="it returns codes and status flags")
    any_zero(sub)

    sub = kind("block", _block, "A quantizer of tensors to a block format",
               "my_module:quantize --format mxfp4 --packing low-first")  # fmt: skip
    function(sub)
    returns(sub)
    sub.add_argument("--format", required=True, help="such as mxfp4 or nvfp4, or a TOML file")
    text = "two codes to a byte, the first in the low or in the high half (default: a code each)"
    sub.add_argument("--packing", choices=["low-first", "high-first"], help=text)
    any_zero(sub)
    seed(sub)

    sub = kind("dot", _dot, "Dot products or a matrix product against a unit",
               "my_module:gemm --unit nvidia-h100-e4m3 --operands values")  # fmt: skip
    function(sub)
    returns(sub)
    sub.add_argument("--unit", required=True, help="a name, or a path to its TOML")
    text = "(M, K) by (K, N), batches of these, or (n, K) by (n, K)"
    sub.add_argument("--form", default="matmul", choices=["matmul", "batched", "dot"], help=text)
    text = "what it is given: bit patterns, or numbers"
    sub.add_argument("--operands", default="codes", choices=["codes", "values"], help=text)
    sub.add_argument("--addend", action="store_true", help="it takes c as well")
    sub.add_argument("--scales", action="store_true", help="it takes scale codes as well")
    text = "products of a dot product; may be given several times (default: 1, a step, four steps)"
    sub.add_argument("--k", type=int, action="append", default=[], help=text)
    sub.add_argument("--count", type=int, default=4096, help="random cases of each length")
    seed(sub)
    text = "codes that a result may be off by; needs --reason"
    sub.add_argument("--tolerance", type=int, default=0, metavar="CODES", help=text)
    sub.add_argument("--reason", default="", help="why a tolerance is right")

    sub = kind("stochastic", _stochastic, "Stochastic rounding: exactly, or an unknown generator",
               "my_module:sr --format e2m1 --random-bits 8")  # fmt: skip
    function(sub)
    sub.add_argument("--format", required=True, help="what it converts to, such as e2m1")
    text = "bits of the random integers that it is given (default: it draws for itself)"
    sub.add_argument("--random-bits", type=int, help=text)
    text = "conversions of each value where it draws for itself"
    sub.add_argument("--trials", type=int, default=1 << 16, help=text)
    seed(sub)

    sub = kind("c", _c, "A C function: a multiply-add on codes, or a converter of floats",
               "mac.c --function mac --unit unit.toml --sanitize undefined")  # fmt: skip
    sub.add_argument("file", type=Path, help="the C file; it is included whole")
    sub.add_argument("--function", required=True, metavar="NAME", help="of the function in it")
    sub.add_argument("--unit", help="of a multiply-add f(a, b, c)")
    sub.add_argument("--format", help="of a converter f(x)")
    sub.add_argument("--mode", default="rne", choices=_MODES, help="how a converter rounds")
    text = "what the compiler watches for; may be given several times"
    names = ["address", "undefined"]
    sub.add_argument("--sanitize", action="append", default=[], choices=names, help=text)
    text = "that one run may take"
    sub.add_argument("--timeout", type=float, default=120.0, metavar="SECONDS", help=text)
