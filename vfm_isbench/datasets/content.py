"""Identity of what is evaluated: hashes of images and of whole data sets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby

from tqdm.auto import tqdm

from vfm_isbench.datasets.base import ObjectDataset, read_sample
from vfm_isbench.types import AnnotatedImage, ObjectId


class ContentHash:
    """Hash over the ids, image pixels and label maps of objects, in evaluation order."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._last_image: str | None = None

    def add(self, object_id: ObjectId, sample: AnnotatedImage) -> None:
        """Add an object; consecutive objects of one image add that image only once."""
        self._digest.update(str(object_id).encode())
        if object_id.image != self._last_image:
            self._last_image = object_id.image
            self._digest.update(repr(sample.image.shape).encode())
            self._digest.update(sample.image.tobytes())
            for labels in (sample.labels, *sample.parts):
                self._digest.update(labels.tobytes())

    def hexdigest(self) -> str:
        """SHA-256, hexadecimal."""
        return self._digest.hexdigest()


def image_sha256(sample: AnnotatedImage) -> str:
    """Hash over the pixels and labels of one image."""
    digest = hashlib.sha256(repr(sample.image.shape).encode())
    digest.update(sample.image.tobytes())
    for labels in (sample.labels, *sample.parts):
        digest.update(labels.tobytes())
    return digest.hexdigest()


def content_sha256(dataset: ObjectDataset, objects: Sequence[ObjectId], progress: bool = False) -> str:
    """The :class:`ContentHash` of a data set's objects, without an evaluation."""
    content = ContentHash()
    with tqdm(total=len(objects), desc=f"reading {dataset.name}", unit="object", disable=not progress) as bar:
        for image, of_image in groupby(objects, key=lambda object_id: object_id.image):
            sample = read_sample(dataset, image)
            for object_id in of_image:
                content.add(object_id, sample)
                bar.update()
    return content.hexdigest()
