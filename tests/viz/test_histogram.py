"""Bars count the objects, and the cap is not mistaken for success."""

from __future__ import annotations

import numpy as np
import pytest
from result_builder import NAN, result_of

from vfm_isbench.errors import PictureError
from vfm_isbench.viz import noc_histogram
from vfm_isbench.viz.canvas import caption_of

IOUS = {"scenes": [[0.9, 0.9, 0.9], [0.1, 0.95, 0.9], [0.1, 0.2, 0.9], [0.1, 0.2, 0.3], [0.1, 0.2, 0.89]]}


def heights(panel) -> list[float]:
    return [bar.get_height() for bar in panel.patches]


def words(panel) -> str:
    """The title and the text below it."""
    return ": ".join([panel.get_title(loc="left"), *(text.get_text() for text in panel.texts)])


def test_bars_and_the_censored_one() -> None:
    figure = noc_histogram([result_of("a", IOUS)])
    (panel,) = figure.axes
    np.testing.assert_allclose(heights(panel), [20, 20, 20, 40])
    missed = panel.patches[-1]
    assert missed.get_hatch() and not panel.patches[0].get_hatch()
    assert missed.get_x() == panel.patches[2].get_x() and missed.get_y() == pytest.approx(20), "on top of the third"
    assert words(panel) == "a · scenes: NoC90 2.40, not reached: 2 of 5"
    assert panel.get_xlabel() == "clicks to reach 90 % IoU" and panel.get_ylabel() == "objects (%)"
    assert "do not reach 90 % IoU in 3 clicks; NoC90 counts them as 3" in caption_of(figure)


def test_another_threshold_and_seeds() -> None:
    figure = noc_histogram([result_of("a", IOUS, seed=0), result_of("a", IOUS, seed=1)], percent=85)
    (panel,) = figure.axes
    np.testing.assert_allclose(heights(panel), [20, 20, 40, 20])
    assert words(panel) == "a · scenes: NoC85 2.40, not reached: 2 of 10"
    assert "2 training seeds, whose objects are counted together" in caption_of(figure)
    with pytest.raises(PictureError, match="101 %"):
        noc_histogram([result_of("a", IOUS)], percent=101)


def test_objects_stopped_before_are_left_out_and_told() -> None:
    stopped = {"scenes": [[0.9, NAN, NAN], [0.85, NAN, NAN], [0.1, 0.2, 0.3], [0.1, 0.95, NAN]]}
    figure = noc_histogram([result_of("a", stopped)])
    (panel,) = figure.axes
    np.testing.assert_allclose(heights(panel), [25, 25, 0, 25])
    assert words(panel) == "a · scenes: NoC90 unknown, not reached: 1 of 4"
    assert "1 of 4 objects were stopped early below 90 % and are left out" in caption_of(figure)
    exact = noc_histogram([result_of("a", stopped)], percent=85)
    assert words(exact.axes[0]) == "a · scenes: NoC85 1.75, not reached: 1 of 4"
    assert "left out" not in caption_of(exact)


def test_a_row_for_each_upsampler_and_a_column_for_each_data_set() -> None:
    figure = noc_histogram([result_of("a", {**IOUS, "davis": [[0.1, 0.2, 0.3]]}), result_of("b", IOUS, sha256="b")])
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    assert titles == ["a · scenes", "a · davis", "b · scenes", "b · davis: not evaluated"]
