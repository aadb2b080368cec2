# SPDX-License-Identifier: Apache-2.0
"""The drawing of a matrix product says what numpy says of the same numbers, in both themes."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS))

from matmul_drawing import HEIGHT, THEMES, WIDTH, A, B, matmul_drawing  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("theme", list(THEMES))
def test_the_drawing_is_true(theme: str) -> None:
    root = ET.fromstring(matmul_drawing(theme))
    texts = [node.text or "" for node in root.iter(f"{SVG}text")]
    acc = np.float32(0)
    for a, b in zip(A[0], (row[0] for row in B), strict=True):
        product = np.float32(a) * np.float32(b)
        sign = "+" if product >= 0 else "-"
        assert f"{acc:g} {sign} {abs(product):g} = {acc + product:g}" in texts
        held = np.float32((acc + product).astype(ml_dtypes.float8_e4m3fn))
        if held != acc + product:
            lost = f"{acc + product - held:g}"
            assert any(
                re.fullmatch(rf"{re.escape(lost)}(: the sum did not move)?", t) for t in texts
            )
        acc = held
    exact = float(np.array(A[0]) @ np.array([row[0] for row in B]))
    assert any(t.startswith(f"D[0,0] = {acc:g}; the exact sum is {exact:g}.") for t in texts)


@pytest.mark.parametrize("theme", list(THEMES))
def test_nothing_leaves_the_picture(theme: str) -> None:
    """Characters of 14 px are about 6.3 px wide, those of one pitch 7.9."""
    root = ET.fromstring(matmul_drawing(theme))
    for node in root.iter(f"{SVG}text"):
        wide = len(node.text or "") * (7.9 if node.get("class") == "mono" else 6.3)
        x, anchor = float(node.get("x", "0")), node.get("text-anchor")
        assert x + (wide if anchor == "start" else wide / 2) <= WIDTH, node.text
        assert float(node.get("y", "0")) <= HEIGHT


def test_themes_differ_in_colours_alone() -> None:
    plain = [re.sub(r"#[0-9a-f]{6}", "", matmul_drawing(theme)) for theme in THEMES]
    assert plain[0] == plain[1] and matmul_drawing("light") != matmul_drawing("dark")
