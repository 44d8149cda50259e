"""Photographs made on the spot, in the layout of SBD: JPEG files, instances as MATLAB files, lists of the splits.

They have the size, the number of objects and the detail of SBD's, so that reading, decoding and augmenting them takes
as long; scores on them mean nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from vfm_isbench.types import Array

_SIZE = (375, 500)
_OBJECTS = (1, 4)
"""SBD has 2.3 objects per image in val."""

_SENSOR_NOISE = 5.0
"""With it, the files are as large as SBD's, about 80 kB."""

_GRAIN = ((4, 60.0), (20, 25.0), (80, 12.0))
"""Cells across the image and contrast of the noise that textures consist of."""


def write_photographs(root: Path, images: int, size: tuple[int, int] = _SIZE, seed: int = 0) -> None:
    """Write ``root/SBD`` with as many images in train as in val.

    Args:
        root: The data root.
        images: Images per split.
        size: (H, W) in pixels.
        seed: Decides all of them.
    """
    folder = root / "SBD"
    for part in ("img", "inst"):
        (folder / part).mkdir(parents=True)
    for number, split in enumerate(("train", "val")):
        names = [f"{2008 + number}_{index:06d}" for index in range(images)]
        for index, name in enumerate(names):
            image, labels = photograph(np.random.default_rng([seed, number, index]), size)
            Image.fromarray(image).save(folder / "img" / f"{name}.jpg", quality=92)
            savemat(folder / "inst" / f"{name}.mat", {"GTinst": {"Segmentation": labels}}, do_compression=True)
        # not atomic: the caller moves the whole folder into place
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def photograph(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Array, Array]:
    """Objects with wavy outlines before a background, all textured: H×W×3 uint8, and labels H×W uint8."""
    image, labels = _texture(rng, size), np.zeros(size, np.uint8)
    rows, cols = np.mgrid[: size[0], : size[1]]
    count = int(rng.integers(_OBJECTS[0], _OBJECTS[1] + 1))
    for label in range(1, count + 1):
        radius = rng.uniform(0.12, 0.3) * size[0]
        # Side by side, so that none covers another as a whole.
        centre = rng.uniform(0.3, 0.7) * size[0], (label - rng.uniform(0.35, 0.65)) / count * size[1]
        angle = np.arctan2(rows - centre[0], cols - centre[1])
        waves = sum(
            rng.uniform(0, 0.25 / number) * np.sin(number * angle + rng.uniform(0, 7)) for number in (2, 3, 5, 8)
        )
        inside = np.hypot(rows - centre[0], cols - centre[1]) < radius * (1 + waves)
        image[inside], labels[inside] = _texture(rng, size)[inside], label
    return np.clip(image, 0, 255).astype(np.uint8), labels


def _texture(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    texture = rng.normal(0, _SENSOR_NOISE, (*size, 3)).astype(np.float32) + rng.uniform(60, 190, 3).astype(np.float32)
    for cells, contrast in _GRAIN:
        grid = rng.normal(size=(cells * size[0] // size[1] + 2, cells + 2)).astype(np.float32)
        grown = np.asarray(Image.fromarray(grid).resize(size[::-1], Image.Resampling.BICUBIC))
        texture += contrast / 2 * grown[..., None] * rng.uniform(0.6, 1.4, 3).astype(np.float32)
    return texture
