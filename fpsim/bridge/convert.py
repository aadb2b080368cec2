# SPDX-License-Identifier: Apache-2.0
"""Turn a model's matrix products into simulated ones, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from fpsim.base.errors import FpsimError
from fpsim.base.notebook import html_pairs
from fpsim.blocks.block_format import BlockFormat
from fpsim.bridge import attention
from fpsim.bridge.dependence import (
    ALONG_SEQUENCE,
    SHARED_ROWS,
    sees_later_keys,
    sees_other_rows,
)
from fpsim.bridge.linear import (
    CastEmbedding,
    Simulated,
    SimulatedExperts,
    SimulatedLinear,
    attach,
    detach,
)
from fpsim.bridge.recipe import FLOAT_BITS, SKIP, AttentionCasts, Recipe, get_recipe
from fpsim.bridge.saved_conversion import forget, remember, saved_arguments
from fpsim.bridge.systems.layer import FormLinear
from fpsim.bridge.training.layer import TrainedLinear, layer_maker
from fpsim.bridge.transform_plan import fingerprints, layer_transforms
from fpsim.bridge.transforms import LayerTransform, Transform, get_transforms
from fpsim.bridge.weights import LayerWeight, expert_weights, weights_of
from fpsim.formats.floating import FixedFormat
from fpsim.unit import MacUnit, get_unit
from fpsim.units.spec import MacSpec

__all__ = [
    "SKIP",
    "Conversion",
    "attention_layers",
    "by_module",
    "check_model",
    "conversion_of",
    "convert",
    "convert_again",
    "dispatched",
    "layers_to_convert",
    "restore",
]

_RECORD = "_fpsim_conversion"


@dataclass(frozen=True)
class Conversion:
    """A record of `convert`: names of layers whose products are simulated, and of all others.

    ``replaced`` has linear layers and, as ``module.parameter.number``, experts. ``left`` maps
    layers that stay float to the reason; ``aliases`` maps further names of a layer to its first
    name. ``attention_left`` has attention layers that stay float, also ones that no recipe reaches
    because they do not use transformers' attention interface. ``stays_float`` maps every other
    module with parameters (norms, embeddings, convolutions) to its class.

    ``units`` are the names of the units of linear layers and experts, with the recipe's operand
    formats in place of the formats of ``unit``; ``gradient_units`` are the units of a training
    recipe's gradients (empty: gradients are float). ``weights`` counts the simulated elements of
    weight matrices, and all elements. ``notes`` are remarks for readers of results; ``causal`` says
    whether no value depends on later tokens, ``batch_independent`` whether no value depends on
    other sequences of a batch or on padding.
    """

    recipe: str
    unit: str
    replaced: tuple[str, ...]
    left: dict[str, str]
    aliases: dict[str, str] = field(default_factory=dict)
    attention: tuple[str, ...] = ()
    attention_left: tuple[str, ...] = ()
    embeddings: tuple[str, ...] = ()
    stays_float: dict[str, str] = field(default_factory=dict)
    units: tuple[str, ...] = ()
    gradient_units: tuple[str, ...] = ()
    weights: tuple[int, int] = (0, 0)
    notes: tuple[str, ...] = ()
    modules: tuple[nn.Module, ...] = field(default=(), repr=False)  #: modules with another forward
    hooks: tuple[RemovableHandle, ...] = field(default=(), repr=False)
    dispatch: tuple[tuple[PreTrainedModel, dict[str, Any]], ...] = field(default=(), repr=False)

    @property
    def batch_independent(self) -> bool:
        """Whether no sequence's values depend on other sequences of the batch, or on padding."""
        return SHARED_ROWS not in self.notes

    @property
    def causal(self) -> bool:
        """Whether no token's values depend on later tokens."""
        return self.batch_independent and ALONG_SEQUENCE not in self.notes

    def _repr_html_(self) -> str:
        simulated, every = self.weights
        return html_pairs(
            self.recipe,
            (
                ("units", ", ".join(self.units) or "float"),
                ("linear layers", len(self.replaced)),
                ("attention layers", len(self.attention)),
                ("embeddings", len(self.embeddings)),
                ("simulated weights", f"{100 * simulated / max(every, 1):.1f} % of {every}"),
                ("linear layers left float", _some(list(self.left))),
                ("attention products left float", _some(self.attention_left)),
                ("notes", "; ".join(self.notes)),
            ),
        )

    def __str__(self) -> str:
        """Return a summary in a few lines."""
        units, (simulated, every) = ", ".join(self.units) or "float", self.weights
        lines = [
            f"{self.recipe} on {units}: {len(self.replaced)} linear layers, "
            f"{len(self.attention)} attention layers, {len(self.embeddings)} embeddings",
            f"  {100 * simulated / max(every, 1):.1f} % of {every} weights of linear layers and "
            "experts",
            *([f"  gradients on {', '.join(self.gradient_units)}"] * bool(self.gradient_units)),
            *(f"  note: {note}" for note in self.notes),
        ]
        reasons: dict[str, list[str]] = {}
        for name, reason in self.left.items():
            reasons.setdefault(reason, []).append(name)
        for reason, names in reasons.items():
            lines.append(f"  linear layers left float ({reason}): {_some(names)}")
        if self.aliases:
            lines.append(f"  further names of these layers: {_some(list(self.aliases))}")
        if self.attention_left:
            lines.append(f"  attention products left float: {_some(self.attention_left)}")
        kinds = sorted(set(self.stays_float.values()))
        if kinds:
            lines.append(f"  and every {', '.join(kinds)}, activation function and softmax")
        return "\n".join(lines)


