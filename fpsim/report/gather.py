# SPDX-License-Identifier: Apache-2.0
"""Measures all that a page shows of a unit: numbers, vectors, RTL and area, errors, layers.

If a part cannot be measured, one line says why, and the other parts are still measured.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fpsim
from fpsim import plots
from fpsim.base.errors import FpsimError
from fpsim.base.progress import bar, say
from fpsim.base.resources import golden_dir
from fpsim.hdl.bench.simulator import available
from fpsim.hdl.rtl.reference import reference_dut
from fpsim.hdl.verify.verify import Plan, verify_design
from fpsim.kernels.llvm.machine import Machine
from fpsim.report import findings
from fpsim.report.number_lines import number_line
from fpsim.report.page import (
    BinRow,
    FileRow,
    MachineInfo,
    ModelInfo,
    PageData,
    PageFigure,
    PerplexityRow,
    SectionRow,
    UnitFacts,
    VectorFacts,
)
from fpsim.report.rtl import replay_row, with_cost
from fpsim.studies.accumulation import accumulator_counts, measure_accumulation
from fpsim.unit import MacUnit, get_unit, unit_names
from fpsim.vectors.files.opened_set import OpenedSet, open_set

if TYPE_CHECKING:
    from fpsim.bridge.measure.models import LoadedModel

__all__ = [
    "ModelRun",
    "figures",
    "gather",
    "load",
    "machine",
    "perplexities",
    "replayed",
    "set_facts",
    "unit_facts",
    "with_layers",
]

LENGTHS = (16, 64, 256, findings.LENGTH)
#: Random vectors replayed through RTL for a page.
REPLAYED = 2048
SEED = 1


@dataclass(frozen=True)
class ModelRun:
    """A model by name, the recipe of its operands, and the length of its text."""

    name: str
    recipe: str = "mxfp4"
    windows: int = 2
    window: int = 256
    layer: str = "*"


def gather(
    units: Sequence[str | MacUnit],
    vector_dirs: Sequence[Path] = (),
    run: ModelRun | None = None,
    rtl: bool = True,
) -> PageData:
    """Measure all that a page shows of some units.

    Args:
        units: units, names or TOML paths, at least one.
        vector_dirs: directories of vectors of these units; a published unit without one gets its
            released set.
        run: a model to run on the units, or None.
        rtl: whether RTL is synthesised and simulated.

    Returns:
        The data of a page, with the reasons for missing parts among its problems.

    Raises:
        FpsimError: no units, an unknown unit, vectors of another unit, or a model that cannot run.
    """
    macs = [get_unit(unit) for unit in units]
    if not macs:
        raise FpsimError("units: none given")
    sets = _given_sets(macs, vector_dirs)
    loaded = None if run is None else load(run)
    problems: list[str] = []
    facts = []
    for mac in macs:
        say(f"{mac.name}: numbers and errors")
        one = unit_facts(mac)
        opened = sets.get(mac.name)
        one = replace(one, vectors=_released(mac) if opened is None else set_facts(opened))
        if rtl:
            one = replayed(with_cost(one, mac), mac, problems)
        facts.append(one)
    rows: tuple[PerplexityRow, ...] = ()
    info = None
    if run is not None and loaded is not None:
        rows, info = perplexities(loaded, run, macs, problems)
        facts = [with_layers(one, mac, loaded, run) for one, mac in zip(facts, macs, strict=True)]
    title = macs[0].name if len(macs) == 1 else f"{len(macs)} units side by side"
    page = PageData(
        title=title,
        version=fpsim.__version__,
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        complete=not problems,
        problems=tuple(problems),
        units=tuple(facts),
        perplexities=rows,
        model=info,
        machine=machine(),
    )
    return replace(page, figures=figures(page, macs))


# -- one unit ------------------------------------------------------------------------------------


def unit_facts(unit: MacUnit) -> UnitFacts:
    """Return text, numbers and errors of a unit: the facts without vectors, RTL or model."""
    spec = unit.spec
    lines = [number_line("a", spec.a)]
    if spec.b != spec.a:
        lines.append(number_line("b", spec.b))
    if spec.block is not None:
        lines.append(number_line("scale", spec.a_scale))
    lines.append(number_line("accumulator", spec.result))
    try:
        errors = measure_accumulation([unit], LENGTHS, seed=SEED)
        binades = accumulator_counts(unit, seed=SEED)
    except FpsimError as error:
        say(f"    {error}")
        errors, binades = (), None
    return UnitFacts(
        name=unit.name,
        description=spec.description,
        equation=spec.equation,
        toml=spec.to_toml(),
        lines=tuple(lines),
        errors=errors,
        binades=binades,
    )


def _given_sets(units: Sequence[MacUnit], directories: Sequence[Path]) -> dict[str, OpenedSet]:
    found = {}
    for directory in directories:
        opened = open_set(directory)
        owners = [unit.name for unit in units if unit.spec == opened.record.spec]
        if not owners:
            raise FpsimError(
                f"vectors: {directory} is for {opened.record.spec.canonical_name}, which is none "
                "of the units"
            )
        found[owners[0]] = opened
    return found


def _released(unit: MacUnit) -> VectorFacts | None:
    """Return the released set of a published unit with its report, or None."""
    for name in unit_names():
        path = golden_dir() / name
        if not (path / "manifest.json").is_file() or get_unit(name).spec != unit.spec:
            continue
        facts = replace(set_facts(open_set(path), False), source=f"released as golden/{name}")
        report = golden_dir() / "reports" / f"{name}.json"
        if not report.is_file():
            return facts
        data = json.loads(report.read_text(encoding="utf-8"))
        bins = tuple(
            BinRow(bin_, one["hits"], one["impossible"] or ("open" if one.get("open") else ""))
            for bin_, one in data["coverage"]["bins"].items()
        )
        # A mutant that computes like the unit cannot be found.
        real = [mutant for mutant in data["mutants"] if mutant["equivalent"] is None]
        killed = sum(mutant["vector"] is not None for mutant in real)
        return replace(facts, bins=bins, killed=killed, mutants=len(real))
    return None


def set_facts(opened: OpenedSet, covered: bool = True) -> VectorFacts:
    """Describe a set of vectors and, if ``covered``, the bins it hits (which takes time)."""
    files = tuple(
        FileRow(name, (opened.directory / name).stat().st_size, digest)
        for name, digest in opened.digests.items()
    )
    bins: tuple[BinRow, ...] = ()
    if covered:
        from fpsim.vectors.coverage.set_coverage import coverage

        with bar(f"coverage of {opened.directory.name}") as update:
            found = coverage(opened.record, opened.columns(), opened.start, update)
        bins = tuple(BinRow(b.name, b.hits, b.impossible or "open" * b.open) for b in found.bins)
    return VectorFacts(
        source=f"strategy {opened.strategy}, seed {opened.seed}, in {opened.directory}",
        count=opened.count,
        sections=tuple(SectionRow(s.name, s.count) for s in opened.sections),
        files=files,
        bins=bins,
    )


# -- RTL -----------------------------------------------------------------------------------------


def replayed(facts: UnitFacts, unit: MacUnit, problems: list[str]) -> UnitFacts:
    """Replay random vectors through the RTL of a unit, on the first simulator installed.

    Args:
        facts: facts of the unit.
        unit: the unit.
        problems: gets a line if a result differs or the replay cannot run.

    Returns:
        The facts with the replay.
    """
    try:
        dut = reference_dut(unit.spec)
    except FpsimError:
        return facts  # `with_cost` states the reason
    tools = [tool.name for tool in available()]
    if not tools:
        note = f"{facts.rtl_note} No simulator is installed, so the RTL was not run.".strip()
        return replace(facts, rtl_note=note)
    plan = Plan(strategy="random", count=REPLAYED, seed=SEED, explain=False, judge=False)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="fpsim-report-") as build,
            bar(f"{unit.name} on {tools[0]}") as update,
        ):
            result = verify_design(
                unit, dut, tools[0], Path(build), plan,
                lambda stage, done, total: update(done, total),
            ).result  # fmt: skip
    except FpsimError as error:
        problems.append(f"RTL of {unit.name}: {str(error).splitlines()[0]}")
        return facts
    row = replay_row(unit.name, dut.top, result)
    if not row.passed:
        problems.append(f"RTL of {unit.name} on {tools[0]}: {findings.rtl([row])}")
    return replace(facts, rtl=(row,))


# -- a model -------------------------------------------------------------------------------------


def load(run: ModelRun) -> LoadedModel:
    """Load the model of a run.

    Raises:
        FpsimError: an unknown recipe or model, windows of no tokens, or torch is not installed.
    """
    try:
        from fpsim.bridge import get_recipe
        from fpsim.bridge.measure import models, text
    except ImportError as error:
        raise FpsimError(f"the model needs the extra 'torch' ({error})") from None
    text.check_windows(run.windows, run.window, 5000)
    get_recipe(run.recipe)
    return models.load(run.name, say)


def perplexities(
    loaded: LoadedModel, run: ModelRun, units: Sequence[MacUnit], problems: list[str]
) -> tuple[tuple[PerplexityRow, ...], ModelInfo]:
    """Measure a model in float32, with exact sums, and on units.

    Args:
        loaded: the model.
        run: the recipe, and the length of the text.
        units: units besides ``exact``.
        problems: gets a line for every unit that refuses the recipe's operands.

    Returns:
        A row per measurement, and the model with its text.

    Raises:
        FpsimError: a model without a tokenizer.
    """
    from fpsim.bridge import evaluate
    from fpsim.bridge.measure import models, text

    if loaded.tokenizer is None:
        raise FpsimError(f"model: {run.name} reads no text, so it has no perplexity")
    windows = text.text_windows(loaded.tokenizer, text.topics_text(), run.windows, run.window)
    rows: list[PerplexityRow] = []
    tokens = 0
    for unit in (None, "exact", *units):
        name = unit if unit is None or isinstance(unit, str) else unit.name
        if name is not None and name in [row.unit for row in rows]:
            continue
        recipe = None if unit is None else run.recipe
        label = "float32" if name is None else f"{recipe} on {name}"
        try:
            with bar(label) as update:
                done = evaluate(loaded, windows, recipe, "exact" if unit is None else unit, update)
        except FpsimError as error:
            problems.append(f"{label}: {error}")
            continue
        seconds, tokens = done.result.seconds, done.result.tokens
        first = rows[0].seconds if rows else seconds
        rows.append(
            PerplexityRow(
                label, recipe, name, done.result.perplexity, seconds, seconds / first,
                done.kernel, done.why,
            )
        )  # fmt: skip
        say(f"    {label}: perplexity {done.result.perplexity:.3f} in {seconds:.1f} s")
    entry = models.MODELS.get(loaded.name)
    info = ModelInfo(
        name=loaded.name,
        sha256="" if entry is None else entry.files[0].sha256,
        licence="" if entry is None else entry.licence,
        text=f"{windows.shape[0]} windows of {windows.shape[1]} tokens of the topics of pydoc_data",
        tokens=tokens,
    )
    return tuple(rows), info


def with_layers(facts: UnitFacts, unit: MacUnit, loaded: LoadedModel, run: ModelRun) -> UnitFacts:
    """Return the facts with a row for each layer of a model.

    Args:
        facts: facts of the unit.
        unit: the unit.
        loaded: the model.
        run: the recipe, the layers, and the length of the text.

    Returns:
        The facts with layers, or with the reason why there are none.
    """
    from fpsim.bridge.measure.tasks import task_for
    from fpsim.explore.layers import layer_rows, sample_layers

    batches = task_for(loaded, count=1, length=run.window).calibration()
    try:
        samples = sample_layers(loaded.model, batches, run.layer)
        with bar(f"layers on {unit.name}") as update:
            rows = layer_rows(samples, run.recipe, unit, report=lambda i, n: update(i, n))
    except FpsimError as error:
        return replace(facts, layers_note=f"Layers were not studied: {error}")
    note = (
        f"{loaded.name} under {run.recipe}: 16 inputs and 32 outputs of each layer, taken from the "
        f"float model on {run.window} tokens that no perplexity is measured on."
    )
    return replace(facts, layers=rows, layers_note=note)


# -- pictures ------------------------------------------------------------------------------------


def figures(data: PageData, units: Sequence[MacUnit]) -> tuple[PageFigure, ...]:
    """Return the figures of a page, as far as their numbers have been measured."""
    found: list[PageFigure] = []

    def add(name: str, title: str, figure: Any, text: str) -> None:
        found.append(PageFigure(name, title, plots.to_svg(figure), text))

    if data.perplexities:
        add(
            "perplexity",
            "A language model on the units",
            plots.perplexity_figure(data.perplexities),
            "Perplexity is roughly the number of equally likely words among which the model wavers "
            "at each step; lower is better. The dashed line is the model in 32-bit floating point; "
            "in the other rows every multiply-accumulate of the converted layers was computed by "
            "the unit, with its roundings.",
        )
    costs = [unit for unit in data.units if unit.cost and unit.errors]
    if len(costs) > 1:
        add(
            "area",
            "Area against error",
            plots.area_error_figure([_area_point(unit) for unit in costs]),
            "Area in NAND2 equivalents of generic cells; error of sums of "
            f"{findings.LENGTH} products, as in the table. Units at the bottom lost nothing.",
        )
    rows = [row for unit in data.units for row in unit.errors]
    if rows and len(data.units) <= plots.MAX_UNITS:
        add(
            "errors",
            "Error against length",
            plots.accumulation_figure(rows),
            "Random dot products of a vector with itself, so that every product helps the sum "
            "grow. Dotted: the bound of theory, where there is one.",
        )
    plain = [unit for unit in units if unit.spec.block is None and unit.a == units[0].a
             and unit.b == units[0].b][:3]  # fmt: skip
    if plain and any(unit.errors for unit in data.units):
        try:
            drawn = plots.accumulator_figure(plain)
        except FpsimError:
            return tuple(found)
        add(
            "accumulator",
            "What an accumulator forgets",
            drawn,
            "Dashed: the exact sum of the products. Solid: what each unit holds after every "
            "product; where a curve falls away from the dashes, products were rounded away.",
        )
    return tuple(found)


def _area_point(unit: UnitFacts) -> tuple[str, float, float]:
    row = next(row for row in unit.errors if row.length == findings.LENGTH)
    assert unit.cost is not None
    return unit.name, unit.cost.area, row.max_error


def machine() -> MachineInfo:
    """Return facts about the computer, as far as the page shows them."""
    used = [
        name
        for name in ("avx2", "f16c", "avx512f", "avx512fp16")
        if name in Machine.host().features
    ]
    return MachineInfo(os.cpu_count() or 1, platform.python_version(), tuple(used))
