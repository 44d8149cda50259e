"""Evaluates what is trained already: checkpoints of this library, and those of the reference implementation."""

from __future__ import annotations

import dataclasses
import hashlib
import uuid
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vfm_isbench.backbones import load_backbone
from vfm_isbench.benchmark import check_on_device, choose_device, follow_protocol
from vfm_isbench.probe import build_probe
from vfm_isbench.datasets import open_dataset
from vfm_isbench.errors import RunError, UnknownNameError, VfmIsbenchWarning, WeightsError
from vfm_isbench.runs.measure import EvidenceOf, measure
from vfm_isbench.registry.plugins import plugin_origins
from vfm_isbench.probe import Probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.isegprobe import assemble_reference, is_reference, protocol_of, read_reference
from vfm_isbench.results import Result
from vfm_isbench.runs.run_folder import KeptEvidence, keep_evidence
from vfm_isbench.storage.hashing import weights_sha256
from vfm_isbench.acceleration.speed import Speed
from vfm_isbench.training import Checkpoint, load_checkpoint
from vfm_isbench.upsamplers import LoadOptions, Upsampler, identity_of, is_own, prepare_upsampler


@dataclass(frozen=True, eq=False)
class LoadedCheckpoint:
    """A trained probe read from a file.

    Attributes:
        probe: The network, in eval mode.
        protocol: What it was trained under, as far as the file tells.
        upsampler: What a result says about the upsampler.
        training: One record per epoch; empty where the file has none.
        notes: Remarks a reader of its numbers should see.
        plugins: Origins of the data sets of other packages that it was trained on.
        precision: What it was trained in, see :class:`vfm_isbench.Speed`.
    """

    probe: Probe
    protocol: Protocol
    upsampler: dict[str, Any]
    training: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    plugins: tuple[Mapping[str, Any], ...] = ()
    precision: str = "float32"


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
    load = _load_reference if is_reference(path) else _load_own
    return load(path, chosen, weights, load_options or LoadOptions(), choose_device(device))


def evaluate_checkpoint(
    path: str | Path,
    *,
    data_root: str | Path | None = None,
    datasets: str | Sequence[str] | None = None,
    limit: int | None = None,
    name: str | None = None,
    output: str | Path | None = None,
    speed: Speed | None = None,
    progress: bool = True,
    **loading: Any,
) -> Result:
    """Evaluate a trained checkpoint click by click.

    Args:
        path: The checkpoint, see :func:`load_trained`.
        data_root: Folder that holds the data sets' own folders.
        datasets: One or several test sets; by default those of the checkpoint's protocol.
        limit: Only the first objects of each set.
        name: What tables call the upsampler.
        output: Result file to write. Until it is complete, evidence is kept in ``OUTPUT.evidence`` beside it, and the
            same call goes on there.
        speed: How fast; see :class:`vfm_isbench.Speed`.
        progress: Show progress bars.
        loading: Passed on to :func:`load_trained`: ``upsampler``, ``backbone_weights``, ``load_options``, ``device``.

    Returns:
        The result, which is saved if ``output`` is given.
    """
    kept = None if output is None else _EvidenceFiles(Path(output))
    loaded = load_trained(path, **loading)
    changes: dict[str, Any] = {} if limit is None else {"object_limit": limit}
    if datasets is not None:
        changes["test_datasets"] = (datasets,) if isinstance(datasets, str) else tuple(datasets)
    protocol = loaded.protocol.replace(**changes)
    root = None if data_root is None else Path(data_root)
    opened = [open_dataset(dataset, "test", root, protocol) for dataset in protocol.test_datasets]
    result = measure(
        loaded.probe,
        protocol,
        opened,
        upsampler=loaded.upsampler if name is None else {**loaded.upsampler, "name": name},
        evidence_of=None if kept is None else kept.of(loaded, protocol, speed or Speed()),
        training=loaded.training,
        notes=loaded.notes,
        plugins=loaded.plugins,
        speed=speed,
        progress=progress,
    )
    if loaded.precision != "float32":
        result = dataclasses.replace(
            result,
            speed={"precision": loaded.precision, **result.speed},
            notes=(*result.notes, f"trained in {loaded.precision}, not in float32: not for the leaderboard"),
        )
    if kept is not None:
        result.save(kept.output)
        kept.remove()
    return result


