# SPDX-License-Identifier: Apache-2.0
"""A step: how a vector lane adds the next terms to its accumulator, and when that is exact.

Each step is a frozen value. Its class holds three things side by side: the code (`Step.build`,
which writes LLVM instructions), the run-time numbers that the code reads (`Step.parameters`), and
the lemma (`Step.exact_for`) that says for which operands, and on which processor, the code has the
bits of the stage. A planner asks candidates for their lemma, fastest first.

Notation of the lemmas: P = mantissa bits + 1 of the accumulator, q = significant bits of a term,
L = mantissa bits + 1 of the lane (11, 24 or 53).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np

from fpsim.compute.bounds import Bounds
from fpsim.formats.floating import FloatFormat, NanCodes, Subnormals
from fpsim.formats.random_bits import integers_per_word
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.rounding import Parameters
from fpsim.kernels.llvm.tiles import Folding, TermSource
from fpsim.kernels.llvm.vector import Lane, Vec
from fpsim.units.stages import Aligned

__all__ = [
    "DIRECTED",
    "NEAREST",
    "Step",
    "first_exact",
    "float_parameters",
    "is_ieee",
    "random_parameters",
]

NEAREST = (Rounding.RNE, Rounding.RNA)
DIRECTED = (Rounding.RTZ, Rounding.RUP, Rounding.RDN)
Numbers = tuple[dict[str, float], dict[str, int]]


@dataclass(frozen=True)
class Step:
    """One way to compute a stage in a lane.

    Two steps of equal `key` share their code whatever their formats are: formats are parameters, so
    that a kernel is compiled once for all of them.
    """

    stage: Any  #: the stage computed; first and last accumulators are its codes
    lane: Lane

    #: First word of the printed name.
    kind: ClassVar[str] = ""
    #: Rows and vectors of accumulators in a register tile, enough to keep the processor busy.
    cells: ClassVar[tuple[int, int]] = (2, 2)

    @property
    def terms(self) -> int:
        """Terms that a step adds."""
        return 1

    @property
    def powers(self) -> bool:
        """Whether the step reads the power of two 2^e of each term, as alignment does."""
        return False

    @property
    def random(self) -> bool:
        """Whether each step takes a random integer, for stochastic rounding."""
        return False

    @property
    def direction(self) -> str:
        """Rounding mode set in the processor while a tile runs; "" for nearest even."""
        return ""

    @property
    def random_place(self) -> int:
        """Place of random integers in a lane: below the format's last place."""
        below = self.lane.parameters.mantissa_bits - self.stage.format.mantissa_bits
        return int(below - self.stage.random_bits)

    @property
    def levels(self) -> tuple[Step, ...]:
        """The steps inside, from the loop over K outwards: only itself, or inner and outer step."""
        return (self,)

    @property
    def chunk(self) -> int:
        """Terms of a chunk, 0 without chunks."""
        return 0

    @property
    def flags(self) -> tuple[Any, ...]:
        """Settings besides class and lane on which the code depends."""
        return ()

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """Everything that the code depends on."""
        numbers = tuple(len(names) for names in self.numbers)
        return (type(self).__name__, self.kind, self.lane, self.terms, *self.flags, numbers)

    @property
    def name(self) -> str:
        """The name that plans print."""
        bits = "" if self.kind.startswith("via") else self.lane.bits
        head = f"{self.kind}{bits}" if self.kind else str(self.lane)
        shown = [str(flag) for flag in self.flags if flag not in ("", None, False)]
        return "-".join([head, *([str(self.terms)] if self.terms > 1 else []), *shown])

    def exact_for(self, bounds: Bounds, machine: Machine) -> str | None:
        """Return why the code has the stage's bits for operands in the bounds, or None."""
        raise NotImplementedError

    def parameters(self) -> Numbers:
        """Return the numbers that the code reads: floats of the lane, and integers as wide."""
        return float_parameters(self.stage, self.lane)

    @cached_property
    def numbers(self) -> Numbers:
        """The `parameters`, computed once."""
        return self.parameters()

    def build(self, acc: Vec, source: TermSource, p: Parameters, random: Any) -> Vec | Folding:
        """Write the code of one step.

        Args:
            acc: accumulators, one in each lane.
            source: hands out the terms of the step.
            p: the run-time numbers of `parameters`, each in every lane.
            random: a random integer in each lane, for steps that take them; else None.

        Returns:
            The accumulators after the step, or a generator that asks for folds before it returns
            them.

        Raises:
            NotImplementedError: from `Step` itself, which is abstract.
        """
        raise NotImplementedError

    # -- for the results of chunks -------------------------------------------------------------

    def finishes_for(self, bounds: Bounds) -> bool:
        """Return whether `finish` gives values of the stage's result, for terms in the bounds."""
        return True

    @property
    def finish_key(self) -> tuple[Any, ...]:
        """Settings besides `key` on which the code of `finish` depends."""
        return ()

    def finish(self, acc: Vec, p: Parameters) -> Vec:
        """Write the value of the stage's result for the last accumulator; default: no change."""
        return acc


