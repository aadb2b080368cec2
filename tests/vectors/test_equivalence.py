# SPDX-License-Identifier: Apache-2.0
"""Mutants said to be equivalent: no vector may kill one; lemmas whose premises fail say nothing."""

from __future__ import annotations

import numpy as np
import pytest

from fpsim import get_unit
from fpsim.vectors.mutants.equivalence import equivalent
from fpsim.vectors.mutants.kills import kills
from fpsim.vectors.mutants.mutants import mutants_of
from fpsim.vectors.plans.planner import plan as plan_set
from fpsim.vectors.sets.record import Record

pytestmark = pytest.mark.usefixtures("one_thread")

#: Units in which the premises of lemmas hold, or fail in one place: elements with infinities and
#: NaN, saturation, narrow results, signed zeros, widths, partial steps. (unit, k, group)
UNITS = [
    ("e2m1-chain-e5m10", 1, None),
    ("e2m1-chain-e5m10", 4, None),
    ("e2m1-chain-e8m7-rdn", 3, None),
    ("e5m2-chain-e8m23-saturate", 4, None),
    ("e5m2-chain-e8m23", 4, None),
    ("e4m3fn-chain-e4m3fn", 3, None),
    ("e2m1-exact-e8m7-rdn", 4, None),
    ("e2m1-exact-e8m23", 4, None),
    ("e2m1-fixed16q2-to-e5m10", 4, None),
    ("e2m1.ue4m3fn-block4-into-exact-e8m23", 4, 4),
    ("e2m1-chunked8-of-aligned4f9-e8m23-into-chain-e8m23", 8, None),
    ("e2m1-fixed8q0-rna-saturate-end", 4, None),
    ("e2m1-fixed24q2", 5, None),
    ("e2m1-tree4-e5m10", 4, None),
    ("e5m2-tree4-e8m23-saturate", 4, None),
    ("e2m1-aligned4f5-e5m10", 4, None),
    ("e2m1-aligned8f13-e8m13-late-in.e8m23", 4, None),
    ("e5m2-aligned4f9-e8m23", 4, None),
    ("e5m10-aligned8f13-e8m23-rne", 8, None),
    ("e2m1-block8-into-chain-e8m23", 16, 8),
    ("e3m2-block4-into-fixed32q8", 4, 4),
    ("e3m2-block4-into-exact-e8m23", 8, 4),
    ("e3m2-block4-into-exact-e8m23", 4, 4),
    ("e2m1.e5m2.split-block4-into-chain-e8m7", 8, 4),
    ("e2m1.e5m2.split-block4-into-chain-e8m7", 4, 4),
    ("e2m1.ue4m3fn-block4-into-chain-e8m23", 8, 4),
    ("e5m10.ue4m3fnxe2m1.ue4m3fn-block4-into-chain-e8m23", 8, 4),
    ("e2m1-chunked4-of-chain-e5m10-into-chain-e8m23", 8, None),
    ("e2m1-chunked8-of-aligned4f9-e8m23-into-chain-e8m23", 16, None),
    ("e2m1-chunked4-of-chain-e4m3-sr3-into-fixed12q0-sr5", 9, None),
    ("e2m1-chunked8-of-chunked4-of-fixed12q2-into-chain-e5m10-into-chain-e8m23", 12, None),
    ("e2m1-block2-into-chunked2-of-exact-e5m10-into-chain-e8m23", 8, 2),
    ("amd-cdna2", None, None),
    ("amd-cdna3-fp16", None, None),
    ("nvidia-h100-e4m3", None, None),
    ("nvidia-b200-nvf4", None, None),
    ("e2m1.ue4m3fn-block4-into-aligned4f25-e8m23", 16, 4),
    ("intel-amx-bf16", None, None),
]  # fmt: skip


def shape_of(name: str, k: int | None, group: int | None) -> Record:
    return Record.of(get_unit(name).spec, k, group)


@pytest.mark.one_in(5)
@pytest.mark.parametrize(("name", "k", "group"), UNITS)
def test_no_vector_kills_an_equivalent_mutant(name: str, k: int | None, group: int | None) -> None:
    """The budget: every corner class and 4096 random vectors for each mutant that runs on kernels."""
    record = shape_of(name, k, group)
    proved = [m for m in mutants_of(record) if not m.slow and equivalent(record, m)]
    plan = plan_set(record.spec, count=4096, k=record.k, group=record.group, seed=11)
    for kill in kills(record, plan.columns(), proved):  # raises where one is killed
        assert kill.equivalent and kill.vector is None


