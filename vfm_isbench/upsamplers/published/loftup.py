"""LoftUp: every pixel computes its features from the patches by cross-attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from vfm_isbench.errors import ContractError, WeightsError
from vfm_isbench.kernels.row_strips import Strips
from vfm_isbench.kernels.winograd import convolve
from vfm_isbench.upsamplers.published.checkpoint_keys import (
    PROBE_PARTS,
    load_exactly,
    tensors_below,
    without_module_prefix,
)
from vfm_isbench.upsamplers.published.loftup_layers import (
    HEADS,
    ChannelNorm,
    CrossAttention,
    FeedForward,
    FourierFeatures,
    MinMaxScaler,
    positions,
)

ATTENTION = "torch.nn.functional.scaled_dot_product_attention"
"""What computes the attention, for result files."""

_LAYERS = 2
_PATCH_FREQUENCIES, _PIXEL_FREQUENCIES = 5, 20
_PATCH_CHANNELS = 2 * 2 * _PATCH_FREQUENCIES
_PIXEL_CHANNELS = 2 * 5 * _PIXEL_FREQUENCIES + 3
_HALO = 2
"""Rows on each side of a strip that two 3×3 convolutions read."""

_CHUNK_GIB, _STRIP_GIB = 1 / 16, 1 / 4
"""Upper limits for chunks in the fast two-step mode on CPUs, where recently used memory is faster than new. Of the
sizes tried, from 1/128 to 1, these were the fastest."""

_LAYOUTS = (
    "channelnorm.norm.* and upsampler.* (Hugging Face), model.1.norm.* and upsampler.* (Lightning), "
    "upsampler.upsampler.{channelnorm,upsampler}.* (iSegProbe)"
)
_TRAINING_PARTS = ("model.0.", "downsampler.", "scale_net.", "crop_upsampler.")
"""What LoftUp's training scripts save besides the upsampler: backbone, downsampler, scales, running mean."""


@dataclass(frozen=True, eq=False)
class LoftUpGuidance:
    """An image prepared for :class:`LoftUp`.

    Attributes:
        pixels: B×(H·W)×D, an embedding of each pixel, computed from the image.
        queries: B×(H·W)×D, the first attention layer's queries for these pixels.
        size: Rows and columns H×W of the image.
    """

    pixels: Tensor
    queries: Tensor
    size: tuple[int, int]


