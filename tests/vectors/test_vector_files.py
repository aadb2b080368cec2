# SPDX-License-Identifier: Apache-2.0
"""Directories of vectors: written whole, read back, every damage named."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.helpers import fixed

import fpsim
from fpsim import FpsimError, MacUnit, get_unit
from fpsim.vectors import STARTS, Op, Record, VectorSet, check, explain, plan, read, write
from fpsim.vectors.files.file_formats import FORMATS
from fpsim.vectors.plans.tiles import TileSize, random_tiles

pytestmark = pytest.mark.usefixtures("one_thread")

GOLDEN = ["e2m1-chain-e5m10", "e2m1-fixed24q2"]


def made(unit: MacUnit, **options: Any) -> VectorSet:
    """Return a set in memory whose sums start with a load."""
    return plan(unit, start="load", **options).made()


@pytest.fixture
def written(tmp_path: Path) -> Path:
    vectors = made(get_unit(GOLDEN[0]), strategy="random", count=300)
    return write(vectors, tmp_path / "vectors")


def test_files_round_trip(tmp_path: Path) -> None:
    for unit, group in ((get_unit(GOLDEN[1]), 0), (fixed(64, -2, "saturate"), 1)):
        vectors = made(unit, count=50, group=group, seed=5)
        directory = write(vectors, tmp_path / unit.name)
        assert check(directory).count == vectors.count
        again = read(directory)
        assert again.record == vectors.record
        assert again.spec.name == vectors.spec.name
        assert (again.seed, again.strategy, again.start) == (5, "mixed", "load")
        assert again.sections == vectors.sections
        assert list(again.columns) == list(vectors.columns)
        for name, column in vectors.columns.items():
            assert np.array_equal(again.columns[name], column), name
            assert again.columns[name].dtype == column.dtype, name


def test_published_units_round_trip(tmp_path: Path) -> None:
    for name in GOLDEN:
        write(made(get_unit(name), strategy="random", count=64), tmp_path / name)
        assert check(tmp_path / name).record.spec == get_unit(name).spec


def test_hex_words_are_what_readmemh_takes(written: Path) -> None:
    """Comments, then one word per line, all of one width, fields from the top down."""
    vectors = read(written)
    lines = (written / "vectors.hex").read_text().splitlines()
    header = [line for line in lines if line.startswith("//")]
    words = lines[len(header) :]
    assert len(words) == vectors.count
    fields = vectors.record.fields
    assert {len(word) for word in words} == {-(-vectors.record.word_bits // 4)}
    assert all(set(word) <= set("0123456789abcdef") for word in words)
    top = vectors.record.word_bits
    for field, line in zip(fields, header[-len(fields) - 2 : -2], strict=True):
        top -= field.width
        assert field.lsb == top
        assert line.split() == ["//", field.name, f"[{field.lsb + field.width - 1}:{field.lsb}]"]
    first = {name: int(column[0].reshape(-1)[0]) for name, column in vectors.columns.items()}
    word = sum(first[f.name] << f.lsb for f in fields)
    assert int(words[0], 16) == word


def test_jsonl_says_the_same_as_hex(written: Path) -> None:
    lines = (written / "vectors.jsonl").read_text().splitlines()
    header, rows = json.loads(lines[0]), [json.loads(line) for line in lines[1:]]
    vectors = read(written)
    assert header["count"] == len(rows) == vectors.count
    assert header["unit"] == vectors.spec.to_dict()
    assert header["sha256"] == body_digest(written / "vectors.jsonl")
    assert header["fields"] == [vars(f) for f in vectors.record.fields]
    for name, column in vectors.columns.items():
        assert [int(row[name], 16) for row in rows] == column.reshape(-1).tolist(), name


def test_manifest_states_unit_seed_counts_and_checksums(written: Path) -> None:
    manifest = json.loads((written / "manifest.json").read_text())
    assert manifest["unit"]["name"] == GOLDEN[0]
    assert manifest["seed"] == 1
    assert manifest["generator"] == f"fpsim {fpsim.__version__}"
    assert sum(s["count"] for s in manifest["sections"]) == manifest["count"]
    for name, entry in manifest["files"].items():
        assert entry["sha256"] == body_digest(written / name)
    assert {p.name for p in written.iterdir()} == {*manifest["files"], "manifest.json"}


def body_digest(path: Path) -> str:
    """Return the SHA-256 of what follows the header of a file; the header states it."""
    lines = path.read_bytes().splitlines(keepends=True)
    head = sum(line.startswith(b"//") for line in lines) if path.suffix == ".hex" else 1
    return hashlib.sha256(b"".join(lines[head:])).hexdigest()


def reseal(directory: Path) -> None:
    """Give manifest and headers the checksums of the files as they are: a forgery, or another writer."""
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in manifest["files"]:
        digest, stated = body_digest(directory / name), manifest["files"][name]["sha256"]
        data = (directory / name).read_bytes()
        (directory / name).write_bytes(data.replace(stated.encode(), digest.encode()))
        manifest["files"][name] = {"sha256": digest}
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vectors.hex", r"vectors\.hex:313: vector 299 \(random-streams\) expects acc"),
        ("vectors.jsonl", r"vectors\.jsonl:301: vector 299 is not what vectors\.hex says"),
    ],
)
def test_a_changed_bit_is_noticed(written: Path, name: str, words: str) -> None:
    data = bytearray((written / name).read_bytes())
    data[-3] ^= 1
    (written / name).write_bytes(bytes(data))
    with pytest.raises(FpsimError, match=words):
        check(written)
    with pytest.raises(FpsimError, match=rf"{name}: SHA-256"):
        read(written)


def test_changed_stimuli_are_noticed(written: Path) -> None:
    """An operand of an idle clock has no result: only the checksum tells."""
    vectors = read(written)
    index = int(np.flatnonzero(vectors.columns["op"] == Op.IDLE)[0])
    path, field = written / "vectors.hex", vectors.record.fields[1]
    lines = path.read_text().splitlines(keepends=True)
    line = len(lines) - vectors.count + index
    lines[line] = f"{int(lines[line], 16) ^ 1 << field.lsb:0{len(lines[line]) - 1}x}\n"
    path.write_text("".join(lines))
    (written / "vectors.jsonl").unlink()
    manifest = json.loads((written / "manifest.json").read_text())
    del manifest["files"]["vectors.jsonl"]
    (written / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(FpsimError, match=r"vectors\.hex: SHA-256.*stimuli were changed"):
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
        (lambda lines: lines[:-1], ["vectors.hex", "299 vectors; the manifest says 300"]),
        (lambda lines: [*lines, lines[-1]], ["vectors.hex", "more than the 300 vectors"]),
        (
            lambda lines: [*lines[:-3], "12xz", *lines[-2:]],
            ["vectors.hex:", "'12xz'", "hexadecimal"],
        ),
        (lambda lines: [*lines[:-3], "", *lines[-2:]], ["vectors.hex:", "hexadecimal"]),
        (
            lambda lines: [*lines[:-3], "f" * 30, *lines[-2:]],
            ["vectors.hex:", "'ffff", "hexadecimal"],
        ),
        (lambda lines: [*lines[:-3], "-1", *lines[-2:]], ["vectors.hex:", "'-1'"]),
        (lambda lines: [*lines[:-3], "µ", *lines[-2:]], ["vectors.hex"]),
        (lambda lines: [*lines[:-3], lines[-3] + "zz", *lines[-2:]], ["vectors.hex:", "zz'"]),
        (lambda lines: [], ["vectors.hex:1:", "not the header"]),
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
    if words[0] == "vectors.hex:":
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
        ({"schema": 2}, ["manifest.json", "schema 3"]),
        ({"count": 3}, ["manifest.json", "sections do not cover the 3 vectors"]),
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
    """Valid JSON of the wrong record is a clear error, not a KeyError deep inside."""
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
    write(made(get_unit(GOLDEN[1]), count=10), written)
    assert check(written).record.spec.name == GOLDEN[1]


def test_an_empty_directory_is_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write(made(get_unit(GOLDEN[1]), count=10), tmp_path / "empty")
    write(made(get_unit(GOLDEN[1]), count=10), tmp_path / "new" / "deep" / "below")
    assert check(tmp_path / "new" / "deep" / "below").count


def test_a_path_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    """Root may write anywhere, but not below a file."""
    (tmp_path / "file").write_text("text")
    vectors = made(get_unit(GOLDEN[1]), strategy="random", count=5)
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FpsimError, match="out: .*file"):
            write(vectors, target)
    assert (tmp_path / "file").read_text() == "text"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_foreign_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FpsimError, match="other files"):
        write(made(get_unit(GOLDEN[1]), strategy="random", count=5), tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_foreign_directory_with_a_manifest_is_left_alone(tmp_path: Path) -> None:
    """Many tools write a manifest.json; its presence gives no licence to delete what is beside it."""
    vectors = made(get_unit(GOLDEN[1]), strategy="random", count=5)
    (tmp_path / "manifest.json").write_text('{"name": "a web application"}')
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(FpsimError, match="other files"):
        write(vectors, tmp_path)
    assert (tmp_path / "index.html").read_text() == "mine"


def test_files_put_beside_vectors_are_left_alone(written: Path) -> None:
    (written / "notes.txt").write_text("mine")
    with pytest.raises(FpsimError, match="other files"):
        write(made(get_unit(GOLDEN[1]), strategy="random", count=5), written)
    assert (written / "notes.txt").read_text() == "mine"


def test_the_current_directory_is_written_or_left_alone(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``.`` cannot be renamed onto: refuse before deleting what is there."""
    monkeypatch.chdir(written)
    try:
        write(made(get_unit(GOLDEN[1]), strategy="random", count=5), ".")
    except FpsimError:
        assert check(written).record.spec.name == GOLDEN[0]
    else:
        assert check(written).record.spec.name == GOLDEN[1]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("before", [False, True])
