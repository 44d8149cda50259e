"""Loss and gradient equal those recorded from the reference implementation."""

from __future__ import annotations

from pathlib import Path

import torch
from parity_models import Deviation
from safetensors.torch import load_file

from vfm_isbench.training import normalized_focal_loss


def test_loss_and_gradient(parity_root: Path, deviation: Deviation) -> None:
    recorded = load_file(parity_root / "normalized_focal_loss.safetensors")
    logits = recorded["logits"].requires_grad_()
    losses = normalized_focal_loss(logits, recorded["label"])
    (gradient,) = torch.autograd.grad(losses.mean(), logits)
    deviation("training: loss", float((losses.detach() - recorded["loss"].reshape(-1)).abs().max()), 1e-5)
    deviation("training: gradient of the loss", float((gradient - recorded["grad_of_mean"]).abs().max()), 1e-5)
    # The gradients themselves are smaller than that: they agree relative to their size, too.
    assert (gradient - recorded["grad_of_mean"]).norm() < 1e-5 * recorded["grad_of_mean"].norm()
