"""Networks of timm from any repository of the Hugging Face hub: ``hf-hub:OWNER/NAME[@REVISION]``.

timm has such names too, but lets the repository's ``config.json`` decide what is loaded from where. Here, that file
chooses an architecture of timm and numbers to build it with, and nothing else; weights are found as all others are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vfm_isbench.backbones.base import Backbone
from vfm_isbench.backbones.from_timm import TIMM_PREFIX, TimmModel, as_backbone, check_timm_name, from_file
from vfm_isbench.errors import UnknownNameError, WeightsError
from vfm_isbench.storage import json_fields
from vfm_isbench.storage.printable import quote
from vfm_isbench.storage.strict_json import SMALL, UnreadableError, read_json
from vfm_isbench.storage.weights import find_weights
from vfm_isbench.types import is_number

HUB_PREFIX = "hf-hub:"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_REVISION = re.compile(r"[\w./-]+")
_LONGEST_STRIDE = 4
"""Digits; a commit may consist of digits too, but has 40."""
_CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_OF_INPUT = ("mean", "std", "input_size")
_FLAGS = ("fixed_input_size",)
_LAYERS = ("first_conv", "classifier")
"""Fields of timm's ``pretrained_cfg`` that are read, by type: lists of numbers, flags, names of layers."""


def is_hub_name(name: str) -> bool:
    """Whether a backbone's name is that of a repository on the hub, with timm's prefix or without."""
    return name.removeprefix(TIMM_PREFIX).startswith(HUB_PREFIX)


def split_stride(name: str) -> tuple[str, int | None]:
    """Split off a stride, which is a short number behind the last ``@``: what else stands there is a revision."""
    base, at, last = name.rpartition("@")
    is_stride = at and last.isdecimal() and len(last) <= _LONGEST_STRIDE
    return (base, int(last)) if is_stride else (name, None)


def load_from_hub(name: str, image_size: int, weights: Path | None, pretrained: bool) -> Backbone:
    """Build a network of timm from a repository; see :func:`~.load.load_backbone`.

    Args:
        name: ``hf-hub:OWNER/NAME[@REVISION][@STRIDE]``, or the same behind ``timm:``.
        image_size: Side of the images.
        weights: The weights file, or a folder that holds it and ``config.json``, such as a downloaded copy of the
            repository; None for the hub and its cache.
        pretrained: Whether to load weights.

    Raises:
        UnknownNameError: if this is not the name of a repository, or timm does not know its architecture.
        WeightsError: if ``config.json`` or the weights cannot be found or read.
    """
    base, stride = split_stride(name)
    repository, at, revision = base.removeprefix(TIMM_PREFIX).removeprefix(HUB_PREFIX).partition("@")
    if not _REPOSITORY.fullmatch(repository) or (at and not _REVISION.fullmatch(revision)):
        raise UnknownNameError(
            f"backbone {name!r} names no repository of the Hugging Face hub; expected hf-hub:OWNER/NAME, with "
            "@REVISION and @STRIDE if needed, as in hf-hub:timm/resnet18.a1_in1k@16"
        )
    config_file = _find(name, repository, revision, (_CONFIG,), weights)
    commit = _commit(config_file)
    config = _read_config(name, config_file)
    architecture, overlay, arguments = config
    check_timm_name(architecture)
    options: dict[str, Any] = {**arguments, "pretrained_cfg_overlay": overlay}
    if pretrained or weights is not None:
        path = _find(name, repository, commit or revision, _WEIGHTS, weights)
        overlay.update(from_file(name, path)["pretrained_cfg_overlay"])
        pretrained = True
    advice = f"Are these the weights of {architecture}, which {_CONFIG} of {repository} names?"
    model = TimmModel(name if stride is None else base, architecture, options, pretrained, advice)
    backbone = as_backbone(model, stride, image_size)
    backbone.name, backbone.commit = name, commit
    return backbone


def _find(name: str, repository: str, revision: str, files: tuple[str, ...], weights: Path | None) -> Path:
    """A file of a repository: in the folder given as weights, beside the file given, or else from the hub."""
    if weights is not None:
        if weights.is_file() and files != (_CONFIG,):
            return weights
        folder = weights if weights.is_dir() else weights.parent
        here = [folder / file for file in files if (folder / file).is_file()]
        if here or weights.is_dir():
            return here[0] if here else find_weights(name, weights, files, [])
    hub = [(repository, file) for file in files]
    return find_weights(name, None, files, hub, revision=revision or None)


def _commit(path: Path) -> str | None:
    """The commit that a file of the hub's cache belongs to: it lies in ``snapshots/COMMIT``."""
    folder = path.parent
    is_commit = folder.parent.name == "snapshots" and re.fullmatch("[0-9a-f]{40}", folder.name)
    return folder.name if is_commit else None


def _read_config(name: str, path: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Architecture, fields of timm's ``pretrained_cfg``, and arguments of the model.

    Raises:
        WeightsError: if the file is not a configuration of timm.
    """
    try:
        content = read_json(path, SMALL)
        architecture = json_fields.text(content, "architecture", longest=json_fields.LONGEST_NAME)
        given = content.get("pretrained_cfg", content)
        overlay: dict[str, Any] = {key: _numbers(given, key) for key in _OF_INPUT if given.get(key) is not None}
        overlay |= {key: bool(given[key]) for key in _FLAGS if key in given}
        overlay |= {key: given[key] for key in _LAYERS if isinstance(given.get(key), str)}
        count = content.get("num_classes", given.get("num_classes"))
        overlay |= {} if count is None else {"num_classes": json_fields.whole({"num_classes": count}, "num_classes")}
        return architecture, overlay, _plain(content.get("model_args") or {})
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    except (UnreadableError, AttributeError) as error:
        what = str(error) if isinstance(error, UnreadableError) else "has another form"
        raise WeightsError(
            f"backbone {name!r}: {path.name} of this repository is not one of timm ({what}). Only repositories whose "
            f"{_CONFIG} names an architecture of timm can be used, such as those of https://huggingface.co/timm"
        ) from error


def _numbers(content: Mapping[str, Any], key: str) -> tuple[float, ...]:
    found = json_fields.sequence(content, key, most=3)
    if len(found) != 3 or not all(map(is_number, found)):
        raise UnreadableError(f"says {quote(found)} in the field {key!r}; expected three numbers")
    return tuple(found)


def _plain(arguments: Any) -> dict[str, Any]:
    """Arguments of a model: numbers, flags, texts and lists of them, none of which is about weights."""
    if not isinstance(arguments, Mapping):
        raise UnreadableError(f"says {quote(arguments)} in the field 'model_args'; expected an object")
    plain = {}
    for key, value in arguments.items():
        items = value if isinstance(value, list) else [value]
        is_simple = all(item is None or isinstance(item, str | bool) or is_number(item) for item in items)
        if not key.isidentifier() or key.startswith(("pretrained", "checkpoint", "cache")) or not is_simple:
            raise UnreadableError(f"says {quote(value)} in model_args.{key}; expected a number, a flag or a text")
        plain[key] = tuple(value) if isinstance(value, list) else value
    return {key: value for key, value in plain.items() if key not in ("num_classes", "global_pool", "img_size")}
