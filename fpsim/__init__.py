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
from typing import TYPE_CHECKING, Any

from fpsim.base.errors import FpsimError

if TYPE_CHECKING:
    from fpsim import oracle
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


#: Where names come from; each is imported when it is first used, so that ``import fpsim`` is quick
#: and the oracle needs no compiler.
_MODULES = {
    "BlockFormat": "blocks.block_format",
    "FixedFormat": "formats.floating",
    "FloatFormat": "formats.floating",
    "MacSpec": "units.spec",
    "MacUnit": "unit",
    "Overflow": "formats.rounding",
    "Quantized": "blocks.block_format",
    "RandomBits": "formats.random_bits",
    "Rounding": "formats.rounding",
    "format_table": "blocks.describe",
    "get_block_format": "blocks.block_format",
    "get_format": "formats.names",
    "get_unit": "unit",
    "preset_names": "unit",
    "unit_names": "unit",
}


def __getattr__(name: str) -> Any:
    if name in ("bridge", "oracle"):
        return import_module(f"fpsim.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module 'fpsim' has no attribute {name!r}")
    found = getattr(import_module(f"fpsim.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "bridge"})
