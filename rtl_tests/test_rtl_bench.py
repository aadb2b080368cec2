# SPDX-License-Identifier: Apache-2.0
"""The bench can fail: wrong vectors, wrong designs and broken simulations are all told apart."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rtl_support import HERE, WriteVectors

from fpsim import get_unit, vectors
from fpsim.base.errors import FpsimError, SimulatorMissing
from fpsim.base.resources import rtl_dir
from fpsim.hdl.bench import child_process
from fpsim.hdl.bench.replay import ReplayResult, SimulationFailed, replay
from fpsim.hdl.bench.simulator import Simulator, find
from fpsim.hdl.rtl.parameters import rtl_top
from fpsim.units.spec import MacSpec
from fpsim.vectors.sets.vector_set import VectorSet

CHAIN, FIXED = (get_unit(name).spec for name in ("e2m1-chain-e5m10", "e2m1-fixed24q2"))


def small(spec: MacSpec = CHAIN) -> VectorSet:
    return vectors.plan(spec, strategy="exhaustive", start="clear").made()


def run_design(
    name: str,
    simulator: Simulator,
    directory: Path,
    write_vectors: WriteVectors,
    timeout: float | None = None,
) -> ReplayResult:
    """Replay the chain's vectors through one of the designs that misbehave."""
    sources = (rtl_dir() / "fpsim_pkg.sv", HERE / "designs" / f"{name}.sv")
    top = dataclasses.replace(rtl_top(CHAIN), name=name, parameters={}, sources=sources)
    return replay(
        CHAIN,
        write_vectors(small()),
        simulator.name,
        build_dir=directory / "build",
        top=top,
        timeout=timeout,
    )


def test_one_wrong_word_is_found_and_named(
    simulator: Simulator, builds: Path, write_vectors: WriteVectors
) -> None:
    stream = small()
    wrong = 301
    stream.columns["acc"][wrong] ^= np.uint16(1)
    directory = write_vectors(stream)
    result = replay(
        CHAIN, directory, simulator.name, build_dir=builds / f"{simulator.name}-{CHAIN.name}"
    )
    assert not result.passed
    assert (result.compared, result.mismatch_count) == (512, 1)
    (mismatch,) = result.mismatches
    assert mismatch.index == wrong
    word = (directory / "vectors.hex").read_text().splitlines()[mismatch.line - 1]
    assert int(word, 16) & 0xFFFF == mismatch.fields["acc"]
    assert mismatch.expected == f"{mismatch.fields['acc']:04x}"
    assert int(mismatch.seen, 16) == mismatch.fields["acc"] ^ 1


@pytest.mark.parametrize(
    ("spec", "parameter"),
    [(CHAIN, {"ROUNDING": 2}), (CHAIN, {"A_BIAS": 2}), (FIXED, {"LSB": -3})],
    ids=["rounding", "bias", "lsb"],
)
def test_a_wrong_parameter_is_found(
    spec: MacSpec,
    parameter: dict[str, int],
    icarus: Simulator,
    tmp_path: Path,
    write_vectors: WriteVectors,
) -> None:
    top = rtl_top(spec)
    top = dataclasses.replace(top, parameters=top.parameters | parameter)
    directory = write_vectors(vectors.plan(spec, strategy="random", count=3000, start="load"))
    result = replay(spec, directory, icarus.name, build_dir=tmp_path / "build", top=top)
    assert not result.passed
    assert result.compared == result.vectors
    assert result.mismatch_count > len(result.mismatches) == 10


def test_unknown_bits_are_a_mismatch(
    icarus: Simulator, tmp_path: Path, write_vectors: WriteVectors
) -> None:
    result = run_design("unknown_output", icarus, tmp_path, write_vectors)
    assert result.mismatches[0].seen == "00xx"


def test_a_design_that_does_not_compile_is_shown(
    simulator: Simulator, tmp_path: Path, write_vectors: WriteVectors
) -> None:
    with pytest.raises(
        SimulationFailed, match=r"(?s)^build: .* refuses broken:.*broken\.sv:16"
    ) as error:
        run_design("broken", simulator, tmp_path, write_vectors)
    assert len(str(error.value).splitlines()) <= 1 + child_process.MAX_LOG_LINES


def test_a_simulation_that_ends_early_is_no_pass(
    icarus: Simulator, tmp_path: Path, write_vectors: WriteVectors
) -> None:
    with pytest.raises(SimulationFailed, match=r"^run: .* without a result"):
        run_design("stops", icarus, tmp_path, write_vectors)


def test_a_simulation_that_hangs_is_stopped(
    icarus: Simulator, tmp_path: Path, write_vectors: WriteVectors
) -> None:
    started = time.monotonic()
    with pytest.raises(SimulationFailed, match="did not end within 5 s and was stopped"):
        run_design("hangs", icarus, tmp_path, write_vectors, timeout=5)
    assert time.monotonic() - started < 30


def test_a_child_that_is_stopped_takes_its_children_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 300 & echo $! > {pid_file}; wait"
    with pytest.raises(child_process.TimeLimitReached):
        child_process.run(
            ["sh", "-c", script],
            log=tmp_path / "log",
            timeout=1,
            cwd=tmp_path,
            environment=os.environ,
        )
    assert not outlives(int(pid_file.read_text()))


