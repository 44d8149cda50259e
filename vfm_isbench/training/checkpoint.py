"""Checkpoints: one safetensors file with the trained weights, the optimiser, and JSON in its header. Never pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vfm_isbench.errors import NonFiniteError, ProtocolError, RunError, WriteError
from vfm_isbench.probe.finite import non_finite
from vfm_isbench.protocol import Protocol
from vfm_isbench.storage import json_fields
from vfm_isbench.storage.hashing import tensors_sha256
from vfm_isbench.storage.strict_json import UnreadableError, parse_json
from vfm_isbench.storage.tensor_files import read_tensors, write_tensors
from vfm_isbench.training.averaging import UNAVERAGED
from vfm_isbench.training.records import EpochRecord
from vfm_isbench.training.unfinished import UNFINISHED, UnfinishedEpoch

FORMAT = "vfm_isbench-checkpoint-1"
_START_OVER = "Train again from the start: choose another output folder, or overwrite=True (command line: --overwrite)"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """State after some epochs, or inside one: enough to evaluate, and to continue as if nothing had interrupted it.

    Attributes:
        protocol: Protocol trained under.
        upsampler: Identity of the upsampler (name, kind, sha256), see :func:`vfm_isbench.upsamplers.identity_of`.
        history: One record per finished epoch.
        tensors: ``click_encoder.*``, ``head.*``, ``backbone.*`` and ``upsampler.*`` if the protocol trains them, and
            the optimiser's ``optimizer.*``. If the protocol averages weights, all but the optimiser's are averages, and
            ``unaveraged.*`` are the weights that training continues from. Inside an epoch, ``epoch.*`` say how far it
            has come.
        extra: Further JSON values, such as the hash of the backbone's weights.
    """

    protocol: Protocol
    upsampler: Mapping[str, Any]
    history: tuple[EpochRecord, ...]
    tensors: Mapping[str, Tensor]
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether all epochs of the protocol are done."""
        return len(self.history) >= self.protocol.epochs

    @property
    def unfinished(self) -> UnfinishedEpoch | None:
        """The epoch that was under way; None after a finished one."""
        return UnfinishedEpoch.of(self.tensors)

    def restore(self, trainable: nn.Module, optimizer: torch.optim.Adam | None = None) -> None:
        """Restore what was trained as it is evaluated, and the optimiser if it is given.

        Raises:
            RunError: if the tensors do not fit the modules.
        """
        others = ("optimizer.", UNAVERAGED, UNFINISHED)
        weights = {key: value for key, value in self.tensors.items() if not key.startswith(others)}
        try:
            trainable.load_state_dict(weights)
        except RuntimeError as error:
            parts = ", ".join(name.replace("_", " ") for name, _ in trainable.named_children())
            parts = " and ".join(parts.rsplit(", ", 1))
            raise RunError(f"the checkpoint does not fit {parts}: {error}") from error
        if optimizer is None:
            return
        state = optimizer.state_dict()
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        state["state"] = _moments(self.tensors, parameters)
        optimizer.load_state_dict(state)


