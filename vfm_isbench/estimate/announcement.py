"""What a run says before it starts: everything that decides its numbers and its time, in a few lines."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from vfm_isbench.acceleration.speed import RunOptions
from vfm_isbench.errors import OutOfMemoryError, VfmIsbenchError, VfmIsbenchWarning
from vfm_isbench.estimate.amounts import Amounts, Holding, amounts_of
from vfm_isbench.estimate.estimate import describe_device
from vfm_isbench.estimate.outlook import Outlook, measure_outlook
from vfm_isbench.probe import Probe, build_probe
from vfm_isbench.probe.free_memory import free_bytes
from vfm_isbench.progress import RunProgress
from vfm_isbench.progress.counts import counted
from vfm_isbench.progress.durations import rough
from vfm_isbench.protocol import Protocol
from vfm_isbench.storage.room import size
from vfm_isbench.upsamplers import ContractReport, count_parameters

LONG = 12 * 3600
"""Seconds from which a run on a CPU is told of shorter protocols."""

_LEAST_SECONDS = 0.2
"""How long a fast step is repeated: the run itself shows more exactly, and soon, what it takes."""

_MOST_SECONDS = 4.0
"""How long a step may take to be measured as it is; a slower one is measured on a single image."""

_SHORTER = ("lite", "quick")
"""Protocols with the network of the paper's and less training, the longest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A run that is about to start.

    Attributes:
        name: Name of the upsampler.
        probe: The probe, on its device; its weights stay as they are.
        protocol: What it is trained under.
        contract: What the check of the upsampler found.
        amounts: What the run does.
        options: Speed and worker processes.
        data_root: Folder of the data sets.
        folder: The run folder; None if nothing is kept.
        epochs_done: Epochs that were trained in an earlier run.
        steps_done: Steps of the next epoch that were trained there.
    """

    name: str
    probe: Probe
    protocol: Protocol
    contract: ContractReport
    amounts: Amounts
    options: RunOptions
    data_root: Path | None = None
    folder: Path | None = None
    epochs_done: int = 0
    steps_done: int = 0


def announce(progress: RunProgress, start: Start) -> None:
    """Say what is about to run, measure how long it should take, and say that too.

    A step that fails while it is measured is no reason to stop: the run itself will say what is wrong with it.

    Raises:
        OutOfMemoryError: if a training step, or a click on a single object, does not fit into memory.
    """
    free = free_bytes(start.probe.device)
    progress.print("\n".join(_facts(start)))
    progress.print("  measuring   a few steps and clicks …")
    probe = build_probe(start.protocol, start.probe.backbone, start.probe.upsampler).to(start.probe.device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VfmIsbenchWarning)  # the run gives them
            outlook = measure_outlook(
                probe,
                start.amounts,
                start.protocol,
                start.options,
                trains=start.epochs_done < start.protocol.epochs,
                least_seconds=_LEAST_SECONDS,
                most_seconds=_MOST_SECONDS,
            )
    except OutOfMemoryError:
        raise
    except VfmIsbenchError:
        progress.print("  time        could not be measured beforehand")
        return
    steps = start.amounts.steps / start.protocol.epochs
    parts = outlook.parts(start.amounts, start.protocol, start.epochs_done + start.steps_done / steps)
    total = sum(part.seconds for part in parts)
    each = ", ".join(f"{part.name} {rough(part.seconds)}" for part in parts if part.seconds)
    progress.print(f"  time        about {rough(total)} ({each}), judging by a few steps and clicks measured now")
    for line in _memory(start.probe.device, outlook, free):
        progress.print(line)
    for kind, text in _advice(start, outlook, total):
        progress.print(f"  {kind:<10}  {text}")
    progress.expect({part.name: part.seconds for part in parts})


def _facts(start: Start) -> Iterator[str]:
    probe, protocol, amounts = start.probe, start.protocol, start.amounts
    grid = probe.backbone.grid(protocol.image_size)
    trained = count_parameters(probe.trainable()) or 0
    size = "{}×{}".format(*start.contract.output_size)
    yield f"{start.name} under {protocol.label}, seed {protocol.seed}, on {describe_device(probe.device)}"
    features = f"{probe.backbone.channels} channels at {grid}×{grid}"
    yield f"  backbone    {protocol.backbone}: {features} from images of {protocol.image_size} px"
    if probe.backbone.has_random_weights:
        yield "  dry run     the backbone has random weights: no score of this run means anything, and none is ranked"
    speed = f"{start.contract.ms_per_image:.1f} ms per image"
    yield f"  upsampler   to {size}, {_parameters(start.contract.n_parameters)}, {speed}"
    yield (
        f"  trained     click encoder {protocol.click_encoder} (injection {protocol.injection}) and head "
        f"{protocol.head}{''.join(f', {part}' for part in protocol.trained_parts)}: {_parameters(trained)}"
    )
    steps = amounts.steps // protocol.epochs
    each = f"{counted(steps, 'step')} of {counted(protocol.batch_size, 'image')}"
    yield f"  training    {_images(amounts.training)}; {counted(protocol.epochs, 'epoch')} of {each}"
    if amounts.validation_steps:
        samples = counted(protocol.validation_samples, "sample")
        yield f"  validation  {_images(amounts.validation)}; {samples} after every epoch"
    tests = ", ".join(f"{test.name} ({counted(test.objects, 'object')})" for test in amounts.tests)
    yield f"  test        {tests}; {counted(protocol.max_clicks, 'click')} per object"
    yield f"  run folder  {_folder(start)}"


def _memory(device: torch.device, outlook: Outlook, free: int | None) -> Iterator[str]:
    peaks = [peak for peak in (outlook.training.peak_bytes, outlook.clicks.peak_bytes) if peak is not None]
    if peaks:
        what = "on the device" if device.type == "cuda" else "in this process"
        yield f"  memory      {size(max(peaks))} {what}{'' if free is None else f', {size(free)} were free'}"


def _images(holding: Holding) -> str:
    return f"{holding.name} ({counted(holding.images, 'image')})"


def _parameters(count: int | None) -> str:
    if not count:
        return "no parameters" if count == 0 else "parameters unknown"
    return f"{count / 1e6:.2f} M parameters" if count >= 1e5 else counted(count, "parameter")


def _folder(start: Start) -> str:
    if start.folder is None:
        return "none, so nothing is kept and an interrupted run starts again (output_dir=…)"
    epochs = f"of {start.protocol.epochs}"
    if start.steps_done:
        return (
            f"{start.folder}, which continues in epoch {start.epochs_done + 1} {epochs}, after step {start.steps_done}"
        )
    if start.epochs_done:
        return f"{start.folder}, which continues after epoch {start.epochs_done} {epochs}"
    return str(start.folder)


def _advice(start: Start, outlook: Outlook, seconds: float) -> Iterator[tuple[str, str]]:
    """What to do about a run that is too long for a CPU: a warning, then the protocols that are shorter."""
    protocol = start.protocol
    if start.probe.device.type != "cpu" or seconds < LONG or start.epochs_done == protocol.epochs:
        return
    gpu = "PyTorch sees no CUDA device here" if not torch.cuda.is_available() else "--device cuda uses the GPU"
    yield "warning", f"this will take {rough(seconds)}: {protocol.label} is made for a GPU, and this is a CPU; {gpu}"
    for name in _SHORTER:
        other = Protocol.preset(name)
        if protocol.name == name or not _has_network_of(protocol, other):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", VfmIsbenchWarning)
                total = outlook.seconds(amounts_of(other, start.data_root), other)
        except VfmIsbenchError:
            continue
        if total < seconds:
            fits = "fits this machine" if total < LONG else "does not fit this machine either"
            yield "note", f"--protocol {name} {fits}: about {rough(total)}; compare its numbers only with each other"
    yield "note", "--protocol demo fits every machine: minutes, with its embedded data"
    kept = "; the same command continues an interrupted run" if start.folder is not None else ""
    yield "note", f"the run goes on now; Ctrl+C loses nothing yet{kept}"


def _has_network_of(protocol: Protocol, other: Protocol) -> bool:
    """Whether steps and clicks take the same time under two protocols."""
    fields = ("backbone", "image_size", "click_encoder", "injection", "head", "head_layers", "batch_size")
    return all(getattr(protocol, name) == getattr(other, name) for name in (*fields, "trained_parts"))
