# SPDX-License-Identifier: Apache-2.0
"""Corner classes of alignment windows: the last kept bit and the first dropped one."""

from __future__ import annotations

import numpy as np

from fpsim.formats.floating import FloatFormat
from fpsim.units.stages import Addend, Aligned, stages_of
from fpsim.vectors.corners.builder import VectorBuilder
from fpsim.vectors.corners.chosen_products import (
    both_signs,
    float_format,
    one_vector,
    power_of_two,
    product_span,
    repeated,
)
from fpsim.vectors.sets.palette import Codes

__all__ = ["fraction_bits", "window_edges", "window_limits"]


def fraction_bits(builder: VectorBuilder) -> list[int]:
    """Return the F of every alignment window in the unit."""
    stages = stages_of(builder.record.spec.accumulate)
    return [s.fraction_bits for s in stages if isinstance(s, Aligned)]


def window_edges(builder: VectorBuilder) -> None:
    """Terms that lie F - 1, F, F + 1, F + 2 places below the largest, around the last kept bit: of
    both signs, alone and with others that together would have counted."""
    windows = fraction_bits(builder)
    if not windows:
        return
    fmt = float_format(builder)
    assert fmt is not None
    powers = np.frexp(np.abs(builder.palette.products[2]))[1]
    for bits in windows:
        for distance in (bits - 2, bits - 1, bits, bits + 1, bits + 2):
            _addend_far_above(builder, fmt, distance)
            _products_apart(builder, distance, powers)
        if builder.record.group:
            _under_least_scales(builder, fmt, bits)


def _under_least_scales(builder: VectorBuilder, fmt: FloatFormat, bits: int) -> None:
    """Addends at the last kept bit of windows under the least scales; subnormal ones alone.

    Under scales of zero a window has no exponent but the addend's.
    """
    spec, palette = builder.record.spec, builder.palette
    lowest, scales = 0, {}
    for name in ("a_scale", "b_scale"):
        scale: FloatFormat = getattr(spec, name)
        lowest += scale.exponent_min
        scales[name] = int(scale.encode([np.ldexp(1.0, scale.exponent_min)])[0])
    powers = lowest - bits + np.arange(-1, 3)
    powers = powers[powers >= fmt.exponent_min]
    codes = both_signs(fmt, fmt.encode(np.ldexp(1.0, powers)).astype(np.int64))
    if codes.size:
        for terms in ([], [palette.product("one")], [palette.product("smallest")]):
            builder.add(**one_vector(builder, *terms), **scales, c=codes)
    small = both_signs(fmt, np.array([1, (1 << fmt.mantissa_bits) - 1, 1 << fmt.mantissa_bits]))
    if spec.a_scale.decode([0])[0] == 0:
        builder.add(a_scale=0, c=small)


