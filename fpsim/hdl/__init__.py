# SPDX-License-Identifier: Apache-2.0
"""Hardware: simulators, the reference RTL of a unit, and golden vectors replayed through it.

    simulator.find, .available          the simulators of this machine
    parameters.rtl_top                  the SystemVerilog of a unit: module, parameters, sources
    instantiation.instantiation         the text that instantiates it
    replay.replay                       vectors through it, every bit of every clock compared

Only the modules below `inside/` run in the simulator's process.
"""

from __future__ import annotations
