# SPDX-License-Identifier: Apache-2.0
"""Golden vectors of a unit: exhaustive products, directed corners, seeded random sequences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fpsim.errors import FpsimError, nearest
from fpsim.spec import MacSpec
from fpsim.unit import MacUnit
from fpsim.vectors.corners import add_products, directed, operand_codes
from fpsim.vectors.flags import stream_flags
from fpsim.vectors.philox import Philox
from fpsim.vectors.stream import EXPONENT_MAX, EXPONENT_MIN, Op, Stimulus, VectorSet

__all__ = ["STRATEGIES", "generate"]

STRATEGIES = ("exhaustive", "directed", "random", "mixed")
#: Random sequences have 1..MAX_LENGTH products.
MAX_LENGTH = 64
DEFAULT_COUNT = 4096
MAX_COUNT = 1 << 22


def generate(
    unit: MacUnit | MacSpec,
    *,
    strategy: str = "mixed",
    count: int = DEFAULT_COUNT,
    seed: int = 1,
    exponents: bool = False,
    load: bool = True,
    flags: bool = False,
) -> VectorSet:
    """Return the vectors of a unit; the same arguments give the same vectors everywhere.

    Args:
        unit: a chain or fixed unit with deterministic rounding.
        strategy: ``exhaustive`` (every operand pair), ``directed`` (corner classes), ``random``
            (sequences of uniform codes), or ``mixed`` (all three).
        count: least number of random vectors.
        seed: 0..2^64 - 1.
        exponents: also drive the run-time exponent of the product (field ``exp``).
        load: also use the LOAD operation, which presets the accumulator.
        flags: also the status flags of every vector, from the exact model: some thousand vectors
            a second, not millions.

    Raises:
        FpsimError: an argument outside these, or a unit that vectors cannot describe.
    """
    spec = unit.spec if isinstance(unit, MacUnit) else unit
    if strategy not in STRATEGIES:
        raise FpsimError(
            f"strategy: {strategy!r} is not one of {', '.join(STRATEGIES)}"
            f"{nearest(strategy, STRATEGIES)}"
        )
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise FpsimError(f"count: {count!r} is not a positive integer")
    if count > MAX_COUNT:
        raise FpsimError(
            f"count: {count} is more than {MAX_COUNT}, for streams of single products are made in "
            "memory; sets of dot products (k=1, say) have no such limit"
        )
    stimulus = Stimulus()
    random = Philox(seed)
    if strategy in ("exhaustive", "mixed"):
        add_products(spec, stimulus)
    if strategy in ("directed", "mixed"):
        directed(spec, stimulus, exponents, load)
    if strategy in ("random", "mixed"):
        _random_sequences(spec, stimulus, random, count, exponents, load)
    made = VectorSet.from_stimulus(spec, stimulus, seed, strategy, exponents)
    if not flags:
        return made
    return replace(made, columns=made.columns | {"flags": stream_flags(made)})


def _random_sequences(
    spec: MacSpec, out: Stimulus, random: Philox, count: int, exponents: bool, load: bool
) -> None:
    """Append sequences that start with CLEAR (or LOAD), then products with idle clocks between."""
    out.section("random")
    a_codes, b_codes = operand_codes(spec.a), operand_codes(spec.b)
    target = out.count + count
    while out.count < target:
        length, start, spread = (int(random.below(n, 1)[0]) for n in (MAX_LENGTH, 4, 4))
        length += 1
        if load and start == 3:
            preset = random.bits(spec.result.bits, 1).view(np.int64)
            out.add(Op.LOAD, c=preset)
        else:
            out.add(Op.CLEAR)
        idle = random.below(16, length) == 0
        exp = 0 if not exponents else _random_exponents(random, length, spread)
        out.add(
            np.where(idle, Op.IDLE, Op.MAC),
            a=a_codes[random.below(a_codes.size, length)],
            b=b_codes[random.below(b_codes.size, length)],
            exp=exp,
        )


def _random_exponents(random: Philox, length: int, spread: int) -> np.ndarray:
    """Return one exponent per product: near 0 mostly, over the whole range in one of four."""
    if spread == 3:
        return random.below(EXPONENT_MAX - EXPONENT_MIN + 1, length) + EXPONENT_MIN
    width = (1, 9, 25)[spread]
    return random.below(width, length) - width // 2
