"""Small, fast stand-ins for tests of this library and of plugins: a backbone, an upsampler and a data set.

They implement the real interfaces with random but reproducible content, and need no files. Their scores mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.backbones.base import Backbone
from vfm_isbench.datasets.base import ObjectDataset
from vfm_isbench.errors import DataError
from vfm_isbench.types import AnnotatedImage, Array


class FakeBackbone(Backbone):
    """A patch embedding, and a layer that mixes neighbouring patches; takes click tokens.

    It contains a BatchNorm, so that tests notice if it is put into training mode.

    Args:
        channels: Number of feature channels C.
        patch_size: Side of a patch in pixels.
        seed: Seed of its weights.

    >>> FakeBackbone()(torch.zeros(2, 3, 28, 42)).shape
    torch.Size([2, 8, 2, 3])
    """

    def __init__(self, channels: int = 8, patch_size: int = 14, seed: int = 0) -> None:
        super().__init__("fake", channels=channels, patch_size=patch_size, takes_click_tokens=True)
        with _own_random_numbers(seed):
            self.patch_embed = nn.Conv2d(3, channels, patch_size, stride=patch_size)
            self.norm = nn.BatchNorm2d(channels)
            self.mix = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, image: Tensor, click_tokens: Tensor | None = None) -> Tensor:
        """See :meth:`vfm_isbench.backbones.Backbone.forward`."""
        tokens = self.patch_embed(image)
        if click_tokens is not None:
            tokens = tokens + click_tokens
        # With tanh, the effect of clicks depends on the image, as in a transformer.
        return cast(Tensor, tokens + torch.tanh(self.mix(self.norm(tokens))))


class FakeUpsampler(nn.Module):
    """An upsampler with weights, BatchNorm and dropout, in two steps (first the image, then the features).

    Args:
        channels: Number of feature channels C.
        seed: Seed of its weights.
    """

    def __init__(self, channels: int = 8, seed: int = 0) -> None:
        super().__init__()
        with _own_random_numbers(seed):
            self.guide = nn.Conv2d(3, channels, 1)
            self.norm = nn.BatchNorm2d(channels)
            self.dropout = nn.Dropout(0.5)

    def encode_guidance(self, image: Tensor) -> Tensor:
        """Turn the image B×3×H×W into B×C×H×W."""
        return torch.tanh(self.guide(image))

    def upsample(self, features: Tensor, guidance: Tensor) -> Tensor:
        """Upsample features B×C×h×w to the guidance's B×C×H×W."""
        resized = functional.interpolate(self.dropout(self.norm(features)), guidance.shape[-2:], mode="nearest")
        return resized + guidance

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """Both steps."""
        return self.upsample(features, self.encode_guidance(image))


class FakeDataset(ObjectDataset):
    """A few images of bright ellipses on a dark background, each with its mask.

    Args:
        images: Number of images.
        instances: Instances per image, side by side.
        size: (H, W) of the images.
        seed: Seed of all images.
        name: Name in tables.

    >>> dataset = FakeDataset(images=2, instances=2)
    >>> [str(object_id) for object_id in dataset.objects]
    ['fake0:1', 'fake0:2', 'fake1:1', 'fake1:2']
    """

    def __init__(
        self, images: int = 3, instances: int = 2, size: tuple[int, int] = (60, 80), seed: int = 0, name: str = "fake"
    ) -> None:
        self.name = name
        self.instances = instances
        self.size = size
        self.seed = seed
        self._ids = [f"fake{index}" for index in range(images)]

    @property
    def image_ids(self) -> Sequence[str]:
        """The names ``fake0``, ``fake1`` and so on."""
        return self._ids

    def read(self, image_id: str) -> AnnotatedImage:
        """See :meth:`vfm_isbench.datasets.ObjectDataset.read`."""
        if image_id not in self._ids:
            raise DataError(f"the fake data set has no image {image_id!r}, only {', '.join(self._ids)}")
        rng = np.random.default_rng([self.seed, self._ids.index(image_id)])
        height, width = self.size
        column = width / self.instances
        rows, cols = np.mgrid[:height, :width]
        labels = np.zeros(self.size, np.int32)
        image = rng.normal((60, 80, 100), 12, (height, width, 3))
        for instance in range(1, self.instances + 1):
            half = np.array([height, column]) * rng.uniform(0.25, 0.4, 2)
            centre = np.array([height / 2, column * (instance - 0.5)]) + rng.uniform(-0.08, 0.08, 2) * (height, column)
            inside = ((rows - centre[0]) / half[0]) ** 2 + ((cols - centre[1]) / half[1]) ** 2 <= 1
            labels[inside] = instance
            image[inside] = rng.normal(rng.uniform(150, 220, 3), 12, (np.count_nonzero(inside), 3))
        return AnnotatedImage(image_id, _to_uint8(image), labels)


def _to_uint8(values: Array) -> Array:
    return np.clip(values, 0, 255).astype(np.uint8)


@contextmanager
def _own_random_numbers(seed: int) -> Iterator[None]:
    """Draw initial weights from a seed without changing the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
