# SPDX-License-Identifier: Apache-2.0
"""`check_rounding` finds each mistake by its name, and says nothing of right converters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.helpers import DETERMINISTIC, float_format

from fpsim import FpsimError, Overflow, get_format, testing
from fpsim.testing.boundaries import critical_values
from fpsim.testing.inputs import inputs_for
from fpsim.testing.neighbours import Neighbours, same_values
from fpsim.testing.result import likely_mistakes
from fpsim.testing.rounding_mistakes import rounding_mistakes

E2M1 = float_format("e2m1")
Function = Callable[[Any], Any]


def encoder(name: str, *arguments: str, **options: str) -> Function:
    def convert(x: Any) -> Any:
        return get_format(name).encode(x, *arguments, **options)

    return convert


def converter(name: str, *arguments: str) -> Function:
    def convert(x: Any) -> Any:
        return get_format(name).decode(get_format(name).encode(x, *arguments))

    return convert


@pytest.mark.parametrize(
    "name",
    ["e2m1", "e3m0", "e0m3", "int4", "int4s", "uint4", "e4m3fn", "e8m0", "e4m3fnuz", "e2m3_flush"],
)
def test_neighbours_round_as_the_format_does(name: str) -> None:
    """A second way to round, by counting steps of the grid; mistakes are changes of it."""
    fmt = get_format(name)
    x = inputs_for(fmt, "float32", nan=False).values
    near = Neighbours.of(fmt, x)
    for mode in DETERMINISTIC:
        right = fmt.decode(fmt.encode(x, mode))
        assert same_values(near.rounded(near.upward(mode), "saturate"), right).all()


@pytest.mark.parametrize("name", ["int4", "uint4", "int8"])
def test_neighbours_wrap_as_the_format_does(name: str) -> None:
    fmt = get_format(name)
    x = np.linspace(-300, 300, 4801)
    near = Neighbours.of(fmt, x)
    for mode in DETERMINISTIC:
        right = fmt.decode(fmt.encode(x, mode, "wrap"))
        assert same_values(near.rounded(near.upward(mode), Overflow.WRAP), right).all()


@pytest.mark.parametrize("mode", ["rne", "rna", "rtz", "rup", "rdn", "rto"])
def test_right_converters_hold_and_others_do_not(mode: str) -> None:
    for other in (mode, "rna" if mode == "rne" else "rne"):
        result = testing.check_rounding(encoder("e2m1", other), "e2m1", mode)
        assert bool(result) is (other == mode)
        assert bool(result.mistakes) is (other != mode)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (encoder("e2m1", "rna"), "ties went away from zero"),
        (encoder("e2m1", "rtz"), "values were truncated toward zero"),
        (encoder("e2m1", "rup"), "values were rounded up"),
        (converter("e2m1i", "rne", "inf"), "the codes of the top exponent were infinity and NaN (as in IEEE 754)"),
        (converter("e2m1b2"), "the bias were 2"),
        (encoder("e2m1b2"), "codes were those of bias 2"),
        (lambda x: E2M1.encode(x) & 7, "signs were lost"),
        (lambda x: E2M1.decode(E2M1.encode(x)) + 0.0, "the sign of zero results were lost"),
        (lambda x: E2M1.encode(np.float32(x).astype(np.float16)), "rounded twice, to float16"),
    ],
)  # fmt: skip
def test_mistakes_are_named(function: Function, words: str) -> None:
    with np.errstate(over="ignore"):
        result = testing.check_rounding(function, "e2m1")
    assert not result
    assert words in result.mistakes[0].name
    assert result.mistakes[0].explained == result.mistakes[0].shown > 0


def moved(step: int) -> Function:
    """A converter to four-bit integers times a power of two."""
    other = replace(get_format("int4"), lsb=step)
    return lambda x: other.decode(other.encode(x))


@pytest.mark.parametrize(
    ("function", "name", "words"),
    [
        (encoder("int4s"), "int4", "the most negative code were not produced"),
        (encoder("int4"), "int4s", "the most negative code were produced"),
        (encoder("int4", "rne", "wrap"), "int4", "overflow wrapped"),
        (encoder("uint4", "rne", "wrap"), "uint4", "overflow wrapped"),
        (moved(1), "int4", "the binary point were one place higher"),
        (moved(-1), "int4", "the binary point were one place lower"),
    ],
)
def test_mistakes_of_integers_are_named(function: Function, name: str, words: str) -> None:
    result = testing.check_rounding(function, name)
    assert not result
    assert result.mistakes[0].name == words
    assert result.mistakes[0].explained == result.mistakes[0].shown > 0


def test_a_policy_that_should_wrap_and_saturates_is_named() -> None:
    result = testing.check_rounding(encoder("int4"), "int4", overflow="wrap")
    assert not result and result.mistakes[0].name == "overflow saturated"


@pytest.mark.parametrize("name", ["int4", "uint4"])
@pytest.mark.parametrize("mode", ["rne", "rdn", None])
def test_a_converter_that_wraps_as_it_should_holds(name: str, mode: str | None) -> None:
    """It falls from the largest value to the least, which is no mistake there."""
    right = encoder(name, mode or "rne", "wrap")
    assert testing.check_rounding(right, name, mode, overflow="wrap")
    # Within the range it must not fall.
    swapped = np.array([0, 2, 1, *range(3, 16)])
    result = testing.check_rounding(lambda x: swapped[right(x)], name, mode, overflow="wrap")
    assert "monotone" in {found.name for found in result.properties if found.failed}


def test_every_listed_mistake_is_explained() -> None:
    """Results with exactly one mistake are explained whole, by it or by one of equal results."""
    x = inputs_for(E2M1, "float32", nan=False).values
    x = x[(np.abs(x) < 2.0**-3) == (np.abs(x) > 2.0**-4)]
    x = np.concatenate([x[::64], critical_values(E2M1).astype(np.float32)])
    near = Neighbours.of(E2M1, x)
    right = E2M1.decode(E2M1.encode(x))
    listed = list(rounding_mistakes(near, right, "rne", "saturate"))
    for name, predicted in listed:
        wrong = ~same_values(predicted, right)
        if wrong.any():
            found = likely_mistakes(right, predicted, same_values, listed, lambda rows: "")
            assert found, name
            assert found[0].explained == found[0].shown == wrong.sum(), name


def test_the_counterexample_is_simple_decoded_and_replayable() -> None:
    result = testing.check_rounding(encoder("e2m1", "rna"), "e2m1")
    case = result.counterexample
    assert case is not None
    assert case.given == "float32 0.25"
    assert (case.expected, case.seen) == ("0 (code 0x0)", "0.5 (code 0x1)")
    assert "exactly in the middle" in case.explanation[0]
    printed: list[Any] = []
    scope = {"function": encoder("e2m1", "rna"), "print": lambda *a: printed.append(a)}
    exec(case.replay, scope)
    assert [a.tolist() for a in printed[0]] == [[1], [0]]
    assert "0.25: 0.5 instead of 0" in str(result)


def test_small_input_types_are_tried_whole() -> None:
    for name in ("float16", "bfloat16", "e4m3fn"):
        result = testing.check_rounding(encoder("e2m1"), "e2m1", inputs=name)
        assert result
        assert result.search.startswith(f"exhaustive: all {1 << get_format(name).bits} values")
    # Values are compared after one rounding: bfloat16 has no number between 0.25 and its neighbour.
    fine = encoder("e2m1")

    def nearly(x: Any) -> Any:
        return np.where(x == np.float32(0.25000003), 0, fine(x))

    assert testing.check_rounding(nearly, "e2m1", inputs="bfloat16")
    assert not testing.check_rounding(nearly, "e2m1")


def test_properties_hold_without_a_mode() -> None:
    assert testing.check_rounding(encoder("e4m3fn", "rup"), "e4m3fn", None)

    def swapped(x: Any) -> Any:
        codes = E2M1.encode(x)
        return np.where(codes == 1, 2, np.where(codes == 2, 1, codes))

    result = testing.check_rounding(swapped, "e2m1", None)
    failed = {p.name for p in result.properties if p.failed}
    assert failed >= {"monotone", "one of the two neighbours"}


def test_flags_count() -> None:
    def right(x: Any) -> Any:
        return E2M1.encode(x, flags=True)

    def silent(x: Any) -> Any:
        codes, flags = E2M1.encode(x, flags=True)
        return codes, flags & 0xFE

    assert testing.check_rounding(right, "e2m1", flags=True)
    result = testing.check_rounding(silent, "e2m1", flags=True)
    assert not result
    assert [p.name for p in result.properties if p.failed] == ["status flags"]


def test_nan_is_tried_where_something_is_promised() -> None:
    zero = encoder("e2m1", nan="zero")
    assert "NaN was not tried" in str(testing.check_rounding(zero, "e2m1"))
    assert testing.check_rounding(zero, "e2m1", nan="zero")
    result = testing.check_rounding(encoder("e2m1", nan="saturate"), "e2m1", nan="zero")
    assert result.mistakes[0].name == "NaN became the largest value"


def test_a_result_that_depends_on_its_neighbours_is_said_to() -> None:
    def strange(x: Any) -> Any:
        codes = E2M1.encode(x)
        if x.size > 1000:
            codes[x == 1.0] = 3
        return codes

    result = testing.check_rounding(strange, "e2m1")
    assert not result
    assert any("depends on what else" in line for line in result.counterexample.explanation)


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")

    def convert(x: Any) -> Any:
        assert isinstance(x, torch.Tensor)
        return torch.from_numpy(E2M1.decode(E2M1.encode(x.numpy())).astype(np.float32))

    assert testing.check_rounding(convert, "e2m1", arrays="torch")


def _mutates(x: Any) -> Any:
    x[0] = 1
    return E2M1.encode(x)


def _raises(x: Any) -> Any:
    raise RuntimeError("no\nway")


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        (lambda x: E2M1.encode(x)[:-1], {}, r"returned shape \(\d+,\); it must return codes or"),
        (lambda x: x, {"returns": "codes"}, "returned float32; it was to return codes of e2m1"),
        (lambda x: E2M1.encode(x), {"returns": "values"}, "it was to return values"),
        (lambda x: E2M1.encode(x) + 16, {}, r"which is no code of e2m1 \(0..15\)"),
        (lambda x: E2M1.encode(x).astype(np.int8) - 1, {}, "returned -1, which is no code"),
        (lambda x: None, {}, "returned object"),
        (lambda x: x > 0, {}, "returned bool"),
        (_mutates, {}, "changed its argument 0; it must leave its input as it is"),
        (_raises, {}, r"_raises raised RuntimeError \(no way\) for arrays float32"),
        (lambda x: E2M1.encode(x), {"flags": True}, "returned 1 results"),
    ],
)  # fmt: skip
def test_broken_contracts_are_one_sentence(
    function: Function, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(testing.ContractError, match=words) as error:
        testing.check_rounding(function, "e2m1", **options)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("e2m1", "sr"), {}, "check_stochastic"),
        (("e2m1", "rne"), {"overflow": "inf"}, "'inf' is not possible in e2m1"),
        (("e2m1", "rne"), {"inputs": "float46"}, "not a format name"),
        (("e2m1", "rne"), {"inputs": "e8m23"}, "32 bits"),
        (("e2m1", "rne"), {"arrays": "jax"}, "arrays: 'jax'"),
        (("e2m1", "rne"), {"returns": "bits"}, "returns: 'bits'"),
        (("e9q1", "rne"), {}, "not a format name"),
    ],
)
def test_bad_arguments(arguments: Any, options: Any, words: str) -> None:
    with pytest.raises(FpsimError, match=words):
        testing.check_rounding(encoder("e2m1"), *arguments, **options)
    with pytest.raises(FpsimError, match="cannot be called"):
        testing.check_rounding(3, "e2m1")  # type: ignore[arg-type]
