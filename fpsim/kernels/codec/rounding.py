# SPDX-License-Identifier: Apache-2.0
"""One branch-free primitive behind every rounding mode.

A deterministic mode adds a constant below the kept bits and truncates; the constant depends on the
mode only through five integers that do not change inside a loop (`mode_constants`):

    add = half, or half - 1 where the kept part is even    nearest modes
        = all ones below the kept bits, or 0, by sign      directed modes
    code |= 1 when anything was dropped                    round to odd

so the loop vectorises and a new mode costs no new kernel.
"""

from __future__ import annotations

import numpy as np

from fpsim.kernels.cache import inner

__all__ = ["ModeConstants", "mode_constants", "round_significand"]

#: (nearest, even, away_positive, away_negative, odd), each 0 or 1; see `mode_constants`.
ModeConstants = tuple[int, int, int, int, int]

_MODES: dict[str, ModeConstants] = {
    "rne": (1, 1, 0, 0, 0),
    "rna": (1, 0, 0, 0, 0),
    "rtz": (0, 0, 0, 0, 0),
    "rup": (0, 0, 1, 0, 0),
    "rdn": (0, 0, 0, 1, 0),
    "rto": (0, 0, 0, 0, 1),
    "sr": (0, 0, 0, 0, 0),
}


def mode_constants(rounding: str) -> ModeConstants:
    """Return the loop constants of a mode; ``sr`` truncates once its random bits are added."""
    return _MODES[rounding]


@inner
def round_significand(sig, shift, base, negative, mode, random, random_bits):
    """Round ``base + sig / 2^shift`` to an integer.

    ``sig`` is non-negative below 2^62, ``shift`` is in 0..62, ``base`` an integer added to the
    result (its parity counts for ties). ``random`` holds ``random_bits`` random bits, if any.
    """
    nearest, even, away_pos, away_neg, odd = mode
    one = np.int64(1)
    below = (one << shift) - one
    half = (one << shift) >> one
    parity = (base + (sig >> shift)) & one
    away = away_neg if negative else away_pos
    add = nearest * (half - even * (one - parity) * np.int64(shift > 0)) + away * below
    if random_bits:
        if shift >= random_bits:
            add = random << (shift - random_bits)
        else:
            add = random >> (random_bits - shift)
    result = base + ((sig + add) >> shift)
    return result | (odd & np.int64((sig & below) != 0))
