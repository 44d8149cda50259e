"""Builds backbones from timm's networks, by name. timm is imported where it is used, because that takes seconds."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from huggingface_hub import constants, try_to_load_from_cache
from torch import nn

from vfm_isbench.backbones.base import Backbone
from vfm_isbench.backbones.timm_models import FeatureMapBackbone, ViTBackbone
from vfm_isbench.errors import ProtocolError, UnknownNameError, VfmIsbenchError, WeightsError
from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.storage.no_downloads import are_downloads_forbidden
from vfm_isbench.storage.weights import is_hub_out_of_reach, without_hub

TIMM_PREFIX = "timm:"
_TRANSFORMERS = ("vit", "deit", "eva", "beit")
_USUAL_STRIDE = 16
_STATE_DICTS = frozenset({".safetensors", ".bin", ".pth", ".pt"})
"""Suffixes of files that hold a state dict."""
_OPTION = "backbone_weights=… (command line: --backbone-weights)"


def load_timm(name: str, stride: int | None, image_size: int, weights: Path | None, pretrained: bool) -> Backbone:
    """Build a network of timm, as ``timm:NAME`` or ``timm:NAME@STRIDE``; see :func:`~.load.load_backbone`."""
    import timm

    timm_name = name.removeprefix(TIMM_PREFIX).partition("@")[0]
    architecture = timm_name.split(".")[0]
    if architecture not in timm.list_models():
        near = difflib.get_close_matches(architecture, timm.list_models(), n=5)  # timm has over a thousand
        raise unknown_name("timm model", timm_name, [*near, "…"], "See timm.list_models().")
    if pretrained and weights is None:
        weights = _cached_if_unreachable(name, timm_name)
    options: dict[str, Any] = {}
    if weights is not None:
        if not weights.is_file():
            raise WeightsError(f"no weights file for {name!r} at {weights}: timm models need a file")
        options = {"pretrained_cfg_overlay": {"file": str(weights)}}
        if weights.suffix in _STATE_DICTS:  # and not in the layout that a model's own loader reads
            options["pretrained_cfg_overlay"]["custom_load"] = False
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


def _cached_if_unreachable(name: str, timm_name: str) -> Path | None:
    """The cached weights if the hub cannot be asked; None if timm can fetch them, or look for them itself.

    The hub's client would retry for most of a minute.

    Raises:
        WeightsError: if the hub cannot be asked, and its cache does not hold them.
    """
    hub = hub_files(timm_name)
    is_forbidden = are_downloads_forbidden()
    if not (is_forbidden or (hub and is_hub_out_of_reach())):
        return None
    for repository, file in hub:
        found = try_to_load_from_cache(repository, file)
        if isinstance(found, str):
            return Path(found)
    why = "downloads are forbidden here" if is_forbidden else f"{constants.ENDPOINT} cannot be reached"
    raise WeightsError(f"the weights of {name!r} are not in the hub's cache, and {why}. {_by_hand(timm_name)}")


def hub_files(timm_name: str) -> list[tuple[str, str]]:
    """Repository and file on the Hugging Face hub, in the order in which timm looks; empty if there is none."""
    import timm

    config = timm.models.get_pretrained_cfg(timm_name)
    if config is None or not config.hf_hub_id:
        return []
    file = config.hf_hub_filename or "pytorch_model.bin"
    safe = {"pytorch_model.bin": "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}
    files = [safe[file], file] if file in safe else [file]
    return [(config.hf_hub_id, each) for each in files]


def _by_hand(timm_name: str) -> str:
    """How to get the weights without access to the hub."""
    import timm

    hub = hub_files(timm_name)
    if hub:
        return without_hub(hub[:1], _OPTION)
    config = timm.models.get_pretrained_cfg(timm_name)
    if config is not None and config.url:
        return f"Without a network, download {config.url} on another machine, and pass the file as {_OPTION}."
    return f"timm publishes no weights of this name: pass a file of your own as {_OPTION}, or choose another model."


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
                f"timm could not build {name!r} with weights: {what.rstrip('.')}. "
                f"{_by_hand(name.removeprefix(TIMM_PREFIX).partition('@')[0])}"
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
