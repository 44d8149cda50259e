"""Loss and IoU of every step of short trainings: ours, and those recorded from the reference implementation."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from parity_models import TrainingPhotographs, recorded_probe

from vfm_isbench.acceleration.speed import RunOptions
from vfm_isbench.probe import build_probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.training import TrainingSamples, normalized_focal_loss, train
from vfm_isbench.training.prediction import click_generator, predict_batch
from vfm_isbench.training.samples import collate
from vfm_isbench.types import Array

OURS = Path(__file__).resolve().parents[2] / "benchmarks" / "parity" / "courses"
"""Courses of this library, made by ``benchmarks/parity/courses.py record``."""

STEPS = 400
WINDOW = 50
"""Steps whose mean is a point of a curve: one step has only the eight objects of its batch."""

LATE = 200
"""From here on the curves are flat; before, seeds differ in when the object is first found."""

SHARED_SEEDS = (0, 1, 2)
"""Recorded seeds that share one set of initial weights."""

TRUE_SEEDS = (10, 11, 12, 13, 14, 15)
"""Recorded seeds with initial weights of their own."""

OUR_SEEDS = (0, 1, 2, 3, 4, 5)
"""Seeds of this library, each with initial weights of its own."""

OUR_SHARED_SEEDS = (0, 1, 2)
"""Seeds of the draws in courses of this library that all start from the initial weights of seed 0."""

RECIPE = Protocol.preset("reference").replace(
    simple_vit_depth=2,
    simple_vit_heads=4,
    simple_vit_head_width=16,
    simple_vit_hidden=128,
    batch_size=8,
    samples_per_epoch=8,
    epochs=STEPS,
    milestones=(),
    learning_rate=1e-3,
    validation_samples=0,
    sample_weights="uniform",
    resize_to_fit=True,
    flip="horizontal",
    rotate90_probability=0.0,
    affine_probability=0.0,
    brightness_contrast_probability=0.0,
    rgb_shift_probability=0.0,
)
"""What the recorded runs were trained with; an epoch is one step, so that the history has every step."""


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """What happened in each step of a training.

    Attributes:
        loss: Loss of each step.
        iou: Mean IoU of the batch in each step.
    """

    loss: Array
    iou: Array

    def score(self, name: str) -> Array:
        """Values of "loss" or "iou", one per step."""
        return {"loss": self.loss, "iou": self.iou}[name]


def train_course(parity_root: Path, real_root: Path, initial: int, draws: int, steps: int = STEPS) -> Course:
    """Train from the recorded backbone.

    Args:
        parity_root: Numbers recorded from the reference.
        real_root: The photographs.
        initial: Seed of the initial weights.
        draws: Seed of everything drawn during training: images, crops, objects, clicks.
        steps: Length.
    """
    frozen = recorded_probe(parity_root / "end_to_end" / "identity_pre-upsampler_simple-vit.safetensors")
    recipe = RECIPE.replace(epochs=steps)
    probe = build_probe(recipe.replace(seed=initial), frozen.backbone, frozen.upsampler)
    samples = TrainingSamples(TrainingPhotographs(real_root), recipe.replace(seed=draws))
    history = train(probe, samples, None, options=RunOptions(progress=False))
    return Course(np.array([record.loss for record in history]), np.array([record.iou for record in history]))


def our_course_path(initial: int, draws: int) -> Path:
    """The file of a recorded course of ours; a seed proper seeds initial weights and draws alike."""
    return OURS / (f"seed_{initial}.json" if initial == draws else f"initial_{initial}_draws_{draws}.json")


def read_course(path: Path) -> Course:
    """Read a recorded course, ours or theirs."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    return Course(np.array(fields["loss"]), np.array(fields["iou"]))


def our_courses() -> list[Course]:
    """Courses of this library, each with initial weights of its own."""
    return [read_course(our_course_path(seed, seed)) for seed in OUR_SEEDS]


def our_sharing_courses() -> list[Course]:
    """Courses of this library that share their initial weights."""
    return [read_course(our_course_path(0, draws)) for draws in OUR_SHARED_SEEDS]


def recorded_courses(parity_root: Path, seeds: Iterable[int]) -> list[Course]:
    """Courses of the reference implementation."""
    return [read_course(parity_root / "training" / f"seed_{seed}.json") for seed in seeds]


def first_losses(parity_root: Path, real_root: Path, initial: int, draws: int) -> Array:
    """Losses of the first step, before anything is learnt: sets of initial weights × first batches."""
    frozen = recorded_probe(parity_root / "end_to_end" / "identity_pre-upsampler_simple-vit.safetensors")
    probes = [build_probe(RECIPE.replace(seed=seed), frozen.backbone, frozen.upsampler) for seed in range(initial)]
    photographs = TrainingPhotographs(real_root)
    losses = np.empty((initial, draws))
    for column in range(draws):
        protocol = RECIPE.replace(seed=1000 + column)
        samples = TrainingSamples(photographs, protocol)
        batch = collate([samples[0, item] for item in range(protocol.batch_size)])
        for row, probe in enumerate(probes):
            rng = click_generator(protocol, 0, 0, 0)
            with torch.no_grad():
                logits, targets = predict_batch(probe, batch, protocol, rng)
                losses[row, column] = normalized_focal_loss(
                    logits, targets, alpha=protocol.loss_alpha, gamma=protocol.loss_gamma
                ).mean()
    return losses
