"""FeatUp's stack of joint bilateral upsamplers with learned kernels, in plain PyTorch with bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from vfm_isbench.errors import ContractError
from vfm_isbench.upsamplers.published.checkpoint_keys import (
    PROBE_PARTS,
    load_exactly,
    tensors_below,
    without_module_prefix,
)
from vfm_isbench.upsamplers.published.precision import at_least_single

_RADIUS = 3
_SIDE = 2 * _RADIUS + 1
_TAPS = _SIDE * _SIDE
_KEY_WIDTH = 32
_FIXUP_SHARE = 0.1
"""How much of its final 1×1 convolutions the stack adds; the published weights fix this and the four above."""

_KERNEL_FLOATS = 300
"""Numbers per pixel in memory while kernels are computed: projections, taps and the layers that correct them."""

_FEATURE_FLOATS = 5
"""Numbers per pixel and channel in memory while features are enlarged and weighted, gradients included."""

_LAYOUTS = (
    "up1.* to up4.*, fixup_proj.1.* alone, behind upsampler. with the channel norm at model.1.norm.* or without "
    "(FeatUp), or behind upsampler.upsampler. (iSegProbe), and each of these behind module."
)


@dataclass(frozen=True, eq=False)
class FeatUpGuidance:
    """An image prepared for :class:`FeatUpJBU`.

    Attributes:
        image: B×3×H×W, ImageNet-normalised.
        kernels: Cached kernels of the four stages, B×49×2h×2w to B×49×16h×16w, by patch grid (h, w), which is known
            only once features arrive.
    """

    image: Tensor
    kernels: dict[tuple[int, int], list[Tensor]] = field(default_factory=dict)


class FeatUpJBU(nn.Module):
    """FeatUp-JBU of Fu et al., "FeatUp: A Model-Agnostic Framework for Features at Any Resolution", ICLR 2024: ×16.

    Each of four stages doubles the size by bicubic interpolation and a 7×7 kernel per pixel, which a small network
    computes from the image. The kernels depend only on image and grid, so they are computed once. The output is sixteen
    times the patch grid, which is larger than the image for patches of 14 pixels.

    Weights belong to one backbone. They were trained behind a LayerNorm over channels, which is part of this module;
    iSegProbe leaves it out (:meth:`without_channel_norm`).

    Args:
        width: Channels C of the features.
        channel_norm: Whether features are normalised over channels first.
        max_memory: GiB that temporary tensors may take, besides the output and the kernels (49 numbers per output pixel
            and a third more for the smaller stages). Work is split to stay within it, down to single channels of
            features and single rows of kernels; the output does not depend on it.
    """

    upsampler_name = "featup_jbu"

    def __init__(self, width: int, channel_norm: bool = True, max_memory: float = 0.25) -> None:
        super().__init__()
        self.width = width
        self.max_memory = max_memory
        self.norm = nn.LayerNorm(width) if channel_norm else None
        self.up1, self.up2, self.up3, self.up4 = (_Stage() for _ in range(4))
        self.fixup_proj = nn.Sequential(nn.Dropout2d(0.2), nn.Conv2d(width, width, kernel_size=1))

    @property
    def channel_norm(self) -> bool:
        """Whether features are normalised over channels first."""
        return self.norm is not None

    def without_channel_norm(self) -> FeatUpJBU:
        """Remove the channel norm, as iSegProbe does; return this module."""
        self.norm = None
        return self

    @property
    def max_memory(self) -> float:
        """GiB that temporary tensors may take; not part of the identity, because the output does not depend on it."""
        return self._max_memory

    @max_memory.setter
    def max_memory(self, value: float) -> None:
        if not value > 0:
            raise ValueError(f"max_memory must be a positive number of GiB, got {value}")
        self._max_memory = value

    def extra_repr(self) -> str:
        """Settings, for the module's repr and its identity."""
        return f"width={self.width}, channel_norm={self.channel_norm}"

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """Upsample ``features`` B×C×h×w, guided by ``image`` B×3×H×W (ImageNet-normalised), to B×C×16h×16w."""
        return self.upsample(features, self.encode_guidance(image))

    def encode_guidance(self, image: Tensor) -> FeatUpGuidance:
        """Store ``image`` B×3×H×W (ImageNet-normalised); kernels are computed once features arrive."""
        return FeatUpGuidance(image)

    def upsample(self, features: Tensor, guidance: FeatUpGuidance) -> Tensor:
        """Upsample ``features`` B×C×h×w to B×C×16h×16w.

        Raises:
            ContractError: if the batch sizes of features and guidance differ, C is not the width, or the patch grid has
                a single row or column.
        """
        batch, channels, height, width = features.shape
        images = guidance.image.shape[0]
        if (batch, channels) != (images, self.width):
            raise ContractError(
                f"featup_jbu got features of {batch} images and {channels} channels, but guidance of {images} images; "
                f"batch sizes must match, and these weights are for {self.width} channels"
            )
        if min(height, width) < 2:
            raise ContractError(
                f"featup_jbu got a patch grid of {height}×{width}, but reflecting windows at the border needs at least "
                "2 rows and columns; give a larger image"
            )
        kernels = guidance.kernels.get((height, width))
        if kernels is None:
            kernels = guidance.kernels[height, width] = self._kernels(guidance.image, height, width)
        if self.norm is not None:
            features = self.norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        # The original mixes channels at the end. Everything before that is linear and treats channels alike, so mixing
        # first gives the same result without convolving the large map; only the bias must be added at the end.
        bias = self.get_parameter("fixup_proj.1.bias").view(1, -1, 1, 1)
        features = features + _FIXUP_SHARE * (self.fixup_proj(features) - bias)
        for kernel in kernels:
            features = _double(features, kernel.to(features.dtype), self._max_numbers)
        return features + _FIXUP_SHARE * bias

    def _kernels(self, image: Tensor, height: int, width: int) -> list[Tensor]:
        stages = (self.up1, self.up2, self.up3, self.up4)
        sizes = ((height * 2**doublings, width * 2**doublings) for doublings in range(1, 5))
        return [
            stage(functional.adaptive_avg_pool2d(image, size), self._max_numbers)
            for stage, size in zip(stages, sizes, strict=True)
        ]

    @property
    def _max_numbers(self) -> float:
        return self._max_memory * 2**30 / 4


