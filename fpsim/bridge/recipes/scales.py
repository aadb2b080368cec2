# SPDX-License-Identifier: Apache-2.0
"""Systems that scale, split or merge channels before casts: SmoothQuant, AWQ, AQAS with dINT4,
MergeQuant, FlattenQuant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.bridge.cast import Cast
from fpsim.bridge.recipe import AttentionCasts, register
from fpsim.bridge.recipes.gptq import SEARCH, WeightOptions, rounded, weight_cast
from fpsim.bridge.systems.casts import GridCast, GroupCast, input_cast
from fpsim.bridge.systems.forms import (
    BlockHadamard,
    Columns,
    Divide,
    Flatten,
    LayerForm,
    LowRank,
    Segment,
    float_product,
)
from fpsim.bridge.systems.gptq import gptq
from fpsim.bridge.systems.grids import FrozenGrid, GroupGrid
from fpsim.bridge.systems.hadamard import hadamard_size
from fpsim.bridge.systems.recipe import GroupData, SystemRecipe
from fpsim.formats.names import get_format
from fpsim.units.operands import Operand

__all__ = ["AqasRecipe", "AwqRecipe", "FlattenRecipe", "MergeRecipe", "SmoothRecipe", "foldable"]

#: Candidates of AWQ's search: exponents 0, 0.05 ... 0.95; shares of a group's range 1, 0.95 ...
#: 0.55.
RATIOS, SHRINKS = np.arange(20) / 20, 1 - np.arange(10) * 0.05


def group_size(width: int, wanted: int) -> int:
    """Return the largest divisor of a width up to ``wanted``; 0, the whole row, stays 0."""
    if not wanted:
        return width
    return max(size for size in range(1, min(wanted, width) + 1) if width % size == 0)


def foldable(group: GroupData) -> bool:
    """Whether scales of this group's inputs can be folded into the modules before it.

    They can be folded into a norm of the block, unless norms come after the sums (BERT), whose
    outputs also feed the residual stream; into the values, if the layer before has as many outputs
    as this one has inputs (not under grouped-query attention); and, in a gated MLP, into the factor
    without an activation function.
    """
    if group.reads_norm:
        return group.block.pre_norm
    first = group.block.groups[0].names if group.block.groups else ()
    if group.ends_attention:
        outs = {group.block.layers[name].sizes[1] for name in first}
        return outs == {group.width}
    before = [g for g in group.block.groups if group.names[0] not in g.names]
    return bool(before) and len(before[-1].names) == 2


@dataclass(frozen=True)
class SmoothRecipe(SystemRecipe):
    """SmoothQuant: scales move outliers from inputs to weights, W8A8.

    Source: arXiv 2211.10438 and its code. s_k = max |x_k|^alpha / max_n |W_nk|^(1 - alpha), with
    the second maximum over all layers that read the norm, at least 1e-5; scales are folded into
    norms, so only layers that read a norm have them. Inputs have a scale per token (``inputs=int4``
    and ``element=int4``: W4A4), weights one per output channel. ``alpha=0`` with ``scale=false`` is
    rounding to nearest.
    """

    inputs: str = "int8"
    element: str = "int8"
    alpha: float = 0.5
    scale: bool = True

    needs_norms: ClassVar[bool] = True
    keeps_hessian: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha <= 1:
            raise FpsimError(f"recipe: alpha: {self.alpha!r} is not in 0..1")
        weight_cast(self.element)

    def prepare(self, group: GroupData) -> dict[str, LayerForm]:
        """Return a form per layer with one segment after its scales."""
        maps: tuple[Any, ...] = ()
        if self.scale and group.reads_norm:
            maps = (Divide(_smooth(group, self.alpha).astype(np.float32)),)
        cast, forms = weight_cast(self.element), {}
        for name in group.names:
            weight, _ = group.mapped(name, maps)
            operand = cast.quantize(weight.astype(np.float32))
            forms[name] = LayerForm((Segment(operand, self.input_cast()),), maps)
        return forms


def _smooth(group: GroupData, alpha: float) -> NDArray[np.float64]:
    largest = group.statistics[group.names[0]].maxima
    column = np.abs(group.joint).max(axis=0).clip(1e-5)
    scale = np.maximum(largest, 1e-5) ** alpha / column ** (1 - alpha)
    return np.where(largest > 0, scale.clip(1e-5), 1.0)


@dataclass(frozen=True)
class AwqRecipe(SystemRecipe):
    """AWQ: channels with large inputs are scaled up before weights are rounded.

    Source: arXiv 2306.00978 and llm-awq. s = mean |x|^r, normalised by sqrt(max s min s); r is the
    best of 0, 0.05 ... 0.95 by the squared error of the output of the module that holds the layers
    (attention for query, key and value, the MLP for gate and up, else the layer itself), on at most
    2048 tokens. Then each group's range is cut to 1, 0.95 ... 0.55 of itself by the error of the
    group's own output on kept rows, but not for queries and keys. Weights only: ``element``
    ``int4-asym`` in groups of up to ``group`` columns (FP16 scales), or another element or block
    format; ``inputs`` is the cast of inputs for the unit. ``scale=false``: no scales.

    Deviations: groups are the largest divisor of K up to ``group``; module inputs are the float
    model's (as in llm-awq).
    """

    inputs: str = "fp16"
    element: str = "int4-asym"
    group: int = 128
    scale: bool = True
    clip: bool = True

    kept_rows: ClassVar[int] = 512
    reads_float: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        weight_cast(self.element)

    def base(self, group: GroupData) -> NDArray[np.float64]:
        """Return each channel's magnitude, whose powers are the candidate scales."""
        return group.statistics[group.names[0]].mean_magnitude

    def prepare(self, group: GroupData) -> dict[str, LayerForm]:
        """Return a form per layer with one segment after the best scales."""
        scales = list(self._scales(group))
        tried = [self._forms(group, scale) for scale in scales]
        losses = [group.module_loss(forms) for forms in tried] if len(tried) > 1 else [0.0]
        best = int(np.argmin(losses))
        return self._forms(group, scales[best], final=True)

    def _scales(self, group: GroupData) -> Iterator[NDArray[np.float32]]:
        if not (self.scale and foldable(group)):
            yield np.ones(group.width, np.float32)
            return
        base = self.base(group)
        for ratio in RATIOS:
            scale = np.maximum(base**ratio, 1e-4)
            yield (scale / np.sqrt(scale.max() * scale.min())).astype(np.float32)

    def _forms(
        self, group: GroupData, scale: NDArray[np.float32], final: bool = False
    ) -> dict[str, LayerForm]:
        divide = Divide(scale)
        maps = () if (scale == 1).all() else (divide,)
        forms = {}
        for name in group.names:
            weight = divide.weight(group.weights[name])
            rows = group.statistics[name].rows if final and self._clips(group, name) else None
            operand = self._operand(weight, None if rows is None else divide.inputs(rows))
            forms[name] = LayerForm((Segment(operand, self.input_cast()),), maps)
        return forms

    def _clips(self, group: GroupData, name: str) -> bool:
        """Whether a layer's ranges are cut; not for queries and keys, which every score uses."""
        part = name.rpartition(".")[2].lower()
        return self.clip and not ("q_" in part or "k_" in part or part in ("query", "key"))

    def _operand(self, weight: NDArray[np.float64], rows: NDArray[np.float32] | None) -> Operand:
        grid = self._grid(weight)
        if grid is None:
            return weight_cast(self.element).quantize(weight.astype(np.float32))
        if rows is None:
            grid.round_all(weight)
        else:
            _clipped(grid, weight, rows)
        return grid.operand()

    def _grid(self, weight: NDArray[np.float64]) -> GroupGrid | None:
        """Return the grid of integers in groups, or None for other elements."""
        special = self.element == "dint4"
        if not (special or self.element.startswith("int")):
            return None
        bits = 4 if special else int(self.element.removesuffix("-asym")[3:])
        symmetric = not (special or self.element.endswith("-asym"))
        size = group_size(weight.shape[1], self.group)
        shape = (weight.shape[0], weight.shape[1])
        return GroupGrid(shape, size, bits, symmetric, special=special)


