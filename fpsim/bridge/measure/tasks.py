# SPDX-License-Identifier: Apache-2.0
"""Tasks that measure a converted model: perplexity, retrieval of topics, digits read and drawn.

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
from fpsim.bridge.measure.diffusion import STEPS, draw, noisy
from fpsim.bridge.measure.digits import digits, digits_model, features
from fpsim.bridge.measure.models import LoadedModel
from fpsim.bridge.measure.perplexity import Progress, perplexity
from fpsim.bridge.measure.text import text_windows, topics_text

__all__ = [
    "DigitsTask", "DrawingTask", "PerplexityTask", "RetrievalTask", "Task", "frechet_distance",
    "task_for",
]  # fmt: skip


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
class DrawingTask:
    """Digits that a diffusion model draws, beside scikit-learn's test digits.

    ``frechet`` is the Fréchet distance of the features that the trained ViT (`vit-digits`) has of
    them, as FID (arXiv 1706.08500) is of Inception's; ``accuracy`` the share that the ViT reads as
    the digit asked for.
    """

    count: int = 450
    steps: int = 20
    name: str = "frechet"

    def calibration(self) -> list[Batch]:
        """Return 128 training images with noise of random steps."""
        data, random = digits(), torch.Generator().manual_seed(1)
        images = data.calibration
        times = torch.randint(STEPS, (len(images),), generator=random)
        noise = torch.randn(images.shape, generator=random)
        parts = zip(
            torch.split(noisy(images, times, noise), 32),
            torch.split(times, 32),
            torch.split(data.train[1][: len(images)], 32),
            strict=True,
        )
        return [{"sample": x, "timestep": time, "labels": label} for x, time, label in parts]

    def drawn(self, model: nn.Module, progress: Progress | None = None) -> torch.Tensor:
        """Return drawn digits, 0 to 9 in turn, (count, 1, 8, 8)."""
        return draw(model, self._labels, self.steps, progress=progress)

    @property
    def _labels(self) -> torch.Tensor:
        return torch.arange(self.count) % 10

    def measure(self, model: nn.Module, progress: Progress | None = None) -> dict[str, float]:
        """Return ``frechet`` and ``accuracy``."""
        return self.judged(self.drawn(model, progress))

    @torch.no_grad()
    def judged(self, images: torch.Tensor) -> dict[str, float]:
        """Return ``frechet`` and ``accuracy`` of images that `drawn` returned."""
        reader = digits_model()
        read = reader(pixel_values=images).logits.argmax(-1)
        real = features(reader, digits().test[0])
        return {
            "frechet": frechet_distance(features(reader, images), real),
            "accuracy": float((read == self._labels).double().mean()),
        }


def frechet_distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the Fréchet distance of two samples' Gaussians.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^(1/2) C2 C1^(1/2))^(1/2)), with means m and covariances C
    (Dowson and Landau, 1982).

    Args:
        one: (N, D).
        other: (M, D).

    Returns:
        The distance, in squared units of the samples.
    """
    first, second = np.cov(one.T), np.cov(other.T)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    away = ((one.mean(0) - other.mean(0)) ** 2).sum()
    return float(away + np.trace(first) + np.trace(second) - 2 * shared)


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
        "DigitsDiT": DrawingTask,
        "Model": lambda: RetrievalTask(loaded),
    }
    kind = type(loaded.model).__name__
    for ending, make in makers.items():
        if kind.endswith(ending):
            return make()
    raise FpsimError(f"model: no task measures a {kind}; one of {', '.join(makers)} is needed")
