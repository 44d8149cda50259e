"""3×3 convolutions with a quarter of the multiplications, on CPUs: Winograd's minimal filtering F(4×4, 3×3).

The output is cut into tiles of 4×4 pixels, each of which needs 6×6 pixels of the input. Fixed matrices transform both
the input and the weights; in the transformed domain, a tile takes 36 products per pair of channels instead of 144, all
in plain matrix products. In exact arithmetic the result is the same; in float32 the rounding error is about five times
that of the direct convolution (root mean square: 1e-6 of the output's).

On CUDA devices, cuDNN chooses such algorithms itself, so only CPU tensors use this module.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), section 4.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vfm_isbench.kernels import threads
from vfm_isbench.kernels.row_strips import ItemRows, Rows, Strips, item_rows_of, rows_of
from vfm_isbench.types import Array

UseStrip: TypeAlias = Callable[[int, int, Tensor], None]
"""Takes the rows of one map of a batch: its index, the index of the first row, and the values rows×W×C."""

TILE = 4
"""Output pixels per tile and side."""

_WINDOW = TILE + 2
_POINTS = (0.0, 0.625, -0.625, 1.5, -1.5)
"""Where the algorithm evaluates its polynomials, besides infinity. Exact in binary; of all sets tried, this one has the
smallest rounding error, half that of the usual 0, ±1, ±2."""

LEAST_CHANNELS = 128
"""With fewer channels, the transforms cost at least as much as the products they save."""

_STRIP_VALUES = 3_000_000
"""Size of an input strip in numbers. Larger strips and their transforms do not fit into the processor's caches; smaller
strips make the matrix products too small."""

_LEAST_TILES = 48
"""Tiles per strip below which the matrix products are too small for strips on threads of their own."""


def pays(conv: nn.Conv2d, least_channels: int = LEAST_CHANNELS) -> bool:
    """Whether this module is faster than PyTorch: for 3×3 kernels and many channels, on CPUs, in full precision."""
    return (
        conv.kernel_size == (3, 3)
        and conv.stride == conv.dilation == (1, 1)
        and conv.padding == (1, 1)
        and conv.padding_mode == "zeros"
        and conv.groups == 1
        and min(conv.in_channels, conv.out_channels) >= least_channels
        and conv.weight.device.type == "cpu"
        and conv.weight.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
    )


def convolve(conv: nn.Conv2d, maps: Tensor, least_channels: int = LEAST_CHANNELS) -> Tensor:
    """Apply a convolution to B×C×H×W, here or by PyTorch, whichever is faster; gradients flow as through the module."""
    if not pays(conv, least_channels):
        return cast(Tensor, conv(maps))
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (maps, *conv.parameters())):
        return cast(Tensor, _Convolution.apply(maps, conv.weight, conv.bias))
    return Winograd(conv.weight, conv.bias)(maps)


class Winograd:
    """A 3×3 convolution with stride 1 and zero padding, prepared from its weights.

    Args:
        weight: O×C×3×3; later changes to it have no effect.
        bias: O values, or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.bias = None if bias is None else bias.detach()
        self.out_channels, self.in_channels = weight.shape[:2]
        self._to_input, self._to_weight, self._to_output = (weight.new_tensor(matrix) for matrix in _transforms())
        taps = weight.detach().permute(2, 3, 1, 0).flatten(2)
        # Columns of the window first: the order of transformed inputs.
        transformed = _along_both(self._to_weight, taps)
        self._weight = transformed.view(_WINDOW**2, self.in_channels, self.out_channels)
        self._kept: dict[tuple[int, ...], list[_Tiling]] = {}

    def __call__(self, maps: Tensor) -> Tensor:
        """Convolve B×C×H×W to B×O×H×W, including the bias; the result is channels last in memory."""
        batch, channels, height, width = maps.shape
        # Not a permuted view, because autograd would forbid changing it in place.
        result = torch.empty(
            (batch, self.out_channels, height, width),
            dtype=self._weight.dtype,
            device=self._weight.device,
            memory_format=torch.channels_last,
        )
        cells = result.permute(0, 2, 3, 1)
        shape = (batch, height, width, channels)

        def keep(item: int, top: int, strip: Tensor) -> None:
            cells[item, top : top + len(strip)] = strip

        if not self.share_strips(item_rows_of(maps), shape, keep):
            for top, strip in self.strips(rows_of(maps), shape):
                cells[:, top : top + strip.shape[1]] = strip
        return result

    def strips(self, rows: Rows, shape: Sequence[int], *, rectify: bool = False) -> Strips:
        """Convolve strip by strip, so that neither input nor output has to be in memory as a whole.

        Args:
            rows: Returns rows of the input; each row is read once, except at the edges of strips.
            shape: B, H, W, C of the input.
            rectify: Apply a ReLU to the input first.

        Yields:
            The index of each strip's first row, and the strip: B×rows×W×O, including the bias.
        """
        tiling = _Tiling(shape, self.out_channels, self._weight)
        for top, bottom in tiling.spans():
            yield top, self._strip(tiling, rows, top, bottom, rectify)

    def share_strips(self, rows: ItemRows, shape: Sequence[int], use: UseStrip, *, rectify: bool = False) -> bool:
        """Convolve strip by strip, each strip on one thread, if there are enough strips for several threads.

        The strips have the same values as those of :meth:`strips`, on any number of threads.

        Args:
            rows: Returns rows of the input, for several threads at once and in any order.
            shape: B, H, W, C of the input.
            use: Called with the item, the index of the first row, and the strip rows×W×O, by the thread that made it.
            rectify: Apply a ReLU to the input first.

        Returns:
            Whether it was done; if not, nothing was.
        """
        count = threads.available(self._weight.device)
        down = _shared_tile_rows(shape, count)
        if down is None:
            return False
        # Kept for the next call: a tenth of the time would pass until the system provides new memory. Taken away
        # meanwhile, because calls from several threads must not share it.
        key = (*shape[1:], down, count, torch.is_inference_mode_enabled())
        tilings = self._kept.pop(key, None)
        if tilings is None:
            tilings = [_Tiling((1, *shape[1:]), self.out_channels, self._weight, down) for _ in range(count)]

        def work(tiling: _Tiling, spans: Iterator[tuple[int, tuple[int, int]]]) -> None:
            for item, (top, bottom) in spans:
                use(item, top, self._strip(tiling, partial(rows, item), top, bottom, rectify)[0])

        spans = list(product(range(shape[0]), tilings[0].spans()))
        threads.share(spans, [partial(work, tiling) for tiling in tilings])
        self._kept = {key: tilings}
        return True

    def _strip(self, tiling: _Tiling, rows: Rows, top: int, bottom: int, rectify: bool) -> Tensor:
        """Convolve rows ``top`` to ``bottom``: B×rows×W×O."""
        windows = tiling.windows(rows, top, bottom, rectify)
        tiling.transform(self._to_input, windows, to=tiling.inputs)
        torch.bmm(tiling.by_place(tiling.inputs), self._weight, out=tiling.by_place(tiling.outputs))
        tiling.transform(self._to_output, tiling.outputs, to=tiling.tiles)
        strip = tiling.pixels()[:, : bottom - top]
        return strip if self.bias is None else strip.add_(self.bias)

    def gradients(self, maps: Tensor, gradient: Tensor, *, of_maps: bool) -> tuple[Tensor | None, Tensor]:
        """Gradients of the input, if needed, and of the weights, with as few products as the forward pass.

        Args:
            maps: The input B×C×H×W.
            gradient: Gradient of the result, B×O×H×W.
            of_maps: Whether the gradient of the input is needed.

        Returns:
            B×C×H×W or None, and O×C×3×3.
        """
        cells, gradients = maps.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
        tiling = _Tiling(cells.shape, self.out_channels, self._weight)
        of_weight, of_cells = torch.zeros_like(self._weight), torch.zeros_like(cells) if of_maps else None
        for top, bottom in tiling.spans():
            tiling.into_tiles(gradients[:, top:bottom])
            tiling.transform(self._to_output.T, tiling.tiles, to=tiling.outputs)
            windows = tiling.windows(rows_of(maps), top, bottom, rectify=False)
            tiling.transform(self._to_input, windows, to=tiling.inputs)
            inputs, outputs = tiling.by_place(tiling.inputs), tiling.by_place(tiling.outputs)
            of_weight.baddbmm_(inputs.transpose(1, 2), outputs)
            if of_cells is not None:
                torch.bmm(outputs, self._weight.transpose(1, 2), out=inputs)
                tiling.transform(self._to_input.T, tiling.inputs, to=windows)
                tiling.add_windows(windows, top, bottom, of_cells)
        taps = _along_both(self._to_weight.T, of_weight.view(_WINDOW, _WINDOW, -1))
        taps = taps.view(3, 3, self.in_channels, self.out_channels)
        return None if of_cells is None else of_cells.permute(0, 3, 1, 2), taps.permute(3, 2, 0, 1)


