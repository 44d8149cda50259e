"""Inputs on which an upsampler is tried out before a run: ordinary ones, and those that bring out hidden divisions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_DARKEST, _BRIGHTEST = -2.1, 2.6
"""Range in which ImageNet-normalised images lie."""
_BLOCKS = 8
"""Dark and bright blocks along each side of an image with hard edges."""


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One batch of inputs.

    Attributes:
        features: B×C×h×w.
        image: B×3×H×W.
    """

    features: Tensor
    image: Tensor

    @classmethod
    def smooth(
        cls,
        channels: int,
        grid: tuple[int, int],
        image_size: tuple[int, int],
        *,
        batch: int = 2,
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
    ) -> Trial:
        """Smooth noise; without ``generator``, the same in every call."""
        generator = generator or torch.Generator().manual_seed(0)
        features = _smooth(batch, channels, grid, generator)
        image = _smooth(batch, 3, image_size, generator).mul(0.8).clamp(_DARKEST, _BRIGHTEST)
        return cls(features.to(device), image.to(device))

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, images: slice) -> Trial:
        """Some images of the batch."""
        return Trial(self.features[images], self.image[images])

    def channels_last(self) -> Trial:
        """The same values, stored with the channels last, as several backbones return them."""
        layout = torch.channels_last
        return Trial(self.features.contiguous(memory_format=layout), self.image.contiguous(memory_format=layout))

    def shortened(self) -> Trial | None:
        """The upper half of the patch grid, as features of another size and aspect; None if there is only one row."""
        rows = self.features.shape[2]
        half = rows // 2
        if not half:
            return None
        pixels = self.image.shape[2] * half // rows
        return Trial(self.features[:, :, :half].contiguous(), self.image[:, :, :pixels].contiguous())

    def hard_cases(self) -> Iterator[tuple[str, Trial]]:
        """Batches of one on which upsamplers divide by zero or overflow, and what each of them is."""
        one = self[:1]
        height, width = one.image.shape[-2:]
        rows, cols = (torch.arange(side, device=one.image.device) * _BLOCKS // side for side in (height, width))
        is_bright = ((rows[:, None] + cols) % 2).bool().expand_as(one.image)
        yield "an image with hard edges", Trial(one.features, torch.where(is_bright, _BRIGHTEST, _DARKEST))
        yield "an image of a single colour", Trial(one.features, torch.full_like(one.image, _BRIGHTEST))
        yield "an image of all zeros", Trial(one.features, torch.zeros_like(one.image))
        # Values up to about 40, as the outliers of vision transformers.
        scale = torch.logspace(-2, 1, one.features.shape[1], device=one.features.device).view(1, -1, 1, 1)
        rows, cols = (torch.arange(side, device=one.features.device) for side in one.features.shape[-2:])
        signs = 1 - 2 * ((rows[:, None] + cols) % 2)  # both signs in every channel
        yield "features whose channels range from 0.01 to 10", Trial(one.features.abs() * scale * signs, one.image)


def _smooth(batch: int, channels: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Noise without the finest detail, of roughly unit variance: batch×channels×size."""
    coarse = (max(1, size[0] // 3), max(1, size[1] // 3))
    noise = torch.randn(batch, channels, *coarse, generator=generator)
    return functional.interpolate(noise, size, mode="bilinear", align_corners=False).mul_(1.5).contiguous()
