"""GrabCut, Berkeley and DAVIS: data sets with one object per image, stored as an image and a mask file."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from vfm_isbench.datasets.base import ObjectDataset
from vfm_isbench.datasets.files import check_layout, check_same_size, list_entries, read_mask, read_rgb, some_names
from vfm_isbench.errors import DataError, VfmIsbenchWarning
from vfm_isbench.types import IGNORE, AnnotatedImage, Array, ObjectId

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})
JPEG_SUFFIXES = frozenset({".jpg", ".jpeg"})
LOSSLESS_SUFFIXES = frozenset({".bmp", ".png", ".gif"})
MASK_SUFFIXES = LOSSLESS_SUFFIXES | JPEG_SUFFIXES
"""JPEG files count as masks so that they can be refused by name, not reported as missing."""

IGNORE_GRAY = 128
"""Gray value of the unlabelled band in GrabCut masks; brighter pixels are object."""


MOST_GRAY_VALUES = 8
"""Number of gray values up to which a mask counts as drawn; a smoothed or compressed outline has dozens."""


def decode_trimap(mask: Array) -> Array:
    """Labels from a GrabCut mask: gray 128 is ignored, brighter is object, darker is background.

    Args:
        mask: H×W×3, uint8; only the first channel is used.

    Returns:
        H×W, int32: 1 object, 0 background, -1 ignore.

    >>> decode_trimap(np.array([[[0] * 3, [128] * 3, [255] * 3]], np.uint8)).tolist()
    [[0, -1, 1]]
    """
    gray = mask[..., 0]
    return np.where(gray > IGNORE_GRAY, 1, np.where(gray == IGNORE_GRAY, IGNORE, 0)).astype(np.int32)


def decode_any_channel(mask: Array) -> Array:
    """Labels from a DAVIS mask, which has one colour per object: every pixel that is not black is object.

    Args:
        mask: H×W×3, uint8.

    Returns:
        H×W, int32: 1 object, 0 background.
    """
    labels: Array = np.any(mask > 0, axis=-1)
    return labels.astype(np.int32)


def check_gray_mask(path: Path, mask: Array) -> None:
    """Check that a mask (H×W×3, uint8) is drawn in a few gray values, as in GrabCut and Berkeley.

    Published masks have two or three. Interpolation and lossy compression, even of an earlier copy, leave many values
    at the outlines, and then limits such as 128 say nothing.

    Raises:
        DataError: if the channels differ, or there are more than :data:`MOST_GRAY_VALUES` values.
    """
    expected = f"Expected 0 background, {IGNORE_GRAY} ignore, 255 object. Use the original mask"
    gray = mask[..., 0]
    is_coloured = (mask[..., 1] != gray) | (mask[..., 2] != gray)
    if is_coloured.any():
        row, col = np.argwhere(is_coloured)[0]
        raise DataError(
            f"{path}: the mask has colours, for example {tuple(mask[row, col].tolist())} at row {row}, column {col}, "
            f"not only gray values. {expected}, or draw it in gray."
        )
    values = np.flatnonzero(np.bincount(gray.ravel()))
    if len(values) > MOST_GRAY_VALUES:
        raise DataError(
            f"{path}: the mask has {len(values)} different gray values ({some_names(map(str, values))}), as if it had "
            f"been resized smoothly or compressed with loss. {expected}; resize masks by the nearest pixel only."
        )


class SingleObjectDataset(ObjectDataset):
    """Images and masks in two folders, paired by file name without suffix.

    An image id is the image's file name ("21077.jpg"); images are sorted by file name. The constructor pairs the names;
    pixels are left to :meth:`read`, but for one look at masks named like JPEG files.

    Args:
        root: The data set's folder, ``data_root / cls.folder``.

    Raises:
        DataError: if a folder is missing, there is no image, an image has no mask, two files have the same name, or a
            link leads nowhere, or the masks are JPEG files.

    Warns:
        VfmIsbenchWarning: if there are masks without an image, or files that are not pictures; they are ignored. The
            :attr:`notes` of the data set say so, too.
    """

    folder: ClassVar[str]
    """Name of the data set's folder in the data root."""
    images_folder: ClassVar[str]
    masks_folder: ClassVar[str]
    has_gray_masks: ClassVar[bool] = False
    """Whether masks must pass :func:`check_gray_mask`."""
    object_pixels: ClassVar[str]
    """Which pixels :meth:`decode` treats as object, in words, for messages."""

    def __init__(self, root: Path) -> None:
        root = Path(root)
        check_layout(root, folders=(self.images_folder, self.masks_folder))
        self.root = root
        images, other_images = pictures_by_stem(root / self.images_folder, IMAGE_SUFFIXES)
        self._images = {path.name: path for path in images.values()}
        if not self._images:
            raise DataError(
                f"{root / self.images_folder}: contains no image. Expected files ending in "
                f"{', '.join(sorted(IMAGE_SUFFIXES))}; check that the data set was unpacked completely."
            )
        masks, other_masks = pictures_by_stem(root / self.masks_folder, MASK_SUFFIXES)
        without_mask = [str(path) for path in self._images.values() if path.stem not in masks]
        if without_mask:
            raise DataError(
                f"no mask for {some_names(without_mask)}: expected a file with the same name ending in "
                f"{', '.join(sorted(LOSSLESS_SUFFIXES))} in {root / self.masks_folder}. Add it, or remove the image."
            )
        self._masks = {name: masks.pop(path.stem) for name, path in self._images.items()}
        # A lossy mask is refused wherever it is read; one look here refuses it before hours of training.
        for path in [path for path in self._masks.values() if path.suffix.lower() in JPEG_SUFFIXES][:1]:
            read_mask(path)
        self.notes = self._left_out({self.images_folder: other_images, self.masks_folder: other_masks}, masks)
        for note in self.notes:
            warnings.warn(f"{root}: {note}", VfmIsbenchWarning, stacklevel=2)

    @staticmethod
    def _left_out(others: Mapping[str, Sequence[Path]], widows: Mapping[str, Path]) -> tuple[str, ...]:
        notes = [
            f"ignored files in {folder}/ that are not pictures: {some_names(path.name for path in paths)}"
            for folder, paths in others.items()
            if paths
        ]
        if widows:
            notes.append(f"ignored masks without an image: {some_names(path.name for path in widows.values())}")
        return tuple(notes)

    @staticmethod
    @abstractmethod
    def decode(mask: Array) -> Array:
        """Turn a mask file's colours (H×W×3, uint8) into labels (H×W, int32: 1 object, 0 background, -1 ignore)."""

    @property
    def image_ids(self) -> Sequence[str]:
        """File names of the images, sorted."""
        return list(self._images)

    @cached_property
    def objects(self) -> Sequence[ObjectId]:
        """The single object of each image; listing them reads no file."""
        return [ObjectId(name) for name in self._images]

    def read(self, image_id: str) -> AnnotatedImage:
        """Read one image and its mask.

        Raises:
            DataError: if the id is unknown, a file is broken, the two differ in size, or the mask has no object, or
                values that its layout does not allow.
        """
        if image_id not in self._images:
            raise DataError(
                f"{self.root}: no image {image_id!r} in this data set. Its ids are file names: "
                f"{some_names(self._images)}."
            )
        image_path, mask_path = self._images[image_id], self._masks[image_id]
        image, mask = read_rgb(image_path), read_mask(mask_path)
        if self.has_gray_masks:
            check_gray_mask(mask_path, mask)
        labels = self.decode(mask)
        check_same_size(image_path, image, mask_path, labels)
        if not (labels == 1).any():
            raise DataError(
                f"{mask_path}: the mask has no object pixel. Expected {self.object_pixels}; the channel values in the "
                f"file are {some_names(str(value) for value in np.unique(mask))}. Check the file."
            )
        return AnnotatedImage(image_id, image, labels)


