# SPDX-License-Identifier: Apache-2.0
"""Hashes that are computed once: equal values have equal hashes, in other processes too."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import pytest

import fpsim

LOOK_UP = """
import pickle, sys
import fpsim
found, name = pickle.loads(sys.stdin.buffer.read())
own = fpsim.get_unit(name).spec
assert found == own and hash(found) == hash(own) and {own: 1}[found] == 1
assert {own.a: 1}[found.a] == 1
"""


@pytest.mark.parametrize("name", ["e2m1-chain-e5m10", "int4-fixed24q0", "nvidia-h100-e4m3"])
def test_an_unpickled_value_is_found_where_strings_hash_otherwise(name: str) -> None:
    spec = fpsim.get_unit(name).spec
    assert {spec: 1, spec.a: 1}  # their hashes are known
    given = pickle.dumps((spec, name))
    for seed in ("1", "2"):
        other = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", LOOK_UP], input=given, env=other, check=True)


def test_values_that_differ_only_in_name_share_a_hash() -> None:
    first = fpsim.get_unit("nvidia-h100-e4m3").spec
    second = fpsim.MacSpec.from_dict(first.to_dict() | {"name": "other"})
    assert first == second and hash(first) == hash(second)
