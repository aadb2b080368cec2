# SPDX-License-Identifier: Apache-2.0
"""Recipes: the operands of layers to cast, and their formats.

A recipe is a frozen dataclass derived from `Recipe`; its fields are the options for users. Put it
in a module of `fpsim.bridge.recipes` (all modules there are imported) or in a file, and decorate it
with `register`; no other module needs to know the recipe.

    @register("half-block")
    @dataclass(frozen=True)
    class HalfBlock(Recipe):
        block: int = 16

        def weight(self, layer: str) -> Cast | None:
            return BlockCast(...)

Users write a name, then bits, then options: ``mxfp4``, ``llm-fp4@4/4/8``, ``rtn:element=e3m0``.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.blocks.block_format import BlockFormat, get_block_format
from fpsim.bridge.cast import Cast

__all__ = [
    "OWN_FORMAT",
    "SKIP",
    "WEIGHTS_ONLY",
    "AttentionCasts",
    "Bits",
    "Recipe",
    "get_recipe",
    "recipe_kinds",
    "recipe_names",
    "register",
]

#: Layers that stay float by default, besides the output embeddings: shell patterns of names.
SKIP = ("lm_head", "*.lm_head")
#: Suffix of a recipe that casts weights only.
WEIGHTS_ONLY = "-weights"
#: Bits that stand for floating point.
FLOAT_BITS = (16, 32)


@dataclass(frozen=True)
class Bits:
    """Widths of embeddings, weights and activations, ``E/W/A`` as LLM-FP4's tables write them."""

    embedding: int = 16
    weight: int = 4
    activation: int = 4

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if value not in (4, 6, 8, *FLOAT_BITS):
                raise FpsimError(f"bits.{f.name}: {value!r} is not one of 4, 6, 8, 16 (float)")

    @classmethod
    def parse(cls, text: str | Bits) -> Bits:
        """Return the bits given as ``4/4/8`` (E/W/A) or ``4/8`` (W/A)."""
        if isinstance(text, Bits):
            return text
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(part.isdecimal() for part in parts):
            raise FpsimError(f"bits: {text!r} is not E/W/A, such as 4/4/8, or W/A")
        numbers = [int(part) for part in parts]
        return cls(*numbers) if len(numbers) == 3 else cls(16, *numbers)

    def __str__(self) -> str:
        return f"{self.embedding}/{self.weight}/{self.activation}"


class AttentionCasts(NamedTuple):
    """Casts of attention's two products: Q K^T along the head, P V along the keys.

    If one cast of a pair is None, the product is a float product with the other cast.
    ``value_axis`` is ``sequence`` (V in blocks along the tokens) or ``token`` (along the head).
    """

    query: Cast | None
    key: Cast | None
    probability: Cast | None
    value: Cast | None
    value_axis: str = "sequence"


