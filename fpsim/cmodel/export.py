# SPDX-License-Identifier: Apache-2.0
"""Writes the C99 header of a unit, its SystemVerilog package and a program that checks vectors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import fpsim
from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.cmodel.stages import StageWriter
from fpsim.formats.floating import FixedFormat, FloatFormat
from fpsim.unit import MacUnit
from fpsim.units.spec import MacSpec, exponents
from fpsim.units.stages import Aligned, stages_of
from fpsim.vectors.sets.record import Record

__all__ = ["MAX_SUM_BITS", "CFiles", "export_c", "start_of"]

#: Most elements of a dot product, unless FPSIM_MAX_K is defined.
MAX_K = 1024
#: Most bits of an exact sum; a wider one would need more than a page of limbs.
MAX_SUM_BITS = 4096
#: Bits of the C integers of terms: 64, or 128, which needs an extension of C.
WORD_BITS, MAX_TERM_BITS = 64, 128
_TERMS = "typedef uint64_t @sig;\n"
_WIDE_TERMS = "__extension__ typedef unsigned __int128 @sig; /* GCC and Clang have it */\n"
_HERE = Path(__file__).parent
#: C code that only units with stochastic rounding need.
_RANDOM_TEXT = """
   random: an integer of {} bits for every rounding, in the order in which they happen."""
_CHECK_DECLARATION = "\n  static uint64_t integers[$RANDOM_LANES$];"
_CHECK_READ = "    codes(word, $RANDOM_LSB$, $RANDOM_LANES$, $RANDOM_WIDTH$, integers);\n"
_SET_RANDOM = "\n  @random = random;"


@dataclass(frozen=True)
class CFiles:
    """Paths of the files that `export_c` writes."""

    header: Path
    package: Path
    check: Path


def export_c(
    unit: MacUnit | MacSpec,
    path: str | Path,
    k: int | None = None,
    group: int | None = None,
    flags: bool = False,
) -> CFiles:
    """Write ``path`` (a .h file), and beside it ``<stem>_pkg.sv`` and ``<stem>_check.c``.

    Args:
        unit: a unit or its spec.
        path: the header; its name must end in ``.h``.
        k: elements per call of the DPI-C function, as in a set of vectors; None: the default.
        group: elements per scale; None: the default.
        flags: whether the C program compares status flags too (the model always computes them).

    Returns:
        Paths of header, package and program.

    Raises:
        FpsimError: a unit beyond the C model (exponents so far apart that an exact sum has
            has thousands of bits), or a path that cannot be written.
    """
    spec = unit.spec if isinstance(unit, MacUnit) else unit
    target = Path(path)
    if target.suffix != ".h":
        raise FpsimError(f"out: {target} must end in .h")
    record = Record.of(spec, k, group, flags)
    prefix = re.sub(r"[^a-z0-9]", "_", f"fpsim_{spec.name}_")
    text = header_text(record, prefix, target.name)
    package = target.with_name(f"{target.stem}_pkg.sv")
    check = target.with_name(f"{target.stem}_check.c")
    write_atomic(package, package_text(record, prefix).encode())
    write_atomic(check, check_text(record, prefix, target.name).encode())
    return CFiles(write_atomic(target, text.encode()), package, check)


def _sum_range(spec: MacSpec) -> tuple[int, int]:
    """Return (low, high): every number and sum is a multiple of 2^low and below 2^high."""
    scales = [exponents(s) for s in (spec.a_scale, spec.b_scale)]
    a, b = exponents(spec.a), exponents(spec.b)
    lows = [a[0] + b[0], a[0] + b[0] + sum(min(s[0], 0) for s in scales)]
    highs = [a[1] + b[1] + sum(max(s[1], 0) for s in scales), a[1] + b[1]]
    for stage in stages_of(spec.accumulate):
        for fmt in (stage.result, stage.initial, getattr(stage, "format", None),
                    getattr(stage, "convert", None)):  # fmt: skip
            if isinstance(fmt, FixedFormat | FloatFormat):
                low, high = exponents(fmt)
                lows.append(low)
                highs.append(high)
    margin = 0
    for stage in stages_of(spec.accumulate):
        if isinstance(stage, Aligned):
            margin = max(margin, stage.fraction_bits, stage.join_sum_bits, stage.join_addend_bits)
            if stage.exponent_floor is not None:
                lows.append(stage.exponent_floor)
                highs.append(stage.exponent_floor)
    return min(lows) - margin - 2, max(highs) + MAX_K.bit_length() + 4


def header_text(record: Record, prefix: str, name: str) -> str:
    """Return the C99 header of a unit.

    Args:
        record: the unit and the fields of its vectors.
        prefix: prefix of every C name.
        name: file name of the header, for its first line.

    Returns:
        C source text.

    Raises:
        FpsimError: exact sums or terms of more bits than the C model holds.
    """
    spec = record.spec
    low, high = _sum_range(spec)
    if high - low > MAX_SUM_BITS:
        raise FpsimError(
            f"unit: {spec.name} cannot be exported; an exact sum has {high - low} bits, "
            f"at most {MAX_SUM_BITS} are allowed"
        )
    if spec.term_bits > MAX_TERM_BITS:
        raise FpsimError(
            f"unit: {spec.name} cannot be exported; a term has {spec.term_bits} bits, at most "
            f"{MAX_TERM_BITS} are allowed"
        )
    wide = spec.term_bits > WORD_BITS
    writer = StageWriter(spec)
    top = writer.elements(spec.accumulate)
    operands = _operands(spec, writer)
    guard = f"{prefix.upper()}H"
    runtime = (_HERE / "runtime.h").read_text(encoding="utf-8")
    parts = [
        f"""/* {name}: {spec.name}, by fpsim {fpsim.__version__}. SPDX-License-Identifier: Apache-2.0

   {spec.canonical_name}
   {spec.equation}

   One dot product, on codes (bit patterns):

       uint64_t @dot(a, b, a_scale, b_scale, k, group, c{", random" if record.roundings else ""})

   a, b: k codes, 1 <= k <= @MAX_K. a_scale, b_scale: a code per `group` elements (two where
   scales differ by sign, without the sign bit first), or NULL for 1. c: the addend's code.{_RANDOM_TEXT.format(spec.random_bits) if record.roundings else ""}
   @flags holds the status flags of the last call: 1 inexact, 2 underflow, 4 overflow, 16 invalid,
   ORed over every rounding and cut on the way to the result.
   Integers only; a result that has no code (NaN in a format without NaN) is 0. Not reentrant
   within a thread; define FPSIM_THREAD as your compiler's thread storage if you use several. */
