# SPDX-License-Identifier: Apache-2.0
"""AMXFP4 (arXiv 2411.09909): one scale per sign and block of 32, by direct cast.

Linear layers and both products of attention are cast, each along its summed axis; lm_head,
embeddings, norms and softmax stay float. V is in blocks along the sequence, 32 tokens to a scale.

While decoding, the last block of V grows. V is therefore cast anew from the cached float values at
every step, in blocks counted from token 0: a full block always has the same codes, the last block
is scaled by its tokens so far. One layer's step gives the last row of a full pass over the same
prefix. (Earlier rows of a full pass use blocks scaled by later tokens, so deeper layers differ; the
reference code evaluates only full passes.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.blocks.block_format import BlockFormat, get_block_format
from fpsim.bridge.recipe import AttentionCasts, register
from fpsim.bridge.recipes.blocks import BlockRecipe
from fpsim.bridge.recipes.rtn import MAX_SCALE_BITS
from fpsim.formats.floating import FloatFormat
from fpsim.formats.names import get_format

__all__ = ["AmxRecipe"]

_VARIANTS = ("amxfp4", "amxfp4-rne", "amxfp4-pot", "amxfp4-pot-r")


@dataclass(frozen=True)
class AmxRecipe(BlockRecipe):
    """AMXFP4; ``variant`` selects FP8 scales (ties away or even) or powers of two.

    ``group`` is the number of elements per pair of scales; ``scale`` replaces the format of scales
    by another floating-point format of at most 16 bits: the reference's E4M3 with every code in use
    is ``e4m3f``, FP16 is ``e5m10``. ``operands`` of attention: ``all``, or ``kv`` for K and V alone
    (the reference's kv_quant_only).
    """

    quantize_attention: bool = True
    variant: str = "amxfp4"
    operands: str = "all"
    group: int = 32
    scale: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant not in _VARIANTS:
            raise not_one_of("recipe: variant", self.variant, _VARIANTS)
        if self.operands not in ("all", "kv"):
            raise not_one_of("recipe: operands", self.operands, ("all", "kv"))

    def format(self, width: int) -> BlockFormat:
        """Return the variant of the block format; only 4 bits have one."""
        if width != 4:
            raise FpsimError(f"bits: amxfp4 has 4 bits, not {width}; allowed: 4, 16")
        fmt = get_block_format(self.variant)
        if self.group != fmt.block:
            fmt = replace(fmt, name=f"{fmt.name}-g{self.group}", block=self.group)
        if self.scale:
            wanted = get_format(self.scale)
            if not isinstance(wanted, FloatFormat) or wanted.bits > MAX_SCALE_BITS:
                raise FpsimError(
                    f"recipe: scale: {self.scale!r} is no floating-point format of at most "
                    f"{MAX_SCALE_BITS} bits"
                )
            fmt = replace(fmt, name=f"{fmt.name}-{wanted.name}", scale=wanted)
        return fmt

    def attention(self, layer: str) -> AttentionCasts | None:
        """Return the casts of all four operands of attention, or of K and V."""
        casts = super().attention(layer)
        if casts is None or self.operands == "all":
            return casts
        return casts._replace(query=None, probability=None)


for _name in _VARIANTS:
    register(_name, variant=_name)(AmxRecipe)
    register(f"{_name}-linear", variant=_name, quantize_attention=False)(AmxRecipe)