#: Most names that one line of a `Conversion` lists.
_SHOWN = 12


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def convert(
    model: nn.Module,
    recipe: str | Path | Recipe | BlockFormat = "mxfp4",
    unit: str | MacSpec | MacUnit = "exact",
    *,
    skip: Sequence[str] | None = None,
    only: Sequence[str] = ("*",),
    calibration: Any = None,
    transforms: str | Sequence[str | Transform] = (),
    batches: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
    dgrad: str | MacSpec | MacUnit | None = None,
    wgrad: str | MacSpec | MacUnit | None = None,
) -> nn.Module:
    """Simulate the matrix products of ``model``, in place, and return the model.

    The recipe names the operands to cast and their formats; the unit says how products are
    accumulated, and runs with the recipe's operand and scale formats. A layer stays float if its
    name matches a shell pattern in ``skip`` (default: the recipe's, and the output embeddings
    unless the recipe casts them) or no pattern in ``only``, or if it does not compute a plain
    product. `conversion_of` returns a record, `restore` undoes the conversion. Copies and pickles
    of the model are independent converted models.

    Modules remain the same objects: hooks, parametrizations, adapters and saved state see no
    difference. Weights may change afterwards, by an optimizer or in place under `torch.no_grad`,
    and are then cast again. Only changes in place through ``.data`` go unseen, since torch does not
    count them as versions; restore and convert again after such a change. Under `torch.compile`
    every simulated product breaks the graph; `torch.export` is refused. `save_pretrained` writes
    the float weights, and the arguments of `convert` into the config: see `convert_again`.

    Args:
        model: any torch module with linear layers, such as a model of transformers.
        recipe: see `fpsim.bridge.get_recipe`.
        unit: see `fpsim.get_unit`.
        skip: patterns of names of linear, expert, attention and embedding layers.
        only: patterns of names of layers to convert; all others stay float.
        calibration: for recipes that need one: the result of `fpsim.bridge.calibrate`, or a path.
        transforms: transforms of every layer's operands, see `fpsim.bridge.transforms`; a
            calibration must have been made with the same ones.
        batches: forward passes for transforms that look at inputs.
        seed: seed of stochastic rounding; every layer and pass draws different bits from it.
        dgrad: unit of input gradients, under a training recipe such as ``nvfp4-train``; default:
            ``unit``. Other recipes compute gradients in float, straight through the casts.
        wgrad: unit of weight gradients; default: ``unit``.

    Returns:
        The model.

    Raises:
        FpsimError: no linear layer to convert, a converted model, an unknown recipe or unit, a
            missing calibration or one of another model, weights without codes or without data,
            scale blocks that the unit does not sum, or a recipe that casts attention for a model
            that does not use transformers' attention interface. On the model's first forward pass:
            a module that ran without calling its simulated layers.
    """
    check_model(model)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise FpsimError(f"seed: {seed!r} is not a whole number from 0 on")
    chosen, mac = get_recipe(recipe), get_unit(unit)
    patterns = _Patterns.of(model, chosen, skip, only)
    found = _Weights.of(model, patterns)
    chosen = _calibrated(chosen, calibration)
    for name, weight in found.taken.items():
        weight.check_data(name)
    changes = layer_transforms(model, found.taken, get_transforms(transforms), batches)
    if chosen.needs_calibration:
        chosen.check_layers(fingerprints(found.taken, changes))
    made = layer_maker(chosen, mac, dgrad, wgrad)
    if chosen.has_forms:
        made = _forms_maker(chosen, mac)
    layers = {name: made(weight, name, changes[name], seed) for name, weight in found.taken.items()}
    embeddings = {
        name: CastEmbedding(table, cast, name)
        for name, table in _tables(model, patterns).items()
        if (cast := chosen.embedding(name)) is not None
    }
    wanted = [name for name in attention.attention_layers(model) if patterns.take(name)]
    notes = (
        *chosen.notes(),
        *found.notes(),
        *_notes(layers, [chosen.attention(name) for name in wanted]),
    )
    # Nothing fails after this line: the model is unchanged up to here.
    attached, unattached, dispatch = _attach(model, chosen, mac, patterns, seed)
    if not layers and not embeddings and not attached:
        raise FpsimError("skip, only: these patterns leave no layer to convert" + found.reasons())
    simulated = by_module(layers) | {table.module: table for table in embeddings.values()}
    for module, stands_for in simulated.items():
        attach(module, stands_for)
    record = Conversion(
        recipe=chosen.name,
        unit=mac.name,
        replaced=tuple(found.taken),
        left=found.left,
        aliases=found.aliases,
        attention=attached,
        attention_left=unattached,
        embeddings=tuple(embeddings),
        stays_float=_float_modules(model, {*simulated, *found.modules}),
        units=tuple(dict.fromkeys(x.ran_on.name for x in layers.values() if x.ran_on is not None)),
        gradient_units=_gradient_units(layers),
        weights=(sum(w.elements for w in found.taken.values()), found.elements),
        notes=notes,
        modules=tuple(simulated),
        hooks=(*_guards(model, layers), *_positions(model, bool(attached))),
        dispatch=dispatch,
    )
    object.__setattr__(model, _RECORD, record)
    remember(
        model, chosen, mac, seed=seed, calibration=calibration, skip=skip, only=only,
        transforms=transforms, dgrad=dgrad, wgrad=wgrad,
    )  # fmt: skip
    return model


