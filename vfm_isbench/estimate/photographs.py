"""Stand-ins for photographs that are not here, so that the time to prepare and click them can be measured."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vfm_isbench.datasets import ObjectDataset
from vfm_isbench.datasets.sbd import fill_ratios
from vfm_isbench.types import AnnotatedImage, Array

_IMAGES = 8
_CELLS = 40
"""Side of the noise that is enlarged to an image: some detail for the decoder, and no more."""


class StandInPhotographs(ObjectDataset):
    """A few noisy images of a size, with two ellipses each; they are decoded from JPEG in memory on every read.

    Args:
        size: (H, W) in pixels.
    """

    name = "stand-ins"

    def __init__(self, size: tuple[int, int]) -> None:
        self._images = {
            f"stand-in{number}": _photograph(np.random.default_rng(number), size) for number in range(_IMAGES)
        }

    @property
    def image_ids(self) -> Sequence[str]:
        """``stand-in0``, ``stand-in1`` and so on."""
        return list(self._images)

    def read(self, image_id: str) -> AnnotatedImage:
        """See :meth:`vfm_isbench.datasets.ObjectDataset.read`."""
        encoded, labels = self._images[image_id]
        with Image.open(io.BytesIO(encoded)) as picture:
            return AnnotatedImage(image_id, np.array(picture.convert("RGB")), labels.copy())

    def instances_for_training(self, sample: AnnotatedImage) -> list[int]:
        """All instances, after the same measurement as on SBD."""
        return list(fill_ratios(sample.labels))


def _photograph(rng: np.random.Generator, size: tuple[int, int]) -> tuple[bytes, Array]:
    """A JPEG file and labels H×W."""
    noise = Image.fromarray(rng.integers(256, size=(_CELLS, _CELLS, 3), dtype=np.uint8))
    image = np.array(noise.resize(size[::-1], Image.Resampling.BICUBIC))
    rows, cols = np.mgrid[: size[0], : size[1]]
    labels = np.zeros(size, np.int32)
    for label in (1, 2):
        centre = size[0] * rng.uniform(0.4, 0.6), size[1] * (0.5 * label - 0.25)
        radii = size[0] * rng.uniform(0.15, 0.35), size[1] * rng.uniform(0.1, 0.2)
        labels[((rows - centre[0]) / radii[0]) ** 2 + ((cols - centre[1]) / radii[1]) ** 2 <= 1] = label
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=92)
    return file.getvalue(), labels
