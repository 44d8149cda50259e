"""Where weights come from: a local file, a folder for offline use, or the Hugging Face hub with its cache."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file
from torch import Tensor

from vfm_isbench.errors import WeightsError
from vfm_isbench.storage.inert_pickle import Placeholder, read_torch_file

_WRAPPERS = ("state_dict", "model", "teacher")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict from ``.safetensors``, or from a PyTorch file without running anything stored in it.

    Objects of foreign classes may stand beside the state dict, as the hyper-parameters in a Lightning file; they are
    read as inert placeholders, see :mod:`vfm_isbench.storage.inert_pickle`.

    Raises:
        WeightsError: if the file is missing, broken, or its state dict holds anything but tensors.
    """
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}; give the path of a .safetensors, .pth or .bin file")
    try:
        if path.suffix == ".safetensors":
            tensors: dict[str, Tensor] = load_file(path)
            return tensors
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:  # foreign objects; PyTorch refuses the whole file
            content = read_torch_file(path)
    except WeightsError:
        raise
    except Exception as error:  # broken files make torch and safetensors raise errors of many kinds
        raise WeightsError(f"{path} could not be read as weights: {error}") from error
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise WeightsError(
            f"{path} holds no state dict: expected a mapping of names to tensors, got {_kind_of(content)}"
        )
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise WeightsError(f"{path} holds no state dict: expected only tensors, but {key!r} is {_kind_of(value)}")
    return {str(key): value for key, value in content.items()}


def _kind_of(value: object) -> str:
    return f"an object of {value.path}" if isinstance(value, Placeholder) else f"of type {type(value).__name__}"


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
    no_network = is_hub_out_of_reach()
    for repository, file_name in hub:
        try:
            return Path(hf_hub_download(repository, file_name, local_files_only=no_network))
        except LocalEntryNotFoundError as error:
            if not no_network:
                failures.append(f"{repository}/{file_name}: {str(error).splitlines()[0][:160]}")
        except Exception as error:  # the hub's client raises its own errors and those of its transport alike
            failures.append(f"{repository}/{file_name}: {type(error).__name__}: {str(error).splitlines()[0][:160]}")
    if no_network:
        failures.insert(0, f"its address {constants.ENDPOINT} is not known here, and its cache does not hold them")
    pages = " or ".join(dict.fromkeys(f"{constants.ENDPOINT}/{repository}" for repository, _ in hub))
    raise WeightsError(
        f"the weights of {name!r} could not be fetched from the Hugging Face hub ({'; '.join(failures)}). "
        f"Without a hub, download one of {', '.join(file_names)} elsewhere, from {pages}, and give the file, or a "
        f"folder that holds it, as {option}; or fill the hub's cache and set HF_HOME."
    )


def is_hub_out_of_reach() -> bool:
    """Whether the Hugging Face hub has no address here, as without a network.

    The hub's client would try again for half a minute before it looks into its own cache.
    """
    if getproxies():  # a proxy looks addresses up itself
        return False
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, None)
    except OSError:
        return True
    return False
