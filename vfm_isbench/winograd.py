"""3×3 convolutions from a quarter of the multiplications, on CPUs: Winograd's minimal filtering F(4×4, 3×3).

The output is cut into tiles of 4×4 pixels, each of which needs 6×6 pixels of the input. In a transformed domain, to
which both these and the weights are taken by fixed matrices, a tile costs 36 products per pair of channels instead of
144, and all of it in plain matrix products. In exact arithmetic it is the same convolution; in float32
it rounds some five times as much as the direct one does (root mean square: 1e-6 of the output's).

On CUDA devices cuDNN chooses such algorithms by itself, so only CPU tensors take this way.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from vfm_isbench.types import Array

TILE = 4
"""Output pixels per tile and side."""

_WINDOW = TILE + 2
_POINTS = (0.0, 0.625, -0.625, 1.5, -1.5)
"""Where the polynomials behind the algorithm are evaluated, beside infinity. Exact in binary; of the sets tried, these
round least, half as much as the usual 0, ±1, ±2."""

_LEAST_CHANNELS = 96
"""With fewer, the transforms cost more than the products spared."""

_STRIP_VALUES = 3_000_000
"""Numbers of a strip of the input. Larger ones and their transforms fall out of the processor's caches; in smaller ones
the matrix products become too small."""

Rows: TypeAlias = Callable[[int, int], Tensor]
"""From ``top`` and ``bottom`` to these rows of a map, channels last: B×(bottom-top)×W×C."""


def pays(conv: nn.Conv2d) -> bool:
    """Whether a convolution is now faster by :class:`Winograd` than by PyTorch.

    So it is with 3×3 kernels and many channels on CPUs, in full precision, where gradients are not recorded.
    """
    return (
        conv.kernel_size == (3, 3)
        and conv.stride == conv.dilation == (1, 1)
        and conv.padding == (1, 1)
        and conv.padding_mode == "zeros"
        and conv.groups == 1
        and min(conv.in_channels, conv.out_channels) >= _LEAST_CHANNELS
        and conv.weight.device.type == "cpu"
        and conv.weight.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and not torch.is_grad_enabled()
    )


class Winograd:
    """A 3×3 convolution with stride 1 and zero padding, prepared from its weights.

    Args:
        conv: The convolution; what is prepared does not follow later changes of its weights.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        weight = conv.weight.detach()
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.out_channels = conv.out_channels
        to_input, to_weight, to_output = (weight.new_tensor(matrix) for matrix in _transforms())
        self._to_input = torch.kron(to_input, to_input)
        self._to_output = torch.kron(to_output, to_output)
        taps = weight.permute(2, 3, 1, 0).reshape(9, -1)
        transformed = torch.kron(to_weight, to_weight) @ taps
        self._weight = transformed.view(_WINDOW**2, conv.in_channels, conv.out_channels)

    def __call__(self, maps: Tensor) -> Tensor:
        """Convolve B×C×H×W to B×O×H×W, bias included; the result is channels last in memory."""
        cells = maps.permute(0, 2, 3, 1)
        return self.of_rows(lambda top, bottom: cells[:, top:bottom], cells.shape).permute(0, 3, 1, 2)

    def of_rows(self, rows: Rows, shape: Sequence[int], *, rectify: bool = False) -> Tensor:
        """Convolve a map that is made as it is needed: B×H×W×O; see :meth:`strips`."""
        result = self._weight.new_empty(*shape[:3], self.out_channels)
        for top, strip in self.strips(rows, shape, rectify=rectify):
            result[:, top : top + strip.shape[1]] = strip
        return result

    def strips(self, rows: Rows, shape: Sequence[int], *, rectify: bool = False) -> Iterator[tuple[int, Tensor]]:
        """Convolve strip by strip, so that neither input nor output need ever be in memory as a whole.

        Args:
            rows: Gives the rows of the input; they are read once, but for those on either side of a strip.
            shape: B, H, W, C of the input.
            rectify: Apply a ReLU to the input first.

        Yields:
            The first row of each strip, and the strip: B×rows×W×O, bias included.
        """
        batch, height, width, channels = shape
        like, across = self._weight, -(-width // TILE)
        down = _tile_rows(height, batch * width * channels)
        padded = like.new_zeros(batch, down * TILE + 2, across * TILE + 2, channels)
        windows = like.new_empty(_WINDOW, _WINDOW, batch, down, across, channels)
        transformed = like.new_empty(_WINDOW**2, windows[0, 0].numel())
        products = like.new_empty(_WINDOW**2, batch * down * across, self.out_channels)
        tiles = like.new_empty(TILE**2, products[0].numel())
        for top in range(0, height, down * TILE):
            bottom = min(top + down * TILE, height)
            first, last = max(top - 1, 0), min(bottom + 1, height)
            start = first - (top - 1)
            stop = start + last - first
            padded[:, :start] = 0
            padded[:, stop:] = 0
            inside = padded[:, start:stop, 1 : width + 1]
            inside.copy_(rows(first, last))
            if rectify:
                inside.relu_()
            for row in range(_WINDOW):
                for col in range(_WINDOW):
                    windows[row, col] = padded[
                        :, row : row + down * TILE - 3 : TILE, col : col + across * TILE - 3 : TILE
                    ]
            torch.mm(self._to_input, windows.view(_WINDOW**2, -1), out=transformed)
            torch.bmm(transformed.view(_WINDOW**2, -1, channels), self._weight, out=products)
            torch.mm(self._to_output, products.view(_WINDOW**2, -1), out=tiles)
            by_pixel = tiles.view(TILE, TILE, batch, down, across, self.out_channels).permute(2, 3, 0, 4, 1, 5)
            strip = by_pixel.reshape(batch, down * TILE, across * TILE, self.out_channels)
            strip = strip[:, : bottom - top, :width]
            yield top, strip if self.bias is None else strip.add_(self.bias)


def _transforms() -> tuple[Array, Array, Array]:
    """The matrices of Cook and Toom: to the transformed input (6×6), weights (6×3), and back to the output (4×6).

    Along one axis, filtering is the transpose of multiplying two polynomials, which is done by evaluating both at six
    points, the last of them infinity, and interpolating.
    """
    to_input, to_weight, to_output = np.zeros((_WINDOW, _WINDOW)), np.zeros((_WINDOW, 3)), np.zeros((TILE, _WINDOW))
    for index, point in enumerate(_POINTS):
        others = np.array([other for other in _POINTS if other != point])
        to_input[index, :-1] = np.poly(others)[::-1]
        to_weight[index] = point ** np.arange(3) / np.prod(point - others)
        to_output[:, index] = point ** np.arange(TILE)
    to_input[-1] = np.poly(_POINTS)[::-1]
    to_weight[-1, -1] = to_output[-1, -1] = 1
    return to_input, to_weight, to_output


def _tile_rows(height: int, row_values: int) -> int:
    """Rows of tiles per strip: as many as fit, and strips of about equal height."""
    in_all = -(-height // TILE)
    fitting = max(1, min(in_all, _STRIP_VALUES // (row_values * TILE)))
    return -(-in_all // -(-in_all // fitting))
