"""The logits of a trained probe from less work: whatever does not depend on the clicks is done once per crop.

Beyond what :meth:`Probe.encode` keeps, this is the first 3×3 convolution of the head. It is linear, so of a sum of
image features and enlarged click tokens it is the sum of both convolved: the first is kept with the crop, and the
second, like that of any map that was enlarged by interpolation, is worked out on the patch grid
(:mod:`vfm_isbench.heads.resized`). The probe itself stays the measure: results are equal up to rounding.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vfm_isbench.heads import ConvBlock, ConvHead
from vfm_isbench.heads.resized import Enlargement, conv_of_enlarged, enlargement
from vfm_isbench.probe import EncodedImage, Probe
from vfm_isbench.upsamplers import interpolation_of


@dataclass(frozen=True, slots=True, eq=False)
class QuickImage:
    """A crop, encoded for :class:`QuickProbe`.

    Attributes:
        encoded: What the probe keeps of it, without features where their convolution takes their place.
        convolved: Late injection: the head's first convolution of the image features, bias included; otherwise None.
    """

    encoded: EncodedImage
    convolved: Tensor | None


class QuickProbe:
    """A probe for evaluation, with the same two steps.

    Args:
        probe: The trained probe; its weights must not change from the encoding of a crop to its last click.
    """

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self._interpolation = interpolation_of(probe.upsampler)
        self._enlargements: dict[tuple[torch.Size, torch.Size, str, bool | None], Enlargement] = {}

    @property
    def head(self) -> nn.Module:
        """The probe's head."""
        return self.probe.head

    @torch.no_grad()
    def encode(self, image: Tensor) -> QuickImage:
        """Compute what does not depend on clicks, see :meth:`Probe.encode`."""
        encoded = self.probe.encode(image)
        first = self._first_conv()
        if first is None or self.probe.injection != "late":
            return QuickImage(encoded, None)
        convolved = first(cast(Tensor, encoded.features))
        return QuickImage(dataclasses.replace(encoded, features=None), convolved)

    @torch.no_grad()
    def logits(self, image: QuickImage, click_map: Tensor) -> Tensor:
        """Segment an encoded image, see :meth:`Probe.logits`."""
        probe, encoded = self.probe, image.encoded
        first, size = self._first_conv(), click_map.shape[-2:]
        if first is None or (image.convolved is None and self._interpolation is None):
            return probe.logits(encoded, click_map)
        tokens = probe.click_encoder(click_map)
        if image.convolved is not None:
            how = self._how(tokens, image.convolved.shape[-2:], "bilinear", probe.align_corners)
            return self._finish(conv_of_enlarged(tokens, first.weight, how, image.convolved), size)
        assert self._interpolation is not None
        if probe.injection == "early":
            small = probe.backbone(encoded.image, tokens)
        else:
            small = cast(Tensor, encoded.features) + tokens
        how = self._how(small, size, *self._interpolation)
        convolved = conv_of_enlarged(small, first.weight, how)
        return self._finish(convolved.add_(cast(Tensor, first.bias).view(1, -1, 1, 1)), size)

    def _first_conv(self) -> nn.Conv2d | None:
        head = self.probe.head
        return cast(ConvBlock, head.convs[0]).conv if type(head) is ConvHead and len(head.convs) else None

    def _how(self, small: Tensor, size: torch.Size, mode: str, align_corners: bool | None) -> Enlargement:
        key = (small.shape[-2:], size, mode, align_corners)
        if key not in self._enlargements:
            grid, large = (small.shape[-2], small.shape[-1]), (size[-2], size[-1])
            self._enlargements[key] = enlargement(grid, large, mode, align_corners, small)
        return self._enlargements[key]

    def _finish(self, convolved: Tensor, size: torch.Size) -> Tensor:
        head = cast(ConvHead, self.probe.head)
        return self.probe.resize(head.after_first(convolved), size)
