# SPDX-License-Identifier: Apache-2.0
"""Systems with a different grid per layer or group: SliM-LLM, HQ-DiT, QRazor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.bridge.recipe import AttentionCasts, register
from fpsim.bridge.recipes.gptq import SEARCH, WeightOptions, rounded
from fpsim.bridge.recipes.scales import group_size
from fpsim.bridge.systems.casts import GridCast, RazorCast
from fpsim.bridge.systems.forms import BlockHadamard, LayerForm, Segment
from fpsim.bridge.systems.gptq import gptq, inverse_factor
from fpsim.bridge.systems.grids import GroupGrid
from fpsim.bridge.systems.hadamard import hadamard_size
from fpsim.bridge.systems.recipe import GroupData, SystemRecipe
from fpsim.formats.names import get_format

__all__ = ["HqditRecipe", "RazorSystem", "SlimRecipe", "chosen_format", "salience", "spread_ratio"]

#: SliM-LLM adds this number to the second moments' diagonal before it computes salience.
SALIENCE_DAMPING = 0.01


# -- SliM-LLM ------------------------------------------------------------------------------------


def salience(
    weight: NDArray[np.float64], hessian: NDArray[np.float64], group: int
) -> NDArray[np.float64]:
    """Return the sum of w^2 / U_jj^2 over each group of columns, (G,).

    Args:
        weight: (N, K).
        hessian: (K, K), invertible; U is the Cholesky factor of its inverse.
        group: columns per group.

    Returns:
        The salience of each group.
    """
    factor, _ = inverse_factor(hessian, 0.0)
    per_column = (weight**2).sum(axis=0) / np.diag(factor) ** 2
    return np.asarray(per_column.reshape(-1, group).sum(axis=1))


@dataclass(frozen=True)
class SlimRecipe(SystemRecipe):
    """SliM-LLM: groups of columns have 2, 3 or 4 bits (b - 1, b, b + 1) by salience, b on average.

    Source: arXiv 2405.14917 and its code. Salience of a group: sum of w^2 / U_jj^2, with U from the
    second moments plus 0.01 on the diagonal. For i = 1 .. G / 2 - 1 the i least salient groups lose
    a bit and the i most salient ones gain one; the chosen i is the one whose rounded weight changes
    the softmax over output channels least (KL divergence from the float softmax, on kept rows).
    Then GPTQ, with a group's range searched over 1, up to 1.1 and down to 0.9 of itself at its
    first column. ``mixed=false``: b bits everywhere. Weights only: ``inputs`` is the cast of inputs
    for the unit. All groups are one product with one wider integer element.

    Deviations: groups are the largest divisor of K up to ``group``; the code's factor for salient
    elements in the search is 1 by default and left out here; 1-bit groups are integers too.
    """

    inputs: str = "fp16"
    average: int = 2
    group: int = 64
    mixed: bool = True
    damping: float = 0.01

    kept_rows: ClassVar[int] = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.average <= 7:
            raise FpsimError(f"recipe: average: {self.average!r} is not in 2..7")

    def prepare(self, group: GroupData) -> dict[str, LayerForm]:
        """Return a form with one segment per layer."""
        return {name: self._layer(group, name) for name in group.names}

    def _layer(self, group: GroupData, name: str) -> LayerForm:
        weight = group.weights[name]
        hessian = group.statistics[name].hessian + SALIENCE_DAMPING * np.eye(group.width)
        size = group_size(group.width, self.group)
        bits = np.full(group.width // size, self.average)
        if self.mixed:
            rows = group.statistics[name].rows
            bits = self.bit_map(weight, hessian, size, rows.astype(np.float64))
        grid = SlimGrid((weight.shape[0], weight.shape[1]), size, bits)
        gptq(weight, hessian, grid, damping=self.damping)
        return LayerForm((Segment(grid.operand(), self.input_cast()),))

    def bit_map(
        self,
        weight: NDArray[np.float64],
        hessian: NDArray[np.float64],
        size: int,
        rows: NDArray[np.float64],
    ) -> NDArray[np.int64]:
        """Return the bits of each group.

        Args:
            weight: (N, K).
            hessian: (K, K), damped.
            size: columns per group.
            rows: inputs on which the output is compared, (T, K).

        Returns:
            Bits per group, with the recipe's bits as mean.
        """
        count = weight.shape[1] // size
        order = np.argsort(salience(weight, hessian, size), kind="stable")
        wanted = _log_softmax(rows @ weight.T)
        best, least = np.full(count, self.average), np.inf
        for moved in range(1, max(count // 2, 1)):
            bits = np.full(count, self.average)
            bits[order[:moved]] -= 1
            bits[order[count - moved :]] += 1
            grid = GroupGrid((weight.shape[0], weight.shape[1]), size, bits)
            found = _log_softmax(rows @ grid.round_all(weight).T)
            floor = np.log(1e-6)
            found, truth = np.maximum(found, floor), np.maximum(wanted, floor)
            distance = float((np.exp(found) * (found - truth)).sum(axis=1).mean())
            if distance < least:
                best, least = bits, distance
        return best


def _log_softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    moved = x - x.max(axis=1, keepdims=True)
    return np.asarray(moved - np.log(np.exp(moved).sum(axis=1, keepdims=True)))


class SlimGrid(GroupGrid):
    """Groups whose range is the best of 1, 50 steps up to 1.1 and 50 down to 0.9 of itself."""

    def start(
        self, first: int, values: NDArray[np.float64], importance: NDArray[np.float64]
    ) -> None:
        """Fit a group.

        Args:
            first: the group's first column.
            values: the group's updated columns, (N, g).
            importance: 1 / U_jj^2 of the columns, (g,).
        """
        at = first // self.group
        low = np.minimum(values.min(axis=1, keepdims=True), 0)
        high = np.maximum(values.max(axis=1, keepdims=True), 0)
        levels = (1 << int(self.bits[at])) - 1
        best, ends = np.full(low.shape, np.inf), (low, high)
        steps = 0.1 * np.arange(1, 51) / 50
        for share in (1.0, *(1 + steps), *(1 - steps)):
            scale = (high - low) * share / levels
            scale = np.where(scale > 0, scale, 1.0)
            zero = np.rint(-low * share / scale)
            back = (np.clip(np.rint(values / scale) + zero, 0, levels) - zero) * scale
            error = (np.abs(back - values) ** 2.4).sum(axis=1, keepdims=True)
            better = error < best
            best = np.where(better, error, best)
            ends = np.where(better, low * share, ends[0]), np.where(better, high * share, ends[1])
        self.fix(at, *ends)


# -- HQ-DiT --------------------------------------------------------------------------------------

#: Formats for HQ-DiT's choice, with the ratio of largest to smallest value.
FORMATS = {"e1m2": 7.0, "e2m1": 12.0, "e3m0": 64.0}


def spread_ratio(rows: NDArray[np.floating]) -> float:
    """Return log2 of the geometric mean over rows of max |x| / the quantile 0.25 of |x|."""
    sizes = np.abs(rows)
    small = np.maximum(np.quantile(sizes, 0.25, axis=1), 1e-30)
    largest = np.maximum(sizes.max(axis=1), small)
    return float(np.log2(largest / small).mean())


def _error(rows: NDArray[np.float64], name: str) -> float:
    back = GridCast(get_format(name)).quantize(rows.astype(np.float32)).dequantize()
    return float(((back - rows) ** 2).sum())


def _least(rows: NDArray[np.float64]) -> str:
    return min(FORMATS, key=lambda name: _error(rows, name))


@cache
def _shift() -> float:
    """Return the constant with which `chosen_format` most often agrees with the least error.

    Trials are rows of normal, Laplace and uniform values; the result is the middle of the best
    range.
    """
    random = np.random.default_rng(0)
    samples: list[NDArray[np.float64]] = []
    for width in (64, 256, 576, 1536):
        shape = (8, width)
        samples += [
            random.standard_normal(shape), random.laplace(size=shape),
            random.uniform(-1, 1, shape), random.standard_t(3, size=shape),
        ]  # fmt: skip
    wanted = [_least(rows) for rows in samples]
    ratios = [spread_ratio(rows) for rows in samples]
    shifts = np.arange(-4, 4.01, 0.05)
    right = np.array(
        [
            sum(_nearest(ratio, shift) == name for ratio, name in zip(ratios, wanted, strict=True))
            for shift in shifts
        ]
    )
    return float(np.median(shifts[right == right.max()]))


def _nearest(ratio: float, shift: float) -> str:
    return min(FORMATS, key=lambda name: abs(ratio - shift - np.log2(FORMATS[name])))


def chosen_format(rows: NDArray[np.floating]) -> str:
    """Return the format whose ratio of largest to smallest value is nearest to that of rows.

    The paper's abstract suggests this rule, which does not compute errors; its constant is fitted
    once, to the least squared error on rows of common distributions.
    """
    return _nearest(spread_ratio(rows), _shift())


@dataclass(frozen=True)
class HqditRecipe(SystemRecipe):
    """HQ-DiT: every layer's FP4 format by a statistic of its data, behind a Hadamard matrix.

    Source: arXiv 2405.19751, of which the abstract and third-party notes are known; `chosen_format`
    is inferred. Inputs are rotated in blocks of up to ``rotation`` elements, weights once; the
    weight's format is chosen from the rotated weight, the inputs' from kept rows; scales are per
    output channel (with a search for a clipped range) and per token; weights are rounded by GPTQ.
    ``element``: one format for all layers, such as ``e2m1``, in place of the choice.
    """

    inputs: str = "e2m1"
    element: str = "choose"
    rotation: int = 128
    solver: bool = True
    damping: float = 0.01

    kept_rows: ClassVar[int] = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.element != "choose":
            get_format(self.element)
        if self.rotation < 1:
            raise FpsimError(f"recipe: rotation: {self.rotation!r} is not a positive number")

    def prepare(self, group: GroupData) -> dict[str, LayerForm]:
        """Return a form with one segment per layer, in the layer's formats."""
        turn = BlockHadamard(hadamard_size(group.width, self.rotation))
        forms = {}
        for name in group.names:
            weight, hessian = group.mapped(name, (turn,))
            rows = turn.inputs(group.statistics[name].rows)
            choose = self.element == "choose"
            for_weight = chosen_format(weight) if choose else self.element
            for_inputs = chosen_format(rows) if choose else self.element
            cast = GridCast(get_format(for_weight), search=SEARCH)
            options = WeightOptions(self.solver, "natural", self.damping)
            operand, _ = rounded(weight, hessian, cast, options)
            segment = Segment(operand, GridCast(get_format(for_inputs)))
            forms[name] = LayerForm((segment,), (turn,))
        return forms


