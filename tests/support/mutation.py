# SPDX-License-Identifier: Apache-2.0
"""Small mistakes put into the sources one at a time, and whether the tests notice.

    python tests/support/mutation.py --sample 20 --seed 1 oracle formats

A mutant is one change of one expression: a comparison, an operator, `and` for `or`, a missing `not`,
a number one larger. Every room has tests that should notice; each mutant is a forked process in
which its module is read with the change. Texts of errors, annotations and docstrings are left alone.

Some of the tests that reach the changed line run first. A mutant that they do not notice meets all
tests of the room: which lines a test reaches is recorded once, and values that an earlier test left
behind (caches, compiled kernels) hide some.

mutmut and cosmic-ray write the change into the tree and start Python anew for every mutant. Here
that start (Numba, torch, the kernels' cache) costs more than the tests that notice.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import CodeType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: Tests of a room, those that end soonest first.
TESTS: dict[str, tuple[str, ...]] = {
    "oracle": (
        "tests/oracle", "tests/formats/test_plain_decode.py", "tests/formats/test_encode.py",
        "tests/formats/test_elements.py",
        "tests/compute/test_fixed.py", "tests/compute/test_exact.py", "tests/compute/test_tree.py",
        "tests/compute/test_aligned.py", "tests/blocks/test_mx_blocks.py",
        "tests/blocks/test_blocks.py",
    ),
    "formats": ("tests/formats", "tests/base", "tests/compute/test_random_bits.py"),
    "blocks": ("tests/blocks",),
    "units": (
        "tests/units", "tests/oracle", "tests/vectors/test_dots.py",
        "tests/compute/test_given_operands.py",
    ),
}  # fmt: skip
#: Modules that only describe in words or pictures.
LEFT_OUT = {"describe.py", "html.py", "schema.py", "__init__.py", "presets.py", "trace_lines.py"}
COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult, ast.Mod: ast.Add, ast.Pow: ast.Mult, ast.LShift: ast.RShift,
    ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr,
}  # fmt: skip
#: Tests that reach a changed line and run before all of the room's.
FIRST = 30
_Recorded = tuple[Path, Path]
#: Seconds of CPU beyond three times those of unchanged tests, after which a mutant hangs.
GRACE = 20


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    file: str
    line: int
    before: str
    after: str
    number: int  #: of the change in its module

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.before}  ->  {self.after}"


class _Changes(ast.NodeTransformer):
    """Counts places, and changes the one that is asked for."""

    def __init__(self, wanted: int | None) -> None:
        self.wanted, self.seen = wanted, 0
        self.found: list[tuple[int, str, str]] = []

    def _place(self, node: ast.expr | ast.AugAssign, changed: ast.AST) -> ast.AST:
        number, self.seen = self.seen, self.seen + 1
        if self.wanted is None:
            self.found.append((node.lineno, ast.unparse(node), ast.unparse(changed)))
        return ast.copy_location(changed, node) if number == self.wanted else node

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Raise | ast.AnnAssign | ast.JoinedStr | ast.Assert):
            return node  # texts, types and what only guards
        if isinstance(node, ast.arg | ast.Import | ast.ImportFrom):
            return node
        if isinstance(node, ast.FunctionDef):
            node.body = [self.visit(part) for part in node.body]  # type: ignore[misc]
            return node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return node
        self.generic_visit(node)
        return self._changed(node)

    def _changed(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Compare):
            for i, op in enumerate(node.ops):
                other = copy.deepcopy(node)
                other.ops[i] = COMPARED[type(op)]()
                made = self._place(node, other)
                if made is other:
                    return made
        elif isinstance(node, ast.BoolOp):
            flipped = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            return self._place(node, ast.BoolOp(flipped, node.values))
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self._place(node, node.operand)
        elif isinstance(node, ast.BinOp) and type(node.op) in COMPUTED:
            if isinstance(node.left, ast.Constant) and isinstance(node.left.value, str):
                return node
            return self._place(node, ast.BinOp(node.left, COMPUTED[type(node.op)](), node.right))
        elif isinstance(node, ast.AugAssign) and type(node.op) in COMPUTED:
            return self._place(
                node, ast.AugAssign(node.target, COMPUTED[type(node.op)](), node.value)
            )
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            return self._place(node, ast.Constant(node.value + 1))
        return node


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Yield every mutant of a module."""
    changes = _Changes(None)
    changes.visit(ast.parse(path.read_text("utf-8")))
    name = str(path.relative_to(ROOT))
    for number, (line, before, after) in enumerate(changes.found):
        yield Mutant(name, line, before[:100], after[:100], number)


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles one module with its change."""

    def __init__(self, name: str, path: str, number: int) -> None:
        super().__init__(name, path)
        self.number = number

    def get_code(self, fullname: str) -> CodeType:
        tree = _Changes(self.number).visit(ast.parse(Path(self.path).read_text("utf-8")))
        return compile(ast.fix_missing_locations(tree), self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self.path = str(ROOT / mutant.file)
        self.name = mutant.file.removesuffix(".py").replace("/", ".")
        self.number = mutant.number

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        if name != self.name:
            return None
        loader = _Loader(name, self.path, self.number)
        return importlib.util.spec_from_file_location(name, self.path, loader=loader)


class _Reached:
    """A plugin of pytest that records which test reaches which line of a folder."""

    def __init__(self, folder: Path, data: Path) -> None:
        import coverage

        self.cover = coverage.Coverage(data_file=str(data), config_file=False, source=[str(folder)])
        self.cover.start()

    def pytest_runtest_setup(self, item: Any) -> None:
        self.cover.switch_context(item.nodeid)

    def pytest_sessionfinish(self) -> None:
        self.cover.stop()
        self.cover.save()


def _child(
    mutant: Mutant | None, tests: Sequence[str], limit: int, log: Path, recorded: _Recorded | None
) -> None:
    import pytest

    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if mutant is not None:
        sys.meta_path.insert(0, _Finder(mutant))
        # Read now: pytest's own loader comes first later, and reads what a plugin belongs to itself.
        importlib.import_module(mutant.file.removesuffix(".py").replace("/", "."))
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--no-header"]
    plugins = [_Reached(*recorded)] if recorded else []
    os._exit(int(pytest.main([*options, *tests], plugins)))


def run(
    mutant: Mutant | None, tests: Sequence[str], limit: int, recorded: _Recorded | None = None
) -> tuple[bool, float, str]:
    """Run tests in a process of their own.

    Args:
        mutant: the change; None: none.
        tests: files, folders and names of tests.
        limit: seconds of CPU.
        recorded: a folder of sources and a file for which test reaches which line of it.

    Returns:
        Whether the tests pass, seconds of CPU, and the test that failed first.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        child = os.fork()
        if not child:
            try:
                _child(mutant, tests, limit, log, recorded)
            finally:
                os._exit(70)
        _, status = os.waitpid(child, 0)
        text = log.read_text("utf-8", "replace") if log.is_file() else ""
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    failed = [line for line in text.splitlines() if line.startswith(("FAILED", "ERROR"))]
    killer = failed[0].split(" - ")[0].split(" ", 1)[-1] if failed else "it hangs or crashes"
    return status == 0, spent, "" if status == 0 else killer


