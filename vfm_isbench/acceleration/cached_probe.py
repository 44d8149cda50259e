"""The logits of a probe with less work: everything that does not depend on the clicks is computed once per crop.

With late injection that includes the first 3×3 convolution of the head. It is linear, so for a sum of image features
and enlarged click tokens it is the sum of both convolved. The first part is kept with the crop; the second, like every
map that was enlarged by interpolation, is computed on the patch grid (:mod:`vfm_isbench.kernels.resized_conv`). On
CPUs, :mod:`vfm_isbench.kernels.winograd` runs the rest of the head.

:class:`UncachedProbe` runs the whole network for every click, as the protocol says, and is the reference: results are
equal up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from vfm_isbench.acceleration.speed import Speed
from vfm_isbench.acceleration.strip_head import StripHead
from vfm_isbench.backbones.timm_models import ViTBackbone
from vfm_isbench.click_encoders import SimpleViT
from vfm_isbench.heads import ConvHead
from vfm_isbench.kernels.resized_conv import EnlargedConv, Enlargement, conv_of_enlarged, enlargement
from vfm_isbench.kernels.row_strips import RowsOfStrips, item_rows_of, rows_of
from vfm_isbench.kernels.threads import in_parts
from vfm_isbench.kernels.winograd import LEAST_CHANNELS, convolve
from vfm_isbench.probe import Probe
from vfm_isbench.probe.adapters import Adapters


class Network(Protocol):
    """What evaluation and training run: a probe in two steps, the first of which sees no clicks."""

    @property
    def device(self) -> torch.device:
        """The device of the probe."""
        ...

    def encode(self, image: Tensor, features: Tensor | None = None, /) -> Any:
        """Encode crops B×3×H×W in [0, 1]; ``features`` may be the backbone's, if they are already computed."""
        ...

    def logits(self, encoded: Any, click_map: Tensor, small: Tensor | None = None, /) -> Tensor:
        """Logits B×1×H×W of what :meth:`encode` returned, under click maps B×3×H×W.

        ``small`` may be the features at the patch grid with their click tokens, if they are already computed.
        """
        ...


class UncachedProbe:
    """A probe in two steps of which the first does nothing: the whole network runs for every click.

    Args:
        probe: The probe.
    """

    def __init__(self, probe: Probe) -> None:
        self.probe = probe

    @property
    def device(self) -> torch.device:
        """The device of the probe."""
        return self.probe.device

    def encode(self, image: Tensor, _features: Tensor | None = None) -> Tensor:
        """Return the crop B×3×H×W as it is."""
        return image

    def logits(self, image: Tensor, click_map: Tensor, _small: Tensor | None = None) -> Tensor:
        """Segment a crop, see :meth:`Probe.forward`."""
        return cast(Tensor, self.probe(image, click_map))


@dataclass(frozen=True, slots=True, eq=False)
class CachedImage:
    """The part of a forward pass that does not depend on clicks, for a batch of crops.

    Attributes:
        image: B×3×H×W, normalised for the backbone.
        guidance: What the upsampler still needs of the image; None if it has done its work.
        features: Pre-upsampler injection: the backbone's features B×C×h×w. Late injection: features ready for the click
            tokens, at the patch grid if they are enlarged together. None where all features depend on clicks or
            granularity (see :attr:`Probe.has_fixed_features`), and if ``convolved`` replaces them.
        convolved: The head's first convolution of the image features, bias included, B×C×H×W; None if it depends on the
            clicks, or is computed on the patch grid.
    """

    image: Tensor
    guidance: Any
    features: Tensor | None
    convolved: Tensor | None = None

    def split(self, sizes: Sequence[int]) -> list[CachedImage]:
        """The crops of a joined batch, as views of its memory; see :meth:`CachedProbe.join`."""
        parts = (
            [None] * len(sizes) if maps is None else torch.split(maps, list(sizes))
            for maps in (self.image, self.features, self.convolved)
        )
        return [CachedImage(image, None, *maps) for image, *maps in zip(*parts, strict=True)]


