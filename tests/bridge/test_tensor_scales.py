# SPDX-License-Identifier: Apache-2.0
"""NVFP4 whose inputs have a static tensor scale, or one per token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from support.tiny_models import tiny_llama  # noqa: E402

from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.bridge import (  # noqa: E402
    calibrate,
    conversion_of,
    convert,
    input_maxima,
    load_checkpoint,
    save_checkpoint,
)
from fpsim.bridge.linear import simulated_layers  # noqa: E402

BATCHES = [{"input_ids": torch.arange(1, 33)[None]}, {"input_ids": torch.arange(40, 72)[None]}]


def test_static_scales_are_the_largest_inputs_met() -> None:
    model = tiny_llama()
    met: dict[str, float] = {}

    def watch(name: str) -> None:
        def hook(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
            met[name] = max(met.get(name, 0.0), float(inputs[0].abs().max()))

        model.get_submodule(name).register_forward_pre_hook(hook)

    names = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    for name in names:
        watch(name)
    with torch.no_grad():
        for batch in BATCHES:
            model(**batch)
    maxima = input_maxima(model, BATCHES)
    assert {n: maxima[n] for n in names if n != "lm_head"} == {
        n: met[n] for n in names if n != "lm_head"
    }
    convert(model, "nvfp4-static", "exact", calibration=maxima)
    for name, layer in simulated_layers(model).items():
        wanted = np.float32(maxima[name]) / np.float32(6 * 448)
        assert np.float32(layer.input_cast.tensor_scale) == wanted
        quiet = torch.ones(1, layer.in_features) * 1e-3
        assert layer.cast_input(quiet).factor == wanted  # not that of the tensor
    record = conversion_of(model)
    assert record.causal
    assert record.batch_independent


def test_scales_per_token() -> None:
    model = convert(tiny_llama(), "nvfp4-token", "exact")
    assert conversion_of(model).batch_independent
    layer = next(iter(simulated_layers(model).values()))
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32))
    x[1] *= 1000
    factor = layer.cast_input(x).factor
    wanted = x.abs().amax(dim=1, keepdim=True).numpy() / np.float32(6 * 448)
    assert np.array_equal(factor, wanted)
    assert not conversion_of(convert(tiny_llama(), "nvfp4", "exact")).batch_independent


def test_static_scales_are_saved(tmp_path: Path) -> None:
    model = tiny_llama()
    maxima = input_maxima(model, BATCHES)
    convert(model, "nvfp4-static", "exact", calibration=maxima, skip=["*mlp*", "lm_head"])
    save_checkpoint(model, tmp_path / "out", "modelopt")
    again = simulated_layers(load_checkpoint(tmp_path / "out"))
    assert set(again) == set(simulated_layers(model))
    for name, layer in simulated_layers(model).items():
        assert again[name].input_cast == layer.input_cast
        assert np.array_equal(again[name].operand().codes, layer.operand().codes)
    ids = BATCHES[0]["input_ids"]
    with torch.no_grad():
        assert torch.equal(load_checkpoint(tmp_path / "out")(ids).logits, model(ids).logits)


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        (torch.ones(1, 4, dtype=torch.int64), "a Tensor is one batch or none; a list"),
        ({"input_ids": torch.ones(1, 4)}, "a dict is one batch or none; a list"),
        ("text", "a str is one batch or none"),
        ([torch.ones(1, 4)], "number 0 is a Tensor; each is a mapping"),
        ([{"input_ids": torch.ones(1, 4)}, {}], "number 1 is a dict"),
        ([{"input_ids": "words"}], "'input_ids' of number 0 is a str, not a tensor"),
        ([], "none were given"),
    ],
)
def test_batches_are_mappings_of_tensors(batches: Any, said: str) -> None:
    with pytest.raises(FpsimError, match=f"batches: .*{said}"):
        calibrate(tiny_llama(), batches, "gptq")
    with pytest.raises(FpsimError, match=f"batches: .*{said}"):
        input_maxima(tiny_llama(), batches)


def test_batches_of_transforms_are_mappings() -> None:
    batches: Any = [torch.ones(1, 4, dtype=torch.int64)]
    with pytest.raises(FpsimError, match="batches: number 0 is a Tensor; each is a mapping"):
        convert(tiny_llama(), "mxfp4", "exact", transforms="smoothquant", batches=batches)


def test_calibrations_of_another_kind_are_refused() -> None:
    model = tiny_llama()
    with pytest.raises(FpsimError, match=r"nvfp4-static needs a calibration"):
        convert(model, "nvfp4-static", "exact")
    with pytest.raises(FpsimError, match=r"calibration: list is not what .*input_maxima returns"):
        convert(model, "nvfp4-static", "exact", calibration=[1.0])
    with pytest.raises(FpsimError, match=r"layer \S+: the calibration never reached it"):
        convert(model, "nvfp4-static", "exact", calibration={"model": 1.0})
    with pytest.raises(FpsimError, match=r"batches: none were given"):
        input_maxima(model, [])
