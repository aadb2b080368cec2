# SPDX-License-Identifier: Apache-2.0
"""Golden vectors: the generator's random numbers, every expected bit, what classes hit, files."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import chain, exact, fixed

import fpsim
from fpsim import FpsimError, MacUnit, Overflow, Rounding, get_unit, oracle
from fpsim.vectors import STRATEGIES, Op, VectorSet, check, generate, read, write
from fpsim.vectors.philox import Philox, philox4x32

GOLDEN = ["e2m1-chain-e5m10", "e2m1-fixed24q2"]

#: SHA-256 of vectors.hex at seed 1 with default arguments, headed "fpsim 0.1.0". A change here is
#: a change of published bits: it belongs in the changelog under "Numerics".
PINNED = {
    "e2m1-chain-e5m10": "a09a66543aa229471ea987a71af0279cc63bb275fe166f23adbe789e12c9e5cc",
    "e2m1-fixed24q2": "378743e0e555fcc50d4ca9dc5a969b81f412ecadc80a1dfcc243f8785092917c",
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
    width = {f.name: f.width for f in vectors.fields}
    acc, out = 0, []
    for vector in vectors:
        exp = vector.get("exp", 0)
        if exp >> (width.get("exp", 1) - 1):
            exp -= 1 << width.get("exp", 0)
        if vector["op"] == Op.CLEAR:
            acc = 0
        elif vector["op"] == Op.LOAD:
            acc = vector["c"]
        elif vector["op"] == Op.MAC:
            acc = oracle.steps(vectors.spec, [vector["a"]], [vector["b"]], acc, [exp])[-1]
        out.append(acc)
    return out


@pytest.mark.parametrize("name", GOLDEN)
def test_every_golden_vector_is_the_oracles(name: str) -> None:
    vectors = generate(get_unit(name), count=500)
    assert vectors.columns["acc"].tolist() == recompute(vectors)


@pytest.mark.parametrize(
    "unit",
    [
        chain("e5m10", "rtz"),
        chain("e4m3fn", "rdn", "nan"),
        chain("e4m3fnuz", "rna"),
        chain("e6m9_flush", "rto"),
        chain("e8m23", b="e4m3fn"),
        fixed(12, -1, "saturate", "rup"),
        fixed(64, -2, "saturate"),
        fixed(64, 1, "wrap", "rne", b="int8q6"),
    ],
    ids=lambda unit: unit.name,
)
def test_vectors_of_other_units_are_the_oracles(unit: MacUnit) -> None:
    """With exponents too; only a part of each section where there are many."""
    for exponents in (False, True):
        vectors = generate(unit, count=300, exponents=exponents, seed=3)
        part = head_of_each_section(vectors, 250)
        assert part.columns["acc"].tolist() == recompute(part)


def head_of_each_section(vectors: VectorSet, count: int) -> VectorSet:
    """Return the first vectors of each section; every section starts with CLEAR or LOAD."""
    keep = np.concatenate(
        [np.arange(s.start, s.start + min(s.count, count)) for s in vectors.sections]
    )
    columns = {name: values[keep] for name, values in vectors.columns.items()}
    return VectorSet(vectors.spec, vectors.seed, vectors.strategy, columns, ())


def test_sections_do_not_lean_on_what_came_before() -> None:
    for name in GOLDEN:
        vectors = generate(get_unit(name), count=200)
        for section in vectors.sections:
            assert vectors.columns["op"][section.start] in (Op.CLEAR, Op.LOAD), section.name


@pytest.mark.parametrize("name", GOLDEN)
def test_published_bytes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same unit, seed and version give the same bytes on every machine."""
    monkeypatch.setattr(fpsim, "__version__", "0.1.0")
    write(generate(get_unit(name)), tmp_path / "vectors")
    digest = hashlib.sha256((tmp_path / "vectors" / "vectors.hex").read_bytes()).hexdigest()
    assert digest == PINNED[name]


@pytest.mark.parametrize("name", GOLDEN)
def test_same_arguments_same_vectors_and_other_seeds_others(name: str, tmp_path: Path) -> None:
    unit = get_unit(name)
    for directory in ("one", "two"):
        write(generate(unit, strategy="random", count=300), tmp_path / directory)
    write(generate(unit, strategy="random", count=300, seed=2), tmp_path / "three")
    files = ["vectors.hex", "vectors.jsonl", "manifest.json"]
    one, two, three = (
        [(tmp_path / d / f).read_bytes() for f in files] for d in ("one", "two", "three")
    )
    assert one == two
    assert one[0] != three[0]


