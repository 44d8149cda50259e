"""Backbone features on disk, for sweeps over many upsamplers: the same crops go through one backbone each time."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vfm_isbench.backbones import Backbone
from vfm_isbench.errors import SpeedError, VfmIsbenchWarning
from vfm_isbench.probe import Probe
from vfm_isbench.upsamplers import identity_of


class FeatureCache:
    """Features of image crops, at the patch grid, by what they were computed from and never by a name.

    A file is named by the hash of the backbone's code, settings and weights, of PyTorch's version and the kind of
    device, and of the crop's pixels as the backbone is given them. Features come back bit for bit.

    Hits are the crops that runs have in common: all of the training (whose crops depend on seed, epoch and item alone),
    and the first crop of every image in the evaluation; later crops follow the predictions, and are stored in vain.

    Args:
        folder: Created if absent; may be shared by several processes.
        backbone: The frozen backbone, on its device.
        max_gib: Features are no longer added once this instance has written so much.

    Raises:
        SpeedError: if the folder cannot be written, or the identity of the backbone cannot be established, so that its
            features could be taken for those of another.
    """

    def __init__(self, folder: Path, backbone: Backbone, *, max_gib: float = 20.0) -> None:
        identity = identity_of(backbone).sha256
        if identity is None:
            raise SpeedError(
                f"features of backbone {backbone.name!r} cannot be cached: its code cannot be read, so that it could "
                "not be told from another one; leave the feature cache out"
            )
        self.backbone = backbone
        self.hits = self.misses = 0
        self._folder = folder
        self._left = int(max_gib * 2**30)
        device = next(backbone.parameters()).device.type
        self._prefix = f"{identity} {torch.__version__} {device}".encode()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise SpeedError(f"the feature cache {folder} cannot be written: {error}; choose another folder") from error

    def __call__(self, images: Tensor) -> Tensor:
        """Features B×C×h×w of normalised crops B×3×H×W, from disk where they are there."""
        files = [self._file(image) for image in images]
        found = [_read(file) for file in files]
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
        return self._folder / key[:2] / f"{key}.safetensors"

    def _write(self, file: Path, features: Tensor) -> None:
        size = features.numel() * features.element_size()
        if size > self._left:
            if self._left >= 0:
                self._left = -1
                warnings.warn(
                    f"the feature cache {self._folder} has taken all it may in one run; no more features are added",
                    VfmIsbenchWarning,
                    stacklevel=2,
                )
            return
        self._left -= size
        partial = file.with_name(f"{file.stem}.{os.getpid()}.partial")
        try:
            file.parent.mkdir(exist_ok=True)
            # Whole or not at all, also where several processes write the same features.
            save_file({"features": features.detach().cpu().contiguous()}, partial)
            partial.replace(file)
        except (OSError, SafetensorError) as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            self._left = -1
            warnings.warn(f"no more features are cached: {error}", VfmIsbenchWarning, stacklevel=2)


@contextmanager
def cached_features(probe: Probe, folder: Path | None) -> Iterator[FeatureCache | None]:
    """Let a probe take its backbone's features from a cache inside a ``with`` block; None leaves it as it is.

    With early injection features depend on the clicks: a warning says that nothing is cached.

    Raises:
        SpeedError: see :class:`FeatureCache`.
    """
    if folder is not None and probe.injection == "early":
        warnings.warn(
            "no features are cached: with early injection they depend on the clicks", VfmIsbenchWarning, stacklevel=4
        )
    if folder is None or probe.injection == "early":
        yield None
        return
    cache = FeatureCache(folder, probe.backbone)
    probe.feature_cache = cache
    try:
        yield cache
    finally:
        probe.feature_cache = None


def _read(file: Path) -> Tensor | None:
    """Features of a file; None where it is not there or broken, so that they are computed and written anew."""
    try:
        features: Tensor = load_file(file)["features"]
        return features
    except (OSError, SafetensorError, KeyError):
        return None
