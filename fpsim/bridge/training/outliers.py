# SPDX-License-Identifier: Apache-2.0
"""Outlier clamping and compensation, OCC (2501.17116): large inputs get a separate product.

x is clamped to two quantiles before its cast; the rest, a sparse matrix, is cast to a wider format
and multiplied beside x:

    y = unit(cast(clamp(x)), w) + exact(wide(x - clamp(x)), w)

Both products are multiplied by their factors and rounded to float32 before they are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.blocks.block_format import BlockFormat
from fpsim.bridge.cast import block_operand
from fpsim.units.operands import Operand

__all__ = ["OutlierClamp", "per_tensor", "quantile"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class OutlierClamp:
    """Clamp at the quantiles 1 - ``share`` and ``share``, with or without the residual's product.

    ``span`` is ``tensor`` (the paper) or ``token``: the part of x with its own quantiles. A token's
    quantiles are elements of it in order, numbers floor((1 - share) K) and floor(share K) (MS-AMP's
    code). The residual is cast to ``element`` with one scale; ``weight`` is its second operand: the
    forward product's weight (``cast``), or the ``master`` weight cast to ``element``.

    Raises:
        FpsimError: a share, span or weight that is not allowed.
    """

    share: float = 0.99
    span: str = "tensor"
    residual: bool = True
    element: str = "e4m3fn"
    weight: str = "cast"

    def __post_init__(self) -> None:
        if not 0.5 <= self.share <= 1:
            raise FpsimError(f"recipe: share: {self.share!r} is not in 0.5..1")
        for name, allowed in (("span", ("tensor", "token")), ("weight", ("cast", "master"))):
            if getattr(self, name) not in allowed:
                raise not_one_of(f"recipe: {name}", getattr(self, name), allowed)

    @cached_property
    def _wide(self) -> BlockFormat:
        return per_tensor(self.element)

    def split(self, rows: Floats) -> tuple[Floats, Floats]:
        """Return clamped rows and the residual, exact unless it overflows."""
        low: Any
        high: Any
        if self.span == "tensor":
            low, high = (quantile(rows, q) for q in (1 - self.share, self.share))
        else:
            ordered, length = np.sort(rows, axis=1), rows.shape[1]
            places = (int((1 - self.share) * length), min(int(self.share * length), length - 1))
            low, high = (ordered[:, place : place + 1] for place in places)
        clamped = np.clip(rows, low, high)
        return clamped, rows - clamped

    def operand(self, rows: Floats) -> Operand:
        """Return the residual, or a master weight, as an operand of the side product."""
        return block_operand(self._wide, self._wide.quantize(rows, axis=1, nan="error"))


def quantile(values: Floats, q: float) -> np.float32:
    """Return a quantile, interpolated between two elements in float64 and rounded once."""
    flat = values.reshape(-1)
    place = q * (flat.size - 1)
    below = int(place)
    above = min(below + 1, flat.size - 1)
    low, high = np.partition(flat, (below, above))[[below, above]].astype(np.float64)
    return np.float32(low + (high - low) * (place - below))


def per_tensor(element: str) -> BlockFormat:
    """Return a format with one real scale per tensor, its largest magnitude over the element's."""
    return BlockFormat.from_dict(
        {"name": f"{element}-per-tensor", "element": element, "block": "tensor", "scale": "real",
         "zero": "one"}
    )  # fmt: skip
