# SPDX-License-Identifier: Apache-2.0
"""LLM-FP4: formats, grids, shifts, and the search against brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")


from support.fakequant import fake_biased  # noqa: E402

import fpsim  # noqa: E402
from fpsim.blocks.preshift import Reading  # noqa: E402
from fpsim.bridge.llmfp4.fpq import (  # noqa: E402
    Grid,
    Method,
    bias_candidates,
    formats,
    initial_biases,
    shifts_of,
)
from fpsim.bridge.llmfp4.search import SearchSettings, search_layer  # noqa: E402

E2M1, E1M2, E3M0 = (fpsim.get_format(name) for name in ("e2m1b0", "e1m2b0", "e3m0b0"))


# -- formats, grids, shifts ----------------------------------------------------------------------


def test_formats_of_each_width() -> None:
    names = {bits: [f.name.rstrip("f") for f in formats(bits)] for bits in (4, 6, 8)}
    assert [f.exponent_bits for f in formats(4)] == [3, 2, 1]
    assert [f.mantissa_bits for f in formats(6)] == [0, 1, 2, 3, 4]
    assert [(f.exponent_bits, f.mantissa_bits) for f in formats(8)] == [
        (5, 2), (4, 3), (3, 4), (2, 5), (1, 6),
    ]  # fmt: skip
    assert all(f.bias == 0 and f.nan_code is None for bits in (4, 6, 8) for f in formats(bits))
    assert formats(8)[1].max_value == 61440.0  # no code is reserved: not 57344
    assert len(set(names[6])) == 5


def test_the_published_grid_never_tries_its_last_point() -> None:
    candidates = bias_candidates(np.array([2.0, -3.0]), Grid.PUBLISHED)
    assert candidates.shape == (100, 2)
    np.testing.assert_allclose(candidates[0], [0.02, -0.03])
    np.testing.assert_allclose(candidates[-1] / [2.0, -3.0], 0.01 + 1.19 * 0.99)


def test_the_corrected_grid_does_not_depend_on_the_unit_of_the_data() -> None:
    candidates = bias_candidates(np.array([2.0, 0.0, -3.0]), Grid.CORRECTED)
    spans = candidates - [2.0, 0.0, -3.0]
    np.testing.assert_allclose(spans, np.repeat(spans[:, :1], 3, axis=1), atol=1e-12)
    assert (spans[0, 0], round(spans[-1, 0], 9)) == (-1.0, 5.0)


def test_shifts_of_the_worked_example() -> None:
    biases = initial_biases(E2M1, np.array([12.0, 6.0, 3.0, 0.75, 96.0]))
    assert biases.tolist() == [0.0, 1.0, 2.0, 4.0, -3.0]
    for reading in Reading:
        assert shifts_of(E2M1, biases, reading, -3.0).tolist() == [3, 3, 3, 3, 0]
        assert shifts_of(E3M0, biases, reading, -3.0).tolist() == [3, 4, 5, 7, 0]
        assert shifts_of(E1M2, biases, reading, -3.0).max() == 1


def test_the_readings_differ_where_both_parts_round() -> None:
    biases = np.array([0.4, 0.8, 1.3])
    assert shifts_of(E2M1, biases, Reading.PAPER, 0.4).tolist() == [0, 0, 1]
    assert shifts_of(E2M1, biases, Reading.CODE, 0.4).tolist() == [0, 1, 1]


def test_channels_that_are_always_zero_have_a_bias_too() -> None:
    assert initial_biases(E2M1, np.array([0.0, 3.0])).tolist() == [2.0, 2.0]
    assert initial_biases(E2M1, np.zeros(2)).tolist() == initial_biases(E2M1, np.ones(2)).tolist()


# -- the search, by brute force ------------------------------------------------------------------


class BruteForce:
    """Algorithm 1 with every error computed in whole, in float64."""

    def __init__(self, w: np.ndarray, x: np.ndarray, settings: SearchSettings, fisher: Any) -> None:
        self.w, self.x, self.settings = w, x, settings
        self.g = 1.0 if fisher is None else fisher.astype(np.float64)
        self.target = x.astype(np.float64) @ w.T.astype(np.float64)
        self.formats = formats(4)
        self.row = {f: initial_biases(f, np.abs(w).max(1)) for f in self.formats}
        self.row_start = dict(self.row)
        self.channels = {f: initial_biases(f, np.abs(x).max(0)) for f in self.formats}
        self.rho = {f: float(v.min()) for f, v in self.channels.items()}
        self.rho_start = dict(self.rho)
        self.wf = self.xf = E2M1

    def inputs(self, f: Any, rho: float) -> np.ndarray:
        shifts = 0
        if self.settings.method is Method.FPQ:
            if self.settings.reading is Reading.PAPER:
                raw = np.rint(self.channels[f] - rho)
            else:
                raw = np.rint(self.channels[f]) - np.rint(rho)
            shifts = np.clip(raw, 0, 2**f.exponent_bits - 1)
        return fake_biased(self.x, f, rho + shifts)

    def weights(self, f: Any, bias: np.ndarray) -> np.ndarray:
        return fake_biased(self.w, f, bias[:, None])

    def square(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return self.g * (x @ w.T - self.target) ** 2

    def wb(self) -> None:
        x = self.inputs(self.xf, self.rho[self.xf])
        for f in self.formats:
            tried = bias_candidates(self.row_start[f], self.settings.grid)
            errors = np.stack([self.square(x, self.weights(f, b)).sum(0) for b in tried])
            self.row[f] = tried[errors.argmin(0), np.arange(tried.shape[1])]

    def xb(self) -> None:
        w = self.weights(self.wf, self.row[self.wf])
        for f in self.formats:
            tried = bias_candidates(np.array(self.rho_start[f]), self.settings.grid)
            errors = [self.square(self.inputs(f, r), w).sum() for r in tried]
            self.rho[f] = float(tried[int(np.argmin(errors))])

    def best_weight_format(self) -> None:
        x = self.inputs(self.xf, self.rho[self.xf])
        errors = [self.square(x, self.weights(f, self.row[f])).sum() for f in self.formats]
        self.wf = self.formats[int(np.argmin(errors))]

    def best_input_format(self) -> None:
        w = self.weights(self.wf, self.row[self.wf])
        errors = [self.square(self.inputs(f, self.rho[f]), w).sum() for f in self.formats]
        self.xf = self.formats[int(np.argmin(errors))]


def layer_data(seed: int, tokens: int = 90, inside: int = 24, outside: int = 12) -> Any:
    rng = np.random.default_rng(seed)
    spread = np.exp(rng.standard_normal(inside) * 1.3)
    x = (rng.standard_normal((tokens, inside)) * spread).astype(np.float32)
    w = (rng.standard_t(3, (outside, inside)) * 0.1).astype(np.float32)
    return w, x, rng.random((tokens, outside), dtype=np.float32)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("method", [Method.FPQ, Method.BASELINE])
@pytest.mark.parametrize("grid", list(Grid))
@pytest.mark.parametrize("reading", list(Reading))
@pytest.mark.parametrize("fisher", [False, pytest.param(True, marks=pytest.mark.sweep)])
def test_the_search_finds_what_brute_force_finds(
    method: Method, grid: Grid, reading: Reading, fisher: bool
) -> None:
    """Every step's choice; more outputs than inputs in one case, more inputs in the other."""
    for outside in (12, 40):
        w, x, importance = layer_data(outside, outside=outside)
        if not fisher:
            importance = None
        settings = SearchSettings(method, grid, reading)
        truth = BruteForce(w, x, settings, importance)
        for _ in range(settings.rounds):
            truth.wb()
            if method is Method.BASELINE:
                truth.best_weight_format()
            truth.xb()
            if method is Method.FPQ:
                truth.best_weight_format()
            truth.best_input_format()
        found = search_layer(w, x, settings, importance)
        assert (found.weight_format, found.input_format) == (truth.wf, truth.xf)
        assert found.rho == pytest.approx(truth.rho[truth.xf], abs=1e-9)
        agree = np.isclose(found.weight_bias, truth.row[truth.wf], atol=1e-9)
        assert agree.mean() > 0.9  # two candidates of a row can be equal within float32
        wanted = (
            truth.square(
                truth.inputs(truth.xf, truth.rho[truth.xf]),
                truth.weights(truth.wf, truth.row[truth.wf]),
            ).sum()
            / (truth.g * truth.target**2).sum()
        )
        assert found.error == pytest.approx(wanted, rel=1e-3)


def test_minmax_searches_nothing() -> None:
    w, x, _ = layer_data(3)
    found = search_layer(w, x, SearchSettings(Method.MINMAX))
    assert (found.weight_format, found.input_format, found.shifts) == (E2M1, E2M1, None)
    np.testing.assert_allclose(12 * np.exp2(-found.weight_bias), np.abs(w).max(1))
    assert 12 * 2**-found.rho == pytest.approx(np.abs(x).max())


def test_the_pre_shift_helps_where_channels_differ() -> None:
    w, x, _ = layer_data(4, tokens=200, inside=48)
    errors = {m: search_layer(w, x, SearchSettings(m)).error for m in Method}
    assert errors[Method.FPQ] < 0.7 * errors[Method.BASELINE] < 0.7 * errors[Method.MINMAX]
