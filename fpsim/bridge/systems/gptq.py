# SPDX-License-Identifier: Apache-2.0
"""GPTQ (arXiv 2210.17323): round a weight column by column and correct later columns.

Minimised is tr(D H D^T) with D the change of the weight and H = sum x x^T over inputs. With U the
upper Cholesky factor of the inverse of the damped H, column i is rounded to q, and every column j
after it loses U_ij (w_i - q) / U_ii. Scales are fixed before a column is rounded: all from the
given weight, or a group's scale at its first column, from the weights as updated by then (where the
official code reads weights that are up to 127 columns old).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError

__all__ = ["GptqResult", "WeightGrid", "gptq", "inverse_factor", "output_error"]

Matrix = NDArray[np.float64]


class WeightGrid(Protocol):
    """The values that columns of a weight are rounded to."""

    group: int  #: columns per scale that `start` fits; 0: all scales are fixed already

    def start(self, first: int, values: Matrix, importance: Matrix) -> None:
        """Fit the scale of a group of columns.

        Args:
            first: the group's first column.
            values: the group's updated columns, (N, g).
            importance: 1 / U_jj^2 of the columns, (g,).
        """

    def round(self, column: int, values: Matrix) -> Matrix:
        """Return a column's values (N,) rounded, and keep their codes."""


#: Called with (column, its values, the rounded values, U_jj); returns replacements of the rounded
#: ones.
ColumnHook = Callable[[int, Matrix, Matrix, float], Matrix]


@dataclass(frozen=True)
class GptqResult:
    """A weight rounded by `gptq`: ``values`` (N, K); kept columns are updated but not rounded.

    ``loss`` is the sum of (w - q)^2 / U_jj^2 / 2; ``damping`` the share of H's mean diagonal that
    made H invertible, larger than requested if necessary.
    """

    values: Matrix
    loss: float
    damping: float


def inverse_factor(hessian: Matrix, damping: float) -> tuple[Matrix, float]:
    """Return the upper Cholesky factor U of the inverse of H + damping mean(diag H) I.

    Args:
        hessian: (K, K), symmetric; diagonal entries of unused inputs must not be zero.
        damping: share of the mean diagonal; if it is too small it grows tenfold, from 0.01 on, up
            to three times.

    Returns:
        U with U^T U the inverse, and the damping used.

    Raises:
        FpsimError: a matrix that no damping makes positive.
    """
    mean = float(np.diag(hessian).mean())
    for _ in range(4):
        damped = torch.from_numpy(hessian + damping * mean * np.eye(hessian.shape[0]))
        # H = R R^T with R upper; then U is the inverse of R.
        factor, failed = torch.linalg.cholesky_ex(damped.flip(0, 1))
        if not failed and torch.isfinite(factor).all():
            upper = factor.flip(0, 1)
            one = torch.eye(upper.shape[0], dtype=torch.float64)
            return torch.linalg.solve_triangular(upper, one, upper=True).numpy(), damping
        damping = max(10 * damping, 0.01)
    raise FpsimError(f"gptq: the Hessian is not positive, even damped by {damping / 10:g}")


def gptq(
    weight: NDArray[np.floating],
    hessian: Matrix,
    grid: WeightGrid,
    *,
    damping: float = 0.01,
    order: NDArray[np.int64] | None = None,
    block: int = 128,
    keep: int = 0,
    skip: NDArray[np.int64] | None = None,
    hook: ColumnHook | None = None,
) -> GptqResult:
    """Round a weight by GPTQ.

    Args:
        weight: (N, K).
        hessian: (K, K), of any scale.
        grid: rounds columns and keeps their codes.
        damping: share of the mean diagonal added to the diagonal.
        order: permutation of the columns, the order of rounding; None: natural. Scales shared by a
            group must then be fixed.
        block: columns after which later columns are updated; affects results only by float
            roundings.
        keep: so many last columns in the order are updated but never rounded.
        skip: columns that are left out of the problem and do not change.
        hook: may replace the rounded values of a column; the error is taken from the replacements.

    Returns:
        The rounded weight.

    Raises:
        FpsimError: a Hessian of another size, one that is not finite, or one that no damping makes
            positive.
    """
    values = np.array(weight, np.float64)
    count, width = values.shape
    if hessian.shape != (width, width) or not np.isfinite(hessian).all():
        raise FpsimError(f"gptq: the Hessian is not a finite matrix of {width} by {width}")
    every = np.arange(width) if order is None else np.asarray(order, np.int64)
    if skip is not None:
        every = every[~np.isin(every, skip)]
    if grid.group and order is not None:
        raise FpsimError("gptq: groups in another order need scales that are frozen before")
    h = hessian[np.ix_(every, every)].astype(np.float64)
    dead = np.diag(h) == 0
    h[dead, dead] = 1
    work = np.asfortranarray(values[:, every])  # columns are processed one by one
    work[:, dead] = 0
    factor, used = inverse_factor(h, damping)
    last, loss = len(every) - keep, 0.0
    for begin in range(0, last, block):
        end = min(begin + block, last)
        errors = np.zeros((count, end - begin), order="F")
        for i in range(begin, end):
            if grid.group and i % grid.group == 0:
                part = slice(i, min(i + grid.group, len(every)))
                if end < part.stop:  # later columns lack this block's updates so far
                    done = errors[:, : i - begin] @ factor[begin:i, end : part.stop]
                    late = np.concatenate([work[:, i:end], work[:, end : part.stop] - done], axis=1)
                else:
                    late = work[:, part]
                grid.start(int(every[i]), late, 1 / np.diag(factor)[part] ** 2)
            column = work[:, i].copy()
            rounded = grid.round(int(every[i]), column)
            if hook is not None:
                rounded = hook(int(every[i]), column, rounded, float(factor[i, i]))
            error = (column - rounded) / factor[i, i]
            loss += float(error @ error) / 2
            work[:, i] = rounded
            if i + 1 < end:
                work[:, i + 1 : end] -= np.outer(factor[i, i + 1 : end], error).T
            errors[:, i - begin] = error
        work[:, end:] -= errors @ factor[begin:end, end:]
    values[:, every] = work
    return GptqResult(values, loss, used)


def output_error(
    change: NDArray[np.floating], weight: NDArray[np.floating], hessian: Matrix
) -> float:
    """Return the squared error of a layer's output over its power: tr(D H D^T) / tr(W H W^T).

    Args:
        change: change of the weight, (N, K).
        weight: (N, K).
        hessian: sum of x x^T, of any scale.

    Returns:
        The ratio; 0 if the output is zero.
    """
    power = float(np.einsum("nk,nk->", weight @ hessian, weight))
    wrong = float(np.einsum("nk,nk->", change @ hessian, change))
    return wrong / power if power > 0 else 0.0
