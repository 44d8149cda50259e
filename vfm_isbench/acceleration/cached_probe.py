"""The logits of a probe from less work: whatever does not depend on the clicks is done once per crop.

Beyond what :meth:`Probe.encode` keeps, this is the first 3×3 convolution of the head. It is linear, so of a sum of
image features and enlarged click tokens it is the sum of both convolved: the first is kept with the crop, and the
second, like that of any map that was enlarged by interpolation, is worked out on the patch grid
(:mod:`vfm_isbench.kernels.resized_conv`). What remains of the head runs on CPUs by :mod:`vfm_isbench.kernels.winograd`.

:class:`UncachedProbe` runs the whole network for every click, as the protocol says, and is the reference: results are
equal up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from vfm_isbench.acceleration.strip_head import HeadByStrips
from vfm_isbench.heads import ConvHead
from vfm_isbench.kernels.resized_conv import EnlargedConv, Enlargement, conv_of_enlarged, enlargement
from vfm_isbench.kernels.row_strips import RowsOfStrips, rows_of
from vfm_isbench.kernels.winograd import convolve
from vfm_isbench.probe import EncodedImage, Probe
from vfm_isbench.upsamplers import StripwiseUpsampler, interpolation_of


class UncachedProbe:
    """A probe in two steps of which the first does nothing: the whole network runs for every click.

    Args:
        probe: The probe.
    """

    def __init__(self, probe: Probe) -> None:
        self.probe = probe

    @property
    def head(self) -> nn.Module:
        """The probe's head."""
        return self.probe.head

    def encode(self, image: Tensor) -> Tensor:
        """Return the crop B×3×H×W as it is."""
        return image

    def logits(self, image: Tensor, click_map: Tensor) -> Tensor:
        """Segment a crop, see :meth:`Probe.forward`."""
        return cast(Tensor, self.probe(image, click_map))


@dataclass(frozen=True, slots=True, eq=False)
class CachedImage:
    """A crop, encoded for :class:`CachedProbe`.

    Attributes:
        encoded: What the probe keeps of it. With late injection its features are those of the patch grid where they
            are enlarged together with the click tokens; where ``convolved`` takes their place, it has the image alone.
        convolved: The head's first convolution of the image features, bias included, B×C×H×W; None where it depends on
            the clicks, or is worked out on the patch grid.
    """

    encoded: EncodedImage
    convolved: Tensor | None