def test_nothing_is_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, before: bool
) -> None:
    """A full disk or an interrupt in the middle leaves the old vectors, or nothing at all."""
    target = tmp_path / "vectors"
    if before:
        write(made(get_unit(GOLDEN[0]), strategy="random", count=5), target)
    old = {p.name: p.read_bytes() for p in target.iterdir()} if before else {}

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr("fpsim.vectors.files.writer._finish", fail)
    expected = FpsimError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write(made(get_unit(GOLDEN[1]), strategy="random", count=5), target)
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {".vectors.partial"} | ({"vectors"} if before else set())
    assert not (tmp_path / ".vectors.partial" / "manifest.json").exists()
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
        write(made(get_unit(GOLDEN[1]), strategy="random", count=5), written)
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in written.iterdir()} == old
    assert {p.name for p in written.parent.iterdir()} == {"vectors", ".vectors.partial"}
    write(made(get_unit(GOLDEN[1]), strategy="random", count=5), written)
    assert [p.name for p in written.parent.iterdir()] == ["vectors"]


def test_a_longer_line_of_the_other_file_is_named(written: Path) -> None:
    """Lines of vectors.jsonl start with numbers, so their lengths differ."""
    path = written / "vectors.jsonl"
    lines = path.read_text().splitlines()
    for number in (2, 150, len(lines)):
        edited = [*lines[: number - 1], lines[number - 1] + "zz", *lines[number:]]
        path.write_text("\n".join(edited) + "\n")
        with pytest.raises(FpsimError, match=rf"jsonl:{number}: .*zz' is not a line of \d+ char"):
            check(written)
    path.write_text("\n".join([*lines, lines[-1]]) + "\n")
    with pytest.raises(FpsimError, match=rf"jsonl:{len(lines) + 1}: more than the"):
        check(written)