# -- what the classes hit ------------------------------------------------------------------------


def section(vectors: VectorSet, name: str) -> Iterator[tuple[dict[str, int], int]]:
    """Yield the MAC vectors of a section, each with the accumulator before it."""
    entry = next(s for s in vectors.sections if s.name == name)
    before = [0, *vectors.columns["acc"].tolist()]
    for i, vector in enumerate(vectors):
        if entry.start <= i < entry.start + entry.count and vector["op"] == Op.MAC:
            yield vector, before[i]


@pytest.fixture(scope="module")
def half() -> VectorSet:
    return generate(get_unit(GOLDEN[0]), count=1000)


@pytest.fixture(scope="module")
def word() -> VectorSet:
    return generate(get_unit(GOLDEN[1]), count=1000)


def product(vectors: VectorSet, vector: dict[str, int]) -> Fraction:
    spec = vectors.spec
    return oracle.decode(vector["a"], spec.a).value * oracle.decode(vector["b"], spec.b).value


def test_no_class_is_empty(half: VectorSet, word: VectorSet) -> None:
    names = {s.name for s in half.sections}
    assert names == {
        "products", "reachable", "signed-zeros", "special-values", "every-shift",
        "subnormal-accumulators", "overflow-edge", "cancellation", "random",
    }  # fmt: skip
    assert {s.name for s in word.sections} == {
        "products", "reachable", "range-edges", "out-and-back", "random"
    }  # fmt: skip
    for vectors in (half, word):
        assert sum(s.count for s in vectors.sections) == vectors.count
        assert all(s.count > 0 for s in vectors.sections)


def test_products_are_exhausted(half: VectorSet) -> None:
    pairs = {(v["a"], v["b"]) for v, acc in section(half, "products") if acc == 0}
    assert len(pairs) == 256


def test_reachable_needs_no_load(half: VectorSet, word: VectorSet) -> None:
    for vectors in (half, word):
        entry = next(s for s in vectors.sections if s.name == "reachable")
        ops = vectors.columns["op"][entry.start : entry.start + entry.count]
        assert Op.LOAD not in ops
        only = generate(vectors.spec, strategy="mixed", count=100, load=False)
        assert Op.LOAD not in only.columns["op"]
        assert not only.columns["c"].any()


def test_signed_zeros_meet_in_all_ways(half: VectorSet) -> None:
    met = set()
    for vector, acc in section(half, "signed-zeros"):
        sign = (vector["a"] ^ vector["b"]) >> 3
        assert product(half, vector) == 0
        met.add((acc, sign, vector["acc"]))
    assert met == {(0, 0, 0), (0, 1, 0), (0x8000, 0, 0), (0x8000, 1, 0x8000)}


def test_special_values_are_loaded(half: VectorSet) -> None:
    loaded = {acc for _, acc in section(half, "special-values")}
    assert {0x7C00, 0xFC00} <= loaded
    assert any(0x7C00 < code < 0x7E00 for code in loaded), "a signalling NaN"
    assert any(0x7E00 <= code <= 0x7FFF for code in loaded), "a quiet NaN"
    assert any(code > 0xFC00 for code in loaded), "a negative NaN"


def rounding_bits(vectors: VectorSet, vector: dict[str, int], acc: int) -> tuple[int, ...] | None:
    """Return (sign, last bit, guard, sticky) of the exact sum on the result's own grid."""
    fmt = vectors.spec.result
    number = oracle.decode(acc, fmt)
    if number.magnitude is None:
        return None
    total = number.value + product(vectors, vector)
    magnitude = abs(total)
    code = oracle.encode(oracle.Number(False, magnitude), fmt, Rounding.RTZ, Overflow.SATURATE)
    low, high = oracle.decode(code, fmt).value, oracle.decode(code + 1, fmt)
    if high.magnitude is None:
        return None
    fraction = (magnitude - low) / (high.magnitude - low)
    half = Fraction(1, 2)
    return int(total < 0), code % 2, int(fraction >= half), int(fraction % half != 0)


def test_every_shift_meets_all_rounding_bits(half: VectorSet) -> None:
    """All 16 combinations of sign, last bit, guard and sticky: ties up and down among them."""
    met = {rounding_bits(half, v, acc) for v, acc in section(half, "every-shift")}
    combinations = {
        (s, last, g, t) for s in (0, 1) for last in (0, 1) for g in (0, 1) for t in (0, 1)
    }
    assert combinations <= met


