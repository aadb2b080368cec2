# SPDX-License-Identifier: Apache-2.0
"""Combinational leaves of the RTL proved equal to the model: a table from the oracle, and SAT.

A proof covers every input of a netlist. The table holds, for every input, the outputs that
`fpsim.oracle` gives; outputs without a meaning there are free. Decoding and products are compared
in the numbers' own terms: e(x) = max(floor(log2 |x|), emin) and the significand x / 2^e(x).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby, product
from pathlib import Path

from fpsim.base.errors import FpsimError
from fpsim.blocks.code_table import CodeTable
from fpsim.formats.floating import FloatFormat, Format
from fpsim.formats.rounding import Flag, Overflow, Rounding
from fpsim.hdl.rtl import yosys
from fpsim.hdl.rtl.parameters import sources_of
from fpsim.hdl.rtl.rtl_codes import (
    OVERFLOW_CODES,
    accumulator,
    operand,
    parameter_text,
    rounding,
    table,
)
from fpsim.oracle import Number, decode, encode, flags
from fpsim.oracle.numbers import add, multiply, two_to
from fpsim.oracle.terms import exponent_of, floor_log2
from fpsim.vectors.sets.status_flags import FLAG_BITS

__all__ = ["Leaf", "adder", "decoder", "lookup", "multiplier", "prove", "rounder"]

#: The outputs that a row of the table prescribes: name, value; the others are free.
Row = Mapping[str, int]


@dataclass(frozen=True)
class Leaf:
    """A module with its parameters, and its right outputs for every input."""

    module: str
    parameters: dict[str, int]
    inputs: dict[str, int]  #: bits by port; the first is the highest part of a row's key
    outputs: dict[str, int]
    rows: dict[int, Row]  #: by key, all inputs concatenated; inputs without a row are free
    tied: tuple[str, ...] = ()  #: inputs that are 0


def prove(leaf: Leaf, directory: Path | None = None, sources: tuple[Path, ...] = ()) -> None:
    """Prove that a leaf gives the outputs of its table for every input.

    Args:
        leaf: the module with its table.
        directory: where Yosys works; a scratch directory if None.
        sources: other sources than the reference ones.

    Raises:
        YosysMissing: no Yosys.
        FpsimError: a wrong output, with an input that gives it.
    """
    if directory is None:
        with tempfile.TemporaryDirectory(prefix="fpsim-proof-") as scratch:
            return prove(leaf, Path(scratch), sources)
    sources = sources or sources_of(leaf.module)
    script = [
        f"read_verilog -sv -defer {' '.join(path.name for path in sources)} harness.sv",
        "hierarchy -check -top harness",
        "proc -norom",
        "flatten",
        "opt -full",
        "sat -prove ok 1 -show key -verify-no-timeout",
    ]
    try:
        yosys.run(script, sources, directory, {"harness.sv": _harness(leaf)})
    except FpsimError as error:
        log = (directory / yosys.LOG).read_text(encoding="utf-8")
        shown = [line.split() for line in log.splitlines() if line.strip().startswith("\\key ")]
        if not shown:
            raise
        key = _inputs(leaf, int(shown[0][-1], 2))  # the other bases end at 32 bits
        raise FpsimError(f"proof: {leaf.module} is wrong for {key}") from error
    return None


def decoder(name: str, fmt: Format) -> Leaf:
    """Return ``fp_decode`` of an operand format."""
    layout = {key[2:]: value for key, value in operand(name, fmt).items()}
    exponent_bits = 12
    rows = {}
    for code in range(1 << fmt.bits):
        number = decode(code, fmt)
        rows[code] = _number_row(number, exponent_of(number, fmt), layout["MAN"])
    outputs = _number_outputs(exponent_bits, layout["MAN"] + 1)
    return Leaf("fp_decode", layout | {"EXP_W": exponent_bits}, {"code_i": fmt.bits}, outputs, rows)


def lookup(own: CodeTable) -> Leaf:
    """Return ``code_lookup`` of a table: the wide code of every storage code."""
    parameters = {"N": 1, "W": own.wide.bits, "TABLE": table("a", own, own.wide)["A_TABLE"]}
    rows: dict[int, Row] = {code: {"code_o": wide} for code, wide in enumerate(own.codes)}
    inputs, outputs = {"code_i": own.bits}, {"code_o": own.wide.bits}
    return Leaf("code_lookup", parameters, inputs, outputs, rows)


def multiplier(a: Format, b: Format) -> Leaf:
    """Return ``fp_product`` of two operand formats, without a run-time exponent."""
    parameters = operand("a", a) | operand("b", b)
    exponent_bits = 12
    fraction_bits = parameters["A_MAN"] + parameters["B_MAN"]
    rows = {}
    for x, y in product(range(1 << a.bits), range(1 << b.bits)):
        p, q = decode(x, a), decode(y, b)
        value = multiply(p, q)
        exponents = exponent_of(p, a), exponent_of(q, b)
        e = None if None in exponents else sum(e for e in exponents if e is not None) + 1
        rows[x << b.bits | y] = _number_row(value, e, fraction_bits + 1)
    inputs = {"a_i": a.bits, "b_i": b.bits}
    outputs = _number_outputs(exponent_bits, fraction_bits + 2)
    parameters |= {"SCALE_W": 0, "EXP_W": exponent_bits}
    return Leaf("fp_product", parameters, inputs, outputs, rows, tied=("exp_i",))


def rounder(
    fmt: FloatFormat,
    mode: Rounding,
    overflow: Overflow,
    outward: bool = False,
    random_bits: int = 0,
) -> Leaf:
    """Return ``fp_round_pack`` into a format: every normalised significand and exponent, and zero.

    Args:
        fmt: the format.
        mode: the rounding mode.
        overflow: the result for numbers beyond the format.
        outward: whether overflow always rounds outward, see `fpsim.units.stages.aligned`.
        random_bits: for ``sr``; every random integer is tried.

    Returns:
        The module with its table.

    Raises:
        FpsimError: a format that the RTL cannot round to.
    """
    layout = {key[4:]: value for key, value in accumulator(fmt).items()}
    significand_bits = fmt.mantissa_bits + 4 + max(random_bits - 1, 0)
    low, high = fmt.exponent_min - significand_bits, fmt.exponent_max + 2
    exponent_bits = max(fmt.exponent_bits + 1, _signed_bits(low, high))
    parameters = layout | {
        "ROUNDING": rounding(mode),
        "OVERFLOW": OVERFLOW_CODES[overflow],
        "OUTWARD": int(outward),
        "RANDOM_BITS": random_bits,
        "EXP_W": exponent_bits,
        "SIG_W": significand_bits,
    }
    rows: dict[int, Row] = {}
    half = 1 << (exponent_bits - 1)
    top = 1 << (significand_bits - 1)
    for negative, exponent in product((False, True), range(-half, half)):
        head = (negative << exponent_bits | exponent % (2 * half)) << significand_bits
        for significand in (0, *range(top, 2 * top)):
            magnitude = significand * two_to(exponent - significand_bits + 1)
            number = Number(negative, magnitude)
            for random in range(1 << random_bits):
                settings = (number, fmt, mode, overflow, random, random_bits)
                row = {"code_o": encode(*settings, ieee=not outward), "flags_o": flags(*settings)}
                rows[(head | significand) << 2 << random_bits | random] = row
    if fmt.nan_code is not None:
        for exponent, significand in product((0, half - 1), (0, top)):
            for negative in (False, True):
                head = (negative << exponent_bits | exponent) << significand_bits | significand
                infinity = (Number(negative, None, infinite=True), fmt, mode, overflow)
                row = {"code_o": encode(*infinity), "flags_o": flags(*infinity)}
                rows[(head << 2 | 2) << random_bits] = row
                rows[(head << 2 | 1) << random_bits] = {"code_o": fmt.nan_code, "flags_o": 0}
    inputs = {"sign_i": 1, "exponent_i": exponent_bits, "significand_i": significand_bits,
              "inf_i": 1, "nan_i": 1}  # fmt: skip
    if random_bits:
        inputs["random_i"] = random_bits
    tied = () if random_bits else ("random_i",)
    outputs = {"code_o": fmt.bits, "flags_o": FLAG_BITS}
    return Leaf("fp_round_pack", parameters, inputs, outputs, rows, tied)


def adder(fmt: FloatFormat, children: int, mode: Rounding, overflow: Overflow) -> Leaf:
    """Return ``tree_node``: the sum of numbers that are values of a format, rounded to it.

    Args:
        fmt: the format; all codes of it are tried for every number.
        children: how many numbers.
        mode: the rounding mode.
        overflow: the result for sums beyond the format.

    Returns:
        The module with its table.

    Raises:
        FpsimError: a format that the RTL cannot round to.
    """
    layout = {key[4:]: value for key, value in accumulator(fmt).items()}
    bits = max(fmt.mantissa_bits + 1, 2)
    low, high = fmt.exponent_min - fmt.mantissa_bits, fmt.exponent_max
    width = bits + high - low + children
    exponent_bits = max(fmt.exponent_bits, _signed_bits(low - width - 4, high + width)) + 1
    parameters = layout | {
        "N": children, "ROUNDING": rounding(mode), "OVERFLOW": OVERFLOW_CODES[overflow],
        "SIG_W": bits, "LOW": low, "HIGH": high, "EXP_W": exponent_bits,
    }  # fmt: skip
    node_bits = 1 + exponent_bits + bits + 2
    numbers = [decode(code, fmt) for code in range(1 << fmt.bits)]
    rows: dict[int, Row] = {}
    for terms in product(numbers, repeat=children):
        key, total = 0, terms[0]
        for term in reversed(terms):
            key = key << node_bits | _node(term, exponent_bits, bits)
        raised = Flag(0)
        for term in terms[1:]:
            made_nan = not (total.is_nan or term.is_nan)
            total = add(total, term, mode)
            raised |= Flag.INVALID if made_nan and total.is_nan else Flag(0)
        rounded = (total, fmt, mode, overflow)
        rows[key] = {"code_o": encode(*rounded), "flags_o": raised | flags(*rounded)}
    inputs = {"nodes_i": children * node_bits}
    outputs = {"code_o": fmt.bits, "node_o": node_bits, "flags_o": FLAG_BITS}
    return Leaf("tree_node", parameters, inputs, outputs, rows)


# -- tables ----------------------------------------------------------------------------------------


def _number_outputs(exponent_bits: int, significand_bits: int) -> dict[str, int]:
    return {"sign_o": 1, "exponent_o": exponent_bits, "significand_o": significand_bits,
            "inf_o": 1, "nan_o": 1}  # fmt: skip


def _number_row(number: Number, exponent: int | None, fraction_bits: int) -> Row:
    """Return the right outputs for a number with ``exponent`` for its significand's top."""
    row = {"inf_o": int(number.infinite), "nan_o": int(number.is_nan)}
    if number.is_nan:
        return row
    row["sign_o"] = int(number.negative)
    if number.magnitude is None:
        return row
    if not number.magnitude:
        return row | {"significand_o": 0}
    assert exponent is not None
    significand = number.magnitude / two_to(exponent - fraction_bits)
    assert significand.denominator == 1
    return row | {"exponent_o": exponent, "significand_o": int(significand)}


