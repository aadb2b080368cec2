# SPDX-License-Identifier: Apache-2.0
"""Matrix products of cast operands on a simulated unit, differentiable straight through the casts.

The user's unit says how products are accumulated; the operands have their own element and scale
formats. `derived_unit` joins both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray

from fpsim.bridge.cast import same_blocks
from fpsim.bridge.offsets import add_offsets
from fpsim.compute.lanes.pack import keep
from fpsim.compute.matmul import matmul_codes
from fpsim.compute.operands import MatmulOperands, Prepared
from fpsim.compute.plan import Plan
from fpsim.formats.floating import Format
from fpsim.formats.names import E8M0, get_format
from fpsim.formats.random_bits import RandomBits
from fpsim.unit import MacUnit
from fpsim.units.operands import Operand, Scales, sides
from fpsim.units.spec import Evidence, MacSpec, SignSplit

__all__ = [
    "Product",
    "derived_unit",
    "float_rows",
    "is_recomputing",
    "replace_values",
    "straight_through",
    "zero_columns",
    "zero_correction",
]


#: Rows of activations up to which packing the weight for a kernel takes as long as the product.
FEW_ROWS = 16


@dataclass(frozen=True)
class Product:
    """Products on one unit; `run` returns the plan of the kernel too.

    A unit that rounds stochastically takes random bits from a seed, the CRC-32 of
    ``seed/number/name``: every layer and every pass of a layer draws different bits, and a model
    that is converted again draws equal ones.
    """

    unit: MacUnit
    name: str = ""  #: name of the layer
    seed: int = 0  #: the user's seed
    number: int = 0  #: number of the pass
    zeros_on_unit: bool = False  #: zero points become further columns of K, see `zero_columns`

    def run(self, a: Operand, b: Operand, first: int = 0) -> tuple[NDArray[np.float32], Plan]:
        """Multiply rows by rows: a b^T.

        The accumulator is decoded to float32 (rounded once if it is wider), and multiplied by the
        factor of ``a``, then by that of ``b``. Zero points and offsets are added first: exactly, as
        integers (with one rounding of the sum), or zero points in a separate product on the unit,
        whose float32 result is added.

        Args:
            a: rows (M, K).
            b: rows (N, K).
            first: number of the first result among the results of one name.

        Returns:
            The product (M, N) with factors, and the plan.
        """
        unit, args = self.checked(a, b, first)
        result, plan = matmul_codes(unit.spec, args)
        pointed = a.zeros is not None or b.zeros is not None
        offset = a.offsets is not None or b.offsets is not None
        if not (pointed or offset):
            out = _as_float32(unit.result, result)
        else:
            wide = unit.result.decode(result)
            if pointed and self.zeros_on_unit:
                there = _as_float32(unit.result, result) + self._zero_columns(a, b, first)
                wide = there.astype(np.float64)
            elif pointed:
                wide = wide + zero_correction(a, b)
            out = add_offsets(wide, a, b) if offset else wide.astype(np.float32)
        if a.factor is not None:
            out = out * a.factor
        if b.factor is not None:
            out = out * b.factor.T
        return out, plan

    def checked(self, a: Operand, b: Operand, first: int = 0) -> tuple[MacUnit, MatmulOperands]:
        """Check the operands of `run` without computing; raise the errors of `run`.

        Args:
            a: rows (M, K).
            b: rows (N, K).
            first: number of the first result among the results of one name.

        Returns:
            The unit with the operands' formats, and the keyword arguments of its product.
        """
        a, b = same_blocks(a, b)
        unit = derived_unit(self.unit, a, b)
        if len(a.codes) <= FEW_ROWS:
            keep(b.columns)
        args = MatmulOperands.check(
            unit.spec,
            a.codes,
            Prepared(b.columns, sides(unit.spec)[1], None),
            a_scale=None if a.scales is None else a.scales.given,
            block=None if a.scales is None else a.block,
            random=self._random(first) if unit.spec.random_bits else None,
        )
        return unit, args

    def _zero_columns(self, a: Operand, b: Operand, first: int) -> NDArray[np.float32]:
        unit, args = self.checked(*zero_columns(a, b), first)
        result, _ = matmul_codes(unit.spec, args)
        return _as_float32(unit.result, result)

    def _random(self, first: int) -> RandomBits:
        return RandomBits(crc32(f"{self.seed}/{self.number}/{self.name}".encode()), first)


def zero_correction(a: Operand, b: Operand) -> NDArray[np.float64]:
    """Return the contribution of zero points to the sum of products of codes, (M, N): integers.

    With codes q and zero points z of both: sum (q_a - z_a)(q_b - z_b) = sum q_a q_b
    - z_a sum q_b - z_b sum q_a + K z_a z_b.
    """
    length = a.codes.shape[1]
    total = np.zeros((a.codes.shape[0], b.codes.shape[0]))
    if a.zeros is not None:
        total -= a.zeros * _sums(b).T
    if b.zeros is not None:
        total -= _sums(a) * b.zeros.T
    if a.zeros is not None and b.zeros is not None:
        total += length * a.zeros * b.zeros.T.astype(np.float64)
    return total


def _sums(operand: Operand) -> NDArray[np.float64]:
    """Return the sum of each row's codes, (R, 1), exact."""
    return np.asarray(operand.scaled_values().sum(axis=1, keepdims=True))