def _forms_maker(recipe: Recipe, unit: MacUnit) -> Callable[..., SimulatedLinear]:
    """Return a function that makes a system's layer from weight, name, transforms and seed."""

    def formed(
        weight: LayerWeight, name: str, transforms: Sequence[LayerTransform], seed: int
    ) -> SimulatedLinear:
        return FormLinear(weight, recipe, unit, name, transforms, seed)

    return formed


def _gradient_units(layers: Mapping[str, SimulatedLinear]) -> tuple[str, ...]:
    """Return the names of the units of gradients, each once."""
    trained = [layer for layer in layers.values() if isinstance(layer, TrainedLinear)]
    every = [unit.name for layer in trained for unit in layer.gradient_units.values()]
    return tuple(dict.fromkeys(every))


def convert_again(model: nn.Module, **changes: Any) -> nn.Module:
    """Convert a loaded float model as it was converted when it was saved.

    Args:
        model: a loaded model of transformers, whose config carries the arguments of `convert`.
        changes: arguments of `convert` that replace saved ones, such as the path of a moved
            calibration, or ``batches`` for transforms that look at inputs.

    Returns:
        The model.

    Raises:
        FpsimError: a config without a conversion, or arguments that `convert` refuses.
    """
    return convert(model, **(saved_arguments(model) | changes))