def _clipped(grid: GroupGrid, weight: NDArray[np.float64], rows: NDArray[np.float32]) -> None:
    """Round in groups; each range is the share of itself that changes the group's output least."""
    for at, first in enumerate(range(0, weight.shape[1], grid.group)):
        columns = slice(first, first + grid.group)
        part, x = weight[:, columns], rows[:, columns].astype(np.float64)
        moments = x.T @ x
        low = np.minimum(part.min(1, keepdims=True), 0)
        high = np.maximum(part.max(1, keepdims=True), 0)
        if grid.symmetric:
            high = np.maximum(high, -low)
            low = -high
        best, ends = np.full((len(part), 1), np.inf), (low, high)
        for share in SHRINKS:
            grid.fix(at, low * share, high * share)
            found = grid.round_part(first, part) - part
            error = np.einsum("nk,nk->n", found @ moments, found)[:, None]
            better = error < best
            best = np.where(better, error, best)
            ends = np.where(better, low * share, ends[0]), np.where(better, high * share, ends[1])
        grid.fix(at, *ends)
        grid.round_part(first, part)


@dataclass(frozen=True)
class AqasRecipe(AwqRecipe):
    """AQAS: AWQ's scales scored with both operands cast; weights INT4 or dINT4, inputs 8 bits.

    Source: "Enhancing Computation Efficiency in Large Language Models through Weight and Activation
    Quantization" (EMNLP 2023, arXiv 2311.05161). Scales are powers of max |x|; the module's output
    has inputs cast too. ``element`` ``int4-asym`` per output channel, or ``dint4``: 13 uniform
    steps and two codes of plus and minus half a step, an integer in half steps for the unit.
    ``solver``: GPTQ (OPTQ) after the scales. ``values``: the values of attention in 4 bits per
    channel, ``int4-asym`` or ``float``. SLAC is a matter of the batches: calibrate on sequences as
    long as the task's.

    Deviations: scales are folded where `foldable` says so; P and Q are FP16 beside cast values.
    """

    inputs: str = "int8-asym"
    group: int = 0
    solver: bool = False
    values: str = "float"
    damping: float = 0.01

    casts_inputs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        SystemRecipe.__post_init__(self)
        if self.element != "dint4":
            weight_cast(self.element)
        if self.values not in ("float", "int4-asym"):
            raise not_one_of("recipe: values", self.values, ("float", "int4-asym"))

    def base(self, group: GroupData) -> NDArray[np.float64]:
        """Return each channel's largest magnitude, for AWQ's scales."""
        return group.statistics[group.names[0]].maxima

    def _forms(
        self, group: GroupData, scale: NDArray[np.float32], final: bool = False
    ) -> dict[str, LayerForm]:
        if not (final and self.solver):
            return super()._forms(group, scale, final)
        divide, forms = Divide(scale), {}
        maps = () if (scale == 1).all() else (divide,)
        for name in group.names:
            weight, hessian = group.mapped(name, (divide,))
            assert hessian is not None
            grid = self._grid(weight) or FrozenGrid(weight_cast(self.element), weight)
            gptq(weight, hessian, grid, damping=self.damping)
            forms[name] = LayerForm((Segment(grid.operand(), self.input_cast()),), maps)
        return forms

    def attention(self, layer: str) -> AttentionCasts | None:
        """Return casts: 4-bit values, FP16 for the other operands."""
        if self.values == "float":
            return None
        half: Cast = GridCast(get_format("e5m10"), scale=1.0)
        return AttentionCasts(half, half, half, GroupCast(4), "sequence")


