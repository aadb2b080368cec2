# SPDX-License-Identifier: Apache-2.0
"""Figures, drawn without a display: every function returns a new matplotlib `Figure`.

Colours are from Okabe and Ito's palette, which colour-blind readers can tell apart, and every
series has a shape or a label of its own besides. Text stays text in SVG, and two runs on equal data
give equal bytes.
"""

from __future__ import annotations

from fpsim.plots.accumulator import accumulator_figure
from fpsim.plots.area import area_figure
from fpsim.plots.error import sqnr_figure
from fpsim.plots.formats import format_figure
from fpsim.plots.perplexity import perplexity_figure
from fpsim.plots.style import save, to_svg

__all__ = [
    "accumulator_figure",
    "area_figure",
    "format_figure",
    "perplexity_figure",
    "save",
    "sqnr_figure",
    "to_svg",
]
