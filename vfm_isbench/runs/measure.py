"""From a trained probe to a result: click through the test sets, gather evidence and what it belongs to."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from tqdm import tqdm

from vfm_isbench.datasets import ObjectDataset
from vfm_isbench.evaluation import evaluate_dataset
from vfm_isbench.registry.plugins import plugin_origins
from vfm_isbench.probe import Probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.results import DatasetResult, Result, describe_environment
from vfm_isbench.runs.run_folder import KeptEvidence
from vfm_isbench.storage.hashing import weights_sha256
from vfm_isbench.acceleration.speed import Speed
from vfm_isbench.types import ObjectId

EvidenceOf: TypeAlias = Callable[[str, str], KeptEvidence]
"""From a data set's name and the hash of its content to the evidence kept of it, and the function that keeps more."""


def measure(
    probe: Probe,
    protocol: Protocol,
    datasets: Sequence[ObjectDataset],
    *,
    upsampler: Mapping[str, Any],
    evidence_of: EvidenceOf | None = None,
    training: Sequence[Mapping[str, Any]] = (),
    timings: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
    plugins: Sequence[Mapping[str, Any]] = (),
    speed: Speed | None = None,
    progress: bool = True,
) -> Result:
    """Evaluate a trained probe click by click.

    Args:
        probe: The trained network on its device.
        protocol: Protocol it was trained under, and is evaluated under.
        datasets: Test sets, opened.
        upsampler: What the result says about the upsampler.
        evidence_of: Keeps evidence on disk, object by object; None keeps it in memory alone.
        training: One record per epoch of the training.
        timings: Seconds of what came before.
        notes: Remarks a reader should see.
        plugins: Origins of what other packages added to the training, beside what is seen of them here.
        speed: How fast; see :class:`vfm_isbench.Speed`.
        progress: Show progress bars.
    """
    speed = speed or Speed()
    found: dict[str, DatasetResult] = {}
    seconds = dict(timings or {})
    # All are read before the first click: a broken file is told at once, and evidence of other data is not taken over.
    contents = [content_sha256(dataset, dataset.objects[: protocol.object_limit], progress) for dataset in datasets]
    for dataset, content in zip(datasets, contents, strict=True):
        done, keep = evidence_of(dataset.name, content) if evidence_of else ({}, None)
        evidence, times = evaluate_dataset(
            probe, dataset, protocol, done=done, keep=keep, speed=speed, progress=progress
        )
        found[dataset.name] = DatasetResult(
            dataset.name,
            tuple(evidence),
            times.seconds_per_click if times.clicks else None,
            content,
            speed.stop_at_iou,
            None if speed.stop_at_iou is None else protocol.max_clicks,
        )
        seconds[f"predicting.{dataset.name}"] = times.predicting
        seconds[f"clicking.{dataset.name}"] = times.clicking
    backbone = probe.backbone
    environment: dict[str, Any] = describe_environment(next(probe.head.parameters()).device)
    used: list[Mapping[str, Any]] = [*plugin_origins(probe.upsampler, backbone, probe.click_encoder, *datasets)]
    used += [origin for origin in plugins if origin not in used]
    if used:
        environment["plugins"] = used
    return Result(
        protocol=protocol,
        upsampler=upsampler,
        backbone={
            "name": backbone.name,
            "width": backbone.channels,
            "patch_size": backbone.patch_size,
            "sha256": weights_sha256(backbone),
        },
        datasets=found,
        training=tuple(training),
        environment=environment,
        timings=seconds,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        notes=(*notes, *_plugin_notes(used), *_protocol_notes(protocol), *speed.notes()),
        speed=speed.to_record(),
    )


def content_sha256(dataset: ObjectDataset, objects: Sequence[ObjectId], progress: bool = False) -> str:
    """Identity of what is evaluated: hash over ids, image pixels and label maps, in order."""
    digest = hashlib.sha256()
    last = None
    for object_id in tqdm(objects, desc=f"reading {dataset.name}", unit="object", leave=False, disable=not progress):
        digest.update(str(object_id).encode())
        if object_id.image != last:
            last = object_id.image
            sample = dataset.read(object_id.image)
            digest.update(repr(sample.image.shape).encode())
            digest.update(sample.image.tobytes())
            digest.update(sample.labels.tobytes())
    return digest.hexdigest()


def _plugin_notes(used: Sequence[Mapping[str, Any]]) -> list[str]:
    if not used:
        return []
    parts = [f"{one['kind']} {one['name']} ({one['package']} {one['version']})" for one in used]
    return [f"from other packages: {', '.join(parts)}"]


def _protocol_notes(protocol: Protocol) -> list[str]:
    notes = []
    if protocol.name == "demo":
        notes.append(
            "these are demo numbers, not leaderboard numbers; protocol='paper' with data_root=… "
            "(command line: --protocol paper --data-root DIR) gives those"
        )
    changed = protocol.changed_fields()
    if changed:
        notes.append(f"differs from the {protocol.name} protocol in {', '.join(changed)}")
    return notes