# -- QRazor --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RazorSystem(SystemRecipe):
    """QRazor whole: W4A4, and KV4 with ``kv=true``, from 8-bit weights and 16-bit inputs.

    Source: arXiv 2501.13331 and third-party code. Base integers: weights 8 bits per output channel,
    inputs 16 bits with one static scale per layer, queries 16 bits with a scale per token,
    probabilities 16 bits with a fixed scale, keys and values 8 bits. Of each group of ``group``
    elements four bits are kept (`RazorCast`); K and V in groups along the head, so that in P V the
    shift changes from token to token. ``solver``: GPTQ with fixed shifts. ``half_up``: ties go up
    in magnitude, as in hardware, not to even as in the code.

    Deviations: base scales of keys, values and queries are found in each pass, not static.
    """

    inputs: str = "int16"
    group: int = 16
    kv: bool = False
    solver: bool = False
    half_up: bool = False
    damping: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group < 1:
            raise FpsimError(f"recipe: group: {self.group!r} is not a positive number")

    def prepare(self, group: GroupData) -> dict[str, LayerForm]:
        """Return a form with one segment per layer."""
        largest = float(group.statistics[group.names[0]].maxima.max())
        scale = float(np.float32(largest / 32767)) or 1.0
        inputs = RazorCast(16, self.group, scale, self.half_up)
        weights = RazorCast(8, self.group, None, self.half_up, by_row=True)
        options = WeightOptions(self.solver, "natural", self.damping)
        return {
            name: LayerForm(
                (
                    Segment(
                        rounded(
                            group.weights[name], group.statistics[name].hessian, weights, options
                        )[0],
                        inputs,
                    ),
                )
            )
            for name in group.names
        }

    def attention(self, layer: str) -> AttentionCasts | None:
        """Return 16 bits for queries and probabilities, four of eight bits for keys and values."""
        if not self.kv:
            return None
        cache_cast: Any = RazorCast(8, self.group, None, self.half_up)
        wide = get_format("int16s")
        query, probability = GridCast(wide), GridCast(wide, scale=float(np.float32(1 / 32767)))
        return AttentionCasts(query, cache_cast, probability, cache_cast, "token")


register("slim-llm")(SlimRecipe)
register("hq-dit")(HqditRecipe)
register("qrazor-static")(RazorSystem)
