# SPDX-License-Identifier: Apache-2.0
"""Writes the C99 header of an operation: a converter, a multiplier, an adder or a quantizer."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np

import fpsim
from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.blocks.block_format import BlockFormat
from fpsim.blocks.grids import Table, Variant, make_grid
from fpsim.blocks.scale_rules import (
    POWER_RULES,
    Arithmetic,
    ScaleEncoder,
    ScaleRule,
    ZeroScale,
)
from fpsim.cmodel.constants import constant_of, mode_of, overflow_of
from fpsim.cmodel.export import MAX_SUM_BITS, CFiles, start_of
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.formats.rounding import Rounding
from fpsim.units.spec import exponents
from fpsim.vectors.operations.operation import Convert, Operation, Quantize, TwoOperand
from fpsim.vectors.sets.word_layout import Field

__all__ = ["export_operation"]

_HERE = Path(__file__).parent
#: Most bits of exact numbers of a quantizer: products and quotients of two float32 numbers.
_QUANTIZER_RANGE = (-420, 320)


def export_operation(operation: Operation, path: str | Path) -> CFiles:
    """Write ``path`` (a .h file), and beside it ``<stem>_pkg.sv`` and ``<stem>_check.c``.

    Args:
        operation: the result of `fpsim.vectors.operations.operation.parse_operation`.
        path: the header; its name must end in ``.h``.

    Returns:
        Paths of header, package and program.

    Raises:
        FpsimError: an operation beyond the C model, or a path that cannot be written.
    """
    target = Path(path)
    if target.suffix != ".h":
        raise FpsimError(f"out: {target} must end in .h")
    prefix = re.sub(r"[^a-z0-9]", "_", f"fpsim_{operation.title}_")
    text = _header(operation, target.name, f"{prefix.upper()}H").replace("@", prefix)
    package = target.with_name(f"{target.stem}_pkg.sv")
    check = target.with_name(f"{target.stem}_check.c")
    write_atomic(package, _package(operation, prefix).encode())
    write_atomic(check, _check(operation, target.name).replace("@", prefix).encode())
    return CFiles(write_atomic(target, text.encode()), package, check)


def _header(operation: Operation, name: str, guard: str) -> str:
    low, high = _QUANTIZER_RANGE if isinstance(operation, Quantize) else _range(operation)
    if high - low > MAX_SUM_BITS:
        raise FpsimError(
            f"op: {operation.title} cannot be exported; an exact number has {high - low} bits, "
            f"at most {MAX_SUM_BITS} are allowed"
        )
    body = _quantizer(operation) if isinstance(operation, Quantize) else _arithmetic(operation)
    what = ", ".join(f"{f.lanes} of {f.lane_width} bits: {f.name}" for f in operation.fields)
    return "\n".join(
        [
            f"""/* {name}: {operation.title}, by fpsim {fpsim.__version__}. SPDX-License-Identifier: Apache-2.0

   {operation.equation}

       {_signature(operation)}

   on codes (bit patterns), element 0 first; {what}.
   @flags holds the status flags of the last call of a converter, adder or multiplier:
   1 inexact, 2 underflow, 4 overflow, 16 invalid. Integers only. Not reentrant within a thread;
   define FPSIM_THREAD as your compiler's thread storage if you use several. */
#ifndef {guard}
#define {guard}
#include <stddef.h>
#include <stdint.h>

