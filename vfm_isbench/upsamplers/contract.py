"""The check of an upsampler on a tiny batch, before any training: does it keep the contract, and how fast is it?"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vfm_isbench.errors import ContractError, VfmIsbenchWarning
from vfm_isbench.upsamplers.backbone_access import stand_in
from vfm_isbench.upsamplers.base import Upsampler
from vfm_isbench.upsamplers.contract_notes import (
    deviation,
    dtype_notes,
    ignored_features_notes,
    largest,
    other_size_notes,
)
from vfm_isbench.upsamplers.costs import flops_per_image
from vfm_isbench.upsamplers.diagnosis import explain
from vfm_isbench.upsamplers.freezing import count_parameters, freeze, holds_tensors
from vfm_isbench.upsamplers.identity import fingerprint_of
from vfm_isbench.upsamplers.loaded import LoadedUpsampler
from vfm_isbench.upsamplers.timed_calls import milliseconds
from vfm_isbench.upsamplers.trial_inputs import Trial
from vfm_isbench.upsamplers.violations import call_checked, check_callable, check_gradient, shape_of

BATCH_TOLERANCE = 1e-4
"""Largest difference, relative to the largest output, that counts as rounding."""

LAYOUT_TOLERANCE = 0.1
"""The same for equal inputs in another memory layout. Rounding, in half precision too, stays below; reading features in
the wrong order does not."""

_LARGEST_GAIN = 1e4
"""Output values, relative to the features', from which on a warning says so."""

