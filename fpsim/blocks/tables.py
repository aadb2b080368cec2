# SPDX-License-Identifier: Apache-2.0
"""The published tables of 16 values, as the elements of named block formats."""

from __future__ import annotations

from typing import Any

__all__ = ["AF4", "BNB_FP4", "BOF4", "BOF4_S", "E2M1_ONE_ZERO", "NF4", "SF4", "dialects", "dint4"]

#: QLoRA (arXiv 2305.14314), as bitsandbytes' quant_map.
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
#: AF4 for blocks of 64 (arXiv 2306.06965).
AF4 = (
    -1.0, -0.69441008, -0.51243739, -0.3736951, -0.25607552, -0.14982478, -0.04934812, 0.0,
    0.04273164, 0.12934483, 0.21961274, 0.31675666, 0.42563882, 0.55496234, 0.72424863, 1.0,
)  # fmt: skip
#: SF4 for 5 degrees of freedom (arXiv 2405.03103).
SF4 = (
    -1.0, -0.627781, -0.454736, -0.334331, -0.237434, -0.152899, -0.074982, 0.0,
    0.065513, 0.132965, 0.204661, 0.283835, 0.375805, 0.491076, 0.656781, 1.0,
)  # fmt: skip
#: BOF4 for blocks of 64, by squared error (arXiv 2505.06653).
BOF4 = (
    -1.0, -0.7535245, -0.5792037, -0.4385999, -0.3167680, -0.2059924, -0.1015388, 0.0,
    0.0887245, 0.1793770, 0.2741500, 0.3758211, 0.4884938, 0.6187059, 0.7790452, 1.0,
)  # fmt: skip
#: BOF4-S, under the signed maximum, for blocks of 64 and of 32.
BOF4_S = {
    64: (
        -0.8568464, -0.6692874, -0.5235266, -0.4004883, -0.2910638, -0.1900093, -0.0938530, 0.0,
        0.0887672, 0.1794803, 0.2743096, 0.3760197, 0.4886530, 0.6188604, 0.7791396, 1.0,
    ),
    32: (
        -0.8732798, -0.6907446, -0.5437039, -0.4173702, -0.3038934, -0.1986018, -0.0981557, 0.0,
        0.0925938, 0.1870480, 0.2855197, 0.3907126, 0.5062832, 0.6379749, 0.7956377, 1.0,
    ),
}  # fmt: skip

_FP4 = (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0)
#: bitsandbytes' FP4, 12 times as large: its codes do not ascend with their values.
BNB_FP4 = (*_FP4, *(-v for v in _FP4))

_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
#: E2M1 whose code 8 encoding never gives: its zero has no sign.
E2M1_ONE_ZERO = (*_E2M1, 0.0, *(-v for v in _E2M1[1:]))


def dialects() -> list[dict[str, Any]]:
    """Return BlockDialect's 16 tables (arXiv 2501.01144); two in a row share the largest value."""
    second = (11, 9, 11, 9, 10, 8, 10, 8, 9, 7, 9, 7, 8, 7, 7, 6)
    found = []
    for i, sixth in enumerate(second):
        halves = (0, 1, 2, 3, 4, 5 if i == 15 else 6, sixth, 15 - i // 2)
        values = [half / 2 for half in halves]
        found.append({"table": [*values, *(-v for v in values)]})
    return found


def dint4(zero: int) -> dict[str, Any]:
    """Return dINT4's table under a zero point: 14 integers from ``-zero`` on, then a half each way.

    Source: AQAS (arXiv 2311.05161).
    """
    return {"table": [*(float(q - zero) for q in range(14)), 0.5, -0.5]}
