# SPDX-License-Identifier: Apache-2.0
"""Files of streams of single products: written whole, read back, every damage named."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.helpers import fixed

import fpsim
from fpsim import FpsimError, get_unit
from fpsim.vectors import Op, check, generate, read, write
from fpsim.vectors.files.writer import write_dots
from fpsim.vectors.plans.planner import plan_dots
from fpsim.vectors.sets.generate import plan_stream

GOLDEN = ["e2m1-chain-e5m10", "e2m1-fixed24q2"]


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
    for field, line in zip(vectors.fields, header[-len(vectors.fields) - 1 : -1], strict=True):
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
    assert header["sha256"] == body_digest(written / "vectors.jsonl")
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
        ("vectors.hex", r"vectors\.hex:328: vector 317 \(random\) expects acc"),
        ("vectors.jsonl", r"vectors\.jsonl:319: vector 317 is not what vectors\.hex says"),
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
    path, field = written / "vectors.hex", vectors.fields[1]
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
        (lambda lines: lines[:-1], ["vectors.hex", "317 vectors; the manifest says 318"]),
        (lambda lines: [*lines, lines[-1]], ["vectors.hex", "more than the 318 vectors"]),
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
        ({"schema": 2}, ["manifest.json", "schema 1"]),
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

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr("fpsim.vectors.files.writer._finish", fail)
    expected = FpsimError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write(generate(get_unit(GOLDEN[1]), strategy="random", count=5), target)
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
        write(generate(get_unit(GOLDEN[1]), strategy="random", count=5), written)
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in written.iterdir()} == old
    assert {p.name for p in written.parent.iterdir()} == {"vectors", ".vectors.partial"}
    write(generate(get_unit(GOLDEN[1]), strategy="random", count=5), written)
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


@pytest.mark.parametrize("stream", [True, False])
def test_the_head_of_a_readmemh_file_states_the_digest_of_its_words(
    stream: bool, tmp_path: Path
) -> None:
    unit = get_unit("e2m1-chain-e5m10")
    plan = plan_stream(unit, count=64) if stream else plan_dots(unit, count=64)
    folder = write_dots(plan, tmp_path / "set", ("readmemh",))
    lines = (folder / "vectors.hex").read_bytes().splitlines(keepends=True)
    head = b"".join(line for line in lines if line.startswith(b"//"))
    words = b"".join(line for line in lines if not line.startswith(b"//"))
    assert hashlib.sha256(words).hexdigest().encode() in head
