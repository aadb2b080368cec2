# SPDX-License-Identifier: Apache-2.0
"""The folder of files that fpsim can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_dir"]


def cache_dir() -> Path:
    """Return ``$FPSIM_CACHE``, else ``$XDG_CACHE_HOME/fpsim``, else ``~/.cache/fpsim``."""
    if own := os.environ.get("FPSIM_CACHE"):
        return Path(own).expanduser()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).expanduser() / "fpsim"
    return Path.home() / ".cache" / "fpsim"
