# SPDX-License-Identifier: Apache-2.0
"""Steps that a lane's own rounding computes: its format's, or another's by a shift or a mask."""

from __future__ import annotations

from collections.abc import Callable

from fpsim.kernels.lanes.exact_add import LANE_REALS
from fpsim.kernels.lanes.rounding import Parameters
from fpsim.kernels.lanes.vector import HALF, Vec, WordBytes

__all__ = [
    "MAGIC_REALS",
    "SHIFTED_REALS",
    "converted_half",
    "converted_half_saturating",
    "directed",
    "magic",
    "masked",
    "masked_random",
    "native",
    "native_flushing",
    "native_saturating",
    "shifted",
]

#: Parameters of a shifted step: beyond those of a lane step, 2^emax and +-M / 2^e.
SHIFTED_REALS = (*LANE_REALS, "top_power", "magic", "minus_magic")


def native(acc: Vec, a: Vec, b: Vec, _: Parameters, __: Vec | None) -> Vec:
    """IEEE fused multiply-add of the lane's own format (nearest even, overflow to infinity)."""
    return a.intrinsic("fma", b, acc)


def _clamped(result: Vec, p: Parameters) -> Vec:
    largest = p.reals["largest"]
    result = (result > largest).where(largest, result)
    lowest = p.reals["over_negative"]
    return (lowest > result).where(lowest, result)


def native_saturating(acc: Vec, a: Vec, b: Vec, p: Parameters, r: Vec | None) -> Vec:
    """The same, with results beyond the largest finite value replaced by it."""
    return _clamped(native(acc, a, b, p, r), p)


def native_flushing(acc: Vec, a: Vec, b: Vec, p: Parameters, r: Vec | None) -> Vec:
    """The same, with results below the smallest normal value replaced by a zero of their sign."""
    s = native(acc, a, b, p, r)
    sign = (s.as_bits & (1 << (s.lanes.bits - 1))).as_real
    return (p.reals["smallest_normal"] > s.magnitude_bits.as_real).where(sign, s)


def converted_half(acc: Vec, a: Vec, b: Vec, _: Parameters, __: Vec | None) -> Vec:
    """float32 add, then hardware float16 rounding: 24 >= 2 * 11 + 2 makes it innocuous."""
    return a.intrinsic("fma", b, acc).through(HALF)


def converted_half_saturating(acc: Vec, a: Vec, b: Vec, p: Parameters, r: Vec | None) -> Vec:
    """The same, with results beyond the largest finite value replaced by it."""
    return _clamped(converted_half(acc, a, b, p, r), p)


# -- by the lane's own rounding ------------------------------------------------------------------


def directed(mode: str) -> Callable[..., Vec]:
    """Build a fused multiply-add of the lane's own format in a directed mode."""

    def step(acc: Vec, a: Vec, b: Vec, _: Parameters, __: Vec | None) -> Vec:
        return a.fma_toward(b, acc, mode)

    return step


def _odd(acc: Vec, a: Vec, b: Vec) -> Vec:
    """Return a fused multiply-add rounded to odd: of its two neighbours the odd one."""
    down, up = a.fma_toward(b, acc, "rdn"), a.fma_toward(b, acc, "rup")
    return (down.as_bits & 1).differs(0).where(down, up)


def shifted(mode: str, saturate: bool, flush: bool, odd: bool = False) -> Callable[..., Vec]:
    """Build a step that lets the lane round: adding M puts the format's last place in the lane's.

    With 2^e the power of two at or below |s| (at least 2^emin), the lane's last place next to
    M = 1.5 * 2^e * 2^(lane mantissa - m) is 2^(e - m), so (s + M) - M is s rounded to m mantissa
    bits, subnormals included; ties go to even because M / 2^(e - m) is even. A directed mode rounds
    both the multiply-add and the add in its direction, which is rounding once. With ``odd`` the
    first sum is rounded to odd, which with two spare bits makes rounding it to nearest exact.
    """
    directed = mode != "rne"

    def step(acc: Vec, a: Vec, b: Vec, p: Parameters, _: Vec | None) -> Vec:
        magic = p.reals["magic"]
        if odd:
            s = _odd(acc, a, b)
        else:
            s = a.fma_toward(b, acc, mode) if directed else a.intrinsic("fma", b, acc)
        sign = s.as_bits & (1 << (s.lanes.bits - 1))
        power = s.power
        power = (power > p.reals["smallest_normal"]).where(power, p.reals["smallest_normal"])
        power = (power > p.reals["top_power"]).where(p.reals["top_power"], power)
        x = s.magnitude_bits.as_real if mode == "rtz" else s
        moved = power.fma_toward(magic, x, mode) if directed else power.intrinsic("fma", magic, x)
        result = power.intrinsic("fma", p.reals["minus_magic"], moved)  # exact
        if flush:
            zero = s.lanes.constant(0.0, False)
            below = p.reals["flush_below"] > result.magnitude_bits.as_real
            result = below.where(zero, result)
        result = (result.as_bits | sign).as_real  # a result that became zero keeps the sign of s
        if saturate:
            return _clamped(result, p)
        is_negative = sign.differs(0)
        over = is_negative.where(p.reals["over_negative"], p.reals["over_positive"])
        result = (result.magnitude_bits.as_real > p.reals["largest"]).where(over, result)
        if directed:
            infinity = is_negative.where(p.reals["inf_negative"], p.reals["inf_positive"])
            infinite = s.magnitude_bits.as_real.equals(float("inf"))
            result = infinite.where(infinity, result)
        return result

    return step