def _node(number: Number, exponent_bits: int, bits: int) -> int:
    """Return a number as an input of ``tree_node``: sign, exponent, significand, infinity, NaN."""
    exponent = significand = 0
    if number.magnitude:
        exponent = floor_log2(number.magnitude)
        significand = int(number.magnitude / two_to(exponent - bits + 1))
    head = number.negative << exponent_bits | exponent % (1 << exponent_bits)
    return (head << bits | significand) << 2 | number.infinite << 1 | number.is_nan


def _signed_bits(low: int, high: int) -> int:
    return max((-low - 1).bit_length(), high.bit_length()) + 1


def _harness(leaf: Leaf) -> str:
    """Return a module whose ``ok`` says that the leaf gives the outputs of its table."""
    key_bits = sum(leaf.inputs.values())
    out_bits = sum(leaf.outputs.values())
    ports = [f".{name}({text})" for name, text in _slices(leaf.inputs, "key").items()]
    ports += [f".{name}({text})" for name, text in _slices(leaf.outputs, "seen").items()]
    ports += [f".{name}(1'b0)" for name in leaf.tied]
    texts = {name: parameter_text(name, value) for name, value in leaf.parameters.items()}
    settings = ", ".join(f".{name}({text})" for name, text in texts.items())
    lines = [
        f"module harness(input logic [{key_bits - 1}:0] key, output logic ok);",
        f"  logic [{out_bits - 1}:0] seen, want, care;",
        f"  {leaf.module} #({settings}) u_leaf ({', '.join(ports)});",
        "  always_comb begin",
        f"    want = {out_bits}'d0; care = {out_bits}'d0;",
    ]
    # A case within a case: Yosys' stack is too small for thousands of branches side by side.
    low_bits = key_bits // 2
    lines.append(f"    case (key >> {low_bits})")
    for high, rows in groupby(sorted(leaf.rows.items()), lambda row: row[0] >> low_bits):
        lines.append(f"      {high}: case (key[{low_bits - 1}:0])")
        lines += [_branch(leaf, key % (1 << low_bits), row) for key, row in rows]
        lines.append("        default: ;\n      endcase")
    lines += ["      default: ;", "    endcase", "  end"]
    return "\n".join([*lines, "  assign ok = ((seen ^ want) & care) == 0;", "endmodule", ""])


def _branch(leaf: Leaf, key: int, row: Row) -> str:
    want = care = 0
    for name, width in leaf.outputs.items():
        mask = (1 << width) - 1
        want = want << width | (row.get(name, 0) & mask)
        care = care << width | (mask if name in row else 0)
    bits = sum(leaf.outputs.values())
    return f"        {key}: begin want = {bits}'d{want}; care = {bits}'d{care}; end"


def _slices(widths: Mapping[str, int], vector: str) -> dict[str, str]:
    """Return the part of a vector that each port is, the first port in the high bits."""
    slices = {}
    low = sum(widths.values())
    for name, width in widths.items():
        low -= width
        slices[name] = f"{vector}[{low + width - 1}:{low}]"
    return slices


def _inputs(leaf: Leaf, key: int) -> str:
    low = sum(leaf.inputs.values())
    texts = []
    for name, width in leaf.inputs.items():
        low -= width
        texts.append(f"{name} = {key >> low & ((1 << width) - 1):#x}")
    return ", ".join(texts)
