# SPDX-License-Identifier: Apache-2.0
"""Turn a model's matrix products into simulated ones, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from fpsim.base.errors import FpsimError
from fpsim.bridge import attention
from fpsim.bridge.linear import CastEmbedding, InputCasts, SimulatedLinear, is_linear
from fpsim.bridge.recipe import FLOAT_BITS, SKIP, Recipe, get_recipe
from fpsim.bridge.transform_plan import fingerprints, layer_transforms
from fpsim.bridge.transforms import Transform, get_transforms
from fpsim.unit import MacUnit, get_unit
from fpsim.units.spec import MacSpec

__all__ = [
    "SKIP",
    "Conversion",
    "attention_layers",
    "conversion_of",
    "convert",
    "dispatched",
    "layers_to_convert",
    "restore",
]

_RECORD = "_fpsim_conversion"


@dataclass(frozen=True)
class Conversion:
    """What `convert` did: names of layers whose products are simulated, and of those left float.

    ``left`` are linear layers. ``attention_left`` has attention layers of every kind, also those
    that no recipe reaches, because they do not use transformers' attention interface.
    ``stays_float`` maps every other module that has parameters (norms, embeddings, convolutions) to
    its class. ``originals`` is what `restore` puts back.
    """

    recipe: str
    unit: str
    replaced: tuple[str, ...]
    left: tuple[str, ...]
    attention: tuple[str, ...] = ()
    attention_left: tuple[str, ...] = ()
    embeddings: tuple[str, ...] = ()
    stays_float: dict[str, str] = field(default_factory=dict)
    originals: dict[str, nn.Module] = field(default_factory=dict, repr=False)
    dispatch: tuple[tuple[PreTrainedModel, dict[str, Any]], ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        """Return a few lines for people."""
        lines = [
            f"{self.recipe} on {self.unit}: {len(self.replaced)} linear layers, "
            f"{len(self.attention)} attention layers, {len(self.embeddings)} embeddings",
        ]
        for title, names in (
            ("linear layers left float", self.left),
            ("attention products left float", self.attention_left),
        ):
            if names:
                lines.append(f"  {title}: {', '.join(names)}")
        kinds = sorted(set(self.stays_float.values()))
        if kinds:
            lines.append(f"  and every {', '.join(kinds)}, activation function and softmax")
        return "\n".join(lines)


def convert(
    model: nn.Module,
    recipe: str | Recipe = "mxfp4",
    unit: str | MacSpec | MacUnit = "exact",
    *,
    skip: Sequence[str] | None = None,
    only: Sequence[str] = ("*",),
    calibration: Any = None,
    transforms: str | Sequence[str | Transform] = (),
    batches: Sequence[Mapping[str, Any]] = (),
) -> nn.Module:
    """Simulate the matrix products of ``model``, in place, and return the model.

    The recipe says what is cast and to which formats; the unit, how products are accumulated: it is
    run with the recipe's operand and scale formats. Layers whose name matches a shell pattern in
    ``skip`` (default: the recipe's, and the output embeddings unless the recipe casts them), or
    none in ``only``, stay float. `conversion_of` tells what was done, `restore` undoes it. Copies
    and pickles of the model are converted models of their own.

    Weights may change afterwards, by an optimizer or in place under `torch.no_grad`: they are cast
    again. Only what is written in place through ``.data`` goes unseen, since torch counts no
    version of it; restore and convert again after that.

    Args:
        model: any torch module with linear layers, such as a model of transformers.
        recipe: see `fpsim.bridge.get_recipe`.
        unit: see `fpsim.get_unit`.
        skip: patterns of names of linear, attention and embedding layers.
        only: the same for those to take.
        calibration: for recipes that need one: what `fpsim.bridge.calibrate` returned, or a path.
        transforms: of every layer's operands, see `fpsim.bridge.transforms`; a calibration must
            have been made under the same ones.
        batches: forward passes for transforms that look at inputs.

    Raises:
        FpsimError: no linear layer to convert, a model that is converted already, an unknown
            recipe or unit, a missing calibration or one of another model, weights without codes,
            scale blocks that the unit does not sum, a recipe that casts attention for a model that
            computes it in a way of its own.
    """
    _check_model(model)
    chosen, mac = get_recipe(recipe), get_unit(unit)
    patterns = _Patterns.of(model, chosen, skip, only)
    linears = _linears(model)
    taken = {name: m for name, m in linears.items() if patterns.take(name)}
    chosen = _calibrated(chosen, calibration)
    changes = layer_transforms(model, taken, get_transforms(transforms), batches)
    if chosen.needs_calibration:
        chosen.check_layers(fingerprints(taken, changes))
    casts = InputCasts()
    fresh: dict[str, nn.Module] = {
        name: SimulatedLinear(linear, chosen, mac, name, changes[name], casts)
        for name, linear in taken.items()
    }
    embeddings = _embeddings(model, chosen, patterns)
    fresh |= embeddings
    originals = {name: model.get_submodule(name) for name in fresh}
    # The last thing that can fail: until here the model is as it was.
    attached, unattached, dispatch = _attach(model, chosen, mac, patterns)
    if not fresh and not attached:
        raise FpsimError("skip, only: these patterns leave no layer to convert")
    for name, layer in fresh.items():
        model.set_submodule(name, layer)
    record = Conversion(
        recipe=chosen.name,
        unit=mac.name,
        replaced=tuple(taken),
        left=tuple(name for name in linears if name not in taken),
        attention=attached,
        attention_left=unattached,
        embeddings=tuple(embeddings),
        stays_float=_float_modules(model, {*fresh, *linears}),
        originals=originals,
        dispatch=dispatch,
    )
    object.__setattr__(model, _RECORD, record)
    return model


def conversion_of(model: nn.Module) -> Conversion:
    """Return what `convert` did to a model."""
    record = getattr(model, _RECORD, None)
    if not isinstance(record, Conversion):
        raise FpsimError("model: it is not converted")
    return record


def restore(model: nn.Module) -> nn.Module:
    """Put the original layers back, in place, and return the model.

    They share their parameters with the simulated ones: weights trained meanwhile stay trained.
    """
    record = conversion_of(model)
    for name, module in record.originals.items():
        model.set_submodule(name, module)
    for name in record.attention:
        attention.detach(model.get_submodule(name))
    for part, implementations in record.dispatch:
        _set_dispatch(part, implementations)
    object.__delattr__(model, _RECORD)
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

    def take(self, name: str) -> bool:
        return _matches(name, self.only) and not _matches(name, self.skip)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _check_model(model: Any) -> None:
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


def _linears(model: nn.Module) -> dict[str, nn.Module]:
    linears = {name: m for name, m in model.named_modules() if is_linear(m)}
    if not linears:
        raise FpsimError("model: it has no linear layer (nn.Linear, Conv1D) to convert")
    return linears


def layers_to_convert(
    model: nn.Module, recipe: Recipe, skip: Sequence[str] | None, only: Sequence[str]
) -> tuple[dict[str, nn.Module], dict[str, nn.Embedding]]:
    """Return the linear layers and the token embedding that `convert` would cast, by name."""
    _check_model(model)
    patterns = _Patterns.of(model, recipe, skip, only)
    linears = {name: m for name, m in _linears(model).items() if patterns.take(name)}
    wanted = recipe.bits.embedding not in FLOAT_BITS
    return linears, _tables(model, patterns) if wanted else {}


def _embeddings(model: nn.Module, recipe: Recipe, patterns: _Patterns) -> dict[str, CastEmbedding]:
    """Return casts of the token embedding, if the model has one and the recipe casts it."""
    tables = _tables(model, patterns)
    casts = {name: recipe.embedding(name) for name in tables}
    return {
        name: CastEmbedding(tables[name], cast, name)
        for name, cast in casts.items()
        if cast is not None
    }


def _tables(model: nn.Module, patterns: _Patterns) -> dict[str, nn.Embedding]:
    """Return the token embedding by name, if the model has one and no pattern leaves it out."""
    getter = getattr(model, "get_input_embeddings", None)
    try:
        table = None if getter is None else getter()
    except (NotImplementedError, AttributeError):
        table = None
    if not isinstance(table, nn.Embedding):
        return {}
    names = [name for name, m in model.named_modules() if m is table]
    return {name: table for name in names if patterns.take(name)}


def _float_modules(model: nn.Module, done: set[str]) -> dict[str, str]:
    """Return the modules with parameters of their own that no product of ours stands for."""
    inside = tuple(f"{name}." for name in done)
    return {
        name: type(module).__name__
        for name, module in model.named_modules()
        if name not in done
        and not name.startswith(inside)
        and next(module.parameters(recurse=False), None) is not None
    }


# -- attention -----------------------------------------------------------------------------------


def attention_layers(
    model: nn.Module, recipe: Recipe, skip: Sequence[str] | None, only: Sequence[str]
) -> dict[str, nn.Module]:
    """Return the attention layers that no pattern leaves out, by name.

    Raises:
        FpsimError: all of them compute attention in a way of their own.
    """
    patterns = _Patterns.of(model, recipe, skip, only)
    layers = {n: m for n, m in attention.attention_layers(model).items() if patterns.take(n)}
    if not layers:
        others = attention.other_attention(model)
        _refuse_other({n: m for n, m in others.items() if patterns.take(n)})
    return layers


@contextmanager
def dispatched(model: nn.Module) -> Iterator[None]:
    """Let the model's attention layers compute by `fpsim.bridge.attention` for a while."""
    undo = _dispatch(model)
    try:
        yield
    finally:
        for part, implementations in undo:
            _set_dispatch(part, implementations)


def _dispatch(model: nn.Module) -> tuple[tuple[PreTrainedModel, dict[str, Any]], ...]:
    """Make transformers call the simulated attention; return what was set before."""
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
    model: nn.Module, recipe: Recipe, unit: MacUnit, patterns: _Patterns
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[PreTrainedModel, dict[str, Any]], ...]]:
    """Attach the recipe to attention layers; return names taken, left, and how to undo it."""
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
    dispatch = _dispatch(model)
    for name, chosen in casts.items():
        attention.attach(layers[name], attention.SimulatedAttention(chosen, unit, name))
    return tuple(casts), left, dispatch


def _refuse_other(wanted: dict[str, nn.Module]) -> None:
    """Raise for layers that should be simulated and compute attention in a way of their own."""
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
