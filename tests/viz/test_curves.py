"""Curves show the means of the evidence, and nothing if a mean is unknown."""

from __future__ import annotations

import numpy as np
import pytest
from result_builder import NAN, result_of

from vfm_isbench.errors import PictureError
from vfm_isbench.results.intervals import estimate_mean
from vfm_isbench.viz import failure_curves, iou_curves
from vfm_isbench.viz.canvas import caption_of

A = [[0.5, 0.7, 0.9], [0.1, 0.2, 0.6], [0.4, 0.6, 0.8]]
B = [[0.6, 0.8, 0.95], [0.2, 0.4, 0.7], [0.5, 0.6, 0.7]]
IMAGES = ["image0", "image0", "image1"]


def lines(panel):
    """Curves by their names in the legend."""
    names = [text.get_text() for text in panel.figure.axes[0].get_legend().get_texts()]
    return {names[int(one.get_gid())]: one for one in panel.lines if one.get_gid()}


def line(panel, label):
    return lines(panel)[label].get_xydata()


def test_lines_are_the_means_and_bands_their_intervals() -> None:
    figure = iou_curves([result_of("a", {"scenes": A}), result_of("b", {"scenes": B}, sha256="b")])
    (panel,) = figure.axes
    assert panel.get_xlim() == (1, 3) and panel.get_ylim()[1] == 100, "the axes end at the cap"
    np.testing.assert_allclose(line(panel, "a"), [[1, 100 / 3], [2, 50], [3, 230 / 3]])
    np.testing.assert_allclose(line(panel, "b")[:, 1], 100 * np.mean(B, axis=0))
    vertices = panel.collections[0].get_paths()[0].vertices
    for click in (1, 2, 3):
        estimate = estimate_mean(np.array([A])[:, :, click - 1], IMAGES, limits=(0, 1))
        drawn = vertices[vertices[:, 0] == click, 1]
        np.testing.assert_allclose([drawn.min(), drawn.max()], [100 * estimate.low, 100 * estimate.high])
    assert panel.get_xlabel() == "clicks per object" and panel.get_ylabel() == "mean IoU (%)"
    assert panel.get_title(loc="left") == "scenes (3 objects)"
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["a", "b"]
    assert "95 % intervals of the mean" in caption_of(figure) and "missing" not in caption_of(figure)
    styles = {(one.get_linestyle(), one.get_marker()) for one in lines(panel).values()}
    assert len(styles) == 2, "distinct without colour"


def test_seeds_are_averaged_and_widen_the_band() -> None:
    # With little confidence, because two images and two seeds leave nearly everything open.
    one = iou_curves([result_of("a", {"scenes": A}, seed=0)], confidence=0.3)
    lower = (np.array(A) - 0.1).tolist()
    two = iou_curves([result_of("a", {"scenes": A}, seed=0), result_of("a", {"scenes": lower}, seed=1)], confidence=0.3)
    np.testing.assert_allclose(line(two.axes[0], "a")[:, 1], 100 * np.mean(A, axis=0) - 5)
    heights = [np.ptp(figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]) for figure in (one, two)]
    assert heights[1] > heights[0]
    assert "2 training seeds" in caption_of(two) and "with the spread of training seeds" in caption_of(two)


def test_a_curve_ends_where_objects_were_stopped() -> None:
    stopped = [[0.5, 0.7, 0.9], [0.1, 0.95, NAN], [0.4, 0.6, 0.8]]
    figure = iou_curves([result_of("a", {"scenes": stopped})])
    np.testing.assert_allclose(line(figure.axes[0], "a"), [[1, 100 / 3], [2, 75]])
    assert "no mean from click 3 on" in caption_of(figure)
    assert "(1 of 3 have no IoU at click 3)" in caption_of(figure)


def test_one_image_has_no_band() -> None:
    figure = iou_curves([result_of("a", {"scenes": A[:2]})])
    assert len(figure.axes[0].collections) == 0
    assert "no band" in caption_of(figure)


def test_a_panel_for_each_data_set() -> None:
    ious = {name: A for name in ("grabcut", "berkeley", "davis", "sbd")}
    figure = iou_curves([result_of("a", ious), result_of("b", {"sbd": B}, sha256="b")])
    titles = [panel.get_title(loc="left").split()[0] for panel in figure.axes]
    assert titles == ["grabcut", "berkeley", "davis", "sbd"]
    assert [set(lines(panel)) for panel in figure.axes] == [{"a"}, {"a"}, {"a"}, {"a", "b"}]
    only = iou_curves([result_of("a", ious)], ["davis"])
    assert [panel.get_title(loc="left") for panel in only.axes] == ["davis (3 objects)"]


def test_protocols_that_differ_are_told() -> None:
    figure = iou_curves([result_of("a", {"scenes": A}), result_of("b", {"scenes": B}, disk_radius=3.0)])
    assert "Not comparable, a and b: the protocols differ" in caption_of(figure)


@pytest.mark.parametrize("name", ["$x_1$", "_hidden", "<b>&amp;", "a" * 300])
def test_any_name_is_drawn_as_it_is(name: str) -> None:
    figure = iou_curves([result_of(name, {"scenes": A})])
    figure.draw_without_rendering()
    (text,) = figure.axes[0].get_legend().get_texts()
    assert text.get_text()[:15] == name[:15]
    assert not text.get_parse_math()


def test_failures_are_the_share_of_objects_that_did_not_get_there() -> None:
    figure = failure_curves([result_of("a", {"scenes": A})], percent=60)
    (panel,) = figure.axes
    np.testing.assert_allclose(line(panel, "a")[:, 1], [100, 100 / 3, 0])
    assert panel.get_ylabel() == "objects below 60 % IoU (%)" and panel.get_ylim()[0] == 0
    stopped = failure_curves([result_of("a", {"scenes": [[0.5, 0.7, 0.9], [0.1, 0.95, NAN]]})], percent=60)
    np.testing.assert_allclose(line(stopped.axes[0], "a")[:, 1], [100, 0, 0], err_msg="known: it had got there")
    unknown = failure_curves([result_of("a", {"scenes": [[0.5, 0.7, 0.9], [0.1, 0.5, NAN]]})], percent=60)
    np.testing.assert_allclose(line(unknown.axes[0], "a")[:, 1], [100, 50])
    with pytest.raises(PictureError, match="0 %"):
        failure_curves([result_of("a", {"scenes": A})], percent=0)
