"""SBD (Hariharan et al. 2011): photographs with several instances each, for training and as a test set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from scipy.ndimage import binary_dilation, find_objects
from tqdm.auto import tqdm

from vfm_isbench.datasets import mat_files
from vfm_isbench.datasets.base import ObjectDataset
from vfm_isbench.datasets.files import (
    BROKEN_FILE_ERRORS,
    check_layout,
    check_same_size,
    read_plain_pickle,
    read_rgb,
    some_names,
)
from vfm_isbench.datasets.sample_checks import VOID_LABEL
from vfm_isbench.errors import DataError
from vfm_isbench.storage.hashing import hash_file
from vfm_isbench.storage.strict_json import UnreadableError, read_regular_file
from vfm_isbench.types import AnnotatedImage, Array, ObjectId

SAMPLE_WEIGHTS_SHA256 = "5c2891a0d217737ef5cb94ebd8013394095cdb43ef897c82ffa05a097bb44258"
"""Hash of ``sbd_samples_weights.pkl``, in the folder ``assets/`` of the RITM and iSegProbe repositories."""

LARGEST_INSTANCE = 65535
"""Largest label that is read; published files number the instances of an image from 1, in 8 bits."""

SILENT_UP_TO = 200
"""Number of images listed without a progress bar: less than a second of work."""


class SbdDataset(ObjectDataset):
    """One split of SBD in its original layout: ``img/NAME.jpg``, ``inst/NAME.mat``, ``train.txt``, ``val.txt``.

    An image id is the name without suffix; the order is that of the split file. Every instance is a separate object.
    The original release (``benchmark_RELEASE/dataset``) has this layout too; other folders are ignored.

    Args:
        root: The data set's folder, ``data_root / "SBD"``.
        split: "train" (8498 images) or "val" (2857).
        min_fill_ratio: Training leaves out instances that fill less than this share of their bounding box, as broken
            masks. The default is RITM's; evaluation keeps them, like RITM.

    Raises:
        DataError: if a folder, the split file, an image or an instance file is missing, or the split file is empty or
            names an image twice.
    """

    name = "sbd"
    folder: ClassVar[str] = "SBD"

    def __init__(self, root: Path, split: Literal["train", "val"], min_fill_ratio: float = 0.08) -> None:
        root = Path(root)
        if split not in ("train", "val"):
            raise DataError(f"SBD has no split {split!r}. Known: train, val.")
        if not 0 <= min_fill_ratio <= 1:
            raise DataError(f"min_fill_ratio is {min_fill_ratio}, expected a share of the bounding box, 0 to 1.")
        check_layout(root, folders=("img", "inst"), files=(f"{split}.txt",))
        self.root = root
        self.split = split
        self.min_fill_ratio = min_fill_ratio
        self._image_ids = read_split(root / f"{split}.txt")
        self._known = frozenset(self._image_ids)
        for folder, suffix in (("img", ".jpg"), ("inst", ".mat")):
            # One listing instead of thousands of lookups, which are slow on network drives.
            present = {path.name for path in (root / folder).iterdir() if not path.is_symlink() or path.is_file()}
            missing = [name for name in self._image_ids if name + suffix not in present]
            if missing:
                raise DataError(
                    f"{root / folder}: no file for {some_names(name + suffix for name in missing)}, which "
                    f"{root / f'{split}.txt'} lists. Check that the data set was unpacked completely, and that "
                    "links lead to files."
                )

    @property
    def image_ids(self) -> Sequence[str]:
        """Names without suffix, in the order of the split file."""
        return self._image_ids

    @cached_property
    def objects(self) -> Sequence[ObjectId]:
        """Every instance, image by image, in ascending order of its label.

        The first use reads all instance files (a few seconds for val), with a progress bar. It writes nothing into the
        data set, and ignores lists that other programs have left there.
        """
        return [
            ObjectId(image_id, label)
            for image_id in self.listed(f"listing the objects of SBD {self.split}")
            for label in np.unique(self.read_labels(image_id)).tolist()
            if label > 0
        ]

    def listed(self, title: str) -> Iterable[str]:
        """The ids of all images, with a progress bar if there are many."""
        is_short = len(self._image_ids) <= SILENT_UP_TO
        return tqdm(self._image_ids, desc=title, unit="image", leave=False, disable=is_short)

    def read(self, image_id: str) -> AnnotatedImage:
        """Read one image and its instances.

        Raises:
            DataError: if the id is unknown, a file is broken, the two differ in size, or, in val, there is no instance.
        """
        labels = self.read_labels(image_id)
        image_path = self.root / "img" / f"{image_id}.jpg"
        image = read_rgb(image_path)
        check_same_size(image_path, image, self._instance_path(image_id), labels)
        return AnnotatedImage(image_id, image, labels)

    def instances_for_training(self, sample: AnnotatedImage) -> list[int]:
        """Instances of ``sample`` that fill at least :attr:`min_fill_ratio` of their bounding box, ascending.

        The ratio refers to whole images as read: cropping changes bounding boxes.
        """
        ratios = fill_ratios(sample.labels)
        return [label for label, ratio in ratios.items() if ratio >= self.min_fill_ratio]

    def _instance_path(self, image_id: str) -> Path:
        return self.root / "inst" / f"{image_id}.mat"

    def read_labels(self, image_id: str) -> Array:
        """The instances of one image, H×W int32, without reading the image; raises errors like :meth:`read`."""
        if image_id not in self._known:
            raise DataError(
                f"{self.root}: no image {image_id!r} in split {self.split}. Its ids are names without suffix: "
                f"{some_names(self._image_ids)}."
            )
        path = self._instance_path(image_id)
        labels = read_instances(path)
        if self.split == "val" and not (labels > 0).any():
            raise DataError(
                f"{path}: has no instance, but every image of val has one. The file is damaged or belongs to another "
                f"data set; download it again, or remove {image_id} from {self.root / 'val.txt'}."
            )
        return labels


def read_split(path: Path) -> list[str]:
    """Image names of a split file, one per line.

    Raises:
        DataError: if it cannot be read, is empty, or names an image twice.
    """
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a list of image names ({error}).") from error
    if not names:
        raise DataError(f"{path}: empty, expected one image name (without suffix) per line.")
    if len(set(names)) < len(names):
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        raise DataError(f"{path}: names {some_names(twice)} more than once. Remove the repeated lines.")
    return names


def read_instances(path: Path) -> Array:
    """Read the instance labels of one image, ``GTinst.Segmentation`` of a MATLAB file.

    Returns:
        H×W, int32: 0 background, k > 0 instance k. SBD has no pixels to ignore.

    Raises:
        DataError: if the file is missing or broken, has other contents, or marks borders with 255.
    """
    try:
        labels = mat_files.read_field(read_regular_file(path, mat_files.MOST_BYTES), "GTinst", "Segmentation")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Check that the data set was unpacked completely.") from error
    except KeyError as error:
        raise DataError(
            f"{path}: has no variable GTinst, expected SBD's instances (folder inst/, not cls/). "
            "Check where the file comes from."
        ) from error
    except (*BROKEN_FILE_ERRORS, UnreadableError) as error:
        raise DataError(
            f"{path}: cannot be read as SBD's instances, GTinst.Segmentation in a MATLAB 5 file "
            f"({type(error).__name__}: {error}). The file is damaged or incomplete; download it again."
        ) from error
    if labels.ndim != 2 or labels.dtype.kind not in "iub" or (labels.size > 0 and int(labels.min()) < 0):
        raise DataError(
            f"{path}: GTinst.Segmentation has shape {labels.shape} and type {labels.dtype}, expected rows × columns of "
            "whole numbers from 0. Check where the file comes from."
        )
    if labels.size > 0 and int(labels.max()) > LARGEST_INSTANCE:
        raise DataError(
            f"{path}: GTinst.Segmentation contains {int(labels.max())}, expected labels up to {LARGEST_INSTANCE}. "
            "Check where the file comes from."
        )
    if _has_void_border(labels):
        raise DataError(
            f"{path}: GTinst.Segmentation contains {VOID_LABEL} where PASCAL VOC draws the borders of its objects, but "
            "SBD has no borders, and they would count as an object. Use SBD's own file, or set these pixels to 0."
        )
    return labels.astype(np.int32)


def _has_void_border(labels: Array) -> bool:
    """Whether 255 outlines other instances, or has an outline's shape; otherwise it is an instance like any other."""
    void = labels == VOID_LABEL
    if not void.any():
        return False
    beside = binary_dilation(void, np.ones((3, 3))) & ~void
    return bool((labels[beside] > 0).any()) or fill_ratios(void.astype(np.int32))[1] < 0.5


