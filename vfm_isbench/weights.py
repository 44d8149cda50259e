"""Where weights come from: a local file, a folder for offline use, or the Hugging Face hub with its cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vfm_isbench.errors import WeightsError

_WRAPPERS = ("state_dict", "model", "teacher")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read tensors from ``.safetensors``, or from a PyTorch file without running anything stored in it.

    Raises:
        WeightsError: if the file is missing, broken, or holds anything but tensors.
    """
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}; give the path of a .safetensors, .pth or .bin file")
    try:
        if path.suffix == ".safetensors":
            tensors: dict[str, Tensor] = load_file(path)
            return tensors
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise WeightsError(f"{path} could not be read as weights: {error}") from error
    except Exception as error:  # torch raises pickle errors of several kinds for foreign objects
        raise WeightsError(
            f"{path} could not be read with weights_only=True, the only way this library opens pickles: {error}. "
            "Convert it to safetensors in a place where you trust it."
        ) from error
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(
            f"{path} holds no state dict: expected a mapping of names to tensors, got {type(content).__name__}"
        )
    return {str(key): value for key, value in content.items()}


def find_weights(
    name: str,
    weights: Path | None,
    file_names: Sequence[str],
    hub: Sequence[tuple[str, str]],
    option: str = "backbone_weights=… (command line: --backbone-weights)",
) -> Path:
    """Locate the weights of a backbone or an upsampler.

    Args:
        name: What they belong to, for messages.
        weights: A file (taken as it is), a folder (searched for ``file_names``), or None for the hub.
        file_names: Names the file may have in a folder.
        hub: (repository, file) on the Hugging Face hub, tried in order; its cache is used when offline.
        option: How a user gives ``weights``, for messages.

    Raises:
        WeightsError: if nothing is found; the message says how to go on without a hub.
    """
    if weights is not None and weights.is_dir():
        for file_name in file_names:
            if (weights / file_name).is_file():
                return weights / file_name
        raise WeightsError(f"no weights of {name!r} in the folder {weights}; expected one of {', '.join(file_names)}")
    if weights is not None:
        if not weights.is_file():
            raise WeightsError(f"no weights of {name!r} at {weights}: there is neither a file nor a folder")
        return weights
    failures = []
    for repository, file_name in hub:
        try:
            return Path(hf_hub_download(repository, file_name))
        except Exception as error:  # the hub's client raises its own errors and those of its transport alike
            failures.append(f"{repository}/{file_name}: {type(error).__name__}: {str(error).splitlines()[0][:160]}")
    raise WeightsError(
        f"the weights of {name!r} could not be fetched from the Hugging Face hub ({'; '.join(failures)}). "
        f"Without a hub, download one of {', '.join(file_names)} elsewhere and give the file, or a folder that holds "
        "it, as backbone_weights=… (command line: --backbone-weights); or fill the hub's cache and set HF_HOME."
    )
