"""What the library knows about each test set: its objects, and the hash of its content.

The embedded scenes are known exactly. Of the published data sets only the numbers and the format of the object ids are
known: their pixels cannot be shipped, so entries are checked against each other instead. Nothing is known of data sets
for which publications give different numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from vfm_isbench.datasets.content import content_sha256
from vfm_isbench.datasets.download.sources import SOURCES
from vfm_isbench.datasets.sbd_sample import SAMPLE_SIZE, SbdSample
from vfm_isbench.datasets.scenes.dataset import ScenesDataset
from vfm_isbench.datasets.scenes.embedded import EMBEDDED
from vfm_isbench.types import ObjectId


@dataclass(frozen=True, slots=True)
class ObjectManifest:
    """What a test set must contain.

    Attributes:
        name: Data set.
        n_objects: Number of objects.
        n_images: Largest number of images.
        has_instances: Whether an instance number distinguishes the objects of an image.
        objects: The objects in order; None if unknown.
        image_size: (height, width) of the images in pixels; None if they differ or are unknown.
    """

    name: str
    n_objects: int
    n_images: int
    has_instances: bool
    objects: tuple[ObjectId, ...] | None = None
    image_size: tuple[int, int] | None = None

    def count(self, limit: int | None) -> int:
        """Number of objects that are evaluated, with or without a limit."""
        return self.n_objects if limit is None else min(limit, self.n_objects)

    def content_sha256(self, count: int) -> str | None:
        """Hash of the content of its first ``count`` objects; None if unknown."""
        return _scenes_sha256(self.name, count) if self.objects is not None else None


@lru_cache(maxsize=len(EMBEDDED))
def _scenes(name: str) -> ScenesDataset:
    return EMBEDDED[name].open(name, "test")


@lru_cache(maxsize=32)
def _scenes_sha256(name: str, count: int) -> str:
    return content_sha256(_scenes(name), _scenes(name).objects[:count])


@lru_cache(maxsize=32)
def manifest_of(dataset: str) -> ObjectManifest | None:
    """The manifest of a test set; None if this library does not know it."""
    if dataset in EMBEDDED:
        scenes = _scenes(dataset)
        objects = tuple(scenes.objects)
        return ObjectManifest(dataset, len(objects), len(scenes), True, objects, scenes.image_size)
    if dataset == SbdSample.name:
        return ObjectManifest(dataset, SAMPLE_SIZE, SAMPLE_SIZE, True)
    if dataset not in SOURCES:
        return None
    source = SOURCES[dataset]
    if source.disputed_objects:
        return None
    split = source.counts.get("test") or source.counts["val"]
    # Berkeley stores a photograph with two objects twice, so no image has more than one.
    images = split.images if source.has_instances else split.objects
    return ObjectManifest(dataset, split.objects, images, source.has_instances)
