"""How far an upsampler's features are from those of enlarged images that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from training_upsamplers.features import FrozenFeatures, guidance
from training_upsamplers.pictures import Pictures, batch_of, resized
from vfm_isbench.upsamplers import load_upsampler

BASELINES = ("nearest", "bilinear?align_corners=false", "bicubic", "jbu")
ENLARGED = (2, 4)
CROPS = 32
_SEED = 1000


@torch.no_grad()
def held_out_errors(
    upsampler: Callable[[Tensor, Tensor], Tensor],
    features: FrozenFeatures,
    pictures: Sequence[Pictures],
    image_size: int,
    crops: int = CROPS,
) -> list[dict[str, object]]:
    """Compare upsampled features with those of enlarged images, for an upsampler and for interpolations.

    Args:
        upsampler: The upsampler, in eval mode.
        features: The frozen backbone.
        pictures: Held-out pictures of each kind.
        image_size: Side of the images whose features are upsampled.
        crops: Crops of each kind of pictures; always the same.

    Returns:
        One entry per kind of pictures, enlargement and upsampler: ``error`` is the mean squared error divided by the
        variance of the features wanted, so that a constant map has about 1, and ``cosine`` the mean similarity.
    """
    entries: list[dict[str, object]] = []
    named = {"trained": upsampler} | {name: load_upsampler(name) for name in BASELINES}
    for kind in pictures:
        generator = torch.Generator().manual_seed(_SEED)
        large = batch_of([kind], crops, max(ENLARGED) * image_size, generator)
        small = resized(large, image_size)
        wanted = {
            times: torch.cat([features(resized(one, times * image_size)[None]) for one in large]) for times in ENLARGED
        }
        for name, member in named.items():
            parts = zip(features(small).split(4), guidance(small).split(4), strict=True)
            given = torch.cat([member(part, image) for part, image in parts])
            for times, target in wanted.items():
                at_size = on_grid(given, target.shape[-1])
                error = functional.mse_loss(at_size, target) / target.var()
                cosine = functional.cosine_similarity(at_size, target).mean()
                entries.append(
                    {
                        "pictures": kind.kind,
                        "enlarged": times,
                        "upsampler": name,
                        "error": round(error.item(), 4),
                        "cosine": round(cosine.item(), 4),
                    }
                )
    return entries


def on_grid(maps: Tensor, side: int) -> Tensor:
    """``maps`` B×C×H×W on a grid of ``side`` cells: averaged if they are larger, enlarged bilinearly if smaller."""
    if maps.shape[-1] >= side:
        return functional.adaptive_avg_pool2d(maps, side)
    return functional.interpolate(maps, (side, side), mode="bilinear", align_corners=False)
