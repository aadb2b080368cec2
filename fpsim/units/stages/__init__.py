# SPDX-License-Identifier: Apache-2.0
"""The stages a unit's datapath is composed of, as frozen data.

    chain     acc = R(acc + p_i), one rounding per product
    exact     the real sum, rounded once
    fixed     an integer accumulator on a grid (Kulisch-style)
    aligned   N products aligned to one exponent and added as integers, as tensor cores do
    tree      balanced adds, one rounding per node; or lanes, then a tree
    chunked   any of these over parts of K, promoted into another; chunks of chunks, too
    block     exact block sums, scaled, into another

A stage knows its parameters, its validity, its short name and its equation; it computes nothing.
Products are exact everywhere: ``p_i = a_i * b_i * sa_i * sb_i``.
"""

from fpsim.units.stages.aligned import MAX_WINDOW_BITS, PRODUCT_BITS, Addend, Aligned
from fpsim.units.stages.composite import MAX_CHUNK, Block, Chunked, NanScale, block_in, first_sum
from fpsim.units.stages.fields import Stage, random_bits_of, stages_of
from fpsim.units.stages.short_names import parse_short_name
from fpsim.units.stages.simple import Chain, Exact, Fixed, OverflowAt, ProductRounding
from fpsim.units.stages.tables import STAGES, check_keys, format_in, from_table, to_table
from fpsim.units.stages.tree import Joins, Tree

__all__ = [
    "MAX_CHUNK",
    "MAX_WINDOW_BITS",
    "PRODUCT_BITS",
    "STAGES",
    "Addend",
    "Aligned",
    "Block",
    "Chain",
    "Chunked",
    "Exact",
    "Fixed",
    "Joins",
    "NanScale",
    "OverflowAt",
    "ProductRounding",
    "Stage",
    "Tree",
    "block_in",
    "check_keys",
    "first_sum",
    "format_in",
    "from_table",
    "parse_short_name",
    "random_bits_of",
    "stages_of",
    "to_table",
]
