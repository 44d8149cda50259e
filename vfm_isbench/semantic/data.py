"""Images with a class for every pixel: the patterns of the scenes, or a folder of label maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from PIL import Image, ImageOps

from vfm_isbench.datasets.files import check_same_size, list_entries, read_rgb, some_names
from vfm_isbench.datasets.label_files import read_values
from vfm_isbench.datasets.own_names import FOLDER, recorded_name
from vfm_isbench.datasets.scenes.dataset import ScenesDataset
from vfm_isbench.datasets.scenes.embedded import EMBEDDED
from vfm_isbench.datasets.scenes.textures import PATTERNS, pattern_name
from vfm_isbench.errors import DataError
from vfm_isbench.semantic.confusion import IGNORED
from vfm_isbench.types import Array

Split = Literal["train", "test"]

CLASS_NAMES = "classes.txt"
"""Names of the classes of a folder, one a line; it may be missing."""

_IMAGES, _LABELS = ("images", "JPEGImages"), ("labels", "SegmentationClass")
"""Names of the two folders; the second ones are those of PASCAL VOC."""
_IMAGE_ENDINGS, _LABEL_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp"), (".png", ".bmp", ".tif", ".tiff")


class SemanticDataset(Protocol):
    """Images with a class for every pixel."""

    @property
    def name(self) -> str:
        """Name in results."""
        ...

    @property
    def image_ids(self) -> Sequence[str]:
        """Ids of the images."""
        ...

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes, in the order of their labels."""
        ...

    def read(self, image_id: str) -> tuple[Array, Array]:
        """An image, H×W×3 uint8 RGB, and its labels, H×W uint8: the class, or 255 for pixels that do not count."""
        ...


class ScenePatterns:
    """Generated scenes whose classes are the background and the pattern of each object's surface.

    Pixels and objects are those of the benchmark. Only the names of the patterns are added.

    Args:
        scenes: The scenes.
    """

    def __init__(self, scenes: ScenesDataset) -> None:
        self.name = scenes.name
        self.image_ids: Sequence[str] = scenes.image_ids
        self.class_names: Sequence[str] = ("background", *map(pattern_name, PATTERNS))
        self._scenes = scenes

    def read(self, image_id: str) -> tuple[Array, Array]:
        """See :class:`SemanticDataset`."""
        sample = self._scenes.read(image_id)
        names = ("background", *self._scenes.patterns(image_id))
        class_of = np.array([self.class_names.index(name) for name in names], np.uint8)
        return sample.image, class_of[sample.labels]


@dataclass(frozen=True)
class LabelMaps:
    """A folder of images and label maps: files with one value per pixel, the class or 255.

    Attributes:
        name: Name in results.
        pairs: Image file and label file by image id.
        class_names: Names of the classes.
    """

    name: str
    pairs: dict[str, tuple[Path, Path]]
    class_names: Sequence[str]

    @property
    def image_ids(self) -> Sequence[str]:
        """Ids of the images."""
        return list(self.pairs)

    def read(self, image_id: str) -> tuple[Array, Array]:
        """See :class:`SemanticDataset`.

        Raises:
            DataError: if a file is broken, the two differ in size, or a label is beyond the classes.
        """
        image_path, label_path = self.pairs[image_id]
        image, labels = read_rgb(image_path), read_values(label_path)
        check_same_size(image_path, image, label_path, labels)
        beyond = np.unique(labels[(labels != IGNORED) & ((labels < 0) | (labels >= len(self.class_names)))])
        if len(beyond):
            raise DataError(
                f"{label_path}: the labels {some_names(map(str, beyond.tolist()))} are beyond the "
                f"{len(self.class_names)} classes (0 to {len(self.class_names) - 1}, {IGNORED} for pixels that do not "
                f"count). Correct the file, or name all classes in {CLASS_NAMES}, one a line."
            )
        return image, labels.astype(np.uint8)


