# SPDX-License-Identifier: Apache-2.0
"""Round to nearest: any element format, a scale per tensor, token, row or block, no calibration.

``rtn`` has all choices as options; ``int4`` is its integer form with the choices common in the
literature: symmetric, weights per output channel, activations per token.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fpsim.base.errors import FpsimError
from fpsim.blocks.block_format import BlockFormat, ScaleRule, ZeroScale
from fpsim.blocks.fields import Span
from fpsim.bridge.cast import BlockCast, Cast
from fpsim.bridge.recipe import FLOAT_BITS, AttentionCasts, Recipe, register
from fpsim.formats.floating import FloatFormat
from fpsim.formats.names import E8M0, get_format

__all__ = ["RtnRecipe", "rtn_cast"]

#: Most bits of a scale that varies along K.
MAX_SCALE_BITS = 16
_FLOATS = {4: "e2m1", 6: "e2m3", 8: "e4m3fn"}
_SPANS = {"tensor": Span.TENSOR, "token": Span.ROW, "row": Span.ROW, "channel": Span.ROW}


@lru_cache(maxsize=256)
def rtn_cast(element: str, block: str, scale: str = "") -> BlockCast:
    """Make a cast by the largest magnitude.

    Args:
        element: name of the element format.
        block: tensor, token (= row = channel) or a number of elements.
        scale: name of a format, or empty: a real number per tensor or row, E8M0 (floor) per block.

    Returns:
        The cast.

    Raises:
        FpsimError: an unknown format or block, naming the option.
    """
    if block in _SPANS:
        span: int | Span = _SPANS[block]
    elif block.isdecimal() and int(block) >= 1:
        span = int(block)
    else:
        raise FpsimError(
            f"recipe: block: {block!r} is not one of {', '.join(_SPANS)} or a number of elements"
        )
    wanted = scale or ("real" if isinstance(span, Span) else "e8m0")
    fmt = None if wanted == "real" else get_format(wanted)
    wide = fmt is None or fmt.bits > MAX_SCALE_BITS
    if wide and not isinstance(span, Span):
        raise FpsimError(
            f"recipe: scale: {wanted!r} per block; units look scales up by their code, so they "
            f"have at most {MAX_SCALE_BITS} bits, such as e8m7 or e5m10"
        )
    if not (fmt is None or isinstance(fmt, FloatFormat)):
        raise FpsimError(f"recipe: scale: {wanted!r} is not a floating-point format")
    rule = ScaleRule.FLOOR if fmt == E8M0 else ScaleRule.ABSMAX
    name = f"{element}-{wanted}-{block}"
    zero = ZeroScale.SMALLEST if fmt == E8M0 else ZeroScale.ONE
    return BlockCast(BlockFormat(name, get_format(element), span, rule, scale=fmt, zero=zero))


@dataclass(frozen=True)
class RtnRecipe(Recipe):
    """Rounding to nearest in any format, a scale per tensor, token, row or block.

    ``element`` and ``weight_element`` are formats (by default the usual ones of the widths in
    ``bits``), ``block`` and ``weight_block`` granularities, ``scale`` a scale format.
    """

    element: str = ""
    weight_element: str = ""
    block: str = "token"
    weight_block: str = ""
    scale: str = ""
    integer: bool = False
    quantize_attention: bool = False

    def __post_init__(self) -> None:
        self.weight("")
        self.activation("")

    def _element(self, width: int) -> str:
        return f"int{width}s" if self.integer else _FLOATS[width]

    def weight(self, layer: str) -> Cast | None:
        """Return the cast of weights: per output channel, or in blocks if the option says so."""
        if self.bits.weight in FLOAT_BITS:
            return None
        element = self.weight_element or self.element or self._element(self.bits.weight)
        block = self.weight_block or ("row" if self.block in _SPANS else self.block)
        return rtn_cast(element, block, self.scale)

    def activation(self, layer: str) -> Cast | None:
        """Return the cast of inputs."""
        if self.bits.activation in FLOAT_BITS:
            return None
        element = self.element or self._element(self.bits.activation)
        return rtn_cast(element, self.block, self.scale)

    def attention(self, layer: str) -> AttentionCasts | None:
        """Return the activations' cast for all four operands of attention, or None."""
        cast = self.activation(layer)
        if not self.quantize_attention or cast is None:
            return None
        return AttentionCasts(cast, cast, cast, cast)

    def embedding(self, layer: str) -> Cast | None:
        """Return the cast of the token embedding: a scale per entry."""
        if self.bits.embedding in FLOAT_BITS:
            return None
        return rtn_cast(self.element or self._element(self.bits.embedding), "row")


register("rtn")(RtnRecipe)
register("int4", integer=True)(RtnRecipe)
register("int4-tensor", integer=True, block="tensor", weight_block="row")(RtnRecipe)
register("int8", integer=True, bits="16/8/8")(RtnRecipe)
