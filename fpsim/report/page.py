# SPDX-License-Identifier: Apache-2.0
"""One self-contained HTML page about a run: units, vectors, RTL, perplexities, error, time.

`DemoReport` is plain data; `render` turns it into a page that needs nothing but itself. Whatever is
missing from the data is missing from the page in so many words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.report import findings
from fpsim.studies.sqnr import Scaling, SqnrRow, data_label, format_label

__all__ = [
    "DemoReport",
    "FileRow",
    "MachineInfo",
    "ModelInfo",
    "PerplexityRow",
    "RtlRow",
    "SectionRow",
    "UnitSection",
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
class UnitSection:
    """A unit, its description as TOML, and the golden vectors made from it."""

    name: str
    description: str
    equation: str
    toml: str
    vectors: int
    sections: tuple[SectionRow, ...] = ()
    files: tuple[FileRow, ...] = ()


@dataclass(frozen=True)
class RtlRow:
    """One replay of a unit's vectors through its RTL."""

    unit: str
    simulator: str
    version: str
    top: str  #: top module
    vectors: int  #: in the set
    compared: int  #: clocks after which the accumulator was compared
    mismatches: int
    build_seconds: float
    run_seconds: float

    @property
    def passed(self) -> bool:
        """Every vector was compared, there was at least one, and all matched."""
        return 0 < self.compared == self.vectors and not self.mismatches


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
class DemoReport:
    """Everything the page says. Figures are SVG documents, empty where there is none."""

    title: str
    version: str
    created: str
    complete: bool
    problems: tuple[str, ...] = ()
    units: tuple[UnitSection, ...] = ()
    rtl: tuple[RtlRow, ...] = ()
    perplexities: tuple[PerplexityRow, ...] = ()
    sqnr: tuple[SqnrRow, ...] = ()
    timings: tuple[tuple[str, float], ...] = ()  #: step and seconds
    model: ModelInfo | None = None
    machine: MachineInfo | None = None
    formats_svg: str = ""
    sqnr_svg: str = ""
    accumulator_svg: str = ""
    perplexity_svg: str = ""


def render(report: DemoReport) -> str:
    """Return the page. Every text is escaped.

    Raises:
        FpsimError: a figure that is not a plain SVG drawing.
    """
    environment = Environment(
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
        "label": format_label,
        "heading": data_label,
        "percent": _percent,
    }
    environment.filters |= filters
    page = environment.get_template("report.html.j2")
    return page.render(
        report=report,
        findings=findings,
        scalings=tuple(Scaling),
        inline=_inline,
    )


def write(report: DemoReport, path: str | Path) -> Path:
    """Write the page to ``path``, whole or not at all, and return the path.

    Raises:
        FpsimError: a path that cannot be written, or as `render`.
    """
    return write_atomic(path, render(report).encode("utf-8"))


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


# -- pictures ------------------------------------------------------------------------------------

_DROPPED = {"metadata", "style"}
_DRAWING = {
    "svg", "defs", "g", "path", "text", "tspan", "use", "clipPath", "rect", "circle", "ellipse",
    "line", "polyline", "polygon", "title", "desc", "linearGradient", "radialGradient", "stop",
}  # fmt: skip


def _inline(svg: str, prefix: str, label: str) -> Markup:
    """Return an SVG document as an element of the page.

    Identifiers get ``prefix``, so that figures do not share them; the page's own style sheet
    replaces the document's, whose rules would apply to the whole page.

    Raises:
        FpsimError: not XML, or anything that is no drawing: scripts, handlers, outside references.
    """
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        raise FpsimError(f"figure {prefix}: not an SVG document ({error})") from None
    _clean(root, prefix)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"role": "img", "aria-label": label}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _clean(element: ElementTree.Element, prefix: str) -> None:
    element.tag = _local(element.tag)
    if element.tag not in _DRAWING:
        raise FpsimError(f"figure {prefix}: <{element.tag}> does not belong in a drawing")
    element.attrib = {
        _local(name): _own(_local(name), value, prefix) for name, value in element.attrib.items()
    }
    for child in list(element):
        if _local(child.tag) in _DROPPED:
            element.remove(child)
        else:
            _clean(child, prefix)


def _own(name: str, value: str, prefix: str) -> str:
    """Return an attribute with its identifiers prefixed, or refuse it."""
    outside = name == "href" and not value.startswith("#")
    if outside or name.startswith("on") or re.search(r"url\((?!#)", value):
        raise FpsimError(f"figure {prefix}: {name}={value!r} does not belong in a drawing")
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href":
        return f"#{prefix}-{value[1:]}"
    return value.replace("url(#", f"url(#{prefix}-")


def _local(name: Any) -> str:
    """Return an XML name without its namespace."""
    return str(name).rpartition("}")[2]
