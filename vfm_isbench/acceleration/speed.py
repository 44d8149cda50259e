"""Settings of a run that say how a number is computed, never which one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import torch

from vfm_isbench.errors import RunError, SpeedError
from vfm_isbench.kernels.winograd import LEAST_CHANNELS
from vfm_isbench.progress import Part, RunProgress, StopSignals

Precision: TypeAlias = Literal["float32", "tf32", "bfloat16"]

CHECKPOINT_MINUTES = 10.0
"""Minutes between two checkpoints inside an epoch."""

_OBJECTS_AT_ONCE_ON_CUDA = 8
_CHANGES_NUMBERS = {"stop_at_iou": "early_stop", "precision": "precision"}
"""Settings that a result must state, because scores are then missing or less exact, and their names in files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """How fast, and at which tolerance. Not part of the protocol: with the defaults, results are equal up to rounding.

    Attributes:
        stop_at_iou: IoUs in percent. An object gets no more clicks once it has reached all of them: NoC up to the
            highest of them and IoU@1 stay exactly the same, but IoUs of clicks that were not placed are missing. Such
            results are not ranked. None places all clicks.
        precision: Arithmetic of the network. "float32" is the benchmark's. "tf32" rounds the factors of products to 10
            bits on CUDA devices that support it; "bfloat16" runs products in bfloat16 (autocast). Both are for a quick
            look, and are not ranked.
        objects_at_once: Objects that are clicked in lockstep, each with its own clicks and crop, in one pass of the
            network; None means 1 on CPUs, where more gain nothing, and 8 elsewhere.
        clicks_on_device: Place clicks and measure IoU on the device of the network, for all objects at once, instead of
            on the CPU; the outcome is the same. None does so on CUDA devices, which would wait for the CPU otherwise.
        images_at_once: Images in one pass of the network in training; gradients of the passes add up to those of the
            batch. Fewer take less memory, and more time. None means the whole batch.
        read_ahead: Read the next image while the current one is clicked.
        shortcut: Compute only once per crop or batch what does not depend on the clicks. False runs the whole network
            for every click, which is the reference that the shortcut is tested against.
        feature_cache: Folder that keeps backbone features for further runs with the same backbone, as in sweeps over
            many upsamplers; None keeps none. See :class:`vfm_isbench.acceleration.feature_cache.FeatureCache`.
        winograd_channels: 3×3 convolutions of the head with at least this many channels run by Winograd's filtering on
            CPUs; the default is where that starts to pay.

    Raises:
        SpeedError: if a value is out of range.
    """

    stop_at_iou: tuple[int, ...] | None = None
    precision: Precision = "float32"
    objects_at_once: int | None = None
    clicks_on_device: bool | None = None
    images_at_once: int | None = None
    read_ahead: bool = True
    shortcut: bool = True
    feature_cache: Path | None = None
    winograd_channels: int = LEAST_CHANNELS

    def __post_init__(self) -> None:
        if self.stop_at_iou is not None:
            is_list = isinstance(self.stop_at_iou, tuple | list)
            percents = tuple(sorted(set(self.stop_at_iou))) if is_list else ()
            if not percents or not all(isinstance(percent, int) and 0 < percent <= 100 for percent in percents):
                raise SpeedError(
                    f"stop_at_iou takes IoUs in percent, whole numbers from 1 to 100, such as (80, 85, 90); got "
                    f"{self.stop_at_iou!r}"
                )
            object.__setattr__(self, "stop_at_iou", percents)
        if self.precision not in get_args(Precision):
            raise SpeedError(f"precision {self.precision!r} is not one of {', '.join(get_args(Precision))}")
        for field_name in ("objects_at_once", "images_at_once"):
            value = getattr(self, field_name)
            if value is not None and value < 1:
                raise SpeedError(f"{field_name} must be at least 1, got {value}")
        if self.feature_cache is not None:
            if self.precision != "float32" or not self.shortcut:
                raise SpeedError("feature_cache needs precision='float32' and shortcut=True: leave one of them out")
            object.__setattr__(self, "feature_cache", Path(self.feature_cache))

    def lockstep(self, device: torch.device) -> int:
        """Number of objects clicked at once on a device."""
        return self.objects_at_once or (1 if device.type == "cpu" else _OBJECTS_AT_ONCE_ON_CUDA)

    def places_clicks_on(self, device: torch.device) -> bool:
        """Whether clicks are placed on a device rather than on the CPU."""
        return device.type == "cuda" if self.clicks_on_device is None else self.clicks_on_device

    def to_record(self) -> dict[str, Any]:
        """What a result must state of these settings: those that leave scores missing or less exact, JSON-ready."""
        changed = {
            written_as: getattr(self, name)
            for name, written_as in _CHANGES_NUMBERS.items()
            if getattr(self, name) != getattr(_DEFAULT, name)
        }
        return {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}

    def label(self) -> str:
        """Suffix for file names, so that work done under other settings is never mixed up; empty by default."""
        stop = "" if self.stop_at_iou is None else f"-stop{max(self.stop_at_iou)}"
        precision = "" if self.precision == _DEFAULT.precision else f"-{self.precision}"
        return stop + precision + ("" if self.shortcut else "-whole")

    def notes(self) -> list[str]:
        """Remarks a reader of the numbers should see."""
        notes = []
        if self.stop_at_iou is not None:
            notes.append(
                f"clicking stopped once an object had reached an IoU of {max(self.stop_at_iou)} %: scores that need "
                "further clicks are missing"
            )
        if self.precision != _DEFAULT.precision:
            notes.append(f"computed in {self.precision}, not in float32: not for the leaderboard")
        return notes


