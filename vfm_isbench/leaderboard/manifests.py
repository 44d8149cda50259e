"""What is known of each test set: its objects, and the hash of its content.

The embedded scenes are known exactly. Of GrabCut, Berkeley, DAVIS and SBD the published numbers are known, and the form
of their object ids; their pixels are in nobody's package, so that entries are held against each other instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from vfm_isbench.datasets.download.sources import SOURCES
from vfm_isbench.datasets.scenes.dataset import ScenesDataset
from vfm_isbench.runs.measure import content_sha256
from vfm_isbench.types import ObjectId


@dataclass(frozen=True, slots=True)
class ObjectManifest:
    """What a test set must be.

    Attributes:
        name: Data set.
        n_objects: Objects it has.
        n_images: Images they lie in, at most.
        has_instances: Whether its objects are told apart by an instance number.
        objects: Its objects in order; None where they are not known here.
        image_size: (height, width) of its images in pixels; None where they differ or are not known.
    """

    name: str
    n_objects: int
    n_images: int
    has_instances: bool
    objects: tuple[ObjectId, ...] | None = None
    image_size: tuple[int, int] | None = None

    def count(self, limit: int | None) -> int:
        """Objects that are evaluated with a limit, or without."""
        return self.n_objects if limit is None else min(limit, self.n_objects)

    def content_sha256(self, count: int) -> str | None:
        """Hash of the content of its first objects; None where it is not known here."""
        return _scenes_sha256(count) if self.objects is not None else None


@lru_cache(maxsize=1)
def _scenes() -> ScenesDataset:
    return ScenesDataset(split="test")


@lru_cache(maxsize=32)
def _scenes_sha256(count: int) -> str:
    return content_sha256(_scenes(), _scenes().objects[:count])


@lru_cache(maxsize=32)
def manifest_of(dataset: str) -> ObjectManifest | None:
    """What is known of a test set; None for one that this library does not know."""
    if dataset == "scenes":
        scenes = _scenes()
        objects = tuple(scenes.objects)
        return ObjectManifest(dataset, len(objects), len(scenes), True, objects, scenes.image_size)
    if dataset not in SOURCES:
        return None
    counts = SOURCES[dataset].counts
    split = counts.get("test") or counts["val"]
    # Berkeley stores a photograph with two objects twice, so that no image holds more than one.
    single = "test" in counts
    return ObjectManifest(dataset, split.objects, split.objects if single else split.images, not single)
