"""From a data set's name to the opened data set."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from vfm_isbench.datasets.base import ObjectDataset
from vfm_isbench.datasets.sbd import SbdDataset, is_published_sample_weights, read_sample_weights
from vfm_isbench.datasets.scenes import ScenesDataset
from vfm_isbench.datasets.single_object import BerkeleyDataset, DavisDataset, GrabCutDataset
from vfm_isbench.errors import DataError, VfmIsbenchWarning
from vfm_isbench.protocol import Protocol
from vfm_isbench.registry import Registry
from vfm_isbench.types import Array

Role = Literal["train", "validation", "test"]
Opener = Callable[[Role, Path | None, Protocol], ObjectDataset]

DATASETS: Registry[Opener] = Registry("data set")
SAMPLE_WEIGHTS_FILE = "sbd_samples_weights.pkl"

_DESCRIPTIONS = {
    "sbd": "SBD: trained on; as a test set its 2857 validation images, 6671 instances (SBD/)",
    "grabcut": "GrabCut: 50 objects (GrabCut/)",
    "berkeley": "Berkeley: 100 objects in 96 images (Berkeley/)",
    "davis": "DAVIS: 345 video frames, one object each (DAVIS/)",
    "scenes": "embedded: generated scenes of textured objects, for the demo; needs no files",
}


def list_datasets() -> dict[str, str]:
    """Names of the data sets, each with a one-line description."""
    return {name: _DESCRIPTIONS[name] for name in DATASETS}


def open_dataset(name: str, role: Role, data_root: Path | None, protocol: Protocol) -> ObjectDataset:
    """Open a data set for training, validation or test.

    Raises:
        UnknownNameError: if there is no such data set.
        DataError: if its folder is missing or incomplete, or the data set has no training images.
    """
    return DATASETS.get(name)(role, data_root, protocol)


def _folder(name: str, folder: str, data_root: Path | None) -> Path:
    if data_root is None:
        raise DataError(
            f"data set {name!r} needs files: give the folder that holds {folder}/ as data_root=… "
            "(command line: --data-root DIR). Without any files, the protocol 'demo' runs on the embedded scenes."
        )
    if not data_root.is_dir():
        raise DataError(f"data_root {data_root} is no folder; expected one that holds {folder}/")
    return data_root / folder


def _single_object(kind: type[GrabCutDataset] | type[BerkeleyDataset] | type[DavisDataset]) -> Opener:
    def open_it(role: Role, data_root: Path | None, _protocol: Protocol) -> ObjectDataset:
        if role != "test":
            raise DataError(f"data set {kind.name!r} is a test set; train and validate on 'sbd' or 'scenes'")
        return kind(_folder(kind.name, kind.folder, data_root))

    return open_it


def _open_sbd(role: Role, data_root: Path | None, protocol: Protocol) -> ObjectDataset:
    split: Literal["train", "val"] = "train" if role == "train" else "val"
    return SbdDataset(_folder("sbd", SbdDataset.folder, data_root), split, protocol.min_fill_ratio)


def _open_scenes(role: Role, _data_root: Path | None, _protocol: Protocol) -> ObjectDataset:
    splits: dict[Role, Literal["train", "val", "test"]] = {"train": "train", "validation": "val", "test": "test"}
    return ScenesDataset(split=splits[role])


DATASETS.add("sbd", _open_sbd)
for _kind in (GrabCutDataset, BerkeleyDataset, DavisDataset):
    DATASETS.add(_kind.name, _single_object(_kind))
DATASETS.add("scenes", _open_scenes)


def training_weights(
    dataset: ObjectDataset, protocol: Protocol, data_root: Path | None
) -> tuple[Array | None, Literal["ritm", "uniform"]]:
    """Probability of each training image, and which rule the protocol's setting came to.

    RITM's scores are looked for beside and inside the SBD folder.

    Raises:
        DataError: if the protocol insists on the scores and the file is not there, or the file is broken.
    """
    if protocol.sample_weights == "uniform" or not isinstance(dataset, SbdDataset) or data_root is None:
        return None, "uniform"
    places = [data_root / SAMPLE_WEIGHTS_FILE, data_root / SbdDataset.folder / SAMPLE_WEIGHTS_FILE]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        if protocol.sample_weights == "ritm":
            raise DataError(
                f"sample_weights='ritm' needs {SAMPLE_WEIGHTS_FILE} (folder assets/ of the RITM repository) as {places[0]} "
                "or in the SBD folder; sample_weights='uniform' trains without it"
            )
        warnings.warn(
            f"{SAMPLE_WEIGHTS_FILE} is neither at {places[0]} nor in the SBD folder: training images are drawn evenly "
            "instead of by RITM's scores, and the protocol's fingerprint says so",
            VfmIsbenchWarning,
            stacklevel=3,
        )
        return None, "uniform"
    if not is_published_sample_weights(found):
        warnings.warn(f"{found} differs from the file RITM published", VfmIsbenchWarning, stacklevel=3)
    return read_sample_weights(found, dataset.image_ids, protocol.sample_weight_gamma), "ritm"
