# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration: ``make docs`` builds these pages into ``docs/_build/html``."""

from pathlib import Path

import fpsim
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
exclude_patterns = ["_build", "reference/_names_table.md"]
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

_TABLE = Path(__file__).parent / "reference" / "_names_table.md"
_ROWS = "".join(f"| {p.part} | `{p.form}` | {p.meaning} | `{p.example}` |\n" for p in GRAMMAR)
_TABLE.write_text(
    "| part | form | what it says | example |\n|---|---|---|---|\n" + _ROWS, encoding="utf-8"
)
