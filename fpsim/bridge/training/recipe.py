# SPDX-License-Identifier: Apache-2.0
"""Training recipes: casts of the six operands of a linear layer's three products.

    forward   y  = x w^T        sums over in_features     operands x    (T, K)  and w    (N, K)
    dgrad     dx = e w          sums over out_features    operands e    (T, N)  and w^T  (K, N)
    wgrad     dw = e^T x        sums over tokens          operands e^T  (N, T)  and x^T  (K, T)

T tokens, K in_features, N out_features; e is the gradient of y. Each operand is cast along the axis
that its product sums, and each product runs on a unit.

A training recipe is a frozen dataclass derived from `TrainingRecipe` whose fields are the options
for users. It defines one method, which returns the casts of a layer; put it in a module of
`fpsim.bridge.training.recipes`, or in a file of yours (``mine.py:MyRecipe``); no other module needs
to know it::

    @register("half-train")
    @dataclass(frozen=True)
    class HalfTrain(TrainingRecipe):
        def training(self, layer: str) -> TrainingCasts:
            half = OperandCast(ElementCast("e5m10"))
            both = ProductCasts(half, half)
            return TrainingCasts(both, both, both)

Biases, and all modules that are no linear layers, stay float32.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.bridge.cast import Cast
from fpsim.bridge.recipe import Bits, Recipe
from fpsim.bridge.training.casts import ElementCast, TrainingCast
from fpsim.bridge.training.outliers import OutlierClamp
from fpsim.bridge.training.randomness import SOURCES, Randomness
from fpsim.bridge.training.rotation import Rotation
from fpsim.bridge.training.slopes import CastSlope
from fpsim.formats.floating import Format
from fpsim.units.operands import Operand

__all__ = [
    "ForwardCast",
    "OperandCast",
    "ProductCasts",
    "TrainingCasts",
    "TrainingRecipe",
    "bfloat16_casts",
]

Floats = NDArray[np.float32]
#: Effects of an overflowing gradient: stop the run, or become NaN, so that the step is skipped.
OVERFLOWS = ("error", "skip")


@dataclass(frozen=True)
class OperandCast:
    """The cast of one operand, and its source.

    ``source`` is ``master``, the tensor in float32; or ``forward``, the values of the forward
    product in its rotation, which are then cast once more, so that the gradient belongs to the
    numbers that the forward pass multiplied.
    """

    cast: TrainingCast
    source: str = "master"

    def __post_init__(self) -> None:
        if self.source not in ("master", "forward"):
            raise not_one_of("recipe: source", self.source, ("master", "forward"))


@dataclass(frozen=True)
class ProductCasts:
    """The casts of both operands of one product, after a rotation by ``rotation``.

    ``unit`` computes the product whatever unit the user chose; it is for layers that a recipe keeps
    in wider formats.
    """

    a: OperandCast
    b: OperandCast
    rotation: Rotation | None = None
    unit: str | None = None

    @property
    def along(self) -> int:
        """Elements of which the summed axis must have a multiple."""
        size = 1 if self.rotation is None else self.rotation.size
        return int(np.lcm.reduce([self.a.cast.along, self.b.cast.along, size]))


@dataclass(frozen=True)
class TrainingCasts:
    """The casts of one layer.

    ``input_slope`` and ``weight_slope`` multiply gradients on their way through the forward casts
    (None: no change); ``outliers`` are taken out of x before its cast and multiplied beside it.

    Raises:
        FpsimError: sources or slopes that do not fit the forward product.
    """

    forward: ProductCasts
    dgrad: ProductCasts
    wgrad: ProductCasts
    input_slope: CastSlope | None = None
    weight_slope: CastSlope | None = None
    outliers: OutlierClamp | None = None

    def __post_init__(self) -> None:
        sides = (self.forward.a, self.forward.b, self.dgrad.a, self.wgrad.a)
        if any(side.source == "forward" for side in sides):
            raise FpsimError("recipe: source: only w of dgrad and x of wgrad can be of the forward")
        rotated = self.forward.rotation is not None
        for slope, of in ((self.input_slope, self.dgrad.b), (self.weight_slope, self.wgrad.b)):
            if slope is not None and rotated and of.source != "forward":
                raise FpsimError("recipe: a slope of a rotated cast needs the source forward")


@dataclass(frozen=True)
class ForwardCast:
    """One operand of the forward product for inference, such as by `layer_operands`."""

    casts: ProductCasts
    operand: OperandCast
    outliers: OutlierClamp | None = None

    @property
    def element(self) -> Format:
        """Element format of the codes."""
        return self.operand.cast.element

    def quantize(self, rows: Floats) -> Operand:
        """Return rows (R, K) as an operand, with the random bits of pass 0."""
        check_along("forward", "in_features", rows.shape[1], self.casts.along)
        if self.outliers is not None:
            rows = self.outliers.split(rows)[0]
        rotation, randomness = self.casts.rotation, Randomness("forward")
        if rotation is not None:
            rows = rotation.rotate(rows, rotation.chosen(randomness))
        return self.operand.cast.quantize(rows, randomness)


def check_along(product: str, axis: str, length: int, along: int) -> None:
    """Refuse an axis that blocks do not divide.

    Args:
        product: ``forward``, ``dgrad`` or ``wgrad``.
        axis: kind of the axis, such as ``tokens``.
        length: elements of the axis.
        along: elements of a block.

    Raises:
        FpsimError: a length that is no multiple; the message names product, axis and block.
    """
    if length % along:
        raise FpsimError(
            f"{product}: {length} {axis} are not a multiple of {along}, the size of its blocks"
        )


@dataclass(frozen=True)
class TrainingRecipe(Recipe):
    """Casts of all three products of a layer; derive from this class and define `training`.

    ``keep`` has shell patterns of layer names, joined by ``+``; these layers run in bfloat16 with a
    float32 accumulator. ``overflow`` is the effect of infinities and NaN in a product: ``error``
    stops, naming layer, product and training step; ``skip`` makes the gradients that depend on them
    NaN, so that a training loop with loss scaling leaves out the step. ``random`` is the source of
    casts' random bits: a ``counter``, or a register of 16 bits, ``lfsr16``.
    """

    keep: str = ""
    overflow: str = "error"
    random: str = "counter"

    #: Whether the recipe has ``bits``.
    uses_bits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.choose("overflow", OVERFLOWS)
        self.choose("random", SOURCES)
        if not self.uses_bits and self.bits != Bits():
            raise FpsimError(f"bits: {self.name} has formats of its own, not {self.bits}")

    def choose(self, option: str, allowed: tuple[str, ...]) -> None:
        """Raise `FpsimError` unless an option has one of the allowed values."""
        value = getattr(self, option)
        if value not in allowed:
            raise not_one_of(f"recipe: {option}", value, allowed)

    @abstractmethod
    def training(self, layer: str) -> TrainingCasts:
        """Return the casts of a layer's three products."""

    def casts(self, layer: str) -> TrainingCasts:
        """Return the casts of `training`, or bfloat16's for a layer in ``keep``."""
        patterns = filter(None, self.keep.split("+"))
        if any(fnmatch(layer, pattern) for pattern in patterns):
            return bfloat16_casts()
        return _training(self, layer)

    def weight(self, layer: str) -> Cast | None:
        """Return the cast of w in the forward product."""
        casts = self.casts(layer)
        return ForwardCast(casts.forward, casts.forward.b)

    def activation(self, layer: str) -> Cast | None:
        """Return the cast of x in the forward product."""
        casts = self.casts(layer)
        return ForwardCast(casts.forward, casts.forward.a, casts.outliers)


@lru_cache(maxsize=1024)
def _training(recipe: TrainingRecipe, layer: str) -> TrainingCasts:
    return recipe.training(layer)


@lru_cache(maxsize=1)
def bfloat16_casts() -> TrainingCasts:
    """Return bfloat16 operands on a chain of float32 additions, for all three products."""
    both = OperandCast(ElementCast("e8m7"))
    casts = ProductCasts(both, both, unit="e8m7-chain-e8m23")
    return TrainingCasts(casts, casts, casts)
