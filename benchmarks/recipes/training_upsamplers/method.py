"""What a method of training provides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from training_upsamplers.features import FrozenFeatures


class Method(ABC):
    """A way to train an upsampler.

    Attributes:
        features: The frozen backbone.
        upsampler: The module to train.
        crop_size: Side of the crops that :meth:`loss` needs, in pixels.
        spec_kind: What stands before the colon of the upsampler's name.
    """

    upsampler: nn.Module
    crop_size: int
    spec_kind: ClassVar[str]

    def __init__(self, features: FrozenFeatures, image_size: int) -> None:
        self.features = features
        self.image_size = image_size

    @abstractmethod
    def loss(self, crops: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of ``crops`` B×3×crop_size×crop_size in [0, 1]."""

    def modules(self) -> Iterable[nn.Module]:
        """Everything that is trained."""
        return [self.upsampler]

    def tensors(self) -> Mapping[str, Tensor]:
        """What is written, by names that the library loads."""
        return self.upsampler.state_dict()


def distance(given: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error plus one minus the cosine similarity of two maps B×C×h×w."""
    return functional.mse_loss(given, wanted) + (1 - functional.cosine_similarity(given, wanted).mean())
