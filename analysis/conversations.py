# SPDX-License-Identifier: Apache-2.0
"""How often does a 4-bit model choose the word that the float model chooses, turn after turn?

SmolLM2-135M-Instruct answers five users for three turns each, greedily, in float32. A cast model
is shown the same conversations and says after every token which comes next: the share of tokens on
which it agrees with the float model's answer, by turn, and how much less likely it finds them.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import study

from fpsim.plots.style import SERIES, caption, new_figure, style

NAME = "conversations"
#: Tokens of an answer at most.
ANSWER = 24
USERS = (
    ("What is a list in Python?", "How is it different from a tuple?", "Show me an example."),
    ("Why is the sky blue?", "And why is it red in the evening?", "Does the Moon have a sky?"),
    ("Give me a recipe for pancakes.", "I have no eggs.", "How long do I bake each side?"),
    ("What is the capital of France?", "What is it famous for?", "How would I travel there?"),
    ("What does a compiler do?", "How is an interpreter different?", "Which one is faster?"),
)


def measure(run: study.Run) -> dict[str, Any]:
    """Return the float model's answers, and agreement with them by recipe, user and turn."""
    talks = run.points("answers", answer, [{"user": i} for i in range(len(USERS))])
    points = [{"recipe": title, "talks": talks} for title in study.RECIPES]
    found = run.points("agreement", agree, points)
    rows = [
        {"recipe": point["recipe"], "user": user} | row
        for point, result in zip(points, found, strict=True)
        for user, row in enumerate(result)
    ]
    tokenizer = study.loaded_model(study.MODEL).tokenizer
    texts = [
        [tokenizer.decode(talk["tokens"][first:end]) for first, end in talk["answers"]]
        for talk in talks
    ]
    return {"about": study.about(), "answers": texts, "rows": rows}


def answer(point: dict[str, Any]) -> dict[str, Any]:
    """Let the float model answer one user, as work for an executor.

    Args:
        point: ``user``, a place in `USERS`.

    Returns:
        ``tokens`` of the conversation, and ``answers``: first and end of the tokens of each.
    """
    import torch

    model, tokenizer = (getattr(study.loaded_model(study.MODEL), n) for n in ("model", "tokenizer"))
    tokens: list[int] = []
    spans = []
    for question in USERS[point["user"]]:
        said = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
        if tokens:  # a later turn has no system prompt, and ends the answer before it
            text = (
                "<|im_end|>\n" * (tokens[-1] != tokenizer.eos_token_id)
                + text[text.index("<|im_start|>user") :]
            )
        tokens += tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            ids = torch.as_tensor([tokens])
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=ANSWER, do_sample=False,
                pad_token_id=tokenizer.eos_token_id,
            )[0]  # fmt: skip
        spans.append([len(tokens), len(out)])
        tokens = out.tolist()
    return {"tokens": tokens, "answers": spans}


def agree(point: dict[str, Any]) -> list[dict[str, Any]]:
    """Show conversations to a cast model, as work for an executor.

    Args:
        point: ``recipe`` (a key of `study.RECIPES`) and ``talks``, what `answer` returned.

    Returns:
        Per conversation lists by turn: ``tokens``, ``same`` (how many of them the model would have
        chosen) and ``nll``, their mean loss in nats.
    """
    import torch

    recipe, transforms = study.RECIPES[point["recipe"]]
    found = []
    with study.converted(study.MODEL, recipe, transforms) as model, torch.no_grad():
        for talk in point["talks"]:
            ids = torch.as_tensor(talk["tokens"])
            logits = model(input_ids=ids[None], use_cache=False).logits[0]
            row: dict[str, Any] = {"tokens": [], "same": [], "nll": []}
            for first, end in talk["answers"]:
                wanted, kept = ids[first:end], logits[first - 1 : end - 1]
                losses = kept.logsumexp(1) - kept.gather(1, wanted[:, None]).squeeze(1)
                row["tokens"].append(len(wanted))
                row["same"].append(int((kept.argmax(-1) == wanted).sum()))
                row["nll"].append(round(float(losses.mean()), 5))
            found.append(row)
    return found


def agreement(rows: list[dict[str, Any]], recipe: str, turn: int | None) -> tuple[float, float]:
    """Return the share of tokens in per cent, and its standard error over users."""
    here = [row for row in rows if row["recipe"] == recipe]
    pick = slice(None) if turn is None else slice(turn, turn + 1)
    shares = [100 * sum(row["same"][pick]) / sum(row["tokens"][pick]) for row in here]
    return float(np.mean(shares)), float(np.std(shares, ddof=1)) / math.sqrt(len(shares))


def draw(data: dict[str, Any]) -> Any:
    """Draw agreement by turn."""
    rows = data["rows"]
    recipes = [recipe for recipe in study.RECIPES if recipe != "float32"]
    count = sum(sum(row["tokens"]) for row in rows if row["recipe"] == recipes[0])
    users = sum(row["recipe"] == recipes[0] for row in rows)
    with style():
        figure = new_figure(3.2)
        axes = figure.subplots()
        for i, recipe in enumerate(recipes):
            found = [agreement(rows, recipe, turn) for turn in (0, 1, 2, None)]
            x = np.array([0.0, 1.0, 2.0, 3.3]) + 0.12 * (i - 1.5)
            axes.errorbar(x, [f[0] for f in found], [f[1] for f in found], fmt="osD^"[i],
                          color=SERIES[i], markersize=5, label=recipe)  # fmt: skip
        axes.set_xticks([0, 1, 2, 3.3], ["turn 1", "turn 2", "turn 3", "all turns"])
        axes.set_title("tokens of float32's answers that the cast model would choose (%)")
        axes.grid(axis="y")
        axes.tick_params(length=0)
        figure.legend(loc="outside upper center", ncols=4, frameon=False)
        caption(figure, f"SmolLM2-135M-Instruct, {users} users, {count} tokens of answers; exact "
                        "sums; bars: one standard error over users; "
                        f"fpsim {data['about']['version']}")  # fmt: skip
    return figure


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
