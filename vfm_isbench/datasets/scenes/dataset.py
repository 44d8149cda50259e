"""The embedded data set: scenes drawn on demand, with exact masks and no files.

Real photographs cannot be shipped with the package, and not everyone can download them. These scenes give the demo
protocol images on which upsamplers differ: several textured objects with smooth, polygonal, thin and holed outlines on
a textured, cluttered background. They show how upsamplers compare on scenes, not how good they are on photographs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np

from vfm_isbench.datasets.base import ObjectDataset
from vfm_isbench.datasets.scenes.layout import PlacedObject, lay_out
from vfm_isbench.datasets.scenes.painting import paint
from vfm_isbench.datasets.scenes.style import SceneStyle
from vfm_isbench.errors import DataError, ProtocolError
from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.types import AnnotatedImage, Array, ObjectId

Split = Literal["train", "val", "test"]

SCENES_REVISION = 1
"""Increased when the same arguments give different pixels or labels; results of two revisions are not comparable."""

SPLIT_SIZES: dict[Split, int] = {"train": 200, "val": 16, "test": 16}
"""Default number of images per split."""

_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_LEAST_SIDE = 64
_MOST_ELONGATED = 2.5


def split_size(split: Split) -> int:
    """Default number of images in a split.

    Raises:
        UnknownNameError: if the split does not exist.
    """
    if split not in SPLIT_SIZES:
        raise unknown_name("split of scenes", split, list(SPLIT_SIZES))
    return SPLIT_SIZES[split]


class ScenesDataset(ObjectDataset):
    """Scenes of several textured objects, drawn when first read.

    An image depends only on the seed, its split, its number, the image size and the style, not on the order of reading
    or on ``n_images``. Drawn images stay in memory, about half a megabyte each.

    Args:
        split: "train", "val" or "test"; their images differ.
        n_images: Number of images; None for the one in :data:`SPLIT_SIZES`.
        image_size: (height, width) in pixels, each at least 64, the longer at most 2.5 times the shorter.
        seed: Seed of the whole data set, at least 0.
        style: Difficulty settings; None for those of the demo protocol.

    Raises:
        UnknownNameError: if the split does not exist.
        ProtocolError: if a number is out of range.

    Example:
        >>> scenes = ScenesDataset(split="val", n_images=2, image_size=(120, 160))
        >>> sample = scenes.read("val-00001")
        >>> sample.image.shape, sample.labels.shape
        ((120, 160, 3), (120, 160))
    """

    name = "scenes"

    def __init__(
        self,
        *,
        split: Split,
        n_images: int | None = None,
        image_size: tuple[int, int] = (240, 320),
        seed: int = 0,
        style: SceneStyle | None = None,
    ) -> None:
        usual = split_size(split)
        self.split: Split = split
        self.n_images = usual if n_images is None else n_images
        self.image_size = (image_size[0], image_size[1])
        self.seed = seed
        self.style = SceneStyle() if style is None else style
        if self.n_images < 1:
            raise ProtocolError(f"n_images={n_images} of scenes; expected at least 1.")
        if min(self.image_size) < _LEAST_SIDE:
            raise ProtocolError(
                f"image_size={image_size} of scenes; expected (height, width) of at least {_LEAST_SIDE} px each."
            )
        if max(self.image_size) > _MOST_ELONGATED * min(self.image_size):
            raise ProtocolError(
                f"image_size={image_size} of scenes; expected the longer side to be at most {_MOST_ELONGATED} times "
                "the shorter, because objects are scaled by the shorter side."
            )
        if seed < 0:
            raise ProtocolError(f"seed={seed} of scenes; expected a whole number of at least 0.")
        # Drawing a scene takes longer than training on it, and a whole split fits into memory.
        self._drawn: dict[str, AnnotatedImage] = {}
        self._patterns: dict[str, tuple[str, ...]] = {}

    @cached_property
    def image_ids(self) -> Sequence[str]:
        """Image ids: split and number ("train-00012")."""
        return [f"{self.split}-{number:05d}" for number in range(self.n_images)]

    @cached_property
    def objects(self) -> Sequence[ObjectId]:
        """Every object, image by image; lays the scenes out without painting them."""
        return [
            ObjectId(image_id, instance)
            for image_id in self.image_ids
            for instance in range(1, len(self._lay_out(image_id)[0]) + 1)
        ]

    def read(self, image_id: str) -> AnnotatedImage:
        """Draw a scene, or return it from memory.

        Returns:
            The image and its labels as read-only arrays. Labels count from 1, from the bottom object to the top one; a
            pixel belongs to the topmost object that covers at least half of it.

        Raises:
            DataError: if the id is not one of :attr:`image_ids`.
        """
        if image_id not in self._drawn:
            objects, labels = self._lay_out(image_id)
            image, patterns = paint(self._rng(image_id, "pixels"), objects, self.image_size, self.style)
            self._patterns[image_id] = patterns
            image.flags.writeable = labels.flags.writeable = False
            self._drawn[image_id] = AnnotatedImage(image_id=image_id, image=image, labels=labels)
        return self._drawn[image_id]

    def patterns(self, image_id: str) -> tuple[str, ...]:
        """Name of the surface pattern of each object, in the order of their labels; see :meth:`read`.

        >>> ScenesDataset(split="val").patterns("val-00001")
        ('dots', 'stripes', 'gradient')
        """
        self.read(image_id)
        return self._patterns[image_id]

    def _lay_out(self, image_id: str) -> tuple[list[PlacedObject], Array]:
        return lay_out(self._rng(image_id, "layout"), self.image_size, self.style)

    def _rng(self, image_id: str, purpose: Literal["layout", "pixels", "parts"]) -> np.random.Generator:
        """A separate stream per image and purpose, so that changing colours does not change labels."""
        prefix, _, digits = image_id.partition("-")
        number = int(digits) if digits.isascii() and digits.isdecimal() else -1
        if not 0 <= number < self.n_images or image_id != f"{self.split}-{number:05d}":
            raise DataError(
                f"scenes have no image {image_id!r}; expected one of {self.image_ids[0]!r} to {self.image_ids[-1]!r} "
                f"(split {self.split!r}). Increase n_images, or open the split that the id belongs to."
            )
        entropy = (self.seed, _SPLITS.index(self.split), number, ("layout", "pixels", "parts").index(purpose))
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