class Reach:
    """Which tests reach a line, as the unchanged run recorded it."""

    def __init__(self, data: Path) -> None:
        import coverage

        self.data = coverage.CoverageData(str(data))
        self.data.read()

    def tests(self, mutant: Mutant, most: int) -> list[str]:
        """Return at most so many tests that reach a mutant's line, drawn by its place."""
        found = self.data.contexts_by_lineno(str(ROOT / mutant.file)).get(mutant.line, [])
        named = sorted(name for name in found if name)
        return Random(str(mutant)).sample(named, min(most, len(named)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Put small mistakes into rooms of fpsim.")
    parser.add_argument("rooms", nargs="*", default=list(TESTS), choices=[*TESTS], metavar="ROOM")
    parser.add_argument("--sample", type=int, default=0, help="mutants of each room; 0: all")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument(
        "--only", help="mutants whose file and line begin so: fpsim/oracle/sums.py:9"
    )
    parser.add_argument("--out", type=Path, help="JSON lines of what was found")
    return parser.parse_args()


def main() -> int:
    """Run mutants and print those that survive; the exit status is 1 if any does."""
    args = _arguments()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    os.chdir(ROOT)
    # What no mutant changes is imported once, before the forks.
    for name in ("numpy", "numba", "hypothesis", "pytest", "ml_dtypes", "gfloat"):
        importlib.import_module(name)
    survivors = total = 0
    scratch = tempfile.TemporaryDirectory()
    for room in args.rooms:
        reached = Path(scratch.name) / room
        whole, _, failed = run(None, TESTS[room], 3600, (ROOT / "fpsim" / room, reached))
        if not whole:
            print(f"{room}: the tests fail without any change: {failed}")
            return 2
        reach, (_, spent, _) = Reach(reached), run(None, TESTS[room], 3600)
        limit = int(3 * spent) + GRACE
        files = sorted((ROOT / "fpsim" / room).rglob("*.py"))
        every = [m for f in files if f.name not in LEFT_OUT for m in mutants_of(f)]
        chosen = [m for m in every if str(m).startswith(args.only)] if args.only else every
        if args.sample and len(chosen) > args.sample:
            chosen = Random(f"{args.seed}/{room}").sample(chosen, args.sample)
        print(
            f"{room}: {len(every)} mutants, {len(chosen)} tried; tests take {spent:.0f} s",
            flush=True,
        )
        killed = 0
        for mutant in chosen:
            started = time.monotonic()
            first = reach.tests(mutant, FIRST)
            alive, _, killer = run(mutant, first, limit) if first else (True, 0.0, "")
            if alive:
                alive, _, killer = run(mutant, TESTS[room], limit)
            killed += not alive
            if alive:
                print(f"  survives {mutant}", flush=True)
            if args.out:
                row = vars(mutant) | {"room": room, "alive": alive, "killer": killer,
                                      "seconds": round(time.monotonic() - started, 1)}  # fmt: skip
                with args.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
        print(f"{room}: {killed} of {len(chosen)} noticed", flush=True)
        survivors += len(chosen) - killed
        total += len(chosen)
    print(f"{total - survivors} of {total} mutants noticed")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
