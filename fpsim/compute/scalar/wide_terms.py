# SPDX-License-Identifier: Apache-2.0
"""Terms of more than 53 bits as arrays of parts; see `fpsim.kernels.scalar.wide_terms`.

Terms are (R, T) float64, or (R, T, P) if each has P parts.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.kernels.codec.rounding import mode_constants
from fpsim.kernels.scalar import fixed_point, limbs
from fpsim.units.stages import Fixed

__all__ = ["in_a_row", "parts_of", "parts_on_grid", "terms_to_odd"]

Array = NDArray[Any]


def parts_of(terms: Array) -> int:
    """Return the number of parts of each term."""
    return 1 if terms.ndim == 2 else int(terms.shape[2])


def in_a_row(terms: Array) -> Array:
    """Return the parts of all terms side by side, (R, T * P)."""
    return terms.reshape(len(terms), prod(terms.shape[1:]))


def terms_to_odd(terms: Array) -> Array:
    """Return terms (R, T) rounded to odd, from which every rounding to 51 bits is exact."""
    if terms.ndim == 2:
        return terms
    rows = np.ascontiguousarray(terms.reshape(-1, terms.shape[2]))
    sums = np.empty(len(rows))
    # A sum that starts with the first part keeps the sign of zeros.
    limbs.exact_dots(rows[:, 1:].copy(), np.ones(rows[:, 1:].shape), rows[:, 0].copy(), False, sums)
    return sums.reshape(terms.shape[:2])


def parts_on_grid(stage: Fixed, terms: Array, random: Array) -> Array:
    """Return finite terms rounded to multiples of 2^lsb, as P + 1 parts of one sign each.

    Parts of a term above 2^lsb stay; the last part, 0 or 2^lsb, is the amount that rounding adds to
    the magnitude. A saturating register ends alike whether it adds the parts one by one or at once,
    because they have one sign.

    Args:
        stage: the register, with its grid and rounding.
        terms: parts (R, T, P) of one sign per term.
        random: integers (R, T) for stochastic rounding; else any array.

    Returns:
        Parts (R, T, P + 1).
    """
    unit = np.ldexp(1.0, stage.lsb)
    fractions = np.fmod(terms, unit)
    whole = terms - fractions
    odd = (np.fmod(whole, 2.0 * unit) != 0.0).any(axis=2)
    # With the last bit above the grid, which decides ties.
    last = np.where(odd, np.copysign(unit, terms[:, :, 0]), 0.0)
    seen = terms_to_odd(np.concatenate([last[..., None], fractions], axis=2))
    rounded = np.empty(seen.shape)
    grid = stage.initial.grid(stage.overflow)
    mode = mode_constants(stage.rounding)
    fixed_point.round_to_grid(seen, grid, mode, random, stage.random_bits, rounded)
    return np.concatenate([whole, (rounded - last)[..., None]], axis=2)
