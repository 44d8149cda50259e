"""Pretrained upsamplers by name, such as ``loftup:dinov2s``, ``featup:dinov2`` or ``lift:FILE``."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from torch import Tensor

from vfm_isbench.errors import DataError, UnknownNameError, WeightsError
from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.storage.atomic import write_text
from vfm_isbench.storage.connection import is_out_of_reach
from vfm_isbench.storage.downloads import download
from vfm_isbench.storage.hashing import hash_file
from vfm_isbench.storage.no_downloads import are_downloads_forbidden
from vfm_isbench.storage.weights import find_weights, read_state_dict
from vfm_isbench.upsamplers.loading.hub import COMMIT
from vfm_isbench.upsamplers.loading.specs import LOADERS, LoadOptions, split_query
from vfm_isbench.upsamplers.published.featup import FeatUpJBU, featup_from_state_dict
from vfm_isbench.upsamplers.published.lift import LiFT, lift_from_state_dict
from vfm_isbench.upsamplers.published.loftup import ATTENTION, LoftUp, loftup_from_state_dict
from vfm_isbench.upsamplers.published.sources import SOURCES, Source

OPTION = "LoadOptions(weights=…) (command line: --upsampler-weights)"
"""How a user gives a file or a folder, for messages."""

Loaded = TypeVar("Loaded", LoftUp, FeatUpJBU, LiFT)

_SUFFIXES = frozenset({".safetensors", ".pth", ".pt", ".bin", ".ckpt"})
_OWN_FILES = {
    "loftup:FILE": "LoftUp, weights from a file of your own",
    "featup:FILE": "FeatUp-JBU, weights from a file of your own",
    "lift:FILE": "LiFT, weights from a file of your own (published on Google Drive only)",
}


def describe_loaders() -> dict[str, str]:
    """Every name of a pretrained upsampler, with a line about it."""
    published = {name: f"{source.title} ({source.where}, {source.licence})" for name, source in SOURCES.items()}
    return published | _OWN_FILES


def cache_folder() -> Path:
    """The folder for weights downloaded from a URL, and for remembered hashes of weights from the hub.

    It is ``$VFM_ISBENCH_CACHE``, by default ``~/.cache/vfm_isbench/weights``.
    """
    return Path(os.environ.get("VFM_ISBENCH_CACHE") or "~/.cache/vfm_isbench/weights").expanduser()


def load_pretrained_loftup(text: str, options: LoadOptions) -> LoftUp:
    """Load ``loftup:NAME`` or ``loftup:FILE``, optionally with ``?max_memory=GIB``.

    Raises:
        UnknownNameError: if no such name or file exists, or an option is unknown or invalid.
        WeightsError: if the weights cannot be found, downloaded or loaded.
    """
    name, query = _parse("loftup", text, ("max_memory",))
    upsampler, found = _load("loftup", name, options.weights, loftup_from_state_dict)
    _limit_memory(upsampler, query)
    _declare(upsampler, "loftup", found, attention=ATTENTION)
    return upsampler


def load_pretrained_featup(text: str, options: LoadOptions) -> FeatUpJBU:
    """Load ``featup:NAME`` or ``featup:FILE``, optionally with ``?max_memory=GIB&norm=false``.

    ``norm=false`` ignores the channel norm in the file, as iSegProbe does; ``norm=true`` requires it.

    Raises:
        UnknownNameError: if no such name or file exists, or an option is unknown or invalid.
        WeightsError: if the weights cannot be found, downloaded or loaded, or lack the required channel norm.
    """
    name, query = _parse("featup", text, ("max_memory", "norm"))
    norm = query.get("norm", "")
    if norm not in ("", "true", "false"):
        raise UnknownNameError(f"featup:{text}: norm must be true or false, got {norm!r}")
    build = functools.partial(featup_from_state_dict, channel_norm=norm != "false")
    upsampler, found = _load("featup", name, options.weights, build)
    if norm == "true" and not upsampler.channel_norm:
        raise WeightsError(f"{found.path} contains no channel norm (model.1.norm.*); remove norm=true")
    _limit_memory(upsampler, query)
    declared = {"channel_norm": upsampler.channel_norm} | ({"norm_asked": True} if norm == "true" else {})
    _declare(upsampler, "featup", found, "?norm=false" if norm == "false" else "", **declared)
    return upsampler


def load_pretrained_lift(text: str, options: LoadOptions) -> LiFT:
    """Load ``lift:FILE``.

    Raises:
        UnknownNameError: if no such file exists, or an option is given.
        WeightsError: if the weights cannot be loaded.
    """
    name, _ = _parse("lift", text, ())
    upsampler, found = _load("lift", name, options.weights, lift_from_state_dict)
    _declare(upsampler, "lift", found)
    return upsampler


def without_weights(spec: str, channels: int) -> LoftUp | FeatUpJBU | None:
    """A published upsampler with random weights, which takes the same time and memory.

    Args:
        spec: Its name, such as ``loftup:dinov2s``; an option of the name is ignored.
        channels: Number of feature channels.

    Returns:
        The upsampler in eval mode; None if the name is not that of published weights.
    """
    name = spec.partition("?")[0]
    if name not in SOURCES:
        return None
    made = LoftUp(channels) if name.startswith("loftup:") else FeatUpJBU(channels, channel_norm=True)
    return made.eval()


@dataclass(frozen=True, slots=True)
class _Found:
    """Weights on disk.

    Attributes:
        path: The file.
        name: What follows the colon in the upsampler's name.
        origin: Where it came from, for result files, without local folders.
        record: The file that remembers its hash, if it was downloaded.
        commit: The repository's commit, if it is from the hub.
    """

    path: Path
    name: str
    origin: str
    record: Path | None = None
    commit: str | None = None


def _parse(kind: str, text: str, options: Sequence[str]) -> tuple[str, dict[str, str]]:
    name, query = split_query(text)
    for key in query:
        if key not in options:
            raise unknown_name(f"option in {kind}:{text}:", key, list(options) or ["none"])
    return name, query


def _load(
    kind: str, name: str, weights: Path | None, build: Callable[[dict[str, Tensor], str], Loaded]
) -> tuple[Loaded, _Found]:
    """Find the weights and build the upsampler; a downloaded file is trusted only after it has loaded."""
    found = _find(kind, name, weights)
    try:
        upsampler = build(read_state_dict(found.path), str(found.path))
    except WeightsError as error:
        advice = "" if found.record is None else _set_aside(found, found.record)
        raise WeightsError(f"{error}{advice}") from error
    if found.record is not None and not found.record.is_file() and not are_downloads_forbidden():
        try:
            found.record.parent.mkdir(parents=True, exist_ok=True)
            line = f"{hash_file(found.path)}  {found.path.name}" + (f"  {found.commit}" if found.commit else "")
            write_text(found.record, f"{line}\n")
        except OSError as error:
            raise WeightsError(
                f"the hash of {found.path} cannot be saved to {found.record} ({error}). Make that writable, or set "
                "VFM_ISBENCH_CACHE to a writable folder"
            ) from error
    return upsampler, found


def _set_aside(found: _Found, record: Path) -> str:
    """Move a bad downloaded file out of the way if possible; return advice for the error message."""
    if record.is_file():
        return f"\nIf the file is broken, delete {found.path.resolve()} and {record} to download it again."
    if found.path.parent != record.parent:
        return f"\nThe file is in the hub's cache. If it is broken, delete {found.path.resolve()} and try again."
    rejected = found.path.with_name(f"{found.path.name}.rejected")
    try:
        found.path.replace(rejected)
    except OSError:
        return f"\nDelete {found.path} to download it again."
    return f"\nThe file is now {rejected}; the next attempt downloads it again. Or give a file as {OPTION}."


def _find(kind: str, name: str, weights: Path | None) -> _Found:
    spec = f"{kind}:{name}"
    source = SOURCES.get(spec)
    if source is None:
        path = _own_file(kind, name, weights)
        return _Found(path, path.name, path.name)
    if weights is not None:
        path = find_weights(spec, weights, [source.file_name], [], option=OPTION)
        if source.sha256 is not None and hash_file(path) != source.sha256:
            raise WeightsError(
                f"{path} is not the published file of {spec}: expected sha256 {source.sha256}, got "
                f"{hash_file(path)}. To use it anyway, write {kind}:{path}"
            )
        return _Found(path, name, path.name)
    if source.url is not None:
        return _from_url(spec, name, source, source.url)
    return _from_hub(spec, name, source)


def _own_file(kind: str, name: str, weights: Path | None) -> Path:
    path = Path(name).expanduser() if name else weights
    seen = f"{path} is neither a file nor a folder" if path is not None else "no FILE was given"
    if path is not None and name and weights is not None:
        path = _stand_in(path, weights)
        seen = f"{name} is FILE, but {weights} was given too" if path is None else f"{path} does not exist"
    if path is None or not path.exists():
        known = [known for known in describe_loaders() if known.startswith(f"{kind}:")]
        hint = f"FILE is a weights file or a folder with one, and can be replaced by {OPTION}. Here, {seen}."
        raise unknown_name("upsampler", f"{kind}:{name}", known, hint)
    if path.is_file():
        return path
    official = {source.file_name for known, source in SOURCES.items() if known.startswith(f"{kind}:")}
    files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    files = [file for file in files if file.name in official] or files
    if len(files) != 1:
        seen = ", ".join(file.name for file in files) or "none"
        raise WeightsError(
            f"{kind}: expected one weights file in the folder {path}, got {seen}. Give the path of the file itself"
        )
    return files[0]


def _stand_in(path: Path, weights: Path) -> Path | None:
    """The file to use if both a file and weights are given; None if they may be two different files.

    Results and checkpoints store file names without folders, so the file may be elsewhere by now.
    """
    in_folder = weights / path.name
    given = in_folder if in_folder.is_file() else weights
    is_missing_file = bool(path.suffix) and not path.exists()
    return given if is_missing_file or given.name == path.name else None


def _from_url(spec: str, name: str, source: Source, url: str) -> _Found:
    path = cache_folder() / source.file_name
    record = path.with_name(f"{path.name}.sha256")
    try:
        if not path.exists() and not are_downloads_forbidden() and is_out_of_reach(url):
            raise DataError(f"{path.name} is not at {path}, and {urlsplit(url).hostname} cannot be reached")
        download([url], path, sha256=source.sha256 or _remembered(record))
    except (DataError, OSError) as error:
        raise WeightsError(
            f"the weights of {spec!r} are not available: {error}\nOffline, download {url} elsewhere and give the file, "
            f"or a folder with {source.file_name}, as {OPTION}. If a new version was published, remove {path} and "
            f"{record.name} next to it."
        ) from error
    return _Found(path, name, source.where, record)


def _from_hub(spec: str, name: str, source: Source) -> _Found:
    hub = [(str(source.repository), source.file_name)]
    path = find_weights(spec, None, [source.file_name], hub, option=OPTION)
    record = cache_folder() / "hub" / f"{spec.replace(':', '-')}.sha256"
    expected = source.sha256 or _remembered(record)
    if expected is not None and hash_file(path) != expected:
        raise WeightsError(
            f"{path} is not the expected file of {spec}: expected sha256 {expected}, got {hash_file(path)}. If its "
            f"authors published a new version and you want it, remove {record}, which remembers the first file "
            f"downloaded here. To keep using that file, give it as {OPTION}"
        )
    # The hub's cache names folders after commits.
    commit = path.parent.name if COMMIT.fullmatch(path.parent.name) else None
    return _Found(path, name, source.where, record, commit)


def _remembered(record: Path) -> str | None:
    """The hash recorded when the file was first downloaded."""
    words = record.read_text(encoding="utf-8").split() if record.is_file() else []
    return words[0] if words else None


def _limit_memory(upsampler: LoftUp | FeatUpJBU, query: dict[str, str]) -> None:
    if "max_memory" not in query:
        return
    try:
        gib = float(query["max_memory"])
    except ValueError:
        gib = math.nan
    if not 0 < gib < math.inf:
        raise UnknownNameError(f"max_memory must be a positive number of GiB, got {query['max_memory']!r}")
    upsampler.max_memory = gib


def _declare(upsampler: Any, kind: str, found: _Found, variant: str = "", **more: Any) -> None:
    """Declare what was loaded, for tables and result files."""
    upsampler.upsampler_name = f"{kind}:{found.name}{variant}"
    source = {"kind": kind, "weights": found.origin, "sha256": hash_file(found.path), **more}
    upsampler.upsampler_source = source | ({"commit": found.commit} if found.commit is not None else {})


LOADERS.add("loftup", load_pretrained_loftup)
LOADERS.add("featup", load_pretrained_featup)
LOADERS.add("lift", load_pretrained_lift)
