"""From a trained probe to a result: click through the test sets and gather the evidence."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vfm_isbench.acceleration.speed import RunOptions
from vfm_isbench.backbones import Backbone, input_normalisation
from vfm_isbench.clicks import PeopleFile
from vfm_isbench.datasets import ObjectDataset
from vfm_isbench.datasets.base import notes_of
from vfm_isbench.datasets.content import content_sha256
from vfm_isbench.errors import ResultError, WriteError
from vfm_isbench.evaluation import DatasetEvaluation, evaluate_dataset
from vfm_isbench.probe.torch_state import benchmark_settings
from vfm_isbench.protocol import Protocol
from vfm_isbench.registry.plugins import plugin_origins
from vfm_isbench.results import DatasetResult, Result, describe_environment
from vfm_isbench.results.signature import RANDOM
from vfm_isbench.runs.evidence_store import EvidenceStore
from vfm_isbench.runs.peak_memory import peak_bytes, start_counting
from vfm_isbench.runs.trained import TrainedProbe
from vfm_isbench.storage.hashing import weights_sha256

RANDOM_NOTE = (
    "the backbone has random weights (--random-weights): this was a dry run, and its scores say nothing about any "
    "upsampler"
)


@benchmark_settings()
def measure(
    trained: TrainedProbe,
    datasets: Sequence[ObjectDataset],
    *,
    store_of: Callable[[str], EvidenceStore] | None = None,
    options: RunOptions | None = None,
    people: PeopleFile | None = None,
) -> Result:
    """Evaluate a trained probe click by click, under its own protocol.

    Args:
        trained: The trained probe on its device.
        datasets: Test sets, opened.
        store_of: Returns the evidence store of a data set, by name; None keeps evidence in memory only.
        options: Speed and progress bars.
        people: Where people clicked, for the click pattern "realistic:FILE".
    """
    options = options or RunOptions()
    probe, protocol, speed = trained.probe, trained.protocol, options.speed
    found: dict[str, DatasetResult] = {}
    remarks: list[str] = []
    seconds = {} if trained.training_seconds is None else {"training": trained.training_seconds}
    start_counting(probe.device)
    for dataset in datasets:
        store = store_of(dataset.name) if store_of else None
        if store is not None and store.unverified_content is not None:
            store.verify(content_sha256(dataset, dataset.objects[: protocol.object_limit], options.progress))
        try:
            evaluation = evaluate_dataset(probe, dataset, protocol, store=store, options=options, people=people)
        finally:
            if store is not None:
                store.sync()
        remarks += [f"data set {dataset.name}: {note}" for note in evaluation.notes]
        found[dataset.name] = _dataset_result(dataset.name, evaluation, protocol, speed.stop_at_iou)
        seconds[f"predicting.{dataset.name}"] = evaluation.times.predicting
        seconds[f"clicking.{dataset.name}"] = evaluation.times.clicking
        if options.boundary_iou:
            seconds[f"boundaries.{dataset.name}"] = evaluation.times.boundaries
    peaks = {"training": trained.training_peak_bytes, "evaluation": peak_bytes(probe.device)}
    environment: dict[str, Any] = describe_environment(probe.device)
    plugins: list[Mapping[str, Any]] = [
        *plugin_origins(probe.upsampler, probe.backbone, probe.click_encoder, *datasets)
    ]
    plugins += [origin for origin in trained.plugins if origin not in plugins]
    if plugins:
        environment["plugins"] = plugins
    return Result(
        protocol=protocol,
        upsampler={
            **dataclasses.asdict(trained.upsampler),
            **dataclasses.asdict(trained.contract),
            "behaviour": trained.behaviour["upsampler"],
            **({"trained_with": dict(trained.trained_with)} if trained.trained_with else {}),
        },
        backbone={
            "name": probe.backbone.name,
            "width": probe.backbone.channels,
            "patch_size": probe.backbone.patch_size,
            # If it was trained, what it started from: seeds of one protocol then belong together.
            "sha256": probe.backbone.start_sha256 or weights_sha256(probe.backbone),
            "behaviour": trained.behaviour["backbone"],
            **input_normalisation(probe.backbone),
            **_backbone_extras(probe.backbone),
        },
        datasets=found,
        training=tuple(dataclasses.asdict(record) for record in trained.history),
        environment=environment,
        timings=seconds,
        peak_memory={part: peak for part, peak in peaks.items() if peak is not None},
        trained_parameters=_trained_parameters(trained),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        notes=(
            *([RANDOM_NOTE] if probe.backbone.has_random_weights else []),
            *_end_to_end_notes(protocol),
            *trained.notes,
            *trained.contract.warnings,
            *(f"data set {dataset.name}: {note}" for dataset in datasets for note in notes_of(dataset, protocol)),
            *remarks,
            *_plugin_notes(plugins),
            *_protocol_notes(protocol),
            *speed.notes(),
            *_training_notes(trained, speed.precision),
        ),
        speed={**({"precision": trained.precision} if trained.precision != "float32" else {}), **speed.to_record()},
    )


def _backbone_extras(backbone: Backbone) -> dict[str, Any]:
    """What results record about some backbones only: the norm of its features, its commit, and random weights."""
    weights = RANDOM if backbone.has_random_weights else None
    extras = {"feature_norm": backbone.feature_norm, "commit": backbone.commit, "weights": weights}
    return {key: value for key, value in extras.items() if value is not None}


def _trained_parameters(trained: TrainedProbe) -> dict[str, int]:
    parts = {"click_encoder": trained.probe.click_encoder, "head": trained.probe.head}
    return {part: sum(weight.numel() for weight in module.parameters()) for part, module in parts.items()}


def save_result(result: Result, path: Path, evidence: Path) -> None:
    """Write the result at the end of a run.

    Args:
        result: The result.
        path: Its file.
        evidence: The folder that keeps the evidence.

    Raises:
        WriteError: if the file cannot be written; it says what is kept, and how to continue.
    """
    try:
        result.save(path)
    except ResultError as error:
        unwritten = WriteError(f"{error}. Free some space there, or allow writing there")
        unwritten.kept = (
            f"The evidence of all objects is kept in {evidence}, and the same command writes the result without "
            "evaluating again."
        )
        raise unwritten from error


def _dataset_result(
    name: str, evaluation: DatasetEvaluation, protocol: Protocol, stop_at_iou: tuple[int, ...] | None
) -> DatasetResult:
    times = evaluation.times
    return DatasetResult(
        name,
        evaluation.evidence,
        times.seconds_per_click if times.clicks else None,
        evaluation.content_sha256,
        stop_at_iou,
        None if stop_at_iou is None else protocol.max_clicks,
    )


def _plugin_notes(plugins: Sequence[Mapping[str, Any]]) -> list[str]:
    if not plugins:
        return []
    parts = [f"{plugin['kind']} {plugin['name']} ({plugin['package']} {plugin['version']})" for plugin in plugins]
    return [f"from other packages: {', '.join(parts)}"]


def _protocol_notes(protocol: Protocol) -> list[str]:
    notes = []
    if protocol.name == "demo":
        notes.append(
            "these are demo numbers, not leaderboard numbers; protocol='paper' with data_root=… "
            "(command line: --protocol paper --data-root DIR) gives those"
        )
    if protocol.is_outdated:
        notes.append(
            f"{protocol.label} is an older version of this protocol: compare its numbers with each other, not with "
            f"those of {Protocol.preset(protocol.name).label}"
        )
    if protocol.name in ("quick", "lite"):
        notes.append(
            f"these are numbers of the {protocol.name} protocol: compare them with each other, not with those of "
            "'paper', which trains longer"
        )
    changed = protocol.changed_fields()
    if changed:
        notes.append(f"differs from the {protocol.label} protocol in {', '.join(changed)}")
    return notes


def _end_to_end_notes(protocol: Protocol) -> list[str]:
    if not protocol.trained_parts:
        return []
    parts = " and ".join(f"a copy of the {part}" for part in protocol.trained_parts)
    return [
        f"not the benchmark of frozen features: {parts} was trained with the probe; names, hashes and costs here are "
        "those of the start"
    ]


def _training_notes(trained: TrainedProbe, precision: str) -> list[str]:
    if trained.precision in ("float32", precision):
        return []
    return [f"trained in {trained.precision}, not in float32: not for the leaderboard"]
