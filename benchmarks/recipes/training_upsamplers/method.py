"""What a method of training provides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from training_upsamplers.features import FrozenFeatures

Examples: TypeAlias = dict[str, Tensor]
"""What the loss needs of each crop, computed once: tensors whose first axis counts the crops."""


class Method(ABC):
    """A way to train an upsampler.

    Attributes:
        features: The frozen backbone.
        image_size: Side of the images whose features are upsampled, as in the benchmark.
        upsampler: The module to train.
        crop_size: Side of the crops that :meth:`prepare` needs, in pixels.
        spec_kind: What stands before the colon of the upsampler's name.
    """

    spec_kind: ClassVar[str]
    upsampler: nn.Module
    crop_size: int

    def __init__(self, features: FrozenFeatures, image_size: int) -> None:
        self.features = features
        self.image_size = image_size

    @abstractmethod
    def prepare(self, crops: Tensor, generator: torch.Generator) -> Examples:
        """Compute what the loss needs of ``crops`` B×3×crop_size×crop_size in [0, 1], and what no training changes."""

    @abstractmethod
    def loss(self, examples: Examples, done: float) -> Tensor:
        """The loss of some examples, when a share ``done`` of the steps is done."""

    def modules(self) -> Iterable[nn.Module]:
        """Everything that is trained."""
        return [self.upsampler]

    def tensors(self) -> Mapping[str, Tensor]:
        """What is written, by names that the library loads."""
        return self.upsampler.state_dict()


def distance(given: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error plus one minus the cosine similarity of two maps B×C×h×w."""
    return functional.mse_loss(given, wanted) + (1 - functional.cosine_similarity(given, wanted).mean())


def on_grid(maps: Tensor, side: int) -> Tensor:
    """``maps`` B×C×H×W on a grid of ``side`` cells: averaged if they are larger, enlarged bilinearly if smaller."""
    if maps.shape[-1] >= side:
        return functional.adaptive_avg_pool2d(maps, side)
    return functional.interpolate(maps, (side, side), mode="bilinear", align_corners=False)
