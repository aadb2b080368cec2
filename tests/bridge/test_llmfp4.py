# SPDX-License-Identifier: Apache-2.0
"""LLM-FP4: the simulated layer against fake quantization, calibration files, commands."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from support.fakequant import fake_biased  # noqa: E402
from torch import nn  # noqa: E402

import fpsim  # noqa: E402
from fpsim import oracle  # noqa: E402
from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.bridge import Calibration, calibrate, convert, get_recipe, restore  # noqa: E402
from fpsim.bridge.linear import attached  # noqa: E402
from fpsim.bridge.llmfp4.fpq import RowBiasCast, ShiftCast, formats  # noqa: E402
from fpsim.bridge.llmfp4.search import search_layer  # noqa: E402
from fpsim.bridge.measure import models  # noqa: E402
from fpsim.bridge.measure.models import LoadedModel  # noqa: E402
from fpsim.cli import main  # noqa: E402

E2M1, E1M2, E3M0 = (fpsim.get_format(name) for name in ("e2m1b0", "e1m2b0", "e3m0b0"))


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
        shifted = (
            fake_biased(x.numpy(), found.input_format, found.rho + found.shifts) * 2.0**found.rho
        )
        w = attached(layer).weight.matrix.detach().numpy()
        rows = fake_biased(w, found.weight_format, found.weight_bias[:, None])
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
    simulated = attached(layer)
    cast, weight = simulated.cast_input(x), simulated.operand()
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
        "searched",
        lambda point: searched.append(point[0].shape) or search_layer(*point),
    )
    assert same(calibrate(tiny(), BATCHES, out=out), calibration)
    assert len(searched) == 5
    assert same(Calibration.load(out), calibration)


@pytest.mark.sweep
def test_layers_are_points_of_an_executor(tmp_path: Path, calibration: Calibration) -> None:
    class Backwards:
        """Runs points in another order than they come in, each as data that a process can take."""

        def run(self, work: Any, points: Any) -> Any:
            for place in reversed(range(len(points))):
                yield place, work(pickle.loads(pickle.dumps(points[place])))

    paths = tmp_path / "here.safetensors", tmp_path / "there.safetensors"
    assert same(calibrate(tiny(), BATCHES, out=paths[0]), calibration)
    assert same(calibrate(tiny(), BATCHES, out=paths[1], pool=Backwards()), calibration)
    assert same(Calibration.load(paths[0]), Calibration.load(paths[1]))


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
    with pytest.raises(FpsimError, match="out: .*cal.txt does not end in .safetensors"):
        calibrate(tiny(), BATCHES, out=tmp_path / "cal.txt")
    assert not (tmp_path / "cal.txt").exists()
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

    options = {"only": ("*",), "tokens": x.numel()}  # every row is kept
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


def test_fisher_where_the_loss_does_not_depend_on_a_layer() -> None:
    """Such as BERT's pooler: it is searched by plain squared errors."""

    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.used, self.unused = nn.Linear(16, 8), nn.Linear(16, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.unused(x)
            return self.used(x)

    def loss(m: nn.Module, batch: Any) -> torch.Tensor:
        return m(**batch)[..., 2].square().sum() / 2

    model, batches = Unused().eval(), [{"x": torch.randn(60, 16)}]
    plain, fisher = (
        calibrate(model, batches, f"llm-fp4@16/4/4:objective={objective}", loss=loss, tokens=100)
        for objective in ("l2", "fisher")
    )
    same_bias = [
        np.array_equal(plain.layers[name].weight_bias, fisher.layers[name].weight_bias)
        for name in ("unused", "used")
    ]
    assert same_bias == [True, False]


# -- the command line ----------------------------------------------------------------------------


class Letters:
    """A tokenizer of letters."""

    bos_token_id = None

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