def _notes(
    layers: Mapping[str, SimulatedLinear], attention_casts: Sequence[AttentionCasts | None]
) -> tuple[str, ...]:
    """Return remarks on casts and units, without which results are easily misread."""
    notes = []
    # Compared by identity: casts may hold arrays, which have no hash.
    inputs = {
        (id(x.input_cast), x.in_features): x.input_cast
        for x in layers.values()
        if x.ran_on is not None
    }
    casts = [casts for casts in attention_casts if casts is not None]
    if any(sees_other_rows(cast, width) for (_, width), cast in inputs.items()) or any(
        sees_other_rows(cast, 64)
        for four in casts
        for cast in (four.query, four.key, four.probability)
    ):
        notes.append(SHARED_ROWS)
    if any(sees_later_keys(four) for four in casts):
        notes.append(ALONG_SEQUENCE)
    beside = [layer.form.macs for layer in layers.values() if isinstance(layer, FormLinear)]
    if sum(side for _, side in beside):
        share = sum(side for _, side in beside) / sum(unit + side for unit, side in beside)
        notes.append(
            f"side paths take {100 * share:.2f} % of the simulated layers' multiply-accumulates"
        )
    for layer in layers.values():
        register = None if layer.ran_on is None else layer.ran_on.result
        if not isinstance(register, FixedFormat) or register.lsb <= _COARSE:
            continue
        if layer.operand().scales is not None:
            notes.append(
                f"the register of {layer.ran_on.name} has steps of 2^{register.lsb}, "  # type: ignore[union-attr]
                "but block scales make products far smaller, which it drops; give it fraction bits "
                "(such as q20)"
            )
            break
    return tuple(notes)


#: Registers with an LSB of 2^-15 or more are too coarse for products of scaled blocks.
_COARSE = -16


def by_module(layers: Mapping[str, SimulatedLinear]) -> dict[nn.Module, Simulated]:
    """Return each module with its simulation: of a linear layer, or of all its experts."""
    simulated: dict[nn.Module, Simulated] = {}
    experts: dict[nn.Module, dict[tuple[str, int], SimulatedLinear]] = {}
    for layer in layers.values():
        weight = layer.weight
        if weight.index is None:
            simulated[weight.module] = layer
        else:
            experts.setdefault(weight.module, {})[weight.parameter, weight.index] = layer
    for module, parts in experts.items():
        every = {(w.parameter, w.index or 0): w for w in expert_weights(module).values()}
        simulated[module] = SimulatedExperts(module, every, parts)
    return simulated


class _CalledGuard:
    """Hook of a module with simulated layers: its first forward must call each of them.

    Some modules read their layers' weights and skip the layers (torch's fused encoder layer does,
    unless a hook prevents it); their products would silently be float.
    """

    def __init__(self, layers: list[SimulatedLinear]) -> None:
        self.layers, self.done = layers, False

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, module: nn.Module, _: Any, __: Any) -> None:
        if self.done:
            return
        self.done = True
        for layer in self.layers:
            if not layer.passes:
                raise FpsimError(
                    f"layer {layer.name}: it is converted, but {type(module).__name__} ran without "
                    "calling it, so its product is not simulated; name it in skip="
                )


