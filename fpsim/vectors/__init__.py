# SPDX-License-Identifier: Apache-2.0
"""Golden vectors: corner classes, seeded sequences, files with checksums."""

from __future__ import annotations

from fpsim.vectors.files.files import check, digests, read, write
from fpsim.vectors.sets.generate import generate
from fpsim.vectors.sets.plans import STRATEGIES
from fpsim.vectors.sets.stream import Field, Op, Section, VectorSet

__all__ = [
    "STRATEGIES",
    "Field",
    "Op",
    "Section",
    "VectorSet",
    "check",
    "digests",
    "generate",
    "read",
    "write",
]
