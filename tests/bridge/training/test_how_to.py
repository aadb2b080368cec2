# SPDX-License-Identifier: Apache-2.0
"""The how-to on training runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from fpsim.bridge import recipe as recipe_module

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "train.md"


@pytest.mark.sweep
def test_its_python_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipe_module, "_RECIPES", dict(recipe_module._RECIPES))
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for text in blocks:
        exec(compile(text, PAGE.name, "exec"), names)
    out = capsys.readouterr().out
    assert "nvfp4-train on nvidia-b200-nvf4: 2 linear layers" in out or "gradients on" in out
