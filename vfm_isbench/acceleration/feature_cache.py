"""Backbone features on disk, for sweeps over many upsamplers: the same crops go through the same backbone each time."""

from __future__ import annotations

import errno
import hashlib
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from vfm_isbench.backbones import Backbone
from vfm_isbench.errors import SpeedError, VfmIsbenchWarning
from vfm_isbench.probe import Probe
from vfm_isbench.storage.atomic import remove_left_over, replacing
from vfm_isbench.upsamplers.identity import fingerprint_of

_DIGEST_BYTES = 32
_FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})


class FeatureCache:
    """Features of image crops at the patch grid, found by what they were computed from, never by a name.

    A file name is a hash of the backbone's code, settings and weights, PyTorch's version, the kind of device, and the
    normalised pixels of the crop. Features come back bit for bit: each file begins with a checksum of its name and of
    the rest, which is a safetensors file. A damaged file counts as missing, and is replaced.

    Runs have these crops in common: all of the training (they depend only on seed, epoch and item), and the first crop
    of every image in the evaluation. Later crops depend on the predictions; storing them gains nothing.

    Args:
        folder: Created if missing; several processes may share it.
        backbone: The frozen backbone, on its device.
        max_gib: Once this instance has written so much, it adds no more features.

    Raises:
        SpeedError: if the folder cannot be written, or the backbone has no identity, so that its features could be
            mistaken for those of another backbone.

    Warns:
        VfmIsbenchWarning: if the disk is full; features are then read, but not added.

    Attributes:
        backbone: As given.
        hits: Number of crops whose features were on disk.
        misses: Number of the others.
        damaged: The files that could not be used. :func:`reporting` says so.
    """

    def __init__(self, folder: Path, backbone: Backbone, *, max_gib: float = 20.0) -> None:
        identity = fingerprint_of(backbone)
        if identity is None:
            raise SpeedError(
                f"features of backbone {backbone.name!r} cannot be cached: its code cannot be read, so it could be "
                "mistaken for another backbone; leave the feature cache out"
            )
        self.backbone = backbone
        self.hits = self.misses = 0
        self.damaged: list[Path] = []
        self._folder = folder
        self._left = int(max_gib * 2**30)
        device = next(backbone.parameters()).device.type
        self._prefix = f"{identity} {torch.__version__} {device}".encode()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for part in folder.iterdir():
                if part.is_dir():
                    remove_left_over(part)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            if error.errno not in _FULL_DISK:
                raise SpeedError(
                    f"the feature cache {folder} cannot be written: {error}; choose another folder"
                ) from error
            self._stop_adding(error)

    def __call__(self, images: Tensor) -> Tensor:
        """Features B×C×h×w of normalised crops B×3×H×W, from disk if cached."""
        files = [self._file(image) for image in images]
        found = [self._read(file) for file in files]
        missing = [index for index, features in enumerate(found) if features is None]
        self.hits += len(files) - len(missing)
        self.misses += len(missing)
        if missing:
            for index, features in zip(missing, self.backbone(images[missing]), strict=True):
                found[index] = features
                self._write(files[index], features)
        return torch.stack([features.to(images.device) for features in found if features is not None])

    def _file(self, image: Tensor) -> Path:
        pixels = image.detach().cpu().contiguous()
        digest = hashlib.sha256(self._prefix + f" {pixels.dtype} {tuple(pixels.shape)} ".encode())
        digest.update(pixels.view(torch.uint8).numpy().tobytes())
        key = digest.hexdigest()
        return self._folder / key[:2] / f"{key}.features"

    def _read(self, file: Path) -> Tensor | None:
        """Features from a file; None if it is missing or damaged."""
        try:
            content = memoryview(file.read_bytes())
        except FileNotFoundError:
            return None
        except OSError:
            content = memoryview(b"")
        checksum, tensors = bytes(content[:_DIGEST_BYTES]), content[_DIGEST_BYTES:]
        if checksum != _checksum(file, tensors):
            self.damaged.append(file)
            return None
        features: Tensor = load(bytes(tensors))["features"]
        return features

    def _write(self, file: Path, features: Tensor) -> None:
        size = features.numel() * features.element_size()
        if size > self._left:
            if self._left >= 0:
                self._left = -1
                warnings.warn(
                    f"the feature cache {self._folder} has reached its limit for one run; no more features are added",
                    VfmIsbenchWarning,
                    stacklevel=2,
                )
            return
        self._left -= size
        try:
            file.parent.mkdir(exist_ok=True)
            tensors = save({"features": features.detach().cpu().contiguous()})
            with replacing(file, durable=False) as partial, partial.open("wb") as opened:
                opened.write(_checksum(file, tensors))
                opened.write(tensors)
        except (OSError, SafetensorError) as error:
            self._stop_adding(error)

    def _stop_adding(self, error: Exception) -> None:
        self._left = -1
        warnings.warn(f"no more features are cached: {error}", VfmIsbenchWarning, stacklevel=3)


def open_feature_cache(probe: Probe, folder: Path | None, *, training: bool = False) -> FeatureCache | None:
    """The cache of a probe's backbone features in a folder; None without a folder.

    With early injection features depend on the clicks, adapters in the backbone change them, and in the training of
    a backbone they change with every step: a warning says that nothing is cached. In evaluation, a trained backbone has
    an identity of its own.

    Raises:
        SpeedError: see :class:`FeatureCache`.
    """
    if folder is None:
        return None
    if probe.injection == "early":
        warnings.warn(
            "no features are cached: with early injection they depend on the clicks", VfmIsbenchWarning, stacklevel=3
        )
        return None
    if training and "backbone" in probe.trained_parts:
        warnings.warn(
            "no features are cached in training: the backbone is trained, so they change with every step",
            VfmIsbenchWarning,
            stacklevel=3,
        )
        return None
    if not probe.has_fixed_features:
        warnings.warn(
            "no features are cached: the adapters of the backbone change them", VfmIsbenchWarning, stacklevel=3
        )
        return None
    return FeatureCache(folder, probe.backbone)


@contextmanager
def reporting(cache: FeatureCache | None) -> Iterator[None]:
    """Warn once, after a ``with`` block, of the damaged files that a cache has met in it."""
    before = 0 if cache is None else len(cache.damaged)
    try:
        yield
    finally:
        damaged = [] if cache is None else cache.damaged[before:]
        if damaged:
            files = "a file" if len(damaged) == 1 else f"{len(damaged)} files"
            warnings.warn(
                f"{files} of the feature cache could not be read or failed the checksum, the first of them "
                f"{damaged[0]}; these features were computed again. If this happens often, check the disk",
                VfmIsbenchWarning,
                stacklevel=3,
            )


def _checksum(file: Path, tensors: bytes | memoryview) -> bytes:
    """Hash of a file's name, so that no file stands in for another, and of its tensors."""
    digest = hashlib.sha256(f"{file.stem} ".encode())
    digest.update(tensors)
    return digest.digest()
