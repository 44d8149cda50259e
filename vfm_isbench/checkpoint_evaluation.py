"""Evaluates what is trained already: checkpoints of this library, and those of the reference implementation."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vfm_isbench.backbones import load_backbone
from vfm_isbench.benchmark import choose_device
from vfm_isbench.build import build_probe
from vfm_isbench.datasets import open_dataset
from vfm_isbench.errors import RunError, UnknownNameError, VfmIsbenchWarning, WeightsError
from vfm_isbench.measurement import measure
from vfm_isbench.probe import Probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.reference import assemble_reference, is_reference, protocol_of, read_reference
from vfm_isbench.results import Result
from vfm_isbench.run_folder import keep_evidence, weights_sha256
from vfm_isbench.training import Checkpoint, load_checkpoint
from vfm_isbench.upsamplers import (
    LoadOptions,
    Upsampler,
    count_parameters,
    follow_channel_norm,
    identity_of,
    prepare_upsampler,
)


@dataclass(frozen=True, eq=False)
class LoadedCheckpoint:
    """A trained probe read from a file.

    Attributes:
        probe: The network, in eval mode.
        protocol: What it was trained under, as far as the file tells.
        upsampler: What a result says about the upsampler.
        training: One record per epoch; empty where the file has none.
        notes: Remarks a reader of its numbers should see.
    """

    probe: Probe
    protocol: Protocol
    upsampler: dict[str, Any]
    training: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]


def load_trained(
    path: str | Path,
    *,
    upsampler: Upsampler | str | None = None,
    backbone_weights: str | Path | None = None,
    load_options: LoadOptions | None = None,
    device: str | torch.device = "auto",
) -> LoadedCheckpoint:
    """Read a checkpoint and put its frozen parts around it.

    Args:
        path: ``checkpoint.safetensors`` of a run or its folder; or a checkpoint trained with iSegProbe, ``.pth``, or
            its contents as safetensors.
        upsampler: The upsampler to use instead of the one the checkpoint names or holds.
        backbone_weights: File or folder with the backbone's weights; None for those in the file, else the hub.
        load_options: How an upsampler given by name may be loaded.
        device: "auto" or any PyTorch device.

    Raises:
        RunError, WeightsError, UnknownNameError, ContractError: if the file cannot be read, or a part is missing and
            cannot be found.
    """
    path = Path(path)
    path = path / "checkpoint.safetensors" if path.is_dir() else path
    weights = None if backbone_weights is None else Path(backbone_weights)
    chosen = None if upsampler is None else prepare_upsampler(upsampler, load_options)
    if is_reference(path):
        loaded = _load_reference(path, chosen, weights)
    else:
        loaded = _load_own(path, chosen, weights, load_options)
    loaded.probe.to(choose_device(device)).eval()
    return loaded


def evaluate_checkpoint(
    path: str | Path,
    *,
    data_root: str | Path | None = None,
    datasets: Sequence[str] | None = None,
    limit: int | None = None,
    name: str | None = None,
    output: str | Path | None = None,
    progress: bool = True,
    **loading: Any,
) -> Result:
    """Evaluate a trained checkpoint click by click.

    Args:
        path: The checkpoint, see :func:`load_trained`.
        data_root: Folder that holds the data sets' own folders.
        datasets: Test sets; by default those of the checkpoint's protocol.
        limit: Only the first objects of each set.
        name: What tables call the upsampler.
        output: Result file to write. Until it is complete, evidence is kept in ``OUTPUT.evidence`` beside it, and the
            same call goes on there.
        progress: Show progress bars.
        loading: Passed on to :func:`load_trained`: ``upsampler``, ``backbone_weights``, ``load_options``, ``device``.

    Returns:
        The result, which is saved if ``output`` is given.
    """
    loaded = load_trained(path, **loading)
    changes: dict[str, Any] = {} if limit is None else {"object_limit": limit}
    if datasets is not None:
        changes["test_datasets"] = tuple(datasets)
    protocol = loaded.protocol.replace(**changes)
    root = None if data_root is None else Path(data_root)
    opened = [open_dataset(dataset, "test", root, protocol) for dataset in protocol.test_datasets]
    evidence_folder = None if output is None else Path(f"{output}.evidence")
    evidence_of = None
    if evidence_folder is not None:
        try:
            evidence_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{evidence_folder} cannot be written: {error}; choose another output file") from error
        key = hashlib.sha256(f"{weights_sha256(loaded.probe)}{loaded.upsampler}{protocol.fingerprint()}".encode())
        evidence_of = functools.partial(_evidence_file, evidence_folder, key.hexdigest())
    result = measure(
        loaded.probe,
        protocol,
        opened,
        upsampler=loaded.upsampler if name is None else {**loaded.upsampler, "name": name},
        evidence_of=evidence_of,
        training=loaded.training,
        notes=loaded.notes,
        progress=progress,
    )
    if output is not None and evidence_folder is not None:
        result.save(output)
        for file in evidence_folder.glob("*.jsonl"):
            file.unlink()
        if not any(evidence_folder.iterdir()):
            evidence_folder.rmdir()
    return result


def _evidence_file(folder: Path, key: str, dataset: str) -> Any:
    return keep_evidence(folder / f"{dataset}.jsonl", key)


def _load_reference(path: Path, upsampler: Upsampler | None, weights: Path | None) -> LoadedCheckpoint:
    reference = read_reference(path)
    if upsampler is not None:
        upsampler, _ = follow_channel_norm(upsampler, protocol_of(reference).featup_channel_norm)
    probe = assemble_reference(reference, backbone_weights=weights, upsampler=upsampler)
    notes = [f"trained elsewhere ({path.name}): the training fields of the protocol say nothing about it"]
    if upsampler is not None:
        notes.append(f"evaluated with an upsampler handed in, instead of its own, {reference.model.upsampler!r}")
    return LoadedCheckpoint(probe, protocol_of(reference), _about(probe.upsampler), (), tuple(notes))


def _load_own(
    path: Path, upsampler: Upsampler | None, weights: Path | None, options: LoadOptions | None
) -> LoadedCheckpoint:
    checkpoint = load_checkpoint(path)
    protocol = checkpoint.protocol
    backbone = load_backbone(
        protocol.backbone, protocol.image_size, position_embedding=protocol.position_embedding, weights=weights
    )
    trained_on = checkpoint.extra.get("backbone_sha256")
    if trained_on is not None and weights_sha256(backbone) != trained_on:
        raise WeightsError(
            f"the weights found for backbone {protocol.backbone!r} are not those {path} was trained on (SHA-256 "
            f"{trained_on[:12]}…); give the right ones as backbone_weights=… (command line: --backbone-weights)"
        )
    upsampler = _named_upsampler(path, checkpoint, options) if upsampler is None else upsampler
    upsampler, remarks = follow_channel_norm(upsampler, protocol.featup_channel_norm)
    probe = build_probe(protocol, backbone, upsampler)
    checkpoint.restore(probe.trainable())
    about, notes = _about(upsampler), list(remarks)
    if about["sha256"] is None or about["sha256"] != checkpoint.upsampler.get("sha256"):
        notes.append(
            f"the upsampler is {about['name']!r} now; whether it is the one trained with, "
            f"{checkpoint.upsampler.get('name')!r}, cannot be told, or it is another"
        )
    if not checkpoint.is_complete:
        notes.append(f"trained for {len(checkpoint.history)} of {protocol.epochs} epochs")
    for note in notes:
        warnings.warn(note, VfmIsbenchWarning, stacklevel=4)
    history = tuple(dataclasses.asdict(record) for record in checkpoint.history)
    return LoadedCheckpoint(probe, protocol, about, history, tuple(notes))


def _named_upsampler(path: Path, checkpoint: Checkpoint, options: LoadOptions | None) -> Upsampler:
    name = str(checkpoint.upsampler.get("name"))
    try:
        return prepare_upsampler(name, options)
    except UnknownNameError as error:
        raise RunError(
            f"{path} was trained with upsampler {name!r}, which cannot be found by that name ({error}); give it as "
            "upsampler=… (command line: --upsampler SPEC)"
        ) from error


def _about(upsampler: Upsampler) -> dict[str, Any]:
    return {**dataclasses.asdict(identity_of(upsampler)), "n_parameters": count_parameters(upsampler)}
