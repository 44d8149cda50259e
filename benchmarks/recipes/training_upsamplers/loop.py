"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from training_upsamplers.method import Method
from training_upsamplers.pictures import Pictures, batch_of
from vfm_isbench.progress import RunProgress

_WARMUP = 0.03
_CURVE_POINTS = 50


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        steps: Steps of the optimiser.
        batch_size: Crops per step.
        learning_rate: Highest learning rate; it rises for 3 % of the steps and then falls along a cosine.
        seed: Of crops, dropout and views. The upsampler's weights are drawn before, see :func:`seeded`.
        progress: Whether to show the time left.
    """

    steps: int
    batch_size: int
    learning_rate: float
    seed: int = 0
    progress: bool = True


def train(method: Method, pictures: Sequence[Pictures], settings: Settings) -> list[tuple[int, float]]:
    """Train the method's upsampler in place and leave it in eval mode.

    Returns:
        The loss curve: pairs of the number of steps done and the mean loss since the pair before.
    """
    parts = list(method.modules())
    for part in parts:
        part.train()
    parameters = [parameter for part in parts for parameter in part.parameters() if parameter.requires_grad]
    optimiser = AdamW(parameters, lr=settings.learning_rate, weight_decay=1e-4)
    schedule = LambdaLR(optimiser, lambda step: _share(step, settings.steps))
    generator = torch.Generator().manual_seed(settings.seed)
    device = parameters[0].device
    curve: list[tuple[int, float]] = []
    losses: list[float] = []
    every = max(settings.steps // _CURVE_POINTS, 1)
    with RunProgress(settings.progress) as progress, progress.part("training", settings.steps) as part_of_run:
        for step in range(1, settings.steps + 1):
            crops = batch_of(pictures, settings.batch_size, method.crop_size, generator).to(device)
            loss = method.loss(crops, generator)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
            if step % every == 0 or step == settings.steps:
                curve.append((step, sum(losses) / len(losses)))
                losses = []
            part_of_run.advance(loss=f"{curve[-1][1] if curve else loss.item():.4f}")
    for part in parts:
        part.eval()
    return curve


def _share(step: int, steps: int) -> float:
    """Share of the highest learning rate at a step, counted from 0."""
    warmup = max(round(_WARMUP * steps), 1)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))
