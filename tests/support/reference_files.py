"""Small models of iSegProbe and the files it would save them in, with stand-ins for the classes it pickles."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from vfm_isbench.backbones.dinov2 import build_dinov2
from vfm_isbench.probe import Probe, build_probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.upsamplers import Bilinear, Upsampler

CHANNELS = 64
SMALL_REFERENCE = Protocol.preset("reference").replace(
    backbone=f"dinov2_width{CHANNELS}", image_size=28, click_encoder="patch_embedding", injection="early"
)
SMALL_SIMPLE_VIT = SMALL_REFERENCE.replace(
    click_encoder="simple_vit",
    injection="pre_upsampler",
    simple_vit_depth=1,
    simple_vit_heads=2,
    simple_vit_head_width=4,
    simple_vit_hidden=8,
)
MODEL_CLASS = "core.model.iseg_probe_model.iSegProbeModel"


def backbone_state(channels: int = CHANNELS) -> dict[str, Tensor]:
    """A transformer of one block with random weights, in the layout of timm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = VisionTransformer(
            img_size=28, patch_size=14, embed_dim=channels, depth=1, num_heads=1, num_classes=0, init_values=1.0,
            no_embed_class=True, global_pool="",
        )  # fmt: skip
        return dict(model.state_dict())


def reference_probe(
    protocol: Protocol = SMALL_REFERENCE, upsampler: Upsampler | None = None, heads: int | None = None
) -> Probe:
    """A new probe on a small DINOv2, in eval mode."""
    backbone = build_dinov2(protocol.backbone, backbone_state(), (28, 28), num_heads=heads)
    return build_probe(protocol, backbone, Bilinear() if upsampler is None else upsampler).eval()


def reference_state(probe: Probe) -> dict[str, Tensor]:
    """Tensors of click encoder and head under the names they have in iSegProbe."""
    encoder = {f"embed_coords.{key}": value for key, value in probe.click_encoder.state_dict().items()}
    return encoder | {f"head.{key}": value.contiguous() for key, value in probe.head.state_dict().items()}


def parameters(**changes: Any) -> dict[str, Any]:
    """Parameters of ``iSegProbeModel`` for :data:`SMALL_REFERENCE`, some replaced."""
    sizes = {"img_size": [28, 28], "patch_size": (14, 14), "embed_dim": CHANNELS}
    return {
        "backbone_cfg": {"type": "dinov2", "params": {"feats_injection_mode": "before_backbone"}},
        "embed_coords_cfg": {"type": "patchEmbed", "params": sizes},
        "head_cfg": {"type": "convhead", "params": {"in_channels": CHANNELS, "num_layers": 2, "num_classes": 1}},
        "upsampler_cfg": {"type": "bilinear", "params": {}},
        "neck_cfg": None,
        "save_cfg": {"embed_coords": True, "backbone": False, "upsampler": False, "head": True},
        "architecture": "backbone_upsampler_head",
        "use_disks": True,
        "norm_radius": 5,
        "with_prev_mask": True,
        "with_aux_output": False,
        "cpu_dist_maps": False,
        "use_rgb_conv": False,
        "use_leaky_relu": False,
        "norm_mean_std": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        **changes,
    }


def write_reference(path: Path, state: Mapping[str, Tensor], values: Mapping[str, Any]) -> Path:
    """Save as iSegProbe does."""
    entries = {name: {"type": "builtin", "value": value, "specified": True} for name, value in values.items()}
    torch.save({"state_dict": dict(state), "config": {"class": MODEL_CLASS, "params": entries}}, path)
    return path


@contextmanager
def foreign_values() -> Iterator[dict[str, Any]]:
    """The same parameters in objects of the classes in real files, which can be pickled inside the block."""
    easydict = _foreign("easydict", "EasyDict", dict)
    node, container = _foreign("omegaconf.nodes", "AnyNode"), _foreign("omegaconf.listconfig", "ListConfig")
    builder = _foreign("core.utils.model_builder", "ModelBuilder")
    classes = (easydict, node, container, builder)

    def eased(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        made = easydict({key: eased(part) for key, part in value.items()})
        made.__dict__.update(made)
        return made

    def configured(numbers: list[int]) -> Any:
        made = container()
        nodes = [node() for _ in numbers]
        for part, number in zip(nodes, numbers, strict=True):
            part.__dict__.update(_metadata=None, _parent=made, _val=number)
        made.__dict__.update(_metadata=None, _parent=None, _content=nodes)
        return made

    values = parameters()
    values["embed_coords_cfg"]["params"]["img_size"] = configured([28, 28])
    modules: dict[str, types.ModuleType] = {}
    for cls in classes:
        parts = cls.__module__.split(".")
        for end in range(1, len(parts) + 1):
            name = ".".join(parts[:end])
            modules.setdefault(name, types.ModuleType(name))
        setattr(modules[cls.__module__], cls.__name__, cls)
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        yield {name: eased(value) for name, value in values.items()} | {"model_builder": builder()}


def _foreign(module: str, name: str, base: type = object) -> Any:
    return type(name, (base,), {"__module__": module})
