# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for whole formats, whole valid MAC units, and operands for them.

They draw codes, not floats, and lean towards the codes where hardware goes wrong: zeros, the
smallest and largest numbers, infinities, NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from numpy.typing import NDArray

from fpsim import (
    FixedFormat,
    FloatFormat,
    FpsimError,
    MacSpec,
    MacUnit,
    Overflow,
    Rounding,
    get_format,
)
from fpsim.formats.floating import SPECIAL_SUFFIXES, Format, NanCodes, Subnormals
from fpsim.formats.names import E8M0
from fpsim.units.spec import SignSplit
from fpsim.units.stages import Chain, Exact, Fixed, Stage
from support.helpers import overflows

E8M0_NAN = 255


# -- formats -------------------------------------------------------------------------------------


@st.composite
def float_formats(
    draw: st.DrawFn,
    max_bits: int = 16,
    max_exponent_bits: int = 8,
    max_mantissa_bits: int = 23,
    bias_shift: int = 20,
    accumulator: bool = False,
) -> FloatFormat:
    """Any valid `FloatFormat` up to ``max_bits`` bits.

    The bias lies within ``bias_shift`` of its default. With ``accumulator`` the format has a sign
    and a zero, as a chain needs.
    """
    signed = accumulator or draw(st.booleans())
    magnitude_bits = max_bits - int(signed)
    e = draw(st.integers(0, min(max_exponent_bits, magnitude_bits)))
    lowest = 1 if e == 0 else 0
    m = draw(st.integers(lowest, max(lowest, min(max_mantissa_bits, magnitude_bits - e))))
    rows = [Subnormals.GRADUAL]
    if e:
        rows.append(Subnormals.FLUSH)
        if not accumulator:
            rows.append(Subnormals.NONE)
    row = draw(st.sampled_from(rows))
    specials = []
    for nan, infinity in SPECIAL_SUFFIXES:
        ieee_fits = e > 0 and m > 0
        zero_sign_free = signed and row is not Subnormals.NONE
        if nan is NanCodes.IEEE and not ieee_fits:
            continue
        if nan is NanCodes.NEGATIVE_ZERO and not zero_sign_free:
            continue
        if row is Subnormals.FLUSH and nan is NanCodes.IEEE and e == 1:
            continue  # every finite code would flush
        specials.append((nan, infinity))
    nan, infinity = draw(st.sampled_from(specials))
    default = (1 << (e - 1)) - 1 if e else 0
    bias = default + draw(st.one_of(st.just(0), st.integers(-bias_shift, bias_shift)))
    try:
        return FloatFormat(e, m, bias, signed=signed, nan=nan, infinity=infinity, subnormals=row)
    except FpsimError:
        assume(False)  # too few codes left for a finite number
        raise


def fixed_formats(max_width: int = 16, max_lsb: int = 12) -> st.SearchStrategy[FixedFormat]:
    """Any valid `FixedFormat` up to ``max_width`` bits."""
    signed = st.builds(
        FixedFormat,
        width=st.integers(2, max_width),
        lsb=st.integers(-max_lsb, max_lsb),
        signed=st.just(True),
        symmetric=st.booleans(),
    )
    unsigned = st.builds(
        FixedFormat,
        width=st.integers(1, max_width),
        lsb=st.integers(-max_lsb, max_lsb),
        signed=st.just(False),
    )
    return st.one_of(signed, unsigned)


def operand_formats(max_bits: int = 8) -> st.SearchStrategy[Format]:
    """Any format a multiplier takes, floating or fixed point."""
    floats = float_formats(max_bits=max_bits, max_exponent_bits=5, bias_shift=4)
    return st.one_of(floats, fixed_formats(max_width=max_bits, max_lsb=6))


# -- units ---------------------------------------------------------------------------------------


def roundings(stochastic: bool = True) -> st.SearchStrategy[Rounding]:
    """Any rounding mode."""
    return st.sampled_from([r for r in Rounding if stochastic or r is not Rounding.SR])


