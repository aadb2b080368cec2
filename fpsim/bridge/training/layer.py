# SPDX-License-Identifier: Apache-2.0
"""Linear layers whose three products run on units: forward, input gradient, weight gradient.

Operands of gradients are cast in the forward pass, where their sources are at hand; layers that
read one tensor share its casts, also transposed ones. No draw of a pass depends on threads: the
label of a draw is ``seed/number of the pass/product.operand/layer`` (of the first layer that casts
the tensor); labels of signs leave out operand and layer.
"""

from __future__ import annotations

import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.autograd.function import once_differentiable

from fpsim.base.errors import FpsimError
from fpsim.bridge.linear import InputCasts, SimulatedLinear, simulated_layers
from fpsim.bridge.product import Product, float_rows
from fpsim.bridge.recipe import Recipe
from fpsim.bridge.training.casts import grid_units
from fpsim.bridge.training.randomness import Randomness
from fpsim.bridge.training.recipe import (
    OperandCast,
    ProductCasts,
    TrainingRecipe,
    check_along,
)
from fpsim.bridge.transforms import LayerTransform
from fpsim.bridge.weights import LayerWeight
from fpsim.unit import MacUnit, get_unit
from fpsim.units.operands import Operand
from fpsim.units.spec import MacSpec

__all__ = ["PRODUCTS", "SharedCasts", "TrainedLinear", "begin_step", "layer_maker"]

Floats = NDArray[np.float32]
PRODUCTS = ("forward", "dgrad", "wgrad")


