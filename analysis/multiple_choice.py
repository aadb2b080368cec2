# SPDX-License-Identifier: Apache-2.0
"""Zero-shot multiple choice: does a 4-bit model still know how a paragraph goes on?

lm-evaluation-harness scores a task made of CPython's help topics: the first 24 words of a paragraph
and four ways to go on for 10 words, one of them the paragraph's own, three from other topics. The
accuracy of SmolLM2-135M under each recipe, and how often it chooses what float32 chooses.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import study

from fpsim.plots.style import MUTED, SERIES, caption, new_figure, style

NAME = "multiple_choice"
QUESTIONS, CHOICES = 24, 4
#: Words of a paragraph that are shown, and of each way to go on.
SHOWN, ASKED = 24, 10
TASK = """
task: fpsim_topics
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{text}}}}"
doc_to_target: "{{{{answer}}}}"
doc_to_choice: "{{{{choices}}}}"
target_delimiter: " "
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


def questions(seed: int = 1) -> list[dict[str, Any]]:
    """Return the task: text, choices and the place of the right one."""
    rng = np.random.default_rng(seed)
    found = []
    for key in sorted(topics):
        for paragraph in topics[key].split("\n\n"):
            words = paragraph.split()
            if len(words) >= SHOWN + ASKED:
                found.append((" ".join(words[:SHOWN]), " ".join(words[SHOWN : SHOWN + ASKED])))
                break
    picked = [found[i] for i in rng.permutation(len(found))[:QUESTIONS]]
    made = []
    for place, (text, right) in enumerate(picked):
        others = [picked[i][1] for i in rng.permutation(len(picked)) if i != place][: CHOICES - 1]
        answer = int(rng.integers(CHOICES))
        made.append(
            {"text": text, "choices": [*others[:answer], right, *others[answer:]], "answer": answer}
        )
    return made


def measure(run: study.Run) -> dict[str, Any]:
    """Return which choice each recipe makes of every question."""
    found = run.points("recipes", ask, [{"recipe": title} for title in study.RECIPES])
    rows = [{"recipe": title} | result for title, result in zip(study.RECIPES, found, strict=True)]
    return {"about": study.about(), "answers": [q["answer"] for q in questions()], "rows": rows}


def ask(point: dict[str, Any]) -> dict[str, Any]:
    """Let lm-evaluation-harness score one recipe, as work for an executor.

    Args:
        point: ``recipe``, a key of `study.RECIPES`.

    Returns:
        ``accuracy`` as the harness says it, and ``chosen``, the likeliest choice of each question.
    """
    import os

    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    recipe, transforms = study.RECIPES[point["recipe"]]
    with (
        tempfile.TemporaryDirectory() as scratch,
        study.converted(study.MODEL, recipe, transforms) as model,
    ):
        data = Path(scratch) / "topics.jsonl"
        data.write_text("\n".join(json.dumps(q) for q in questions()))
        (Path(scratch) / "topics.yaml").write_text(TASK.format(data=data))
        wrapped = HFLM(
            pretrained=model, tokenizer=study.loaded_model(study.MODEL).tokenizer,
            batch_size=4, device="cpu",
        )  # fmt: skip
        results = lm_eval.simple_evaluate(
            model=wrapped,
            tasks=["fpsim_topics"],
            task_manager=TaskManager(include_path=scratch, include_defaults=False),
            bootstrap_iters=0,
        )
    samples = sorted(results["samples"]["fpsim_topics"], key=lambda sample: sample["doc_id"])
    chosen = [int(np.argmax([r[0] for r in sample["filtered_resps"]])) for sample in samples]
    return {"accuracy": results["results"]["fpsim_topics"]["acc,none"], "chosen": chosen}


def draw(data: dict[str, Any]) -> Any:
    """Draw accuracy and agreement with float32."""
    (base,) = (row["chosen"] for row in data["rows"] if row["recipe"] == "float32")
    count = len(base)
    with style():
        figure = new_figure(2.9)
        axes = figure.subplots()
        for y, row in enumerate(data["rows"]):
            share = row["accuracy"]
            error = math.sqrt(share * (1 - share) / count)
            axes.errorbar(100 * share, y, xerr=100 * error, fmt="o", color=SERIES[0],
                          markersize=6, label="right" if y == 0 else None)  # fmt: skip
            same = 100 * float(np.mean(np.equal(row["chosen"], base)))
            axes.plot(same, y, "D", color=SERIES[1], markersize=5, markerfacecolor="white",
                      label="as float32" if y == 0 else None)  # fmt: skip
        axes.axvline(100 / CHOICES, color=MUTED, linestyle="dotted", linewidth=1)
        axes.set_yticks(range(len(data["rows"])), [row["recipe"] for row in data["rows"]])
        axes.set_ylim(len(data["rows"]) - 0.5, -0.5)
        axes.set_xlim(0, 103)
        axes.set_xlabel(f"of {count} questions (%; dotted: chance)")
        axes.grid(axis="x")
        axes.tick_params(length=0)
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        note = data["about"]
        caption(figure, f"SmolLM2-135M, lm-evaluation-harness, CPython {note['python']}'s topics, "
                        "seed 1, exact sums; bars: one standard error; fpsim "
                        f"{note['version']}")  # fmt: skip
    return figure


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
