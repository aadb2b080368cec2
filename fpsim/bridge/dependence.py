# SPDX-License-Identifier: Apache-2.0
"""Tests whether a cast makes a token's values depend on other tokens of the pass, or later ones.

One scale over all rows of a pass makes a token's codes depend on its batch, on padding and on later
tokens; a scale over several keys of V makes them depend on later tokens. Both are found by trials,
so the answer holds for any kind of cast.
"""

from __future__ import annotations

import numpy as np

from fpsim.bridge.cast import Cast
from fpsim.bridge.recipe import AttentionCasts

__all__ = ["ALONG_SEQUENCE", "SHARED_ROWS", "sees_later_keys", "sees_other_rows"]

SHARED_ROWS = (
    "a scale is shared by all tokens of a pass: a token's values depend on its batch, on padding "
    "and on later tokens"
)
ALONG_SEQUENCE = "V has scales along the sequence: a token's values depend on later tokens"


def sees_other_rows(cast: Cast | None, width: int) -> bool:
    """Whether a row's values under a cast change with another row; rows have ``width`` values."""
    if cast is None:
        return False
    rows = np.random.default_rng(0).standard_normal((2, width)).astype(np.float32)
    loud = rows * np.array([[1.0], [1000.0]], np.float32)
    return not np.array_equal(
        cast.quantize(rows).dequantize()[0], cast.quantize(loud).dequantize()[0]
    )


def sees_later_keys(casts: AttentionCasts) -> bool:
    """Whether a key's V changes under a cast with the V of later keys."""
    if casts.value is None or casts.value_axis == "token":
        return False
    keys = np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)
    loud = keys.copy()
    loud[0, -1] = 1000.0
    first, second = (casts.value.quantize(rows).dequantize()[0, :-1] for rows in (keys, loud))
    return not np.array_equal(first, second)