_DEFAULT = Speed()


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """How training and evaluation are carried out; changes no result beyond what :class:`Speed` states.

    Attributes:
        speed: How fast, and at which tolerance.
        workers: Processes that prepare training samples.
        progress: Show the progress.
        run: Progress of the run that training or evaluation is a part of; None if it stands alone.
        checkpoint_minutes: Minutes after which a training that keeps checkpoints writes one inside an epoch, too.
        stop: Signals that ask training and evaluation to stop.
        boundary_iou: Measure boundary IoU after every click, too; the time it takes is not part of a click's.
    """

    speed: Speed = field(default_factory=Speed)
    workers: int = 0
    progress: bool = True
    run: RunProgress | None = None
    checkpoint_minutes: float = CHECKPOINT_MINUTES
    stop: StopSignals = field(default_factory=StopSignals)
    boundary_iou: bool = False

    def __post_init__(self) -> None:
        minutes = self.checkpoint_minutes
        if isinstance(minutes, bool) or not isinstance(minutes, (int, float)) or not minutes > 0:
            raise RunError(f"checkpoint_minutes must be a number of minutes above 0, got {minutes!r}")

    @contextmanager
    def progress_of(self, part: str, total: float) -> Iterator[Part]:
        """The progress of a part of the run, see :meth:`vfm_isbench.progress.RunProgress.part`."""
        with nullcontext(self.run) if self.run else RunProgress(self.progress) as run, run.part(part, total) as found:
            yield found


@contextmanager
def tf32(is_allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 inside a ``with`` block, and restore PyTorch's settings afterwards.

    By default, PyTorch allows it for convolutions.
    """
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = is_allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Run networks in a precision, see :class:`Speed`, inside a ``with`` block.

    Raises:
        SpeedError: if the device does not support it.
    """
    if precision == "tf32" and device.type != "cuda":
        raise SpeedError(f"precision 'tf32' needs a CUDA device, not {device.type!r}: leave it out")
    # Without the cache of casts: some versions of PyTorch fill it in passes without gradients, and weights would then
    # get no gradients in the training pass that follows.
    half = (
        torch.autocast(device.type, torch.bfloat16, cache_enabled=False) if precision == "bfloat16" else nullcontext()
    )
    with tf32(precision == "tf32"), half:
        yield
