# SPDX-License-Identifier: Apache-2.0
"""Random integers as lane kernels read them: streams of a seed, or arrays with K before N."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numba import get_num_threads
from numpy.typing import NDArray

from fpsim.formats.random_bits import RandomBits
from fpsim.kernels.pack.transpose import transpose_rounds

__all__ = ["cubes", "streams"]

Array = NDArray[Any]
#: Bytes of random integers that each thread transposes at a time: they stay in its cache.
BATCH = 1 << 20


def streams(
    random: RandomBits, shape: tuple[int, int], padded: tuple[int, int]
) -> NDArray[np.uint32]:
    """Return the random streams of a seed, padded to whole tiles.

    Args:
        random: the seed.
        shape: M and N.
        padded: M and N, padded to whole tiles.

    Returns:
        Words (padded M, 1, padded N), one per result, from which kernels make its integers;
        padding is 0.
    """
    out = np.zeros((padded[0], 1, padded[1]), dtype=np.uint32)
    out[: shape[0], 0, : shape[1]] = random.streams(shape[0] * shape[1]).reshape(shape)
    return out


def cubes(
    random: Array, padded: tuple[int, int], rounds: int, multiple: int
) -> Iterator[tuple[slice, Array]]:
    """Yield random integers of the result's rows, part after part, with K before N.

    Args:
        random: integers (M, N, T), one per rounding of a result.
        padded: M and N, padded to whole tiles.
        rounds: roundings that the kernel's loop takes, at least T.
        multiple: rows of a tile; every part but the last has a multiple of them.

    Yields:
        Rows of the result, and their integers (rows, rounds, padded N) in an array that the next
        part overwrites.
    """
    size = multiple * rounds * padded[1] * random.dtype.itemsize
    count = multiple * max(1, BATCH * get_num_threads() // size)
    cube = np.zeros((min(count, padded[0]), rounds, padded[1]), dtype=random.dtype)
    for start in range(0, padded[0], count):
        rows = slice(start, min(start + count, padded[0]))
        out = cube[: rows.stop - start]
        transpose_rounds(np.ascontiguousarray(random[rows]), out)
        yield rows, out