def _guards(model: nn.Module, layers: Mapping[str, SimulatedLinear]) -> tuple[RemovableHandle, ...]:
    parents: dict[str, list[SimulatedLinear]] = {}
    for name, layer in layers.items():
        if name and layer.weight.index is None:
            parents.setdefault(name.rpartition(".")[0], []).append(layer)
    return tuple(
        model.get_submodule(parent).register_forward_hook(_CalledGuard(children))
        for parent, children in parents.items()
    )


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _count_from_mask(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Hook that gives a left-padded batch the positions that `generate` gives."""
    mask = kwargs.get("attention_mask")
    if not isinstance(mask, torch.Tensor) or mask.dim() != 2 or bool(mask[:, 0].all()):
        return None
    given = [kwargs.get("input_ids"), kwargs.get("inputs_embeds"), *args[:1]]
    tokens = next((x for x in given if isinstance(x, torch.Tensor)), None)
    if kwargs.get("position_ids") is not None or tokens is None:
        return None
    positions = (mask.long().cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
    return args, kwargs | {"position_ids": positions}


def _positions(model: nn.Module, attention_is_cast: bool) -> tuple[RemovableHandle, ...]:
    """Let models with rotary positions count from each sequence's first token.

    In float, padding before a sequence turns queries and keys alike and leaves scores unchanged;
    but cast queries and keys would have other codes.
    """
    if not attention_is_cast:
        return ()
    return tuple(
        part.register_forward_pre_hook(_count_from_mask, with_kwargs=True)
        for part in _outermost(model)
        if "position_ids" in signature(type(part).forward).parameters
        and any("Rotary" in type(module).__name__ for module in part.modules())
    )


def conversion_of(model: nn.Module) -> Conversion:
    """Return the record of the model's conversion."""
    record = getattr(model, _RECORD, None)
    if not isinstance(record, Conversion):
        raise FpsimError("model: it is not converted")
    return record


def restore(model: nn.Module) -> nn.Module:
    """Restore the layers' float arithmetic, in place, and return the model.

    Weights trained meanwhile are kept.
    """
    record = conversion_of(model)
    for module in record.modules:
        detach(module)
    for hook in record.hooks:
        hook.remove()
    for name in record.attention:
        attention.detach(model.get_submodule(name))
    for part, implementations in record.dispatch:
        _set_dispatch(part, implementations)
    object.__delattr__(model, _RECORD)
    forget(model)
    return model


# -- which layers --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Patterns:
    skip: tuple[str, ...]
    only: tuple[str, ...]

    @classmethod
    def of(
        cls, model: nn.Module, recipe: Recipe, skip: Sequence[str] | None, only: Sequence[str]
    ) -> _Patterns:
        for name, given in (("skip", skip), ("only", only)):
            if isinstance(given, str):
                raise FpsimError(f"{name}: {given!r} is one pattern; give a list, [{given!r}]")
        if skip is None:
            skip = recipe.skip
            head = getattr(model, "get_output_embeddings", lambda: None)()
            if recipe.skip_output and head is not None:
                skip = (*skip, *(name for name, m in model.named_modules() if m is head))
        return cls(tuple(skip), tuple(only))

    def take(self, *names: str) -> bool:
        """Whether patterns select a layer, by any of its names."""
        return _matches(names, self.only) and not _matches(names, self.skip)


def _matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for name in names for pattern in patterns)


def check_model(model: Any) -> None:
    """Check that a model is a torch module and not converted yet.

    Raises:
        FpsimError: another object, or a converted model.
    """
    if not isinstance(model, nn.Module):
        raise FpsimError(
            f"model: {model!r:.60} is not a torch module; load it first, such as "
            "fpsim.bridge.measure.models.load('smollm2-135m').model"
        )
    if hasattr(model, _RECORD):
        raise FpsimError("model: it is converted already; restore() it first")


def _calibrated(recipe: Recipe, calibration: Any) -> Recipe:
    if calibration is not None:
        recipe = recipe.calibrated(calibration)
    if not recipe.is_calibrated:
        raise FpsimError(
            f"recipe: {recipe.name} needs a calibration: pass calibration=, from "
            "fpsim.bridge.calibrate or a file that `fpsim calibrate` wrote"
        )
    return recipe


