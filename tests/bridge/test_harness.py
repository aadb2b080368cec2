# SPDX-License-Identifier: Apache-2.0
"""A converted model in lm-evaluation-harness, offline, on a task from a local file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
lm_eval = pytest.importorskip("lm_eval", reason="lm-evaluation-harness (lm_eval) is not installed")

from fpsim.bridge import conversion_of, convert  # noqa: E402
from fpsim.bridge.linear import simulated_layers  # noqa: E402

TASK = """
task: fpsim_capitals
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
doc_to_choice: "{{{{choices}}}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


def letters(folder: Path) -> transformers.PreTrainedTokenizerFast:
    """Return a tokenizer of single characters."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    vocabulary = {chr(c): c - 31 for c in range(32, 127)} | {"<s>": 0}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<s>", pad_token="<s>"
    )


def test_hflm_takes_a_converted_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    docs = [
        {"question": "Capital of France:", "choices": [" Paris", " Rome"], "answer": 0},
        {"question": "Capital of Italy:", "choices": [" Paris", " Rome"], "answer": 1},
    ]
    data = tmp_path / "capitals.jsonl"
    data.write_text("\n".join(json.dumps(doc) for doc in docs))
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "capitals.yaml").write_text(TASK.format(data=data))
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=128,
    )  # fmt: skip
    model = convert(transformers.LlamaForCausalLM(config).eval(), "mxfp4", "e2m1-chain-e5m10")
    wrapped = HFLM(pretrained=model, tokenizer=letters(tmp_path), batch_size=1, device="cpu")
    before = sum(layer.passes for layer in simulated_layers(model).values())
    results = lm_eval.simple_evaluate(
        model=wrapped,
        tasks=["fpsim_capitals"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
    )
    assert 0 <= results["results"]["fpsim_capitals"]["acc,none"] <= 1
    assert sum(layer.passes for layer in simulated_layers(model).values()) > before
    assert len(conversion_of(model).replaced) == 7
