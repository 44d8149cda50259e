"""Selects the objects to show: the worst, the best, or given ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vfm_isbench.errors import PictureError
from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.results import DatasetResult
from vfm_isbench.types import ObjectEvidence

MOST_OBJECTS = 100
"""Largest number of objects on one sheet."""


def worst_objects(found: DatasetResult, count: int, percent: int = 90) -> list[ObjectEvidence]:
    """The objects that need the most clicks for an IoU in percent; among equals, those with the lowest last IoU first.

    An object that was stopped early below that IoU needs more clicks than were placed; it is ranked by placed + 1.

    Raises:
        PictureError: if ``count`` is out of range.
    """
    return _ranked(found, count, percent)[::-1][:count]


def best_objects(found: DatasetResult, count: int, percent: int = 90) -> list[ObjectEvidence]:
    """The opposite of :func:`worst_objects`: the fewest clicks, and among equals the highest last IoU, first."""
    return _ranked(found, count, percent)[:count]


def _ranked(found: DatasetResult, count: int, percent: int) -> list[ObjectEvidence]:
    if not 1 <= count <= MOST_OBJECTS:
        raise PictureError(f"{count} objects asked for; a sheet shows 1 … {MOST_OBJECTS}")

    def key(evidence: ObjectEvidence) -> tuple[int, float]:
        ious = np.array([iou for iou in evidence.ious if not np.isnan(iou)])
        reached = np.flatnonzero(ious >= percent / 100)
        return int(reached[0]) + 1 if len(reached) else len(ious) + 1, -float(ious[-1])

    return sorted(found.objects, key=key)


def find_objects(found: DatasetResult, names: Sequence[str]) -> list[ObjectEvidence]:
    """Objects by id: "IMAGE:INSTANCE", or "IMAGE" for all objects of an image.

    Raises:
        UnknownNameError: if there is no such object.
        PictureError: if there are too many.
    """
    chosen: list[ObjectEvidence] = []
    for name in names:
        fits = [evidence for evidence in found.objects if name in (str(evidence.object_id), evidence.object_id.image)]
        if not fits:
            raise _unknown(found, name)
        chosen += [evidence for evidence in fits if evidence not in chosen]
    if len(chosen) > MOST_OBJECTS:
        raise PictureError(f"{len(chosen)} objects asked for; a sheet shows at most {MOST_OBJECTS}")
    return chosen


def _unknown(found: DatasetResult, name: str) -> Exception:
    known = [str(evidence.object_id) for evidence in found.objects]
    shown = known if len(known) <= MOST_OBJECTS else [*known[:3], "…", *known[-3:]]
    return unknown_name(f"object of {found.name}", name, shown, "Ids are IMAGE or IMAGE:INSTANCE.")
