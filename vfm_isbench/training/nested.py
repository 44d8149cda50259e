"""Objects and their parts as one label map, so that a single augmentation moves all of them together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from vfm_isbench.types import AnnotatedImage, Array


class NestedTargets:
    """The objects and parts of an image, numbered from 1.

    Masks are nested, so the smallest thing that a pixel belongs to says everything about it: a label map of these is
    enough, and an object or a part is a set of labels in it.

    Args:
        sample: An image with parts.
        usable: Labels of the objects and parts that may be targets; the others count as background, or as what they are
            part of.

    Attributes:
        labels: H×W int32: number of the smallest usable object or part at each pixel, 0 for none.
        level: Level of each number: 0 whole objects, 1 their parts, and so on.
    """

    def __init__(self, sample: AnnotatedImage, usable: Iterable[int]) -> None:
        known = sorted(usable)
        maps = [np.where(np.isin(labels, known), labels, 0) for labels in (sample.labels, *sample.parts)]
        finest: Array = maps[0]
        for labels in maps[1:]:
            finest = np.where(labels > 0, labels, finest)
        self.labels: Array = np.searchsorted([0, *known], finest).astype(np.int32)
        self.level: dict[int, int] = {}
        self._pieces: dict[int, list[int]] = {}
        self._whole: dict[int, int] = {}
        for level, labels in enumerate(maps):
            for label in np.unique(labels[labels > 0]):
                number = known.index(int(label)) + 1
                mask = labels == label
                self.level[number] = level
                self._pieces[number] = np.unique(self.labels[mask]).tolist()
                self._whole[number] = int(sample.labels[mask][0])
        self._areas = np.bincount(self.labels.ravel(), minlength=len(known) + 1)
        self._whole_areas = dict(zip(*np.unique(sample.labels, return_counts=True), strict=True))

    def visible(self, labels: Array, least_area: int) -> list[int]:
        """Numbers of what still covers so many pixels (at least one) of a label map made from :attr:`labels`."""
        areas = np.bincount(labels.ravel(), minlength=len(self._areas))
        return [number for number, pieces in self._pieces.items() if areas[pieces].sum() >= max(least_area, 1)]

    def mask(self, labels: Array, number: int) -> Array:
        """Where an object or part is in a label map made from :attr:`labels`: H×W booleans."""
        mask: Array = np.isin(labels, self._pieces[number])
        return mask

    def granularity(self, numbers: Sequence[int]) -> float:
        """Share of the area of their whole objects that some things of one level cover together; 1 for none.

        Areas are those in the image, so that a crop does not change the value. See :meth:`AnnotatedImage.granularity`.
        """
        wholes = {self._whole[number] for number in numbers}
        if not wholes:
            return 1.0
        covered = sum(int(self._areas[self._pieces[number]].sum()) for number in numbers)
        return float(covered / sum(int(self._whole_areas[whole]) for whole in wholes))