def open_classes(name: str, split: Split, data_root: Path | None = None) -> SemanticDataset:
    """Open a data set with classes.

    Args:
        name: An embedded data set ("compact_scenes"), or ``folder:PATH``. The folder holds ``images/`` and ``labels/``
            with files of the same names, or ``JPEGImages/`` and ``SegmentationClass/`` as PASCAL VOC does. PATH may be
            a text file in it or below it that lists the names to take, without endings.
        split: Which split of an embedded data set; folders have none.
        data_root: Where PATH is looked for if it is not below the current folder.

    Raises:
        DataError: if there is no such data set, or the folder has another layout.
    """
    if name in EMBEDDED:
        scenes = EMBEDDED[name].open(name, split)
        if scenes.has_parts:
            raise DataError(f"the objects of {name!r} have several patterns each, so they are no classes; use 'scenes'")
        return ScenePatterns(scenes)
    if not name.startswith(FOLDER):
        raise DataError(
            f"there is no data set {name!r} with classes; choose scenes, compact_scenes, or folder:PATH with images/ "
            "and labels/"
        )
    given = Path(name.removeprefix(FOLDER)).expanduser()
    places = [given, *([data_root / given] if data_root is not None else [])]
    path = next((place for place in places if place.exists()), None)
    if path is None:
        raise DataError(f"data set {name!r}: there is no {' and no '.join(str(place.absolute()) for place in places)}")
    return _open_folder(recorded_name(name), path)


def _open_folder(name: str, path: Path) -> LabelMaps:
    root, images, labels = _folders(path)
    found_images, found_labels = _by_stem(images, _IMAGE_ENDINGS), _by_stem(labels, _LABEL_ENDINGS)
    if path.is_file():
        stems = path.read_text(encoding="utf-8").split()
        missing = [stem for stem in stems if stem not in found_images or stem not in found_labels]
        if missing:
            raise DataError(f"{path}: {some_names(missing)} listed, but not in both {images} and {labels}")
    else:
        stems = [stem for stem in found_images if stem in found_labels]
    if not stems:
        raise DataError(f"{path}: no file of {images} has a label map of the same name in {labels}, such as NAME.png")
    pairs = {stem: (found_images[stem], found_labels[stem]) for stem in stems}
    return LabelMaps(name, pairs, _class_names(root, [label for _, label in pairs.values()]))


def _folders(path: Path) -> tuple[Path, Path, Path]:
    """The folder that holds both folders, and these."""
    for root in [path, *path.absolute().parents] if path.is_file() else [path]:
        for images, labels in zip(_IMAGES, _LABELS, strict=True):
            if (root / images).is_dir() and (root / labels).is_dir():
                return root, root / images, root / labels
    expected = " or ".join(f"{images}/ and {labels}/" for images, labels in zip(_IMAGES, _LABELS, strict=True))
    raise DataError(f"{path}: expected a folder with {expected}, or a text file below one that lists names")


def _by_stem(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    return {path.stem: path for path in list_entries(folder) if path.suffix.lower() in endings}


def _class_names(root: Path, labels: Sequence[Path]) -> tuple[str, ...]:
    """The names that the folder lists; otherwise the numbers up to the highest label."""
    if (root / CLASS_NAMES).is_file():
        return tuple((root / CLASS_NAMES).read_text(encoding="utf-8").split("\n")[: IGNORED - 1])
    values = [read_values(path) for path in labels]
    highest = max((int(value[value < IGNORED].max(initial=0)) for value in values), default=0)
    return tuple(map(str, range(highest + 1)))


def square(image: Array, labels: Array, size: int) -> tuple[Array, Array]:
    """Resize an image and its labels so that the shorter side has ``size`` pixels, and keep the middle.

    Args:
        image: H×W×3 uint8.
        labels: H×W uint8; they are resized by the nearest pixel.
        size: Side of the result in pixels.

    Returns:
        size×size×3 and size×size, uint8.
    """
    pictures = (Image.fromarray(image), Image.Resampling.BICUBIC), (Image.fromarray(labels), Image.Resampling.NEAREST)
    fitted = [np.asarray(ImageOps.fit(picture, (size, size), how)) for picture, how in pictures]
    return fitted[0], fitted[1]
