"""Upsampling by a guided filter: features become locally linear functions of the image's colours."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vfm_isbench.upsamplers.base import UPSAMPLERS

_IMAGENET_STD = (0.229, 0.224, 0.225)
"""Turns colour differences of the normalised image back into RGB in [0, 1]; a shift of the colours changes nothing."""


@dataclass(frozen=True)
class GuidedFilter:
    """The fast guided filter of He and Sun (arXiv 1505.00996) with a colour guide, as an upsampler.

    On the patch grid, every channel is fitted in each window as a linear function of the mean colours of its patches.
    The coefficients of all windows around a patch are averaged, enlarged bilinearly, and applied to the image.

    The defaults are common ones; nothing was tuned for this benchmark.

    Args:
        radius: Windows reach this many patches to each side.
        eps: Weight of the penalty on steep functions, for colours in [0, 1]: edges with a smaller variance are blurred.

    Raises:
        ValueError: if the radius is less than 1, or ``eps`` is not positive.
    """

    radius: int = 2
    eps: float = 0.01

    def __post_init__(self) -> None:
        if self.radius < 1 or not self.eps > 0:
            raise ValueError(f"radius must be at least 1 and eps positive, got radius={self.radius}, eps={self.eps}")

    @property
    def upsampler_name(self) -> str:
        """Name in tables: with the settings unless they are the defaults."""
        is_usual = self == GuidedFilter()
        return "guided_filter" if is_usual else f"guided_filter(radius={self.radius}, eps={self.eps})"

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        """Upsample ``features`` B×C×h×w to the size of ``image`` B×3×H×W (ImageNet-normalised)."""
        exact = torch.promote_types(features.dtype, torch.float32)
        rgb = image.to(exact) * image.new_tensor(_IMAGENET_STD, dtype=exact).view(1, 3, 1, 1)
        slope, offset = self._coefficients(features.to(exact), rgb)
        size = image.shape[-2:]
        output = _enlarged(offset, size)
        for channel in range(3):  # one at a time: three maps of the image's size would be in memory otherwise
            output = output + _enlarged(slope[:, :, channel], size) * rgb[:, channel : channel + 1]
        return output.to(features.dtype)

    def _coefficients(self, features: Tensor, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Slopes B×C×3×h×w and offsets B×C×h×w, averaged over the windows around each patch."""
        grid = (features.shape[-2], features.shape[-1])
        colours = functional.adaptive_avg_pool2d(rgb, grid)
        # Differences to the image's mean colour keep digits that squares of the colours would lose.
        centre = colours.mean(dim=(2, 3), keepdim=True)
        colours = colours - centre
        mean_colour, mean = self._window_means(colours), self._window_means(features)
        products = (colours[:, :, None] * colours[:, None]).flatten(1, 2)
        covariance = self._window_means(products).view(-1, 3, 3, *grid) - mean_colour[:, :, None] * mean_colour[:, None]
        covariance = covariance.permute(0, 3, 4, 1, 2) + self.eps * torch.eye(3, device=rgb.device, dtype=rgb.dtype)
        shared = torch.stack([self._window_means(features * colours[:, k : k + 1]) for k in range(3)], dim=2)
        shared = shared - mean[:, :, None] * mean_colour[:, None]  # B×C×3×h×w
        slope = torch.linalg.solve(covariance, shared.permute(0, 3, 4, 2, 1)).permute(0, 4, 3, 1, 2)
        offset = mean - (slope * mean_colour[:, None]).sum(dim=2)
        slope = self._window_means(slope.flatten(1, 2)).view(*features.shape[:2], 3, *grid)
        return slope, self._window_means(offset) - (slope * centre[:, None]).sum(dim=2)

    def _window_means(self, maps: Tensor) -> Tensor:
        """Means over the part of each window that lies on the grid."""
        side = 2 * self.radius + 1
        return functional.avg_pool2d(maps, side, stride=1, padding=self.radius, count_include_pad=False)


def _enlarged(maps: Tensor, size: torch.Size) -> Tensor:
    return functional.interpolate(maps, size, mode="bilinear", align_corners=False)


UPSAMPLERS.add("guided_filter", GuidedFilter)
