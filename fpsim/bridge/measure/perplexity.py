# SPDX-License-Identifier: Apache-2.0
"""Perplexity of a causal language model over windows of tokens.

In a window of L tokens the model predicts the last L - 1, each from all tokens before it.
Perplexity is exp of the mean negative log likelihood, in nats, over the predicted tokens of all
windows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fpsim.base.errors import FpsimError

__all__ = ["PerplexityResult", "Progress", "perplexity"]

#: Called with windows done and windows in all, first with 0 done.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PerplexityResult:
    """A measurement of perplexity.

    ``tokens`` counts the predicted tokens, ``seconds`` is the wall time of the whole measurement,
    and ``nll`` holds the mean negative log likelihood of each window, in nats. Not-a-number logits
    make the window and the perplexity NaN.
    """

    perplexity: float
    tokens: int
    seconds: float
    nll: tuple[float, ...]


def perplexity(
    model: nn.Module,
    windows: NDArray[np.int64],
    progress: Progress | None = None,
    causal: bool = False,
) -> PerplexityResult:
    """Measure the perplexity of a model on windows, one at a time.

    A window is one forward pass, in which a scale shared by tokens depends on tokens still to be
    predicted. With ``causal`` a window is decoded instead, one token per pass with a cache, so no
    scale depends on a later token.

    Args:
        model: any causal LM of transformers, in eval mode: called with ``input_ids`` of shape
            (1, length) it returns ``logits`` of shape (1, length, vocabulary).
        windows: (count, length).
        progress: called with windows done and in all.
        causal: whether to pass tokens one by one.

    Returns:
        The measurement.

    Raises:
        FpsimError: a model in training mode, or windows of another shape.
    """
    if model.training:
        raise FpsimError("the model is in training mode; call model.eval() first")
    count, length = _shape(windows)
    nll: list[float] = []
    started = time.perf_counter()
    for window in windows:
        if progress:
            progress(len(nll), count)
        nll.append((_decoded_nll if causal else _mean_nll)(model, window))
    if progress:
        progress(count, count)
    seconds = time.perf_counter() - started
    # All windows predict equally many tokens, so the mean of means is the pooled mean.
    mean = math.fsum(nll) / count
    return PerplexityResult(_exp(mean), count * (length - 1), seconds, tuple(nll))


def _shape(windows: NDArray[np.int64]) -> tuple[int, int]:
    shape = windows.shape
    if len(shape) != 2 or shape[0] < 1 or shape[1] < 2:
        raise FpsimError(f"windows has shape {shape}, but (count >= 1, length >= 2) is needed")
    return shape[0], shape[1]


@torch.no_grad()
def _mean_nll(model: nn.Module, window: NDArray[np.int64]) -> float:
    """Return the mean over the window of -log p(token | tokens before it), in nats."""
    device = next(model.parameters()).device
    tokens = torch.as_tensor(window, dtype=torch.long, device=device)
    logits = model(input_ids=tokens[None], use_cache=False).logits[0, :-1].float()
    return _nll(logits, tokens)


@torch.no_grad()
def _decoded_nll(model: nn.Module, window: NDArray[np.int64]) -> float:
    """Return the mean over the window of -log p, in nats, from a pass per token."""
    device = next(model.parameters()).device
    tokens = torch.as_tensor(window, dtype=torch.long, device=device)
    cache, rows = None, []
    for token in tokens[:-1]:
        output = model(input_ids=token[None, None], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        rows.append(output.logits[0, 0].float())
    return _nll(torch.stack(rows), tokens)


def _nll(logits: torch.Tensor, tokens: torch.Tensor) -> float:
    chosen = logits.gather(1, tokens[1:, None]).squeeze(1)
    # Float32 suffices inside one token's softmax; the sum over tokens is in float64.
    return float((logits.logsumexp(1).double() - chosen.double()).mean())


def _exp(mean: float) -> float:
    try:
        return math.exp(mean)
    except OverflowError:
        return math.inf