# -- static scales -------------------------------------------------------------------------------


@dataclass(frozen=True)
class MergeRecipe(SystemRecipe):
    """MergeQuant: static scales per channel, merged into the norm before and the weight after.

    Source: arXiv 2503.07654, of which the abstract is known; the rest is inferred. Where a norm is
    read: s_k = c_k max |x_k| / 7 with c_k of 1, 0.95 ... 0.5 that makes the least squared error of
    the channel over kept rows, folded into the norm's gain, so its output is rounded to integers as
    it is, without a scale; weights W_nk s_k are rounded per output channel by GPTQ on the second
    moments of x / s. Dimensional reconstruction (``split``): a channel of s_k > T, T the quantile
    0.99 times ``kappa``, is repeated m = ceil(s_k / T) times with an m-th of its weight; as many of
    the weakest channels, by s_k ||W_:k||, are dropped with their mean in the bias. Other layers
    have symmetric inputs per token behind an online Hadamard matrix. ``rank``: a low-rank FP16 side
    path from the weight's error, weighed by the second moments.
    """

    inputs: str = "int4"
    element: str = "int4"
    split: bool = True
    kappa: float = 1.0
    rank: int = 0
    damping: float = 0.01

    needs_norms: ClassVar[bool] = True
    kept_rows: ClassVar[int] = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kappa <= 0:
            raise FpsimError(f"recipe: kappa: {self.kappa!r} is not positive")
        weight_cast(self.element)

    def prepare(self, group: GroupData) -> dict[str, LayerForm]:
        """Return forms: static scales for readers of norms, rotated inputs for others."""
        static = group.reads_norm
        cast = self.input_cast()
        bias = None
        if static:
            assert cast is not None
            maps, dropped = self._static(group, cast)
            cast = GridCast(cast.element, scale=1.0)
        else:
            maps, dropped = (BlockHadamard(hadamard_size(group.width, group.width)),), None
        forms = {}
        for name in group.names:
            weight, hessian = group.mapped(name, maps)
            options = WeightOptions(True, "natural", self.damping)
            operand, _ = rounded(weight, hessian, weight_cast(self.element, SEARCH), options)
            if dropped is not None and dropped.any():
                mean = np.where(dropped, group.statistics[name].mean, 0)
                bias = (group.weights[name] @ mean).astype(np.float32)
            sides: tuple[Any, ...] = ()
            if self.rank and hessian is not None:
                sides = (low_rank(weight - operand.dequantize(), hessian, self.rank),)
            forms[name] = LayerForm((Segment(operand, cast),), maps, sides, bias)
        return forms

    def _static(
        self, group: GroupData, cast: Cast
    ) -> tuple[tuple[Any, ...], NDArray[np.bool_] | None]:
        statistics = group.statistics[group.names[0]]
        scale = _clipped_steps(statistics.rows, statistics.maxima, cast)
        if not self.split:
            return (Divide(scale.astype(np.float32)),), None
        limit = np.quantile(scale, 0.99) * self.kappa
        copies = np.ceil(scale / limit).clip(1).astype(np.int64)
        more = int((copies - 1).sum())
        strength = scale * np.linalg.norm(group.joint, axis=0)
        strength[copies > 1] = np.inf
        dropped = np.zeros(group.width, bool)
        dropped[np.argsort(strength)[: min(more, int((copies == 1).sum()))]] = True
        kept = np.flatnonzero(~dropped)
        columns = np.repeat(kept, copies[kept])
        share = (1 / np.repeat(copies[kept], copies[kept])).astype(np.float32)
        return (Divide(scale.astype(np.float32)), Columns(columns, share)), dropped


