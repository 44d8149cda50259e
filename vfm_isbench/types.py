"""Value objects used throughout the package: clicks, object ids, annotated images, evidence."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt

from vfm_isbench.errors import DataError

Array: TypeAlias = npt.NDArray[Any]

Behaviour: TypeAlias = tuple[float, ...]
"""What an upsampler or a backbone makes of two fixed inputs: projections of its outputs, of order one."""

_LARGEST = sys.float_info.max

PART_LABELS = 100_000
"""Data sets of this library label parts from here on, parts of parts from twice this number on, and so on."""

IGNORE = -1
"""Label of pixels that do not count, neither for nor against a prediction."""


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a finite number that fits into a float; True and False are not numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


@dataclass(frozen=True, slots=True)
class Click:
    """One simulated click.

    Attributes:
        row: Row in pixels from the top; an integer in image coordinates, fractional inside a resized crop.
        col: Column in pixels from the left; an integer or fractional like ``row``.
        is_positive: True for a click on the object, False for one on the background.
    """

    row: float
    col: float
    is_positive: bool


@dataclass(frozen=True, slots=True)
class ObjectId:
    """Identifies one object of a data set: the unit over which every metric is averaged.

    Attributes:
        image: Image id within the data set (a file name, or the stem used in the data set's own lists).
        instance: Label of the instance in its image; None if images hold a single object.
    """

    image: str
    instance: int | None = None

    def __str__(self) -> str:
        return self.image if self.instance is None else f"{self.image}:{self.instance}"


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedImage:
    """An image and its instance labels.

    Attributes:
        image_id: Id within the data set.
        image: RGB, H×W×3, uint8.
        labels: H×W, int32: 0 background, k > 0 instance k, -1 pixels to ignore.
        parts: The same for parts of these instances, then for parts of the parts, and so on; empty if none are known.
            A part lies within one label of the map before its own, and all labels of an image differ.
    """

    image_id: str
    image: Array
    labels: Array
    parts: tuple[Array, ...] = ()

    def instance_ids(self) -> list[int]:
        """Labels of the instances present, ascending; parts are instances, too."""
        return sorted(int(label) for labels in (self.labels, *self.parts) for label in np.unique(labels) if label > 0)

    def object_mask(self, instance: int | None) -> Array:
        """Ground truth of one object: H×W int8, 1 object, 0 background (including other instances), -1 ignore.

        Args:
            instance: Instance label; None means the image's only object, which has label 1.

        Raises:
            DataError: if the image has no such instance.
        """
        label = 1 if instance is None else instance
        labels = next((labels for labels in self.parts if (labels == label).any()), self.labels)
        is_ignored = (labels == IGNORE) | (self.labels == IGNORE)
        mask = np.where(labels == label, 1, np.where(is_ignored, IGNORE, 0)).astype(np.int8)
        if not (mask == 1).any():
            raise DataError(
                f"image {self.image_id!r} has no object with label {label}: its labels are {self.instance_ids()}. "
                "Check the object id, or the mask file of this image."
            )
        return mask

    def granularity(self, instances: Iterable[int | None]) -> float:
        """Share of the area of whole objects that some of their instances cover together, in (0, 1]; 1 for objects.

        Args:
            instances: Labels of one or more instances of one level; the whole objects are those that they belong to.

        Raises:
            DataError: as :meth:`object_mask`.
        """
        if not self.parts:
            return 1.0
        masks = [self.object_mask(instance) == 1 for instance in instances]
        wholes = {int(self.labels[mask][0]) for mask in masks}
        return sum(map(np.count_nonzero, masks)) / np.count_nonzero(np.isin(self.labels, list(wholes)))


@dataclass(frozen=True, slots=True)
class ObjectSize:
    """How large an object is, and its image.

    Attributes:
        pixels: Pixels of the object's mask.
        height: Rows of the image.
        width: Columns of the image.
    """

    pixels: int
    height: int
    width: int

    @classmethod
    def of(cls, mask: Array) -> ObjectSize:
        """The size of an object from its mask, H×W: 1 object, 0 background, -1 ignore."""
        return cls(int(np.count_nonzero(mask == 1)), *mask.shape)

    @property
    def share(self) -> float:
        """The object's share of the image, in [0, 1]; pixels to ignore count as image."""
        return self.pixels / (self.height * self.width)


@dataclass(frozen=True, slots=True)
class ObjectEvidence:
    """What happened to one object in the evaluation; every score is derived from this.

    Attributes:
        object_id: The object.
        clicks: Clicks in the order they were placed, in image pixels.
        ious: IoU in [0, 1] after each click.
        boundary_ious: Boundary IoU in [0, 1] after each click; None if it was not asked for.
        size: Size of object and image; None in evidence of versions up to 0.4.0.
    """

    object_id: ObjectId
    clicks: tuple[Click, ...]
    ious: tuple[float, ...]
    boundary_ious: tuple[float, ...] | None = None
    size: ObjectSize | None = None
