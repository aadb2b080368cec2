# SPDX-License-Identifier: Apache-2.0
"""Values of parameters as SystemVerilog text, equal for every bench and simulator."""

from __future__ import annotations

import re

__all__ = ["sv_text"]

_PLAIN_BITS = 31
_EXPRESSION = re.compile(
    r"(\d*'[sS]?[bodhBODH][0-9a-fA-FxXzZ_?]+)"  # a literal: 64'h8012345678
    r"|([A-Za-z_]\w*(::[A-Za-z_]\w*)+)"  # a name of a package: pkg::RNE
    r"|('\{.*\})"  # an assignment pattern
    r"|((logic|bit|reg|byte|shortint|int|integer|longint)\b[\w\s\[\]:$]*)",  # a type
    re.DOTALL,
)


def sv_text(value: int | float | str) -> str:
    """Return a parameter's value as SystemVerilog.

    Integers beyond 32 bits become sized literals; text that is a literal, a name of a package, an
    assignment pattern or a type stands as it is, other text in quotes.
    """
    if isinstance(value, bool):
        return f"1'b{int(value)}"
    if isinstance(value, int):
        if -(1 << _PLAIN_BITS) <= value < 1 << _PLAIN_BITS:
            return str(value)
        bits = max(32, abs(value).bit_length())
        return f"{bits}'d{value}" if value > 0 else f"-{bits + 1}'sd{-value}"
    if isinstance(value, float):
        return repr(value)
    return value if _EXPRESSION.fullmatch(value) else f'"{value}"'
