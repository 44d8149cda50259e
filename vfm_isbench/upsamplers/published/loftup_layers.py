"""The layers of LoftUp: Fourier features of coordinates and colours, and cross-attention from pixels to patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.upsamplers.published.precision import at_least_single

HEADS = 4
"""Attention heads of every public LoftUp; the shapes of the weights do not show it."""

_LOWEST, _HIGHEST = -2.0, 10.0
"""Natural logarithms of the lowest and the highest frequency."""


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of B×C×H×W, with weights under ``norm``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, values: Tensor) -> Tensor:
        """Normalise ``values`` B×C×H×W."""
        normalised: Tensor = self.norm(values.movedim(1, -1))
        return normalised.movedim(-1, 1)


class MinMaxScaler(nn.Module):
    """Scales every channel of every image to [-0.5, 0.5] by its own lowest and highest value.

    The original takes both over the whole batch, so its output depends on the other images; for a single image the
    result is the same.
    """

    def forward(self, image: Tensor) -> Tensor:
        """Scale ``image`` B×3×H×W; the result has at least single precision, see :class:`FourierFeatures`."""
        image = at_least_single(image)
        low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
        return (image - low) / (high - low).clamp(min=1e-4) - 0.5


class FourierFeatures(nn.Module):
    """Sines and cosines of values at frequencies from e⁻² to e¹⁰, with learned phases.

    The highest frequency multiplies rounding errors by 22,000. Therefore the order of operations must stay that of the
    original, and everything up to sine and cosine needs at least single precision, whatever type the weights have.

    Args:
        n_values: Channels d of the input.
        n_frequencies: Frequencies n per channel.
    """

    def __init__(self, n_values: int, n_frequencies: int) -> None:
        super().__init__()
        self.biases = nn.Parameter(torch.randn(2, n_values, n_frequencies))

    def extra_repr(self) -> str:
        """Sizes, for the module's repr."""
        return "n_values={1}, n_frequencies={2}".format(*self.biases.shape)

    def forward(self, values: Tensor) -> Tensor:
        """Turn ``values`` B×d×H×W into B×2·n·d×H×W: all sines, then all cosines, frequency by frequency.

        Values must not be rounded to half precision; the result has the type of the weights.
        """
        values = at_least_single(values)
        _, n_values, n_frequencies = self.biases.shape
        exponents = torch.linspace(_LOWEST, _HIGHEST, n_frequencies, device=values.device, dtype=values.dtype)
        angles = values.unsqueeze(1) * exponents.exp().view(-1, 1, 1, 1)
        # Stored as values × frequencies, but the original reads them as frequencies × values: reshape, not transpose.
        phases = self.biases.to(values.dtype).reshape(2, n_frequencies, n_values, 1, 1)
        sines, cosines = (angles + phases[0]).sin(), (angles + phases[1]).cos()
        return torch.cat([sines, cosines], dim=1).flatten(1, 2).to(self.biases.dtype)


def positions(rows: int, cols: int, like: Tensor) -> Tensor:
    """Row and column of every cell of a grid, each from -1 to 1: 2×rows×cols, in at least single precision."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    axes = [torch.linspace(-1, 1, n, device=like.device, dtype=dtype) for n in (rows, cols)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


class CrossAttention(nn.Module):
    """Attention of pixels to patches, both normalised first, split into the parts that LoftUp computes separately.

    Args:
        width: Channels D of pixels and patches.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_q = nn.LayerNorm(width)
        self.norm_kv = nn.LayerNorm(width)
        # Never called, because it would compute queries, keys and values together and store all attention weights; it
        # only holds the weights under their published names.
        self.attention = nn.MultiheadAttention(width, HEADS)

    def queries(self, pixels: Tensor) -> Tensor:
        """Queries of ``pixels`` B×N×D: B×N×D."""
        width = pixels.shape[-1]
        projection, bias = self.attention.in_proj_weight, self.attention.in_proj_bias
        return functional.linear(self.norm_q(pixels), projection[:width], bias[:width])

    def keys_values(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of ``patches`` B×M×D, split by head: B×heads×M×D/heads."""
        width = patches.shape[-1]
        projection, bias = self.attention.in_proj_weight, self.attention.in_proj_bias
        both = functional.linear(self.norm_kv(patches), projection[width:], bias[width:])
        keys, values = both.chunk(2, dim=-1)
        return _by_head(keys), _by_head(values)

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend from ``queries`` B×N×D to the patches: B×N×D."""
        taken = functional.scaled_dot_product_attention(_by_head(queries), keys, values)
        output: Tensor = self.attention.out_proj(taken.transpose(1, 2).flatten(2))
        return output


class FeedForward(nn.Module):
    """LayerNorm, then a network with one hidden layer and GELU.

    Args:
        width: Channels D of input and output.
        hidden: Channels of the hidden layer.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        # The original's dropout, with probability 0, keeps the numbers in the weight names the same.
        layers = [nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.0), nn.Linear(hidden, width)]
        self.net = nn.Sequential(*layers)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform ``tokens`` B×N×D."""
        output: Tensor = self.net(tokens)
        return output


def _by_head(tokens: Tensor) -> Tensor:
    return tokens.view(*tokens.shape[:-1], HEADS, -1).transpose(1, 2)
