# SPDX-License-Identifier: Apache-2.0
"""A unit as data: TOML and names out and back in, and every way a description can be wrong."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from support.helpers import fixed

from fpsim import FpsimError, MacSpec, MacUnit, Overflow, Rounding, get_format, get_unit, unit_names
from fpsim.base.resources import golden_dir
from fpsim.testing.strategies import mac_specs
from fpsim.units.operands import DotOperands
from fpsim.units.spec import significand_bits
from fpsim.units.stages import Chain, Exact, Fixed

GOOD = """
[operands]
a = "e2m1"
b = "e2m1"

[accumulate]
kind = "chain"
format = "e5m10"
"""


# -- out and back in -----------------------------------------------------------------------------


@given(mac_specs(described=True))
def test_toml_round_trip(spec: MacSpec) -> None:
    again = MacSpec.from_dict(tomllib.loads(spec.to_toml()))
    assert again == spec
    assert (again.name, again.description) == (spec.name, spec.description)
    assert again.to_toml() == spec.to_toml()


@given(mac_specs())
def test_canonical_names_parse_back(spec: MacSpec) -> None:
    """Negative biases and fraction counts put a '-' inside a format's name."""
    assert MacSpec.from_name(spec.canonical_name) == spec
    assert spec.name == spec.canonical_name


@pytest.mark.parametrize(
    "name",
    [
        "e2m1-chain-e5m10",
        "e2m1xe3m0-chain-e4m3fn-rtz-nan",
        "e2m1-chain-e8m23-sr8-saturate",
        "e2m1-exact-e8m23",
        "e2m1-fixed24q2",
        "e2m1-fixed24q0-saturate",
        "e2m1-fixed24q-3-rup-saturate",
        "e2m1-fixed24q-3-sr5",
        "int4xe2m1-fixed16q1",
        "e2m1b-3-chain-e5m10",
        "e2m1b-3xe3m0b-1-exact-e5m10",
        "e2m1xint8q-2-chain-e5m10",
        "e2m1-chain-e5m10b-3",
        "e2m1-chain-e4m3b-2fn-rtz",
        "binary4p2sf-exact-binary8p3se",
    ],
)
def test_names_that_are_already_canonical(name: str) -> None:
    unit = get_unit(name)
    assert unit.name == unit.spec.canonical_name == name


@given(mac_specs(), mac_specs())
def test_different_units_have_different_names(first: MacSpec, second: MacSpec) -> None:
    assert (first == second) == (first.canonical_name == second.canonical_name)


def test_equal_units_hash_alike_whatever_they_are_called() -> None:
    plain = get_unit("e2m1-chain-e5m10").spec
    named = MacSpec(plain.a, plain.b, plain.accumulate, "mine", "a description")
    assert named == plain
    assert hash(named) == hash(plain)


def test_published_units_load_and_are_called_like_their_file() -> None:
    files = sorted(golden_dir().glob("*.toml"))
    assert len(files) >= 2
    assert unit_names() == [path.stem for path in files]
    for path in files:
        spec = MacSpec.from_toml(path)
        assert spec.name == path.stem
        assert spec.description
        assert get_unit(path.stem).spec == spec
        assert get_unit(path).spec == spec
        assert MacSpec.from_dict(tomllib.loads(spec.to_toml())) == spec


def test_defaults_are_written_out() -> None:
    spec = MacSpec.from_dict(tomllib.loads(GOOD))
    assert spec.to_dict()["accumulate"] == {
        "kind": "chain",
        "format": "e5m10",
        "rounding": "rne",
        "overflow": "inf",
    }
    assert get_unit("e2m1-chain-e4m3fn").spec.accumulate.overflow is Overflow.SATURATE
    assert fixed(24, -2).spec.to_dict()["accumulate"]["overflow"] == "wrap"


def test_stages_take_names_of_roundings_and_policies_too() -> None:
    """A string that is not recognised as a mode must not compute with another one silently."""
    fmt = get_format("e5m10")
    for by_name, by_value in (
        (Chain(fmt, "rdn", "inf"), Chain(fmt, Rounding.RDN, Overflow.INF)),
        (Exact(fmt, "rup"), Exact(fmt, Rounding.RUP)),
        (Fixed(8, 0, "saturate", "rto"), Fixed(8, 0, Overflow.SATURATE, Rounding.RTO)),
    ):
        units = [
            MacUnit(MacSpec(get_format("e2m1"), get_format("e2m1"), s)) for s in (by_name, by_value)
        ]
        top = 0x7BFF if units[0].result == fmt else 127
        codes = [unit.dot([7], [7], top).item() for unit in units]
        assert codes[0] == codes[1]
    for stage, arguments in ((Chain, (fmt, "rnd")), (Fixed, (8, 0, "clip")), (Exact, (fmt, 3))):
        with pytest.raises(FpsimError):
            stage(*arguments)


