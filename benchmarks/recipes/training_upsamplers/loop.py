"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from training_upsamplers.method import Examples, Method
from training_upsamplers.pictures import Pictures, batch_of
from vfm_isbench.progress import RunProgress

_WARMUP = 0.03
_CURVE_POINTS = 50
_PREPARED_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train.

    Attributes:
        crops: Random crops to train on. The backbone sees each once, which saves most of the time.
        steps: Steps of the optimiser.
        batch_size: Crops per step.
        learning_rate: Highest learning rate; it rises for 3 % of the steps and then falls along a cosine.
        seed: Of crops, their order and views.
        progress: Whether to show the time left.
    """

    crops: int
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
    parameters = [parameter for part in parts for parameter in part.parameters() if parameter.requires_grad]
    generator = torch.Generator().manual_seed(settings.seed)
    with RunProgress(settings.progress) as progress:
        examples = _prepare(method, pictures, settings, generator, progress)
        for part in parts:
            part.train()
        optimiser = AdamW(parameters, lr=settings.learning_rate, weight_decay=1e-4)
        schedule = LambdaLR(optimiser, lambda step: _share(step, settings.steps))
        curve: list[tuple[int, float]] = []
        losses: list[float] = []
        with progress.part("training", settings.steps) as under_way:
            for step in range(1, settings.steps + 1):
                chosen = torch.randint(settings.crops, (settings.batch_size,), generator=generator)
                batch = {name: values[chosen.to(values.device)] for name, values in examples.items()}
                loss = method.loss(batch, (step - 1) / settings.steps)
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimiser.step()
                schedule.step()
                losses.append(loss.item())
                if step % max(settings.steps // _CURVE_POINTS, 1) == 0 or step == settings.steps:
                    curve.append((step, sum(losses) / len(losses)))
                    losses = []
                under_way.advance(loss=f"{curve[-1][1] if curve else loss.item():.4f}")
    for part in parts:
        part.eval()
    return curve


def _prepare(
    method: Method,
    pictures: Sequence[Pictures],
    settings: Settings,
    generator: torch.Generator,
    progress: RunProgress,
) -> Examples:
    """What the loss needs of every crop."""
    device = next(method.upsampler.parameters()).device
    prepared = []
    with progress.part("features", settings.crops) as under_way:
        for first in range(0, settings.crops, _PREPARED_AT_ONCE):
            count = min(_PREPARED_AT_ONCE, settings.crops - first)
            crops = batch_of(pictures, count, method.crop_size, generator).to(device)
            prepared.append(method.prepare(crops, generator))
            under_way.advance(count)
    return {name: torch.cat([examples[name] for examples in prepared]) for name in prepared[0]}


def _share(step: int, steps: int) -> float:
    """Share of the highest learning rate at a step, counted from 0."""
    warmup = max(round(_WARMUP * steps), 1)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))