@dataclass(frozen=True)
class _Weights:
    """The weight matrices of a model: simulated ones, and the reasons why others are left."""

    taken: dict[str, LayerWeight]
    left: dict[str, str]
    aliases: dict[str, str]
    modules: frozenset[nn.Module]  #: modules that hold a weight matrix
    elements: int  #: number of elements of all matrices

    @classmethod
    def of(cls, model: nn.Module, patterns: _Patterns) -> _Weights:
        weights, others, aliases = weights_of(model)
        if not (weights or others):
            raise FpsimError("model: it has no linear layer (nn.Linear, Conv1D) to convert")
        names = {name: [name] for name in (*weights, *others)}
        for name, (weight, _) in others.items():
            if patterns.take(name):  # offloading, too, replaces a layer's forward
                weight.check_data(name)
        for alias, name in aliases.items():
            for known in names:
                if known == name or known.startswith(f"{name}."):
                    names[known].append(alias + known.removeprefix(name))
        taken = {name: w for name, w in weights.items() if patterns.take(*names[name])}
        left = {
            name: others[name][1] if name in others else "by pattern"
            for name in names
            if name not in taken
        }
        every = [*weights.values(), *(weight for weight, _ in others.values())]
        modules = frozenset(weight.module for weight in every)
        return cls(taken, left, aliases, modules, sum(weight.elements for weight in every))

    def notes(self) -> list[str]:
        """Return a remark per reason, patterns excepted, for which layers stay float."""
        reasons = dict.fromkeys(reason for reason in self.left.values() if reason != "by pattern")
        return [
            f"stays float, {reason}: {_some([n for n, r in self.left.items() if r == reason])}"
            for reason in reasons
        ]

    def reasons(self) -> str:
        """Return the first layer whose own arithmetic cannot be simulated, for messages."""
        first = next((n for n, reason in self.left.items() if reason != "by pattern"), None)
        return "" if first is None else f"; layer {first} cannot be: {self.left[first]}"


def layers_to_convert(
    model: nn.Module, recipe: Recipe, skip: Sequence[str] | None, only: Sequence[str]
) -> tuple[dict[str, LayerWeight], dict[str, nn.Embedding]]:
    """Find the weight matrices and token embeddings that `convert` would cast.

    Args:
        model: a model that is not converted.
        recipe: gives the layers that stay float by default, and says whether embeddings are cast.
        skip: patterns of layers that stay float, as in `convert`.
        only: patterns of layers to convert, as in `convert`.

    Returns:
        Weights by name, and embeddings by name.
    """
    check_model(model)
    patterns = _Patterns.of(model, recipe, skip, only)
    wanted = recipe.bits.embedding not in FLOAT_BITS
    return _Weights.of(model, patterns).taken, _tables(model, patterns) if wanted else {}


def _tables(model: nn.Module, patterns: _Patterns) -> dict[str, nn.Embedding]:
    """Return the modules that look up tokens in the input embedding, by name.

    An encoder and a decoder may each have one. Modules left out by a pattern are not returned.
    """
    getter = getattr(model, "get_input_embeddings", None)
    try:
        table = None if getter is None else getter()
    except (NotImplementedError, AttributeError):
        table = None
    if not isinstance(table, nn.Embedding):
        return {}
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        and module.weight is table.weight
        and "forward" not in module.__dict__
        and patterns.take(name)
    }


def _float_modules(model: nn.Module, done: set[nn.Module]) -> dict[str, str]:
    """Return modules with own parameters whose computation is not simulated, by name."""
    inside = {part for module in done for part in module.modules()}
    return {
        name: type(module).__name__
        for name, module in model.named_modules()
        if module not in inside and next(module.parameters(recurse=False), None) is not None
    }


# -- attention -----------------------------------------------------------------------------------


