# SPDX-License-Identifier: Apache-2.0
"""Blocks of 16 under float scales: NVIDIA's NVFP4 pretraining and its relatives.

nvfp4-train    arXiv 2509.25149 and Transformer Engine
ue5m3-train    arXiv 2609.02846: scales of five exponent bits need no scale per tensor
tetrajet-v2    arXiv 2510.27527: every operand rotated, no tiles

A rounded-down E4M3 scale can lift the largest element to 6 * 17 / 16, which stochastic rounding
would clip and so bias; gradients are therefore scaled to 6 * 16 / 17.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fpsim.base.errors import FpsimError
from fpsim.blocks.block_format import BlockFormat, get_block_format
from fpsim.bridge.recipe import register
from fpsim.bridge.training.casts import RANDOM_BITS, FormatCast
from fpsim.bridge.training.recipe import OperandCast, ProductCasts, TrainingCasts, TrainingRecipe
from fpsim.bridge.training.rotation import TE_SIGNS, Rotation

__all__ = ["BlockOf16Training", "TetraJetTraining"]

UNCLIPPED = 6 * 16 / 17
ROUNDINGS = ("sr", "rne")


@dataclass(frozen=True)
class BlockOf16Training(TrainingRecipe):
    """NVFP4 pretraining: weights in tiles of 16 x 16, gradients stochastic, wgrad rotated.

    ``range`` is the largest block scale: 448, or less for accumulators without float32's range;
    ``scale`` is the format of scales (``ue5m3fn`` needs no scale per tensor). ``hadamard`` is the
    size of wgrad's rotation (0: none) with ``signs`` ``te`` (Transformer Engine's fixed ones),
    ``fresh`` or ``none``. ``weights`` are cast in a ``tile``, equal for w and w^T, or a ``row`` of
    16; ``rounding`` is that of gradients, ``sr`` with ``random_bits`` or ``rne``.

    Transformer Engine leaves some 15 % of the layers, in the first and last blocks, in BF16: use
    `keep`.
    """

    range: float = 448.0
    scale: str = "e4m3fn"
    hadamard: int = 16
    signs: str = "te"
    weights: str = "tile"
    rounding: str = "sr"
    random_bits: int = RANDOM_BITS

    def __post_init__(self) -> None:
        super().__post_init__()
        self.choose("scale", ("e4m3fn", "ue5m3fn"))
        self.choose("signs", ("te", "fresh", "none"))
        self.choose("weights", ("tile", "row"))
        self.choose("rounding", ROUNDINGS)
        if not 1 <= self.range <= 448:
            raise FpsimError(f"recipe: range: {self.range!r} is not in 1..448")
        if self.signs == "te" and self.hadamard not in (0, 16):
            raise FpsimError("recipe: signs: 'te' are for hadamard=16; allowed: fresh, none")
        self.training("")

    def training(self, layer: str) -> TrainingCasts:
        """Return the casts, equal for every layer."""
        inputs = OperandCast(FormatCast(self.format("nvfp4")))
        weights = OperandCast(
            FormatCast(self.format("nvfp4-2d" if self.weights == "tile" else "nvfp4"))
        )
        gradients = OperandCast(self.gradient())
        rotation = None
        if self.hadamard:
            rotation = Rotation(self.hadamard, TE_SIGNS if self.signs == "te" else self.signs)
        return TrainingCasts(
            forward=ProductCasts(inputs, weights),
            dgrad=ProductCasts(gradients, weights),
            wgrad=ProductCasts(gradients, inputs, rotation),
        )

    def format(self, name: str) -> BlockFormat:
        """Return a named format of E4M3 scales, changed by the options."""
        fmt = get_block_format(name)
        if self.scale == "e4m3fn":
            return replace(fmt, tensor_range=self.range)
        tail = name.removeprefix("nvfp4")
        return BlockFormat.from_dict(
            {"name": f"ue5m3{tail}", "element": "e2m1", "block": fmt.block, "scale": self.scale,
             "zero": "one"}
        )  # fmt: skip

    def gradient(self) -> FormatCast:
        """Return the cast of gradients."""
        fmt = self.format("nvfp4")
        if self.rounding == "rne":
            return FormatCast(fmt)
        unclipped = replace(fmt, name=f"{fmt.name}-sr", rounding="sr", target=UNCLIPPED)  # type: ignore[arg-type]
        return FormatCast(unclipped, self.random_bits)


@dataclass(frozen=True)
class TetraJetTraining(TrainingRecipe):
    """TetraJet-v2's casts: all six operands rotated and in rows of 16, gradients' stochastic.

    ``source`` is the source of w in dgrad and x in wgrad: the values of the ``forward`` pass, so
    that gradients belong to the multiplied numbers (TetraJet's double quantization; for v2
    inferred), or the ``master`` in float32. TetraJet-v2's control of oscillating weights and of
    outliers works outside the products and is left out.
    """

    hadamard: int = 32
    signs: str = "fresh"
    source: str = "forward"
    range: float = 448.0
    random_bits: int = RANDOM_BITS

    def __post_init__(self) -> None:
        super().__post_init__()
        self.choose("signs", ("fresh", "none"))
        if not 1 <= self.range <= 448:
            raise FpsimError(f"recipe: range: {self.range!r} is not in 1..448")
        self.training("")

    def training(self, layer: str) -> TrainingCasts:
        """Return the casts, equal for every layer."""
        base = replace(get_block_format("nvfp4"), tensor_range=self.range)
        unclipped = replace(base, name="nvfp4-sr", rounding="sr", target=UNCLIPPED)  # type: ignore[arg-type]
        nearest, stochastic = FormatCast(base), FormatCast(unclipped, self.random_bits)
        rotation = Rotation(self.hadamard, self.signs)
        gradient = ProductCasts(
            OperandCast(stochastic), OperandCast(stochastic, self.source), rotation
        )
        forward = ProductCasts(OperandCast(nearest), OperandCast(nearest), rotation)
        return TrainingCasts(forward, gradient, gradient)


register("nvfp4-train")(BlockOf16Training)
register("ue5m3-train", scale="ue5m3fn", hadamard=0)(BlockOf16Training)
register("tetrajet-v2")(TetraJetTraining)
