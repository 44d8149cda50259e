"""The check of an upsampler on a tiny batch, before any training: does it keep the contract, and what is it like?"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from vfm_isbench.errors import ContractError, VfmIsbenchWarning
from vfm_isbench.upsamplers.base import StripwiseUpsampler, TwoStepUpsampler, Upsampler, interpolation_of
from vfm_isbench.upsamplers.freezing import count_parameters, freeze
from vfm_isbench.upsamplers.violations import call_checked, check_callable, check_gradient, shape_of

BATCH_TOLERANCE = 1e-4
"""Largest difference, relative to the largest output, that the rest of a batch may make by rounding alone."""

_BATCH = 2
_TIMED_CALLS = 5
_TIMED_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ContractReport:
    """What the check of an upsampler that keeps the contract has found.

    Attributes:
        output_size: Rows and columns H'×W' of its output for the image size asked for.
        deterministic: Two equal calls gave equal outputs.
        batch_independent: An image's output does not depend on the rest of its batch, within ``BATCH_TOLERANCE``, or,
            where it is not deterministic, within twice of what two calls differ by.
        repeat_deviation: Largest difference between the two calls, relative to the largest output.
        batch_deviation: Largest difference between images alone and in the batch, likewise.
        n_parameters: Parameters of its modules; None if it has no module.
        ms_per_image: Median milliseconds per image, in a batch of 2, without gradient.
        warnings: What a reader of its numbers should know, as it was warned of.
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
    upsampler: Upsampler,
    *,
    channels: int,
    grid: tuple[int, int],
    image_size: tuple[int, int],
    device: torch.device | str = "cpu",
    seed: int = 0,
    needs_gradient: bool = False,
) -> ContractReport:
    """Check on a batch of two that an upsampler keeps ``(features, image) -> features``; freezes its modules.

    Its modules must be on ``device`` already.

    Args:
        upsampler: The callable.
        channels: Channels C of the features.
        grid: Rows and columns h×w of the patch grid.
        image_size: Rows and columns H×W of the image.
        device: Where to run.
        seed: Seed of the features and the image (smooth noise), drawn from a generator of their own.
        needs_gradient: Whether clicks are trained *through* the upsampler (early and pre-upsampler injection).

    Raises:
        ContractError: if it is not callable, raises, changes its inputs, passes no gradient where it must, has two
            steps or strips that do not equal the call, is not the interpolation that it declares to be, or returns
            anything but finite floating-point features B×C×H'×W' on the device, H'×W' at least h×w. Non-determinism and
            dependence on the rest of the batch warn (``VfmIsbenchWarning``) and are recorded instead.
    """
    check_callable(upsampler)
    freeze(upsampler)
    generator = torch.Generator().manual_seed(seed)
    features = _smooth(channels, grid, generator).to(device)
    # ImageNet-normalised images lie in about -2.1 … 2.6.
    image = _smooth(3, image_size, generator).mul(0.8).clamp(-2.1, 2.6).to(device)
    with torch.no_grad():
        output = call_checked(upsampler, features, image)
        again = call_checked(upsampler, features, image)
        alone = [call_checked(upsampler, features[i : i + 1], image[i : i + 1]) for i in range(_BATCH)]
    for call, other in (("again in the same batch", again), ("alone", alone[0]), ("alone", alone[1])):
        if other.shape[1:] != output.shape[1:]:
            raise ContractError(
                f"the upsampler returned {shape_of(other)} for an image {call} and {shape_of(output)} in a batch of "
                f"{_BATCH}; the output size must depend on nothing but the sizes of features and image"
            )
    if needs_gradient:
        check_gradient(upsampler, features, image, generator)
    repeat_deviation = _deviation(again, output)
    if isinstance(upsampler, TwoStepUpsampler):
        tolerance = max(BATCH_TOLERANCE, 2 * repeat_deviation)
        _check_two_steps(upsampler, features, image, output, tolerance)
        if isinstance(upsampler, StripwiseUpsampler):
            _check_strips(upsampler, features, image, output, tolerance)
    _check_interpolation(upsampler, features, image, output)
    batch_deviation = _deviation(torch.cat(alone), output)
    notes = []
    if repeat_deviation > 0:
        notes.append(
            f"the upsampler is not deterministic: two calls with the same input differ by {repeat_deviation:.1e} of "
            "the largest output; its results will not repeat exactly"
        )
    batch_independent = batch_deviation <= max(BATCH_TOLERANCE, 2 * repeat_deviation)
    if not batch_independent:
        notes.append(
            "the upsampler's output for an image depends on the rest of the batch: alone and in a batch of 2 it "
            f"differs by {batch_deviation:.1e} of the largest output; its results depend on the batch size"
        )
    if output.dtype != features.dtype:
        notes.append(f"the upsampler returns {output.dtype} for features of {features.dtype}")
    for note in notes:
        warnings.warn(note, VfmIsbenchWarning, stacklevel=2)
    return ContractReport(
        output_size=(output.shape[-2], output.shape[-1]),
        deterministic=repeat_deviation == 0,
        batch_independent=batch_independent,
        repeat_deviation=repeat_deviation,
        batch_deviation=batch_deviation,
        n_parameters=count_parameters(upsampler),
        ms_per_image=_milliseconds(upsampler, features, image) / _BATCH,
        warnings=tuple(notes),
    )


