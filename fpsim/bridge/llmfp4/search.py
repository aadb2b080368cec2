# SPDX-License-Identifier: Apache-2.0
"""LLM-FP4's joint search of format and clipping range for one layer (arXiv 2310.16836, Alg. 1).

It minimizes the layer's output error sum_t |w_hat x_hat_t - w x_t|^2 over calibration inputs x_t,
in three alternating rounds, with candidates fixed from the initial biases:

    fpq       for each format: bias of every weight row;  for each format: rho~ of the inputs;
              then the weight format;  then the input format
    baseline  weight biases, weight format, input bias, input format
    either, in the paper's order: input bias, input format, weight biases, weight format

The result is the same as with all errors computed in full (ties go to the first candidate), but few
are: errors are sums of squares, so a candidate is dropped once a part of its sum exceeds the best
whole sum. For weights the parts are components of the inputs' Gram matrix, largest first:

    sum_t (w_hat x_t' - o_t)^2 = |w_hat A - t|^2 + const,   X'^T X' = V L V^T, A = V sqrt(L)

for inputs they are chunks of tokens, with outputs rotated into at most in_features numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fpsim.base.powers import exp2
from fpsim.blocks.preshift import Reading
from fpsim.bridge.llmfp4.fpq import (
    Grid,
    LayerConstants,
    Method,
    Order,
    bias_candidates,
    formats,
    initial_biases,
    shifts_of,
    start_format,
)
from fpsim.bridge.recipe import FLOAT_BITS
from fpsim.formats.floating import FloatFormat
from fpsim.kernels.codec.fake_quantize import fake_quantize
from fpsim.studies.clipping import largest_value

__all__ = ["SearchSettings", "choices", "search_embedding", "search_layer"]

Floats = NDArray[np.float32]
#: First number of Gram components, and of tokens, to look at; it then doubles.
_FIRST_COMPONENTS, _FIRST_TOKENS = 16, 64
#: Components below this share of the largest are rounding noise of float32 data.
_NEGLIGIBLE = 1e-10


@dataclass(frozen=True)
class SearchSettings:
    """All settings that determine the result of a search, besides the data."""

    method: Method = Method.FPQ
    grid: Grid = Grid.PUBLISHED
    reading: Reading = Reading.PAPER
    weight_bits: int = 4
    input_bits: int = 4
    rounds: int = 3
    order: Order = Order.CODE

    def __post_init__(self) -> None:
        for name, kind in (
            ("method", Method), ("grid", Grid), ("reading", Reading), ("order", Order)
        ):  # fmt: skip
            object.__setattr__(self, name, kind(getattr(self, name)))


@dataclass
class _Inputs:
    """Parameters of the inputs' cast in one format."""

    biases: NDArray[np.float64] | None  #: b~_j, fixed; None: no pre-shift
    initial: float
    rho: float


def search_layer(
    weight: Floats,
    inputs: Floats,
    settings: SearchSettings,
    importance: Floats | None = None,
    maxima: Floats | None = None,
) -> LayerConstants:
    """Search the constants of a layer.

    Args:
        weight: (N, K).
        inputs: calibration inputs (T, K).
        settings: formats, grid, method and order of the search.
        importance: (T, N), weights of the squared output errors: squared gradients of the loss, for
            the diagonal Fisher objective.
        maxima: (K,), the largest magnitude of each channel over all calibration data, of which
            ``inputs`` may be a part (equation 14); default: the inputs' own.

    Returns:
        The formats, biases and shifts found.
    """
    return _Search(weight, inputs, settings, importance, maxima).run()


def searched(point: tuple[Any, ...]) -> LayerConstants:
    """Search one layer for an executor: ``point`` has the arguments of `search_layer`."""
    return search_layer(*point)


