"""Square crops of photographs and of generated scenes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vfm_isbench.datasets.scenes.dataset import ScenesDataset, Split
from vfm_isbench.datasets.scenes.embedded import EMBEDDED

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})

SCENES = "compact_scenes"
"""The scenes of the demo; drawn at twice their size, so that enlarged crops show detail."""

_ENLARGED = 2
_SMALLEST_CROP = 144
"""Pixels of a crop's side: 72, the smallest zoom of the demo, at the doubled size of scenes."""

_HELD_OUT_EVERY = 10


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures of one kind.

    Attributes:
        kind: "photographs" or "scenes".
        images: 3×H×W each, 8 bits.
    """

    kind: str
    images: Sequence[Tensor]

    def crop(self, size: int, generator: torch.Generator) -> Tensor:
        """A random square of a random picture, perhaps mirrored, resized to ``size``: 3×size×size in [0, 1]."""
        draws = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
        image = self.images[int(draws[0] * len(self.images))]
        longest = min(image.shape[1:])
        shortest = min(_SMALLEST_CROP, longest)
        side = round(math.exp(math.log(shortest) + draws[1] * (math.log(longest) - math.log(shortest))))
        top, left = (int(draw * (n - side + 1)) for draw, n in zip(draws[2:4], image.shape[1:], strict=True))
        part = image[:, top : top + side, left : left + side].float() / 255
        return resized(part.flip(2) if draws[4] < 0.5 else part, size)


def resized(images: Tensor, size: int) -> Tensor:
    """Resize ``images`` …×3×H×W with averaging to a square of ``size``, in [0, 1]."""
    batch = images.reshape(-1, *images.shape[-3:])
    new = functional.interpolate(batch, (size, size), mode="bicubic", antialias=True, align_corners=False)
    return new.clamp(0, 1).reshape(*images.shape[:-2], size, size)


def batch_of(pictures: Sequence[Pictures], count: int, size: int, generator: torch.Generator) -> Tensor:
    """Crops, in turn from each kind of pictures: count×3×size×size in [0, 1]."""
    return torch.stack([pictures[index % len(pictures)].crop(size, generator) for index in range(count)])


def photographs(folder: Path, names: Sequence[str] | None = None) -> tuple[Pictures, Pictures]:
    """Photographs of a folder and its subfolders: those to train on, and every tenth held out.

    Args:
        folder: The folder.
        names: Names of the files to use, without suffix; None for all.

    Raises:
        SystemExit: if there are fewer than two, or a name has no file.
    """
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    if names is not None:
        missing = sorted(set(names) - {file.stem for file in files})
        if missing:
            raise SystemExit(f"{folder} has no photograph {missing[0]} ({len(missing)} are missing in all)")
        files = [file for file in files if file.stem in set(names)]
    if len(files) < 2:
        raise SystemExit(f"{folder} contains {len(files)} photographs ({', '.join(sorted(SUFFIXES))}); need at least 2")
    images = [_read(file) for file in files]
    held_out = images[::_HELD_OUT_EVERY]
    kept = [image for index, image in enumerate(images) if index % _HELD_OUT_EVERY]
    return Pictures("photographs", kept), Pictures("photographs", held_out)


def scenes(count: int, split: Split) -> Pictures:
    """Generated scenes of a split of the demo's data set; no scene of the test split is ever used."""
    embedded = EMBEDDED[SCENES]
    size = (_ENLARGED * embedded.image_size[0], _ENLARGED * embedded.image_size[1])
    drawn = ScenesDataset(split=split, n_images=count, image_size=size, style=embedded.style)
    images = [torch.from_numpy(drawn.read(name).image.copy()).permute(2, 0, 1) for name in drawn.image_ids]
    return Pictures("scenes", images)


def _read(file: Path) -> Tensor:
    with Image.open(file) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
