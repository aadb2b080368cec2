# SPDX-License-Identifier: Apache-2.0
"""Tasks and the models they measure: digits, retrieval, attention's products under LLM-FP4."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

import fpsim  # noqa: E402
from fpsim.base.errors import FpsimError, ModelUnavailable  # noqa: E402
from fpsim.bridge import calibrate, conversion_of, convert, evaluate_task, restore  # noqa: E402
from fpsim.bridge.attention import SimulatedAttention  # noqa: E402
from fpsim.bridge.convert import attention_layers  # noqa: E402
from fpsim.bridge.llmfp4.attention_search import recorded_products, search_product  # noqa: E402
from fpsim.bridge.llmfp4.search import SearchSettings  # noqa: E402
from fpsim.bridge.measure import diffusion, digits, models, tasks, text  # noqa: E402
from fpsim.bridge.measure.models import LoadedModel  # noqa: E402
from fpsim.bridge.measure.tasks import PerplexityTask, RetrievalTask, task_for  # noqa: E402
from fpsim.bridge.recipe import get_recipe  # noqa: E402
from fpsim.cli import main  # noqa: E402


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FPSIM_CACHE", str(tmp_path))
    return tmp_path


# -- calibration windows -------------------------------------------------------------------------


def test_calibration_never_sees_what_is_measured() -> None:
    tokens = np.arange(20_000)
    measured = set(text.windows(tokens).ravel())
    calibrating = text.calibration_windows(tokens)
    assert calibrating.shape == (4, 512)
    assert not measured & set(calibrating.ravel())
    assert calibrating[:, 0].tolist() == [2500, 7500, 12500, 17500]
    with pytest.raises(FpsimError, match="text has 18000 tokens, but 18012 are needed"):
        text.calibration_windows(tokens[:18_000])


# -- digits --------------------------------------------------------------------------------------


def test_digits_are_split_once_and_for_all() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    data = digits.digits()
    assert data.test[0].shape == (449, 1, 8, 8)
    assert data.train[0].shape == (1348, 1, 8, 8)
    assert data.calibration.shape == (128, 1, 8, 8)
    assert data.test[1][:5].tolist() == [3, 7, 1, 5, 9]


def test_the_vit_is_trained_once_and_checked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    monkeypatch.setattr(digits, "_EPOCHS", 1)
    said: list[str] = []
    first = digits.digits_model(said.append)
    assert len(said) == 1
    again = models.load("vit-digits", said.append)
    assert len(said) == 1
    pairs = zip(first.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    for path in cache.rglob("model.safetensors"):
        path.unlink()
    pairs = zip(first.parameters(), digits.digits_model().parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)  # training is deterministic
    (weights,) = cache.rglob("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(FpsimError, match=r"SHA-256 of .* was expected \(delete"):
        digits.digits_model()


def test_without_scikit_learn_digits_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModelUnavailable, match="models of digits need scikit-learn"):
        digits.digits()


def test_eval_command_measures_digits(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    monkeypatch.setattr(digits, "_EPOCHS", 1)
    assert main(["eval", "--model", "vit-digits", "--recipe", "none", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["recipe"] is None
    assert main(["eval", "--model", "vit-digits", "--recipe", "mxfp4", "--json"]) == 0
    cast = json.loads(capsys.readouterr().out)
    assert (cast["layers"], cast["unit"]) == (25, "e2m1-exact-e8m23")
    assert abs(cast["accuracy"] - plain["accuracy"]) < 0.3


@pytest.fixture
def quick(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch for the models of digits."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    monkeypatch.setattr(digits, "_EPOCHS", 1)
    monkeypatch.setattr(diffusion, "_EPOCHS", 1)


@pytest.mark.parametrize(
    ("recipe", "layers"),
    [("none", 0), ("mxfp4", 33), pytest.param("hq-dit", 33, marks=pytest.mark.sweep)],
)
@pytest.mark.usefixtures("quick")
def test_eval_command_measures_drawn_digits(
    recipe: str, layers: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tasks, "DrawingTask", partial(tasks.DrawingTask, count=40, steps=2))
    assert main(["eval", "--model", "dit-digits", "--recipe", recipe, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["layers"] == layers
    assert found["frechet"] > 0
    assert 0 <= found["accuracy"] <= 1


def test_the_noise_of_a_known_image_is_drawn_away() -> None:
    """DDIM with the right noise at every step ends at the image, whatever the steps."""
    image = torch.randn(1, 1, 8, 8, dtype=torch.float64).float()

    def knows(x: torch.Tensor, times: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        assert labels.tolist() == [3, 4]
        still = diffusion.noisy(image, times[:1], torch.zeros_like(image))
        spread = diffusion.noisy(torch.zeros_like(image), times[:1], torch.ones_like(image))
        return (x - still) / spread

    for steps in (1, 7):
        found = diffusion.draw(knows, torch.tensor([3, 4]), steps, seed=5)
        torch.testing.assert_close(found, image.expand(2, 1, 8, 8), rtol=1e-3, atol=1e-3)


def test_noise_takes_over_step_by_step() -> None:
    images, noise = torch.full((3, 1, 8, 8), 2.0), torch.full((3, 1, 8, 8), -1.0)
    found = diffusion.noisy(images, torch.tensor([0, 499, 999]), noise)[:, 0, 0, 0].tolist()
    variances = np.linspace(1e-4, 0.02, 1000)
    for step, value in zip((0, 499, 999), found, strict=True):
        kept = np.prod(1 - variances[: step + 1])
        assert value == pytest.approx(2 * kept**0.5 - (1 - kept) ** 0.5, abs=1e-5)


def test_frechet_distance_of_gaussians() -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((4000, 3))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T  # mean 0, covariance 1
    turn = np.linalg.qr(random.standard_normal((3, 3)))[0]
    spread = np.diag([1.0, 2.0, 3.0]) @ turn
    assert tasks.frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert tasks.frechet_distance(x, x + np.array([3, 0, 4])) == pytest.approx(25)
    # Of covariances 1 and V: the squared distances of their roots' eigenvalues.
    assert tasks.frechet_distance(x, x @ spread) == pytest.approx(0 + 1 + 4)
    assert tasks.frechet_distance(x @ spread, x) == pytest.approx(5)
    # Of equal covariances that are turned: not zero.
    assert tasks.frechet_distance(x @ np.diag([1, 2, 3]), x @ spread) > 0.1


@pytest.mark.slow
def test_the_transformer_draws_digits_and_survives_hq_dit() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    loaded = models.load("dit-digits")
    task = task_for(loaded)
    plain = evaluate_task(loaded, task)
    assert plain["frechet"] < 1.5
    assert plain["accuracy"] > 0.85
    found = calibrate(loaded.model, task.calibration(), "hq-dit")
    figures = evaluate_task(loaded, task, "hq-dit", calibration=found)
    assert figures["frechet"] < 2
    recipe = "hq-dit:element=e3m0"  # steps too coarse for rotated values
    found = calibrate(loaded.model, task.calibration(), recipe)
    worse = evaluate_task(loaded, task, recipe, calibration=found)
    assert worse["frechet"] > 1.5 * figures["frechet"]


@pytest.mark.slow
def test_the_vit_reads_digits_and_survives_llm_fp4() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    loaded = models.load("vit-digits")
    task = task_for(loaded)
    assert evaluate_task(loaded, task)["accuracy"] > 0.95
    recipe = "llm-fp4:quantize_attention=true"
    found = calibrate(loaded.model, task.calibration(), recipe, tokens=512)
    assert evaluate_task(loaded, task, recipe, calibration=found)["accuracy"] > 0.92


# -- retrieval -----------------------------------------------------------------------------------


class Words:
    """A tokenizer of hashed words, padded."""

    def __call__(self, texts: list[str], **options: Any) -> dict[str, torch.Tensor]:
        limit = options["max_length"]
        rows = [[sum(map(ord, w)) % 89 + 5 for w in t.split()][:limit] for t in texts]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def tiny_bert() -> Any:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48,
    )  # fmt: skip
    return transformers.BertModel(config).eval()


def test_retrieval_compares_with_the_reference() -> None:
    loaded = LoadedModel(tiny_bert(), Words(), "tiny")
    task = RetrievalTask(loaded, topics=12, tokens=32)
    reference = task.embed(loaded.model)
    assert reference.shape == (12, 3, 32)
    np.testing.assert_allclose(np.linalg.norm(reference, axis=-1), 1, rtol=1e-5)
    task = RetrievalTask(loaded, topics=12, tokens=32, reference=reference)
    figures = task.measure(loaded.model)
    assert figures["cosine"] == pytest.approx(1)
    cast = evaluate_task(loaded, task, "mxfp4:quantize_attention=true", "e2m1-chain-e5m10")
    assert 0.5 < cast["cosine"] < 1
    assert task_for(loaded).name == "top1"
    calibration_texts = {rows[3] for rows in task.paragraphs()}
    assert not calibration_texts & {p for rows in task.paragraphs() for p in rows[:3]}


def test_tasks_follow_the_architecture() -> None:
    loaded = LoadedModel(tiny_bert(), None, "tiny")
    object.__setattr__(loaded, "model", torch.nn.Linear(2, 2))
    with pytest.raises(FpsimError, match="no task measures a Linear"):
        task_for(loaded)
    config = transformers.GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1)
    object.__setattr__(loaded, "model", transformers.GPT2LMHeadModel(config))
    assert isinstance(task_for(loaded), PerplexityTask)


@pytest.mark.model
@pytest.mark.slow
def test_minilm_finds_topics() -> None:
    try:
        loaded = models.load("minilm-l6")
    except ModelUnavailable as error:
        pytest.skip(f"MiniLM cannot be had: {error}")
    task = task_for(loaded)
    assert isinstance(task, RetrievalTask)
    assert task.measure(loaded.model)["top1"] > 0.6


# -- attention's products under LLM-FP4 ----------------------------------------------------------

RECIPE = "llm-fp4:quantize_attention=true,rounds=1"


def test_attentions_products_are_recorded_as_they_are() -> None:
    model = tiny_bert()
    ids = torch.arange(1, 21)[None]
    layers = attention_layers(model, get_recipe(RECIPE), None, ("*",))
    with torch.no_grad():
        before = model(input_ids=ids).last_hidden_state
        pairs = recorded_products(model, layers, [{"input_ids": ids}])
        assert torch.equal(model(input_ids=ids).last_hidden_state, before)
    assert [name.rsplit("/")[1] for name in pairs] == ["scores", "values"] * 2
    for name, ((x, w),) in pairs.items():
        assert x.shape == ((4, 20, 8) if name.endswith("scores") else (4, 20, 20))
        assert w.shape == ((4, 20, 8) if name.endswith("scores") else (4, 8, 20))
        if name.endswith("values"):
            torch.testing.assert_close(x.sum(-1), torch.ones(4, 20))


def test_attention_search_beats_its_controls() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 30, 16, generator=generator) ** 3
    w = torch.randn(4, 30, 16, generator=generator)
    errors = [search_product([(x, w)], SearchSettings(m)).error for m in ("fpq", "minmax")]
    assert errors[0] < 0.8 * errors[1]


@torch.no_grad()
def test_attention_under_llm_fp4_equals_fake_quantization() -> None:
    """Static formats and biases of Q, K, P and V; scales multiply in float32 afterwards."""
    model, ids = tiny_bert(), torch.arange(1, 21)[None]
    found = calibrate(model, [{"input_ids": ids}], RECIPE)
    assert len(found.layers) == 13 + 4
    name = "encoder.layer.0.attention.self"
    pairs = recorded_products(
        model, attention_layers(model, get_recipe(RECIPE), None, ("*",)), [{"input_ids": ids}]
    )
    convert(model, RECIPE, calibration=found)
    assert name in conversion_of(model).attention
    casts = get_recipe(RECIPE).calibrated(found).attention(name)
    simulated = SimulatedAttention(casts, fpsim.get_unit("exact"), name)
    for product, operands in (("scores", ("query", "key")), ("values", ("probability", "value"))):
        ((x, w),) = pairs[f"{name}/{product}"]
        c = found.layers[f"{name}/{product}"]
        a = _nearest(x.double() * 2.0**c.rho, c.input_format)
        b = _nearest(w.double() * 2.0 ** float(c.weight_bias[0]), c.weight_format)
        wanted = (a @ b.transpose(1, 2)).float()
        wanted = wanted * np.float32(2.0**-c.rho) * np.float32(2.0 ** -float(c.weight_bias[0]))
        assert torch.equal(simulated._product(x, w, operands), wanted)
    assert torch.isfinite(model(input_ids=ids).last_hidden_state).all()
    restore(model)


def _nearest(x: torch.Tensor, fmt: Any) -> torch.Tensor:
    """Round to the nearest value of a format by distance; calibrated biases meet no ties."""
    grid = torch.from_numpy(fmt.decode(np.arange(1 << fmt.bits)))
    return grid[(x[..., None] - grid).abs().argmin(-1)]


def test_eval_command_with_transforms(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    monkeypatch.setattr(digits, "_EPOCHS", 1)
    run = ["eval", "--model", "vit-digits", "--recipe", "int4", "--json"]
    assert main([*run, "--transforms", "smoothquant+hadamard"]) == 0
    assert json.loads(capsys.readouterr().out)["transforms"] == "smoothquant+hadamard"
    assert main([*run, "--transforms", "rotate"]) == 2
    assert "transforms: 'rotate' is not one of" in capsys.readouterr().err
