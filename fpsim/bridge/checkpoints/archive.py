# SPDX-License-Identifier: Apache-2.0
"""The tensors of a safetensors checkpoint, mapped into memory.

A folder has `config.json` and one file or several with an index. Formats that can run code when
they are read, such as pickles, are never opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from fpsim.base.errors import FpsimError

__all__ = ["Archive", "check_names", "read_json"]

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
#: Suffixes of files with pickles.
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
#: Most bytes of a JSON file.
_MOST_JSON = 256 << 20


def read_json(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file.

    Raises:
        FpsimError: a file that cannot be read, or whose JSON is no object; the message names the
            file.
    """
    try:
        if path.stat().st_size > _MOST_JSON:
            raise FpsimError(f"checkpoint: {path} is larger than {_MOST_JSON} bytes")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FpsimError(f"checkpoint: cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise FpsimError(f"checkpoint: {path} is not JSON: {reason}") from None
    if not isinstance(data, dict):
        raise FpsimError(f"checkpoint: {path} holds a {type(data).__name__}, not an object")
    return data


class Archive(Mapping[str, torch.Tensor]):
    """Tensors by name, each a view of its file.

    Args:
        folder: folder of the checkpoint.

    Raises:
        FpsimError: no safetensors file, a file that is missing, truncated or damaged, a name in two
            files, or an index that contradicts its files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, Any] = {}
        self._where: dict[str, str] = {}
        for name in _shards(folder):
            self._open(name)
        index = folder / _INDEX
        if index.is_file():
            self._check_index(index)

    def _open(self, name: str) -> None:
        path = self.folder / name
        try:
            self._files[name] = file = safe_open(path, framework="pt")
            keys = list(file.keys())  # type: ignore[no-untyped-call]
        except FileNotFoundError:
            raise FpsimError(f"checkpoint: shard {path} is missing") from None
        except (SafetensorError, OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise FpsimError(
                f"checkpoint: {path} is not a whole safetensors file: {reason}"
            ) from None
        check_names(keys, path)
        for key in keys:
            if key in self._where:
                raise FpsimError(f"{key}: it is in both {self._where[key]} and {name}")
            self._where[key] = name

    def _check_index(self, index: Path) -> None:
        named = read_json(index).get("weight_map", {})
        check_names(named, index)
        for tensor, shard in named.items():
            if self._where.get(tensor) != shard:
                raise FpsimError(f"{tensor}: {index.name} has it in {shard}, where it is not")

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._files[self._where[name]].get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, name: object) -> bool:
        return name in self._where


def check_names(names: Iterable[str], path: Path) -> None:
    """Refuse names of tensors that an error sentence cannot quote unchanged.

    Raises:
        FpsimError: a name with a line break or another character that is not printable.
    """
    for name in names:
        if not name.isprintable():
            raise FpsimError(f"checkpoint: {path} names a tensor {name!r}; names are printable")


def _shards(folder: Path) -> list[str]:
    index = folder / _INDEX
    if not index.is_file():
        if (folder / _SINGLE).is_file():
            return [_SINGLE]
        pickles = [path.name for pattern in _PICKLES for path in folder.glob(pattern)]
        more = f"; {pickles[0]} may run code when it is read and is not opened" if pickles else ""
        raise FpsimError(f"checkpoint: {folder} has no {_SINGLE} and no {_INDEX}{more}")
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise FpsimError(f"checkpoint: {index} has no weight_map of tensors and their files")
    shards = list(dict.fromkeys(map(str, names.values())))
    for shard in shards:
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise FpsimError(
                f"checkpoint: {index.name} names {shard!r}; a .safetensors file beside it is needed"
            )
    return shards
