"""What a data set returns is checked wherever it is read: a faulty reader is refused, and never becomes a number."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from plugin_packages import Packages
from small import SMALL, MemoryStore, evaluated, small_probe

from vfm_isbench.datasets import ObjectDataset, open_dataset, read_sample
from vfm_isbench.datasets.content import content_sha256
from vfm_isbench.errors import DataError
from vfm_isbench.evaluation import evaluate_dataset
from vfm_isbench.inspection.replay import shown_objects
from vfm_isbench.testing.fakes import FakeDataset
from vfm_isbench.training import TrainingSamples
from vfm_isbench.types import AnnotatedImage, Array, ObjectEvidence, ObjectId


def changed(**changes: Callable[[Array], Any]) -> Callable[[AnnotatedImage], Any]:
    return lambda sample: dataclasses.replace(
        sample, **{part: change(getattr(sample, part)) for part, change in changes.items()}
    )


def with_void(labels: Array) -> Array:
    labels = labels.astype(np.uint8)
    labels[:4] = 255
    return labels


def renumbered(dtype: type[np.integer[Any]], label: int) -> Callable[[Array], Array]:
    return lambda labels: np.where(labels == 1, np.array(label, dtype), labels.astype(dtype))


FAULTS: dict[str, tuple[Callable[[AnnotatedImage], Any], str]] = {
    "float image": (
        changed(image=lambda a: a / np.float32(255)),
        r"type float32, .*uint8.* values go from 0\.\d+ to 0",
    ),
    "float image in levels": (changed(image=lambda a: a.astype(np.float64)), r"type float64, .*expected .*uint8"),
    "16 bits": (changed(image=lambda a: a.astype(np.uint16) * 257), r"type uint16, .*scale them to 0 … 255"),
    "signed image": (changed(image=lambda a: a.astype(np.int8)), "type int8, "),
    "gray": (changed(image=lambda a: a[..., 0]), r"shape \(60, 80\) .*expected H×W×3.* Repeat a gray channel"),
    "one channel": (changed(image=lambda a: a[..., :1]), r"shape \(60, 80, 1\)"),
    "alpha": (changed(image=lambda a: np.dstack([a, a[..., 0]])), r"shape \(60, 80, 4\) .*drop an alpha"),
    "channels first": (changed(image=lambda a: a.transpose(2, 0, 1)), r"shape \(3, 60, 80\)"),
    "no pixels": (changed(image=lambda a: a[:0], labels=lambda a: a[:0]), r"shape \(0, 80, 3\)"),
    "no float pixels": (changed(image=lambda a: a[:0] / 2, labels=lambda a: a[:0]), r"shape \(0, 80, 3\)"),
    "tensor": (changed(image=torch.tensor), "image is of type Tensor, expected a numpy array"),
    "half size": (changed(labels=lambda a: a[::2, ::2]), r"labels have shape \(30, 40\), but the image has 60×80"),
    "turned labels": (changed(labels=lambda a: a.T), r"labels have shape \(80, 60\)"),
    "label channel": (changed(labels=lambda a: a[..., None]), r"shape \(60, 80, 1\), .*drop extra axes"),
    "label list": (changed(labels=lambda a: a.tolist()), "labels are of type list"),
    "bool labels": (changed(labels=lambda a: a > 0), "labels have type bool, expected whole numbers"),
    "float labels": (changed(labels=lambda a: a.astype(np.float32)), "labels have type float32"),
    "255 in uint8": (changed(labels=with_void), r"uint8 labels contain 255, .*set those pixels to -1"),
    "wraps to 1": (
        changed(labels=renumbered(np.uint64, 2**32 + 1)),
        "labels contain 4294967297, expected -1 to 2147483",
    ),
    "wraps to 0": (changed(labels=renumbered(np.int64, 2**32)), "labels contain 4294967296"),
    "wraps to ignore": (changed(labels=renumbered(np.uint32, 2**32 - 1)), "labels contain 4294967295"),
    "-2": (changed(labels=renumbered(np.int16, -2)), "labels contain -2, expected -1"),
    "other image": (changed(image_id=lambda _: "fake1"), "returned the image 'fake1'"),
    "other class": (lambda sample: (sample.image, sample.labels), "something of type tuple"),
    "look-alike": (lambda s: SimpleNamespace(image_id=s.image_id, image=s.image, labels=s.labels), "SimpleNamespace"),
}


class Faulty(FakeDataset):
    """Returns its first image changed; objects are listed without reading."""

    def __init__(self, change: Callable[[AnnotatedImage], Any], **options: Any) -> None:
        super().__init__(images=2, name="faulty", **options)
        self._change = change

    @property
    def objects(self) -> list[ObjectId]:  # type: ignore[override]
        return [ObjectId(image_id, instance) for image_id in self.image_ids for instance in (1, 2)]

    def read(self, image_id: str) -> AnnotatedImage:
        sample = super().read(image_id)
        changed_sample: AnnotatedImage = self._change(sample) if image_id == "fake0" else sample
        return changed_sample


def evaluate(dataset: ObjectDataset) -> None:
    evaluated(small_probe(), dataset, SMALL)


def train(dataset: ObjectDataset) -> None:
    samples = TrainingSamples(dataset, SMALL.replace(shuffled=True, sample_weights="uniform"))
    for item in range(4):
        samples[0, item]


def show(dataset: ObjectDataset) -> None:
    shown_objects([ObjectEvidence(ObjectId("fake0", 1), (), ())], dataset, SMALL)


def list_objects(dataset: ObjectDataset) -> None:
    list(ObjectDataset.objects.func(dataset))  # type: ignore[attr-defined]


USES = [evaluate, train, show, list_objects, lambda dataset: content_sha256(dataset, dataset.objects)]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_sample_is_refused_with_data_set_and_image(fault: str) -> None:
    change, said = FAULTS[fault]
    with pytest.raises(DataError, match=rf"(?s)data set 'faulty', image 'fake0': .*{said}"):
        read_sample(Faulty(change), "fake0")
    assert read_sample(Faulty(change), "fake1").instance_ids() == [1, 2]


@pytest.mark.parametrize("use", USES, ids=["evaluate", "train", "show", "list", "hash"])
@pytest.mark.parametrize("fault", ["float image", "half size", "255 in uint8", "wraps to 1"])
def test_every_use_of_a_data_set_refuses_it(fault: str, use: Callable[[ObjectDataset], None]) -> None:
    change, said = FAULTS[fault]
    with pytest.raises(DataError, match=rf"(?s)data set 'faulty', image 'fake0': .*{said}"):
        use(Faulty(change))


def test_a_reader_that_fails_is_named_with_its_image() -> None:
    def fail(_sample: AnnotatedImage) -> AnnotatedImage:
        raise KeyError("height")

    with pytest.raises(DataError, match=r"data set 'faulty', image 'fake0': read\(\) failed with KeyError: 'height'"):
        read_sample(Faulty(fail), "fake0")


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int64, np.uint64, ">i4"])
def test_the_type_of_whole_numbers_does_not_matter(dtype: Any) -> None:
    plain, other = Faulty(lambda sample: sample), Faulty(changed(labels=lambda a: a.astype(dtype)))
    assert read_sample(other, "fake0").labels.dtype == np.int32
    np.testing.assert_array_equal(read_sample(other, "fake0").labels, read_sample(plain, "fake0").labels)
    assert content_sha256(other, other.objects) == content_sha256(plain, plain.objects)
    assert evaluated(small_probe(), other, SMALL)[0] == evaluated(small_probe(), plain, SMALL)[0]


@pytest.mark.parametrize("label", [254, 255, 256, 2**24 + 1, 2**31 - 1])
def test_any_label_of_int32_is_an_instance(label: int) -> None:
    sample = read_sample(Faulty(changed(labels=renumbered(np.int64, label))), "fake0")
    assert sample.instance_ids() == [2, label]


def test_large_labels_are_trained_like_small_ones() -> None:
    """float32, through which augmentation goes, holds 2^24 and 2^24 + 1 as one number."""
    plain = Faulty(lambda sample: sample)
    large = Faulty(changed(labels=lambda a: np.where(a > 0, a + (2**24 - 1), a)))
    samples, expected = (TrainingSamples(dataset, SMALL) for dataset in (large, plain))
    for item in range(6):
        np.testing.assert_array_equal(samples[0, item].target, expected[0, item].target)
        assert samples[0, item].clicks == expected[0, item].clicks


def test_a_checked_sample_is_not_copied() -> None:
    sample = FakeDataset().read("fake0")
    dataset = FakeDataset()
    dataset.read = lambda image_id: sample  # type: ignore[method-assign]
    assert read_sample(dataset, "fake0") is sample


PLUGIN = """
from vfm_isbench.testing.fakes import FakeDataset
from vfm_isbench.types import ObjectId
class Listed(FakeDataset):
    image_ids = {ids}
    objects = {objects}
