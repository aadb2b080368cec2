# SPDX-License-Identifier: Apache-2.0
"""The report of ``fpsim prove``: a proof with its chain of trust, or a counterexample explained."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpsim.base.errors import FpsimError
from fpsim.blocks.code_table import CodeTable
from fpsim.hdl.bench.simulator import available, find
from fpsim.hdl.dut.dut_toml import read_dut
from fpsim.hdl.prove.formula import grid_checks
from fpsim.hdl.prove.prove import (
    NOT_DECIDED,
    PROVED,
    REFUTED,
    Claim,
    Progress,
    Proof,
    from_reset,
    prove_design,
    prove_step,
)
from fpsim.hdl.prove.replayed import Replayed, replayed
from fpsim.hdl.prove.words import Algebra
from fpsim.hdl.rtl import proof
from fpsim.hdl.verify.verify import fitted
from fpsim.units.spec import MacSpec

__all__ = ["ProofTask", "prove_reference", "prove_your_design"]


@dataclass(frozen=True)
class ProofTask:
    """How long a proof may take, and where a counterexample is simulated.

    Raises:
        FpsimError: a time that is not positive.
    """

    timeout: float = 600.0  #: seconds
    simulator: str | None = None  #: None: the first that is installed
    build: Path = Path("out/rtl")

    def __post_init__(self) -> None:
        if not isinstance(self.timeout, int | float) or not 1 <= self.timeout <= 1e6:
            raise FpsimError(f"timeout: {self.timeout!r} is not seconds in 1..1000000")


@dataclass(frozen=True)
class Judged:
    """A proof, and its counterexample after the simulation."""

    proof: Proof
    replay: Replayed | None = None

    @property
    def outcome(self) -> str:
        """The proof's outcome; a counterexample that a simulation does not show decides nothing."""
        if self.replay is not None and self.replay.confirmed is False:
            return NOT_DECIDED
        return self.proof.outcome

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        data = self.proof.to_dict() | {"outcome": self.outcome}
        return data | {"counterexample": None if self.replay is None else self.replay.to_dict()}

    def __str__(self) -> str:
        lines = [str(self.proof)]
        if self.replay is not None:
            lines += ["", str(self.replay)]
        if self.outcome != self.proof.outcome:
            lines.append(f"{self.proof.unit}: {self.proof.design}, {self.outcome}")
        return "\n".join(lines)


def prove_your_design(
    spec: MacSpec, path: Path, task: ProofTask, progress: Progress | None = None
) -> Judged:
    """Prove a design that a TOML file describes, or explain an input for which it is wrong.

    Args:
        spec: the unit.
        path: the ``dut.toml``.
        task: how long it may take.
        progress: called with a sentence on each step.

    Returns:
        The proof.

    Raises:
        FpsimError: a file, design or unit that a proof cannot take; no Yosys or no bitwuzla.
    """
    dut, ports = fitted(read_dut(path))
    tool = None if task.simulator is None else find(task.simulator)
    found = prove_design(spec, dut, ports, task.timeout, progress)
    if found.wrong is None:
        return Judged(found)
    tools = available() if tool is None else [tool]
    chosen = next(iter(tools), None)
    shape = found.k, found.group
    replay = replayed(spec, dut, ports, found.wrong, shape, chosen, task.build)
    left = task.timeout - found.seconds
    if replay.confirmed or chosen is None or left <= 0:
        return Judged(found, replay)
    (progress or (lambda _: None))("vectors from a reset")
    reached = from_reset(spec, dut, ports, left)
    if reached is not None:
        replay = replayed(spec, dut, ports, reached, shape, chosen, task.build)
    return Judged(found, replay)


def prove_reference(
    spec: MacSpec,
    task: ProofTask,
    progress: Progress | None = None,
    tables: Mapping[str, CodeTable] | None = None,
) -> Judged:
    """Prove the reference RTL of a unit against the oracle: leaves by table, then the step.

    Args:
        spec: the unit: a chain or fixed one with narrow operands.
        task: how long it may take.
        progress: called with a sentence on each step.
        tables: of operands that come in as codes of a table, by ``a`` and ``b``.

    Returns:
        The proof, whose claims are the links of the chain.

    Raises:
        FpsimError: a unit that has no formula, naming the field; no Yosys or no bitwuzla.
    """
    started = time.monotonic()
    tables = tables or {}
    step = prove_step(spec, task.timeout, progress, tables)
    claims = (*_leaves(spec, tables), *_tables(spec), *step.claims)
    return Judged(
        Proof(step.unit, step.design, step.k, step.group, claims, step.assumptions,
              time.monotonic() - started)
    )  # fmt: skip


def _leaves(spec: MacSpec, tables: Mapping[str, CodeTable]) -> Iterator[Claim]:
    """Yield the modules whose every input the oracle has a row for."""
    for own in dict.fromkeys(tables.values()):
        text = f"code_lookup of {own.name} equals the table of the format for 16 codes"
        yield _leaf(text, lambda own=own: proof.lookup(own))  # type: ignore[misc]
    codes = {name: 1 << getattr(spec, name).bits for name in "ab"}
    for name, fmt in dict.fromkeys((fmt.name, fmt) for fmt in (spec.a, spec.b)):
        text = f"fp_decode of {name} equals the oracle for {1 << fmt.bits} codes"
        yield _leaf(text, lambda fmt=fmt: proof.decoder("a", fmt))  # type: ignore[misc]
    text = f"fp_product equals the oracle for {codes['a'] * codes['b']} pairs of codes"
    yield _leaf(text, lambda: proof.multiplier(spec.a, spec.b))


def _leaf(text: str, made: Callable[[], proof.Leaf]) -> Claim:
    started = time.monotonic()
    try:
        proof.prove(made())
        outcome = PROVED
    except FpsimError as error:
        if not str(error).startswith("proof: "):
            raise
        text, outcome = f"{text}; {error}", REFUTED
    return Claim("leaf", text, outcome, time.monotonic() - started)


def _tables(spec: MacSpec) -> Iterator[Claim]:
    """Yield as claims the comparisons of the step's formula with the oracle, code by code."""
    started = time.monotonic()
    for text, agrees in grid_checks(spec, Algebra()):
        outcome = PROVED if agrees else REFUTED
        yield Claim("oracle", text, outcome, time.monotonic() - started)
        started = time.monotonic()
