# SPDX-License-Identifier: Apache-2.0
"""Every kernel the engine can choose, on data that breaks it if its lemma is stated wrongly.

The engine picks by processor, format and operands. Here each kernel is made to run, also those
this processor would not choose, and every lemma is tried on both sides of its boundary.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from numpy.typing import NDArray
from support.helpers import DETERMINISTIC, HOST, by_default, chain, exact, fixed, oracle_matmul
from support.kernel_cases import operands
from support.machines import MACHINES, On, carried

from fpsim import MacUnit, RandomBits, Rounding, oracle
from fpsim.compute.plan import any_step
from fpsim.kernels.llvm.machine import Machine

pytestmark = pytest.mark.usefixtures("one_thread")


#: kernel: (processor, unit, exponents of the scales)
CASES: dict[str, tuple[str, MacUnit, range]] = {
    "half": ("this", chain("e5m10"), range(-4, 5)),
    "half-saturate": ("this", chain("e5m10", overflow="saturate"), range(-4, 5)),
    "via-half": ("f16c", chain("e5m10"), range(-12, 13)),
    "via-half-saturate": ("f16c", chain("e5m10", overflow="saturate"), range(-12, 13)),
    "via-half-odd": ("this", chain("e5m10", a="int13"), range(-12, 13)),
    "via-half-odd-saturate": (
        "this",
        chain("e5m10", overflow="saturate", a="int13"),
        range(-12, 13),
    ),
    "float": ("this", chain("e8m23"), range(-15, 16)),
    "float-saturate": ("this", chain("e8m23", overflow="saturate"), range(-15, 16)),
    "double": ("this", exact("e8m23", a="e4m3fn", b="e2m1"), range(-8, 9)),
    "slice64": ("this", exact("e8m23"), range(-60, 61)),
    "limbs": ("this", exact("e8m23", "rdn", a="e5m2b300"), range(-60, 61)),
    "scalar": ("this", fixed(64, -512, "saturate", "rup", a="e5m2b300"), range(90, 128)),
    "float-flush": ("this", chain("e8m23_flush"), range(-15, 16)),
    "magic32-rne": ("this", chain("e8m7"), range(-15, 16)),
    "magic32-rne-odd": ("this", chain("e8m2"), range(-15, 16)),
    "magic32-rtz": ("this", chain("e8m10", "rtz"), range(-15, 16)),
    "magic32-rne-saturate": ("f16c", chain("e5m10", overflow="saturate"), range(-12, 13)),
    "magic32-rne-odd-saturate": ("this", chain("e4m3fn", a="e2m3"), range(-3, 5)),
    "magic32-rtz-saturate": ("this", chain("e4m3fn", "rtz"), range(-6, 9)),
    "masked32": ("this", chain("e8m7"), range(-15, 16)),
    "masked32-saturate": ("this", chain("e8m7", overflow="saturate"), range(-15, 16)),
    "masked32-odd": ("this", chain("e8m2"), range(-15, 16)),
    "masked32-odd-saturate": ("this", chain("e8m2", overflow="saturate"), range(-15, 16)),
    "shifted32-rne-odd": ("this", chain("e5m2"), range(-12, 13)),
    "shifted32-rne-odd-saturate": ("this", chain("e4m3fn", a="e4m3fn"), range(-4, 5)),
    "shifted32-rne-odd-flush": ("this", chain("e5m2_flush"), range(-12, 13)),
    "shifted32-rne-odd-flush-saturate": (
        "this",
        chain("e4m3fn_flush", a="e4m3fn"),
        range(-4, 5),
    ),
    "shifted32-rne": ("none", chain("e5m10"), range(-12, 13)),
    "shifted32-rne-saturate": ("none", chain("e4m3fn"), range(-8, 9)),
    "shifted32-rne-flush": ("this", chain("e5m10_flush", a="e4m3fn"), range(-12, 13)),
    "shifted32-rne-flush-saturate": ("none", chain("e4m3fn_flush"), range(-8, 9)),
    "shifted16-rne": ("this", chain("e4m3"), range(-4, 5)),
    "shifted16-rne-saturate": ("this", chain("e4m3fn"), range(-4, 5)),
    "shifted16-rne-flush": ("this", chain("e4m3_flush"), range(-4, 5)),
    "shifted16-rne-flush-saturate": ("this", chain("e4m3fn_flush"), range(-4, 5)),
    "clamped32": ("this", fixed(14, -3, "saturate"), range(9)),
    "lane32-rne": ("this", chain("e7m3b10"), range(-8, 9)),
    "lane32-rna": ("none", chain("e5m10", "rna"), range(-12, 13)),
    "lane64-rne": ("this", chain("e8m23", overflow="nan"), range(-20, 21)),
    "lane64-rna": ("this", chain("e8m23", "rna"), range(-20, 21)),
}
for _rounding in (Rounding.RTZ, Rounding.RUP, Rounding.RDN):
    CASES |= {
        f"half-{_rounding}": ("this", chain("e5m10", _rounding), range(-4, 5)),
        f"float-{_rounding}": ("this", chain("e8m23", _rounding), range(-15, 16)),
        f"shifted32-{_rounding}": ("this", chain("e5m2", _rounding), range(-12, 13)),
        f"shifted32-{_rounding}-flush": ("this", chain("e5m2_flush", _rounding), range(-12, 13)),
        f"shifted32-{_rounding}-flush-saturate": (
            "this",
            chain("e4m3fn_flush", _rounding),
            range(-8, 9),
        ),
        f"shifted32-{_rounding}-saturate": ("this", chain("e4m3fn", _rounding), range(-8, 9)),
    }
for _rounding in (*DETERMINISTIC, Rounding.SR):
    _bits = 9 if _rounding is Rounding.SR else 0
    CASES[f"lane32-{_rounding}-sticky"] = (
        "none",
        chain("e5m2", _rounding, random_bits=_bits),
        range(-12, 13),
    )
    _wide = "e9m2" if _rounding in (Rounding.RNE, Rounding.RNA) else "e8m23"
    CASES[f"lane64-{_rounding}-sticky"] = (
        "none",
        chain(_wide, _rounding, random_bits=_bits),
        range(-20, 21),
    )
    for _overflow in ("wrap", "saturate"):
        CASES[f"fixed64-{_rounding}-{_overflow}"] = (
            "this",
            fixed(14, 0, _overflow, _rounding, random_bits=_bits),
            range(-6, 12),
        )
        if _overflow == "wrap" or _bits:
            CASES[f"integer64-{_rounding}-{_overflow}"] = (
                "this",
                fixed(
                    58 if _overflow == "wrap" else 51, -8, _overflow, _rounding, random_bits=_bits
                ),
                range(-10, 50),
            )
#: Stochastic accumulators of lanes: (format, random bits, overflow, exponents of scales).
_STOCHASTIC = {
    "masked32-sr": ("e5m10", 9, None, range(-26, -9)),
    "masked32-sr-saturate": ("e4m3fn", 4, None, range(-12, 5)),
    "masked32-sr-flush": ("e5m10_flush", 3, None, range(-12, 13)),
    "masked32-sr-flush-saturate": ("e4m3fn_flush", 2, None, range(-8, 9)),
    "masked32-sr-normal": ("e5m10", 13, None, range(-12, 13)),
    "masked32-sr-normal-saturate": ("e4m3fn", 20, None, range(-6, 9)),
    "masked32-sr-normal-inside": ("e5m10", 7, None, range(-12, 6)),
    "masked64-sr": ("e5m20", 9, None, range(-50, -20)),
    "masked64-sr-saturate": ("e5m20", 28, "saturate", range(-50, -20)),
    "masked64-sr-flush": ("e8m23_flush", 3, None, range(-24, 25)),
    "masked64-sr-flush-saturate": ("e8m22_flush", 23, "saturate", range(-24, 25)),
    "masked64-sr-normal": ("e5m10", 14, None, range(-12, 13)),
    "masked64-sr-normal-saturate": ("e4m10", 32, "saturate", range(-6, 9)),
    "masked64-sr-normal-inside": ("e8m23", 8, None, range(-12, 6)),
    "masked32-sr-seeded-bytes": ("e5m10", 8, None, range(-26, -9)),
    "masked32-sr-saturate-seeded-bytes": ("e5m9", 8, "saturate", range(-26, -9)),
    "masked32-sr-flush-seeded-bytes": ("e5m10_flush", 8, None, range(-26, -9)),
    "masked32-sr-flush-saturate-seeded-bytes": ("e5m12_flush", 8, "saturate", range(-26, -9)),
    "masked32-sr-normal-seeded-bytes": ("e5m15", 8, None, range(-12, 13)),
    "masked32-sr-normal-saturate-seeded-bytes": ("e5m10", 8, "saturate", range(-12, 13)),
    "masked32-sr-normal-inside-seeded-bytes": ("e5m10", 8, None, range(-12, 6)),
}
for _name, (_format, _bits, _policy, _shifts) in _STOCHASTIC.items():
    CASES[_name] = "this", chain(_format, "sr", _policy, random_bits=_bits), _shifts
#: The processor's mode says how to round where its instructions do not carry a mode.
CASES |= {
    f"{name}-mode": ("none", *case[1:])
    for name, case in CASES.items()
    if name.startswith(("float-r", "shifted32-r", "magic32-rtz", "masked32-sr", "masked64-sr"))
    and not name.startswith("shifted32-rne")
    and not name.endswith("-bytes")
}
for _rounding in (Rounding.RTZ, Rounding.RUP, Rounding.RDN):
    CASES[f"via-half-{_rounding}"] = "f16c", chain("e5m10", _rounding), range(-12, 13)
CASES["via-half-rup-saturate"] = "f16c", chain("e5m10", "rup", "saturate"), range(-12, 13)
CASES |= {
    f"{name}-seeded": case
    for name, case in CASES.items()
    if "-sr" in name and not name.endswith("-bytes")
}


def skip_without(kernel: str) -> None:
    """Skip what this processor truly cannot run."""
    kind = kernel.removesuffix("-saturate")
    needs = "f16c" if kind.startswith("via-half") else None
    if kind == "via-half-odd":
        needs = "avx512f"
    if "-mode" in kind:
        return
    if kind.startswith(("half", "shifted16")):
        needs = "avx512fp16"
    elif kind.endswith("-bytes"):
        needs = "avx512vnni"
    elif kind.startswith(
        ("float-r", "shifted32-", "masked32-sr", "masked64-sr", "magic32-", "masked32-odd")
    ):
        directed = "-rne" not in kind or "-odd" in kind
        needs = "avx512f" if directed else needs
    if needs and needs not in HOST:
        pytest.skip(f"this processor has no {needs}")


def sum_of_a_kind(kernel: str, unit: MacUnit, arguments: dict[str, NDArray[Any]]) -> None:
    """Start where the kernel needs it: an exact unit at zero, one without overflow near it.

    And a unit without specials at ordinary numbers.
    """
    if kernel in ("double", "limbs", "slice64"):
        del arguments["c"]
    elif "-inside" in kernel:
        arguments["c"] %= 0x4000  # E5M10 below 2
    elif kernel.startswith("magic"):
        size = np.abs(unit.result.decode(arguments["c"]))
        arguments["c"] = np.where((size > 2.0**-40) & (size < 2.0**40), arguments["c"], 0)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("kernel", by_default(CASES, CASES.keys() - {"masked64-sr-flush"}, "sweep"))
def test_kernel(kernel: str) -> None:
    """One panel and a bit, rows that are no multiple of the tile, random scales on each product."""
    skip_without(kernel)
    features, unit, shifts = CASES[kernel]
    by_mode = "-mode" in kernel or kernel.startswith("via-half-r")
    on = On(unit, MACHINES[features], any_step if by_mode else carried)
    arguments = operands(unit, shifts, (5, 4, 131 if kernel.startswith("half") else 67))
    sum_of_a_kind(kernel, unit, arguments)
    if "-seeded" in kernel:
        arguments["random"] = RandomBits(9)
    assert on.plan(**arguments).kernel == kernel
    assert np.array_equal(on.matmul(**arguments), oracle_matmul(unit, **arguments))


@pytest.mark.parametrize(
    "kernel",
    ["via-half", "float", "masked32", "lane64-rdn-sticky", "lane32-sr-sticky",
     "fixed64-rto-saturate", "integer64-rup-wrap", "double"],
)  # fmt: skip
def test_kernel_on_narrow_registers(kernel: str) -> None:
    """Other tile shapes, other generated code, the same bits."""
    _, unit, shifts = CASES[kernel]
    on = On(unit, MACHINES["f16c"])
    arguments = operands(unit, shifts, (5, 4, 67))
    sum_of_a_kind(kernel, unit, arguments)
    assert on.plan(**arguments).back_end == "lanes"
    assert np.array_equal(on.matmul(**arguments), oracle_matmul(unit, **arguments))


@pytest.mark.parametrize("kernel", ["lane32-rup-sticky", "fixed64-rne-wrap", "limbs", "scalar"])
def test_threads_change_no_bit(kernel: str) -> None:
    _, unit, shifts = CASES[kernel]
    arguments = operands(unit, shifts, (33, 5, 150))
    results = []
    for threads in (1, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(threads)
        results.append(unit.matmul(**arguments))
    numba.set_num_threads(1)
    assert np.array_equal(*results)


def test_processors_without_the_instructions_get_no_such_kernel() -> None:
    unit = chain("e5m10")
    a, b = np.array([[1, 2]]), np.array([[1], [2]])
    kernels = []
    for features in ((), ("avx512f",), ("f16c",), ("f16c", "avx512f", "avx512fp16")):
        plan = On(unit, Machine(frozenset(features))).plan(a, b)
        assert plan.why and plan.back_end == "lanes"
        kernels.append(plan.kernel)
    assert kernels == ["shifted32-rne", "shifted32-rne", "via-half", "half"]
    unit = chain("e5m2", "rtz")
    plans = [On(unit, Machine(frozenset(x))).plan(a, b) for x in ((), ("avx512f",))]
    assert [plan.kernel for plan in plans] == ["shifted32-rtz-mode", "shifted32-rtz"]


# -- bounds on exact sums ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shift", "kernel"), [(6, "float"), (7, "double"), (35, "double"), (36, "slice64")]
)
def test_sums_of_24_25_53_and_54_bits(shift: int, kernel: str) -> None:
    """3 * 255^2 * 2^s + 1 has exactly as many bits as the bound says; one too many would lose 1."""
    a = np.full((1, 4), 255)
    a[0, 3] = 1
    b = np.full((4, 2), 255)
    b[3] = 1
    scale = np.array([[127 + shift] * 3 + [127]])
    total = 3 * 255 * 255 * (1 << shift) + 1
    assert total.bit_length() == 18 + shift
    for rounding in ("rup", "rto", "rne"):
        unit = exact("e8m23", rounding, a="uint8")
        assert unit.plan(a, b, a_scale=scale).kernel == kernel
        expected = oracle_matmul(unit, a, b, None, scale)
        assert np.array_equal(unit.matmul(a, b, None, scale), expected)
    if kernel != "slice64":
        unit = fixed(60, 0, a="uint8")
        assert unit.plan(a, b, a_scale=scale).kernel == kernel
        assert unit.matmul(a, b, None, scale).tolist() == [[total, total]]


def test_the_initial_accumulator_counts_in_the_bound() -> None:
    """1 + 2^24 has 25 bits: a start far above the products needs a wider lane."""
    for power, kernel in ((20, "float"), (26, "double"), (55, "slice64")):
        unit = exact("e8m23", "rup", a="uint8")
        c = unit.result.encode([[2.0**power, -(2.0**power)]])
        a, b = np.array([[1]]), np.array([[1, 1]])
        assert unit.plan(a, b, c=c).kernel == kernel
        assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))
    tiny = exact("e8m23", "rup", a="uint8")
    c = tiny.result.encode([[2.0**-40, -(2.0**-140)]])
    assert np.array_equal(
        tiny.matmul([[1]], [[1, 1]], c), oracle_matmul(tiny, np.array([[1]]), np.array([[1, 1]]), c)
    )


@pytest.mark.parametrize(
    ("start", "kernel"),
    [(65535, "float"), (65536, "clamped32"), (131071, "clamped32")],
)
def test_saturation_just_impossible_and_just_possible(start: int, kernel: str) -> None:
    """18 bits hold 65 535 + 255^2 whatever happens; from 65 536 on the engine must not be sure."""
    unit = fixed(18, 0, "saturate", a="uint8")
    a, b = np.array([[255]]), np.array([[255, 0]])
    for sign in (1, -1):
        c = np.full((1, 2), (sign * start) % (1 << 18))
        assert unit.plan(a, b, c=c).kernel == kernel
        assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


def test_products_on_and_below_the_grid() -> None:
    """E2M1 products are multiples of 1/4: an LSB of 1/2 means rounding, one step at a time."""
    a, b = np.full((1, 6), 1), np.full((6, 1), 1)
    kernels = [fixed(24, lsb).plan(a, b).kernel for lsb in (-3, -2, -1)]
    assert [kernel.removeprefix("bytes block64 ") for kernel in kernels] == [
        "float", "float", "fixed64-rne-wrap"
    ]  # fmt: skip
    assert fixed(24, -1).matmul(a, b).item() == 0  # six ties to even, not round(1.5)
    assert fixed(24, -1, rounding="rna").matmul(a, b).item() == 6


@pytest.mark.parametrize(
    ("width", "factor", "kernel"),
    [(24, 64, "clamped32"), (25, 64, "fixed64-rne-saturate"), (8, 1 << 15, "clamped32"),
     (8, 1 << 16, "fixed64-rne-saturate")],
)  # fmt: skip
def test_clamped_sums_at_the_limit_of_a_float32_lane(width: int, factor: int, kernel: str) -> None:
    """Of register and product the wider one doubles at most: 24 bits with its sign."""
    rng = np.random.default_rng(width)
    unit = fixed(width, 0, "saturate", a="uint8", b="uint16")
    a = rng.integers(0, 256, (4, 300)) * (rng.random((4, 300)) < 0.9)
    b = rng.integers(factor // 2, factor, (300, 5)) | 1
    a[0, :2], b[:2, 0] = 255, factor - 1
    start = [1 << (width - 1), (1 << (width - 1)) - 1, (1 << (width - 1)) + 1, 0]
    c = np.array(start)[:, None].repeat(5, axis=1)
    scale = np.full((4, 300), 127)
    plan = unit.plan(a, b, c=c, a_scale=scale)
    assert plan.kernel == kernel
    assert np.array_equal(unit.matmul(a, b, c, scale), oracle_matmul(unit, a, b, c, scale))


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("width", [50, 51, 52, 53])
def test_integers_at_the_limit_of_a_float64_lane(width: int, overflow: str) -> None:
    """Sums up to 2^51 .. 2^54 that also need rounding: from floats to integers, same bits."""
    rng = np.random.default_rng(width)
    a, b = rng.integers(0, 256, (3, 8)), rng.integers(0, 256, (8, 5))
    kernels = set()
    for shift in range(24, 40):
        scale = np.where(np.arange(8) % 3 == 0, 127 - 3, 127 + shift)[None, :].repeat(3, axis=0)
        unit = fixed(width, 0, overflow, "rne", a="uint8")
        c = rng.integers(0, 1 << width, (3, 5)).astype(np.uint64)
        kernels.add(unit.plan(a, b, c=c, a_scale=scale).kernel)
        expected = oracle_matmul(unit, a, b, c, scale)
        assert np.array_equal(unit.matmul(a, b, c, scale), expected), shift
    assert ("integer64-rne-wrap" in kernels) == (overflow == "wrap")
    assert ("scalar" in kernels) == (overflow == "saturate" and width > 51)


def test_products_too_small_or_large_for_a_float64() -> None:
    """A bias of 600 on both sides makes products of 2^-1200: refuse the unit, or be right."""
    for bias in (600, -600):
        try:
            unit = chain("e5m10", "rup", a=f"e2m1b{bias}")
        except ValueError:
            continue
        a = np.array([[7]])
        assert np.array_equal(unit.dot(a, a), oracle.dot(unit, a, a))
        assert np.array_equal(unit.matmul(a, a), oracle.dot(unit, a, a)[:, None])
