# SPDX-License-Identifier: Apache-2.0
"""The demonstration: units, vectors, RTL, a transformer, the error plot, one HTML page.

Every step runs on real parts. If a step cannot run, one line says why, the other steps still run,
and the report is marked incomplete.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

import fpsim
from fpsim import plots, vectors
from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.base.progress import Steps, bar, say
from fpsim.hdl.rtl.parameters import rtl_top
from fpsim.report import gather
from fpsim.report.gather import ModelRun
from fpsim.report.page import (
    ModelInfo,
    PageData,
    PageFigure,
    PerplexityRow,
    UnitFacts,
    write,
)
from fpsim.report.rtl import with_rtl
from fpsim.studies import sqnr
from fpsim.unit import MacUnit, get_unit, unit_names
from fpsim.vectors.files.opened_set import open_set

__all__ = ["Demo", "run"]

T = TypeVar("T")
#: Real tensors by name, with one array per layer.
Tensors = dict[str, list[NDArray[np.float32]]]

MODEL = ModelRun("smollm2-135m", "mxfp4", windows=4, window=512)
#: Recipes and units on which the model is measured, besides float32 and exact sums.
MODEL_UNITS = ("e2m1-chain-e5m10",)
SAMPLES = 1 << 18
SEED = 1


@dataclass(frozen=True)
class Demo:
    """The page of a demonstration, its measurements, and its problems."""

    report: Path
    page: PageData
    problems: tuple[str, ...]  #: reasons why steps failed

    @property
    def complete(self) -> bool:
        """Whether every requested step was done."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return self.page.to_dict() | {"report": str(self.report), "complete": self.complete}


def run(out: Path, with_model: bool = True) -> Demo:
    """Run every step, write ``out/report.html`` and return the measurements.

    Raises:
        FpsimError: ``out`` cannot be written.
    """
    _require_writable(out)
    steps = Steps(7)
    problems: list[str] = []
    # The model is fetched and converted while the first steps run, whose processes leave idle time.
    loading = _begun(lambda: gather.load(MODEL)) if with_model else None
    with steps.step("units: numbers and errors"):
        units = _units_with_rtl()
        facts = {unit.name: gather.unit_facts(unit) for unit in units}
    with steps.step("golden vectors"):
        for unit in units:
            facts[unit.name] = _with_vectors(facts[unit.name], unit, out)
    with steps.step("RTL: area, and every accumulator bit after every clock in simulation"):
        folders = {unit.name: _vector_dir(unit, out) for unit in units}
        facts = with_rtl(facts, units, folders, out / "rtl", problems)
    perplexities: tuple[PerplexityRow, ...] = ()
    tensors: Tensors = {}
    info = None
    with steps.step(f"the model {MODEL.name}" if with_model else "the model is left out"):
        loaded = _attempts(loading.result, problems) if loading else None
    with steps.step("the model on the simulated units"):
        if loaded is not None:
            measured = _attempts(lambda: _measure(loaded, facts, problems), problems)
            perplexities, tensors, info = measured or ((), {}, None)
    with steps.step("quantization error against format"), bar("tensors"):
        errors = _error_rows(tensors)
    if not with_model:
        problems.append("The model was left out on request.")
    with steps.step("the report"):
        page = PageData(
            title="fpsim: FP4 hardware, bit for bit",
            version=fpsim.__version__,
            created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            complete=not problems,
            problems=tuple(problems),
            units=tuple(facts.values()),
            perplexities=perplexities,
            sqnr=errors,
            model=info,
            machine=gather.machine(),
        )
        page = replace(page, figures=(*gather.figures(page, units), *_format_figures(errors)))
    page = replace(page, timings=tuple(steps.seconds))
    path = write(page, out / "report.html")
    if not with_model:
        problems.pop()  # the model was left out on request
    for problem in problems:
        say(f"incomplete: {problem}")
    say(f"report: {path}")
    return Demo(path, page, tuple(problems))


def _units_with_rtl() -> list[MacUnit]:
    """Return the published MACs to replay on the reference RTL; its dot products take longer."""
    units = []
    for unit in map(get_unit, unit_names()):
        try:
            top = rtl_top(unit.spec)
        except FpsimError:
            continue
        if top.name.startswith("mac_"):
            units.append(unit)
    return units


def _require_writable(out: Path) -> None:
    """Raise FpsimError if the folder cannot be written, before minutes of work."""
    probe = write_atomic(out / ".writable", b"", field="out")
    probe.unlink()


def _begun(work: Callable[[], T]) -> Future[T]:
    """Start a step beside the next ones and return its future result."""
    found: Future[T] = Future()

    def run() -> None:
        try:
            found.set_result(work())
        except BaseException as error:
            found.set_exception(error)

    # A daemon thread, unlike a pool's, ends with the process: an interrupt waits for no download.
    Thread(target=run, daemon=True).start()
    return found


def _attempts(work: Callable[[], T], problems: list[str]) -> T | None:
    """Run one step; return None and add a line to ``problems`` if it fails."""
    try:
        return work()
    except FpsimError as error:
        problems.append(str(error))
        return None


# -- vectors ------------------------------------------------------------------------------------


def _with_vectors(facts: UnitFacts, unit: MacUnit, out: Path) -> UnitFacts:
    made = vectors.plan(unit, seed=SEED, k=1, group=0, start="load")
    folder = vectors.write(made, _vector_dir(unit, out))
    say(f"    {made.count} vectors in {folder}")
    vectors.check(folder)
    found = gather.set_facts(open_set(folder), covered=False)
    return replace(facts, vectors=found)


def _vector_dir(unit: MacUnit, out: Path) -> Path:
    return out / "vectors" / unit.name


# -- the model and the formats -------------------------------------------------------------------


def _measure(
    loaded: Any, facts: dict[str, UnitFacts], problems: list[str]
) -> tuple[tuple[PerplexityRow, ...], Tensors, ModelInfo]:
    from fpsim.bridge import capture
    from fpsim.bridge.measure import text

    units = [get_unit(name) for name in MODEL_UNITS]
    rows, info = gather.perplexities(loaded, MODEL, units, problems)
    for unit in units:
        if unit.name in facts:
            facts[unit.name] = gather.with_layers(facts[unit.name], unit, loaded, MODEL)
    window = text.text_windows(loaded.tokenizer, text.topics_text(), 1)[0]
    return rows, capture(loaded.model, window, SAMPLES), info


def _error_rows(tensors: Tensors) -> tuple[sqnr.SqnrRow, ...]:
    data: dict[str, Any] = {n: sqnr.samples(n, SAMPLES, SEED) for n in sqnr.DISTRIBUTIONS}
    data |= {f"{MODEL.name} {name}": arrays for name, arrays in tensors.items()}
    return sqnr.measure(data)


def _format_figures(rows: tuple[sqnr.SqnrRow, ...]) -> tuple[PageFigure, ...]:
    return (
        PageFigure(
            "sqnr",
            "Quantization error against format",
            plots.to_svg(plots.sqnr_figure(rows)),
            "Circles use one scale for the whole tensor: hollow, fitted to the largest value; "
            "filled, at the clipping point that costs least. Diamonds use one scale for every 32 "
            "values: filled, any real number; hollow, a power of two as in OCP MX. Of many "
            "tensors, each with scales of its own, the median is shown.",
        ),
        PageFigure(
            "formats",
            "Where four bits go",
            plots.to_svg(plots.format_figure()),
            "Each dot is a value; the shading around it is everything that rounds to it. Bits can "
            "go to the exponent, which crowds values around zero and widens the gaps at the top, "
            "or to the mantissa, which spreads them evenly.",
        ),
    )
