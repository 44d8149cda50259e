"""Augmentation: draws follow the stated distributions, and apply to image and labels alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from torchvision.transforms.v2 import InterpolationMode as Mode
from torchvision.transforms.v2.functional import affine

from vfm_isbench.datasets.augmentation import (
    AugmentationConfig,
    AugmentationDraw,
    apply_augmentation,
    augment,
    draw_augmentation,
)
from vfm_isbench.errors import DataError, ProtocolError
from vfm_isbench.protocol import Protocol
from vfm_isbench.training.samples import augmentation_config
from vfm_isbench.types import Array

NOTHING: dict[str, Any] = {
    "flip_probability": 0.0,
    "rotate90_probability": 0.0,
    "affine_probability": 0.0,
    "brightness_contrast_probability": 0.0,
    "rgb_shift_probability": 0.0,
}
UNCHANGED = AugmentationDraw(
    resize_factor=1.0,
    flip=(False, False),
    quarter_turns=0,
    shift=(0.0, 0.0),
    angle=0.0,
    crop_position=(0.0, 0.0),
    contrast=0.0,
    brightness=0.0,
    rgb_shift=(0.0, 0.0, 0.0),
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sample(seed: int, height: int, width: int) -> tuple[Array, Array]:
    """Random colours, random labels from -1 to 3."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, rng.integers(-1, 4, (height, width)).astype(np.int32)


def augmenting(config: AugmentationConfig) -> Callable[[Array, Array, torch.Generator], tuple[Array, Array]]:
    return lambda image, labels, generator: augment(image, labels, config, generator)


def draws(config: AugmentationConfig, count: int = 3000, seed: int = 0) -> list[AugmentationDraw]:
    generator = seeded(seed)
    return [draw_augmentation(config, generator) for _ in range(count)]


def apply(image: Array, labels: Array, crop_size: int, **changes: Any) -> tuple[Array, Array]:
    return apply_augmentation(image, labels, replace(UNCHANGED, **changes), AugmentationConfig(crop_size=crop_size))


# What is always true


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    crop_size=st.integers(1, 40),
    flip=st.sampled_from(["any", "horizontal", "none"]),
    ensure_crop_fits=st.booleans(),
)
def test_sizes_types_and_labels(
    seed: int, height: int, width: int, crop_size: int, flip: Any, ensure_crop_fits: bool
) -> None:
    image, labels = sample(seed, height, width)
    image.flags.writeable = labels.flags.writeable = False
    augmentation = augmenting(AugmentationConfig(crop_size=crop_size, flip=flip, ensure_crop_fits=ensure_crop_fits))
    new_image, new_labels = augmentation(image, labels, seeded(seed))
    assert new_image.shape == (crop_size, crop_size, 3) and new_image.dtype == np.uint8
    assert new_labels.shape == (crop_size, crop_size) and new_labels.dtype == np.int32
    assert set(np.unique(new_labels)) <= set(np.unique(labels)) | {0}
    for array in (new_image, new_labels):
        assert array.flags.c_contiguous and array.flags.writeable
    again = augmentation(image, labels, seeded(seed))
    np.testing.assert_array_equal(again[0], new_image)
    np.testing.assert_array_equal(again[1], new_labels)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 40))
def test_identity_if_nothing_is_drawn(seed: int, size: int) -> None:
    image, labels = sample(seed, size, size)
    augmentation = augmenting(AugmentationConfig(crop_size=size, resize_range=(1, 1), **NOTHING))
    new_image, new_labels = augmentation(image, labels, seeded(seed))
    np.testing.assert_array_equal(new_image, image)
    np.testing.assert_array_equal(new_labels, labels)
    assert not np.shares_memory(new_image, image) and not np.shares_memory(new_labels, labels)


def test_default_is_the_recipe_of_the_protocol() -> None:
    assert AugmentationConfig() == augmentation_config(Protocol())


