# SPDX-License-Identifier: Apache-2.0
"""Folders of files that are not Python: beside the package in a checkout, else inside it."""

from __future__ import annotations

from pathlib import Path

from fpsim.base.errors import FpsimError

__all__ = ["golden_dir", "rtl_dir"]

_PACKAGE = Path(__file__).resolve().parents[1]


def golden_dir() -> Path:
    """Return the directory of published units (TOML) and their vectors."""
    return _find("golden", "golden")


def rtl_dir() -> Path:
    """Return the directory of the SystemVerilog sources."""
    return _find("rtl", "rtl_tests/rtl")


def _find(installed: str, checkout: str) -> Path:
    candidates = (_PACKAGE / "_data" / installed, _PACKAGE.parent / checkout)
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    places = " or ".join(str(candidate) for candidate in candidates)
    raise FpsimError(f"resources: the {installed} files are missing; expected in {places}")