#ifndef FPSIM_THREAD
#define FPSIM_THREAD
#endif
#define @THREAD FPSIM_THREAD
#define @RANDOM_BITS 0
""",
            start_of(low, high, 128 if _wide(operation) else 64),
            (_HERE / "runtime.h").read_text(encoding="utf-8"),
            (_HERE / "operations.h").read_text(encoding="utf-8"),
            body,
            _beat(operation),
            f"#endif /* {guard} */\n",
        ]
    )


def _range(operation: Operation) -> tuple[int, int]:
    """Return (low, high): every number is a multiple of 2^low and below 2^high."""
    ends = [exponents(f) for f in (operation.inputs | operation.outputs).values()]
    low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    if isinstance(operation, TwoOperand) and operation.verb == "mul":
        inner = list(map(exponents, (operation.a, operation.b)))
        low, high = min(low, inner[0][0] + inner[1][0]), max(high, inner[0][1] + inner[1][1])
    return low - 2, high + 4


def _wide(operation: Operation) -> bool:
    """Return whether exact products need 128-bit integers."""
    widths = [
        f.mantissa_bits + 1 if isinstance(f, FloatFormat) else f.bits
        for f in operation.inputs.values()
    ]
    return isinstance(operation, TwoOperand) and sum(widths) > 64


def _signature(operation: Operation) -> str:
    inputs = [_argument(operation, f) for f in operation.fields if f.name in operation.inputs]
    if isinstance(operation, Quantize):
        results = [f"uint64_t *{f.name}" for f in operation.result_fields]
        return f"void @quantize({', '.join(inputs + results)})"
    name = operation.verb if isinstance(operation, TwoOperand) else "convert"
    return f"uint64_t @{name}({', '.join(inputs)})"


def _argument(operation: Operation, field: Field) -> str:
    return (
        f"uint64_t {field.name}" if _single(operation, field) else f"const uint64_t *{field.name}"
    )


def _single(operation: Operation, field: Field) -> bool:
    return not isinstance(operation, Quantize) or operation.is_single(field.name)


# -- converters, adders, multipliers ---------------------------------------------------------------


def _arithmetic(operation: Operation) -> str:
    assert isinstance(operation, Convert | TwoOperand)
    target = operation.target if isinstance(operation, Convert) else operation.result
    constants = "".join(
        f"/* {fmt.name} */\nstatic const @fmt @{name}_format = {constant_of(fmt)};\n"
        for name, fmt in (operation.inputs | {"y": target}).items()
    )
    settings = f"{mode_of(operation.rounding)}, {overflow_of(operation.overflow)}"
    if isinstance(target, FixedFormat):
        whole = f"{target.lsb}, {target.max_integer}u, {-target.min_integer}u, {target.width}"
        body = f"  return @to_fixed(@decode(x, &@x_format), {whole}, {settings});\n"
    elif isinstance(operation, Convert):
        body = f"  return @narrow(@decode(x, &@x_format), &@y_format, {settings});\n"
    elif operation.verb == "mul":
        product = "@times(@decode(a, &@a_format), @decode(b, &@b_format))"
        body = f"  return @narrow({product}, &@y_format, {settings});\n"
    else:
        rdn = int(operation.rounding is Rounding.RDN)
        body = f"""  @sum s;
  @sum_add(&s, @decode(a, &@a_format), {rdn}, 1);
  @sum_add(&s, @decode(b, &@b_format), {rdn}, 0);
  return @to_float(&s, &@y_format, {settings});
"""
    return f"""{constants}
static inline {_signature(operation)} {{
  @flags = 0;
{body}}}
"""


# -- quantizers ------------------------------------------------------------------------------------


def _quantizer(operation: Quantize) -> str:
    fmt = operation.format
    _check_supported(fmt)
    assert fmt.scale is not None
    runtime = (_HERE / "quantizer.h").read_text(encoding="utf-8")
    constants = f"""/* {operation.source.name} */
static const @fmt @x_format = {constant_of(operation.source)};
/* {fmt.scale.name} */
static const @fmt @scale_format = {constant_of(fmt.scale)};
"""
    tensor = ", uint64_t tensor_scale" if operation.has_tensor_scale else ""
    given = ", tensor_scale" if operation.has_tensor_scale else ""
    negative = ", uint64_t *negative_scales" if fmt.signs else ""
    sides = ""
    if fmt.signs:
        sides = "    if (!n.neg && @below(top[0], n)) top[0] = n;\n    if (n.neg && @below(top[1], n)) n.neg = 0, top[1] = n;\n"
    else:
        sides = "    if (@below(top[0], n)) top[0] = n, minus = n.neg, top[0].neg = 0;\n"
    minus = fmt.signed_max
    return f"""{runtime}
{constants}
/* The scale code for a largest magnitude; *factor is what divides (or multiplies) the values. */
static inline uint64_t @scale_of(@num top{tensor}, @num *factor) {{
{_scale(operation)}}}

/* The code of an element. */
static inline uint64_t @element_of(@num x, @num factor, int minus) {{
{_element(fmt)}}}