def test_another_seed_gives_another_crop_and_the_global_generator_is_left_alone() -> None:
    image, labels = sample(0, 60, 60)
    augmentation = augmenting(AugmentationConfig(crop_size=32))
    before = torch.get_rng_state()
    generator = seeded(5)
    first, second = (augmentation(image, labels, generator)[0] for _ in range(2))
    assert not np.array_equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_switching_one_part_off_leaves_the_other_draws() -> None:
    full = AugmentationConfig()
    for name in NOTHING:
        part = AugmentationConfig(**{name: 0.0})
        for first, second in zip(draws(full, 50, seed=1), draws(part, 50, seed=1), strict=True):
            changed = {
                field
                for field in AugmentationDraw.__dataclass_fields__
                if getattr(first, field) != getattr(second, field)
            }
            assert (
                changed
                <= {
                    "flip_probability": {"flip"},
                    "rotate90_probability": {"quarter_turns"},
                    "affine_probability": {"shift", "angle"},
                    "brightness_contrast_probability": {"contrast", "brightness"},
                    "rgb_shift_probability": {"rgb_shift"},
                }[name]
            )


# Image and labels stay together


def regions(seed: int, height: int, width: int) -> Array:
    """A map of about ten large regions with labels 0 to 4."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, (height, width), (10, 2))
    rows, cols = np.mgrid[:height, :width]
    nearest = ((rows[..., None] - centres[:, 0]) ** 2 + (cols[..., None] - centres[:, 1]) ** 2).argmin(-1)
    return (nearest % 5).astype(np.int32)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), ensure_crop_fits=st.booleans())
def test_colours_that_encode_labels_still_do(seed: int, ensure_crop_fits: bool) -> None:
    # Label 0 is black, so that the zeros of border and padding mean the same in both.
    colours = np.array([[0, 0, 0], [250, 10, 30], [20, 240, 60], [90, 30, 220], [200, 200, 90]], np.uint8)
    labels = regions(seed, 90, 120)
    config = AugmentationConfig(
        crop_size=100,
        rotate_limit=30,
        shift_limit=0.2,
        affine_probability=1,
        brightness_contrast_probability=0,
        rgb_shift_probability=0,
        ensure_crop_fits=ensure_crop_fits,
    )
    image, labels = augmenting(config)(colours[labels], labels, seeded(seed))
    inside = ndimage.maximum_filter(labels, 5) == ndimage.minimum_filter(labels, 5)
    inside[[0, 1, -2, -1]] = inside[:, [0, 1, -2, -1]] = False  # a region may end just beyond the crop
    assert inside.mean() > 0.3
    differs = np.abs(image[inside].astype(int) - colours[labels[inside]]).max(axis=-1) > 1
    assert differs.mean() < 0.005, "only tips of regions, thinner than a pixel, show in the colours alone"


def test_labels_are_resized_without_displacement() -> None:
    # A centred square stays centred at any factor; OpenCV's nearest resize would move it towards a corner.
    labels = np.zeros((60, 60), np.int32)
    labels[20:40, 20:40] = 1
    image = np.repeat(labels[..., None] * 255, 3, axis=2).astype(np.uint8)
    for factor in (0.75, 0.8, 1.2, 1.25):
        size = round(60 * factor)
        new_image, new_labels = apply(image, labels, size, resize_factor=factor)
        np.testing.assert_array_equal(new_labels, new_labels[::-1, ::-1])
        assert abs((new_labels == 1).mean() - (new_image[..., 0] / 255).mean()) < 0.02


# What each draw does


@pytest.mark.parametrize("flip", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("quarter_turns", range(4))
def test_flips_and_quarter_turns(flip: tuple[bool, bool], quarter_turns: int) -> None:
    image, labels = sample(1, 12, 12)
    new_image, new_labels = apply(image, labels, 12, flip=flip, quarter_turns=quarter_turns)
    for new, old in ((new_image, image), (new_labels, labels)):
        expected = old[:: -1 if flip[1] else 1, :: -1 if flip[0] else 1]
        np.testing.assert_array_equal(new, np.rot90(expected, quarter_turns))


@pytest.mark.parametrize("factor", [0.75, 0.9, 1.1, 1.25])
def test_resize_against_scipy(factor: float) -> None:
    image, labels = sample(2, 37, 41)
    height, width = round(37 * factor), round(41 * factor)
    size = max(height, width)
    new_image, new_labels = apply(image, labels, size, resize_factor=factor)
    top, left = (size - height) // 2, (size - width) // 2
    places = np.meshgrid(
        (np.arange(height) + 0.5) * 37 / height - 0.5, (np.arange(width) + 0.5) * 41 / width - 0.5, indexing="ij"
    )
    expected = np.stack(
        [ndimage.map_coordinates(image[..., c].astype(float), places, order=1, mode="nearest") for c in range(3)], -1
    )
    inner = new_image[top : top + height, left : left + width]
    assert np.abs(inner - expected).max() <= 1
    assert np.abs(inner - expected).mean() < 0.4  # rounded once per axis
    rows, cols = (np.floor(place + 0.5).astype(int) for place in places)
    np.testing.assert_array_equal(new_labels[top : top + height, left : left + width], labels[rows, cols])


def test_shift_moves_right_and_down_and_leaves_zeros() -> None:
    image, labels = sample(3, 20, 20)
    new_image, new_labels = apply(image, labels, 20, shift=(0.1, 0.15))
    for new, old in ((new_image, image), (new_labels, labels)):
        np.testing.assert_array_equal(new[3:, 2:], old[:-3, :-2])
        assert not new[:3].any() and not new[:, :2].any()


def test_angle_turns_clockwise_about_the_centre() -> None:
    image, labels = sample(4, 20, 20)
    new_image, new_labels = apply(image, labels, 20, angle=90.0)
    np.testing.assert_array_equal(new_labels, np.rot90(labels, -1))
    np.testing.assert_array_equal(new_image, np.rot90(image, -1))


def test_rotation_is_about_the_centre_also_with_a_shift() -> None:
    labels = np.zeros((41, 41), np.int32)
    labels[20, 20] = labels[20, 21] = labels[21, 20] = labels[19, 20] = labels[20, 19] = 1
    image = np.zeros((41, 41, 3), np.uint8)
    _, new_labels = apply(image, labels, 41, angle=30.0, shift=(5 / 41, -10 / 41))
    assert ndimage.center_of_mass(new_labels) == pytest.approx((10, 25), abs=0.5)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(20, 90), st.integers(20, 90))
def test_a_crop_of_the_moved_image_is_that_of_torchvision(seed: int, height: int, width: int) -> None:
    """Which moves the whole image first; another processor may round a coordinate otherwise."""
    image, labels = sample(seed, height, width)
    rng = np.random.default_rng(seed)
    position, share = (float(rng.random()), float(rng.random())), rng.uniform(-0.1, 0.1, 2)
    draw = replace(
        UNCHANGED, angle=rng.uniform(-20, 20), shift=(float(share[0]), float(share[1])), crop_position=position
    )
    crop, crop_labels = apply_augmentation(image, labels, draw, AugmentationConfig(crop_size=40))

    offset = [float(share[0]) * width, float(share[1]) * height]
    moved = [
        affine(torch.tensor(part), draw.angle, offset, 1.0, [0.0, 0.0], mode)
        for part, mode in ((image.transpose(2, 0, 1), Mode.BILINEAR), (labels[None], Mode.NEAREST))
    ]
    top, left = (int(where * max(side - 39, 1)) for where, side in zip(position, (height, width), strict=True))
    gaps = [max(40 - side, 0) for side in (height, width)]
    around = [gaps[1] // 2, gaps[1] - gaps[1] // 2, gaps[0] // 2, gaps[0] - gaps[0] // 2]
    pixels, regions = (torch.nn.functional.pad(part, around)[:, top : top + 40, left : left + 40] for part in moved)
    assert np.abs(crop.astype(int) - pixels.permute(1, 2, 0).numpy()).max() <= 1
    assert (crop_labels != regions[0].numpy()).mean() < 0.01


def test_small_images_are_padded_around_the_centre() -> None:
    image, labels = np.full((5, 8, 3), 9, np.uint8), np.full((5, 8), 3, np.int32)
    new_image, new_labels = apply(image, labels, 10, crop_position=(0.9, 0.9))
    expected = np.zeros((10, 10), np.int32)
    expected[2:7, 1:9] = 3
    np.testing.assert_array_equal(new_labels, expected)
    np.testing.assert_array_equal(new_image, np.repeat(expected[..., None] * 3, 3, axis=2))


def test_every_crop_position_is_equally_likely() -> None:
    image = np.zeros((10, 8, 3), np.uint8)
    labels = np.arange(80, dtype=np.int32).reshape(10, 8)
    augmentation = augmenting(AugmentationConfig(crop_size=6, resize_range=(1, 1), **NOTHING))
    generator = seeded(0)
    corners = [int(augmentation(image, labels, generator)[1][0, 0]) for _ in range(1500)]
    counts = np.bincount(corners, minlength=80).reshape(10, 8)
    assert counts[:5, :3].sum() == 1500
    assert stats.chisquare(counts[:5, :3].ravel()).pvalue > 0.01


def test_brightness_contrast_and_colour_shift() -> None:
    image = np.full((4, 4, 3), (0, 100, 200), np.uint8)
    labels = np.ones((4, 4), np.int32)
    changed, same = apply(image, labels, 4, contrast=0.2, brightness=0.1)
    assert changed[0, 0].tolist() == [26, 146, 255]  # 25.5, 145.5 and 265.5 levels
    np.testing.assert_array_equal(same, labels)
    assert apply(image, labels, 4, contrast=-0.1, brightness=-0.2)[0][0, 0].tolist() == [0, 39, 129]
    assert apply(image, labels, 4, rgb_shift=(-5.0, 7.4, 60.0))[0][0, 0].tolist() == [0, 107, 255]
    # The shift acts on the result of the brightness change, which is already clipped to 255.
    assert apply(image, labels, 4, contrast=0.4, rgb_shift=(0.0, 0.0, -10.0))[0][0, 0, 2] == 245


def test_zero_border_is_brightened_with_the_image() -> None:
    image, labels = np.full((2, 2, 3), 50, np.uint8), np.ones((2, 2), np.int32)
    assert set(np.unique(apply(image, labels, 4, brightness=0.2)[0])) == {51, 101}


@pytest.mark.parametrize(("height", "width"), [(50, 80), (80, 50), (31, 31), (300, 40)])
def test_crop_can_be_made_to_fit(height: int, width: int) -> None:
    image, labels = np.full((height, width, 3), 9, np.uint8), np.ones((height, width), np.int32)
    generator = seeded(0)
    fitting = AugmentationConfig(crop_size=64, ensure_crop_fits=True).for_validation()
    padding = AugmentationConfig(crop_size=64).for_validation()
    for _ in range(10):
        new_image, new_labels = augmenting(fitting)(image, labels, generator)
        assert (new_labels == 1).all() and (new_image == 9).all()
        assert not augmenting(padding)(image, labels, generator)[1].all()


def test_fitting_keeps_the_aspect() -> None:
    labels = np.repeat(np.arange(80, dtype=np.int32)[None], 40, axis=0)
    config = AugmentationConfig(crop_size=64, resize_range=(0.8, 0.8), ensure_crop_fits=True).for_validation()
    _, new_labels = augmenting(config)(np.zeros((40, 80, 3), np.uint8), labels, seeded(0))
    # 40 rows become 64, so 64 columns show 40 of the 80.
    assert len(np.unique(new_labels)) in (40, 41)


def test_fitting_changes_nothing_if_the_crop_already_fits() -> None:
    image, labels = sample(6, 60, 60)
    for seed in range(5):
        fitted, free = (
            augmenting(AugmentationConfig(crop_size=40, ensure_crop_fits=fits))(image, labels, seeded(seed))
            for fits in (True, False)
        )
        np.testing.assert_array_equal(fitted[0], free[0])


def test_validation_only_resizes_and_crops() -> None:
    for draw in draws(AugmentationConfig(crop_size=48).for_validation(), 200):
        expected = replace(UNCHANGED, resize_factor=draw.resize_factor, crop_position=draw.crop_position)
        assert draw == expected
    assert len({draw.resize_factor for draw in draws(AugmentationConfig(crop_size=48).for_validation(), 200)}) == 200
    assert AugmentationConfig(crop_size=48, resize_range=(1, 2)).for_validation() == AugmentationConfig(
        crop_size=48, resize_range=(1, 2), flip="none", **NOTHING
    )


# What is drawn


def test_flips_and_turns_are_as_frequent_as_stated() -> None:
    drawn = draws(AugmentationConfig())
    kinds = [(False, False), (True, False), (False, True), (True, True)]
    flips = [sum(draw.flip == kind for draw in drawn) for kind in kinds]
    assert stats.chisquare(flips, np.array([1 / 2, 1 / 6, 1 / 6, 1 / 6]) * len(drawn)).pvalue > 0.01
    turns = np.bincount([draw.quarter_turns for draw in drawn], minlength=4)
    assert stats.chisquare(turns, np.array([5 / 8, 1 / 8, 1 / 8, 1 / 8]) * len(drawn)).pvalue > 0.01
    both = sum(draw.flip != (False, False) and draw.quarter_turns > 0 for draw in drawn)
    assert stats.binomtest(both, len(drawn), 1 / 2 * 3 / 8).pvalue > 0.01


@pytest.mark.parametrize("flip", ["horizontal", "none"])
def test_other_choices_of_flips(flip: Any) -> None:
    drawn = draws(AugmentationConfig(flip=flip, flip_probability=0.3), 1000)
    mirrored = sum(draw.flip == (True, False) for draw in drawn)
    assert mirrored + sum(draw.flip == (False, False) for draw in drawn) == 1000
    if flip == "none":
        assert mirrored == 0
    else:
        assert stats.binomtest(mirrored, 1000, 0.3).pvalue > 0.01


def test_ranges_are_filled_evenly_and_probabilities_kept() -> None:
    drawn = draws(AugmentationConfig())

    def uniform(values: list[float], low: float, high: float) -> bool:
        # A low limit, because this test checks a dozen p-values of one seed.
        return bool(stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 0.001)

    def often(count: int, probability: float) -> bool:
        return bool(stats.binomtest(count, len(drawn), probability).pvalue > 0.01)

    assert uniform([draw.resize_factor for draw in drawn], 0.75, 1.25)
    moved = [draw for draw in drawn if draw.angle]
    assert often(len(moved), 0.75) and all(draw.shift == (0, 0) for draw in drawn if not draw.angle)
    assert uniform([draw.angle for draw in moved], -3, 3)
    assert uniform([draw.shift[0] for draw in moved], -0.03, 0.03)
    assert uniform([draw.shift[1] for draw in moved], -0.03, 0.03)
    toned = [draw for draw in drawn if draw.contrast]
    assert often(len(toned), 0.75) and all(not draw.brightness for draw in drawn if not draw.contrast)
    assert uniform([draw.contrast for draw in toned], -0.15, 0.4)
    assert uniform([draw.brightness for draw in toned], -0.25, 0.25)
    tinted = [draw for draw in drawn if draw.rgb_shift[0]]
    assert often(len(tinted), 0.75)
    channels = np.array([draw.rgb_shift for draw in tinted])
    assert all(uniform(channels[:, channel].tolist(), -10, 10) for channel in range(3))
    assert np.abs(np.corrcoef(channels.T) - np.eye(3)).max() < 0.08, "each channel has its own shift"
    assert often(len([draw for draw in moved if draw.contrast]), 0.75**2), "decided apart from each other"


# Wrong input


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("crop_size", 0),
        ("flip", "vertical"),
        ("resize_range", (0.0, 1.0)),
        ("resize_range", (1.2, 1.1)),
        ("contrast_limit", (0.3, 0.2)),
        ("contrast_limit", (-1.5, 0.2)),
        ("flip_probability", 1.5),
        ("affine_probability", -0.1),
        ("shift_limit", -0.1),
        ("rotate_limit", 200),
        ("brightness_limit", 25),
        ("rgb_shift_limit", -1),
    ],
)
def test_fields_out_of_range_are_named(field: str, value: Any) -> None:
    with pytest.raises(ProtocolError, match=f"augmentation field {field} is .*expected"):
        AugmentationConfig(**{field: value})


def test_samples_of_other_shapes_are_refused() -> None:
    image, labels = sample(0, 8, 8)
    augmentation = augmenting(AugmentationConfig(crop_size=4))
    for wrong in (image[..., 0], image.transpose(2, 0, 1), image.astype(np.float32) / 255):
        with pytest.raises(DataError, match=r"image has shape .*expected H×W×3 of uint8"):
            augmentation(wrong, labels, seeded(0))
    for wrong in (labels[:-1], labels[..., None], labels.astype(np.float32)):
        with pytest.raises(DataError, match=r"labels have shape .*the image.s shape \(8, 8\)"):
            augmentation(image, wrong, seeded(0))
