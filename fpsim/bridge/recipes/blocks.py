# SPDX-License-Identifier: Apache-2.0
"""Direct casts to the published block formats: MXFP4, NVFP4, Four Over Six, NF4, HiF4 and others.

Weights are cast once, activations in every pass, both in blocks along in_features; no calibration
is needed. Wider settings of MXFP4 use the MX formats of that width.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.blocks.block_format import BLOCK_FORMATS, BlockFormat, get_block_format
from fpsim.blocks.scale_rules import POWER_RULES
from fpsim.bridge.cast import BlockCast, Cast
from fpsim.bridge.recipe import FLOAT_BITS, AttentionCasts, Recipe, register

__all__ = ["BlockRecipe", "FormatRecipe", "MxRecipe", "OneFormatRecipe"]


@lru_cache(maxsize=64)
def _cast(fmt: BlockFormat) -> BlockCast:
    return BlockCast(fmt)


@dataclass(frozen=True)
class BlockRecipe(Recipe):
    """One block format per width, for weights and for activations.

    ``quantize_attention`` casts attention's products too: Q and K along the head, P and V along
    the keys.
    """

    quantize_attention: bool = False
    value_axis: str = "sequence"

    def __post_init__(self) -> None:
        if self.value_axis not in ("sequence", "token"):
            raise not_one_of("recipe: value_axis", self.value_axis, ("sequence", "token"))
        for width in (self.bits.weight, self.bits.activation, self.bits.embedding):
            self._cast(width)

    @abstractmethod
    def format(self, width: int) -> BlockFormat:
        """Return the block format of a width."""

    def _cast(self, width: int) -> Cast | None:
        return None if width in FLOAT_BITS else _cast(self.format(width))

    def weight(self, layer: str) -> Cast | None:
        """Return the cast of weights."""
        return self._cast(self.bits.weight)

    def activation(self, layer: str) -> Cast | None:
        """Return the cast of inputs."""
        return self._cast(self.bits.activation)

    def embedding(self, layer: str) -> Cast | None:
        """Return the cast of the token embedding."""
        return self._cast(self.bits.embedding)

    def attention(self, layer: str) -> AttentionCasts | None:
        """Return one cast for all four operands, or None."""
        cast = self.activation(layer)
        if not self.quantize_attention or cast is None:
            return None
        return AttentionCasts(cast, cast, cast, cast, self.value_axis)


@dataclass(frozen=True)
class MxRecipe(BlockRecipe):
    """OCP MX v1.0, blocks of 32; ``rule`` is the scale rule."""

    rule: str = "floor"

    def format(self, width: int) -> BlockFormat:
        """Return MXFP4, MXFP6 (E2M3) or MXFP8 (E4M3) under the rule."""
        name = {4: "mxfp4", 6: "mxfp6-e2m3", 8: "mxfp8-e4m3"}[width]
        return get_block_format(name).with_rule(self.rule)


@dataclass(frozen=True)
class FormatRecipe(BlockRecipe):
    """A named 4-bit block format; activations use the format ``NAME-a`` if there is one."""

    block_format: str = "nvfp4"

    def format(self, width: int) -> BlockFormat:
        """Return the format of weights; only 4 bits have one."""
        if width != 4:
            raise FpsimError(f"bits: {self.block_format} has 4 bits, not {width}; allowed: 4, 16")
        return get_block_format(self.block_format)

    def activation(self, layer: str) -> Cast | None:
        """Return the cast of inputs."""
        name = f"{self.block_format}-a"
        if self.bits.activation in FLOAT_BITS or name not in BLOCK_FORMATS:
            return self._cast(self.bits.activation)
        return _cast(get_block_format(name))


@dataclass(frozen=True)
class OneFormatRecipe(BlockRecipe):
    """One block format, by name or as an object, for any ``bits``."""

    block_format: str | BlockFormat = "mxfp8-e4m3"

    def format(self, width: int) -> BlockFormat:
        """Return the format."""
        return get_block_format(self.block_format)


@dataclass(frozen=True)
class RazorRecipe(BlockRecipe):
    """QRazor (arXiv 2501.13331): 4 of 8 bits of weights, 4 of 16 of activations, per group."""

    group: int = 16

    def format(self, width: int) -> BlockFormat:
        """Return the activations' format."""
        if width != 4:
            raise FpsimError(f"bits: qrazor has 4 bits, not {width}; allowed: 4, 16")
        return get_block_format(f"qrazor-a4-g{self.group}")

    def weight(self, layer: str) -> Cast | None:
        """Return the weights' format, which starts from integers of 8 bits."""
        if self.bits.weight in FLOAT_BITS:
            return None
        return _cast(get_block_format(f"qrazor-w4-g{self.group}"))


register("mxfp4")(MxRecipe)
for _rule in POWER_RULES[1:]:
    register(f"mxfp4-{_rule.value}", rule=_rule.value)(MxRecipe)
for _name in ("mxfp6-e2m3", "mxfp6-e3m2", "mxfp8-e4m3", "mxfp8-e5m2"):
    register(_name, block_format=_name)(OneFormatRecipe)
for _name in ("nvfp4", "nvfp4-torchao"):
    register(_name, block_format=_name)(FormatRecipe)
for _name, _suffix in (("four-over-six", ""), ("four-over-six-mae", "-mae")):
    register(_name, block_format=f"fouroversix{_suffix}")(FormatRecipe)
register("four-over-six-abs-max", block_format="fouroversix-abs-max")(FormatRecipe)
register("block-format")(OneFormatRecipe)
register("qrazor")(RazorRecipe)
_OTHER_WIDTHS = ("mxint8", "mx4", "mx6", "mx9")
for _name in _OTHER_WIDTHS:
    register(_name, block_format=_name)(OneFormatRecipe)
for _name in (
    "nvif4", "if4", "nvfp4-2d", "amdfp4", "amdfp4-g32", "mxint4", "nf4", "af4", "sf4", "bof4",
    "bof4-s", "fp4-bnb", "dint4", "mxfp4-ggml", "nvfp4-ggml", "mxfp4-div3", "blockdialect",
    "razer", "nxfp4", "mxffp", "hif4", "m2xfp", "mxfp4-mbs", "mxfp4+", "mxfp4++", "amxint4",
    "amxint4-pot", "amxint4-pot-r",
):  # fmt: skip
    register(_name, block_format=_name)(FormatRecipe)