static inline void @quantize(const uint64_t *x{tensor}, uint64_t *codes, uint64_t *scales{negative}) {{
  @num top[2] = {{@zero(), @zero()}}, factor[2];
  int minus = 0;
  for (int i = 0; i < {operation.k}; i++) {{
    @num n = @decode(x[i], &@x_format);
{sides}  }}
  scales[0] = @scale_of(top[0]{given}, &factor[0]){" | (minus ? @sign_bit(&@scale_format) : 0)" if minus else ""};
{f"  negative_scales[0] = @scale_of(top[1]{given}, &factor[1]);" if fmt.signs else "  factor[1] = factor[0];"}
  for (int i = 0; i < {operation.k}; i++) {{
    @num n = @decode(x[i], &@x_format);
    codes[i] = @element_of(n, factor[n.neg], {"minus" if minus else "0"});
  }}
  (void)minus;
}}
"""


def _check_supported(fmt: BlockFormat) -> None:
    more = {
        "several grids": fmt.variants or fmt.special or len(fmt.expansions) > 1,
        "levels": fmt.levels, "a top element": fmt.top, "macro scales": fmt.macro,
        f"the rule {fmt.rule.value!r}": fmt.rule not in (*POWER_RULES, ScaleRule.ABSMAX),
    }  # fmt: skip
    found = [name for name, has in more.items() if has]
    if found:
        raise FpsimError(
            f"op: {fmt.name} cannot be exported; it has {', '.join(found)}, and the C model takes "
            "one grid under one scale"
        )


def _number(value: float | Fraction) -> str:
    """Return a dyadic number in C."""
    exact = Fraction(value)
    shift = exact.denominator.bit_length() - 1
    return f"@dyadic({exact.numerator}u, {-shift})"


def _scale(operation: Quantize) -> str:
    fmt = operation.format
    if fmt.rule in POWER_RULES:
        return _power(fmt)
    assert fmt.scale is not None
    limit = _number(float(np.float32(_limit(fmt))))
    s_t = "@zero()"
    lines = ["  @num raw, value;"]
    if operation.has_tensor_scale:
        lines.append("  @num s_t = @decode(tensor_scale, &@float32);")
        s_t = "s_t"
    one = "@dyadic(1, 0)"
    if fmt.arithmetic is Arithmetic.RATIO:
        ratio = f"@over({one}, s_t)" if operation.has_tensor_scale else one
        raw = f"@by(@over(top, {limit}), {ratio})"
    elif fmt.arithmetic is Arithmetic.RECIPROCAL:
        raw = f"@over(@over(top, {limit}), {s_t if operation.has_tensor_scale else one})"
    elif fmt.arithmetic is Arithmetic.BF16:
        raw = f"@bf(@by(top, @bf(@over({one}, {limit}))))"
    else:
        whole = f"@by({limit}, s_t)" if operation.has_tensor_scale else limit
        raw = f"@over(top, {whole})"
    lines.append(f"  raw = @none(top) ? @zero() : {raw};")
    scale = fmt.scale
    if fmt.zero in (ZeroScale.SMALLEST, ZeroScale.LEAST):
        bottom = 2.0**scale.exponent_min
        if fmt.zero is ZeroScale.LEAST:
            bottom = float(scale.decode([int(scale.has_zero)])[0])
        lines.append(f"  if (@below(raw, {_number(bottom)})) raw = {_number(bottom)};")
    rounding = Rounding.RNA if fmt.scale_encoder is ScaleEncoder.GGML else fmt.scale_rounding
    lines.append(f"  uint64_t code = @narrow(raw, &@scale_format, {mode_of(rounding)}, @SATURATE);")
    if fmt.scale_encoder is ScaleEncoder.GGML:
        row = 1 << scale.mantissa_bits
        last = scale.max_code // row * row
        least = _number(2.0**scale.exponent_min)
        lines.append(f"  if (code == {row} && @below(raw, {least})) code = {row - 1};")
        lines.append(f"  if (code >= {last}) code = {scale.max_code};")
    if fmt.zero is ZeroScale.ONE:
        lines.append(f"  if (code == 0) code = {int(scale.encode([1.0])[0])};")
    lines.append("  value = @decode(code, &@scale_format);")
    if fmt.arithmetic is Arithmetic.RECIPROCAL:
        lines.append(
            f"  *factor = @over(@over({one}, {s_t if operation.has_tensor_scale else one}), value);"
        )
    elif fmt.arithmetic is Arithmetic.RATIO:
        product = f"@by({s_t}, value)" if operation.has_tensor_scale else "value"
        lines.append(f"  *factor = @over({one}, {product});")
    elif fmt.arithmetic is Arithmetic.BF16:
        lines.append(f"  *factor = @bf(@over({one}, value));")
    else:
        lines.append(
            f"  *factor = {f'@by(value, {s_t})' if operation.has_tensor_scale else 'value'};"
        )
    lines.append("  return code;")
    return "\n".join(lines) + "\n"


def _limit(fmt: BlockFormat) -> float:
    """Return the value to which the largest magnitude is scaled, with a grid's factor."""
    if not fmt.is_coded:
        return fmt.limit
    return make_grid(_variant(fmt), fmt.ties, fmt.rounding.value).limit