class SharedCasts:
    """Casts of the last input, by key."""

    def __init__(self) -> None:
        self._last: tuple[weakref.ref[torch.Tensor], int] | None = None
        self._made: dict[Hashable, Any] = {}

    def __reduce__(self) -> tuple[type[SharedCasts], tuple[()]]:
        """Leave the input out of copies and pickles."""
        return SharedCasts, ()

    def get(self, x: torch.Tensor, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the result of ``make``, kept while the tensor is the last one and unchanged.

        Args:
            x: the tensor from which the result is made.
            key: identifies the result among results of one tensor.
            make: makes the result.

        Returns:
            The result.
        """
        if x.is_inference():  # it has no version counter to show changes in place
            return make()
        last = self._last
        if last is None or last[0]() is not x or last[1] != x._version:
            self._last, self._made = (weakref.ref(x), x._version), {}
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


@dataclass(frozen=True)
class _Units:
    """The user's unit of each product."""

    forward: MacUnit
    dgrad: MacUnit
    wgrad: MacUnit

    def of(self, product: str, casts: ProductCasts) -> MacUnit:
        return getattr(self, product) if casts.unit is None else get_unit(casts.unit)


@dataclass
class _Pass:
    """Data kept for a backward pass: cast operands, signs and slopes."""

    layer: TrainedLinear
    number: int
    weight: Operand | None = None  #: operand b of dgrad
    inputs: Operand | None = None  #: operand b of wgrad
    weight_slope: Floats | None = None
    input_slope: Floats | None = None

    @property
    def where(self) -> str:
        """The training step and, if a step has several passes, the pass, for messages."""
        step, number = self.number >> 32, self.number & 0xFFFFFFFF
        return f"training step {step}, pass {number}"


class TrainedLinear(SimulatedLinear):
    """A `SimulatedLinear` whose gradients are products on units too.

    Args:
        weight: the layer's weight.
        recipe: gives the casts of the three products' operands.
        units: units of the three products.
        name: name of the layer.
        transforms: transforms of both operands of the forward product.
        casts: casts of inputs, shared with other layers.
        seed: seed of all random bits.

    Raises:
        FpsimError: features that blocks do not divide, a weight without codes, or scale blocks that
            a unit does not sum.
    """

    def __init__(
        self,
        weight: LayerWeight,
        recipe: TrainingRecipe,
        units: _Units,
        name: str,
        transforms: Sequence[LayerTransform] = (),
        casts: SharedCasts | None = None,
        seed: int = 0,
    ) -> None:
        self.training = recipe.casts(name)
        self.units = {p: units.of(p, getattr(self.training, p)) for p in PRODUCTS}
        self.skips, self.random = recipe.overflow == "skip", recipe.random
        self.shared = casts or SharedCasts()
        self.gradient_units: dict[str, MacUnit] = {}  #: with the operands' formats
        self.gradient_macs = 0
        self.recorded: dict[tuple[str, str], tuple[Operand, Operand]] | None = None
        self.seconds: defaultdict[str, float] = defaultdict(
            float
        )  #: seconds by ``product cast`` and ``product sums``
        self._kept: dict[str, tuple[tuple[Any, ...], Any]] = {}
        self._check_features(weight, name)
        super().__init__(weight, recipe, self.units["forward"], name, transforms, None, seed)
        self._check_gradients()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the codes out of copies and pickles: they are identified by address."""
        return {**super().__getstate__(), "_kept": {}}

    def _check_features(self, weight: LayerWeight, name: str) -> None:
        inside, outside = weight.sizes
        try:
            check_along("forward", "in_features", inside, self.training.forward.along)
            check_along("dgrad", "out_features", outside, self.training.dgrad.along)
        except FpsimError as error:
            raise FpsimError(f"layer {name}: {error}") from None

    def _check_gradients(self) -> None:
        """Refuse gradients' formats that a unit cannot multiply, before the first gradient."""
        for product in PRODUCTS[1:]:
            casts: ProductCasts = getattr(self.training, product)
            length = self.out_features if product == "dgrad" else casts.along
            zeros = np.zeros((1, length), np.float32)
            a, b = (side.cast.quantize(zeros, Randomness("")) for side in (casts.a, casts.b))
            if _is_float(a, b):
                continue
            try:
                self.gradient_units[product], _ = self._product_of(product, 0).checked(a, b)
            except FpsimError as error:
                raise FpsimError(f"layer {self.name}: {product}: {error}") from None

    def _check_unit(self, weight: Operand | torch.Tensor | None) -> None:
        wide = "e8m23" in {side.cast.element.name for side in self._sides("forward")}
        if not wide:
            super()._check_unit(weight)

    def _sides(self, product: str) -> tuple[OperandCast, OperandCast]:
        casts: ProductCasts = getattr(self.training, product)
        return casts.a, casts.b

    # -- forward ---------------------------------------------------------------------------------

    def _simulate(self, x: torch.Tensor, matrix: torch.Tensor, weight: Operand) -> torch.Tensor:
        tokens = x.numel() // self.in_features
        if not tokens:
            return x.new_zeros((0, self.out_features))
        learns = torch.is_grad_enabled() and (x.requires_grad or matrix.requires_grad)
        done = _Pass(self, self.number)
        if learns and matrix.requires_grad:
            try:
                check_along("wgrad", "tokens of a pass", tokens, self.training.wgrad.along)
            except FpsimError as error:
                raise FpsimError(f"layer {self.name}: {error}") from None
        rows = float_rows(x)
        if self.skips and not np.isfinite(rows).all():
            return _lost(x, matrix, (tokens, self.out_features))
        values = self._forward(x, rows, weight, done)
        if learns:
            self._prepare(x, rows, matrix, weight, done)
        out = torch.from_numpy(values).to(x.device)
        if not learns:
            return out
        flat = x.reshape(-1, self.in_features)
        result: torch.Tensor = _Products.apply(flat, matrix, out, done)  # type: ignore[no-untyped-call]
        return result

    def _forward(
        self, x: torch.Tensor, rows: Floats, weight: Operand, done: _Pass
    ) -> NDArray[np.float32]:
        outliers = self.training.outliers
        with self._timed("forward cast"):
            cast = self._forward_input(x, rows, done)
        values = self._run("forward", cast, weight, done)
        if outliers is not None and outliers.residual:
            with self._timed("forward cast"):
                residual = self.shared.get(
                    x, ("residual", outliers), lambda: outliers.operand(outliers.split(rows)[1])
                )
                side = weight if outliers.weight == "cast" else self._master_weight()
            with self._timed("forward sums"):
                beside, _ = Product(get_unit("exact"), f"{self.name}.residual").run(residual, side)
                values = values + beside
        if self.inputs is not None:
            self.inputs[self.name] = cast
        return values

    def _forward_input(self, x: torch.Tensor, rows: Floats, done: _Pass) -> Operand:
        outliers, forward = self.training.outliers, self.training.forward

        def make() -> Operand:
            clamped = rows if outliers is None else outliers.split(rows)[0]
            return self._cast("forward", "a", clamped, 1, done)

        number = done.number if self._draws(forward, forward.a) else None
        try:
            found = self.shared.get(
                x, ("forward", forward.a, forward.rotation, outliers, number), make
            )
        except FpsimError as error:
            raise FpsimError(
                f"layer {self.name}: forward of {done.where}: activation: {error}"
            ) from None
        assert isinstance(found, Operand)
        return found

    def _cast_weight(self) -> Operand:
        """Return w as an operand of the forward product."""
        forward = self.training.forward
        done = _Pass(self, self.number)

        def make() -> Operand:
            matrix = self._matrix()
            return self._cast("forward", "b", matrix, 1, done)

        try:
            found = self._of_weight("forward", self._draws(forward, forward.b), make)
        except FpsimError as error:
            raise FpsimError(f"layer {self.name}: weight: {error}") from None
        assert isinstance(found, Operand)
        return found

    def _matrix(self) -> Floats:
        matrix = self.weight.matrix.detach()
        for transform in self.transforms:
            matrix = transform.weight(matrix)
        return float_rows(matrix)

    def _master_weight(self) -> Operand:
        outliers = self.training.outliers
        assert outliers is not None
        found = self._of_weight("residual", False, lambda: outliers.operand(self._matrix()))
        assert isinstance(found, Operand)
        return found

    # -- data for the backward pass --------------------------------------------------------------

    def _prepare(
        self, x: torch.Tensor, rows: Floats, matrix: torch.Tensor, weight: Operand, done: _Pass
    ) -> None:
        casts = self.training
        if x.requires_grad:
            with self._timed("dgrad cast"):
                done.weight = self._of_weight(
                    "dgrad",
                    self._draws(casts.dgrad, casts.dgrad.b),
                    lambda: self._turned_weight(weight, done),
                )
                if casts.input_slope is not None:
                    slope = casts.input_slope
                    cast = self._forward_input(x, rows, done)
                    turned = self._rotated("forward", rows, 1, done)
                    done.input_slope = slope.slope(grid_units(casts.forward.a.cast, turned, cast))
        if matrix.requires_grad:
            with self._timed("wgrad cast"):
                number = done.number if self._draws(casts.wgrad, casts.wgrad.b) else None
                key = ("wgrad", casts.wgrad.b, casts.wgrad.rotation, casts.forward.a, number)
                done.inputs = self.shared.get(x, key, lambda: self._turned_input(x, rows, done))
                if casts.weight_slope is not None:
                    slope = casts.weight_slope
                    done.weight_slope = self._of_weight(
                        "slope",
                        self._draws(casts.forward, casts.forward.b),
                        lambda: slope.slope(self._weight_units(weight, done)),
                    )

    def _weight_units(self, weight: Operand, done: _Pass) -> Floats:
        turned = self._rotated("forward", self._matrix(), 1, done)
        return grid_units(self.training.forward.b.cast, turned, weight)

    def _turned_weight(self, weight: Operand, done: _Pass) -> Operand:
        forward = self.training.dgrad.b.source == "forward"
        values = _values(weight) if forward else self._matrix()
        return self._cast("dgrad", "b", values, 0, done)

    def _turned_input(self, x: torch.Tensor, rows: Floats, done: _Pass) -> Operand:
        forward = self.training.wgrad.b.source == "forward"
        values = _values(self._forward_input(x, rows, done)) if forward else rows
        return self._cast("wgrad", "b", values, 0, done)

    # -- backward --------------------------------------------------------------------------------

    def input_gradient(self, e: Floats, done: _Pass) -> Floats:
        """Return dx (T, K) for the gradient e (T, N) of y."""
        assert done.weight is not None
        with self._timed("dgrad cast"):
            a = self._cast("dgrad", "a", e, 1, done)
        values = self._run("dgrad", a, done.weight, done)
        rotated = self.training.dgrad.b.source == "forward"
        return self._back(values, done.input_slope, rotated, done)

    def weight_gradient(self, e: Floats, done: _Pass) -> Floats:
        """Return dw (N, K) for the gradient e (T, N) of y."""
        assert done.inputs is not None
        with self._timed("wgrad cast"):
            a = self._cast("wgrad", "a", e, 0, done)
        values = self._run("wgrad", a, done.inputs, done)
        rotated = self.training.wgrad.b.source == "forward"
        return self._back(values, done.weight_slope, rotated, done)

    def _back(self, values: Floats, slope: Floats | None, rotated: bool, done: _Pass) -> Floats:
        """Return the gradient of the master's values from that of the forward cast's values."""
        if slope is not None:
            values = values * slope
        rotation = self.training.forward.rotation
        if rotation is None or not rotated:
            return values
        return rotation.unrotate(values, rotation.chosen(self._signs("forward", done)))

    # -- casts and products ----------------------------------------------------------------------

    def _draws(self, casts: ProductCasts, side: OperandCast) -> bool:
        """Whether casts of one tensor differ from pass to pass."""
        fresh = casts.rotation is not None and casts.rotation.fresh
        above = side.source == "forward" and any(
            self._draws(self.training.forward, other)
            for other in (self.training.forward.a, self.training.forward.b)
        )
        return fresh or side.cast.stochastic or above

    def _signs(self, product: str, done: _Pass) -> Randomness:
        return Randomness(f"{self.seed}/{done.number}/{product}.signs")

    def _rotated(self, product: str, values: Floats, axis: int, done: _Pass) -> Floats:
        rotation = getattr(self.training, product).rotation
        if rotation is None:
            return values
        rotated: Floats = rotation.rotate(values, rotation.chosen(self._signs(product, done)), axis)
        return rotated

    def _cast(self, product: str, side: str, values: Floats, axis: int, done: _Pass) -> Operand:
        """Rotate and cast a matrix along an axis, which becomes the rows' last axis."""
        operand: OperandCast = getattr(getattr(self.training, product), side)
        values = self._rotated(product, values, axis, done)
        rows = values if axis else np.ascontiguousarray(values.T)
        label = f"{self.seed}/{done.number}/{product}.{side}/{self.name}"
        return operand.cast.quantize(rows, Randomness(label, self.random))

    def _product_of(self, product: str, number: int) -> Product:
        name = self.name if product == "forward" else f"{self.name}.{product}"
        return Product(self.units[product], name, self.seed, number)

    def _product(self) -> Product:
        return self._product_of("forward", self.number)

    def _run(self, product: str, a: Operand, b: Operand, done: _Pass) -> Floats:
        """Run a product; refuse or pass on infinities and NaN."""
        with self._timed(f"{product} sums"):
            if _is_float(a, b):
                values = _float_product(a, b)
            else:
                values, plan = self._product_of(product, done.number).run(a, b)
                if product == "forward":
                    self.plan = plan
                    self.macs += values.size * a.codes.shape[1]
                else:
                    self.gradient_macs += values.size * a.codes.shape[1]
        if self.recorded is not None:
            self.recorded[self.name, product] = (a, b)
        if not self.skips and not np.isfinite(values).all():
            raise FpsimError(
                f"layer {self.name}: {product} of {done.where}: the accumulator of "
                f"{self.units[product].name} overflows to infinity; give the unit more range, the "
                "recipe smaller scales (such as range=8 of NVFP4 recipes), or overflow=skip"
            )
        return values

    def _of_weight(self, name: str, draws: bool, make: Callable[[], Any]) -> Any:
        """Return the cast weight, cast again if it changed or if the cast is random."""
        if draws:
            return make()
        key = self.weight.version
        if name not in self._kept or self._kept[name][0] != key:
            self._kept[name] = (key, make())
        return self._kept[name][1]

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - started


def _values(operand: Operand) -> Floats:
    values: Floats = operand.dequantize().astype(np.float32)
    return values


def _is_float(a: Operand, b: Operand) -> bool:
    return "e8m23" in (a.format.name, b.format.name)


def _float_product(a: Operand, b: Operand) -> Floats:
    """Return a b^T in float64, rounded once, with the factors that `Product.run` would apply."""
    out = (a.values() @ b.values().T).astype(np.float32)
    for factor in (a.factor, None if b.factor is None else b.factor.T):
        if factor is not None:
            out = out * factor
    return out


class _Products(torch.autograd.Function):
    """x w^T, with a given forward result and both gradients computed by the layer."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, w: torch.Tensor, out: torch.Tensor, done: _Pass
    ) -> torch.Tensor:
        ctx.done = done
        ctx.dtypes = x.dtype, w.dtype
        # Returned unchanged, an input would become a view, which models cannot change in place.
        return out.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        done: _Pass = ctx.done
        layer, e = done.layer, float_rows(grad)
        wanted = [
            (layer.input_gradient, ctx.needs_input_grad[0], layer.in_features, e.shape[0]),
            (layer.weight_gradient, ctx.needs_input_grad[1], layer.in_features, e.shape[1]),
        ]
        finite = bool(np.isfinite(e).all())
        if not (finite or layer.skips):
            raise FpsimError(
                f"layer {layer.name}: gradient of {done.where}: the output's gradient holds NaN or "
                "infinity, which have no codes"
            )
        found: list[torch.Tensor | None] = []
        for (gradient, needed, columns, rows), dtype in zip(wanted, ctx.dtypes, strict=True):
            if not needed:
                found.append(None)
                continue
            values = gradient(e, done) if finite else np.full((rows, columns), np.nan, np.float32)
            found.append(torch.from_numpy(np.ascontiguousarray(values)).to(grad.device, dtype))
        return found[0], found[1], None, None


def _lost(x: torch.Tensor, matrix: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Return NaN that depends on both operands, so that their gradients are NaN too."""
    nothing = (x.sum() + matrix.sum()) * torch.nan
    return nothing.expand(shape).clone()


# -- conversion ----------------------------------------------------------------------------------

Unit = str | MacSpec | MacUnit


def layer_maker(
    recipe: Recipe, unit: MacUnit, dgrad: Unit | None, wgrad: Unit | None
) -> Callable[..., SimulatedLinear]:
    """Return a function that makes layers from weight, name, transforms and seed.

    Args:
        recipe: a recipe, of training or not.
        unit: unit of the forward product.
        dgrad: unit of input gradients; None: ``unit``.
        wgrad: unit of weight gradients; None: ``unit``.

    Returns:
        A function of weight, name, transforms and seed.

    Raises:
        FpsimError: units of gradients for a recipe that computes gradients in float.
    """
    if isinstance(recipe, TrainingRecipe):
        units = _Units(unit, *(unit if u is None else get_unit(u) for u in (dgrad, wgrad)))
        shared, training = SharedCasts(), recipe

        def trained(
            weight: LayerWeight, name: str, transforms: Sequence[LayerTransform], seed: int
        ) -> SimulatedLinear:
            return TrainedLinear(weight, training, units, name, transforms, shared, seed)

        return trained
    for field, given in (("dgrad", dgrad), ("wgrad", wgrad)):
        if given is not None:
            raise FpsimError(
                f"{field}: {recipe.name} computes gradients in float; training recipes such as "
                "nvfp4-train cast the operands of gradients"
            )
    casts = InputCasts()

    def straight(
        weight: LayerWeight, name: str, transforms: Sequence[LayerTransform], seed: int
    ) -> SimulatedLinear:
        return SimulatedLinear(weight, recipe, unit, name, transforms, casts, seed)

    return straight


def begin_step(model: torch.nn.Module, step: int) -> None:
    """Tell a converted model the number of its training step, which determines all random bits.

    Without this call passes are counted from the conversion on: a run can then be repeated only
    from its start.

    Raises:
        FpsimError: a step that is not an integer from 0 on.
    """
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 1 << 31:
        raise FpsimError(f"step: {step!r} is not a whole number from 0 on")
    for layer in simulated_layers(model).values():
        layer.training_step, layer.passes = step, 0
