# SPDX-License-Identifier: Apache-2.0
"""Help with examples, suggestions for what was mistyped, tables in pipes, what a shell asks for."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest

import fpsim
from fpsim.base.errors import FpsimError
from fpsim.cli import main, parser
from fpsim.cli.output import EXTRAS, MAX_FRAMED, Parser, needs, rows_table, table
from fpsim.oracle.trace_lines import trace_lines

Capture = pytest.CaptureFixture[str]


def leaves(made: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers of commands, and of kinds of a command, that run something."""
    inner = [a for a in made._actions if isinstance(a, argparse._SubParsersAction)]
    for action in inner:
        for sub in action.choices.values():
            yield from leaves(sub)
    if not inner:
        yield made


COMMANDS = list(leaves(parser()))
#: Commands that print a document, not a report: JSON already, a script of a shell.
DOCUMENTS = ("fpsim schema", "fpsim completion")


@pytest.mark.parametrize("made", COMMANDS, ids=lambda made: made.prog)
def test_every_command_has_examples_that_parse(made: argparse.ArgumentParser) -> None:
    assert made.epilog is not None and made.epilog.startswith("examples:\n"), made.prog
    lines = [line for line in made.epilog.splitlines() if line.startswith("  fpsim ")]
    assert lines, made.prog
    for line in lines:
        words = shlex.split(line, comments=True)
        if ">" in words:
            words = words[: words.index(">")]
        if "--help" not in words:
            parser().parse_args(words[1:])


@pytest.mark.parametrize("made", COMMANDS, ids=lambda made: made.prog)
def test_every_report_can_be_json(made: argparse.ArgumentParser) -> None:
    options = [option for action in made._actions for option in action.option_strings]
    assert ("--json" in options) != made.prog.startswith(DOCUMENTS), made.prog