class CachedProbe:
    """A probe by the shortcut, with the same two steps. Gradients of the trained parts flow as through the probe.

    Args:
        probe: The probe; its weights must not change while this is in use.
    """

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        head = probe.head
        self._head = head if type(head) is ConvHead and head.first_conv() is not None else None
        self._interpolation = interpolation_of(probe.upsampler)
        clicks_are_enlarged_by = ("bilinear", probe.align_corners)
        # Then enlarging the sum is enlarging both.
        self._sums_on_grid = probe.injection == "late" and self._interpolation == clicks_are_enlarged_by
        self._enlargements: dict[tuple[torch.Size, torch.Size, str, bool | None], Enlargement] = {}
        self._prepared: HeadByStrips | None = None

    @property
    def head(self) -> nn.Module:
        """The probe's head."""
        return self.probe.head

    @torch.no_grad()
    def _encode(self, image: Tensor) -> EncodedImage:
        return self.probe.encode(image, upsample=self._head is None or self._interpolation is None)

    def encode(self, image: Tensor) -> CachedImage:
        """Compute what does not depend on clicks of B×3×H×W in [0, 1], see :meth:`Probe.encode`."""
        encoded = self._encode(image)
        if self._head is None or self.probe.injection != "late" or self._sums_on_grid:
            return CachedImage(encoded, None)
        features = cast(Tensor, encoded.features)
        if self._interpolation is None:
            convolved = self._first(features)
        else:
            convolved = self._enlarged(features, image.shape[-2:], *self._interpolation).whole()
        # Features and guidance have done their work; a guidance may be larger than all else.
        return CachedImage(EncodedImage(encoded.image, None, None), convolved)

    def logits(self, image: CachedImage, click_map: Tensor) -> Tensor:
        """Segment an encoded crop under click maps B×3×H×W, see :meth:`Probe.logits`."""
        probe, encoded, size = self.probe, image.encoded, click_map.shape[-2:]
        if self._head is None:
            return probe.logits(encoded, click_map)
        tokens = probe.click_encoder(click_map)
        if image.convolved is not None:
            large = image.convolved.shape[-2:]
            first = self._enlarged(tokens, large, "bilinear", probe.align_corners, plus=image.convolved)
            return probe.resize(self._rest(first), size)
        if probe.injection == "early":
            small = probe.backbone(encoded.image, tokens)
        else:
            small = cast(Tensor, encoded.features) + tokens
        if self._interpolation is not None:
            return probe.resize(self._rest(self._enlarged(small, size, *self._interpolation)), size)
        by_strips, upsampler = self._by_strips(), probe.upsampler
        if by_strips is not None and isinstance(upsampler, StripwiseUpsampler):
            batch, channels = small.shape[:2]
            rows = RowsOfStrips(upsampler.upsample_strips(small, encoded.guidance))
            return by_strips.logits(rows, (batch, *size, channels))
        return probe.resize(self._rest(self._first(probe.upsample(small, encoded.guidance, size))), size)

    def join(self, images: Sequence[CachedImage]) -> CachedImage | None:
        """One batch of several encoded crops; None where an upsampler is still to run, which batches might change."""
        if self._head is None or (images[0].convolved is None and self._interpolation is None):
            return None
        convolved = None if images[0].convolved is None else torch.cat([cast(Tensor, one.convolved) for one in images])
        features = None
        if images[0].encoded.features is not None:
            features = torch.cat([cast(Tensor, one.encoded.features) for one in images])
        image = torch.cat([one.encoded.image for one in images])
        return CachedImage(EncodedImage(image, None, features), convolved)

    @property
    def _first_conv(self) -> nn.Conv2d:
        return cast(nn.Conv2d, cast(ConvHead, self._head).first_conv())

    def _first(self, features: Tensor) -> Tensor:
        """The head's first convolution of features at the size of the head."""
        return convolve(self._first_conv, features)

    def _enlarged(
        self, small: Tensor, size: torch.Size, mode: str, align_corners: bool | None, plus: Tensor | None = None
    ) -> EnlargedConv:
        """The head's first convolution of an enlarged map, and of ``plus``, which is convolved already."""
        key = (small.shape[-2:], size, mode, align_corners)
        if key not in self._enlargements:
            grid, large = (small.shape[-2], small.shape[-1]), (size[-2], size[-1])
            self._enlargements[key] = enlargement(grid, large, mode, align_corners, small)
        conv = self._first_conv
        added = cast(Tensor, conv.bias) if plus is None else plus
        return conv_of_enlarged(small, conv.weight, self._enlargements[key], added)

    def _rest(self, first: EnlargedConv | Tensor) -> Tensor:
        """Logits from the first convolution, B×C×H×W if it is a tensor."""
        by_strips = self._by_strips()
        if by_strips is None:
            return cast(ConvHead, self._head).after_first(first if isinstance(first, Tensor) else first.whole())
        if isinstance(first, Tensor):
            return by_strips.after_first(rows_of(first), first.permute(0, 2, 3, 1).shape)
        return by_strips.after_first(first.rows, first.shape)

    def _by_strips(self) -> HeadByStrips | None:
        """The head in the form that is fastest on CPUs, where that pays."""
        head = cast(ConvHead, self._head)
        if not HeadByStrips.pays(head):
            return None
        if self._prepared is None:
            self._prepared = HeadByStrips(head)
        return self._prepared


class Network(Protocol):
    """What evaluation and training run, in two steps: a probe, or one of its ways in this module."""

    @property
    def head(self) -> nn.Module:
        """The segmentation head; its parameters tell the device."""
        ...

    def encode(self, image: Tensor, /) -> Any:
        """Encode crops B×3×H×W in [0, 1]."""
        ...

    def logits(self, encoded: Any, click_map: Tensor, /) -> Tensor:
        """Logits B×1×H×W of what :meth:`encode` returned, under click maps B×3×H×W."""
        ...


def fastest_network(probe: Probe) -> Network:
    """The shortcut; or a probe of another class as it is, for it may compute its logits otherwise."""
    return CachedProbe(probe) if type(probe) is Probe else cast(Network, probe)


def logits_of_several(network: Network, views: Sequence[tuple[Any, Tensor]]) -> list[Tensor]:
    """Logits of several encoded crops, each under its own click map, in one pass where that changes nothing."""
    joined = network.join([encoded for encoded, _ in views]) if isinstance(network, CachedProbe) and views[1:] else None
    if joined is None:
        return [network.logits(*view) for view in views]
    sizes = [len(click_map) for _, click_map in views]
    return list(torch.split(network.logits(joined, torch.cat([click_map for _, click_map in views])), sizes))