def test_every_shift_meets_every_row_and_carries(half: VectorSet) -> None:
    rows, carries = set(), set()
    for vector, acc in section(half, "every-shift"):
        rows.add((acc & 0x7FFF) >> 10)
        if vector["acc"] & 0x3FF == 0 and acc & 0x3FF == 0x3FF:
            carries.add((acc >> 15, vector["acc"] >> 15))
    assert rows == set(range(31))
    assert {(0, 0), (1, 1)} <= carries


def test_subnormal_accumulators_surround_the_smallest_numbers(half: VectorSet) -> None:
    met = {acc for _, acc in section(half, "subnormal-accumulators")}
    for magnitude in (0, 1, 2, 0x3FF, 0x400, 0x401):
        assert {magnitude, magnitude + 0x8000} <= met


def test_overflow_edge_reaches_infinity_and_just_not(half: VectorSet) -> None:
    """Overflow of either sign, the largest number left alone, and the tie at 65520."""
    ends, ties = set(), set()
    for vector, acc in section(half, "overflow-edge"):
        ends.add((acc, vector["acc"]))
        total = oracle.decode(acc, half.spec.result).value + product(half, vector)
        ties |= {total} if abs(total) == 65520 else set()
    results = {after for _, after in ends}
    assert {0x7C00, 0xFC00, 0x7BFF, 0xFBFF} <= results
    assert (0x7BFF, 0x7BFF) in ends
    assert (0x7BFF, 0x7C00) in ends
    assert ties == {65520, -65520}


def test_cancellation_meets_zero_and_every_drop(half: VectorSet) -> None:
    """Exact cancellation of every product, and a single last bit left over."""
    cancelled, left = set(), set()
    for vector, acc in section(half, "cancellation"):
        total = oracle.decode(acc, half.spec.result).value + product(half, vector)
        if total == 0 and acc & 0x7FFF:
            assert vector["acc"] == 0
            cancelled.add(product(half, vector))
        elif total:
            left.add(total > 0)
    assert len(cancelled) == 36
    assert left == {True, False}


def test_range_edges_wrap_both_ways(word: VectorSet) -> None:
    """Past the top, past the bottom, exactly to both ends, and onto zero."""
    fmt = word.spec.result
    met = set()
    for vector, acc in section(word, "range-edges"):
        before = int(fmt.integers([acc])[0])  # type: ignore[union-attr]
        after = int(fmt.integers([vector["acc"]])[0])  # type: ignore[union-attr]
        true = before + int(product(word, vector) * 4)
        met.add("over" if true > after else "under" if true < after else "inside")
        met |= {name for name, end in (("max", (1 << 23) - 1), ("min", -(1 << 23))) if after == end}
    assert met == {"over", "under", "inside", "max", "min"}


def test_out_and_back_leaves_the_range_and_returns() -> None:
    for overflow in ("wrap", "saturate"):
        vectors = generate(fixed(10, -2, overflow), strategy="directed")
        fmt = vectors.spec.result
        clamped = 0
        for vector, acc in section(vectors, "out-and-back"):
            before, after = fmt.integers([acc, vector["acc"]]).tolist()  # type: ignore[union-attr]
            clamped += before + int(product(vectors, vector) * 4) != after
        assert clamped >= 4


def test_exponents_reach_both_ends() -> None:
    for unit in (chain("e5m10"), fixed(24, -2)):
        vectors = generate(unit, exponents=True, count=3000)
        exp = vectors.columns["exp"].astype(np.int64)
        signed = np.where(exp >= 256, exp - 512, exp)
        assert signed.min() == -254
        assert signed.max() == 254
        assert {s.name for s in vectors.sections} >= {"scaled", "random"}
        entry = next(s for s in vectors.sections if s.name == "scaled")
        results = vectors.columns["acc"][entry.start : entry.start + entry.count]
        assert np.unique(results).size > 50
    assert "exp" not in generate(chain("e5m10"), count=10).columns


