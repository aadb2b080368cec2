# SPDX-License-Identifier: Apache-2.0
"""The house rules of `fpsim/`: one-way imports, few modules at the top, names, docstrings."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import fpsim

ROOT = Path(fpsim.__file__).parent
#: A room imports only from rooms after it.
ROOMS = [
    "cli",
    "report",
    "plots",
    "explore",
    "testing",
    "cmodel",
    "hdl",
    "bridge",
    "vectors",
    "unit",
    "studies",
    "compute",
    "oracle",
    "units",
    "blocks",
    "formats",
    "kernels",
    "base",
]
#: Names that two public classes have, still to be changed.
SHARED_NAMES = {
    "Beats", "Block", "Grid", "Lanes", "Mismatch", "NanPolicy", "Operand", "Plan",
    "Span", "Stimulus", "Sum", "Tile",
}  # fmt: skip

TREES = {path: ast.parse(path.read_text("utf-8")) for path in sorted(ROOT.rglob("*.py"))}
Function = ast.FunctionDef | ast.AsyncFunctionDef
#: A reader of one docstring alone cannot know what these point at.
VAGUE = re.compile(r"(\w+ )?(the same\b|what\b|those\b|as `)", re.IGNORECASE)


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the modules that a module imports, inside functions and for type checkers too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Yield the public functions of a module, and the public methods of its public classes."""
    for node in body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            if not any("overload" in ast.unparse(d) for d in node.decorator_list):
                yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public(node.body, f"{prefix}{node.name}.")


def faults_of(name: str, node: Function) -> Iterator[str]:
    """Yield the sections and parameters that a docstring of three or more parameters lacks."""
    given = node.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    names = [arg.arg for arg in every if arg is not None and arg.arg not in ("self", "cls")]
    if len(names) < 3:
        return
    text = ast.get_docstring(node) or ""
    _, _, rest = text.partition("Args:\n")
    described = re.findall(r"^    (\**\w+(?:, \**\w+)*):", rest.partition("\n\n")[0], re.MULTILINE)
    known = {word.strip("* ") for entry in described for word in entry.split(",")}
    yield from (f"{name}: {missing} is not in Args" for missing in names if missing not in known)
    returns = node.returns is None or ast.unparse(node.returns) not in ("None", "NoReturn")
    if returns and not re.search(r"^(Returns|Yields):$", text, re.MULTILINE):
        yield f"{name}: no Returns"
    if any(isinstance(inside, ast.Raise) for inside in ast.walk(node)) and "Raises:" not in text:
        yield f"{name}: no Raises"


def test_imports_run_one_way() -> None:
    upward = defaultdict(set)
    for path, tree in TREES.items():
        room = room_of(path)
        for module in imports(tree):
            target = module.split(".")[1] if module.startswith("fpsim.") else None
            if room in ROOMS and target in ROOMS and ROOMS.index(target) < ROOMS.index(room):
                upward[f"{room} -> {target}"].add(str(path.relative_to(ROOT)))
    assert upward == {}


def test_every_room_has_a_place_in_the_order() -> None:
    assert {room_of(path) for path in TREES} <= {*ROOMS, "__init__", "__main__"}


def test_few_modules_lie_at_the_top() -> None:
    assert len(list(ROOT.glob("*.py"))) <= 8


def test_nothing_is_mocked_outside_tests() -> None:
    mocked = {path.name for path, tree in TREES.items() if any("mock" in m for m in imports(tree))}
    assert mocked == set()


def test_no_two_public_classes_share_a_name() -> None:
    places = defaultdict(set)
    for path, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].add(str(path.relative_to(ROOT)))
    shared = {name: where for name, where in places.items() if len(where) > 1}
    assert {name: where for name, where in shared.items() if name not in SHARED_NAMES} == {}


@pytest.mark.parametrize("room", [*ROOMS, "__init__"])
def test_docstrings_name_every_parameter(room: str) -> None:
    faults = [
        f"{path.relative_to(ROOT)}: {fault}"
        for path, tree in TREES.items()
        if room_of(path) == room
        for name, node in public(tree.body)
        for fault in faults_of(name, node)
    ]
    assert faults == []


@pytest.mark.parametrize("room", [*ROOMS, "__init__"])
def test_docstrings_can_be_read_alone(room: str) -> None:
    vague = [
        f"{path.relative_to(ROOT)}: {text.splitlines()[0]}"
        for path, tree in TREES.items()
        if room_of(path) == room
        for node in ast.walk(tree)
        if isinstance(node, Function | ast.ClassDef | ast.Module)
        and VAGUE.match(text := ast.get_docstring(node) or "")
    ]
    assert vague == []


def test_no_test_file_imports_another() -> None:
    tests = [path for path in Path(__file__).parent.rglob("*.py") if "support" not in path.parts]
    guilty = {p.name for p in tests for m in imports(ast.parse(p.read_text("utf-8"))) if re.match(r"test_", m)}  # fmt: skip
    assert guilty == set()


REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    path
    for pattern in ("*.md", "docs/*.md", "golden/*.md", "rtl_tests/*.md", "analysis/*.md")
    for path in sorted(REPOSITORY.glob(pattern))
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_documents_name_files_that_exist(document: Path) -> None:
    """A path in backticks lies in the repository, in the package or beside the document."""
    places = (REPOSITORY, ROOT, document.parent)
    paths = re.findall(r"`((?:\w[\w-]*/)+[\w.-]*)(?::\w+)?`", document.read_text("utf-8"))
    paths = [
        p
        for p in paths
        if "NAME" not in p and any((base / p.split("/")[0]).exists() for base in places)
    ]
    missing = [p for p in paths if not any((base / p).exists() for base in places)]
    assert missing == []
