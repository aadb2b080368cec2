# SPDX-License-Identifier: Apache-2.0
"""fpsim: a bit-exact simulator and RTL reference model of FP4 hardware.

fpsim.get_format("e2m1")          the meaning of codes: decode, encode
fpsim.format_table("e2m1")        every code of a format as text
fpsim.get_block_format("mxfp4")   elements that share a scale: quantize, dequantize
fpsim.get_unit("e2m1-chain-e5m10")  a MAC unit on codes: dot, matmul, accumulate
fpsim.oracle.dot(unit, a, b)      a dot product in exact rationals
fpsim.vectors                     golden vectors: plan, write, read, check, explain
fpsim.bridge                      whole transformers on a unit (imports torch when first used)
fpsim.hdl, .plots, .testing       RTL and benches; pictures; checks of code of your own
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fpsim.base.errors import FpsimError

__version__ = "0.2.0"

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
    "bridge",
    "format_table",
    "get_block_format",
    "get_format",
    "get_unit",
    "hdl",
    "oracle",
    "plots",
    "preset_names",
    "testing",
    "unit_names",
    "vectors",
]

if TYPE_CHECKING:
    from fpsim import bridge, hdl, oracle, plots, testing, vectors
    from fpsim.blocks.block_format import BlockFormat, Quantized, get_block_format
    from fpsim.blocks.describe import format_table
    from fpsim.formats.floating import FixedFormat, FloatFormat
    from fpsim.formats.names import get_format
    from fpsim.formats.random_bits import RandomBits
    from fpsim.formats.rounding import Overflow, Rounding
    from fpsim.unit import MacUnit, get_unit, preset_names, unit_names
    from fpsim.units.spec import MacSpec
else:
    from fpsim.base.lazy_names import lazy_names

    #: Nothing else is imported before it is used, so that ``import fpsim`` is quick and the oracle
    #: needs no compiler.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "BlockFormat": "fpsim.blocks.block_format",
            "FixedFormat": "fpsim.formats.floating",
            "FloatFormat": "fpsim.formats.floating",
            "MacSpec": "fpsim.units.spec",
            "MacUnit": "fpsim.unit",
            "Overflow": "fpsim.formats.rounding",
            "Quantized": "fpsim.blocks.block_format",
            "RandomBits": "fpsim.formats.random_bits",
            "Rounding": "fpsim.formats.rounding",
            "bridge": "fpsim.bridge",
            "format_table": "fpsim.blocks.describe",
            "get_block_format": "fpsim.blocks.block_format",
            "get_format": "fpsim.formats.names",
            "get_unit": "fpsim.unit",
            "hdl": "fpsim.hdl",
            "oracle": "fpsim.oracle",
            "plots": "fpsim.plots",
            "preset_names": "fpsim.unit",
            "testing": "fpsim.testing",
            "unit_names": "fpsim.unit",
            "vectors": "fpsim.vectors",
        },
        __all__,
    )
