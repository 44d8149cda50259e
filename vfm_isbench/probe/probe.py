"""The probe: a frozen backbone and upsampler between a trained click encoder and a trained head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from vfm_isbench.protocol.validation import Injection
from vfm_isbench.upsamplers import TwoStepUpsampler, Upsampler, find_module, freeze, keeps_patch_resolution


@dataclass(frozen=True, slots=True, eq=False)
class EncodedImage:
    """Whatever of a forward pass does not depend on clicks: computed once per crop, used for every click.

    Attributes:
        image: B×3×H×W, normalised for the backbone.
        guidance: What the upsampler needs of the image: the ImageNet-normalised image, or, for an upsampler in two
            steps, its encoding.
        features: Late injection: upsampled features, ready for the click tokens. Pre-upsampler injection: the
            backbone's features B×C×h×w. Early injection: None, for there everything depends on clicks.
    """

    image: Tensor
    guidance: Any
    features: Tensor | None


class Probe(nn.Module):
    """Click encoder and head around a frozen backbone and a frozen upsampler.

    Args:
        backbone: Frozen on construction.
        upsampler: Any callable (features, guidance image) → features; a module is frozen on construction.
        click_encoder: B×3×H×W click map → B×C×h×w tokens; trained.
        head: B×C×H×W → B×1×H×W logits; trained.
        injection: Where the click tokens are added; see :class:`vfm_isbench.Protocol`.
        align_corners: Convention of the bilinear resizes.
    """

    def __init__(
        self,
        backbone: Backbone,
        upsampler: Upsampler,
        click_encoder: nn.Module,
        head: nn.Module,
        *,
        injection: Injection,
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.upsampler = upsampler
        # A module inside a callable that is none itself: registered, so that it moves to a device with the probe.
        self._wrapped_module = None if isinstance(upsampler, nn.Module) else find_module(upsampler)
        self.click_encoder = click_encoder
        self.head = head
        self.injection = injection
        self.align_corners = align_corners
        self.feature_cache: Callable[[Tensor], Tensor] | None = None  # stands in for the backbone in encode()
        for part in self._frozen_parts():
            freeze(part)
        self.register_buffer("_mean", torch.tensor(backbone.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(backbone.std).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_guidance_mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_guidance_std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def _frozen_parts(self) -> list[nn.Module]:
        module = find_module(self.upsampler)
        return [self.backbone] if module is None else [self.backbone, module]

    def train(self, mode: bool = True) -> Probe:
        """Switch click encoder and head; the frozen parts stay in eval mode whatever is asked."""
        super().train(mode)
        for part in self._frozen_parts():
            part.eval()
        return self

    def trainable(self) -> nn.ModuleDict:
        """Click encoder and head, the only parts with gradients."""
        return nn.ModuleDict({"click_encoder": self.click_encoder, "head": self.head})

    def forward(self, image: Tensor, click_map: Tensor) -> Tensor:
        """Segment images under click maps: the whole of it as the protocol says, in one step.

        Args:
            image: B×3×H×W RGB in [0, 1].
            click_map: B×3×H×W, see :func:`vfm_isbench.clicks.click_maps`.

        Returns:
            B×1×H×W logits.
        """
        normalised, guidance = self._normalised(image)
        tokens = self.click_encoder(click_map)
        features = self.backbone(normalised, tokens if self.injection == "early" else None)
        if self.injection == "pre_upsampler":
            features = features + tokens
        features = self._to_size(self.upsampler(features, guidance), image.shape[-2:])
        if self.injection == "late":
            features = features + self.resize(tokens, features.shape[-2:])
        return self.resize(self.head(features), image.shape[-2:])

    @torch.no_grad()
    def encode(self, image: Tensor, *, upsample: bool = True) -> EncodedImage:
        """Compute what does not depend on clicks.

        Args:
            image: B×3×H×W RGB in [0, 1].
            upsample: With late injection: whether features are upsampled, or left at the patch grid.
        """
        normalised, guidance = self._normalised(image)
        encoded: Any = guidance
        if isinstance(self.upsampler, TwoStepUpsampler):
            encoded = self.upsampler.encode_guidance(guidance)
        features: Tensor | None = None
        if self.injection != "early":
            features = (self.feature_cache or self.backbone)(normalised)
        if self.injection == "late" and upsample:
            features = self.upsample(cast(Tensor, features), encoded, image.shape[-2:])
        return EncodedImage(normalised, encoded, features)

    def logits(self, encoded: EncodedImage, click_map: Tensor) -> Tensor:
        """Segment an encoded image.

        Args:
            encoded: Result of :meth:`encode` for the same batch.
            click_map: B×3×H×W, see :func:`vfm_isbench.clicks.click_maps`.

        Returns:
            B×1×H×W logits.
        """
        size = click_map.shape[-2:]
        tokens = self.click_encoder(click_map)
        if self.injection == "late":
            features = cast(Tensor, encoded.features)
            features = features + self.resize(tokens, features.shape[-2:])
        elif self.injection == "pre_upsampler":
            features = self.upsample(cast(Tensor, encoded.features) + tokens, encoded.guidance, size)
        else:
            features = self.upsample(self.backbone(encoded.image, tokens), encoded.guidance, size)
        return self.resize(self.head(features), size)

    def _normalised(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The image as the backbone and as the upsampler want it."""
        normalised = (image - cast(Tensor, self._mean)) / cast(Tensor, self._std)
        guidance = (image - cast(Tensor, self._guidance_mean)) / cast(Tensor, self._guidance_std)
        return normalised, guidance

    def upsample(self, features: Tensor, guidance: Any, size: torch.Size) -> Tensor:
        """Upsample features B×C×h×w with the guidance of an :class:`EncodedImage`, to the size that the head takes."""
        if isinstance(self.upsampler, TwoStepUpsampler):
            return self._to_size(self.upsampler.upsample(features, guidance), size)
        return self._to_size(self.upsampler(features, guidance), size)

    def _to_size(self, upsampled: Tensor, size: torch.Size) -> Tensor:
        return upsampled if keeps_patch_resolution(self.upsampler) else self.resize(upsampled, size)

    def resize(self, maps: Tensor, size: torch.Size) -> Tensor:
        """Resize maps bilinearly by the probe's convention, if they are not of that size."""
        if maps.shape[-2:] == size:
            return maps
        return functional.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=self.align_corners)