#: Bits of a digit of `zero_columns`, and of the integers with balanced digits.
_DIGIT_BITS, _DIGIT = 4, "int5"


def zero_columns(a: Operand, b: Operand) -> tuple[Operand, Operand]:
    """Return `zero_correction` as operands: further columns of K for the unit.

    Sums and zero points are cut into balanced digits of base 16, each a separate block with a power
    of two as scale; each operand's zero point meets every digit of the other's row sum.
    """
    length = a.codes.shape[1]
    left, right = [], []
    if a.zeros is not None:
        there = _sums(b)
        if b.zeros is not None:
            there = there - length * b.zeros
        left.append(-a.zeros.astype(np.float64))
        right.append(there)
    if b.zeros is not None:
        left.append(_sums(a))
        right.append(-b.zeros.astype(np.float64))
    columns_a, columns_b = [], []
    for x, y in zip(left, right, strict=True):
        for digit_a, i in _digits(x):
            for digit_b, j in _digits(y):
                columns_a.append((digit_a, i))
                columns_b.append((digit_b, j))
    return _columns(columns_a), _columns(columns_b)


def _digits(values: NDArray[np.float64]) -> list[tuple[NDArray[np.int64], int]]:
    """Return balanced digits -8..7 of a column of integers, with their exponents."""
    rest, base = values.astype(np.int64), 1 << _DIGIT_BITS
    digits: list[tuple[NDArray[np.int64], int]] = []
    while not digits or rest.any():
        digit = (rest + base // 2) % base - base // 2
        digits.append((digit, len(digits)))
        rest = (rest - digit) // base
    return digits


def _columns(columns: list[tuple[NDArray[np.int64], int]]) -> Operand:
    element = get_format(_DIGIT)
    values = np.concatenate([digit for digit, _ in columns], axis=1).astype(np.float64)
    powers = np.array([[127 + _DIGIT_BITS * place for _, place in columns]], np.uint8)
    scales = np.repeat(powers, values.shape[0], axis=0)
    return Operand(element.encode(values), element, Scales.of_rows(scales, E8M0, 1))


def derived_unit(unit: MacUnit, a: Operand, b: Operand) -> MacUnit:
    """Return a unit with the operands' element formats, scale formats and splits.

    Args:
        unit: the unit, which says how products are accumulated.
        a: the first operand.
        b: the second operand.

    Returns:
        The unit that multiplies the operands.
    """
    scales = tuple(E8M0 if x.scales is None else x.scales.format for x in (a, b))
    split = tuple(x.scales is not None and x.scales.split for x in (a, b))
    return _derive(unit.spec, (a.format, b.format), scales, split)


_SPLITS: dict[tuple[bool, ...], SignSplit] = {
    (False, False): SignSplit.NONE,
    (True, False): SignSplit.A,
    (False, True): SignSplit.B,
    (True, True): SignSplit.BOTH,
}


@lru_cache(maxsize=256)
def _derive(
    spec: MacSpec,
    formats: tuple[Format, ...],
    scales: tuple[Format, ...],
    split: tuple[bool, ...],
) -> MacUnit:
    (a, b), (a_scale, b_scale), splits = formats, scales, _SPLITS[split]
    wanted = (a, b, a_scale, b_scale, splits)
    if (spec.a, spec.b, spec.a_scale, spec.b_scale, spec.sign_split) == wanted:
        return MacUnit(spec)
    # Evidence for the user's unit does not cover other operands.
    derived = replace(
        spec, name="", description="", evidence=Evidence.NONE, source="",
        a=a, b=b, a_scale=a_scale, b_scale=b_scale, sign_split=splits,
    )  # fmt: skip
    return MacUnit(derived)


def _as_float32(fmt: Format, codes: NDArray[Any]) -> NDArray[np.float32]:
    if fmt.name == "e8m23":
        return np.ascontiguousarray(codes).view(np.float32)
    if fmt.name == "e5m10":
        halves = torch.from_numpy(np.ascontiguousarray(codes).view(np.float16))
        return halves.float().numpy()  # several times as fast as numpy
    return fmt.decode(codes).astype(np.float32)


# -- torch ---------------------------------------------------------------------------------------


def float_rows(x: torch.Tensor) -> NDArray[np.float32]:
    """Return ``x`` (..., K) as float32 rows (R, K) on the CPU."""
    return x.detach().reshape(-1, x.shape[-1]).to("cpu", torch.float32).contiguous().numpy()


def is_recomputing() -> bool:
    """Whether a layer runs again for a gradient checkpoint, while gradients are computed.

    It must then draw the random bits of the pass that it repeats.
    """
    return bool(torch._C._current_graph_task_id() != -1)


class _StraightThrough(torch.autograd.Function):
    """Batched x w^T, with a given forward result and the backward pass of the cast values.

    Casts count as the identity: d/dx = g w_hat, d/dw = g^T x_hat.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        w: torch.Tensor,
        out: torch.Tensor,
        operands: list[tuple[Operand, Operand]],
    ) -> torch.Tensor:
        ctx.operands = operands
        ctx.dtypes = x.dtype, w.dtype
        # Returned unchanged, an input would become a view, which models cannot change in place.
        return out.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        into_x, into_w = [], []
        for g, (a, b) in zip(grad, ctx.operands, strict=True):
            if ctx.needs_input_grad[0]:
                into_x.append(g.float() @ _tensor(b))
            if ctx.needs_input_grad[1]:
                into_w.append(g.float().T @ _tensor(a))
        x_type, w_type = ctx.dtypes
        x = torch.stack(into_x).to(x_type) if into_x else None
        w = torch.stack(into_w).to(w_type) if into_w else None
        return x, w, None, None


def _tensor(operand: Operand) -> torch.Tensor:
    return torch.from_numpy(operand.dequantize().astype(np.float32))


def straight_through(
    x: torch.Tensor,
    w: torch.Tensor,
    out: torch.Tensor,
    operands: list[tuple[Operand, Operand]],
) -> torch.Tensor:
    """Make a result computed elsewhere a differentiable function of its operands.

    Args:
        x: (B, M, K).
        w: (B, N, K).
        out: (B, M, N).
        operands: cast operands of each batch entry.

    Returns:
        ``out``, with gradients that treat casts as the identity.
    """
    if not (torch.is_grad_enabled() and (x.requires_grad or w.requires_grad)):
        return out
    result: torch.Tensor = _StraightThrough.apply(x, w, out, operands)  # type: ignore[no-untyped-call]
    return result


class _Replace(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grad, None


def replace_values(x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return ``values``, with the gradient passed to ``x`` unchanged."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return values
    result: torch.Tensor = _Replace.apply(x, values)  # type: ignore[no-untyped-call]
    return result
