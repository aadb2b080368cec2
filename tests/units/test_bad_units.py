# SPDX-License-Identifier: Apache-2.0
"""Every way a unit or its operands can be wrong: one sentence with the field and the value."""

from __future__ import annotations

import tomllib
from typing import Any

import numpy as np
import pytest
from support.helpers import float_format, unit_of

from fpsim import FpsimError, MacSpec, get_unit, oracle
from fpsim.studies import order, sizing
from fpsim.units.stages import Aligned, Block, Chain, Chunked, Exact, Fixed, Tree

F32 = float_format("e8m23")

ALIGNED = 'kind = "aligned"\nproducts = 8\nfraction_bits = 24\nformat = "e8m23"\n'
TREE = 'kind = "tree"\nformat = "e8m23"\n'
CHAIN = 'kind = "chain"\nformat = "e8m23"\n'
INTO = f"[accumulate.into]\n{CHAIN}"
BLOCK = 'kind = "block"\nsize = 16\n'
INNER, OUTER = f"[accumulate.inner]\n{CHAIN}", f"[accumulate.outer]\n{CHAIN}"

#: Tables of stages, and what the message must contain after "accumulate".
STAGES: dict[str, tuple[str, list[str]]] = {
    "unknown kind": ('kind = "alined"', [".kind: 'alined'", "did you mean 'aligned'"]),
    "no products": (ALIGNED.replace("products = 8", ""), [".products: missing"]),
    "zero products": (ALIGNED.replace("= 8", "= 0"), [".products: 0", "1..1024"]),
    "products is text": (ALIGNED.replace("= 8", '= "8"'), [".products: '8'"]),
    "too many fraction bits": (ALIGNED.replace("24", "57"), [".fraction_bits: 57", "1..56"]),
    "window too wide": (
        ALIGNED.replace("24", "56").replace("= 8", "= 64"),
        [".fraction_bits: 56 for 64 products", "65 bits", "at most 62"],
    ),
    "unknown key": (ALIGNED + "fractionbits = 3", [".fractionbits: unknown key", "fraction_bits"]),
    "stochastic window": (ALIGNED + 'align = "sr"', [".align: 'sr'", "rne"]),
    "stochastic result": (ALIGNED + 'rounding = "sr"', [".rounding: 'sr'", "aligned takes"]),
    "unknown addend": (ALIGNED + 'addend = "soon"', [".addend: 'soon'", "early, late, joined"]),
    "late rounding of an early addend": (
        ALIGNED + 'late_rounding = "rtz"',
        [".late_rounding: only with addend = 'late'"],
    ),
    "join without joined": (ALIGNED + "join_sum_bits = 30", [".join_sum_bits: only with"]),
    "lanes without joined": (ALIGNED + "lanes = 2", [".lanes: 2", "'joined'"]),
    "three lanes": (ALIGNED + 'addend = "joined"\nlanes = 3', [".lanes: 3", "1..2"]),
    "register below the window": (ALIGNED + "width = 26", [".width: 26", "27..63"]),
    "overflow of no register": (ALIGNED + 'width_overflow = "saturate"', [".width_overflow:"]),
    "register to infinity": (ALIGNED + 'width = 30\nwidth_overflow = "inf"', ["'inf'", "wrap"]),
    "container too small": (
        ALIGNED + 'container = "e8m13"',
        [".container: e8m13 does not hold e8m23", "more mantissa bits"],
    ),
    "container of other exponents": (ALIGNED + 'container = "e5m10"', [".container: e5m10"]),
    "container without a sign": (ALIGNED + 'container = "e8m0"', [".container: e8m0 has no sign"]),
    "nan beyond the container": (ALIGNED + "nan_code = 4294967296", [".nan_code: 4294967296"]),
    "floor out of reach": (ALIGNED + "exponent_floor = -401", [".exponent_floor: -401"]),
    "normalised is text": (ALIGNED + 'normalised = "yes"', [".normalised: 'yes'", "true or false"]),
    "signed zero is a number": (ALIGNED + "signed_zero = 1", [".signed_zero: 1"]),
    "tree of one": (TREE + "radix = 1", [".radix: 1", "2..64"]),
    "tree with more lanes than products": (
        TREE + "products = 4\nlanes = 8",
        [".lanes: 8 are more than the 4 products"],
    ),
    "tree with a late addend": (TREE + 'addend = "late"', [".addend: 'late'", "root, leaf, fused"]),
    "stochastic tree": (TREE + 'rounding = "sr"', [".rounding: 'sr'"]),
    "tree into fixed point": ('kind = "tree"\nformat = "int8"', [".format: int8"]),
    "block of none": (BLOCK.replace("16", "0") + INTO, [".size: 0"]),
    "block into nothing": (BLOCK, [".into: missing"]),
    "block into text": (BLOCK + 'into = "chain"', [".into: 'chain' is not a table"]),
    "block into a block": (
        BLOCK + f"[accumulate.into]\n{BLOCK}[accumulate.into.into]\n{CHAIN}",
        [".into: ", "is not a stage that adds block sums"],
    ),
    "wrong stage inside": (
        BLOCK + '[accumulate.into]\nkind = "chain"\nformat = "e9m99"',
        [".into.format: mantissa_bits: 99"],
    ),
    "conversion without a format": (
        BLOCK + f'convert_rounding = "rtz"\n{INTO}',
        [".convert_rounding: without convert"],
    ),
    "unknown rule for NaN": (BLOCK + f'nan_scale = "drop"\n{INTO}', [".nan_scale: 'drop'", "zero"]),
    "chunks without a size": (f'kind = "chunked"\n{INNER}{OUTER}', [".size:", "either"]),
    "chunks with size and parts": (
        f'kind = "chunked"\nsize = 4\nparts = 2\n{INNER}{OUTER}',
        [".size: give either"],
    ),
    "chunks of half a block": (
        f'kind = "chunked"\nsize = 24\n{OUTER}[accumulate.inner]\n{BLOCK}'
        f"[accumulate.inner.into]\n{CHAIN}",
        [".size: 24 is not a multiple of the block of 16"],
    ),
    "chunks of chunks of half a block": (
        f'kind = "chunked"\nsize = 24\n{OUTER}[accumulate.inner]\nkind = "chunked"\nparts = 2\n'
        f"[accumulate.inner.inner]\n{BLOCK}[accumulate.inner.inner.into]\n{CHAIN}"
        f"[accumulate.inner.outer]\n{CHAIN}",
        [".size: 24 is not a multiple of the block of 16"],
    ),
    "blocks of the results of chunks": (
        f'kind = "chunked"\nsize = 4\n{INNER}[accumulate.outer]\n{BLOCK}'
        f"[accumulate.outer.into]\n{CHAIN}",
        [".outer: ", "is not a stage that adds chunks"],
    ),
    "chunks of blocks of the results of chunks": (
        f'kind = "chunked"\nsize = 4\n{INNER}[accumulate.outer]\nkind = "chunked"\nsize = 16\n'
        f"[accumulate.outer.inner]\n{BLOCK}[accumulate.outer.inner.into]\n{CHAIN}"
        f"[accumulate.outer.outer]\n{CHAIN}",
        [".outer: a block stage sums products", "nothing that adds chunks has any"],
    ),
    "blocks of block sums in chunks": (
        f'{BLOCK}[accumulate.into]\nkind = "chunked"\nsize = 16\n[accumulate.into.inner]\n{BLOCK}'
        f"[accumulate.into.inner.into]\n{CHAIN}[accumulate.into.outer]\n{CHAIN}",
        [".into: a block stage sums products", "nothing that adds block sums has any"],
    ),
    "stochastic chunks without bits": (
        f'kind = "chunked"\nsize = 8\n{OUTER}[accumulate.inner]\n{CHAIN}rounding = "sr"',
        [".inner.random_bits: 0 with rounding 'sr'"],
    ),
    "register too wide to saturate at the end": (
        'kind = "fixed"\nwidth = 53\nlsb = 0\noverflow = "saturate"\noverflow_at = "end"',
        [".width: 53", "at most 52"],
    ),
    "separate products at random": (
        CHAIN + 'rounding = "sr"\nrandom_bits = 4\nproduct = "rounded"',
        [".rounding: 'sr'"],
    ),
}