class LoftUp(nn.Module):
    """LoftUp of Huang et al., "LoftUp: Learning a Coordinate-Based Feature Upsampler", ICCV 2025 (arXiv 2504.14032).

    Weights have the names of the official repository (andrehuang/loftup), without its prefixes. Two things differ from
    its code: each image is scaled by its own minimum and maximum rather than those of the batch, and pixels are
    processed in chunks. The first changes nothing for a single image, the second only rounding.

    Args:
        width: Channels C of the features.
        max_memory: See :attr:`max_memory`.

    Raises:
        ValueError: if the width is not a positive multiple of the 4 attention heads, or the memory is not positive.
    """

    upsampler_name = "loftup"

    def __init__(self, width: int, max_memory: float = 1.0) -> None:
        super().__init__()
        if width <= 0 or width % HEADS:
            raise ValueError(f"width must be a positive multiple of {HEADS}, got {width}")
        inner = width + _PATCH_CHANNELS
        self.width = width
        self.max_memory = max_memory
        self.channelnorm = ChannelNorm(width)
        self.lr_pe = FourierFeatures(2, _PATCH_FREQUENCIES)
        self.fourier_feat = nn.Sequential(MinMaxScaler(), FourierFeatures(5, _PIXEL_FREQUENCIES))
        self.first_conv = nn.Sequential(
            ChannelNorm(_PIXEL_CHANNELS),
            nn.Conv2d(_PIXEL_CHANNELS, inner, 3, padding=1),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, inner, 3, padding=1),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
        )
        layers = [nn.ModuleList([CrossAttention(inner), FeedForward(inner, width)]) for _ in range(_LAYERS)]
        self.ca_transformer = nn.ModuleDict({"norm": nn.LayerNorm(inner), "layers": nn.ModuleList(layers)})
        self.final_conv = nn.Sequential(nn.Conv2d(inner, width, 1), nn.LayerNorm(width, eps=1e-6))

    @property
    def max_memory(self) -> float:
        """GiB that temporary values may take, besides guidance and output; less is slower, with the same result.

        One row of the image and one pixel per image of the batch are the smallest amounts processed at a time.
        """
        return self._max_memory

    @max_memory.setter
    def max_memory(self, gib: float) -> None:
        if not 0 < gib < math.inf:
            raise ValueError(f"max_memory must be a positive number of GiB, got {gib}")
        # The identity skips names with an underscore, and this setting does not change the result.
        self._max_memory = gib

    def extra_repr(self) -> str:
        """Settings, for the module's repr and its identity."""
        return f"width={self.width}"

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """Upsample ``features`` B×C×h×w to the size of ``image`` B×3×H×W (ImageNet-normalised).

        This computes everything as plainly as memory allows. The two steps give the same up to rounding and are faster
        on CPUs, with chunks that stay in the processor's caches and :mod:`vfm_isbench.kernels.winograd`.
        """
        return self._upsample(features, self._encode_guidance(image, is_quick=False), is_quick=False)

    def encode_guidance(self, image: Tensor) -> LoftUpGuidance:
        """Compute what depends only on ``image`` B×3×H×W (ImageNet-normalised), up to the first layer's queries."""
        return self._encode_guidance(image, is_quick=True)

    def upsample(self, features: Tensor, guidance: LoftUpGuidance) -> Tensor:
        """Upsample ``features`` B×C×h×w to the size of the guidance: B×C×H×W.

        If gradients are recorded and there are several chunks, the backward pass recomputes them instead of storing
        them.

        Raises:
            ContractError: if the features do not have ``width`` channels, or another batch size than the guidance.
        """
        return self._upsample(features, guidance, is_quick=True)

    def _encode_guidance(self, image: Tensor, is_quick: bool) -> LoftUpGuidance:
        batch, _, height, width = image.shape
        coordinates = positions(height, width, image).expand(batch, -1, -1, -1)
        values = torch.cat([coordinates, self.fourier_feat[0](image)], dim=1)
        per_row = batch * width * (4 * _PIXEL_CHANNELS + 5 * (self.width + _PATCH_CHANNELS))
        rows = max(self._fitting(per_row, values, _STRIP_GIB if is_quick else math.inf) - 2 * _HALO, 1)
        if self.training:  # BatchNorm needs all pixels for its statistics
            rows = height
        layers = self._first_layers(is_quick)
        first_layer = self._layers()[0][0]
        parts = []
        for top in range(0, height, rows):
            strip = self._strip(values, top, min(top + rows, height), layers)
            parts.append((strip, first_layer.queries(strip)))
        pixels, queries = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        return LoftUpGuidance(pixels, queries, (height, width))

    def upsample_strips(self, features: Tensor, guidance: LoftUpGuidance) -> Strips:
        """Do what :meth:`upsample` does, some rows at a time: see :class:`StripwiseUpsampler`.

        One row of the image is the smallest strip, even if it exceeds :attr:`max_memory`.

        Raises:
            ContractError: as :meth:`upsample` does.
        """
        attend, fitting = self._second_step(features, guidance, is_quick=True)
        height, width = guidance.size
        rows = max(fitting // width, 1)
        chunks = zip(*(torch.split(part, rows * width, 1) for part in (guidance.pixels, guidance.queries)), strict=True)
        for top, (pixels, queries) in zip(range(0, height, rows), chunks, strict=True):
            strip = attend(pixels, queries)
            yield top, strip.view(len(strip), -1, width, strip.shape[-1])

    def _upsample(self, features: Tensor, guidance: LoftUpGuidance, is_quick: bool) -> Tensor:
        attend, fitting = self._second_step(features, guidance, is_quick)
        chunks = zip(*(torch.split(part, fitting, 1) for part in (guidance.pixels, guidance.queries)), strict=True)
        output = torch.cat([attend(pixels, queries) for pixels, queries in chunks], dim=1)
        return output.view(len(features), *guidance.size, self.width).permute(0, 3, 1, 2)

    def _second_step(
        self, features: Tensor, guidance: LoftUpGuidance, is_quick: bool
    ) -> tuple[Callable[[Tensor, Tensor], Tensor], int]:
        """A function from pixels and queries, both B×n×D, to features B×n×C, and how many pixels to pass it."""
        batch, channels, height, width = features.shape
        if channels != self.width:
            raise ContractError(f"this LoftUp needs features of {self.width} channels, got {channels}")
        if guidance.pixels.shape[0] != batch:
            raise ContractError(
                f"LoftUp got features of {batch} images but guidance of {guidance.pixels.shape[0]}; batch sizes must "
                "match"
            )
        coordinates = self.lr_pe(positions(height, width, features).expand(batch, -1, -1, -1))
        patches = torch.cat([self.channelnorm(features), coordinates], dim=1).flatten(2).transpose(1, 2)
        keys_values = [attention.keys_values(patches) for attention, _ in self._layers()]

        # Ten values of the inner width, and attention weights twice, because some kernels store them.
        per_pixel = batch * (10 * patches.shape[-1] + 2 * HEADS * height * width)
        has_gradient = torch.is_grad_enabled()
        if has_gradient:  # the backward pass needs values that a forward pass would overwrite
            per_pixel *= 3
        fitting = self._fitting(per_pixel, features, _CHUNK_GIB if is_quick and not has_gradient else math.inf)

        def attend(pixels: Tensor, queries: Tensor) -> Tensor:
            return self._attend(pixels, queries, keys_values)

        if has_gradient and fitting < guidance.pixels.shape[1]:
            return partial(checkpoint, attend, use_reentrant=False, preserve_rng_state=False), fitting
        return attend, fitting

    def _layers(self) -> list[tuple[CrossAttention, FeedForward]]:
        layers: Any = self.ca_transformer["layers"]
        return [(attention, feed_forward) for attention, feed_forward in layers]

    def _fitting(self, n_values: int, like: Tensor, gib_on_cpu: float) -> int:
        """How many times ``n_values`` numbers fit into the allowed memory, at least 1."""
        gib = min(self.max_memory, gib_on_cpu) if like.device.type == "cpu" else self.max_memory
        return max(int(gib * 2**30 / (n_values * like.element_size())), 1)

    def _first_layers(self, is_quick: bool) -> list[Callable[[Tensor], Tensor]]:
        """The modules of ``first_conv``, with fast convolutions if ``is_quick``."""
        modules: list[Any] = list(self.first_conv)
        if not is_quick:
            return modules
        return [partial(convolve, part) if isinstance(part, nn.Conv2d) else part for part in modules]

    def _strip(self, values: Tensor, top: int, bottom: int, layers: list[Callable[[Tensor], Tensor]]) -> Tensor:
        """Embed the pixels in rows ``top`` to ``bottom`` of ``values`` B×5×H×W: B×((bottom-top)·W)×D."""
        # Inside the image, zero padding spoils only the halo, which is cut off. At the border of the image there is no
        # halo, and each convolution pads with zeros there anyway.
        start, stop = max(top - _HALO, 0), min(bottom + _HALO, values.shape[2])
        own = values[:, :, start:stop]
        waves = self.fourier_feat[1](own)
        inner = torch.cat([waves, own[:, 2:].to(waves.dtype)], dim=1)
        for layer in layers:
            inner = layer(inner)
        return inner[:, :, top - start : bottom - start].flatten(2).transpose(1, 2).contiguous()

    def _attend(self, pixels: Tensor, queries: Tensor, keys_values: list[tuple[Tensor, Tensor]]) -> Tensor:
        """From pixels and their first queries, both B×n×D, to features B×n×C."""
        for index, (attention, feed_forward) in enumerate(self._layers()):
            layer_queries = attention.queries(pixels) if index else queries
            # In place, because new memory costs as much as the sum; no gradient needs the overwritten values.
            pixels = attention.attend(layer_queries, *keys_values[index]).add_(pixels)
            pixels = feed_forward(pixels).add_(pixels)
        pixels = self.ca_transformer["norm"](pixels)
        projection = cast(nn.Conv2d, self.final_conv[0])
        # On a sequence of pixels, a 1×1 convolution is a linear layer.
        projected = functional.linear(pixels, projection.weight.flatten(1), projection.bias)
        output: Tensor = self.final_conv[1](projected)
        return output


def loftup_from_state_dict(state: Mapping[str, Tensor], source: str) -> LoftUp:
    """Build a LoftUp from the tensors of a public checkpoint.

    Args:
        state: Tensors by key, in the layout of the Hugging Face files, the older Lightning files, a checkpoint of
            iSegProbe, or :class:`LoftUp` itself; a ``module.`` in front of all keys is ignored.
        source: Where the tensors come from, for messages.

    Returns:
        The upsampler in eval mode; the weights determine its width.

    Raises:
        WeightsError: if these are not the weights of a LoftUp (it lists missing and unexpected keys), or are those of
            the variant with learned patch positions, which no public file uses.
    """
    state = without_module_prefix(state)
    if any(f".{key}".endswith(".lr_pe") for key in state):
        raise WeightsError(
            f"{source} is LoftUp's variant with learned patch positions (lr_pe_type 'learnable'), which has no public "
            "weights; only the sine variant can be loaded: give a file of that variant"
        )
    kept = {key: value for key, value in state.items() if not key.startswith(_TRAINING_PARTS)}
    anchor = "final_conv.1.weight"
    below, rest = tensors_below(kept, anchor, source)
    for part in ("weight", "bias"):
        endings = (f".channelnorm.norm.{part}", f".model.1.norm.{part}")
        found = [key for key in rest if f".{key}".endswith(endings)]
        if len(found) == 1:
            below[f"channelnorm.norm.{part}"] = rest.pop(found[0])
    width = below[anchor].numel()
    if width == 0 or width % HEADS:
        raise WeightsError(f"{source}: LoftUp needs a multiple of {HEADS} channels, but {anchor} has {width} values")
    upsampler = LoftUp(width)
    unexpected = [key for key in rest if not key.startswith(PROBE_PARTS)]
    load_exactly(upsampler, below, source, _LAYOUTS, unexpected)
    return upsampler.eval()
