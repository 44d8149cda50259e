"""The interface of data sets: annotated images, and the objects to evaluate in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

from vfm_isbench.datasets.sample_checks import checked_sample
from vfm_isbench.errors import DataError, VfmIsbenchError
from vfm_isbench.protocol import Protocol
from vfm_isbench.types import AnnotatedImage, ObjectId


class ObjectDataset(ABC):
    """Images with instance labels, in a fixed order.

    Training draws images and picks instances from them; evaluation iterates over :attr:`objects`. A new data set
    implements :attr:`image_ids` and :meth:`read`, and :attr:`objects` if it can list them without reading every image.

    Attributes:
        name: Registered name, shown in tables and signatures ("grabcut").
        notes: What readers of a result should know, above all which files were left out; part of the result's notes.
        has_parts: Whether its objects have parts, see :class:`vfm_isbench.types.AnnotatedImage`.
    """

    name: str
    notes: Sequence[str] = ()
    has_parts: bool = False

    @property
    @abstractmethod
    def image_ids(self) -> Sequence[str]:
        """Ids of the images, in the data set's own order."""

    @abstractmethod
    def read(self, image_id: str) -> AnnotatedImage:
        """Read one image and its labels. Callers use :func:`read_sample`, which also checks what this returns.

        Raises:
            DataError: if the id is unknown, a file is missing or broken, image and labels differ in size, or there is
                no object where one is required; the message names the file.
        """

    @cached_property
    def objects(self) -> Sequence[ObjectId]:
        """Every object to evaluate, image by image: all instances in ascending order of label."""
        return [
            ObjectId(image_id, instance)
            for image_id in self.image_ids
            for instance in read_sample(self, image_id).instance_ids()
        ]

    def instances_for_training(self, sample: AnnotatedImage) -> list[int]:
        """Instances of ``sample`` suitable for training; a data set can leave out known broken masks."""
        return sample.instance_ids()

    def __len__(self) -> int:
        return len(self.image_ids)


def notes_of(dataset: ObjectDataset, protocol: Protocol) -> list[str]:
    """What readers of a result should know of a data set under a protocol."""
    if protocol.granularity == "none" or dataset.has_parts:
        return list(dataset.notes)
    return [*dataset.notes, "it has no parts, so every granularity in it is 1 and tells the probe nothing"]


def read_sample(dataset: ObjectDataset, image_id: str) -> AnnotatedImage:
    """Read one image of any data set, built in or not, for training, evaluation or display, and check it.

    Raises:
        DataError: if the image cannot be read, or does not pass
            :func:`~vfm_isbench.datasets.sample_checks.checked_sample`.
    """
    try:
        sample = dataset.read(image_id)
    except VfmIsbenchError:
        raise
    except Exception as error:
        raise DataError(
            f"data set {dataset.name!r}, image {image_id!r}: read() failed with {type(error).__name__}: {error}. "
            "Check the files of this image, and the reader of the data set."
        ) from error
    return checked_sample(dataset.name, image_id, sample)
