# SPDX-License-Identifier: Apache-2.0
"""Calibration block by block: each layer's input comes from the model cast so far.

Two streams of hidden states are computed, the float model's (if a recipe needs it) and that of the
model cast so far. Inside a block layers are taken in groups that read one tensor, and a group's
input comes from earlier groups, cast ("true sequential"). Layers outside the blocks get inputs of
the float model. Only one block's statistics are held at a time; the file is rewritten after every
block, and an interrupted calibration goes on after the last block in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fpsim.base.errors import FpsimError
from fpsim.bridge.convert import by_module, layers_to_convert
from fpsim.bridge.layer_inputs import Batch, Changes, watched, without_padding
from fpsim.bridge.linear import attach, detach
from fpsim.bridge.product import float_rows
from fpsim.bridge.recipe import Recipe
from fpsim.bridge.systems.file import SystemCalibration
from fpsim.bridge.systems.forms import LayerForm, SegmentProduct, float_product
from fpsim.bridge.systems.layer import FormLinear
from fpsim.bridge.systems.recipe import BlockData, GroupData, StreamModel, SystemRecipe
from fpsim.bridge.systems.statistics import InputStatistics
from fpsim.bridge.systems.stream import Block, Group, Hidden, blocks_of, first_inputs
from fpsim.bridge.transform_plan import fingerprints, layer_transforms
from fpsim.bridge.transforms import Transform, get_transforms
from fpsim.bridge.weights import LayerWeight
from fpsim.unit import get_unit

__all__ = ["calibrate_system", "casting"]

#: Called with layers done, layers in all, and one line of figures.
Report = Callable[[int, int, str], None]
#: Tokens on which modules run repeatedly, if a recipe compares outputs.
TRIAL_TOKENS = 2048


@dataclass(frozen=True)
class _Forms(Recipe):
    """A recipe of given forms."""

    forms: Mapping[str, LayerForm] | None = None

    has_forms: ClassVar[bool] = True

    def weight(self, layer: str) -> None:
        return None

    def activation(self, layer: str) -> None:
        return None

    def form(self, layer: str, weight: torch.Tensor) -> LayerForm:
        assert self.forms is not None
        return self.forms[layer]


@contextmanager
def casting(
    layers: Mapping[str, LayerWeight],
    forms: Mapping[str, LayerForm],
    changes: Changes,
    product: SegmentProduct,
) -> Iterator[None]:
    """Let layers compute their forms in float32, within a context.

    Args:
        layers: all layers by name.
        forms: forms of the layers to change.
        changes: transforms of every layer, applied before its form.
        product: computes the product of a segment.

    Yields:
        Nothing; the layers are restored at the end.
    """
    if not forms:
        yield
        return
    recipe, unit = _Forms(name="forms", forms=forms), get_unit("exact")
    formed = {
        name: FormLinear(layers[name], recipe, unit, name, changes[name], product=product)
        for name in forms
    }
    modules = by_module(formed)
    for module, simulated in modules.items():
        attach(module, simulated)
    try:
        yield
    finally:
        for module in modules:
            detach(module)


def calibrate_system(
    model: nn.Module,
    batches: Sequence[Batch],
    recipe: SystemRecipe,
    *,
    out: str | Path | None = None,
    skip: Sequence[str] | None = None,
    only: Sequence[str] = ("*",),
    transforms: str | Sequence[str | Transform] = (),
    data: str = "",
    report: Report | None = None,
) -> SystemCalibration:
    """Find the form of every layer that a system casts, block by block.

    Args:
        model: a float model in eval mode; it is unchanged at the end, whatever happens.
        batches: keyword arguments of forward passes; padded positions are left out.
        recipe: the system.
        out: a file, written after every block; an unfinished one is resumed.
        skip: patterns of layers, as in `convert`.
        only: patterns of layers, as in `convert`.
        transforms: transforms; `convert` must get equal ones.
        data: digest of the batches, for the file.
        report: called after every block.

    Returns:
        The forms.

    Raises:
        FpsimError: a model without blocks or, if the system folds something into norms, without
            norms; NaN in a stream (the message names layer and block); a layer that no batch
            reaches; or data that the recipe refuses.
    """
    batches = without_padding(batches)
    layers, _ = layers_to_convert(model, recipe, skip, only)
    changes = layer_transforms(model, layers, get_transforms(transforms), batches)
    about = {**recipe.description(), "data": data}
    if transforms:
        about["transforms"] = [repr(transform) for transform in get_transforms(transforms)]
    prints = fingerprints(layers, changes)
    found = _started(out, about, prints)
    if found.complete:
        return found
    work = _Work(model, recipe, layers, changes, found, batches, report)
    with torch.no_grad():
        work.run(out)
    found.complete = True
    found.save(out)
    return found


def _started(
    out: str | Path | None, about: dict[str, Any], prints: dict[str, str]
) -> SystemCalibration:
    if out is None or not Path(out).exists():
        return SystemCalibration(about, prints)
    found = SystemCalibration.load(out, partial=True)
    found.check_about(about, f"out: {out}", "this calibration")
    found.check_layers(prints, f"out: {out}")
    return found


class _Work:
    """The state of one calibration."""

    def __init__(
        self,
        model: nn.Module,
        recipe: SystemRecipe,
        layers: dict[str, LayerWeight],
        changes: Changes,
        found: SystemCalibration,
        batches: list[Batch],
        report: Report | None,
    ) -> None:
        self.model, self.recipe, self.layers, self.changes = model, recipe, layers, changes
        self.found, self.batches, self.report = found, batches, report
        self.blocks, self.rest = blocks_of(model, layers, changes)
        self.sequences = [next(iter(batch.values())).shape[0] for batch in batches]
        self.started, self.fresh = time.perf_counter(), 0
        self.product = float_product(recipe.casts_inputs)

    def run(self, out: str | Path | None) -> None:
        """Calibrate the blocks that are not in the file yet."""
        states = first_inputs(self.model, self.blocks, self.batches)
        stream = StreamModel(self.model, self.blocks, states, self.batches)
        if not self.found.shared:
            self.found.shared = self.recipe.begin(stream)
        self._say("")
        exact = list(states)
        for number, block in enumerate(self.blocks):
            done = {n: self.found.layers[n] for n in block.layers if n in self.found.layers}
            began = time.perf_counter()
            notes: list[str] = []
            outputs: Hidden = []
            if block.layers and len(done) < len(block.layers):
                notes, outputs = self._block(number, block, exact, states)
                self.found.save(out)
                self.fresh += len(block.layers)
            if number + 1 < len(self.blocks) and self.recipe.reads_inputs:
                forms = {name: self.found.layers[name] for name in block.layers}
                if self.recipe.reads_float:
                    exact = outputs or self._outputs(block, exact, {})
                states = self._outputs(block, states, forms)
            block.arguments.clear()
            for name in block.layers:
                self.found.layers[name] = self.found.layers[name].without_caches()
            if block.layers and not done:
                self._say(self._figures(number, block, time.perf_counter() - began, notes))
        self._outside()
        self._refine(stream)

    def _refine(self, stream: StreamModel) -> None:
        """Let the recipe train the whole model; forms that it changes get new errors."""
        before = self.found.layers
        self.found.layers = self.recipe.finish(stream, before)
        if all(form is before[name] for name, form in self.found.layers.items()):
            return
        states = first_inputs(self.model, self.blocks, self.batches)
        for block in self.blocks:
            if not block.groups:
                block.find_groups(states)
            statistics, states = self._statistics(block, block.groups, states, whole=True)
            for name, found in statistics.items():
                form = _measured(block, name, self.found.layers[name], found)
                self.found.layers[name] = form.without_caches()
            block.arguments.clear()

    def _outputs(self, block: Block, states: Hidden, forms: Mapping[str, LayerForm]) -> Hidden:
        with casting(self.layers, forms, self.changes, self.product):
            return _finite(block, [block.run(batch, x) for batch, x in enumerate(states)])

    def _block(
        self, number: int, block: Block, exact: Hidden, states: Hidden
    ) -> tuple[list[str], Hidden]:
        """Find the forms of a block's layers.

        Returns:
            Notes of the recipe, and the float block's outputs if the recipe reads the float model.
        """
        block.find_groups(states)
        if self.recipe.needs_norms and not block.pre_norm:
            raise FpsimError(
                f"model: {type(self.model).__name__} has no norm in {block.name} before "
                f"{block.groups[0].names[0]}, into which {self.recipe.name} folds"
            )
        seen: dict[str, InputStatistics] = {}
        outputs: Hidden = []
        if self.recipe.reads_float:
            seen, outputs = self._statistics(block, block.groups, exact, whole=True)
        begun = self.recipe.begin_block(BlockData(block, states, outputs, seen))
        shared = {**self.found.shared, **begun}
        forms: dict[str, LayerForm] = {}
        notes: list[str] = []
        for group in block.groups:
            norm = None if group.norm is None else self.model.get_submodule(group.norm)
            with casting(self.layers, {} if seen else forms, self.changes, self.product):
                if seen:
                    statistics = {name: seen[name] for name in group.names}
                else:
                    statistics, _ = self._statistics(block, [group], states)
                data = GroupData(
                    group.names,
                    {name: _weight(block, name) for name in group.names},
                    statistics,
                    norm,
                    block,
                    number,
                    shared,
                    lambda trial, g=group: self._module_loss(block, g, exact, trial),  # type: ignore[misc]
                    notes,
                )
            made = self.recipe.prepare(data)
            for name, form in made.items():
                forms[name] = _measured(block, name, form, data.statistics.get(name))
        self.found.layers |= forms
        return notes, outputs

    def _statistics(
        self, block: Block, groups: Sequence[Group], states: Hidden, whole: bool = False
    ) -> tuple[dict[str, InputStatistics], Hidden]:
        """Return statistics of the inputs of groups' layers, and, if ``whole``, the outputs."""
        tokens = sum(int(x.shape[:-1].numel()) for x in states)
        step = max(1, tokens // self.recipe.kept_rows) if self.recipe.kept_rows else 0
        first = {name: self._one_of(group, name) for group in groups for name in group.names}
        found: dict[str, InputStatistics] = {}
        if not self.recipe.reads_inputs:
            return found, []

        def see(name: str, x: torch.Tensor, batch: int) -> None:
            rows = self._rows(name, x)
            if name not in found:
                found[name] = InputStatistics(rows.shape[1], self.recipe.keeps_hessian, step)
            found[name].add(rows, self.sequences[batch])

        outputs = block.inputs(states, list(dict.fromkeys(first.values())), see, whole)
        for name, statistics in found.items():
            if not statistics.is_finite:
                raise FpsimError(f"layer {name}: its calibration input holds NaN or infinity")
        return {name: found[one] for name, one in first.items()}, _finite(block, outputs)

    def _rows(self, name: str, x: torch.Tensor) -> NDArray[np.float32]:
        """Return a layer's transformed inputs, (T, K)."""
        for change in self.changes[name]:
            x = change.inputs(x)
        return float_rows(x)

    def _one_of(self, group: Group, name: str) -> str:
        """Return the layer whose statistics serve for a layer of a group.

        It is the group's first, unless transforms or experts make their inputs differ.
        """
        alike = not any(self.changes[n] or self.layers[n].index is not None for n in group.names)
        return group.names[0] if alike else name

    def _module_loss(
        self, block: Block, group: Group, exact: Hidden, trial: dict[str, LayerForm]
    ) -> float:
        """Return the squared error of the output of the innermost module with a group's layers."""
        name = _common(group.names)
        key = (block.name, group.names)
        if getattr(self, "_trial_key", None) != key:
            self._trial_key, self._calls = key, self._module_calls(name, block, exact)
        module = self.model.get_submodule(name)
        wrong = 0.0
        with casting(self.layers, trial, self.changes, self.product):
            for args, kwargs, wanted in self._calls:
                got = module(*args, **kwargs)
                got = got[0] if isinstance(got, tuple) else got
                wrong += float((got - wanted).double().square().sum())
        return wrong

    def _module_calls(self, name: str, block: Block, exact: Hidden) -> list[tuple[Any, Any, Any]]:
        calls: list[tuple[Any, Any, Any]] = []

        def keep(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            calls.append((args, kwargs, output[0] if isinstance(output, tuple) else output))

        handle = self.model.get_submodule(name).register_forward_hook(keep, with_kwargs=True)
        try:
            tokens = 0
            for batch, x in enumerate(exact):
                if tokens and tokens + x.shape[:-1].numel() > TRIAL_TOKENS:
                    break
                tokens += x.shape[:-1].numel()
                block.run(batch, x)
        finally:
            handle.remove()
        return calls

    def _outside(self) -> None:
        """Calibrate layers outside the blocks, on inputs of the float model."""
        todo = {name: w for name, w in self.rest.items() if name not in self.found.layers}
        if not todo:
            return
        statistics: dict[str, InputStatistics] = {}
        step = 1 if self.recipe.kept_rows else 0

        def see(name: str, x: torch.Tensor, _: torch.Tensor) -> None:
            rows = self._rows(name, x)
            width = rows.shape[1]
            statistics.setdefault(
                name, InputStatistics(width, self.recipe.keeps_hessian, step)
            ).add(rows)

        with watched(todo, see):
            for batch in self.batches:
                self.model(**batch)
        for name in todo:
            if name not in statistics:
                raise FpsimError(
                    f"layer {name}: no batch reached it; give more batches or skip it by pattern"
                )
            alone = Block(name, self.model, {name: todo[name]}, self.changes)
            loss = partial(_own_loss, alone, name, statistics[name])
            data = GroupData(
                (name,), {name: _weight(alone, name)}, {name: statistics[name]}, None, alone, -1,
                self.found.shared, loss,
            )  # fmt: skip
            made = self.recipe.prepare(data)
            self.found.layers[name] = _measured(alone, name, made[name], statistics[name])
            self._say(f"{name}: error {100 * self.found.layers[name].error:.2f} %")

    def _say(self, figures: str) -> None:
        if self.report:
            self.report(len(self.found.layers), len(self.layers), figures)

    def _figures(self, number: int, block: Block, seconds: float, notes: list[str]) -> str:
        errors = [self.found.layers[name].error for name in block.layers]
        left = len(self.layers) - len(self.found.layers)
        rate = (time.perf_counter() - self.started) / max(self.fresh, 1)
        more = f"; {notes[0]}" if notes else ""
        error = f"error {100 * np.mean(errors):.2f} %, " if any(errors) else ""
        return (
            f"block {number + 1} of {len(self.blocks)}: {error}"
            f"{seconds:.1f} s, about {rate * left / 60:.1f} min left{more}"
        )


def _weight(block: Block, name: str) -> NDArray[np.float64]:
    return float_rows(block.matrix(name)).astype(np.float64)


def _measured(
    block: Block, name: str, form: LayerForm, statistics: InputStatistics | None
) -> LayerForm:
    """Return a form with its error on a layer's input, if the error can be computed."""
    if form.error or statistics is None or statistics.moments is None:
        return form
    if not all(step.linear for step in form.maps):
        return form
    # Without casts the form is affine: applied to the unit matrix it gives its weight.
    eye = np.eye(statistics.width, dtype=np.float32)
    plain = replace(form, sides=tuple(side for side in form.sides if side.linear))
    shift = plain.output(0 * eye[:1], float_product(False))
    effective = (plain.output(eye, float_product(False)) - shift).T
    weight = _weight(block, name)
    moments = statistics.moments
    power = float(((weight @ moments) * weight).sum())
    change = effective - weight
    error = float(((change @ moments) * change).sum()) / power if power > 0 else 0.0
    return replace(form, error=error)


def _own_loss(
    block: Block, name: str, statistics: InputStatistics, trial: dict[str, LayerForm]
) -> float:
    form = trial[name]
    eye = np.eye(statistics.width, dtype=np.float32)
    change = form.output(eye, float_product(False)).T - _weight(block, name)
    assert statistics.moments is not None
    return float(((change @ statistics.moments) * change).sum())


def _finite(block: Block, outputs: Hidden) -> Hidden:
    if not all(torch.isfinite(x).all() for x in outputs):
        raise FpsimError(f"block {block.name}: its output holds NaN or infinity")
    return outputs


def _common(names: Sequence[str]) -> str:
    """Return the name of the innermost module with all the layers; of one layer, its own name."""
    if len(names) == 1:
        return names[0]
    parts = [name.split(".") for name in names]
    shared = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return ".".join(shared)
