"""Finds and reads weights: from a local file, a folder for offline use, or the Hugging Face hub with its cache."""

from __future__ import annotations

import pickle  # nosec B403 # for the name of an error; nothing is unpickled with it
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file
from torch import Tensor

from vfm_isbench.errors import WeightsError
from vfm_isbench.storage.connection import is_out_of_reach
from vfm_isbench.storage.inert_pickle import Placeholder, read_torch_file
from vfm_isbench.storage.no_downloads import are_downloads_forbidden

_WRAPPERS = ("state_dict", "model", "teacher")


def read_state_dict(path: Path, part: str | None = None) -> dict[str, Tensor]:
    """Read a state dict from ``.safetensors``, or from a PyTorch file without running anything stored in it.

    The file may also hold objects of foreign classes, such as the hyper-parameters in a Lightning file; they become
    inert placeholders, see :mod:`vfm_isbench.storage.inert_pickle`.

    Args:
        path: The file.
        part: Entry of a PyTorch file that holds the state dict, besides the usual names.

    Raises:
        WeightsError: if the file is missing or broken, lacks that entry, or its state dict holds anything but tensors.
    """
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}; give the path of a .safetensors, .pth or .bin file")
    try:
        if path.suffix == ".safetensors":
            tensors: dict[str, Tensor] = load_file(path)
            if part is not None:
                raise WeightsError(f"{path} has no entry {part!r}: a safetensors file holds tensors only")
            return tensors
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:  # foreign objects, because of which PyTorch refuses the whole file
            content = read_torch_file(path)
    except WeightsError:
        raise
    except Exception as error:  # torch and safetensors raise many kinds of errors for broken files
        raise WeightsError(f"{path} could not be read as weights: {error}") from error
    if part is not None:
        if not isinstance(content, Mapping) or part not in content:
            names = ", ".join(map(str, content))[:300] if isinstance(content, Mapping) else _kind_of(content)
            raise WeightsError(f"{path} has no entry {part!r}; it holds {names}")
        content = content[part]
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise WeightsError(
            f"{path} holds no state dict: expected a mapping from names to tensors, got {_kind_of(content)}"
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
    revision: str | None = None,
) -> Path:
    """Locate the weights of a backbone or an upsampler.

    Args:
        name: Name of the backbone or upsampler, for messages.
        weights: A file (used as it is), a folder (searched for ``file_names``), or None for the hub.
        file_names: Names the file may have in a folder.
        hub: (repository, file) pairs on the Hugging Face hub, tried in order; offline, only the hub's cache is used.
        option: How a user passes ``weights``, for messages.
        revision: Branch, tag or commit on the hub; None for the newest.

    Raises:
        WeightsError: if nothing is found; the message says what to do without access to the hub.
    """
    if weights is not None and weights.is_dir():
        for file_name in file_names:
            if (weights / file_name).is_file():
                return weights / file_name
        raise WeightsError(f"no weights for {name!r} in the folder {weights}; expected one of {', '.join(file_names)}")
    if weights is not None:
        if not weights.is_file():
            raise WeightsError(f"no weights for {name!r} at {weights}: no such file or folder")
        return weights
    failures = []
    is_forbidden = are_downloads_forbidden()
    no_network = is_forbidden or is_hub_out_of_reach()
    for repository, file_name in hub:
        try:
            # Whatever the newest revision holds, it is read without being run, and its hash is in the result.
            return Path(
                hf_hub_download(  # nosec B615 # see above
                    repository, file_name, revision=revision, local_files_only=no_network
                )
            )
        except LocalEntryNotFoundError as error:
            if not no_network:
                failures.append(f"{repository}/{file_name}: {str(error).splitlines()[0][:160]}")
        except Exception as error:  # the hub's client raises errors of its own and of its transport
            failures.append(f"{repository}/{file_name}: {type(error).__name__}: {str(error).splitlines()[0][:160]}")
    if no_network:
        why = "downloads are forbidden here" if is_forbidden else f"{constants.ENDPOINT} cannot be reached"
        failures.insert(0, f"{why}, and the hub's cache does not hold them")
    raise WeightsError(
        f"the weights of {name!r} could not be fetched from the Hugging Face hub ({'; '.join(failures)}). "
        f"{without_hub(hub, option, file_names)}"
    )


def without_hub(hub: Sequence[tuple[str, str]], option: str, file_names: Sequence[str] = ()) -> str:
    """What to do without access to the Hugging Face hub: the files to place, their addresses, and where to name them.

    Args:
        hub: (repository, file) pairs, of which one is enough.
        option: How a user passes the file.
        file_names: Names that the file may have in a folder; none if a folder is not accepted.
    """
    urls = " or ".join(f"{constants.ENDPOINT}/{repository}/resolve/main/{file}" for repository, file in hub)
    folder = f", or a folder that holds it under one of the names {', '.join(file_names)}," if file_names else ""
    return (
        f"Without access to the hub, download {urls} on another machine, and pass the file{folder} as {option}; or "
        "fill the hub's cache and set HF_HOME."
    )


def is_hub_out_of_reach() -> bool:
    """Whether nothing answers at the Hugging Face hub's address, for example without a network.

    The hub's client would retry for half a minute before it falls back to its cache.
    """
    return is_out_of_reach(constants.ENDPOINT)
