"""Features before and after upsampling, to look at: no training, no clicks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn

from vfm_isbench.acceleration.cached_probe import CachedProbe
from vfm_isbench.backbones import Backbone
from vfm_isbench.errors import DataError
from vfm_isbench.probe import Probe
from vfm_isbench.probe.backbone_access import with_backbone
from vfm_isbench.probe.guarded import during
from vfm_isbench.probe.preparation import check_on_device
from vfm_isbench.probe.torch_state import current_device
from vfm_isbench.protocol import Protocol
from vfm_isbench.types import Array
from vfm_isbench.upsamplers import Identity, LoadedUpsampler
from vfm_isbench.viz import FeatureRow


def read_square_image(path: str | Path, size: int) -> Array:
    """Read an image file; see :func:`square_image`.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error
    return square_image(np.asarray(image), size)


def square_image(image: Array, size: int) -> Array:
    """Resize the shorter side to ``size`` pixels and keep the middle.

    Args:
        image: H×W×3 uint8 RGB.
        size: Side of the result in pixels.

    Returns:
        size×size×3 uint8.
    """
    return np.asarray(ImageOps.fit(Image.fromarray(image), (size, size), Image.Resampling.BICUBIC))


def upsampled_features(
    images: Sequence[Array],
    backbone: Backbone,
    upsamplers: Mapping[str, LoadedUpsampler],
    *,
    device: torch.device | str = "cpu",
) -> list[FeatureRow]:
    """Features of images, and what each upsampler makes of them: what the head sees with late injection, but no clicks.

    Args:
        images: S×S×3 uint8 RGB, S a multiple of the backbone's patch size.
        backbone: Moved to ``device`` and frozen.
        upsamplers: Upsamplers by name; their modules are moved and frozen, too.
        device: Where to compute.

    Raises:
        ContractError: if an upsampler does not keep the contract.
        ProtocolError: if an image is not a whole number of patches.
    """
    device = torch.device(device)
    protocol = Protocol.preset("paper").replace(backbone=backbone.name, image_size=len(images[0]), batch_size=1)
    for upsampler in upsamplers.values():
        check_on_device(upsampler, protocol, backbone, device)
    before = _probe(backbone, LoadedUpsampler.of(Identity()), device)
    after = {name: _probe(backbone, upsampler, device) for name, upsampler in upsamplers.items()}
    return [
        FeatureRow(image, _features(before, image), {name: _features(probe, image) for name, probe in after.items()})
        for image in images
    ]


def _probe(backbone: Backbone, upsampler: LoadedUpsampler, device: torch.device) -> Probe:
    """A probe without click encoder and head: it normalises images, and resizes features to the image."""
    return (
        Probe(backbone, with_backbone(upsampler, backbone), nn.Identity(), nn.Identity(), injection="late")
        .to(device)
        .eval()
    )


def _features(probe: Probe, image: Array) -> Array:
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255)[None]
    with during(f"upsampler {probe.upsampler.name!r}"), current_device(probe.device):
        features = CachedProbe(probe).encode(pixels.to(probe.device)).features
    assert features is not None, "with late injection, features do not depend on clicks"
    return features[0].float().cpu().numpy()