def _smooth(channels: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Noise without the finest detail, of roughly unit variance: 2×channels×size."""
    coarse = (max(1, size[0] // 3), max(1, size[1] // 3))
    noise = torch.randn(_BATCH, channels, *coarse, generator=generator)
    return functional.interpolate(noise, size, mode="bilinear", align_corners=False).mul_(1.5).contiguous()


def _check_interpolation(upsampler: Upsampler, features: Tensor, image: Tensor, output: Tensor) -> None:
    """What is declared to be an interpolation is never called once the shortcut works on the patch grid."""
    declared = interpolation_of(upsampler)
    if declared is None:
        return
    mode, align_corners = declared
    expected = functional.interpolate(features, image.shape[-2:], mode=mode, align_corners=align_corners)
    if output.shape != expected.shape or _deviation(output, expected) > BATCH_TOLERANCE:
        raise ContractError(
            f"the upsampler declares interpolation = {declared!r}, but its output is not that of "
            "torch.nn.functional.interpolate with this mode and align_corners to the image's size; take the attribute "
            "away (a class that inherits it: set interpolation = None)"
        )


def _check_two_steps(
    upsampler: TwoStepUpsampler, features: Tensor, image: Tensor, output: Tensor, tolerance: float
) -> None:
    with torch.no_grad():
        composed = call_checked(lambda f, i: upsampler.upsample(f, upsampler.encode_guidance(i)), features, image)
    deviation = _deviation(composed, output) if composed.shape == output.shape else float("inf")
    if deviation > tolerance:
        raise ContractError(
            f"upsample(features, encode_guidance(image)) returned {shape_of(composed)}, which differs by "
            f"{deviation:.1e} of the largest output from the {shape_of(output)} that calling the upsampler returned; "
            "both must be equal: mend the two steps, or leave them out or rename them"
        )


def _check_strips(
    upsampler: StripwiseUpsampler, features: Tensor, image: Tensor, output: Tensor, tolerance: float
) -> None:
    def put_together(features: Tensor, image: Tensor) -> Tensor:
        strips = [*upsampler.upsample_strips(features, upsampler.encode_guidance(image))]
        next_row = 0
        for top, strip in strips:
            if top != next_row:
                raise ValueError(f"upsample_strips() gave rows from {top} on where {next_row} was to come next")
            next_row += strip.shape[1]
        return torch.cat([strip for _, strip in strips], dim=1).permute(0, 3, 1, 2)

    with torch.no_grad():
        whole = call_checked(put_together, features, image)
    advice = "mend upsample_strips(), or leave it out or rename it"
    if whole.shape[-2:] != image.shape[-2:]:
        raise ContractError(f"upsample_strips() gave {shape_of(whole)}, which is not of the image's size: {advice}")
    deviation = _deviation(whole, output) if whole.shape == output.shape else float("inf")
    if deviation > tolerance:
        raise ContractError(
            f"upsample_strips() gave {shape_of(whole)} in all, which differs by {deviation:.1e} of the largest output "
            f"from the {shape_of(output)} that calling the upsampler returned: {advice}"
        )


def _milliseconds(upsampler: Upsampler, features: Tensor, image: Tensor) -> float:
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
