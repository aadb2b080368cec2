# SPDX-License-Identifier: Apache-2.0
"""Searches a space for the cheapest unit that keeps a model's figure within a budget.

1. Every point (or as many as a sampler proposes) runs on a few layers of the float model. A point
   whose accumulator loses nothing there is lossless; one with results that are not finite, or with
   more noise than signal, is hopeless and left out. Errors of layers rank the others.
2. Area, depth, flip-flops and energy come from the mapped RTL of the remaining points.
3. Survivors, which no other point beats in layer error and cost, run the whole task, cheapest
first.
   Only the task's figure decides about the budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import fpsim
from fpsim.base.errors import FpsimError, not_one_of
from fpsim.base.executor import Executor, PointCache, Work, run_points
from fpsim.explore.budget import FEW_TOKENS, Budget
from fpsim.explore.evaluate import cheap, cost, model_digest, score
from fpsim.explore.pareto import pareto
from fpsim.explore.space import ExplorePoint, Space

__all__ = ["OBJECTIVES", "ExploreResult", "ExploreSettings", "PointResult", "explore"]

#: Objectives to minimise: field of `PointResult`, and its unit of measure.
OBJECTIVES = {
    "area": ("area_per_product", "NAND2 equivalents per product a clock"),
    "depth": ("depth", "cells on the longest path"),
    "flipflops": ("flipflops", "flip-flops"),
    "energy": ("energy_ratio", "energy per product, INT4 = 1"),
    "bits": ("bits", "storage bits per element"),
}
#: SQNR of a layer, in dB, below which a point is hopeless: more noise than signal.
HOPELESS_DB = 0.0
#: Noise in dB that stands for no noise at all (negative) and for nothing but noise (positive).
_NO_NOISE = 1e3
#: Recipe of the unit whose energy counts as 1.
REFERENCE_RECIPE = "rtn:element=int4s"


@dataclass(frozen=True)
class ExploreSettings:
    """Settings of a search.

    Attributes:
        model: name or folder of the model.
        budget: text of the budget, for `fpsim.explore.budget.Budget.parse`.
        minimize: a key of `OBJECTIVES`.
        windows, window: windows of text of the task, and tokens per window, for language models.
        layers: sampled layers on which points are tried.
        exhaust: largest space of which every point is tried; a sampler chooses from larger ones.
        trials: points that the sampler proposes.
        scored: most points that run the whole task, besides the references; two more if points have
            no cost, to rank them for accuracy.
        energy: whether to simulate netlists for energy.
        seed: seed of the sampler.
    """

    model: str
    budget: str
    minimize: str = "area"
    windows: int = 2
    window: int = 256
    layers: int = 6
    exhaust: int = 256
    trials: int = 64
    scored: int = 12
    energy: bool = True
    seed: int = 1

    def __post_init__(self) -> None:
        lowest = {"windows": 1, "window": 2, "layers": 1, "exhaust": 0, "trials": 1, "scored": 1}
        for name, least in lowest.items():
            value = getattr(self, name)
            if value < least:
                raise FpsimError(f"{name}: {value} is too few; at least {least} is needed")


@dataclass(frozen=True)
class PointResult:
    """All measurements of a point; None: not measured, for the reason in ``why``.

    Attributes:
        recipe, unit: names of the recipe and of ``spec``.
        spec: the unit as data, with the operands of the space.
        built: the unit with the recipe's operands, as data, from which RTL and vectors are made.
        equation: equation of ``built``.
        bits: storage per element, the mean of weights and activations, scales included.
        layer_db: SQNR of the worst sampled layer's output against float; None with ``lossless``
            stands for inf.
        lossless: whether no step of the accumulator lost anything on the sampled layers.
        swamped, overflows: shares of the accumulator's steps.
        area, area_per_product, depth, flipflops: of the mapped RTL.
        energy, energy_ratio: energy per product, in toggles of a NAND2 and relative to INT4's.
        figure: figure of the whole task.
        met: whether the figure is within the budget; None: not measured.
        why: why a figure is missing, or why the point was left out.
    """

    recipe: str
    unit: str
    spec: dict[str, Any]
    built: dict[str, Any] = field(default_factory=dict)
    equation: str = ""
    bits: float | None = None
    layer_db: float | None = None
    cast_db: float | None = None
    lossless: bool = False
    swamped: float | None = None
    overflows: float | None = None
    area: float | None = None
    area_per_product: float | None = None
    depth: int | None = None
    flipflops: int | None = None
    energy: float | None = None
    energy_ratio: float | None = None
    figure: float | None = None
    met: bool | None = None
    why: str = ""

    @property
    def name(self) -> str:
        """Name of the point in tables and figures."""
        return f"{self.recipe} on {self.unit}"

    def cost(self, minimize: str) -> float:
        """Return the cost of an objective; inf if it is not available."""
        value = getattr(self, OBJECTIVES[minimize][0])
        return math.inf if value is None else float(value)


@dataclass(frozen=True)
class ExploreResult:
    """A search: all points tried, the front and the winner.

    Attributes:
        settings: settings of the search.
        digest: digest of the model.
        size: number of points in the space.
        points: all points tried, in the order of the space or the sampler.
        front: indices of the points that no other scored point beats in cost and figure.
        winner: index of the cheapest point within the budget; None: there is none.
        references: figure of the float model, and of every recipe with exact sums.
        notes: remarks for readers.
    """

    settings: ExploreSettings
    digest: str
    size: int
    points: tuple[PointResult, ...]
    front: tuple[int, ...]
    winner: int | None
    references: dict[str, float]
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return asdict(self)

    def closest(self) -> str:
        """Return a sentence on how near the best point came, if none is within the budget."""
        budget = Budget.parse(self.settings.budget)
        scored = [point for point in self.points if point.figure is not None]
        if not scored:
            return "no point could be measured"
        sign = 1.0 if budget.lower else -1.0
        best = min(scored, key=lambda point: sign * (point.figure or 0.0) / self._limit(point))
        return (
            f"the best came to {budget.figure} {best.figure:.6g} ({best.name}), where "
            f"{self._limit(best):.6g} is the limit"
        )

    def _limit(self, point: PointResult) -> float:
        bases = {"float": self.references["float"]}
        bases["exact"] = self.references.get(point.recipe, math.nan)
        return Budget.parse(self.settings.budget).limit(bases)


Step = Callable[[str], Callable[[int, int, int], None]]


def explore(
    space: Space,
    settings: ExploreSettings,
    pool: Executor,
    cache: PointCache | None = None,
    step: Step = lambda title: lambda done, total, index: None,
) -> ExploreResult:
    """Search a space for the cheapest unit within a budget.

    Args:
        space: recipes and stages to choose from.
        settings: model, budget, objective and effort.
        pool: runs the points.
        cache: keeps results of finished points.
        step: called with a step's title; returns a function that takes the step's progress.

    Returns:
        All points tried, the Pareto front and the winner.

    Raises:
        FpsimError: an unknown objective, a budget on a figure that the model's task lacks, an
            unknown recipe or model, or a missing Optuna where a sampler is needed.
    """
    return _Search(space, settings, pool, cache, step).run()


class _Search:
    """One search; each step is a method."""

    def __init__(
        self,
        space: Space,
        settings: ExploreSettings,
        pool: Executor,
        cache: PointCache | None,
        step: Step,
    ) -> None:
        from fpsim.bridge.measure import models
        from fpsim.bridge.recipe import get_recipe

        if settings.minimize not in OBJECTIVES:
            raise not_one_of("minimize", settings.minimize, OBJECTIVES)
        self.space, self.settings, self.pool = space, settings, pool
        self.cache, self.step = cache, step
        self.budget = Budget.parse(settings.budget)
        for name in space.recipes:
            recipe = get_recipe(name)
            if recipe.needs_calibration:
                raise FpsimError(f"recipes: {name} needs a calibration, which a search has not")
            if recipe.weights_only:
                raise FpsimError(f"recipes: {name} leaves inputs in float, which have no codes")
        self.digest = model_digest(models.load(settings.model).model)
        self.notes: list[str] = []

    def run(self) -> ExploreResult:
        """Run all steps."""
        tried = list(self._tried())
        references = self._references(tried)
        scored = self._scored(self._costed(tried), references)
        sign = 1.0 if self.budget.lower else -1.0
        tokens = self.settings.windows * (self.settings.window - 1)
        if self.budget.figure == "perplexity" and tokens < FEW_TOKENS:
            self.notes.append(
                f"Perplexities are of {tokens:,} tokens: on so few, differences of some per cent "
                "are chance; --windows and --window read more."
            )
        costs = [
            (p.cost(self.settings.minimize), math.inf if p.figure is None else sign * p.figure)
            for p in scored
        ]
        front = tuple(pareto(costs))
        meeting = [i for i, point in enumerate(scored) if point.met and math.isfinite(costs[i][0])]
        winner = min(meeting, key=lambda i: costs[i], default=None)
        return ExploreResult(
            self.settings, self.digest, self.space.size, tuple(scored), front, winner, references,
            tuple(self.notes),
        )  # fmt: skip

    def _data(self, recipe: str | None, unit: dict[str, Any]) -> dict[str, Any]:
        s = self.settings
        return {
            "model": s.model, "digest": self.digest, "windows": s.windows, "window": s.window,
            "layers": s.layers, "recipe": recipe, "unit": unit,
        }  # fmt: skip

    def _run(self, title: str, work: Work, points: Sequence[dict[str, Any]]) -> list[Any]:
        return run_points(work, points, self.pool, self.cache, self.step(title)) if points else []

    # -- 1: layers -------------------------------------------------------------------------------

    def _tried(self) -> Iterator[PointResult]:
        if self.space.size <= self.settings.exhaust:
            yield from self._layers(self.space.points())
            return
        yield from _sampled(self)

    def _layers(self, points: Sequence[ExplorePoint]) -> list[PointResult]:
        data = [self._data(point.recipe, point.unit.to_dict()) for point in points]
        found = self._run("layers", cheap, data)
        return [_tried(point, result) for point, result in zip(points, found, strict=True)]

    # -- 2: hardware -----------------------------------------------------------------------------

    def _costed(self, tried: list[PointResult]) -> list[PointResult]:
        """Return points with costs; points that were left out have none."""
        places = [i for i, point in enumerate(tried) if not point.why]
        more = {"energy": self.settings.energy}
        data = [self._data(tried[i].recipe, tried[i].spec) | more for i in places]
        reference = None
        if self.settings.energy:
            bits = _reference_width(self._run("INT4's register", cheap, [self._reference(24)])[0])
            data.append(self._reference(bits) | more)
        found = self._run("area and energy", cost, data)
        if self.settings.energy:
            reference = found.pop()["energy"]
            if reference is None:
                self.notes.append("Energy is not available: INT4's MAC could not be switched.")
            else:
                self.notes.append(
                    f"Energy 1 is {reference:.4g} toggles of a NAND2 per product: "
                    f"{REFERENCE_RECIPE} on the same layer, in a fixed-point register of {bits} "
                    "bits. Weights of toggles are stated in fpsim.explore.activity."
                )
        done = list(tried)
        for place, result in zip(places, found, strict=True):
            energy = result["energy"]
            ratio = energy / reference if energy is not None and reference else None
            known = {
                key: result[key]
                for key in ("area", "area_per_product", "depth", "flipflops", "energy", "equation")
            }
            done[place] = replace(
                tried[place],
                **known,
                energy_ratio=ratio,
                why=result["why"],
                bits=result["bits"],
                built=result["unit"],
            )
        return done

    def _reference(self, bits: int) -> dict[str, Any]:
        stage = {"kind": "fixed", "width": bits, "lsb": 0, "overflow": "wrap"}
        operands = {"a": "int4s", "b": "int4s"}
        unit = {"schema": 1, "operands": operands, "accumulate": stage}
        return self._data(REFERENCE_RECIPE, unit)

    # -- 3: the task -----------------------------------------------------------------------------

    def _references(self, tried: list[PointResult]) -> dict[str, float]:
        recipes = list(dict.fromkeys(point.recipe for point in tried if not point.why))
        exact = fpsim.get_unit("exact").spec.to_dict()
        points = [self._data(None, exact), *(self._data(recipe, exact) for recipe in recipes)]
        found = self._run("float and exact sums", score, points)
        figures = {}
        for name, result in zip(["float", *recipes], found, strict=True):
            value = result.get(self.budget.figure)
            if value is None and "error" not in result:
                known = ", ".join(result) or "none that is finite"
                raise FpsimError(
                    f"budget: {self.settings.model} has no figure {self.budget.figure!r}; it has "
                    f"{known}"
                )
            if value is None:
                self.notes.append(f"{name}: {result['error']}")
            figures[name] = math.nan if value is None else value
        return figures

    def _scored(self, points: list[PointResult], references: dict[str, float]) -> list[PointResult]:
        done = list(points)
        places = self._survivors(points)
        found = self._run(
            self.budget.figure,
            score,
            [self._data(points[i].recipe, points[i].spec) for i in places],
        )
        for place, result in zip(places, found, strict=True):
            value = result.get(self.budget.figure)
            bases = {"float": references["float"]}
            bases["exact"] = references.get(points[place].recipe, math.nan)
            why = result.get("error", points[place].why)
            met = value is not None and self.budget.met(value, bases)
            done[place] = replace(points[place], figure=value, met=met, why=why)
        return done

    def _survivors(self, points: list[PointResult]) -> list[int]:
        """Return indices of points that run the whole task: layer fronts first, then by error."""
        minimize = self.settings.minimize
        usable = [i for i, p in enumerate(points) if p.built]  # points that were not left out
        loss = {i: _loss(points[i]) for i in usable}
        order: list[int] = []
        left = [i for i in usable if math.isfinite(points[i].cost(minimize))]
        while left and len(order) < self.settings.scored:
            front = pareto([(points[i].cost(minimize), loss[i]) for i in left])
            order += [left[place] for place in front]
            left = [i for i in left if i not in order]
        # Without RTL there is no cost, but accuracy is still of interest.
        order = order[: self.settings.scored]
        without = sorted(
            (i for i in usable if i not in order and i not in left), key=lambda i: loss[i]
        )
        room = max(self.settings.scored - len(order), min(2, len(without)))
        dropped = len(usable) - len(order) - min(room, len(without))
        if dropped:
            self.notes.append(
                f"{dropped} points have layer errors only: {self.settings.scored} run the task."
            )
        return sorted([*order, *without[:room]])


def _loss(point: PointResult) -> float:
    """Return the noise of the worst sampled layer in dB; a large number without results."""
    if point.layer_db is not None:
        return -point.layer_db
    return -_NO_NOISE if point.lossless else _NO_NOISE


def _tried(point: ExplorePoint, result: dict[str, Any]) -> PointResult:
    """Return a point with its results on layers, and with ``why`` if it is left out."""
    made = PointResult(
        point.recipe, point.unit.name, point.unit.to_dict(), equation=point.unit.equation
    )
    if "error" in result:
        return replace(made, why=result["error"])
    made = replace(
        made,
        layer_db=result["output_db"],
        cast_db=result["cast_db"],
        lossless=result["lossless"],
        swamped=result["swamped"],
        overflows=result["overflows"],
    )
    if not result["finite"]:
        return replace(made, why=f"hopeless: results of layer {result['layer']} are not finite")
    if made.layer_db is not None and made.layer_db < HOPELESS_DB:
        return replace(
            made, why=f"hopeless: layer {result['layer']} has {made.layer_db:.1f} dB, more noise "
            "than signal"
        )  # fmt: skip
    return made


def _reference_width(result: dict[str, Any]) -> int:
    """Return a lossless width for INT4's register on the sampled layers."""
    if "error" in result:
        raise FpsimError(f"energy: INT4's register could not be sized ({result['error']})")
    return max(int(result["fixed_bits"]), 8)