def test_a_simulation_does_not_outlive_the_process_that_wanted_it(
    icarus: Simulator, tmp_path: Path, write_vectors: WriteVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FPSIM_CACHE", str(tmp_path))
    directory = write_vectors(small())
    script = f"""
import sys; sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
from fpsim.hdl.bench.simulator import find
from test_rtl_bench import run_design
run_design("hangs", find("icarus"), Path({str(tmp_path)!r}), lambda _: {str(directory)!r})
"""
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        assert wait_for(lambda: simulations(tmp_path)), "the simulation did not start"
    finally:
        parent.kill()
        parent.wait()
    assert wait_for(lambda: not simulations(tmp_path)), "the simulation is still running"


@pytest.mark.sweep
def test_a_design_built_before_is_not_built_again_wherever_it_is(
    icarus: Simulator, tmp_path: Path, write_vectors: WriteVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FPSIM_CACHE", str(tmp_path))
    directory = write_vectors(small())
    times = []
    for place, parameters in (("one", {}), ("one", {}), ("two", {}), ("two", {"ROUNDING": 2})):
        top = rtl_top(CHAIN)
        top = dataclasses.replace(top, parameters=top.parameters | parameters)
        result = replay(CHAIN, directory, icarus.name, build_dir=tmp_path / place, top=top)
        times.append(result.build_seconds)
    assert times[0] > 0 and times[1:3] == [0, 0] and times[3] > 0
    assert len(list((tmp_path / "builds").iterdir())) == 2


def test_waves_are_written(icarus: Simulator, tmp_path: Path, write_vectors: WriteVectors) -> None:
    build_dir = tmp_path / "build"
    replay(CHAIN, write_vectors(small()), icarus.name, build_dir=build_dir, waves=True)
    assert (build_dir / "fpsim_harness.fst").stat().st_size > 1000


def test_progress_reaches_the_total(
    icarus: Simulator, tmp_path: Path, write_vectors: WriteVectors
) -> None:
    seen: list[tuple[str, int, int]] = []
    replay(
        CHAIN,
        write_vectors(small()),
        icarus.name,
        build_dir=tmp_path / "build",
        progress=lambda *state: seen.append(state),
    )
    assert seen[-1] == ("run", 512, 512)
    assert [done for stage, done, _ in seen if stage == "run"] == sorted(
        done for stage, done, _ in seen if stage == "run"
    )


# -- bad input: found before a simulator starts -----------------------------------------------


def test_no_vectors_is_a_failure(tmp_path: Path, write_vectors: WriteVectors) -> None:
    stream = small()
    none = {name: values[:0] for name, values in stream.columns.items()}
    directory = write_vectors(dataclasses.replace(stream, columns=none, sections=()))
    with pytest.raises(FpsimError, match="holds no vectors"):
        replay(CHAIN, directory, build_dir=tmp_path / "build")


def test_vectors_of_another_unit_are_refused(tmp_path: Path, write_vectors: WriteVectors) -> None:
    directory = write_vectors(small())
    with pytest.raises(FpsimError, match="is for e2m1-chain-e5m10, not for e2m1-fixed24q2"):
        replay(FIXED, directory, build_dir=tmp_path / "build")


def test_damaged_vectors_are_refused(tmp_path: Path, write_vectors: WriteVectors) -> None:
    directory = write_vectors(small())
    with (directory / "vectors.hex").open("a") as file:
        file.write("0\n")
    with pytest.raises(FpsimError, match=r"vectors\.hex:\d+: more than the 512 vectors"):
        replay(CHAIN, directory, build_dir=tmp_path / "build")


def test_a_design_without_the_port_is_refused(tmp_path: Path, write_vectors: WriteVectors) -> None:
    top = rtl_top(CHAIN)
    top = dataclasses.replace(top, inputs={k: v for k, v in top.inputs.items() if k != "b_i"})
    with pytest.raises(FpsimError, match="field b: mac_chain has no port b_i"):
        replay(CHAIN, write_vectors(small()), build_dir=tmp_path / "build", top=top)


def test_an_unwritable_build_directory_is_refused(
    icarus: Simulator, tmp_path: Path, write_vectors: WriteVectors
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FpsimError, match=r"^build directory: .*file.* cannot be written"):
        replay(CHAIN, write_vectors(small()), icarus.name, build_dir=tmp_path / "file")


def test_a_missing_simulator_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SimulatorMissing, match=r"iverilog is not on PATH.*install iverilog"):
        find("icarus")
    with pytest.raises(SimulatorMissing, match="verilator needs perl"):
        find("verilator")


def test_an_unknown_simulator_is_refused() -> None:
    with pytest.raises(
        FpsimError, match="one of verilator, icarus, ghdl; did you mean 'verilator'"
    ):
        find("verilater")


# -- helpers --------------------------------------------------------------------------------------


def outlives(pid: int, seconds: float = 10.0) -> bool:
    """Return whether a process still runs some seconds later: a busy machine kills slowly."""
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return alive(pid)


def alive(pid: int) -> bool:
    """Return whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def simulations(directory: Path) -> list[int]:
    """Return the processes of vvp that run a design from below a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if command[0].endswith(b"vvp") and str(directory).encode() in b" ".join(command):
            found.append(int(entry.name))
    return [pid for pid in found if alive(pid)]


def wait_for(condition: Callable[[], object], seconds: float = 30) -> bool:
    """Return whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False
