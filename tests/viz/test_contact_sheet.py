"""The contact sheet: clicks in the right places, errors in their colours, and visible warnings."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

from vfm_isbench.errors import PictureError
from vfm_isbench.types import Click
from vfm_isbench.viz import ShownObject, contact_sheet
from vfm_isbench.viz.canvas import caption_of
from vfm_isbench.viz.contact_sheet import IGNORED, MISSED, RIGHT, TOO_MUCH, dimmed, error_map, view_of

TRUTH = np.zeros((100, 140), np.int8)
TRUTH[20:60, 30:80] = 1
TRUTH[0:5] = -1
PREDICTED = np.zeros((100, 140), bool)
PREDICTED[30:70, 30:80] = True
IMAGE = np.random.default_rng(0).integers(0, 256, (100, 140, 3), dtype=np.uint8)
CLICKS = (Click(40, 55, True), Click(65, 40, False))
ONE = ShownObject("cat", IMAGE, TRUTH, CLICKS, 0.6, "NoC90 > 20", PREDICTED, 0.6004)


def all_axes(figure):
    return [panel for frame in figure.subfigs for panel in frame.axes]


def headings(figure) -> list[tuple[str, str]]:
    return [(frame.get_suptitle(), to_hex(frame._suptitle.get_color())) for frame in figure.subfigs if frame.axes]


def test_error_colours() -> None:
    colours = error_map(TRUTH, PREDICTED)
    expected = {(40, 50): RIGHT, (25, 50): MISSED, (65, 50): TOO_MUCH, (2, 2): IGNORED, (90, 90): "white"}
    for place, colour in expected.items():
        assert tuple(colours[place]) == to_rgb(colour)
    luminance = {name: np.dot(to_rgb(name), (0.2126, 0.7152, 0.0722)) for name in (RIGHT, MISSED, TOO_MUCH, "white")}
    values = sorted(luminance.values())
    assert min(np.diff(values)) > 0.1, "distinct in black-and-white print"


def test_clicks_stand_where_they_were_placed_and_are_told_apart_without_colour() -> None:
    figure = contact_sheet([ONE])
    panels = all_axes(figure)
    assert len(panels) == 3
    rows, cols = view_of(ONE)
    marks = [(text.get_text(), text.get_position()) for text in panels[0].texts]
    assert marks == [("1", (55 - cols.start, 40 - rows.start)), ("2", (40 - cols.start, 65 - rows.start))]
    positive, negative = (text.get_bbox_patch() for text in panels[0].texts)
    assert to_hex(positive.get_facecolor()) == "#ffffff" and to_hex(negative.get_facecolor()) == "#000000"
    assert type(positive.get_boxstyle()) is not type(negative.get_boxstyle())
    np.testing.assert_array_equal(panels[0].images[0].get_array(), IMAGE[rows, cols])
    np.testing.assert_array_equal(panels[1].images[0].get_array(), dimmed(IMAGE, PREDICTED)[rows, cols])
    np.testing.assert_array_equal(panels[2].images[0].get_array(), error_map(TRUTH, PREDICTED)[rows, cols])
    assert headings(figure) == [("cat · NoC90 > 20 · IoU 60.0 % at click 2", "#000000")]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["right", "missed", "too much", "ignored"]


def test_a_replay_that_differs_is_told_in_colour() -> None:
    figure = contact_sheet([dataclasses.replace(ONE, replayed_iou=0.6011)])
    ((words, colour),) = headings(figure)
    assert "the replay differs: its IoU is 60.1 %" in words
    assert colour != "#000000"


def test_without_predictions() -> None:
    alone = dataclasses.replace(ONE, prediction=None, replayed_iou=None, iou=None, remark="stopped")
    figure = contact_sheet([alone] * 3, title="three", remarks=["No predictions: no checkpoint."])
    panels = all_axes(figure)
    assert len(panels) == 6 and not figure.legends
    rows, cols = view_of(alone)
    np.testing.assert_array_equal(panels[1].images[0].get_array(), dimmed(IMAGE, TRUTH == 1)[rows, cols])
    assert "No predictions: no checkpoint." in caption_of(figure)
    assert headings(figure)[0][0] == "cat · NoC90 > 20 · IoU at click 2 missing\nstopped"


def test_the_view_holds_object_prediction_and_clicks() -> None:
    rows, cols = view_of(ONE)
    assert rows.start <= 20 and rows.stop >= 70 and cols.start <= 30 and cols.stop >= 80
    assert rows.stop - rows.start == cols.stop - cols.start == 65
    far = dataclasses.replace(ONE, clicks=(Click(99, 139, False),))
    assert view_of(far) == (slice(0, 100), slice(0, 140))
    tiny = np.zeros((100, 140), np.int8)
    tiny[50, 70] = 1
    small = ShownObject("dot", IMAGE, tiny, (), 0.5)
    rows, cols = view_of(small)
    assert (rows.stop - rows.start, cols.stop - cols.start) == (48, 48)


def test_dimmed_keeps_the_marked_part() -> None:
    shown = dimmed(IMAGE, PREDICTED)
    np.testing.assert_array_equal(shown[PREDICTED], IMAGE[PREDICTED])
    outside = shown[~PREDICTED]
    assert (outside.min(), outside.max()) >= (160, 160) and (np.ptp(outside, axis=1) == 0).all()


def test_nothing_to_show() -> None:
    with pytest.raises(PictureError):
        contact_sheet([])
