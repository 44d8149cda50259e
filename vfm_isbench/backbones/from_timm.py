"""Builds backbones from timm's networks, by name. timm is imported where it is used, because that takes seconds."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from huggingface_hub import constants, try_to_load_from_cache
from torch import nn

from vfm_isbench.backbones.base import Backbone
from vfm_isbench.backbones.keys_left_out import KeysLeftOut, keys_left_out
from vfm_isbench.backbones.timm_models import FeatureMapBackbone, ViTBackbone, has_patch_tokens
from vfm_isbench.errors import ProtocolError, UnknownNameError, VfmIsbenchError, VfmIsbenchWarning, WeightsError
from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.storage.no_downloads import are_downloads_forbidden
from vfm_isbench.storage.weights import is_hub_out_of_reach, without_hub

TIMM_PREFIX = "timm:"
_TRANSFORMERS = ("vit", "deit", "eva", "beit", "aimv2", "naflexvit", "test_vit")
_USUAL_STRIDE = 16
_STATE_DICTS = frozenset({".safetensors", ".bin", ".pth", ".pt"})
"""Suffixes of files that hold a state dict."""
_POOLING = ("head", "attn_pool", "fc_norm", "global_pool")
"""Layers behind the features, besides classifiers."""
_LAST_NORM = frozenset({"norm.weight", "norm.bias"})
_NORM_OF_POOLING = frozenset({"fc_norm.weight", "fc_norm.bias"})
_OPTION = "backbone_weights=… (command line: --backbone-weights)"


@dataclass(frozen=True, slots=True)
class TimmModel:
    """A network of timm, and where its weights come from.

    Attributes:
        name: Name under which it was requested, without a stride, for messages.
        timm_name: What timm calls it, with the tag of its weights if there is one.
        options: Further arguments for ``timm.create_model``.
        pretrained: Whether it gets weights at all.
        advice: What to do if its weights cannot be loaded; by default, how to get those that timm publishes.
    """

    name: str
    timm_name: str
    options: Mapping[str, Any]
    pretrained: bool
    advice: str | None = None

    @property
    def architecture(self) -> str:
        """Its name in timm, without the tag."""
        return self.timm_name.split(".")[0]


def load_timm(name: str, stride: int | None, image_size: int, weights: Path | None, pretrained: bool) -> Backbone:
    """Build a network of timm, as ``timm:NAME`` or ``timm:NAME@STRIDE``; see :func:`~.load.load_backbone`."""
    timm_name = name.removeprefix(TIMM_PREFIX)
    if stride is not None:
        timm_name = timm_name.removesuffix(f"@{stride}")
    check_timm_name(timm_name)
    options, pretrained = weights_options(name, timm_name, weights, pretrained)
    return as_backbone(TimmModel(name, timm_name, options, pretrained), stride, image_size)


def check_timm_name(timm_name: str) -> None:
    """Check that timm has a network of this name.

    Raises:
        UnknownNameError: if not.
    """
    import timm

    architecture = timm_name.split(".")[0]
    if architecture not in timm.list_models():
        near = difflib.get_close_matches(architecture, timm.list_models(), n=5)  # timm has over a thousand
        raise unknown_name("timm model", timm_name, [*near, "…"], "See timm.list_models().")


def weights_options(name: str, timm_name: str, weights: Path | None, pretrained: bool) -> tuple[dict[str, Any], bool]:
    """How ``timm.create_model`` finds the weights: its further arguments, and its ``pretrained``.

    Raises:
        WeightsError: if there is no file at ``weights``, or the hub cannot be asked and its cache does not hold them.
    """
    if pretrained and weights is None:
        weights = _cached_if_unreachable(name, timm_name)
    return ({}, pretrained) if weights is None else (from_file(name, weights), True)


def from_file(name: str, weights: Path) -> dict[str, Any]:
    """Arguments that let ``timm.create_model`` read its weights from a file.

    Raises:
        WeightsError: if there is no such file.
    """
    if not weights.is_file():
        raise WeightsError(f"no weights file for {name!r} at {weights}: timm models need a file")
    overlay: dict[str, Any] = {"file": str(weights)}
    if weights.suffix in _STATE_DICTS:  # and not in the layout that a model's own loader reads
        overlay["custom_load"] = False
    return {"pretrained_cfg_overlay": overlay}


def as_backbone(model: TimmModel, stride: int | None, image_size: int) -> Backbone:
    """Build a network and take the feature map of a stride, or its patch tokens if ``stride`` is None.

    Raises:
        ProtocolError: if it has no patch tokens, or cannot be built for this image size.
        UnknownNameError: if it has no features of this stride.
        WeightsError: if its weights cannot be loaded.
    """
    if stride is not None:

        def create_map(pretrained: bool) -> nn.Module:
            return features_only(
                model.timm_name, model.name, stride, image_size, pretrained=pretrained, **model.options
            )

        network = create(model, image_size, create_map)
        return FeatureMapBackbone(model.name, network, *normalisation(network))
    if not model.architecture.startswith(_TRANSFORMERS):
        raise ProtocolError(f"{model.timm_name!r} is not a plain vision transformer; {_other_way(model)}")
    # Pooling would move the last normalisation behind the patch tokens. Distilled models accept only their own pooling,
    # which does not.
    pooling = "token" if "distilled" in model.architecture else ""
    network = create_at_size(model, image_size, num_classes=0, global_pool=pooling)
    if not has_patch_tokens(network):
        raise ProtocolError(f"{model.timm_name!r} has no patch tokens; {_other_way(model)}")
    return ViTBackbone(model.name, network, *normalisation(network))


def create_at_size(model: TimmModel, image_size: int, **more: Any) -> nn.Module:
    """Build a whole network of timm for an image size."""
    import timm

    def create_whole(pretrained: bool) -> nn.Module:
        options = {**model.options, **more, "img_size": image_size}
        return cast(nn.Module, timm.create_model(model.timm_name, pretrained=pretrained, **options))

    return create(model, image_size, create_whole)


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

    arguments = {key: value for key, value in options.items() if key not in ("pretrained", "pretrained_cfg_overlay")}
    whole = cast(Any, timm.create_model(timm_name, pretrained=False, features_only=True, **arguments))
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


def other_size(timm_name: str, image_size: int, patch_size: int = 1) -> str:
    """What to do about a network that does not run at an image size: use its own, if that consists of whole patches."""
    import timm

    config = timm.models.get_pretrained_cfg(timm_name)
    own = None if config is None else config.input_size[-1]
    if own is None or own == image_size or own % patch_size:
        return "choose another backbone"
    return f"it is made for images of {own}×{own}: set image_size to {own}, or choose another backbone"


def create(model: TimmModel, image_size: int, make: Callable[[bool], nn.Module]) -> nn.Module:
    """Call ``make(pretrained)``, and tell missing weights from a network that cannot be built.

    Raises:
        WeightsError: if the weights cannot be loaded, or are those of another network.
        ProtocolError: if the network cannot be built.
    """
    try:
        with keys_left_out() as left_out:
            network = make(model.pretrained)
        _check_left_out(model, network, left_out)
        return network
    except VfmIsbenchError:
        raise
    except Exception as error:
        # PyTorch's messages about weights say on the second line what is wrong with them.
        text = " ".join(line.strip() for line in str(error).splitlines()[:2]) or "no message"
        what = f"{type(error).__name__}: {text[:300]}"
        if model.pretrained and _succeeds(lambda: make(False)):  # so it is the hub, the network connection or the file
            advice = model.advice or _by_hand(model.timm_name)
            raise WeightsError(
                f"timm could not build {model.name!r} with weights: {what.rstrip('.')}. {advice}"
            ) from error
        raise ProtocolError(
            f"timm could not build {model.name!r} for image_size {image_size}: {what}; "
            f"{other_size(model.timm_name, image_size)}"
        ) from error


def _check_left_out(model: TimmModel, network: nn.Module, keys: KeysLeftOut) -> None:
    """Refuse weights that lack anything the features depend on: timm would leave it as it was drawn, at random.

    Networks that are normalised behind their pooling, such as BEiT, have weights of a norm there, and none of the one
    behind the last block. That keeps the initial values of a norm, which are not random, and a warning says so.

    Raises:
        WeightsError: if they do.
    """
    own = network.state_dict()
    heads = tuple(f"{head}." for head in (*_classifiers(model), *_POOLING))
    left_out = [key for key in keys.missing if key in own or not key.startswith(heads)]
    if not left_out:
        return
    some = ", ".join(left_out[:3]) + (", …" if len(left_out) > 3 else "")
    what = f"the weights of {model.name!r} lack {len(left_out)} of the {len(own)} tensors of the network ({some})"
    if set(left_out) <= _LAST_NORM and set(keys.unexpected) >= _NORM_OF_POOLING:
        warnings.warn(f"{what}, which keep their initial values", VfmIsbenchWarning, stacklevel=2)
        return
    so = "so they are those of another one" if 2 * len(left_out) > len(own) else "which would be random"
    raise WeightsError(f"{what}, {so}. {model.advice or _by_hand(model.timm_name)}")


def _classifiers(model: TimmModel) -> tuple[str, ...]:
    """Names of the layers that classify, by timm's own table: a file from elsewhere may call any layer so."""
    import timm

    config = timm.models.get_pretrained_cfg(model.architecture)
    found = None if config is None else config.classifier
    return (found,) if isinstance(found, str) else tuple(found or ())


def _succeeds(call: Callable[[], object]) -> bool:
    try:
        call()
    except Exception:
        return False
    return True


def _other_way(model: TimmModel) -> str:
    """What to do about a network without patch tokens."""
    import timm

    try:
        strides = timm.create_model(model.architecture, pretrained=False, features_only=True).feature_info.reduction()
    except Exception:  # timm has no feature maps of some networks, and says so with various errors
        return "timm provides no feature maps of it either; choose another backbone"
    stride = _USUAL_STRIDE if _USUAL_STRIDE in strides else strides[-1]
    return f"give a stride, as in {model.name}@{stride}"
