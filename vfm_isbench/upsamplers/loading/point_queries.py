"""Upsamplers that get no features: those asked for single points, and those that call the backbone themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vfm_isbench.upsamplers.backbone_access import BackboneAccess

QUERY_NAMES = frozenset({"query_coords", "query_coordinates", "query_points", "queries", "coords", "points"})
"""Names of a second parameter that takes the points, B×N×2."""

ACCESS_NAMES = frozenset({"get_lr_features", "get_features", "features_of", "feature_fn", "get_lr_feats"})
"""Names of a second parameter that takes the backbone as a function."""

MOST_QUERIES = 16_384
"""Points of an image in one call, so that memory does not grow with the image."""


@dataclass(frozen=True)
class OnGrid:
    """An upsampler ``(images, query_coords B×N×2) -> B×N×D``, asked for the centre of every pixel.

    Coordinates are (x, y) in [0, 1]: the centre of the pixel in row r and column c of H×W is ((c + 0.5) / W,
    (r + 0.5) / H). The features that the benchmark gives are not used: such an upsampler has a backbone of its own.

    Attributes:
        upsampler: The original callable.
    """

    upsampler: Callable[..., Any]

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        """Features B×D×H×W of ``image`` B×3×H×W, some rows at a time."""
        batch, _, height, width = image.shape
        xs, ys = (
            (torch.arange(side, device=image.device, dtype=torch.float32) + 0.5) / side for side in (width, height)
        )
        rows_at_once = max(1, MOST_QUERIES // width)
        strips = []
        for top in range(0, height, rows_at_once):
            y, x = torch.meshgrid(ys[top : top + rows_at_once], xs, indexing="ij")
            points = torch.stack([x, y], dim=-1).reshape(1, -1, 2).expand(batch, -1, -1)
            answers = self.upsampler(image, points)
            strips.append(answers.transpose(1, 2).unflatten(2, (-1, width)))
        return torch.cat(strips, dim=2)


class CallingBackbone:
    """An upsampler ``(image, get_lr_features) -> features``, or a pair whose second part they are, as FeatSharp's.

    Args:
        upsampler: The original callable.
    """

    needs_backbone = True

    def __init__(self, upsampler: Callable[..., Any]) -> None:
        self.upsampler = upsampler
        self._features_of: BackboneAccess | None = None

    def bind_backbone(self, features_of: BackboneAccess) -> None:
        """Take the backbone of the run."""
        self._features_of = features_of

    def __call__(self, features: Tensor, image: Tensor) -> Any:
        """Call the original with ``image`` B×3×H×W and the backbone; ``features`` are not used."""
        found = self.upsampler(image, self._features_of)
        return found[1] if isinstance(found, tuple) and len(found) == 2 else found
