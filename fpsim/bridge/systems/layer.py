# SPDX-License-Identifier: Apache-2.0
"""Linear layers and experts that compute a `LayerForm`, on a unit or in float32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from fpsim.base.errors import FpsimError
from fpsim.bridge.linear import InputCasts, SimulatedLinear
from fpsim.bridge.product import Product, float_rows
from fpsim.bridge.recipe import Recipe
from fpsim.bridge.systems.forms import LayerForm, Rows, Segment, SegmentProduct
from fpsim.bridge.transforms import LayerTransform, apply_transforms
from fpsim.bridge.weights import LayerWeight
from fpsim.unit import MacUnit
from fpsim.units.operands import Operand

__all__ = ["FormLinear"]


class FormLinear(SimulatedLinear):
    """A layer of a system: maps, segments on the unit, side paths; see `LayerForm`.

    Gradients are the float layer's. The bias is added last, in the dtype of the input.

    Args:
        weight: weight of the float layer.
        recipe: gives the form.
        unit: the unit of segments.
        name: name of the layer.
        transforms: transforms of both operands, applied before the form.
        seed: seed of a unit with stochastic rounding, see `Product`.
        product: computes segments in place of the unit, if given.

    Raises:
        FpsimError: scale blocks that the unit does not sum or, on a call, an input without codes,
            or a weight other than the calibrated one.
    """

    def __init__(
        self,
        weight: LayerWeight,
        recipe: Recipe,
        unit: MacUnit,
        name: str,
        transforms: Sequence[LayerTransform] = (),
        seed: int = 0,
        product: SegmentProduct | None = None,
    ) -> None:
        self.weight, self.recipe, self.unit, self.name = weight, recipe, unit, name
        self.transforms, self.seed = tuple(transforms), seed
        self.in_features, self.out_features = weight.sizes
        self.weight_cast, self.casts = None, InputCasts()
        self.ran_on, self.plan, self.inputs = None, None, None
        self.passes = self.macs = self.training_step = 0
        self.side_macs = 0  #: multiply-accumulates of side paths, over all passes
        self._product_of = product
        self._cached = None
        weight.check_data(name)
        self.form = self._made()
        self.version = weight.version
        self.input_cast = self.form.segments[0].cast
        self._check_segments()

    def __getstate__(self) -> dict[str, object]:
        """Leave the version out of copies and pickles: it is identified by address."""
        return self.__dict__ | {"version": None}

    def operand(self) -> Operand:
        """Return the weight of the first segment."""
        return self.form.segments[0].weight

    def _made(self) -> LayerForm:
        matrix = self.weight.matrix.detach()
        for transform in self.transforms:
            matrix = transform.weight(matrix)
        found = self.recipe.form(self.name, matrix)
        assert isinstance(found, LayerForm)
        return found

    def _check_segments(self) -> None:
        if self._product_of is not None:
            return
        for segment in self.form.segments:
            if segment.cast is None:
                continue
            zeros = np.zeros((1, segment.weight.codes.shape[1]), np.float32)
            try:
                unit, _ = self._product().checked(
                    segment.cast.quantize(zeros), segment.weight.at(slice(0, 1))
                )
            except FpsimError as error:
                raise FpsimError(f"layer {self.name}: {error}") from None
            self.ran_on = self.ran_on or unit

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output for ``x`` (..., in_features)."""
        self._begin(x)
        self._follow_weight()
        whole, matrix, beside = apply_transforms(self.transforms, x, self.weight.matrix)
        rows = float_rows(whole)
        if rows.shape[0]:
            values = self.form.output(rows, self._product_of or self._on_unit)
        else:
            values = np.zeros((0, self.out_features), np.float32)
        self.side_macs += round(rows.shape[0] * self.form.macs[1])
        out = torch.from_numpy(np.ascontiguousarray(values)).to(x.device)
        if beside is not None:
            out = out + beside.reshape(out.shape)
        out = out.reshape(*x.shape[:-1], self.out_features)
        if torch.is_grad_enabled() and (whole.requires_grad or matrix.requires_grad):
            plain = nn.functional.linear(whole.float(), matrix.float())
            out = plain + (out - plain).detach()
        out = out.to(x.dtype)
        bias = self.weight.bias
        return out if bias is None else out + bias

    def _follow_weight(self) -> None:
        version = self.weight.version
        if self.version is None or version == self.version:
            self.version = version
            return
        if self.recipe.needs_calibration:
            raise FpsimError(
                f"layer {self.name}: its weight has changed since {self.recipe.name} was "
                "calibrated; restore() the model and calibrate again"
            )
        self.form, self.version = self._made(), version

    def _on_unit(self, number: int, segment: Segment, x: Rows) -> Rows:
        if segment.cast is None:
            return np.asarray(x @ segment.dense.T, np.float32)
        try:
            cast = segment.cast.quantize(x)
        except FpsimError as error:
            raise FpsimError(
                f"layer {self.name}: forward pass {self.passes}: activation: {error}"
            ) from None
        on_unit = getattr(self.recipe, "zeros", "correct") == "unit"
        name = f"{self.name}.{number}" if number else self.name
        product = Product(self.unit, name, self.seed, self.number, on_unit)
        values, plan = product.run(cast, segment.weight)
        self.macs += values.size * x.shape[1]
        if number == 0:
            self.plan = plan
            if self.inputs is not None:
                self.inputs[self.name] = cast
        return values
