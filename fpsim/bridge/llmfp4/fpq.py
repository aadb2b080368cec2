# SPDX-License-Identifier: Apache-2.0
"""LLM-FP4's constants of a layer, its formats, its grids, and the casts they make.

Source: arXiv 2310.16836 ("FPQ") and its released code, with the paper's equation numbers. A format
ExMy has bias 0, every code finite; a real bias b~ scales it by 2^-b~ (`fpsim.blocks.preshift`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.base.powers import exp2
from fpsim.blocks.casts import encode_by_step
from fpsim.blocks.preshift import Preshifted, Reading, real_bias
from fpsim.formats.floating import FloatFormat
from fpsim.formats.names import E8M0, get_format
from fpsim.formats.rounding import Rounding
from fpsim.units.operands import Operand, Scales

__all__ = [
    "Grid",
    "LayerConstants",
    "Method",
    "Order",
    "RowBiasCast",
    "ShiftCast",
    "bias_candidates",
    "formats",
    "initial_biases",
    "shifts_of",
    "start_format",
]

_E8M0_BIAS = 127


class Method(StrEnum):
    """Methods that find constants."""

    FPQ = "fpq"  #: joint search with the pre-shifted exponent bias
    BASELINE = "baseline"  #: joint search, one real bias per activation tensor
    MINMAX = "minmax"  #: the start format clipped at the largest magnitude; no search


class Order(StrEnum):
    """Orders of the unknowns in a round of the search."""

    #: Baseline: weights' biases and format, inputs' bias and format. FPQ: weights' biases, inputs'
    #: bias, weights' format, inputs' format.
    CODE = "code"
    PAPER = "paper"  #: inputs' bias and format, then weights' biases and format (algorithm 1)


class Grid(StrEnum):
    """Candidates around the initial bias b~_init."""

    #: gamma b~_init, gamma = 0.01 + 1.19 c / 100, c = 0..99 as in the code (which never tries the
    #: 101st candidate, 1.2). A factor on a logarithm: the range of clip values depends on the
    #: data's unit, and reverses if the maximum exceeds the format's.
    PUBLISHED = "published"
    #: b~_init + delta, delta = -1 + 6 c / 100, c = 0..100: clip values from 2 max to max / 32.
    CORRECTED = "corrected"


def bias_candidates(initial: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    """Return the candidates (C, ...) for initial biases (...)."""
    if grid is Grid.PUBLISHED:
        factors = 0.01 + np.arange(100) * (1.2 - 0.01) / 100
        return np.asarray(np.multiply.outer(factors, initial))
    return np.asarray(np.add.outer(-1.0 + np.arange(101) * 0.06, initial))


def formats(bits: int) -> tuple[FloatFormat, ...]:
    """Return the formats searched at a width: every M below 8 bits, M = 2..6 at 8, as the code."""
    mantissas = range(2, 7) if bits == 8 else range(bits - 1)
    return tuple(_format(bits - 1 - m, m) for m in mantissas)


def start_format(bits: int) -> FloatFormat:
    """Return the first format of a search, also MinMax's format: E2M1, E3M2 or E4M3."""
    return _format(*{4: (2, 1), 6: (3, 2), 8: (4, 3)}[bits])


def _format(exponent: int, mantissa: int) -> FloatFormat:
    fmt = get_format(f"e{exponent}m{mantissa}b0f")
    assert isinstance(fmt, FloatFormat)
    return fmt


def initial_biases(fmt: FloatFormat, maxima: NDArray[Any]) -> NDArray[np.float64]:
    """Return the b~ with which the format's largest value equals each maximum (equation 7).

    A maximum of zero counts as the smallest positive maximum, or as 1 if there is none.
    """
    values = np.asarray(maxima, dtype=np.float64)
    positive = values[values > 0]
    smallest = positive.min() if positive.size else 1.0
    return real_bias(fmt, np.where(values > 0, values, smallest))


def shifts_of(
    fmt: FloatFormat, biases: NDArray[np.float64], reading: Reading, rho: float
) -> NDArray[np.int64]:
    """Split biases by equation 15.

    Args:
        fmt: the element format, whose exponents bound the integers.
        biases: b~_j of the channels.
        reading: reading of the equation, ``paper`` or ``code``.
        rho: the shared part rho~.

    Returns:
        The integers b_j.
    """
    paper = reading is Reading.PAPER
    shifts = np.rint(biases - rho) if paper else np.rint(biases) - np.rint(rho)
    return np.clip(shifts, 0, (1 << fmt.exponent_bits) - 1).astype(np.int64)


@dataclass(frozen=True)
class RowBiasCast:
    """Cast of weights: b~ per output channel; the scales 2^-b~ are factors of the product.

    With ``fold`` (in_features) the cast weights are multiplied by the paper's beta_j = 2^-b_j and
    cast again (half to even, saturating): weights for a unit without an exponent input.
    """

    element: FloatFormat
    biases: NDArray[np.float64]
    fold: NDArray[np.int64] | None = None

    def quantize(self, rows: NDArray[np.float32]) -> Operand:
        """Return rows (N, K) as an operand; x 2^b~ is rounded to float64, then half to even."""
        if not np.isfinite(rows).all():
            raise FpsimError(f"NaN or infinity has no value in {self.element.name}")
        if rows.shape[0] != self.biases.size:
            raise FpsimError(f"{rows.shape[0]} output channels, but {self.biases.size} biases")
        scaled = rows.astype(np.float64) * exp2(self.biases)[:, None]
        codes = encode_by_step(self.element, scaled, Rounding.RNE)
        if self.fold is not None:
            folded = np.ldexp(self.element.decode(codes), -self.fold)
            codes = encode_by_step(self.element, folded, Rounding.RNE)
        factor = exp2(-self.biases).astype(np.float32)[:, None]
        return Operand(codes, self.element, factor=factor)


@dataclass(frozen=True)
class ShiftCast:
    """Cast of activations: one b~ per tensor and, pre-shifted, an integer b_j per input channel.

    The integers are the unit's exponents (E8M0 code 127 - b_j), unless ``fold`` says that the
    weights hold them.
    """

    element: FloatFormat
    rho: float
    shifts: NDArray[np.int64] | None = None
    fold: bool = False

    def quantize(self, rows: NDArray[np.float32]) -> Operand:
        """Return rows (T, K) as an operand; values beyond the range clip."""
        if not np.isfinite(rows).all():
            raise FpsimError(f"NaN or infinity has no value in {self.element.name}")
        factor = np.full((1, 1), exp2(-self.rho), dtype=np.float32)
        if self.shifts is None:
            scaled = rows.astype(np.float64) * exp2(self.rho)
            codes = encode_by_step(self.element, scaled, Rounding.RNE)
            return Operand(codes, self.element, factor=factor)
        codes = Preshifted(self.element, self.rho, self.shifts).quantize(rows)
        if self.fold:
            return Operand(codes, self.element, factor=factor)
        exponents = (_E8M0_BIAS - self.shifts).astype(np.uint8)
        scales = np.tile(exponents, (rows.shape[0], 1))
        return Operand(codes, self.element, Scales.of_rows(scales, E8M0, 1), factor)


@dataclass(frozen=True)
class LayerConstants:
    """Calibrated constants of one product: formats (None: float), biases, shifts.

    ``weight_bias`` is (out_features,) for a weight and (1,) for attention's second operand;
    ``error`` is the output's squared error over its power, by the objective of the search.
    """

    weight_format: FloatFormat | None
    weight_bias: NDArray[np.float64] | None
    input_format: FloatFormat | None
    rho: float
    shifts: NDArray[np.int64] | None
    error: float
