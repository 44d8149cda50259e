"""Estimates a run: builds what it would build, measures single steps, and multiplies."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from vfm_isbench.acceleration.speed import RunOptions
from vfm_isbench.backbones import load_backbone, load_what_is_here
from vfm_isbench.click_encoders import check_click_encoder
from vfm_isbench.errors import DataError, VfmIsbenchWarning, WeightsError
from vfm_isbench.estimate.amounts import Amounts, amounts_of
from vfm_isbench.estimate.cost import CostEstimate, Download
from vfm_isbench.estimate.memory import require_memory_to_train
from vfm_isbench.estimate.outlook import CROPS_PER_OBJECT, measure_outlook
from vfm_isbench.probe import Probe, build_probe, check_combination
from vfm_isbench.probe.backbone_access import with_backbone
from vfm_isbench.probe.end_to_end import check_trained_parts
from vfm_isbench.probe.free_memory import free_bytes
from vfm_isbench.probe.preparation import follow_protocol, freeze_hidden_modules
from vfm_isbench.probe.torch_state import benchmark_settings, current_device, settings_restored
from vfm_isbench.progress.counts import counted
from vfm_isbench.protocol import Protocol
from vfm_isbench.runs.room import files_of_run
from vfm_isbench.storage.no_downloads import no_downloads
from vfm_isbench.storage.room import size
from vfm_isbench.upsamplers import (
    LoadedUpsampler,
    LoadOptions,
    Upsampler,
    count_parameters,
    find_module,
    load_upsampler,
)
from vfm_isbench.upsamplers.published.pretrained import without_weights

_BYTES_PER_WEIGHT = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """What would be run, and where.

    Attributes:
        protocol: The protocol.
        device: The device.
        data_root: Folder of the data sets; None if there is none.
        backbone_weights: File or folder; None for the hub's cache.
        random_weights: Whether the backbone gets random weights, so that there is nothing to download.
        load_options: How an upsampler given by name may be loaded.
        options: Speed and worker processes.
    """

    protocol: Protocol
    device: torch.device
    data_root: Path | None = None
    backbone_weights: Path | None = None
    random_weights: bool = False
    load_options: LoadOptions | None = None
    options: RunOptions = field(default_factory=RunOptions)


def estimate_run(upsampler: Upsampler | str, plan: RunPlan) -> CostEstimate:
    """Estimate a run of :class:`vfm_isbench.Benchmark`; downloads, writes and keeps nothing.

    Data sets that are not here are replaced by images of a typical size, weights by random ones: neither changes how
    long a step takes.

    Raises:
        UnknownNameError, ProtocolError, DataError, ContractError: as a run would.
        UpsamplerError, OutOfMemoryError: if the upsampler fails in a step, or a step does not fit into memory.
    """
    # A run gives the warnings.
    with no_downloads(), benchmark_settings(), current_device(plan.device), warnings.catch_warnings():
        warnings.simplefilter("ignore", VfmIsbenchWarning)
        check_click_encoder(plan.protocol.click_encoder)
        amounts = amounts_of(plan.protocol, plan.data_root)
        built = _build(upsampler, plan)
        protocol = built.protocol
        free = free_bytes(plan.device)
        require_memory_to_train(built.probe, amounts.training, protocol, plan.options)
        found = measure_outlook(built.probe, amounts, protocol, plan.options)
    peaks = [peak for peak in (found.training.peak_bytes, found.clicks.peak_bytes) if peak is not None]
    workers, objects = plan.options.workers, sum(test.objects for test in amounts.tests)
    return CostEstimate(
        title=f"{built.probe.upsampler.name} under the protocol {protocol.label} on {describe_device(plan.device)}, "
        f"{counted(workers, 'worker')}",
        downloads=(*_data_downloads(amounts), *built.missing),
        parts=found.parts(amounts, protocol),
        training=found.training,
        clicks=found.clicks,
        batch_size=protocol.batch_size,
        peak_bytes=max(peaks, default=None),
        memory_of="of this process" if plan.device.type == "cpu" else "of the device, as tensors",
        free_bytes=free,
        run_folder_bytes=sum(
            files_of_run(built.probe, protocol, objects, boundary_iou=plan.options.boundary_iou).values()
        ),
        notes=_notes(plan, amounts, built),
    )


def describe_device(device: torch.device) -> str:
    """A device in words: "cpu (2 threads)"."""
    where = counted(torch.get_num_threads(), "thread") if device.type == "cpu" else str(device.type)
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    return f"{device} ({where})"


@dataclass(frozen=True, slots=True, eq=False)
class _Built:
    """The probe that a run would train.

    Attributes:
        probe: The probe on its device.
        protocol: What it would be trained under.
        missing: Weights that are not here, and are random in the probe.
    """

    probe: Probe
    protocol: Protocol
    missing: tuple[Download, ...]


def _build(upsampler: Upsampler | str, plan: RunPlan) -> _Built:
    if plan.random_weights:
        protocol = plan.protocol
        how = protocol.position_embedding
        backbone = load_backbone(protocol.backbone, protocol.image_size, position_embedding=how, pretrained=False)
        why_random = None
    else:
        backbone, why_random = load_what_is_here(plan.protocol, plan.backbone_weights)
    backbone.to(plan.device)
    check_combination(plan.protocol, backbone)
    loaded, is_complete = _upsampler(upsampler, plan, backbone.channels)
    loaded, protocol, _ = follow_protocol(loaded, plan.protocol)
    shape = (backbone.channels, backbone.grid(protocol.image_size), protocol.image_size)
    loaded, _ = freeze_hidden_modules(with_backbone(loaded, backbone), shape, plan.device, backbone)
    check_trained_parts(loaded, protocol, backbone, plan.device)
    missing = [] if why_random is None else [_weights(protocol.backbone, backbone)]
    missing += [] if is_complete else [_weights(str(upsampler), find_module(loaded))]
    return _Built(build_probe(protocol, backbone, loaded).to(plan.device), protocol, tuple(missing))


def _upsampler(upsampler: Upsampler | str, plan: RunPlan, channels: int) -> tuple[LoadedUpsampler, bool]:
    """The upsampler, and whether its weights are here."""
    try:
        with settings_restored():
            return load_upsampler(upsampler, plan.load_options), True
    except (WeightsError, DataError):
        made = without_weights(upsampler, channels) if isinstance(upsampler, str) else None
        if made is None or (plan.load_options is not None and plan.load_options.weights is not None):
            raise
        return load_upsampler(made), False


def _data_downloads(amounts: Amounts) -> list[Download]:
    absent = [holding.source for holding in amounts.holdings() if holding.dataset is None]
    sources = {source.name: source for source in absent if source is not None}
    return [
        Download(f"data set {name}", f"about {source.archive.about_size}", f"vfm-isbench data download {name}")
        for name, source in sources.items()
    ]


def _weights(name: str, module: nn.Module | None) -> Download:
    n_bytes = _BYTES_PER_WEIGHT * (count_parameters(module) or 0)
    return Download(f"weights of {name}", f"about {size(n_bytes)}", "the run fetches them")


def _notes(plan: RunPlan, amounts: Amounts, built: _Built) -> tuple[str, ...]:
    absent = dict.fromkeys(holding.name for holding in amounts.holdings() if holding.dataset is None)
    notes = []
    if absent:
        notes.append(
            f"{', '.join(absent)} not here: counted as published, and measured on images of a typical size; unpacking "
            "takes about twice the size of a download"
        )
    if built.missing:
        notes.append(f"random {' and '.join(each.what for each in built.missing)}, which take the same time")
    if plan.protocol.zoom_in:
        notes.append(f"counted with {CROPS_PER_OBJECT} crop per object besides the whole image")
    if plan.options.speed.stop_at_iou is not None:
        notes.append("objects are left early with stop_at_iou, so the evaluation takes less than this")
    if plan.options.speed.feature_cache is not None:
        notes.append("the feature cache is not counted: it takes disk space, and saves time only in further runs")
    return tuple(notes)
