"""Classical joint bilateral upsampling, guided by the image, without training."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.errors import ContractError
from vfm_isbench.upsamplers.base import UPSAMPLERS

_IMAGENET_STD = (0.229, 0.224, 0.225)
"""Turns colour differences of the normalised image back into RGB in [0, 1]; the mean cancels out."""


@dataclass(frozen=True, eq=False)
class JointBilateralGuidance:
    """An image prepared for :class:`JointBilateralUpsampler`.

    Attributes:
        rgb: B×3×H×W, RGB on the scale of [0, 1], up to a constant per channel.
        weights: Cached window weights by patch grid (h, w), which is known only once features arrive.
    """

    rgb: Tensor
    weights: dict[tuple[int, int], Tensor] = field(default_factory=dict)


class JointBilateralUpsampler(nn.Module):
    """Joint bilateral upsampling of Kopf et al., "Joint Bilateral Upsampling", SIGGRAPH 2007.

    Every output pixel is a weighted mean of the features in a window of patches around its own patch. The weight of a
    patch falls with its distance from the pixel, and with the difference between the pixel's colour and the mean colour
    of the patch; both are Gaussians. Patches outside the grid have no weight. Pixel centres are at half-integers on
    both grids, so any ratio and aspect works.

    The default widths were found by upsampling area-averaged object masks of 20 photographs (BSDS500) from 14, 16 and
    28 patches a side to 224 pixels: the squared error is 27 to 29 % below that of bilinear interpolation (corners
    aligned), and within 2 % of the lowest found for widths of 0.25-1.5 patches and 0.05-0.3 in colour.

    Args:
        sigma_spatial: Width of the spatial Gaussian, in patches. 0.4 is about the spread of the bilinear kernel.
        sigma_range: Width of the colour Gaussian, for the Euclidean distance of RGB colours in [0, 1].
        radius: The window reaches this many patches to each side of the pixel's own patch.

    Raises:
        ValueError: if a width is not positive or the radius is negative.
    """

    def __init__(self, sigma_spatial: float = 0.4, sigma_range: float = 0.15, radius: int = 2) -> None:
        super().__init__()
        if not (sigma_spatial > 0 and sigma_range > 0):
            raise ValueError(f"sigmas must be positive, got sigma_spatial={sigma_spatial}, sigma_range={sigma_range}")
        if radius < 0:
            raise ValueError(f"radius must not be negative, got {radius}")
        self.sigma_spatial = sigma_spatial
        self.sigma_range = sigma_range
        self.radius = radius

    @property
    def upsampler_name(self) -> str:
        """Name in tables: "jbu", with the settings unless they are the defaults."""
        settings = self.extra_repr()
        return "jbu" if settings == type(self)().extra_repr() else f"jbu({settings})"

    def extra_repr(self) -> str:
        """Settings, for the module's repr and its identity."""
        return f"sigma_spatial={self.sigma_spatial}, sigma_range={self.sigma_range}, radius={self.radius}"

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """Upsample ``features`` B×C×h×w to the size of ``image`` B×3×H×W (ImageNet-normalised)."""
        return self.upsample(features, self.encode_guidance(image))

    def encode_guidance(self, image: Tensor) -> JointBilateralGuidance:
        """Prepare ``image`` B×3×H×W (ImageNet-normalised); window weights are computed once features arrive."""
        image = image.to(torch.promote_types(image.dtype, torch.float32))
        return JointBilateralGuidance(image * image.new_tensor(_IMAGENET_STD).view(1, 3, 1, 1))

    def upsample(self, features: Tensor, guidance: JointBilateralGuidance) -> Tensor:
        """Upsample ``features`` B×C×h×w to the size of the guidance: B×C×H×W.

        Raises:
            ContractError: if the batch sizes of features and guidance differ.
        """
        batch, channels, height, width = features.shape
        if guidance.rgb.shape[0] != batch:
            raise ContractError(
                f"jbu got features of {batch} images but guidance of {guidance.rgb.shape[0]}; batch sizes must match"
            )
        rows = _Axis.split(guidance.rgb.shape[-2], height)
        cols = _Axis.split(guidance.rgb.shape[-1], width)
        weights = guidance.weights.get((height, width))
        if weights is None:
            weights = guidance.weights[height, width] = self._window_weights(guidance.rgb, rows, cols)
        windows = self._windows(features).permute(0, 3, 1, 2)
        # One small matrix product per patch: its window (channels × taps) times the weights (taps × its pixels).
        # This never repeats features at full resolution, and is about eight times faster than a loop over the taps.
        pixels = windows @ weights.to(features.dtype)
        pixels = pixels.view(batch, height, width, channels, rows.longest, cols.longest).permute(0, 3, 1, 4, 2, 5)
        padded = pixels.reshape(batch, channels, height * rows.longest, width * cols.longest)
        return cols.drop_padding(rows.drop_padding(padded, 2), 3)

    def _windows(self, values: Tensor) -> Tensor:
        """The window around every patch, zero outside the grid: B×C×h×w → B×C×taps×(h·w)."""
        side = 2 * self.radius + 1
        return functional.unfold(values, side, padding=self.radius).view(*values.shape[:2], side * side, -1)

    def _window_weights(self, rgb: Tensor, rows: _Axis, cols: _Axis) -> Tensor:
        """Weights of the window's patches for every pixel, patch by patch: B×(h·w)×taps×(pixels per patch)."""
        grid = (rows.n_patches, cols.n_patches)
        batch, n_patches = rgb.shape[0], grid[0] * grid[1]
        patch_colours = self._windows(functional.adaptive_avg_pool2d(rgb, grid)).transpose(2, 3).unsqueeze(-1)
        pixel_colours = rows.add_padding(cols.add_padding(rgb, 3), 2)
        pixel_colours = pixel_colours.view(batch, 3, grid[0], rows.longest, grid[1], cols.longest)
        pixel_colours = pixel_colours.permute(0, 1, 2, 4, 3, 5).reshape(batch, 3, n_patches, 1, -1)

        distance_y, inside_y = rows.to_window(self.radius, rgb)
        distance_x, inside_x = cols.to_window(self.radius, rgb)
        spatial = distance_y[:, None, :, None, :, None] + distance_x[None, :, None, :, None, :]
        inside = inside_y[:, None, :, None] & inside_x[None, :, None, :]
        exponent = spatial.reshape(n_patches, -1, rows.longest * cols.longest) / (-2 * self.sigma_spatial**2)
        exponent = exponent.masked_fill(~inside.reshape(n_patches, -1, 1), -torch.inf).expand(batch, -1, -1, -1)
        for channel in range(3):
            difference = pixel_colours[:, channel] - patch_colours[:, channel]
            exponent = exponent - difference.square() / (2 * self.sigma_range**2)
        # Softmax is the normalised product of the Gaussians, and stays finite even if all of them underflow.
        return exponent.softmax(dim=2)