def fill_ratios(labels: Array) -> dict[int, float]:
    """Share of its bounding box that each instance fills.

    Args:
        labels: H×W, int32: 0 background, k > 0 instance k, -1 ignore.

    Returns:
        Area / bounding-box area, in (0, 1], by label in ascending order.
    """
    boxes = find_objects(np.maximum(labels, 0))
    return {label: float((labels[box] == label).mean()) for label, box in enumerate(boxes, start=1) if box is not None}


def is_published_sample_weights(path: Path) -> bool:
    """Whether a file is RITM's ``sbd_samples_weights.pkl``, byte for byte."""
    try:
        return hash_file(path) == SAMPLE_WEIGHTS_SHA256
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}).") from error


def read_sample_weights(path: Path, image_ids: Sequence[str], gamma: float = 1.25) -> Array:
    """Read the probability of drawing each training image: p ∝ (1 - score)^gamma.

    The file is RITM's ``sbd_samples_weights.pkl``, a pickled list of (index, name, score). Reading it runs none of its
    code (see :func:`~vfm_isbench.datasets.files.read_plain_pickle`). Names outside ``image_ids`` are ignored, so that
    training on a part of the data set works.

    Args:
        path: The score file.
        image_ids: Names of the images to draw from.
        gamma: Exponent; 0 makes all images equally likely.

    Returns:
        Probabilities in the order of ``image_ids``: float64, summing to 1.

    Raises:
        DataError: if the file is broken, refers to anything but plain values, has another structure or scores outside
            [0, 1], lacks an image of ``image_ids``, or gives all of them probability 0.
    """
    if not (math.isfinite(gamma) and gamma >= 0):
        raise DataError(f"gamma is {gamma}, expected a number of at least 0.")
    scores = _scores_by_name(path, read_plain_pickle(path))
    missing = [name for name in image_ids if name not in scores]
    if missing:
        raise DataError(
            f"{path}: has no score for {len(missing)} of {len(image_ids)} images: {some_names(missing)}. Use this data "
            "set's score file, or train without one (every image equally likely)."
        )
    weights = (1.0 - np.array([scores[name] for name in image_ids], dtype=np.float64)) ** gamma
    if not weights.sum() > 0:
        raise DataError(f"{path}: every image has score 1, and so probability 0; expected scores below 1.")
    return np.asarray(weights / weights.sum())


def _scores_by_name(path: Path, content: object) -> dict[str, float]:
    expected = "expected a list of (index, name, score)"
    if not isinstance(content, list | tuple):
        raise DataError(f"{path}: holds a {type(content).__name__}, {expected}.")
    scores: dict[str, float] = {}
    for position, entry in enumerate(content):
        try:
            _index, name, raw_score = entry
            score = float(np.asarray(raw_score, dtype=np.float64).item())
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: entry {position} is {entry!r:.200}, {expected}.") from error
        if not isinstance(name, str):
            raise DataError(f"{path}: entry {position} has the name {name!r:.200}, {expected} with a text as name.")
        if not 0 <= score <= 1:
            raise DataError(f"{path}: the score of {name!r} is {score}, expected 0 to 1.")
        if name in scores:
            raise DataError(f"{path}: has more than one score for {name!r}. Use the file as it was published.")
        scores[name] = score
    return scores
