"""Lanczos interpolation, separable, as image libraries enlarge photographs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vfm_isbench.upsamplers.base import UPSAMPLERS


@dataclass(frozen=True)
class Lanczos:
    """Lanczos interpolation, sharper than bicubic; it may overshoot the range of the features.

    Each output is a mean of the patches within ``lobes`` of it, weighted by sinc(x) · sinc(x / lobes) and normalised;
    patch centres stay where they are in the image, and patches outside the grid have no weight.

    Args:
        lobes: Half the width of the kernel in patches; 3 is usual.

    Raises:
        ValueError: if ``lobes`` is less than 1.
    """

    lobes: int = 3

    def __post_init__(self) -> None:
        if self.lobes < 1:
            raise ValueError(f"lobes must be at least 1, got {self.lobes}")

    @property
    def upsampler_name(self) -> str:
        """Name in tables."""
        return "lanczos" if self.lobes == 3 else f"lanczos(lobes={self.lobes})"

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        """Resize ``features`` B×C×h×w to the size of ``image`` B×3×H×W."""
        rows = self._weights(features.shape[-2], image.shape[-2], features)
        cols = self._weights(features.shape[-1], image.shape[-1], features)
        return torch.matmul(rows, torch.matmul(features, cols.T))

    def _weights(self, small: int, large: int, like: Tensor) -> Tensor:
        """Weights large×small of the patches along one axis."""
        # In double precision and then rounded: a sum of weights far from 1 would shift every channel's mean.
        double = torch.float32 if like.device.type == "mps" else torch.float64
        centres = (torch.arange(large, device=like.device, dtype=double) + 0.5) * (small / large) - 0.5
        distances = centres[:, None] - torch.arange(small, device=like.device, dtype=double)
        weights = torch.sinc(distances) * torch.sinc(distances / self.lobes)
        weights = weights.masked_fill(distances.abs() >= self.lobes, 0.0)
        return (weights / weights.sum(dim=1, keepdim=True)).to(like.dtype)


UPSAMPLERS.add("lanczos", Lanczos)