@dataclass(frozen=True)
class _Axis:
    """How the pixels of one axis fall into patches; shorter patches are padded to the longest.

    Attributes:
        n_pixels: Pixels along the axis.
        n_patches: Patches along the axis.
        longest: Pixels in the longest patch.
        members: n_patches×longest indices of each patch's pixels; padding repeats some pixel.
        position: Where each of the n_pixels is in the flattened members.
    """

    n_pixels: int
    n_patches: int
    longest: int
    members: Tensor
    position: Tensor

    @classmethod
    def split(cls, n_pixels: int, n_patches: int) -> _Axis:
        pixels = torch.arange(n_pixels)
        own = (2 * pixels + 1) * n_patches // (2 * n_pixels)
        first = torch.searchsorted(own, torch.arange(n_patches))
        longest = int(own.bincount().max())
        members = (first[:, None] + torch.arange(longest)).clamp(max=n_pixels - 1)
        return cls(n_pixels, n_patches, longest, members, own * longest + pixels - first[own])

    def add_padding(self, values: Tensor, dim: int) -> Tensor:
        if self.n_pixels == self.n_patches * self.longest:
            return values
        return values.index_select(dim, self.members.flatten().to(values.device))

    def drop_padding(self, values: Tensor, dim: int) -> Tensor:
        if self.n_pixels == self.n_patches * self.longest:
            return values
        return values.index_select(dim, self.position.to(values.device))

    def to_window(self, radius: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances in patches, n_patches×(2·radius+1)×longest, and which taps lie on the grid."""
        taps = torch.arange(self.n_patches)[:, None] + torch.arange(-radius, radius + 1)
        centres = (self.members.to(like.dtype) + 0.5) * (self.n_patches / self.n_pixels) - 0.5
        distances = (centres[:, None, :] - taps[:, :, None]).square()
        return distances.to(like.device), ((taps >= 0) & (taps < self.n_patches)).to(like.device)


UPSAMPLERS.add("jbu", JointBilateralUpsampler)
