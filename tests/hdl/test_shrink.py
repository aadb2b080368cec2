# SPDX-License-Identifier: Apache-2.0
"""A reproducer is searched for in as few vectors as simulations have room for."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fpsim.hdl.verify import shrink


def test_candidates_without_room_in_a_simulation_are_not_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Runs of 2000 vectors without one of them each: 2000 candidates, of which 16 have room."""
    size, made = 2000, []

    def candidates() -> Iterator[Any]:
        for i in range(size):
            made.append(i)
            yield SimpleNamespace(count=size, columns={}, take=lambda rows, i=i: (i, rows.stop))

    wrong = SimpleNamespace(kept=[SimpleNamespace(index=5 * size + 7)])
    monkeypatch.setattr(shrink, "run_source", lambda *_: wrong)
    joined = SimpleNamespace(source=lambda: None)
    monkeypatch.setattr(shrink.VectorRun, "joined", lambda runs: joined)
    writer: Any = SimpleNamespace(select=lambda *_: (np.ones(size, dtype=bool), True))
    trials = shrink._Trials(SimpleNamespace(), writer)  # type: ignore[arg-type]
    assert trials.failing(candidates()) == [(5, (5, 8))]
    assert len(made) == shrink.MAX_VECTORS // size + 1 and trials.rounds == 1
    trials.rounds = shrink.MAX_ROUNDS
    assert trials.failing(candidates()) == [] and len(made) == 17