def test_random_sequences_have_all_ingredients(half: VectorSet) -> None:
    entry = next(s for s in half.sections if s.name == "random")
    part = {k: v[entry.start : entry.start + entry.count] for k, v in half.columns.items()}
    assert set(part["op"].tolist()) == {Op.IDLE, Op.CLEAR, Op.MAC, Op.LOAD}
    assert set(part["a"][part["op"] == Op.MAC].tolist()) == set(range(16))
    assert entry.count >= 1000
    idle = np.flatnonzero(part["op"] == Op.IDLE)
    assert np.array_equal(part["acc"][idle], part["acc"][idle - 1])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategies(strategy: str) -> None:
    vectors = generate(get_unit(GOLDEN[0]), strategy=strategy, count=64)
    names = {s.name for s in vectors.sections}
    assert ("products" in names) == (strategy in ("exhaustive", "mixed"))
    assert ("every-shift" in names) == (strategy in ("directed", "mixed"))
    assert ("random" in names) == (strategy in ("random", "mixed"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"strategy": "all"}, ["strategy", "'all'", "exhaustive, directed, random, mixed"]),
        ({"count": 0}, ["count", "0", "positive"]),
        ({"count": 1.5}, ["count", "1.5", "positive"]),
        ({"count": True}, ["count", "True", "positive"]),
        ({"count": "9"}, ["count", "'9'", "positive"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"seed": "1"}, ["seed", "'1'"]),
    ],
    ids=str,
)
def test_bad_arguments(arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(FpsimError) as error:
        generate(get_unit(GOLDEN[0]), **arguments)
    for word in words:
        assert word in str(error.value)


def test_units_that_vectors_cannot_describe() -> None:
    with pytest.raises(FpsimError, match=r"accumulate.kind: 'exact'.*chain or fixed"):
        generate(exact("e5m10"), count=10)
    with pytest.raises(FpsimError, match="'sr'"):
        generate(chain("e5m10", "sr", random_bits=4), count=10)


# -- files ---------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path: Path) -> Path:
    vectors = generate(get_unit(GOLDEN[0]), strategy="random", count=300)
    return write(vectors, tmp_path / "vectors")


def test_files_round_trip(tmp_path: Path) -> None:
    for unit, exponents in ((get_unit(GOLDEN[1]), False), (fixed(64, -2, "saturate"), True)):
        vectors = generate(unit, count=50, exponents=exponents, seed=5)
        directory = write(vectors, tmp_path / unit.name)
        for again in (read(directory), check(directory)):
            assert again.spec == vectors.spec
            assert again.spec.name == vectors.spec.name
            assert (again.seed, again.strategy) == (5, "mixed")
            assert again.sections == vectors.sections
            assert list(again.columns) == list(vectors.columns)
            for name, column in vectors.columns.items():
                assert np.array_equal(again.columns[name], column), name


def test_published_units_round_trip(tmp_path: Path) -> None:
    for name in GOLDEN:
        write(generate(get_unit(name), strategy="random", count=64), tmp_path / name)
        assert check(tmp_path / name).spec == get_unit(name).spec


def test_hex_words_are_what_readmemh_takes(written: Path) -> None:
    """Comments, then one word per line, all of one width, fields from the top down."""
    vectors = read(written)
    lines = (written / "vectors.hex").read_text().splitlines()
    header = [line for line in lines if line.startswith("//")]
    words = lines[len(header) :]
    assert len(words) == vectors.count
    assert {len(word) for word in words} == {-(-sum(f.width for f in vectors.fields) // 4)}
    assert all(set(word) <= set("0123456789abcdef") for word in words)
    top = sum(f.width for f in vectors.fields)
    for field, line in zip(vectors.fields, header[-len(vectors.fields) :], strict=True):
        top -= field.width
        assert field.lsb == top
        assert line.split() == ["//", field.name, f"[{field.lsb + field.width - 1}:{field.lsb}]"]
    first = dict(next(iter(vectors)))
    word = sum(first[f.name] << f.lsb for f in vectors.fields)
    assert int(words[0], 16) == word


def test_jsonl_says_the_same_as_hex(written: Path) -> None:
    lines = (written / "vectors.jsonl").read_text().splitlines()
    header, rows = json.loads(lines[0]), [json.loads(line) for line in lines[1:]]
    vectors = read(written)
    assert header["count"] == len(rows) == vectors.count
    assert header["unit"] == vectors.spec.to_dict()
    assert [f["name"] for f in header["fields"]] == [f.name for f in vectors.fields]
    for i, (row, vector) in enumerate(zip(rows, vectors, strict=True)):
        assert row.pop("i") == i
        assert {name: int(bits, 16) for name, bits in row.items()} == vector


def test_manifest_states_unit_seed_counts_and_checksums(written: Path) -> None:
    manifest = json.loads((written / "manifest.json").read_text())
    assert manifest["unit"]["name"] == GOLDEN[0]
    assert manifest["seed"] == 1
    assert manifest["generator"] == f"fpsim {fpsim.__version__}"
    assert sum(s["count"] for s in manifest["sections"]) == manifest["count"]
    for name, entry in manifest["files"].items():
        assert entry["sha256"] == hashlib.sha256((written / name).read_bytes()).hexdigest()
    assert {p.name for p in written.iterdir()} == {*manifest["files"], "manifest.json"}


def reseal(directory: Path) -> None:
    """Give the manifest the checksums of the files as they are: a forgery, or another writer."""
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in manifest["files"]:
        digest = hashlib.sha256((directory / name).read_bytes()).hexdigest()
        manifest["files"][name] = {"sha256": digest}
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["vectors.hex", "vectors.jsonl"])
def test_a_changed_bit_is_noticed(written: Path, name: str) -> None:
    data = bytearray((written / name).read_bytes())
    data[-3] ^= 1
    (written / name).write_bytes(bytes(data))
    with pytest.raises(FpsimError, match=rf"{name}: SHA-256"):
        check(written)


def test_a_wrong_expectation_is_named_by_line(written: Path) -> None:
    path = written / "vectors.hex"
    lines = path.read_text().splitlines()
    target = len(lines) - 10
    lines[target] = f"{int(lines[target], 16) ^ 1:0{len(lines[target])}x}"
    path.write_text("\n".join(lines) + "\n")
    reseal(written)
    with pytest.raises(FpsimError, match=rf"vectors\.hex:{target + 1}: .*acc") as error:
        check(written)
    vectors = read(written)
    index = target - sum(line.startswith("//") for line in lines)
    assert f"vector {index} " in str(error.value)
    assert f"{int(vectors.columns['acc'][index]):x}" in str(error.value)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda lines: lines[:-1], ["vectors.hex", "vectors, but the manifest says"]),
        (lambda lines: [*lines, lines[-1]], ["vectors.hex", "vectors, but the manifest says"]),
        (
            lambda lines: [*lines[:-3], "12xz", *lines[-2:]],
            ["vectors.hex:", "'12xz'", "hexadecimal"],
        ),
        (lambda lines: [*lines[:-3], "", *lines[-2:]], ["vectors.hex:", "hexadecimal"]),
        (lambda lines: [*lines[:-3], "f" * 30, *lines[-2:]], ["vectors.hex:", "more than 42 bits"]),
        (lambda lines: [*lines[:-3], "-1", *lines[-2:]], ["vectors.hex:", "'-1'"]),
        (lambda lines: [*lines[:-3], "µ", *lines[-2:]], ["vectors.hex"]),
        (lambda lines: [], ["vectors.hex", "hexadecimal"]),
    ],
)
def test_damaged_words_name_file_and_line(written: Path, edit: Any, words: list[str]) -> None:
    path = written / "vectors.hex"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(edit(lines)) + "\n", encoding="utf-8")
    reseal(written)
    with pytest.raises(FpsimError) as error:
        read(written)
    for word in words:
        assert word in str(error.value)
    if words[0].endswith(":"):
        assert f"vectors.hex:{len(lines) - 2}:" in str(error.value)


