"""Features on a finer grid than the backbone's, from shifted copies of an image."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from training_upsamplers.features import FrozenFeatures


def finer_features(features: FrozenFeatures, images: Tensor, finer: int) -> Tensor:
    """Features on a finer grid, from copies of the images that are shifted by parts of a cell.

    Args:
        features: The backbone.
        images: B×3×S×S in [0, 1], of whole patches.
        finer: Cells per side of a cell of the backbone's grid; it divides the patch size.

    Returns:
        B×C×(finer·h)×(finer·w), whose cells have their centres at equal distances over the whole image, as those of the
        backbone have.
    """
    patch, size = features.patch_size, images.shape[-1]
    step = patch // finer
    # The first cell of the finer grid has its centre half a step from the border, that of the backbone half a patch.
    first = (patch - step) // 2
    padded = functional.pad(images, [first, patch, first, patch], mode="reflect")
    result = images.new_empty(len(images), features.channels, finer * size // patch, finer * size // patch)
    for row in range(finer):
        for col in range(finer):
            window = padded[..., row * step : row * step + size, col * step : col * step + size]
            result[..., row::finer, col::finer] = features(window)
    return result
