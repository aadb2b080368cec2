# SPDX-License-Identifier: Apache-2.0
"""The domain of a design (``[domain]`` of its TOML) as ranges of codes."""

from __future__ import annotations

import numpy as np

from fpsim.formats.floating import FloatFormat, Format, NanCodes
from fpsim.hdl.dut.domain import Domain

__all__ = ["ranges_of"]

#: Codes up to this width are asked one by one.
LISTED_BITS = 16


def ranges_of(domain: Domain, name: str, fmt: Format) -> list[tuple[int, int]]:
    """Return the codes of a field that lie in a domain, as ranges with both ends included.

    Args:
        domain: the vectors that a design is told.
        name: the field.
        fmt: format of its codes.

    Returns:
        Ranges from the low codes up.
    """
    every = (1 << fmt.bits) - 1
    if fmt.bits <= LISTED_BITS:
        codes = np.arange(every + 1, dtype=np.uint64)
        inside = np.flatnonzero(domain.takes(name, fmt, codes))
        if not inside.size:
            return []
        breaks = np.flatnonzero(np.diff(inside) > 1)
        lows = inside[np.concatenate([[0], breaks + 1])]
        highs = inside[np.concatenate([breaks, [inside.size - 1]])]
        return list(zip(lows.tolist(), highs.tolist(), strict=True))
    given = domain.codes.get(name, ((0, every),))
    ranges = [(low, min(high, every)) for low, high in given if low <= every]
    if isinstance(fmt, FloatFormat):
        for first, last in _left_out(domain, fmt):
            ranges = [
                piece
                for start, stop in ranges
                for piece in ((start, min(stop, first - 1)), (max(start, last + 1), stop))
                if piece[0] <= piece[1]
            ]
    return sorted(set(ranges))


def _left_out(domain: Domain, fmt: FloatFormat) -> list[tuple[int, int]]:
    """Return the ranges of codes of the kinds that a domain is without."""
    signs = sorted({0, fmt.sign_bit})
    top = (1 << fmt.magnitude_bits) - 1
    beyond = (fmt.max_code if fmt.inf_code is None else fmt.inf_code) + 1
    kinds = {
        "nan": [(sign + beyond, sign + top) for sign in signs],
        "infinity": [] if fmt.inf_code is None else [(s + fmt.inf_code,) * 2 for s in signs],
        "subnormal": [(sign + 1, sign + (1 << fmt.mantissa_bits) - 1) for sign in signs],
        "negative_zero": [(fmt.sign_bit,) * 2] if fmt.has_negative_zero else [],
    }
    if fmt.nan is NanCodes.NEGATIVE_ZERO:
        kinds["nan"] = [(fmt.sign_bit,) * 2]
    return [(low, high) for kind in domain.without for low, high in kinds[kind] if low <= high]
