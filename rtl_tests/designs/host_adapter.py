# SPDX-License-Identifier: Apache-2.0
"""The adapter of dot4 for vectors of four products: a clear, then a beat; the sum is inverted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from fpsim.hdl import Adapter
from fpsim.vectors.sets.record import Op


class Host(Adapter):
    """Tells dot4 what to do."""

    inputs: ClassVar[Mapping[str, int]] = {"cmd": 2, "x": 16, "w": 16}
    outputs: ClassVar[Mapping[str, int]] = {"y": 24}

    def takes(self, vector: Mapping[str, Any]) -> bool:
        return vector["op"] == Op.DOT and vector["c"] == 0

    def beats(self, vector: Mapping[str, Any]) -> Sequence[Mapping[str, int]]:
        packed = {
            port: sum(code << (12 - 4 * lane) for lane, code in enumerate(vector[operand]))
            for port, operand in (("x", "a"), ("w", "b"))
        }
        return [{"cmd": 2}, {"cmd": 1, **packed}]

    def result(self, vector: Mapping[str, Any]) -> Mapping[str, int]:
        return {"y": int.from_bytes(vector["acc"].to_bytes(3, "little"), "big")}

    def code(self, seen: Mapping[str, int]) -> int:
        return int.from_bytes(seen["y"].to_bytes(3, "little"), "big")
