"""Builds backbones from timm's networks, by name. timm is imported where it is used, because that takes seconds."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from huggingface_hub import try_to_load_from_cache
from torch import nn

from vfm_isbench.backbones.base import Backbone
from vfm_isbench.backbones.timm_models import FeatureMapBackbone, ViTBackbone
from vfm_isbench.errors import ProtocolError, UnknownNameError, VfmIsbenchError, WeightsError
from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.storage.no_downloads import are_downloads_forbidden

TIMM_PREFIX = "timm:"
_TRANSFORMERS = ("vit", "deit", "eva", "beit")
_USUAL_STRIDE = 16


def load_timm(name: str, stride: int | None, image_size: int, weights: Path | None, pretrained: bool) -> Backbone:
    """Build a network of timm, as ``timm:NAME`` or ``timm:NAME@STRIDE``; see :func:`~.load.load_backbone`."""
    import timm

    timm_name = name.removeprefix(TIMM_PREFIX).partition("@")[0]
    architecture = timm_name.split(".")[0]
    if architecture not in timm.list_models():
        near = difflib.get_close_matches(architecture, timm.list_models(), n=5)  # timm has over a thousand
        raise unknown_name("timm model", timm_name, [*near, "…"], "See timm.list_models().")
    if pretrained and weights is None and are_downloads_forbidden() and not _is_cached(timm_name):
        raise WeightsError(f"the weights of {name!r} are not in the hub's cache, and downloads are forbidden here")
    options: dict[str, Any] = {}
    if weights is not None:
        if not weights.is_file():
            raise WeightsError(f"no weights file for {name!r} at {weights}: timm models need a file")
        options = {"pretrained_cfg_overlay": {"file": str(weights)}}
        pretrained = True
    if stride is not None:

        def create(pretrained: bool) -> nn.Module:
            return features_only(timm_name, name, stride, image_size, pretrained=pretrained, **options)

        model = _create(name, image_size, pretrained, create)
        return FeatureMapBackbone(name, model, *normalisation(model))
    if not architecture.startswith(_TRANSFORMERS):
        raise ProtocolError(f"{timm_name!r} is not a plain vision transformer; {_other_way(name, timm_name)}")
    # Pooling would move the last normalisation behind the patch tokens. Distilled models accept only their own pooling,
    # which does not.
    options |= {"num_classes": 0, "global_pool": "token" if "distilled" in architecture else ""}
    model = _create(
        name,
        image_size,
        pretrained,
        lambda pretrained: timm.create_model(timm_name, img_size=image_size, pretrained=pretrained, **options),
    )
    if not hasattr(model, "patch_embed") or not hasattr(model, "num_prefix_tokens"):
        raise ProtocolError(f"{timm_name!r} has no patch tokens; {_other_way(name, timm_name)}")
    return ViTBackbone(name, model, *normalisation(model))


def _is_cached(timm_name: str) -> bool:
    """Whether the hub's cache holds the weights that timm would download."""
    import timm

    config = timm.models.get_pretrained_cfg(timm_name)
    repository = None if config is None else config.hf_hub_id
    if not repository:
        return False
    files = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(repository, file), str) for file in files)


def features_only(timm_name: str, name: str, stride: int, image_size: int, **options: Any) -> nn.Module:
    """A network of timm that returns its last feature map of a stride.

    Raises:
        UnknownNameError: if it has none of this stride.
    """
    import timm

    whole = cast(Any, timm.create_model(timm_name, pretrained=False, features_only=True))
    strides = list(whole.feature_info.reduction())
    if stride not in strides:
        known = ", ".join(map(str, dict.fromkeys(strides)))
        raise UnknownNameError(f"backbone {name!r} has no features at stride {stride}; it has {known}")
    index = whole.feature_info.out_indices[len(strides) - 1 - strides[::-1].index(stride)]
    if whole.pretrained_cfg.get("fixed_input_size", False):
        options["img_size"] = image_size
    return cast(nn.Module, timm.create_model(timm_name, features_only=True, out_indices=(index,), **options))


def normalisation(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of a timm network's input."""
    config = cast(Any, model).pretrained_cfg
    return tuple(config["mean"]), tuple(config["std"])


def other_size(name: str, image_size: int, patch_size: int = 1) -> str:
    """What to do about a network that does not run at an image size: use its own, if that consists of whole patches."""
    import timm

    config = timm.models.get_pretrained_cfg(name.removeprefix(TIMM_PREFIX).partition("@")[0])
    own = None if config is None else config.input_size[-1]
    if own is None or own == image_size or own % patch_size:
        return "choose another backbone"
    return f"it is made for images of {own}×{own}: set image_size to {own}, or choose another backbone"


def _create(name: str, image_size: int, pretrained: bool, create: Callable[[bool], nn.Module]) -> nn.Module:
    """Call ``create(pretrained)``, and tell missing weights from a network that cannot be built."""
    try:
        return create(pretrained)
    except VfmIsbenchError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0][:300]}"
        if pretrained and _succeeds(lambda: create(False)):  # so it is the hub, the network connection or the file
            raise WeightsError(
                f"timm could not build {name!r} with weights: {what}. Without access to the hub, pass a local file as "
                "backbone_weights=… (command line: --backbone-weights), or fill the hub's cache and set HF_HOME."
            ) from error
        raise ProtocolError(
            f"timm could not build {name!r} for image_size {image_size}: {what}; {other_size(name, image_size)}"
        ) from error


def _succeeds(call: Callable[[], object]) -> bool:
    try:
        call()
    except Exception:
        return False
    return True


def _other_way(name: str, timm_name: str) -> str:
    """What to do about a network without patch tokens."""
    import timm

    try:
        strides = timm.create_model(timm_name, pretrained=False, features_only=True).feature_info.reduction()
    except Exception:  # timm has no feature maps of some networks, and says so with various errors
        return "timm provides no feature maps of it either; choose another backbone"
    stride = _USUAL_STRIDE if _USUAL_STRIDE in strides else strides[-1]
    return f"give a stride, as in {name}@{stride}"
