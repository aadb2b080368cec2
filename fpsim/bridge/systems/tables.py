# SPDX-License-Identifier: Apache-2.0
"""any4's tables: 16 numbers per row of a weight, to which its scaled elements are rounded.

Source: arXiv 2507.04610 and its code. With s = max(hi - lo, 1e-6) / 15 of a group's extremes and y
= (w - lo) / s in [0, 15], the y of a row are clustered around 16 centres, element k weighted by its
importance times s. Then w^ = (centre - 8) s + (lo + 8 s), with the table, s and the offset rounded
to float16. The code starts from random centres; here centres start evenly spaced from the least to
the greatest y (the code's ``int``), in float64, so that a weight gives one table everywhere.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FloatFormat
from fpsim.formats.names import get_format
from fpsim.units.operands import Operand, Scales

__all__ = ["RowTables", "learn_tables", "nearest_centres"]

Floats = NDArray[np.float64]
#: Values of a table; the middle one is near the value of the offset.
COUNT, MIDDLE = 16, 8
#: Least range of a group, and most steps of the clustering.
_LEAST, _STEPS = 1e-6, 300
_HALF = "e5m10"


class RowTables(NamedTuple):
    """A weight (N, K) in 4-bit codes with a table per row, and scales and offsets per group.

    ``codes`` (N, K) are indices into ``tables`` (N, 16), ascending; ``scales`` and ``offsets`` (N,
    G) are one per ``group`` columns. All but the codes are float16 numbers.
    """

    codes: NDArray[np.uint8]
    tables: NDArray[np.float16]
    scales: NDArray[np.float16]
    offsets: NDArray[np.float16]
    group: int

    @property
    def bits_per_element(self) -> float:
        """Storage bits per element: the code, and shares of table, scale and offset."""
        return float(4 + 32 / self.group + 16 * COUNT / self.codes.shape[1])

    def operand(self) -> Operand:
        """Return the weight as an operand: float16 codes of table values, with float16 scales."""
        half = get_format(_HALF)
        assert isinstance(half, FloatFormat)
        values = np.take_along_axis(self.tables, self.codes.astype(np.intp), axis=1)
        scales = Scales.of_rows(half.encode(self.scales), half, self.group)
        offsets = self.offsets.astype(np.float32)
        return Operand(half.encode(values), half, scales, offsets=offsets)


def learn_tables(
    weight: NDArray[np.float32], group: int = 128, importance: Floats | None = None
) -> RowTables:
    """Return a weight with a table of 16 values per row.

    Args:
        weight: (N, K), finite; K need not be a multiple of the group.
        group: columns that share a scale and an offset.
        importance: (K,), the mean magnitude of each input channel; None: equal importance.

    Returns:
        Codes, tables, scales and offsets.

    Raises:
        FpsimError: a group below 2, numbers that are not finite, a scale or offset beyond float16,
            or importances that are negative or of a wrong length.
    """
    if not isinstance(group, int) or isinstance(group, bool) or group < 2:
        raise FpsimError(f"group: {group!r} is not an integer of at least 2")
    rows = np.asarray(weight, dtype=np.float32)
    if not np.isfinite(rows).all():
        raise FpsimError("weight: NaN or infinity has no value in any4")
    count, length = rows.shape
    groups = -(-length // group)
    padded = np.pad(rows, ((0, 0), (0, groups * group - length)), mode="edge")
    cut = padded.reshape(count, groups, group)
    low, high = cut.min(axis=2), cut.max(axis=2)
    steps = np.maximum(high - low, np.float32(_LEAST)) / np.float32(COUNT - 1)
    with np.errstate(over="ignore"):
        scales = steps.astype(np.float16)
        offsets = (low + steps * np.float32(MIDDLE)).astype(np.float16)
    if not (np.isfinite(scales).all() and np.isfinite(offsets).all()):
        raise FpsimError("weight: a group's scale or offset is beyond float16")
    scaled = ((cut - low[..., None]) / steps[..., None]).reshape(count, -1)[:, :length]
    each = np.repeat(steps, group, axis=1)[:, :length].astype(np.float64)
    if importance is not None:
        shares = np.asarray(importance, dtype=np.float64)
        if shares.shape != (length,) or not (shares >= 0).all() or not np.isfinite(shares).all():
            raise FpsimError(f"importance: not {length} non-negative numbers, one per column")
        each = each * shares
    centres = nearest_centres(scaled.astype(np.float64), each)
    middles = (centres[:, :-1] + centres[:, 1:]) / 2
    codes = np.zeros((count, length), dtype=np.uint8)
    for i in range(COUNT - 1):  # ties to the lower centre
        codes += scaled > middles[:, i : i + 1]
    tables = (centres - MIDDLE).astype(np.float16)
    return RowTables(codes, tables, scales, offsets, group)


def nearest_centres(rows: Floats, weights: Floats) -> Floats:
    """Return 16 ascending centres per row (R, 16), each the weighted mean of the nearest numbers.

    Args:
        rows: (R, K) numbers.
        weights: (R, K), not negative. A centre whose numbers all weigh 0 becomes their plain mean;
            a centre without numbers does not move.

    Returns:
        The centres after at most 300 steps, or when no number changes its centre.
    """
    order = np.argsort(rows, axis=1, kind="stable")
    ascending = np.take_along_axis(rows, order, axis=1)
    shares = np.take_along_axis(weights, order, axis=1)

    def sums(values: Floats) -> Floats:
        return np.concatenate([np.zeros((len(rows), 1)), np.cumsum(values, axis=1)], axis=1)

    weight, weighted = sums(shares), sums(shares * ascending)
    number, plain = np.arange(rows.shape[1] + 1.0)[None], sums(ascending)
    spread = np.arange(COUNT) / (COUNT - 1)
    centres = ascending[:, :1] + (ascending[:, -1:] - ascending[:, :1]) * spread
    before = None
    for _ in range(_STEPS):
        middles = (centres[:, :-1] + centres[:, 1:]) / 2
        ends = np.stack(
            [
                np.searchsorted(row, cuts, side="right")
                for row, cuts in zip(ascending, middles, strict=True)
            ]
        )
        if before is not None and (ends == before).all():
            break
        before = ends
        edge = np.zeros((len(rows), 1), dtype=ends.dtype)
        ends = np.concatenate([edge, ends, edge + rows.shape[1]], axis=1)

        def between(total: Floats, ends: NDArray[np.int64] = ends) -> Floats:
            at = np.take_along_axis(np.broadcast_to(total, weight.shape), ends, axis=1)
            return np.asarray(np.diff(at, axis=1))

        share, members = between(weight), between(number)
        with np.errstate(all="ignore"):
            means = np.where(share > 0, between(weighted) / share, between(plain) / members)
        centres = np.sort(np.where(members > 0, means, centres), axis=1)
    return np.asarray(centres)
