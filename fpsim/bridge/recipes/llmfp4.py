# SPDX-License-Identifier: Apache-2.0
"""LLM-FP4 (arXiv 2310.16836): static formats and clipping ranges from a joint search.

    llm-fp4            FPQ: weights per output channel, inputs per tensor, pre-shifted exponents
    llm-fp4-baseline   the same search without the pre-shift
    llm-fp4-minmax     E2M1 (E3M2, E4M3) clipped at the largest magnitude seen
    llm-fp4-encoder    llm-fp4 by the Fisher objective, attention cast: the paper's BERT and ViT

As in the released code, lm_head is cast too, embeddings have a bias per entry, and attention's
products stay float in a LLaMA. The integers b_j of the pre-shift are the unit's run-time exponents;
``fold=true`` puts them into the 4-bit weights, with loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.blocks.preshift import Reading
from fpsim.bridge.cast import Cast
from fpsim.bridge.llmfp4.attention_search import PRODUCTS
from fpsim.bridge.llmfp4.calibration import Calibration
from fpsim.bridge.llmfp4.fpq import (
    Grid,
    LayerConstants,
    Method,
    Order,
    RowBiasCast,
    ShiftCast,
)
from fpsim.bridge.llmfp4.search import SearchSettings
from fpsim.bridge.recipe import AttentionCasts, Bits, Recipe, register

__all__ = ["LlmFp4Recipe"]

ALL_FOUR = Bits(4, 4, 4)


@dataclass(frozen=True)
class LlmFp4Recipe(Recipe):
    """LLM-FP4: static formats and clipping from a joint search (FPQ), and its controls.

    ``grid``: ``published`` (with its quirks) or ``corrected``. ``reading`` of the pre-shift:
    ``paper`` (equation 15) or ``code``. ``objective``: ``l2``, or ``fisher``: output errors
    weighted by the squared gradient of the loss, for layers with influence on it. ``order`` of a
    round: ``code``, or ``paper``: inputs before weights (algorithm 1). ``quantize_attention``: cast
    both products of attention too, with a format and a bias per operand. ``llm-fp4-encoder`` is the
    paper's setting for BERT and ViT: Fisher and cast attention.
    """

    bits: Bits = ALL_FOUR
    method: str = "fpq"
    grid: str = "published"
    reading: str = "paper"
    objective: str = "l2"
    rounds: int = 3
    fold: bool = False
    quantize_attention: bool = False
    order: str = "code"
    constants: Calibration | None = field(default=None, repr=False, compare=False)

    skip: ClassVar[tuple[str, ...]] = ()
    skip_output: ClassVar[bool] = False
    needs_calibration: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, kind in (
            ("method", Method), ("grid", Grid), ("reading", Reading), ("order", Order)
        ):  # fmt: skip
            value, allowed = getattr(self, name), [str(k) for k in kind]
            if value not in allowed:
                raise not_one_of(f"recipe: {name}", value, allowed)
        if self.objective not in ("l2", "fisher"):
            raise not_one_of("recipe: objective", self.objective, ("l2", "fisher"))
        if self.rounds < 1:
            raise FpsimError(f"recipe: rounds: {self.rounds!r} is not a positive number")

    @property
    def settings(self) -> SearchSettings:
        """Settings of the search of a layer."""
        return SearchSettings(
            method=Method(self.method),
            grid=Grid(self.grid),
            reading=Reading(self.reading),
            weight_bits=self.bits.weight,
            input_bits=self.bits.activation,
            rounds=self.rounds,
            order=Order(self.order),
        )

    def description(self) -> dict[str, Any]:
        """Return the options on which a calibration depends (not ``fold``)."""
        names = ("method", "grid", "reading", "objective", "rounds")
        about = {"bits": str(self.bits), **{name: getattr(self, name) for name in names}}
        # Files of earlier versions lack these options.
        if self.quantize_attention:
            about["quantize_attention"] = True
        if self.order != Order.CODE:
            about["order"] = self.order
        return about

    @property
    def is_calibrated(self) -> bool:
        """Whether the recipe has a calibration."""
        return self.constants is not None

    def calibrated(self, calibration: Any) -> Self:
        """Return the recipe with a `Calibration` or the path of one.

        Raises:
            FpsimError: a calibration with other options; the message names the first.
        """
        found = Calibration.load(calibration)
        for key, value in self.description().items():
            if found.about.get(key) != value:
                raise FpsimError(
                    f"calibration: it was made with {key} {found.about.get(key)!r}, but recipe "
                    f"{self.name} has {value!r}"
                )
        return replace(self, constants=found)

    def check_layers(self, prints: dict[str, str]) -> None:
        """Raise `FpsimError` unless the calibration covers the layers with their weights."""
        assert self.constants is not None
        self.constants.check_layers(prints, "calibration: it")

    def _layer(self, layer: str) -> LayerConstants:
        assert self.constants is not None
        if layer not in self.constants.layers:
            raise FpsimError(f"calibration: it has no layer {layer}; calibrate again, or skip it")
        return self.constants.layers[layer]

    def weight(self, layer: str) -> Cast | None:
        """Return the layer's cast of weights."""
        c = self._layer(layer)
        if c.weight_format is None or c.weight_bias is None:
            return None
        fold = c.shifts if self.fold else None
        return RowBiasCast(c.weight_format, c.weight_bias, fold)

    def activation(self, layer: str) -> Cast | None:
        """Return the layer's cast of inputs."""
        c = self._layer(layer)
        if c.input_format is None:
            return None
        return ShiftCast(c.input_format, c.rho, c.shifts, self.fold)

    def attention(self, layer: str) -> AttentionCasts | None:
        """Return the static casts of a layer's products, if the calibration has them."""
        if not self.quantize_attention or self.weights_only:
            return None
        scores, values = (_operands(self._layer(f"{layer}/{product}")) for product in PRODUCTS)
        return AttentionCasts(*scores, *values)

    def embedding(self, layer: str) -> Cast | None:
        """Return the cast of the token embedding, a bias per entry."""
        if self.constants is None or layer not in self.constants.embeddings:
            return None
        fmt, bias = self.constants.embeddings[layer]
        return RowBiasCast(fmt, np.asarray(bias))


def _operands(c: LayerConstants) -> tuple[Cast, Cast]:
    """Return the casts of both operands of one of attention's products."""
    assert c.input_format is not None
    assert c.weight_format is not None
    assert c.weight_bias is not None
    first = ShiftCast(c.input_format, c.rho)
    return first, ShiftCast(c.weight_format, float(c.weight_bias[0]))


register("llm-fp4")(LlmFp4Recipe)
register("llm-fp4-baseline", method="baseline")(LlmFp4Recipe)
register("llm-fp4-minmax", method="minmax")(LlmFp4Recipe)
register("llm-fp4-encoder", objective="fisher", quantize_attention=True)(LlmFp4Recipe)