def _clipped_steps(
    rows: NDArray[np.float32], maxima: NDArray[np.float64], cast: Cast
) -> NDArray[np.float64]:
    """Return each channel's static step with the least squared error over rows."""
    largest = np.where(maxima > 0, maxima, 1.0)
    element = cast.element
    best, chosen = np.full(len(largest), np.inf), largest / element.max_value
    for share in 1 - np.arange(11) * 0.05:
        step = largest * share / element.max_value
        back = element.decode(element.encode(rows / step, "rne", "saturate")) * step
        error = ((back - rows) ** 2).sum(axis=0)
        chosen = np.where(error < best, step, chosen)
        best = np.minimum(best, error)
    return chosen


def low_rank(change: NDArray[np.float64], hessian: NDArray[np.float64], rank: int) -> LowRank:
    """Return the low-rank side path that restores most of a weight's loss.

    It is from the singular value decomposition of the loss times the square root of the second
    moments.

    Args:
        change: weight minus rounded weight, (N, K).
        hessian: second moments, (K, K).
        rank: rank of the path.

    Returns:
        The side path.
    """
    values, vectors = np.linalg.eigh(hessian)
    root = np.sqrt(np.maximum(values, 1e-9 * max(values.max(), 1e-30)))
    left, strength, right = np.linalg.svd(change @ (vectors * root), full_matrices=False)
    up = (left[:, :rank] * strength[:rank]).T
    down = (right[:rank] / root) @ vectors.T
    return LowRank(down.T.astype(np.float32), up.astype(np.float32))


