"""A backbone: the entry point is called with the image size, and returns the backbone with its weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from vfm_isbench.backbones import Backbone
from vfm_isbench.storage.weights import read_state_dict


class Stem(Backbone):
    """One convolution with random but fixed weights."""

    def __init__(self) -> None:
        super().__init__("example_stem", channels=16, patch_size=8, takes_click_tokens=True)
        self.patches = nn.Conv2d(3, 16, 8, stride=8)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.1, generator=generator)

    def forward(self, image: Tensor, click_tokens: Tensor | None = None) -> Tensor:
        """Turn B×3×H×W into B×16×(H/8)×(W/8)."""
        tokens = self.patches(image)
        return tokens if click_tokens is None else tokens + click_tokens


def make(image_size: int, *, weights: Path | None = None, pretrained: bool = True) -> Backbone:
    """Make the backbone.

    Args:
        image_size: Side of the square input images; this backbone accepts any.
        weights: The path given as --backbone-weights; None for the backbone's own weights.
        pretrained: False if random weights are enough, so that nothing has to be downloaded.
    """
    stem = Stem()
    if weights is not None:
        stem.load_state_dict(read_state_dict(weights))
    return stem
