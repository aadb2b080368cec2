# SPDX-License-Identifier: Apache-2.0
"""Settings of aligned and tree stages as records for the scalar kernels."""

from __future__ import annotations

import numpy as np

from fpsim.formats.rounding import Overflow, Rounding
from fpsim.kernels.codec.rounding import mode_constants
from fpsim.kernels.scalar import aligned, tree
from fpsim.units.stages import Addend, Aligned, Joins, Tree

__all__ = ["aligned_settings", "tree_settings"]

_ADDENDS = {Addend.EARLY: aligned.EARLY, Addend.LATE: aligned.LATE, Addend.JOINED: aligned.JOINED}
_JOINS = {Joins.ROOT: tree.ROOT, Joins.LEAF: tree.LEAF, Joins.FUSED: tree.FUSED}


def aligned_settings(stage: Aligned, parts: int) -> aligned.AlignedSettings:
    """Return the record of an aligned stage for terms of ``parts`` parts."""
    assert stage.overflow is not None
    none = aligned.NO_EXPONENT
    numbers = aligned.Numbers(
        products=stage.products,
        fraction_bits=stage.fraction_bits,
        addend=_ADDENDS[stage.addend],
        exponent_floor=none if stage.exponent_floor is None else stage.exponent_floor,
        normalised=int(stage.normalised),
        width=stage.width or 0,
        wrap=int(stage.width_overflow is Overflow.WRAP),
        signed_zero=int(stage.signed_zero),
        nan=-1 if stage.nan is None else stage.nan,
        product_limit=np.inf if stage.product_limit is None else 2.0**stage.product_limit,
        lanes=stage.lanes,
        join_sum_bits=stage.join_sum_bits,
        join_addend_bits=stage.join_addend_bits,
        join_reach=-1 if stage.join_reach is None else stage.join_reach,
        parts=parts,
    )
    # Too large sums are infinite in every mode: limits of a mode that rounds outward.
    return aligned.AlignedSettings(
        n=numbers,
        align=mode_constants(stage.align),
        rounding=mode_constants(stage.rounding),
        late_rounding=mode_constants(stage.late_rounding),
        join_rounding=mode_constants(stage.join_rounding),
        layout=stage.format.layout,
        limits=stage.format.limits(Rounding.RNE, stage.overflow),
        container=stage.result.layout,
        container_limits=stage.result.limits(Rounding.RNE, stage.overflow),
    )


def tree_settings(stage: Tree, length: int, parts: int) -> tree.TreeSettings:
    """Return the record of a tree stage.

    Args:
        stage: any tree.
        length: terms of a sum; the leaves of its tree if the stage has no number of products.
        parts: parts of a term.

    Returns:
        Shape of the tree, rounding, and layout and limits of the format.
    """
    assert stage.overflow is not None
    shape = tree.Shape(
        products=length if stage.products is None else stage.products,
        fill=int(stage.products is not None),
        radix=stage.radix,
        lanes=stage.lanes,
        addend=_JOINS[stage.addend],
        parts=parts,
    )
    limits = stage.format.limits(stage.rounding, stage.overflow)
    return tree.TreeSettings(shape, mode_constants(stage.rounding), stage.format.layout, limits)