_BATCH = 2


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
        n_parameters: Number of parameters of its modules; 0 if it has none, None if it keeps values that are not in a
            module or cannot be read.
        ms_per_image: Median milliseconds per image in a batch of 2, without gradient, or alone if it optimises.
        warnings: What a reader of its numbers should know; each was also given as a warning.
        flops_per_image: Floating-point operations per image, see :func:`vfm_isbench.upsamplers.costs.flops_per_image`.
        peak_bytes: Memory that its call needs for one pass of training, see
            :func:`vfm_isbench.upsamplers.costs.call_memory`; None here, a run measures it.
        uses_features: Whether its output depends on features of the protocol's backbone: those that it is given, or
            those that it computes with ``needs_backbone``.
    """

    output_size: tuple[int, int]
    deterministic: bool
    batch_independent: bool
    repeat_deviation: float
    batch_deviation: float
    n_parameters: int | None
    ms_per_image: float
    warnings: tuple[str, ...] = ()
    flops_per_image: int | None = None
    peak_bytes: int | None = None
    uses_features: bool = True

    def __str__(self) -> str:
        findings = {
            "output size": "{}×{}".format(*self.output_size),
            "deterministic": "yes" if self.deterministic else f"no (differs by {self.repeat_deviation:.1e})",
            "batch-independent": "yes" if self.batch_independent else f"no (differs by {self.batch_deviation:.1e})",
            "parameters": _count(self.n_parameters),
            "time per image": f"{self.ms_per_image:.1f} ms",
            "FLOPs per image": _billions(self.flops_per_image),
        }
        if self.peak_bytes is not None:
            findings["memory of a batch"] = f"{self.peak_bytes / 2**30:.2f} GiB"
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
    batch_size: int = 8,
    backbone: Callable[[Tensor], Tensor] | None = None,
) -> ContractReport:
    """Check that an upsampler keeps ``(features, image) -> features`` in training and evaluation; freezes its modules.

    It is called as they call it: with one and two images and a whole training batch, with contiguous and channels-last
    features, and with images and features that bring out divisions by zero and overflow.

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
        batch_size: Images in a batch of the training.
        backbone: For an upsampler that declares ``needs_backbone``, outside a run: image B×3×H×W → features B×C×h×w; by
            default, mean colours of patches.

    Raises:
        ChannelsError: if it works with another number of channels.
        ContractError: if it is not callable, raises, changes its inputs, passes no gradient although it must, has two
            steps or strips that do not equal the call, is not the interpolation that it declares to be, depends on the
            memory layout of its inputs, or returns anything but finite floating-point features B×C×H'×W' on the device,
            H'×W' at least h×w. Outputs that are not deterministic, depend on the rest of the batch, are not of the
            features' dtype, or are huge, only lead to a warning (``VfmIsbenchWarning``) and a note in the report.
    """
    check_callable(upsampler)
    freeze(upsampler)
    loaded = LoadedUpsampler.of(upsampler)
    trial = Trial.smooth(
        channels,
        grid,
        image_size,
        batch=max(_BATCH, batch_size),
        device=device,
        generator=torch.Generator().manual_seed(seed),
    )
    if loaded.backbone is None:
        loaded = loaded.with_backbone(stand_in(channels, grid, image_size, backbone))
    watched, dtypes = _watched(loaded)
    try:
        return _check(loaded, watched, dtypes, trial, needs_gradient=needs_gradient)
    except ContractError as error:
        explained = explain(error, loaded, trial[:_BATCH], has_worked=bool(dtypes))
        if explained is None:
            raise
        raise explained from error


def _check(
    loaded: LoadedUpsampler, watched: LoadedUpsampler, dtypes: set[torch.dtype], trial: Trial, *, needs_gradient: bool
) -> ContractReport:
    calls = _Calls.of(watched, trial)
    _check_layout(watched, trial[: calls.batch], calls)
    for case, hard in trial.hard_cases():
        with torch.no_grad():
            last = call_checked(watched, hard.features, hard.image, case=case)
    pair = trial[:_BATCH]
    if needs_gradient:
        check_gradient(loaded, pair.features, pair.image)
    _check_steps(loaded, pair, calls)
    _check_interpolation(loaded, pair, calls.output)
    uses_backbone = loaded.capabilities.bind_backbone is not None  # then its own features are the protocol's, too
    ignores = [] if uses_backbone else ignored_features_notes(calls.output[:1], last, calls.tolerance)
    flops = flops_per_image(loaded, pair)
    notes = (
        *calls.notes(trial.features),
        *dtype_notes(dtypes, trial.features.dtype),
        *other_size_notes(loaded, trial),
        *ignores,
    )
    for note in notes:
        warnings.warn(note, VfmIsbenchWarning, stacklevel=3)
    return ContractReport(
        output_size=(calls.output.shape[-2], calls.output.shape[-1]),
        deterministic=calls.repeat_deviation == 0,
        batch_independent=calls.batch_deviation <= calls.tolerance,
        repeat_deviation=calls.repeat_deviation,
        batch_deviation=calls.batch_deviation,
        n_parameters=_parameters(loaded),
        ms_per_image=milliseconds(loaded, trial[: calls.batch]) / calls.batch,
        warnings=notes,
        flops_per_image=flops,
        uses_features=not ignores,
    )


def _billions(flops: int | None) -> str:
    return "unknown" if flops is None else f"{flops / 1e9:.3g} billion"


def _count(parameters: int | None) -> str:
    if parameters is None:
        return "unknown"
    return f"{parameters:,}" if parameters else "none"


def _parameters(upsampler: Upsampler | LoadedUpsampler) -> int | None:
    """Number of parameters; without a module, 0 only if everything the upsampler uses is known and holds no tensor."""
    counted = count_parameters(upsampler)
    if counted is not None or holds_tensors(upsampler):
        return counted
    return None if fingerprint_of(LoadedUpsampler.of(upsampler).call) is None else 0


def _watched(upsampler: LoadedUpsampler) -> tuple[LoadedUpsampler, set[torch.dtype]]:
    """The upsampler, and a set to which its calls add the dtypes of what it returns, before they are converted."""
    dtypes: set[torch.dtype] = set()

    @functools.wraps(upsampler.call, assigned=(), updated=())  # messages say how the original is called
    def call(features: Tensor, image: Tensor) -> Tensor:
        output = upsampler.call(features, image)
        if isinstance(output, Tensor):
            dtypes.add(output.dtype)
        return output

    return dataclasses.replace(upsampler, call=call), dtypes


@dataclass(frozen=True, slots=True)
class _Calls:
    """What equal calls returned.

    Attributes:
        output: Result for the first images.
        batch: Number of these images: two, or one if the upsampler is only ever called with one.
        repeat_deviation: By how much a second, equal call differs from it.
        batch_deviation: By how much an image differs if it is upsampled alone, or in a larger batch.
        batch_seen: Size of the batch in which that difference was largest.
    """

    output: Tensor
    batch: int
    repeat_deviation: float
    batch_deviation: float
    batch_seen: int

    @classmethod
    @torch.no_grad()
    def of(cls, upsampler: LoadedUpsampler, trial: Trial) -> _Calls:
        def call(images: slice) -> Tensor:
            return call_checked(upsampler, trial.features[images], trial.image[images])

        batch = 1 if upsampler.capabilities.needs_gradients else _BATCH
        output = call(slice(batch))
        again = call_checked(upsampler, trial.features[:batch], trial.image[:batch], is_repeated=True)
        _check_same_size(again, "again in the same batch", output)
        repeated = deviation(again, output)
        if batch == 1:
            return cls(output, batch, repeated, 0.0, 1)
        alone = [call(slice(index, index + 1)) for index in range(batch)]
        for one in alone:
            _check_same_size(one, "alone", output)
        found = [(deviation(torch.cat(alone), output), batch)]
        size = len(trial)
        if size > batch:
            whole = call(slice(size))
            _check_same_size(whole, f"in a batch of {size}", output)
            # The ends are enough: images that are mixed up take something from, or leave something to, all of them.
            last = call(slice(size - 1, size))
            found += [(deviation(whole[:batch], output), size), (deviation(whole[-1:], last), size)]
        most, seen = max(found)
        return cls(output, batch, repeated, most, seen)

    @property
    def tolerance(self) -> float:
        """Largest deviation that does not count."""
        return max(BATCH_TOLERANCE, 2 * self.repeat_deviation)

    def notes(self, features: Tensor) -> list[str]:
        """What a reader of the numbers should know."""
        notes = []
        if self.repeat_deviation > 0:
            notes.append(
                "the upsampler is not deterministic: two calls with the same input differ by "
                f"{self.repeat_deviation:.1e} of the largest output; its results will not repeat exactly"
            )
        if self.batch_deviation > self.tolerance:
            notes.append(
                "the upsampler's output for an image depends on the rest of the batch: in a batch of "
                f"{self.batch_seen} it differs by {self.batch_deviation:.1e} of the largest output; its results depend "
                "on the batch size"
            )
        most, given = largest(self.output), largest(features)
        if most > _LARGEST_GAIN * given:
            notes.append(
                f"the upsampler returns values up to {most:.1e} for features up to {given:.1e}; the head may not "
                "learn from values that large"
            )
        return notes


def _check_same_size(other: Tensor, call: str, output: Tensor) -> None:
    if other.shape[1:] != output.shape[1:]:
        raise ContractError(
            f"the upsampler returned {shape_of(other)} for an image {call} and {shape_of(output)} in a batch "
            f"of {len(output)}; the output size must depend only on the sizes of features and image"
        )


@torch.no_grad()
def _check_layout(upsampler: LoadedUpsampler, trial: Trial, calls: _Calls) -> None:
    """Check that features and images that are stored otherwise give the same output."""
    other = trial.channels_last()
    output = call_checked(upsampler, other.features, other.image)
    _check_same_size(output, "in channels-last memory layout", calls.output)
    difference = deviation(output, calls.output)
    # Random outputs differ anyway, and sometimes by more than two equal calls did.
    if calls.repeat_deviation <= BATCH_TOLERANCE and difference > LAYOUT_TOLERANCE:
        raise ContractError(
            "the upsampler returned other values for the same features and image in channels-last memory layout: they "
            f"differ by {difference:.1e} of the largest output; backbones return both layouts: do not read the memory "
            "directly (as_strided, data_ptr), or call .contiguous() first"
        )


def _check_interpolation(upsampler: LoadedUpsampler, trial: Trial, output: Tensor) -> None:
    """Check a declared interpolation: with the cached probe, it is computed on the patch grid and never called."""
    declared = upsampler.capabilities.interpolation
    if declared is None:
        return
    mode, align_corners = declared
    expected = functional.interpolate(trial.features, trial.image.shape[-2:], mode=mode, align_corners=align_corners)
    if output.shape != expected.shape or deviation(output, expected) > BATCH_TOLERANCE:
        raise ContractError(
            f"the upsampler declares interpolation = {declared!r}, but its output is not that of "
            "torch.nn.functional.interpolate with this mode and align_corners to the image's size; remove the "
            "attribute (a class that inherits it: set interpolation = None)"
        )


@torch.no_grad()
def _check_steps(upsampler: LoadedUpsampler, trial: Trial, calls: _Calls) -> None:
    """Check that the two steps, and the strips, return what the call returns."""
    able = upsampler.capabilities
    if able.upsample is not None:
        composed = call_checked(
            lambda f, i: upsampler.upsample(f, upsampler.encode_guidance(i)), trial.features, trial.image
        )
        _check_equal(composed, calls, "upsample(features, encode_guidance(image))")
    if able.upsample_strips is not None:
        joined = call_checked(lambda f, i: _joined_strips(upsampler, f, i), trial.features, trial.image)
        if joined.shape[-2:] != trial.image.shape[-2:]:
            raise ContractError(
                f"the strips of upsample_strips() together are {shape_of(joined)}, which is not the image's size: fix "
                "upsample_strips(), remove it or rename it"
            )
        _check_equal(joined, calls, "upsample_strips(features, encode_guidance(image))")


def _joined_strips(upsampler: LoadedUpsampler, features: Tensor, image: Tensor) -> Tensor:
    strips = [*upsampler.upsample_strips(features, upsampler.encode_guidance(image))]
    next_row = 0
    for top, strip in strips:
        if top != next_row:
            raise ValueError(f"upsample_strips() gave rows from {top} on; expected rows from {next_row} on")
        next_row += strip.shape[1]
    return torch.cat([strip for _, strip in strips], dim=1).permute(0, 3, 1, 2)


def _check_equal(found: Tensor, calls: _Calls, what: str) -> None:
    output = calls.output
    difference = deviation(found, output) if found.shape == output.shape else float("inf")
    if difference > calls.tolerance:
        raise ContractError(
            f"{what} returned {shape_of(found)}, which differs by {difference:.1e} of the largest output from the "
            f"{shape_of(output)} that calling the upsampler returned; both must be equal: fix these methods, remove "
            "them or rename them"
        )
