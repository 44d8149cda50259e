"""Reads instance labels from picture files, value by value: palette indices, gray values, 16 bits."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from vfm_isbench.datasets.base import ObjectDataset
from vfm_isbench.datasets.files import (
    BROKEN_FILE_ERRORS,
    LOSSY_FORMATS,
    PictureBytes,
    check_same_size,
    open_picture,
    read_rgb,
    some_names,
)
from vfm_isbench.errors import DataError
from vfm_isbench.types import AnnotatedImage, Array, ObjectId

SILENT_UP_TO = 200
"""Number of label files read without a progress bar."""

_ONE_CHANNEL = frozenset({"1", "L", "P", "I;16", "I;16L", "I;16B", "I"})


def read_values(source: Path | PictureBytes) -> Array:
    """Read the stored value of every pixel: the index of a palette file, the gray value of others.

    Colour files are accepted if they are gray, with three equal channels.

    Returns:
        H×W, int32; files of one bit have 0 and 255, as viewers show them.

    Raises:
        DataError: if the file is missing, broken, lossy or coloured, or has transparent pixels.
    """
    try:
        with open_picture(source) as picture:
            stored_as, mode = picture.format, picture.mode
            if mode in _ONE_CHANNEL:
                values = np.array(picture.convert("L") if mode == "1" else picture)
            else:
                values = np.array(picture.convert("RGBA"))
    except FileNotFoundError as error:
        raise DataError(f"{source}: no such file.") from error
    except (*BROKEN_FILE_ERRORS, Image.DecompressionBombError) as error:
        raise DataError(
            f"{source}: cannot be read as a picture ({type(error).__name__}: {error}). The file is damaged, incomplete "
            "or not a picture."
        ) from error
    if stored_as in LOSSY_FORMATS:
        raise DataError(
            f"{source}: the mask is stored as {stored_as}, which changes pixel values near outlines. Expected a format "
            "without loss, such as PNG. Use the original mask: converting this one does not restore it."
        )
    if values.ndim == 3:
        values = _gray(source, values)
    return values.astype(np.int32)


def _gray(source: Path | PictureBytes, rgba: Array) -> Array:
    gray = rgba[..., 0]
    is_coloured = (rgba[..., 1] != gray) | (rgba[..., 2] != gray)
    if is_coloured.any():
        row, col = np.argwhere(is_coloured)[0]
        raise DataError(
            f"{source}: the mask has colours, for example {tuple(rgba[row, col, :3].tolist())} at row {row}, column "
            f"{col}. Expected one value per pixel (a gray or palette PNG): 0 background, k > 0 instance k."
        )
    if (rgba[..., 3] < 255).any():
        raise DataError(f"{source}: the mask has transparent pixels, but only its values are read. Save it opaque.")
    return gray


class LabelledPairs(ObjectDataset):
    """Images with instance labels, in one file each.

    Subclasses fill :attr:`pairs` and say how labels are read.

    Attributes:
        root: Folder, for messages.
        pairs: Image file and label file by image id, in the data set's order.
    """

    root: Path
    pairs: dict[str, tuple[Path, Path]]

    @abstractmethod
    def read_labels(self, path: Path) -> Array:
        """Labels of one file, H×W int32: 0 background, k > 0 instance k, -1 ignore."""
        ...

    @property
    def image_ids(self) -> Sequence[str]:
        """Ids of the images."""
        return list(self.pairs)

    @cached_property
    def objects(self) -> Sequence[ObjectId]:
        """Every instance, image by image, in ascending order of label; the first use reads all label files."""
        listed = tqdm(
            self.pairs.items(),
            desc=f"listing the objects of {self.name}",
            unit="image",
            leave=False,
            disable=len(self.pairs) <= SILENT_UP_TO,
        )
        return [
            ObjectId(image_id, label)
            for image_id, (_, path) in listed
            for label in np.unique(self._with_object(path)).tolist()
            if label > 0
        ]

    def read(self, image_id: str) -> AnnotatedImage:
        """Read one image and its labels.

        Raises:
            DataError: if the id is unknown, a file is broken, the two differ in size, or there is no object.
        """
        if image_id not in self.pairs:
            raise DataError(f"{self.root}: no image {image_id!r} in this data set: {some_names(self.pairs)}.")
        image_path, label_path = self.pairs[image_id]
        image, labels = read_rgb(image_path), self._with_object(label_path)
        check_same_size(image_path, image, label_path, labels)
        return AnnotatedImage(image_id, image, labels)

    def _with_object(self, path: Path) -> Array:
        labels = self.read_labels(path)
        if not (labels > 0).any():
            raise DataError(f"{path}: the mask has no object pixel. Expected at least one object; check the file.")
        return labels
