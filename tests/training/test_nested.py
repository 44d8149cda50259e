"""Targets among nested objects and parts."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from small import SMALL

from vfm_isbench.datasets.base import ObjectDataset
from vfm_isbench.datasets.sample_checks import check_nested
from vfm_isbench.training import TrainingSamples
from vfm_isbench.training.nested import NestedTargets
from vfm_isbench.types import AnnotatedImage


@st.composite
def nested(draw: st.DrawFn) -> AnnotatedImage:
    """Labels of three levels, made by grouping the labels of the finest one."""
    cells = np.array(draw(st.lists(st.integers(0, 5), min_size=24, max_size=24)), np.int32).reshape(4, 6)
    parent = {cell: draw(st.integers(0, 3)) for cell in range(1, 6)}
    whole = {part: draw(st.integers(0, 2)) for part in range(1, 4)}
    part = np.vectorize(lambda cell: parent.get(cell, 0), otypes=[np.int32])(cells)
    labels = np.vectorize(lambda each: whole.get(each, 0), otypes=[np.int32])(part)
    part, cells = np.where(labels > 0, part + 100, 0), np.where((labels > 0) & (part > 0), cells + 200, 0)
    cells = np.where(cells > 200, cells, 0)
    return AnnotatedImage("a", np.zeros((4, 6, 3), np.uint8), labels, (part, cells))


@given(nested())
@settings(max_examples=60, deadline=None)
def test_masks_levels_and_granularities_are_those_of_the_image(sample: AnnotatedImage) -> None:
    known = sample.instance_ids()
    targets = NestedTargets(sample, known)
    for number, label in enumerate(known, start=1):
        mask = sample.object_mask(label) == 1
        assert np.array_equal(targets.mask(targets.labels, number), mask)
        assert targets.level[number] == label // 100
        assert targets.granularity([number]) == sample.granularity([label])
        assert 0 < sample.granularity([label]) <= 1 and (label >= 100 or sample.granularity([label]) == 1)
        assert (number in targets.visible(targets.labels, 3)) == (mask.sum() >= 3)
    assert targets.granularity([]) == 1.0


@given(nested())
@settings(max_examples=60, deadline=None)
def test_parts_are_never_coarser_than_what_they_lie_in(sample: AnnotatedImage) -> None:
    check_nested("a", (sample.labels, *sample.parts))
    for above, labels in zip((sample.labels, *sample.parts), sample.parts, strict=False):
        for label in np.unique(labels[labels > 0]):
            (owner,) = np.unique(above[labels == label])
            assert sample.granularity([label]) <= sample.granularity([owner])


def test_two_parts_count_together_in_the_objects_they_belong_to() -> None:
    labels = np.repeat(np.array([[1, 1, 1, 1, 2, 2, 0, 0]], np.int32), 4, 0)
    parts = np.repeat(np.array([[101, 102, 102, 0, 103, 0, 0, 0]], np.int32), 4, 0)
    sample = AnnotatedImage("a", np.zeros((4, 8, 3), np.uint8), labels, (parts,))
    assert sample.granularity([101]) == 0.25 and sample.granularity([102]) == 0.5
    assert sample.granularity([101, 102]) == 0.75 and sample.granularity([101, 103]) == 2 / 6
    assert NestedTargets(sample, sample.instance_ids()).granularity([3, 5]) == 2 / 6
    without = NestedTargets(sample, [1, 2, 102, 103])
    assert np.array_equal(without.mask(without.labels, 1), labels == 1), "an unusable part belongs to its object"


class _Nested(ObjectDataset):
    name, has_parts = "nested", True
    image_ids = ("a",)

    def read(self, image_id: str) -> AnnotatedImage:
        labels, part, inner = (np.zeros((60, 60), np.int32) for _ in range(3))
        labels[10:50, 10:50], part[10:50, 10:30], inner[20:30, 15:25] = 1, 7, 9
        image = np.repeat((40 * (labels > 0) + 60 * (part > 0) + 90 * (inner > 0))[..., None], 3, 2)
        return AnnotatedImage(image_id, image.astype(np.uint8), labels, (part, inner))


def test_training_draws_every_level_with_the_granularity_of_the_whole_image() -> None:
    plain = {"brightness_contrast_probability": 0.0, "rgb_shift_probability": 0.0}
    protocol = SMALL.replace(image_size=48, min_object_area=20, background_probability=0.0, **plain)
    drawn = [TrainingSamples(_Nested(), protocol)[0, item] for item in range(60)]
    found = [round(sample.granularity, 6) for sample in drawn]
    assert set(found) == {1.0, 0.5, 0.0625}, "the share of the object, not that of its visible part"
    assert min(found.count(value) for value in set(found)) >= 10, "levels are drawn evenly"
    for sample in drawn:
        # Gray 40 means the object, 100 its part, 190 the part of that; a target holds all that lies in it.
        gray = (sample.image[0] * 255).round().numpy()
        least = {1.0: 20, 0.5: 70, 0.0625: 145}[sample.granularity]
        assert sample.target.any() and (sample.target == (gray > least)).mean() > 0.95
        assert all(sample.target[int(c.row), int(c.col)] == c.is_positive for c in sample.clicks)