@pytest.mark.parametrize("made", COMMANDS, ids=lambda made: made.prog)
def test_every_argument_says_what_it_is(made: argparse.ArgumentParser) -> None:
    for action in made._actions:
        assert action.help, f"{made.prog}: {action.dest}"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["vectorz"], "fpsim: 'vectorz' is not a command; did you mean 'vectors'?"),
        (["encode", "e2m1", "1", "--ronding", "rna"], "unknown option --ronding; did you mean '--rounding'?"),
        (["encode", "e2m1", "1", "--rounding", "rnn"], "'rnn' is not a value; did you mean 'rne'?"),
        (["encode", "e2m1", "1", "--overflow", "?"], "allowed: saturate, inf, nan, wrap"),
        (["plot", "eror"], "'eror' is not a value; did you mean 'error'?"),
        (["units", "a", "b", "c"], "unexpected argument 'c'"),
    ],
)  # fmt: skip
def test_a_mistyped_word_gets_the_nearest_one(
    argv: list[str], sentence: str, capsys: Capture
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "code"), [("-inf", 15), ("-Infinity", 15), ("-1e1", 15), ("-.5", 9), ("-2", 12)]
)
def test_negative_values_are_no_options(given: str, code: int, capsys: Capture) -> None:
    assert main(["encode", "e2m1", given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["code"] == code


@pytest.mark.parametrize(
    "argv",
    [
        ("units", "nf4-chain-e5m10"),
        ("units", "mxfp4xe2m1-chain-e5m10"),
        ("units", "mxfp4-chain-e5m10"),
        ("units", "e2m1xmxint8-block32-into-chain-e8m23"),
        ("encode", "nvfp4", "1"),
        ("decode", "razer", "1"),
        ("vectors", "--op", "convert:nf4:e5m10", "--out", "set"),
    ],
)
def test_a_block_format_is_no_element(argv: tuple[str, ...], capsys: Capture) -> None:
    assert main([*argv]) == 2
    said = capsys.readouterr().err
    assert "is a block format" in said and "says what a unit multiplies" in said


def test_a_table_in_a_pipe_is_whole_and_tab_separated(capsys: Capture) -> None:
    assert main(["units"]) == 0
    out = capsys.readouterr().out
    assert "..." not in out and "…" not in out
    rows = [line.split("\t") for line in out.splitlines() if not line.startswith("#")]
    longest = fpsim.get_unit("e2m1-chain-e4m3fn-sr6").spec.description
    assert ["e2m1-chain-e4m3fn-sr6", longest] in rows
    assert {len(row) for row in rows} == {2, 3}


@pytest.mark.parametrize(("extra", "package"), [(e, p[0]) for e, p in EXTRAS.items()])
def test_a_missing_package_gets_the_line_that_installs_it(
    extra: str, package: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_: argparse.Namespace) -> int:
        raise ModuleNotFoundError(f"No module named {package!r}", name=f"{package}.inside")

    monkeypatch.setattr("fpsim.cli.formats._formats", run)
    assert main(["formats"]) == 2
    assert capsys.readouterr().err == (
        f"fpsim: {package} is not installed, which this command needs: pip install 'fpsim[{extra}]'\n"
    )


def test_a_module_of_fpsim_that_is_missing_is_no_missing_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(_: argparse.Namespace) -> int:
        raise ModuleNotFoundError("No module named 'fpsim.nothing'", name="fpsim.nothing")

    monkeypatch.setattr("fpsim.cli.formats._formats", run)
    with pytest.raises(ModuleNotFoundError):
        main(["formats"])


def test_commands_start_without_a_compiler() -> None:
    code = (
        "import sys, fpsim.cli; fpsim.cli.parser(); "
        "print([m for m in ('numba', 'torch', 'matplotlib', 'cocotb') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_simulators_are_listed_and_their_environment_printed(capsys: Capture) -> None:
    assert main(["simulators", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == {"verilator", "icarus", "ghdl"}
    assert all(bool(row["version"]) != bool(row["how"]) for row in rows.values())
    if rows["verilator"]["version"] is None:
        pytest.skip("no Verilator")
    assert main(["simulators", "--env"]) == 0
    script = capsys.readouterr().out
    found = subprocess.run(
        ["sh", "-c", f"{script}command -v verilator"], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip().endswith("/verilator")


def test_completion_knows_every_command(capsys: Capture) -> None:
    pytest.importorskip("shtab")
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    for made in COMMANDS:
        assert made.prog.split()[1] in script


def test_a_long_trace_is_folded_and_all_unfolds_it(capsys: Capture) -> None:
    command = ["trace", "e2m1-chain-e5m10", "--a", *["2"] * 64, "--b", *["2"] * 64, "--c", "0x3c00"]
    assert main(command) == 0
    folded = capsys.readouterr().out.splitlines()
    assert len(folded) < 25
    assert folded[2].split("\t")[:3] == ["0", "acc before", "1.0"]
    assert any("p[0..63]" in line for line in folded)
    assert folded[-1].split("\t")[2] == "65"
    assert main([*command, "--all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + 1 + 64 + 2 * 64


def test_values_of_a_register_are_in_the_unit_of_its_operands() -> None:
    unit = fpsim.get_unit("e2m1-fixed24q2")
    trace = unit.trace(unit.a.encode([1.5]), unit.b.encode([3.0]), 4)
    shown = {line.name: (line.value, line.grid) for line in trace_lines(trace.nodes)}
    assert shown["p[0]"] == ("4.5", "")
    assert shown["t"] == ("4.5", "18 * 2^-2")
    assert shown["acc"] == ("5.5", "22 * 2^-2")
    assert trace.nodes[-1].to_dict()["value"] == "5.5"


def test_packages_show_what_users_hold() -> None:
    assert {"bridge", "get_unit", "hdl", "plots", "testing", "vectors"} <= set(dir(fpsim))
    assert not [name for name in dir(fpsim) if name.startswith("_") and name != "__version__"]
    assert "annotations" not in dir(fpsim) and "lazy_names" not in dir(fpsim)
    assert {"Driver", "Monitor", "Scoreboard", "Adapter"} <= set(dir(fpsim.hdl))
    assert {"plan", "write", "read", "check", "explain"} <= set(dir(fpsim.vectors))
    with pytest.raises(AttributeError, match="module 'fpsim' has no attribute 'brdige'"):
        fpsim.brdige  # noqa: B018


def test_defaults_are_shown_once_and_lists_as_they_are_typed(capsys: Capture) -> None:
    made = Parser("prog")
    made.add_argument("--lengths", nargs="+", type=int, default=[16, 64], help="of a sum")
    made.add_argument("--seed", type=int, default=1, help="of data")
    made.add_argument("--dots", type=int, default=64, help="per point (default 64)")
    made.add_argument("--none", nargs="+", default=[], help="no default")
    made.add_argument("--bare", nargs="+", default=["a"])
    text = " ".join(made.format_help().split())
    for words in ("of a sum (default: 16 64)", "of data (default: 1)", "per point (default 64) "):
        assert words in text
    assert "no default --bare" in text and "[BARE ...]" in text
    assert "(default: 64)" not in text


def test_a_package_that_is_missing_comes_with_the_line_that_installs_it() -> None:
    wanted = r"^matplotlib is not installed, .*: pip install 'fpsim\[plot\]'$"
    with pytest.raises(FpsimError, match=wanted), needs("plot"):
        raise ModuleNotFoundError(name="matplotlib")
    # A module of fpsim itself that is missing is a mistake of fpsim, which no package mends.
    for name in ("fpsim.plotss", "fpsim", None):
        with pytest.raises(ModuleNotFoundError), needs("plot"):
            raise ModuleNotFoundError(name=name)


def test_a_table_on_a_terminal_has_a_frame_and_takes_no_markup(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"node": "t[c]", "value": 1 / 3, "note": None}, {"node": "[red]", "value": 2.0, "note": "a\tb"}]  # fmt: skip
    rows_table("sums", rows, digits=3)
    assert capsys.readouterr().out.splitlines() == [
        "# sums", "node\tvalue\tnote", "t[c]\t0.333\t", "[red]\t2.0\ta b"
    ]  # fmt: skip
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    rows_table("sums", rows, digits=3)
    framed = capsys.readouterr().out
    assert "sums" in framed.splitlines()[0] and "#" not in framed and "\u2502" in framed
    assert "t[c]" in framed and "[red]" in framed and "0.333" in framed
    table("many", ["x"], [[i] for i in range(MAX_FRAMED + 1)])
    assert capsys.readouterr().out.startswith("# many\nx\n0\n1\n")
