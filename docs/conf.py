# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration: ``make docs`` builds these pages into ``docs/_build/html``."""

import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from matmul_drawing import THEMES, matmul_drawing
from railway import railway

import fpsim
from fpsim.blocks.block_format import BLOCK_FORMATS
from fpsim.blocks.describe import equations
from fpsim.bridge import recipe_kinds
from fpsim.units.grammar import GRAMMAR

project = "fpsim"
author = "the fpsim authors"
version = release = fpsim.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxarg.ext",
]
exclude_patterns = ["_build", "reference/_*.md"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["ref.python"]
html_theme = "furo"
html_title = f"fpsim {version}"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
# Docstrings name things in single backquotes, which Sphinx would look up everywhere.
default_role = "code"


_REFERENCE = Path(__file__).parent / "reference"


def _write_table(name: str, heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Write a table that a page includes; what it says is what the program says."""
    lines = [heads, ("---",) * len(heads), *rows]
    text = "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in lines
    )
    (_REFERENCE / name).write_text(text, encoding="utf-8")


_write_table(
    "_names_table.md",
    ("part", "form", "what it says", "example"),
    [(p.part, f"`{p.form}`", p.meaning, f"`{p.example}`") for p in GRAMMAR],
)
(_REFERENCE / "_names.svg").write_text(railway(GRAMMAR), encoding="utf-8")
for _theme in THEMES:
    _drawing = Path(__file__).parent / f"_matmul_{_theme}.svg"
    _drawing.write_text(matmul_drawing(_theme), encoding="utf-8")
_SPECS = [fpsim.get_unit(name).spec for name in fpsim.preset_names()]
_write_table(
    "_presets_table.md",
    ("unit", "evidence", "what it is", "rests on"),
    [(f"`{s.name}`", str(s.evidence), s.description, s.source) for s in _SPECS],
)
_write_table(
    "_recipes_table.md",
    ("recipes", "needs a calibration", "what they cast"),
    [
        (", ".join(f"`{n}`" for n in names), "yes" * kind.needs_calibration, kind.summary())
        for kind, names in recipe_kinds().items()
    ],
)

(_REFERENCE / "_block_formats.md").write_text(
    "".join(
        f"## {fmt.name}\n\n{fmt.source}. {fmt.bits_per_element:.4g} bits per element, "
        f"{fmt.element.name} elements.\n\n```text\n" + "\n".join(equations(fmt)) + "\n```\n\n"
        for fmt in BLOCK_FORMATS.values()
    ),
    encoding="utf-8",
)
