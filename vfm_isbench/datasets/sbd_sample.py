"""A fixed sample of the objects of SBD's validation images, as a test set of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from vfm_isbench.datasets.sbd import SbdDataset
from vfm_isbench.datasets.size_strata import sample_by_size
from vfm_isbench.types import ObjectId

SAMPLE_SIZE = 600
"""Objects of the sample. A sample of another size, or drawn by another rule, gets another name."""


class SbdSample(SbdDataset):
    """600 of the 6671 objects of SBD val, chosen by :func:`~vfm_isbench.datasets.size_strata.sample_by_size`.

    The list follows from ids and areas, so it is the same for everyone who has SBD; ``vfm-isbench data objects sbd600``
    prints it. Scores on it are not scores on SBD, hence the name of its own.

    Args:
        root: The folder of SBD, ``data_root / "SBD"``.
    """

    name = "sbd600"

    def __init__(self, root: Path) -> None:
        super().__init__(root, "val")

    @cached_property
    def areas(self) -> dict[ObjectId, int]:
        """Area in pixels of every object of SBD val, in its order; reads all instance files."""
        found: dict[ObjectId, int] = {}
        for image_id in self.listed("measuring the objects of SBD val"):
            pixels = np.bincount(self.read_labels(image_id).ravel())
            found |= {ObjectId(image_id, int(label)): int(pixels[label]) for label in np.flatnonzero(pixels) if label}
        return found

    @cached_property
    def objects(self) -> Sequence[ObjectId]:
        """The objects of the sample, in the order of SBD."""
        chosen = sample_by_size(self.areas, SAMPLE_SIZE)
        if len(chosen) < SAMPLE_SIZE:
            self.notes = (*self.notes, f"SBD val has only {len(chosen)} objects here, so sbd600 holds all of them")
        return chosen