@pytest.mark.parametrize("name", ["vectors.hex", "vectors.jsonl", "manifest.json"])
def test_missing_files_are_named(written: Path, name: str) -> None:
    (written / name).unlink()
    with pytest.raises(FpsimError, match=f"{name}: cannot be read"):
        read(written)


def test_truncated_files_are_named(written: Path) -> None:
    for name in ("vectors.hex", "manifest.json"):
        copy = written.parent / f"truncated-{name}"
        shutil.copytree(written, copy)
        data = (copy / name).read_bytes()
        (copy / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(FpsimError, match=name):
            read(copy)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"schema": 2}, ["manifest.json", "schema 1"]),
        ({"count": 3}, ["vectors.hex", "manifest says 3"]),
        ({"fields": []}, ["manifest.json", "fields"]),
        ({"fields": 3}, ["manifest.json", "fields"]),
        ({"fields": None}, ["manifest.json", "fields"]),
        ({"unit": {"name": "x"}}, ["manifest.json", "operands"]),
        ({"unit": 3}, ["manifest.json", "unit"]),
        ({"files": []}, ["manifest.json", "files"]),
        ({"files": {"vectors.hex": "abc"}}, ["manifest.json", "files"]),
        ({"files": {}}, ["manifest.json", "files"]),
        ({"sections": [{"title": "x"}]}, ["manifest.json", "sections"]),
        ({"sections": 1}, ["manifest.json", "sections"]),
        ({"seed": None}, ["manifest.json", "seed"]),
    ],
    ids=str,
)
def test_a_manifest_that_is_not_ours(written: Path, edit: dict[str, Any], words: list[str]) -> None:
    """Valid JSON of the wrong shape is a clear error, not a KeyError deep inside."""
    path = written / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | edit))
    with pytest.raises(FpsimError) as error:
        read(written)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "3", '"manifest"', "{", "\x00"])