@st.composite
def float_stages(
    draw: st.DrawFn, kind: type[Chain] | type[Exact], stochastic: bool = True
) -> Chain | Exact:
    """A chain or exact stage into any accumulator up to E8M23."""
    fmt = draw(float_formats(max_bits=32, accumulator=True))
    overflow = draw(st.sampled_from(overflows(fmt)))
    rounding = draw(roundings(stochastic))
    # A float64 that was rounded to odd decides mantissa_bits + n + 2 <= 53 bits.
    bits = draw(st.integers(1, min(32, 51 - fmt.mantissa_bits))) if rounding is Rounding.SR else 0
    return kind(fmt, rounding, overflow, bits)


@st.composite
def fixed_stages(draw: st.DrawFn, stochastic: bool = True) -> Fixed:
    """A fixed-point stage of any width."""
    rounding = draw(roundings(stochastic))
    return Fixed(
        width=draw(st.integers(4, 64)),
        lsb=draw(st.integers(-40, 40)),
        overflow=draw(st.sampled_from([Overflow.WRAP, Overflow.SATURATE])),
        rounding=rounding,
        random_bits=draw(st.integers(1, 32)) if rounding is Rounding.SR else 0,
    )


@st.composite
def mac_specs(
    draw: st.DrawFn,
    stages: st.SearchStrategy[Stage] | None = None,
    operands: st.SearchStrategy[Format] | None = None,
    described: bool = False,
    any_scales: bool = False,
) -> MacSpec:
    """Any valid MAC unit; with ``described`` sometimes with a name and a description.

    With ``any_scales`` scale formats may be other than E8M0, and operands scaled by sign.
    """
    if stages is None:
        stages = st.one_of(float_stages(Chain), float_stages(Exact), fixed_stages())
    formats = operand_formats() if operands is None else operands
    a = draw(formats)
    b = draw(st.one_of(st.just(a), formats))
    name = description = ""
    if described:
        name = draw(
            st.one_of(st.just(""), st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True))
        )
        description = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
    stage = draw(stages)
    try:
        spec = MacSpec(a, b, stage, name, description)
        return _scaled(draw, spec) if any_scales else spec
    except FpsimError:
        assume(False)  # a window too narrow for its terms, or a split without signs
        raise


#: Scale formats of MX, NVFP4 and others: signed, unsigned, with and without infinities.
SCALES = ("e8m0", "e8m0", "e8m0", "e4m3fn", "ue4m3fn", "e5m2", "e3m4", "e8m7", "e8m23")


def _scaled(draw: st.DrawFn, spec: MacSpec) -> MacSpec:
    scales = [get_format(draw(st.sampled_from(SCALES))) for _ in "ab"]
    splits = [SignSplit.NONE]
    if spec.a.signed and spec.b.signed:
        splits = [*splits, SignSplit.NONE, *SignSplit]
    return replace(
        spec,
        name="",
        a_scale=scales[0],
        b_scale=scales[1],
        sign_split=draw(st.sampled_from(splits)),
    )


# -- operands ------------------------------------------------------------------------------------


def codes(fmt: Format) -> st.SearchStrategy[int]:
    """Any code of a format, the remarkable ones often."""
    top = (1 << fmt.bits) - 1
    if isinstance(fmt, FixedFormat):
        half = 1 << (fmt.bits - 1)
        remarkable = {0, 1, half - 1, half % (top + 1), top, top - 1}
    else:
        magnitudes = {0, 1, 1 << fmt.mantissa_bits, fmt.max_code, fmt.max_code - 1}
        magnitudes |= {fmt.max_code + 1, (1 << fmt.magnitude_bits) - 1}
        remarkable = magnitudes | {m + fmt.sign_bit for m in magnitudes}
    listed = sorted(code for code in remarkable if 0 <= code <= top)
    return st.one_of(st.integers(0, top), st.sampled_from(listed))


