# SPDX-License-Identifier: Apache-2.0
"""Figures, drawn without a display: every function returns a new matplotlib `Figure`.

Colours are Okabe and Ito's, which colour-blind readers can tell apart, and every series also has
its own shape or label. Text stays text in SVG, and equal data give equal bytes.
"""

from __future__ import annotations

from fpsim.plots.accumulator import MAX_UNITS, accumulation_figure, accumulator_figure
from fpsim.plots.area import area_error_figure, area_figure
from fpsim.plots.bias import bias_figure
from fpsim.plots.error import error_figure, sqnr_figure
from fpsim.plots.formats import format_figure, format_rows
from fpsim.plots.layers import layers_figure
from fpsim.plots.pareto import pareto_figure
from fpsim.plots.perplexity import perplexity_figure
from fpsim.plots.recipes import recipes_figure
from fpsim.plots.rounding import rounding_curve, rounding_figure
from fpsim.plots.style import caption, check_target, save, to_svg
from fpsim.plots.training import TrainingCurve, training_figure

__all__ = [
    "MAX_UNITS",
    "TrainingCurve",
    "accumulation_figure",
    "accumulator_figure",
    "area_error_figure",
    "area_figure",
    "bias_figure",
    "caption",
    "check_target",
    "error_figure",
    "format_figure",
    "format_rows",
    "layers_figure",
    "pareto_figure",
    "perplexity_figure",
    "recipes_figure",
    "rounding_curve",
    "rounding_figure",
    "save",
    "sqnr_figure",
    "to_svg",
    "training_figure",
]
