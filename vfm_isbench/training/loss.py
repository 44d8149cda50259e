"""Normalised focal loss."""

from __future__ import annotations

import torch
from torch import Tensor

from vfm_isbench.types import IGNORE

_EPSILON = 1e-12


def normalized_focal_loss(logits: Tensor, target: Tensor, *, alpha: float = 0.5, gamma: float = 2.0) -> Tensor:
    """Focal loss whose weights are rescaled to add up to the number of valid pixels.

    The focal weight (1 − p)^γ, with p the probability given to the true label, shrinks as a network gets better; the
    rescaling (without gradient through its factor) keeps the size of the gradients.

    Args:
        logits: B×1×H×W.
        target: B×1×H×W: 1 object, 0 background, -1 ignore.
        alpha: Weight of object pixels; background pixels weigh 1 − α.
        gamma: Focal exponent.

    Returns:
        B losses, each the mean over the valid pixels of its image.

    Source: RITM ``isegm/model/losses.py`` (after Sofiiuk et al., "AdaptIS", 2019); protocol section 2.
    """
    valid = (target != IGNORE).to(logits.dtype)
    is_object = target > 0.5
    probability = torch.sigmoid(logits)
    of_truth = torch.where(is_object, probability, 1 - probability)
    of_truth = torch.where(valid > 0, of_truth, torch.ones_like(of_truth))
    focal = (1 - of_truth) ** gamma * valid
    count = valid.sum(dim=(1, 2, 3), keepdim=True)
    scale = (count / (focal.sum(dim=(1, 2, 3), keepdim=True) + _EPSILON)).detach()
    weight = torch.where(is_object, alpha, 1 - alpha) * valid
    per_pixel = -weight * focal * scale * torch.log((of_truth + _EPSILON).clamp(max=1.0))
    return per_pixel.sum(dim=(1, 2, 3)) / (count.flatten() + _EPSILON)
