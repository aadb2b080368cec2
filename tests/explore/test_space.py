# SPDX-License-Identifier: Apache-2.0
"""Spaces, budgets and fronts: what they hold, and one sentence where they hold nothing."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

from fpsim.base.errors import FpsimError
from fpsim.explore.budget import Budget
from fpsim.explore.pareto import pareto
from fpsim.explore.space import Space

SPACE = """
recipes = ["mxfp4", "nvfp4"]

[[stage]]
kind = "chain"
format = ["e5m10", "e8m7"]
rounding = ["rne", "rtz"]

[[stage]]
kind = "chunked"
size = [32, 128]
inner = { kind = "chain", format = ["e5m10"] }
outer = { kind = "chain", format = "e8m23" }

[[stage]]
unit = ["nvidia-h100-e4m3", "e2m1-chain-e5m10"]
"""


def test_every_choice_makes_a_point_once(tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(SPACE)
    space = Space.from_toml(tmp_path / "space.toml")
    assert space.size == 2 * (4 + 2 + 2)
    points = space.points()
    names = [point.unit.canonical_name for point in points if point.recipe == "nvfp4"]
    assert names == [
        "e2m1-chain-e5m10",
        "e2m1-chain-e5m10-rtz",
        "e2m1-chain-e8m7",
        "e2m1-chain-e8m7-rtz",
        "e2m1-chunked32-of-chain-e5m10-into-chain-e8m23",
        "e2m1-chunked128-of-chain-e5m10-into-chain-e8m23",
        points[6].unit.canonical_name,  # the H100's; the last unit is the first point again
    ]
    assert len(points) == 14
    assert points[0].name == "mxfp4 on e2m1-chain-e5m10"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "space: it has no point, as recipes is empty"),
        ('recipes = ["mxfp4"]', "space: it has no point, as stage is empty"),
        ('recipes = "mxfp4"', "recipes: 'mxfp4' is not a list of names"),
        ('recipes = ["mxfp4"]\nstages = []', "'stages' is not one of recipes, stage; did you mean"),
        ('recipes = ["mxfp4"]\nstage = 3', "stage: write [[stage]]"),
        ('recipes = ["mxfp4"]\n[[stage]]\nkind = "chain"\nformat = []', "stage 1: format: the list is empty"),
        ('recipes = ["mxfp4"]\n[[stage]]\nkind = "chian"', "stage 1: accumulate.kind: 'chian' is not one of"),
        ('recipes = ["m"]\n[[stage]]\nunit = "exact"\nkind = "chain"', "a whole unit has no further keys, such as kind"),
        ("recipes = [", "is not valid TOML"),
    ],
)  # fmt: skip
def test_spaces_without_points_are_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(FpsimError) as caught:
        Space.from_toml(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value).strip()


def test_a_space_of_a_million_points_is_refused_at_once() -> None:
    stage = {"kind": "fixed", "width": list(range(4, 64)), "lsb": list(range(-200, 200)),
             "rounding": ["rne"] * 50}  # fmt: skip
    with pytest.raises(FpsimError, match="it has 1,200,000 points; at most 1,000,000 are allowed"):
        Space(["mxfp4"], [stage])
    with pytest.raises(FpsimError, match=r"missing.toml cannot be read"):
        Space.from_toml("missing.toml")


def test_budgets() -> None:
    budget = Budget.parse("perplexity <= 1.02 * exact")
    assert budget == Budget("perplexity", True, 1.02, "exact")
    assert str(budget) == "perplexity <= 1.02 * exact"
    assert budget.met(10.2, {"exact": 10.0})
    assert not budget.met(10.21, {"exact": 10.0})
    assert not budget.met(math.nan, {"exact": 10.0})
    assert Budget.parse("accuracy>=0.95").met(0.95, {})
    assert not Budget.parse("accuracy>=0.95").met(0.94, {})
    assert Budget.parse("top1 >= 0.9*float").limit({"float": 0.5}) == pytest.approx(0.45)
    for text in ("", "perplexity", "perplexity < 3", "perplexity <= x", "p <= 1 * best", "p <= -1", "p <= 1e999"):  # fmt: skip
        with pytest.raises(FpsimError, match="budget: .* such as 'perplexity <= 1.02"):
            Budget.parse(text)


def test_the_front_is_what_no_point_beats() -> None:
    costs = [(x, y) for x in range(4) for y in range(4)] + [(math.inf, 0.0), (0.0, math.nan)]
    assert pareto(costs) == [0]
    costs = [(3, 1), (1, 3), (2, 2), (2, 3), (3, 1), (1, 4)]
    front = pareto(costs)
    assert [costs[i] for i in front] == [(1, 3), (2, 2), (3, 1)]
    for i, j in itertools.product(front, range(len(costs))):
        x, y = costs[i], costs[j]
        assert not (y[0] <= x[0] and y[1] <= x[1] and y != x)
