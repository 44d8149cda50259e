from __future__ import annotations

import functools
import logging
from typing import Any

import pytest
import torch
from small import SMALL, CallCounter, small_probe
from torch import Tensor, nn

from vfm_isbench.acceleration.cached_probe import CachedProbe
from vfm_isbench.errors import UnknownNameError
from vfm_isbench.upsamplers import (
    STYLES,
    Bilinear,
    Identity,
    adapt,
    check_upsampler,
    detect_style,
    identity_of,
    to_contract,
)
from vfm_isbench.upsamplers.loading.adapters import detect_keywords

FEATURES, IMAGE = torch.rand(2, 5, 4, 6), torch.rand(2, 3, 16, 24)


class Recorder:
    """Returns features and image as it got them, told apart by their channels, and the rest."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args, kwargs


@pytest.mark.parametrize(
    ("style", "args", "kwargs"),
    [
        ("features_image", (FEATURES, IMAGE), {}),
        ("source_guidance", (), {"source": FEATURES, "guidance": IMAGE}),
        ("lr_feats_img", (), {"lr_feats": FEATURES, "img": IMAGE}),
        ("hr_image_lr_features", (), {"hr_image": IMAGE, "lr_features": FEATURES}),
        ("image_features", (IMAGE, FEATURES), {}),
        ("image_features_size", (IMAGE, FEATURES, (16, 24)), {}),
        ("features_image_size", (FEATURES, IMAGE, (16, 24)), {}),
    ],
)
def test_every_style_calls_in_its_way(style: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    got_args, got_kwargs = adapt(Recorder(), style)(FEATURES, IMAGE)
    assert len(got_args) == len(args) and all(got is given for got, given in zip(got_args[:2], args[:2], strict=True))
    assert got_args[2:] == args[2:]
    assert got_kwargs.keys() == kwargs.keys() and all(got_kwargs[name] is kwargs[name] for name in kwargs)


def test_all_styles_are_known() -> None:
    assert len(STYLES) == 9
    with pytest.raises(UnknownNameError, match="Did you mean 'image_features'"):
        adapt(Recorder(), "image_feature")  # type: ignore[arg-type]


def ours(features: Any, image: Any) -> Any: ...
def feats(feats: Any, img: Any) -> Any: ...
def unknown(a: Any, b: Any) -> Any: ...
def anything(*args: Any, **kwargs: Any) -> Any: ...
def lift(image: Any, features: Any) -> Any: ...
def uplift(img: Any, x: Any, outsize: Any = None) -> Any: ...
def anyup(image: Any, features: Any, output_size: Any = None) -> Any: ...
def jafar(image: Any, features: Any, output_size: Any) -> Any: ...
def fixed_size(image: Any, features: Any, size: Any = 14) -> Any: ...
def ours_sized(features: Any, image: Any, output_size: Any) -> Any: ...
def ours_sized_or_not(features: Any, image: Any, output_size: Any = None) -> Any: ...
def featup(source: Any, guidance: Any) -> Any: ...
def featup_turned(guidance: Any, source: Any) -> Any: ...
def keywords(*, lr_feats: Any, img: Any) -> Any: ...
def keywords_turned(hr_image: Any, lr_features: Any) -> Any: ...
def images(image: Any, guidance: Any) -> Any: ...


@pytest.mark.parametrize(
    ("function", "style"),
    [
        (ours, "features_image"),
        (feats, "features_image"),
        (unknown, "features_image"),
        (anything, "features_image"),
        (images, "features_image"),
        (lift, "image_features"),
        (uplift, "image_features_size"),
        (anyup, "image_features_size"),
        (jafar, "image_features_size"),
        (fixed_size, "image_features"),
        (ours_sized, "features_image_size"),
        (ours_sized_or_not, "features_image"),
        (featup, "source_guidance"),
        (featup_turned, "source_guidance"),
        (keywords, "lr_feats_img"),
        (keywords_turned, "hr_image_lr_features"),
        (functools.partial(jafar, output_size=(3, 4)), "image_features"),
        (functools.partial(anyup, output_size=(3, 4)), "image_features"),
        (torch.add, "features_image"),
    ],
)
def test_style_is_told_by_the_parameters_names(function: Any, style: str) -> None:
    assert detect_style(function) == style


def both(*, features: Any, image: Any) -> Any:
    return features, image, None


def both_turned(*, img: Any, feats: Any, scale: int = 2) -> Any:
    return feats, img, None


def guided(x: Any, scale: int = 2, *, guidance: Any) -> Any:
    assert scale == 2
    return x, guidance, None


def guided_by_place(features: Any, /, *, image: Any = None) -> Any:
    return features, image, None


def lifted(image: Any, *, features: Any) -> Any:
    return features, image, None


def sized(features: Any, image: Any, *, output_size: Any) -> Any:
    return features, image, output_size


def sized_image_first(image: Any, features: Any, *, output_size: Any) -> Any:
    return features, image, output_size


def sized_by_keyword(*, image: Any, features: Any, size: Any) -> Any:
    return features, image, size


@pytest.mark.parametrize(
    "function",
    [both, both_turned, guided, guided_by_place, lifted, sized, sized_image_first, sized_by_keyword],
)
def test_parameters_that_take_keywords_only_are_adapted(function: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        adapted = to_contract(function)
    features, image, size = adapted(FEATURES, IMAGE)  # type: ignore[misc]
    assert features is FEATURES and image is IMAGE
    assert size == ((16, 24) if "sized" in function.__name__ else None)
    assert adapted.name.endswith(f":{function.__name__}") and "by keyword" in caplog.text
    assert identity_of(adapted).sha256 not in (None, identity_of(function).sha256)
    assert identity_of(adapted).sha256 == identity_of(to_contract(function)).sha256


@pytest.mark.parametrize(
    "function",
    [ours, unknown, anything, featup, keywords, lift, jafar, torch.add, lambda a, b=None, *, image=None: a],
)
def test_what_was_called_before_is_called_as_before(function: Any) -> None:
    assert detect_keywords(function) is None, "or its fingerprint would change"


def test_names_that_do_not_tell_are_left_to_the_check() -> None:
    assert detect_keywords(lambda *, a, b: a) is None
    assert detect_keywords(lambda features, *, scale: features) is None
    assert detect_keywords(lambda features, image, *, temperature: features) is None


class ImageFirst(nn.Module):
    def forward(self, image: Tensor, features: Tensor) -> Tensor:
        return features


def test_modules_are_read_by_their_forward_and_adapting_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        upsampler = to_contract(ImageFirst())
    assert upsampler(FEATURES, IMAGE) is FEATURES
    assert "image_features" in caplog.text


def test_what_fits_is_left_alone_and_adapting_twice_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert to_contract(ours).call is ours
        adapted = adapt(lift, "image_features")
        assert to_contract(adapted) is adapted
    assert not caplog.text


def test_an_adapter_passes_on_what_is_declared() -> None:
    assert adapt(Identity(), "image_features").capabilities.keeps_patch_resolution
    assert not adapt(lift, "image_features").capabilities.keeps_patch_resolution


class BilinearImageFirst:
    """Bilinear upsampling as another repository might call it."""

    upsampler_name = "bilinear, image first"
    interpolation = ("bilinear", True)

    def __call__(self, image: Tensor, features: Tensor) -> Tensor:
        return Bilinear()(features, image)


def test_an_adapted_interpolation_keeps_its_fast_path() -> None:
    adapted = to_contract(BilinearImageFirst())
    assert (adapted.name, adapted.capabilities.interpolation) == ("bilinear, image first", ("bilinear", True))
    check_upsampler(adapted, channels=2, grid=(2, 2), image_size=(28, 28))
    probe = small_probe(SMALL, adapted).eval()
    calls = CallCounter(probe.head.get_submodule("convs.0.conv"))
    CachedProbe(probe).encode(torch.rand(1, 3, 28, 28))
    assert calls.calls == 0, "its features are enlarged together with the click tokens, after the convolution"
