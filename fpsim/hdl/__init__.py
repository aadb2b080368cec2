# SPDX-License-Identifier: Apache-2.0
"""Hardware: simulators, the reference RTL of a unit, and any design held to a unit's vectors.

    simulator.find, .available          the simulators of this machine
    parameters.rtl_top                  the SystemVerilog of a unit: module, parameters, sources
    instantiation.instantiation         the text that instantiates it; .package: its parameters
    synthesis.synthesise                its area, depth and flip-flops, by Yosys
    proof.prove                         a leaf of it equal to the oracle for every input, by SAT
    fault_runs.report                   mistakes put into it, and the vector that finds each
    dut_toml.read_dut, dut.Dut          a design under test: sources, ports, protocol
    reference.reference_dut             the reference RTL as one
    verify.verify_design                vectors through a design, its first mismatch explained
    replay.replay                       a directory of vectors, every bit of every result compared
    Adapter                             beats of a design that a table of ports cannot describe
    Driver, Monitor, Scoreboard         a cocotb library for benches that you write

The cocotb library is `fpsim.hdl.inside.fpsim_cocotb`; it is imported when first used, so this
package does without cocotb. Only the modules below `inside/` run in the simulator's process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["Adapter", "Driver", "Mismatch", "Monitor", "Scoreboard", "apply_reset", "unknown_bits"]

if TYPE_CHECKING:
    from fpsim.hdl.dut.adapter import Adapter
    from fpsim.hdl.inside.fpsim_cocotb import (
        Driver,
        Mismatch,
        Monitor,
        Scoreboard,
        apply_reset,
        unknown_bits,
    )
else:
    from fpsim.base.lazy_names import lazy_names

    __getattr__, __dir__ = lazy_names(
        __name__,
        dict.fromkeys(__all__, "fpsim.hdl.inside.fpsim_cocotb")
        | {"Adapter": "fpsim.hdl.dut.adapter"},
        __all__,
    )
