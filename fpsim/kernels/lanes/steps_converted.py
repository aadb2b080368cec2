# SPDX-License-Identifier: Apache-2.0
"""Steps whose terms are rounded to a format of their own first, in the same lanes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from fpsim.kernels.lanes.exact_add import LANE_REALS, Sum, round_sum
from fpsim.kernels.lanes.rounding import LANE_INTEGERS, Parameters
from fpsim.kernels.lanes.steps import GroupStep, Step, TermSource
from fpsim.kernels.lanes.vector import Vec

__all__ = ["CONVERSION", "converted_step"]

#: What the parameters of the terms' format begin with.
CONVERSION = "convert_"
_REALS = tuple(CONVERSION + name for name in LANE_REALS)
_INTEGERS = tuple(CONVERSION + name for name in LANE_INTEGERS)


@cache
def converted_step(step: Step | GroupStep, rounding: str) -> Step | GroupStep:
    """Return a step that takes terms rounded once; the lane must hold them exactly before."""
    name = f"converted-{rounding}-{step.name}"
    reals, integers = (*step.reals, *_REALS), (*step.integers, *_INTEGERS)

    def build(acc: Vec, a: Vec, b: Vec, p: Parameters, random: Any) -> Vec:
        assert isinstance(step, Step)
        one = a.lanes.constant(1.0, False)
        return step.build(acc, _converted(a, b, rounding, p), one, p, random)

    def build_group(acc: Vec, source: TermSource, p: Parameters) -> Vec:
        assert isinstance(step, GroupStep)
        return step.build(acc, _Converted(source, rounding, p), p)

    if isinstance(step, GroupStep):
        return replace(step, name=name, build=build_group, reals=reals, integers=integers)
    return replace(step, name=name, build=build, reals=reals, integers=integers, product=None)


@dataclass(frozen=True)
class _Converted:
    """Terms of a source, converted; see `fpsim.kernels.lanes.steps.TermSource`."""

    source: TermSource
    rounding: str
    parameters: Parameters

    def pair(self, i: Any) -> tuple[Vec, Vec]:
        """Return a converted term and one."""
        value = _converted(*self.source.pair(i), self.rounding, self.parameters)
        return value, value.lanes.constant(1.0, False)

    def power(self, i: Any) -> Vec:
        """Return 2^e of the term as it was."""
        return self.source.power(i)

    def fold(
        self, terms: range, start: tuple[Vec, ...], add: Callable[..., tuple[Vec, ...]]
    ) -> tuple[Vec, ...]:
        """Fold as the source does."""
        return self.source.fold(terms, start, add)


def _converted(x: Vec, y: Vec, rounding: str, p: Parameters) -> Vec:
    """Return an exact product of a lane, rounded."""
    own = Parameters(
        {name: p.reals[CONVERSION + name] for name in LANE_REALS},
        {name: p.integers[CONVERSION + name] for name in LANE_INTEGERS},
    )
    zero = x.lanes.constant(0.0, False)
    return round_sum(Sum(x * y, zero), rounding, own)
