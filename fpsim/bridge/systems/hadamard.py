# SPDX-License-Identifier: Apache-2.0
"""Hadamard matrices: Sylvester's powers of two times matrices of Paley's orders."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.base.philox import numpy_generator

__all__ = ["hadamard", "hadamard_size", "random_hadamard"]

#: Orders q + 1 (Paley I, q = 3 mod 4 a prime) and 2 (q + 1) (Paley II, q = 1 mod 4 a prime).
_PALEY_1 = {12: 11, 20: 19, 44: 43, 60: 59, 108: 107, 140: 139}
_PALEY_2 = {28: 13, 36: 17, 76: 37}
_PALEY = {
    **{order: (1, q) for order, q in _PALEY_1.items()},
    **{order: (2, q) for order, q in _PALEY_2.items()},
}


def _jacobsthal(q: int) -> NDArray[np.float64]:
    """Return the matrix of quadratic characters of i - j modulo a prime q."""
    character = np.full(q, -1.0)
    character[[i * i % q for i in range(1, q)]] = 1
    character[0] = 0
    index = np.arange(q)
    return np.asarray(character[(index[:, None] - index[None]) % q])


def _paley(order: int) -> NDArray[np.float64]:
    kind, q = _PALEY[order]
    core = _jacobsthal(q)
    if kind == 1:
        matrix = np.ones((q + 1, q + 1))
        matrix[1:, 0] = -1
        matrix[1:, 1:] = core + np.eye(q)
        return matrix
    border = np.ones((q + 1, q + 1))
    border[0, 0] = 0
    border[1:, 1:] = core
    plus, minus = np.array([[1.0, 1], [1, -1]]), np.array([[1.0, -1], [-1, -1]])
    return np.kron(border, plus) + np.kron(np.eye(q + 1), minus)


@lru_cache(maxsize=32)
def hadamard(size: int) -> NDArray[np.float64]:
    """Return the normalised Hadamard matrix of an order, (size, size), orthogonal.

    Raises:
        FpsimError: an order that is no power of two times 1 or one of Paley's orders listed here.
    """
    for base in (1, *sorted(_PALEY)):
        power = size // base
        if size % base == 0 and power & (power - 1) == 0 and power:
            matrix = np.ones((1, 1)) if base == 1 else _paley(base)
            while matrix.shape[0] < size:
                matrix = np.block([[matrix, matrix], [matrix, -matrix]])
            found: NDArray[np.float64] = matrix / np.sqrt(size)
            found.flags.writeable = False
            return found
    known = ", ".join(str(base) for base in sorted(_PALEY))
    raise FpsimError(
        f"hadamard: no matrix of order {size} is known; allowed: powers of two times 1, {known}"
    )


def hadamard_size(width: int, largest: int) -> int:
    """Return the largest power of two up to ``largest`` that divides a width."""
    size = 1
    while size * 2 <= largest and width % (size * 2) == 0:
        size *= 2
    return size


def random_hadamard(size: int, seed: int) -> NDArray[np.float64]:
    """Return diag(random signs) times `hadamard`; raises FpsimError for an order without one."""
    signs = numpy_generator(seed).integers(0, 2, size) * 2.0 - 1
    return signs[:, None] * hadamard(size)
