# SPDX-License-Identifier: Apache-2.0
"""Sums of products in integers of a byte: the bits of the oracle, and of the paths in floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.helpers import HOST, by_default, exact, fixed, float_format, oracle_matmul
from support.machines import On

from fpsim import MacSpec, MacUnit, get_format, get_unit
from fpsim.compute.lanes.pack_bytes import byte_power
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.pack import nibbles_to_bytes, panels
from fpsim.units.stages import Aligned, Block, Chain, Exact, Fixed, Stage

pytestmark = pytest.mark.usefixtures("one_thread")
VNNI = pytest.mark.skipif("avx512vnni" not in HOST, reason="needs AVX512-VNNI")
Codes = NDArray[Any]


#: This processor without dot instructions, and one that adds pairs of products.
NO_BYTES = Machine.host().without("avx512vnni", "avx2")
PAIRS = Machine(frozenset({"ssse3", "avx2", "f16c"}))
AVX2 = pytest.mark.skipif("avx2" not in HOST, reason="needs AVX2")


def block_unit(size: int, a: str, b: str, **more: Any) -> MacUnit:
    stage = Block(size, Chain(float_format("e8m23")))
    return MacUnit(MacSpec(get_format(a), get_format(b), stage, **more))


def arguments(unit: MacUnit, m: int, k: int, n: int, block: int, seed: int = 0) -> dict[str, Codes]:
    """Return random codes, extremes among them, scales of small exponents and an addend."""
    rng = np.random.default_rng(seed)
    spec = unit.spec
    found: dict[str, Codes] = {}
    for name, shape in (("a", (m, k)), ("b", (k, n))):
        fmt = getattr(spec, name)
        codes = rng.integers(0, 1 << fmt.bits, shape)
        row, column = codes[:1], codes[:, :1]
        largest, least = (
            int(f(fmt.decode(np.arange(1 << fmt.bits)))) for f in (np.argmax, np.argmin)
        )
        row[:], column[:] = (largest, least) if name == "a" else (least, largest)
        found[name] = codes.astype(fmt.dtype)
    groups = -(-k // block)
    for name, shape in (("a", (m, groups)), ("b", (groups, n))):
        fmt = getattr(spec, f"{name}_scale")
        shape = (*shape, 2) if spec.splits(name) else shape
        found[f"{name}_scale"] = fmt.encode(np.exp2(rng.integers(-3, 4, shape)))
    if isinstance(unit.spec.accumulate, Block):
        found["c"] = unit.result.encode(rng.normal(size=(m, n)) * 8)
    return found


@VNNI
@pytest.mark.parametrize(
    ("a", "b", "size"),
    by_default(
    [("e2m1", "e2m1", 32), ("e2m1", "e2m1", 4), ("e1m2", "e3m0", 8), ("int4", "int4", 16),
     ("int8", "int8", 32), ("e2m3", "e2m1", 32), ("int4", "int8", 4), ("e3m0", "int8", 12)],
    quick=[("e2m1", "e2m1", 32), ("int8", "int8", 32), ("e1m2", "e3m0", 8)]),
)  # fmt: skip
@pytest.mark.parametrize(("k", "n"), [(96, 48), (83, 67)])
def test_block_sums(a: str, b: str, size: int, k: int, n: int) -> None:
    """Whole registers of columns and of K, and what is left over."""
    unit = block_unit(size, a, b)
    args = arguments(unit, 5, k, n, size)
    assert unit.plan(**args, block=size).kernel == f"bytes block{size} float"
    some = {"a": args["a"][:3], "b": args["b"][:, ::11], "a_scale": args["a_scale"][:3]}
    some |= {"b_scale": args["b_scale"][:, ::11], "c": args["c"][:3, ::11]}
    expected = oracle_matmul(unit, **some, block=size)
    assert np.array_equal(unit.matmul(**args, block=size)[:3, ::11], expected)
    assert np.array_equal(unit.matmul(**some, block=size), expected)  # not contiguous


@pytest.mark.parametrize(
    ("name", "block"),
    by_default([("e2m1.ue4m3fn-block16-into-chain-e8m23", 16), ("e2m1-block32-into-chain-e5m10", 32),
     ("nvidia-b200-nvf4", 16), ("nvidia-b200-mxf4", 32), ("e2m1-block8-into-chain-e4m3fn", 8),
     ("e2m1.e5m2.split-block32-into-chain-e8m23", 32),
     ("e2m1.e5m2.splitxe2m1-block8-into-chain-e8m23", 8),
     ("e2m1xe2m1.e5m2.split-block8-into-chain-e8m23", 8),
     ("int4.e5m2.split-block32-into-chain-e8m23", 32),
     ("e2m1-exact-e8m23", 1), ("e2m1-exact-e8m23", 32), ("int8-exact-e8m23", 64),
     ("e2m1-exact-e5m10", 4), ("e2m1-fixed24q2", 1), ("e2m1-fixed40q20", 16)],
    quick=[("nvidia-b200-nvf4", 16), ("e2m1.e5m2.split-block32-into-chain-e8m23", 32),
           ("e2m1-block32-into-chain-e5m10", 32), ("e2m1-exact-e8m23", 32), ("e2m1-fixed24q2", 1)]),
)  # fmt: skip
def test_every_kind_of_sum_with_and_without_bytes(name: str, block: int) -> None:
    unit = get_unit(name)
    plainly = On(unit, NO_BYTES)
    args = arguments(unit, 4, 128, 21, block)
    if block == 1:
        del args["a_scale"], args["b_scale"]
    plain = plainly.matmul(**args)
    assert not plainly.plan(**args).source.bytes
    assert unit.plan(**args).source.bytes == ("avx512vnni" in HOST)
    assert np.array_equal(unit.matmul(**args), plain)
    if "avx2" in HOST:
        pairs = On(unit, PAIRS)
        assert pairs.plan(**args).source.bytes == (name != "int8-exact-e8m23")
        assert np.array_equal(pairs.matmul(**args), plain)
    some = {key: value[:2] for key, value in args.items() if key in ("a", "a_scale")}
    some |= {key: value[:, :3] for key, value in args.items() if key in ("b", "b_scale")}
    if "c" in args:
        some["c"] = args["c"][:2, :3]
    assert np.array_equal(plain[:2, :3], oracle_matmul(unit, **some))


@AVX2
@pytest.mark.parametrize("scale", ["e8m0", "e5m2.split"])
def test_sums_of_pairs_fill_sixteen_bits(scale: str) -> None:
    """Bytes -128 and 15 in blocks of 32 sum to -30 720 twice; in blocks of 36 to -34 560."""
    for size, by_bytes in ((32, True), (36, False)):
        unit = get_unit(f"int8.{scale}xint4-block{size}-into-chain-e8m23")
        args = arguments(unit, 3, 2 * size, 19, size)
        args["a"][0], args["a"][1, ::2], args["b"][:, :9] = 0x80, 0x80, 7
        args["b"][:, 9:12] = 8
        on = On(unit, PAIRS)
        assert on.plan(**args).kernel.startswith("bytes") == by_bytes
        assert np.array_equal(on.matmul(**args), oracle_matmul(unit, **args))


@VNNI
def test_what_bytes_cannot_hold() -> None:
    """Formats of too many integers, blocks that are no words, scales that would lose a bit."""

    def by_bytes(unit: MacUnit, block: int, **more: Any) -> bool:
        args = arguments(unit, 2, 48, 3, block) | more
        expected = oracle_matmul(unit, **args)
        assert np.array_equal(unit.matmul(**args), expected)
        return unit.plan(**args).kernel.startswith("bytes")

    assert by_bytes(block_unit(8, "e3m0", "e3m0"), 8)
    assert not by_bytes(block_unit(8, "e3m2", "e2m1"), 8)  # 28 / 2^-4
    assert not by_bytes(block_unit(8, "e2m1", "e4m3fn"), 8)
    assert by_bytes(block_unit(12, "e2m1", "e2m1"), 12)
    assert not by_bytes(block_unit(6, "e2m1", "e2m1"), 6)
    # The least scale times 2^-2 is below what float32 has; 2^-147 times as much is not.
    wide = block_unit(8, "e2m1", "e2m1", a_scale=float_format("e8m23"))
    for code, fits in ((4, True), (2, False)):
        scales = {"a_scale": np.full((2, 6), code, np.uint32), "b_scale": np.full((6, 3), 254)}
        assert by_bytes(wide, 8, **scales) == fits
    # Integers times 2^-80 and both scales 2^-40, of which float32 has 2^-80 but not 2^-160.
    low = block_unit(8, "e2m1b40", "e2m1b40")
    for code, fits in ((127 - 40, False), (127 - 30, True)):
        scales = {"a_scale": np.full((2, 6), code), "b_scale": np.full((6, 3), code)}
        scales["c"] = np.zeros((2, 3), np.uint32)
        assert by_bytes(low, 8, **scales) == fits
    # Integers times 2^20: a scale of 2^120 goes beyond, whatever the other takes back.
    high = block_unit(8, "e2m1b-9", "e2m1b-9")
    for code, fits in ((127 + 110, False), (127 + 90, True)):
        scales = {"a_scale": np.full((2, 6), code), "b_scale": np.full((6, 3), 127 - 110)}
        assert by_bytes(high, 8, **scales) == fits
    assert byte_power(exact("e8m23", a="e4m3fn").spec) is None
    assert byte_power(fixed(20, 0, a="int8", b="e1m2").spec) == -1


@VNNI
@pytest.mark.parametrize("special", [255, 0])
def test_scales_that_are_not_numbers(special: int) -> None:
    """NaN and the smallest; a sum of zero is +0 whatever its scales."""
    unit = block_unit(4, "e2m1", "e2m1")
    args = arguments(unit, 3, 16, 5, 4)
    args["a_scale"][1, 2] = special
    args["a"][2], args["c"][2] = 8, 1 << 31  # all -0
    assert unit.plan(**args).kernel.startswith("bytes")
    assert np.array_equal(unit.matmul(**args), oracle_matmul(unit, **args))


def test_blocks_into_float16_take_scales_that_it_cannot_hold() -> None:
    """E1M2 sums of 16 have 11 bits; float16 lanes once read their scales as if they were halves."""
    stage = Block(16, Chain(float_format("e5m10")))
    unit = MacUnit(MacSpec(get_format("e2m1"), get_format("e1m2"), stage))
    args = arguments(unit, 3, 32, 5, 16)
    args["a_scale"][1], args["b_scale"][:, 2] = 127 + 20, 127 - 25
    assert np.array_equal(unit.matmul(**args), oracle_matmul(unit, **args))


STAGES: list[Stage] = [
    Block(4, Chain(float_format("e8m23"))),
    Block(16, Chain(float_format("e5m10"))),
    Block(8, Aligned(2, 20, float_format("e8m23"))),
    Block(8, Exact(float_format("e8m23"))),
    Exact(float_format("e8m7")),
    Fixed(30, -2),
]


@given(st.data())
def test_any_operands(data: st.DataObject) -> None:
    names = st.sampled_from(["e2m1", "e1m2", "e3m0", "int4", "int8", "e2m3", "uint4", "e2m1b3"])
    stage = data.draw(st.sampled_from(STAGES))
    fmts = get_format(data.draw(names)), get_format(data.draw(names))
    split = data.draw(st.sampled_from(["none", "a", "b", "both"]))
    if not all(getattr(fmt, "signed", True) for fmt in fmts):
        split = "none"
    unit = MacUnit(MacSpec(*fmts, stage, sign_split=split))  # type: ignore[arg-type]
    m, k, n = (data.draw(st.integers(1, most)) for most in (3, 40, 20))
    block = stage.size if isinstance(stage, Block) else data.draw(st.sampled_from([4, 8]))
    args = arguments(unit, m, k, n, block, data.draw(st.integers(0, 1 << 20)))
    if split != "none" and not isinstance(stage, Block):
        del args["a_scale"], args["b_scale"]
        got, expected = unit.matmul(**args), unit.dot(args["a"][:, None], args["b"].T)
    else:
        got = unit.matmul(**args, block=block)
        expected = unit.dot(
            args["a"][:, None], args["b"].T, args.get("c"), block=block,
            a_scale=args["a_scale"][:, None], b_scale=np.moveaxis(args["b_scale"], 1, 0),
        )  # fmt: skip
    assert np.array_equal(got, expected)


@pytest.mark.skipif("ssse3" not in HOST, reason="needs byte shuffles")
@pytest.mark.parametrize(("length", "size"), [(64, 16), (70, 32), (37, 4), (16, 64), (3, 32)])
def test_shuffles_look_codes_up_as_tables_do(length: int, size: int) -> None:
    """Elements of either sign, whole registers and what is left of a row or of a block."""
    rng = np.random.default_rng(length)
    codes = rng.integers(0, 16, (5, length), dtype=np.uint8)
    signed = rng.integers(-128, 128, 16).astype(np.int8)
    groups = -(-length // size)
    rows = [np.full((5, groups * size + 3), 77, np.int8) for _ in range(2)]
    starts = [np.empty((5, groups), np.int32) for _ in range(2)]
    nibbles_to_bytes.pack_nibble_rows(codes, signed, size, 12, rows[0], starts[0])
    panels.pack_byte_rows(codes, signed, size, 12, rows[1], starts[1])
    assert np.array_equal(*rows) and np.array_equal(*starts)
    assert np.array_equal(starts[0][:, 0], -12 * rows[0][:, : min(size, length)].sum(1, np.int32))
    codes = rng.integers(0, 16, (length, 41), dtype=np.uint8)
    wide = [np.full((2, -(-length // 4), 32, 4), 77, np.uint8) for _ in range(2)]
    nibbles_to_bytes.pack_nibble_panels(codes, signed.view(np.uint8), wide[0])
    panels.pack_byte_panels(codes, signed.view(np.uint8), wide[1])
    assert np.array_equal(*wide)