# -- sampling ------------------------------------------------------------------------------------


def _sampled(search: _Search) -> list[PointResult]:
    """Let Optuna choose points of a large space in batches, by layer error and bits."""
    try:
        import optuna
    except ImportError:
        raise FpsimError(
            f"space: it has {search.space.size:,} points, which need a sampler: pip install "
            "'fpsim[explore]', or raise --exhaust"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings, space = search.settings, search.space
    sampler = optuna.samplers.TPESampler(seed=settings.seed, constant_liar=True)
    study = optuna.create_study(sampler=sampler, directions=["minimize", "minimize"])
    found: dict[ExplorePoint, PointResult] = {}
    asked, batch = 0, 8
    while asked < settings.trials:
        trials = [study.ask() for _ in range(min(batch, settings.trials - asked))]
        asked += len(trials)
        points = [_suggested(trial, space) for trial in trials]
        fresh = [p for p in dict.fromkeys(points) if p is not None and p not in found]
        found |= dict(zip(fresh, search._layers(fresh), strict=True))
        for trial, point in zip(trials, points, strict=True):
            if point is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            study.tell(trial, [_loss(found[point]), float(point.unit.result.bits)])
    search.notes.append(
        f"The space has {space.size:,} points; Optuna's TPE sampler chose {len(found)} of them by "
        "layer error and accumulator bits."
    )
    return list(found.values())


def _suggested(trial: Any, space: Space) -> ExplorePoint | None:
    recipe = trial.suggest_categorical("recipe", list(space.recipes))
    stage = trial.suggest_categorical("stage", list(range(len(space.stages))))
    picks = [
        trial.suggest_int(f"{stage}.{'.'.join(choice.path)}", 0, len(choice.options) - 1)
        for choice in space.choices[stage]
    ]
    try:
        return space.point(recipe, stage, picks)
    except FpsimError:  # a combination of choices that no unit has
        return None