def _variant(fmt: BlockFormat) -> Variant:
    return Variant(fmt.element, fmt.factor, None, fmt.target)


def _power(fmt: BlockFormat) -> str:
    scale, limit = fmt.scale, Fraction(_limit(fmt))
    assert scale is not None
    top = limit.numerator.bit_length() - limit.denominator.bit_length()
    top -= Fraction(2) ** top > limit
    if fmt.rule is ScaleRule.RCEIL:
        word = int(limit / Fraction(2) ** top * (1 << 63))
        bump = f"significand > {word}u"
    elif fmt.rule is ScaleRule.CEIL:
        bump = "significand != (uint64_t)1 << 63"
    elif fmt.rule is ScaleRule.EVEN:
        element = fmt.element
        bits = element.mantissa_bits if isinstance(element, FloatFormat) else element.bits - 2
        bump = f"significand >= {(1 << 64) - (1 << (62 - bits))}u"
    else:
        bump = "0"
    return f"""  uint64_t significand = (uint64_t)top.sig;
  int code = 0;
  if (!@none(top)) {{
    while (!(significand >> 63)) significand <<= 1;
    code = @log2(top.sig) + top.lsb - {top} + ({bump}) + {scale.bias};
    code = code < 0 ? 0 : code > {scale.max_code} ? {scale.max_code} : code;
  }}
  *factor = @decode((uint64_t)code, &@scale_format);
  return (uint64_t)code;
"""


def _element(fmt: BlockFormat) -> str:
    multiply = fmt.rule is ScaleRule.ABSMAX and fmt.arithmetic is not Arithmetic.DIVIDE
    head = "  @num y = x;\n  y.neg = 0;\n"
    way = "@by(y, factor)" if multiply else "@over(y, factor)"
    if fmt.rule in POWER_RULES and not fmt.is_coded:
        head += "  (void)minus;\n  y.lsb -= @log2(factor.sig) + factor.lsb;\n  y.neg = x.neg;\n"
    else:
        head += f"  y = @none(factor) || factor.kind == @INF ? @zero() : {way};\n"
        head += "  y.neg = x.neg ^ minus;\n"
    if fmt.is_coded:
        return head + _looked_up(fmt)
    element = fmt.element
    assert not isinstance(element, Table)
    if isinstance(element, FixedFormat):
        whole = f"{element.lsb}, {element.max_integer}u, {-element.min_integer}u, {element.width}"
        infinite = f"  if (y.kind == @INF) return y.neg ? {element.min_integer % (1 << element.width)}u : {element.max_integer}u;\n"
        return (
            f"{head}{infinite}  return @to_fixed(y, {whole}, {mode_of(fmt.rounding)}, @SATURATE);\n"
        )
    return f"""{head}  static const @fmt format = {constant_of(element)};
  return @narrow(y, &format, {mode_of(fmt.rounding)}, @SATURATE);
"""


def _looked_up(fmt: BlockFormat) -> str:
    """Return a C search of a grid: the number of keys at most a float32 number, in real order."""
    grid = make_grid(_variant(fmt), fmt.ties, fmt.rounding.value)
    keys = ", ".join(f"{key}LL" for key in grid.keys.tolist())
    codes = ", ".join(map(str, grid.codes.tolist()))
    return f"""  static const int64_t keys[] = {{{keys}}};
  static const uint64_t found[] = {{{codes}}};
  uint64_t bits = @round(y, &@float32, @RNE, @TO_INF);
  int64_t key = bits >> 31 ? (int64_t)(~bits & 0x7fffffffu) - 0x80000000LL : (int64_t)bits;
  int index = 0;
  while (index < {len(grid.keys)} && key >= keys[index]) index++;
  return found[index];
"""


def _float(fmt: Format) -> FloatFormat:
    assert isinstance(fmt, FloatFormat)
    return fmt


