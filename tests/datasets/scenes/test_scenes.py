"""The embedded scenes: exact masks, the same pixels for the same arguments, and clickable objects."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from vfm_isbench.datasets.base import read_sample
from vfm_isbench.datasets.content import image_sha256
from vfm_isbench.datasets.scenes.contours import bar, blob, ellipse, polygon
from vfm_isbench.datasets.scenes.coverage import coloured_coverage, polygon_coverage
from vfm_isbench.datasets.scenes.dataset import SCENES_REVISION, SPLIT_SIZES, ScenesDataset, split_size
from vfm_isbench.datasets.scenes.embedded import EMBEDDED
from vfm_isbench.datasets.scenes.layout import PlacedObject, lay_out
from vfm_isbench.datasets.scenes.painting import paint
from vfm_isbench.datasets.scenes.shapes import SHAPES, Shape
from vfm_isbench.datasets.scenes.style import SceneStyle
from vfm_isbench.errors import DataError, ProtocolError, UnknownNameError
from vfm_isbench.types import PART_LABELS

SMALL = (96, 128)

# sha256 over image and label bytes of PINNED, per revision. If this test fails after a change of the scenes, raise
# SCENES_REVISION and add a line; results measured on two revisions must not be compared.
PINNED = (("train", "train-00000"), ("train", "train-00007"), ("val", "val-00003"), ("test", "test-00001"))
HASHES = {1: "2e4887ab3e1d77cf874a70ddc608ac7e330b39d97d35565657a91bcadf0f3a61"}


def crossing_number(contour: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Even-odd test of points against a polygon, one edge at a time: slow, and unrelated to the code under test."""
    inside = np.zeros(rows.shape, dtype=bool)
    for (r0, c0), (r1, c1) in zip(contour, np.roll(contour, -1, axis=0), strict=True):
        crosses = (r0 > rows) != (r1 > rows)
        if r0 != r1:
            inside ^= crosses & (cols < c0 + (rows - r0) * (c1 - c0) / (r1 - r0))
    return inside


def sampled_coverage(contour: np.ndarray, size: tuple[int, int], samples: int = 12) -> np.ndarray:
    at = (np.arange(samples) + 0.5) / samples
    rows = (np.arange(size[0])[:, None] + at).ravel()[:, None]
    cols = (np.arange(size[1])[:, None] + at).ravel()[None, :]
    inside = crossing_number(contour, *np.broadcast_arrays(rows, cols))
    return inside.reshape(size[0], samples, size[1], samples).mean(axis=(1, 3))


# --- exact coverage -------------------------------------------------------------------------------------------------


def test_coverage_of_an_axis_parallel_rectangle_is_its_overlap_with_each_pixel():
    rectangle = np.array([(1.25, 2.5), (1.25, 6.75), (4.5, 6.75), (4.5, 2.5)])
    rows = np.clip(np.minimum(np.arange(8) + 1, 4.5) - np.maximum(np.arange(8), 1.25), 0, 1)
    cols = np.clip(np.minimum(np.arange(9) + 1, 6.75) - np.maximum(np.arange(9), 2.5), 0, 1)
    for contour in (rectangle, rectangle[::-1]):
        np.testing.assert_allclose(polygon_coverage([contour], (8, 9)), rows[:, None] * cols, atol=1e-12)