def test_getting_units() -> None:
    unit = get_unit("e2m1-chain-e5m10")
    assert get_unit(unit) is unit
    assert get_unit(unit.spec) == unit
    assert get_unit("exact").name == "e2m1-exact-e8m23"
    with pytest.raises(FpsimError, match="'chian' is no stage.*did you mean 'chain'"):
        get_unit("e2m1-chian-e5m10")
    for thing in (
        "",
        "e2m1",
        "chain",
        "e2m1-chain",
        "e2m1-fixedq",
        "e2m1-fixed24",
        3,
        None,
        b"exact",
    ):
        with pytest.raises(FpsimError, match="unit"):
            get_unit(thing)
    with pytest.raises(FpsimError, match="no/such/file.toml"):
        get_unit("no/such/file.toml")


# -- wrong descriptions --------------------------------------------------------------------------


def toml(operands: str = "", accumulate: str = "", top: str = "") -> str:
    """Return the good unit with lines replaced: those for the same key give way."""
    lines = {
        "operands": {"a": '"e2m1"', "b": '"e2m1"'},
        "accumulate": {"kind": '"chain"', "format": '"e5m10"'},
    }
    for table, text in (("operands", operands), ("accumulate", accumulate)):
        for line in filter(None, text.split("\n")):
            key, value = line.split(" = ", 1)
            if value == "-":
                del lines[table][key]
            else:
                lines[table][key] = value
    parts = [top]
    for table, entries in lines.items():
        parts += [f"[{table}]", *(f"{key} = {value}" for key, value in entries.items())]
    return "\n".join(parts)


FIXED = 'kind = "fixed"\nformat = -\nwidth = 24\nlsb = -2'

