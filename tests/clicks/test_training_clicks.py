"""Simulated training clicks: where they fall, how many there are, and in which shares."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage, stats

from vfm_isbench.clicks import (
    FirstClickRule,
    add_click,
    error_region,
    first_clicks,
    next_training_click,
    next_training_clicks,
)
from vfm_isbench.clicks.distance import inner_distance
from vfm_isbench.clicks.training import _away_from_border, _band_around
from vfm_isbench.types import Array, Click

RULE = FirstClickRule()
SIGNIFICANCE = 1e-3
"""Chance that a correct sampler fails a test of its shares; with fixed seeds it fails either always or never."""

two_objects = hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14), elements=st.integers(0, 3))


def split(clicks: list[Click]) -> tuple[list[Click], list[Click]]:
    return [c for c in clicks if c.is_positive], [c for c in clicks if not c.is_positive]


def holds(mask: Array, click: Click) -> bool:
    return bool(mask[int(click.row), int(click.col)])


def geometric(highest: int, decay: float = 0.8) -> Array:
    weights = decay ** np.arange(highest + 1)
    shares: Array = weights / weights.sum()
    return shares


def fits(observed: Array, shares: Array) -> bool:
    """Chi-square test of counts; categories that must stay empty are checked separately."""
    possible = shares > 0
    if observed[~possible].any():
        return False
    expected = shares[possible] / shares[possible].sum() * observed.sum()
    return float(stats.chisquare(observed[possible], expected).pvalue) > SIGNIFICANCE


def square(shape: tuple[int, int], rows: slice, cols: slice) -> Array:
    mask = np.zeros(shape, bool)
    mask[rows, cols] = True
    return mask


@settings(deadline=None)
@given(two_objects, st.integers(0, 2**32))
def test_positive_clicks_fall_inside_and_negative_ones_outside(labels: Array, seed: int) -> None:
    selected = [labels == instance for instance in (1, 2) if (labels == instance).any()]
    target = np.isin(labels, (1, 2))
    positive, negative = split(first_clicks(selected, labels == 3, labels.shape, RULE, np.random.default_rng(seed)))
    assert all(holds(target, click) for click in positive)
    assert not any(holds(target, click) for click in negative)
    assert len(positive) <= 24
    assert len(negative) <= 24
    assert len(positive) >= len(selected)
    for mask in selected:
        assert any(holds(mask, click) for click in positive)


def test_positive_clicks_come_first() -> None:
    mask = square((20, 20), slice(5, 15), slice(5, 15))
    for seed in range(20):
        clicks = first_clicks([mask], ~mask, mask.shape, RULE, np.random.default_rng(seed))
        positive, negative = split(clicks)
        assert clicks == positive + negative


def test_pure_background_has_negative_clicks_only() -> None:
    rng = np.random.default_rng(0)
    nothing = np.zeros((10, 12), bool)
    drawn = [first_clicks([], nothing, (10, 12), RULE, rng) for _ in range(50)]
    assert not any(click.is_positive for clicks in drawn for click in clicks)
    assert sum(map(len, drawn)) > 50


def test_a_target_that_fills_the_image_has_positive_clicks_only() -> None:
    everything = np.ones((10, 12), bool)
    rng = np.random.default_rng(0)
    for _ in range(20):
        positive, negative = split(first_clicks([everything], ~everything, (10, 12), RULE, rng))
        assert positive and not negative


@pytest.mark.parametrize("decay", [0.8, 1.0])
def test_numbers_of_clicks(decay: float) -> None:
    rng = np.random.default_rng(1)
    mask = square((12, 12), slice(3, 9), slice(3, 9))
    rule = replace(RULE, decay=decay)
    positives, negatives = np.zeros(26, int), np.zeros(26, int)
    for _ in range(4000):
        positive, negative = split(first_clicks([mask], np.zeros_like(mask), (12, 12), rule, rng))
        positives[len(positive)] += 1
        negatives[len(negative)] += 1
    assert fits(positives, np.concatenate([[0], geometric(23, decay), [0]]))
    assert fits(negatives, np.concatenate([geometric(24, decay), [0]]))


def test_numbers_of_positive_clicks_of_a_merged_target() -> None:
    """Always two, then up to 24 more, 24 in total at most; each further click falls on either with equal chance."""
    rng = np.random.default_rng(2)
    left, right = square((10, 30), slice(2, 8), slice(1, 7)), square((10, 30), slice(2, 8), slice(12, 29))
    numbers, further = np.zeros(26, int), np.zeros(2, int)
    for _ in range(4000):
        positive, _ = split(first_clicks([left, right], np.zeros_like(left), (10, 30), RULE, rng))
        assert holds(left, positive[0])
        assert holds(right, positive[1])
        numbers[len(positive)] += 1
        for click in positive[2:]:
            further[0 if holds(left, click) else 1] += 1
    shares = np.zeros(26)
    for k, share in enumerate(geometric(24)):
        shares[min(2 + k, 24)] += share
    assert fits(numbers, shares)
    assert fits(further, np.array([0.5, 0.5]))


def test_positive_clicks_keep_away_from_the_border() -> None:
    rng = np.random.default_rng(3)
    mask = square((40, 40), slice(5, 35), slice(8, 30))
    inner = square((40, 40), slice(8, 32), slice(11, 27))
    always, never = replace(RULE, erode_probability=1.0), replace(RULE, erode_probability=0.0)
    nothing = np.zeros_like(mask)
    counts = {"always": np.zeros(2, int), "never": np.zeros(2, int), "usual": np.zeros(2, int)}
    for _ in range(600):
        for name, rule in (("always", always), ("never", never), ("usual", RULE)):
            # One click per draw, because the clicks of one draw share the erosion.
            click = first_clicks([mask], nothing, (40, 40), rule, rng)[0]
            counts[name][0 if holds(inner, click) else 1] += 1
    rim = 1 - np.count_nonzero(inner) / np.count_nonzero(mask)
    assert counts["always"][1] == 0
    assert fits(counts["never"], np.array([1 - rim, rim]))
    assert fits(counts["usual"], np.array([1 - 0.1 * rim, 0.1 * rim]))


def test_positive_clicks_lie_anywhere_in_a_small_object() -> None:
    """Three erosions of 9×7 would leave 3 pixels; with 10 or fewer left, the object is not eroded."""
    rng = np.random.default_rng(4)
    mask = square((20, 20), slice(4, 13), slice(4, 11))
    rule = replace(RULE, erode_probability=1.0)
    counts: Counter[tuple[float, float]] = Counter()
    for _ in range(1500):
        click = first_clicks([mask], np.zeros_like(mask), (20, 20), rule, rng)[0]
        counts[click.row, click.col] += 1
    assert fits(np.array([counts[row, col] for row, col in np.argwhere(mask)]), np.full(63, 1 / 63))


def test_the_border_of_the_image_does_not_erode() -> None:
    rng = np.random.default_rng(5)
    mask = square((30, 30), slice(0, 12), slice(0, 12))
    rule = replace(RULE, erode_probability=1.0)
    drawn = [first_clicks([mask], np.zeros_like(mask), (30, 30), rule, rng)[0] for _ in range(1500)]
    assert {(c.row, c.col) for c in drawn} == {(row, col) for row in range(9) for col in range(9)}


def negative_regions(counts_of: list[Array], rule: FirstClickRule, target: Array, others: Array) -> Array:
    rng = np.random.default_rng(6)
    counts = np.zeros(len(counts_of), int)
    for _ in range(1500):
        _, negative = split(first_clicks([target], others, (60, 60), rule, rng))
        for click in negative:
            counts[[holds(region, click) for region in counts_of].index(True)] += 1
    return counts


def test_shares_of_negative_clicks() -> None:
    target = square((60, 60), slice(20, 40), slice(20, 40))
    others = square((60, 60), slice(50, 60), slice(50, 60))
    # √area is 20, so the band is ⌈0.1 · 20⌉ = 2 pixels wide.
    band = square((60, 60), slice(18, 42), slice(18, 42)) & ~target
    rest = ~(target | others | band)
    regions = [band, others, rest]
    areas = np.array([np.count_nonzero(region) for region in regions])
    shares = np.array([0.5, 0.4, 0]) + 0.1 * areas / areas.sum()
    assert fits(negative_regions(regions, RULE, target, others), shares)


def test_without_other_objects_their_share_falls_anywhere() -> None:
    target = square((60, 60), slice(20, 40), slice(20, 40))
    band = square((60, 60), slice(18, 42), slice(18, 42)) & ~target
    regions = [band, ~(target | band)]
    areas = np.array([np.count_nonzero(region) for region in regions])
    shares = np.array([0.5, 0]) + 0.5 * areas / areas.sum()
    assert fits(negative_regions(regions, RULE, target, np.zeros_like(target)), shares)


def test_the_band_follows_repeated_dilation() -> None:
    """Of an irregular target, with the width from a fractional √area."""
    rng = np.random.default_rng(7)
    target = ndimage.binary_opening(ndimage.gaussian_filter(rng.normal(size=(60, 60)), 4) > 0.05)
    width = int(np.ceil(0.1 * np.sqrt(np.count_nonzero(target))))
    band = ndimage.binary_dilation(target, np.ones((3, 3), bool), iterations=width) & ~target
    only_border = FirstClickRule(negative_anywhere=0, negative_other=0, negative_border=1, decay=1.0)
    hit = np.zeros_like(target)
    for _ in range(3000):
        for click in split(first_clicks([target], np.zeros_like(target), (60, 60), only_border, rng))[1]:
            hit[int(click.row), int(click.col)] = True
    np.testing.assert_array_equal(hit, band)


@settings(deadline=None)
@given(
    hnp.arrays(np.bool_, (12, 13)),
    hnp.arrays(np.float32, (12, 13), elements=st.floats(0, 1, width=32)),
    st.integers(0, 2**32),
)
def test_iterative_clicks_fall_deep_inside_the_larger_error(target: Array, probability: Array, seed: int) -> None:
    click = next_training_click(target, probability, np.random.default_rng(seed))
    missed, wrong = target & (probability < 0.49), ~target & (probability > 0.49)
    if click is None:
        assert not missed.any() and not wrong.any()
        return
    depths = {True: inner_distance(missed), False: inner_distance(wrong)}
    depth = depths[click.is_positive]
    assert depth[int(click.row), int(click.col)] > depth.max() / 2
    assert depth.max() >= depths[not click.is_positive].max()
    if click.is_positive:
        assert depth.max() > depths[False].max()


def test_iterative_clicks_are_uniform_in_their_region() -> None:
    target = square((16, 16), slice(2, 13), slice(3, 14))
    probability = np.zeros((16, 16), np.float32)
    region, is_positive = error_region(target, probability)
    assert is_positive
    rng = np.random.default_rng(8)
    counts: Counter[tuple[float, float]] = Counter()
    for _ in range(3000):
        click = next_training_click(target, probability, rng)
        assert click is not None
        counts[click.row, click.col] += 1
    pixels = [(row, col) for row, col in np.argwhere(region)]
    assert len(pixels) == 25  # depths 4, 5 and 6, above half of the deepest, are the inner 5×5 of 11×11
    assert sum(counts[pixel] for pixel in pixels) == 3000
    assert fits(np.array([counts[pixel] for pixel in pixels]), np.full(25, 1 / 25))


def test_a_probability_at_the_threshold_is_no_error() -> None:
    target = square((6, 6), slice(0, 3), slice(0, 6))
    at = np.full((6, 6), 0.5)
    assert next_training_click(target, at, np.random.default_rng(0), threshold=0.5) is None


def blurred(seed: int, images: int, side: int) -> tuple[Array, Array]:
    """Targets and probabilities with errors of any shape and size, some of them exactly at the threshold."""
    rng = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(rng.random((2, images, side, side + 5)), (0, 0, 3, 3))
    target, probability = fields > np.median(fields, axis=(2, 3), keepdims=True)
    probability = np.where(probability, rng.choice([0.5, 0.49, 1.0], (images, 1, 1)), 0.1).astype(np.float32)
    probability[::4] = target[::4]  # without errors
    return target, probability


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(4, 40), st.sampled_from([0.49, 0.5, 0.3]))
def test_clicks_of_a_whole_batch_equal_those_image_by_image(
    seed: int, images: int, side: int, threshold: float
) -> None:
    target, probability = blurred(seed, images, side)
    rngs = [np.random.default_rng(seed) for _ in range(3)]
    expected = [next_training_click(*pair, rngs[0], threshold) for pair in zip(target, probability, strict=True)]
    tensors = torch.from_numpy(target).float(), torch.from_numpy(probability)
    for rng, all_at_once in zip(rngs[1:], (True, None), strict=True):
        assert next_training_clicks(*tensors, rng, threshold, all_at_once=all_at_once) == expected
        assert rng.bit_generator.state == rngs[0].bit_generator.state
    assert expected[0] is None


def test_a_batch_waits_for_the_device_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    target, probability = blurred(0, 8, 30)
    reads = []
    original = torch.Tensor.tolist

    def tolist(tensor: torch.Tensor) -> object:
        reads.append(tensor)
        return original(tensor)

    def refuse(*_: object) -> None:
        pytest.fail("waits for the device once more")

    monkeypatch.setattr(torch.Tensor, "tolist", tolist)
    for name in ("item", "__bool__", "__int__", "__float__", "cpu", "numpy", "nonzero"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    tensors = torch.from_numpy(target).float(), torch.from_numpy(probability)
    next_training_clicks(*tensors, np.random.default_rng(0), all_at_once=True)
    assert len(reads) == 2


@settings(deadline=None)
@given(
    hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=6, max_side=24), fill=st.just(True)),
    st.integers(1, 4),
    st.floats(0.05, 1.5),
)
def test_filters_of_the_bounding_box_equal_those_of_the_image(mask: Array, iterations: int, ratio: float) -> None:
    mask[: len(mask) // 3] = False
    rule = replace(RULE, erode_probability=1.0, erode_iterations=iterations)
    eroded = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=iterations, border_value=1)
    found = _away_from_border(mask, rule, np.random.default_rng(0))
    np.testing.assert_array_equal(found, eroded if eroded.sum() > 10 else mask)
    if mask.any():
        width = int(np.ceil(ratio * np.sqrt(mask.sum())))
        grown = ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=width)
        np.testing.assert_array_equal(_band_around(mask, ratio), grown & ~mask)


signs = st.lists(st.booleans(), max_size=8)


@given(signs, st.booleans(), st.integers(1, 4), st.integers(1, 3))
def test_an_added_click_takes_a_free_slot_or_the_one_from_the_end(
    earlier: list[bool], is_positive: bool, slots: int, step: int
) -> None:
    clicks: list[Click] = []
    for sign in sorted(earlier, reverse=True):
        if sum(c.is_positive is sign for c in clicks) < slots:
            clicks.append(Click(len(clicks), 0, sign))
    new = Click(99, 99, is_positive)
    result = add_click(clicks, new, slots, step)
    mine = [c for c in clicks if c.is_positive is is_positive]
    replaced = max(slots - step, 0)
    wanted = [*mine, new] if len(mine) < slots else [*mine[:replaced], new, *mine[replaced + 1 :]]
    assert [c for c in result if c.is_positive is is_positive] == wanted
    assert [c for c in result if c.is_positive is not is_positive] == [
        c for c in clicks if c.is_positive is not is_positive
    ]
    assert result == sorted(result, key=lambda c: not c.is_positive)
