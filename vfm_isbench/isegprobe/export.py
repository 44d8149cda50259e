"""Writes a probe of this library as a checkpoint that iSegProbe reads."""

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
"""By their names in iSegProbe, with the settings it has."""


def export_reference(probe: Probe, protocol: Protocol, path: Path, *, include_frozen: bool = False) -> None:
    """Write click encoder and head of a trained probe in the layout of iSegProbe: {"state_dict", "config"}.

    The file holds tensors and plain Python values only. In iSegProbe, ``load_is_model`` reads it; its parameter
    ``model_builder`` is an object, which cannot be stored so and has to be handed in:
    ``load_is_model(path, device, eval_ritm=False, model_builder=ModelBuilder())``. Of LiFT and LoftUp iSegProbe loads
    the weights itself, from the paths ``lift_path`` and ``upsampler_path`` in the configuration, which are left empty.

    Args:
        probe: The probe.
        protocol: What it was trained under.
        path: File to write, ``.pth``; an existing one is replaced.
        include_frozen: Also write backbone and upsampler, for :func:`vfm_isbench.isegprobe.assemble_reference`.
            iSegProbe takes them from their own sources, and refuses a position grid resized to the image as ours is.

    Raises:
        RunError: if iSegProbe has no counterpart of something in the probe or protocol, the message says of what; if
            the path is a folder, cannot be written, or ends in ``.safetensors``.
    """
    _check(probe, protocol)
    backbone = cast(ViTBackbone, probe.backbone)
    sizes = (backbone.channels, backbone.patch_size)
    upsampler, upsampler_state = _upsampler(probe.upsampler, *sizes)
    states = {"click_encoder": probe.click_encoder.state_dict(), "head": probe.head.state_dict()}
    if include_frozen:
        states |= {"backbone": backbone.model.state_dict(), "upsampler": upsampler_state}
    radius = int(protocol.disk_radius) if protocol.disk_radius.is_integer() else protocol.disk_radius
    parameters = {
        "backbone_cfg": {"type": "dinov2", "params": {"feats_injection_mode": _name_of(probe.injection, INJECTIONS)}},
        "embed_coords_cfg": _click_encoder(protocol, *sizes),
        "head_cfg": _head(protocol, backbone.channels),
        "upsampler_cfg": upsampler,
        "neck_cfg": None,
        "save_cfg": {"embed_coords": True, "backbone": include_frozen, "upsampler": include_frozen, "head": True},
        "architecture": ARCHITECTURE,
        "use_disks": True,
        "norm_radius": radius,
        "with_prev_mask": True,
        "with_aux_output": False,
        "cpu_dist_maps": False,
        "use_rgb_conv": False,
        "use_leaky_relu": False,
        "norm_mean_std": (list(IMAGENET_MEAN), list(IMAGENET_STD)),
    }
    config = {
        "class": MODEL_CLASS,
        "params": {name: {"type": "builtin", "value": value, "specified": True} for name, value in parameters.items()},
        OWN_NOTES: {"backbone_heads": int(cast(Any, backbone.model).blocks[0].attn.num_heads)},
    }
    partial = _reserve(path)
    tensors = {
        f"{PREFIXES[part]}{key}": value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for part, state in states.items()
        for key, value in state.items()
    }
    try:
        torch.save({"state_dict": tensors, "config": config}, partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch.save tells a full disk by the second
        partial.unlink(missing_ok=True)
        raise RunError(f"{path} could not be written: {error}; choose another file") from error


def _reserve(path: Path) -> Path:
    """Make sure that the file can be written; returns the one beside it to write first, which is there then."""
    if path.suffix == ".safetensors":
        raise RunError(f"{path}: iSegProbe's checkpoints are files of torch.save, not safetensors; say {path.stem}.pth")
    if path.is_dir():
        raise RunError(f"{path} is a folder; give the file to write, such as {path / 'model.pth'}")
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error}; choose another file") from error
    return partial


def _check(probe: Probe, protocol: Protocol) -> None:
    if probe.injection not in INJECTIONS.values():
        raise RunError(
            f"injection {probe.injection!r} has no counterpart in iSegProbe: what it calls after_backbone adds click "
            "tokens before the upsampler, which is 'pre_upsampler' here. Only probes trained with injection 'early' or "
            "'pre_upsampler' can be exported"
        )
    if protocol.backbone != backbone_name(probe.backbone.channels):
        raise RunError(
            f"backbone {protocol.backbone!r} has no counterpart in iSegProbe, whose DINOv2 is {BACKBONE!r} only"
        )
    if protocol.click_encoder not in CLICK_ENCODERS.values():
        raise RunError(
            f"click encoder {protocol.click_encoder!r} has no counterpart in iSegProbe, which has "
            f"{' and '.join(map(repr, CLICK_ENCODERS.values()))} only"
        )
    for field, expected in (("position_embedding", "official"), ("align_corners", True)):
        if getattr(protocol, field) != expected:
            raise RunError(
                f"protocol field {field} is {getattr(protocol, field)!r}, but iSegProbe has {expected!r} only: the "
                "exported model would give other results there, so it is not written"
            )


def _click_encoder(protocol: Protocol, width: int, patch_size: int) -> dict[str, Any]:
    sizes: dict[str, Any] = {
        "img_size": (protocol.image_size, protocol.image_size),
        "patch_size": (patch_size, patch_size),
        "embed_dim": width,
    }
    if protocol.click_encoder == "simple_vit":
        sizes |= {theirs: getattr(protocol, f"simple_vit_{name}") for name, theirs in SIMPLE_VIT.items()}
        sizes["channels"] = 3
    return {"type": _name_of(protocol.click_encoder, CLICK_ENCODERS), "params": sizes}


def _head(protocol: Protocol, width: int) -> dict[str, Any]:
    sizes = {"in_channels": width, "num_classes": 1}
    if protocol.head == "conv":
        sizes["num_layers"] = protocol.head_layers
    return {"type": _name_of(protocol.head, HEADS), "params": sizes}


def _upsampler(upsampler: Upsampler, width: int, patch_size: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Type and parameters in iSegProbe, and the weights under its names below ``upsampler.``."""
    for name, plain_upsampler in _WITHOUT_WEIGHTS.items():
        if upsampler == plain_upsampler:
            return {"type": name, "params": {}}, {}
    if isinstance(upsampler, LiFT):
        state = {f"lift.{key}": value for key, value in upsampler.state_dict().items()}
        return {"type": "lift", "params": {"lift_path": "", "n_dim": width, "patch": patch_size}}, state
    if isinstance(upsampler, FeatUpJBU) and not upsampler.channel_norm:
        state = {f"upsampler.{key}": value for key, value in upsampler.state_dict().items()}
        return {"type": "jbu_featup", "params": {"backbone_type": "dinov2", "use_norm": True}}, state
    if isinstance(upsampler, LoftUp):
        # The wrapper around LoftUp keeps the channel norm beside it.
        state = {
            f"upsampler.{key}" if key.startswith("channelnorm.") else f"upsampler.upsampler.{key}": value
            for key, value in upsampler.state_dict().items()
        }
        return {"type": "loftup", "params": {"upsampler_path": "", "n_dim": width}}, state
    raise RunError(
        f"upsampler {identity_of(upsampler).name!r} has no counterpart in iSegProbe, which has "
        f"{', '.join(_WITHOUT_WEIGHTS)} with its own settings, LiFT, FeatUp without channel norm, and LoftUp"
    )


def _name_of(value: str, table: Mapping[str, str]) -> str:
    """The name of iSegProbe for one of ours."""
    return next(theirs for theirs, ours in table.items() if ours == value)
