# SPDX-License-Identifier: Apache-2.0
"""Compiled casts of whole blocks of float32: scales, ratios, the best of several grids, codes.

Each kernel does one step for the blocks ``first`` to ``stop`` of a flat array, a few blocks at a
time so that what it works out stays in the cache. Inside, every operation is one plain loop over
all elements of those blocks: such loops become vectors whatever the sizes of blocks and sub-blocks.
A grid is a list of thresholds on the bits of a float32 (`Grids`); a value is what the last
threshold that it reaches gives. Errors are summed in float64 in the order of the elements, eight
sub-blocks side by side.

The module lies outside of `fpsim.kernels` because it alone is made anew when it changes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from fpsim.kernels.cache import kernel

__all__ = [
    "ABS_MAX",
    "BF16",
    "DIVIDE",
    "MAE",
    "MSE",
    "RATIO",
    "RECIPROCAL",
    "Grids",
    "ScaleNumbers",
    "best_ratios",
    "block_errors",
    "codes_of_blocks",
    "codes_of_few",
    "dialects",
    "divide_blocks",
    "errors_of_few",
    "fit_ratios",
    "keep_better",
    "largest_magnitudes",
    "razor",
    "real_blocks",
    "refine_tops",
    "scale_blocks",
    "shift_integers",
    "signs",
    "spans",
    "store_tops",
    "top_indices",
]

MSE, MAE, ABS_MAX = range(3)
DIVIDE, RECIPROCAL, RATIO, BF16 = range(4)
#: Elements taken at a time, in whole blocks.
CHUNK = 1024
#: Loops over fewer elements than this are not worth their start.
SHORT = 16
#: Up to this many grids are all tried on every block, one loop each.
FEW = 4
I32 = np.int32
MAGNITUDE = np.int32(0x7FFFFFFF)
ONE, ZERO, HALF = np.float32(1), np.float32(0), np.float32(0.5)
BEYOND = np.float32(np.inf)
FRACTION = (1 << 52) - 1


class Grids(NamedTuple):
    """The V grids of a format.

    A value's index counts the thresholds that its key has reached: its magnitude bits if all grids
    are ``symmetric``, else its bits in the order of the reals, -0 below +0. ``values`` are float32
    bits. ``codes`` hold the code of a positive value and, 256 times, that of a negative one.

    Grids of equally spaced values (``steps`` > 0) round ``|y| back / step`` instead; the magnitudes
    of negative numbers end at ``lowest`` and their codes are ``base + down * magnitude``.
    """

    symmetric: bool
    thresholds: Any  #: (V, n) int32; n is 7, 15 or a multiple of 4, the rest is the largest int32
    values: Any  #: (V, n + 1) int32
    codes: Any  #: (V, n + 1) int32
    equal: bool  #: every grid is of equally spaced values
    steps: Any  #: (V,) float32, a power of two
    weights: Any  #: (V,) float32, W of the first value above zero
    backs: Any  #: (V,) float32
    highest: Any  #: (V,) int32
    lowest: Any  #: (V,) int32
    base: int
    down: int
    mask: int
    ties: Any  #: (3,) int32: whether ties go up from odd magnitudes, if positive, if negative


class ScaleNumbers(NamedTuple):
    """How scales follow from largest magnitudes; `fpsim.blocks.scale_rules` has the equations."""

    power: bool  #: powers of two, from exponents
    arithmetic: int
    floor: float  #: scales are at least this
    zero_code: int  #: what code 0 becomes; -1: 0
    mantissa_bits: int
    exponent_min: int
    has_zero: bool
    max_code: int
    even: bool  #: ties go to even codes, else away from zero
    ggml: bool


# -- arrays of one entry per (sub-)block -----------------------------------------------------------


@njit(error_model="numpy")
def _spread(entries, size, out):  # type: ignore[no-untyped-def]
    """Repeat each entry ``size`` times."""
    if size == 1:
        for i in range(entries.size):
            out[i] = entries[i]
    elif size == 2:
        for i in range(entries.size):
            out[2 * i] = entries[i]
            out[2 * i + 1] = entries[i]
    elif size == 4:
        for i in range(entries.size):
            out[4 * i] = entries[i]
            out[4 * i + 1] = entries[i]
            out[4 * i + 2] = entries[i]
            out[4 * i + 3] = entries[i]
    else:
        for i in range(entries.size):
            entry, part = entries[i], out[i * size : (i + 1) * size]
            for k in range(size):
                part[k] = entry


@njit(error_model="numpy")
def _maxima(items, size, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with the largest of each ``size`` non-negative int32 items."""
    count = items.size // size
    if size == 2:
        for i in range(count):
            out[i] = max(items[2 * i], items[2 * i + 1])
    elif size == 4:
        for i in range(count):
            low, high = max(items[4 * i], items[4 * i + 1]), max(items[4 * i + 2], items[4 * i + 3])
            out[i] = max(low, high)
    else:
        for i in range(count):
            part, largest = items[i * size : (i + 1) * size], np.int32(0)
            for k in range(size):
                largest = part[k] if part[k] > largest else largest
            out[i] = largest


