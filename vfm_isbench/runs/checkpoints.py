"""Evaluates what is already trained: checkpoints of this library, and those of the reference implementation."""

from __future__ import annotations

import dataclasses
import hashlib
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vfm_isbench.acceleration.speed import RunOptions, Speed
from vfm_isbench.backbones import input_normalisation, load_backbone
from vfm_isbench.datasets.own_names import as_recorded, file_stem
from vfm_isbench.errors import RunError, UnknownNameError, VfmIsbenchWarning, WeightsError
from vfm_isbench.isegprobe import assemble_reference, is_reference, protocol_of, read_reference
from vfm_isbench.probe import Probe, build_probe
from vfm_isbench.probe.preparation import check_and_identify, choose_device, follow_protocol
from vfm_isbench.probe.torch_state import benchmark_settings, current_device, settings_restored
from vfm_isbench.progress import stopped_in_order
from vfm_isbench.protocol import Protocol
from vfm_isbench.registry.plugins import plugin_origins
from vfm_isbench.results import Result
from vfm_isbench.runs.changes import changed_in_evaluation, with_people
from vfm_isbench.runs.evidence_store import EvidenceStore
from vfm_isbench.runs.measure import measure, save_result
from vfm_isbench.runs.needs import open_tests
from vfm_isbench.runs.options import LoadingOptions, check_random
from vfm_isbench.runs.room import check_room_for_evaluation
from vfm_isbench.runs.sole_use import sole_use, sole_writer
from vfm_isbench.runs.trained import TrainedProbe
from vfm_isbench.storage.atomic import remove_left_over
from vfm_isbench.storage.hashing import weights_sha256
from vfm_isbench.storage.printable import printable
from vfm_isbench.training import Checkpoint, load_checkpoint
from vfm_isbench.upsamplers import (
    LoadedUpsampler,
    LoadOptions,
    Upsampler,
    UpsamplerIdentity,
    is_own,
    is_unchanged_here,
    load_upsampler,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

_LEAVE_OUT = "leave out random_weights=True (command line: --random-weights)"


@benchmark_settings()
def load_trained(
    path: str | Path,
    *,
    upsampler: Upsampler | str | None = None,
    backbone_weights: str | Path | None = None,
    load_options: LoadOptions | None = None,
    device: str | torch.device = "auto",
    random_weights: bool = False,
) -> TrainedProbe:
    """Read a checkpoint and assemble its probe.

    Args:
        path: ``checkpoint.safetensors`` of a run, or the run's folder; or a checkpoint trained with iSegProbe, as
            ``.pth`` or with its contents as safetensors.
        upsampler: The upsampler to use instead of the one that the checkpoint names or holds.
        backbone_weights: File or folder with the backbone's weights; None for those in the file, else the hub.
        load_options: How an upsampler given by name may be loaded.
        device: "auto" or any PyTorch device.
        random_weights: Whether the probe was trained on a backbone with random weights, in a dry run.

    Raises:
        RunError, WeightsError, UnknownNameError, ContractError: if the file cannot be read, or a part is missing and
            cannot be found.
    """
    path = Path(path)
    path = path / "checkpoint.safetensors" if path.is_dir() else path
    weights = None if backbone_weights is None else Path(backbone_weights)
    check_random(random_weights, weights)
    where = choose_device(device)
    with current_device(where):
        with settings_restored():  # importing an upsampler's code may run anything
            chosen = None if upsampler is None else load_upsampler(upsampler, load_options)
        if not is_reference(path):
            return _load_own(path, chosen, weights, load_options or LoadOptions(), where, random_weights)
        if random_weights:
            raise RunError(f"{path} is a checkpoint of iSegProbe, whose backbone is pretrained: {_LEAVE_OUT}")
        return _load_reference(path, chosen, weights, where)


def evaluate_checkpoint(
    path: str | Path,
    *,
    data_root: str | Path | None = None,
    datasets: str | Sequence[str] | None = None,
    limit: int | None = None,
    granularity: float | None = None,
    name: str | None = None,
    output: str | Path | None = None,
    speed: Speed | None = None,
    progress: bool = True,
    boundary_iou: bool = False,
    clicker: str | None = None,
    fields: Mapping[str, Any] | None = None,
    **loading: Unpack[LoadingOptions],
) -> Result:
    """Evaluate a trained checkpoint click by click.

    Args:
        path: The checkpoint, see :func:`load_trained`.
        data_root: Folder that holds the data sets' own folders.
        datasets: One or several test sets; by default those of the checkpoint's protocol.
        limit: Only the first objects of each set.
        granularity: The granularity that every object is evaluated with; None for the protocol's.
        name: Name of the upsampler in tables.
        output: Result file to write. Until it is complete, evidence is kept in ``OUTPUT.evidence`` beside it, and the
            same call continues from there.
        speed: How fast; see :class:`vfm_isbench.Speed`.
        progress: Show progress bars.
        boundary_iou: Measure boundary IoU after every click, too.
        clicker: Another click pattern than the protocol's, such as "random"; "realistic:FILE" reads people's clicks.
        fields: Other values for fields of the protocol that training does not read, such as ``{"flip_test": False}``.
        loading: Passed on to :func:`load_trained`: ``upsampler``, ``backbone_weights``, ``load_options``, ``device``,
            ``random_weights``.

    Returns:
        The result, which is saved if ``output`` is given.

    Raises:
        ProtocolError: if a field cannot be changed, or not to that value.
        RunError: if another evaluation is writing ``output``, or ``output`` is the result of a run that is under way.
        RunError, WeightsError, UnknownNameError, ContractError: see :func:`load_trained`.
    """
    kept = None if output is None else _EvidenceFiles(Path(output))
    options = RunOptions(speed=speed or Speed(), progress=progress, boundary_iou=boundary_iou)
    says = "nothing was kept, because there is no output" if kept is None else "the same call continues the evaluation"
    with ExitStack() as stack:
        if kept is not None:
            stack.enter_context(kept.in_use(options.speed))
        trained = load_trained(path, **loading)
        asked_for = {**(fields or {}), **({} if clicker is None else {"clicker": clicker})}
        changes: dict[str, Any] = {} if limit is None else {"object_limit": limit}
        if granularity is not None:
            changes["granularity_at_test"] = granularity
        if datasets is not None:
            changes["test_datasets"] = (datasets,) if isinstance(datasets, str) else tuple(datasets)
        protocol, people = with_people(changed_in_evaluation(trained.protocol, asked_for).replace(**changes))
        trained = dataclasses.replace(trained, protocol=as_recorded(protocol))
        root = None if data_root is None else Path(data_root)
        tests = open_tests(protocol, root)
        if kept is not None:
            check_room_for_evaluation(kept.output, kept.folder, protocol, tests, boundary_iou=boundary_iou)
        stack.enter_context(stopped_in_order(options.stop, says))
        result = measure(
            trained.named(name),
            tests,
            store_of=None if kept is None else lambda dataset: kept.store(dataset, trained, options.speed),
            options=options,
            people=people,
        )
        if kept is not None:
            save_result(result, kept.output, kept.folder)
            kept.remove()
        return result


class _EvidenceFiles:
    """Keeps evidence beside a result file until that is written.

    Raises:
        RunError: if the file cannot be written there.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = Path(f"{output}.evidence")
        self._files: list[Path] = []
        # Without a fingerprint, a callable may be another one of the same name: its evidence is never reused.
        self._unique = uuid.uuid4().hex
        if output.is_dir():
            raise RunError(f"{output} is a folder; give the result file to write, such as {output / 'result.json'}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_left_over(self.folder)
            remove_left_over(output.parent, f"{output.name}.")
        except OSError as error:
            raise RunError(f"{self.folder} cannot be written: {error}; choose another output file") from error

    @contextmanager
    def in_use(self, speed: Speed) -> Iterator[None]:
        """Keep others from writing the same files; of a run, if the file is what the run itself would write."""
        folder = self.output.parent
        is_of_run = self.output.name == f"result{speed.label()}.json" and (folder / "run.json").is_file()
        with sole_use(folder if is_of_run else None), sole_writer(self.output):
            yield

    def store(self, dataset: str, trained: TrainedProbe, speed: Speed) -> EvidenceStore:
        """Evidence of this checkpoint under its protocol; that of others stays beside it, untouched."""
        upsampler = trained.upsampler.sha256 or self._unique
        run = f"{weights_sha256(trained.probe)} {upsampler} {trained.protocol.fingerprint()}{speed.label()}"
        key = hashlib.sha256(run.encode()).hexdigest()
        self._files.append(self.folder / f"{file_stem(dataset)}-{key[:16]}.jsonl")
        return EvidenceStore(self._files[-1], key)

    def remove(self) -> None:
        """Remove the evidence of this evaluation."""
        for file in self._files:
            file.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()


def _load_reference(
    path: Path, upsampler: LoadedUpsampler | None, weights: Path | None, device: torch.device
) -> TrainedProbe:
    reference = read_reference(path)
    protocol, notes = protocol_of(reference), []
    if upsampler is not None:
        upsampler, protocol, remarks = follow_protocol(upsampler, protocol)
        notes += [*remarks, f"evaluated with another upsampler than its own, {reference.model.upsampler!r}"]
    notes.append(f"trained elsewhere ({path.name}): the training fields of the protocol say nothing about it")
    probe = assemble_reference(reference, backbone_weights=weights, upsampler=upsampler)
    return _on_device(probe, protocol, device, notes)


def _load_own(
    path: Path,
    upsampler: LoadedUpsampler | None,
    weights: Path | None,
    options: LoadOptions,
    device: torch.device,
    random_weights: bool,
) -> TrainedProbe:
    checkpoint = load_checkpoint(path)
    protocol = checkpoint.protocol
    if random_weights != (checkpoint.extra.get("random_weights") is True):
        advice = _LEAVE_OUT if random_weights else "give random_weights=True (command line: --random-weights)"
        what = "pretrained" if random_weights else "random"
        raise RunError(f"{path} was trained on a backbone with {what} weights: {advice}")
    backbone = load_backbone(
        protocol.backbone,
        protocol.image_size,
        position_embedding=protocol.position_embedding,
        weights=weights,
        pretrained=not random_weights,
    )
    trained_on = checkpoint.extra.get("backbone_sha256")
    if trained_on is not None and weights_sha256(backbone) != trained_on:
        raise WeightsError(
            f"the weights found for backbone {protocol.backbone!r} are not those {path} was trained on (SHA-256 "
            f"{trained_on[:12]}…); give the right ones as backbone_weights=… (command line: --backbone-weights)"
        )
    normalised, now = checkpoint.extra.get("backbone_input"), input_normalisation(backbone)
    if normalised is not None and normalised != now:
        raise WeightsError(
            f"{path} was trained on a backbone {protocol.backbone!r} whose input was normalised with "
            f"{printable(str(normalised), 200)}, but the one found here has {now}; give its own files as "
            "backbone_weights=… (command line: --backbone-weights), or name the commit, as in hf-hub:OWNER/NAME@COMMIT"
        )
    is_chosen = upsampler is not None
    upsampler = _named_upsampler(path, checkpoint, options) if upsampler is None else upsampler
    upsampler, protocol, remarks = follow_protocol(upsampler, protocol)
    probe = build_probe(protocol, backbone, upsampler)
    trained = _on_device(probe, protocol, device, ())
    notes = [*remarks, *_upsampler_notes(path, checkpoint, trained.upsampler, is_chosen)]
    called = checkpoint.upsampler.get("name")
    if not is_chosen and isinstance(called, str):  # as the user called it in the run
        trained = trained.named(called)
    if not checkpoint.is_complete:
        steps = f", and up to step {checkpoint.unfinished.steps} of the next" if checkpoint.unfinished else ""
        notes.append(f"trained for {len(checkpoint.history)} of {protocol.epochs} epochs{steps}")
    plugins = _recorded_plugins(checkpoint)
    notes += _plugin_notes(plugins, plugin_origins(backbone, probe.click_encoder))
    for note in notes:
        warnings.warn(note, VfmIsbenchWarning, stacklevel=4)
    checkpoint.restore(probe.trainable())
    return dataclasses.replace(
        trained,
        notes=tuple(notes),
        history=checkpoint.history,
        plugins=tuple(plugin for plugin in plugins if plugin.get("kind") == "data set"),
        precision=str(checkpoint.extra.get("precision", "float32")),
        trained_with=_trained_with(checkpoint, trained.upsampler),
    )


def _on_device(probe: Probe, protocol: Protocol, device: torch.device, notes: Sequence[str]) -> TrainedProbe:
    """Move the probe to its device and check its upsampler there."""
    probe.to(device).eval()
    frozen = protocol.replace(train_upsampler=False, train_backbone=False)  # nothing is trained from here on
    checked = check_and_identify(probe.upsampler, frozen, probe.backbone, device)
    return TrainedProbe(
        probe=probe,
        protocol=protocol,
        upsampler=checked.identity,
        contract=checked.contract,
        behaviour=checked.behaviour,
        notes=tuple(notes),
    )


def _recorded_plugins(checkpoint: Checkpoint) -> list[Mapping[str, Any]]:
    """Plugins that a checkpoint has on record; the file may be anybody's, so their form is checked."""
    recorded = checkpoint.extra.get("plugins")
    keys = ("kind", "name", "package", "version")
    found = recorded if isinstance(recorded, list) else []
    return [
        plugin
        for plugin in found
        if isinstance(plugin, Mapping) and all(isinstance(plugin.get(key), str) for key in keys)
    ]


def _plugin_notes(then: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[str]:
    """Notes on a plugin's backbone or click encoder whose package, version or code differs from the training."""
    before = {(plugin["kind"], plugin["name"]): plugin for plugin in then}
    notes = []
    for plugin in now:
        other = before.get((plugin["kind"], plugin["name"]))
        if other != plugin:
            trained = f"that of {other['package']} {other['version']}" if other else "another"
            is_same_code = other is not None and other.get("code_sha256") == plugin["code_sha256"]
            notes.append(
                f"evaluated with the {plugin['kind']} {plugin['name']!r} of {plugin['package']} {plugin['version']}, "
                f"trained with {trained}{'' if is_same_code else ', whose code differs'}"
            )
    return notes


def _named_upsampler(path: Path, checkpoint: Checkpoint, options: LoadOptions) -> LoadedUpsampler:
    """The upsampler a checkpoint names, if it is one of this library: a file must not choose which code runs."""
    spec = str(checkpoint.upsampler.get("spec") or checkpoint.upsampler.get("name"))
    if not is_own(spec) and not is_unchanged_here(checkpoint.upsampler):
        raise RunError(
            f"{path} was trained with upsampler {spec!r}, which is not part of this library, and no file below the "
            "current folder is unchanged since; give it as upsampler=… (command line: --upsampler SPEC)"
        )
    try:
        return load_upsampler(spec, options)
    except (UnknownNameError, WeightsError) as error:
        raise RunError(
            f"{path} was trained with upsampler {spec!r}, which cannot be loaded here: {error}. Give its weights "
            "(command line: --upsampler-weights PATH), or the upsampler (--upsampler SPEC)"
        ) from error


def _upsampler_notes(path: Path, checkpoint: Checkpoint, now: UpsamplerIdentity, is_chosen: bool) -> list[str]:
    """Notes on an upsampler that differs, or may differ, from the one in training.

    Raises:
        RunError: if it differs, and the user did not ask for it.
    """
    then = checkpoint.upsampler
    if now.sha256 is None or then.get("sha256") is None:
        return [f"the upsampler may differ from the one trained with, {then.get('name')!r}: it has no fingerprint"]
    if now.sha256 == then["sha256"]:
        return []
    if is_chosen and checkpoint.protocol.train_upsampler:
        raise RunError(
            f"{path} holds the weights of its own upsampler, {then.get('name')!r}, which was trained with the probe "
            f"(train_upsampler), so {now.name!r} cannot take its place: leave out upsampler=… (command line: "
            "--upsampler), or give the one that the training started from"
        )
    if not is_chosen:
        raise RunError(
            f"{path} was trained with an upsampler {then.get('name')!r} whose code or weights differ from the one of "
            "that name here. To evaluate it with this one anyway, name it as upsampler=… (command line: --upsampler "
            f"{now.name})"
        )
    if now.name == then.get("name"):
        return [
            f"evaluated with another version of upsampler {now.name!r} ({now.sha256[:12]}…) than it was trained with "
            f"({str(then['sha256'])[:12]}…)"
        ]
    return [f"evaluated with upsampler {now.name!r}, trained with another, {then.get('name')!r}"]


def _trained_with(checkpoint: Checkpoint, now: UpsamplerIdentity) -> Mapping[str, Any] | None:
    then = checkpoint.upsampler
    if now.sha256 == then.get("sha256") and now.sha256 is not None:
        return None
    return {"name": then.get("name"), "sha256": then.get("sha256")}
