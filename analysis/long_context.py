# SPDX-License-Identifier: Apache-2.0
"""Does a 4-bit cast cost more in a long context, and does the model still find what it has read?

SmolLM2-135M reads 2 048, 4 096 and 8 192 tokens of CPython's help topics in which sixteen codes of
four digits are hidden, and is asked for each. Per recipe: the loss by position in the context, and
the share of the codes' digits that greedy decoding finds. Sums are exact; products of attention
stay float.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import study

from fpsim.plots.style import MUTED, SERIES, caption, new_figure, style

NAME = "long_context"
#: Tokens of a context, and how many contexts of that length there are.
LENGTHS = {2048: 2, 4096: 1, 8192: 1}
DOORS = (
    "red", "green", "blue", "black", "white", "yellow", "silver", "golden", "wooden", "iron",
    "glass", "heavy", "narrow", "hidden", "round", "old",
)  # fmt: skip
#: Tokens that pass the model at a time, and those whose mean loss is kept.
CHUNK, PART = 1024, 64
#: Tokens of the topics from one context's start to that of the next.
STRIDE = 12000
RECIPES = ("float32", "AMXFP4", "MXFP4")


def measure(run: study.Run) -> dict[str, Any]:
    """Return losses by position, and answers."""
    points = [
        {"recipe": title, "length": length, "place": place}
        for length, count in LENGTHS.items()
        for title in RECIPES
        for place in range(count)
    ]
    found = run.points("contexts", read_and_ask, points)
    rows = [point | result for point, result in zip(points, found, strict=True)]
    return {"about": study.about(), "rows": rows}


def read_and_ask(point: dict[str, Any]) -> dict[str, Any]:
    """Read one context and answer its questions, as work for an executor.

    Args:
        point: ``recipe`` (a key of `study.RECIPES`), ``length``, ``place`` (which context).

    Returns:
        ``nll`` by parts of 64 tokens, None where a code is hidden; ``digits``, how many of four
        are the likeliest token given those before, per code in the order in which they stand.
    """
    import torch
    from transformers import DynamicCache

    recipe, transforms = study.RECIPES[point["recipe"]]
    tokens, hidden, codes = context(point["length"], point["place"])
    tokenizer = study.loaded_model(study.MODEL).tokenizer
    with study.converted(study.MODEL, recipe, transforms) as model, torch.no_grad():
        cache = DynamicCache(config=model.config)
        losses = []
        for start in range(0, len(tokens), CHUNK):
            part = torch.as_tensor(tokens[start : start + CHUNK])[None]
            logits = model(input_ids=part, past_key_values=cache, use_cache=True).logits[0]
            after = torch.as_tensor(tokens[start + 1 : start + CHUNK + 1])
            kept = logits[: len(after)]
            chosen = kept.gather(1, after[:, None]).squeeze(1)
            losses.append((kept.logsumexp(1).double() - chosen.double()).numpy())
        digits = [
            _ask(model, cache, tokenizer, door, code)
            for door, code in zip(DOORS, codes, strict=True)
        ]
    nll = np.concatenate(losses)
    seen = ~hidden[1:]
    parts = [
        round(float(nll[s : s + PART].mean()), 5) if seen[s : s + PART].all() else None
        for s in range(0, len(nll) - PART + 1, PART)
    ]
    return {"nll": parts, "digits": digits}


def context(length: int, place: int) -> tuple[study.Array, study.Array, list[str]]:
    """Return tokens, which of them say a code, and the codes of `DOORS`."""
    from fpsim.bridge.measure.text import tokenize, topics_text

    tokenizer = study.loaded_model(study.MODEL).tokenizer
    rng = np.random.default_rng([length, place])
    codes = [f"{code:04d}" for code in rng.choice(10000, len(DOORS), replace=False)]
    sentences = [
        tokenize(tokenizer, f"\n\nThe secret code of the {door} door is {code}.\n\n")
        for door, code in zip(DOORS, codes, strict=True)
    ]
    room = length - sum(len(sentence) for sentence in sentences)
    start = STRIDE * place
    text = tokenize(tokenizer, topics_text())[start : start + room]
    parts, marks = [], []
    for gap, sentence in zip(np.array_split(text, len(DOORS) + 1), [*sentences, []], strict=True):
        parts += [gap, np.asarray(sentence, dtype=np.int64)]
        marks += [np.zeros(len(gap), bool), np.ones(len(sentence), bool)]
    return np.concatenate(parts), np.concatenate(marks), codes


def _ask(model: Any, cache: Any, tokenizer: Any, door: str, code: str) -> int:
    """Ask for one code, and leave the cache as it was."""
    import torch

    length = cache.get_seq_length()
    question = f"\n\nThe secret code of the {door} door is"
    asked = tokenizer(question, add_special_tokens=False)["input_ids"]
    whole = tokenizer(f"{question} {code}", add_special_tokens=False)["input_ids"]
    wanted = torch.as_tensor(whole[-len(code) :])
    if tokenizer.decode(wanted) != code or len(whole) - len(asked) < len(code):
        raise ValueError(f"the tokenizer does not take {code} digit by digit")
    ids = torch.as_tensor(whole)[None, :-1]
    logits = model(input_ids=ids, past_key_values=cache, use_cache=True).logits[0]
    cache.crop(length - cache.get_seq_length())  # a negative number of tokens
    return int((logits[-len(code) :].argmax(-1) == wanted).sum())


def by_position(rows: list[dict[str, Any]], recipe: str) -> list[tuple[int, int, float, float]]:
    """Return (first, end, extra loss over float32, its standard error) by octaves of position.

    All contexts of a recipe together, part by part beside float32's.
    """
    pairs: list[tuple[int, float]] = []
    for row in rows:
        if row["recipe"] != recipe:
            continue
        (base,) = (
            r for r in rows
            if (r["recipe"], r["length"], r["place"]) == ("float32", row["length"], row["place"])
        )  # fmt: skip
        pairs += [
            (i * PART, a - b)
            for i, (a, b) in enumerate(zip(row["nll"], base["nll"], strict=True))
            if a is not None and b is not None
        ]
    found = []
    for first, end in ((0, 512), (512, 1024), (1024, 2048), (2048, 4096), (4096, 8192)):
        here = [extra for place, extra in pairs if first <= place < end]
        error = float(np.std(here, ddof=1)) / math.sqrt(len(here))
        found.append((first, end, float(np.mean(here)), error))
    return found


def found_digits(rows: list[dict[str, Any]], recipe: str, length: int) -> tuple[float, float]:
    """Return the share of digits that were found, in per cent, and its standard error."""
    codes = [
        100 * digits / 4
        for row in rows
        if (row["recipe"], row["length"]) == (recipe, length)
        for digits in row["digits"]
    ]
    return float(np.mean(codes)), float(np.std(codes, ddof=1)) / math.sqrt(len(codes))


def draw(data: dict[str, Any]) -> Any:
    """Draw extra loss by position, and the share of codes that are found by length."""
    rows = data["rows"]
    with style():
        figure = new_figure(3.6)
        left, right = figure.subplots(1, 2)
        for i, recipe in enumerate(RECIPES[1:]):
            places = by_position(rows, recipe)
            x = np.arange(len(places)) + 0.08 * (2 * i - 1)
            left.errorbar(x, [p[2] for p in places], [p[3] for p in places], fmt="sD"[i],
                          color=SERIES[i + 1], markersize=5)  # fmt: skip
        left.set_xticks(range(5), [f"{p[0]}-\n{p[1]}" for p in by_position(rows, RECIPES[1])])
        left.set_xlabel("position in the context (tokens)")
        left.set_ylim(0, None)
        left.set_title("extra loss over float32 (nats)")
        for i, recipe in enumerate(RECIPES):
            found = [found_digits(rows, recipe, length) for length in LENGTHS]
            x = np.arange(len(LENGTHS)) + 0.1 * (i - 1)
            right.errorbar(x, [f[0] for f in found], [f[1] for f in found], fmt="osD"[i],
                           color=SERIES[i], markersize=5, label=recipe)  # fmt: skip
        right.axhline(10, color=MUTED, linestyle="dotted", linewidth=1)
        names = [f"{length}\n({len(DOORS) * count} codes)" for length, count in LENGTHS.items()]
        right.set_xticks(range(len(LENGTHS)), names)
        right.set_xlabel("tokens of context")
        right.set_ylim(0, 100)
        right.set_title("digits of hidden codes found (%)")
        for axes in (left, right):
            axes.grid(axis="y")
            axes.tick_params(length=0)
        handles, labels = right.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
        note = data["about"]
        caption(figure, f"SmolLM2-135M, CPython {note['python']}'s topics, exact sums, attention "
                        "in float; bars: one standard error; dotted: chance; "
                        f"fpsim {note['version']}")  # fmt: skip
    return figure


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