#ifndef {guard}
#define {guard}
#include <stddef.h>
#include <stdint.h>

#ifndef FPSIM_MAX_K
#define FPSIM_MAX_K {MAX_K}
#endif
#ifndef FPSIM_THREAD
#define FPSIM_THREAD
#endif
#define @MAX_K FPSIM_MAX_K
#define @THREAD FPSIM_THREAD
#define @RANDOM_BITS {spec.random_bits} /* of the integers of stochastic rounding */
{start_of(low, high, MAX_TERM_BITS if wide else WORD_BITS)}""",
        runtime,
        writer.constants(),
        operands,
        *writer.functions,
        f"""static inline uint64_t @dot(const uint64_t *a, const uint64_t *b, const uint64_t *a_scale,
                            const uint64_t *b_scale, int k, int group, uint64_t c{", const uint64_t *random" if record.roundings else ""}) {{
  @operands x = {{a, b, a_scale, b_scale, group}};
  @flags = 0;{_SET_RANDOM if record.roundings else ""}
  return {top}(&x, 0, k, c);
}}
""",
        beat_text(record),
        f"#endif /* {guard} */\n",
    ]
    return "\n".join(parts).replace("@", prefix)


def start_of(low: int, high: int, bits: int) -> str:
    """Return the C definitions that ``runtime.h`` needs.

    Args:
        low, high: every exact number is a multiple of 2^low and below 2^high.
        bits: bits of the integers that hold significands, 64 or 128.

    Returns:
        C source text.
    """
    return f"""#define @LOW ({low}) /* exact sums have {high - low} bits: 2^{low} to 2^{high} */
#define @LIMBS {-(-(high - low) // 32) + 1}
#define @SIG_BITS {bits}
{_WIDE_TERMS if bits > WORD_BITS else _TERMS}"""


def _operands(spec: MacSpec, writer: StageWriter) -> str:
    text = """typedef struct {
  const uint64_t *a, *b, *a_scale, *b_scale;
  int group;
} @operands;

static inline int @sign_of(uint64_t code, const @fmt *f) {
  int bits = f->fixed ? f->man_bits : 1 + f->exp_bits + f->man_bits;
  return f->is_signed ? (int)(code >> (bits - 1) & 1) : 0;
}
"""
    for operand in "ab":
        fmt = writer.format(getattr(spec, operand))
        scale = writer.format(getattr(spec, f"{operand}_scale"))
        index = "i / x->group"
        sign = "  (void)sign;\n"
        if spec.splits(operand):
            index = "2 * (i / x->group) + sign"
            sign = f"  if (sign < 0) sign = @sign_of(x->{operand}[i], {fmt});\n"
        text += f"""
