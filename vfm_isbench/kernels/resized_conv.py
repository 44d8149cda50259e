"""A 3×3 convolution of an enlarged map, computed on the small map.

Enlarging by interpolation is linear and separable: up(c) = R·c·Cᵀ, with a matrix for the rows and one for the columns.
The convolution is linear too, and shifts the enlarged map by at most one row and one column. Combined, they are row and
column matrices three times as wide, with the convolution's nine 1×1 products on the small map in between. From 16×16
patches to 224×224 pixels, this takes a fiftieth of the multiplications.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_TAPS = 3


@dataclass(frozen=True, eq=False)
class Enlargement:
    """A separable linear resize, with the shifts of a 3×3 convolution.

    Attributes:
        rows: H×3h: the weights of the small rows in each output row, for the taps above, at and below it.
        cols: W×3w: the same for the columns.
    """

    rows: Tensor
    cols: Tensor


def enlargement(
    small: tuple[int, int], large: tuple[int, int], mode: str, align_corners: bool | None, like: Tensor
) -> Enlargement:
    """The matrices of ``torch.nn.functional.interpolate`` from h×w to H×W.

    Args:
        small: (h, w).
        large: (H, W).
        mode: "bilinear", "bicubic" or "nearest".
        align_corners: As for ``interpolate``; None for "nearest".
        like: A tensor with the device and dtype of the result.
    """
    rows, cols = (
        _shifted(resize_matrix(n, size, mode, align_corners, like)) for n, size in zip(small, large, strict=True)
    )
    return Enlargement(rows, cols)


@dataclass(frozen=True, eq=False)
class EnlargedConv:
    """The 3×3 convolution of an enlarged map with zero padding, complete but for the last product, along the rows.

    Attributes:
        matrix: H×3h, see :class:`Enlargement`.
        wide: B×3h×(W·O), already enlarged along the columns.
        width: W.
        plus: The bias 1×1×1×O, or a map B×H×W×O to add.
    """

    matrix: Tensor
    wide: Tensor
    width: int
    plus: Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """B, H, W, O."""
        return len(self.wide), len(self.matrix), self.width, self.plus.shape[-1]

    def rows(self, top: int, bottom: int) -> Tensor:
        """Rows ``top`` to ``bottom`` of the result: B×(bottom-top)×W×O."""
        batch, _, width, channels = self.shape
        matrix = self.matrix[top:bottom].expand(batch, -1, -1)
        shape = (batch, bottom - top, width, channels)
        if self.plus.shape[1] == 1:
            return torch.bmm(matrix, self.wide).view(shape).add_(self.plus)
        plus = self.plus[:, top:bottom].reshape(batch, bottom - top, -1)
        return torch.baddbmm(plus, matrix, self.wide).view(shape)

    def item_rows(self, item: int, top: int, bottom: int) -> Tensor:
        """The same for one item of the batch: 1×(bottom-top)×W×O."""
        plus = self.plus if self.plus.shape[1] == 1 else self.plus[item : item + 1]
        return EnlargedConv(self.matrix, self.wide[item : item + 1], self.width, plus).rows(top, bottom)

    def whole(self) -> Tensor:
        """The complete result: B×O×H×W, channels last in memory."""
        return self.rows(0, len(self.matrix)).permute(0, 3, 1, 2)


def conv_of_enlarged(small: Tensor, weight: Tensor, how: Enlargement, plus: Tensor) -> EnlargedConv:
    """3×3 convolution with zero padding of an enlarged map.

    Args:
        small: B×C×h×w, the map before enlargement.
        weight: O×C×3×3.
        how: The enlargement to H×W.
        plus: The bias, O values; or a map B×O×H×W to add.
    """
    batch, channels, height, width = small.shape
    out_channels = weight.shape[0]
    # One product with all nine taps: B×h×w×(tap row, tap column, O).
    taps = weight.permute(1, 2, 3, 0).reshape(channels, -1)
    products = small.permute(0, 2, 3, 1).reshape(-1, channels) @ taps
    products = products.view(batch, height, width, _TAPS, _TAPS, out_channels)
    # Columns first: B×(tap row, h)×W×O, from (tap column, w).
    products = products.permute(0, 3, 1, 4, 2, 5).reshape(batch * _TAPS * height, _TAPS * width, out_channels)
    wide = (how.cols @ products).view(batch, _TAPS * height, -1)
    added = plus.view(1, 1, 1, -1) if plus.dim() == 1 else plus.permute(0, 2, 3, 1)
    return EnlargedConv(how.rows, wide, how.cols.shape[0], added)


def resize_matrix(small: int, large: int, mode: str, align_corners: bool | None, like: Tensor) -> Tensor:
    """large×small: the weights of ``interpolate`` along one axis, which are its results for unit vectors."""
    unit = torch.eye(small, device=like.device, dtype=like.dtype).view(1, small, small, 1)
    resized = functional.interpolate(unit, (large, 1), mode=mode, align_corners=align_corners)
    return resized[0, :, :, 0].T


def _shifted(matrix: Tensor) -> Tensor:
    """n×3m: the matrix for the taps before, at and after each position, with zeros beyond the border."""
    padded = functional.pad(matrix, (0, 0, 1, 1))
    return torch.cat([padded[tap : tap + len(matrix)] for tap in range(_TAPS)], dim=1)