@njit(error_model="numpy")
def _sums(terms, size, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with the sums of each ``size`` terms, in their order."""
    groups = terms.size // size
    whole = groups - groups % 8
    for g in range(0, whole, 8):
        t, o = terms[g * size : (g + 8) * size], out[g : g + 8]
        t0, t1, t2, t3 = t[:size], t[size:], t[2 * size :], t[3 * size :]
        t4, t5, t6, t7 = t[4 * size :], t[5 * size :], t[6 * size :], t[7 * size :]
        a = b = c = d = e = f = h = i = 0.0
        for k in range(size):
            a, b, c, d = a + t0[k], b + t1[k], c + t2[k], d + t3[k]
            e, f, h, i = e + t4[k], f + t5[k], h + t6[k], i + t7[k]
        o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7] = a, b, c, d, e, f, h, i
    for g in range(whole, groups):
        part = terms[g * size : (g + 1) * size]
        a = 0.0
        for k in range(size):
            a += part[k]
        out[g] = a


@njit(error_model="numpy")
def _largest(terms, size, out):  # type: ignore[no-untyped-def]
    for g in range(terms.size // size):
        a = 0.0
        for k in range(g * size, g * size + size):
            a = max(a, terms[k])
        out[g] = a


# -- scales ----------------------------------------------------------------------------------------


@njit(error_model="numpy")
def _bfloat16(value):  # type: ignore[no-untyped-def]
    bits = np.float32(value).view(np.uint32)
    rounded = np.uint32(bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    return np.uint32(rounded & np.uint32(0xFFFF0000)).view(np.float32)


@njit(error_model="numpy")
def _powers(amax, exponent, bump, p, codes, factor, decoded):  # type: ignore[no-untyped-def]
    for b in range(amax.size):
        bits = np.float64(amax[b]).view(np.int64)
        code = (bits >> 52) - 1023 + exponent + np.int64(bits & FRACTION >= bump)
        code = min(max(code, 0), p.max_code)
        code = code if amax[b] > ZERO else 0
        codes[b] = code
        decoded[b] = np.int64((code + p.exponent_min + 1023) << 52).view(np.float64)
        value = np.float32(decoded[b])
        factor[b] = value if value > ZERO else BEYOND


@njit(error_model="numpy")
def _raw(amax, limit, expansion, p, outer, ratio, raw):  # type: ignore[no-untyped-def]
    """ScaleNumbers before they are rounded to their format."""
    floor = np.float32(p.floor)
    if p.arithmetic == RATIO:
        for b in range(amax.size):
            raw[b] = amax[b] / limit * ratio[b]
    elif p.arithmetic == RECIPROCAL:
        for b in range(amax.size):
            raw[b] = amax[b] / limit / outer[b]
    elif p.arithmetic == BF16:
        inverse = _bfloat16(ONE / limit)
        for b in range(amax.size):
            raw[b] = _bfloat16(amax[b] * inverse)
    else:
        for b in range(amax.size):
            raw[b] = amax[b] / np.float32(limit * outer[b])
    for b in range(amax.size):
        value = np.float32(raw[b] * expansion)
        value = value if value > ZERO else ZERO  # NaN is 0 / 0 or 0 * inf
        raw[b] = value if value > floor else floor


@njit(error_model="numpy")
def _encoded(raw, p, codes, decoded):  # type: ignore[no-untyped-def]
    """Round to the scale format, saturating, and decode."""
    m, low = p.mantissa_bits, p.exponent_min
    shift = 52 - m
    zero = np.int64(p.has_zero)
    start = (low + 1023 - zero) << 52
    half, even = np.int64(1) << (shift - 1), np.int64(p.even)
    smallest = np.int64((low + 1023) << 52).view(np.float64)
    stretch = np.int64((m - low + 1023) << 52).view(np.float64)
    lowest = np.int64((low - m + 1023) << 52).view(np.float64)
    for b in range(decoded.size):
        value = np.float64(raw[b])
        bits = value.view(np.int64) - start
        code = (bits + half - even * (1 - ((bits >> shift) & 1))) >> shift
        scaled = value * stretch
        scaled = min(scaled, np.float64(4.0e15))
        under = np.int64(np.rint(scaled)) if p.even else np.int64(np.floor(scaled + 0.5))
        code = code if value >= smallest else under * zero
        codes[b] = min(code, p.max_code)
    if p.ggml:
        row = np.int64(1) << m
        last = p.max_code // row * row
        for b in range(decoded.size):
            code = codes[b]
            code = row - 1 if (np.float64(raw[b]) < smallest and code == row) else code
            codes[b] = p.max_code if code >= last else code
    if p.zero_code >= 0:
        for b in range(decoded.size):
            codes[b] = p.zero_code if codes[b] == 0 else codes[b]
    fraction = (np.int64(1) << m) - 1
    for b in range(decoded.size):
        code = codes[b]
        row = code >> m
        bits = ((row - zero + low + 1023) << 52) | ((code & fraction) << shift)
        number = np.int64(bits).view(np.float64)
        decoded[b] = np.float64(code) * lowest if (zero and row == 0) else number


@njit(error_model="numpy")
def _factors(decoded, p, outer, factor):  # type: ignore[no-untyped-def]
    if p.arithmetic == RECIPROCAL:
        for b in range(decoded.size):
            factor[b] = ONE / outer[b] / np.float32(decoded[b])
    elif p.arithmetic == RATIO:
        for b in range(decoded.size):
            factor[b] = ONE / np.float32(outer[b] * np.float32(decoded[b]))
    elif p.arithmetic == BF16:
        for b in range(decoded.size):
            factor[b] = _bfloat16(ONE / np.float32(decoded[b]))
    else:
        for b in range(decoded.size):
            factor[b] = np.float32(decoded[b]) * outer[b]
    flush = BEYOND if p.arithmetic == DIVIDE else ZERO
    for b in range(decoded.size):
        factor[b] = factor[b] if (factor[b] > ZERO and factor[b] < BEYOND) else flush


@kernel(sources=(__file__,), error_model="numpy", nogil=True)
def scale_blocks(  # type: ignore[no-untyped-def]
    amax, exponent, bump, limit, expansion, p, outer, ratio, codes, factor, decoded, first, stop
):  # fmt: skip
    """Fill scale codes (int64), divisors or factors (float32) and decoded scales (float64).

    Args:
        amax: largest magnitudes, finite.
        exponent: code of a largest magnitude in [1, 2), of powers of two.
        bump: fraction bits of a float64 from which a power of two doubles.
        limit: L, float32.
        expansion: c, float32.
        p: `ScaleNumbers`.
        outer: the tensor scale, float32, of each block or one.
        ratio: e of the arithmetic `RATIO`, the same way.
        codes: filled.
        factor: filled.
        decoded: filled.
        first: first block.
        stop: block after the last.
    """
    n = 4096
    raw = np.empty(n, dtype=np.float32)
    own, own_ratio = np.empty(n, dtype=np.float32), np.empty(n, dtype=np.float32)
    own[:], own_ratio[:] = outer[0], ratio[0]
    for start in range(first, stop, n):
        end = min(start + n, stop)
        size, top = end - start, amax[start:end]
        if p.power:
            _powers(top, exponent, bump, p, codes[start:end], factor[start:end], decoded[start:end])
            continue
        if outer.size > 1:
            own[:size], own_ratio[:size] = outer[start:end], ratio[start:end]
        _raw(top, limit, expansion, p, own[:size], own_ratio[:size], raw[:size])
        _encoded(raw[:size], p, codes[start:end], decoded[start:end])
        _factors(decoded[start:end], p, own[:size], factor[start:end])


# -- elements --------------------------------------------------------------------------------------


@njit(error_model="numpy")
def _scaled(x, steps, size, multiply, symmetric, y, keys):  # type: ignore[no-untyped-def]
    """Fill y with x under steps, one for every ``size`` elements, and the keys of y."""
    if multiply:
        for s in range(x.size // size):
            step, own, out = steps[s], x[s * size : (s + 1) * size], y[s * size : (s + 1) * size]
            for k in range(size):
                out[k] = own[k] * step
    else:
        for s in range(x.size // size):
            step, own, out = steps[s], x[s * size : (s + 1) * size], y[s * size : (s + 1) * size]
            for k in range(size):
                out[k] = own[k] / step
    _keys(y, symmetric, keys)


@njit(error_model="numpy")
def _scaled_each(x, steps, multiply, symmetric, y, keys):  # type: ignore[no-untyped-def]
    """As `_scaled`, with one step for each element."""
    if multiply:
        for k in range(x.size):
            y[k] = x[k] * steps[k]
    else:
        for k in range(x.size):
            y[k] = x[k] / steps[k]
    _keys(y, symmetric, keys)


@njit(error_model="numpy")
def _keys(y, symmetric, keys):  # type: ignore[no-untyped-def]
    bits = y.view(np.int32)
    if symmetric:
        for k in range(bits.size):
            keys[k] = bits[k] & MAGNITUDE
    else:
        for k in range(bits.size):
            keys[k] = bits[k] ^ ((bits[k] >> np.int32(31)) & MAGNITUDE)


@njit(error_model="numpy")
def _pick_of_8(keys, t, r, out):  # type: ignore[no-untyped-def]
    t0, t1, t2, t3, t4, t5, t6 = t[0], t[1], t[2], t[3], t[4], t[5], t[6]
    r0, r1, r2, r3, r4, r5, r6, r7 = r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]
    for k in range(keys.size):
        key, o = keys[k], r0
        o = r1 if key >= t0 else o
        o = r2 if key >= t1 else o
        o = r3 if key >= t2 else o
        o = r4 if key >= t3 else o
        o = r5 if key >= t4 else o
        o = r6 if key >= t5 else o
        o = r7 if key >= t6 else o
        out[k] = o


@njit(error_model="numpy")
def _pick_of_16(keys, t, r, out):  # type: ignore[no-untyped-def]
    """As `_pick`, halving fifteen thresholds four times; ``a ^ ((a ^ b) & mask)`` is a or b."""
    t0, t1, t2, t3, t4, t5, t6, t7 = t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]
    s0, s1, s2, s3 = I32(t0 ^ t[8]), I32(t1 ^ t[9]), I32(t2 ^ t[10]), I32(t3 ^ t[11])
    s4, s5, s6 = I32(t4 ^ t[12]), I32(t5 ^ t[13]), I32(t6 ^ t[14])
    r0, r1, r2, r3, r4, r5, r6, r7 = r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]
    q0, q1, q2, q3 = I32(r0 ^ r[8]), I32(r1 ^ r[9]), I32(r2 ^ r[10]), I32(r3 ^ r[11])
    q4, q5, q6, q7 = I32(r4 ^ r[12]), I32(r5 ^ r[13]), I32(r6 ^ r[14]), I32(r7 ^ r[15])
    for k in range(keys.size):
        key = keys[k]
        m = I32(-I32(key >= t7))
        n = I32(-I32(key >= I32(t3 ^ (s3 & m))))
        b0, b1 = I32(t1 ^ (s1 & m)), I32(t5 ^ (s5 & m))
        o = I32(-I32(key >= I32(b0 ^ ((b0 ^ b1) & n))))
        d0, d1, d2, d3 = (
            I32(t0 ^ (s0 & m)),
            I32(t2 ^ (s2 & m)),
            I32(t4 ^ (s4 & m)),
            I32(t6 ^ (s6 & m)),
        )
        e0, e1 = I32(d0 ^ ((d0 ^ d2) & n)), I32(d1 ^ ((d1 ^ d3) & n))
        p = I32(-I32(key >= I32(e0 ^ ((e0 ^ e1) & o))))
        w0, w1, w2, w3 = (
            I32(r0 ^ (q0 & m)),
            I32(r1 ^ (q1 & m)),
            I32(r2 ^ (q2 & m)),
            I32(r3 ^ (q3 & m)),
        )
        w4, w5, w6, w7 = (
            I32(r4 ^ (q4 & m)),
            I32(r5 ^ (q5 & m)),
            I32(r6 ^ (q6 & m)),
            I32(r7 ^ (q7 & m)),
        )
        x0, x1 = I32(w0 ^ ((w0 ^ w4) & n)), I32(w1 ^ ((w1 ^ w5) & n))
        x2, x3 = I32(w2 ^ ((w2 ^ w6) & n)), I32(w3 ^ ((w3 ^ w7) & n))
        y0, y1 = I32(x0 ^ ((x0 ^ x2) & o)), I32(x1 ^ ((x1 ^ x3) & o))
        out[k] = I32(y0 ^ ((y0 ^ y1) & p))


@njit(error_model="numpy")
def _pick(keys, thresholds, outcomes, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with the outcome of the last threshold that each key has reached."""
    if thresholds.size == 7:
        _pick_of_8(keys, thresholds, outcomes, out)
        return
    if thresholds.size == 15:
        _pick_of_16(keys, thresholds, outcomes, out)
        return
    out[:] = outcomes[0]
    for j in range(0, thresholds.size, 4):
        t, r = thresholds[j : j + 4], outcomes[j : j + 5]
        t0, t1, t2, t3 = t[0], t[1], t[2], t[3]
        r0, r1, r2, r3 = r[1], r[2], r[3], r[4]
        for k in range(keys.size):
            key, o = keys[k], out[k]
            o = r0 if key >= t0 else o
            o = r1 if key >= t1 else o
            o = r2 if key >= t2 else o
            o = r3 if key >= t3 else o
            out[k] = o


@njit(error_model="numpy")
def _round(y, g, v, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with signed magnitudes of y in steps of an equally spaced grid."""
    inverse, back = np.float32(ONE / g.steps[v]), g.backs[v]
    odd, plus, minus = g.ties[0], g.ties[1], g.ties[2]
    highest, lowest = g.highest[v], g.lowest[v]
    clamp = np.float32(1 << 20)
    for k in range(y.size):
        scaled = np.float32(y[k] * back)
        size = np.float32(abs(scaled) * inverse)
        size = size if size < clamp else clamp
        whole = np.int32(size)
        rest = np.float32(size - np.float32(whole))
        negative = scaled < ZERO
        tie = ((whole & np.int32(1)) & odd) | (minus if negative else plus)
        up = np.int32(rest > HALF) | (np.int32(rest == HALF) & tie)
        whole = np.int32(whole + up)
        most = lowest if negative else highest
        whole = whole if whole < most else most
        out[k] = np.int32(-whole) if negative else whole


@njit(error_model="numpy")
def _deviations(x, values, scales, size, divisor, above, squared, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with (the squares of) the errors of values.

    There is a scale, and one number ``above`` it, for every ``size`` elements; ``scales`` include
    ``above`` where it is empty.
    """
    for s in range(x.size // size):
        scale, own = scales[s], x[s * size : (s + 1) * size]
        terms, held = out[s * size : (s + 1) * size], values[s * size : (s + 1) * size]
        if above.size:
            top = above[s]
            for k in range(size):
                value = np.float64(held[k]) * scale / divisor * top
                terms[k] = value - np.float64(own[k])
            for k in range(size):
                terms[k] = terms[k] * terms[k] if squared else abs(terms[k])
        elif squared:
            for k in range(size):
                off = np.float64(held[k]) * scale - np.float64(own[k])
                terms[k] = off * off
        else:
            for k in range(size):
                terms[k] = abs(np.float64(held[k]) * scale - np.float64(own[k]))


@njit(error_model="numpy")
def _deviations_each(x, values, scales, divisor, above, squared, out):  # type: ignore[no-untyped-def]
    """As `_deviations`, with one scale for each element."""
    if above.size:
        for k in range(x.size):
            value = np.float64(values[k]) * scales[k] / divisor * above[k]
            out[k] = value - np.float64(x[k])
        for k in range(x.size):
            out[k] = out[k] * out[k] if squared else abs(out[k])
    elif squared:
        for k in range(x.size):
            off = np.float64(values[k]) * scales[k] - np.float64(x[k])
            out[k] = off * off
    else:
        for k in range(x.size):
            out[k] = abs(np.float64(values[k]) * scales[k] - np.float64(x[k]))


@njit(error_model="numpy")
def _values(y, keys, g, v, found, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with the values that y becomes; magnitudes, if the grid is symmetric."""
    if g.equal:
        _round(y, g, v, found)
        weight = g.weights[v]
        for k in range(y.size):
            out[k] = np.float32(found[k]) * weight
    else:
        _pick(keys, g.thresholds[v], g.values[v], out.view(np.int32))


@njit(error_model="numpy")
def _of_8(bits, t0, t1, t2, t3, t4, t5, t6, r0, r1, r2, r3, r4, r5, r6, r7):  # type: ignore[no-untyped-def]
    """Return the outcome of the last threshold that the magnitude of ``bits`` has reached."""
    key, o = I32(bits & MAGNITUDE), r0
    o = r1 if key >= t0 else o
    o = r2 if key >= t1 else o
    o = r3 if key >= t2 else o
    o = r4 if key >= t3 else o
    o = r5 if key >= t4 else o
    o = r6 if key >= t5 else o
    return r7 if key >= t6 else o


@kernel(sources=(__file__,), error_model="numpy", nogil=True)
def codes_of_blocks(  # type: ignore[no-untyped-def]
    x, block, sub, factor, ratios, index, multiply, chosen, g, codes, first, stop
):  # fmt: skip
    """Fill the codes of blocks.

    Args:
        x: finite values.
        block: elements of a block.
        sub: elements that share a ratio.
        factor: float32 per block, what values are divided by or multiplied with.
        ratios: (Q,) float32 ratios on scales.
        index: uint8 per sub-block, its ratio; without levels, empty.
        multiply: whether values are multiplied.
        chosen: uint8, the grid of each block; of one grid, empty.
        g: `Grids`.
        codes: uint8 like ``x``, filled.
        first: first block.
        stop: block after the last.
    """
    each = max(CHUNK // block, 1)
    n = each * block
    all_y, all_steps = np.empty(n, dtype=np.float32), np.empty(n, dtype=np.float32)
    all_keys, all_found = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int32)
    own_steps = np.empty(n // sub, dtype=np.float32)
    several, grid_count = chosen.size > 0, g.codes.shape[0] if chosen.size else 1
    own_grids = np.empty(each if several else 0, dtype=np.int32)
    grids = np.empty(n if several else 0, dtype=np.int32)
    all_others = np.empty_like(grids)
    mask, base, down = np.int32(g.mask), np.int32(g.base), np.int32(g.down)
    for start in range(first, stop, each):
        blocks = min(each, stop - start)
        at, count = start * block, blocks * block
        y, keys, found = all_y[:count], all_keys[:count], all_found[:count]
        here, out, others = x[at : at + count], codes[at : at + count], all_others[:count]
        part_steps = factor[start : start + blocks]
        size = block
        if index.size:
            size = sub
            pick = index[at // sub : (at + count) // sub]
            part_steps = own_steps[: pick.size]
            _spread(factor[start : start + blocks], block // sub, part_steps)
            for s in range(pick.size):
                part_steps[s] = _step(part_steps[s], ratios[pick[s]], multiply)
        if size < SHORT:
            _spread(part_steps, size, all_steps)
            _scaled_each(here, all_steps, multiply, g.symmetric, y, keys)
        else:
            _scaled(here, part_steps, size, multiply, g.symmetric, y, keys)
        # One grid, or several on all elements one after another, or that of each block.
        rounds = grid_count if grid_count <= FEW else blocks
        if several and grid_count <= FEW:
            for b in range(blocks):
                own_grids[b] = np.int32(chosen[start + b])
            _spread(own_grids[:blocks], block, grids)
        for q in range(rounds):
            v, low, high = q, 0, count
            if grid_count > FEW:
                v, low, high = int(chosen[start + q]), q * block, (q + 1) * block
            target = others if several and grid_count <= FEW else found
            if g.equal:
                _round(y[low:high], g, v, target[low:high])
            else:
                _pick(keys[low:high], g.thresholds[v], g.codes[v], target[low:high])
            if several and grid_count <= FEW:
                for k in range(count):
                    found[k] = others[k] if grids[k] == v else found[k]
        bits = y.view(np.int32)
        if g.equal:
            for k in range(count):
                magnitude = np.int32(abs(found[k]))
                below = np.int32(base + np.int32(down * magnitude))
                out[k] = np.uint8((below if bits[k] < 0 else magnitude) & mask)
        else:
            for k in range(count):
                out[k] = np.uint8(found[k] >> ((bits[k] >> np.int32(31)) & np.int32(8)))


@kernel(sources=(__file__,), error_model="numpy", nogil=True)
def codes_of_few(  # type: ignore[no-untyped-def]
    x, block, factor, multiply, chosen, thresholds, outcomes, codes, first, stop
):  # fmt: skip
    """Fill the codes of blocks on symmetric grids of eight magnitudes, without levels.

    It does what `codes_of_blocks` does, in one loop over the elements of a block.

    Args:
        x: finite values.
        block: elements of a block.
        factor: float32 per block, what values are divided by or multiplied with.
        multiply: whether they are multiplied.
        chosen: uint8, the grid of each block; of one grid, empty.
        thresholds: (V, 7) int32.
        outcomes: (V, 8) int32 codes, as `Grids` has them.
        codes: uint8 like ``x``, filled.
        first: first block.
        stop: block after the last.
    """
    v = np.int64(0)
    for b in range(first, stop):
        own, out = x[b * block : (b + 1) * block], codes[b * block : (b + 1) * block]
        step = factor[b]
        if chosen.size:
            v = np.int64(chosen[b])
        t, r = thresholds[v], outcomes[v]
        t0, t1, t2, t3, t4, t5, t6 = t[0], t[1], t[2], t[3], t[4], t[5], t[6]
        r0, r1, r2, r3, r4, r5, r6, r7 = r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]
        if multiply:
            for k in range(block):
                bits = np.float32(own[k] * step).view(np.int32)
                code = _of_8(bits, t0, t1, t2, t3, t4, t5, t6, r0, r1, r2, r3, r4, r5, r6, r7)
                out[k] = np.uint8(code >> ((bits >> I32(31)) & I32(8)))
        else:
            for k in range(block):
                bits = np.float32(own[k] / step).view(np.int32)
                code = _of_8(bits, t0, t1, t2, t3, t4, t5, t6, r0, r1, r2, r3, r4, r5, r6, r7)
                out[k] = np.uint8(code >> ((bits >> I32(31)) & I32(8)))


# -- what a block decides --------------------------------------------------------------------------


@njit(error_model="numpy")
def _step(factor, ratio, multiply):  # type: ignore[no-untyped-def]
    if multiply:
        return np.float32(factor / ratio)
    step = np.float32(factor * ratio)
    # One that underflowed flushes as such scales do.
    return step if step != ZERO else BEYOND


@kernel(sources=(__file__,), error_model="numpy", nogil=True)
def best_ratios(  # type: ignore[no-untyped-def]
    x, block, sub, factor, scales, above, divisor, multiply, g, v, kind, kinds, ratios, errors,
    index, first, stop,
):  # fmt: skip
    """Fill the error of each sub-block under one candidate, with the best of several ratios.

    Args:
        x: finite values.
        block: elements of a block.
        sub: elements of a sub-block.
        factor: float32 per block, what values are divided by or multiplied with.
        scales: float64 per block, the decoded scale, times the tensor's where that is exact.
        above: float64 per block, the tensor's scale; empty where ``scales`` include it.
        divisor: what values are divided by.
        multiply: whether values are multiplied.
        g: `Grids`.
        v: the grid.
        kind: the error that is returned.
        kinds: whether ``index`` is filled, with the ratio of the least squared error, or given.
        ratios: (Q,) float32.
        errors: float64 per sub-block, filled.
        index: uint8 per sub-block, filled or given.
        first: first block.
        stop: block after the last.
    """
    each = max(CHUNK // block, 1)
    n, per_block = each * block, block // sub
    all_y, all_steps = np.empty(n, dtype=np.float32), np.empty(n, dtype=np.float32)
    all_keys, all_found = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int32)
    all_values, all_target = np.empty(n, dtype=np.float32), np.empty(n, dtype=np.float32)
    all_terms, all_weights = np.empty(n), np.empty(n)
    all_above = np.empty(n if above.size else 0)
    part_steps, part_weights = np.empty(n // sub, dtype=np.float32), np.empty(n // sub)
    part_above = np.empty(n // sub if above.size else 0)
    now, part_scale = np.empty(n // sub), np.empty(n // sub)
    part_factor = np.empty(n // sub, dtype=np.float32)
    mirrored = g.symmetric and not g.equal
    for start in range(first, stop, each):
        blocks = min(each, stop - start)
        at, count, parts = start * block, blocks * block, blocks * per_block
        s0 = start * per_block
        here, target = x[at : at + count], all_target[:count]
        y, keys, found = all_y[:count], all_keys[:count], all_found[:count]
        values, terms = all_values[:count], all_terms[:count]
        least, pick = errors[s0 : s0 + parts], index[s0 : s0 + parts]
        if mirrored:
            for k in range(count):
                target[k] = abs(here[k])
        else:
            for k in range(count):
                target[k] = here[k]
        _spread(factor[start : start + blocks], per_block, part_factor)
        _spread(scales[start : start + blocks], per_block, part_scale)
        if above.size:
            _spread(above[start : start + blocks], per_block, part_above)
            if sub < SHORT:
                _spread(part_above[:parts], sub, all_above)
        rounds = ratios.size + np.int64(kind != MSE) if kinds else np.int64(1)
        for q in range(rounds):
            last = q == rounds - 1 and (kind != MSE or not kinds)
            for s in range(parts):
                ratio = ratios[pick[s]] if last else ratios[q]
                part_steps[s] = _step(part_factor[s], ratio, multiply)
                weight = part_scale[s] * np.float64(ratio)
                part_weights[s] = abs(weight) if mirrored else weight
            squared = kind == MSE or not last
            if sub < SHORT:
                _spread(part_steps[:parts], sub, all_steps)
                _spread(part_weights[:parts], sub, all_weights)
                _scaled_each(here, all_steps, multiply, g.symmetric, y, keys)
                _values(y, keys, g, v, found, values)
                _deviations_each(target, values, all_weights, divisor, all_above, squared, terms)
            else:
                _scaled(here, part_steps, sub, multiply, g.symmetric, y, keys)
                _values(y, keys, g, v, found, values)
                _deviations(target, values, part_weights, sub, divisor, part_above, squared, terms)
            if last and kind == ABS_MAX:
                _largest(terms, sub, least)
            elif last or q == 0:
                _sums(terms, sub, least)
            else:
                _sums(terms, sub, now[:parts])
            if not last and kinds:
                for s in range(parts):
                    if q == 0:
                        pick[s] = 0
                    elif now[s] < least[s]:
                        least[s], pick[s] = now[s], q


@kernel(sources=(__file__,), error_model="numpy", nogil=True)
def errors_of_few(  # type: ignore[no-untyped-def]
    x, block, factor, scales, above, divisor, multiply, t, r, kind, errors, first, stop
):  # fmt: skip
    """Fill the error of each block under one candidate of a symmetric grid of eight magnitudes.

    It does what `best_ratios` does without ratios, in one loop over the elements of a block.

    Args:
        x: finite values.
        block: elements of a block.
        factor: float32 per block, what values are divided by or multiplied with.
        scales: float64 per block, the decoded scale, times the tensor's where that is exact.
        above: float64 per block, the tensor's scale; empty where ``scales`` include it.
        divisor: what values are divided by.
        multiply: whether values are multiplied.
        t: (7,) int32 thresholds.
        r: (8,) float32 magnitudes.
        kind: the error.
        errors: float64 per block, filled.
        first: first block.
        stop: block after the last.
    """
    each = max(CHUNK // block, 1)
    all_terms = np.empty(each * block)
    t0, t1, t2, t3, t4, t5, t6 = t[0], t[1], t[2], t[3], t[4], t[5], t[6]
    r0, r1, r2, r3, r4, r5, r6, r7 = r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]
    for start in range(first, stop, each):
        blocks = min(each, stop - start)
        terms = all_terms[: blocks * block]
        for b in range(blocks):
            own = x[(start + b) * block : (start + b + 1) * block]
            out = terms[b * block : (b + 1) * block]
            step, scale = factor[start + b], abs(scales[start + b])
            if above.size:
                top = above[start + b]
                for k in range(block):
                    y = own[k] * step if multiply else own[k] / step
                    bits = np.float32(y).view(np.int32)
                    w = _of_8(bits, t0, t1, t2, t3, t4, t5, t6, r0, r1, r2, r3, r4, r5, r6, r7)
                    out[k] = np.float64(w) * scale / divisor * top - np.float64(abs(own[k]))
            elif multiply:
                for k in range(block):
                    bits = np.float32(own[k] * step).view(np.int32)
                    w = _of_8(bits, t0, t1, t2, t3, t4, t5, t6, r0, r1, r2, r3, r4, r5, r6, r7)
                    out[k] = np.float64(w) * scale - np.float64(abs(own[k]))
            else:
                for k in range(block):
                    bits = np.float32(own[k] / step).view(np.int32)
                    w = _of_8(bits, t0, t1, t2, t3, t4, t5, t6, r0, r1, r2, r3, r4, r5, r6, r7)
                    out[k] = np.float64(w) * scale - np.float64(abs(own[k]))
        if kind == MSE:
            for k in range(terms.size):
                terms[k] = terms[k] * terms[k]
        else:
            for k in range(terms.size):
                terms[k] = abs(terms[k])
        if kind == ABS_MAX:
            _largest(terms, block, errors[start : start + blocks])
        else:
            _sums(terms, block, errors[start : start + blocks])


@kernel(sources=(__file__,), error_model="numpy", nogil=True)
def block_errors(errors, parts, kind, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with the sums, or under `ABS_MAX` the largest, of each ``parts`` errors.

    Args:
        errors: float64 per sub-block.
        parts: sub-blocks of a block.
        kind: error that candidates are chosen by.
        out: float64 per block, filled.
    """
    for b in range(out.size):
        total = errors[b * parts]
        for s in range(b * parts + 1, (b + 1) * parts):
            total = max(total, errors[s]) if kind == ABS_MAX else total + errors[s]
        out[b] = total


@kernel(sources=(__file__,), error_model="numpy", nogil=True)
def keep_better(  # type: ignore[no-untyped-def]
    errors, least, candidate, chosen, factor, best_factor, scales, best_scales, index, best_index
):  # fmt: skip
    """Keep a candidate in the blocks where its error is less than the least so far.

    Args:
        errors: float64 per block.
        least: the same, of the best so far; changed.
        candidate: its number.
        chosen: uint8 per block, the number of the best so far; changed.
        factor: float32 per block.
        best_factor: the same, of the best so far; changed.
        scales: int64 scale code per block.
        best_scales: the same, of the best so far; changed.
        index: uint8 per sub-block, its ratio; without levels, empty.
        best_index: the same, of the best so far; changed.
    """
    better = np.empty(errors.size, dtype=np.bool_)
    number = np.uint8(candidate)
    for b in range(errors.size):
        better[b] = errors[b] < least[b]
        least[b] = errors[b] if errors[b] < least[b] else least[b]
    for b in range(errors.size):
        chosen[b] = number if better[b] else chosen[b]
    for b in range(errors.size):
        best_factor[b] = factor[b] if better[b] else best_factor[b]
    for b in range(errors.size):
        best_scales[b] = scales[b] if better[b] else best_scales[b]
    parts = index.size // errors.size
    for b in range(errors.size):
        if parts and better[b]:
            for s in range(b * parts, (b + 1) * parts):
                best_index[s] = index[s]


@kernel(sources=(__file__,), error_model="numpy", nogil=True)
def fit_ratios(  # type: ignore[no-untyped-def]
    x, block, sizes, ratios, counts, limits, factor, multiply, tops, top, index, first, stop
):  # fmt: skip
    """Fill ``index`` with the ratio of each sub-block of the last level: the first that fits.

    Args:
        x: finite values.
        block: elements of a block.
        sizes: elements of a sub-block of each level.
        ratios: (L, n) float32 ratios of each level.
        counts: ratios of each level.
        limits: float32, what a scaled element is below.
        factor: float32 per block.
        multiply: whether values are multiplied by it or divided.
        tops: uint8, index of the top element of each ``top`` elements, left out; empty: none.
        top: elements per top element.
        index: uint8 per sub-block of the last level, filled.
        first: first block.
        stop: block after the last.
    """
    each = max(CHUNK // block, 1)
    n = each * block
    magnitudes = np.empty(n, dtype=np.int32)
    most = n // sizes[-1]
    largest = np.empty(most, dtype=np.int32)
    tall = largest.view(np.float32)
    factors, so_far = np.empty(most, dtype=np.float32), np.empty(most, dtype=np.float32)
    above, here = np.empty(most, dtype=np.float32), np.empty(most, dtype=np.int32)
    before, own_factor = np.empty(most, dtype=np.int32), np.empty(each, dtype=np.float32)
    scaled = np.empty(most, dtype=np.float32)
    pick, own_ratio = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.float32)
    for start in range(first, stop, each):
        blocks = min(each, stop - start)
        count, bits = blocks * block, x[start * block : (start + blocks) * block].view(np.int32)
        for k in range(count):
            magnitudes[k] = bits[k] & MAGNITUDE
        if tops.size:
            own = tops[start * block // top : (start + blocks) * block // top]
            for t in range(own.size):
                if own[t] < top:
                    magnitudes[t * top + own[t]] = 0
        size = block
        for b in range(blocks):
            so_far[b], here[b], own_factor[b] = ONE, 0, abs(factor[start + b])
        for level in range(sizes.size):
            part, choices, limit = sizes[level], I32(counts[level]), limits[level]
            n_here, parents = count // part, count // size
            _maxima(magnitudes[:count], part, largest)
            for i in range(parents):
                above[i], before[i] = so_far[i], here[i]
            _spread(own_factor[:blocks], block // part, factors)
            _spread(above[:parents], size // part, so_far)
            _spread(before[:parents], size // part, here)
            if multiply:
                for i in range(n_here):
                    scaled[i] = np.float32(tall[i] * factors[i]) / so_far[i]
            else:
                for i in range(n_here):
                    scaled[i] = np.float32(tall[i] / factors[i]) / so_far[i]
            for i in range(n_here):
                pick[i], own_ratio[i] = 0, ratios[level, 0]
            for j in range(1, choices):
                ratio, before_it = ratios[level, j], ratios[level, j - 1]
                for i in range(n_here):
                    beyond = np.float32(scaled[i] / before_it) >= limit
                    pick[i] += I32(beyond)
                    own_ratio[i] = ratio if beyond else own_ratio[i]
            for i in range(n_here):
                here[i] = I32(here[i] * choices + pick[i])
                so_far[i] = np.float32(so_far[i] * own_ratio[i])
            size = part
        own_index = index[start * block // size : (start + blocks) * block // size]
        for i in range(own_index.size):
            own_index[i] = here[i]


@kernel(sources=(__file__,), error_model="numpy", nogil=True)
def dialects(x, block, factor, pairs, chosen, first, stop):  # type: ignore[no-untyped-def]
    """Fill ``chosen`` with BlockDialect's dialect of activations; see `fpsim.blocks.chosen`.

    Args:
        x: finite values.
        block: elements of a block.
        factor: float32 per block, what values are divided by.
        pairs: (32, 3) int32 of each largest magnitude in quarters: a pair, and the quarters from
            and below which a value counts for its first dialect.
        chosen: uint8 per block, filled.
        first: first block.
        stop: block after the last.
    """
    quarters = np.empty(block, dtype=np.int32)
    limit = np.float32(31)
    for b in range(first, stop):
        here, own = x[b * block : (b + 1) * block], factor[b]
        most = np.int32(0)
        for k in range(block):
            size = np.float32(np.float32(abs(here[k] / own)) * np.float32(4))
            quarters[k] = np.int32(np.rint(size if size < limit else limit))
        for k in range(block):
            most = max(most, quarters[k])
        pair, low, high = pairs[most, 0], pairs[most, 1], pairs[most, 2]
        inside = np.int32(0)
        for k in range(block):
            inside += np.int32(quarters[k] >= low) & np.int32(quarters[k] < high)
        chosen[b] = 2 * pair + np.int64(2 * inside < block)


# -- magnitudes ------------------------------------------------------------------------------------


@kernel(sources=(__file__,), error_model="numpy", nogil=True)
def largest_magnitudes(x, block, out, first, stop):  # type: ignore[no-untyped-def]
    """Fill ``out`` with the float32 bits of the largest magnitude of each block.

    Infinities and NaN give bits from those of infinity on.

    Args:
        x: values.
        block: elements of a block.
        out: int32 per block, filled.
        first: first block.
        stop: block after the last.
    """
    every = x.view(np.int32)
    if block >= SHORT:
        for b in range(first, stop):
            bits, largest = every[b * block : (b + 1) * block], np.int32(0)
            for k in range(block):
                size = np.int32(bits[k] & MAGNITUDE)
                largest = size if size > largest else largest
            out[b] = largest
        return
    each = CHUNK // block
    sizes = np.empty(each * block, dtype=np.int32)
    for start in range(first, stop, each):
        end = min(start + each, stop)
        bits = every[start * block : end * block]
        for k in range(bits.size):
            sizes[k] = bits[k] & MAGNITUDE
        _maxima(sizes[: bits.size], block, out[start:end])


@kernel(sources=(__file__,), error_model="numpy", nogil=True)
def spans(x, block, largest, smallest, first, stop):  # type: ignore[no-untyped-def]
    """Fill the largest and smallest value of each block, 0 among them.

    Args:
        x: finite values.
        block: elements of a block.
        largest: float32 per block, filled.
        smallest: float32 per block, filled.
        first: first block.
        stop: block after the last.
    """
    every = x.view(np.int32)
    for b in range(first, stop):
        here = every[b * block : (b + 1) * block]
        low, high = np.int32(-1), np.int32(0)  # the keys of -0 and +0
        for k in range(here.size):
            key = np.int32(here[k] ^ ((here[k] >> np.int32(31)) & MAGNITUDE))
            low, high = min(low, key), max(high, key)
        largest[b] = np.int32(high).view(np.float32)
        smallest[b] = np.int32(low ^ MAGNITUDE).view(np.float32)


@njit(error_model="numpy")
def _first_largest(bits, largest):  # type: ignore[no-untyped-def]
    """Return the index of the first element whose magnitude has the bits ``largest``."""
    first = I32(bits.size)
    for k in range(bits.size):
        at = I32(k) if I32(bits[k] & MAGNITUDE) == largest else I32(bits.size)
        first = at if at < first else first
    return first


@kernel(sources=(__file__,), error_model="numpy", nogil=True)
def signs(x, block, out, first, stop):  # type: ignore[no-untyped-def]
    """Fill ``out`` with -1 where the first largest magnitude of a block is negative, else with 1.

    Args:
        x: finite values.
        block: elements of a block.
        out: float32 per block, filled.
        first: first block.
        stop: block after the last.
    """
    every = x.view(np.int32)
    for b in range(first, stop):
        bits = every[b * block : (b + 1) * block]
        low, high = np.int32(0), np.int32(0)
        for k in range(block):
            size = np.int32(bits[k] & MAGNITUDE)
            below, above = (
                size if bits[k] < 0 else np.int32(0),
                np.int32(0) if bits[k] < 0 else size,
            )
            low = below if below > low else low
            high = above if above > high else high
        negative = low > high
        if low == high:
            negative = x[b * block + _first_largest(bits, low)] < ZERO
        out[b] = np.float32(-1) if negative else ONE


# -- top elements ----------------------------------------------------------------------------------


@kernel(sources=(__file__,), error_model="numpy", nogil=True)
def top_indices(x, top, block, amax, scales, out, first, stop):  # type: ignore[no-untyped-def]
    """Fill ``out`` with the index of the first largest magnitude of each ``top`` elements.

    Args:
        x: finite values.
        top: elements per top element.
        block: elements of a block.
        amax: int32 per ``top`` elements, the bits of their largest magnitude.
        scales: int64 scale code per block; under code 0 the index is ``top``, none.
        out: uint8, filled.
        first: first of the ``top`` elements.
        stop: those after the last.
    """
    every = x.view(np.int32)
    for t in range(first, stop):
        none = scales[t * top // block] == 0
        at = _first_largest(every[t * top : (t + 1) * top], amax[t])
        out[t] = top if none else at


@kernel(sources=(__file__,), error_model="numpy", nogil=True)
def store_tops(  # type: ignore[no-untyped-def]
    x, top, block, factor, multiply, tops, base, step, sign_code, codes, first, stop
):  # fmt: skip
    """Write the codes of stored top elements.

    Args:
        x: finite values.
        top: elements per top element.
        block: elements of a block.
        factor: float32 per block.
        multiply: whether values are multiplied by it or divided.
        tops: uint8, index of each top element; ``top``: none.
        base: smallest magnitude.
        step: distance of magnitudes.
        sign_code: weight of the sign in a code.
        codes: uint8 like ``x``, changed.
        first: first of the ``top`` elements.
        stop: those after the last.
    """
    for t in range(first, stop):
        if tops[t] == top:
            continue
        k = t * top + np.int64(tops[t])
        f = factor[k // block]
        value = np.float32(x[k] * f) if multiply else np.float32(x[k] / f)
        steps = np.rint((np.float64(abs(value)) - base) / step)
        code = np.int64(min(max(steps, 0.0), float(sign_code - 1)))
        codes[k] = code + (sign_code if np.float32(value).view(np.int32) < 0 else 0)


@kernel(sources=(__file__,), error_model="numpy", nogil=True)
def refine_tops(  # type: ignore[no-untyped-def]
    x, top, block, factor, multiply, keys, finer, low, high, sign_code, codes, tops, first, stop
):  # fmt: skip
    """Fill ``tops`` with the index of the offset that refines the first largest code.

    Args:
        x: finite values.
        top: elements per top element.
        block: elements of a block.
        factor: float32 per block.
        multiply: whether values are multiplied by it or divided.
        keys: int32 thresholds of the finer format's magnitudes.
        finer: its codes per code of the element.
        low: least offset.
        high: greatest offset.
        sign_code: weight of the sign in a code.
        codes: uint8 like ``x``.
        tops: uint8, filled.
        first: first of the ``top`` elements.
        stop: those after the last.
    """
    for t in range(first, stop):
        own = codes[t * top : (t + 1) * top]
        spot, base = np.int64(0), np.int64(-1)
        for k in range(top):
            size = np.int64(own[k]) & (sign_code - 1)
            better = size > base
            spot = np.int64(k) if better else spot
            base = size if better else base
        k = t * top + spot
        f = factor[k // block]
        value = np.float32(x[k] * f) if multiply else np.float32(x[k] / f)
        key = np.int32(np.float32(value).view(np.int32) & MAGNITUDE)
        offset = np.int64(0)
        for o in range(low + 1, high + 1):
            # The nearest finer code is at least that of the offset.
            at = finer * base + o - 1
            inside = at < keys.size
            offset += np.int64(at < 0 or (inside and key >= keys[at if inside else 0]))
        tops[t] = offset


# -- integers and real scales ----------------------------------------------------------------------


@kernel(sources=(__file__,), error_model="numpy", nogil=True)
def shift_integers(  # type: ignore[no-untyped-def]
    x, block, steps, zeros, even, low, high, mask, codes, first, stop
):  # fmt: skip
    """Fill codes of integers with zero points, fl(fl(x / step) + zero) rounded.

    Args:
        x: finite values.
        block: elements of a block.
        steps: float32 per block.
        zeros: float32 per block, whole numbers.
        even: whether ties go to even integers, else away from zero.
        low: least integer.
        high: greatest integer.
        mask: of a code.
        codes: uint8 like ``x``, filled.
        first: first block.
        stop: block after the last.
    """
    least, most, bits = np.float32(low), np.float32(high), I32(mask)
    for b in range(first, stop):
        own, out = x[b * block : (b + 1) * block], codes[b * block : (b + 1) * block]
        step, zero = steps[b], zeros[b]
        if even:
            for k in range(block):
                y = np.rint(np.float32(np.float32(own[k] / step) + zero))
                y = y if y > least else least
                out[k] = np.uint8(I32(y if y < most else most) & bits)
        else:
            for k in range(block):
                y = np.float32(np.float32(own[k] / step) + zero)
                y = y if y > least else least
                y = y if y < most else most
                whole = I32(y)
                rest = np.float32(y - np.float32(whole))
                out[k] = np.uint8(I32(whole + I32(rest >= HALF) - I32(rest <= -HALF)) & bits)


@kernel(sources=(__file__,), error_model="numpy", nogil=True)
def razor(  # type: ignore[no-untyped-def]
    x, block, scale, top, width, mode, dropped, codes, first, stop
):  # fmt: skip
    """Fill QRazor's codes: the top bits of integers below the leading one of their OR.

    Args:
        x: finite values.
        block: elements of a block.
        scale: what values are divided by, in float64, before they are rounded to even.
        top: greatest of these integers.
        width: bits of a code, one of them the sign.
        mode: `fpsim.kernels.codec.rounding.mode_constants` of the bits that are dropped.
        dropped: int64 per block, filled with how many bits are dropped.
        codes: unsigned integers like ``x``, filled.
        first: first block.
        stop: block after the last.
    """
    nearest, even, plus, minus, odd = (
        I32(mode[0]),
        I32(mode[1]),
        I32(mode[2]),
        I32(mode[3]),
        I32(mode[4]),
    )
    base = np.empty(block, dtype=np.int32)
    limit, most, mask = np.float64(top), I32((1 << (width - 1)) - 1), I32((1 << width) - 1)
    for b in range(first, stop):
        own, out = x[b * block : (b + 1) * block], codes[b * block : (b + 1) * block]
        union = I32(0)
        for k in range(block):
            y = np.rint(np.float64(own[k]) / scale)
            y = y if y < limit else limit
            base[k] = I32(y if y > -limit else -limit)
        for k in range(block):
            union |= I32(abs(base[k]))
        shift = I32(0)
        while union >> shift > most:
            shift += I32(1)
        dropped[b] = shift
        below = I32((I32(1) << shift) - I32(1))
        half = I32((I32(1) << shift) >> I32(1))
        exact = I32(shift == 0)
        for k in range(block):
            size = I32(abs(base[k]))
            parity = I32((size >> shift) & I32(1))
            away = minus if base[k] < 0 else plus
            add = I32(
                nearest * I32(half - even * I32(I32(1) - parity) * I32(I32(1) - exact))
                + away * below
            )
            kept = I32(I32(size + add) >> shift) | (odd & I32((size & below) != 0))
            kept = kept if kept < most else most
            out[k] = I32(-kept if base[k] < 0 else kept) & mask


@kernel(sources=(__file__,), error_model="numpy", nogil=True)
def real_blocks(x, block, limit, amax, t, r, codes, first, stop):  # type: ignore[no-untyped-def]
    """Fill codes of x L / amax, worked out in float64, on a symmetric grid of eight magnitudes.

    Args:
        x: finite values.
        block: elements of a block.
        limit: L.
        amax: float64 per block, above 0.
        t: (7,) float64 thresholds of magnitudes.
        r: (8,) int32 codes, as `Grids` has them.
        codes: uint8 like ``x``, filled.
        first: first block.
        stop: block after the last.
    """
    every = x.view(np.int32)
    t0, t1, t2, t3, t4, t5, t6 = t[0], t[1], t[2], t[3], t[4], t[5], t[6]
    r0, r1, r2, r3, r4, r5, r6, r7 = r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]
    for b in range(first, stop):
        own, out = x[b * block : (b + 1) * block], codes[b * block : (b + 1) * block]
        bits, largest = every[b * block : (b + 1) * block], amax[b]
        for k in range(block):
            size, o = abs(np.float64(own[k]) * limit / largest), r0
            o = r1 if size >= t0 else o
            o = r2 if size >= t1 else o
            o = r3 if size >= t2 else o
            o = r4 if size >= t3 else o
            o = r5 if size >= t4 else o
            o = r6 if size >= t5 else o
            o = r7 if size >= t6 else o
            out[k] = np.uint8(o >> ((bits[k] >> I32(31)) & I32(8)))


@kernel(sources=(__file__,), error_model="numpy", nogil=True)
def divide_blocks(x, block, divisors, out, first, stop):  # type: ignore[no-untyped-def]
    """Fill ``out`` with float32 quotients of values and the divisor of their block.

    Args:
        x: values.
        block: elements of a block.
        divisors: float32 per block.
        out: float32 like ``x``, filled.
        first: first block.
        stop: block after the last.
    """
    for b in range(first, stop):
        own, into, divisor = (
            x[b * block : (b + 1) * block],
            out[b * block : (b + 1) * block],
            divisors[b],
        )
        for k in range(block):
            into[k] = own[k] / divisor