def test_coverage_of_a_disk_agrees_with_its_equation_and_area():
    centre, radius = np.array([30.3, 31.7]), 22.4
    covered = polygon_coverage([ellipse(radius, radius, tuple(centre), points=720)], (64, 64))
    assert covered.sum() == pytest.approx(np.pi * radius**2, rel=1e-4)
    row, col = np.mgrid[:64, :64] + 0.5
    distance = np.hypot(row - centre[0], col - centre[1])
    # A pixel's centre lies within its half diagonal of everything in it.
    clear = np.abs(distance - radius) > 0.71
    np.testing.assert_allclose(covered[clear], (distance < radius)[clear], atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_coverage_agrees_with_dense_sampling(seed):
    rng = np.random.default_rng(seed)
    contour = polygon(rng, 9.0, corners=int(rng.integers(3, 9))) if seed % 2 else blob(rng, 9.0)
    # Far enough inside the window: coverage is not defined for outlines that leave it.
    contour = contour + rng.uniform(16.5, 17.5, 2)
    assert contour.min() > 0 and contour.max() < 34
    covered = polygon_coverage([contour], (34, 34))
    np.testing.assert_allclose(covered, sampled_coverage(contour, (34, 34)), atol=0.1)
    assert covered.sum() == pytest.approx(sampled_coverage(contour, (34, 34)).sum(), rel=5e-3)


@settings(max_examples=60, deadline=None)
@given(corners=st.lists(st.tuples(st.integers(0, 10), st.integers(0, 12)), min_size=3, max_size=6))
def test_corners_on_pixel_corners_and_borders_keep_the_shoelace_area(corners):
    contour = np.array(corners, dtype=float)
    following = np.roll(contour, -1, axis=0)
    shoelace = 0.5 * abs((contour[:, 0] * following[:, 1] - contour[:, 1] * following[:, 0]).sum())
    covered = polygon_coverage([contour], (10, 12))
    assert covered.shape == (10, 12)
    assert ((covered >= 0) & (covered <= 1)).all()
    if len(corners) == 3:
        assert covered.sum() == pytest.approx(shoelace, abs=1e-9)


def test_union_counts_overlaps_once():
    bars = [bar((4.0, 6.0), (16.0, 6.0), 4.0), bar((10.0, 2.0), (10.0, 18.0), 4.0)[::-1]]
    # Two bars of 16 × 4 and 20 × 4 px, crossing in 4 × 4 px.
    assert polygon_coverage(bars, (24, 24)).sum() == pytest.approx(16 * 4 + 20 * 4 - 4 * 4)


def test_coloured_coverage_mixes_overlaps_and_keeps_single_colours():
    square = np.array([(0.0, 0.0), (0.0, 4.0), (4.0, 4.0), (4.0, 0.0)])
    contours = np.stack([square + (1, 1), square + (1, 3)])
    covered, planes = coloured_coverage(contours, np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.5]]), (6, 8))
    np.testing.assert_allclose(planes[:, 2, 1], [1.0, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(planes[:, 2, 3], [0.5, 0.0, 0.25], atol=1e-12)
    np.testing.assert_allclose(planes[:, 2, 5], [0.0, 0.0, 0.5], atol=1e-12)
    assert covered.sum() == pytest.approx(4 * 6)


# --- shapes and layout ----------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), family=st.sampled_from(sorted(SHAPES)), radius=st.floats(12, 60))
def test_shapes_lie_within_their_window_and_are_filled(seed, family, radius):
    rng = np.random.default_rng(seed)
    covered, top, left = SHAPES[family](rng, radius, 0.2 * radius).turned(0.7).coverage(5.3, -40.2)
    assert covered.shape[0] <= 5 * radius + 4 and covered.shape[1] <= 5 * radius + 4
    assert top <= 5.3 and left <= -40.2
    assert 0.03 * radius**2 < covered.sum() < 6 * radius**2
    # A rim of one pixel stays free, or something was cut off.
    assert max(covered[0].max(), covered[-1].max(), covered[:, 0].max(), covered[:, -1].max()) < 1e-9


def test_moving_a_shape_by_whole_pixels_moves_its_mask():
    shape = SHAPES["holed"](np.random.default_rng(3), 30.0, 7.0)
    here, top, left = shape.coverage(40.25, 50.5)
    there, lower, further = shape.coverage(47.25, 47.5)
    np.testing.assert_allclose(here, there, atol=1e-9)
    assert (lower - top, further - left) == (7, -3)


def test_a_ring_has_its_hole_cut_out():
    ring = Shape(((ellipse(20.0, 20.0, points=360), True), (ellipse(12.0, 12.0, points=360), False)))
    covered, top, left = ring.coverage(0.0, 0.0)
    row, col = np.mgrid[: covered.shape[0], : covered.shape[1]] + 0.5
    distance = np.hypot(row + top, col + left)
    clear = (np.abs(distance - 20) > 0.71) & (np.abs(distance - 12) > 0.71)
    np.testing.assert_array_equal((covered >= 0.5)[clear], ((distance < 20) & (distance > 12))[clear])


def test_labels_are_the_topmost_object_that_covers_half_of_a_pixel():
    size = (120, 160)
    objects, labels = lay_out(np.random.default_rng(5), size, SceneStyle(touch_share=1.0))
    expected = np.zeros(size, dtype=int)
    for row in range(size[0]):
        for col in range(size[1]):
            for number, thing in enumerate(objects, start=1):
                r, c = row - thing.top, col - thing.left
                inside = 0 <= r < thing.coverage.shape[0] and 0 <= c < thing.coverage.shape[1]
                if inside and thing.coverage[r, c] >= 0.5:
                    expected[row, col] = number
    np.testing.assert_array_equal(labels, expected)


def test_an_impossible_style_says_what_to_lower():
    crowd = SceneStyle(
        objects_per_image=(8, 8), object_radius=(90.0, 90.0), min_visible_area=0.02, min_visible_share=0.9
    )
    with pytest.raises(ProtocolError, match=r"room for 8 objects.*lower objects_per_image"):
        lay_out(np.random.default_rng(0), (64, 64), crowd)


# --- painting -------------------------------------------------------------------------------------------------------


def test_borders_are_antialiased_by_the_coverage():
    """With everything but two flat colours off, every pixel is mixed according to its coverage."""
    flat = SceneStyle(
        background_contrast=0.0, clutter=0.0, texture_contrast=(0.0, 0.0), shading=0.0, shadow=0.0, sensor_noise=0.0,
        edge_softness=0.0, low_contrast_share=0.0,
    )  # fmt: skip
    covered, top, left = Shape(((ellipse(20.0, 26.0), True),)).coverage(48.3, 60.6)
    thing = PlacedObject("smooth", top, left, covered, 26.0, int((covered >= 0.5).sum()))
    rng = np.random.default_rng(4)
    pixels, _ = paint(rng, [thing], SMALL, flat)
    image = pixels.astype(float)
    full = np.zeros(SMALL)
    full[thing.inside(SMALL)[0]] = covered[thing.inside(SMALL)[1]]
    background = np.median(image[full == 0], axis=0)
    body = np.median(image[full == 1], axis=0)
    channel = int(np.abs(body - background).argmax())
    share = (image[..., channel] - background[channel]) / (body - background)[channel]
    # No setting switches off surface wear, about 6 % of the object's colour: hence the median.
    rim = (full > 0.05) & (full < 0.95)
    assert rim.sum() > 50
    assert np.abs(share - full)[full == 0].max() < 0.02
    assert np.median(np.abs(share - full)[rim]) < 0.12
    assert np.corrcoef(share[rim], full[rim])[0, 1] > 0.9


def border_contrasts(style: SceneStyle) -> list[float]:
    """Largest difference over the channels between the 3 px bands inside and outside each object, in [0, 1]."""
    contrasts = []
    scenes = ScenesDataset(split="train", n_images=8, image_size=(192, 256), style=style)
    for image_id in scenes.image_ids:
        sample = scenes.read(image_id)
        for instance in sample.instance_ids():
            mask = sample.labels == instance
            bands = (
                mask ^ ndimage.binary_erosion(mask, iterations=3),
                ndimage.binary_dilation(mask, iterations=3) ^ mask,
            )
            inner, outer = (sample.image[band].astype(float).mean(axis=0) for band in bands)
            contrasts.append(np.abs(inner - outer).max() / 255)
    return contrasts


def test_borders_are_image_edges_except_for_low_contrast_objects():
    usual, low = (border_contrasts(SceneStyle(low_contrast_share=share)) for share in (0.0, 1.0))
    assert np.quantile(usual, 0.1) > 0.1
    assert np.median(usual) > 1.5 * np.median(low)
    assert min(low) < 0.1


HARD = SceneStyle(
    objects_per_image=(2, 5),
    object_radius=(48.0, 82.0),
    thin_share=0.22,
    holed_share=0.24,
    thin_width=(6.0, 15.0),
    touch_share=0.35,
    background_contrast=1.0,
    background_saturation=1.0,
    clutter=1.0,
    object_saturation=(0.1, 0.85),
    low_contrast_share=0.12,
)


@pytest.mark.parametrize(("style", "colour_tells"), [(None, True), (HARD, False)])
def test_whether_a_threshold_on_one_colour_value_finds_the_objects(style, colour_tells):
    """In the demo's style saturation reveals objects, so short training learns; in a harder style it does not."""
    scenes = ScenesDataset(split="test", n_images=12, image_size=SMALL, style=style)
    samples = [scenes.read(image_id) for image_id in scenes.image_ids]
    pixels = np.concatenate([sample.image.reshape(-1, 3) for sample in samples]) / 255
    truth = np.concatenate([sample.labels.ravel() > 0 for sample in samples])
    bright, dark = pixels.max(axis=1), pixels.min(axis=1)

    def best_iou(value: np.ndarray) -> float:
        guesses = [value > threshold for threshold in np.linspace(0.05, 0.95, 19)]
        return max((g & truth).sum() / (g | truth).sum() for guess in guesses for g in (guess, ~guess))

    assert max(best_iou(value) for value in (*pixels.T, bright)) < 0.5
    assert (best_iou((bright - dark) / np.maximum(bright, 1 / 255)) > 0.5) == colour_tells
    assert (best_iou(bright - dark) > 0.5) == colour_tells


# --- the data set ---------------------------------------------------------------------------------------------------


def test_pixels_and_labels_are_pinned():
    digest = hashlib.sha256()
    for split, image_id in PINNED:
        sample = ScenesDataset(split=split).read(image_id)
        digest.update(sample.image.tobytes() + sample.labels.astype("<i4").tobytes())
    assert digest.hexdigest() == HASHES[SCENES_REVISION], (
        "the scenes changed: raise SCENES_REVISION and pin the new hash"
    )


def test_an_image_depends_neither_on_order_nor_on_the_number_of_images_nor_on_the_process():
    first = ScenesDataset(split="train", image_size=SMALL)
    backwards = {image_id: first.read(image_id) for image_id in reversed(first.image_ids[:4])}
    second = pickle.loads(pickle.dumps(ScenesDataset(split="train", n_images=4, image_size=SMALL)))
    for image_id in second.image_ids:
        again = second.read(image_id)
        np.testing.assert_array_equal(again.image, backwards[image_id].image)
        np.testing.assert_array_equal(again.labels, backwards[image_id].labels)


def test_readers_cannot_change_the_image_of_the_next_reader():
    scenes = ScenesDataset(split="val", n_images=1, image_size=SMALL)
    for name in ("image", "labels"):
        with contextlib.suppress(ValueError):  # Read-only arrays would be as good.
            getattr(scenes.read("val-00000"), name)[...] = 0
        assert getattr(scenes.read("val-00000"), name).any()


def test_splits_seeds_and_numbers_give_different_images():
    images = [
        ScenesDataset(split=split, n_images=2, image_size=SMALL, seed=seed)
        .read(f"{split}-{number:05d}")
        .image.tobytes()
        for split in ("train", "val", "test")
        for seed in (0, 1)
        for number in (0, 1)
    ]
    assert len(set(images)) == 12


def test_colour_settings_leave_labels_alone():
    plain = ScenesDataset(split="test", n_images=1, image_size=SMALL).read("test-00000")
    noisy = ScenesDataset(split="test", n_images=1, image_size=SMALL, style=SceneStyle(clutter=3.0, shadow=0.0))
    other = noisy.read("test-00000")
    np.testing.assert_array_equal(plain.labels, other.labels)
    assert (plain.image != other.image).any()


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    short=st.integers(64, 120),
    elongation=st.floats(1.0, 2.5),
    portrait=st.booleans(),
    number=st.integers(0, SPLIT_SIZES["train"] - 1),
)
def test_every_scene_keeps_its_promises(seed, short, elongation, portrait, number):
    long = int(short * elongation)
    size = (long, short) if portrait else (short, long)
    scenes = ScenesDataset(split="train", image_size=size, seed=seed)
    sample = scenes.read(f"train-{number:05d}")
    assert sample.image.shape == (*size, 3) and sample.image.dtype == np.uint8
    assert sample.labels.shape == size and sample.labels.dtype == np.int32
    instances = sample.instance_ids()
    assert instances == list(range(1, len(instances) + 1))
    assert 2 <= len(instances) <= 5
    assert sample.labels.min() == 0
    for instance in instances:
        assert (sample.labels == instance).mean() >= 0.006
    assert sample.image.std() > 5


def test_objects_are_those_of_the_images():
    scenes = ScenesDataset(split="test", n_images=8, image_size=SMALL)
    listed = [(each.image, each.instance) for each in scenes.objects]
    read = [(image_id, k) for image_id in scenes.image_ids for k in scenes.read(image_id).instance_ids()]
    assert listed == read
    assert len(scenes) == 8


def test_split_sizes_are_the_defaults():
    for split in ("train", "val", "test"):
        scenes = ScenesDataset(split=split)
        assert len(scenes) == split_size(split) == SPLIT_SIZES[split]
        assert scenes.image_ids[0] == f"{split}-00000"
        assert scenes.image_ids[-1] == f"{split}-{len(scenes) - 1:05d}"


# --- wrong use ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image_id",
    ["test-00040", "train-00000", "test-1", "test-0000²", "test--0001", "test", "", "test-000001", "cow.jpg"],
)
def test_unknown_ids_are_refused_with_the_range_of_known_ones(image_id):
    with pytest.raises(DataError, match="'test-00000' to 'test-00015'"):
        ScenesDataset(split="test").read(image_id)


