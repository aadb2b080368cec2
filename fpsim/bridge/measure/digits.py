# SPDX-License-Identifier: Apache-2.0
"""A small vision transformer on scikit-learn's digits: trained once, from a fixed seed, and cached.

1 797 images of 8x8 pixels, 0..16 (UCI optical digits, bundled with scikit-learn). Images whose
index is 3 modulo 4 are for testing; of the others, the first 128 also calibrate. Training is
deterministic on one computer: one thread, one seed; the SHA-256 of cached weights is checked.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import nn

from fpsim.base.atomic_files import write_atomic
from fpsim.base.cache_dir import cache_dir
from fpsim.base.errors import FpsimError, ModelUnavailable
from fpsim.bridge.measure.wheels import Report, sha256

__all__ = ["NAME", "Digits", "digits", "digits_model", "features", "pixels", "trained_once"]

NAME = "vit-digits"
CALIBRATION_IMAGES = 128
#: Version of the training; changes if code below changes the weights.
_VERSION = "2"
_MEAN, _DEVIATION = np.float32(0.3), np.float32(0.375)
_EPOCHS, _BATCH, _RATE, _SEED = 40, 64, 1e-3, 1


@dataclass(frozen=True)
class Digits:
    """Images (N, 1, 8, 8), of mean about 0 and variance 1, and labels (N,), for each part."""

    train: tuple[torch.Tensor, torch.Tensor]
    test: tuple[torch.Tensor, torch.Tensor]

    @property
    def calibration(self) -> torch.Tensor:
        """Training images that calibrate."""
        return self.train[0][:CALIBRATION_IMAGES]


def digits() -> Digits:
    """Return the images.

    Raises:
        ModelUnavailable: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ModelUnavailable(
            "models of digits need scikit-learn, which the extra 'torch' brings"
        ) from None
    images, labels = load_digits(return_X_y=True)
    scaled = (np.asarray(images, dtype=np.float32) / 16 - _MEAN) / _DEVIATION
    pixels = torch.from_numpy(scaled).reshape(-1, 1, 8, 8)
    classes = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    test: NDArray[np.bool_] = np.arange(len(classes)) % 4 == 3
    chosen = torch.from_numpy(test)
    return Digits((pixels[~chosen], classes[~chosen]), (pixels[chosen], classes[chosen]))


def pixels(images: torch.Tensor) -> torch.Tensor:
    """Return images (N, 1, 8, 8) like those of `digits` as whole numbers 0 (white) to 16."""
    return (images * float(_DEVIATION) + float(_MEAN)).mul(16).round().clamp(0, 16).int()


def digits_model(report: Report | None = None) -> transformers.PreTrainedModel:
    """Return the trained model in eval mode, from the cache or newly trained.

    Raises:
        ModelUnavailable: training is needed and scikit-learn is not installed.
        FpsimError: a cached file with another SHA-256 than recorded.
    """
    model = _fresh()
    trained_once(NAME, _VERSION, model, _epochs, "half a minute", report)
    return model


@torch.no_grad()
def features(model: transformers.PreTrainedModel, images: torch.Tensor) -> NDArray[np.float64]:
    """Return the trained model's features of images, which its classifier reads.

    Args:
        model: the model of `digits_model`.
        images: (N, 1, 8, 8).

    Returns:
        (N, 64).
    """
    hidden = model.base_model(pixel_values=images).last_hidden_state[:, 0]
    return np.asarray(hidden.double().numpy())


def trained_once(
    name: str,
    version: str,
    model: nn.Module,
    train: Callable[[nn.Module, torch.Tensor, torch.Tensor], None],
    takes: str,
    report: Report | None,
) -> None:
    """Load a model's weights from the cache, or train it on the digits and keep them.

    Args:
        name: name of the model.
        version: version of the training.
        model: the model, with the weights that training begins with; in eval mode at the end.
        train: trains a model on images and labels, from the seed set, on one thread.
        takes: how long training takes, in words.
        report: called with one line before training.

    Raises:
        ModelUnavailable: training is needed and scikit-learn is not installed.
        FpsimError: a cached file with another SHA-256 than recorded.
    """
    folder = cache_dir() / "models" / name / version
    weights, stamp = folder / "model.safetensors", folder / "fpsim.json"
    if not (weights.is_file() and stamp.is_file()):
        if report:
            report(f"training {name} on scikit-learn's digits, once (about {takes})")
        data = digits()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # sums would depend on the number of threads
        try:
            with torch.random.fork_rng(), torch.enable_grad():
                torch.manual_seed(_SEED)
                train(model, *data.train)
        finally:
            torch.set_num_threads(threads)
        write_atomic(weights, save(model.state_dict()), "cache")
        recorded = {"sha256": sha256(weights), "torch": torch.__version__}
        write_atomic(stamp, json.dumps(recorded, indent=1).encode(), "cache")
    _check(weights, stamp)
    model.load_state_dict(load(weights.read_bytes()))
    model.train(False)


def _check(weights: Path, stamp: Path) -> None:
    try:
        wanted = json.loads(stamp.read_text())["sha256"]
    except (ValueError, KeyError, TypeError):
        wanted = "nothing readable"
    if sha256(weights) != wanted:
        raise FpsimError(
            f"SHA-256 of {weights} is {sha256(weights)}, but {wanted} was expected "
            f"(delete {weights.parent} to train it again)"
        )


def _fresh() -> transformers.PreTrainedModel:
    config = transformers.ViTConfig(
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=128,
        image_size=8,
        patch_size=2,
        num_channels=1,
    )
    config.num_labels = 10
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        model: transformers.PreTrainedModel = transformers.ViTForImageClassification(config)
    return model


def _epochs(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    size = len(labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.05)
    steps = _EPOCHS * -(-size // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    model.train()
    for _ in range(_EPOCHS):
        for part in torch.split(torch.randperm(size), _BATCH):
            loss = model(pixel_values=images[part], labels=labels[part]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
