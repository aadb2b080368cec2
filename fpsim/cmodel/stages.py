# SPDX-License-Identifier: Apache-2.0
"""C code of the stages: one function per stage, terms and an addend code in, a code out.

``@`` in names stands for the prefix of the exported header.
"""

from __future__ import annotations

from fpsim.cmodel.constants import constant_of, mode_of, overflow_of
from fpsim.formats.floating import Format
from fpsim.formats.rounding import Rounding
from fpsim.units.spec import MacSpec
from fpsim.units.stages import (
    Addend,
    Aligned,
    Block,
    Chain,
    Chunked,
    Exact,
    Fixed,
    Joins,
    NanScale,
    OverflowAt,
    ProductRounding,
    Stage,
    Tree,
    block_in,
)

__all__ = ["StageWriter"]


def _chunk_size(stage: Chunked) -> str:
    """Return a C expression for the terms of a chunk out of ``n``; see `Chunked.chunk`."""
    if stage.parts is None:
        return str(stage.size)
    block = block_in(stage.inner)
    step = 1 if block is None else block.size
    return f"(n + {stage.parts * step} - 1) / {stage.parts * step} * {step}"


class StageWriter:
    """Collects the constants and functions of one unit."""

    def __init__(self, spec: MacSpec) -> None:
        self.spec = spec
        self.formats: dict[Format, str] = {}
        self.functions: list[str] = []

    def format(self, fmt: Format) -> str:
        """Return a pointer to the constant that describes a format."""
        if fmt not in self.formats:
            self.formats[fmt] = f"@format{len(self.formats)}"
        return f"&{self.formats[fmt]}"

    def constants(self) -> str:
        """Return the formats as constants."""
        return "".join(
            f"/* {fmt.name} */\nstatic const @fmt {name} = {constant_of(fmt)};\n"
            for fmt, name in self.formats.items()
        )

    def _function(self, name: str, what: str, body: str, random_bits: int = 0) -> str:
        if random_bits:
            body = f"  @own_bits = {random_bits};\n{body}"
        head = f"static inline uint64_t {name}(const @num *t, int n, uint64_t c) {{\n"
        self.functions.append(f"/* {what} */\n{head}{body}}}\n")
        return name

    # -- stages that add terms -----------------------------------------------------------------

    def terms(self, stage: Stage, label: str) -> str:
        """Write a stage that adds terms and return its function's name."""
        if isinstance(stage, Chunked):
            return self._chunks_of_terms(stage, label)
        if isinstance(stage, Aligned):
            return self._aligned(stage, label)
        if isinstance(stage, Tree):
            return self._tree(stage, label)
        if isinstance(stage, Fixed):
            body = self._fixed(stage)
        elif isinstance(stage, Exact):
            body = self._exact(stage)
        else:
            assert isinstance(stage, Chain)
            body = self._chain(stage)
        return self._function(f"@{label}", stage.equation, body, stage.random_bits)

    def _chain(self, stage: Chain) -> str:
        fmt, mode, over = (
            self.format(stage.format),
            mode_of(stage.rounding),
            overflow_of(stage.overflow),
        )
        term = "t[i]"
        if stage.product is ProductRounding.ROUNDED:
            term = f"@decode(@round(t[i], {fmt}, {mode}, {over}), {fmt})"
        rdn = int(stage.rounding is Rounding.RDN)
        return f"""  for (int i = 0; i < n; i++) {{
    @sum s;
    @sum_add(&s, @decode(c, {fmt}), {rdn}, 1);
    @sum_add(&s, {term}, {rdn}, 0);
    c = @encode(&s, {fmt}, {mode}, {over}, 1);
  }}
  return c;
"""

    def _exact(self, stage: Exact) -> str:
        fmt = self.format(stage.format)
        rdn = int(stage.rounding is Rounding.RDN)
        return f"""  @sum s;
  @sum_add(&s, @decode(c, {fmt}), {rdn}, 1);
  for (int i = 0; i < n; i++) @sum_add(&s, t[i], {rdn}, 0);
  return @encode(&s, {fmt}, {mode_of(stage.rounding)}, {overflow_of(stage.overflow)}, 1);
"""

    def _fixed(self, stage: Fixed) -> str:
        fit = f"@sum_fit(&s, {stage.lsb}, {stage.width}, {overflow_of(stage.overflow)});"
        early, late = f"\n    {fit}", ""
        if stage.overflow_at is OverflowAt.END:
            early, late = "", f"  {fit}\n"
        end = f"""  return @bits(s.w, {stage.lsb} - @LOW, {stage.width});
"""
        if stage.convert is not None:
            over = overflow_of(stage.convert.default_overflow)
            end = f"""  s.neg = (int)(s.w[@LIMBS - 1] >> 31);
  return @encode(&s, {self.format(stage.convert)}, {mode_of(stage.convert_rounding)}, {over}, 1);
"""
        return f"""  @sum s;
  @sum_add(&s, @decode(c, {self.format(stage.initial)}), 0, 1);
  for (int i = 0; i < n; i++) {{
    @sum_add(&s, @grid(t[i], {stage.lsb}, {mode_of(stage.rounding)}), 0, 0);{early}
  }}
{late}{end}"""

    def _aligned(self, stage: Aligned, label: str) -> str:
        fmt, outer = self.format(stage.format), self.format(stage.result)
        over = overflow_of(stage.overflow)
        assert stage.nan is not None or stage.result.nan_code is None
        shift = stage.result.mantissa_bits - stage.format.mantissa_bits
        rdn = int(stage.rounding is Rounding.RDN)
        narrow = f"@{label}_narrow"
        self.functions.append(f"""static inline uint64_t {narrow}(const @sum *s) {{
  uint64_t code = @encode(s, {fmt}, {mode_of(stage.rounding)}, {over}, 0), sign = @sign_bit({fmt});
  return (code & ~sign) << {shift} | (code & sign ? @sign_bit({outer}) : 0);
}}
""")
        window = f"@{label}_window"
        floor = stage.exponent_floor
        start = "int e = 0, any = 0;" if floor is None else f"int e = {floor}, any = 1;"
        width = ""
        if stage.width is not None:
            width = f"  @sum_fit(s, e - {stage.fraction_bits}, {stage.width}, {overflow_of(stage.width_overflow)});\n"
        self.functions.append(f"""/* Align every `step`-th term to the largest exponent, add; return the exponent. */
static inline int {window}(const @num *t, int from, int count, int step, @sum *s) {{
  {start}
  for (int i = from; i < count; i += step)
    if (t[i].has_e && (!any || t[i].e > e)) {{
      e = t[i].e;
      any = 1;
    }}
  for (int i = from; i < count; i += step)
    @sum_add(s, @grid(t[i], e - {stage.fraction_bits}, {mode_of(stage.align)}), {rdn}, i == from);
{width}  return e;
}}
""")
        adjust = ""
        if stage.normalised:
            adjust += "      if (u[i].kind == @NUM && u[i].sig) u[i].e = @log2(u[i].sig) + u[i].lsb, u[i].has_e = 1;\n"
        if stage.product_limit is not None:
            adjust += (
                f"      if (u[i].kind == @NUM && u[i].sig && @log2(u[i].sig) + u[i].lsb >= "
                f"{stage.product_limit}) u[i].kind = @INF, u[i].has_e = 0, "
                "@flags |= @OVERFLOW | @INEXACT;\n"
            )
        nan = stage.nan if stage.nan is not None else 0
        zero = "" if stage.signed_zero else f"    if (c == @sign_bit({outer})) c = 0;\n"
        add = self._aligned_sum(stage, window, narrow, rdn)
        body = f"""  for (int start = 0; start < n; start += {stage.products}) {{
    @num u[{stage.products + 1}], addend = @decode(c, {outer});
    @sum s, special;
    @sum_add(&special, @zero(), 0, 1);
    for (int i = 0; i < {stage.products}; i++) {{
      u[i] = start + i < n ? t[start + i] : @zero();
{adjust}      if (u[i].kind != @NUM) @sum_add(&special, u[i], 0, 0);
    }}
    u[{stage.products}] = addend;
    if (addend.kind != @NUM) @sum_add(&special, addend, 0, 0);
    if (special.kind == @NAN) {{
      c = {nan}u;
      continue;
    }}
    if (special.kind == @INF) {{
      c = {narrow}(&special);
      continue;
    }}
{add}{zero}  }}
  return c;
"""
        return self._function(f"@{label}", stage.equation, body)

    def _aligned_sum(self, stage: Aligned, window: str, narrow: str, rdn: int) -> str:
        n = stage.products
        if stage.addend is Addend.EARLY:
            return f"    {window}(u, 0, {n + 1}, 1, &s);\n    c = {narrow}(&s);\n"
        if stage.addend is Addend.LATE:
            outer = self.format(stage.result)
            late = int(stage.late_rounding is Rounding.RDN)
            return f"""    {window}(u, 0, {n}, 1, &s);
    @sum_add(&special, @decode({narrow}(&s), {outer}), {late}, 1);
    @sum_add(&special, addend, {late}, 0);
    c = @encode(&special, {outer}, {mode_of(stage.late_rounding)}, {overflow_of(stage.overflow)}, 0);
"""
        mode, bits = mode_of(stage.join_rounding), stage.fraction_bits
        join = f"    int e = {window}(u, 0, {n}, 1, &s);\n"
        if stage.lanes == 2:
            join = f"""    @sum odd;
    int e = {window}(u, 0, {n}, 2, &s), e1 = {"@none" if n < 2 else f"{window}(u, 1, {n}, 2, &odd)"};
    if (e1 > e) e = e1;
    @sum_grid(&s, e - {bits}, {mode});
    @sum_grid(&odd, e - {bits}, {mode});
    @sum_add(&special, @zero(), 0, 1);
    @sum_add(&special, @sum_number(&s), 0, 0);
    @sum_add(&special, @sum_number(&odd), 0, 0);
    s = special;
"""
        reach = stage.join_reach
        near = "" if reach is None else f" && addend.e >= second - {reach}"
        return f"""{join}    int second = addend.has_e && addend.e > e ? addend.e : e;
    @sum_grid(&s, second - {stage.join_sum_bits}, {mode});
    if (@sum_is_zero(&s)) s.neg = 0;
    if (addend.has_e{near})
      @sum_add(&s, @grid(addend, second - {stage.join_addend_bits}, {mode}), 0, 0);
    c = {narrow}(&s);
"""

    def _tree(self, stage: Tree, label: str) -> str:
        fmt, mode, over = (
            self.format(stage.format),
            mode_of(stage.rounding),
            overflow_of(stage.overflow),
        )
        rdn = int(stage.rounding is Rounding.RDN)
        rounded = (
            ""
            if stage.product is ProductRounding.FUSED
            else (f"      v[m - 1] = @decode(@round(v[m - 1], {fmt}, {mode}, {over}), {fmt});\n")
        )
        size = "n" if stage.products is None else str(stage.products)
        leaf = int(stage.addend is Joins.LEAF and stage.lanes == 1)
        fused = stage.addend is Joins.FUSED
        add_c = "      if (m <= @RADIX && !done) @sum_add(&s, addend, RDN, 0);\n" if fused else ""
        add_c = add_c.replace("@RADIX", str(stage.radix)).replace("RDN", str(rdn))
        lanes = ""
        if stage.lanes > 1:
            first = "addend" if stage.addend is Joins.LEAF else "@zero()"
            lanes = f"""    @num lane[{stage.lanes}];
    for (int j = 0; j < {stage.lanes}; j++) lane[j] = j ? @zero() : {first};
    for (int i = 0; i < m; i++) {{
      @sum s;
      @sum_add(&s, lane[i % {stage.lanes}], {rdn}, 1);
      @sum_add(&s, v[i], {rdn}, 0);
      lane[i % {stage.lanes}] = @decode(@encode(&s, {fmt}, {mode}, {over}, 1), {fmt});
    }}
    m = {stage.lanes};
    for (int j = 0; j < m; j++) v[j] = lane[j];
"""
        root = f"    @sum_add(&s, addend, {rdn}, 1);\n    @sum_add(&s, v[0], {rdn}, 0);\n"
        end = root if stage.addend is Joins.ROOT else f"    @sum_add(&s, v[0], {rdn}, 1);\n"
        body = f"""  int size = {size};
  for (int start = 0; start < n; start += size) {{
    static @THREAD @num v[@MAX_K + 1];
    @num addend = @decode(c, {fmt});
    @sum s;
    int m = 0, done = 0;
    if ({leaf}) v[m++] = addend;
    for (int i = 0; i < size; i++) {{
      v[m++] = start + i < n ? t[start + i] : @zero();
{rounded}    }}
{lanes}    do {{
      int nodes = 0;
      for (int i = 0; i < m; i += {stage.radix}) {{
        for (int j = i; j < m && j < i + {stage.radix}; j++) @sum_add(&s, v[j], {rdn}, j == i);
  {add_c}        v[nodes++] = @decode(@encode(&s, {fmt}, {mode}, {over}, 1), {fmt});
      }}
      done = nodes == 1;
      m = nodes;
    }} while (m > 1);
    (void)done;
{end}    c = @encode(&s, {fmt}, {mode}, {over}, 1);
  }}
  return c;
"""
        return self._function(f"@{label}", stage.equation, body)

    def _chunks_of_terms(self, stage: Chunked, label: str) -> str:
        part = self.terms(stage.inner, f"{label}_chunk")
        outer = self.terms(stage.outer, f"{label}_sum")
        body = f"""  static @THREAD @num u[@MAX_K * 4];
  int count = 0, size = {_chunk_size(stage)};
  for (int i = 0; i < n; i += size)
    u[count++] = @decode({part}(t + i, n - i < size ? n - i : size, 0), {self.format(stage.inner.result)});
  return {outer}(u, count, c);
"""
        return self._function(f"@{label}", stage.equation, body)

    # -- stages that make terms ----------------------------------------------------------------

    def elements(self, stage: Stage, label: str = "unit") -> str:
        """Write a stage that takes operands and return its function's name."""
        if isinstance(stage, Block):
            inner = self.terms(stage.into, f"{label}_sum")
            make = self._block(stage, label)
            body = f"  int count = {make}(x, from, n, t);\n  return {inner}(t, count, c);\n"
        elif isinstance(stage, Chunked):
            part = self.elements(stage.inner, f"{label}_chunk")
            outer = self.terms(stage.outer, f"{label}_sum")
            fmt = self.format(stage.inner.result)
            body = f"""  int count = 0, size = {_chunk_size(stage)};
  for (int i = 0; i < n; i += size) {{
    uint64_t code = {part}(x, from + i, n - i < size ? n - i : size, 0);
    t[count++] = @decode(code, {fmt});
  }}
  return {outer}(t, count, c);
"""
        else:
            inner = self.terms(stage, f"{label}_sum")
            body = f"""  for (int i = 0; i < n; i++) {{
    @num a = @times(@decode(x->a[from + i], {self.format(self.spec.a)}), @scale_a(x, from + i, -1));
    @num b = @times(@decode(x->b[from + i], {self.format(self.spec.b)}), @scale_b(x, from + i, -1));
    t[i] = @times(a, b);
  }}
  return {inner}(t, n, c);
"""
        head = (
            f"static inline uint64_t @{label}(const @operands *x, int from, int n, uint64_t c) {{\n"
        )
        buffer = "  static @THREAD @num t[@MAX_K * 4];\n"
        self.functions.append(f"/* {stage.equation} */\n{head}{buffer}{body}}}\n")
        return f"@{label}"

    def _block(self, stage: Block, label: str) -> str:
        spec = self.spec
        signs = {op: (0, 1) if spec.splits(op) else (-1,) for op in "ab"}
        loops = "".join(
            f"      @block_term(x, i, i + {stage.size} < from + n ? i + {stage.size} : from + n, {sa}, {sb}, t + count++);\n"
            for sa in signs["a"]
            for sb in signs["b"]
        )
        convert = ""
        if stage.convert is not None:
            fmt = self.format(stage.convert)
            over = overflow_of(stage.convert.default_overflow)
            convert = f"""  {{
    int has_e = t->has_e, e = t->e;
    *t = @decode(@round(*t, {fmt}, {mode_of(stage.convert_rounding)}, {over}), {fmt});
    t->has_e = has_e;
    t->e = e;
  }}
"""
        drop = ""
        if stage.nan_scale is NanScale.ZERO:
            drop = (
                "  if (sa.kind == @NAN || sb.kind == @NAN) {\n    @flags |= @INVALID;\n"
                "    *t = @zero();\n    return;\n  }\n"
            )
        a, b = self.format(spec.a), self.format(spec.b)
        self.functions.append(f"""/* The scaled exact sum of a block, of elements with the given signs (-1: either). */
static inline void @block_term(const @operands *x, int from, int to, int a_sign, int b_sign, @num *t) {{
  @sum s;
  @num sa = @scale_a(x, from, a_sign), sb = @scale_b(x, from, b_sign), scale = @times(sa, sb);
{drop}  @sum_add(&s, @zero(), 0, 1);
  for (int i = from; i < to; i++) {{
    if (a_sign >= 0 && @sign_of(x->a[i], {a}) != a_sign) continue;
    if (b_sign >= 0 && @sign_of(x->b[i], {b}) != b_sign) continue;
    @sum_add(&s, @times(@decode(x->a[i], {a}), @decode(x->b[i], {b})), 0, 0);
  }}
  *t = @times(@sum_number(&s), scale);
  t->has_e = sa.has_e && sb.has_e;
  t->e = t->has_e ? sa.e + sb.e : 0;
{convert}}}

static inline int @{label}_blocks(const @operands *x, int from, int n, @num *t) {{
  int count = 0;
  for (int i = from; i < from + n; i += {stage.size}) {{
{loops}  }}
  return count;
}}
""")
        return f"@{label}_blocks"
