# SPDX-License-Identifier: Apache-2.0
"""One self-contained HTML page about units: what was found about them, then the details, folded.

`PageData` is plain data; `render` turns it into a page that needs nothing but itself. Whatever is
missing from the data is missing from the page in so many words.
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
    """A named part of a vector set and how many vectors it has."""

    name: str
    count: int


@dataclass(frozen=True)
class FileRow:
    """A file that was written, its size in bytes and its SHA-256 in hexadecimal."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class BinRow:
    """A coverage bin: its hits, and why it is empty where there is a reason."""

    name: str
    hits: int
    why_empty: str = ""


@dataclass(frozen=True)
class VectorFacts:
    """A set of golden vectors, its coverage, and how many mutants it kills."""

    source: str  #: where it comes from, in words
    count: int
    sections: tuple[SectionRow, ...] = ()
    files: tuple[FileRow, ...] = ()
    bins: tuple[BinRow, ...] = ()
    killed: int | None = None
    mutants: int = 0

    @property
    def possible(self) -> int:
        """Coverage bins that nothing rules out."""
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
    due: int  #: results that had to be compared
    compared: int  #: results that were
    mismatches: int
    build_seconds: float
    run_seconds: float

    @property
    def passed(self) -> bool:
        """Every result that was due was compared, there was at least one, and all matched."""
        return 0 < self.compared == self.due and not self.mismatches


@dataclass(frozen=True)
class UnitFacts:
    """Everything the page says of one unit; what is empty was not measured."""

    name: str
    description: str
    equation: str
    toml: str
    lines: tuple[FormatLine, ...] = ()
    vectors: VectorFacts | None = None
    rtl: tuple[RtlRow, ...] = ()
    cost: Cost | None = None
    rtl_note: str = ""  #: why there is no RTL, no area or no replay
    errors: tuple[AccumulationRow, ...] = ()
    binades: AccumulatorCounts | None = None
    layers: tuple[LayerRow, ...] = ()
    layers_note: str = ""


@dataclass(frozen=True)
class PerplexityRow:
    """Perplexity of a model under a recipe on a unit; None, None is float32 as loaded."""

    label: str
    recipe: str | None
    unit: str | None
    perplexity: float
    seconds: float
    ratio_to_float32: float | None  #: of the seconds, not of the perplexity
    kernel: str = ""  #: what computed the products
    why: str = ""  #: why that is exact


@dataclass(frozen=True)
class ModelInfo:
    """A model and the text it was measured on."""

    name: str
    sha256: str
    licence: str
    text: str  #: what the text is, in words
    tokens: int  #: predicted tokens


@dataclass(frozen=True)
class MachineInfo:
    """Where the run took place."""

    cpus: int
    python: str
    features: tuple[str, ...] = ()  #: of the processor, as far as they were used


@dataclass(frozen=True)
class PageFigure:
    """A picture among the findings: an SVG document with its description."""

    name: str  #: prefix of its identifiers
    title: str
    svg: str
    text: str  #: caption


@dataclass(frozen=True)
class PageData:
    """Everything the page says."""

    title: str
    version: str
    created: str
    complete: bool = True
    problems: tuple[str, ...] = ()
    units: tuple[UnitFacts, ...] = ()
    figures: tuple[PageFigure, ...] = ()
    perplexities: tuple[PerplexityRow, ...] = ()
    sqnr: tuple[SqnrRow, ...] = ()
    timings: tuple[tuple[str, float], ...] = ()  #: step and seconds
    model: ModelInfo | None = None
    machine: MachineInfo | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the measurements, JSON-ready: no pictures, and codes of no single vector."""
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
    """Return data in which numbers that JSON has not are text, and arrays are lists."""
    if isinstance(data, dict):
        return {str(key): finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    if hasattr(data, "tolist"):
        return finite(data.tolist())
    return str(data) if isinstance(data, float) and not math.isfinite(data) else data


def environment() -> Environment:
    """Return the templates of the pages, with the filters that they use."""
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
    """Return the page. Every text is escaped.

    Raises:
        FpsimError: a figure that is not a plain SVG drawing.
    """
    page = environment().get_template("report.html.j2")
    return page.render(data=data, findings=findings, scalings=tuple(Scaling), inline=inline)


def write(data: PageData, path: str | Path) -> Path:
    """Write the page to ``path``, whole or not at all, and return the path.

    Raises:
        FpsimError: a path that cannot be written, or as `render`.
    """
    return write_atomic(path, render(data).encode("utf-8"))


# -- numbers for people --------------------------------------------------------------------------


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
