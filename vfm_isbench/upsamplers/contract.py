"""The check of an upsampler on a tiny batch, before any training: does it keep the contract, and how fast is it?"""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vfm_isbench.errors import ContractError, VfmIsbenchWarning
from vfm_isbench.kernels.row_strips import Strips
from vfm_isbench.upsamplers.base import Upsampler
from vfm_isbench.upsamplers.freezing import count_parameters, freeze
from vfm_isbench.upsamplers.loaded import LoadedUpsampler
from vfm_isbench.upsamplers.violations import call_checked, check_callable, check_gradient, shape_of

BATCH_TOLERANCE = 1e-4
"""Largest difference, relative to the largest output, that counts as rounding."""

_BATCH = 2
_TIMED_CALLS = 5
_TIMED_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ContractReport:
    """What the check of an upsampler that keeps the contract has found.

    Attributes:
        output_size: Rows and columns H'×W' of its output for the image size asked for.
        deterministic: Two equal calls gave equal outputs.
        batch_independent: An image's output does not depend on the rest of its batch, within ``BATCH_TOLERANCE`` or, if
            larger, twice the ``repeat_deviation``.
        repeat_deviation: Largest difference between the two calls, relative to the largest output.
        batch_deviation: Largest difference between images alone and in the batch, likewise.
        n_parameters: Number of parameters of its modules; None if it has no module.
        ms_per_image: Median milliseconds per image, in a batch of 2, without gradient.
        warnings: What a reader of its numbers should know; each was also given as a warning.
    """

    output_size: tuple[int, int]
    deterministic: bool
    batch_independent: bool
    repeat_deviation: float
    batch_deviation: float
    n_parameters: int | None
    ms_per_image: float
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        findings = {
            "output size": "{}×{}".format(*self.output_size),
            "deterministic": "yes" if self.deterministic else f"no (differs by {self.repeat_deviation:.1e})",
            "batch-independent": "yes" if self.batch_independent else f"no (differs by {self.batch_deviation:.1e})",
            "parameters": "none" if not self.n_parameters else f"{self.n_parameters:,}",
            "time per image": f"{self.ms_per_image:.1f} ms",
        }
        return "\n".join(f"{name + ':':19}{value}" for name, value in findings.items())


def check_upsampler(
    upsampler: Upsampler | LoadedUpsampler,
    *,
    channels: int,
    grid: tuple[int, int],
    image_size: tuple[int, int],
    device: torch.device | str = "cpu",
    seed: int = 0,
    needs_gradient: bool = False,
) -> ContractReport:
    """Check on a batch of two that an upsampler keeps ``(features, image) -> features``; freezes its modules.

    Its modules must already be on ``device``.

    Args:
        upsampler: The callable.
        channels: Channels C of the features.
        grid: Rows and columns h×w of the patch grid.
        image_size: Rows and columns H×W of the image.
        device: Where to run.
        seed: Seed of the features and the image (smooth noise), which have a random generator of their own.
        needs_gradient: Whether the click encoder is trained *through* the upsampler (early and pre-upsampler
            injection).

    Raises:
        ContractError: if it is not callable, raises, changes its inputs, passes no gradient although it must, has two
            steps or strips that do not equal the call, is not the interpolation that it declares to be, or returns
            anything but finite floating-point features B×C×H'×W' on the device, H'×W' at least h×w. Outputs that are
            not deterministic, or depend on the rest of the batch, only lead to a warning (``VfmIsbenchWarning``) and a
            note in the report.
    """
    check_callable(upsampler)
    freeze(upsampler)
    loaded = LoadedUpsampler.of(upsampler)
    generator = torch.Generator().manual_seed(seed)
    features = _smooth(channels, grid, generator).to(device)
    # ImageNet-normalised images lie in about -2.1 … 2.6.
    image = _smooth(3, image_size, generator).mul(0.8).clamp(-2.1, 2.6).to(device)
    calls = _Calls.of(loaded, features, image)
    if needs_gradient:
        check_gradient(loaded, features, image, generator)
    _check_steps(loaded, features, image, calls)
    _check_interpolation(loaded, features, image, calls.output)
    notes = calls.notes(features.dtype)
    for note in notes:
        warnings.warn(note, VfmIsbenchWarning, stacklevel=2)
    return ContractReport(
        output_size=(calls.output.shape[-2], calls.output.shape[-1]),
        deterministic=calls.repeat_deviation == 0,
        batch_independent=calls.batch_deviation <= calls.tolerance,
        repeat_deviation=calls.repeat_deviation,
        batch_deviation=calls.batch_deviation,
        n_parameters=count_parameters(upsampler),
        ms_per_image=_milliseconds(loaded, features, image) / _BATCH,
        warnings=notes,
    )


