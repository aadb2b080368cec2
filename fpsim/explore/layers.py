# SPDX-License-Identifier: Apache-2.0
"""Effects of a recipe and a unit on each layer of a model, from inputs of the float model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.studies.sqnr import sqnr_db

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import nn

    from fpsim.bridge.cast import Cast
    from fpsim.bridge.layer_inputs import Batch
    from fpsim.units.operands import Operand

__all__ = ["LayerRow", "LayerSample", "layer_rows", "sample_layers"]

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class LayerRow:
    """One layer of a model under a recipe on a unit.

    Attributes:
        layer: name of the layer.
        length: K, products per result.
        input_format, weight_format: element formats of the casts, with the bias if it is not the
            default.
        channel_low, channel_high: smallest and largest of the input channels' largest magnitudes,
            without all-zero channels.
        saturated: share of input values beyond the largest value at their scale.
        flushed: share of nonzero input values cast to zero.
        cast_db: SQNR of the output with cast operands and exact sums, against the float output.
        unit_db: SQNR of the unit's results against the exact sums of cast operands; inf for no
            losses, NaN if results are not finite.
        overflows, swamped: shares of the accumulator's steps.
        fixed_bits, mantissa_bits: widths of the narrowest lossless accumulators.
    """

    layer: str
    length: int
    input_format: str
    weight_format: str
    channel_low: float
    channel_high: float
    saturated: float
    flushed: float
    cast_db: float
    unit_db: float
    overflows: float
    swamped: float
    fixed_bits: int
    mantissa_bits: int

    @property
    def output_db(self) -> float:
        """SQNR of the unit's output against the float output: noise of cast and unit added up."""
        if math.isnan(self.unit_db):
            return -math.inf
        return -10 * math.log10(10 ** (-self.cast_db / 10) + 10 ** (-self.unit_db / 10) or 1e-40)


@dataclass(frozen=True)
class LayerSample:
    """Samples of a layer: rows of float input and weight, largest input per channel."""

    name: str
    inputs: Rows  #: (T, K)
    weight: Rows  #: (N, K), rows spread evenly over the output channels
    maxima: Rows  #: (K,)


def sample_layers(
    model: nn.Module,
    batches: Iterable[Batch],
    pattern: str = "*",
    rows: int = 16,
    columns: int = 32,
) -> dict[str, LayerSample]:
    """Run the float model and sample every layer that recipes cast.

    Args:
        model: a model that `fpsim.bridge.convert` takes.
        batches: keyword arguments of the model's forward passes.
        pattern: shell pattern of layer names.
        rows: approximate number of input rows per layer.
        columns: output channels per layer, spread evenly.

    Returns:
        Samples by name of the layer, in the model's order.

    Raises:
        FpsimError: a pattern that matches no layer, or a model without layers that recipes cast.
    """
    from fpsim.bridge.convert import layers_to_convert
    from fpsim.bridge.layer_inputs import captured_inputs
    from fpsim.bridge.product import float_rows
    from fpsim.bridge.recipe import get_recipe

    every, _ = layers_to_convert(model, get_recipe("mxfp4"), None, ("*",))
    layers = {name: weight for name, weight in every.items() if fnmatch(name, pattern)}
    if not layers:
        raise FpsimError(f"layer: {pattern!r} matches none of the model's {len(every)} layers")
    picked = captured_inputs(model, layers, batches, rows)
    found = {}
    for name, weight in layers.items():
        matrix = float_rows(weight.matrix.detach())
        places = np.linspace(0, matrix.shape[0] - 1, min(columns, matrix.shape[0]))
        maxima = picked[name].maxima
        assert maxima is not None
        found[name] = LayerSample(
            name, picked[name].rows()[:rows], matrix[places.astype(np.int64)], maxima
        )
    return found


def layer_rows(
    samples: Mapping[str, LayerSample],
    recipe: Any,
    unit: Any,
    calibration: Any = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[LayerRow, ...]:
    """Measure the effects of a recipe's casts and a unit's accumulator on sampled layers.

    Args:
        samples: samples of layers, as `sample_layers` returns them.
        recipe: a recipe or its name; it must cast inputs and weights.
        unit: a unit, its name, or a path to its TOML.
        calibration: a calibration, for recipes that need one.
        report: called with layers done and layers in all.

    Returns:
        A row per layer that the recipe casts.

    Raises:
        FpsimError: a recipe that leaves inputs in float or lacks its calibration, or a unit that
            refuses the operands; the message names the layer.
    """
    from fpsim.bridge.recipe import get_recipe

    chosen = get_recipe(recipe)
    if calibration is not None:
        chosen = chosen.calibrated(calibration)
    if not chosen.is_calibrated:
        raise FpsimError(f"recipe: {chosen.name} needs a calibration; see `fpsim calibrate`")
    if chosen.weights_only:
        raise FpsimError(f"recipe: {chosen.name} leaves inputs in float, which have no codes")
    if chosen.has_forms:
        raise FpsimError(
            f"recipe: {chosen.name} is a system, whose layers are more than two casts; "
            "analysis/systems.py measures those"
        )
    found = []
    for done, sample in enumerate(samples.values()):
        report(done, len(samples))
        casts = chosen.activation(sample.name), chosen.weight(sample.name)
        if casts[0] is None or casts[1] is None:
            continue
        try:
            found.append(_row(sample, casts[0], casts[1], unit))
        except FpsimError as error:
            raise FpsimError(f"layer {sample.name}: {error}") from None
    report(len(samples), len(samples))
    return tuple(found)


def _row(sample: LayerSample, input_cast: Cast, weight_cast: Cast, unit: Any) -> LayerRow:
    from fpsim.bridge.layer_operands import size_layer

    a, b = input_cast.quantize(sample.inputs), weight_cast.quantize(sample.weight)
    x, x_hat = sample.inputs.astype(np.float64), a.dequantize()
    wanted = x @ sample.weight.astype(np.float64).T
    sizing = size_layer((a, b), unit)
    used = sample.maxima[sample.maxima > 0]
    steps = max(sizing.steps, 1)
    nonzero = x != 0
    return LayerRow(
        layer=sample.name,
        length=x.shape[1],
        input_format=a.format.name,
        weight_format=b.format.name,
        channel_low=float(used.min(initial=np.inf)) if used.size else 0.0,
        channel_high=float(used.max(initial=0.0)),
        saturated=float(np.mean(_beyond(a, x, x_hat))),
        flushed=float(np.mean(x_hat[nonzero] == 0)) if nonzero.any() else 0.0,
        cast_db=sqnr_db(wanted, x_hat @ b.dequantize().T) if wanted.any() else math.inf,
        unit_db=math.nan if sizing.not_finite else sizing.sqnr_db,
        overflows=sizing.overflows / steps,
        swamped=sizing.swamped / steps,
        fixed_bits=sizing.fixed_width,
        mantissa_bits=sizing.mantissa_bits,
    )


def _beyond(a: Operand, x: NDArray[np.float64], x_hat: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the mask of values beyond the largest code of their sign."""
    table = a.format.decode(np.arange(1 << a.format.bits, dtype=a.codes.dtype))
    finite = np.where(np.isfinite(table), table, 0.0)
    values = finite[a.codes]
    ends = (values == finite.max()) | (values == finite.min())
    return np.asarray(ends & (np.abs(x) > np.abs(x_hat)))
