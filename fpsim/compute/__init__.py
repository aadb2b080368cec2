# SPDX-License-Identifier: Apache-2.0
"""How a unit's product is computed.

Operands are checked; a plan proves a kernel exact for them; lanes, limbs or scalar code run it.
"""

from fpsim.base.compiling import announce_compiling

announce_compiling()
