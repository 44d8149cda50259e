"""Upsamplers that are called otherwise than ``(features, image)``, as other repositories do, made to fit."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from torch import Tensor, nn

from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.upsamplers.loaded import Capabilities, LoadedUpsampler
from vfm_isbench.upsamplers.loading.point_queries import ACCESS_NAMES, QUERY_NAMES, CallingBackbone, OnGrid

Style: TypeAlias = Literal[
    "features_image",
    "source_guidance",
    "lr_feats_img",
    "hr_image_lr_features",
    "image_features",
    "image_features_size",
    "features_image_size",
    "image_points",
    "image_backbone",
]
"""How an upsampler is called: ours; as FeatUp, LoftUp, others by keywords, LiFT, AnyUp and JAFAR; ours with a size; as
ViT-Up and FeatSharp."""

STYLES: tuple[Style, ...] = get_args(Style)

WITHOUT_FEATURES: tuple[Style, ...] = ("image_points", "image_backbone")
"""Styles in which the features of the benchmark are not handed on."""

_KEYWORDS: dict[Style, tuple[str, str]] = {
    "source_guidance": ("source", "guidance"),
    "lr_feats_img": ("lr_feats", "img"),
    "hr_image_lr_features": ("lr_features", "hr_image"),
}
"""Keyword styles: the names of the features and of the image."""

IMAGE_NAMES = frozenset({"image", "images", "img", "imgs", "hr_image", "guidance", "guide", "guidance_image", "rgb"})
FEATURE_NAMES = frozenset(
    {"features", "feature", "feats", "feat", "lr_feats", "lr_feat", "lr_features", "source", "hidden_states"}
)
_SIZE_NAMES = frozenset({"output_size", "out_size", "outsize", "size", "target_size"})

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adapted:
    """An upsampler of another calling style, as ``(features, image)``.

    Args:
        upsampler: The original callable.
        style: How it is called.
    """

    upsampler: Callable[..., Any]
    style: Style

    def __call__(self, features: Tensor, image: Tensor) -> Any:
        """Call the original with ``features`` B×C×h×w and ``image`` B×3×H×W in its own way."""
        if self.style in _KEYWORDS:
            features_name, image_name = _KEYWORDS[self.style]
            return self.upsampler(**{features_name: features, image_name: image})
        if self.style == "image_features":
            return self.upsampler(image, features)
        size = (int(image.shape[-2]), int(image.shape[-1]))
        if self.style == "features_image_size":
            return self.upsampler(features, image, size)
        return self.upsampler(image, features, size)

    @property
    def arguments(self) -> str:
        """The arguments of such a call, as code."""
        if self.style in _KEYWORDS:
            return "{}=features, {}=image".format(*_KEYWORDS[self.style])
        order = "image, features" if self.style.startswith("image") else "features, image"
        return f"{order}, image.shape[-2:]" if self.style.endswith("size") else order


@dataclass(frozen=True)
class ByKeyword:
    """An upsampler with parameters that take keywords only, as ``(features, image)``.

    Args:
        upsampler: The original callable.
        features: Name of the parameter for the features; None for the first place.
        image: Name of the parameter for the image; None for the first place.
        size: Name of the parameter for the output size, which gets that of the image; None if it has none.
    """

    upsampler: Callable[..., Any]
    features: str | None
    image: str | None
    size: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """Names of the parameters that are given."""
        required = [p.name for p in _parameters(self.upsampler) if p.default is p.empty]
        return frozenset(required) | {name for name in (self.features, self.image, self.size) if name is not None}

    def __call__(self, features: Tensor, image: Tensor) -> Any:
        """Call the original with ``features`` B×C×h×w and ``image`` B×3×H×W in its own way."""
        given = ((self.features, features), (self.image, image))
        places = [value for name, value in given if name is None]
        named: dict[str, Any] = {name: value for name, value in given if name is not None}
        if self.size is not None:
            named[self.size] = (int(image.shape[-2]), int(image.shape[-1]))
        return self.upsampler(*places, **named)


def adapt(upsampler: Callable[..., Any], style: Style) -> LoadedUpsampler:
    """Turn an upsampler called in another style into one called ``(features, image)``, with all it declares.

    Args:
        upsampler: The callable.
        style: ``source_guidance``, ``lr_feats_img`` and ``hr_image_lr_features`` call it with these keywords;
            ``image_features`` with the image first, by position; ``image_features_size`` with image, features and the
            image's size (H, W); ``features_image_size`` with features, image and that size; ``image_points`` with the
            image and points to be asked for, see :class:`OnGrid`; ``image_backbone`` with the image and the backbone as
            a function, see :class:`CallingBackbone`; ``features_image`` is our own and returns it as it is.

    Raises:
        UnknownNameError: if there is no such style.

    Example:
        >>> import torch
        >>> def doubled(image, features):
        ...     return features.repeat_interleave(2, -1).repeat_interleave(2, -2)
        >>> adapt(doubled, "image_features")(torch.rand(1, 5, 4, 4), torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 5, 8, 8])
    """
    if style not in STYLES:
        raise unknown_name("calling style", style, list(STYLES))
    loaded = LoadedUpsampler.of(upsampler)
    if style == "features_image":
        return loaded
    if style in WITHOUT_FEATURES:
        return _without_features(loaded, style)
    return dataclasses.replace(loaded, call=Adapted(loaded.call, style))


def _without_features(loaded: LoadedUpsampler, style: Style) -> LoadedUpsampler:
    """An upsampler that gets no features; its steps, if any, are those of another call."""
    gradients = loaded.capabilities.needs_gradients
    if style == "image_points":
        return dataclasses.replace(
            loaded, call=OnGrid(loaded.call), capabilities=Capabilities(needs_gradients=gradients)
        )
    call = CallingBackbone(loaded.call)
    able = Capabilities(needs_gradients=gradients, bind_backbone=call.bind_backbone)
    return dataclasses.replace(loaded, call=call, capabilities=able)


def detect_style(upsampler: Callable[..., Any]) -> Style:
    """Tell from the names of its parameters how an upsampler is called.

    The known pairs of keywords are recognised in either order; otherwise an image-like name in the first place means
    image first, with the image's size where the third parameter is an output size that must be given or is None by
    default, as AnyUp's and UPLiFT's. A size with another default is the author's or the user's choice, and stays.
    Features first, then an image, and an output size that must be given: called in that order. Anything else is taken
    to be called ``(features, image)``: names say nothing then, and the contract check will tell.
    """
    parameters = _parameters(upsampler)
    by_keyword = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for style, names in _KEYWORDS.items():
        if by_keyword.issuperset(names):
            return style
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(places) < 2:
        return "features_image"
    if places[0].name in IMAGE_NAMES | {"x"} and places[1].name in ACCESS_NAMES:
        return "image_backbone"
    if places[0].name in IMAGE_NAMES and places[1].name in QUERY_NAMES:
        return "image_points"
    size = places[2] if len(places) > 2 and places[2].name in _SIZE_NAMES else None
    must_have_size = size is not None and size.default is size.empty
    image_places = [place.name in IMAGE_NAMES for place in places[:2]]
    if image_places == [True, False]:
        takes_size = must_have_size or (size is not None and size.default is None)
        return "image_features_size" if takes_size else "image_features"
    return "features_image_size" if image_places == [False, True] and must_have_size else "features_image"


def given_names(upsampler: Callable[..., Any], style: Style) -> frozenset[str]:
    """Names of the parameters that a call in a style gives."""
    if style in _KEYWORDS:
        return frozenset(_KEYWORDS[style])
    places = [p for p in _parameters(upsampler) if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return frozenset(place.name for place in places[: 3 if style.endswith("_size") else 2])


def detect_keywords(upsampler: Callable[..., Any]) -> ByKeyword | None:
    """How to call an upsampler that takes features, image or an output size by keyword only, judging by their names.

    Returns:
        The adapted upsampler. None if nothing must be given by keyword, if that is a known style, or if the names do
        not tell features from image; the contract check will tell then.

    Example:
        >>> adapted = detect_keywords(lambda features, *, guidance: features)
        >>> adapted.features, adapted.image
        (None, 'guidance')
    """
    parameters = _parameters(upsampler)
    style = detect_style(upsampler)
    if not parameters or style in _KEYWORDS or _takes_two(parameters):
        return None
    only = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    features = next((p.name for p in only if p.name in FEATURE_NAMES), None)
    image = next((p.name for p in only if p.name in IMAGE_NAMES), None)
    size = next((p.name for p in only if p.name in _SIZE_NAMES and p.default is p.empty), None)
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in places if p.default is p.empty]
    if len(required) + (features is not None) + (image is not None) != 2:
        return None
    if features is None and image is None:
        if size is None:
            return None
        if style == "features_image":
            return ByKeyword(upsampler, None, None, size)
        is_named = all(place.kind is place.POSITIONAL_OR_KEYWORD for place in required)
        return ByKeyword(upsampler, required[1].name, required[0].name, size) if is_named else None
    return ByKeyword(upsampler, features, image, size)


def _takes_two(parameters: list[inspect.Parameter]) -> bool:
    """Whether a callable with these parameters can be called with two positional arguments."""
    try:
        inspect.Signature(parameters).bind(None, None)
    except TypeError:
        return False
    return True


def original_of(upsampler: Callable[..., Any]) -> Callable[..., Any]:
    """What an adapter calls; anything else is returned as it is."""
    return upsampler.upsampler if isinstance(upsampler, (Adapted, ByKeyword, OnGrid, CallingBackbone)) else upsampler


def call_style(upsampler: LoadedUpsampler) -> str:
    """How an upsampler is called, for readers, such as ``(image, features)`` or ``(features, guidance=image)``."""
    call = _unwrapped(upsampler.call)
    if isinstance(call, ByKeyword):
        given = ((call.features, "features"), (call.image, "image"), (call.size, "size"))
        places = [value for name, value in given[:2] if name is None]
        named = [f"{name}={value}" for name, value in given if name is not None]
        return f"({', '.join([*places, *named])}), from the names of its parameters"
    if isinstance(call, OnGrid):
        return "(image, points B×N×2), from the names of its parameters; it gets no features"
    if isinstance(call, CallingBackbone):
        return "(image, the backbone as a function), from the names of its parameters; it gets no features"
    if not isinstance(call, Adapted):
        return "(features, image)"
    if call.style in _KEYWORDS:
        features_name, image_name = _KEYWORDS[call.style]
        return f"({features_name}=features, {image_name}=image), from the names of its parameters"
    names = {"image_features": "image, features", "features_image_size": "features, image, size"}
    return f"({names.get(call.style, 'image, features, size')}), from the names of its parameters"


def _unwrapped(call: Any) -> Any:
    """What stands behind wrappers that only add keywords or set up imports."""
    while not isinstance(call, (Adapted, ByKeyword, OnGrid, CallingBackbone)) and hasattr(call, "call"):
        call = call.call
    return call


def to_contract(upsampler: Callable[..., Any]) -> LoadedUpsampler:
    """Adapt an upsampler by what :func:`detect_style` and :func:`detect_keywords` find; the log says what changed."""
    by_keyword = None if isinstance(upsampler, LoadedUpsampler) else detect_keywords(upsampler)
    if by_keyword is not None:
        _log.info("calling %r by keyword, judging by its parameters' names", upsampler)
        return dataclasses.replace(LoadedUpsampler.of(upsampler), call=by_keyword)
    style = detect_style(upsampler)
    if style != "features_image":
        _log.info("calling %r in the style %r, judging by its parameters' names", upsampler, style)
    return adapt(upsampler, style)


def _parameters(upsampler: Callable[..., Any]) -> list[inspect.Parameter]:
    # A module's own __call__ is (*args, **kwargs); the names are on forward.
    target = upsampler.forward if isinstance(upsampler, nn.Module) else upsampler
    try:
        return list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return []
