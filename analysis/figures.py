# SPDX-License-Identifier: Apache-2.0
"""Draw the figure of every study from its kept numbers; ``--fresh`` measures them anew.

python analysis/figures.py [--fresh] [--workers N]
"""

from __future__ import annotations

import sys

import accumulator_width
import asymmetry
import block_size
import error_against_format
import order_and_rounding
import simulator_time
import study

STUDIES = (
    error_against_format,
    block_size,
    accumulator_width,
    order_and_rounding,
    asymmetry,
    simulator_time,
)

if __name__ == "__main__":
    sys.exit(study.main(*STUDIES))