def finite_operand_codes(fmt: Format) -> st.SearchStrategy[int]:
    """Any code of an operand that is neither NaN nor infinite."""
    if isinstance(fmt, FixedFormat):
        return codes(fmt)
    return codes(fmt).filter(lambda code: bool(np.isfinite(fmt.decode([code])[0])))


@dataclass(frozen=True)
class MatmulCase:
    """A unit and operands of one matrix product."""

    unit: MacUnit
    a: NDArray[Any]
    b: NDArray[Any]
    c: NDArray[Any] | None
    a_scale: NDArray[Any] | None
    b_scale: NDArray[Any] | None
    block: int
    random: NDArray[Any] | None

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `MacUnit.matmul`."""
        scaled = self.a_scale is not None or self.b_scale is not None
        return {
            "a": self.a,
            "b": self.b,
            "c": self.c,
            "a_scale": self.a_scale,
            "b_scale": self.b_scale,
            "block": self.block if scaled else None,
            "random": self.random,
        }


@st.composite
def matmul_cases(
    draw: st.DrawFn,
    specs: st.SearchStrategy[MacSpec],
    max_k: int = 5,
    special: bool = True,
    scaled: bool = True,
) -> MatmulCase:
    """A unit with small matrices of codes, scales and random bits.

    Without ``special`` no operand or scale is NaN or infinite, as fixed point demands.
    """
    spec = draw(specs)
    m, n, k = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, max_k))
    pick = codes if special else finite_operand_codes

    def matrix(source: st.SearchStrategy[int], rows: int, columns: int, dtype: Any) -> NDArray[Any]:
        size = rows * columns
        flat = draw(st.lists(source, min_size=size, max_size=size))
        return np.array(flat, dtype=dtype).reshape(rows, columns)

    a = matrix(pick(spec.a), m, k, spec.a.dtype)
    b = matrix(pick(spec.b), k, n, spec.b.dtype)
    c = None
    if draw(st.booleans()):
        c = matrix(codes(spec.initial), m, n, spec.initial.dtype)
    size = 1 if spec.block is None else spec.block.size
    block = size * draw(st.integers(1, -(-k // size)))
    groups = -(-k // block)
    scales: list[NDArray[Any] | None] = [None, None]
    for side, shape in enumerate(((m, groups), (groups, n))):
        if scaled and draw(st.booleans()):
            name = "ab"[side]
            fmt, signs = getattr(spec, f"{name}_scale"), 1 + spec.splits(name)
            source = _scales(draw, special) if fmt == E8M0 else _significant(fmt, special)
            drawn = matrix(source, shape[0], shape[1] * signs, fmt.dtype)
            scales[side] = drawn.reshape(*shape, 2) if signs == 2 else drawn
    random = None
    steps = spec.roundings(k)
    if steps:
        top = (1 << spec.random_bits) - 1
        words = draw(st.lists(st.integers(0, top), min_size=m * n * steps, max_size=m * n * steps))
        random = np.array(words, dtype=np.uint32).reshape(m, n, steps)
    return MatmulCase(MacUnit(spec), a, b, c, scales[0], scales[1], block, random)


def _significant(fmt: Format, special: bool) -> st.SearchStrategy[int]:
    """Codes of scales with a significand, most of them near one."""
    one = int(fmt.encode([1.0])[0])
    step = 1 << fmt.mantissa_bits
    near = st.integers(max(1, one - 4 * step), min(fmt.max_code, one + 4 * step))
    return st.one_of(near, near, codes(fmt) if special else finite_operand_codes(fmt))


def _scales(draw: st.DrawFn, special: bool) -> st.SearchStrategy[int]:
    """Scale codes near neutral, or from the whole range, or (``special``) NaN now and then."""
    centre = draw(st.sampled_from([127, 127, 127, 8, 246]))
    near = st.integers(max(0, centre - 30), min(254, centre + 30))
    anywhere = st.one_of(near, st.integers(0, 254))
    return st.one_of(anywhere, anywhere, st.just(E8M0_NAN)) if special else anywhere
