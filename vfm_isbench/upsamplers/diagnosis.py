"""Why an upsampler failed in an ordinary call: it is tried with one thing changed, until it works."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from vfm_isbench.errors import ChannelsError, ContractError
from vfm_isbench.upsamplers.freezing import find_module
from vfm_isbench.upsamplers.loaded import LoadedUpsampler
from vfm_isbench.upsamplers.loading.adapters import STYLES, WITHOUT_FEATURES, Adapted, Style, original_of
from vfm_isbench.upsamplers.trial_inputs import Trial
from vfm_isbench.upsamplers.violations import WORKED_BEFORE, CallError, OrderError, check_output

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Normalisation of the image that upsamplers get, which is ImageNet's."""

_RECOGNISED: dict[Style, str] = {
    "image_features": "(image, features)",
    "image_features_size": "(image, features, output_size)",
    "features_image_size": "(features, image, output_size)",
}
"""Names of parameters by which a style is recognised."""

_MOST_CHANNELS = 8192
_MOST_TRIES = 12


def explain(
    error: ContractError, upsampler: LoadedUpsampler, trial: Trial, *, has_worked: bool
) -> ContractError | None:
    """The error with the advice that fits its cause; None if the ordinary call works, or no cause is found.

    Args:
        error: Why the check failed.
        upsampler: The upsampler.
        trial: Ordinary features and images.
        has_worked: Whether a call with them worked before.
    """
    if isinstance(error, OrderError):  # says enough
        return None
    failure = _try(upsampler, trial)
    if has_worked and isinstance(error, CallError):
        if failure is not None:
            return ContractError(f"{error.seen} {WORKED_BEFORE}")
        if _try(upsampler, _of_batch(trial, error.batch)) is not None:
            return ContractError(
                f"{error.seen} It works with {len(trial)} images in a batch, but not with {error.batch}: training "
                "calls it with whole batches, evaluation with one image or two."
            )
    if failure is None:
        return None
    seen = error.seen if isinstance(error, CallError) else f"{error}."
    original = original_of(upsampler.call)
    for style in STYLES:
        if style in WITHOUT_FEATURES:  # what they return says nothing of whether that was meant
            continue
        call = original if style == "features_image" else Adapted(original, style)
        if call != upsampler.call and _works(upsampler, call, trial):
            return ContractError(f"{seen} {_advice_on_style(style)}")
    given = trial.features.shape[1]
    works_with = tuple(found for found in _candidates(upsampler, trial) if _try(upsampler, found[1]) is None)
    if works_with:
        numbers = tuple(number for number, _ in works_with)
        listed = " and ".join(map(str, numbers))
        return ChannelsError(f"{seen} It works with {listed} channels, but the features here have {given}.", numbers)
    if _try(upsampler, Trial(trial.features, _from_0_to_1(trial.image))) is None:
        return ContractError(
            f"{seen} It works if the image has values from 0 to 1. The benchmark gives RGB normalised with the mean "
            "and standard deviation of ImageNet, from about -2.1 to 2.6. Convert it in the upsampler: "
            f"image * std + mean, with mean {_MEAN} and std {_STD} as tensors 1×3×1×1; docs/writing-an-upsampler.md "
            "shows the code under Guidance."
        )
    return None


def _of_batch(trial: Trial, images: int) -> Trial:
    """The same inputs with more or fewer images."""
    repeats = -(-images // len(trial))
    features, image = (tensor.repeat(repeats, 1, 1, 1)[:images] for tensor in (trial.features, trial.image))
    return Trial(features, image)


def _advice_on_style(style: Style) -> str:
    if style == "features_image":
        return "It works if it is called (features, image): leave out the style, or rename its parameters so."
    names = _RECOGNISED.get(style)
    rename = f", or call its parameters {names}, which is recognised" if names else ""
    return (
        f"It works if it is called in the style {style!r}: wrap it, vfm_isbench.upsamplers.adapt(upsampler, "
        f"{style!r}){rename}."
    )


def _works(upsampler: LoadedUpsampler, call: Callable[..., Any], trial: Trial) -> bool:
    return _try(dataclasses.replace(upsampler, call=call), trial) is None


def _try(upsampler: LoadedUpsampler, trial: Trial) -> Exception | SystemExit | None:
    """What a call raises; None if it returns features."""
    try:
        with torch.no_grad():
            output = upsampler(trial.features.clone(), trial.image.clone())
        check_output(output, trial.features, trial.image)
    except (Exception, SystemExit) as error:
        return error
    return None


def _candidates(upsampler: LoadedUpsampler, trial: Trial) -> Iterator[tuple[int, Trial]]:
    """Other numbers of channels that the error or the layers speak of, with features that have them."""
    features = trial.features
    said = [int(number) for number in re.findall(r"\d+", str(_try(upsampler, trial)))]
    module = find_module(upsampler)
    sizes = [size for part in (module.modules() if module is not None else ()) for size in _sizes(part)]
    numbers = [n for n in dict.fromkeys([*said, *sizes]) if 3 < n <= _MOST_CHANNELS and n != features.shape[1]]
    for number in numbers[:_MOST_TRIES]:
        # The same values again and again: nothing is drawn.
        repeats = -(-number // features.shape[1])
        yield number, Trial(features.repeat(1, repeats, 1, 1)[:, :number].contiguous(), trial.image)


def _sizes(layer: Any) -> Iterator[int]:
    """Input sizes of a layer."""
    for name in ("in_channels", "in_features", "num_features", "num_channels", "normalized_shape"):
        size = getattr(layer, name, None)
        size = size[-1] if isinstance(size, tuple) and size else size
        if isinstance(size, int):
            yield size


def _from_0_to_1(image: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1).to(image) for values in (_MEAN, _STD))
    return (image * std + mean).clamp(0, 1)
