"""What decides a backbone's features: its weights, and the normalisation of its input."""

from __future__ import annotations

from typing import Any

from vfm_isbench.backbones.base import Backbone
from vfm_isbench.storage.hashing import weights_sha256


def input_normalisation(backbone: Backbone) -> dict[str, list[float]]:
    """Mean and deviation of a backbone's input, as results record them. No hash of its weights covers them."""
    return {"mean": [float(value) for value in backbone.mean], "std": [float(value) for value in backbone.std]}


def identify_backbone(backbone: Backbone) -> dict[str, Any]:
    """What run folders and checkpoints record of a backbone."""
    return {"backbone_sha256": weights_sha256(backbone), "backbone_input": input_normalisation(backbone)}