def test_manifests_that_are_no_manifest(written: Path, text: str) -> None:
    (written / "manifest.json").write_text(text)
    with pytest.raises(FpsimError, match=r"manifest\.json"):
        read(written)


# -- writing -------------------------------------------------------------------------------------


def test_writing_again_replaces_a_vector_directory(written: Path) -> None:
    write(generate(get_unit(GOLDEN[1]), count=10), written)
    assert check(written).spec.name == GOLDEN[1]


def test_an_empty_directory_is_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write(generate(get_unit(GOLDEN[1]), count=10), tmp_path / "empty")
    write(generate(get_unit(GOLDEN[1]), count=10), tmp_path / "new" / "deep" / "below")
    assert check(tmp_path / "new" / "deep" / "below").count


def test_a_path_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    """Root may write anywhere, but not below a file."""
    (tmp_path / "file").write_text("text")
    vectors = generate(get_unit(GOLDEN[1]), strategy="random", count=5)
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FpsimError, match="out: .*file"):
            write(vectors, target)
    assert (tmp_path / "file").read_text() == "text"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_foreign_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FpsimError, match="other files"):
        write(generate(get_unit(GOLDEN[1]), strategy="random", count=5), tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_foreign_directory_with_a_manifest_is_left_alone(tmp_path: Path) -> None:
    """Many tools write a manifest.json; its presence gives no licence to delete what is beside it."""
    vectors = generate(get_unit(GOLDEN[1]), strategy="random", count=5)
    (tmp_path / "manifest.json").write_text('{"name": "a web application"}')
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(FpsimError, match="other files"):
        write(vectors, tmp_path)
    assert (tmp_path / "index.html").read_text() == "mine"


def test_files_put_beside_vectors_are_left_alone(written: Path) -> None:
    (written / "notes.txt").write_text("mine")
    with pytest.raises(FpsimError, match="other files"):
        write(generate(get_unit(GOLDEN[1]), strategy="random", count=5), written)
    assert (written / "notes.txt").read_text() == "mine"


def test_the_current_directory_is_written_or_left_alone(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``.`` cannot be renamed onto: refuse before deleting what is there."""
    monkeypatch.chdir(written)
    try:
        write(generate(get_unit(GOLDEN[1]), strategy="random", count=5), ".")
    except FpsimError:
        assert check(written).spec.name == GOLDEN[0]
    else:
        assert check(written).spec.name == GOLDEN[1]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("before", [False, True])
def test_nothing_is_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, before: bool
) -> None:
    """A full disk or an interrupt in the middle leaves the old vectors, or nothing at all."""
    target = tmp_path / "vectors"
    if before:
        write(generate(get_unit(GOLDEN[0]), strategy="random", count=5), target)
    old = {p.name: p.read_bytes() for p in target.iterdir()} if before else {}

    def lines(vectors: VectorSet) -> Iterator[str]:
        yield "{}"
        raise failure

    monkeypatch.setattr("fpsim.vectors.files._json_lines", lines)
    expected = FpsimError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write(generate(get_unit(GOLDEN[1]), strategy="random", count=5), target)
    assert [p.name for p in tmp_path.iterdir()] == (["vectors"] if before else [])
    assert {p.name: p.read_bytes() for p in target.iterdir()} == old if before else True


def test_a_failed_rename_keeps_the_old_vectors(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old directory may go only when the new one is in place."""
    old = {p.name: p.read_bytes() for p in written.iterdir()}

    def fail(self: Path, target: Path) -> Path:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "replace", fail)
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(FpsimError, match="cannot be written"):
        write(generate(get_unit(GOLDEN[1]), strategy="random", count=5), written)
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in written.iterdir()} == old
    assert [p.name for p in written.parent.iterdir()] == ["vectors"]
