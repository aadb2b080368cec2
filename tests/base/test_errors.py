# SPDX-License-Identifier: Apache-2.0
"""The sentence that names a field, its value and what is allowed."""

from __future__ import annotations

import pytest

from fpsim.base.errors import not_one_of


@pytest.mark.parametrize(
    ("known", "nor", "text"),
    [
        (("rne", "rtz"), "", "mode: 'rnee' is not one of rne, rtz; did you mean 'rne'?"),
        (("up",), "a number", "mode: 'rnee' is not one of up, nor a number"),
        (
            [f"f{i}" for i in range(41)],
            "",
            "mode: 'rnee' is not one of the 41 known, from f0 to f40",
        ),
    ],
)
def test_an_unknown_value_is_told_what_is_allowed(
    known: tuple[str, ...], nor: str, text: str
) -> None:
    assert str(not_one_of("mode", "rnee", known, nor)) == text
