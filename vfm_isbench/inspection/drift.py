"""How far training has moved features: the cosine between those of a trained probe and those that it started from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vfm_isbench.probe import Probe
from vfm_isbench.probe.torch_state import benchmark_settings, current_device


def mean_cosine(features: Tensor, others: Tensor) -> float:
    """Mean over images and positions of the cosine between feature vectors.

    Args:
        features: B×C×H×W.
        others: B×C×H×W.

    Returns:
        In [-1, 1]; vectors of zeros count as 0.

    >>> mean_cosine(torch.ones(1, 2, 3, 3), 5 * torch.ones(1, 2, 3, 3))
    1.0
    """
    cosines = functional.cosine_similarity(features.double(), others.double(), dim=1, eps=1e-12)
    return round(float(cosines.mean()), 12)


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """Mean cosine between features before and after training, without clicks; 1 where only their length changed.

    Attributes:
        backbone: Of the backbone's features.
        upsampled: Of the features that the head gets, after backbone and upsampler.
    """

    backbone: float
    upsampled: float


@benchmark_settings()
@torch.no_grad()
def feature_drift(trained: Probe, start: Probe, images: Iterable[Tensor]) -> FeatureDrift:
    """Compare the features of a trained probe with those of the backbone and upsampler that it started from.

    Args:
        trained: The trained probe.
        start: A probe on the same device with the backbone and the upsampler as they were.
        images: Batches B×3×H×W in [0, 1], of the probe's image size; each counts by its number of images.

    Raises:
        ValueError: if there are no images.
    """
    count, backbone, upsampled = 0, 0.0, 0.0
    with current_device(trained.device):
        for batch in images:
            (one, one_large), (other, other_large) = (_features(probe.eval(), batch) for probe in (trained, start))
            count += len(batch)
            backbone += len(batch) * mean_cosine(one, other)
            upsampled += len(batch) * mean_cosine(one_large, other_large)
    if not count:
        raise ValueError("the drift of features needs at least one image")
    return FeatureDrift(backbone / count, upsampled / count)


def _features(probe: Probe, image: Tensor) -> tuple[Tensor, Tensor]:
    """Features of images B×3×H×W at the patch grid, and upsampled."""
    normalised, guidance = probe.normalise(image.to(probe.device))
    features = probe.backbone(normalised)
    return features, probe.to_head_size(probe.guarded_upsampler(features, guidance), image.shape[-2:])