def pictures_by_stem(folder: Path, suffixes: frozenset[str]) -> tuple[dict[str, Path], list[Path]]:
    """Picture files of a folder by name without suffix, sorted by full name; and the other entries."""
    found: dict[str, Path] = {}
    others = []
    for path in list_entries(folder):
        if path.suffix.lower() not in suffixes:
            others.append(path)
        elif not path.is_file():
            if path.is_symlink():
                raise DataError(
                    f"{path}: a link to {path.readlink()}, which is not a file, expected a picture. Restore the file "
                    "that it leads to, or remove the link if the image does not belong to the data set."
                )
            others.append(path)
        elif path.stem in found:
            raise DataError(
                f"{folder}: {found[path.stem].name} and {path.name} differ only in their suffix, so it is unclear "
                "which of them belongs to that object. Remove one."
            )
        else:
            found[path.stem] = path
    return found, others


class GrabCutDataset(SingleObjectDataset):
    """GrabCut (Rother et al. 2004): 50 images, ``data_GT/`` and ``boundary_GT/`` with a band to ignore."""

    name = "grabcut"
    folder = "GrabCut"
    images_folder = "data_GT"
    masks_folder = "boundary_GT"
    has_gray_masks = True
    object_pixels = "gray values above 128 on the object"
    decode = staticmethod(decode_trimap)


class BerkeleyDataset(SingleObjectDataset):
    """Berkeley (McGuinness and O'Connor 2010): 100 objects, ``images/`` and ``masks/``."""

    name = "berkeley"
    folder = "Berkeley"
    images_folder = "images"
    masks_folder = "masks"
    has_gray_masks = True
    object_pixels = "gray values above 128 on the object"
    decode = staticmethod(decode_trimap)


class DavisDataset(SingleObjectDataset):
    """DAVIS (Perazzi et al. 2016): 345 frames chosen by the click benchmarks, ``img/`` and ``gt/``."""

    name = "davis"
    folder = "DAVIS"
    images_folder = "img"
    masks_folder = "gt"
    object_pixels = "any channel above 0 on the object"
    decode = staticmethod(decode_any_channel)


class CocoMvalDataset(DavisDataset):
    """COCO-MVal (Sofiiuk et al. 2020): 800 objects of COCO's validation images; ``img/`` and ``gt/``, read as DAVIS."""

    name = "coco_mval"
    folder = "COCO_MVal"
