"""Training samples: decided by (seed, epoch, item) alone, and drawn as the protocol says."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from small import SMALL
from torch.utils.data import DataLoader

from vfm_isbench.datasets import ObjectDataset
from vfm_isbench.datasets.augmentation import AugmentationConfig
from vfm_isbench.testing.fakes import FakeDataset
from vfm_isbench.training.samples import (
    TrainingSample,
    TrainingSamples,
    augmentation_config,
    collate,
    first_click_rule,
    items_per_epoch,
)
from vfm_isbench.types import AnnotatedImage, Array

PLAIN = SMALL.replace(
    resize_range=(1.0, 1.0), flip="none", rotate90_probability=0.0, affine_probability=0.0,
    brightness_contrast_probability=0.0, rgb_shift_probability=0.0,
)  # fmt: skip
"""No augmentation but the crop."""


class Images(ObjectDataset):
    """Given label maps; the pixels of image i have the colour i."""

    name = "images"

    def __init__(self, labels: Sequence[Array], unfit: Sequence[int] = ()) -> None:
        self._labels = labels
        self._unfit = unfit

    @cached_property
    def image_ids(self) -> list[str]:
        return [str(index) for index in range(len(self._labels))]

    def read(self, image_id: str) -> AnnotatedImage:
        labels = self._labels[int(image_id)].astype(np.int32)
        return AnnotatedImage(image_id, np.full((*labels.shape, 3), int(image_id), np.uint8), labels)

    def instances_for_training(self, sample: AnnotatedImage) -> list[int]:
        return [instance for instance in sample.instance_ids() if instance not in self._unfit]


def labels_with(**blocks: tuple[int, int, int, int]) -> Array:
    """28×28 labels with rectangles: name = instance, value = rows and columns from and to."""
    labels = np.zeros((28, 28), np.int32)
    for name, (top, bottom, left, right) in blocks.items():
        labels[top:bottom, left:right] = int(name.removeprefix("i"))
    return labels


def same(one: TrainingSample, other: TrainingSample) -> bool:
    return (
        torch.equal(one.image, other.image) and np.array_equal(one.target, other.target) and one.clicks == other.clicks
    )


def frequencies_fit(counts: Sequence[int], shares: Sequence[float]) -> bool:
    expected = np.array(shares) * sum(counts)
    return float(stats.chisquare(counts, expected).pvalue) > 1e-3


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(6)), st.integers(0, 3), st.integers(0, 5))
def test_an_item_does_not_depend_on_those_before_it(order: list[int], epoch: int, seed: int) -> None:
    protocol = SMALL.replace(seed=seed)
    samples = TrainingSamples(FakeDataset(), protocol)
    in_this_order = {item: samples[epoch, item] for item in order}
    for item in range(6):
        assert same(in_this_order[item], TrainingSamples(FakeDataset(), protocol)[epoch, item])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_the_number_of_workers_changes_nothing() -> None:
    keys = [(1, item) for item in range(6)]
    batches = [
        list(
            DataLoader(
                TrainingSamples(FakeDataset(), SMALL),
                batch_size=2,
                sampler=keys,
                num_workers=workers,
                collate_fn=collate,
            )
        )
        for workers in (0, 2)
    ]
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.targets, other.targets)
        assert one.clicks == other.clicks


def test_seed_epoch_item_and_purpose_all_matter() -> None:
    dataset = FakeDataset()
    # The same augmentation for both purposes, so that only the random numbers can differ.
    drawn = [
        TrainingSamples(dataset, PLAIN)[0, 0],
        TrainingSamples(dataset, PLAIN)[0, 1],
        TrainingSamples(dataset, PLAIN)[1, 0],
        TrainingSamples(dataset, PLAIN.replace(seed=1))[0, 0],
        TrainingSamples(dataset, PLAIN, validation=True)[0, 0],
    ]
    for index, one in enumerate(drawn):
        assert not any(same(one, other) for other in drawn[index + 1 :])


def test_drawing_leaves_the_global_generators_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    TrainingSamples(FakeDataset(), SMALL)[0, 0]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]


def test_a_sample_fits_together() -> None:
    samples = TrainingSamples(FakeDataset(), SMALL)
    for item in range(40):
        sample = samples[0, item]
        assert sample.image.shape == (3, 28, 28) and sample.image.dtype == torch.float32
        assert sample.image.min() >= 0 and 0.3 < sample.image.max() <= 1
        assert sample.target.shape == (28, 28) and sample.target.dtype == bool
        for click in sample.clicks:
            assert sample.target[int(click.row), int(click.col)] == click.is_positive
        if sample.target.any():
            assert sample.clicks[0].is_positive


def test_image_and_target_stay_together() -> None:
    """Objects of the fake data set stay brighter than their background under every augmentation."""
    samples = TrainingSamples(FakeDataset(instances=1), SMALL)
    for item in range(20):
        sample = samples[0, item]
        inside, background = ndimage.binary_erosion(sample.target), ~ndimage.binary_dilation(sample.target)
        if inside.any() and background.any():
            brightness = sample.image.mean(dim=0).numpy()
            assert np.median(brightness[inside]) > np.median(brightness[background])


def image_counts(samples: TrainingSamples, count: int) -> list[int]:
    drawn = Counter(round(samples[0, item].image.mean().item() * 255) for item in range(count))
    return [drawn[index] for index in range(len(samples.dataset))]


def test_images_are_drawn_with_the_given_weights() -> None:
    dataset = Images([labels_with(i1=(4, 20, 4, 20))] * 4)
    assert frequencies_fit(image_counts(TrainingSamples(dataset, PLAIN), 600), [0.25] * 4)
    weighted = TrainingSamples(dataset, PLAIN, np.array([0.5, 0.125, 0.25, 0.125]))
    assert frequencies_fit(image_counts(weighted, 600), [0.5, 0.125, 0.25, 0.125])


def test_weights_need_not_add_up_to_one_and_zero_means_never() -> None:
    dataset = Images([labels_with(i1=(4, 20, 4, 20))] * 3)
    counts = image_counts(TrainingSamples(dataset, PLAIN, np.array([0.0, 8.0, 0.0])), 50)
    assert counts == [0, 50, 0]


def test_the_target_is_one_instance_or_the_union_of_two() -> None:
    labels = labels_with(i1=(0, 10, 0, 28), i2=(12, 18, 0, 28), i7=(20, 28, 0, 28))
    samples = TrainingSamples(Images([labels]), PLAIN.replace(merge_probability=0.3))
    drawn = Counter(tuple(np.unique(labels[samples[0, item].target]).tolist()) for item in range(900))
    choices = [(1,), (2,), (7,), (1, 2), (1, 7), (2, 7)]
    assert sum(drawn[choice] for choice in choices) == 900
    assert frequencies_fit([drawn[choice] for choice in choices], [0.7 / 3] * 3 + [0.1] * 3)


def test_a_merged_target_has_a_positive_click_on_each_part() -> None:
    labels = labels_with(i1=(0, 10, 0, 28), i2=(18, 28, 0, 28))
    samples = TrainingSamples(Images([labels]), PLAIN.replace(merge_probability=1.0))
    for item in range(20):
        clicks = samples[0, item].clicks[:2]
        assert {labels[int(click.row), int(click.col)] for click in clicks} == {1, 2}


def test_an_only_instance_is_never_merged() -> None:
    labels = labels_with(i3=(0, 10, 0, 28))
    samples = TrainingSamples(Images([labels]), PLAIN.replace(merge_probability=1.0))
    assert all(np.array_equal(samples[0, item].target, labels == 3) for item in range(10))


def test_small_and_unfit_instances_are_dropped() -> None:
    labels = labels_with(i1=(0, 3, 0, 3), i2=(5, 15, 0, 28), i3=(16, 26, 0, 28))  # 9, 280 and 280 pixels
    samples = TrainingSamples(Images([labels], unfit=[3]), PLAIN.replace(merge_probability=1.0, min_object_area=10))
    assert all(np.array_equal(samples[0, item].target, labels == 2) for item in range(20))
    just_large_enough = TrainingSamples(Images([labels], unfit=[2, 3]), PLAIN.replace(min_object_area=9))
    assert np.array_equal(just_large_enough[0, 0].target, labels == 1)


def test_dropped_instances_count_as_background_not_as_other_objects() -> None:
    """Negative clicks on other objects only fall on instances that count."""
    labels = labels_with(i1=(0, 10, 0, 28), i2=(12, 15, 0, 3), i3=(20, 28, 0, 28))
    on_others = PLAIN.replace(negative_shares=(0.0, 1.0, 0.0), merge_probability=0.0, min_object_area=10)
    samples = TrainingSamples(Images([labels], unfit=[]), on_others)
    hit = {
        int(labels[int(click.row), int(click.col)])
        for item in range(30)
        for click in samples[0, item].clicks
        if not click.is_positive
    }
    assert hit == {1, 3}


def test_crops_without_object_are_redrawn_but_for_a_few() -> None:
    """One object in a corner that 28×28 crops of a 56×56 image mostly miss."""
    labels = np.zeros((56, 56), np.int32)
    labels[:10, :10] = 1
    never = TrainingSamples(Images([labels]), PLAIN.replace(background_probability=1e-9))
    assert all(never[0, item].target.any() for item in range(40))
    always = TrainingSamples(Images([labels]), PLAIN.replace(background_probability=1.0))
    empty = [sample for sample in (always[0, item] for item in range(40)) if not sample.target.any()]
    assert len(empty) > 15
    assert not any(click.is_positive for sample in empty for click in sample.clicks)


def test_an_image_without_objects_is_background() -> None:
    sample = TrainingSamples(Images([np.zeros((28, 28), np.int32)]), PLAIN)[0, 0]
    assert not sample.target.any()
    assert not any(click.is_positive for click in sample.clicks)


def test_validation_only_resizes_and_crops() -> None:
    """Without a change of size every sample is a window of its photograph, whatever the training does to it."""
    dataset = FakeDataset(images=1, size=(40, 50))
    photograph = dataset.read("fake0").image
    samples = TrainingSamples(dataset, SMALL.replace(resize_range=(1.0, 1.0), flip_probability=1.0), validation=True)
    windows = {
        photograph[row : row + 28, col : col + 28].tobytes(): (row, col) for row in range(13) for col in range(23)
    }
    places = set()
    for item in range(20):
        pixels = (samples[0, item].image * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        places.add(windows[pixels.tobytes()])
    assert len(places) > 10


def test_every_setting_of_the_protocol_reaches_the_augmentation() -> None:
    changed = SMALL.replace(
        image_size=42, resize_range=(0.5, 0.6), resize_to_fit=True, flip="horizontal", flip_probability=0.11,
        rotate90_probability=0.12, affine_probability=0.13, shift_limit=0.14, rotate_limit=15.0,
        brightness_contrast_probability=0.16, brightness_limit=0.17, contrast_limit=(-0.18, 0.19),
        rgb_shift_probability=0.21, rgb_shift_limit=22.0,
    )  # fmt: skip
    config = augmentation_config(changed)
    renamed = {"crop_size": "image_size", "ensure_crop_fits": "resize_to_fit"}
    for field in dataclasses.fields(AugmentationConfig):
        assert getattr(config, field.name) == getattr(changed, renamed.get(field.name, field.name)), field.name
        assert getattr(config, field.name) != getattr(AugmentationConfig(), field.name), field.name


def test_every_setting_of_the_protocol_reaches_the_first_clicks() -> None:
    rule = first_click_rule(
        SMALL.replace(max_first_clicks=5, first_click_decay=0.6, erode_probability=0.7, erode_iterations=2,
                      negative_shares=(0.2, 0.3, 0.5), border_ratio=0.4)
    )  # fmt: skip
    assert (rule.max_clicks, rule.decay, rule.erode_probability, rule.erode_iterations) == (5, 0.6, 0.7, 2)
    assert (rule.negative_anywhere, rule.negative_other, rule.negative_border) == (0.2, 0.3, 0.5)
    assert rule.border_ratio == 0.4


def test_batches_stack_samples() -> None:
    samples = TrainingSamples(FakeDataset(), SMALL)
    drawn = [samples[0, item] for item in range(3)]
    batch = collate(drawn)
    assert batch.images.shape == (3, 3, 28, 28) and batch.targets.shape == (3, 1, 28, 28)
    assert batch.targets.dtype == torch.float32
    for index, sample in enumerate(drawn):
        assert torch.equal(batch.images[index], sample.image)
        assert np.array_equal(batch.targets[index, 0].numpy(), sample.target)
        assert batch.clicks[index] == sample.clicks


@pytest.mark.parametrize("samples_per_epoch", [None, 8, 20])
def test_shuffled_images_come_once_before_any_comes_again(
    samples_per_epoch: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = SMALL.replace(shuffled=True, samples_per_epoch=samples_per_epoch, batch_size=4)
    dataset = FakeDataset(images=11)
    samples, drawn, read = TrainingSamples(dataset, protocol), [], dataset.read
    monkeypatch.setattr(dataset, "read", lambda image_id: (drawn.append(image_id), read(image_id))[1])
    per_epoch = items_per_epoch(protocol, dataset)
    for number in range(33):
        samples[divmod(number, per_epoch)]
    passes = [drawn[start : start + 11] for start in (0, 11, 22)]
    assert all(sorted(images) == sorted(dataset.image_ids) for images in passes)
    assert passes[0] != passes[1] != passes[2]


def test_weights_and_validation_are_never_shuffled(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = FakeDataset(images=11)
    read = dataset.read
    for weights, validation in ((np.ones(11), False), (None, True)):
        drawn: list[str] = []
        monkeypatch.setattr(dataset, "read", lambda image_id, to=drawn: (to.append(image_id), read(image_id))[1])
        samples = TrainingSamples(dataset, SMALL.replace(shuffled=True), weights, validation=validation)
        for item in range(11):
            samples[0, item]
        assert len(set(drawn)) < 11
