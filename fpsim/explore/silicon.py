# SPDX-License-Identifier: Apache-2.0
"""Hardware costs of a unit: its reference RTL, mapped, and simulated on a model's operands."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fpsim.base.errors import FpsimError
from fpsim.explore.activity import Netlist
from fpsim.formats.names import E8M0
from fpsim.hdl.rtl import yosys
from fpsim.hdl.rtl.parameters import RtlTop, rtl_top
from fpsim.hdl.rtl.synthesis import synthesise
from fpsim.unit import MacUnit
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Chain, Fixed

if TYPE_CHECKING:
    from fpsim.units.operands import Operand

__all__ = ["Silicon", "silicon", "top_for"]

#: Dot products simulated side by side, and most products taken of each.
STREAMS, CLOCKS = 64, 256


@dataclass(frozen=True)
class Silicon:
    """Costs of one unit; ``why`` gives the reason for missing costs or energy.

    Attributes:
        top: name of the top module.
        lanes: products per clock.
        area: NAND2 equivalents of the whole design.
        depth: cells on the longest path.
        flipflops: number of flip-flops.
        energy: energy per product, in toggles of a NAND2 (`fpsim.explore.activity`); None if not
            measured.
        why: one line on missing costs.
    """

    top: str = ""
    lanes: int = 0
    area: float | None = None
    depth: int | None = None
    flipflops: int | None = None
    energy: float | None = None
    why: str = ""

    @property
    def area_per_product(self) -> float | None:
        """Area over products per clock."""
        return None if self.area is None else self.area / self.lanes

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return asdict(self) | {"area_per_product": self.area_per_product}


def top_for(spec: MacSpec, scaled: bool) -> tuple[RtlTop, int]:
    """Return the RTL that multiplies a unit's operands directly, and its products per clock.

    Args:
        spec: the unit with the operands' formats and scales.
        scaled: whether operands have scales that differ along K.

    Raises:
        FpsimError: a unit that the RTL does not implement, or not with the given scales.
    """
    stage = spec.accumulate
    if not isinstance(stage, Chain | Fixed):
        top = rtl_top(spec)
        return top, int(top.parameters.get("LANES", 1))
    if scaled and (spec.a_scale, spec.b_scale) != (E8M0, E8M0):
        if isinstance(stage, Fixed):
            raise FpsimError("rtl: a fixed-point unit has no scales but powers of two")
        return rtl_top(spec, stream=True, scaled=True), 1
    top = rtl_top(spec)
    if not scaled and "SCALE_W" in top.parameters:  # then no exponent input
        top = replace(top, parameters=top.parameters | {"SCALE_W": 0})
    return top, 1


def silicon(unit: MacUnit, operands: tuple[Operand, Operand] | None, scaled: bool) -> Silicon:
    """Map a unit's RTL and, if it is a plain multiply-accumulator, simulate it on operands.

    Args:
        unit: the unit, with the operands' formats and scales.
        operands: cast input and weight of a layer; None: energy is not measured.
        scaled: whether operands have scales that differ along K.

    Returns:
        The costs, or the reason why there are none.

    Raises:
        FpsimError: RTL that Yosys refuses, or a netlist with results other than the unit's.
    """
    if not yosys.available():
        return Silicon(why="Yosys is not installed")
    try:
        top, lanes = top_for(unit.spec, scaled)
    except FpsimError as error:
        return Silicon(why=str(error))
    with tempfile.TemporaryDirectory(prefix="fpsim-silicon-") as scratch:
        cost = synthesise(top, Path(scratch))
        energy, why = None, ""
        if operands is not None and top.name.startswith("mac_"):
            energy = _energy(unit, top, Netlist(Path(scratch) / "netlist.json", top.name), operands)
        elif operands is not None:
            why = "energy is measured of multiply-accumulators (mac_...) only"
    return Silicon(top.name, lanes, cost.area, cost.depth, cost.flipflops, energy, why)


def _energy(
    unit: MacUnit, top: RtlTop, netlist: Netlist, operands: tuple[Operand, Operand]
) -> float:
    """Return energy per product for dot products of rows with rows, and check their results."""
    a, b = operands
    length = min(CLOCKS, a.codes.shape[1])
    rows = np.arange(STREAMS)
    first, second = rows % a.codes.shape[0], (rows * 7) % b.codes.shape[0]
    codes_a, codes_b = a.codes[first, :length], b.codes[second, :length]
    exponents = _exponents(a, length)[first] + _exponents(b, length)[second]
    width = top.inputs["exp_i"]
    idle: dict[str, list[int]] = {"op_i": [1]}  # clear
    stimuli = [idle] + [
        {
            "op_i": [2],
            "a_i": codes_a[:, k].tolist(),
            "b_i": codes_b[:, k].tolist(),
            "exp_i": (exponents[:, k] & ((1 << width) - 1)).tolist(),
        }
        for k in range(length)
    ]
    seen, activity = netlist.run(stimuli, STREAMS, "acc_o")
    scales: dict[str, Any] = {}
    if a.scales is not None or b.scales is not None:
        # A scale per product is the exponent input.
        code = (exponents + _BIAS).astype(np.uint8)
        scales = {"a_scale": code, "b_scale": np.full_like(code, _BIAS), "block": 1}
    wanted = unit.dot(codes_a, codes_b, **scales)
    if seen != np.asarray(wanted).astype(np.uint64).tolist():
        raise FpsimError(f"netlist: {top.name} does not compute what {unit.name} does")
    return activity.energy


#: Code of 1 in E8M0.
_BIAS = 127


def _exponents(operand: Operand, length: int) -> np.ndarray[Any, Any]:
    """Return the exponent of each element's scale (R, length)."""
    shape = (operand.codes.shape[0], length)
    if operand.scales is None:
        return np.zeros(shape, dtype=np.int64)
    return operand.scales.spread(1, length)[..., 0].astype(np.int64) - _BIAS