@dataclass(frozen=True)
class Recipe(ABC):
    """Casts of every operand, for subclasses to override; with a cast None it stays float.

    Fields are options. `bits` is the E/W/A setting; a subclass gives each width a format.
    """

    name: str = ""
    bits: Bits = Bits()

    #: Patterns of layers that stay float by default, and whether output embeddings stay float too.
    skip: ClassVar[tuple[str, ...]] = SKIP
    skip_output: ClassVar[bool] = True
    #: Whether codes of a checkpoint are used in place of casts of its numbers.
    takes_given: ClassVar[bool] = False
    #: Whether `calibrated` must be called before layers can be cast.
    needs_calibration: ClassVar[bool] = False
    #: Whether `form` describes layers, not `weight` and `activation`.
    has_forms: ClassVar[bool] = False

    @abstractmethod
    def weight(self, layer: str) -> Cast | None:
        """Return the cast of a layer's weight, rows (out_features, in_features)."""

    @abstractmethod
    def activation(self, layer: str) -> Cast | None:
        """Return the cast of a layer's input, rows (tokens, in_features)."""

    def form(self, layer: str, weight: Any) -> Any:
        """Return the whole computation of a layer, a `fpsim.bridge.systems.forms.LayerForm`.

        ``weight`` is the layer's float weight (out_features, in_features), a tensor. Only recipes
        with `has_forms` implement it.

        Raises:
            FpsimError: a recipe that has casts only.
        """
        raise FpsimError(f"recipe: {self.name} has casts, and no form of a layer")

    def attention(self, layer: str) -> AttentionCasts | None:
        """Return the casts of an attention layer's two products, or None if they stay float."""
        return None

    def embedding(self, layer: str) -> Cast | None:
        """Return the cast of the token embedding, rows (vocabulary, width)."""
        return None

    @classmethod
    def summary(cls) -> str:
        """Return the first paragraph of the class's docstring in one line."""
        return " ".join((cls.__doc__ or "").split("\n\n")[0].split()).replace("``", "`")

    def notes(self) -> tuple[str, ...]:
        """Return remarks on the casts, one sentence each, that a reader of results needs."""
        return ()

    def calibrated(self, calibration: Any) -> Self:
        """Return the recipe with the constants of a calibration, see `fpsim.bridge.calibrate`."""
        raise FpsimError(f"recipe: {self.name} takes no calibration")

    def check_layers(self, prints: dict[str, str]) -> None:  # noqa: B027 (a hook)
        """Raise `FpsimError` unless the calibration is of layers with these fingerprints.

        Fingerprints are those of `fpsim.bridge.llmfp4.calibration`, by layer. By default any will
        do.
        """

    @property
    def is_calibrated(self) -> bool:
        """Whether layers can be cast: true after `calibrated`, if a calibration is needed."""
        return not self.needs_calibration

    @property
    def weights_only(self) -> bool:
        """Whether activations stay float."""
        return self.bits.activation in FLOAT_BITS


class _Entry(NamedTuple):
    kind: type[Recipe]
    preset: dict[str, Any]


_RECIPES: dict[str, _Entry] = {}
#: The recipe for block formats that no recipe is named after.
OWN_FORMAT = "block-format"
_Kind = TypeVar("_Kind", bound=type[Recipe])


def register(name: str, **preset: Any) -> Callable[[_Kind], _Kind]:
    """Return a decorator that registers a recipe class as ``name``, with preset options.

    Raises:
        FpsimError: a class without the methods that a recipe must define.
    """

    def known(kind: _Kind) -> _Kind:
        _check_complete(name, kind)
        _RECIPES[name] = _Entry(kind, preset)
        return kind

    return known


def _check_complete(name: str, kind: type[Recipe]) -> None:
    missing = sorted(getattr(kind, "__abstractmethods__", ()))
    if missing:
        raise FpsimError(f"recipe: {name}: {kind.__name__} does not define {', '.join(missing)}")


def recipe_names() -> list[str]:
    """Return the registered names."""
    _load()
    return sorted(_RECIPES)


def recipe_kinds() -> dict[type[Recipe], list[str]]:
    """Return the classes of recipes that have a name, each with its names."""
    kinds: dict[type[Recipe], list[str]] = {}
    for name in recipe_names():
        if name != OWN_FORMAT:
            kinds.setdefault(_RECIPES[name].kind, []).append(name)
    return kinds