# -- DPI and the program ---------------------------------------------------------------------------


def _beat(operation: Operation) -> str:
    """Return the DPI-C function of one vector: packed vectors as 32-bit words, element 0 lowest."""
    inputs = [f for f in operation.fields if f.name in operation.inputs]
    results = operation.result_fields
    arguments = [f"const uint32_t *{f.name}" for f in inputs] + [
        f"uint32_t *{f.name}" for f in results
    ]
    declared = "".join(f"  uint64_t {f.name}_codes[{f.lanes}];\n" for f in operation.fields)
    read = "".join(
        f"  for (int i = 0; i < {f.lanes}; i++) {f.name}_codes[i] = @bits({f.name}, {f.lane_width} * i, {f.lane_width});\n"
        for f in inputs
    )
    write = "".join(
        f"  @pack({f.name}_codes, {f.lanes}, {f.lane_width}, {f.name});\n" for f in results
    )
    head = f"void @beat({', '.join(arguments)})"
    return f"""static inline void @pack(const uint64_t *codes, int lanes, int width, uint32_t *out) {{
  for (int i = 0; i < (lanes * width + 31) / 32; i++) out[i] = 0;
  for (int i = 0; i < lanes * width; i++)
    out[i / 32] |= (uint32_t)(codes[i / width] >> (i % width) & 1) << (i % 32);
}}

/* One vector for DPI-C: packed arrays as svBitVecVal. Define FPSIM_DPI in one translation unit to
   get a function to link with. */
#ifdef FPSIM_DPI
#ifdef __cplusplus
extern "C" /* some simulators compile C as C++ */
#endif
{head};
{head}
#else
static inline {head}
#endif
{{
{declared}{read}  {_call(operation)};
{write}}}
"""


def _call(operation: Operation) -> str:
    inputs = [f for f in operation.fields if f.name in operation.inputs]
    given = [f"{f.name}_codes" + "[0]" * _single(operation, f) for f in inputs]
    if isinstance(operation, Quantize):
        given += [f"{f.name}_codes" for f in operation.result_fields]
        return f"@quantize({', '.join(given)})"
    name = operation.verb if isinstance(operation, TwoOperand) else "convert"
    return f"y_codes[0] = @{name}({', '.join(given)}), flags_codes[0] = @flags"


def _package(operation: Operation, prefix: str) -> str:
    """Return the SystemVerilog package that imports the beat."""
    arguments = [
        f"{'input ' if f.name in operation.inputs else 'output'} bit [{f.width - 1}:0] {f.name}"
        for f in operation.fields
    ]
    joined = ",\n    ".join(arguments)
    return f"""// {operation.title}, by fpsim {fpsim.__version__}. SPDX-License-Identifier: Apache-2.0
// {operation.equation}
// Link with the C model compiled with -DFPSIM_DPI. Element 0 of a packed array is in its low bits.
package {prefix}pkg;
  // One vector: results from inputs.
  import "DPI-C" function void {prefix}beat(
    {joined}
  );
endpackage : {prefix}pkg
"""


def _check(operation: Operation, header: str) -> str:
    """Return a C program that compares every vector of a vectors.hex with the model."""
    text = (_HERE / "check_operation.c").read_text(encoding="utf-8")
    inputs = [f for f in operation.fields if f.name in operation.inputs]
    declared = "".join(f"  static uint64_t {f.name}_codes[{f.lanes}];\n" for f in operation.fields)
    declared += "".join(
        f"  static uint64_t {f.name}_wanted[{f.lanes}];\n" for f in operation.result_fields
    )
    read = "".join(
        f"    codes(word, {f.lsb}, {f.lanes}, {f.lane_width}, {f.name}_{kind});\n"
        for fields, kind in ((inputs, "codes"), (operation.result_fields, "wanted"))
        for f in fields
    )
    compare = " ||\n        ".join(
        f'differs(argv[1], number, "{f.name}", {f.lanes}, {f.name}_codes, {f.name}_wanted)'
        for f in operation.result_fields
    )
    values = {
        "HEADER": header, "WORD_BITS": operation.word_bits, "TITLE": operation.title,
        "DECLARATIONS": declared, "READ": read, "CALL": _call(operation), "COMPARE": compare,
    }  # fmt: skip
    for key, value in values.items():
        text = text.replace(f"${key}$", str(value))
    return text