def test_the_list_reaches_the_lemmas() -> None:
    sentences = set()
    for unit in UNITS:
        record = shape_of(*unit)
        for mutant in mutants_of(record):
            why = equivalent(record, mutant)
            if why:
                sentences.add("".join(c for c in why if not c.isdigit() and c != "-")[:24])
    assert len(sentences) >= 14, sorted(sentences)


@pytest.mark.parametrize(
    ("name", "k", "mutant"),
    [
        ("e5m2-chain-e8m23-saturate", 4, "products rounded first"),
        ("e5m2-tree4-e8m23-saturate", 4, "products rounded"),
        ("e5m2-tree4-e8m23-rounded-saturate", 4, "products fused"),
    ],
)
def test_infinities_that_saturate_are_no_products_of_codes(name: str, k: int, mutant: str) -> None:
    """inf - max is max at once, or max - max = 0 where the product saturates first."""
    record = shape_of(name, k, None)
    (found,) = (m for m in mutants_of(record) if m.name == mutant)
    assert equivalent(record, found) is None


def test_filling_with_zeros_shows_where_zeros_have_signs() -> None:
    """Four products of -0 and c = -0 are -0 in four lanes, and +0 in eight."""
    from dataclasses import replace

    spec = get_unit("e2m1-aligned4f5-e5m10").spec
    signed = replace(spec, name="", accumulate=replace(spec.accumulate, signed_zero=True))
    record = Record(signed, 4)
    wider = next(m for m in mutants_of(record) if m.name == "N = 8")
    assert equivalent(record, wider) is None
    columns = {"a": np.full((1, 4), 8, np.uint8), "b": np.zeros((1, 4), np.uint8)}
    c = np.array([0x8000], np.uint16)
    assert record.dot(columns, c).tolist() == [0x8000]
    assert wider.run(columns, c).tolist() == [0]
    assert equivalent(
        Record(spec, 4), next(m for m in mutants_of(Record(spec, 4)) if m.name == "N = 8")
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "k", "group"), UNITS)
def test_more_random_vectors(name: str, k: int | None, group: int | None) -> None:
    record = shape_of(name, k, group)
    proved = [m for m in mutants_of(record) if not m.slow and equivalent(record, m)]
    for seed in range(4):
        plan = plan_set(
            record.spec, strategy="random", count=1 << 16, k=record.k, group=record.group, seed=seed
        )
        kills(record, plan.columns(), proved)


def test_reversed_sums_meet_other_random_integers() -> None:
    """Without random integers a wrapping register has no order; with them rounding k does."""
    for name, same in (("e2m1-fixed12q0", True), ("e2m1-fixed12q0-sr4", False)):
        record = shape_of(name, 4, None)
        (reversed_order,) = (m for m in mutants_of(record) if m.name == "order reversed")
        assert bool(equivalent(record, reversed_order)) == same


@pytest.mark.parametrize("name", ["-0 lost", "-0 lost in the addend"])
def test_a_negative_sum_under_a_scale_of_zero_is_negative_zero(name: str) -> None:
    """UE4M3 has a code for 0, and -1 * 0 + -0 = -0."""
    record = shape_of("e2m1.ue4m3fnxe2m1.ue4m3fn-block4-into-chain-e8m23", 4, 4)
    mutant = next(m for m in mutants_of(record) if m.name == name)
    assert equivalent(record, mutant) is None
    columns = plan_set(record.spec, strategy="directed", k=4, group=4).columns()
    (fate,) = kills(record, columns, [mutant])
    assert fate.vector is not None


def test_a_block_with_scales_per_sign_is_its_own_mirror_image() -> None:
    record = shape_of("e2m1.e5m2.split-block4-into-chain-e8m7", 4, 4)
    reverse = next(m for m in mutants_of(record) if m.name == "order reversed")
    assert equivalent(record, reverse) == "one block: its sum is exact"
    two = shape_of("e2m1.e5m2.split-block4-into-chain-e8m7", 8, 4)
    assert equivalent(two, reverse) is None
