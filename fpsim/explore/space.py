# SPDX-License-Identifier: Apache-2.0
"""A space of units: choices in TOML, and the points that they make.

    recipes = ["mxfp4", "nvfp4"]       # how operands are cast

    [[stage]]                          # keys of a unit's [accumulate]; any may be a list of choices
    kind = "chain"
    format = ["e5m10", "e8m7", "e8m23"]
    rounding = ["rne", "rtz"]

    [[stage]]
    kind = "chunked"
    size = [32, 128]
    inner = { kind = "chain", format = ["e5m10", "e4m10"] }
    outer = { kind = "chain", format = "e8m23" }

    [[stage]]                          # whole units, by canonical name or file
    unit = ["nvidia-h100-e4m3"]

A point is a recipe with one choice from every list of one stage. The recipe gives operand formats
and scales.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.unit import get_unit
from fpsim.units.spec import MacSpec

__all__ = ["KEYS", "ExplorePoint", "Space", "SpaceChoice"]

#: Most points of a space.
MAX_POINTS = 1_000_000
#: Required keys of a file.
KEYS = ("recipes", "stage")


@dataclass(frozen=True)
class ExplorePoint:
    """A recipe and a unit; the recipe replaces the unit's operand formats."""

    recipe: str
    unit: MacSpec

    @property
    def name(self) -> str:
        """Name of the point in tables."""
        return f"{self.recipe} on {self.unit.name}"


@dataclass(frozen=True)
class SpaceChoice:
    """One list of choices in a space: its place in the stage, and its options."""

    path: tuple[str, ...]
    options: tuple[Any, ...]


class Space:
    """Recipes and stages with choices.

    Raises:
        FpsimError: no points, more than a million, or a key or value that no unit has.
    """

    def __init__(self, recipes: Sequence[str], stages: Sequence[Mapping[str, Any]]) -> None:
        self.recipes, self.stages = tuple(recipes), tuple(stages)
        if not self.recipes or not self.stages:
            missing = "recipes" if not self.recipes else "stage"
            raise FpsimError(f"space: it has no point, as {missing} is empty")
        self.choices = tuple(tuple(_choices(stage, ())) for stage in self.stages)
        for i, choices in enumerate(self.choices):
            for choice in choices:
                if not choice.options:
                    where = ".".join(choice.path)
                    raise FpsimError(f"space: stage {i + 1}: {where}: the list is empty")
        if self.size > MAX_POINTS:
            raise FpsimError(
                f"space: it has {self.size:,} points; at most {MAX_POINTS:,} are allowed"
            )
        for i in range(len(self.stages)):  # builds one unit of each stage, to find errors early
            self.point(self.recipes[0], i, [0] * len(self.choices[i]))

    @classmethod
    def from_toml(cls, path: str | Path) -> Space:
        """Read a space from a file.

        Raises:
            FpsimError: a file that cannot be read, no points, more than a million, or a key or
                value that no unit has; the message names the file.
        """
        try:
            data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise FpsimError(f"space: {path} cannot be read ({error.strerror})") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise FpsimError(f"space: {path} is not valid TOML ({error})") from None
        for key in data:
            if key not in KEYS:
                raise not_one_of(f"space: {path}", key, KEYS)
        recipes, stages = data.get("recipes", []), data.get("stage", [])
        if not _all_of(recipes, str):
            raise FpsimError(f"space: {path}: recipes: {recipes!r} is not a list of names")
        if not _all_of(stages, dict):
            raise FpsimError(f"space: {path}: stage: write [[stage]], a table for each")
        return cls(recipes, stages)

    @property
    def size(self) -> int:
        """Number of points, equal ones counted again."""
        total = 0
        for choices in self.choices:
            count = 1
            for choice in choices:
                count *= len(choice.options)
            total += count
        return total * len(self.recipes)

    def point(self, recipe: str, stage: int, picks: Sequence[int]) -> ExplorePoint:
        """Return the point of a recipe, a stage, and an option for each choice of the stage.

        Args:
            recipe: name of the recipe.
            stage: index of the stage.
            picks: index of an option for each choice of the stage.

        Returns:
            The point.

        Raises:
            FpsimError: values that no unit has; the message names the stage.
        """
        table = dict(self.stages[stage])
        for choice, pick in zip(self.choices[stage], picks, strict=True):
            table = _with(table, choice.path, choice.options[pick])
        try:
            if "unit" in table:
                if len(table) > 1:
                    others = ", ".join(sorted(set(table) - {"unit"}))
                    raise FpsimError(f"unit: a whole unit has no further keys, such as {others}")
                return ExplorePoint(recipe, get_unit(table["unit"]).spec)
            operands = {"a": "e2m1", "b": "e2m1"}
            data = {"schema": 1, "operands": operands, "accumulate": table}
            return ExplorePoint(recipe, MacSpec.from_dict(data))
        except FpsimError as error:
            raise FpsimError(f"space: stage {stage + 1}: {error}") from None

    def points(self) -> tuple[ExplorePoint, ...]:
        """Return all distinct points, in the order of recipes, stages and choices."""
        found: dict[ExplorePoint, None] = {}
        for recipe in self.recipes:
            for stage, choices in enumerate(self.choices):
                places = [range(len(choice.options)) for choice in choices]
                for picks in itertools.product(*places):
                    found.setdefault(self.point(recipe, stage, picks))
        return tuple(found)


def _all_of(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _choices(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[SpaceChoice]:
    for key, value in table.items():
        if isinstance(value, list):
            yield SpaceChoice((*path, key), tuple(value))
        elif isinstance(value, dict):
            yield from _choices(value, (*path, key))


def _with(table: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    key, *rest = path
    return {**table, key: _with(table[key], tuple(rest), value) if rest else value}