@dataclass(frozen=True, slots=True)
class _Calls:
    """What equal calls returned.

    Attributes:
        output: Result for the batch.
        repeat_deviation: By how much a second, equal call differs from it.
        batch_deviation: By how much the images differ if they are upsampled one by one.
    """

    output: Tensor
    repeat_deviation: float
    batch_deviation: float

    @classmethod
    @torch.no_grad()
    def of(cls, upsampler: LoadedUpsampler, features: Tensor, image: Tensor) -> _Calls:
        output = call_checked(upsampler, features, image)
        again = call_checked(upsampler, features, image)
        alone = [call_checked(upsampler, features[i : i + 1], image[i : i + 1]) for i in range(_BATCH)]
        for call, other in (("again in the same batch", again), ("alone", alone[0]), ("alone", alone[1])):
            if other.shape[1:] != output.shape[1:]:
                raise ContractError(
                    f"the upsampler returned {shape_of(other)} for an image {call} and {shape_of(output)} in a batch "
                    f"of {_BATCH}; the output size must depend only on the sizes of features and image"
                )
        return cls(output, _deviation(again, output), _deviation(torch.cat(alone), output))

    @property
    def tolerance(self) -> float:
        """Largest deviation that does not count."""
        return max(BATCH_TOLERANCE, 2 * self.repeat_deviation)

    def notes(self, dtype: torch.dtype) -> tuple[str, ...]:
        """What a reader of the numbers should know."""
        notes = []
        if self.repeat_deviation > 0:
            notes.append(
                "the upsampler is not deterministic: two calls with the same input differ by "
                f"{self.repeat_deviation:.1e} of the largest output; its results will not repeat exactly"
            )
        if self.batch_deviation > self.tolerance:
            notes.append(
                "the upsampler's output for an image depends on the rest of the batch: alone and in a batch of 2 it "
                f"differs by {self.batch_deviation:.1e} of the largest output; its results depend on the batch size"
            )
        if self.output.dtype != dtype:
            notes.append(f"the upsampler returns {self.output.dtype} for features of {dtype}")
        return tuple(notes)


def _smooth(channels: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Noise without the finest detail, of roughly unit variance: 2×channels×size."""
    coarse = (max(1, size[0] // 3), max(1, size[1] // 3))
    noise = torch.randn(_BATCH, channels, *coarse, generator=generator)
    return functional.interpolate(noise, size, mode="bilinear", align_corners=False).mul_(1.5).contiguous()


def _check_interpolation(upsampler: LoadedUpsampler, features: Tensor, image: Tensor, output: Tensor) -> None:
    """Check a declared interpolation: with the cached probe, it is computed on the patch grid and never called."""
    declared = upsampler.capabilities.interpolation
    if declared is None:
        return
    mode, align_corners = declared
    expected = functional.interpolate(features, image.shape[-2:], mode=mode, align_corners=align_corners)
    if output.shape != expected.shape or _deviation(output, expected) > BATCH_TOLERANCE:
        raise ContractError(
            f"the upsampler declares interpolation = {declared!r}, but its output is not that of "
            "torch.nn.functional.interpolate with this mode and align_corners to the image's size; remove the "
            "attribute (a class that inherits it: set interpolation = None)"
        )


def _check_steps(upsampler: LoadedUpsampler, features: Tensor, image: Tensor, calls: _Calls) -> None:
    """Check that the two steps, and the strips, return what the call returns."""
    able = upsampler.capabilities
    if able.upsample is not None:
        with torch.no_grad():
            composed = call_checked(lambda f, i: upsampler.upsample(f, upsampler.encode_guidance(i)), features, image)
        _check_equal(composed, calls, "upsample(features, encode_guidance(image))")
    if able.upsample_strips is not None:
        strips = functools.partial(_joined_strips, able.upsample_strips, upsampler.encode_guidance)
        with torch.no_grad():
            joined = call_checked(strips, features, image)
        if joined.shape[-2:] != image.shape[-2:]:
            raise ContractError(
                f"the strips of upsample_strips() together are {shape_of(joined)}, which is not the image's size: fix "
                "upsample_strips(), remove it or rename it"
            )
        _check_equal(joined, calls, "upsample_strips(features, encode_guidance(image))")


def _joined_strips(
    upsample_strips: Callable[[Tensor, Any], Strips],
    encode_guidance: Callable[[Tensor], Any],
    features: Tensor,
    image: Tensor,
) -> Tensor:
    strips = [*upsample_strips(features, encode_guidance(image))]
    next_row = 0
    for top, strip in strips:
        if top != next_row:
            raise ValueError(f"upsample_strips() gave rows from {top} on; expected rows from {next_row} on")
        next_row += strip.shape[1]
    return torch.cat([strip for _, strip in strips], dim=1).permute(0, 3, 1, 2)


def _check_equal(found: Tensor, calls: _Calls, what: str) -> None:
    output = calls.output
    deviation = _deviation(found, output) if found.shape == output.shape else float("inf")
    if deviation > calls.tolerance:
        raise ContractError(
            f"{what} returned {shape_of(found)}, which differs by {deviation:.1e} of the largest output from the "
            f"{shape_of(output)} that calling the upsampler returned; both must be equal: fix these methods, remove "
            "them or rename them"
        )


def _milliseconds(upsampler: LoadedUpsampler, features: Tensor, image: Tensor) -> float:
    """Median time of a call; the calls made before were the warm-up."""
    taken: list[float] = []
    with torch.no_grad():
        while len(taken) < _TIMED_CALLS and sum(taken) < _TIMED_SECONDS:
            _synchronize(features.device)
            start = time.perf_counter()
            upsampler(features, image)
            _synchronize(features.device)
            taken.append(time.perf_counter() - start)
    return 1000 * median(taken)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _deviation(one: Tensor, other: Tensor) -> float:
    scale = float(other.abs().max())
    difference = float((one.float() - other.float()).abs().max())
    return difference / scale if scale > 0 else difference
