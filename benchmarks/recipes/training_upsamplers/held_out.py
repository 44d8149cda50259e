"""How far an upsampler's features are from finer ones, on pictures that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from training_upsamplers.features import FrozenFeatures, guidance
from training_upsamplers.finer import finer_features
from training_upsamplers.method import on_grid
from training_upsamplers.pictures import Pictures, batch_of, resized
from vfm_isbench.upsamplers import load_upsampler

BASELINES = {"nearest": "nearest", "bilinear": "bilinear?align_corners=false", "bicubic": "bicubic", "jbu": "jbu"}
TRAINED = "trained"
CROPS = 32
_SEED = 1000
_FINER = 2
_AT_ONCE = 4


@torch.no_grad()
def held_out_errors(
    upsampler: Callable[[Tensor, Tensor], Tensor],
    features: FrozenFeatures,
    pictures: Sequence[Pictures],
    image_size: int,
    crops: int = CROPS,
) -> list[dict[str, object]]:
    """Compare upsampled features with finer ones, for an upsampler and for interpolations.

    Args:
        upsampler: The upsampler, in eval mode.
        features: The frozen backbone.
        pictures: Held-out pictures of each kind.
        image_size: Side of the images whose features are upsampled.
        crops: Crops of each kind of pictures; always the same.

    Returns:
        One entry per kind of pictures, wanted map and upsampler. ``error`` is the mean squared error divided by the
        variance of the wanted map, so that a constant map has about 1; ``cosine`` is the mean similarity.
    """
    named = {TRAINED: upsampler} | {name: load_upsampler(spec) for name, spec in BASELINES.items()}
    entries: list[dict[str, object]] = []
    for kind in pictures:
        generator = torch.Generator().manual_seed(_SEED)
        large = batch_of([kind], crops, 4 * image_size, generator)
        small = resized(large, image_size)
        parts = list(zip(features(small).split(_AT_ONCE), guidance(small).split(_AT_ONCE), strict=True))
        targets = wanted_maps(features, large, image_size)
        for name, member in named.items():
            given = torch.cat([member(part, image) for part, image in parts])
            for wanted, target in targets.items():
                about = {"pictures": kind.kind, "wanted": wanted, "upsampler": name}
                entries.append(about | errors(on_grid(given, target.shape[-1]), target))
    return entries


def wanted_maps(features: FrozenFeatures, large: Tensor, image_size: int) -> Mapping[str, Tensor]:
    """Finer maps of images B×3×4S×4S: of the image at size S, shifted; and enlarged twice and four times."""
    small = resized(large, image_size)
    return {
        "shifted": finer_features(features, small, _FINER),
        "enlarged 2": features(resized(large, 2 * image_size)),
        "enlarged 4": torch.cat([features(one[None]) for one in large]),
    }


@torch.no_grad()
def mirrored_error(features: FrozenFeatures, kind: Pictures, image_size: int, crops: int = CROPS) -> dict[str, float]:
    """How far the features of mirrored images, mirrored back, are from the features; no upsampling is involved."""
    images = batch_of([kind], crops, image_size, torch.Generator().manual_seed(_SEED))
    return errors(features(images.flip(-1)).flip(-1), features(images))


@torch.no_grad()
def guidance_effect(
    upsampler: Callable[[Tensor, Tensor], Tensor],
    features: FrozenFeatures,
    kind: Pictures,
    image_size: int,
    crops: int = CROPS,
) -> float:
    """How much upsampled features change if another image guides them: mean squared change, divided by their variance.

    0 means that the upsampler does not look at the image.
    """
    images = batch_of([kind], crops, image_size, torch.Generator().manual_seed(_SEED))
    batches = list(zip(features(images).split(_AT_ONCE), guidance(images).split(_AT_ONCE), strict=True))
    own = torch.cat([upsampler(part, image) for part, image in batches])
    other = torch.cat([upsampler(part, image.roll(1, 0)) for part, image in batches])
    return round((functional.mse_loss(other, own) / own.var()).item(), 4)


def errors(given: Tensor, wanted: Tensor) -> dict[str, float]:
    """See :func:`held_out_errors`."""
    error = functional.mse_loss(given, wanted) / wanted.var()
    cosine = functional.cosine_similarity(given, wanted).mean()
    return {"error": round(error.item(), 4), "cosine": round(cosine.item(), 4)}
