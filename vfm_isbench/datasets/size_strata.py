"""Drawing a fixed sample of objects that keeps the distribution of their sizes, without random numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from vfm_isbench.types import ObjectId


def sample_by_size(areas: Mapping[ObjectId, int], count: int) -> list[ObjectId]:
    """Choose objects so that every size is as frequent among them as among all objects.

    The objects are sorted by area, the sorted list is cut into ``count`` strata of equal length (up to one object), and
    of every stratum the object is chosen whose id has the smallest SHA-256. So ids and areas alone decide the choice:
    it needs no seed, and is the same on every machine and in every version of every library.

    Args:
        areas: Area of every object in pixels, in the order of the data set.
        count: Number of objects to choose; if there are fewer, all of them are chosen.

    Returns:
        The chosen objects, in the order of the data set.

    >>> areas = {ObjectId("a", 1): 10, ObjectId("a", 2): 900, ObjectId("b", 1): 11, ObjectId("b", 2): 901}
    >>> [areas[chosen] for chosen in sample_by_size(areas, 2)]
    [10, 900]
    """
    count = min(count, len(areas))
    by_size = sorted(areas, key=lambda object_id: (areas[object_id], str(object_id)))
    cuts = [len(by_size) * number // count for number in range(count + 1)] if count else []
    strata = [by_size[start:stop] for start, stop in zip(cuts, cuts[1:], strict=False)]
    chosen = {min(stratum, key=_order) for stratum in strata}
    return [object_id for object_id in areas if object_id in chosen]


def list_sha256(objects: Iterable[ObjectId]) -> str:
    """SHA-256 (hex) of a list of objects: of its ids in UTF-8, one per line, in order."""
    return hashlib.sha256("".join(f"{object_id}\n" for object_id in objects).encode()).hexdigest()


def _order(object_id: ObjectId) -> str:
    return hashlib.sha256(str(object_id).encode()).hexdigest()