class CachedProbe:
    """A probe in two steps, computing once per crop what it can. Gradients flow as through the probe.

    Args:
        probe: The probe; its weights must not change while this is in use.
        backbone: Called in place of the probe's backbone for images without clicks, as a cache of its features.
        winograd_channels: See :class:`vfm_isbench.Speed`.
    """

    def __init__(
        self,
        probe: Probe,
        backbone: Callable[[Tensor], Tensor] | None = None,
        winograd_channels: int = LEAST_CHANNELS,
    ) -> None:
        self.probe = probe
        self._click_encoder, self._features = _shared(probe.click_encoder), _shared(probe.backbone)
        self._adapted: tuple[Tensor, Tensor, Tensor] | None = None
        self._backbone = backbone or self._features
        self._winograd_channels = winograd_channels
        head = probe.head
        # Only of a conv head is it known that it starts with a linear operation.
        self._head = head if type(head) is ConvHead and head.first_conv() is not None else None
        self._interpolation = probe.upsampler.capabilities.interpolation if self._head is not None else None
        clicks_are_enlarged_by = ("bilinear", probe.align_corners)
        # Then enlarging the sum is enlarging both.
        self._sums_on_grid = probe.injection == "late" and self._interpolation == clicks_are_enlarged_by
        self._enlargements: dict[tuple[torch.Size, torch.Size, str, bool | None], Enlargement] = {}
        self._strip_head: StripHead | None = None

    @property
    def device(self) -> torch.device:
        """The device of the probe."""
        return self.probe.device

    def features_of(self, images: Sequence[Tensor]) -> list[Tensor] | None:
        """The backbone's features of several crops, each B×3×H×W, in one pass; None if they depend on the clicks."""
        if not self.probe.has_fixed_features:
            return None
        with torch.no_grad():
            normalised, _ = self.probe.normalise(torch.cat(list(images)))
            return list(torch.split(self._backbone(normalised), [len(image) for image in images]))

    def encode(self, image: Tensor, features: Tensor | None = None) -> CachedImage:
        """Compute everything that does not depend on clicks; with gradients only if backbone or upsampler is trained.

        Args:
            image: B×3×H×W in [0, 1].
            features: The backbone's features of it, from :meth:`features_of`; None computes them.
        """
        probe, size = self.probe, image.shape[-2:]
        is_training = torch.is_grad_enabled() and bool(probe.trained_parts)
        with torch.set_grad_enabled(is_training):
            normalised, guidance = probe.normalise(image)
            guidance = probe.guarded_upsampler.encode_guidance(guidance)
            if not probe.has_fixed_features:
                return CachedImage(normalised, guidance, None)
            if features is None:
                # Cached features have no gradient.
                is_live = is_training and "backbone" in probe.trained_parts
                features = self._features(normalised) if is_live else self._backbone(normalised)
            if probe.injection == "late" and self._interpolation is None:
                features = probe.upsample(features, guidance, size)
        if self._head is None or probe.injection != "late" or self._sums_on_grid:
            return CachedImage(normalised, guidance, features)
        if self._interpolation is None:
            convolved = self._convolve(features)
        else:
            convolved = self._convolve_enlarged(features, size, *self._interpolation).whole()
        # Features and guidance have done their work; a guidance may be larger than everything else.
        return CachedImage(normalised, None, None, convolved)

    def small_of(self, images: Sequence[CachedImage], click_map: Tensor) -> list[Tensor] | None:
        """The features at the patch grid of several encoded crops, with their click tokens, in one pass.

        Returns:
            For each what :meth:`logits` takes as ``small``; None if it takes none.
        """
        probe = self.probe
        if probe.injection == "late":
            return None
        crops = torch.cat([image.image for image in images])
        tokens = self._tokens(click_map, crops)
        if probe.injection == "early":
            small = self._changing_features(crops, click_map, tokens)
        elif not probe.has_fixed_features:
            small = self._changing_features(crops, click_map) + tokens
        else:
            small = torch.cat([cast(Tensor, image.features) for image in images]) + tokens
        return list(torch.split(small, [len(image.image) for image in images]))

    def logits(self, image: CachedImage, click_map: Tensor, small: Tensor | None = None) -> Tensor:
        """Segment encoded crops under click maps.

        Args:
            image: Result of :meth:`encode`.
            click_map: B×3×H×W, or B×4×H×W with adapters, see :func:`vfm_isbench.clicks.click_maps`.
            small: The features at the patch grid, from :meth:`small_of`; None computes them.

        Returns:
            B×1×H×W logits.
        """
        probe, size = self.probe, click_map.shape[-2:]
        if small is not None:
            return self._enlarged_logits(small, image.guidance, size)
        tokens = self._tokens(click_map, image.image)
        if image.convolved is not None:
            large = image.convolved.shape[-2:]
            first = self._convolve_enlarged(tokens, large, "bilinear", probe.align_corners, plus=image.convolved)
            return probe.resize(self._after_first(first), size)
        if probe.injection == "early":
            small = self._changing_features(image.image, click_map, tokens)
        elif not probe.has_fixed_features and (probe.injection != "late" or self._sums_on_grid):
            small = self._changing_features(image.image, click_map) + tokens
        elif probe.injection == "late" and not self._sums_on_grid:
            if probe.has_fixed_features:
                features = cast(Tensor, image.features)
            else:
                features = probe.upsample(self._changing_features(image.image, click_map), image.guidance, size)
            return probe.resize(probe.head(features + probe.resize(tokens, features.shape[-2:])), size)
        else:
            small = cast(Tensor, image.features) + tokens
        return self._enlarged_logits(small, image.guidance, size)

    def _enlarged_logits(self, small: Tensor, guidance: Any, size: torch.Size) -> Tensor:
        """Logits of features at the patch grid that are still to be enlarged."""
        probe, strip_head = self.probe, self._fast_head()
        if self._interpolation is not None:
            return probe.resize(self._after_first(self._convolve_enlarged(small, size, *self._interpolation)), size)
        if strip_head is not None and probe.upsampler.capabilities.upsample_strips is not None:
            batch, channels = small.shape[:2]
            strips = probe.guarded_upsampler.upsample_strips(small, guidance, size)
            return strip_head.logits(RowsOfStrips(strips), (batch, *size, channels))
        features = probe.upsample(small, guidance, size)
        logits = probe.head(features) if self._head is None else self._after_first(self._convolve(features))
        return probe.resize(logits, size)

    def join(self, images: Sequence[CachedImage]) -> CachedImage | None:
        """Join encoded crops to one batch; None if the upsampler has still to run, which a batch might change."""
        probe = self.probe
        if probe.injection == "late":
            runs_later = not probe.has_fixed_features and not self._sums_on_grid
        else:
            runs_later = self._interpolation is None
        if runs_later:
            return None
        return CachedImage(
            torch.cat([image.image for image in images]),
            None,
            _joined([image.features for image in images]),
            _joined([image.convolved for image in images]),
        )

    def _tokens(self, click_map: Tensor, normalised: Tensor) -> Tensor:
        """See :meth:`Probe.click_tokens`."""
        adapters = self.probe.adapters
        if adapters is None:
            return self._click_encoder(click_map)
        values = click_map[:, 3, 0, 0]
        tokens = self._click_encoder(click_map[:, :3])
        return adapters.tokens(tokens, values, lambda: self._adapted_features(normalised, values))

    def _changing_features(self, normalised: Tensor, click_map: Tensor, tokens: Tensor | None = None) -> Tensor:
        """See :meth:`Probe.image_features`; for features that depend on more than the image."""
        adapters = self.probe.adapters
        if adapters is None or not adapters.changes_features:
            return self._features(normalised, tokens)
        values = click_map[:, 3, 0, 0]
        if tokens is not None:
            return adapters.features(normalised, values, tokens)
        return self._adapted_features(normalised, values)

    def _adapted_features(self, normalised: Tensor, granularities: Tensor) -> Tensor:
        """Features of the adapted backbone, which do not depend on clicks; without gradients, the last are kept."""
        adapters = cast(Adapters, self.probe.adapters)
        if torch.is_grad_enabled():
            return adapters.features(normalised, granularities)
        kept = self._adapted
        if kept is not None and kept[0] is normalised and torch.equal(kept[1], granularities):
            return kept[2]
        features = adapters.features(normalised, granularities)
        self._adapted = (normalised, granularities, features)
        return features

    @property
    def _first_conv(self) -> nn.Conv2d:
        return cast(nn.Conv2d, cast(ConvHead, self._head).first_conv())

    def _convolve(self, features: Tensor) -> Tensor:
        """The head's first convolution of full-size features."""
        return convolve(self._first_conv, features, self._winograd_channels)

    def _convolve_enlarged(
        self, small: Tensor, size: torch.Size, mode: str, align_corners: bool | None, plus: Tensor | None = None
    ) -> EnlargedConv:
        """The head's first convolution of an enlarged map, added to ``plus``, which is already convolved."""
        key = (small.shape[-2:], size, mode, align_corners)
        if key not in self._enlargements:
            grid, large = (small.shape[-2], small.shape[-1]), (size[-2], size[-1])
            self._enlargements[key] = enlargement(grid, large, mode, align_corners, small)
        conv = self._first_conv
        added = cast(Tensor, conv.bias) if plus is None else plus
        return conv_of_enlarged(small, conv.weight, self._enlargements[key], added)

    def _after_first(self, first: EnlargedConv | Tensor) -> Tensor:
        """Logits from the first convolution, B×C×H×W if it is a tensor."""
        strip_head = self._fast_head()
        if strip_head is None:
            whole = first if isinstance(first, Tensor) else first.whole()
            return cast(ConvHead, self._head).after_first(whole, self._winograd_channels)
        if isinstance(first, Tensor):
            shape = first.permute(0, 2, 3, 1).shape
            return strip_head.after_first(rows_of(first), shape, item_rows_of(first))
        return strip_head.after_first(first.rows, first.shape, first.item_rows)

    def _fast_head(self) -> StripHead | None:
        """The head strip by strip, if that currently pays."""
        if self._head is None or not StripHead.pays(self._head, self._winograd_channels):
            return None
        if self._strip_head is None:
            self._strip_head = StripHead(self._head)
        return self._strip_head


def _shared(network: nn.Module) -> Callable[..., Tensor]:
    """The network, with its batch shared by threads if it is known that several may run it at once."""
    return partial(in_parts, network) if type(network) in (SimpleViT, ViTBackbone) else network


def network_for(probe: Probe, speed: Speed, backbone: Callable[[Tensor], Tensor] | None = None) -> Network:
    """The fastest network that a probe and the settings allow.

    Args:
        probe: The probe. Subclasses may define other logits, so they run as a whole.
        speed: See :class:`vfm_isbench.Speed`.
        backbone: See :class:`CachedProbe`.
    """
    if not speed.shortcut or type(probe) is not Probe:
        return UncachedProbe(probe)
    return CachedProbe(probe, backbone, speed.winograd_channels)


def _joined(maps: Sequence[Tensor | None]) -> Tensor | None:
    return None if maps[0] is None else torch.cat([cast(Tensor, one) for one in maps])