#: what is wrong: the file, and words that the one error must contain
WRONG: dict[str, tuple[str, list[str]]] = {
    "misspelt key": (toml(accumulate='roundign = "rne"'), ["accumulate.roundign", "unknown key", "did you mean 'rounding'", "format"]),
    "misspelt table": (GOOD.replace("[operands]", "[operand]"), ["operand", "unknown key", "did you mean 'operands'"]),
    "unknown table": (GOOD + "\n[pipeline]\ndepth = 3", ["pipeline", "unknown key", "allowed", "accumulate"]),
    "unknown operand key": (toml('c = "e5m10"'), ["operands.c", "unknown key", "allowed: a, b"]),
    "width for a chain": (toml(accumulate="width = 16"), ["accumulate.width", "unknown key", "format"]),
    "format for fixed": (toml(accumulate=FIXED + '\nformat = "e5m10"'), ["accumulate.format", "unknown key", "width"]),
    "no operands": ('[accumulate]\nkind = "chain"\nformat = "e5m10"', ["operands", "missing"]),
    "no accumulate": ('[operands]\na = "e2m1"\nb = "e2m1"', ["accumulate", "missing"]),
    "no b": (toml("b = -"), ["operands.b", "missing"]),
    "no kind": (toml(accumulate="kind = -"), ["accumulate.kind", "chain, exact, fixed"]),
    "no format": (toml(accumulate="format = -"), ["accumulate.format", "missing"]),
    "no width": (toml(accumulate=FIXED + "\nwidth = -"), ["accumulate.width", "missing"]),
    "no lsb": (toml(accumulate=FIXED + "\nlsb = -"), ["accumulate.lsb", "missing"]),
    "unknown kind": (toml(accumulate='kind = "chian"'), ["accumulate.kind", "chian", "chain, exact, fixed", "did you mean 'chain'"]),
    "kind is a number": (toml(accumulate="kind = 1"), ["accumulate.kind", "1", "chain, exact, fixed"]),
    "kind is a list": (toml(accumulate='kind = ["chain"]'), ["accumulate.kind", "['chain']", "chain, exact, fixed"]),
    "kind is a table": (toml(accumulate='kind = {name = "chain"}'), ["accumulate.kind", "chain, exact, fixed"]),
    "unknown operand format": (toml('a = "e2m1q"'), ["operands.a", "'e2m1q'", "not a format name"]),
    "operand is a number": (toml("a = 4"), ["operands.a", "4", "not a format name"]),
    "operand is a list": (toml('b = ["e2m1"]'), ["operands.b", "not a format name"]),
    "operand is true": (toml("b = true"), ["operands.b", "True", "not a format name"]),
    "impossible operand format": (toml('a = "e12m1"'), ["operands.a", "exponent_bits", "12", "0..11"]),
    "operand too wide": (toml('a = "int33"\nb = "int32"'), ["operands.a", "int33", "33", "32"]),
    "unknown accumulator": (toml(accumulate='format = "e5m1O"'), ["accumulate.format", "'e5m1O'", "not a format name"]),
    "accumulator is a number": (toml(accumulate="format = 7"), ["accumulate.format", "7", "not a format name"]),
    "fixed format in a chain": (toml(accumulate='format = "int16"'), ["accumulate.format", "int16", "floating-point"]),
    "unsigned accumulator": (toml(accumulate='format = "ue4m3"'), ["accumulate.format", "ue4m3", "sign"]),
    "accumulator without zero": (toml(accumulate='format = "e3m2_nozero"'), ["accumulate.format", "e3m2_nozero", "zero"]),
    "accumulator out of reach": (toml(accumulate='format = "e8m7b700"'), ["accumulate.format", "e8m7b700", "400"]),
    "unknown rounding": (toml(accumulate='rounding = "rnd"'), ["accumulate.rounding", "'rnd'", "rne, rna, rtz"]),
    "rounding is a number": (toml(accumulate="rounding = 3"), ["accumulate.rounding", "3", "rne, rna, rtz"]),
    "rounding is a list": (toml(accumulate='rounding = ["rne"]'), ["accumulate.rounding", "rne, rna, rtz"]),
    "unknown overflow": (toml(accumulate='overflow = "clip"'), ["accumulate.overflow", "'clip'", "saturate, inf"]),
    "overflow is false": (toml(accumulate="overflow = false"), ["accumulate.overflow", "False", "saturate"]),
    "wrapping chain": (toml(accumulate='overflow = "wrap"'), ["overflow", "'wrap'", "e5m10", "saturate, inf, nan"]),
    "no infinity to overflow to": (toml(accumulate='format = "e4m3fn"\noverflow = "inf"'), ["overflow", "'inf'", "e4m3fn", "saturate, nan"]),
    "no nan to overflow to": (toml(accumulate='format = "e4m3f"\noverflow = "nan"'), ["overflow", "'nan'", "e4m3f", "saturate"]),
    "fixed overflow to infinity": (toml(accumulate=FIXED + '\noverflow = "inf"'), ["accumulate.overflow", "'inf'", "wrap, saturate"]),
    "width too large": (toml(accumulate=FIXED + "\nwidth = 65"), ["accumulate.width", "65", "4..64"]),
    "width too small": (toml(accumulate=FIXED + "\nwidth = 3"), ["accumulate.width", "3", "4..64"]),
    "negative width": (toml(accumulate=FIXED + "\nwidth = -8"), ["accumulate.width", "-8", "4..64"]),
    "width is text": (toml(accumulate=FIXED + '\nwidth = "24"'), ["accumulate.width", "'24'", "4..64"]),
    "width is a float": (toml(accumulate=FIXED + "\nwidth = 24.0"), ["accumulate.width", "24.0", "4..64"]),
    "width is true": (toml(accumulate=FIXED + "\nwidth = true"), ["accumulate.width", "True", "4..64"]),
    "width is a list": (toml(accumulate=FIXED + "\nwidth = [24]"), ["accumulate.width", "[24]", "4..64"]),
    "width is a date": (toml(accumulate=FIXED + "\nwidth = 2024-01-01"), ["accumulate.width", "4..64"]),
    "lsb is text": (toml(accumulate=FIXED + '\nlsb = "2"'), ["lsb", "'2'", "-512..512"]),
    "lsb is a float": (toml(accumulate=FIXED + "\nlsb = -2.0"), ["lsb", "-2.0", "-512..512"]),
    "lsb is false": (toml(accumulate=FIXED + "\nlsb = false"), ["lsb", "False", "-512..512"]),
    "lsb too small": (toml(accumulate=FIXED + "\nlsb = -513"), ["lsb", "-513", "-512..512"]),
    "stochastic without bits": (toml(accumulate='rounding = "sr"'), ["accumulate.random_bits", "0", "sr", "1.."]),
    "too many random bits": (toml(accumulate='rounding = "sr"\nrandom_bits = 33'), ["accumulate.random_bits", "33", "1.."]),
    "random bits are text": (toml(accumulate='rounding = "sr"\nrandom_bits = "8"'), ["accumulate.random_bits", "'8'", "1.."]),
    "random bits are true": (toml(accumulate='rounding = "sr"\nrandom_bits = true'), ["accumulate.random_bits", "True", "1.."]),
    "random bits are a list": (toml(accumulate='rounding = "sr"\nrandom_bits = [8]'), ["accumulate.random_bits", "[8]", "1.."]),
    "random bits for rne": (toml(accumulate="random_bits = 8"), ["accumulate.random_bits", "8", "rne"]),
    "name with a space": (toml(top='name = "my mac"'), ["name", "'my mac'", "lower-case"]),
    "name with a slash": (toml(top='name = "../mac"'), ["name", "'../mac'", "lower-case"]),
    "name is a number": (toml(top="name = 3"), ["name", "3", "text"]),
    "description is a list": (toml(top='description = ["a"]'), ["description", "text"]),
    "later schema": (toml(top="schema = 2"), ["schema", "2", "1"]),
    "schema is text": (toml(top='schema = "1"'), ["schema", "'1'", "1"]),
    "operands is text": (toml(top='operands = "e2m1"').replace("[operands]", "[more]"), ["operands"]),
    "operands is text only": ('operands = "e2m1"\n[accumulate]\nkind = "chain"\nformat = "e5m10"', ["operands", "'e2m1'", "table"]),
    "operands is a list": (GOOD.replace("[operands]", "[[operands]]"), ["operands", "table"]),
    "accumulate is a list": (GOOD.replace("[accumulate]", "[[accumulate]]"), ["accumulate", "table"]),
    "not toml": ("a = = 3", ["not valid TOML"]),
    "key twice": (GOOD + '\nformat = "e5m10"', ["not valid TOML"]),
    "empty": ("", ["operands", "missing"]),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_description_is_one_clear_error(what: str, tmp_path: Path) -> None:
    """One FpsimError that names the file, the field, the value and what is allowed."""
    text, words = WRONG[what]
    path = tmp_path / "unit.toml"
    path.write_text(text)
    with pytest.raises(FpsimError) as error:
        get_unit(path)
    message = str(error.value)
    for word in [str(path), *words]:
        assert word in message
    assert "Traceback" not in message
    assert what == "not toml" or "\n" not in message


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "unit.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FpsimError, match="not valid TOML"):
        get_unit(path)
    with pytest.raises(FpsimError, match="cannot be read"):
        MacSpec.from_toml(tmp_path)


def test_operands_whose_table_would_not_fit_memory() -> None:
    """An E8M23 operand has 2^32 codes: compute without a table of them, or refuse the unit."""
    program = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
import fpsim
try:
    unit = fpsim.get_unit("e8m23-chain-e8m23")
except fpsim.FpsimError as error:
    assert "operands" in str(error), error
else:
    one = [[0x3F800000]]
    assert unit.dot(one, one).tolist() == [0x3F800000]
    assert unit.matmul(one, one).tolist() == [[0x3F800000]]
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-400:]


