# SPDX-License-Identifier: Apache-2.0
"""Features of the processor: found once, then passed to every planner and generator of code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from llvmlite import binding
from numba.core import config as numba_config

from fpsim.base.hashed_once import hashed_once

__all__ = ["Machine"]

#: The x86 features that code is chosen by; other processors have none of them.
_FEATURES = ("ssse3", "f16c", "avx512f", "avx512vnni", "avx512fp16")


@hashed_once
@dataclass(frozen=True)
class Machine:
    """A processor, by LLVM's names of its features; `host` is the one that Numba compiles for.

    ``float32_bits`` is how many significant bits a float32 lane is trusted with. Tests lower it to
    see the next wider step of a planner, and raise it to see a wrong bound give wrong bits.
    """

    features: frozenset[str] = frozenset()
    float32_bits: int = 24

    @classmethod
    @cache
    def host(cls) -> Machine:
        """Return this processor, or the one that NUMBA_CPU_NAME and NUMBA_CPU_FEATURES describe.

        A feature counts where the processor has it and the compiler may use it.
        """
        config: Any = numba_config
        found = {name for name, on in binding.get_host_cpu_features().items() if on}
        if not config.ENABLE_AVX:
            found = {name for name in found if not name.startswith("avx")}
        if config.CPU_FEATURES is not None:
            found &= {name[1:] for name in config.CPU_FEATURES.split(",") if name[:1] == "+"}
        elif config.CPU_NAME not in (None, "host", binding.get_host_cpu_name()):
            # LLVM does not say which features a processor of another name has: assume the least.
            found = set()
        return cls(frozenset(found))

    def without(self, *features: str) -> Machine:
        """Return a processor that lacks some features."""
        return Machine(self.features - set(features), self.float32_bits)

    @property
    def directed(self) -> bool:
        """Whether 64-byte sums and conversions carry a rounding mode of their own (AVX-512F)."""
        return "avx512f" in self.features

    @property
    def with_mode(self) -> Machine:
        """The processor while its own rounding mode is set: as if instructions carried it."""
        return replace(self, features=self.features | {"avx512f"})

    @property
    def half_lanes(self) -> bool:
        """Whether lanes of float16 multiply and add (AVX512-FP16)."""
        return "avx512fp16" in self.features

    @property
    def converts_half(self) -> bool:
        """Whether float32 lanes round to float16 and back (F16C)."""
        return "f16c" in self.features

    @property
    def byte_dots(self) -> bool:
        """Whether an instruction adds four products of bytes to an integer (AVX512-VNNI)."""
        return self.directed and "avx512vnni" in self.features

    @property
    def byte_pairs(self) -> bool:
        """Whether bytes are multiplied, and pairs of products added, in 16 bits (AVX2)."""
        return not self.directed and "avx2" in self.features

    @property
    def byte_shuffles(self) -> bool:
        """Whether an instruction looks bytes up in a table of sixteen (SSSE3)."""
        return "ssse3" in self.features

    @property
    def word_shuffles(self) -> bool:
        """Whether an instruction moves 32-bit words anywhere in a register (AVX2, AVX-512F)."""
        return self.directed or "avx2" in self.features

    @property
    def register_bits(self) -> int:
        """The register width worth generating code for: 512 with AVX-512, else 256."""
        return 512 if self.directed else 256
