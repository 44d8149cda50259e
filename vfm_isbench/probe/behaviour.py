"""What an upsampler and a backbone make of two fixed inputs: evidence of what ran that no hash of code can give."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vfm_isbench.backbones import Backbone
from vfm_isbench.types import Behaviour
from vfm_isbench.upsamplers import LoadedUpsampler

_CELLS = 8
_PROJECTIONS = 8


@torch.no_grad()
def upsampler_behaviour(
    upsampler: LoadedUpsampler, channels: int, grid: int, image_size: int, device: torch.device
) -> Behaviour:
    """Behaviour of an upsampler on noise of the protocol's size: one image with smooth and one with hard edges."""
    numbers: list[float] = []
    for seed, mode in enumerate(("bilinear", "nearest")):
        generator = torch.Generator().manual_seed(seed)
        features = torch.randn(1, channels, grid, grid, generator=generator)
        image = functional.interpolate(torch.randn(1, 3, grid, grid, generator=generator), image_size, mode=mode)
        numbers += _projections(upsampler(features.to(device), image.clamp(-2, 2).to(device)))
    return tuple(numbers)


@torch.no_grad()
def backbone_behaviour(backbone: Backbone, image_size: int, device: torch.device) -> Behaviour:
    """Behaviour of a backbone in eval mode on two images."""
    backbone.eval()
    numbers: list[float] = []
    for seed in range(2):
        noise = torch.randn(1, 3, image_size // 8, image_size // 8, generator=torch.Generator().manual_seed(seed))
        image = functional.interpolate(noise, image_size, mode="bilinear")
        numbers += _projections(backbone(image.to(device)))
    return tuple(numbers)


def _projections(output: Tensor) -> list[float]:
    """Random projections of the output's means and sizes on a coarse grid, relative to its size."""
    output = output.detach().float().cpu()
    size = float(output.square().mean().sqrt()) or 1.0
    pooled = torch.stack(
        [functional.adaptive_avg_pool2d(maps, _CELLS) for maps in (output / size, (output / size).square())]
    )
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (pooled[0].numel(), _PROJECTIONS), generator=generator).mul(2).sub(1).float()
    projected = pooled.flatten(1) @ signs / pooled[0].numel() ** 0.5
    return [round(value, 6) for value in projected.flatten().tolist()]
