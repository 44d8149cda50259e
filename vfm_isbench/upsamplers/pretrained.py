"""Pretrained upsamplers by name, as ``loftup:dinov2s``, ``featup:dinov2``, ``lift:FILE``, and whence their weights."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vfm_isbench.downloads import download, hash_file
from vfm_isbench.errors import DataError, UnknownNameError, WeightsError
from vfm_isbench.registry import unknown_name
from vfm_isbench.upsamplers.featup import FeatUpJBU, featup_from_state_dict
from vfm_isbench.upsamplers.lift import LiFT, lift_from_state_dict
from vfm_isbench.upsamplers.loftup import ATTENTION, LoftUp, loftup_from_state_dict
from vfm_isbench.upsamplers.specs import LOADERS, LoadOptions, split_query
from vfm_isbench.weights import find_weights, read_state_dict

OPTION = "LoadOptions(weights=…) (command line: --upsampler-weights)"
"""How a user hands in a file or a folder, for messages."""

_SUFFIXES = frozenset({".safetensors", ".pth", ".pt", ".bin", ".ckpt"})


@dataclass(frozen=True, slots=True)
class Source:
    """Where published weights come from.

    Attributes:
        title: Method and backbone.
        file_name: Official name of the file.
        repository: Repository on the Hugging Face hub; None where the file has a URL.
        url: URL of the file; None where it is on the hub.
        licence: SPDX identifier.
        citation: Link to the paper.
        sha256: Expected hash of the file, hexadecimal. None where nobody of this project could fetch the file to take
            it: then that of the first download from a URL is remembered beside it and checked ever after.
    """

    title: str
    file_name: str
    repository: str | None
    url: str | None
    licence: str
    citation: str
    sha256: str | None = None

    @property
    def where(self) -> str:
        """URL, or repository and file on the hub."""
        return self.url or f"{self.repository}/{self.file_name}"


def _loftup(name: str, backbone: str) -> Source:
    return Source(
        title=f"LoftUp for {backbone}",
        file_name="pytorch_model.bin",
        repository=f"haiwen/loftup-{name}",
        url=None,
        licence="MIT",
        citation="https://arxiv.org/abs/2504.14032",
    )


def _featup(name: str, backbone: str, folder: str = "") -> Source:
    file_name = f"{name}_jbu_stack_cocostuff.ckpt"
    # From hubconf.py of mhamilton723/FeatUp.
    base = "https://marhamilresearch4.blob.core.windows.net/feature-upsampling-public/pretrained/"
    return Source(
        title=f"FeatUp-JBU for {backbone}",
        file_name=file_name,
        repository=None,
        url=f"{base}{folder}{file_name}",
        licence="MIT",
        citation="https://arxiv.org/abs/2403.10516",
    )


SOURCES: dict[str, Source] = {
    "loftup:dinov2s": _loftup("dinov2s", "DINOv2 ViT-S/14"),
    "loftup:dinov2s_reg": _loftup("dinov2s_reg", "DINOv2 ViT-S/14 with registers"),
    "loftup:dinov2b": _loftup("dinov2b", "DINOv2 ViT-B/14"),
    "loftup:dinov2b_reg": _loftup("dinov2b_reg", "DINOv2 ViT-B/14 with registers"),
    "loftup:clip": _loftup("clip", "CLIP ViT-B/16"),
    "loftup:siglip": _loftup("siglip", "SigLIP ViT-B/16"),
    "loftup:siglip2": _loftup("siglip2", "SigLIP 2 ViT-B/16"),
    "featup:dinov2": _featup("dinov2", "DINOv2 ViT-S/14"),
    "featup:dino16": _featup("dino16", "DINO ViT-S/16"),
    "featup:clip": _featup("clip", "CLIP ViT-B/16"),
    # Published without channel norm only.
    "featup:maskclip": _featup("maskclip", "MaskCLIP ViT-B/16", "no_norm/"),
    "featup:vit": _featup("vit", "supervised ViT-S/16"),
    "featup:resnet50": _featup("resnet50", "ResNet-50"),
}
"""Published weights by what a user writes for them."""

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
    """Where weights with a URL are kept: ``$VFM_ISBENCH_CACHE``, or ``~/.cache/vfm_isbench/weights``."""
    return Path(os.environ.get("VFM_ISBENCH_CACHE") or "~/.cache/vfm_isbench/weights").expanduser()


def load_pretrained_loftup(text: str, options: LoadOptions) -> LoftUp:
    """Load what ``loftup:`` stands before: ``NAME`` or ``FILE``, with ``?max_memory=GIB``.

    Raises:
        UnknownNameError: if there is neither such a name nor such a file, or an option is not known or not valid.
        WeightsError: if the weights cannot be found, fetched or loaded.
    """
    name, query = _parse("loftup", text, ("max_memory",))
    found = _find("loftup", name, options.weights)
    upsampler = loftup_from_state_dict(read_state_dict(found.path), str(found.path))
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
    found = _find("featup", name, options.weights)
    upsampler = featup_from_state_dict(read_state_dict(found.path), str(found.path), channel_norm=norm != "false")
    if norm == "true" and not upsampler.channel_norm:
        raise WeightsError(f"{found.path} holds no channel norm (model.1.norm.*); leave out norm=true")
    _limit_memory(upsampler, query)
    _declare(upsampler, "featup", found, "?norm=false" if norm == "false" else "", channel_norm=upsampler.channel_norm)
    return upsampler


def load_pretrained_lift(text: str, options: LoadOptions) -> LiFT:
    """Load what ``lift:`` stands before, a ``FILE``.

    Raises:
        UnknownNameError: if there is no such file, or an option is given.
        WeightsError: if the weights cannot be loaded.
    """
    name, _ = _parse("lift", text, ())
    found = _find("lift", name, options.weights)
    upsampler = lift_from_state_dict(read_state_dict(found.path), str(found.path))
    _declare(upsampler, "lift", found)
    return upsampler


@dataclass(frozen=True, slots=True)
class _Found:
    """Weights on disk.

    Attributes:
        path: The file.
        name: What stands behind the colon in the upsampler's name.
        origin: What records say of where it came from, without folders of this machine.
    """

    path: Path
    name: str
    origin: str


def _parse(kind: str, text: str, options: Sequence[str]) -> tuple[str, dict[str, str]]:
    name, query = split_query(text)
    for key in query:
        if key not in options:
            raise unknown_name(f"option in {kind}:{text}:", key, list(options) or ["none"])
    return name, query


def _find(kind: str, name: str, weights: Path | None) -> _Found:
    source = SOURCES.get(f"{kind}:{name}")
    if source is None:
        path = _own_file(kind, name, weights)
        return _Found(path, path.name, path.name)
    if source.url is not None and weights is None:
        path = _fetched(f"{kind}:{name}", source, source.url)
    else:
        hub = [(source.repository, source.file_name)] if source.repository else []
        path = find_weights(f"{kind}:{name}", weights, [source.file_name], hub, option=OPTION)
    if source.sha256 is not None and hash_file(path) != source.sha256:
        raise WeightsError(
            f"{path} is not the published file of {kind}:{name}: expected sha256 {source.sha256}, got "
            f"{hash_file(path)}. To use it as a file of your own, write {kind}:{path}"
        )
    return _Found(path, name, source.where if weights is None else path.name)


def _own_file(kind: str, name: str, weights: Path | None) -> Path:
    path = Path(name).expanduser() if name else weights
    if path is None or not path.exists() or (name and weights is not None):
        known = [known for known in describe_loaders() if known.startswith(f"{kind}:")]
        seen = f"there is neither a file nor a folder {path}" if path is not None else "no FILE was given"
        if name and weights is not None:
            seen = f"FILE would be {name}, but {weights} was given too"
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


def _fetched(name: str, source: Source, url: str) -> Path:
    """The file of a URL, from the cache if it is there; checked against the hash expected or remembered."""
    path = cache_folder() / source.file_name
    record = path.with_name(f"{path.name}.sha256")
    try:
        remembered = record.read_text(encoding="utf-8").split() if record.is_file() else []
        download([url], path, sha256=source.sha256 or (remembered[0] if remembered else None))
        if not remembered:
            record.write_text(f"{hash_file(path)}  {path.name}\n", encoding="utf-8")
    except (DataError, OSError) as error:
        raise WeightsError(
            f"the weights of {name!r} are not there: {error}\nOffline, fetch {url} elsewhere and give the file, or a "
            f"folder that holds {source.file_name}, as {OPTION}. If they were published anew, remove {path} and "
            f"{record.name} beside it."
        ) from error
    return path


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
    upsampler.upsampler_source = {"kind": kind, "weights": found.origin, "sha256": hash_file(found.path), **more}


LOADERS.add("loftup", load_pretrained_loftup)
LOADERS.add("featup", load_pretrained_featup)
LOADERS.add("lift", load_pretrained_lift)
