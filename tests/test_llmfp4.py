# SPDX-License-Identifier: Apache-2.0
"""LLM-FP4: the search against brute force, the simulated layer against fake quantization."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from torch import nn  # noqa: E402

import fpsim  # noqa: E402
from fpsim import oracle  # noqa: E402
from fpsim.bridge import (  # noqa: E402
    Calibration,
    calibrate,
    convert,
    get_recipe,
    models,
    restore,
)
from fpsim.bridge.fpq import (  # noqa: E402
    Grid,
    Method,
    RowBiasCast,
    ShiftCast,
    bias_candidates,
    formats,
    initial_biases,
    shifts_of,
)
from fpsim.bridge.models import LoadedModel  # noqa: E402
from fpsim.bridge.search import SearchSettings, search_layer  # noqa: E402
from fpsim.cli import main  # noqa: E402
from fpsim.errors import FpsimError  # noqa: E402
from fpsim.preshift import Reading  # noqa: E402

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


def fake(x: np.ndarray, fmt: Any, bias: Any) -> np.ndarray:
    """Cast as equations 5 to 9 say, in float64; ``bias`` broadcasts against ``x``."""
    scaled = np.clip(x.astype(np.float64) * np.exp2(bias), -fmt.max_value, fmt.max_value)
    with np.errstate(divide="ignore"):
        p = np.maximum(np.floor(np.log2(np.abs(scaled))), 1)
    step = np.exp2(p - fmt.mantissa_bits)
    return np.rint(scaled / step) * step * np.exp2(-np.asarray(bias))


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
        return fake(self.x, f, rho + shifts)

    def weights(self, f: Any, bias: np.ndarray) -> np.ndarray:
        return fake(self.w, f, bias[:, None])

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


@pytest.mark.parametrize("method", [Method.FPQ, Method.BASELINE])
@pytest.mark.parametrize("grid", list(Grid))
@pytest.mark.parametrize("reading", list(Reading))
@pytest.mark.parametrize("fisher", [False, True])
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


# -- layers --------------------------------------------------------------------------------------


def tiny(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


IDS = torch.arange(60).reshape(2, 30)
BATCHES = [{"input_ids": IDS[:1]}, {"input_ids": IDS[1:]}]


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate(tiny(), BATCHES)


@torch.no_grad()
def test_exact_accumulator_equals_fake_quantization_layer_by_layer(
    calibration: Calibration,
) -> None:
    """As the released code computes, X fake-quantized with a bias per channel, W per row.

    The real scales are taken out and multiplied in float32 afterwards, inputs first.
    """
    model = convert(tiny(), "llm-fp4", "exact", calibration=calibration)
    checked = 0
    for name, layer in model.named_modules():
        if name not in calibration.layers:
            continue
        found = calibration.layers[name]
        x = torch.randn(5, layer.in_features) * 3
        shifted = fake(x.numpy(), found.input_format, found.rho + found.shifts) * 2.0**found.rho
        w = layer.matrix.numpy()
        rows = fake(w, found.weight_format, found.weight_bias[:, None])
        rows = np.rint(rows * np.exp2(found.weight_bias)[:, None] * 64) / 64
        shifted = np.rint(shifted * 2.0**20) / 2.0**20  # 2^rho is irrational, values are dyadic
        out = (shifted @ rows.T).astype(np.float32)
        out = out * np.float32(2.0**-found.rho) * np.exp2(-found.weight_bias).astype(np.float32)
        assert np.array_equal(layer(x).numpy(), out)
        checked += 1
    assert checked == 8  # the lm_head too, as in the released code


@torch.no_grad()
def test_the_integers_reach_the_units_exponent_input(calibration: Calibration) -> None:
    """On a narrow accumulator the order of products and their exponents decide every bit."""
    unit = fpsim.get_unit("e2m1-chain-e5m10")
    model = convert(tiny(), "llm-fp4", unit, calibration=calibration)
    layer = model.model.layers[0].mlp.down_proj
    found = calibration.layers["model.layers.0.mlp.down_proj"]
    x = torch.randn(3, 48)
    cast, weight = layer.cast_input(x), layer.operand()
    assert len(set(found.shifts.tolist())) > 1
    derived = fpsim.MacSpec(found.input_format, found.weight_format, unit.spec.accumulate)
    truth = oracle.dot(
        derived,
        cast.codes[:, None],
        weight.codes[None],
        a_scale=np.tile((127 - found.shifts).astype(np.uint8), (3, 1))[:, None],
        block=1,
    )
    values = fpsim.get_format("e5m10").decode(truth).astype(np.float32)
    wanted = values * cast.factor * weight.factor.T
    assert np.array_equal(layer(x).numpy(), wanted)


def test_folding_the_shift_into_4_bit_weights_loses_small_ones() -> None:
    w = np.array([[12.0, 3.0, 1.0, -0.4]], np.float32)
    shifts = np.array([0, 1, 2, 3])
    whole = RowBiasCast(E2M1, np.zeros(1)).quantize(w)
    folded = RowBiasCast(E2M1, np.zeros(1), shifts).quantize(w)
    assert E2M1.decode(whole.codes).tolist() == [[12.0, 3.0, 1.0, -0.0]]
    assert E2M1.decode(folded.codes).tolist() == [[12.0, 2.0, 0.0, -0.0]]
    cast = ShiftCast(E2M1, 0.0, shifts, fold=True).quantize(np.ones((1, 4), np.float32))
    assert cast.scales is None
    assert E2M1.decode(cast.codes).tolist() == [[1.0, 2.0, 4.0, 8.0]]


def test_bit_settings() -> None:
    found = calibrate(tiny(), BATCHES, "llm-fp4@16/4/16", only=("*q_proj",))
    layer = found.layers["model.layers.0.self_attn.q_proj"]
    assert layer.input_format is None
    assert layer.weight_format in formats(4)
    assert not found.embeddings
    found = calibrate(tiny(), BATCHES, "llm-fp4@4/4/8", only=("*q_proj", "*embed_tokens"))
    layer = found.layers["model.layers.0.self_attn.q_proj"]
    assert layer.input_format in formats(8)
    assert found.embeddings["model.embed_tokens"][1].shape == (97,)
    model = convert(tiny(), "llm-fp4@4/4/8", calibration=found, only=("*q_proj", "*embed_tokens"))
    assert torch.isfinite(model(input_ids=IDS).logits).all()


# -- the file ------------------------------------------------------------------------------------


def same(a: Calibration, b: Calibration) -> bool:
    return a.layers.keys() == b.layers.keys() and all(
        np.array_equal(a.layers[n].weight_bias, b.layers[n].weight_bias)
        and np.array_equal(a.layers[n].shifts, b.layers[n].shifts)
        and a.layers[n].rho == b.layers[n].rho
        and a.layers[n].input_format == b.layers[n].input_format
        and a.layers[n].weight_format == b.layers[n].weight_format
        for n in a.layers
    )


def test_an_interrupted_calibration_goes_on(
    tmp_path: Path, calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "calib.safetensors"
    figures: list[str] = []

    def interrupt(done: int, total: int, line: str) -> None:
        figures.append(line)
        if len(figures) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(tiny(), BATCHES, out=out, report=interrupt)
    assert "W e" in figures[1]
    assert "error" in figures[1]
    with pytest.raises(FpsimError, match="holds 3 of 8 layers; run the same calibration again"):
        convert(tiny(), "llm-fp4", calibration=out)
    searched: list[tuple[int, ...]] = []
    monkeypatch.setitem(
        calibrate.__globals__,
        "search_layer",
        lambda w, *rest: searched.append(w.shape) or search_layer(w, *rest),
    )
    assert same(calibrate(tiny(), BATCHES, out=out), calibration)
    assert len(searched) == 5
    assert same(Calibration.load(out), calibration)


def test_a_calibration_belongs_to_its_model_data_and_options(
    tmp_path: Path, calibration: Calibration
) -> None:
    out = tmp_path / "calib.safetensors"
    calibration.save(out)
    with pytest.raises(FpsimError, match=r"another model: layer model\..* has other weights"):
        convert(tiny(seed=1), "llm-fp4", calibration=out)
    wider = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(FpsimError, match="another model: it has no layer 0"):
        convert(wider, "llm-fp4", calibration=out)
    with pytest.raises(FpsimError, match="made with bits '4/4/4', but recipe .* has '4/4/8'"):
        convert(tiny(), "llm-fp4@4/4/8", calibration=out)
    with pytest.raises(FpsimError, match="out: .* is a calibration with data"):
        calibrate(tiny(), BATCHES[:1], out=out)
    with pytest.raises(FpsimError, match="takes no calibration"):
        convert(tiny(), "mxfp4", calibration=out)
    with pytest.raises(FpsimError, match="llm-fp4 needs a calibration: pass calibration="):
        convert(tiny(), "llm-fp4")


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "calib.safetensors"
    with pytest.raises(FpsimError, match="does not exist"):
        Calibration.load(path)
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(FpsimError, match="cannot be read as one"):
        Calibration.load(path)
    from safetensors.numpy import save

    path.write_bytes(save({"x": np.zeros(1)}))
    with pytest.raises(FpsimError, match="was not written by this version"):
        Calibration.load(path)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("mxfp4", "mxfp4 needs no calibration"),
        ("llm-fp4:method=fqp", "method: 'fqp' is not one of fpq, baseline, minmax; did you mean"),
        ("llm-fp4:grid=log", "grid: 'log' is not one of published, corrected"),
        ("llm-fp4:objective=l3", "objective: 'l3' is not one of l2, fisher"),
        ("llm-fp4:rounds=0", "rounds: 0 is not a positive number"),
    ],
)
def test_calibrate_refuses(recipe: str, message: str) -> None:
    with pytest.raises(FpsimError, match=message):
        calibrate(tiny(), BATCHES, recipe)


def test_nan_in_calibration_names_the_layer() -> None:
    model = tiny()
    with torch.no_grad():
        model.model.embed_tokens.weight[3] = torch.nan
    with pytest.raises(FpsimError, match="layer model.layers.0.self_attn.q_proj: its calibration"):
        calibrate(model, BATCHES)


def test_fisher_weighs_outputs_by_the_loss() -> None:
    """With a loss that sees one output only, that output's error is what is minimized."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 8, bias=False)).eval()
    x = torch.randn(60, 16) * torch.exp(torch.randn(16) * 1.5)

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

    wrapped = Wrapped().eval()

    def loss(m: nn.Module, batch: Any) -> torch.Tensor:
        return m(**batch)[..., 2].square().sum() / 2

    options = {"only": ("*",), "tokens": 100}
    fisher = calibrate(wrapped, [{"x": x}], "llm-fp4@16/4/4:objective=fisher", loss=loss, **options)
    plain = calibrate(wrapped, [{"x": x}], "llm-fp4@16/4/4", **options)

    def error(found: Calibration, recipe: str) -> float:
        with torch.no_grad():
            truth = wrapped(x)
            convert(wrapped, recipe, calibration=found)
            out = wrapped(x)
        restore(wrapped)
        weight = truth[:, 2].square()  # (dL/dO)^2 of this loss
        return float((weight * (out - truth)[:, 2].square()).sum())

    assert error(fisher, "llm-fp4@16/4/4:objective=fisher") <= error(plain, "llm-fp4@16/4/4")


