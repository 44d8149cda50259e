"""Dots lie at the two scores of an object."""

from __future__ import annotations

import numpy as np
import pytest
from result_builder import NAN, result_of

from vfm_isbench.errors import IncomparableError, PictureError
from vfm_isbench.viz import object_scatter
from vfm_isbench.viz.canvas import caption_of

A = {"scenes": [[0.5, 0.9, 0.9], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.95, 0.9, 0.9]]}
B = {"scenes": [[0.9, 0.9, 0.9], [0.1, 0.2, 0.4], [0.1, 0.2, 0.3], [0.1, 0.9, 0.9]]}


def dots(panel) -> dict[tuple[float, ...], float]:
    found = panel.collections[0]
    sizes = np.broadcast_to(found.get_sizes(), len(found.get_offsets()))
    return {tuple(place): size for place, size in zip(found.get_offsets().tolist(), sizes, strict=True)}


def words(panel) -> str:
    return " ".join(" ".join(text.get_text() for text in panel.texts).split())


def test_clicks_needed_with_each() -> None:
    figure = object_scatter(result_of("a", A), result_of("b", B, sha256="b"))
    (panel,) = figure.axes
    found = dots(panel)
    assert set(found) == {(2, 1), (3, 3), (1, 2)}
    assert found[3, 3] == 2 * found[2, 1], "its area shows the number"
    assert "better with a: 1 (above), with b: 1 (below), equal: 2" in words(panel)
    assert panel.get_xlabel() == "a: clicks to 90 % IoU" and panel.get_ylabel() == "b: clicks to 90 % IoU"
    assert panel.get_aspect() == 1 and panel.get_xlim() == panel.get_ylim() == (1, 3), "from one click to the cap"
    assert "cap; objects that do not reach 90 % IoU lie on it" in caption_of(figure)


@pytest.mark.parametrize("score", ["iou@1", "iou_at_1"])
def test_iou_after_a_click(score: str) -> None:
    (panel,) = object_scatter(result_of("a", A), result_of("b", B, sha256="b"), score=score).axes
    assert set(dots(panel)) == {(50, 90), (10, 10), (95, 10)}
    assert "better with b: 1 (above), with a: 1 (below), equal: 2" in words(panel)
    assert panel.get_xlabel() == "a: IoU (%) after 1 click"


def test_seeds_are_averaged_object_by_object() -> None:
    (panel,) = object_scatter(
        [result_of("a", A, seed=0), result_of("a", B, seed=1)], result_of("b", B, sha256="b")
    ).axes
    assert set(dots(panel)) == {(1.5, 1), (3, 3), (1.5, 2)}


def test_two_seeds_against_each_other() -> None:
    (panel,) = object_scatter(result_of("a", A, seed=0), result_of("a", B, seed=1)).axes
    assert panel.get_xlabel().startswith("a (seed 0)") and panel.get_ylabel().startswith("a (seed 1)")


def test_missing_scores_are_left_out_and_told() -> None:
    stopped = {"scenes": [[0.5, 0.9, NAN], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.95, NAN, NAN]]}
    figure = object_scatter(result_of("a", stopped), result_of("b", B, sha256="b"), score="iou@2")
    assert set(dots(figure.axes[0])) == {(90, 90), (20, 20)}
    assert "scenes: 1 of 4 objects are left out" in caption_of(figure)
    assert figure.axes[0].get_title(loc="left") == "scenes (3 objects)"
    whole = object_scatter(result_of("a", stopped), result_of("b", B, sha256="b"))
    assert len(dots(whole.axes[0])) == 3 and "left out" not in caption_of(whole)


@pytest.mark.parametrize("score", ["noc", "iou@0", "iou@4", "noc0", "noc101", "dice", "mean_iou"])
def test_a_score_that_does_not_exist(score: str) -> None:
    with pytest.raises(PictureError):
        object_scatter(result_of("a", A), result_of("b", B), score=score)


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(PictureError, match="first side has 2 upsamplers"):
        object_scatter([result_of("a", A), result_of("b", B, sha256="b")], result_of("b", B))
    with pytest.raises(PictureError, match="no data set"):
        object_scatter(result_of("a", A), result_of("b", {"davis": B["scenes"]}))
    with pytest.raises(IncomparableError, match="different objects"):
        object_scatter(result_of("a", A), result_of("b", {"scenes": B["scenes"][:2]}))
