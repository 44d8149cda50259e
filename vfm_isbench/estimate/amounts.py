"""How much a run does: images of training and validation, objects and clicks of every test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vfm_isbench.datasets import ObjectDataset, open_dataset, read_sample
from vfm_isbench.datasets.catalogue import Role, TrainingData, training_weights
from vfm_isbench.datasets.download.sources import DatasetSource, published_counts, source_for
from vfm_isbench.protocol import Protocol
from vfm_isbench.types import Array

_TYPICAL_SIZES = {"grabcut": (450, 600), "berkeley": (321, 481), "davis": (480, 854)}
"""(H, W) in pixels of most images of a data set that is not here."""

_TYPICAL_SIZE = (375, 500)
"""That of SBD, and of data sets about which nothing is known."""


@dataclass(frozen=True, slots=True, eq=False)
class Holding:
    """A data set in one role of a run.

    Attributes:
        name: Its name.
        dataset: The data set; None if its files are not here.
        source: Where to download it; None if it is not one of the published data sets.
        images: Number of images.
        objects: Number of objects; of training and validation sets not counted, 0.
        image_size: (H, W) of its first image, or typical of it.
        weights: Probability of drawing each image in training; None for equal ones, or if it is not here.
    """

    name: str
    dataset: ObjectDataset | None
    source: DatasetSource | None
    images: int
    objects: int
    image_size: tuple[int, int]
    weights: Array | None = None


@dataclass(frozen=True, slots=True)
class Amounts:
    """What a run does.

    Attributes:
        training: The training set.
        validation: The validation set.
        tests: The test sets.
        steps: Steps of training.
        training_images: Images in these steps.
        validation_steps: Batches of all validations together.
    """

    training: Holding
    validation: Holding
    tests: tuple[Holding, ...]
    steps: int
    training_images: int
    validation_steps: int

    def holdings(self) -> tuple[Holding, ...]:
        """All data sets of the run, one for each role."""
        return (self.training, self.validation, *self.tests)


def amounts_of(protocol: Protocol, data_root: Path | None) -> Amounts:
    """Count what a protocol does, with the data sets that are here, and published numbers for those that are not.

    Raises:
        UnknownNameError: if there is no such data set.
        DataError: if the files of a data set are here, but broken; or if it is missing and was never published.
    """
    return _count(
        _holding(protocol.train_dataset, "train", data_root, protocol),
        _holding(protocol.validation_dataset, "validation", data_root, protocol),
        tuple(_holding(name, "test", data_root, protocol) for name in protocol.test_datasets),
        protocol,
    )


def amounts_of_opened(data: TrainingData, tests: Sequence[ObjectDataset], protocol: Protocol) -> Amounts:
    """The same for data sets that are open."""
    return _count(
        _present(data.training, "train", protocol, data.weights),
        _present(data.validation, "validation", protocol),
        tuple(_present(test, "test", protocol) for test in tests),
        protocol,
    )


def _count(training: Holding, validation: Holding, tests: tuple[Holding, ...], protocol: Protocol) -> Amounts:
    steps = protocol.epochs * ((protocol.samples_per_epoch or training.images) // protocol.batch_size)
    return Amounts(
        training=training,
        validation=validation,
        tests=tests,
        steps=steps,
        training_images=steps * protocol.batch_size,
        validation_steps=protocol.epochs * -(-protocol.validation_samples // protocol.batch_size),
    )


def _holding(name: str, role: Role, data_root: Path | None, protocol: Protocol) -> Holding:
    source = source_for(name)
    counts = published_counts(name, role)
    is_absent = source is not None and (data_root is None or not (data_root / source.folder).exists())
    if is_absent and counts is not None:
        objects = _limited(counts.objects, protocol) if role == "test" else 0
        images = min(counts.images, objects) if role == "test" else counts.images
        return Holding(name, None, source, images, objects, _TYPICAL_SIZES.get(name, _TYPICAL_SIZE))
    dataset = open_dataset(name, role, data_root, protocol)
    weights = training_weights(dataset, protocol, data_root)[0] if role == "train" else None
    return _present(dataset, role, protocol, weights)


def _present(dataset: ObjectDataset, role: Role, protocol: Protocol, weights: Array | None = None) -> Holding:
    source = source_for(dataset.name)
    image = read_sample(dataset, dataset.image_ids[0]).image
    size = (image.shape[0], image.shape[1])
    if role != "test":
        return Holding(dataset.name, dataset, source, len(dataset), 0, size, weights)
    chosen = dataset.objects[: protocol.object_limit]
    return Holding(dataset.name, dataset, source, len({object_id.image for object_id in chosen}), len(chosen), size)


def _limited(objects: int, protocol: Protocol) -> int:
    return objects if protocol.object_limit is None else min(objects, protocol.object_limit)
