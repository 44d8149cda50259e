"""``hf:OWNER/NAME[@REVISION][:CLASS][?key=value]``: modules pushed with the ``PyTorchModelHubMixin``.

The mixin, of huggingface_hub, keeps settings (``config.json``) and weights, but not which class they belong to.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import inspect
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, PyTorchModelHubMixin, snapshot_download
from safetensors.torch import save_file
from torch import nn

from vfm_isbench.errors import ContractError, UnknownNameError, WeightsError
from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.storage.hashing import code_sha256, hash_file
from vfm_isbench.storage.no_downloads import are_downloads_forbidden
from vfm_isbench.storage.strict_json import SMALL, UnreadableError, read_json
from vfm_isbench.storage.weights import is_hub_out_of_reach, read_state_dict
from vfm_isbench.upsamplers.loaded import LoadedUpsampler
from vfm_isbench.upsamplers.loading.foreign_code import (
    RepositoryModules,
    in_place,
    pick,
    require_consent,
    running,
    warn_unpinned,
    with_source,
)
from vfm_isbench.upsamplers.loading.hub import COMMIT
from vfm_isbench.upsamplers.loading.resolve import module_by_name, module_from_file
from vfm_isbench.upsamplers.loading.settings import read_settings
from vfm_isbench.upsamplers.loading.specs import LOADERS, LoadOptions, split_query

CONFIG, SAFETENSORS, PICKLE = "config.json", "model.safetensors", "pytorch_model.bin"
"""The files the mixin writes; the last one by old versions of it."""

_PLACE = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_TAKEN = frozenset(inspect.signature(ModelHubMixin.from_pretrained).parameters) | {"strict", "map_location"}


def load_from_hf(text: str, options: LoadOptions) -> LoadedUpsampler:
    """Load a module that was pushed with the hub mixin.

    Args:
        text: ``OWNER/NAME@REVISION``, or a folder with a copy of its files; then ``:package.module:Class`` or
            ``:file.py:Class`` for a class of the user's own. Or ``:Class`` for one in the Python files of the
            repository, or nothing where these have exactly one class derived from ``PyTorchModelHubMixin``: that runs
            foreign code. Then ``?key=value`` with arguments of the class that replace those of ``config.json``;
            ``attribute`` and ``style`` are as in :func:`vfm_isbench.upsamplers.loading.hub.load_from_hub`.
        options: Consent is needed to run classes of the repository. ``weights`` is a folder that holds what would be
            fetched.

    Returns:
        The upsampler as ``(features, image)``. Its ``source`` has repository, commit (where it is known),
        class, arguments, file and SHA-256 of the weights, ``code_sha256`` of the repository's Python files if one of
        them was used, style, attention backend and warnings.

    Raises:
        ContractError: without consent; if the class cannot be told, is none with the mixin, or its code fails.
        UnknownNameError: if there is no such module, file, class, attribute or style.
        WeightsError: if the files cannot be fetched or found, or the weights do not fit the class exactly.
    """
    spec = f"hf:{text}"
    name, values = split_query(text)
    place, _, class_name = name.partition(":")
    own_class = ":" in class_name
    settings = read_settings(spec, values, _TAKEN)
    if not own_class:
        where = f"the {'folder' if Path(place).expanduser().is_dir() else 'Hugging Face hub repository'} {place}"
        code = f"{class_name or 'the class with the hub mixin'} in the Python files of {where}"
        require_consent(
            spec, f"{code} (a class of your own needs no consent: hf:{place}:package.module:Class)", options
        )
    folder, source = _locate(spec, place, text[len(place) :], options, with_code=not own_class)
    weights = _weights_in(spec, folder)
    source |= {"weights_file": weights.name, "weights_sha256": hash_file(weights)}
    modules = None if own_class else RepositoryModules(folder)
    with running(f"loading upsampler {spec!r}") as warned, in_place(modules):
        found_class = _own_class(spec, class_name) if own_class else _class_of_repository(spec, folder, class_name)
        source["class"] = f"{found_class.__module__}:{found_class.__qualname__}"
        source["code_sha256"] = None if own_class else code_sha256(folder)
        made = _instantiate(spec, found_class, weights, settings.arguments)
    source["warnings"] = warned
    query = text[len(name) :]
    known_as = f"hf:{source['repository']}:{source['class']}{query}"
    with in_place(modules):
        found = pick(spec, made, settings.attribute)
        return with_source(found, known_as, settings, source, modules)


def _locate(spec: str, place: str, rest: str, options: LoadOptions, with_code: bool) -> tuple[Path, dict[str, Any]]:
    """Find the folder with the repository's files, fetched if need be, and what is to be recorded of it."""
    source: dict[str, Any] = {"kind": "huggingface_hub", "revision": None, "commit": None}
    folder = Path(place).expanduser()
    if folder.is_dir():
        # Its name alone: results travel, and say nothing of the machine's folders.
        source["repository"] = folder.resolve().name
        return options.weights or folder, source
    match = _PLACE.fullmatch(place)
    if match is None or place.startswith("."):
        raise UnknownNameError(
            f"upsampler {spec!r}: {place!r} is neither OWNER/NAME or OWNER/NAME@REVISION on the Hugging Face hub, nor "
            f"a folder here (seen from {Path.cwd()})"
        )
    source["repository"], source["revision"] = match.groups()
    if options.weights is not None:
        return options.weights, source
    folder = _fetch(spec, source["repository"], source["revision"], with_code)
    # The cache keeps snapshots in folders named after their commits.
    source["commit"] = folder.name if COMMIT.fullmatch(folder.name) else None
    if source["revision"] is None or not COMMIT.fullmatch(source["revision"]):
        warn_unpinned(spec, f"hf:{source['repository']}@{source['commit'] or 'COMMIT'}{rest}")
    return folder, source


