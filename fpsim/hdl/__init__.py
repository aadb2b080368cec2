# SPDX-License-Identifier: Apache-2.0
"""Hardware: simulators, the reference RTL of a unit, and replay of golden vectors through cocotb.

Nothing is imported here, so that the simulation process, which loads `fpsim.hdl.bench`, stays light.
"""

from __future__ import annotations
