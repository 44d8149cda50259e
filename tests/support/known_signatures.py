"""Modules that are called like published upsamplers. Only the signatures are theirs; the content is a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = 8


class Mixing(nn.Module):
    """A 1×1 convolution with fixed random weights, before bilinear interpolation to any size."""

    def __init__(self, channels: int = CHANNELS, seed: int = 0) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1)
        nn.init.normal_(self.mix.weight, std=0.3, generator=torch.Generator().manual_seed(seed))
        nn.init.zeros_(self.mix.bias)

    def resized(self, features: Tensor, image: Tensor, size: Any) -> Tensor:
        assert image.shape[1] == 3 and features.shape[1] == self.mix.in_channels, "arguments in the wrong order"
        shades = functional.interpolate(image.mean(1, keepdim=True), size, mode="bilinear")
        return self.mix(functional.interpolate(features, size, mode="bilinear")) + 0.1 * shades


class LikeAnyUp(Mixing):
    """AnyUp: the size may be given, and queries may be split."""

    def forward(
        self,
        image: Tensor,
        features: Tensor,
        output_size: tuple[int, int] | None = None,
        vis_attn: bool = False,
        q_chunk_size: int | None = None,
    ) -> Tensor:
        size = output_size or image.shape[-2:]
        whole = self.resized(features, image, size)
        rows = size[0] if q_chunk_size is None else max(1, q_chunk_size // size[1])
        return torch.cat([whole[:, :, top : top + rows] for top in range(0, size[0], rows)], dim=2)


class LikeJafar(Mixing):
    """JAFAR: the size must be given."""

    def __init__(self, input_dim: int = 3, qk_dim: int = 4, v_dim: int = CHANNELS, **kwargs: Any) -> None:
        super().__init__(v_dim)

    def forward(self, image: Tensor, features: Tensor, output_size: Any, *args: Any, **kwargs: Any) -> Tensor:
        return self.resized(features, image, output_size)


class LikeNaf(Mixing):
    """NAF: the size must be given, and weights may be returned."""

    def forward(
        self, image: Tensor, features: Tensor, output_size: Any, return_weights: bool = False, **kwargs: Any
    ) -> Any:
        output = self.resized(features, image, output_size)
        return (output, None) if return_weights else output


class LikeUplift(Mixing):
    """UPLiFT: twice the size per pass; a method sets the number of passes."""

    def __init__(self) -> None:
        super().__init__()
        self.iters = 1

    def enable_iterative(self, iters: int) -> None:
        assert iters > 0
        self.iters = iters

    def forward(self, img: Tensor, x: Tensor, outsize: Any = None) -> Tensor:
        for _ in range(self.iters):
            x = self.resized(x, img, [2 * side for side in x.shape[-2:]])
        return x if outsize is None else functional.interpolate(x, outsize, mode="bilinear")


class LikeFeatUp(Mixing):
    """FeatUp-JBU: keywords, 16 times the patch grid."""

    def forward(self, source: Tensor, guidance: Tensor) -> Tensor:
        return self.resized(source, guidance, [16 * side for side in source.shape[-2:]])


class LikeLoftUp(Mixing):
    """LoftUp: keywords, the image's size."""

    def forward(self, lr_feats: Tensor, img: Tensor) -> Tensor:
        return self.resized(lr_feats, img, img.shape[-2:])


class LikeLift(Mixing):
    """LiFT: the image first, twice the patch grid."""

    def forward(self, image: Tensor, features: Tensor) -> Tensor:
        return self.resized(features, image, [2 * side for side in features.shape[-2:]])


class HighAndLow(Mixing):
    """Other names by keyword."""

    def forward(self, hr_image: Tensor, lr_features: Tensor) -> Tensor:
        return self.resized(lr_features, hr_image, hr_image.shape[-2:])


class FeaturesFirst(Mixing):
    """Our order, with a size that must be given."""

    def forward(self, features: Tensor, image: Tensor, output_size: Any) -> Tensor:
        return self.resized(features, image, output_size)


class KeywordsOnly(Mixing):
    """Everything by keyword."""

    def forward(self, *, image: Tensor, features: Tensor, output_size: Any, gain: float = 1.0) -> Tensor:
        return gain * self.resized(features, image, output_size)


class TwoSteps(Mixing):
    """Two steps."""

    def encode_guidance(self, image: Tensor) -> Tensor:
        return image.mean(1, keepdim=True)

    def upsample(self, features: Tensor, guidance: Tensor) -> Tensor:
        return self.mix(functional.interpolate(features, guidance.shape[-2:])) + guidance

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        return self.upsample(features, self.encode_guidance(image))


class Strips(TwoSteps):
    """Two steps, the second of them in strips."""

    def upsample_strips(self, features: Tensor, guidance: Tensor) -> Iterator[tuple[int, Tensor]]:
        rows = self.upsample(features, guidance).permute(0, 2, 3, 1)
        for top in range(0, rows.shape[1], 5):
            yield top, rows[:, top : top + 5]


class LikeUpsampleAnything:
    """Upsample Anything: optimises per image."""

    needs_gradients = True
    steps = 2

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        residual = torch.zeros(1, features.shape[1], *image.shape[-2:], requires_grad=True)
        optimizer = torch.optim.Adam([residual], lr=0.1)
        for _ in range(self.steps):
            upsampled = functional.interpolate(features, image.shape[-2:], mode="bilinear") + residual
            loss = (functional.adaptive_avg_pool2d(upsampled, features.shape[-2:]) - features).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return upsampled


class LikeFeatUpImplicit:
    """FeatUp implicit: optimises per image, against features of shifted images."""

    needs_gradients = True
    needs_backbone = True

    def bind_backbone(self, features_of: Callable[[Tensor], Tensor]) -> None:
        self.features_of = features_of

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        upsampled = functional.interpolate(features, image.shape[-2:], mode="bilinear").requires_grad_()
        optimizer = torch.optim.SGD([upsampled], lr=1.0)
        for shift in (0, 3):
            target = self.features_of(image.roll(shift, dims=-1))
            assert not target.requires_grad
            seen = functional.adaptive_avg_pool2d(upsampled.roll(shift, dims=-1), features.shape[-2:])
            optimizer.zero_grad()
            (seen - target).square().sum().backward()
            optimizer.step()
        return upsampled


class LikeFeatSharp(nn.Module):
    """FeatSharp: gets the backbone as a function, and returns features at both sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor, get_lr_features: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        low = get_lr_features(x)
        mirrored = get_lr_features(x.flip(-1)).flip(-1)
        return low, self.gain * functional.interpolate((low + mirrored) / 2, scale_factor=4, mode="bilinear")


class LikeVitUp(nn.Module):
    """ViT-Up: has a backbone of its own, and is asked for points (x, y) in [0, 1]."""

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, channels, 7, stride=7)
        nn.init.normal_(self.backbone.weight, std=0.1, generator=torch.Generator().manual_seed(1))
        nn.init.zeros_(self.backbone.bias)
        self.most = 0

    def forward(self, images: Tensor, query_coords: Tensor, return_all_layers: bool = False) -> Tensor:
        self.most = max(self.most, query_coords.shape[1])
        sampled = functional.grid_sample(
            self.backbone(images), query_coords[:, None] * 2 - 1, padding_mode="border", align_corners=False
        )
        return sampled[:, :, 0].transpose(1, 2)
