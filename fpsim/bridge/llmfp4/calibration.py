# SPDX-License-Identifier: Apache-2.0
"""The file of a calibration: safetensors with the constants of each layer.

Tensors ``<layer>/weight_bias`` (float64), ``<layer>/shifts`` (int32); everything else is JSON in
the metadata: formats, rho, errors, the recipe's settings, and a fingerprint of every weight.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.bridge.llmfp4.fpq import LayerConstants
from fpsim.bridge.product import float_rows
from fpsim.formats.floating import FloatFormat
from fpsim.formats.names import get_format

__all__ = ["Calibration", "check_fingerprints", "fingerprint"]

_SCHEMA = "1"


def check_fingerprints(found: Mapping[str, str], wanted: Mapping[str, str], where: str) -> None:
    """Check that a calibration covers layers and their weights.

    Args:
        found: fingerprints of the calibrated weights by layer.
        wanted: fingerprints of a model's weights by layer.
        where: name of the calibration, for errors.

    Raises:
        FpsimError: a layer that is missing or has other weights; the message names it.
    """
    for name, weight in wanted.items():
        if name not in found:
            raise FpsimError(f"{where} is for another model: it has no layer {name}")
        if found[name] != weight:
            raise FpsimError(f"{where} is for another model: layer {name} has other weights")


def fingerprint(weight: torch.Tensor) -> str:
    """Return 16 hexadecimal digits that identify a layer's weight."""
    digest = hashlib.sha256(str(tuple(weight.shape)).encode())
    digest.update(float_rows(weight).tobytes())
    return digest.hexdigest()[:16]


@dataclass
class Calibration:
    """Constants by layer; ``about`` holds the settings, ``prints`` fingerprints of the weights."""

    about: dict[str, Any]
    prints: dict[str, str]
    layers: dict[str, LayerConstants] = field(default_factory=dict)
    embeddings: dict[str, tuple[FloatFormat, NDArray[np.float64]]] = field(default_factory=dict)
    complete: bool = False

    @staticmethod
    def check_path(path: str | Path) -> None:
        """Raise `FpsimError` for a file name without the suffix of safetensors."""
        if Path(path).suffix != ".safetensors":
            raise FpsimError(f"out: {path} does not end in .safetensors")

    @classmethod
    def start(
        cls, path: str | Path | None, about: dict[str, Any], prints: dict[str, str]
    ) -> Calibration:
        """Begin a calibration, or resume one.

        Args:
            path: the file of an earlier run, if it exists; None: no file.
            about: the settings.
            prints: fingerprints of the layers' weights.

        Returns:
            An empty calibration, or the calibration in the file.

        Raises:
            FpsimError: a file of another calibration; the message names the first difference.
        """
        if path is None or not Path(path).exists():
            return cls(about, prints)
        found = cls.load(path, partial=True)
        for key, value in about.items():
            if found.about.get(key) != value:
                raise FpsimError(
                    f"out: {path} is a calibration with {key} {found.about.get(key)!r}, not "
                    f"{value!r}; choose another file or delete it"
                )
        found.check_layers(prints, f"out: {path}")
        return found

    def check_layers(self, prints: dict[str, str], where: str) -> None:
        """Raise `FpsimError` unless the calibration covers the layers with their weights."""
        check_fingerprints(self.prints, prints, where)

    def save(self, path: str | Path | None) -> None:
        """Write the file whole, unless ``path`` is None."""
        if path is None:
            return
        tensors: dict[str, NDArray[Any]] = {}
        layers: dict[str, Any] = {}
        for name, c in self.layers.items():
            layers[name] = {
                "weight_format": _name(c.weight_format),
                "input_format": _name(c.input_format),
                "rho": c.rho,
                "error": c.error,
            }
            if c.weight_bias is not None:
                tensors[f"{name}/weight_bias"] = np.ascontiguousarray(c.weight_bias)
            if c.shifts is not None:
                tensors[f"{name}/shifts"] = c.shifts.astype(np.int32)
        for name, (_, bias) in self.embeddings.items():
            tensors[f"{name}/embedding_bias"] = np.ascontiguousarray(bias)
        record = {
            "about": self.about,
            "prints": self.prints,
            "layers": layers,
            "embeddings": {name: fmt.name for name, (fmt, _) in self.embeddings.items()},
            "complete": self.complete,
        }
        metadata = {"fpsim": _SCHEMA, "calibration": json.dumps(record)}
        if not tensors:
            tensors["empty"] = np.zeros(1, np.int32)
        write_atomic(path, save(tensors, metadata), "out")

    def finish(self, path: str | Path | None) -> None:
        """Mark the calibration complete and write it."""
        self.complete = True
        self.save(path)

    @classmethod
    def load(cls, path: str | Path | Calibration, partial: bool = False) -> Calibration:
        """Read a file.

        Raises:
            FpsimError: a file that is missing, is no calibration, or (unless ``partial``) is
                incomplete.
        """
        if isinstance(path, Calibration):
            return path
        if not Path(path).is_file():
            raise FpsimError(f"calibration: {path} does not exist")
        try:
            with safe_open(str(path), "np") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            if metadata.get("fpsim") != _SCHEMA:
                raise FpsimError(f"calibration: {path} was not written by this version of fpsim")
            record = json.loads(metadata["calibration"])
            found = cls(record["about"], record["prints"], complete=record["complete"])
            for name, data in record["layers"].items():
                shifts = tensors.get(f"{name}/shifts")
                found.layers[name] = LayerConstants(
                    weight_format=_format(data["weight_format"]),
                    weight_bias=tensors.get(f"{name}/weight_bias"),
                    input_format=_format(data["input_format"]),
                    rho=data["rho"],
                    shifts=None if shifts is None else shifts.astype(np.int64),
                    error=data["error"],
                )
            for name, text in record["embeddings"].items():
                fmt = _format(text)
                assert fmt is not None
                found.embeddings[name] = fmt, tensors[f"{name}/embedding_bias"]
        except FpsimError:
            raise
        except Exception as error:
            # A damaged file raises errors of safetensors, of JSON, or of classes made from its
            # values.
            raise FpsimError(f"calibration: {path} cannot be read as one ({error})") from None
        if not (found.complete or partial):
            raise FpsimError(
                f"calibration: {path} holds {len(found.layers)} of {len(found.prints)} layers; "
                "run the same calibration again to finish it"
            )
        return found


def _name(fmt: FloatFormat | None) -> str | None:
    return None if fmt is None else fmt.name


def _format(name: str | None) -> FloatFormat | None:
    if name is None:
        return None
    fmt = get_format(name)
    assert isinstance(fmt, FloatFormat)
    return fmt
