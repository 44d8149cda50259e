"""The probe: a backbone and an upsampler, frozen as a rule, between a trained click encoder and a trained head."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from vfm_isbench.probe.adapters import Adapters
from vfm_isbench.probe.end_to_end import let_train
from vfm_isbench.probe.guarded import GuardedUpsampler
from vfm_isbench.protocol import Injection
from vfm_isbench.upsamplers import LoadedUpsampler, Upsampler, find_module, freeze


class Probe(nn.Module):
    """Click encoder and head around a frozen backbone and a frozen upsampler.

    :meth:`forward` is the network exactly as the protocol defines it.
    :class:`vfm_isbench.acceleration.cached_probe.CachedProbe` computes the same faster.

    Args:
        backbone: Frozen on construction.
        upsampler: Any callable (features, guidance image) → features; its modules are frozen on construction.
        click_encoder: B×3×H×W click map → B×C×h×w tokens; trained.
        head: B×C×H×W → B×1×H×W logits; trained.
        injection: Where the click tokens are added; see :class:`vfm_isbench.Protocol`.
        align_corners: Convention of the bilinear resizes.
        trained_parts: Which of "upsampler" and "backbone" are trained too, instead of being frozen. They must be the
            probe's own, see :mod:`vfm_isbench.probe.end_to_end`.
        adapters: What makes use of granularity; trained. None for a probe that takes none.
    """

    def __init__(
        self,
        backbone: Backbone,
        upsampler: Upsampler | LoadedUpsampler,
        click_encoder: nn.Module,
        head: nn.Module,
        *,
        injection: Injection,
        align_corners: bool = True,
        trained_parts: Collection[str] = (),
        adapters: Adapters | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.upsampler = LoadedUpsampler.of(upsampler)
        # Registered, so that it moves to a device with the probe.
        self._upsampler_module = find_module(self.upsampler)
        self.click_encoder = click_encoder
        self.head = head
        self.injection = injection
        self.align_corners = align_corners
        self.trained_parts = frozenset(trained_parts)
        self.adapters = adapters
        for part in self._given_parts():
            freeze(part)
        let_train([module for name, module in self.trainable().items() if name in self.trained_parts])
        self.register_buffer("_mean", torch.tensor(backbone.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(backbone.std).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_guidance_mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_guidance_std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def _given_parts(self) -> list[nn.Module]:
        return [part for part in (self.backbone, self._upsampler_module) if part is not None]

    def train(self, mode: bool = True) -> Probe:
        """Switch click encoder and head to training or eval mode; backbone and upsampler always stay in eval mode.

        So they do if they are trained: their BatchNorms keep their statistics and their dropout stays off, and what is
        computed once for several predictions of a step is what a single prediction would compute.
        """
        super().train(mode)
        for part in self._given_parts():
            part.eval()
        return self

    def trainable(self) -> nn.ModuleDict:
        """All parts with gradients: click encoder, head, adapters, and what is trained of backbone and upsampler."""
        parts = {"click_encoder": self.click_encoder, "head": self.head}
        if self.adapters is not None:
            parts["adapters"] = self.adapters.trained()
        if "backbone" in self.trained_parts:
            parts["backbone"] = self.backbone
        # Not the modules that only its calls reach: these are nobody's copies.
        upsampler = find_module(self.upsampler.call) if "upsampler" in self.trained_parts else None
        return nn.ModuleDict(parts if upsampler is None else {**parts, "upsampler": upsampler})

    @property
    def has_fixed_features(self) -> bool:
        """Whether the features that the upsampler gets depend on the image alone."""
        return self.injection != "early" and (self.adapters is None or not self.adapters.changes_features)

    @property
    def guarded_upsampler(self) -> GuardedUpsampler:
        """The upsampler as training and evaluation call it."""
        return GuardedUpsampler(self.upsampler)

    @property
    def device(self) -> torch.device:
        """The device of the probe."""
        return cast(Tensor, self._mean).device

    def forward(self, image: Tensor, click_map: Tensor) -> Tensor:
        """Segment images under click maps.

        Args:
            image: B×3×H×W RGB in [0, 1].
            click_map: B×3×H×W, or B×4×H×W with adapters, see :func:`vfm_isbench.clicks.click_maps`.

        Returns:
            B×1×H×W logits.
        """
        size = image.shape[-2:]
        normalised, guidance = self.normalise(image)
        tokens = self.click_tokens(click_map, normalised)
        features = self.image_features(normalised, click_map, tokens if self.injection == "early" else None)
        if self.injection == "pre_upsampler":
            features = features + tokens
        features = self.to_head_size(self.guarded_upsampler(features, guidance), size)
        if self.injection == "late":
            features = features + self.resize(tokens, features.shape[-2:])
        return self.resize(self.head(features), size)

    def click_tokens(self, click_map: Tensor, normalised: Tensor) -> Tensor:
        """Click tokens B×C×h×w of a click map on a normalised image, which only adapters look at."""
        adapters = self.adapters
        if adapters is None:
            return cast(Tensor, self.click_encoder(click_map))
        values = click_map[:, 3, 0, 0]
        tokens = self.click_encoder(click_map[:, :3])
        return adapters.tokens(tokens, values, lambda: adapters.features(normalised, values))

    def image_features(self, normalised: Tensor, click_map: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Features B×C×h×w that the upsampler gets; ``tokens`` are those of early injection."""
        if self.adapters is None or not self.adapters.changes_features:
            return cast(Tensor, self.backbone(normalised, tokens))
        return self.adapters.features(normalised, click_map[:, 3, 0, 0], tokens)

    def normalise(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise an image B×3×H×W in [0, 1] for the backbone, and for the upsampler (ImageNet statistics)."""
        normalised = (image - cast(Tensor, self._mean)) / cast(Tensor, self._std)
        guidance = (image - cast(Tensor, self._guidance_mean)) / cast(Tensor, self._guidance_std)
        return normalised, guidance

    def upsample(self, features: Tensor, guidance: Any, size: torch.Size) -> Tensor:
        """Upsample features B×C×h×w to the size that the head takes.

        Args:
            features: B×C×h×w.
            guidance: What the upsampler's ``encode_guidance`` returned for the images.
            size: H and W of the images.
        """
        return self.to_head_size(self.guarded_upsampler.upsample(features, guidance), size)

    def to_head_size(self, upsampled: Tensor, size: torch.Size) -> Tensor:
        """Resize an upsampler's output to H×W, unless it deliberately keeps features at the patch grid."""
        return upsampled if self.upsampler.capabilities.keeps_patch_resolution else self.resize(upsampled, size)

    def resize(self, maps: Tensor, size: torch.Size) -> Tensor:
        """Resize maps bilinearly by the probe's convention; maps of that size are returned as they are."""
        if maps.shape[-2:] == size:
            return maps
        return functional.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=self.align_corners)
