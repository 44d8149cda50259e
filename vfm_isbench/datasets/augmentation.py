"""Random changes of a training sample: geometric ones to image and labels, colour changes only to the image.

Drawing (:class:`AugmentationDraw`) is separate from applying (:func:`apply_augmentation`), because torchvision's own
random transforms draw from torch's global generator, which a reproducible run must not depend on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch.nn.functional import grid_sample, pad

from vfm_isbench.errors import DataError, ProtocolError
from vfm_isbench.types import Array

FlipAxes: TypeAlias = tuple[bool, bool]
"""Whether to mirror left to right, and upside down."""

_FLIP_CHOICES: dict[str, tuple[FlipAxes, ...]] = {
    "any": ((True, False), (False, True), (True, True)),
    "horizontal": ((True, False),),
    "none": ((False, False),),
}
_CHANGES = ("flip", "rotate90", "affine", "brightness_contrast", "rgb_shift")
_HIGHEST = {
    **{f"{change}_probability": 1.0 for change in _CHANGES},
    **{"shift_limit": 1.0, "rotate_limit": 180.0, "brightness_limit": 1.0, "rgb_shift_limit": 255.0},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationConfig:
    """Ranges and probabilities of the augmentation; the defaults are RITM's recipe for SBD, which the paper uses.

    Attributes:
        crop_size: Side of the square crop in pixels.
        resize_range: Range of the factor by which the image is resized before the crop.
        flip: Flips to choose from, each equally likely: "any" (horizontal, vertical, both), "horizontal", "none".
        flip_probability: Probability of a flip.
        rotate90_probability: Probability of a rotation by 0, 90, 180 or 270 degrees, each equally likely.
        affine_probability: Probability of a small shift together with a small rotation.
        shift_limit: Largest shift, as a share of width and height.
        rotate_limit: Largest rotation in degrees.
        brightness_limit: Largest brightness change, as a share of 255.
        contrast_limit: Range of c; pixels are multiplied by 1 + c.
        brightness_contrast_probability: Probability of changing both.
        rgb_shift_limit: Largest shift of a colour channel, in levels of 255.
        rgb_shift_probability: Probability of a colour shift; its size is drawn separately for each channel.
        ensure_crop_fits: Raise the resize factor if needed so that the crop fits into the image, instead of padding.
    """

    crop_size: int = 224
    resize_range: tuple[float, float] = (0.75, 1.25)
    flip: Literal["any", "horizontal", "none"] = "any"
    flip_probability: float = 0.5
    rotate90_probability: float = 0.5
    affine_probability: float = 0.75
    shift_limit: float = 0.03
    rotate_limit: float = 3.0
    brightness_limit: float = 0.25
    contrast_limit: tuple[float, float] = (-0.15, 0.4)
    brightness_contrast_probability: float = 0.75
    rgb_shift_limit: float = 10.0
    rgb_shift_probability: float = 0.75
    ensure_crop_fits: bool = False

    def __post_init__(self) -> None:
        if self.crop_size < 1:
            raise _bad_field("crop_size", self.crop_size, "a whole number of pixels, at least 1")
        if self.flip not in _FLIP_CHOICES:
            raise _bad_field("flip", self.flip, f"one of {', '.join(_FLIP_CHOICES)}")
        if not 0 < self.resize_range[0] <= self.resize_range[1] < math.inf:
            raise _bad_field("resize_range", self.resize_range, "0 < low ≤ high")
        if not -1 <= self.contrast_limit[0] <= self.contrast_limit[1] < math.inf:
            raise _bad_field("contrast_limit", self.contrast_limit, "-1 ≤ low ≤ high")
        for field, most in _HIGHEST.items():
            if not 0 <= getattr(self, field) <= most:
                raise _bad_field(field, getattr(self, field), f"0 to {most:g}")

    def for_validation(self) -> AugmentationConfig:
        """The recipe for validation samples: only resize and random crop."""
        switched_off = {f"{change}_probability": 0.0 for change in _CHANGES}
        return replace(self, flip="none", **switched_off)  # type: ignore[arg-type]


def _bad_field(field: str, value: object, expected: str) -> ProtocolError:
    return ProtocolError(f"augmentation field {field} is {value!r}, expected {expected}")


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationDraw:
    """The random draws for one sample, independent of the size of its image.

    Attributes:
        resize_factor: Factor for both sides.
        flip: Mirror left to right, mirror upside down.
        quarter_turns: Rotations by 90° counter-clockwise, 0 to 3.
        shift: Shift to the right as a share of the width, downwards as a share of the height.
        angle: Rotation in degrees, clockwise.
        crop_position: Position of the crop within its possible range: row and column shares in [0, 1).
        contrast: c of pixel · (1 + c).
        brightness: b of pixel + 255 · b.
        rgb_shift: Levels added to red, green and blue.
    """

    resize_factor: float
    flip: FlipAxes
    quarter_turns: int
    shift: tuple[float, float]
    angle: float
    crop_position: tuple[float, float]
    contrast: float
    brightness: float
    rgb_shift: tuple[float, float, float]


def draw_augmentation(config: AugmentationConfig, generator: torch.Generator) -> AugmentationDraw:
    """Draw one augmentation.

    Every call takes the same number of values from the generator, so switching one change off does not affect the draws
    of the others.

    Args:
        config: Ranges and probabilities.
        generator: CPU generator; the call advances it.
    """
    numbers: Iterator[float] = iter(torch.rand(18, generator=generator, dtype=torch.float64).tolist())

    def happens(probability: float) -> bool:
        return next(numbers) < probability

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * next(numbers)

    def symmetric(limit: float, applies: bool) -> float:
        value = uniform(-limit, limit)
        return value if applies else 0.0

    resize_factor = uniform(*config.resize_range)
    flips, which_flip = _FLIP_CHOICES[config.flip], next(numbers)
    flip = flips[int(which_flip * len(flips))] if happens(config.flip_probability) else (False, False)
    turns = int(uniform(0, 4))
    quarter_turns = turns if happens(config.rotate90_probability) else 0
    affine = happens(config.affine_probability)
    shift = (symmetric(config.shift_limit, affine), symmetric(config.shift_limit, affine))
    angle = symmetric(config.rotate_limit, affine)
    crop_position = (next(numbers), next(numbers))
    tone = happens(config.brightness_contrast_probability)
    contrast = uniform(*config.contrast_limit)
    brightness = symmetric(config.brightness_limit, tone)
    tint = happens(config.rgb_shift_probability)
    red, green, blue = (symmetric(config.rgb_shift_limit, tint) for _ in range(3))
    return AugmentationDraw(
        resize_factor=resize_factor,
        flip=flip,
        quarter_turns=quarter_turns,
        shift=shift,
        angle=angle,
        crop_position=crop_position,
        contrast=contrast if tone else 0.0,
        brightness=brightness,
        rgb_shift=(red, green, blue),
    )


def apply_augmentation(
    image: Array, labels: Array, draw: AugmentationDraw, config: AugmentationConfig
) -> tuple[Array, Array]:
    """Apply an augmentation in the protocol's order.

    Resize, flip, quarter turns, shift and rotation with a border of zeros, padding with zeros around the centre if the
    image is smaller than the crop, crop, brightness and contrast, colour shift. Images are sampled bilinearly without
    antialiasing, labels by the nearest pixel on the same grid of pixel centres (OpenCV's nearest resize, which RITM
    uses, shifts labels by half a pixel). Colours are rounded and clipped to 0..255.

    Args:
        image: RGB, H×W×3, uint8.
        labels: H×W, whole numbers.
        draw: The result of :func:`draw_augmentation`.
        config: The crop size, and whether it must fit.

    Returns:
        The crop, RGB crop_size×crop_size×3 uint8, and its labels, crop_size×crop_size int32.

    Raises:
        DataError: if ``image`` or ``labels`` has another shape or type.
    """
    _check_sample(image, labels)
    pixels = torch.tensor(image).permute(2, 0, 1)
    regions = torch.tensor(labels.astype(np.int32, copy=False)).unsqueeze(0)

    height, width = _resized(labels.shape[0], labels.shape[1], draw.resize_factor, config)
    if (height, width) != labels.shape:
        from torchvision.transforms.v2 import InterpolationMode  # here, because importing it takes seconds
        from torchvision.transforms.v2.functional import resize

        pixels = resize(pixels, [height, width], interpolation=InterpolationMode.BILINEAR, antialias=False)
        regions = resize(regions, [height, width], interpolation=InterpolationMode.NEAREST_EXACT)
    pixels, regions = (_turn(part, draw) for part in (pixels, regions))
    window = _window(regions.shape[-2], regions.shape[-1], draw, config.crop_size)
    if draw.angle or any(draw.shift):
        grid = _moved_grid(regions.shape[-2], regions.shape[-1], draw, window)
        pixels, regions = _sampled(pixels, grid, "bilinear"), _sampled(regions, grid, "nearest")
    else:
        pixels, regions = (
            part[:, window.top : window.bottom, window.left : window.right] for part in (pixels, regions)
        )
    pixels, regions = (_padded(part, window, config.crop_size) for part in (pixels, regions))
    pixels = _recolour(pixels, draw)
    return pixels.permute(1, 2, 0).contiguous().numpy(), regions[0].contiguous().numpy()


def _check_sample(image: Array, labels: Array) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise DataError(f"image has shape {image.shape} and type {image.dtype}, expected H×W×3 of uint8")
    if labels.shape != image.shape[:2] or labels.dtype.kind not in "iu":
        raise DataError(
            f"labels have shape {labels.shape} and type {labels.dtype}, expected whole numbers of the image's shape "
            f"{image.shape[:2]}"
        )


def _resized(height: int, width: int, factor: float, config: AugmentationConfig) -> tuple[int, int]:
    least = 1
    if config.ensure_crop_fits:
        least = config.crop_size
        factor = max(factor, least / min(height, width))
    # The outer maximum only guards against rounding: no side may become 0 or smaller than the crop.
    return max(round(height * factor), least), max(round(width * factor), least)


def _turn(part: torch.Tensor, draw: AugmentationDraw) -> torch.Tensor:
    left_right, upside_down = draw.flip
    if left_right:
        part = part.flip(-1)
    if upside_down:
        part = part.flip(-2)
    return torch.rot90(part, draw.quarter_turns, dims=(-2, -1))


class _Window(NamedTuple):
    """Rows top … bottom and columns left … right of an image that are in the crop, and where in the crop they start."""

    top: int
    bottom: int
    left: int
    right: int
    row_in_crop: int
    col_in_crop: int


def _window(height: int, width: int, draw: AugmentationDraw, size: int) -> _Window:
    (top, bottom, row), (left, right, col) = (
        _extent(side, share, size) for side, share in zip((height, width), draw.crop_position, strict=True)
    )
    return _Window(top, bottom, left, right, row, col)


def _extent(side: int, share: float, size: int) -> tuple[int, int, int]:
    """First pixel in the crop, the one after the last, and where in the crop the first lies, along one axis."""
    if side < size:
        return 0, side, (size - side) // 2
    # The minimum guards against share · count rounding up to count.
    start = min(int(share * (side - size + 1)), side - size)
    return start, start + size, 0


def _moved_grid(height: int, width: int, draw: AugmentationDraw, window: _Window) -> torch.Tensor:
    """Where the pixels of the window come from after shift and rotation, as ``grid_sample`` takes it: 1×rows×columns×2.

    This is the grid of torchvision's ``affine``. The window alone takes a fraction of the time, and image and labels
    share the grid.
    """
    angle = math.radians(draw.angle)
    cos, sin = math.cos(angle), math.sin(angle)
    right, down = draw.shift[0] * width, draw.shift[1] * height
    # Pixels and their sources are both relative to the centre of the image.
    rows = torch.linspace((1.0 - height) * 0.5, (height - 1.0) * 0.5, steps=height)[window.top : window.bottom]
    cols = torch.linspace((1.0 - width) * 0.5, (width - 1.0) * 0.5, steps=width)[window.left : window.right]
    grid = torch.empty(1, len(rows), len(cols), 2)
    for axis, (by_col, by_row, constant, side) in enumerate(
        [(cos, sin, -cos * right - sin * down, width), (-sin, cos, sin * right - cos * down, height)]
    ):
        factors = torch.tensor([by_col, by_row, constant]) / (0.5 * side)
        torch.add(cols * factors[0], (rows * factors[1])[:, None], out=grid[0, ..., axis]).add_(factors[2])
    return grid


def _sampled(part: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
    """Sample C×H×W at a grid, with zeros beyond the border, and round."""
    sampled = grid_sample(part.unsqueeze(0).float(), grid, mode=mode, padding_mode="zeros", align_corners=False)
    return sampled[0].round_().to(part.dtype)


def _padded(part: torch.Tensor, window: _Window, size: int) -> torch.Tensor:
    """The crop C×size×size, with zeros around a window that is smaller."""
    rows, cols = part.shape[-2:]
    if (rows, cols) == (size, size):
        return part
    below, beyond = size - rows - window.row_in_crop, size - cols - window.col_in_crop
    return pad(part, [window.col_in_crop, beyond, window.row_in_crop, below])


def _recolour(pixels: torch.Tensor, draw: AugmentationDraw) -> torch.Tensor:
    if not (draw.contrast or draw.brightness or any(draw.rgb_shift)):
        return pixels
    levels = pixels.to(torch.float32)
    # Clip after each change, so that a colour shift darkens pixels saturated by the brightness change from 255.
    levels = (levels * (1 + draw.contrast) + 255 * draw.brightness).clamp_(0, 255)
    levels += torch.tensor(draw.rgb_shift, dtype=torch.float32).view(3, 1, 1)
    return levels.round_().clamp_(0, 255).to(torch.uint8)


def augment(image: Array, labels: Array, config: AugmentationConfig, generator: torch.Generator) -> tuple[Array, Array]:
    """Draw and apply one augmentation, see :func:`draw_augmentation` and :func:`apply_augmentation`."""
    return apply_augmentation(image, labels, draw_augmentation(config, generator), config)
