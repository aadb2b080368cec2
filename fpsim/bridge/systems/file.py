# SPDX-License-Identifier: Apache-2.0
"""The file of a system's calibration: safetensors with the form of each layer.

Arrays are tensors; objects are JSON in the metadata: an array is ``{"tensor": key}``, an object
``{"kind": class, ...fields}``. Arrays shared by layers are stored once. Codes of up to four bits
are stored in bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.blocks.block_format import BlockFormat
from fpsim.bridge.cast import BlockCast
from fpsim.bridge.llmfp4.calibration import check_fingerprints
from fpsim.bridge.systems import casts, forms
from fpsim.formats.floating import FixedFormat, FloatFormat
from fpsim.formats.names import get_format
from fpsim.units.operands import Operand, Scales

__all__ = ["SCHEMA", "SystemCalibration"]

#: Kind of the file in its metadata.
SCHEMA = "system-2"
_KINDS: Mapping[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        BlockCast, Operand, Scales, casts.GridCast, casts.GroupCast, casts.RangeCast,
        casts.RazorCast, casts.TurnedCast,
        forms.BlockHadamard, forms.Clamp, forms.Columns, forms.Divide, forms.Flatten,
        forms.FloatColumns, forms.LayerForm, forms.LowRank, forms.Matrix, forms.Segment,
        forms.SparseWeights,
    )
}  # fmt: skip


@dataclass
class SystemCalibration:
    """Forms by layer; ``about`` holds the recipe's options, ``prints`` fingerprints of the weights.

    ``attention`` has casts by attention layer, if the recipe makes some; ``shared`` has arrays for
    all layers, by name.
    """

    about: dict[str, Any]
    prints: dict[str, str]
    layers: dict[str, forms.LayerForm] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)
    complete: bool = False

    def check_about(self, about: Mapping[str, Any], where: str, named: str) -> None:
        """Raise `FpsimError` for the first option that differs.

        Args:
            about: the options wanted.
            where: beginning of the error, the name of the calibration.
            named: name of the recipe that wants the options.

        Raises:
            FpsimError: an option that differs.
        """
        for key, value in about.items():
            if self.about.get(key) != value:
                has = self.about.get(key)
                raise FpsimError(f"{where} was made with {key} {has!r}, but {named} has {value!r}")

    def check_layers(self, prints: Mapping[str, str], where: str) -> None:
        """Raise `FpsimError` unless the calibration covers the layers with their weights."""
        check_fingerprints(self.prints, prints, where)

    def save(self, path: str | Path | None) -> None:
        """Write the file whole, unless ``path`` is None."""
        if path is None:
            return
        packer = _Packer()
        record = {
            "about": self.about,
            "prints": self.prints,
            "layers": packer.pack(self.layers),
            "shared": packer.pack(self.shared),
            "complete": self.complete,
        }
        tensors = packer.tensors or {"empty": np.zeros(1, np.int32)}
        metadata = {"fpsim": SCHEMA, "calibration": json.dumps(record)}
        write_atomic(path, save(tensors, metadata), "out")

    @classmethod
    def load(cls, path: str | Path | SystemCalibration, partial: bool = False) -> SystemCalibration:
        """Read a file.

        Raises:
            FpsimError: a file that is missing, is no calibration of a system, or (unless
                ``partial``) is incomplete.
        """
        if isinstance(path, SystemCalibration):
            return path
        if not isinstance(path, str | Path):
            raise FpsimError("calibration: it is not one of a system: calibrate this recipe")
        if not Path(path).is_file():
            raise FpsimError(f"calibration: {path} does not exist")
        try:
            with safe_open(str(path), "np") as file:
                metadata = file.metadata() or {}
                if metadata.get("fpsim") != SCHEMA:
                    raise FpsimError(
                        f"calibration: {path} was written for another kind of recipe, or not by "
                        "this version of fpsim"
                    )
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            record = json.loads(metadata["calibration"])
            found = cls(record["about"], record["prints"], complete=record["complete"])
            found.layers = _unpack(record["layers"], tensors)
            found.shared = _unpack(record["shared"], tensors)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            if isinstance(error, FpsimError):
                raise
            raise FpsimError(f"calibration: {path} cannot be read as one ({error})") from None
        if not (found.complete or partial):
            raise FpsimError(
                f"calibration: {path} holds {len(found.layers)} of {len(found.prints)} layers; "
                "run the same calibration again to finish it"
            )
        return found


class _Packer:
    def __init__(self) -> None:
        self.tensors: dict[str, NDArray[Any]] = {}
        self._keys: dict[int, str] = {}

    def pack(self, value: Any) -> Any:
        """Return JSON for a value, and keep its arrays."""
        if isinstance(value, np.ndarray):
            if id(value) not in self._keys:
                self._keys[id(value)] = key = f"{len(self.tensors):06d}"
                self.tensors[key] = np.ascontiguousarray(value)
            return {"tensor": self._keys[id(value)]}
        if isinstance(value, FloatFormat | FixedFormat):
            return {"format": value.name}
        if isinstance(value, BlockFormat):
            return {"block_format": value.to_dict()}
        if isinstance(value, Fraction):
            return str(value)
        if isinstance(value, Mapping):
            return {"entries": {str(key): self.pack(item) for key, item in value.items()}}
        if isinstance(value, tuple | list):
            return [self.pack(item) for item in value]
        if type(value).__name__ in _KINDS:
            named = {f.name: self.pack(getattr(value, f.name)) for f in fields(value)}
            return {"kind": type(value).__name__, **named}
        if isinstance(value, np.generic):
            return value.item()
        assert value is None or isinstance(value, str | int | float | bool), value
        return value


def _unpack(value: Any, tensors: Mapping[str, NDArray[Any]]) -> Any:
    if isinstance(value, list):
        return tuple(_unpack(item, tensors) for item in value)
    if not isinstance(value, dict):
        return value
    if "kind" in value:
        parts = {key: _unpack(item, tensors) for key, item in value.items() if key != "kind"}
        return _KINDS[value["kind"]](**parts)
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "format" in value:
        return get_format(value["format"])
    if "block_format" in value:
        return BlockFormat.from_dict(value["block_format"])
    return {key: _unpack(item, tensors) for key, item in value["entries"].items()}
