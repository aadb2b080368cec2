# SPDX-License-Identifier: Apache-2.0
"""Tasks that measure a converted model: perplexity, retrieval of topics, digits.

A task has calibration data apart from the data that it measures on; `measure` takes the model
unchanged. The model's architecture decides which task fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pydoc_data.topics import topics
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fpsim.base.errors import FpsimError
from fpsim.bridge.layer_inputs import Batch
from fpsim.bridge.measure.digits import digits
from fpsim.bridge.measure.models import LoadedModel
from fpsim.bridge.measure.perplexity import Progress, perplexity
from fpsim.bridge.measure.text import text_windows, topics_text

__all__ = ["DigitsTask", "PerplexityTask", "RetrievalTask", "Task", "task_for"]


class Task(Protocol):
    """A measurement of a model."""

    @property
    def name(self) -> str:
        """Name of the task, and the key of its first figure."""

    def calibration(self) -> list[Batch]:
        """Return forward passes for calibration; none of their data is measured."""

    def measure(self, model: nn.Module, progress: Progress | None = None) -> dict[str, float]:
        """Return figures by name."""


@dataclass(frozen=True)
class PerplexityTask:
    """Perplexity of a language model over windows of a text."""

    loaded: LoadedModel
    text: str = field(default_factory=topics_text, repr=False)
    count: int = 4
    length: int = 512
    stride: int = 5000
    name: str = "perplexity"

    def windows(self, between: bool = False) -> NDArray[np.int64]:
        """Return the measured windows, or windows ``between`` them, (count, length)."""
        sizes = self.count, self.length, self.stride
        return text_windows(self.loaded.tokenizer, self.text, *sizes, between=between)

    def calibration(self) -> list[Batch]:
        """Return the windows halfway between the measured ones."""
        return [{"input_ids": torch.as_tensor(window)[None]} for window in self.windows(True)]

    def measure(self, model: nn.Module, progress: Progress | None = None) -> dict[str, float]:
        """Return ``perplexity``."""
        return {"perplexity": perplexity(model, self.windows(), progress).perplexity}


@dataclass(frozen=True)
class DigitsTask:
    """Accuracy on scikit-learn's test digits."""

    name: str = "accuracy"

    def calibration(self) -> list[Batch]:
        """Return 128 training images."""
        return [{"pixel_values": part} for part in torch.split(digits().calibration, 32)]

    @torch.no_grad()
    def measure(self, model: nn.Module, progress: Progress | None = None) -> dict[str, float]:
        """Return ``accuracy``, 0 to 1."""
        images, labels = digits().test
        parts = list(zip(torch.split(images, 64), torch.split(labels, 64), strict=True))
        right = 0
        for done, (part, wanted) in enumerate(parts):
            if progress:
                progress(done, len(parts))
            right += int((model(pixel_values=part).logits.argmax(-1) == wanted).sum())
        if progress:
            progress(len(parts), len(parts))
        return {"accuracy": right / len(labels)}


@dataclass(frozen=True)
class RetrievalTask:
    """Find a topic of CPython's help from one of its paragraphs.

    Every topic with at least four paragraphs of 200 characters or more takes part: the mean of the
    first two is the topic's vector, the third is a query, and the fourth calibrates. A query counts
    (``top1``) if the nearest vector by cosine is its topic's. ``cosine`` is the mean cosine
    similarity of all vectors to those of ``reference``, the float32 model, if given.

    Embeddings are means over tokens, normalised, as all-MiniLM-L6-v2 defines them.
    """

    loaded: LoadedModel
    topics: int = 64
    tokens: int = 128
    name: str = "top1"
    reference: NDArray[np.float32] | None = field(default=None, repr=False)

    def paragraphs(self) -> list[tuple[str, ...]]:
        """Return four paragraphs of each topic."""
        found = []
        for key in sorted(topics):
            parts = [" ".join(p.split()) for p in topics[key].split("\n\n")]
            long = [part for part in parts if len(part) >= 200]
            if len(long) >= 4:
                found.append(tuple(long[:4]))
        if not found:
            raise FpsimError("text: no topic of this CPython has four paragraphs")
        return found[: self.topics]

    def _batches(self, column: Sequence[int]) -> list[Batch]:
        texts = [rows[c] for rows in self.paragraphs() for c in column]
        options: dict[str, Any] = {"truncation": True, "max_length": self.tokens}
        return [
            dict(
                self.loaded.tokenizer(
                    texts[i : i + 16], padding=True, return_tensors="pt", **options
                )
            )
            for i in range(0, len(texts), 16)
        ]

    def calibration(self) -> list[Batch]:
        """Return the fourth paragraphs."""
        return self._batches([3])

    def embed(self, model: nn.Module, progress: Progress | None = None) -> NDArray[np.float32]:
        """Return embeddings (topics, 3, width) of the first three paragraphs."""
        batches = self._batches([0, 1, 2])
        parts = []
        for done, batch in enumerate(batches):
            if progress:
                progress(done, len(batches))
            parts.append(_pooled(model, batch))
        if progress:
            progress(len(batches), len(batches))
        flat = torch.cat(parts)
        return np.asarray(flat.reshape(-1, 3, flat.shape[-1]).numpy())

    def measure(self, model: nn.Module, progress: Progress | None = None) -> dict[str, float]:
        """Return ``top1`` and, with a reference, ``cosine``."""
        vectors = self.embed(model, progress)
        documents, queries = vectors[:, :2].mean(1), vectors[:, 2]
        documents = documents / np.linalg.norm(documents, axis=1, keepdims=True)
        nearest = (queries @ documents.T).argmax(1)
        figures = {"top1": float((nearest == np.arange(len(nearest))).mean())}
        if self.reference is not None:
            figures["cosine"] = float((vectors * self.reference).sum(-1).mean())
        return figures


@torch.no_grad()
def _pooled(model: nn.Module, batch: Batch) -> torch.Tensor:
    hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None].to(hidden.dtype)
    mean = (hidden * mask).sum(1) / mask.sum(1)
    return nn.functional.normalize(mean, dim=-1)


def task_for(loaded: LoadedModel, **options: Any) -> Task:
    """Return the task for a model's architecture; ``options`` are those of `PerplexityTask`.

    Raises:
        FpsimError: an architecture that no task fits.
    """
    makers: dict[str, Callable[[], Task]] = {
        "ForCausalLM": lambda: PerplexityTask(loaded, **options),
        "LMHeadModel": lambda: PerplexityTask(loaded, **options),
        "ForImageClassification": DigitsTask,
        "Model": lambda: RetrievalTask(loaded),
    }
    kind = type(loaded.model).__name__
    for ending, make in makers.items():
        if kind.endswith(ending):
            return make()
    raise FpsimError(f"model: no task measures a {kind}; one of {', '.join(makers)} is needed")
