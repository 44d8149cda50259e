"""The validation images of PASCAL VOC 2012 (Everingham et al. 2010), with instances to test on."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from vfm_isbench.datasets.files import BROKEN_FILE_ERRORS, check_layout, open_picture, some_names
from vfm_isbench.datasets.label_files import LabelledPairs, read_values
from vfm_isbench.datasets.sample_checks import VOID_LABEL
from vfm_isbench.datasets.sbd import read_split
from vfm_isbench.errors import DataError
from vfm_isbench.types import IGNORE, Array

_IMAGES, _INSTANCES = "JPEGImages", "SegmentationObject"


class PascalVocDataset(LabelledPairs):
    """PASCAL VOC 2012 val in its original layout: ``JPEGImages/``, ``SegmentationObject/`` and the list of the split.

    An image id is the name without suffix; the order is that of the list. The instance files are palette PNGs: the
    index is the number of the instance, and 255, the void border around objects, is ignored, as in RITM.

    Args:
        root: The folder ``VOC2012``; archives have it inside ``VOCdevkit``.

    Raises:
        DataError: if a folder, the list, or a file that it names is missing.
    """

    name = "pascal_voc"
    folder: ClassVar[str] = "VOC2012"
    list_file: ClassVar[str] = "ImageSets/Segmentation/val.txt"

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        check_layout(self.root, folders=(_IMAGES, _INSTANCES), files=(self.list_file,))
        names = read_split(self.root / self.list_file)
        for folder, suffix in ((_IMAGES, ".jpg"), (_INSTANCES, ".png")):
            present = {path.name for path in (self.root / folder).iterdir() if not path.is_symlink() or path.is_file()}
            missing = [name + suffix for name in names if name + suffix not in present]
            if missing:
                raise DataError(
                    f"{self.root / folder}: no file for {some_names(missing)}, which {self.root / self.list_file} "
                    "lists. Check that the data set was unpacked completely."
                )
        self.pairs = {
            name: (self.root / _IMAGES / f"{name}.jpg", self.root / _INSTANCES / f"{name}.png") for name in names
        }

    def read_labels(self, path: Path) -> Array:
        """The instances of one file; raises a :class:`DataError` unless it is a palette file."""
        try:
            with open_picture(path) as picture:
                mode = picture.mode
        except BROKEN_FILE_ERRORS as error:
            raise DataError(f"{path}: cannot be read as a picture ({type(error).__name__}: {error}).") from error
        if mode != "P":
            raise DataError(
                f"{path}: pixels are stored as {mode!r}, expected the published palette PNG, whose index is the number "
                "of the instance. Use the original file."
            )
        values = read_values(path)
        return np.where(values == VOID_LABEL, IGNORE, values)