def masked(saturate: bool, odd: bool = False) -> Callable[..., Vec]:
    """Build a step for a format with the lane's exponent field: round to even in the bits.

    ``odd`` as in `shifted`.
    """

    def step(acc: Vec, a: Vec, b: Vec, p: Parameters, _: Vec | None) -> Vec:
        s = _odd(acc, a, b) if odd else a.intrinsic("fma", b, acc)
        shift = p.integers["shift"]
        below = (s.lanes.constant(1, True) << shift) - 1
        add = (below >> 1) + ((s.as_bits >> shift) & 1)
        result = ((s.as_bits + add) & ~below).as_real
        if saturate:
            result = _clamped(result, p)
        return s.equals(s).where(result, s)

    return step


#: Parameters of a magic step.
MAGIC_REALS = ("magic", "minus_magic")


def magic(mode: str, odd: bool = False) -> Callable[..., Vec]:
    """Build the step of `shifted` for a format with the lane's exponent field and nothing special.

    With ``odd`` the first sum is rounded to odd: of its two neighbours the odd one.

    No sum may be -0, subnormal in the lane, or so large that M * 2^e is infinite. The power of two
    has the sign of the sum, so that what rounds toward zero does.
    """

    def step(acc: Vec, a: Vec, b: Vec, p: Parameters, _: Vec | None) -> Vec:
        directed = mode != "rne"
        if odd:
            s = _odd(acc, a, b)
        else:
            s = a.fma_toward(b, acc, mode) if directed else a.intrinsic("fma", b, acc)
        signed = s.lanes.exponent_mask | (1 << (s.lanes.bits - 1))
        power = (s.as_bits & signed).as_real
        m = p.reals["magic"]
        moved = power.fma_toward(m, s, mode) if directed else power.intrinsic("fma", m, s)
        return power.intrinsic("fma", p.reals["minus_magic"], moved)  # exact

    return step


def masked_random(normal: bool, flush: bool, over: str | None) -> Callable[..., Vec]:
    """Build a step of stochastic rounding: random bits below the last place, then a mask.

    The sum is truncated to the lane's bits first, which drops nothing above the random bits' last
    place; truncating once more, at the format's last place, is truncating once. With ``normal``
    sums below 2^emin have no bit below the format's last place there, and are kept as they are.
    ``over`` is ``saturate``, ``policy`` (what the parameters say), or None if no sum is too large.
    """

    def step(acc: Vec, a: Vec, b: Vec, p: Parameters, random: Vec | WordBytes | None) -> Vec:
        assert random is not None
        s = a.fma_toward(b, acc, "rtz")
        result = _masked_sum(s, random, p) if normal else _masked_magnitude(s, random, p, flush)
        if over == "saturate":
            return _clamped(result, p)
        if over is None:
            return result
        sign = s.as_bits & (1 << (s.lanes.bits - 1))
        beyond = (p.reals["over_positive"].as_bits | sign).as_real
        return (result.magnitude_bits.as_real > p.reals["largest"]).where(beyond, result)

    return step


def _masked_sum(x: Vec, random: Vec | WordBytes, p: Parameters) -> Vec:
    """Return lanes with random integers added to their bits, and only the format's bits kept."""
    bits = x.as_bits
    total = random.added_to(bits) if isinstance(random, WordBytes) else bits + random
    return (total & ~((x.lanes.constant(1, True) << p.integers["shift"]) - 1)).as_real


def _masked_magnitude(s: Vec, random: Vec | WordBytes, p: Parameters, flush: bool) -> Vec:
    """Return |s| on the grid of normal numbers, or of 2^emin + |s| below 2^emin, with its sign."""
    sign = s.as_bits & (1 << (s.lanes.bits - 1))
    magnitude = s.magnitude_bits.as_real
    zero, one = (s.lanes.constant(value, False) for value in (0.0, 1.0))
    base = (p.reals["smallest_normal"] > magnitude).where(p.reals["smallest_normal"], zero)
    moved = magnitude.fma_toward(one, base, "rtz")
    result = _masked_sum(moved, random, p) - base  # exact
    if flush:
        result = (p.reals["flush_below"] > result).where(zero, result)
    return (result.as_bits | sign).as_real
