"""Images, labels and backbone features of a data set, each computed once while memory lasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from vfm_isbench.acceleration.cached_probe import CachedProbe
from vfm_isbench.probe import Probe
from vfm_isbench.semantic.data import SemanticDataset, square

KEPT_BYTES = 2**29
"""How much of a data set stays in memory. Everything is frozen, so epochs after the first only upsample."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some images.

    Attributes:
        pixels: B×3×S×S in [0, 1].
        labels: B×S×S, int64.
        small: The backbone's features, B×C×h×w.
    """

    pixels: Tensor
    labels: Tensor
    small: Tensor


class Samples:
    """The images of a data set as the network sees them.

    Args:
        dataset: The data set.
        probe: Holds the frozen backbone, on its device.
        size: Side of the input in pixels.
        kept_bytes: How much stays in memory.
    """

    def __init__(self, dataset: SemanticDataset, probe: Probe, size: int, kept_bytes: int = KEPT_BYTES) -> None:
        self._dataset = dataset
        self._probe = CachedProbe(probe)
        self._size = size
        self._left = kept_bytes
        self._kept: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def batch(self, images: Sequence[str]) -> Batch:
        """The images with these ids, on the device of the probe."""
        new = [image for image in images if image not in self._kept]
        found = dict(zip(new, self._prepare(new), strict=True)) if new else {}
        parts = [found.get(image) or self._kept[image] for image in images]
        for image, kept in found.items():
            size = sum(part.numel() * part.element_size() for part in kept)
            if size <= self._left:
                self._kept[image] = kept
                self._left -= size
        pixels, labels, small = (torch.stack(column).to(self._probe.device) for column in zip(*parts, strict=True))
        return Batch(_scaled(pixels), labels.long(), small)

    def _prepare(self, images: Sequence[str]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Pixels 3×S×S and labels S×S, uint8, and features C×h×w of images, on the CPU."""
        pairs = [square(*self._dataset.read(image), self._size) for image in images]
        pixels = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2).contiguous()
        small = cast("list[Tensor]", self._probe.features_of([_scaled(pixels.to(self._probe.device))]))[0].cpu()
        return [
            (pixels[at], torch.from_numpy(labels.copy()), small[at].clone()) for at, (_, labels) in enumerate(pairs)
        ]


def _scaled(pixels: Tensor) -> Tensor:
    return pixels.float().div(255)