@pytest.mark.parametrize("start", STARTS)
def test_the_head_of_a_readmemh_file_states_the_digest_of_its_words(
    start: str, tmp_path: Path
) -> None:
    folder = write(plan(get_unit(GOLDEN[0]), count=64, start=start), tmp_path / "set", "readmemh")
    lines = (folder / "vectors.hex").read_bytes().splitlines(keepends=True)
    head = b"".join(line for line in lines if line.startswith(b"//"))
    words = b"".join(line for line in lines if not line.startswith(b"//"))
    assert hashlib.sha256(words).hexdigest().encode() in head


# -- what hostile or unlucky hands do to a directory ---------------------------------------------


def claims(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every value of a manifest that holds no others."""
    inside: Any = ()
    if isinstance(value, dict):
        inside = value.items()
    elif isinstance(value, list):
        inside = enumerate(value)
    else:
        yield path
    for key, held in inside:
        yield from claims(held, (*path, key))


def changed(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value + 1.0
    if value is None:
        return 0
    return f"{value[:-1]}{'0' if value[-1:] != '0' else '1'}" if value else "x"


def test_no_claim_of_a_manifest_can_change_unseen(tmp_path: Path) -> None:
    """Every value and every key, one at a time, in a set with all file formats and tiles."""
    record = Record.of(get_unit("e2m1-block8-into-chain-e8m23").spec, flags=True)
    tiles = random_tiles(record, TileSize(2, 2, 8), 1, 1)
    folder = write(tiles, tmp_path / "set", (*FORMATS, "matrices"))
    check(folder)
    path = folder / "manifest.json"
    text = path.read_text()
    passed = []
    paths = list(claims(json.loads(text)))
    assert len(paths) > 60
    for place in paths:
        manifest = json.loads(text)
        holder = manifest
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = changed(holder[place[-1]])
        path.write_text(json.dumps(manifest))
        try:
            check(folder)
        except FpsimError:
            continue
        passed.append(place)
    assert passed == []
    for extra in ({"more": 1}, {"tiles": None}):
        path.write_text(json.dumps(json.loads(text) | extra))
        with pytest.raises(FpsimError):
            check(folder)
    twice = text.replace('"seed": 1,', '"seed": 2,\n "seed": 1,')
    assert twice != text
    path.write_text(twice)
    with pytest.raises(
        FpsimError, match=r"manifest\.json: not valid JSON \(an object has a key twice"
    ):
        check(folder)
    path.write_text(json.dumps(json.loads(text)))  # spaces claim nothing
    check(folder)


BYTES = [
    lambda data, i: data[:i] + bytes([data[i] ^ 1 << i % 7]) + data[i + 1 :],
    lambda data, i: data[:i] + data[i + 1 :],
    lambda data, i: data[:i] + b"\x00" + data[i:],
    lambda data, i: data[:i] + b"9" * 5000 + data[i:],
    lambda data, i: data[:i] + b"[" * 5000 + data[i:],
    lambda data, i: data[:i],
]


@pytest.mark.parametrize("edit", BYTES, ids=range(len(BYTES)))
def test_mutated_files_give_one_short_sentence(tmp_path: Path, edit: Any) -> None:
    """Bytes of any file turned over, cut, swelled or nested: a sentence, and never a traceback."""
    source = plan(get_unit("e2m1-chain-e4m3fn"), strategy="random", count=20)
    folder = write(source, tmp_path / "set", FORMATS)
    rng = np.random.default_rng(5)
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        for place in rng.integers(0, len(data), 25).tolist():
            new = edit(data, place)
            file.write_bytes(new)
            try:
                check(folder)
            except FpsimError as error:
                text = str(error)
                assert len(text) < 1500 and "\n" not in text, text
            else:
                same = file.name == "manifest.json" and json.loads(new) == json.loads(data)
                assert new == data or same, f"{file.name}, byte {place}"
        file.write_bytes(data)
    check(folder)


@pytest.mark.parametrize(
    "path",
    ["no\x00thing", "\udc80", "x" * 5000, "/dev/null"],
    ids=["nul", "surrogate", "long", "device"],
)
def test_paths_that_hold_no_vectors(path: str) -> None:
    for work in (check, read, lambda where: explain(where, 20)):
        with pytest.raises(FpsimError, match="manifest.json"):
            work(path)