class _Search:
    def __init__(
        self,
        weight: Floats,
        inputs: Floats,
        settings: SearchSettings,
        importance: Floats | None,
        maxima: Floats | None,
    ) -> None:
        self.maxima = np.abs(inputs).max(axis=0) if maxima is None else maxima
        self.w, self.x, self.settings = weight, inputs, settings
        self.importance = None if importance is None else torch.from_numpy(importance)
        self.target = torch.from_numpy(inputs) @ torch.from_numpy(weight).T
        self.ones = np.ones(weight.shape[1], np.float32)
        self.w_formats = choices(settings.weight_bits, settings.method)
        self.x_formats = choices(settings.input_bits, settings.method)
        row_maxima = np.abs(weight).max(axis=1)
        self.w_initial = {f: initial_biases(f, row_maxima) for f in self.w_formats}
        self.w_bias = {f: bias.copy() for f, bias in self.w_initial.items()}
        self.x_state = {f: self._initial_inputs(f) for f in self.x_formats}
        self.w_format = self._start(settings.weight_bits)
        self.x_format = self._start(settings.input_bits)
        # The state of the other operand when biases were found: with an equal state they stay.
        self.seen_by_weights: object = None
        self.seen_by_inputs: object = None

    @staticmethod
    def _start(bits: int) -> FloatFormat | None:
        return None if bits in FLOAT_BITS else start_format(bits)

    def _initial_inputs(self, fmt: FloatFormat) -> _Inputs:
        if self.settings.method is not Method.FPQ:
            bias = float(initial_biases(fmt, self.maxima.max(keepdims=True))[0])
            return _Inputs(None, bias, bias)
        biases = initial_biases(fmt, self.maxima)
        return _Inputs(biases, float(biases.min()), float(biases.min()))

    # -- the rounds ------------------------------------------------------------------------------

    def run(self) -> LayerConstants:
        seen = None
        for _ in range(self.settings.rounds if self.settings.method is not Method.MINMAX else 0):
            if self.settings.order is Order.PAPER:
                self._input_biases()
                self._input_format()
                self._weight_biases()
                self._weight_format()
            elif self.settings.method is Method.FPQ:
                self._weight_biases()
                self._input_biases()
                self._weight_format()
                self._input_format()
            else:
                self._weight_biases()
                self._weight_format()
                self._input_biases()
                self._input_format()
            state = self._state()
            if state == seen:  # a fixed point: further rounds would repeat this one
                break
            seen = state
        return self._constants()

    def _state(self) -> tuple[object, ...]:
        weights = tuple(bias.tobytes() for bias in self.w_bias.values())
        inputs = tuple(state.rho for state in self.x_state.values())
        return self.w_format, self.x_format, weights, inputs

    def _weight_biases(self) -> None:
        if self.w_format is None:
            return
        inputs = (self.x_format, self.x_format and self.x_state[self.x_format].rho)
        if inputs == self.seen_by_weights:
            return
        self.seen_by_weights = inputs
        rows = _RowErrors(self, self._fake_inputs(self.x_format))
        for fmt in self.w_formats:
            candidates = bias_candidates(self.w_initial[fmt], self.settings.grid)
            best = rows.best(fmt, candidates, self.w_bias[fmt])
            self.w_bias[fmt] = candidates[best, np.arange(best.size)]

    def _input_biases(self) -> None:
        if self.x_format is None:
            return
        weights = (self.w_format, self.w_format and self.w_bias[self.w_format].tobytes())
        if weights == self.seen_by_inputs:
            return
        self.seen_by_inputs = weights
        errors = _TokenErrors(self, self._fake_weight(self.w_format))
        for fmt in self.x_formats:
            state = self.x_state[fmt]
            candidates = bias_candidates(np.array(state.initial), self.settings.grid)
            start = int(np.argmin(np.abs(candidates - state.rho)))
            state.rho = float(candidates[errors.best(fmt, candidates, start)])

    def _weight_format(self) -> None:
        if len(self.w_formats) < 2:
            return
        x = self._fake_inputs(self.x_format)
        errors = [self._error(x, self._fake_weight(f)) for f in self.w_formats]
        self.w_format = self.w_formats[int(np.argmin(errors))]

    def _input_format(self) -> None:
        if len(self.x_formats) < 2:
            return
        w = self._fake_weight(self.w_format)
        errors = [self._error(self._fake_inputs(f), w) for f in self.x_formats]
        self.x_format = self.x_formats[int(np.argmin(errors))]

    # -- values and errors -----------------------------------------------------------------------

    def cast_weight(self, fmt: FloatFormat, biases: NDArray[np.float64]) -> Floats:
        out = np.empty_like(self.w)
        rows = exp2(biases).astype(np.float32)
        fake_quantize(self.w, rows, self.ones, fmt.mantissa_bits, largest_value(fmt), out)
        return out

    def cast_inputs(self, fmt: FloatFormat, rho: float, part: slice = slice(None)) -> Floats:
        x = self.x[part]
        out = np.empty_like(x)
        columns = exp2(rho + self._shifts(fmt, rho)).astype(np.float32)
        rows = np.ones(x.shape[0], np.float32)
        fake_quantize(x, rows, columns, fmt.mantissa_bits, largest_value(fmt), out)
        return out

    def _shifts(self, fmt: FloatFormat, rho: float) -> NDArray[np.int64]:
        biases = self.x_state[fmt].biases
        if biases is None:
            return np.zeros(self.x.shape[1], np.int64)
        return shifts_of(fmt, biases, self.settings.reading, rho)

    def _fake_inputs(self, fmt: FloatFormat | None) -> Floats:
        return self.x if fmt is None else self.cast_inputs(fmt, self.x_state[fmt].rho)

    def _fake_weight(self, fmt: FloatFormat | None) -> Floats:
        return self.w if fmt is None else self.cast_weight(fmt, self.w_bias[fmt])

    def _error(self, x: Floats, w: Floats) -> float:
        square = (torch.from_numpy(x) @ torch.from_numpy(w).T - self.target).square_()
        if self.importance is not None:
            square *= self.importance
        return float(square.sum(dtype=torch.float64))

    def _constants(self) -> LayerConstants:
        w_format, x_format = self.w_format, self.x_format
        error = self._error(self._fake_inputs(x_format), self._fake_weight(w_format))
        power = self.target.square()
        if self.importance is not None:
            power *= self.importance
        rho, shifts = 0.0, None
        if x_format is not None:
            rho = self.x_state[x_format].rho
            if self.x_state[x_format].biases is not None:
                shifts = self._shifts(x_format, rho)
        return LayerConstants(
            weight_format=w_format,
            weight_bias=None if w_format is None else self.w_bias[w_format],
            input_format=x_format,
            rho=rho,
            shifts=shifts,
            error=error / max(float(power.sum(dtype=torch.float64)), 1e-300),
        )


