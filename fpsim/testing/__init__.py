# SPDX-License-Identifier: Apache-2.0
"""Checks of your own quantizer, matrix product or C function against a format or a unit.

check_rounding      values to codes, or values to values, in any format and rounding mode
check_block_cast    tensors to codes and scales, or to dequantized values
check_dot           dot products and matrix products against a unit, bit for bit
check_stochastic    stochastic rounding: every random integer, or a stated confidence
check_c             a C function, compiled and run in a process of its own

The names of `fpsim.testing.strategies`, Hypothesis strategies, are names of this module too:
``testing.units()`` works; they need ``pip install 'fpsim[testing]'``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fpsim.testing.block_cast import check_block_cast
    from fpsim.testing.c_function import check_c
    from fpsim.testing.contract import ContractError
    from fpsim.testing.dot import check_dot
    from fpsim.testing.result import CheckResult, Counterexample, Mistake, Property
    from fpsim.testing.rounding import check_rounding
    from fpsim.testing.stochastic import check_stochastic

__all__ = [
    "CheckResult",
    "ContractError",
    "Counterexample",
    "Mistake",
    "Property",
    "check_block_cast",
    "check_c",
    "check_dot",
    "check_rounding",
    "check_stochastic",
]

#: Modules of the names. Each is imported at its first use, because pytest imports the plugin beside
#: this module in every run.
_MODULES = {
    "CheckResult": "result",
    "ContractError": "contract",
    "Counterexample": "result",
    "Mistake": "result",
    "Property": "result",
    "check_block_cast": "block_cast",
    "check_c": "c_function",
    "check_dot": "dot",
    "check_rounding": "rounding",
    "check_stochastic": "stochastic",
}


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    if name in _MODULES:
        return getattr(import_module(f"fpsim.testing.{_MODULES[name]}"), name)
    strategies = import_module("fpsim.testing.strategies")
    if name in strategies.__all__:
        return getattr(strategies, name)
    raise AttributeError(f"module 'fpsim.testing' has no attribute {name!r}")
