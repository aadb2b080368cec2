# SPDX-License-Identifier: Apache-2.0
"""Training runs of a small byte-level LLaMA: settings, steps, and a folder to resume from.

A run depends only on its settings: initial weights, windows of text and random bits follow from the
seed and the number of the step. Its folder holds

    settings.json         the settings, the text's hash and the versions that ran
    log.jsonl             a line per step: loss, learning rate, norm of the gradient, seconds
    state-000100.pt       weights and optimizer after so many steps, one per ``save_every``
    summary.json          at the end: losses, and seconds by part

Products on a unit have equal bits on every processor and with any number of threads; torch's other
operations (attention, norms, AdamW) may not.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import pickle
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import nn

import fpsim
from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.base.philox import Philox
from fpsim.bridge.convert import convert
from fpsim.bridge.linear import simulated_layers
from fpsim.bridge.measure.text import read_text, topics_text
from fpsim.bridge.recipe import get_recipe
from fpsim.bridge.training.layer import TrainedLinear, begin_step
from fpsim.unit import get_unit

__all__ = ["StepRow", "TrainingRun", "TrainingSettings", "byte_llama", "open_run"]

#: Recipes without casts: the model stays in float32.
PLAIN = ("none", "float32")
VOCABULARY = 256
#: Share of the text, at its end, for validation, and number of windows from it.
HELD_OUT, HELD_OUT_WINDOWS = 0.05, 8
GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class TrainingSettings:
    """The settings that determine a run to the last bit.

    The learning rate warms up over a twentieth of the steps and falls as a cosine to a tenth; AdamW
    has betas 0.9 and 0.95, and gradients are clipped to a norm of 1.

    Raises:
        FpsimError: a number that is not positive, sizes that do not divide each other, or an
            unknown recipe or unit.
    """

    recipe: str = "nvfp4-train"
    unit: str = "exact"
    dgrad: str | None = None
    wgrad: str | None = None
    steps: int = 500
    seed: int = 1
    layers: int = 4
    hidden: int = 256
    heads: int = 4
    intermediate: int = 768
    batch: int = 4
    window: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    text: str | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "layers", "hidden", "heads", "intermediate", "batch", "window"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise FpsimError(f"{name}: {value!r} is not a positive integer")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise FpsimError(f"seed: {self.seed!r} is not a whole number from 0 on")
        for name in ("learning_rate", "weight_decay"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise FpsimError(f"{name}: {value!r} is not a number from 0 on")
        if self.hidden % (2 * self.heads):
            raise FpsimError(
                f"hidden: {self.hidden} is not a multiple of 2 * heads = {2 * self.heads}"
            )
        get_unit(self.unit)
        for unit in (self.dgrad, self.wgrad):
            if unit is not None:
                get_unit(unit)
        if self.recipe not in PLAIN:
            get_recipe(self.recipe)
        elif self.dgrad or self.wgrad:
            raise FpsimError(f"dgrad, wgrad: recipe {self.recipe} has no product on a unit")


@dataclass(frozen=True)
class StepRow:
    """One line of the log; a step whose gradient was not finite is ``skipped``."""

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    seconds: float
    skipped: bool = False


def byte_llama(settings: TrainingSettings) -> nn.Module:
    """Return a byte-level LLaMA with the initial weights of a seed and tied embeddings."""
    torch.manual_seed(settings.seed)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=settings.hidden,
        intermediate_size=settings.intermediate,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=settings.window,
        tie_word_embeddings=True,
        use_cache=False,
    )
    return transformers.LlamaForCausalLM(config)


class TrainingRun:
    """A model in training, from its first step or from a saved state.

    Args:
        settings: settings of the run.

    Raises:
        FpsimError: settings that `fpsim.bridge.convert` refuses, or a text that is too short.
    """

    def __init__(self, settings: TrainingSettings) -> None:
        self.settings = settings
        text = topics_text() if settings.text is None else read_text(settings.text)
        self.text_sha256 = hashlib.sha256(text.encode()).hexdigest()
        data = np.frombuffer(text.encode(), dtype=np.uint8)
        cut = int(len(data) * (1 - HELD_OUT))
        self.train_data, self.held_out = data[:cut], data[cut:]
        if min(len(self.train_data), len(self.held_out)) <= settings.window:
            raise FpsimError(
                f"window: {settings.window} bytes and one more do not fit into the held-out "
                f"{len(self.held_out)} bytes of the text"
            )
        self.model = byte_llama(settings)
        if settings.recipe not in PLAIN:
            convert(
                self.model, settings.recipe, settings.unit, seed=settings.seed,
                dgrad=settings.dgrad, wgrad=settings.wgrad,
            )  # fmt: skip
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), settings.learning_rate, (0.9, 0.95),
            weight_decay=settings.weight_decay,
        )  # fmt: skip
        self.done = 0
        self.rows: list[StepRow] = []
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @property
    def parameters(self) -> int:
        """The number of parameters, tied ones counted once."""
        return sum(p.numel() for p in self.model.parameters())

    def windows(self, step: int) -> NDArray[np.int64]:
        """Return the bytes (batch, window) of a step."""
        starts = Philox(self.settings.seed, step).below(
            len(self.train_data) - self.settings.window, self.settings.batch
        )
        return _cut(self.train_data, starts, self.settings.window)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        warm = max(1, self.settings.steps // 20)
        if step < warm:
            return self.settings.learning_rate * (step + 1) / warm
        phase = (step - warm) / max(1, self.settings.steps - warm)
        return self.settings.learning_rate * (0.55 + 0.45 * math.cos(math.pi * phase))

    def step(self) -> StepRow:
        """Train on one batch, and return its row of the log."""
        started, number = time.perf_counter(), self.done
        begin_step(self.model, number)
        rate = self.learning_rate(number)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        tokens = torch.from_numpy(self.windows(number))
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(tokens)
        self._count("model forward", started)
        between = time.perf_counter()
        loss.backward()  # type: ignore[no-untyped-call]
        self._count("model backward", between)
        between = time.perf_counter()
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM))
        skipped = not math.isfinite(norm)
        if not skipped:
            self.optimizer.step()
        self._count("optimizer", between)
        self.done += 1
        took = time.perf_counter() - started
        row = StepRow(number, float(loss.detach()), rate, norm, took, skipped)
        self.rows.append(row)
        return row

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Return the loss, on the units, on windows spread evenly over the held-out text."""
        begin_step(self.model, self.done)
        room = len(self.held_out) - self.settings.window
        starts = np.linspace(0, room, HELD_OUT_WINDOWS).astype(np.int64)
        return float(
            self._loss(torch.from_numpy(_cut(self.held_out, starts, self.settings.window)))
        )

    def breakdown(self) -> dict[str, float]:
        """Return seconds by part; ``cast`` and ``sums`` are parts of the model's seconds."""
        found = dict(self.seconds)
        for layer in simulated_layers(self.model).values():
            if isinstance(layer, TrainedLinear):
                for what, seconds in layer.seconds.items():
                    found[what] = found.get(what, 0.0) + seconds
        return {what: round(seconds, 4) for what, seconds in sorted(found.items())}

    def state(self) -> bytes:
        """Return weights and optimizer, and the log so far."""
        buffer = io.BytesIO()
        torch.save(
            {
                "done": self.done,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "rows": [asdict(row) for row in self.rows],
            },
            buffer,
        )
        return buffer.getvalue()

    def load(self, path: Path) -> None:
        """Go on from a saved state.

        Raises:
            FpsimError: a file that is not a saved state of this run.
        """
        try:
            state = torch.load(path, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.rows = [StepRow(**row) for row in state["rows"]]
            self.done = int(state["done"])
        except (
            OSError, RuntimeError, LookupError, AttributeError, TypeError, ValueError, EOFError,
            pickle.UnpicklingError,
        ) as error:  # fmt: skip
            reason = str(error).partition("\n")[0]
            raise FpsimError(f"state: {path} is not a state of this run ({reason})") from None

    def _loss(self, tokens: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = self.model(input_ids=tokens, labels=tokens).loss
        return loss

    def _count(self, what: str, started: float) -> None:
        self.seconds[what] += time.perf_counter() - started


def _cut(data: NDArray[np.uint8], starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    return np.stack([data[start : start + length] for start in starts]).astype(np.int64)


# -- folders -------------------------------------------------------------------------------------

_STATE = "state-{:06d}.pt"


def open_run(
    out: Path,
    settings: TrainingSettings,
    save_every: int = 100,
    report: Callable[[StepRow], None] = lambda _: None,
) -> dict[str, Any]:
    """Train in a folder, from its last state on, and return the content of ``summary.json``.

    Args:
        out: the folder.
        settings: settings of the run; an existing folder must have equal ones.
        save_every: steps between saved states.
        report: called with each row of the log.

    Returns:
        Losses, counts and seconds.

    Raises:
        FpsimError: settings other than the folder's (the message names the first difference), or
            settings that `TrainingRun` refuses.
    """
    if not isinstance(save_every, int) or save_every < 1:
        raise FpsimError(f"save-every: {save_every!r} is not a positive integer")
    run = TrainingRun(settings)
    _check_settings(out, settings, run)
    last = latest_state(out, settings.steps)
    if last is not None:
        run.load(last)
    try:
        while run.done < settings.steps:
            report(run.step())
            if run.done % save_every == 0:
                _save(out, run)
    except (KeyboardInterrupt, SystemExit):
        _save(out, run)
        raise
    if run.done % save_every:
        _save(out, run)
    summary = {
        "parameters": run.parameters,
        "steps": run.done,
        "skipped": sum(row.skipped for row in run.rows),
        "final_loss": float(np.mean([row.loss for row in run.rows[-20:]])),
        "validation_loss": run.validation_loss(),
        "seconds_per_step": float(np.median([row.seconds for row in run.rows])),
        "seconds": run.breakdown(),
    }
    write_atomic(out / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
    return summary


def read_settings(folder: Path) -> tuple[TrainingSettings, str]:
    """Return the settings of a run's folder and the hash of its text.

    Raises:
        FpsimError: a folder without a run, or with settings of another version.
    """
    path = folder / "settings.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return TrainingSettings(**data["settings"]), str(data["text_sha256"])
    except OSError:
        raise FpsimError(f"run: {folder} has no settings.json, so it holds no run") from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, FpsimError):
            raise
        raise FpsimError(f"run: {path} is damaged ({error})") from None


def read_log(folder: Path) -> list[StepRow]:
    """Return the rows of a run's log.

    Raises:
        FpsimError: no log, or a line that is no row of a log.
    """
    path = folder / "log.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [StepRow(**json.loads(line)) for line in lines]
    except OSError:
        raise FpsimError(f"run: {folder} has no log.jsonl; no step of it was saved") from None
    except (ValueError, TypeError):
        raise FpsimError(f"run: {path} is damaged") from None


def latest_state(folder: Path, step: int) -> Path | None:
    """Return the last state saved after at most ``step`` steps, or None."""
    found = sorted(folder.glob(_STATE.format(0).replace("000000", "[0-9]*")))
    return next((p for p in reversed(found) if int(p.stem.rpartition("-")[2]) <= step), None)


def _save(out: Path, run: TrainingRun) -> None:
    if not run.rows:
        return
    write_atomic(out / _STATE.format(run.done), run.state())
    lines = "".join(json.dumps(asdict(row)) + "\n" for row in run.rows)
    write_atomic(out / "log.jsonl", lines.encode())


def _check_settings(out: Path, settings: TrainingSettings, run: TrainingRun) -> None:
    """Write the settings of a new run, or compare them with the folder's."""
    if not (out / "settings.json").exists():
        data = {
            "settings": asdict(settings),
            "text_sha256": run.text_sha256,
            "fpsim": fpsim.__version__,
            "torch": torch.__version__,
        }
        write_atomic(out / "settings.json", (json.dumps(data, indent=1) + "\n").encode())
        return
    there, text = read_settings(out)
    for name, before, now in _pairs(there, settings):
        if before != now:
            raise FpsimError(
                f"{name}: {now!r} is not the {before!r} of the run in {out}; give it another folder"
            )
    if text != run.text_sha256:
        raise FpsimError(f"text: it is not the one that the run in {out} has read")


def _pairs(a: TrainingSettings, b: TrainingSettings) -> Iterator[tuple[str, Any, Any]]:
    for field in fields(TrainingSettings):
        yield field.name, getattr(a, field.name), getattr(b, field.name)