def capture(trainable: nn.Module, optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """Tensors of a checkpoint: copies on the CPU, which further training does not change.

    Parameters that never got a gradient have no state in the optimiser, and none in the checkpoint.
    """
    tensors = dict(trainable.state_dict())
    for index, moments in optimizer.state_dict()["state"].items():
        for moment in _MOMENTS:
            tensors[f"optimizer.{index}.{moment}"] = torch.as_tensor(moments[moment])
    return {
        key: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for key, value in tensors.items()
    }


def _moments(tensors: Mapping[str, Tensor], parameters: Sequence[Tensor]) -> dict[int, dict[str, Tensor]]:
    """The optimiser's state by parameter; parameters that never got a gradient (frozen, unused) have none.

    Raises:
        RunError: if there is a state that fits no parameter.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for key in tensors:
        if key.startswith("optimizer."):
            number, _, moment = key.removeprefix("optimizer.").partition(".")
            index = int(number) if re.fullmatch("[0-9]{1,9}", number) else len(parameters)  # which fits nothing
            state.setdefault(index, {})[moment] = tensors[key].clone()
    for index, moments in state.items():
        shape = parameters[index].shape if index < len(parameters) else None
        is_whole = set(moments) == set(_MOMENTS) and moments["step"].numel() == 1
        if not is_whole or any(moments[name].shape != shape for name in _MOMENTS[1:]):
            raise RunError(
                f"the checkpoint's state of the optimiser does not fit parameter {index} of click encoder and head; "
                "it is damaged, or belongs to another version of the click encoder: train again, with --overwrite"
            )
        for name in _MOMENTS[1:]:  # fused optimisers go through memory in order, so it must be the parameter's
            moments[name] = torch.empty_like(parameters[index]).copy_(moments[name])
    return state


def _epoch_record(content: Mapping[str, Any]) -> EpochRecord:
    """A record of a header.

    Raises:
        UnreadableError: if a field is missing or has the wrong type.
    """
    return EpochRecord(
        epoch=json_fields.whole(content, "epoch"),
        loss=json_fields.number(content, "loss"),
        iou=json_fields.number(content, "iou"),
        validation_iou=json_fields.optional_number(content, "validation_iou"),
        seconds=json_fields.number(content, "seconds"),
    )


def _with_texts(header: Mapping[str, Any], key: str, *texts: str) -> Mapping[str, Any]:
    """An object of a header, in which these fields are texts, null or missing.

    Raises:
        UnreadableError: if it is anything else.
    """
    found = json_fields.mapping(header, key)
    for name in texts:
        json_fields.optional_text(found, name, f"{key}.")
    return found


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Check the tensors of a checkpoint.

    Raises:
        NonFiniteError: if any of them holds NaN or infinity, so that nothing could be continued from it.
    """
    bad = non_finite(tensors)
    if bad:
        raise NonFiniteError(
            f"{len(bad)} of {len(tensors)} tensors of click encoder, head and optimiser hold NaN or infinite values "
            f"after this step, among them {bad[0]!r}: look for NaN, overflow and exploding gradients in the upsampler"
        )


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a crash leaves either the old file or the new one.

    Raises:
        NonFiniteError: if a tensor holds NaN or infinity; nothing is written then.
        WriteError: if the file cannot be written; the old file stays.
    """
    check_finite(checkpoint.tensors)
    header = {
        "format": FORMAT,
        "protocol": checkpoint.protocol.to_dict(),
        "upsampler": dict(checkpoint.upsampler),
        "history": [dataclasses.asdict(record) for record in checkpoint.history],
        "extra": dict(checkpoint.extra),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(header)
        write_tensors(path, checkpoint.tensors, {"vfm_isbench": text, "check": _check(text, checkpoint.tensors)})
    except OSError as error:
        raise WriteError(
            f"the checkpoint {path} cannot be written: {error.strerror or error}. Free some space there, or allow "
            "writing there"
        ) from error


def _check(header: str, tensors: Mapping[str, Tensor]) -> str:
    """Shows that header and tensors are as they were written."""
    return hashlib.sha256(f"{header}\n{tensors_sha256(tensors)}".encode()).hexdigest()


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint written by :func:`save_checkpoint`.

    Raises:
        RunError: if there is no such file, it is not a checkpoint of this library, or it holds NaN or infinity.
    """
    if not path.is_file():
        raise RunError(f"no checkpoint at {path}")
    try:
        tensors, metadata = read_tensors(path)
        header = parse_json(metadata.get("vfm_isbench", "null"))
    except (UnreadableError, OSError) as error:
        raise RunError(f"{path} could not be read as a checkpoint: it {error}. {_START_OVER}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise RunError(f"{path} is not a checkpoint of this library (expected the format {FORMAT} in its metadata)")
    bad = non_finite(tensors)
    if bad:
        raise RunError(
            f"{path} is useless: {len(bad)} of its {len(tensors)} tensors hold NaN or infinite values, among them "
            f"{bad[0]!r}. {_START_OVER}"
        )
    # Checkpoints of version 0.4 and before have no check.
    if metadata.get("check") not in (None, _check(metadata["vfm_isbench"], tensors)):
        raise RunError(f"{path} is damaged: its content does not match its check. {_START_OVER}")
    try:
        return Checkpoint(
            protocol=Protocol.from_dict(json_fields.mapping(header, "protocol")),
            upsampler=_with_texts(header, "upsampler", "name", "spec", "sha256"),
            history=tuple(_epoch_record(record) for record in json_fields.mappings(header, "history")),
            tensors=tensors,
            extra=_with_texts(header, "extra", "backbone_sha256"),
        )
    except (UnreadableError, ProtocolError) as error:
        raise RunError(f"{path} has a broken header, or a header of another version: {error}") from error