@pytest.mark.parametrize("what", STAGES)
def test_a_wrong_stage_is_one_sentence(what: str) -> None:
    table, words = STAGES[what]
    text = f'[operands]\na = "e2m1"\nb = "e2m1"\n[accumulate]\n{table}'
    with pytest.raises(FpsimError) as error:
        MacSpec.from_dict(tomllib.loads(text))
    message = str(error.value)
    assert message.startswith("accumulate.")
    for word in words:
        assert word in message
    assert "\n" not in message


def operands(**more: str) -> str:
    lines = "\n".join(f'{k} = "{v}"' for k, v in ({"a": "e2m1", "b": "e2m1"} | more).items())
    return f"[operands]\n{lines}\n[accumulate]\n{CHAIN}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (operands(a_scale="e8m99"), ["operands.a_scale: mantissa_bits: 99"]),
        (operands(b_scale="int8"), ["operands.b_scale: int8 is not a floating-point format"]),
        (operands(c_scale="e8m0"), ["operands.c_scale: unknown key", "a_scale"]),
        (operands(sign_split="all"), ["sign_split: 'all'", "'both'"]),
        (operands(sign_split="a", a="ue4m3fn"), ["operands.sign_split: 'a'", "has no sign"]),
        (
            operands(a="e10m8", b="e10m8"),
            ["operands: products of e10m8 x e10m8", "2^-1022 to 2^960"],
        ),
        ('evidence = "sure"\n' + operands(), ["evidence: 'sure'", "'validated'"]),
        ("source = 3\n" + operands(), ["source: 3 is not text"]),
    ],
)
def test_wrong_operands_are_one_sentence(text: str, words: list[str]) -> None:
    with pytest.raises(FpsimError) as error:
        MacSpec.from_dict(tomllib.loads(text))
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("nvidia-h100-e4m4", "nvidia-h100-e4m3"),
        ("nvidia-h10-fp16", "nvidia-h100-fp16"),
        ("amd-cnda3-fp16", "amd-cdna3-fp16"),
        ("nvidia-b200-mxfp4", "nvidia-b200-mxf4"),
        ("e2m1-chain-e5m11-rnd", "rne"),
    ],
)
def test_an_unknown_unit_names_the_nearest(name: str, near: str) -> None:
    with pytest.raises(FpsimError) as error:
        get_unit(name)
    assert f"unit: {name!r}" in str(error.value)
    assert f"did you mean {near!r}?" in str(error.value)