@dataclass(frozen=True)
class FlattenRecipe(SystemRecipe):
    """FlattenQuant: channels beyond a threshold are split, so that one static scale suffices.

    Source: arXiv 2402.17985, of which the abstract and third-party notes are known; the rest is
    inferred. After SmoothQuant's scales (``alpha``) on what norms make, T = beta median(max |x_k|)
    with the least beta of 1, 1.25, 1.5, 2 ... that adds at most ``growth`` of K; channel k becomes
    ceil(max |x_k| / T) parts (`Flatten`), its weight repeated. Then inputs and weights have one
    static scale per tensor, T / 7. A layer whose output error exceeds ``limit`` is 8 by 8 bits.
    ``flatten=false``: SmoothQuant's scales without flattening.

    Deviation: weights are not flattened along K (their scale is the tensor's largest value).
    """

    inputs: str = "int4"
    element: str = "int4"
    alpha: float = 0.5
    growth: float = 0.25
    limit: float = 0.1
    flatten: bool = True

    kept_rows: ClassVar[int] = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.growth < 0 or self.limit < 0:
            raise FpsimError("recipe: growth, limit: they are not negative")
        if not self.element.startswith("int") and self.element not in ("e2m1", "e3m0", "e1m2"):
            raise FpsimError(f"recipe: element: {self.element!r} has no scale per tensor here")

    def prepare(self, group: GroupData) -> dict[str, LayerForm]:
        """Return a form per layer with one segment on flattened inputs."""
        statistics = group.statistics[group.names[0]]
        maps: tuple[Any, ...] = ()
        largest = statistics.maxima
        if group.reads_norm:
            scale = _smooth(group, self.alpha)
            maps, largest = (Divide(scale.astype(np.float32)),), largest / scale
        threshold = float(largest.max()) or 1.0
        if self.flatten:
            threshold, flat = self._flattened(largest)
            maps = (*maps, flat)
        forms = {}
        for name in group.names:
            rows = group.statistics[name].rows
            weight = group.weights[name]
            for bits in (4, 8):
                form = self._form(weight, maps, threshold, bits)
                wanted = rows @ weight.T
                error = form.output(rows, float_product()) - wanted
                share = float((error**2).sum() / max((wanted**2).sum(), 1e-30))
                if share <= self.limit:
                    break
            forms[name] = replace(form, error=share)
        return forms

    def _form(
        self, weight: NDArray[np.float64], maps: tuple[Any, ...], threshold: float, bits: int
    ) -> LayerForm:
        for step in maps:
            weight = step.weight(weight)
        inputs = self.input_cast() if bits == 4 else input_cast("int8")
        assert inputs is not None
        element = weight_cast(self.element if bits == 4 else "int8").element
        largest = float(np.abs(weight).max()) or 1.0
        cast = GridCast(element, scale=float(np.float32(largest / element.max_value)))
        static = GridCast(
            inputs.element, scale=float(np.float32(threshold / inputs.element.max_value))
        )
        return LayerForm((Segment(cast.quantize(weight.astype(np.float32)), static),), maps)

    def _flattened(self, largest: NDArray[np.float64]) -> tuple[float, Flatten]:
        middle = float(np.median(largest[largest > 0])) if (largest > 0).any() else 1.0
        beta = 1.0
        while True:
            parts = np.ceil(largest / (beta * middle)).clip(1).astype(np.int64)
            if parts.sum() <= (1 + self.growth) * len(parts):
                break
            beta *= 1.25
        columns = np.repeat(np.arange(len(parts)), parts)
        part = np.concatenate([np.arange(m) for m in parts])
        last = np.concatenate([np.arange(m) == m - 1 for m in parts])
        return beta * middle, Flatten(columns, part, last, beta * middle)


register("smoothquant")(SmoothRecipe)
register("awq")(AwqRecipe)
register("aqas")(AqasRecipe)
register("mergequant")(MergeRecipe)
register("flattenquant")(FlattenRecipe)
