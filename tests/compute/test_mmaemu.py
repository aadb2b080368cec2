# SPDX-License-Identifier: Apache-2.0
"""A third party on FP8: mmaemu (PyPI, Apache-2.0), which replays recordings of an H100 and an RTX 4060.

Not a requirement of this project: ``pip install --no-deps mmaemu`` in an environment with torch.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.helpers import float_format, unit_of

from fpsim import MacUnit, get_unit
from fpsim.units.stages import Chain, Chunked, Stage

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("mmaemu", reason="mmaemu is not installed")
mmaemu = pytest.importorskip("mmaemu.model.chain", reason="mmaemu is not installed")

FORMATS = {"e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2"}
#: Exponents of the operands' magnitudes: near one, and over the whole format.
SPREADS = (3, 40)


def operands(operand: str, rows: int, k: int, spread: int, special: bool = False) -> NDArray[Any]:
    """Return codes (2, rows, K) whose exponents spread as asked; NaN and infinities if ``special``."""
    rng = np.random.default_rng(k * spread + special)
    codes = rng.integers(0, 256, (2, rows, k)).astype(np.uint8)
    fmt = get_unit(f"nvidia-h100-{operand}").spec.a
    if spread < 40:
        one = int(fmt.encode([1.0])[0])
        codes = (one + rng.integers(-8 * spread, 8 * spread, codes.shape)).astype(np.uint8)
        codes |= rng.integers(0, 2, codes.shape).astype(np.uint8) << 7
    values = fmt.decode(codes)
    keep = np.isfinite(values) | (special & (rng.random(codes.shape) < 0.1))
    return np.where(keep, codes, 0).astype(np.uint8)


def as_torch(codes: NDArray[Any], operand: str) -> Any:
    return torch.from_numpy(codes.copy()).view(getattr(torch, FORMATS[operand]))


def theirs(preset: str, operand: str, codes: NDArray[Any], c: NDArray[Any] | None) -> NDArray[Any]:
    """Return mmaemu's float32 bits of a chain of instructions."""
    a, b = (as_torch(x, operand) for x in codes)
    start = None if c is None else torch.from_numpy(c.view(np.float32).copy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = mmaemu.dot(a, b, start, preset=preset)
    return np.asarray(out.numpy()).view(np.uint32)


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("operand", FORMATS)
@pytest.mark.parametrize(
    ("name", "preset"),
    [("h100", "hopper"), ("ada", "ada"), ("b200-mma", "b200_mma_sync")],
)
def test_a_chain_of_instructions(name: str, preset: str, operand: str, spread: int) -> None:
    unit = get_unit(f"nvidia-{name}-{operand}")
    codes = operands(operand, 400, 160, spread)
    rng = np.random.default_rng(9)
    c = (rng.normal(size=400) * 2.0 ** rng.integers(-20, 20, 400)).astype(np.float32)
    for start in (None, c.view(np.uint32)):
        assert np.array_equal(unit.dot(*codes, start), theirs(preset, operand, codes, start))


@pytest.mark.parametrize("operand", FORMATS)
def test_nan_and_infinity(operand: str) -> None:
    unit = get_unit(f"nvidia-h100-{operand}")
    codes = operands(operand, 400, 32, 40, special=True)
    assert np.array_equal(unit.dot(*codes), theirs("hopper", operand, codes, None))


def promoted(gpu: str, **cut: Any) -> MacUnit:
    inner: Stage = get_unit(f"nvidia-{gpu}-e4m3").spec.accumulate
    return unit_of(Chunked(inner, Chain(float_format("e8m23")), **cut), "e4m3fn")


def gemm(codes: NDArray[Any], profile: str, fast: bool, split: Any) -> NDArray[Any]:
    a, b = (as_torch(x, "e4m3") for x in codes)
    import mmaemu as package

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = package.accumulate(
            a, b, use_fast_accum=fast, profile=profile, splitk=split, backend="reference"
        )
    return np.asarray(out.numpy()).view(np.uint32)


@pytest.mark.parametrize(("gpu", "profile"), [("h100", "hopper"), ("ada", "ada")])
def test_slow_accumulation_promotes_every_128_products(gpu: str, profile: str) -> None:
    """cuBLAS with use_fast_accum=False."""
    codes = operands("e4m3", 16, 448, 3)
    slow = promoted(gpu, size=128).matmul(codes[0], codes[1].T)
    assert np.array_equal(slow, gemm(codes, profile, False, (1, "none")))
    fast = get_unit(f"nvidia-{gpu}-e4m3").matmul(codes[0], codes[1].T)
    assert np.array_equal(fast, gemm(codes, profile, True, (1, "none")))
    assert not np.array_equal(slow, fast)


@pytest.mark.parametrize("parts", [2, 4])
def test_split_k_of_an_h100_is_serial_over_contiguous_parts(parts: int) -> None:
    codes = operands("e4m3", 16, 1024, 3)
    ours = promoted("h100", parts=parts).matmul(codes[0], codes[1].T)
    assert np.array_equal(ours, gemm(codes, "hopper", True, (parts, "contiguous")))
