"""The crop: geometry of boxes, and when a new one is taken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vfm_isbench.evaluation import zoom_in
from vfm_isbench.evaluation.zoom_in import Box
from vfm_isbench.protocol import Protocol
from vfm_isbench.types import Array, Click

SHAPE = (40, 50)
PROTOCOL = Protocol.preset("paper").replace(zoom_min_size=10)

ranges = st.tuples(st.integers(0, 39), st.integers(0, 39)).map(sorted)
boxes = st.builds(lambda rows, cols: Box(rows[0], rows[1], cols[0], cols[1]), ranges, ranges)
clicks = st.builds(Click, st.integers(0, SHAPE[0] - 1), st.integers(0, SHAPE[1] - 1), st.booleans())
masks = hnp.arrays(np.bool_, SHAPE, fill=st.just(False))


def object_box(mask: Array, placed: list[Click], expansion: float, min_size: int) -> Box | None:
    found = Box.around(mask)
    if found is None:
        return None
    return zoom_in.object_box(found, SHAPE, placed, expansion=expansion, min_size=min_size)


def choose_crop(current: Box | None, predicted: Box | None, placed: list[Click], protocol: Protocol = PROTOCOL) -> Box:
    return zoom_in.choose_crop(current, predicted, SHAPE, placed, protocol)


def pixels(box: Box) -> Array:
    mask = np.zeros((60, 60), bool)
    mask[box.slices] = True
    return mask


def test_a_box_of_the_whole_image() -> None:
    box = Box.whole(SHAPE)
    assert (box.height, box.width) == SHAPE
    assert np.ones(SHAPE)[box.slices].shape == SHAPE


@given(boxes)
def test_all_four_sides_belong_to_a_box(box: Box) -> None:
    assert pixels(box).sum() == box.height * box.width
    assert pixels(box)[box.row_min, box.col_min] and pixels(box)[box.row_max, box.col_max]


@given(boxes, boxes)
def test_overlap_is_the_product_of_the_ious_along_both_axes(one: Box, other: Box) -> None:
    product = 1.0
    for axis in (0, 1):
        mine, theirs = pixels(one).any(axis=1 - axis), pixels(other).any(axis=1 - axis)
        product *= (mine & theirs).sum() / (mine | theirs).sum()
    assert one.overlap(other) == pytest.approx(product)
    assert one.overlap(other) == other.overlap(one)
    assert one.overlap(one) == 1


@given(boxes, clicks)
def test_a_click_on_the_last_row_or_column_already_counts_as_outside(box: Box, click: Click) -> None:
    held = pixels(Box(box.row_min, box.row_max, box.col_min, box.col_max))
    held[box.row_max], held[:, box.col_max] = False, False
    assert box.holds(click) == held[int(click.row), int(click.col)]


@given(boxes, clicks, st.sampled_from([28, 224]))
def test_mapped_clicks_map_back(box: Box, click: Click, size: int) -> None:
    mapped = box.map_click(click, size)
    assert mapped.row * box.height / size + box.row_min == pytest.approx(click.row)
    assert mapped.col * box.width / size + box.col_min == pytest.approx(click.col)
    assert mapped.is_positive == click.is_positive
    if box.row_min <= click.row <= box.row_max:
        assert 0 <= mapped.row < size


def extent(mask: Array, positive: list[Click]) -> tuple[int, int, int, int]:
    places = [*map(tuple, np.argwhere(mask)), *((int(click.row), int(click.col)) for click in positive)]
    rows, cols = [row for row, _ in places], [col for _, col in places]
    return min(rows), max(rows), min(cols), max(cols)


@settings(deadline=None)
@given(masks, st.lists(clicks, max_size=4), st.sampled_from([1.0, 1.4, 2.0]), st.integers(1, 60))
def test_the_box_of_an_object(mask: Array, placed: list[Click], expansion: float, min_size: int) -> None:
    box = object_box(mask, placed, expansion, min_size)
    if not mask.any():
        assert box is None
        return
    assert box is not None
    positive = [click for click in placed if click.is_positive]
    top, bottom, left, right = extent(mask, positive)
    # It lies in the image and holds the prediction and the positive clicks.
    assert 0 <= box.row_min <= top and bottom <= box.row_max < SHAPE[0]
    assert 0 <= box.col_min <= left and right <= box.col_max < SHAPE[1]
    for low, high, got_low, got_high, size in (
        (top, bottom, box.row_min, box.row_max, SHAPE[0]),
        (left, right, box.col_min, box.col_max, SHAPE[1]),
    ):
        side = max(expansion * (high - low + 1), min_size)
        centre = (low + high) / 2
        # Rounding moves each end by half a pixel at most; the image may cut it.
        assert got_low == 0 or abs(got_low - (centre - side / 2)) <= 0.5
        assert got_high == size - 1 or abs(got_high - (centre + side / 2)) <= 0.5
        if got_low > 0 and got_high < size - 1:
            assert got_high - got_low + 1 >= min_size


def test_negative_clicks_do_not_stretch_the_box() -> None:
    mask = np.zeros(SHAPE, bool)
    mask[20:23, 20:23] = True
    without = object_box(mask, [], 1.4, 6)
    assert object_box(mask, [Click(2, 2, False)], 1.4, 6) == without
    assert object_box(mask, [Click(2, 2, True)], 1.4, 6) != without


def prediction(box: Box) -> Array:
    predicted = np.zeros(SHAPE, bool)
    predicted[box.slices] = True
    return predicted


INNER = Box(10, 19, 10, 19)
INSIDE = Click(15, 15, True)


def test_at_first_the_whole_image_is_seen() -> None:
    assert choose_crop(None, None, [INSIDE]) == Box.whole(SHAPE)


def test_nothing_predicted_gives_the_whole_image() -> None:
    assert choose_crop(None, Box.around(np.zeros(SHAPE, bool)), [INSIDE]) == Box.whole(SHAPE)


def test_the_first_prediction_zooms_in() -> None:
    crop = choose_crop(Box.whole(SHAPE), INNER, [INSIDE])
    assert crop == object_box(prediction(INNER), [INSIDE], 1.4, 10)
    assert crop.height < SHAPE[0]


def test_zoom_in_can_be_switched_off() -> None:
    protocol = PROTOCOL.replace(zoom_in=False)
    assert choose_crop(INNER, INNER, [INSIDE], protocol) == Box.whole(SHAPE)


def test_the_crop_in_use_stays_while_it_overlaps_enough() -> None:
    wanted = object_box(prediction(INNER), [INSIDE], 1.4, 10)
    assert wanted is not None
    similar = Box(wanted.row_min, wanted.row_max + 2, wanted.col_min, wanted.col_max)
    assert choose_crop(similar, INNER, [INSIDE]) == similar
    twice = Box(wanted.row_min, wanted.row_min + 2 * wanted.height - 1, wanted.col_min, wanted.col_max)
    assert wanted.overlap(twice) == 0.5
    assert choose_crop(twice, INNER, [INSIDE]) == twice
    more = Box(twice.row_min, twice.row_max + 1, twice.col_min, twice.col_max)
    assert choose_crop(more, INNER, [INSIDE]) == wanted


@pytest.mark.parametrize(("click", "stays"), [
    (Click(5, 5, True), False), (Click(5, 5, False), True), (Click(9, 15, True), False), (Click(10, 10, True), True),
    (Click(23, 15, True), True), (Click(24, 15, True), False), (Click(15, 24, True), False),
])  # fmt: skip
def test_only_a_positive_click_outside_replaces_the_crop(click: Click, stays: bool) -> None:
    current = Box(10, 24, 10, 24)
    protocol = PROTOCOL.replace(zoom_recompute_iou=0.0)
    assert (choose_crop(current, INNER, [INSIDE, click], protocol) == current) == stays


def test_an_earlier_click_outside_counts_too() -> None:
    current = Box(10, 24, 10, 24)
    protocol = PROTOCOL.replace(zoom_recompute_iou=0.0)
    assert choose_crop(current, INNER, [Click(5, 5, True), INSIDE], protocol) != current


@given(boxes)
def test_the_box_around_a_prediction(box: Box) -> None:
    assert Box.around(pixels(box)) == box