def _fetch(spec: str, repository: str, revision: str | None, with_code: bool) -> Path:
    wanted = [CONFIG, SAFETENSORS, *(["*.py"] if with_code else [])]
    is_forbidden = are_downloads_forbidden()
    no_network = is_forbidden or is_hub_out_of_reach()
    fetch = functools.partial(snapshot_download, repository, revision=revision, local_files_only=no_network)
    try:
        folder = Path(fetch(allow_patterns=wanted))
        if not (folder / SAFETENSORS).is_file():
            folder = Path(fetch(allow_patterns=[*wanted, PICKLE]))
    except Exception as error:  # the hub's client raises its own errors and those of its transport alike
        reason = "downloads are forbidden here" if is_forbidden else "it has no address here"
        why = f"{reason}, so only its cache was looked into; " if no_network else ""
        raise WeightsError(
            f"upsampler {spec!r}: {repository} could not be fetched from the Hugging Face hub ({why}"
            f"{type(error).__name__}: {str(error).splitlines()[0][:160]}). Check its name and revision. Without a "
            f"network, give a folder with its {CONFIG} and {SAFETENSORS} (and Python "
            "files, if it has any) instead of the name, or as --upsampler-weights"
        ) from error
    return folder


def _own_class(spec: str, name: str) -> type[Any]:
    source, _, attribute = name.rpartition(":")
    module = module_from_file(spec, Path(source)) if source.endswith(".py") else module_by_name(spec, source)
    if not hasattr(module, attribute):
        raise unknown_name(f"class of {source} in upsampler {spec!r}:", attribute, _classes(vars(module)) or ["none"])
    return _checked(spec, getattr(module, attribute))


