"""Write a probe as a checkpoint that iSegProbe can read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from vfm_isbench.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from vfm_isbench.backbones.timm_models import ViTBackbone
from vfm_isbench.errors import RunError
from vfm_isbench.isegprobe.checkpoint import MODEL_CLASS, OWN_NOTES, PREFIXES
from vfm_isbench.isegprobe.config import (
    ARCHITECTURE,
    BACKBONE,
    CLICK_ENCODERS,
    HEADS,
    INJECTIONS,
    SIMPLE_VIT,
    backbone_name,
)
from vfm_isbench.probe import Probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.storage.atomic import replacing
from vfm_isbench.upsamplers import Bicubic, Bilinear, Identity, Nearest, Upsampler, identity_of
from vfm_isbench.upsamplers.published.featup import FeatUpJBU
from vfm_isbench.upsamplers.published.lift import LiFT
from vfm_isbench.upsamplers.published.loftup import LoftUp

_WITHOUT_WEIGHTS: dict[str, Upsampler] = {
    "identity": Identity(),
    "nearest": Nearest(),
    "bilinear": Bilinear(),
    "bicubic": Bicubic(),
}
"""Upsamplers by their names in iSegProbe, with its settings."""


def export_reference(probe: Probe, protocol: Protocol, path: Path, *, include_frozen: bool = False) -> None:
    """Write the click encoder and head of a trained probe in iSegProbe's layout: {"state_dict", "config"}.

    The file contains only tensors and plain Python values. In iSegProbe, ``load_is_model`` reads it; you must pass its
    parameter ``model_builder``, an object that cannot be stored this way:
    ``load_is_model(path, device, eval_ritm=False, model_builder=ModelBuilder())``. iSegProbe loads the weights of LiFT
    and LoftUp itself, from ``lift_path`` and ``upsampler_path`` in the configuration, which are left empty.

    Args:
        probe: The probe.
        protocol: The protocol it was trained with.
        path: The ``.pth`` file to write; an existing file is replaced.
        include_frozen: Also write backbone and upsampler, for :func:`vfm_isbench.isegprobe.assemble_reference`.
            iSegProbe itself loads them from their own sources, and refuses position embeddings resized like ours.

    Raises:
        RunError: if iSegProbe has no counterpart of something in the probe or protocol (the message names it), or if
            the path is a folder, cannot be written, or ends in ``.safetensors``.
    """
    _check(probe, protocol)
    _check_path(path)
    backbone = cast(ViTBackbone, probe.backbone)
    upsampler, upsampler_state = _upsampler(probe.upsampler.call, backbone.channels, backbone.patch_size)
    states = {"click_encoder": probe.click_encoder.state_dict(), "head": probe.head.state_dict()}
    if include_frozen:
        states |= {"backbone": backbone.model.state_dict(), "upsampler": upsampler_state}
    parameters = _parameters(probe, protocol, upsampler, include_frozen)
    config = {
        "class": MODEL_CLASS,
        "params": {name: {"type": "builtin", "value": value, "specified": True} for name, value in parameters.items()},
        OWN_NOTES: {"backbone_heads": int(cast(Any, backbone.model).blocks[0].attn.num_heads)},
    }
    tensors = {
        f"{PREFIXES[part]}{key}": value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for part, state in states.items()
        for key, value in state.items()
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            torch.save({"state_dict": tensors, "config": config}, partial)
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError if the disk is full
        raise RunError(f"{path} cannot be written: {error}; choose another file") from error


def _check_path(path: Path) -> None:
    if path.suffix == ".safetensors":
        raise RunError(f"{path}: iSegProbe reads files of torch.save, not safetensors; write {path.stem}.pth instead")
    if path.is_dir():
        raise RunError(f"{path} is a folder; give the file to write, such as {path / 'model.pth'}")


def _check(probe: Probe, protocol: Protocol) -> None:
    if probe.adapters is not None:
        raise RunError(
            f"granularity {protocol.granularity!r} has no counterpart in iSegProbe; only probes trained with "
            "granularity 'none' can be exported"
        )
    if probe.injection not in INJECTIONS.values():
        raise RunError(
            f"injection {probe.injection!r} has no counterpart in iSegProbe: its after_backbone adds click tokens "
            "before the upsampler, which is 'pre_upsampler' here. Only probes trained with injection 'early' or "
            "'pre_upsampler' can be exported"
        )
    if protocol.backbone != backbone_name(probe.backbone.channels):
        raise RunError(
            f"backbone {protocol.backbone!r} has no counterpart in iSegProbe, whose only DINOv2 is {BACKBONE!r}"
        )
    if protocol.click_encoder not in CLICK_ENCODERS.values():
        raise RunError(
            f"click encoder {protocol.click_encoder!r} has no counterpart in iSegProbe, which has only "
            f"{' and '.join(map(repr, CLICK_ENCODERS.values()))}"
        )
    if protocol.head not in HEADS.values():
        raise RunError(
            f"head {protocol.head!r} has no counterpart in iSegProbe's checkpoints, which have only "
            f"{' and '.join(map(repr, HEADS.values()))}"
        )
    only = {"position_embedding": "official", "align_corners": True, "train_upsampler": False, "train_backbone": False}
    for field, expected in only.items():
        if getattr(protocol, field) != expected:
            raise RunError(
                f"protocol field {field} is {getattr(protocol, field)!r}, but iSegProbe only has {expected!r}: the "
                "exported model would give other results there"
            )


def _parameters(probe: Probe, protocol: Protocol, upsampler: dict[str, Any], include_frozen: bool) -> dict[str, Any]:
    """Parameters of ``iSegProbeModel``."""
    channels, patch_size = probe.backbone.channels, probe.backbone.patch_size
    radius = protocol.disk_radius
    return {
        "backbone_cfg": {"type": "dinov2", "params": {"feats_injection_mode": _name_of(probe.injection, INJECTIONS)}},
        "embed_coords_cfg": _click_encoder(protocol, channels, patch_size),
        "head_cfg": _head(protocol, channels),
        "upsampler_cfg": upsampler,
        "neck_cfg": None,
        "save_cfg": {"embed_coords": True, "backbone": include_frozen, "upsampler": include_frozen, "head": True},
        "architecture": ARCHITECTURE,
        "use_disks": True,
        "norm_radius": int(radius) if radius.is_integer() else radius,
        "with_prev_mask": True,
        "with_aux_output": False,
        "cpu_dist_maps": False,
        "use_rgb_conv": False,
        "use_leaky_relu": False,
        "norm_mean_std": (list(IMAGENET_MEAN), list(IMAGENET_STD)),
    }


def _click_encoder(protocol: Protocol, channels: int, patch_size: int) -> dict[str, Any]:
    sizes: dict[str, Any] = {
        "img_size": (protocol.image_size, protocol.image_size),
        "patch_size": (patch_size, patch_size),
        "embed_dim": channels,
    }
    if protocol.click_encoder == "simple_vit":
        sizes |= {theirs: getattr(protocol, f"simple_vit_{name}") for name, theirs in SIMPLE_VIT.items()}
        sizes["channels"] = 3
    return {"type": _name_of(protocol.click_encoder, CLICK_ENCODERS), "params": sizes}


def _head(protocol: Protocol, channels: int) -> dict[str, Any]:
    sizes = {"in_channels": channels, "num_classes": 1}
    if protocol.head == "conv":
        sizes["num_layers"] = protocol.head_layers
    return {"type": _name_of(protocol.head, HEADS), "params": sizes}


def _upsampler(upsampler: Upsampler, channels: int, patch_size: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The upsampler's type and parameters in iSegProbe, and its weights by iSegProbe's keys below ``upsampler.``."""
    for name, plain_upsampler in _WITHOUT_WEIGHTS.items():
        if upsampler == plain_upsampler:
            return {"type": name, "params": {}}, {}
    if isinstance(upsampler, LiFT):
        state = {f"lift.{key}": value for key, value in upsampler.state_dict().items()}
        return {"type": "lift", "params": {"lift_path": "", "n_dim": channels, "patch": patch_size}}, state
    if isinstance(upsampler, FeatUpJBU) and not upsampler.channel_norm:
        state = {f"upsampler.{key}": value for key, value in upsampler.state_dict().items()}
        return {"type": "jbu_featup", "params": {"backbone_type": "dinov2", "use_norm": True}}, state
    if isinstance(upsampler, LoftUp):
        # iSegProbe's wrapper around LoftUp keeps the channel norm next to it.
        state = {
            f"upsampler.{key}" if key.startswith("channelnorm.") else f"upsampler.upsampler.{key}": value
            for key, value in upsampler.state_dict().items()
        }
        return {"type": "loftup", "params": {"upsampler_path": "", "n_dim": channels}}, state
    raise RunError(
        f"upsampler {identity_of(upsampler).name!r} has no counterpart in iSegProbe, which has "
        f"{', '.join(_WITHOUT_WEIGHTS)} with its own settings, LiFT, FeatUp without channel norm, and LoftUp"
    )


def _name_of(value: str, table: Mapping[str, str]) -> str:
    """The name in iSegProbe of one of our names."""
    return next(theirs for theirs, ours in table.items() if ours == value)
