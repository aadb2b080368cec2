# SPDX-License-Identifier: Apache-2.0
"""One branch-free primitive behind every rounding mode.

A deterministic mode adds a constant below the kept bits and truncates. The constant follows from
five integers per mode, which do not change inside a loop (`mode_constants`):

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

    Args:
        sig: int64 from 0 to 2^62 - 1.
        shift: 0..62.
        base: an integer; the parity of ``base + floor(sig / 2^shift)`` decides ties to even.
        negative: whether the value is below zero, for directed modes.
        mode: `ModeConstants`.
        random: an integer of ``random_bits`` bits, added with its first bit just below the kept
            ones before truncation; unused if there are 0.
        random_bits: 0 unless rounding is stochastic.

    Returns:
        The rounded magnitude, int64.
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
