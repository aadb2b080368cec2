# SPDX-License-Identifier: Apache-2.0
"""Corner classes of dot products: operands built to reach what random ones do not.

The classes are those of CONTRIBUTING.md and of the IBM models on the accumulator (Aharoni et al.,
"FPgen", HLDVT 2003): B1 types, B3 and B8 rounding bits, B7 sticky, B10 and B14 every shift, B12 and
B16 cancellation, B18 products cancelled by the addend. Each function appends beats for *this* unit;
one that a unit cannot have appends none.
"""

from __future__ import annotations

from fpsim.vectors.corners import directed_scales as scales
from fpsim.vectors.corners import directed_sums as sums
from fpsim.vectors.corners import directed_windows as windows
from fpsim.vectors.corners import stochastic
from fpsim.vectors.corners.beats import Beats
from fpsim.vectors.coverage.ibm_models import MODEL_SECTIONS
from fpsim.vectors.coverage.search import search

__all__ = ["add_directed"]


def add_directed(beats: Beats) -> None:
    """Append every corner class, one section each."""
    classes = (
        sums.signed_zeros,
        sums.addend_alone,
        sums.subnormal_operands,
        sums.largest,
        sums.addend_shifts,
        sums.cancellation,
        sums.order,
        sums.mixed_lanes,
        sums.range_edges,
        windows.window_edges,
        scales.scale_corners,
        scales.scale_shifts,
        scales.scaled_to_ends,
        sums.specials,
        sums.lane_positions,
        sums.streams,
        stochastic.random_words,
    )
    for corner in classes:
        beats.section(corner.__name__.replace("_", "-"))
        corner(beats)
    for model, title in MODEL_SECTIONS.items():
        beats.section(f"{model.lower()}-{title}")
        for found in search(beats.shape):
            if found.bin.startswith(f"{model}:"):
                beats.add(**{name: column[None] for name, column in found.row.items()})
