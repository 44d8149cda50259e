"""A data set: the entry point opens it for a role."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vfm_isbench import Protocol
from vfm_isbench.datasets import ObjectDataset
from vfm_isbench.errors import DataError
from vfm_isbench.types import AnnotatedImage

SIZES = {"train": 8, "validation": 4, "test": 4}


class Discs(ObjectDataset):
    """Bright discs on dark noise, one per image, drawn on demand."""

    name = "example_discs"

    def __init__(self, role: str) -> None:
        self.ids = [f"{role}{index}" for index in range(SIZES[role])]

    @property
    def image_ids(self) -> Sequence[str]:
        """The role and a number for each image."""
        return self.ids

    def read(self, image_id: str) -> AnnotatedImage:
        """Draw an image; the same id always gives the same image."""
        if image_id not in self.ids:
            raise DataError(f"no image {image_id!r} in example_discs; expected one of {', '.join(self.ids)}")
        random = np.random.default_rng(list(image_id.encode()))
        row, col, radius = random.uniform((25, 25, 12), (55, 75, 24))
        rows, cols = np.mgrid[:80, :100]
        disc = (rows - row) ** 2 + (cols - col) ** 2 <= radius**2
        image = random.normal(70, 15, (80, 100, 3)) + 110 * disc[..., None]
        return AnnotatedImage(image_id, image.clip(0, 255).astype(np.uint8), disc.astype(np.int32))


def open_discs(role: str, data_root: Path | None, protocol: Protocol) -> ObjectDataset:
    """Open the data set.

    Args:
        role: "train", "validation" or "test"; a data set without training images raises a DataError for the first two.
        data_root: The path given as --data-root, or None. This data set has no files.
        protocol: The protocol of the run.
    """
    return Discs(role)
