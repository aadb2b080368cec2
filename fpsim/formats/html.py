# SPDX-License-Identifier: Apache-2.0
"""HTML of a format for notebooks: its values, or their range if there are many."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fpsim.base.notebook import html_pairs, html_table

__all__ = ["format_html"]

#: Most bits of a format whose values are all shown.
MAX_BITS = 6


class _Shown(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def bits(self) -> int: ...

    @property
    def max_value(self) -> float: ...

    def decode(self, codes: Any) -> NDArray[np.float64]: ...


def format_html(fmt: _Shown) -> str:
    """Return a table of a format's codes; of a wide format, of its bits and largest value."""
    if fmt.bits > MAX_BITS:
        return html_pairs(fmt.name, (("bits", fmt.bits), ("largest value", fmt.max_value)))
    codes = range(1 << fmt.bits)
    values = fmt.decode(np.arange(1 << fmt.bits))
    rows = [(c, f"{c:0{fmt.bits}b}", v) for c, v in zip(codes, values.tolist(), strict=True)]
    return html_table(f"{fmt.name}: {fmt.bits} bits", ("code", "bits", "value"), rows)
