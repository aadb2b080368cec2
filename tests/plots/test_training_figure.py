# SPDX-License-Identifier: Apache-2.0
"""Loss curves: running means, bands over seeds, labels at the ends, runs that diverged."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from fpsim import plots
from fpsim.base.errors import FpsimError
from fpsim.plots.training import smoothed


def test_points_are_means_of_the_steps_before() -> None:
    losses = [float(x) for x in range(100)]
    found = smoothed(losses)
    assert found[:3].tolist() == [0, 0.5, 1]
    assert found[50] == np.mean(losses[47:51])
    assert np.isnan(smoothed([1.0, np.inf, 1.0])[1:]).all()


def test_each_setting_has_a_curve_a_band_over_seeds_and_a_label_of_its_own() -> None:
    curves = [
        plots.TrainingCurve("float32", [[3.0, 2.0, 1.0]], reference=True),
        plots.TrainingCurve("fp4", [[3.0, 2.5, 1.01], [3.2, 2.4, 1.03]]),
        plots.TrainingCurve("narrow", [[3.0, np.nan, np.nan]]),
    ]
    figure = plots.training_figure(curves)
    (axes,) = figure.axes
    assert len(axes.lines) == 3
    assert len(axes.collections) == 1
    assert np.allclose(axes.lines[1].get_ydata()[-1], 1.02)
    labels = {text.get_text(): text.xy[1] for text in axes.texts}
    assert set(labels) == {"float32", "fp4", "narrow: diverged"}
    places = sorted(labels.values())
    assert min(np.diff(places)) > 0.04  # none on top of another
    assert len({line.get_color() for line in axes.lines}) == 3


def test_nothing_to_draw_is_one_sentence() -> None:
    with pytest.raises(FpsimError, match="nothing to draw"):
        plots.training_figure([])
    with pytest.raises(FpsimError, match="fp4 has no steps"):
        plots.training_figure([plots.TrainingCurve("fp4", [[]])])
    many = [plots.TrainingCurve(str(i), [[1.0]]) for i in range(1000)]
    with pytest.raises(FpsimError, match="1000 curves are more than the"):
        plots.training_figure(many)
