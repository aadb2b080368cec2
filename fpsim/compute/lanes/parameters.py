# SPDX-License-Identifier: Apache-2.0
"""Run-time parameters of lane steps: limits, shifts and powers of two of stages and formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.formats.floating import Subnormals
from fpsim.formats.random_bits import integers_per_word
from fpsim.formats.rounding import Rounding
from fpsim.kernels.lanes.steps_converted import CONVERSION
from fpsim.kernels.lanes.tiles import AnyStep
from fpsim.units.stages import Aligned, Chain, Exact, Fixed, Tree

__all__ = ["step_parameters"]

Array = NDArray[Any]
#: Exponents of 2^floor where an aligned stage has none: below every alignment exponent of a lane,
#: while 2^(F - E) and its inverse are normal numbers for every F that the lane's windows have.
_LEAST_POWERS = {np.float32: -95, np.float64: -900}


def step_parameters(
    stage: Chain | Exact | Fixed | Aligned | Tree,
    step: AnyStep,
    dtype: Any,
    constants: Mapping[str, float],
    conversion: Chain | None = None,
    seeded: int = 0,
) -> tuple[Array, Array]:
    """Return the step's run-time parameters as arrays; ``seeded``: bits of a seed's integers."""
    width = np.int32 if dtype == np.float32 else np.int64
    if not step.reals and not step.integers:
        return np.zeros(1, dtype=dtype), np.zeros(1, dtype=width)
    if isinstance(stage, Fixed):
        reals = {
            "per_lsb": np.ldexp(1.0, -stage.lsb),
            "low": float(stage.initial.min_integer),
            "high": float(stage.initial.max_integer),
            "low_value": np.ldexp(float(stage.initial.min_integer), stage.lsb),
            "high_value": np.ldexp(float(stage.initial.max_integer), stage.lsb),
            "random_places": np.ldexp(1.0, stage.random_bits),
            "per_random_place": np.ldexp(1.0, -stage.random_bits),
        }
        integers = _random_parameters(stage.random_bits, 0, seeded)
        integers |= {"least": stage.initial.min_integer, "most": stage.initial.max_integer}
    else:
        reals, integers = _rounding_parameters(stage, step, dtype, seeded)
    if isinstance(stage, Aligned):
        for more in (_window_parameters(stage, dtype), _container_parameters(stage)):
            reals, integers = reals | more[0], integers | more[1]
    reals |= constants
    if conversion is not None:
        own = _rounding_parameters(conversion, step, dtype)
        reals |= {CONVERSION + name: value for name, value in own[0].items()}
        integers |= {CONVERSION + name: value for name, value in own[1].items()}
    with np.errstate(over="ignore"):  # beyond the lane all limits are alike
        values = np.array([reals[name] for name in step.reals] or [0], dtype=dtype)
    return (
        values,
        _wrapped([integers[name] for name in step.integers] or [0], width),
    )


def _wrapped(values: list[int], dtype: Any) -> Array:
    """Return integers modulo the lane's width: bit patterns may use the sign bit."""
    unsigned = np.dtype(dtype).str.replace("i", "u")
    modulus = 1 << (8 * np.dtype(dtype).itemsize)
    return np.array([value % modulus for value in values], dtype=unsigned).view(dtype)


def _lane_layout(dtype: Any) -> tuple[int, int]:
    """Return the mantissa bits and the exponent bias of a lane."""
    return (23, 127) if dtype == np.float32 else (52, 1023)