def attention_layers(
    model: nn.Module, recipe: Recipe, skip: Sequence[str] | None, only: Sequence[str]
) -> dict[str, nn.Module]:
    """Find the attention layers that no pattern leaves out.

    Args:
        model: any model.
        recipe: gives the layers that stay float by default.
        skip: patterns of layers that stay float, as in `convert`.
        only: patterns of layers to convert, as in `convert`.

    Returns:
        The layers by name.

    Raises:
        FpsimError: no attention layer uses transformers' attention interface.
    """
    patterns = _Patterns.of(model, recipe, skip, only)
    layers = {n: m for n, m in attention.attention_layers(model).items() if patterns.take(n)}
    if not layers:
        others = attention.other_attention(model)
        _refuse_other({n: m for n, m in others.items() if patterns.take(n)})
    return layers


@contextmanager
def dispatched(model: nn.Module) -> Iterator[None]:
    """Let the model's attention layers compute by `fpsim.bridge.attention` within a context."""
    undo = _dispatch(model)
    try:
        yield
    finally:
        for part, implementations in undo:
            _set_dispatch(part, implementations)


def _dispatch(model: nn.Module) -> tuple[tuple[PreTrainedModel, dict[str, Any]], ...]:
    """Make transformers call the simulated attention; return the earlier settings."""
    done: list[tuple[PreTrainedModel, dict[str, Any]]] = []
    for part in filter(attention.attention_layers, _outermost(model)):
        before = _dispatch_of(part)
        part.set_attn_implementation(attention.NAME)
        done.append((part, before))
        if attention.NAME not in _dispatch_of(part).values():
            for changed, implementations in done:
                _set_dispatch(changed, implementations)
            raise FpsimError(
                f"model: {type(part).__name__} does not use transformers' attention interface; "
                f"{attention.FLOAT_INSTEAD}"
            )
    return tuple(done)


def _attach(
    model: nn.Module, recipe: Recipe, unit: MacUnit, patterns: _Patterns, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[PreTrainedModel, dict[str, Any]], ...]]:
    """Attach the recipe to attention layers; return names of layers taken and left, and an undo."""
    layers, others = attention.attention_layers(model), attention.other_attention(model)
    casts = {
        name: chosen
        for name in layers
        if patterns.take(name) and (chosen := recipe.attention(name)) is not None
    }
    left = tuple(name for name in (*layers, *others) if name not in casts)
    if not casts:
        _refuse_other({n: m for n, m in others.items() if patterns.take(n) and recipe.attention(n)})
        return (), left, ()
    simulated = {
        name: attention.SimulatedAttention(chosen, unit, name, seed)
        for name, chosen in casts.items()
    }
    dispatch = _dispatch(model)
    for name in casts:
        attention.attach(layers[name], simulated[name])
    return tuple(casts), left, dispatch


def _refuse_other(wanted: dict[str, nn.Module]) -> None:
    """Raise for layers to simulate that do not use transformers' attention interface."""
    if not wanted:
        return
    first = next(iter(wanted))
    more = f" and {len(wanted) - 1} more" if len(wanted) > 1 else ""
    raise FpsimError(
        f"model: {type(wanted[first]).__name__} ({first}{more}) does not use transformers' "
        f"attention interface; {attention.FLOAT_INSTEAD}"
    )


def _outermost(model: nn.Module) -> list[PreTrainedModel]:
    if isinstance(model, PreTrainedModel):
        return [model]
    return [found for child in model.children() for found in _outermost(child)]


def _dispatch_of(model: PreTrainedModel) -> dict[str, Any]:
    """Return the attention implementation of every config in use, by the module that holds it."""
    return {
        name: module.config._attn_implementation
        for name, module in model.named_modules()
        if isinstance(module, PreTrainedModel)
    }


def _set_dispatch(model: PreTrainedModel, implementations: dict[str, Any]) -> None:
    for name, implementation in implementations.items():
        part = model.get_submodule(name)
        assert isinstance(part, PreTrainedModel)
        part.config._attn_implementation_internal = implementation
