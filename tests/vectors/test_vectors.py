# SPDX-License-Identifier: Apache-2.0
"""Golden vectors: the generator's random numbers and every expected bit."""

from __future__ import annotations

import hashlib
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.helpers import chain, fixed

import fpsim
from fpsim import FpsimError, MacUnit, get_unit
from fpsim.base.philox import Philox, philox4x32
from fpsim.vectors import STARTS, Op, VectorSet, plan, write

pytestmark = pytest.mark.usefixtures("one_thread")

GOLDEN = ["e2m1-chain-e5m10", "e2m1-fixed24q2"]

#: SHA-256 of vectors.hex at seed 1 with default arguments, headed "fpsim 0.1.0". A change here is
#: a change of published bits: it belongs in the changelog under "Numerics".
PINNED = {
    "e2m1-chain-e5m10": "56534b8d1d8dd12ddb88ebd227ddb3ab4935609d115e33ac05b773f294f7ef0d",
    "e2m1-fixed24q2": "1b254ec07df6381676bc538dda4e6f934a6a10943c67a4de2162637b0a5ff699",
}


# -- random numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(
    counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    """The vectors that Random123 publishes for philox4x32-10."""
    assert philox4x32(np.array([counter], dtype=np.uint32), key)[0].tolist() == list(words)


def test_philox_agrees_with_a_plain_implementation() -> None:
    def plain(counter: list[int], key: list[int]) -> list[int]:
        x, k = list(counter), list(key)
        for _ in range(10):
            p0, p1 = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
            x = [
                (p1 >> 32) ^ x[1] ^ k[0],
                p1 & 0xFFFFFFFF,
                (p0 >> 32) ^ x[3] ^ k[1],
                p0 & 0xFFFFFFFF,
            ]
            k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
        return x

    seed, stream = 0x0123456789ABCDEF, 0xFEDCBA9876543210
    words = Philox(seed, stream).words(11).tolist()
    low, high = stream & 0xFFFFFFFF, stream >> 32
    expected = sum(
        (plain([i, 0, low, high], [seed & 0xFFFFFFFF, seed >> 32]) for i in range(3)), start=[]
    )
    assert words == expected[:11]


def test_philox_does_not_depend_on_how_words_are_drawn() -> None:
    whole = Philox(7).words(50)
    stream = Philox(7)
    parts = np.concatenate([stream.words(n) for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 5)])
    assert np.array_equal(whole, parts)
    assert not np.array_equal(whole, Philox(8).words(50))
    assert not np.array_equal(whole, Philox(7, 1).words(50))


def test_philox_ranges() -> None:
    stream = Philox(1)
    draws = stream.below(10, 20000)
    assert (np.bincount(draws, minlength=10) > 1800).all()
    assert draws.max() == 9
    assert stream.below(1 << 32, 100).max() > 1 << 31
    bits = stream.bits(5, 2000)
    assert set(bits.tolist()) == set(range(32))
    wide = stream.bits(64, 200)
    assert wide.max() > 1 << 63
    assert len(set(wide.tolist())) == 200


@pytest.mark.parametrize("seed", [-1, 1 << 64, 1.0, "1", True, None])
def test_philox_refuses_seeds(seed: Any) -> None:
    with pytest.raises(FpsimError, match=r"seed.*0\.\.2\^64 - 1"):
        Philox(seed)


# -- expected accumulators -----------------------------------------------------------------------


