"""Read checkpoints of iSegProbe: its ``.pth`` files, or safetensors with the architecture in the header."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from vfm_isbench.errors import RunError, WeightsError
from vfm_isbench.isegprobe.config import ReferenceModel, model_of_description, model_of_parameters
from vfm_isbench.isegprobe.sections import Section
from vfm_isbench.protocol import Protocol
from vfm_isbench.storage.inert_pickle import read_torch_file
from vfm_isbench.storage.strict_json import SMALL, UnreadableError, parse_json
from vfm_isbench.storage.weights import read_state_dict
from vfm_isbench.upsamplers.published.checkpoint_keys import some_keys, without_module_prefix

MODEL_CLASS = "core.model.iseg_probe_model.iSegProbeModel"
OWN_NOTES = "vfm_isbench"
"""Key next to ``class`` and ``params`` where our export stores what iSegProbe has no field for."""

PREFIXES = {
    "click_encoder": "embed_coords.",
    "head": "head.",
    "backbone": "backbone.model.",
    "upsampler": "upsampler.",
}
"""The prefix of each part's tensor keys."""


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceCheckpoint:
    """A model trained with iSegProbe.

    Attributes:
        source: The file.
        model: Its architecture.
        tensors: The tensors of ``click_encoder``, ``head``, ``backbone`` and ``upsampler``, by key without the part's
            prefix. The last two are empty if the file omits the frozen parts, as most files do.
    """

    source: Path
    model: ReferenceModel
    tensors: Mapping[str, Mapping[str, Tensor]]


def is_reference(path: Path) -> bool:
    """Whether a file counts as a checkpoint of iSegProbe rather than one of this library.

    All files but safetensors do; a safetensors file does if its header has the key ``config``.
    """
    return path.suffix != ".safetensors" or (path.is_file() and "config" in _metadata(path))


def read_reference(path: Path) -> ReferenceCheckpoint:
    """Read a checkpoint of iSegProbe without importing or running anything it names.

    Args:
        path: A ``.pth`` file as iSegProbe saves it, {"state_dict", "config"}, or safetensors with the architecture as
            JSON under the metadata key ``config``.

    Raises:
        RunError: if it is another kind of file, or a field asks for something this library lacks; the message names
            the field.
        WeightsError: if the file is missing or broken, or contains tensors of unknown parts.

    Source: repository havrylovv/iSegProbe, core/utils/serialization.py and core/utils/misc.py.
    """
    if path.suffix == ".safetensors":
        tensors: Any = read_state_dict(path)
        return ReferenceCheckpoint(path, _described(path, _metadata(path)), _by_part(tensors, path))
    content = read_torch_file(path)
    if not isinstance(content, dict) or not {"state_dict", "config"} <= content.keys():
        raise RunError(f"{path} is not a checkpoint of iSegProbe: expected a dictionary with state_dict and config")
    return ReferenceCheckpoint(path, _configured(path, content["config"]), _by_part(content["state_dict"], path))


def read_backbone(path: Path) -> tuple[dict[str, Tensor], int | None]:
    """Read a backbone's tensors from a file with only the backbone, or from a whole model in iSegProbe's layout.

    Returns:
        The tensors by key without prefix, and the number of attention heads if the model's architecture gives it.
    """
    state = without_module_prefix(read_state_dict(path))
    prefix = PREFIXES["backbone"]
    below = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if not below:
        return state, None
    if path.suffix == ".safetensors":
        return below, _described(path, _metadata(path)).backbone_heads if "config" in _metadata(path) else None
    config = read_torch_file(path).get("config")
    return below, None if config is None else _configured(path, config).backbone_heads


def protocol_of(checkpoint: ReferenceCheckpoint) -> Protocol:
    """The protocol a checkpoint was trained with: "reference", with the fields that its architecture determines."""
    return checkpoint.model.protocol()


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} could not be read as safetensors: {error}") from error


def _described(path: Path, metadata: Mapping[str, str]) -> ReferenceModel:
    try:
        description = parse_json(metadata.get("config", "null"), SMALL)
    except UnreadableError as error:
        raise RunError(f"{path}: the metadata key config {error}") from error
    if not isinstance(description, dict):
        raise RunError(
            f"{path} is not a model of iSegProbe: expected its architecture as JSON under the metadata key config"
        )
    return model_of_description(description, path)


def _configured(path: Path, config: Any) -> ReferenceModel:
    top = Section(path, config, "config")
    top.expect("class", MODEL_CLASS, default=None)
    entries = top.value("params")
    if not isinstance(entries, dict):
        raise top.refusal("params", "a dictionary of the model's parameters")
    values = {name: Section(path, entry, f"config.params.{name}").value("value") for name, entry in entries.items()}
    model = model_of_parameters(values, path)
    if top.value(OWN_NOTES) is None:
        return model
    return dataclasses.replace(model, backbone_heads=top.section(OWN_NOTES).whole("backbone_heads"))


def _by_part(tensors: Any, path: Path) -> dict[str, dict[str, Tensor]]:
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise WeightsError(f"{path}: its state_dict contains something other than named tensors")
    tensors = without_module_prefix({str(key): value for key, value in tensors.items()})
    unknown = [key for key in tensors if not key.startswith(tuple(PREFIXES.values()))]
    if unknown:
        raise WeightsError(
            f"{path} contains tensors of unknown parts: {some_keys(unknown)}. Known prefixes are "
            f"{', '.join(PREFIXES.values())}"
        )
    return {
        part: {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        for part, prefix in PREFIXES.items()
    }
