# SPDX-License-Identifier: Apache-2.0
"""Corner classes of a set: operands built to reach cases that random operands miss.

CONTRIBUTING.md lists the classes; IBM's models on the accumulator are among them (Aharoni et al.,
"FPgen", HLDVT 2003): B1 types, B3 and B8 rounding bits, B7 sticky, B10 and B14 every shift, B12 and
B16 cancellation, B18 products cancelled by the addend. Each function appends vectors for the
builder's unit; a class that a unit cannot have appends none.
"""

from __future__ import annotations

from fpsim.vectors.corners import random_word_corners as random_words
from fpsim.vectors.corners import scale_corners as scales
from fpsim.vectors.corners import sum_corners as sums
from fpsim.vectors.corners import underflow_corners as underflow
from fpsim.vectors.corners import window_corners as windows
from fpsim.vectors.corners.builder import VectorBuilder
from fpsim.vectors.coverage.bin_search import search
from fpsim.vectors.coverage.ibm_models import MODEL_SECTIONS

__all__ = ["add_built_classes", "add_corner_classes"]


def add_built_classes(builder: VectorBuilder) -> None:
    """Append every constructed corner class, one section each."""
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
        windows.window_limits,
        scales.scale_corners,
        scales.scale_shifts,
        scales.scaled_to_ends,
        sums.specials,
        sums.lane_positions,
        sums.streams,
        sums.reachable,
        random_words.random_words,
        sums.infinities,
        underflow.underflows,
    )
    for corner in classes:
        builder.section(corner.__name__.replace("_", "-"))
        corner(builder)


def add_corner_classes(builder: VectorBuilder) -> None:
    """Append every corner class: constructed operands, then operands searched for IBM's models."""
    add_built_classes(builder)
    for model, title in MODEL_SECTIONS.items():
        builder.section(f"{model.lower()}-{title}")
        for found in search(builder.record):
            if found.bin.startswith(f"{model}:"):
                builder.add(**{name: column[None] for name, column in found.row.items()})
