"""The scenes that protocols use, by name: style, image size and number of images of each embedded data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vfm_isbench.datasets.scenes.dataset import SPLIT_SIZES, ScenesDataset, Split
from vfm_isbench.datasets.scenes.parts import PartScenes
from vfm_isbench.datasets.scenes.style import SceneStyle


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedScenes:
    """What an embedded data set consists of; never changed once results exist, because they name it.

    Attributes:
        description: One line for lists.
        style: Difficulty settings.
        image_size: (height, width) in pixels.
        images: Number of images per split.
        kind: What draws them.
    """

    description: str
    style: SceneStyle = field(default_factory=SceneStyle)
    image_size: tuple[int, int] = (240, 320)
    images: Mapping[Split, int] = field(default_factory=lambda: dict(SPLIT_SIZES))
    kind: type[ScenesDataset] = ScenesDataset

    def open(self, name: str, split: Split) -> ScenesDataset:
        """One split, under the name of the data set."""
        dataset = self.kind(split=split, n_images=self.images[split], image_size=self.image_size, style=self.style)
        dataset.name = name
        return dataset


EMBEDDED: Mapping[str, EmbeddedScenes] = {
    "scenes": EmbeddedScenes(
        description="embedded: generated scenes of textured objects, for the first version of the demo; needs no files"
    ),
    # Small images and many of them: objects are free here, and they decide how small a difference the demo can show.
    # Thin, holed and camouflaged objects are left out, because they reach no IoU of interest at the demo's resolution
    # and only add noise; docs/decisions/0026 has the figures.
    "compact_scenes": EmbeddedScenes(
        description="embedded: generated scenes of compact textured objects, for the demo; needs no files",
        style=SceneStyle(thin_share=0.0, holed_share=0.0, low_contrast_share=0.0),
        image_size=(180, 240),
        images={"train": 150, "val": 16, "test": 128},
    ),
    # As compact_scenes, so that whole objects are as hard as there; 24 images have about 290 objects and parts.
    "part_scenes": EmbeddedScenes(
        description="embedded: compact scenes of objects that consist of parts, which have parts again; needs no files",
        style=SceneStyle(thin_share=0.0, holed_share=0.0, low_contrast_share=0.0),
        image_size=(180, 240),
        images={"train": 150, "val": 16, "test": 24},
        kind=PartScenes,
    ),
}
"""Embedded data sets by name."""
