# SPDX-License-Identifier: Apache-2.0
"""Random data of known distributions, reproducible from a seed.

Values are float64 functions of Philox words, so two machines agree up to the rounding of their
``log``, ``cos`` and ``sin``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.base.philox import Philox

__all__ = ["DISTRIBUTIONS", "gaussian", "laplace", "samples", "student_t", "uniform"]


def gaussian(count: int, seed: int = 0) -> NDArray[np.float64]:
    """Return ``count`` normal samples, mean 0 and variance 1: Box-Muller on Philox stream 1."""
    pairs = (count + 1) // 2
    u = _uniform(Philox(seed, stream=1), 2 * pairs)
    radius, angle = np.sqrt(-2.0 * np.log(u[:pairs])), 2.0 * math.pi * u[pairs:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def laplace(count: int, seed: int = 0) -> NDArray[np.float64]:
    """Return ``count`` Laplace samples, mean 0 and scale 1: inverse CDF on Philox stream 2."""
    u = _uniform(Philox(seed, stream=2), count)
    return np.where(u < 0.5, np.log(2.0 * u), -np.log(2.0 * (1.0 - u)))


def student_t(count: int, seed: int = 0) -> NDArray[np.float64]:
    """Return ``count`` samples of Student's t with 5 degrees of freedom, on Philox stream 3.

    So many degrees fit the weights of language models (Dotzel et al., arXiv 2405.03103). A sample
    is a normal number over the root mean square of five others.
    """
    freedom = 5
    u = _uniform(Philox(seed, stream=3), (freedom + 1) * count).reshape(freedom + 1, count)
    v = _uniform(Philox(seed, stream=4), (freedom + 1) * count).reshape(freedom + 1, count)
    normal = np.sqrt(-2.0 * np.log(u)) * np.cos(2.0 * math.pi * v)
    return np.asarray(normal[0] / np.sqrt(np.square(normal[1:]).mean(axis=0)))


def uniform(count: int, seed: int = 0) -> NDArray[np.float64]:
    """Return ``count`` samples spread evenly over -1 to 1, on Philox stream 5."""
    return 2.0 * _uniform(Philox(seed, stream=5), count) - 1.0


def _uniform(stream: Philox, count: int) -> NDArray[np.float64]:
    """Return exact float64 values strictly between 0 and 1: (k + 1/2) / 2^52."""
    return np.ldexp(stream.bits(52, count).astype(np.float64) + 0.5, -52)


#: Sample generators by name, each taking (count, seed).
DISTRIBUTIONS: dict[str, Callable[[int, int], NDArray[np.float64]]] = {
    "gaussian": gaussian,
    "laplace": laplace,
    "student-t": student_t,
    "uniform": uniform,
}


def samples(name: str, count: int, seed: int = 0) -> NDArray[np.float64]:
    """Draw samples of a named distribution from a seed.

    Args:
        name: a key of `DISTRIBUTIONS`.
        count: number of samples, at least 1.
        seed: seed of the generator.

    Returns:
        Samples (count,) of mean 0 and scale 1.

    Raises:
        FpsimError: an unknown distribution, or a count below 1.
    """
    if name not in DISTRIBUTIONS:
        known = list(DISTRIBUTIONS)
        raise not_one_of("data", name, known)
    if count < 1:
        raise FpsimError(f"samples: {count} is not a positive integer")
    return DISTRIBUTIONS[name](count, seed)
