"""Scenes whose objects consist of parts, each with a smaller part inside: three levels of nested masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from scipy import ndimage

from vfm_isbench.datasets.scenes.dataset import ScenesDataset
from vfm_isbench.datasets.scenes.draws import pick
from vfm_isbench.datasets.scenes.layout import PlacedObject
from vfm_isbench.datasets.scenes.painting import paint
from vfm_isbench.types import PART_LABELS, AnnotatedImage, Array, ObjectId

_LEAST_PART, _LEAST_INNER = 0.004, 0.0015
"""Smallest visible area of a part, and of a part of a part, as a share of the image: 170 and 65 px of 180×240."""


class PartScenes(ScenesDataset):
    """Scenes as of :class:`ScenesDataset`, but every object is cut into two or three parts with surfaces of their own.

    Each part has a rounded patch inside, which is a part of the part. Whole objects are labelled 1, 2, …, as there;
    parts 100001, 100002, …; the patches 200001, 200002, …. Parts of which too little is visible have no label.
    """

    name = "part_scenes"
    has_parts = True

    @cached_property
    def objects(self) -> Sequence[ObjectId]:
        """Every object, part and part of a part, image by image; lays the scenes out without painting them."""
        return [
            ObjectId(image_id, label)
            for image_id in self.image_ids
            for labels in self._nested(image_id)[2]
            for label in np.unique(labels[labels > 0]).tolist()
        ]

    def read(self, image_id: str) -> AnnotatedImage:
        """Draw a scene, or return it from memory; see :meth:`ScenesDataset.read`."""
        if image_id not in self._drawn:
            objects, regions, levels = self._nested(image_id)
            image, _ = paint(self._rng(image_id, "pixels"), objects, self.image_size, self.style, regions)
            for array in (image, *levels):
                array.flags.writeable = False
            self._drawn[image_id] = AnnotatedImage(image_id, image, levels[0], tuple(levels[1:]))
        return self._drawn[image_id]

    def _nested(self, image_id: str) -> tuple[list[PlacedObject], list[Array], list[Array]]:
        """Objects, their regions, and the label maps of the three levels."""
        objects, labels = self._lay_out(image_id)
        rng = self._rng(image_id, "parts")
        regions = [cut(rng, thing.coverage >= 0.5) for thing in objects]
        return objects, regions, [labels, *label_parts(objects, regions, labels)]


def cut(rng: np.random.Generator, mask: Array) -> Array:
    """Cut an object into two or three parts around its middle, and put a rounded patch into each.

    Args:
        rng: Source of all draws.
        mask: H×W booleans.

    Returns:
        H×W int32: 2·k in part k, 2·k + 1 in its patch, for every pixel of the window.
    """
    count = pick(rng, 2, 3)
    rows, cols = np.nonzero(mask)
    # Rays from a point near the middle, so that no part is a sliver.
    centre = np.array([rows.mean(), cols.mean()]) + (rng.random(2) - 0.5) * 0.3 * np.sqrt(len(rows))
    first = rng.random() * 2 * np.pi
    rays = np.sort((first + (np.arange(count) + 0.3 * (rng.random(count) - 0.5)) * 2 * np.pi / count) % (2 * np.pi))
    row, col = np.indices(mask.shape)
    angle = np.arctan2(row - centre[0], col - centre[1]) % (2 * np.pi)
    part = np.searchsorted(rays, angle) % count
    regions: Array = (2 * part).astype(np.int32)
    for number in range(count):
        depth = ndimage.distance_transform_edt(np.pad(mask & (part == number), 1))[1:-1, 1:-1]
        deepest = np.unravel_index(int(depth.argmax()), depth.shape)
        radius = float(depth[deepest]) * (0.6 + 0.25 * rng.random())
        turn = rng.random() * 2 * np.pi
        around = np.arctan2(row - deepest[0], col - deepest[1])
        reach = radius * (1 + 0.12 * np.cos(3 * around + turn))
        regions[(np.hypot(row - deepest[0], col - deepest[1]) < reach) & (part == number)] += 1
    return regions


def label_parts(objects: Sequence[PlacedObject], regions: Sequence[Array], labels: Array) -> tuple[Array, Array]:
    """Label what is visible of the parts, and of the patches in them.

    Args:
        objects: The objects, whose labels are 1, 2, ….
        regions: Their :func:`cut`.
        labels: H×W, labels of the whole objects.

    Returns:
        The labels of parts and of patches, both H×W int32, each nested in the level above it.
    """
    parts, patches = np.zeros_like(labels), np.zeros_like(labels)
    size = (labels.shape[0], labels.shape[1])
    for number, (thing, region) in enumerate(zip(objects, regions, strict=True), start=1):
        in_image, in_window = thing.inside(size)
        is_own, own = labels[in_image] == number, region[in_window]
        for part in range(int(region.max()) // 2 + 1):
            is_part = is_own & (own // 2 == part)
            if np.count_nonzero(is_part) < _LEAST_PART * labels.size:
                continue
            parts[in_image][is_part] = max(parts.max(), PART_LABELS) + 1
            is_patch = is_part & (own % 2 == 1)
            if np.count_nonzero(is_patch) >= _LEAST_INNER * labels.size:
                patches[in_image][is_patch] = max(patches.max(), 2 * PART_LABELS) + 1
    return parts, patches
