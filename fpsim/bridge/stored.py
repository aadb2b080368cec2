# SPDX-License-Identifier: Apache-2.0
"""Reads calibrations of every kind from files."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from fpsim.bridge.llmfp4.calibration import Calibration
from fpsim.bridge.systems.file import SCHEMA, SystemCalibration

__all__ = ["AnyCalibration", "load_calibration"]

#: Results of `fpsim.bridge.calibrate`: constants of LLM-FP4, or forms of a system.
AnyCalibration = Calibration | SystemCalibration


def load_calibration(path: str | Path) -> AnyCalibration:
    """Read a file written by `fpsim calibrate`.

    Raises:
        FpsimError: a file that is missing, is no calibration, or is not complete.
    """
    try:
        with safe_open(str(path), "np") as file:
            schema = (file.metadata() or {}).get("fpsim")
    except (OSError, SafetensorError):
        schema = None  # the reader below reports the fault
    return SystemCalibration.load(path) if schema == SCHEMA else Calibration.load(path)