def _class_of_repository(spec: str, folder: Path, name: str) -> type[Any]:
    """The class named, or the only one derived from the mixin, in the Python files at the top of a repository."""
    classes = {(path.stem, node.name): node for path in sorted(folder.glob("*.py")) for node in _class_nodes(path)}
    with_mixin = [key for key, node in classes.items() if any("ModelHubMixin" in ast.unparse(b) for b in node.bases)]
    fitting = [key for key in classes if key[1] == name] if name else with_mixin
    if len(fitting) != 1:
        raise _no_single_class(spec, folder, name, sorted({key[1] for key in (classes if name else with_mixin)}))
    module, attribute = fitting[0]
    return _checked(spec, getattr(importlib.import_module(module), attribute))


def _no_single_class(spec: str, folder: Path, name: str, known: list[str]) -> Exception:
    if name and known:
        return unknown_name(f"class in the Python files of upsampler {spec!r}:", name, known)
    advice = "name it behind a colon, as in hf:OWNER/NAME:package.module:Class"
    if len(known) > 1:
        return UnknownNameError(
            f"upsampler {spec!r} has several classes with the hub mixin: {', '.join(known)}; {advice}"
        )
    config = folder / CONFIG
    if config.is_file() and _has_auto_map(config):
        advice += ". Its config.json asks for classes by transformers' auto_map, which is not supported"
    return ContractError(f"upsampler {spec!r} has no Python file with such a class; install its code and {advice}")


def _has_auto_map(config: Path) -> bool:
    try:
        return "auto_map" in dict(read_json(config, SMALL))
    except (OSError, TypeError, ValueError, UnreadableError):
        return False


def _class_nodes(path: Path) -> Iterator[ast.ClassDef]:
    """Classes that a file defines, read without running it."""
    yield from (node for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.ClassDef))


def _classes(names: dict[str, Any]) -> list[str]:
    return [name for name, value in names.items() if isinstance(value, type) and issubclass(value, nn.Module)]


def _checked(spec: str, found: Any) -> type[Any]:
    if not (isinstance(found, type) and issubclass(found, nn.Module) and issubclass(found, PyTorchModelHubMixin)):
        raise ContractError(
            f"upsampler {spec!r}: expected a class derived from torch.nn.Module and huggingface_hub."
            f"PyTorchModelHubMixin, got {found!r}"
        )
    return found


def _weights_in(spec: str, folder: Path) -> Path:
    for name in (SAFETENSORS, PICKLE):
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(
        f"upsampler {spec!r}: expected {SAFETENSORS} or {PICKLE}, as the hub mixin writes them, and found neither in "
        f"the folder {folder}; a repository with files of other names needs a loader of its own"
    )


def _instantiate(spec: str, cls: type[Any], weights: Path, arguments: dict[str, Any]) -> Any:
    # The mixin itself leaves random what a file lacks, and ignores what it has besides.
    takes_strict = "strict" in inspect.signature(cls._from_pretrained).parameters
    strict = {"strict": True} if takes_strict else {}
    with _as_safetensors(weights) as folder:
        try:
            return cls.from_pretrained(str(folder), **strict, **arguments)
        except RuntimeError as error:
            if "state_dict" not in str(error):
                raise
            raise WeightsError(f"upsampler {spec!r}: {weights} does not fit {cls.__name__}: {error}") from error


@contextlib.contextmanager
def _as_safetensors(weights: Path) -> Iterator[Path]:
    """Folder as the mixin reads it from disk: old files are read here, since not every version of it does so safely."""
    if weights.name == SAFETENSORS:
        yield weights.parent
        return
    with tempfile.TemporaryDirectory() as temporary:
        # Copies: safetensors refuses tensors that share memory.
        tensors = {key: value.clone().contiguous() for key, value in read_state_dict(weights).items()}
        save_file(tensors, Path(temporary) / SAFETENSORS)  # not atomic: in a temporary folder
        config = weights.with_name(CONFIG)
        if config.is_file():
            (Path(temporary) / CONFIG).write_bytes(config.read_bytes())  # not atomic: in a temporary folder
        yield Path(temporary)


LOADERS.add("hf", load_from_hf)
