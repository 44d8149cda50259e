"""Checks of what a data set says and returns, so that a fault of its reader never becomes a number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from vfm_isbench.datasets.files import some_names
from vfm_isbench.errors import DataError
from vfm_isbench.types import IGNORE, AnnotatedImage, Array, ObjectId

LARGEST_LABEL = int(np.iinfo(np.int32).max)

VOID_LABEL = 255
"""What many label files, those of PASCAL VOC for example, write for pixels to ignore."""


def checked_sample(dataset: str, image_id: str, sample: object) -> AnnotatedImage:
    """Check an image and its labels as a data set returned them.

    Args:
        dataset: Name of the data set, for messages.
        image_id: The id that the data set was asked for.
        sample: What it returned.

    Returns:
        The sample, with int32 labels; pixels and labels are otherwise unchanged.

    Raises:
        DataError: unless the sample is an :class:`~vfm_isbench.types.AnnotatedImage` of that id whose image is H×W×3
            uint8, and whose labels are H×W whole numbers from -1 to the largest int32, without 255 in uint8 labels;
            and unless every part lies within one object, or one part of the level above it.
    """
    where = f"data set {dataset!r}, image {image_id!r}"
    if not isinstance(sample, AnnotatedImage):
        raise DataError(
            f"{where}: read() returned something of type {type(sample).__name__}, expected an "
            "AnnotatedImage(image_id, image, labels)."
        )
    if sample.image_id != image_id:
        raise DataError(f"{where}: read() returned the image {sample.image_id!r}, expected the one it was asked for.")
    _check_image(where, sample.image)
    labels = _checked_labels(where, sample.labels, sample.image.shape[:2])
    parts = tuple(_checked_labels(where, each, sample.image.shape[:2]) for each in sample.parts)
    if parts:
        check_nested(where, (labels, *parts))
    is_same = all(new is old for new, old in zip((labels, *parts), (sample.labels, *sample.parts), strict=True))
    return sample if is_same else AnnotatedImage(image_id, sample.image, labels, parts)


def check_nested(where: str, levels: Sequence[Array]) -> None:
    """Check that every part lies within one object, or within one part of the level above it.

    Args:
        where: What the message begins with.
        levels: Label maps H×W of whole objects, their parts, parts of these, and so on.

    Raises:
        DataError: if a part does not, or a label is that of two things.
    """
    seen: set[int] = set()
    for number, labels in enumerate(levels):
        found = [int(label) for label in np.unique(labels) if label > 0]
        if number:
            above, twice = levels[number - 1], sorted(seen.intersection(found))
            if twice:
                raise DataError(
                    f"{where}: the label {twice[0]} is that of a part and of something it may belong to. Expected "
                    "other labels in each level, such as 1, 2, … for objects and 100001, 100002, … for their parts."
                )
            for label in found:
                owners = np.unique(above[labels == label])
                if len(owners) != 1 or owners[0] <= 0:
                    raise DataError(
                        f"{where}: part {label} of level {number} does not lie within one label of the level above: "
                        f"there are {some_names(map(str, owners.tolist()))} at its pixels. Expected nested masks; cut "
                        "the part at the border of its object, or split it."
                    )
        seen.update(found)


def _check_image(where: str, image: object) -> None:
    if not isinstance(image, np.ndarray):
        raise DataError(f"{where}: the image is of type {type(image).__name__}, expected a numpy array.")
    if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8 and image.size > 0:
        return
    if image.dtype == np.uint8:
        advice = "Repeat a gray channel three times; drop an alpha channel."
    else:
        low, high = (image.min(), image.max()) if image.size > 0 else ("nothing", "nothing")
        advice = (
            f"Its values go from {low} to {high}: scale them to 0 … 255, round, and convert with .astype(np.uint8)."
        )
    raise DataError(
        f"{where}: the image has shape {image.shape} and type {image.dtype}, expected H×W×3 (RGB) of type uint8. "
        f"{advice}"
    )


def _checked_labels(where: str, labels: object, shape: tuple[int, ...]) -> Array:
    if not isinstance(labels, np.ndarray):
        raise DataError(f"{where}: the labels are of type {type(labels).__name__}, expected a numpy array.")
    if labels.shape != shape:
        raise DataError(
            f"{where}: the labels have shape {labels.shape}, but the image has {shape[0]}×{shape[1]} pixels. Expected "
            "one label per pixel (H×W); do not resize labels, and drop extra axes."
        )
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"{where}: the labels have type {labels.dtype}, expected whole numbers: 0 background, k > 0 instance k, "
            f"{IGNORE} ignore. Convert them with .astype(np.int32)."
        )
    low, high = int(labels.min()), int(labels.max())
    if low < IGNORE or high > LARGEST_LABEL:
        raise DataError(
            f"{where}: the labels contain {low if low < IGNORE else high}, expected {IGNORE} to {LARGEST_LABEL}. "
            "Number the instances of each image from 1."
        )
    if labels.dtype == np.uint8 and high == VOID_LABEL:
        raise DataError(
            f"{where}: the uint8 labels contain {VOID_LABEL}, which usually means pixels to ignore, and would count as "
            f"an instance. Convert the labels with .astype(np.int32), then set those pixels to {IGNORE}. If "
            f"{VOID_LABEL} is an instance, the conversion is enough."
        )
    return labels.astype(np.int32, copy=False)


def check_image_ids(dataset: str, image_ids: Iterable[object]) -> None:
    """Check the image ids of a data set.

    Raises:
        DataError: if there is none, one is no text, or one is repeated.
    """
    ids = list(image_ids)
    if not ids:
        raise DataError(f"data set {dataset!r} has no images: image_ids is empty. Check its folder.")
    no_text = [repr(image_id) for image_id in ids if not isinstance(image_id, str)]
    if no_text:
        raise DataError(f"data set {dataset!r}: image_ids contains {some_names(no_text)}, expected texts (str).")
    _check_unique(f"data set {dataset!r}: image_ids", [str(image_id) for image_id in ids])


def check_objects(dataset: str, objects: Sequence[object]) -> None:
    """Check the list of objects of a data set.

    Raises:
        DataError: if an entry is no :class:`~vfm_isbench.types.ObjectId`, or two read the same.
    """
    foreign = [repr(each) for each in objects if not isinstance(each, ObjectId)]
    if foreign:
        raise DataError(
            f"data set {dataset!r}: objects contains {some_names(foreign)}, expected ObjectId(image, instance)."
        )
    # By their text, because that is what results and evidence files hold.
    _check_unique(f"data set {dataset!r}: objects", [str(each) for each in objects])


def _check_unique(what: str, names: Sequence[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(
            f"{what} contains {some_names(repeated)} more than once, and the scores would count it as often. "
            "Expected each only once; remove the repetition."
        )
