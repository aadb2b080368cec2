# SPDX-License-Identifier: Apache-2.0
"""Quantization error against closed-form integrals and a quantizer of its own."""

from __future__ import annotations

import csv
import math
import runpy
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist, median
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.studies import sqnr
from fpsim.studies.sqnr import Scaling

ROOT = Path(__file__).resolve().parents[2]

# Written down here, not asked of the package.
MAGNITUDES = {
    "int4s": [0, 1, 2, 3, 4, 5, 6, 7],
    "e1m2": [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5],
    "e2m1": [0, 0.5, 1, 1.5, 2, 3, 4, 6],
    "e3m0": [0, 0.25, 0.5, 1, 2, 4, 8, 16],
}
# floor(log2) of the largest value, for the MX scale.
LARGEST_EXPONENT = {"int4s": 2, "e1m2": 1, "e2m1": 2, "e3m0": 4}

Moments = Callable[[float, float], tuple[float, float, float]]


# ------------------------------------------------------------- distributions, by their integrals


def normal_moments(a: float, b: float) -> tuple[float, float, float]:
    """Probability, first and second moment of N(0, 1) between a and b."""
    dist = NormalDist()
    pa, pb = dist.pdf(a), dist.pdf(b)
    p = dist.cdf(b) - dist.cdf(a)
    return p, pa - pb, p + (a * pa if pa else 0.0) - (b * pb if pb else 0.0)


def laplace_moments(a: float, b: float) -> tuple[float, float, float]:
    """The same of the Laplace density exp(-|x|) / 2, for 0 <= a < b."""
    ea, eb = math.exp(-a), math.exp(-b)
    upper = (eb, (b + 1) * eb, (b * b + 2 * b + 2) * eb) if b < 700 else (0.0, 0.0, 0.0)
    lower = (ea, (a + 1) * ea, (a * a + 2 * a + 2) * ea)
    return tuple((x - y) / 2 for x, y in zip(lower, upper, strict=True))  # type: ignore[return-value]


def half_noise(levels: Sequence[float], step: float, moments: Moments) -> float:
    """Mean squared error over x > 0 of rounding to ``step`` times the nearest level."""
    grid = [level * step for level in levels]
    edges = [0.0, *((x + y) / 2 for x, y in pairwise(grid)), 1000.0]
    noise = 0.0
    for value, a, b in zip(grid, edges, edges[1:], strict=False):
        p, first, second = moments(a, b)
        noise += second - 2 * value * first + value * value * p
    return noise


def optimum(levels: Sequence[float], moments: Moments, power: float) -> tuple[float, float]:
    """Return the best SQNR in dB and the step it is at."""
    steps = np.geomspace(0.2, 2.0, 300) * 4 / levels[-1]
    noises = [half_noise(levels, float(step), moments) for step in steps]
    best = int(np.argmin(noises))
    return 10 * math.log10(power / 2 / noises[best]), float(steps[best])


def normal_grid(count: int) -> NDArray[np.float64]:
    """The quantiles of N(0, 1) in the middle of ``count`` equal shares."""
    dist = NormalDist()
    return np.array([dist.inv_cdf((i + 0.5) / count) for i in range(count)])


def test_the_integral_reproduces_max_1960() -> None:
    # 16 uniform levels for a unit normal: error 0.01154 at step 0.3352 (Table II).
    levels = [i + 0.5 for i in range(8)]
    assert 2 * half_noise(levels, 0.3352, normal_moments) == pytest.approx(0.01154, abs=1e-5)


@pytest.mark.parametrize("name", MAGNITUDES)
def test_best_clip_on_a_gaussian_is_the_optimum(name: str) -> None:
    x = normal_grid(20_001)
    expected, step = optimum(MAGNITUDES[name], normal_moments, 1.0)
    ratio = sqnr.best_clip(x, name)
    assert sqnr.sqnr_db(x, sqnr.quantize(x, name, ratio)) == pytest.approx(expected, abs=0.01)
    if name != "e3m0":  # its curve is too flat to name one step
        assert ratio * x.max() / MAGNITUDES[name][-1] == pytest.approx(step, rel=0.02)


@pytest.mark.parametrize("name", MAGNITUDES)
def test_best_clip_on_laplace_data_is_the_optimum(name: str) -> None:
    expected, _ = optimum(MAGNITUDES[name], laplace_moments, 2.0)
    u = (np.arange(1 << 17) + 0.5) / (1 << 17)
    x = np.where(u < 0.5, np.log(2 * u), -np.log(2 * (1 - u)))
    assert sqnr.clip_curve(x, name).max() == pytest.approx(expected, abs=0.02)