class _Stage(nn.Module):
    """The kernels of one stage, from the image at the stage's output size."""

    def __init__(self) -> None:
        super().__init__()
        self.range_temp = nn.Parameter(torch.tensor(0.0))
        self.sigma_spatial = nn.Parameter(torch.tensor(1.0))
        self.range_proj = _pointwise(3, _KEY_WIDTH)
        self.fixup_proj = _pointwise(_TAPS + 3, _TAPS)

    def forward(self, image: Tensor, max_numbers: float) -> Tensor:
        """Kernels B×49×H×W of ``image`` B×3×H×W, with temporaries of about ``max_numbers`` numbers."""
        batch, _, height, width = image.shape
        padded = functional.pad(image, [_RADIUS] * 4, mode="reflect")
        rows = max(1, int(max_numbers / (batch * width * _KERNEL_FLOATS)))
        tops = range(0, height, rows)
        return torch.cat([self._rows(padded[:, :, top : top + rows + 2 * _RADIUS]) for top in tops], dim=2)

    def _rows(self, padded: Tensor) -> Tensor:
        """Kernels of some rows, from the image with a border of the radius."""
        # The exponential of a sum of 32 products is too much for half precision.
        keys = at_least_single(self.range_proj(padded))
        centres = _window(keys)[_TAPS // 2]
        # Filled in place: a list of small results between large temporaries would fragment memory.
        similarity = keys.new_empty(len(keys), _TAPS, *centres.shape[2:])
        for index, tap in enumerate(_window(keys)):
            similarity[:, index] = (tap * centres).sum(1)
        range_kernel = (at_least_single(self.range_temp).exp().clamp(1e-4, 1e4) * similarity).softmax(dim=1)
        kernel = range_kernel * self._spatial_kernel()
        kernel = kernel / kernel.sum(1, keepdim=True).clamp(min=1e-7)
        image = _window(padded)[_TAPS // 2]
        corrections = self.fixup_proj(torch.cat([kernel.to(image.dtype), image], dim=1))
        corrected: Tensor = kernel + _FIXUP_SHARE * corrections
        return corrected.to(image.dtype)

    def _spatial_kernel(self) -> Tensor:
        """A Gaussian over offsets that reach from -1 to 1: 1×49×1×1."""
        sigma = at_least_single(self.sigma_spatial)
        squares = torch.linspace(-1, 1, _SIDE).to(sigma).square()
        exponent = -(squares[:, None] + squares) / (2 * sigma.square())
        return exponent.exp().view(1, _TAPS, 1, 1)


def _pointwise(channels: int, to_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, to_channels, kernel_size=1),
        nn.GELU(),
        nn.Dropout2d(0.1),
        nn.Conv2d(to_channels, to_channels, kernel_size=1),
    )


def _window(padded: Tensor) -> list[Tensor]:
    """Views of the 49 neighbours of every pixel, row by row, from a tensor with a border of the radius."""
    height, width = padded.shape[-2] - 2 * _RADIUS, padded.shape[-1] - 2 * _RADIUS
    return [padded[..., y : y + height, x : x + width] for y in range(_SIDE) for x in range(_SIDE)]


def _double(features: Tensor, kernel: Tensor, max_numbers: float) -> Tensor:
    """Enlarge ``features`` B×C×h×w twice and weight each window by ``kernel`` B×49×2h×2w: B×C×2h×2w.

    It processes a few channels at a time, so that temporaries take about ``max_numbers`` numbers.
    """
    batch, _, height, width = kernel.shape
    channels = max(1, int(max_numbers / (batch * height * width * _FEATURE_FLOATS)))
    parts = []
    for part in torch.split(features, channels, dim=1):
        enlarged = functional.interpolate(part, (height, width), mode="bicubic", align_corners=False)
        padded = functional.pad(enlarged, [_RADIUS] * 4, mode="reflect")
        parts.append(_WeightedWindows.apply(padded, kernel))
    return torch.cat(parts, dim=1)


class _WeightedWindows(torch.autograd.Function):
    """The weighted sum over every pixel's window: B×C×(H+6)×(W+6), B×49×H×W → B×C×H×W.

    Taps are added one by one, because windows side by side would take 49 times the output. The gradient is written out
    because PyTorch's own makes two copies of the features per tap and takes ten times as long.
    """

    @staticmethod
    def forward(ctx: Any, padded: Tensor, kernel: Tensor) -> Tensor:
        ctx.padded_shape = padded.shape
        ctx.save_for_backward(padded if ctx.needs_input_grad[1] else None, kernel)
        output = padded.new_zeros(*padded.shape[:2], *kernel.shape[2:])
        for tap, weight in zip(_window(padded), torch.split(kernel, 1, dim=1), strict=True):
            output.addcmul_(tap, weight)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        padded, kernel = ctx.saved_tensors
        of_padded = of_kernel = None
        if ctx.needs_input_grad[0]:
            of_padded = gradient.new_zeros(ctx.padded_shape)
            for tap, weight in zip(_window(of_padded), torch.split(kernel, 1, dim=1), strict=True):
                tap.addcmul_(gradient, weight)
        if ctx.needs_input_grad[1]:
            of_kernel = torch.empty_like(kernel)
            for index, tap in enumerate(_window(padded)):
                of_kernel[:, index] = (tap * gradient).sum(1)
        return of_padded, of_kernel


def featup_from_state_dict(state: Mapping[str, Tensor], source: str, channel_norm: bool = True) -> FeatUpJBU:
    """Build FeatUp-JBU in eval mode from a checkpoint of the original; the weights determine its width.

    Args:
        state: Tensors by key, as in the ``state_dict`` of FeatUp's files, in a whole model of iSegProbe, or bare. The
            backbone, ``downsampler``, ``scale_net`` and a ``module.`` in front of all keys are ignored.
        source: Where the tensors come from, for messages.
        channel_norm: Whether to use the channel norm if the file has one (``model.1.norm.*``, or ``norm.*`` in the
            state dict of this module); the result's ``channel_norm`` says whether it does.

    Raises:
        WeightsError: if these are not the weights of a FeatUp-JBU; it lists missing and unexpected keys.
    """
    state = without_module_prefix(state)
    kept = {key: value for key, value in state.items() if not _is_other_part(key)}
    below, rest = tensors_below(kept, "fixup_proj.1.weight", source)
    norm = {key: below.pop(key) for key in list(below) if key.startswith("norm.")}
    norm |= {key.removeprefix("model.1."): state[key] for key in state if key.startswith("model.1.norm.")}
    norm = norm if channel_norm else {}
    featup = FeatUpJBU(below["fixup_proj.1.weight"].shape[0], channel_norm=bool(norm))
    load_exactly(featup, below | norm, source, _LAYOUTS, rest)
    return featup.eval()


def _is_other_part(key: str) -> bool:
    """Whether a key belongs to another part of FeatUp's files or of iSegProbe's models than the upsampler.

    ``model.`` is FeatUp's backbone: ``model.0.`` in files with the channel norm, all of ``model.`` in the others.
    """
    return key.startswith(("model.", *PROBE_PARTS)) or "scale_net" in key or "downsampler" in key
