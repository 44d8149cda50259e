"""Pretrained upsamplers by name, as ``loftup:dinov2s``, ``featup:dinov2``, ``lift:FILE``, and whence their weights."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from vfm_isbench.errors import DataError, UnknownNameError, WeightsError
from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.storage.downloads import download
from vfm_isbench.storage.hashing import hash_file
from vfm_isbench.storage.weights import find_weights, read_state_dict
from vfm_isbench.upsamplers.loading.hub import COMMIT
from vfm_isbench.upsamplers.loading.specs import LOADERS, LoadOptions, split_query
from vfm_isbench.upsamplers.published.featup import FeatUpJBU, featup_from_state_dict
from vfm_isbench.upsamplers.published.lift import LiFT, lift_from_state_dict
from vfm_isbench.upsamplers.published.loftup import ATTENTION, LoftUp, loftup_from_state_dict
from vfm_isbench.upsamplers.published.sources import SOURCES, Source

OPTION = "LoadOptions(weights=…) (command line: --upsampler-weights)"
"""How a user hands in a file or a folder, for messages."""

Loaded = TypeVar("Loaded", LoftUp, FeatUpJBU, LiFT)

_SUFFIXES = frozenset({".safetensors", ".pth", ".pt", ".bin", ".ckpt"})


_OWN_FILES = {
    "loftup:FILE": "LoftUp, weights from a file of your own",
    "featup:FILE": "FeatUp-JBU, weights from a file of your own",
    "lift:FILE": "LiFT, weights from a file of your own (published on Google Drive only)",
}


def describe_loaders() -> dict[str, str]:
    """What can be written for a pretrained upsampler, each with one line about it."""
    published = {name: f"{source.title} ({source.where}, {source.licence})" for name, source in SOURCES.items()}
    return published | _OWN_FILES


def cache_folder() -> Path:
    """Where weights with a URL are kept, and what is remembered of those from the hub.

    It is ``$VFM_ISBENCH_CACHE``, or ``~/.cache/vfm_isbench/weights``.
    """
    return Path(os.environ.get("VFM_ISBENCH_CACHE") or "~/.cache/vfm_isbench/weights").expanduser()


def load_pretrained_loftup(text: str, options: LoadOptions) -> LoftUp:
    """Load what ``loftup:`` stands before: ``NAME`` or ``FILE``, with ``?max_memory=GIB``.

    Raises:
        UnknownNameError: if there is neither such a name nor such a file, or an option is not known or not valid.
        WeightsError: if the weights cannot be found, fetched or loaded.
    """
    name, query = _parse("loftup", text, ("max_memory",))
    upsampler, found = _load("loftup", name, options.weights, loftup_from_state_dict)
    _limit_memory(upsampler, query)
    _declare(upsampler, "loftup", found, attention=ATTENTION)
    return upsampler


def load_pretrained_featup(text: str, options: LoadOptions) -> FeatUpJBU:
    """Load what ``featup:`` stands before: ``NAME`` or ``FILE``, with ``?max_memory=GIB&norm=false``.

    ``norm=false`` leaves out the channel norm that a file holds, as iSegProbe does; ``norm=true`` insists on it.

    Raises:
        UnknownNameError: if there is neither such a name nor such a file, or an option is not known or not valid.
        WeightsError: if the weights cannot be found, fetched or loaded, or lack the channel norm insisted on.
    """
    name, query = _parse("featup", text, ("max_memory", "norm"))
    norm = query.get("norm", "")
    if norm not in ("", "true", "false"):
        raise UnknownNameError(f"featup:{text}: norm is true or false, got {norm!r}")
    build = functools.partial(featup_from_state_dict, channel_norm=norm != "false")
    upsampler, found = _load("featup", name, options.weights, build)
    if norm == "true" and not upsampler.channel_norm:
        raise WeightsError(f"{found.path} holds no channel norm (model.1.norm.*); leave out norm=true")
    _limit_memory(upsampler, query)
    declared = {"channel_norm": upsampler.channel_norm} | ({"norm_asked": True} if norm == "true" else {})
    _declare(upsampler, "featup", found, "?norm=false" if norm == "false" else "", **declared)
    return upsampler


def load_pretrained_lift(text: str, options: LoadOptions) -> LiFT:
    """Load what ``lift:`` stands before, a ``FILE``.

    Raises:
        UnknownNameError: if there is no such file, or an option is given.
        WeightsError: if the weights cannot be loaded.
    """
    name, _ = _parse("lift", text, ())
    upsampler, found = _load("lift", name, options.weights, lift_from_state_dict)
    _declare(upsampler, "lift", found)
    return upsampler


@dataclass(frozen=True, slots=True)
class _Found:
    """Weights on disk.

    Attributes:
        path: The file.
        name: What stands behind the colon in the upsampler's name.
        origin: What records say of where it came from, without folders of this machine.
        record: Where its hash is remembered, if it was fetched.
        commit: Of the repository on the hub, if it is from there.
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
    """Find weights and build the upsampler; a file that was fetched is trusted only once it could be loaded."""
    found = _find(kind, name, weights)
    try:
        upsampler = build(read_state_dict(found.path), str(found.path))
    except WeightsError as error:
        advice = "" if found.record is None else _set_aside(found, found.record)
        raise WeightsError(f"{error}{advice}") from error
    if found.record is not None and not found.record.is_file():
        try:
            found.record.parent.mkdir(parents=True, exist_ok=True)
            line = f"{hash_file(found.path)}  {found.path.name}" + (f"  {found.commit}" if found.commit else "")
            found.record.write_text(f"{line}\n", encoding="utf-8")
        except OSError as error:
            raise WeightsError(
                f"{found.record}: the hash of {found.path} cannot be remembered there ({error}). Make it writable, or "
                "set VFM_ISBENCH_CACHE to a folder that is"
            ) from error
    return upsampler, found