def test_the_last_chunk_takes_a_random_integer_only_if_there_is_one() -> None:
    spec = get_unit("e2m1-chunked4-of-chain-e5m10-into-chain-e8m23-sr8").spec
    assert [spec.roundings(k) for k in (3, 4, 5, 8, 9)] == [1, 1, 2, 2, 3]


def test_a_name_says_what_a_nan_scale_does() -> None:
    spec = get_unit("e2m1-block32-nanzero-into-chain-e8m23").spec
    assert str(spec.accumulate.nan_scale) == "zero"
    assert get_unit(spec.canonical_name).spec == spec


@pytest.mark.parametrize(
    ("name", "terms"), [("mxfp4-block32-e8m23", 2), ("amxfp4-block32-e8m23", 8)]
)
def test_a_short_last_block_is_a_block(name: str, terms: int) -> None:
    """Four sums of a block where each sign of both operands has a scale of its own."""
    assert get_unit(name).spec.block_terms(33) == terms


def test_one_of_many_dot_products_takes_its_own_random_integers() -> None:
    spec = get_unit("e2m1-chain-e4m3-sr8").spec
    random = np.arange(12).reshape(3, 4)
    codes = np.arange(12).reshape(3, 4)
    every = DotOperands.check(spec, codes, codes, random=random)
    one = every.at(np.array([2]))
    assert one.random is not None
    assert one.random.tolist() == random[2:].tolist()
    assert one.a.codes.tolist() == codes[2:].tolist()
    without = DotOperands.check(get_unit("e2m1-chain-e4m3").spec, codes, codes).at(np.array([0, 1]))
    assert without.random is None
    assert without.shape == (2,)


@pytest.mark.parametrize(("name", "bits"), [("e0m3", 3), ("e2m1", 2), ("int4", 3), ("ue4m3fn", 4)])
def test_bits_of_a_significand(name: str, bits: int) -> None:
    """A format without exponents has no hidden bit, an integer no bit for its sign."""
    assert significand_bits(get_format(name)) == bits
