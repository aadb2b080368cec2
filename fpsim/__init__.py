# SPDX-License-Identifier: Apache-2.0
"""fpsim: a bit-exact simulator and RTL reference model of FP4 hardware.

fpsim.get_format("e2m1")          what a code means: decode, encode
fpsim.format_table("e2m1")        every code of a format as text
fpsim.get_block_format("mxfp4")   elements that share a scale: quantize, dequantize
fpsim.get_unit("e2m1-chain-e5m10")  a MAC unit on codes: dot, matmul, accumulate
fpsim.oracle.dot(unit, a, b)      the same in exact rationals
fpsim.bridge                      whole transformers on a unit (imports torch when first used)
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fpsim import oracle
from fpsim.base.errors import FpsimError
from fpsim.blocks.block_format import BlockFormat, Quantized, get_block_format
from fpsim.blocks.describe import format_table
from fpsim.formats.floating import FixedFormat, FloatFormat
from fpsim.formats.names import get_format
from fpsim.formats.random_bits import RandomBits
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.unit import MacUnit, get_unit, preset_names, unit_names
from fpsim.units.spec import MacSpec

__version__ = "0.1.0"

__all__ = [
    "BlockFormat",
    "FixedFormat",
    "FloatFormat",
    "FpsimError",
    "MacSpec",
    "MacUnit",
    "Overflow",
    "Quantized",
    "RandomBits",
    "Rounding",
    "__version__",
    "format_table",
    "get_block_format",
    "get_format",
    "get_unit",
    "oracle",
    "preset_names",
    "unit_names",
]


def __getattr__(name: str) -> Any:
    if name == "bridge":
        return import_module("fpsim.bridge")
    raise AttributeError(f"module 'fpsim' has no attribute {name!r}")
