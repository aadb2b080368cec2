# SPDX-License-Identifier: Apache-2.0
"""A wheel of a tiny model, as an index would have it."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from fpsim.bridge.measure.wheels import PinnedFile, WheelModel


def make_wheel(index: Path, members: dict[str, bytes]) -> None:
    """Write the wheel tiny-model 1.0 with ``members`` under tiny_model/."""
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(index / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        for name, data in members.items():
            wheel.writestr(f"tiny_model/{name}", data)
        wheel.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: no-such-thing\n",
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def entry_for(members: dict[str, bytes]) -> WheelModel:
    pinned = tuple(
        PinnedFile(f"tiny_model/{name}", hashlib.sha256(data).hexdigest())
        for name, data in members.items()
    )
    return WheelModel("tiny", "tiny-model", "1.0", "CC0-1.0", pinned)


def files_under(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