def choices(bits: int, method: Method) -> tuple[FloatFormat, ...]:
    """Return the formats searched at a width; empty if the operand stays float."""
    if bits in FLOAT_BITS:
        return ()
    return (start_format(bits),) if method is Method.MINMAX else formats(bits)


class _RowErrors:
    """Errors of weight rows for given inputs, row by row."""

    def __init__(self, search: _Search, x: Floats) -> None:
        self.search = search
        inputs = torch.from_numpy(x)
        if search.importance is not None:
            self.inputs = inputs
            return
        wide = inputs.double()
        values, vectors = torch.linalg.eigh((inputs.T @ inputs).double())
        values, vectors = values.flip(0), vectors.flip(1)
        kept = int((values > _NEGLIGIBLE * values[0].clamp(min=1e-300)).sum())
        root = values[:kept].sqrt()
        self.basis = (vectors[:, :kept] * root).float()  # A
        wanted = (wide.T @ search.target.double()).T @ vectors[:, :kept]
        self.wanted = (wanted / root).float()  # t

    def best(
        self, fmt: FloatFormat, candidates: NDArray[np.float64], current: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Return the index of the best of C candidates for each row (N,)."""
        rows = candidates.shape[1]
        best = torch.full((rows,), torch.inf)
        index = torch.zeros(rows, dtype=torch.int64)
        # Rows move together through the grid, starting near the middle row's best candidate.
        distance = np.abs(candidates - current)
        order = np.argsort(np.median(distance, axis=1), kind="stable")
        for c in order:
            cast = torch.from_numpy(self.search.cast_weight(fmt, candidates[c]))
            alive, score = self._scores(cast, best)
            # The first candidate wins a tie, in any order of visits.
            better = (score < best[alive]) | ((score == best[alive]) & (int(c) < index[alive]))
            chosen = alive[better]
            best[chosen] = score[better]
            index[chosen] = int(c)
        return index.numpy()

    def _scores(self, cast: torch.Tensor, best: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows still undecided, with their scores."""
        search = self.search
        if search.importance is not None:
            square = (self.inputs @ cast.T - search.target).square_() * search.importance
            return torch.arange(cast.shape[0]), square.sum(0)
        alive, score = torch.arange(cast.shape[0]), torch.zeros(cast.shape[0])
        for part in _doubling(self.basis.shape[1], _FIRST_COMPONENTS):
            score += (cast @ self.basis[:, part] - self.wanted[alive, part]).square_().sum(1)
            kept = score <= best[alive]
            if not kept.all():
                alive, score, cast = alive[kept], score[kept], cast[kept]
        return alive, score


class _TokenErrors:
    """Errors of inputs for a given weight, summed over tokens."""

    def __init__(self, search: _Search, w: Floats) -> None:
        self.search = search
        self.weight, self.wanted = torch.from_numpy(w), search.target
        outside, inside = w.shape
        if outside > inside and search.importance is None:
            # |W^ x - o|^2 = |R x - Q^T o|^2 + const for W^ = Q R.
            q, self.weight = torch.linalg.qr(self.weight)
            self.wanted = self.wanted @ q

    def best(self, fmt: FloatFormat, candidates: NDArray[np.float64], start: int) -> int:
        """Return the index of the best candidate (C,)."""
        best, index = float("inf"), -1
        order = np.argsort(np.abs(np.arange(candidates.size) - start), kind="stable")
        for c in order:
            score = self._score(fmt, float(candidates[c]), best)
            if score < best or (score == best and c < index):
                best, index = score, int(c)
        return index

    def _score(self, fmt: FloatFormat, rho: float, best: float) -> float:
        total = 0.0
        for part in _doubling(self.search.x.shape[0], _FIRST_TOKENS):
            x = torch.from_numpy(self.search.cast_inputs(fmt, rho, part))
            square = (x @ self.weight.T - self.wanted[part]).square_()
            if self.search.importance is not None:
                square *= self.search.importance[part]
            total += float(square.sum(dtype=torch.float64))
            if total > best:
                break
        return total


def _doubling(size: int, first: int) -> Iterator[slice]:
    """Cut 0..size into parts of ``first``, twice ``first``, and so on."""
    begin = 0
    while begin < size:
        end = min(begin + first, size)
        yield slice(begin, end)
        begin, first = end, 2 * first


def search_embedding(
    table: Floats, bits: int, grid: Grid, method: Method
) -> tuple[FloatFormat, NDArray[np.float64]]:
    """Search the format and the bias per entry that minimize the table's squared error.

    Args:
        table: (entries, width).
        bits: width of the elements.
        grid: candidates of the biases.
        method: MINMAX takes one bias, from the largest magnitude.

    Returns:
        The format, and a bias per entry.
    """
    ones = np.ones(table.shape[1], np.float32)
    maxima = np.abs(table).max(axis=1)
    out = np.empty_like(table)
    outcomes = []
    for fmt in choices(bits, method):
        initial = initial_biases(fmt, maxima)
        if method is Method.MINMAX:  # per tensor, as in the code
            bias = initial_biases(fmt, np.array([maxima.max(initial=0.0)]))
            return fmt, np.full(initial.shape, bias[0])
        best = np.full(initial.shape, np.inf)
        bias = initial.copy()
        for candidate in bias_candidates(initial, grid):
            rows = exp2(candidate).astype(np.float32)
            fake_quantize(table, rows, ones, fmt.mantissa_bits, largest_value(fmt), out)
            np.subtract(out, table, out=out)
            error = np.einsum("nk,nk->n", out, out).astype(np.float64)
            better = error < best
            best = np.where(better, error, best)
            bias = np.where(better, candidate, bias)
        outcomes.append((float(best.sum()), fmt, bias))
    _, fmt, bias = min(outcomes, key=lambda outcome: outcome[0])
    return fmt, bias