@pytest.mark.parametrize("name", ["amd-cdna3", "AMD-CDNA3"])
def test_what_is_not_finished_names_everything_that_it_may_become(name: str) -> None:
    with pytest.raises(FpsimError, match=r"did you mean 'amd-cdna3-fp16', .*, .* or '.*'\?"):
        get_unit(name)


def test_a_misplaced_stage_is_named_by_its_kind() -> None:
    chain = Chain(F32)
    with pytest.raises(FpsimError) as error:
        Block(4, Block(4, chain))
    allowed = "allowed: chain, exact, fixed, aligned, tree, chunked"
    assert str(error.value) == f"into: block is not a stage that adds block sums; {allowed}"


def call(unit: Any, how: str, a: Any, b: Any, **more: Any) -> Any:
    if how == "oracle":
        return oracle.dot(unit, a, b, **more)
    return getattr(unit, how)(a, b, **more)


@pytest.mark.parametrize("how", ["dot", "accumulate", "trace", "oracle"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"a": np.zeros(0, np.uint8), "b": [1]}, "a: shape (0,) has no elements along K"),
        ({"a": 3, "b": 3}, "a: shape () has no elements along K"),
        ({"b": [1] * 31}, "b: K is 31 along its last axis but 32 in a"),
        ({"a": [16] * 32}, "a: 16 is not a code of e2m1"),
        ({"a": [1.5] * 32}, "a:"),
        ({"c": 1 << 32}, "c:"),
        ({"a_scale": [127] * 3}, "a_scale: 3 groups do not divide K = 32"),
        ({"a_scale": [127] * 4}, "a_scale: one scale per 8 elements, but"),
        ({"a_scale": [256, 127]}, "a_scale: 256 is not a code of e8m0"),
        ({"a_scale": [127] * 3, "block": 16}, "a_scale: 3 groups do not cover K = 32"),
        ({"a_scale": [127, 127], "block": 0}, "block: 0 is not a positive integer"),
        ({"random": [1] * 32}, "random:"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    how: str, arguments: dict[str, Any], message: str
) -> None:
    unit = unit_of(Block(16, Chain(F32)))
    given: dict[str, Any] = {"a": [1] * 32, "b": [1] * 32} | arguments
    with pytest.raises(FpsimError) as error:
        call(unit, how, given.pop("a"), given.pop("b"), **given)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_split_scales_need_their_last_axis() -> None:
    unit = unit_of(Block(16, Chain(F32)), sign_split="a")
    one = np.ones((2, 32), dtype=np.uint8)
    with pytest.raises(FpsimError, match=r"a_scale: shape \(2,\) has no last axis of 2"):
        unit.dot(one[0], one[0], a_scale=[127, 127])
    with pytest.raises(FpsimError, match=r"a_scale: shape \(2, 2, 1\) has no last axis of 2"):
        unit.matmul(one, one.T, a_scale=np.full((2, 2, 1), 127))
    with pytest.raises(FpsimError, match=r"a_scale: shape \(3, 2, 2\) is not \(2, G, 2\)"):
        unit.matmul(one, one.T, a_scale=np.full((3, 2, 2), 127))