def _addend_far_above(builder: VectorBuilder, fmt: FloatFormat, distance: int) -> None:
    """An addend ``distance`` binades above each product, and a product so far above the addend."""
    a, b = builder.palette.few(6)
    spec = builder.record.spec
    values = spec.a.decode(a) * spec.b.decode(b)
    powers = np.frexp(np.abs(values))[1] - 1
    m = fmt.mantissa_bits
    for x, y, power in zip(a.tolist(), b.tolist(), powers.tolist(), strict=True):
        for shift in (distance, distance - m, -distance, -distance + 1):
            row = power + shift - fmt.exponent_min + 1
            if not 1 <= row <= fmt.max_code >> m:
                continue
            patterns = np.unique([0, 1, (1 << m) - 1, (1 << m) // 2])
            codes = both_signs(fmt, (row << m) + patterns)
            for terms in ([(x, y)], repeated(builder, (x, y), builder.record.k)):
                operands = one_vector(builder, *terms)
                builder.add(**operands, c=codes)


def _products_apart(builder: VectorBuilder, distance: int, powers: Codes) -> None:
    """Two products ``distance`` binades apart, if the operands' range allows."""
    a, b, values = builder.palette.products
    if builder.record.k < 2 or powers.max() - powers[values != 0].min() < distance:
        return
    ranked = np.flatnonzero(values != 0)
    ranked = ranked[np.argsort(powers[ranked], kind="stable")]
    for index in ranked[:: max(1, ranked.size // 12)].tolist():
        partners = ranked[powers[ranked] == powers[index] + distance]
        for partner in partners[:: max(1, partners.size // 3)].tolist():
            pair = [(int(a[i]), int(b[i])) for i in (index, partner)]
            builder.add(**one_vector(builder, *pair))
            builder.add(**one_vector(builder, *pair[::-1]))
            builder.add(
                **one_vector(builder, pair[1], *repeated(builder, pair[0], builder.record.k - 1))
            )


def window_limits(builder: VectorBuilder) -> None:
    """Products below the floor of a window's exponent, sums that reach its last carry, half of the
    least result, and the last bit of the window that a sum joins its addend in."""
    for stage in stages_of(builder.record.spec.accumulate):
        if isinstance(stage, Aligned):
            fmt = stage.format
            least = fmt.exponent_min - fmt.mantissa_bits
            _powers(builder, [(least - 1, -1)])
            if stage.exponent_floor is not None:
                below = stage.exponent_floor - 1
                _powers(builder, [(below, 1), (below - stage.fraction_bits, -1)])
            if product_span(builder)[1] > fmt.exponent_max + 1:
                _carries(builder)
                _ties(builder, stage)
            if stage.addend is Addend.JOINED:
                far = np.ldexp(1.0, fmt.mantissa_bits + 1)
                last = fmt.mantissa_bits + 1 - stage.join_sum_bits
                for place in (last - 1, last, last + 1):
                    _powers(builder, [(0, 1), (place, 1)], builder.palette.encode_addend(far))


def _powers(builder: VectorBuilder, powers: list[tuple[int, int]], c: Codes | int = 0) -> None:
    """Append products that are powers of two, of given exponents and signs, in each order."""
    found = [power_of_two(builder, exponent, sign) for exponent, sign in powers]
    terms = [term for term in found if term is not None]
    if len(terms) == len(powers) <= builder.record.k:
        for order in (terms, terms[::-1]):
            builder.add(**one_vector(builder, *order), c=c)


def _ties(builder: VectorBuilder, stage: Aligned) -> None:
    """Append an addend of 1, half a unit in its last place, and a product around the window's last
    bit that decides the tie."""
    spec, one = builder.record.spec, builder.palette.encode_addend(np.array([1.0]))
    if not isinstance(spec.a, FloatFormat):
        return
    half = power_of_two(builder, -stage.format.mantissa_bits - 1, 1)
    codes = np.concatenate([one, one + 1])
    for place in range(-stage.fraction_bits - 2, -stage.fraction_bits + 3):
        for sign in (1, -1):
            last = power_of_two(builder, place, sign)
            if half is not None and last is not None:
                for more in (0, spec.a.mantissa_bits and 1 << (spec.a.mantissa_bits - 1)):
                    above = (last[0] + more, last[1])  # by half: no tie in the window
                    if above[0] in builder.palette.a:
                        builder.add(**one_vector(builder, half, above), c=codes)


def _carries(builder: VectorBuilder) -> None:
    """Append products of significands just below 2, of one sign in all lanes, that do not overflow
    where the largest ones do."""
    spec = builder.record.spec
    below = [fmt.encode([np.nextafter(2.0, 0.0)], "rtz", "saturate") for fmt in (spec.a, spec.b)]
    a, b = (int(code[0]) for code in below)
    if a in builder.palette.a and b in builder.palette.b:
        for sign in (0, spec.a.sign_bit) if isinstance(spec.a, FloatFormat) else (0,):
            builder.add(**one_vector(builder, *repeated(builder, (a | sign, b), builder.record.k)))
