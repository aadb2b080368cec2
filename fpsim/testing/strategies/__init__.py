# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for formats, codes, values, whole units and their operands.

fpsim's own tests draw from them. Only this package of fpsim needs Hypothesis.
"""

from __future__ import annotations

from fpsim.base.errors import FpsimError

try:
    import hypothesis  # noqa: F401
except ImportError:
    raise FpsimError(
        "hypothesis: not installed; strategies need it: pip install 'fpsim[testing]'"
    ) from None

from fpsim.testing.strategies.formats import (
    boundary_values,
    codes,
    finite_codes,
    fixed_formats,
    float_formats,
    operand_formats,
    roundings,
)
from fpsim.testing.strategies.operands import (
    Dots,
    block_tensors,
    dots,
    streams,
)
from fpsim.testing.strategies.stages import (
    accumulators,
    aligned_stages,
    all_stages,
    block_stages,
    chunked_stages,
    converted_fixed,
    fixed_stages,
    float_stages,
    separate_chains,
    sums,
    terms_adders,
    tree_stages,
)
from fpsim.testing.strategies.units import (
    MatmulCase,
    all_specs,
    mac_specs,
    matmul_cases,
    narrow_operands,
    units,
)

__all__ = [
    "Dots",
    "MatmulCase",
    "accumulators",
    "aligned_stages",
    "all_specs",
    "all_stages",
    "block_stages",
    "block_tensors",
    "boundary_values",
    "chunked_stages",
    "codes",
    "converted_fixed",
    "dots",
    "finite_codes",
    "fixed_formats",
    "fixed_stages",
    "float_formats",
    "float_stages",
    "mac_specs",
    "matmul_cases",
    "narrow_operands",
    "operand_formats",
    "roundings",
    "separate_chains",
    "streams",
    "sums",
    "terms_adders",
    "tree_stages",
    "units",
]