def _rounding_parameters(
    stage: Chain | Exact | Aligned | Tree, step: AnyStep, dtype: Any, seeded: int = 0
) -> tuple[dict[str, float], dict[str, int]]:
    fmt = stage.format
    assert stage.overflow is not None
    # In a window what is too large is so in every mode: limits as of a mode that rounds outward.
    mode = Rounding.RNE if isinstance(stage, Aligned) else stage.rounding
    limits = fmt.limits(mode, stage.overflow)
    codes = np.array(limits[:4], dtype=fmt.dtype)
    over_positive, over_negative, inf_positive, inf_negative = fmt.decode(codes)
    flush = fmt.subnormals is Subnormals.FLUSH
    reals = {
        "smallest_normal": np.ldexp(1.0, fmt.exponent_min),
        "flush_below": np.ldexp(1.0, fmt.exponent_min) if flush else 0.0,
        "largest": fmt.max_value,
        "over_positive": over_positive,
        "over_negative": over_negative,
        "inf_positive": inf_positive,
        "inf_negative": inf_negative,
        # Without an exponent field every value lies below 2^emin.
        "top_power": np.ldexp(1.0, max(fmt.exponent_max, fmt.exponent_min)),
    }
    lane_mantissa, lane_bias = _lane_layout(dtype)
    step_mantissa = 10 if str(step.real) == "half" else lane_mantissa
    reals["magic"] = np.ldexp(1.5, step_mantissa - fmt.mantissa_bits)
    reals["minus_magic"] = -reals["magic"]
    random_bits = getattr(stage, "random_bits", 0)
    shift = lane_mantissa - fmt.mantissa_bits
    exponent_is_last = int(fmt.mantissa_bits == 0)
    integers = {
        "shift": shift,
        "parity": exponent_is_last & (lane_bias + fmt.exponent_min - 1),
        "subnormal_parity": exponent_is_last,
    }
    return reals, integers | _random_parameters(random_bits, shift - random_bits, seeded)


def _random_parameters(bits: int, place: int, seeded: int) -> dict[str, int]:
    """Return the parameters of random integers that stand ``place`` bits up in a lane.

    What would stand below the lane's last bit meets nothing there. They may be the low bits of a
    seed's integers, which have ``seeded`` bits.
    """
    width = seeded or bits
    return {
        "random_place": max(place, 0),
        "random_drop": max(-place, 0),
        "random_bits": width,
        "random_mask": (1 << bits) - 1,
        "random_count": integers_per_word(width) if width else 0,
    }


def _window_parameters(stage: Aligned, dtype: Any) -> tuple[dict[str, float], dict[str, int]]:
    lane_mantissa, lane_bias = _lane_layout(dtype)
    least = _LEAST_POWERS[dtype]
    if stage.exponent_floor is not None:
        least = max(least, stage.exponent_floor)
    half = np.ldexp(1.0, (stage.width or 1) - 1)
    reals = {
        "least_power": np.ldexp(1.0, least),
        "per_unit": np.ldexp(1.0, -stage.fraction_bits),
        "sum_low": -half,
        "sum_high": half - 1.0,
        "modulus": 2.0 * half,
        "per_modulus": 0.5 / half,
    }
    limit, reach = stage.product_limit, stage.join_reach
    sum_bits, addend_bits = stage.join_sum_bits, stage.join_addend_bits
    reals |= {
        "per_sum_unit": np.ldexp(1.0, -sum_bits),
        "per_addend_unit": np.ldexp(1.0, -addend_bits),
        "per_joined_unit": np.ldexp(1.0, -max(sum_bits, addend_bits)),
        "reach": np.ldexp(1.0, -(reach or 0)),
        "product_limit": np.inf if limit is None else np.ldexp(1.0, limit),
    }
    integers = {
        f"{name}unit_bits": (bits + 2 * lane_bias) << lane_mantissa
        for name, bits in (
            ("", stage.fraction_bits),
            ("sum_", sum_bits),
            ("addend_", addend_bits),
        )
    }
    integers |= {
        "sum_rise": sum_bits - stage.fraction_bits,
        "sum_up": max(addend_bits - sum_bits, 0),
        "addend_up": max(sum_bits - addend_bits, 0),
        "unused_bits": 64 - (stage.width or 64),
        "least_sum": -int(half),
        "most_sum": int(half) - 1,
    }
    return reals, integers


def _container_parameters(stage: Aligned) -> tuple[dict[str, float], dict[str, int]]:
    """Return the limits and the shift of the format that an addend which joins late has."""
    fmt = stage.result
    assert stage.overflow is not None
    limits = np.array(fmt.limits(Rounding.RNE, stage.overflow)[:2], dtype=fmt.dtype)
    positive, negative = fmt.decode(limits)
    reals = {"largest": fmt.max_value, "over_positive": positive, "over_negative": negative}
    shift = _lane_layout(np.float64)[0] - fmt.mantissa_bits
    return {f"container_{name}": x for name, x in reals.items()}, {"container_shift": shift}
