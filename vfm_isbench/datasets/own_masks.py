"""What a mask of an unknown data set means: one object, or a label for each instance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vfm_isbench.datasets.files import BROKEN_FILE_ERRORS, PictureBytes, open_picture, some_names
from vfm_isbench.datasets.label_files import read_values
from vfm_isbench.datasets.sample_checks import VOID_LABEL, check_nested
from vfm_isbench.datasets.single_object import IGNORE_GRAY
from vfm_isbench.errors import DataError
from vfm_isbench.types import IGNORE, PART_LABELS, Array

Picture = Path | PictureBytes

_MOST_LABELS = 20
"""Up to here, labels may have gaps."""


def decode_mask(source: Picture, values: Array) -> Array:
    """Labels of a mask from its stored values.

    - One value besides 0: one object, with label 1, whatever the value (1, 255, …).
    - Several values: every value is the label of an instance, but 255 is ignored, as in PASCAL VOC.

    Args:
        source: The file, for messages.
        values: H×W, int32.

    Returns:
        H×W, int32: 0 background, k > 0 instance k, -1 ignore.

    Raises:
        DataError: if the mask is empty, has labels below 255 with large gaps, holds 128 and 255 only (a trimap, or
            labels?), or looks like a mask of one object with a soft outline.
    """
    found, counts = np.unique(values, return_counts=True)
    present, pixels = found[found != 0].tolist(), counts[found != 0]
    if not present:
        raise DataError(f"{source}: the mask is empty, every pixel is 0. Expected an object; remove image and mask.")
    if len(present) == 1:
        return (values > 0).astype(np.int32)
    if present == [IGNORE_GRAY, VOID_LABEL]:
        raise DataError(
            f"{source}: the mask has the values 128 and 255, which mean ignored and object in a GrabCut mask, but "
            "instance and ignored in a label map. Store 1 for the object and 255 for pixels to ignore, and where there "
            "is nothing to ignore, one value for the object."
        )
    if present[-1] == VOID_LABEL and 2 * pixels[-1] > pixels.sum():
        raise DataError(
            f"{source}: the mask has the values {some_names(map(str, present))}, most of them 255, like a mask of one "
            "object with a soft outline, as left by smooth resizing. Expected one value for the object, or labels "
            "1, 2, … with 255 only where pixels are to be ignored. Use the original mask, or cut it at one half."
        )
    labels = [label for label in present if label != VOID_LABEL]
    if _MOST_LABELS < labels[-1] < VOID_LABEL and 2 * len(labels) < labels[-1]:
        raise DataError(
            f"{source}: the mask has the values {some_names(map(str, present))}. Too many are missing between them for "
            "the labels of instances: they may be grays of a soft outline, or classes. Store labels 1, 2, …, or list "
            "image, mask and instance in an index.csv."
        )
    return np.where(values == VOID_LABEL, IGNORE, values) if present[-1] <= VOID_LABEL else values


@dataclass(frozen=True, slots=True)
class OwnSample:
    """An image with its mask.

    Attributes:
        image: The picture.
        mask: Its mask.
        instances: Stored values of the objects to evaluate, if the user listed them; None for all.
        parts: Masks of the parts of these objects, then of parts of the parts.
    """

    image: Picture
    mask: Picture
    instances: tuple[int, ...] | None = None
    parts: tuple[Picture, ...] = ()

    def labels(self) -> Array:
        """The labels, H×W int32.

        Raises:
            DataError: as :func:`decode_mask`; or if a listed instance is missing.
        """
        values = read_values(self.mask)
        if self.instances is None:
            return decode_mask(self.mask, values)
        missing = [value for value in self.instances if not (values == value).any()]
        if missing:
            raise DataError(
                f"{self.mask}: the mask has no pixel with the value {missing[0]}, which the index lists as an "
                f"instance; it has {some_names(map(str, np.unique(values).tolist()))}."
            )
        is_void = (values == VOID_LABEL) & (VOID_LABEL not in self.instances)
        return np.where(is_void, IGNORE, values)

    def part_labels(self) -> tuple[Array, ...]:
        """The labels of the parts, level by level: those of the files, plus 100000 times the level.

        Raises:
            DataError: as :func:`decode_mask`; or if a label is too large for that.
        """
        found = []
        for level, source in enumerate(self.parts, start=1):
            labels = decode_mask(source, read_values(source))
            _check_below_parts(source, labels)
            found.append(np.where(labels > 0, labels + level * PART_LABELS, labels).astype(np.int32))
        return tuple(found)

    def _check_parts(self, labels: Array) -> tuple[Array, ...]:
        parts = self.part_labels()
        for source, found in zip(self.parts, parts, strict=True):
            if found.shape != labels.shape:
                raise DataError(
                    f"{source}: the parts have {found.shape[0]}×{found.shape[1]} pixels (rows × columns), but the mask "
                    f"{self.mask} has {labels.shape[0]}×{labels.shape[1]}. They must be equal."
                )
        if parts:
            _check_below_parts(self.mask, labels)
            check_nested(str(self.parts[-1]), (labels, *parts))
        return parts

    def checked_instances(self) -> list[int]:
        """The objects to evaluate; reads the mask, but of the image only its size.

        Raises:
            DataError: if a file cannot be read, the two differ in size, or as :meth:`labels`.
        """
        labels = self.labels()
        try:
            with open_picture(self.image) as picture:
                width, height = picture.size
        except FileNotFoundError as error:
            raise DataError(f"{self.image}: no such file.") from error
        except BROKEN_FILE_ERRORS as error:
            raise DataError(f"{self.image}: cannot be read as a picture ({type(error).__name__}: {error}).") from error
        if (height, width) != labels.shape:
            raise DataError(
                f"{self.mask}: the mask has {labels.shape[0]}×{labels.shape[1]} pixels (rows × columns), but its image "
                f"{self.image} has {height}×{width}. They must be equal; check which one is wrong."
            )
        parts = self._check_parts(labels)
        if self.instances is not None:
            return list(self.instances)
        return [int(label) for level in (labels, *parts) for label in np.unique(level) if label > 0]


def _check_below_parts(source: Picture, labels: Array) -> None:
    if labels.max() >= PART_LABELS:
        raise DataError(
            f"{source}: the mask has the label {labels.max()}, but with parts, labels must be below {PART_LABELS}: "
            "larger numbers tell the levels of parts apart. Number the objects of each image from 1."
        )
