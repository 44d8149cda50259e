"""What can be said of upsampled features without training anything: pure functions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vfm_isbench.semantic.confusion import IGNORED

COMPONENTS = 3
"""Principal components on which sharpness is measured: those that pictures of features show."""


def principal_components(features: Tensor, components: int = COMPONENTS) -> Tensor:
    """Project the features of one image on their first principal components.

    Args:
        features: C×H×W.
        components: How many; all of them if there are fewer channels.

    Returns:
        components×H×W, float64, of zero mean.
    """
    channels, height, width = features.shape
    cells = features.detach().double().reshape(channels, -1)
    cells = cells - cells.mean(dim=1, keepdim=True)
    _, vectors = torch.linalg.eigh(cells @ cells.T)
    projected: Tensor = vectors[:, -components:].T @ cells
    return projected.reshape(-1, height, width)


def boundary_sharpness(features: Tensor, labels: Tensor, components: int | None = COMPONENTS) -> float | None:
    """How much more features change across the boundaries of objects than within objects.

    It is the mean distance between the features of neighbouring pixels (right and below) with different labels, divided
    by that of neighbours with the same label. 1 means that boundaries do not show. Shifting, rotating or scaling all
    features changes nothing.

    Args:
        features: C×H×W.
        labels: H×W, the same size; neighbours of which one is 255 do not count.
        components: Principal components to measure on; None for the features as they are.

    Returns:
        The ratio; None if there are no boundaries or the features do not change within objects.
    """
    maps = features.double() if components is None else principal_components(features, components)
    across, within = [], []
    for dim in (1, 2):
        length = maps.shape[dim] - 1
        steps = (maps.narrow(dim, 1, length) - maps.narrow(dim, 0, length)).norm(dim=0)
        first, second = labels.narrow(dim - 1, 0, length), labels.narrow(dim - 1, 1, length)
        counted = (first != IGNORED) & (second != IGNORED)
        across.append(steps[counted & (first != second)])
        within.append(steps[counted & (first == second)])
    outer, inner = torch.cat(across), torch.cat(within)
    if not len(outer) or not len(inner) or float(inner.mean()) == 0.0:
        return None
    return float(outer.mean() / inner.mean())


def pooled_agreement(upsampled: Tensor, features: Tensor) -> float:
    """How well upsampled features agree with those they were made from, once they are averaged over each patch again.

    Args:
        upsampled: C×H×W.
        features: C×h×w, the backbone's.

    Returns:
        The mean cosine over the patches, at most 1.
    """
    pooled = functional.adaptive_avg_pool2d(upsampled.double(), (features.shape[-2], features.shape[-1]))
    return float(functional.cosine_similarity(pooled, features.double(), dim=0).mean())
