"""Upsamplers that ignore the content of the image: none at all, and classical interpolation to the image size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from vfm_isbench.upsamplers.base import UPSAMPLERS


@dataclass(frozen=True)
class Identity:
    """No upsampling: features stay on the patch grid, and so does the head."""

    keeps_patch_resolution: ClassVar[bool] = True
    upsampler_name: ClassVar[str] = "identity"

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        """Return ``features`` unchanged; ``image`` is ignored."""
        return features


@dataclass(frozen=True)
class Nearest:
    """Every pixel gets the features of its patch."""

    upsampler_name: ClassVar[str] = "nearest"
    interpolation: ClassVar[tuple[str, bool | None]] = ("nearest", None)

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        """Resize ``features`` B×C×h×w to the size of ``image`` B×3×H×W."""
        return functional.interpolate(features, image.shape[-2:], mode="nearest")


@dataclass(frozen=True)
class Bilinear:
    """Bilinear interpolation, the usual baseline.

    Args:
        align_corners: True, as in the reference implementation (iSegProbe), puts the centres of the corner patches
            onto the corner pixels. False keeps patch centres where they are in the image.
    """

    align_corners: bool = True

    @property
    def interpolation(self) -> tuple[str, bool | None]:
        """Mode and align_corners."""
        return "bilinear", self.align_corners

    @property
    def upsampler_name(self) -> str:
        """Name in tables."""
        return "bilinear" if self.align_corners else f"bilinear(align_corners={self.align_corners})"

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        """Resize ``features`` B×C×h×w to the size of ``image`` B×3×H×W."""
        return functional.interpolate(features, image.shape[-2:], mode="bilinear", align_corners=self.align_corners)


@dataclass(frozen=True)
class Bicubic:
    """Bicubic interpolation, which may overshoot the range of the features.

    Args:
        align_corners: False is PyTorch's default, which the reference implementation also uses.
    """

    align_corners: bool = False

    @property
    def interpolation(self) -> tuple[str, bool | None]:
        """Mode and align_corners."""
        return "bicubic", self.align_corners

    @property
    def upsampler_name(self) -> str:
        """Name in tables."""
        return f"bicubic(align_corners={self.align_corners})" if self.align_corners else "bicubic"

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        """Resize ``features`` B×C×h×w to the size of ``image`` B×3×H×W."""
        return functional.interpolate(features, image.shape[-2:], mode="bicubic", align_corners=self.align_corners)


UPSAMPLERS.add("identity", Identity)
UPSAMPLERS.add("nearest", Nearest)
UPSAMPLERS.add("bilinear", Bilinear)
UPSAMPLERS.add("bicubic", Bicubic)
