# SPDX-License-Identifier: Apache-2.0
"""``fpsim formats``, ``encode``, ``decode``: the values of codes, and the codes of values."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fpsim.base.errors import FpsimError
from fpsim.cli.output import Commands, code, print_json, rows_table, table
from fpsim.formats.floating import FixedFormat, Format
from fpsim.formats.names import NAMED_FORMATS, get_format
from fpsim.formats.rounding import MAX_RANDOM_BITS, Flag, InfPolicy, NanPolicy, Overflow, Rounding

if TYPE_CHECKING:  # fpsim.blocks imports compiled kernels, which are slow to load
    from fpsim.blocks.block_format import BlockFormat

__all__ = ["register"]


def _format_row(fmt: Format) -> dict[str, Any]:
    row: dict[str, Any] = {"name": fmt.name, "bits": fmt.bits, "max": fmt.max_value}
    if isinstance(fmt, FixedFormat):
        return row | {"min_positive": 2.0**fmt.lsb, "special": "two's complement"}
    smallest = int(not fmt.has_zero) ^ 1
    special = [f"nan: {fmt.nan.value}"] + ["inf"] * fmt.infinity
    special += ["-0"] * fmt.has_negative_zero + ["no zero"] * (not fmt.has_zero)
    return row | {"min_positive": float(fmt.decode([smallest])[0]), "special": ", ".join(special)}


def _formats(args: argparse.Namespace) -> int:
    if args.name is None:
        return _list_formats(args)
    from fpsim.blocks import describe
    from fpsim.blocks.block_format import BLOCK_FORMATS

    block_format = describe.find_block_format(args.name)
    if block_format is not None:
        return _block_format(block_format, args.json)
    fmt = get_format(args.name, also=BLOCK_FORMATS)
    rows, title = describe.code_rows(fmt), f"{fmt.name}: {fmt.bits} bits"
    if args.json:
        print_json(rows)
    else:
        rows_table(title, rows)
    return 0


def _list_formats(args: argparse.Namespace) -> int:
    from fpsim.blocks import describe
    from fpsim.blocks.block_format import BLOCK_FORMATS

    elements = [_format_row(get_format(name)) | {"name": name} for name in NAMED_FORMATS]
    blocks = [describe.block_row(fmt) for fmt in BLOCK_FORMATS.values()]
    if args.json:
        kinds = (("element", elements), ("block", blocks))
        print_json([{**row, "kind": kind} for kind, rows in kinds for row in rows])
        return 0
    rows_table("Named formats; any e<E>m<M>[b<bias>][f|i|fn|fnuz] works too", elements, 9)
    rows_table("Block formats; others are a few lines of TOML or Python", blocks)
    return 0


def _block_format(fmt: BlockFormat, as_json: bool) -> int:
    from fpsim.blocks import describe

    equations, example = describe.equations(fmt), describe.block_example(fmt)
    if as_json:
        print_json({"fields": fmt.to_dict(), "equations": equations, "example": example})
        return 0
    print("\n".join([*equations, "", fmt.to_toml()]))
    rows_table("One block", example, 9)
    return 0


def _flush(fmt: Format, option: str, wanted: bool) -> dict[str, Any]:
    if wanted and isinstance(fmt, FixedFormat):
        raise FpsimError(f"{option}: {fmt.name} is fixed point and has no subnormals")
    return {option: True} if wanted else {}


def _flag_names(flags: int) -> str:
    return ", ".join(flag.name.lower() for flag in Flag if flag.name and flags & flag)


def _encode(args: argparse.Namespace) -> int:
    from fpsim.blocks.block_format import get_element

    fmt = get_element(args.format)
    options: dict[str, Any] = {"nan": args.nan, "inf": args.inf, **_flush(fmt, "ftz", args.ftz)}
    if args.random is not None:
        options |= {"random": args.random, "random_bits": args.random_bits}
    rounding = args.rounding
    if rounding is None:
        rounding = Rounding.RNE if isinstance(fmt, FixedFormat) else fmt.default_rounding
    codes, flags = fmt.encode(args.values, rounding, args.overflow, flags=True, **options)
    values = fmt.decode(codes)
    rows = [
        {"value": v, "code": int(c), "bits": f"{int(c):0{fmt.bits}b}", "decoded": float(d)}
        | ({"flags": _flag_names(int(f))} if args.flags else {})
        for v, c, d, f in zip(args.values, codes, values, flags, strict=True)
    ]
    if args.json:
        print_json(rows)
    else:
        table(
            f"{fmt.name}, {rounding}, {args.overflow}",
            list(rows[0]),
            [list(r.values()) for r in rows],
        )
    return 0


def _decode(args: argparse.Namespace) -> int:
    from fpsim.blocks.block_format import get_element

    fmt = get_element(args.format)
    values = fmt.decode(args.codes, **_flush(fmt, "daz", args.daz))
    rows = [
        {"code": code, "bits": f"{code:0{fmt.bits}b}", "value": float(value)}
        for code, value in zip(args.codes, values, strict=True)
    ]
    if args.json:
        print_json(rows)
    else:
        table(fmt.name, list(rows[0]), [list(r.values()) for r in rows])
    return 0


def register(commands: Commands) -> None:
    """Add the commands."""
    sub = commands.add(
        "formats", _formats, "List formats, or show all codes of one, or one block",
        examples=["formats", "formats e2m1b3", "formats mxfp4", "formats e4m3fn --json"],
    )  # fmt: skip
    sub.add_argument(
        "name", nargs="?", help="a format, such as e2m1 or e2m1b3, or a block format, such as mxfp4"
    )

    sub = commands.add(
        "encode", _encode, "Round values to codes",
        examples=[
            "encode e2m1 2.5 -0.3 7 --rounding rna",
            "encode e4m3fn 448 500 --overflow nan --flags",
            "encode e2m1 1.125 --rounding sr --random 192 --random-bits 8",
        ],
    )  # fmt: skip
    sub.add_argument("format", help="such as e2m1, e4m3fn or int4")
    sub.add_argument("values", nargs="+", type=float, help="real numbers")
    sub.add_argument(
        "--rounding",
        choices=[r.value for r in Rounding],
        help="rounding mode; default rne, for e8m0 rna as in torch and ml_dtypes",
    )
    sub.add_argument(
        "--overflow",
        default="saturate",
        choices=[o.value for o in Overflow],
        help="result for values beyond the largest",
    )
    sub.add_argument("--random", type=code, help="for sr: the random integer of every value")
    sub.add_argument(
        "--random-bits",
        type=int,
        default=8,
        help=f"for sr: bits of the random integer, 1..{MAX_RANDOM_BITS}",
    )
    sub.add_argument(
        "--nan",
        default="error",
        choices=[p.value for p in NanPolicy],
        help="result for NaN, if the format has no NaN",
    )
    sub.add_argument(
        "--inf",
        default="overflow",
        choices=[p.value for p in InfPolicy],
        help="result for infinities",
    )
    sub.add_argument("--ftz", action="store_true", help="flush subnormal results to zero")
    sub.add_argument(
        "--flags", action="store_true", help="show status flags: inexact, underflow, overflow, ..."
    )

    sub = commands.add(
        "decode", _decode, "Show the values of codes",
        examples=["decode e2m1 7 0xF 0b0111", "decode e5m10 0x3c00 --json"],
    )  # fmt: skip
    sub.add_argument("format", help="such as e2m1, e4m3fn or int4")
    sub.add_argument("codes", nargs="+", type=code, help="such as 7, 0x7 or 0b0111")
    sub.add_argument("--daz", action="store_true", help="read subnormal codes as zero")
