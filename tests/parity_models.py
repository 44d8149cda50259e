"""The small models recorded from the reference implementation, as probes of ours.

Their files hold all weights in the reference's names, and the architecture as JSON in the header.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor, nn

from vfm_isbench.backbones.dinov2 import build_dinov2
from vfm_isbench.click_encoders import PatchEmbedding, SimpleViT
from vfm_isbench.datasets import ObjectDataset
from vfm_isbench.datasets.sbd import SbdDataset
from vfm_isbench.datasets.single_object import BerkeleyDataset, DavisDataset, GrabCutDataset
from vfm_isbench.heads import ConvHead
from vfm_isbench.probe import Probe
from vfm_isbench.upsamplers import UPSAMPLERS

IMAGE_SIZE = 224


def recorded_probe(path: Path) -> Probe:
    """Assemble the model of one ``end_to_end/*.safetensors`` file, in eval mode."""
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    backbone = build_dinov2(
        "recorded",
        _below("backbone.model.", tensors),
        (IMAGE_SIZE, IMAGE_SIZE),
        num_heads=config["backbone"]["num_heads"],
    )
    encoder = _click_encoder(config)
    encoder.load_state_dict(_below("embed_coords.", tensors))
    head = ConvHead(config["head"]["in_channels"], config["head"]["num_layers"])
    head.load_state_dict(_below("head.", tensors))
    upsampler = UPSAMPLERS.get(config["upsampler"])()
    return Probe(backbone, upsampler, encoder, head, injection=config["injection"]).eval()


def recorded_dataset(root: Path, name: str) -> ObjectDataset:
    """The data set that the recorded evaluation calls ``name``."""
    if name == "SBD":
        return SbdDataset(root / name, "val")
    kinds: dict[str, Callable[[Path], ObjectDataset]] = {
        "GrabCut": GrabCutDataset,
        "Berkeley": BerkeleyDataset,
        "DAVIS": DavisDataset,
    }
    return kinds[name](root / name)


def _click_encoder(config: dict[str, Any]) -> nn.Module:
    sizes = config["click_encoder_params"]
    width, patch_size = sizes.get("embed_dim", config["backbone"]["embed_dim"]), sizes["patch_size"]
    if config["click_encoder"] == "patch_embedding":
        return PatchEmbedding(width, patch_size)
    return SimpleViT(
        width,
        patch_size,
        depth=sizes["depth"],
        heads=sizes["heads"],
        head_width=sizes["dim_head"],
        hidden=sizes["mlp_dim"],
    )


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
