"""FeatUp-JBU, trained by multi-view reconstruction (Fu et al., "FeatUp", ICLR 2024)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from training_upsamplers.downsampler import AttentionDownsampler
from training_upsamplers.features import FrozenFeatures, guidance
from training_upsamplers.method import Examples, Method, distance
from training_upsamplers.views import View, draw_view
from vfm_isbench.upsamplers.published.featup import FeatUpJBU

_VIEWS = 4
"""Views per crop."""

_PART = 2 / 3
"""Share of the image's side that is upsampled in training. A kernel sees seven pixels of the image, so that a part
teaches the same as the whole, in less than half the time."""

_SPATIAL_WIDTH = 0.3
"""First width of the Gaussians in the kernels, in half a window. With the module's 1, four nearly uniform windows of
seven pixels blur the map so much that most steps are spent on undoing it."""


class TrainFeatUpJBU(Method):
    """The upsampled map, cut to a view and downsampled, should equal the features of that view of the image.

    The downsampler is trained together with the upsampler and thrown away. The stack's output, 16 times the grid, is
    first resized by averaging to the size of the image. The channel norm keeps its initial weights: a learned scale
    could shrink every feature towards zero, where the reconstruction is easiest.

    Args:
        features: The frozen backbone.
        image_size: Side of the images, in pixels.
        mirror_probability: Share of mirrored views.
    """

    spec_kind = "featup"

    def __init__(self, features: FrozenFeatures, image_size: int, mirror_probability: float = 0.0) -> None:
        super().__init__(features, image_size)
        self.upsampler: FeatUpJBU = FeatUpJBU(features.channels)
        assert self.upsampler.norm is not None
        self.upsampler.norm.requires_grad_(False)
        for name, parameter in self.upsampler.named_parameters():
            if name.endswith("sigma_spatial"):
                nn.init.constant_(parameter, _SPATIAL_WIDTH)
        self.downsampler = AttentionDownsampler(features.channels, features.patch_size)
        self.crop_size = image_size
        self.mirror_probability = mirror_probability
        self.part = features.patch_size * round(_PART * image_size / features.patch_size)

    def modules(self) -> Iterable[nn.Module]:
        """See :class:`Method`."""
        return [self.upsampler, self.downsampler]

    def prepare(self, crops: Tensor, generator: torch.Generator) -> Examples:
        """See :class:`Method`; the features of views of different sizes are padded with zeros."""
        patch, cells = self.features.patch_size, self.part // self.features.patch_size
        crops = torch.cat([self._part_of(crop, generator) for crop in crops])
        views, wanted = [], crops.new_zeros(len(crops), _VIEWS, self.features.channels, cells, cells)
        for index, crop in enumerate(crops):
            of_crop = [draw_view(self.part, patch, self.mirror_probability, generator) for _ in range(_VIEWS)]
            for number, view in enumerate(of_crop):
                side = view.side // patch
                wanted[index, number, :, :side, :side] = self._norm(self.features(view.of(crop)[None]))[0]
            views.append([[view.top, view.left, view.side, int(view.mirrored)] for view in of_crop])
        return {
            "image": guidance(crops),
            "features": self.features(crops),
            "views": torch.tensor(views, device=crops.device),
            "wanted": wanted,
        }

    def loss(self, examples: Examples, done: float) -> Tensor:
        """See :class:`Method`."""
        upsampled = self.upsampler(examples["features"], examples["image"])
        at_size = functional.adaptive_avg_pool2d(upsampled, self.part)
        losses = []
        for index, views in enumerate(examples["views"].tolist()):
            for number, (top, left, side, mirrored) in enumerate(views):
                seen = View(top, left, side, bool(mirrored)).of(at_size[index : index + 1])
                cells = side // self.features.patch_size
                wanted = examples["wanted"][index : index + 1, number, :, :cells, :cells]
                losses.append(distance(_inner(self.downsampler(seen)), _inner(wanted)))
        return torch.stack(losses).mean()

    def _part_of(self, crop: Tensor, generator: torch.Generator) -> Tensor:
        rows, cols = torch.randint(self.image_size - self.part + 1, (2,), generator=generator).tolist()
        return crop[None, :, rows : rows + self.part, cols : cols + self.part]

    def _norm(self, features: Tensor) -> Tensor:
        return functional.layer_norm(features.movedim(1, -1), features.shape[1:2]).movedim(-1, 1)


def _inner(maps: Tensor) -> Tensor:
    """Without the outermost cells of a view, if others are left: they also tell that the image ends there."""
    return maps[..., 1:-1, 1:-1] if maps.shape[-1] > 2 else maps