/* The scale of element i; sign -1: the one that its own sign selects. */
static inline @num @scale_{operand}(const @operands *x, int i, int sign) {{
  @num one = {{@NUM, 0, 1, 0, 1, 0}};
  if (x->{operand}_scale == NULL) return one;
{sign}  return @decode(x->{operand}_scale[{index}], {scale});
}}
"""
    return text


def beat_text(record: Record) -> str:
    """Return the DPI-C function of one beat: packed vectors as 32-bit words, element 0 lowest."""
    lanes = {field.name: field for field in record.fields}
    names = [n for n in ("a", "b", "a_scale", "b_scale", "random") if n in lanes]
    arguments = ", ".join(f"const uint32_t *{n}" for n in names)
    fill = ""
    for n in names:
        lane = lanes[n]
        fill += f"  uint64_t {n}_codes[{lane.lanes}];\n"
    for n in names:
        lane = lanes[n]
        fill += f"  for (int i = 0; i < {lane.lanes}; i++) {n}_codes[i] = @bits({n}, {lane.lane_width} * i, {lane.lane_width});\n"
    scales = ", ".join(f"{n}_codes" if n in names else "NULL" for n in ("a_scale", "b_scale"))
    c, acc = lanes["c"].width, lanes["acc"].width
    high = "  acc[1] = (uint32_t)(code >> 32);\n" if acc > 32 else ""
    return f"""/* One beat of {record.k} elements for DPI-C: packed arrays as svBitVecVal. Define FPSIM_DPI in one
   translation unit to get a function to link with. */
#ifdef FPSIM_DPI
#ifdef __cplusplus
extern "C" /* some simulators compile C as C++ */
#endif
unsigned @last_flags(void);
unsigned @last_flags(void) {{ return @flags; }}
#ifdef __cplusplus
extern "C"
#endif
void @beat({arguments}, const uint32_t *c, uint32_t *acc);
void @beat({arguments}, const uint32_t *c, uint32_t *acc)
#else
static inline void @beat({arguments}, const uint32_t *c, uint32_t *acc)
#endif
{{
{fill}  uint64_t code = @dot(a_codes, b_codes, {scales}, {record.k}, {max(record.group, 1)}, @bits(c, 0, {c}){", random_codes" if record.roundings else ""});
  acc[0] = (uint32_t)code;
{high}}}
"""


def package_text(record: Record, prefix: str) -> str:
    """Return the SystemVerilog package that imports the beat."""
    spec = record.spec
    lanes = {field.name: field for field in record.fields}
    names = [n for n in ("a", "b", "a_scale", "b_scale", "random") if n in lanes]
    arguments = [f"input  bit [{lanes[n].width - 1}:0] {n}" for n in names]
    arguments += [f"input  bit [{lanes['c'].width - 1}:0] c"]
    arguments += [f"output bit [{lanes['acc'].width - 1}:0] acc"]
    joined = ",\n    ".join(arguments)
    return f"""// {spec.name}, by fpsim {fpsim.__version__}. SPDX-License-Identifier: Apache-2.0
// {spec.equation}
// Link with the C model compiled with -DFPSIM_DPI. Element 0 of a packed array is in its low bits.
package {prefix}pkg;
  /* verilator lint_off UNUSEDPARAM */
  localparam int unsigned K = {record.k};
  localparam int unsigned GROUP = {record.group};
  // acc = dot(a, b, c): one beat of K elements.
  import "DPI-C" function void {prefix}beat(
    {joined}
  );
  // Status flags of the last beat: 1 inexact, 2 underflow, 4 overflow, 16 invalid.
  import "DPI-C" function int unsigned {prefix}last_flags();
endpackage : {prefix}pkg
"""


def check_text(record: Record, prefix: str, header: str) -> str:
    """Return a C program that compares every vector of a vectors.hex with the model.

    Args:
        record: the unit and the fields of its vectors.
        prefix: prefix of every C name of the header.
        header: file name of the header to include.

    Returns:
        C source text with a ``main`` that takes the file's path.
    """
    text = (_HERE / "check.c").read_text(encoding="utf-8")
    lanes = {field.name: field for field in record.fields}
    spec = record.spec
    values = {
        "HEADER": header,
        "WORD_BITS": record.word_bits,
        "UNIT": spec.name,
        "RECORD": _record_text(record),
        "OPTIONS": f"{spec.name} --k {record.k} --group {record.group}{' --flags' * record.flags}",
        "K": record.k,
        "GROUP": max(record.group, 1),
    }
    random = record.roundings > 0
    text = text.replace("$RANDOM_DECLARATION$", _CHECK_DECLARATION if random else "")
    text = text.replace("$RANDOM_READ$", _CHECK_READ if random else "")
    text = text.replace("$RANDOM_ARGUMENT$", ", integers" if random else "")
    for name in ("a", "b", "a_scale", "b_scale", "c", "random", "acc", "op", "flags"):
        lane = lanes.get(name)
        values[f"{name.upper()}_LSB"] = 0 if lane is None else lane.lsb
        values[f"{name.upper()}_LANES"] = 0 if lane is None else lane.lanes
        values[f"{name.upper()}_WIDTH"] = 0 if lane is None else lane.lane_width
    for key, value in values.items():
        text = text.replace(f"${key}$", str(value))
    return text.replace("@", prefix)


def _record_text(record: Record) -> str:
    """Return a sentence on how a record's words differ from other records' of its unit."""
    scales = f"{record.group} per scale" if record.group else "no scales"
    return f"K = {record.k} elements, {scales}, {'with' if record.flags else 'no'} flags"