def _set_aside(found: _Found, record: Path) -> str:
    """Keep a file that was fetched, but is no such weights, from being found again; says how to go on."""
    if record.is_file():
        return f"\nIf that is a broken file, delete {found.path.resolve()} and {record}, so that it is fetched anew."
    if found.path.parent != record.parent:
        return f"\nIt is in the hub's cache. If it is broken, delete {found.path.resolve()} and try again."
    rejected = found.path.with_name(f"{found.path.name}.rejected")
    try:
        found.path.replace(rejected)
    except OSError:
        return f"\nDelete {found.path}, so that it is fetched anew."
    return f"\nIt is now {rejected}, and the next attempt fetches it anew. Or give a file as {OPTION}."


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
                f"{hash_file(path)}. To use it as a file of your own, write {kind}:{path}"
            )
        return _Found(path, name, path.name)
    if source.url is not None:
        return _from_url(spec, name, source, source.url)
    return _from_hub(spec, name, source)


def _own_file(kind: str, name: str, weights: Path | None) -> Path:
    path = Path(name).expanduser() if name else weights
    seen = f"there is neither a file nor a folder {path}" if path is not None else "no FILE was given"
    if path is not None and name and weights is not None:
        path = _stand_in(path, weights)
        seen = f"FILE would be {name}, but {weights} was given too" if path is None else f"there is no {path}"
    if path is None or not path.exists():
        known = [known for known in describe_loaders() if known.startswith(f"{kind}:")]
        hint = f"FILE is a weights file, or a folder with one; instead of it there can be {OPTION}. Here {seen}."
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
    """What is meant by a file and weights together; None where they may be two different ones.

    Results and checkpoints name files without their folders, so the file may be elsewhere by now.
    """
    in_folder = weights / path.name
    given = in_folder if in_folder.is_file() else weights
    is_missing_file = bool(path.suffix) and not path.exists()
    return given if is_missing_file or given.name == path.name else None


def _from_url(spec: str, name: str, source: Source, url: str) -> _Found:
    path = cache_folder() / source.file_name
    record = path.with_name(f"{path.name}.sha256")
    try:
        download([url], path, sha256=source.sha256 or _remembered(record))
    except (DataError, OSError) as error:
        raise WeightsError(
            f"the weights of {spec!r} are not there: {error}\nOffline, fetch {url} elsewhere and give the file, or a "
            f"folder that holds {source.file_name}, as {OPTION}. If they were published anew, remove {path} and "
            f"{record.name} beside it."
        ) from error
    return _Found(path, name, source.where, record)


def _from_hub(spec: str, name: str, source: Source) -> _Found:
    hub = [(str(source.repository), source.file_name)]
    path = find_weights(spec, None, [source.file_name], hub, option=OPTION)
    record = cache_folder() / "hub" / f"{spec.replace(':', '-')}.sha256"
    expected = source.sha256 or _remembered(record)
    if expected is not None and hash_file(path) != expected:
        raise WeightsError(
            f"{path} is not the file of {spec} that was expected: expected sha256 {expected}, got {hash_file(path)}. "
            f"If its authors published it anew and you want the new one, remove {record}, which remembers the first "
            f"one that was fetched here. To go on with that one, give its file as {OPTION}"
        )
    # The hub's cache keeps files in folders named after their commits.
    commit = path.parent.name if COMMIT.fullmatch(path.parent.name) else None
    return _Found(path, name, source.where, record, commit)


def _remembered(record: Path) -> str | None:
    """The hash that was recorded when a file was first fetched."""
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
        raise UnknownNameError(f"max_memory is a positive number of GiB, got {query['max_memory']!r}")
    upsampler.max_memory = gib


def _declare(upsampler: Any, kind: str, found: _Found, variant: str = "", **more: Any) -> None:
    """Tell tables and records what was loaded."""
    upsampler.upsampler_name = f"{kind}:{found.name}{variant}"
    source = {"kind": kind, "weights": found.origin, "sha256": hash_file(found.path), **more}
    upsampler.upsampler_source = source | ({"commit": found.commit} if found.commit is not None else {})


LOADERS.add("loftup", load_pretrained_loftup)
LOADERS.add("featup", load_pretrained_featup)
LOADERS.add("lift", load_pretrained_lift)
