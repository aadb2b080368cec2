# SPDX-License-Identifier: Apache-2.0
"""A self-contained HTML page about units: findings first, then details, folded.

`PageData` is plain data; `render` turns it into a page without outside references. The page says
which data are missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fpsim.base.atomic_files import write_atomic
from fpsim.report import findings
from fpsim.report.drawing import inline
from fpsim.report.number_lines import FormatLine
from fpsim.studies.accumulation import AccumulationRow, AccumulatorCounts
from fpsim.studies.sqnr import Scaling, SqnrRow, data_label, format_label

if TYPE_CHECKING:
    from fpsim.explore.layers import LayerRow
    from fpsim.hdl.rtl.synthesis import Cost

__all__ = [
    "BinRow",
    "FileRow",
    "MachineInfo",
    "ModelInfo",
    "PageData",
    "PageFigure",
    "PerplexityRow",
    "RtlRow",
    "SectionRow",
    "UnitFacts",
    "VectorFacts",
    "environment",
    "render",
    "write",
]

_TEMPLATES = Path(__file__).resolve().parent / "templates"


@dataclass(frozen=True)
class SectionRow:
    """A section of a set, and its number of vectors."""

    name: str
    count: int


@dataclass(frozen=True)
class FileRow:
    """A written file: size in bytes, and SHA-256 in hexadecimal."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class BinRow:
    """A coverage bin: its hits, and the reason why it is empty, if any."""

    name: str
    hits: int
    why_empty: str = ""


@dataclass(frozen=True)
class VectorFacts:
    """A set of golden vectors, its coverage, and the number of mutants killed."""

    source: str  #: origin of the set, in words
    count: int
    sections: tuple[SectionRow, ...] = ()
    files: tuple[FileRow, ...] = ()
    bins: tuple[BinRow, ...] = ()
    killed: int | None = None
    mutants: int = 0

    @property
    def possible(self) -> int:
        """Coverage bins that are not impossible."""
        return sum(1 for one in self.bins if one.hits or not one.why_empty)

    @property
    def hit(self) -> int:
        """Coverage bins hit."""
        return sum(1 for one in self.bins if one.hits)


@dataclass(frozen=True)
class RtlRow:
    """One replay of a unit's vectors through its RTL."""

    unit: str
    simulator: str
    version: str
    top: str  #: top module
    due: int  #: results to compare
    compared: int  #: results compared
    mismatches: int
    build_seconds: float
    run_seconds: float

    @property
    def passed(self) -> bool:
        """Whether all results due were compared, at least one, and all matched."""
        return 0 < self.compared == self.due and not self.mismatches


@dataclass(frozen=True)
class UnitFacts:
    """All that the page shows of one unit; empty parts were not measured."""

    name: str
    description: str
    equation: str
    toml: str
    lines: tuple[FormatLine, ...] = ()
    vectors: VectorFacts | None = None
    rtl: tuple[RtlRow, ...] = ()
    cost: Cost | None = None
    rtl_note: str = ""  #: reason why there is no RTL, area or replay
    errors: tuple[AccumulationRow, ...] = ()
    binades: AccumulatorCounts | None = None
    layers: tuple[LayerRow, ...] = ()
    layers_note: str = ""


@dataclass(frozen=True)
class PerplexityRow:
    """Perplexity of a model under a recipe on a unit; None, None is the float32 model."""

    label: str
    recipe: str | None
    unit: str | None
    perplexity: float
    seconds: float
    ratio_to_float32: float | None  #: ratio of seconds, not of perplexities
    kernel: str = ""  #: kernel of the products
    why: str = ""  #: why the kernel is exact


@dataclass(frozen=True)
class ModelInfo:
    """A model and the text of its measurement."""

    name: str
    sha256: str
    licence: str
    text: str  #: description of the text
    tokens: int  #: number of predicted tokens


@dataclass(frozen=True)
class MachineInfo:
    """The computer that made the page."""

    cpus: int
    python: str
    features: tuple[str, ...] = ()  #: features of the processor that kernels used


@dataclass(frozen=True)
class PageFigure:
    """A figure among the findings: an SVG document and its description."""

    name: str  #: prefix of the SVG's identifiers
    title: str
    svg: str
    text: str  #: caption


@dataclass(frozen=True)
class PageData:
    """All data of a page."""

    title: str
    version: str
    created: str
    complete: bool = True
    problems: tuple[str, ...] = ()
    units: tuple[UnitFacts, ...] = ()
    figures: tuple[PageFigure, ...] = ()
    perplexities: tuple[PerplexityRow, ...] = ()
    sqnr: tuple[SqnrRow, ...] = ()
    timings: tuple[tuple[str, float], ...] = ()  #: steps and their seconds
    model: ModelInfo | None = None
    machine: MachineInfo | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the measurements as JSON-ready data, without figures and single vectors."""
        units = []
        for unit in self.units:
            known: dict[str, Any] = {
                "name": unit.name,
                "equation": unit.equation,
                "rtl_note": unit.rtl_note,
            }
            known |= {name: [asdict(row) for row in getattr(unit, name)]
                      for name in ("rtl", "errors", "layers")}  # fmt: skip
            known["cost"] = None if unit.cost is None else asdict(unit.cost)
            known["vectors"] = None if unit.vectors is None else asdict(unit.vectors)
            units.append(known)
        data = {
            "title": self.title, "version": self.version, "created": self.created,
            "complete": self.complete, "problems": list(self.problems), "units": units,
            "perplexities": [asdict(row) for row in self.perplexities],
            "sqnr": [asdict(row) for row in self.sqnr], "seconds": dict(self.timings),
            "model": None if self.model is None else asdict(self.model),
            "machine": None if self.machine is None else asdict(self.machine),
        }  # fmt: skip
        found: dict[str, Any] = finite(data)
        return found


def finite(data: Any) -> Any:
    """Return data with lists for arrays, and text for numbers that JSON lacks."""
    if isinstance(data, dict):
        return {str(key): finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    if hasattr(data, "tolist"):
        return finite(data.tolist())
    return str(data) if isinstance(data, float) and not math.isfinite(data) else data


def environment() -> Environment:
    """Return the templates of pages, with their filters."""
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "thousands": lambda value: f"{value:,}",
        "seconds": _seconds,
        "size": _size,
        "number": findings.number,
        "short": lambda value: f"{value:.3g}",
        "label": format_label,
        "heading": data_label,
        "percent": _percent,
    }
    made.filters |= filters
    return made


def render(data: PageData) -> str:
    """Return the page as HTML, with every text escaped.

    Raises:
        FpsimError: a figure that is not a plain SVG drawing.
    """
    page = environment().get_template("report.html.j2")
    return page.render(data=data, findings=findings, scalings=tuple(Scaling), inline=inline)


def write(data: PageData, path: str | Path) -> Path:
    """Write the page to ``path``, whole or not at all, and return the path.

    Raises:
        FpsimError: a path that cannot be written, or a figure that is not a plain SVG drawing.
    """
    return write_atomic(path, render(data).encode("utf-8"))


# -- numbers as text -----------------------------------------------------------------------------


def _seconds(value: float) -> str:
    if value < 0.095:
        return f"{1000 * value:.0f} ms"
    if value < 99.5:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} min {seconds:02d} s"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole if whole else 0:.1f}%"


def _size(value: int) -> str:
    if value < 1000:
        return f"{value} B"
    if value < 999_950:
        return f"{value / 1e3:.1f} kB"
    return f"{value / 1e6:.1f} MB"
