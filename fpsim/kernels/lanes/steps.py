# SPDX-License-Identifier: Apache-2.0
"""Accumulator steps in vector lanes: ``acc = R(acc + a * b)`` with exactly one rounding.

The accumulator lives in a lane as the value of its code. Each step states why it is exact.
Products of codes are exact in the lane (or inside its fused multiply-add).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Protocol

from fpsim.kernels.codec.rounding import mode_constants
from fpsim.kernels.lanes.exact_add import LANE_REALS, Sum, odd_sum, round_sum
from fpsim.kernels.lanes.random import RANDOM_INTEGERS, SEEDED_INTEGERS
from fpsim.kernels.lanes.rounding import LANE_INTEGERS, Parameters
from fpsim.kernels.lanes.steps_fixed import (
    CLAMPED_REALS,
    FIXED_REALS,
    INTEGER_RANGE,
    RANDOM_REALS,
    clamped_sum,
    fixed_random_step,
    fixed_step,
    integer_random_step,
    integer_sum_step,
)
from fpsim.kernels.lanes.steps_native import (
    MAGIC_REALS,
    SHIFTED_REALS,
    converted_half,
    converted_half_saturating,
    directed,
    magic,
    masked,
    masked_random,
    native,
    native_flushing,
    native_saturating,
    shifted,
)
from fpsim.kernels.lanes.vector import DOUBLE, FLOAT, HALF, Vec

__all__ = [
    "SLICE_REALS",
    "STEPS",
    "GroupStep",
    "Step",
    "TermSource",
    "step_named",
]

#: Float parameters of a slice: 2^-s, and 2^w with its inverse.
SLICE_REALS = ("per_last", "slice", "per_slice")


@dataclass(frozen=True)
class Step:
    """One way to compute a step: the lane type, the parameters it reads, the code it builds."""

    name: str
    real: Any
    build: Callable[[Vec, Vec, Vec, Parameters, Vec | None], Vec]
    reals: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    random: bool = False
    seeded: bool = False  #: the random integers are made of streams instead of loaded
    bytes: bool = False  #: they have eight bits, and a dot instruction adds them
    #: What rounds a product alone, where that takes less than adding it to zero.
    product: Callable[[Vec, Vec, Parameters], Vec] | None = None
    #: How the lane holds a fixed-point accumulator: its ``integers`` as numbers or as ``bits``, or
    #: ``values``; nothing where it holds plain sums.
    grid: str = ""

    @property
    def terms(self) -> int:
        """Terms per step."""
        return 1


class TermSource(Protocol):
    """Hands out the terms of one step; each call emits the code that loads or computes them.

    A number ``i`` is a Python integer, or what `fold` passes on.
    """

    def pair(self, i: Any) -> tuple[Vec, Vec]:
        """Return two vectors whose product is term ``i``."""
        ...

    def power(self, i: Any) -> Vec:
        """Return 2^e of term ``i``; 0 if it does not count."""
        ...

    def fold(
        self, terms: range, start: tuple[Vec, ...], add: Callable[..., tuple[Vec, ...]]
    ) -> tuple[Vec, ...]:
        """Return what ``add(i, *values)`` makes of the values at the start, term after term.

        Many terms become a loop in the code.
        """
        ...


@dataclass(frozen=True)
class GroupStep:
    """A step over several terms at once; see `windows_float` and `steps_tree`."""

    name: str  #: says everything that the code depends on
    real: Any
    terms: int
    build: Callable[[Vec, TermSource, Parameters], Vec]
    reals: tuple[str, ...]
    integers: tuple[str, ...]
    powers: bool = False  #: whether it asks for powers
    cells: tuple[int, int] = (2, 2)  #: rows and vectors that keep the processor busy

    @property
    def random(self) -> bool:
        """Whether it takes random bits: no group step does."""
        return False

    @property
    def seeded(self) -> bool:
        """Whether it makes random bits."""
        return False


# -- any float format, any rounding --------------------------------------------------------------


def _lane_step(rounding: str, sticky: bool) -> Callable[..., Vec]:
    """Build the general step: one native add, then `fpsim.kernels.lanes.rounding.round_magnitude`.

    With ``sticky`` the add itself rounds to odd, which with two spare bits makes the second
    rounding exact (Boldo and Melquiond, IEEE Trans. Comp. 57(4), 2008). Without it the caller must
    know that the sum is exact, or that the mode is to nearest and the error cannot matter
    (`fpsim.compute.plan.choose` states the bound).
    """
    away_negative = mode_constants(rounding)[3]

    def step(acc: Vec, a: Vec, b: Vec, p: Parameters, random: Vec | None) -> Vec:
        if sticky:
            term = a * b
            total = _exactly(odd_sum(acc, term, acc.lanes.directed))
        else:
            term = a * b if away_negative else a
            total = Sum(a.intrinsic("fma", b, acc), None)
        cancelled = None
        if away_negative:  # toward -infinity, x + (-x) is -0
            cancelled = acc.as_bits ^ term.as_bits
        return round_sum(total, rounding, p, random, opposite=cancelled)

    return step


def _lane_product(rounding: str) -> Callable[..., Vec]:
    """Build ``R(a * b)`` for the same."""

    def step(a: Vec, b: Vec, p: Parameters) -> Vec:
        return round_sum(_exactly(a * b), rounding, p)

    return step


def _exactly(value: Vec) -> Sum:
    """Return a sum that missed nothing, all of whose bits count."""
    return Sum(value, value.lanes.constant(0.0, False))


def _slice(acc: Vec, a: Vec, b: Vec, p: Parameters, _: Vec | None) -> Vec:
    """Add a slice of the exact product, as an integer: the part between 2^s and 2^(s + w).

    With R_s(x) the multiple of 2^s next to x, slices R_s - R_(s+w) of all levels add up to x.
    """
    units = a * b * p.reals["per_last"]
    above = (units * p.reals["per_slice"]).intrinsic("roundeven")
    own = units.intrinsic("roundeven") - above * p.reals["slice"]
    return acc + own


# -- all of them ---------------------------------------------------------------------------------


def _all_steps() -> dict[str, Step]:
    clamp = ("largest", "over_negative")
    steps = [
        Step("half", HALF, native),
        Step("half-saturate", HALF, native_saturating, clamp),
        Step("float", FLOAT, native),
        Step("double", DOUBLE, native),
        Step("float-saturate", FLOAT, native_saturating, clamp),
        Step("float-flush", FLOAT, native_flushing, ("smallest_normal",)),
        Step("slice", DOUBLE, _slice, SLICE_REALS),
        Step("clamped32", FLOAT, clamped_sum, CLAMPED_REALS, grid="values"),
        Step("masked32", FLOAT, masked(False), (), ("shift",)),
        Step("masked32-saturate", FLOAT, masked(True), clamp, ("shift",)),
        Step("masked32-odd", FLOAT, masked(False, odd=True), (), ("shift",)),
        Step("masked32-odd-saturate", FLOAT, masked(True, odd=True), clamp, ("shift",)),
        Step("magic32-rne", FLOAT, magic("rne"), MAGIC_REALS),
        Step("magic32-rne-odd", FLOAT, magic("rne", odd=True), MAGIC_REALS),
        Step("magic32-rtz", FLOAT, magic("rtz"), MAGIC_REALS),
        Step("via-half", FLOAT, converted_half),
        Step("via-half-saturate", FLOAT, converted_half_saturating, clamp),
    ]
    for mode in ("rtz", "rup", "rdn"):
        steps.append(Step(f"float-{mode}", FLOAT, directed(mode)))
        steps.append(Step(f"half-{mode}", HALF, directed(mode)))
    for mode in ("rne", "rtz", "rup", "rdn"):
        for saturate, flush in product((False, True), repeat=2):
            suffix = f"{mode}{'-flush' * flush}{'-saturate' * saturate}"
            build = shifted(mode, saturate, flush)
            steps.append(Step(f"shifted32-{suffix}", FLOAT, build, SHIFTED_REALS))
            if mode == "rne":
                steps.append(Step(f"shifted16-{suffix}", HALF, build, SHIFTED_REALS))
                build = shifted(mode, saturate, flush, odd=True)
                suffix = suffix.replace("rne", "rne-odd")
                steps.append(Step(f"shifted32-{suffix}", FLOAT, build, SHIFTED_REALS))
    for rounding in ("rne", "rna", "rtz", "rup", "rdn", "rto", "sr"):
        for real, width in ((FLOAT, 32), (DOUBLE, 64)):
            for sticky in (False, True):
                name = f"lane{width}-{rounding}{'-sticky' if sticky else ''}"
                build = _lane_step(rounding, sticky)
                random = rounding == "sr"
                integers = (*LANE_INTEGERS, *RANDOM_INTEGERS * random)
                single = _lane_product(rounding) if sticky and not random else None
                steps.append(Step(name, real, build, LANE_REALS, integers, random, product=single))
        if rounding != "sr":
            for overflow in ("wrap", "saturate"):
                saturate = overflow == "saturate"
                name = f"fixed64-{rounding}-{overflow}"
                build = fixed_step(rounding, saturate)
                steps.append(Step(name, DOUBLE, build, FIXED_REALS, grid="integers"))
                limits = INTEGER_RANGE if saturate else ()
                for wide in (False, True)[: 1 + saturate]:
                    build = integer_sum_step(rounding, saturate, wide)
                    name = f"integer64-{rounding}-{overflow}{'-wide' * wide}"
                    steps.append(Step(name, DOUBLE, build, FIXED_REALS[:1], limits, grid="bits"))
    steps += _random_steps()
    steps += _seeded([step for step in steps if step.random])
    return {step.name: step for step in steps}


def _random_steps() -> list[Step]:
    """Return the steps that take random integers, loaded and made of streams."""
    steps = []
    masked_integers = ("shift", *RANDOM_INTEGERS)
    for normal, flush, over in product((False, True), (False, True), ("saturate", "policy", None)):
        if (normal and flush) or (over is None and not normal):
            continue
        end = {"saturate": "-saturate", "policy": "", None: "-inside"}[over]
        build = masked_random(normal, flush, over)
        for real, width in ((FLOAT, 32), (DOUBLE, 64)):
            name = f"masked{width}-sr{'-normal' * normal}{'-flush' * flush}{end}"
            steps.append(Step(name, real, build, LANE_REALS, masked_integers, random=True))
    for overflow in ("wrap", "saturate"):
        saturate = overflow == "saturate"
        build = fixed_random_step(saturate)
        reals: tuple[str, ...] = (*FIXED_REALS, *RANDOM_REALS)
        name, grid = f"fixed64-sr-{overflow}", "integers"
        steps.append(Step(name, DOUBLE, build, reals, RANDOM_INTEGERS, random=True, grid=grid))
        reals = (*FIXED_REALS[:1], *RANDOM_REALS)
        integers = (*RANDOM_INTEGERS, *INTEGER_RANGE * saturate)
        for wide in (False, True)[: 1 + saturate]:
            build = integer_random_step(saturate, wide)
            name, grid = f"integer64-sr-{overflow}{'-wide' * wide}", "bits"
            steps.append(Step(name, DOUBLE, build, reals, integers, random=True, grid=grid))
    return steps


def _seeded(steps: list[Step]) -> list[Step]:
    """Return the steps that make their random integers of streams."""
    found = []
    for step in steps:
        integers = tuple(dict.fromkeys((*step.integers, *SEEDED_INTEGERS)))
        seeded = replace(step, name=f"{step.name}-seeded", integers=integers, seeded=True)
        found.append(seeded)
        if step.name.startswith("masked32-sr"):
            found.append(replace(seeded, name=f"{seeded.name}-bytes", bytes=True))
    return found


#: Every step by name; `fpsim.compute.plan.choose` picks one.
STEPS: dict[str, Step] = _all_steps()


def step_named(name: str) -> Step:
    """Return the step called ``name``."""
    return STEPS[name]
