# SPDX-License-Identifier: Apache-2.0
"""Verify the reference RTL of a unit: vectors in, verdict out."""

from __future__ import annotations

from pathlib import Path

from fpsim import vectors
from fpsim.hdl.replay import Progress, ReplayResult, replay
from fpsim.unit import MacUnit

__all__ = ["verify"]


def verify(
    unit: MacUnit,
    simulator: str,
    build: Path,
    vectors_dir: Path | None = None,
    progress: Progress | None = None,
) -> ReplayResult:
    """Replay vectors of ``unit`` through its RTL, generating them (seed 1) if none are given.

    Builds land in ``build/<unit>-<simulator>`` and are used again while nothing changes.

    Raises:
        FpsimError: as `fpsim.hdl.replay.replay` and `fpsim.vectors.generate`.
    """
    if vectors_dir is None:
        made = vectors.generate(unit, exponents=True)
        vectors_dir = vectors.write(made, build / "vectors" / unit.name)
    directory = build / f"{unit.name}-{simulator}"
    return replay(unit.spec, vectors_dir, simulator, build_dir=directory, progress=progress)
