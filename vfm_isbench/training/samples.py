"""Training samples: an augmented image, a target mask, and the clicks to start with (protocol section 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vfm_isbench.clicks import FirstClickRule, first_clicks
from vfm_isbench.datasets.augmentation import AugmentationConfig, augment
from vfm_isbench.datasets.base import ObjectDataset, read_sample
from vfm_isbench.protocol import Protocol
from vfm_isbench.training.nested import NestedTargets
from vfm_isbench.types import AnnotatedImage, Array, Click

TRAINING_STREAM, VALIDATION_STREAM = 0, 1
"""First word of every item's seed, so that training and validation never share random numbers."""

_SHUFFLE_STREAM = 3
"""First word of the seeds of the orders of images; iterative clicks have 2."""

LARGEST_DIRECT_LABEL = 65535
"""Images with larger labels have their instances numbered from 1: counting takes memory up to the largest label, and
augmentation goes through float32, where neighbouring labels above 2^24 merge."""

MOST_REDRAWS = 200
"""After as many augmentations without an object the crop is kept, so that no setting can redraw for ever."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSample:
    """One item.

    Attributes:
        image: 3×H×W float32 RGB in [0, 1].
        target: H×W booleans.
        clicks: Simulated first clicks.
        granularity: Share of its whole object's area that the target covers in the image, before the crop.
    """

    image: Tensor
    target: Array
    clicks: list[Click]
    granularity: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """A stack of samples: images B×3×H×W float32, targets B×1×H×W float32, clicks and granularity per image."""

    images: Tensor
    targets: Tensor
    clicks: list[list[Click]]
    granularities: list[float]

    def pin_memory(self) -> Batch:
        """A copy in memory from which CUDA devices can fetch while they compute; called by PyTorch's loader."""
        return Batch(self.images.pin_memory(), self.targets.pin_memory(), self.clicks, self.granularities)


def collate(samples: Sequence[TrainingSample]) -> Batch:
    """Stack samples."""
    return Batch(
        torch.stack([sample.image for sample in samples]),
        torch.from_numpy(np.stack([sample.target for sample in samples])).float().unsqueeze(1),
        [sample.clicks for sample in samples],
        [sample.granularity for sample in samples],
    )


def items_per_epoch(protocol: Protocol, dataset: ObjectDataset) -> int:
    """Samples of an epoch: whole batches only."""
    return (protocol.samples_per_epoch or len(dataset)) // protocol.batch_size * protocol.batch_size


def augmentation_config(protocol: Protocol) -> AugmentationConfig:
    """The augmentation a protocol describes."""
    return AugmentationConfig(
        crop_size=protocol.image_size,
        resize_range=protocol.resize_range,
        ensure_crop_fits=protocol.resize_to_fit,
        flip=protocol.flip,
        flip_probability=protocol.flip_probability,
        rotate90_probability=protocol.rotate90_probability,
        affine_probability=protocol.affine_probability,
        shift_limit=protocol.shift_limit,
        rotate_limit=protocol.rotate_limit,
        brightness_contrast_probability=protocol.brightness_contrast_probability,
        brightness_limit=protocol.brightness_limit,
        contrast_limit=protocol.contrast_limit,
        rgb_shift_probability=protocol.rgb_shift_probability,
        rgb_shift_limit=protocol.rgb_shift_limit,
    )


def first_click_rule(protocol: Protocol) -> FirstClickRule:
    """The first clicks a protocol describes."""
    anywhere, other, border = protocol.negative_shares
    return FirstClickRule(
        max_clicks=protocol.max_first_clicks,
        decay=protocol.first_click_decay,
        erode_probability=protocol.erode_probability,
        erode_iterations=protocol.erode_iterations,
        negative_anywhere=anywhere,
        negative_other=other,
        negative_border=border,
        border_ratio=protocol.border_ratio,
    )


def _only(labels: Array, instances: Iterable[int]) -> Array:
    """Labels H×W, int32, with 0 in place of everything but these instances."""
    highest = int(labels.max())
    if highest > LARGEST_DIRECT_LABEL:
        return np.where(np.isin(labels, list(instances)), labels, 0).astype(np.int32)
    # By a table, which takes a fifth of the time of np.isin. Its last entry is that of -1, pixels to ignore.
    kept = np.zeros(highest + 2, np.int32)
    for instance in instances:
        if 0 < instance <= highest:
            kept[instance] = instance
    return kept.take(labels)


