# SPDX-License-Identifier: Apache-2.0
"""Coverage of vectors of an operation: kinds of operands and results, flags, elements."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.vectors.coverage.set_coverage import Bin
from fpsim.vectors.operations.operation import Convert, Operation, Quantize, TwoOperand
from fpsim.vectors.operations.operation_mutants import (
    distinct_inputs,
    every_input,
    possible_flags,
)
from fpsim.vectors.sets.status_flags import FLAG_CODES
from fpsim.vectors.sets.word_layout import Columns

__all__ = ["OperationCoverage", "operation_coverage"]

_EVERY = "every input is in the set"


@dataclass(frozen=True)
class OperationCoverage:
    """The bins of a set of vectors of an operation."""

    operation: str
    vectors: int
    bins: tuple[Bin, ...]

    @property
    def complete(self) -> bool:
        """Whether no bin is empty without a reason."""
        return not any(b.missing for b in self.bins)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        bins = {b.name: b.to_dict() for b in self.bins}
        head = {"operation": self.operation, "vectors": self.vectors}
        return head | {"complete": self.complete, "bins": bins}

    def __str__(self) -> str:
        lines = [f"{self.operation}: {self.vectors} vectors"]
        for b in self.bins:
            why = f"  cannot occur: {b.impossible}" if b.impossible and not b.hits else ""
            lines.append(f"  {b.hits:7d}  {b.name}{why}{'  EMPTY' if b.missing else ''}")
        return "\n".join(lines)


def operation_coverage(operation: Operation, columns: Columns) -> OperationCoverage:
    """Return the coverage of vectors of an operation.

    A bin without a hit is impossible if the set holds every possible input.
    """
    hits: Counter[str] = Counter()
    expected: dict[str, None] = {}
    for name, fmt in (operation.inputs | operation.outputs).items():
        if name == "tensor_scale":
            continue
        found = _kinds(fmt, columns[name].reshape(-1))
        hits |= {f"{name}:{kind}": count for kind, count in found.items()}
        expected |= dict.fromkeys(f"{name}:{kind}" for kind in _possible(operation, name, fmt))
    if isinstance(operation, Convert | TwoOperand):
        for flag in possible_flags(operation):
            hits[f"flags:{flag}"] = int(((columns["flags"] & FLAG_CODES[flag]) != 0).sum())
            expected[f"flags:{flag}"] = None
        hits["flags:none"] = int((columns["flags"] == 0).sum())
        expected["flags:none"] = None
    if isinstance(operation, Quantize):
        counts = _of_blocks(operation, columns)
        hits |= counts
        expected |= dict.fromkeys(counts)
    every = every_input(operation)
    whole = every is not None and distinct_inputs(operation, columns) == distinct_inputs(
        operation, every
    )
    bins = [
        Bin(name, hits[name], _EVERY if whole and not hits[name] else None) for name in expected
    ]
    return OperationCoverage(operation.title, len(next(iter(columns.values()))), tuple(bins))


def _possible(operation: Operation, name: str, fmt: Format) -> list[str]:
    """Return the kinds of numbers in a field."""
    if isinstance(fmt, FixedFormat):
        return ["zero", "positive", "least", "largest"] + ["negative"] * fmt.signed
    kinds = ["+zero"] * fmt.has_zero + ["+normal", "+largest"]
    if fmt.mantissa_bits and fmt.subnormals == "gradual":
        kinds.append("+subnormal")
    if fmt.infinity and not isinstance(operation, Quantize):
        kinds.append("+infinity")
    if fmt.signed:
        kinds += [f"-{k[1:]}" for k in kinds if k != "+zero" or fmt.has_negative_zero]
    takes_nan = any(
        isinstance(target, FloatFormat) and target.nan_code is not None
        for target in operation.outputs.values()
    )
    return kinds + ["nan"] * (fmt.nan_code is not None and takes_nan)


def _kinds(fmt: Format, codes: NDArray[Any]) -> dict[str, int]:
    """Return the number of codes of each kind."""
    values = fmt.decode(codes)
    if isinstance(fmt, FixedFormat):
        unit = 2.0**fmt.lsb
        found = {
            "zero": values == 0, "positive": values > 0, "negative": values < 0,
            "least": values == fmt.min_integer * unit, "largest": values == fmt.max_integer * unit,
        }  # fmt: skip
        return {kind: int(mask.sum()) for kind, mask in found.items()}
    magnitude = np.abs(values)
    kinds = {
        "zero": magnitude == 0,
        "subnormal": (magnitude > 0) & (magnitude < 2.0**fmt.exponent_min),
        "normal": (magnitude >= 2.0**fmt.exponent_min) & np.isfinite(values),
        "largest": magnitude == fmt.max_value,
        "infinity": np.isinf(values),
    }
    negative = np.signbit(values)
    found = {f"{sign}{kind}": mask & side for kind, mask in kinds.items()
             for sign, side in (("+", ~negative), ("-", negative))}  # fmt: skip
    found["nan"] = np.isnan(values)
    return {kind: int(mask.sum()) for kind, mask in found.items()}


def _of_blocks(operation: Quantize, columns: Columns) -> dict[str, int]:
    """Return the hits of each element code, and of blocks with codes at the ends."""
    element = operation.format.element
    values = operation.source.decode(columns["x"])
    codes = np.arange(1 << element.bits, dtype=element.dtype)
    usable = np.isfinite(element.decode(codes))
    if isinstance(element, FixedFormat):
        usable = element.decode(codes) >= element.min_integer * 2.0**element.lsb
    counts = np.bincount(columns["codes"].reshape(-1).astype(np.int64), minlength=usable.size)
    found = {f"codes:{code:x}": int(counts[code]) for code in np.flatnonzero(usable)}
    found["blocks:zeros"] = int((values == 0).all(axis=1).sum())
    found["blocks:one element"] = int(((values != 0).sum(axis=1) == 1).sum())
    ends = {"least": operation.source.decode([1])[0], "largest": operation.source.max_value}
    for name, value in ends.items():
        block = operation.source.encode(np.full((1, operation.k), value), "rtz", "saturate")
        inputs = {n: np.full(1, code) for n, code in operation.neutral.items()} | {"x": block}
        scale = operation.results(inputs)["scales"][0]
        found[f"scales:{name}"] = int((columns["scales"] == scale).all(axis=1).sum())
    return found