def recompute(vectors: VectorSet) -> list[int]:
    """Return the accumulator after every vector, by the oracle."""
    acc, out, record = 0, [], vectors.record
    for i in range(vectors.count):
        row = {name: column[i] for name, column in vectors.columns.items()}
        op = Op(int(row["op"]))
        if op in (Op.MAC, Op.DOT):
            c = int(row["c"]) if op is Op.DOT else acc
            acc = record.trace(row, c).code
        elif op is not Op.IDLE:
            acc = int(row["c"]) if op is Op.LOAD else 0
        out.append(acc)
    return out


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", GOLDEN)
def test_every_golden_vector_is_the_oracles(name: str, start: str) -> None:
    vectors = head_of_each_section(plan(get_unit(name), count=400, start=start).made(), 300)
    assert vectors.columns["acc"].tolist() == recompute(vectors)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "unit",
    [
        chain("e5m10", "rtz"),
        chain("e4m3fn", "rdn", "nan"),
        chain("e4m3fnuz", "rna"),
        chain("e6m9_flush", "rto"),
        pytest.param(chain("e8m23", b="e4m3fn"), marks=pytest.mark.sweep),
        fixed(12, -1, "saturate", "rup"),
        fixed(64, -2, "saturate"),
        fixed(64, 1, "wrap", "rne", b="int8q6"),
    ],
    ids=lambda unit: unit.name,
)
def test_vectors_of_other_units_are_the_oracles(unit: MacUnit) -> None:
    """With a scale per product too; only a part of each section where there are many."""
    for group in (0, 1):
        made = plan(unit, count=200, group=group, seed=3, start="load").made()
        part = head_of_each_section(made, 100)
        assert part.columns["acc"].tolist() == recompute(part)


@pytest.mark.parametrize("k", [1, 3, 4])
@pytest.mark.parametrize(
    "name",
    [
        "e2m1-chain-e5m10",
        "e2m1-chain-e4m3fn-sr6",
        "e2m1-fixed12q0-saturate",
        "e2m1-fixed12q0-saturate-end",
        "e2m1-tree2-e8m7",
        "e2m1-exact-e8m7",
        "e2m1-aligned4f5-e5m10",
    ],
)
def test_sums_of_every_length_are_the_oracles(name: str, k: int) -> None:
    """Runs that one call computes and runs in turns: each vector takes the result before it."""
    vectors = plan(get_unit(name), strategy="random", count=350, k=k, start="load").made()
    assert vectors.columns["acc"].tolist() == recompute(vectors)
    part = slice(7, 60)  # a block that begins in the middle of a sum
    columns = {n: c[part] for n, c in vectors.columns.items()}
    found = vectors.record.expected(columns, int(vectors.columns["acc"][6]))
    assert np.array_equal(found, vectors.columns["acc"][part])


def head_of_each_section(vectors: VectorSet, count: int) -> VectorSet:
    """Return the first vectors of each section; none leans on the vectors before it."""
    keep = np.concatenate(
        [np.arange(s.start, s.start + min(s.count, count)) for s in vectors.sections]
    )
    columns = {name: values[keep] for name, values in vectors.columns.items()}
    return VectorSet(vectors.record, columns, ())


def test_sections_do_not_lean_on_what_came_before() -> None:
    for name, start in product(GOLDEN, STARTS):
        vectors = plan(get_unit(name), count=200, start=start).made()
        for section in vectors.sections:
            assert vectors.columns["op"][section.start] not in (Op.MAC, Op.IDLE), section.name


@pytest.mark.parametrize("name", GOLDEN)
def test_published_bytes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same unit, seed and version give the same bytes on every machine."""
    monkeypatch.setattr(fpsim, "__version__", "0.1.0")
    write(plan(get_unit(name)), tmp_path / "vectors")
    digest = hashlib.sha256((tmp_path / "vectors" / "vectors.hex").read_bytes()).hexdigest()
    assert digest == PINNED[name]


@pytest.mark.parametrize("name", GOLDEN)
def test_same_arguments_same_vectors_and_other_seeds_others(name: str, tmp_path: Path) -> None:
    unit = get_unit(name)
    for directory in ("one", "two"):
        write(plan(unit, strategy="random", count=300), tmp_path / directory)
    write(plan(unit, strategy="random", count=300, seed=2), tmp_path / "three")
    files = ["vectors.hex", "vectors.jsonl", "manifest.json"]
    one, two, three = (
        [(tmp_path / d / f).read_bytes() for f in files] for d in ("one", "two", "three")
    )
    assert one == two
    assert one[0] != three[0]


def test_a_plan_takes_the_name_of_a_unit() -> None:
    unit = get_unit("e2m1-chain-e5m10")
    assert plan(unit.name, count=9).count == plan(unit, count=9).count
    with pytest.raises(FpsimError, match="unit: 3 is not a name"):
        plan(3)  # type: ignore[arg-type]
