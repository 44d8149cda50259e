"""TETRIS (Moskalenko et al. 2024): photographs of high resolution, shrunk as its authors evaluate them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from vfm_isbench.datasets.files import check_layout, check_same_size, read_mask, read_rgb, some_names
from vfm_isbench.datasets.label_files import LabelledPairs
from vfm_isbench.datasets.single_object import IMAGE_SUFFIXES, LOSSLESS_SUFFIXES, pictures_by_stem
from vfm_isbench.errors import DataError
from vfm_isbench.types import AnnotatedImage, Array

LONGEST_SIDE = 2048
"""Pixels; the evaluation of RClicks shrinks larger images to this."""

_BITS = 11
"""Fractional bits of the weights. Whole numbers give the same pixels on every machine."""


class TetrisDataset(LabelledPairs):
    """TETRIS: 2531 objects in 2000 images; ``images/`` and ``masks/``, paired by file name.

    Every colour of a mask but black is an object. Objects are numbered from 1 in the order in which RClicks sorts their
    colours (blue, then green, then red). Images with a side above 2048 pixels are shrunk, image and each mask linearly,
    as RClicks does with OpenCV; pixels may differ from OpenCV's by one level.

    Args:
        root: The data set's folder, ``data_root / "TETRIS"``.

    Raises:
        DataError: if a folder is missing or there is no image, or an image has no mask.
    """

    name = "tetris"
    folder: ClassVar[str] = "TETRIS"
    images_folder: ClassVar[str] = "images"
    masks_folder: ClassVar[str] = "masks"

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        check_layout(self.root, folders=(self.images_folder, self.masks_folder))
        images, _ = pictures_by_stem(self.root / self.images_folder, IMAGE_SUFFIXES)
        masks, _ = pictures_by_stem(self.root / self.masks_folder, LOSSLESS_SUFFIXES)
        if not images:
            raise DataError(f"{self.root / self.images_folder}: contains no image. Unpack the archive completely.")
        missing = [path.name for stem, path in images.items() if stem not in masks]
        if missing:
            raise DataError(f"no mask for {some_names(missing)} in {self.root / self.masks_folder}. Add the masks.")
        self.pairs = {path.name: (path, masks[stem]) for stem, path in images.items()}

    def read_labels(self, path: Path) -> Array:
        """The objects of one mask, numbered from 1, at the size at which they are evaluated."""
        colours = read_mask(path).astype(np.int32)
        codes = (colours[..., 2] << 16) | (colours[..., 1] << 8) | colours[..., 0]
        values, places = np.unique(codes, return_inverse=True)
        labels = places.reshape(codes.shape).astype(np.int32) + (0 if values[0] == 0 else 1)
        return shrink_labels(labels, *_shrunk_size(labels.shape))

    def read(self, image_id: str) -> AnnotatedImage:
        """Read one image and its objects; raises errors like :meth:`LabelledPairs.read`."""
        if image_id not in self.pairs:
            return super().read(image_id)  # which raises
        image_path, mask_path = self.pairs[image_id]
        image, labels = read_rgb(image_path), self._with_object(mask_path)
        image = shrink(image, *_shrunk_size(image.shape[:2]))
        check_same_size(image_path, image, mask_path, labels)
        return AnnotatedImage(image_id, image, labels)


def _shrunk_size(shape: tuple[int, ...]) -> tuple[int, int]:
    height, width = shape[:2]
    if height > width:
        target = min(height, LONGEST_SIDE)
        return target, int(width / height * target + 0.5)
    target = min(width, LONGEST_SIDE)
    return int(height / width * target + 0.5), target


def shrink(image: Array, height: int, width: int) -> Array:
    """Resize an image (H×W or H×W×C, uint8) linearly, without smoothing first, in whole numbers.

    >>> shrink(np.array([[0, 100, 200, 255]], np.uint8), 1, 2).tolist()
    [[50, 228]]
    """
    if image.shape[:2] == (height, width):
        return image
    top, bottom, row_weights = _steps(image.shape[0], height)
    left, right, col_weights = _steps(image.shape[1], width)
    extra = (1,) * (image.ndim - 2)
    col_weights = col_weights.reshape(1, width, *extra)
    row_weights = row_weights.reshape(height, 1, *extra)

    def across(rows: Array) -> Array:
        found: Array = rows[:, left] * ((1 << _BITS) - col_weights) + rows[:, right] * col_weights
        return found

    image = image.astype(np.int64)
    total = across(image[top]) * ((1 << _BITS) - row_weights) + across(image[bottom]) * row_weights
    shrunk: Array = (total + (1 << (2 * _BITS - 1))) >> (2 * _BITS)
    return shrunk.astype(np.uint8)


def shrink_labels(labels: Array, height: int, width: int) -> Array:
    """Resize labels (H×W int32): each label's mask linearly, cut at one half; a later label covers an earlier one."""
    if labels.shape == (height, width):
        return labels
    shrunk = np.zeros((height, width), np.int32)
    for label in np.unique(labels):
        if label > 0:
            shrunk[shrink((labels == label).astype(np.uint8), height, width) > 0] = label
    return shrunk


def _steps(size: int, target: int) -> tuple[Array, Array, Array]:
    """For each target pixel: the pixels on both sides of its centre, and the weight of the second in 2¹¹ parts."""
    place = (np.arange(target) + 0.5) * (size / target) - 0.5
    first = np.floor(place).astype(np.int64)
    weight = np.rint((place - first) * (1 << _BITS)).astype(np.int64)
    low, high = np.clip(first, 0, size - 1), np.clip(first + 1, 0, size - 1)
    return low, high, weight