class _Convolution(torch.autograd.Function):
    """:class:`Winograd` with gradients."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(maps, weight)
        ctx.has_bias = bias is not None
        return Winograd(weight, bias)(maps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        maps, weight = ctx.saved_tensors
        needed = ctx.needs_input_grad[0]
        of_maps, of_weight = Winograd(weight, None).gradients(maps, gradient, of_maps=needed)
        return of_maps, of_weight, gradient.sum((0, 2, 3)) if ctx.has_bias else None


class _Tiling:
    """Strips of a map, cut into tiles, with the memory that all strips share.

    Args:
        shape: B, H, W, C of the input.
        out_channels: O of the output.
        like: A tensor with the device and dtype of the buffers.
        down: Rows of tiles per strip; by default as many as are fast.

    Attributes:
        down: Rows of tiles per strip.
        across: Tiles per row.
        inputs: 6×6×(tiles·C), the transformed input.
        outputs: 6×6×(tiles·O), the products, before they are transformed back.
        tiles: 4×4×(tiles·O), the output.
    """

    def __init__(self, shape: Sequence[int], out_channels: int, like: Tensor, down: int | None = None) -> None:
        self._batch, self._height, self._width, channels = shape
        self.across = -(-self._width // TILE)
        self.down = down or _tile_rows(self._height, self._batch * self._width * channels)
        tiles = self._batch * self.down * self.across
        self._padded = like.new_zeros(self._batch, self.down * TILE + 2, self.across * TILE + 2, channels)
        self._windows = like.new_empty(_WINDOW, _WINDOW, self._batch, self.down, self.across, channels)
        self.inputs = like.new_empty(_WINDOW, _WINDOW, tiles * channels)
        self.outputs = like.new_empty(_WINDOW, _WINDOW, tiles * out_channels)
        self.tiles = like.new_empty(TILE, TILE, tiles * out_channels)
        self._between = like.new_empty(_WINDOW**2 * tiles * max(channels, out_channels))

    def spans(self) -> Iterator[tuple[int, int]]:
        """First row of each strip, and the row after its last."""
        for top in range(0, self._height, self.down * TILE):
            yield top, min(top + self.down * TILE, self._height)

    def transform(self, matrix: Tensor, values: Tensor, *, to: Tensor) -> None:
        """Apply a matrix along both axes of the values of each tile, from buffer to buffer; see :func:`_along_both`."""
        between = len(values), len(matrix), values.shape[-1]
        _along_both(matrix, values, between=self._between[: math.prod(between)].view(between), out=to)

    def by_place(self, values: Tensor) -> Tensor:
        """A view of a buffer by tile: side²×tiles×channels."""
        return values.view(len(values) ** 2, self._batch * self.down * self.across, -1)

    def windows(self, rows: Rows, top: int, bottom: int, rectify: bool) -> Tensor:
        """The 6×6 input pixels of each tile of a strip: a buffer 6×6×(tiles·channels)."""
        first, last = max(top - 1, 0), min(bottom + 1, self._height)
        start = first - (top - 1)
        stop = start + last - first
        self._padded[:, :start] = 0
        self._padded[:, stop:] = 0
        inside = self._padded[:, start:stop, 1 : self._width + 1]
        inside.copy_(rows(first, last))
        if rectify:
            inside.relu_()
        for row, col, pixels in self._places():
            self._windows[row, col] = pixels
        return self._windows.view(_WINDOW, _WINDOW, -1)

    def add_windows(self, windows: Tensor, top: int, bottom: int, to: Tensor) -> None:
        """The transpose of :meth:`windows`: add the 6×6 pixels of each tile to the map ``to`` B×H×W×C."""
        self._padded.zero_()
        windows = windows.view(self._windows.shape)
        for row, col, pixels in self._places():
            pixels += windows[row, col]
        first, last = max(top - 1, 0), min(bottom + 1, self._height)
        start = first - (top - 1)
        to[:, first:last] += self._padded[:, start : start + last - first, 1 : self._width + 1]
        self._padded.zero_()  # the next windows need a border of zeros

    def pixels(self) -> Tensor:
        """A copy of ``tiles`` by pixel: B×(rows of the strip)×W×O."""
        tiles = self.tiles.view(TILE, TILE, self._batch, self.down, self.across, -1).permute(2, 3, 0, 4, 1, 5)
        return tiles.reshape(self._batch, self.down * TILE, self.across * TILE, -1)[:, :, : self._width]

    def into_tiles(self, strip: Tensor) -> None:
        """The opposite of :meth:`pixels`, for a strip B×rows×W×O that may have fewer rows: the others are zero."""
        full = strip.shape[1] == self.down * TILE and self._width == self.across * TILE
        if not full:
            whole = strip.new_zeros(self._batch, self.down * TILE, self.across * TILE, strip.shape[-1])
            whole[:, : strip.shape[1], : self._width] = strip
            strip = whole
        by_pixel = strip.unflatten(1, (self.down, TILE)).unflatten(3, (self.across, TILE))  # type: ignore[no-untyped-call]
        in_order = by_pixel.permute(2, 4, 0, 1, 3, 5)
        self.tiles.view(in_order.shape).copy_(in_order)

    def _places(self) -> Iterator[tuple[int, int, Tensor]]:
        """Each row and column of the window, with the pixels of all tiles there as a view of the padded strip."""
        rows, cols = self.down * TILE - (TILE - 1), self.across * TILE - (TILE - 1)
        for row in range(_WINDOW):
            for col in range(_WINDOW):
                yield row, col, self._padded[:, row : row + rows : TILE, col : col + cols : TILE]


def _along_both(matrix: Tensor, values: Tensor, *, between: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """Apply a matrix n×m along both of the first axes of m×m×K values, and swap these axes: n×n×K.

    With two thin products, a whole convolution takes a tenth less time than with one product for both axes.

    Args:
        matrix: n×m.
        values: m×m×K.
        between: Memory for the intermediate m×n×K values.
        out: Memory for the result.
    """
    halfway = torch.bmm(matrix.expand(len(values), -1, -1), values, out=between)
    return torch.bmm(matrix.expand(len(matrix), -1, -1), halfway.transpose(0, 1), out=out)


def _transforms() -> tuple[Array, Array, Array]:
    """The matrices of Cook and Toom: they transform the input (6×6), the weights (6×3), and back to the output (4×6).

    Along one axis, filtering is the transpose of multiplying two polynomials: evaluate both at six points, the last of
    them infinity, and interpolate.
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
    """Rows of tiles per strip: as many as fit, with strips of about equal height."""
    in_all = -(-height // TILE)
    fitting = max(1, min(in_all, _STRIP_VALUES // (row_values * TILE)))
    return -(-in_all // -(-in_all // fitting))


def _shared_tile_rows(shape: Sequence[int], count: int) -> int | None:
    """Rows of tiles per strip of one map, if several threads share the strips of a batch; None if they should not."""
    batch, height, width, channels = shape
    in_all = -(-height // TILE)
    # With fewer than three strips per thread, the last strips would leave too many threads idle.
    fitting = min(_tile_rows(height, width * channels * count), batch * in_all // (3 * count))
    large_enough = fitting * -(-width // TILE) >= _LEAST_TILES
    return -(-in_all // -(-in_all // fitting)) if count > 1 and large_enough else None