def test_unknown_split_lists_the_known_ones():
    with pytest.raises(UnknownNameError, match="Did you mean 'train'"):
        ScenesDataset(split="trian")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="train, val, test"):
        split_size("everything")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_images": 0}, "n_images=0"),
        ({"image_size": (63, 100)}, "at least 64"),
        ({"image_size": (64, 200)}, "2.5 times"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ProtocolError, match=message):
        ScenesDataset(split="train", **arguments)


@pytest.mark.parametrize(
    "settings",
    [
        {"thin_share": 1.2},
        {"thin_share": 0.6, "holed_share": 0.6},
        {"clutter": -0.1},
        {"shadow": float("nan")},
        {"object_radius": (60.0, 40.0)},
        {"object_radius": (4.0, 40.0)},
        {"objects_per_image": (0, 3)},
        {"object_saturation": (0.2, 1.5)},
        {"thin_width": (1.0, 5.0)},
        {"min_visible_area": 0.1},
        {"min_visible_share": 0.95},
    ],
)
def test_style_out_of_range_names_the_field(settings):
    with pytest.raises(ProtocolError, match=next(iter(settings))):
        SceneStyle(**settings)


# --- scenes with parts ----------------------------------------------------------------------------------------------


def test_part_scenes_have_three_nested_levels_of_visible_size() -> None:
    scenes = EMBEDDED["part_scenes"].open("part_scenes", "val")
    assert scenes.name == "part_scenes" and scenes.has_parts
    sample = read_sample(scenes, "val-00002")  # which checks that the masks are nested
    assert len(sample.parts) == 2 and sample.instance_ids() == [
        object_id.instance for object_id in scenes.objects if object_id.image == "val-00002"
    ]
    assert {label // PART_LABELS for label in sample.instance_ids()} == {0, 1, 2}
    again = EMBEDDED["part_scenes"].open("part_scenes", "val").read("val-00002")
    assert image_sha256(again) == image_sha256(sample)
    assert image_sha256(dataclasses.replace(sample, parts=())) != image_sha256(sample)
    for label in sample.instance_ids():
        mask = sample.object_mask(label) == 1
        assert mask.sum() >= 60
        if label >= PART_LABELS:  # it looks different from what surrounds it
            above = sample.labels if label < 2 * PART_LABELS else sample.parts[0]
            owner = above == above[mask][0]
            inside, beside = sample.image[mask].mean(0), sample.image[owner & ~mask].mean(0)
            assert np.abs(inside - beside).max() > 4


def test_the_layout_of_part_scenes_is_that_of_compact_scenes() -> None:
    parts, compact = (EMBEDDED[name].open(name, "val") for name in ("part_scenes", "compact_scenes"))
    assert np.array_equal(parts.read("val-00001").labels, compact.read("val-00001").labels)