def test_uniform_data_on_int4() -> None:
    # Every cell of width 1/7, the two half ones included, has error variance 1 / (12 * 49).
    count = 70_000
    x = (np.arange(count) + 0.5) * 2 / count - 1
    expected = 10 * math.log10((1 / 3) / (1 / (12 * 49)))
    assert sqnr.sqnr_db(x, sqnr.quantize(x, "int4s")) == pytest.approx(expected, abs=1e-3)


# ----------------------------------------------------------------------------- the clip scan


def heavy(count: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_t(3, count)


@pytest.mark.parametrize(
    "fmt", [*MAGNITUDES, "int4", "e4m3fn", "e5m2", "e2m3", "e4m3fnuz", "uint4", "e2m1b3", "int8s"]
)
def test_the_scan_equals_quantizing_at_every_ratio(fmt: str) -> None:
    x = np.concatenate([heavy(3000), np.arange(-40, 41) / 8])  # the latter fall on ties
    ratios = np.concatenate([[1.0, 0.5, 0.25, 2.0], np.geomspace(1.5, 0.01, 30)])
    expected = [sqnr.sqnr_db(x, sqnr.quantize(x, fmt, float(ratio))) for ratio in ratios]
    np.testing.assert_allclose(sqnr.clip_curve(x, fmt, ratios), expected, rtol=1e-9, atol=1e-9)


def test_best_clip_is_the_best_of_a_fine_grid_down_to_deep_clipping() -> None:
    ratios = sqnr.clip_ratios()
    assert ratios[0] == 1.0
    assert ratios[-1] < 1e-4
    assert np.all(ratios[1:] / ratios[:-1] > 0.98)
    x = heavy(5000, 2)
    best = sqnr.best_clip(x, "e2m1")
    index = ratios.tolist().index(best)
    others = [*ratios[::16], *ratios[index - 3 : index + 4]]
    top = max(sqnr.sqnr_db(x, sqnr.quantize(x, "e2m1", float(r))) for r in others)
    assert sqnr.sqnr_db(x, sqnr.quantize(x, "e2m1", best)) == top


def test_data_that_the_format_holds_has_no_error() -> None:
    x = np.array([-6, -4, 0.5, 1.5, 3.0, 0.0])
    assert sqnr.sqnr_db(x, sqnr.quantize(x, "e2m1")) == math.inf
    assert sqnr.clip_curve(x, "e2m1", [1.0])[0] > 140
    assert sqnr.sqnr_db(np.zeros(2), np.ones(2)) == -math.inf


def test_levels() -> None:
    for name, magnitudes in MAGNITUDES.items():
        expected = sorted({sign * m for m in magnitudes for sign in (1, -1)})
        assert sqnr.levels(name).tolist() == expected
    assert sqnr.levels("int4").tolist() == list(range(-8, 8))
    assert sqnr.levels("e5m2").max() == 57344  # infinity and NaN are no levels
    sqnr.levels("e2m1")[:] = 0  # a caller's copy
    assert sqnr.levels("e2m1").max() == 6


# ------------------------------------------------------------------------------- the study


def nearest(value: float, magnitudes: Sequence[float]) -> float:
    """Round one value to the nearest magnitude; ties do not occur in the data it is used for."""
    return math.copysign(min(magnitudes, key=lambda m: abs(m - abs(value))), value)


def slow_block_sqnr(x: NDArray[np.float64], name: str, power_of_two: bool) -> float:
    noise = 0.0
    for start in range(0, x.size, 32):
        block = x[start : start + 32].tolist()
        largest = max(abs(v) for v in block)
        if largest == 0.0:
            continue
        scale = largest / MAGNITUDES[name][-1]
        if power_of_two:
            scale = 2.0 ** (math.frexp(largest)[1] - 1 - LARGEST_EXPONENT[name])
        noise += sum((v - scale * nearest(v / scale, MAGNITUDES[name])) ** 2 for v in block)
    return 10 * math.log10(float(x @ x) / noise)


def by_key(rows: Sequence[sqnr.SqnrRow]) -> dict[tuple[str, str, Scaling], sqnr.SqnrRow]:
    return {(row.data, row.format, row.scaling): row for row in rows}


@pytest.mark.parametrize("name", MAGNITUDES)
def test_block_scales_equal_a_slow_quantizer(name: str) -> None:
    x = heavy(1000, 7)  # the last block is short
    x[64:96] = 0.0
    rows = by_key(sqnr.measure({"x": x}, [name]))
    for scaling, power_of_two in ((Scaling.BLOCK_ABSMAX, False), (Scaling.BLOCK_E8M0, True)):
        expected = slow_block_sqnr(x, name, power_of_two)
        assert rows["x", name, scaling].sqnr_db == pytest.approx(expected, abs=1e-9)


def test_rows_of_one_tensor() -> None:
    x = heavy(999)
    rows = sqnr.measure({"x": x.reshape(9, 111)}, ["e2m1", "e3m0"])
    assert [row.format for row in rows] == ["e2m1"] * 4 + ["e3m0"] * 4
    assert [row.scaling for row in rows] == list(Scaling) * 2
    assert {(row.data, row.samples, row.tensors) for row in rows} == {("x", 999, 1)}
    best = sqnr.best_clip(x, "e2m1")
    table = by_key(rows)
    assert table["x", "e2m1", Scaling.TENSOR_BEST].clip_ratio == best < 1.0
    assert table["x", "e2m1", Scaling.TENSOR_ABSMAX].clip_ratio == 1.0
    assert table["x", "e2m1", Scaling.BLOCK_E8M0].clip_ratio is None
    for scaling, ratio in ((Scaling.TENSOR_ABSMAX, 1.0), (Scaling.TENSOR_BEST, best)):
        expected = sqnr.sqnr_db(x, sqnr.quantize(x, "e2m1", ratio))
        assert table["x", "e2m1", scaling].sqnr_db == pytest.approx(expected, abs=1e-9)


def test_a_short_block_is_not_padded_with_values_a_format_without_zero_would_miss() -> None:
    x = np.linspace(1.0, 2.0, 33)
    row = sqnr.measure({"x": x}, ["e2m1_nozero"])[0]
    expected = sqnr.sqnr_db(x, sqnr.quantize(x, "e2m1_nozero"))
    assert row.sqnr_db == pytest.approx(expected, abs=1e-9)


def test_e1m2_is_int4_at_another_scale_to_the_last_bit() -> None:
    data = {"gaussian": sqnr.gaussian(10_000), "laplace": sqnr.laplace(10_000), "t": heavy(10_000)}
    rows = by_key(sqnr.measure(data))
    for name in data:
        for scaling in Scaling:
            integers, floats = rows[name, "int4s", scaling], rows[name, "e1m2", scaling]
            assert integers.sqnr_db == floats.sqnr_db
            assert integers.clip_ratio == floats.clip_ratio


def test_tensors_of_a_list_have_their_own_scales_and_the_row_is_their_median() -> None:
    tensors = [heavy(500, 1), 1000 * heavy(70, 2), heavy(33, 3)]
    apart = [by_key(sqnr.measure({"x": x}, ["e2m1"])) for x in tensors]
    rows = sqnr.measure({"x": [*tensors, np.zeros(32)]}, ["e2m1"])
    for row in rows:
        key = ("x", "e2m1", row.scaling)
        assert (row.samples, row.tensors) == (603, 3)
        assert row.sqnr_db == pytest.approx(median(r[key].sqnr_db for r in apart), abs=1e-9)
    best = [r["x", "e2m1", Scaling.TENSOR_BEST].clip_ratio for r in apart]
    assert rows[1].clip_ratio == median(best)  # type: ignore[type-var]


def test_what_the_documentation_says_of_gaussian_and_laplace() -> None:
    data = {"gaussian": sqnr.gaussian(1 << 15), "laplace": sqnr.laplace(1 << 15)}
    rows = by_key(sqnr.measure(data))

    def leader(name: str, scaling: Scaling) -> str:
        return max(MAGNITUDES, key=lambda fmt: rows[name, fmt, scaling].sqnr_db)

    assert leader("gaussian", Scaling.BLOCK_ABSMAX) in ("int4s", "e1m2")
    assert leader("gaussian", Scaling.BLOCK_E8M0) == "e2m1"
    assert {leader("laplace", scaling) for scaling in Scaling if scaling.startswith("block")} == {
        "e2m1"
    }


# --------------------------------------------------------------------------------- samples


@pytest.mark.parametrize(
    ("name", "cdf"),
    [
        ("gaussian", NormalDist().cdf),
        ("laplace", lambda x: math.exp(x) / 2 if x < 0 else 1 - math.exp(-x) / 2),
    ],
)
def test_samples_follow_their_distribution(name: str, cdf: Callable[[float], float]) -> None:
    count = 1 << 16
    x = sqnr.samples(name, count, seed=5)
    for point in (-3.0, -1.5, -0.5, 0.0, 0.3, 1.0, 2.5):
        share = np.count_nonzero(x < point) / count
        assert share == pytest.approx(cdf(point), abs=4 * 0.5 / math.sqrt(count))
    assert np.square(x).mean() == pytest.approx({"gaussian": 1.0, "laplace": 2.0}[name], rel=0.03)
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(x[: count // 2], x[count // 2 :])[0, 1]) < 0.02


def test_samples_are_a_function_of_the_seed() -> None:
    for name in sqnr.DISTRIBUTIONS:
        assert sqnr.samples(name, 7).shape == (7,)
        assert np.array_equal(sqnr.samples(name, 101, 9), sqnr.samples(name, 101, 9))
        assert not np.array_equal(sqnr.samples(name, 101, 9), sqnr.samples(name, 101, 10))


# ---------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sqnr.measure({"x": [1.0, math.nan]}), ["'x'", "NaN"]),
        (lambda: sqnr.measure({"zeros": np.zeros(9)}), ["'zeros'", "zero"]),
        (lambda: sqnr.measure({"none": []}), ["'none'"]),
        (lambda: sqnr.measure({"layers": [np.zeros(3), np.zeros(4)]}), ["'layers'", "zero"]),
        (lambda: sqnr.measure({"x": [1.0]}, ["e2m9"]), ["e2m9", "12 bits", "8"]),
        (lambda: sqnr.measure({"x": [1.0]}, ["int4"]), ["int4", "symmetric", "int4s"]),
        (lambda: sqnr.measure({"x": [1.0]}, ["e2n1"]), ["e2n1"]),
        (lambda: sqnr.quantize([1.0], "e2m1", 0.0), ["clip_ratio", "0.0"]),
        (lambda: sqnr.sqnr_db([1.0], [1.0, 2.0]), ["(2,)", "(1,)"]),
        (lambda: sqnr.samples("gausian", 3), ["gausian", "'gaussian'"]),
        (lambda: sqnr.samples("laplace", 0), ["samples", "0"]),
    ],
)
def test_bad_input_is_one_sentence(call: Callable[[], Any], words: list[str]) -> None:
    with pytest.raises(FpsimError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text


# ---------------------------------------------------------------- analysis/quantization_error.py


@pytest.fixture(scope="module")
def study() -> SimpleNamespace:
    path = ROOT / "analysis" / "quantization_error.py"
    return SimpleNamespace(**runpy.run_path(str(path)))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_study_writes_picture_and_numbers(
    study: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert study.main(["--samples", "4096", "--seed", "2", "--out", str(tmp_path)]) == 0
    table = read_csv(tmp_path / "quantization_error.csv")
    data = {name: sqnr.samples(name, 4096, 2) for name in sqnr.DISTRIBUTIONS}
    for line, row in zip(table, sqnr.measure(data), strict=True):
        assert (line["data"], line["format"], line["scaling"]) == (
            row.data,
            row.format,
            row.scaling,
        )
        assert float(line["sqnr_db"]) == pytest.approx(row.sqnr_db, abs=1e-3)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "quantization_error.csv",
        "quantization_error.svg",
    ]
    assert capsys.readouterr().out.startswith("data,samples,")


def test_the_study_says_what_is_wrong_in_one_line(
    study: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    (tmp_path / "file").write_text("")
    assert study.main(["--samples", "64", "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_committed_numbers_are_those_of_this_code() -> None:
    table = read_csv(ROOT / "analysis" / "results" / "quantization_error.csv")
    data = {name: sqnr.samples(name, 1 << 17) for name in sqnr.DISTRIBUTIONS}
    for line, row in zip(table, sqnr.measure(data), strict=True):
        assert (line["data"], line["format"], line["scaling"]) == (
            row.data,
            row.format,
            row.scaling,
        )
        if row.scaling is not Scaling.TENSOR_ABSMAX:  # its value depends on the largest sample
            assert float(line["sqnr_db"]) == pytest.approx(row.sqnr_db, abs=0.25)