class TrainingSamples(Dataset[TrainingSample]):
    """Random samples of a data set, each decided by (seed, epoch, item) alone.

    So neither the number of workers nor an interruption changes what is drawn.

    Args:
        dataset: Images with instances.
        protocol: Sampling, augmentation, clicks, seed.
        weights: Probability of each image; None draws evenly.
        validation: Resize and crop instead of the full augmentation, and random numbers of their own.
    """

    def __init__(
        self, dataset: ObjectDataset, protocol: Protocol, weights: Array | None = None, *, validation: bool = False
    ) -> None:
        self.dataset = dataset
        self.protocol = protocol
        self.stream = VALIDATION_STREAM if validation else TRAINING_STREAM
        self._cumulative = None if weights is None else np.cumsum(weights) / np.sum(weights)
        config = augmentation_config(protocol)
        self._augmentation = config.for_validation() if validation else config
        self._is_shuffled = protocol.shuffled and weights is None and not validation
        self._rule = first_click_rule(protocol)

    def __getitem__(self, key: tuple[int, int]) -> TrainingSample:
        """Draw item ``key`` = (epoch, number within the epoch)."""
        epoch, item = key
        rng = np.random.default_rng([self.stream, self.protocol.seed, epoch, item])
        sample = read_sample(self.dataset, self.dataset.image_ids[self._draw_image(epoch, item, rng)])
        if sample.parts:
            return self._object_or_part(sample, rng)
        usable = set(self.dataset.instances_for_training(sample))
        labels = _only(sample.labels, usable)
        if labels.max() > LARGEST_DIRECT_LABEL:
            labels = np.searchsorted([0, *sorted(usable)], labels).astype(np.int32)
        image, labels, instances = self._augment_until_object(sample.image, labels, self._large_enough, rng)
        labels = _only(labels, instances)
        chosen = self._choose_target(instances, rng)
        selected = [labels == instance for instance in chosen]
        target = _only(labels, chosen) > 0
        clicks = first_clicks(selected, (labels > 0) & ~target, labels.shape, self._rule, rng)
        return TrainingSample(torch.from_numpy(image).permute(2, 0, 1).float().div_(255), target, clicks)

    def _object_or_part(self, sample: AnnotatedImage, rng: np.random.Generator) -> TrainingSample:
        """A sample whose target is a whole object or a part: first its level is drawn, then one of that level."""
        targets = NestedTargets(sample, self.dataset.instances_for_training(sample))
        image, labels, visible = self._augment_until_object(
            sample.image, targets.labels, partial(targets.visible, least_area=self.protocol.min_object_area), rng
        )
        levels = sorted({targets.level[number] for number in visible})
        level = levels[int(rng.integers(len(levels)))] if levels else 0
        chosen = self._choose_target([number for number in visible if targets.level[number] == level], rng)
        selected = [targets.mask(labels, number) for number in chosen]
        target = np.logical_or.reduce(selected) if selected else np.zeros(labels.shape, bool)
        clicks = first_clicks(selected, (labels > 0) & ~target, labels.shape, self._rule, rng)
        pixels = torch.from_numpy(image).permute(2, 0, 1).float().div_(255)
        return TrainingSample(pixels, target, clicks, targets.granularity(chosen))

    def _draw_image(self, epoch: int, item: int, rng: np.random.Generator) -> int:
        images = len(self.dataset.image_ids)
        if self._is_shuffled:
            # Passes over the data set go on from epoch to epoch, whose number of items is another one.
            in_all = epoch * items_per_epoch(self.protocol, self.dataset) + item
            through, position = divmod(in_all, images)
            return int(
                np.random.default_rng([_SHUFFLE_STREAM, self.protocol.seed, through]).permutation(images)[position]
            )
        if self._cumulative is None:
            return int(rng.integers(images))
        return min(int(np.searchsorted(self._cumulative, rng.random(), side="right")), len(self._cumulative) - 1)

    def _augment_until_object(
        self, image: Array, labels: Array, find: Callable[[Array], list[int]], rng: np.random.Generator
    ) -> tuple[Array, Array, list[int]]:
        """Augment until ``find`` finds an object in the labels, or, now and then, keep pure background."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        has_objects = bool((labels > 0).any())
        attempt = 0
        while True:
            attempt += 1
            crop, crop_labels = augment(image, labels, self._augmentation, generator)
            instances = find(crop_labels)
            # Without any object to begin with, redrawing could only end in background.
            is_last = not has_objects or attempt == MOST_REDRAWS
            if instances or is_last or rng.random() < self.protocol.background_probability:
                return crop, crop_labels, instances

    def _large_enough(self, labels: Array) -> list[int]:
        counts = np.bincount(labels[labels > 0].ravel(), minlength=1)
        return [int(i) for i in np.flatnonzero(counts >= max(self.protocol.min_object_area, 1))]

    def _choose_target(self, instances: list[int], rng: np.random.Generator) -> list[int]:
        if not instances:
            return []
        count = 2 if len(instances) > 1 and rng.random() < self.protocol.merge_probability else 1
        return [int(i) for i in rng.choice(instances, size=count, replace=False)]
