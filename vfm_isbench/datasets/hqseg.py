"""The validation images of HQSeg-44K (Ke et al. 2023): four collections of finely drawn objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from vfm_isbench.datasets.base import ObjectDataset
from vfm_isbench.datasets.files import check_layout, some_names
from vfm_isbench.datasets.single_object import DavisDataset, SingleObjectDataset
from vfm_isbench.errors import DataError
from vfm_isbench.types import AnnotatedImage, ObjectId

_PARTS = {
    "DIS-VD": ("DIS5K/DIS-VD/im", "DIS5K/DIS-VD/gt"),
    "ThinObject5K": ("thin_object_detection/ThinObject5K/images_test", "thin_object_detection/ThinObject5K/masks_test"),
    "COIFT": ("thin_object_detection/COIFT/images", "thin_object_detection/COIFT/masks"),
    "HRSOD": ("thin_object_detection/HRSOD/images", "thin_object_detection/HRSOD/masks_max255"),
}
"""Folders of images and masks by part, in the order in which SegNext evaluates them."""


class HqSegDataset(ObjectDataset):
    """HQSeg-44K val, 1537 images with one object each, in the layout of its two archives.

    An image id is "PART/FILE NAME", for example "DIS-VD/1#Accessories.jpg". Every pixel that is not black is object, as
    in DAVIS: SegNext reads the masks so.

    Args:
        root: The folder that contains ``DIS5K/`` and ``thin_object_detection/``.

    Raises:
        DataError: as :class:`~vfm_isbench.datasets.single_object.SingleObjectDataset`, for each part.
    """

    name = "hqseg44k"
    folder: ClassVar[str] = "HQSeg44K"

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        check_layout(self.root, folders=self.folders())
        self._parts = {part: _part(*folders)(self.root) for part, folders in _PARTS.items()}
        self.notes = tuple(note for part in self._parts.values() for note in part.notes)

    @staticmethod
    def folders() -> tuple[str, ...]:
        """The folders of the layout."""
        return tuple(folder for pair in _PARTS.values() for folder in pair)

    @property
    def image_ids(self) -> Sequence[str]:
        """Ids of the images, part by part, sorted by name in each."""
        return [f"{name}/{image}" for name, part in self._parts.items() for image in part.image_ids]

    @property
    def objects(self) -> Sequence[ObjectId]:
        """The single object of each image; listing them reads no file."""
        return [ObjectId(image_id) for image_id in self.image_ids]

    def read(self, image_id: str) -> AnnotatedImage:
        """Read one image and its mask.

        Raises:
            DataError: if the id is unknown, or as :meth:`SingleObjectDataset.read`.
        """
        name, _, image = image_id.partition("/")
        if name not in self._parts:
            raise DataError(f"{self.root}: no image {image_id!r} in this data set: {some_names(self.image_ids)}.")
        sample = self._parts[name].read(image)
        return AnnotatedImage(image_id, sample.image, sample.labels)


def _part(images: str, masks: str) -> type[SingleObjectDataset]:
    return type("HqSegPart", (DavisDataset,), {"images_folder": images, "masks_folder": masks})