def test_matrices_that_do_not_fit() -> None:
    unit = get_unit("nvidia-b200-mxf4")
    one = np.ones((2, 64), dtype=np.uint8)
    for arguments, message in (
        ({"a": one[0], "b": one.T}, "a: shape (64,) is not a matrix"),
        ({"a": one[:, :0], "b": one.T[:0]}, "a: shape (2, 0) is not a matrix with elements"),
        ({"a": one, "b": one}, "b: K is 2 along its first axis but 64 in a"),
        ({"a": one, "b": one.T, "c": [[0]]}, "c: shape (1, 1) is not (2, 2)"),
        ({"a": one, "b": one.T, "a_scale": np.full((4, 2), 127)}, "a_scale: shape (4, 2)"),
        ({"a": one, "b": one.T, "b_scale": np.full((2, 4), 127)}, "b_scale: shape (2, 4)"),
    ):
        with pytest.raises(FpsimError) as error:
            unit.matmul(**arguments)
        assert message in str(error.value)


def test_a_nan_that_has_no_code_names_what_made_it() -> None:
    """Fixed point has no NaN, and neither has a finite accumulator."""
    one = np.ones((1, 4), dtype=np.uint8)
    scale = np.full((1, 1), 255, dtype=np.uint8)
    for stage in (
        Fixed(16, -2),
        Fixed(16, -2, convert=F32),
        Chain(float_format("e4m3f")),
        Exact(float_format("e4m3f")),
        Tree(float_format("e4m3f")),
        Aligned(4, 8, float_format("e4m3f")),
        Block(4, Chain(float_format("e4m3f"))),
        Chunked(Chain(F32), Fixed(16, -2), size=2),
    ):
        unit = unit_of(stage)
        for compute in (
            lambda u=unit: u.dot(one[0], one[0], a_scale=scale[0]),
            lambda u=unit: u.matmul(one, one.T, a_scale=scale),
            lambda u=unit: oracle.dot(u, one[0], one[0], a_scale=scale[0]),
        ):
            with pytest.raises(FpsimError, match="has no code in") as error:
                compute()
            assert "\n" not in str(error.value)


def test_a_trace_is_of_one_dot_product() -> None:
    with pytest.raises(FpsimError, match=r"a: a trace is of one dot product, not of \(2,\)"):
        get_unit("e2m1-chain-e5m10").trace([[1], [2]], [[1], [2]])


OPERANDS = '[operands]\na = "e2m1"\nb = "e2m1"\n'
#: Stages with an integer field left open, and the least and greatest value that it takes.
ENDS: dict[str, tuple[str, str, int, int]] = {
    "tree products": (TREE, "products", 1, 4096),
    "radix": (TREE, "radix", 2, 64),
    "lanes of a tree": (TREE, "lanes", 1, 1024),
    "block": ('kind = "block"\n', "size", 1, 65536),
    "window products": (ALIGNED.replace("products = 8\n", ""), "products", 1, 1024),
    "fraction bits": (ALIGNED.replace("fraction_bits = 24\n", ""), "fraction_bits", 1, 56),
    "nan code": (ALIGNED, "nan_code", 0, (1 << 32) - 1),
    "register": (ALIGNED, "width", 27, 63),
    "floor": (ALIGNED, "exponent_floor", -400, 400),
    "product limit": (ALIGNED, "product_limit", -400, 400),
    "register of a fixed stage": ('kind = "fixed"\nlsb = -2\n', "width", 4, 64),
    "chunk": (f'kind = "chunked"\n{{}}{INNER}{OUTER}', "size", 1, 1 << 20),
}


@pytest.mark.parametrize("what", ENDS)
def test_an_integer_field_takes_its_ends_and_nothing_beyond(what: str) -> None:
    text, field, least, most = ENDS[what]

    def made(value: int) -> MacSpec:
        line = f"{field} = {value}\n"
        stage = text.format(line) if "{}" in text else text + line
        table = stage + (INTO if "block" in stage else "")
        return MacSpec.from_dict(tomllib.loads(f"{OPERANDS}[accumulate]\n{table}"))

    for value in (least, most):
        assert getattr(made(value).accumulate, field) == value
    for value in (least - 1, most + 1):
        with pytest.raises(FpsimError, match=rf"\.{field}: {value}\b") as error:
            made(value)
        assert f"{least}..{most}" in str(error.value)


def test_a_name_is_no_unit_of_the_oracle_and_the_studies() -> None:
    """They lie below the rooms that find units by name."""
    for function in (
        oracle.dot,
        oracle.dot_with_flags,
        oracle.trace,
        order.study,
        sizing.study,
    ):
        with pytest.raises(FpsimError, match="unit: 'e2m1-chain-e5m10' is no unit; fpsim.get_unit"):
            function("e2m1-chain-e5m10", [1], [1])