def first_exact(
    candidates: Iterable[Step], bounds: Bounds, machine: Machine
) -> tuple[Step, str] | None:
    """Return the first step whose lemma holds and its reason, or None.

    Args:
        candidates: steps, fastest first.
        bounds: bounds of the terms to add.
        machine: the processor.

    Returns:
        The step and its reason, or None if no lemma holds.
    """
    for step in candidates:
        why = step.exact_for(bounds, machine)
        if why is not None:
            return step, why
    return None


@lru_cache(maxsize=256)
def is_ieee(fmt: FloatFormat, exponent_bits: int, mantissa_bits: int, bias: int) -> bool:
    """Return whether a format is the IEEE 754 format with the given fields.

    Args:
        fmt: any floating-point format.
        exponent_bits, mantissa_bits: widths of the fields; without mantissa bits there is no NaN,
            so no such format.
        bias: bias of the exponent.

    Returns:
        True for IEEE specials, gradual subnormals and equal fields; names do not count.
    """
    if not mantissa_bits:
        return False  # no code would be left for NaN
    return fmt == FloatFormat(exponent_bits, mantissa_bits, bias, nan=NanCodes.IEEE, infinity=True)


def float_parameters(stage: Any, lane: Lane) -> Numbers:
    """Return limits, shifts and powers of two of a stage that rounds to a float format.

    `fpsim.kernels.llvm.rounding` and `fpsim.kernels.llvm.exact_add` read them by name.
    """
    fmt: FloatFormat = stage.format
    # Too large sums of a window are infinite in every mode: limits of a mode that rounds outward.
    mode = Rounding.RNE if isinstance(stage, Aligned) else stage.rounding
    overflow: Overflow = stage.overflow
    codes = np.array(fmt.limits(mode, overflow)[:4], dtype=fmt.dtype)
    over_positive, over_negative, inf_positive, inf_negative = fmt.decode(codes)
    normal = float(np.ldexp(1.0, fmt.exponent_min))
    magic = float(np.ldexp(1.5, lane.mantissa_bits - fmt.mantissa_bits))
    reals = {
        "smallest_normal": normal,
        "flush_below": normal if fmt.subnormals is Subnormals.FLUSH else 0.0,
        "largest": fmt.max_value,
        "over_positive": over_positive,
        "over_negative": over_negative,
        "inf_positive": inf_positive,
        "inf_negative": inf_negative,
        # Without an exponent field every value lies below 2^emin.
        "top_power": np.ldexp(1.0, max(fmt.exponent_max, fmt.exponent_min)),
        "magic": magic,
        "minus_magic": -magic,
    }
    width = lane.parameters
    shift = width.mantissa_bits - fmt.mantissa_bits
    exponent_is_last = int(fmt.mantissa_bits == 0)
    integers = {
        "shift": shift,
        "parity": exponent_is_last & (width.bias + fmt.exponent_min - 1),
        "subnormal_parity": exponent_is_last,
    }
    return reals, integers


def random_parameters(bits: int, place: int, width: int) -> dict[str, int]:
    """Return the parameters of random integers that stand below the last place of a format.

    Args:
        bits: bits of each integer.
        place: place of the integer's lowest bit in a lane; if negative, bits below the lane's last
            bit are dropped, since they cannot matter.
        width: bits of an integer of the stream or array, of which the low ``bits`` are taken.

    Returns:
        Integers by name, as the code reads them.
    """
    return {
        "random_place": max(place, 0),
        "random_drop": max(-place, 0),
        "random_bits": width,
        "random_mask": (1 << bits) - 1,
        "random_count": integers_per_word(width) if width else 0,
    }
