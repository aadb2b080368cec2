# SPDX-License-Identifier: Apache-2.0
"""The steps from the inputs of one vector of an operation to its results, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fpsim import oracle
from fpsim.blocks.grids import Table
from fpsim.formats.floating import FloatFormat, Format
from fpsim.formats.names import get_format
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.oracle import Node, numbers
from fpsim.vectors.operations.operation import FLOAT32, Convert, Operation, Quantize, TwoOperand
from fpsim.vectors.sets.status_flags import flag_names
from fpsim.vectors.sets.word_layout import Columns

__all__ = ["way"]

#: Most elements of a block that are shown.
MAX_SHOWN = 8


def way(operation: Operation, columns: Columns, found: Columns) -> Iterator[str]:
    """Yield the steps to the results of one vector.

    Args:
        operation: the operation of the vector.
        columns: the vector's fields, one row.
        found: the vector's results, one row.

    Yields:
        Lines of text: the exact number, its neighbours in the target, result and flags; for a
        quantizer the largest magnitude, scales and elements.
    """
    if isinstance(operation, Quantize):
        yield from _quantized(operation, columns, found)
    elif isinstance(operation, Convert | TwoOperand):
        exact = operation.exact(columns)[0]
        target = operation.target if isinstance(operation, Convert) else operation.result
        yield f"exact   {_text(exact)}"
        yield from _rounded(exact, target, operation.rounding, operation.overflow)
        code = int(found["y"][0])
        yield f"result  {_text(oracle.decode(code, target))}, code {code:x}"
        yield f"flags   {flag_names(int(found['flags'][0]))}"


def _text(number: oracle.Number) -> str:
    return Node(0, "", number).text


def _rounded(
    exact: oracle.Number, target: Format, rounding: Rounding, overflow: Overflow
) -> Iterator[str]:
    """Yield a number's two neighbours, its place between them, and the rounding."""
    if exact.magnitude is None:
        return
    end = numbers.decode(_end(target, exact.negative), target)
    if exact.magnitude > abs(end.value):
        # For negative numbers the end is the least value; if the format has none, zero.
        what = "least" if exact.negative else "largest"
        yield f"beyond the {what}, {_text(end)}: {overflow}"
        return
    ends = []
    for mode in (Rounding.RDN, Rounding.RUP):
        code = numbers.encode(exact, target, mode, Overflow.SATURATE)
        ends.append(numbers.decode(code, target))
    low, high = ends
    if low.value == high.value:
        exactly = low.value == exact.value
        yield f"exact in {target.name}" if exactly else f"below the smallest, {_text(low)}"
        return
    part = (exact.value - low.value) / (high.value - low.value)
    yield f"between {_text(low)} and {_text(high)}, {float(part):.6g} of the way up: {rounding}"


def _end(target: Format, negative: bool) -> int:
    """Return the code of the last finite number with a sign."""
    if isinstance(target, FloatFormat):
        if not negative:
            return target.max_code
        return target.max_code | target.sign_bit if target.signed else 0
    return target.min_integer % (1 << target.width) if negative else target.max_integer


def _quantized(operation: Quantize, columns: Columns, found: Columns) -> Iterator[str]:
    fmt = operation.format
    x = operation.source.decode(columns["x"])[0]
    sides = [("", np.ones(x.size, dtype=bool), "scales")]
    if fmt.signs:
        below = np.signbit(x)
        sides = [("positive ", ~below, "scales"), ("negative ", below, "negative_scales")]
    for name, side, field in sides:
        if not side.any():
            continue
        top = int(np.argmax(np.where(side, np.abs(x), -1)))
        yield f"largest {name}magnitude {abs(x[top]):.9g}, of element {top}; maps to {fmt.limit:g}"
        codes = " ".join(f"{code:x}" for code in found[field][0].tolist())
        shown = operation.texts(field, found[field][0]) if field == "scales" else []
        yield f"{name}scale code {codes}" + f" = {' '.join(shown)}" * bool(any(shown))
    if fmt.is_coded or fmt.macro is not None or isinstance(fmt.element, Table):
        return
    assert fmt.scale is not None
    outer = 1.0
    if operation.has_tensor_scale:
        outer = float(get_format(FLOAT32).decode(columns["tensor_scale"])[0])
        yield f"under the tensor scale {outer:.9g}"
    for lane in range(min(x.size, MAX_SHOWN)):
        negative = fmt.signs and bool(np.signbit(x[lane]))
        held = found["negative_scales" if negative else "scales"][0]
        scale = float(fmt.scale.decode(held)[0]) * outer
        code = int(found["codes"][0][lane])
        with np.errstate(all="ignore"):
            scaled = np.float64(x[lane]) / scale
        value = float(fmt.element.decode(np.array([code], dtype=fmt.element.dtype))[0])
        quotient = f"{x[lane]:.9g} / {scale:.9g} = {scaled:.9g}"
        yield f"element {lane}: {quotient} -> {value:g}, code {code:x}"
    if x.size > MAX_SHOWN:
        yield f"... {x.size - MAX_SHOWN} more elements"