def get_recipe(name: str | Path | Recipe | BlockFormat, **options: Any) -> Recipe:
    """Return a recipe by name, such as ``mxfp4-rceil``, ``llm-fp4@4/4/8``, ``rtn:element=e3m0``.

    The suffix ``-weights`` leaves activations in floating point. A block format of yours, as an
    object or as the path of a TOML file, stands for the recipe that casts weights and activations
    to it; ``mine.py:MyRecipe`` is a class in a file, which is executed.

    Args:
        name: name of a recipe, or a block format, file or class in its place.
        options: fields of the recipe; they override options in the name.

    Raises:
        FpsimError: an unknown recipe (the message suggests the nearest) or option, a wrong value,
            or a file that does not define the recipe.
    """
    if isinstance(name, Recipe):
        return replace(name, **options) if options else name
    if isinstance(name, Path):
        name = str(name)
    if isinstance(name, BlockFormat):
        options = {"block_format": name, **options}
        name = OWN_FORMAT
    elif isinstance(name, str) and name.partition("@")[0].partition(":")[0].endswith(".toml"):
        path, mark, rest = name.partition(".toml")
        options = {"block_format": get_block_format(path + mark), **options}
        name = OWN_FORMAT + rest
    elif isinstance(name, str) and ".py:" in name:
        return _from_file(name, options)
    if not isinstance(name, str):
        raise FpsimError(f"recipe: {name!r} is neither a name, such as 'mxfp4', nor a Recipe")
    _load()
    head, _, tail = name.partition(":")
    head, at, bits = head.partition("@")
    given: dict[str, Any] = _parse_options(name, tail)
    if at:
        given["bits"] = bits
    given |= options
    base = head
    if head not in _RECIPES and head.endswith(WEIGHTS_ONLY):
        base = head.removesuffix(WEIGHTS_ONLY)
    if base not in _RECIPES:
        known = recipe_names()
        others = "a TOML file or FILE.py:Class (`fpsim recipes` lists the known ones)"
        raise not_one_of("recipe", head, known, others)
    entry = _RECIPES[base]
    own = given.get("block_format")
    label = own.name if isinstance(own, BlockFormat) else name
    if base == OWN_FORMAT:
        given["block_format"] = get_block_format("mxfp4" if own is None else own)
    recipe = entry.kind(name=label, **_values(entry.kind, entry.preset | given))
    if base != head:
        recipe = replace(recipe, bits=replace(recipe.bits, activation=16))
    return recipe


def _from_file(text: str, options: dict[str, Any]) -> Recipe:
    """Return the recipe of ``file.py:Class:option=value``; the file is executed."""
    path, _, rest = text.partition(".py:")
    wanted, _, tail = rest.partition(":")
    file = Path(path + ".py")
    if not file.is_file():
        raise FpsimError(f"recipe: {file} does not exist")
    spec = importlib.util.spec_from_file_location(f"fpsim_recipe_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise FpsimError(
            f"recipe: {file} cannot be executed: {type(error).__name__}: {error}"
        ) from error
    kind = getattr(module, wanted, None)
    if not (isinstance(kind, type) and issubclass(kind, Recipe)):
        raise FpsimError(f"recipe: {file} has no class {wanted} derived from Recipe")
    _check_complete(text, kind)
    return kind(name=text, **_values(kind, _parse_options(text, tail) | options))


def _parse_options(name: str, tail: str) -> dict[str, Any]:
    options = {}
    for item in filter(None, tail.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise FpsimError(f"recipe: {item!r} in {name!r} is not option=value")
        options[key.strip()] = value.strip()
    return options


def _values(kind: type[Recipe], options: dict[str, Any]) -> dict[str, Any]:
    """Return options with text converted to the types of the recipe's fields."""
    # A field's type is a class, or a name if the user's file postpones annotations.
    types = {
        f.name: getattr(f.type, "__name__", str(f.type))
        for f in fields(kind)
        if f.init and f.name != "name"
    }
    values = {}
    for key, value in options.items():
        if key not in types:
            raise not_one_of("recipe: option", key, types)
        values[key] = _typed(key, value, types[key])
    return values


def _typed(key: str, value: Any, kind: str) -> Any:
    if kind == "Bits":
        return Bits.parse(value)
    if kind == "str" and isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str) or kind == "str":
        return value
    try:
        if kind == "bool":
            return {"true": True, "false": False}[value.lower()]
        if kind == "int":
            return int(value)
        if kind == "float":
            return float(value)
    except (ValueError, KeyError):
        raise FpsimError(f"recipe: {key}: {value!r} is not a value of type {kind}") from None
    return value


@cache
def _load() -> None:
    """Import every module of the recipe packages, which register their recipes."""
    for name in ("fpsim.bridge.recipes", "fpsim.bridge.training.recipes"):
        package = importlib.import_module(name)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