def it(role, data_root, protocol):
    return Listed(images=3, name="listed")
"""


def install(packages: Packages, ids: str = "['fake0', 'fake1']", objects: str = "FakeDataset.objects") -> None:
    # The module has a name of its own for each text, because Python imports a module once.
    module = f"listed_{abs(hash((ids, objects)))}"
    packages.install(
        "lists", {("data set", "listed"): f"{module}:it"}, {module: PLUGIN.format(ids=ids, objects=objects)}
    )


@pytest.mark.parametrize("role", ["train", "validation", "test"])
@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ("['fake0', 'fake0', 'fake1']", "image_ids contains fake0 more than once"),
        ("('fake1', 'fake0', 'fake1', 'fake0')", "image_ids contains fake1, fake0 more than once"),
        ("[]", "has no images"),
        ("['fake0', 1]", r"image_ids contains 1, expected texts"),
    ],
)
def test_image_ids_are_checked_when_a_plugin_is_opened(packages: Packages, role: Any, ids: str, said: str) -> None:
    install(packages, ids)
    with pytest.raises(DataError, match=f"data set 'listed'.*{said}"):
        open_dataset("listed", role, None, SMALL)


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        (
            "[ObjectId('fake0', 1), ObjectId('fake0', 2), ObjectId('fake0', 1)]",
            "objects contains fake0:1 more than once",
        ),
        ("[ObjectId('fake0', 1), ObjectId('fake0:1')]", "objects contains fake0:1 more than once"),
        ("[('fake0', 1)]", r"objects contains \('fake0', 1\), expected ObjectId"),
    ],
)
def test_objects_are_checked_when_a_test_set_is_opened(packages: Packages, objects: str, said: str) -> None:
    install(packages, objects=objects)
    assert len(open_dataset("listed", "train", None, SMALL)) == 2
    with pytest.raises(DataError, match=f"data set 'listed'.*{said}"):
        open_dataset("listed", "test", None, SMALL)


def test_a_faulty_sample_is_refused_before_training(packages: Packages) -> None:
    """Listing the objects of a data set reads its images, if it has no cheaper way."""
    source = PLUGIN.format(ids="['fake0', 'fake1']", objects="FakeDataset.objects") + (
        "Listed.read = lambda self, i: __import__('dataclasses').replace(FakeDataset.read(self, i), labels=None)\n"
    )
    packages.install("faulty", {("data set", "listed"): "faulty_listed:it"}, {"faulty_listed": source})
    with pytest.raises(DataError, match="data set 'listed', image 'fake0': the labels are of type NoneType"):
        open_dataset("listed", "test", None, SMALL)


def test_evaluation_refuses_repeated_objects_of_a_data_set_that_nobody_opened() -> None:
    dataset, store = Faulty(lambda sample: sample), MemoryStore()
    dataset._ids = ["fake0", "fake1", "fake0"]
    with pytest.raises(DataError, match="data set 'faulty': objects contains fake0:1, fake0:2 more than once"):
        evaluate_dataset(small_probe(), dataset, SMALL, store=store)
    assert not store.kept