class _EvidenceFiles:
    """Keeps evidence beside a result file until that is written.

    Raises:
        RunError: if the file cannot be written there.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self._folder = Path(f"{output}.evidence")
        self._files: list[Path] = []
        if output.is_dir():
            raise RunError(f"{output} is a folder; give the result file to write, such as {output / 'result.json'}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{self._folder} cannot be written: {error}; choose another output file") from error

    def of(self, loaded: LoadedCheckpoint, protocol: Protocol, speed: Speed) -> EvidenceOf:
        """Evidence of this checkpoint under this protocol; that of others stays beside it, untouched."""
        # Where a callable cannot be told from others of its name, nothing is taken over.
        upsampler = loaded.upsampler["sha256"] or uuid.uuid4().hex
        run = f"{weights_sha256(loaded.probe)} {upsampler} {protocol.fingerprint()}{speed.label()}"

        def evidence_of(dataset: str, content: str) -> KeptEvidence:
            key = hashlib.sha256(f"{run} {content}".encode()).hexdigest()
            self._files.append(self._folder / f"{dataset}-{key[:16]}.jsonl")
            return keep_evidence(self._files[-1], key)

        return evidence_of

    def remove(self) -> None:
        """Remove what was kept of this evaluation."""
        for file in self._files:
            file.unlink()
        if not any(self._folder.iterdir()):
            self._folder.rmdir()


def _load_reference(
    path: Path, upsampler: Upsampler | None, weights: Path | None, _options: LoadOptions, device: torch.device
) -> LoadedCheckpoint:
    reference = read_reference(path)
    protocol, notes = protocol_of(reference), []
    if upsampler is not None:
        upsampler, protocol, remarks = follow_protocol(upsampler, protocol)
        notes += [*remarks, f"evaluated with an upsampler handed in, instead of its own, {reference.model.upsampler!r}"]
    notes.append(f"trained elsewhere ({path.name}): the training fields of the protocol say nothing about it")
    probe = assemble_reference(reference, backbone_weights=weights, upsampler=upsampler)
    return _loaded(probe, protocol, device, notes)


def _load_own(
    path: Path, upsampler: Upsampler | None, weights: Path | None, options: LoadOptions, device: torch.device
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
    is_chosen = upsampler is not None
    upsampler = _named_upsampler(path, checkpoint, options) if upsampler is None else upsampler
    upsampler, protocol, remarks = follow_protocol(upsampler, protocol)
    notes = [*remarks, *_same_upsampler(path, checkpoint, upsampler, is_chosen)]
    if not checkpoint.is_complete:
        notes.append(f"trained for {len(checkpoint.history)} of {protocol.epochs} epochs")
    probe = build_probe(protocol, backbone, upsampler)
    plugins = _plugins_trained_with(checkpoint)
    notes += _same_plugins(plugins, plugin_origins(backbone, probe.click_encoder))
    for note in notes:
        warnings.warn(note, VfmIsbenchWarning, stacklevel=4)
    checkpoint.restore(probe.trainable())
    history = tuple(dataclasses.asdict(record) for record in checkpoint.history)
    of_data = tuple(one for one in plugins if one.get("kind") == "data set")
    precision = str(checkpoint.extra.get("precision", "float32"))
    loaded = _loaded(probe, protocol, device, notes)
    return dataclasses.replace(loaded, training=history, plugins=of_data, precision=precision)


def _plugins_trained_with(checkpoint: Checkpoint) -> list[Mapping[str, Any]]:
    """Origins of plugins that a checkpoint has on record; anybody may have written it, so their form is checked."""
    recorded = checkpoint.extra.get("plugins")
    keys = ("kind", "name", "package", "version")
    found = recorded if isinstance(recorded, list) else []
    return [one for one in found if isinstance(one, Mapping) and all(isinstance(one.get(key), str) for key in keys)]


def _same_plugins(then: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[str]:
    """Remarks on a backbone or click encoder of a plugin that is not of the package, version and code trained with."""
    before = {(one["kind"], one["name"]): one for one in then}
    notes = []
    for one in now:
        other = before.get((one["kind"], one["name"]))
        if other != one:
            trained = f"that of {other['package']} {other['version']}" if other else "another"
            is_same_code = other is not None and other.get("code_sha256") == one["code_sha256"]
            notes.append(
                f"evaluated with the {one['kind']} {one['name']!r} of {one['package']} {one['version']}, trained with "
                f"{trained}{'' if is_same_code else ', whose code differs'}"
            )
    return notes


def _loaded(probe: Probe, protocol: Protocol, device: torch.device, notes: Sequence[str]) -> LoadedCheckpoint:
    """Move the probe to its device and check its upsampler there."""
    probe.to(device).eval()
    contract = check_on_device(probe.upsampler, protocol, probe.backbone, device)
    upsampler = {**dataclasses.asdict(identity_of(probe.upsampler)), **dataclasses.asdict(contract)}
    return LoadedCheckpoint(probe, protocol, upsampler, (), (*notes, *contract.warnings))


def _named_upsampler(path: Path, checkpoint: Checkpoint, options: LoadOptions) -> Upsampler:
    """The upsampler a checkpoint names, if that is one of this library: no file says what code is to be run."""
    spec = str(checkpoint.upsampler.get("spec") or checkpoint.upsampler.get("name"))
    if not is_own(spec):
        raise RunError(
            f"{path} was trained with upsampler {spec!r}, which is none of this library; give it as upsampler=… "
            "(command line: --upsampler SPEC)"
        )
    try:
        return prepare_upsampler(spec, options)
    except (UnknownNameError, WeightsError) as error:
        raise RunError(
            f"{path} was trained with upsampler {spec!r}, which cannot be loaded here: {error}. Give its weights "
            "(command line: --upsampler-weights PATH), or the upsampler (--upsampler SPEC)"
        ) from error


def _same_upsampler(path: Path, checkpoint: Checkpoint, upsampler: Upsampler, is_chosen: bool) -> list[str]:
    """Remarks on an upsampler that is not, or cannot be told to be, the one trained with.

    Raises:
        RunError: if it is another one, and nobody asked for it.
    """
    now, then = identity_of(upsampler), checkpoint.upsampler
    if now.sha256 is None or then.get("sha256") is None:
        return [f"whether the upsampler is the one trained with, {then.get('name')!r}, cannot be told"]
    if now.sha256 == then["sha256"]:
        return []
    if not is_chosen:
        raise RunError(
            f"{path} was trained with an upsampler {then.get('name')!r} of other code or weights than the one of that "
            "name here. To evaluate it with this one all the same, name it as upsampler=… (command line: --upsampler "
            f"{now.name})"
        )
    return [f"evaluated with upsampler {now.name!r}, trained with another, {then.get('name')!r}"]