# -- the command line ----------------------------------------------------------------------------


class Letters:
    """A tokenizer of letters."""

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(c) % 97 for c in text]}


def test_calibrate_and_eval_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FPSIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "load", lambda *_: LoadedModel(tiny(), Letters(), "tiny"))
    book = tmp_path / "book.txt"
    book.write_text("the quick brown fox jumps over the lazy dog " * 30)
    common = ["--text", str(book), "--windows", "2", "--window", "24", "--stride", "60"]
    out = tmp_path / "calib.safetensors"
    options = [*common, "--calibration-tokens", "40", "--json"]
    assert main(["calibrate", "--out", str(out), *options]) == 0
    assert json.loads(capsys.readouterr().out)["layers"] == 8
    run = ["eval", "--recipe", "llm-fp4", "--unit", "e2m1-chain-e5m10", *options]
    assert main([*run, "--calibration", str(out)]) == 0
    given = json.loads(capsys.readouterr().out)["perplexity"]
    assert main(run) == 0  # calibrates by itself, on the same windows
    assert json.loads(capsys.readouterr().out)["perplexity"] == given
    assert len(list((tmp_path / "cache/calibrations").iterdir())) == 1
    assert main([*run, "--stride", "40"]) == 2
    assert "stride is 40, but must be at least 48" in capsys.readouterr().err
    assert main(["calibrate", "--recipe", "mxfp4", "--out", str(out), *common]) == 2
    assert main([*run, "--bits", "4/4/8", "--calibration", str(out)]) == 2
    assert "made with bits" in capsys.readouterr().err
    assert main([*run, "--windows", "50"]) == 2
    assert "are needed for windows=50" in capsys.readouterr().err


def test_get_recipe_by_options() -> None:
    assert get_recipe("llm-fp4", bits="4/4/8", grid="corrected").settings.input_bits == 8
