# SPDX-License-Identifier: Apache-2.0
"""Draw the figure of every study from its kept numbers; ``--fresh`` measures them anew.

python analysis/figures.py [--fresh] [--workers N]

Four pictures are always drawn from kept numbers: those of `area.py`, `quantization_error.py` and
`recipes.py`, which measure themselves, and the number lines of the README.
"""

from __future__ import annotations

import sys

import accumulator_width
import area
import asymmetry
import block_size
import calibration_cost
import conversations
import drawings
import error_against_format
import fine_tuning
import front
import long_context
import multiple_choice
import order_and_rounding
import papers
import quantization_error
import simulator_time
import study
import systems
import systems_elsewhere
import training

from fpsim import plots
from fpsim.cli import main

STUDIES = (
    error_against_format,
    block_size,
    accumulator_width,
    order_and_rounding,
    papers,
    asymmetry,
    front,
    multiple_choice,
    conversations,
    long_context,
    simulator_time,
    systems,
    systems_elsewhere,
    drawings,
    calibration_cost,
    training,
    fine_tuning,
)
#: Pictures of commands: their words, and the file.
COMMANDS = {
    "formats.svg": ["formats"],
    "recipes.svg": [
        "recipes",
        str(study.RESULTS / "recipes-smollm2-135m.json"),
        "--units",
        "e2m1-exact-e8m23",
    ],
}


def draw_others() -> int:
    """Draw what has no module of a study."""
    for module in (area, quantization_error):
        path = study.RESULTS / f"{module.__name__}.svg"
        print(plots.save(module.kept_figure(study.RESULTS), path), file=sys.stderr)
    return max(
        main(["plot", *words, "--out", str(study.RESULTS / name)])
        for name, words in COMMANDS.items()
    )


if __name__ == "__main__":
    sys.exit(study.main(*STUDIES) or draw_others())
