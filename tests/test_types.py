"""Value objects: ids and object masks."""

from __future__ import annotations

import numpy as np
import pytest

from vfm_isbench.errors import DataError
from vfm_isbench.types import AnnotatedImage, ObjectId

LABELS = np.array([[0, 2, 2], [-1, 5, 0]], np.int32)


@pytest.fixture
def sample() -> AnnotatedImage:
    return AnnotatedImage("photo", np.zeros((2, 3, 3), np.uint8), LABELS)


def test_instances_are_the_positive_labels(sample: AnnotatedImage) -> None:
    assert sample.instance_ids() == [2, 5]


def test_an_object_mask_keeps_ignored_pixels_and_makes_other_objects_background(sample: AnnotatedImage) -> None:
    mask = sample.object_mask(2)
    assert mask.tolist() == [[0, 1, 1], [-1, 0, 0]]
    assert mask.dtype == np.int8


def test_the_only_object_has_label_one() -> None:
    sample = AnnotatedImage("photo", np.zeros((1, 3, 3), np.uint8), np.array([[0, 1, -1]], np.int32))
    assert sample.object_mask(None).tolist() == [[0, 1, -1]]


@pytest.mark.parametrize("instance", [None, 3, 1])
def test_an_absent_object_is_an_error_that_names_image_and_labels(sample: AnnotatedImage, instance: int | None) -> None:
    with pytest.raises(DataError, match=r"'photo'.*\[2, 5\]"):
        sample.object_mask(instance)


def test_object_ids_read_well_and_serve_as_keys() -> None:
    assert str(ObjectId("photo")) == "photo"
    assert str(ObjectId("photo", 3)) == "photo:3"
    assert {ObjectId("photo", 3): 1}[ObjectId("photo", 3)] == 1
