# SPDX-License-Identifier: Apache-2.0
"""Golden vectors: corner classes, seeded sequences, files with checksums."""

from __future__ import annotations

from fpsim.vectors.files import check, digests, read, write
from fpsim.vectors.generate import generate
from fpsim.vectors.plans import STRATEGIES
from fpsim.vectors.stream import Field, Op, Section, VectorSet

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
