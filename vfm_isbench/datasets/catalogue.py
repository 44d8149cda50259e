"""Opens a data set by its name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vfm_isbench.datasets.base import ObjectDataset, notes_of
from vfm_isbench.datasets.hqseg import HqSegDataset
from vfm_isbench.datasets.own_folder import folder_has_parts, open_folder
from vfm_isbench.datasets.own_hub import open_hub_dataset
from vfm_isbench.datasets.own_names import FOLDER, as_recorded, is_own
from vfm_isbench.datasets.pascal_voc import PascalVocDataset
from vfm_isbench.datasets.sample_checks import check_image_ids, check_objects
from vfm_isbench.datasets.sbd import SbdDataset, is_published_sample_weights, read_sample_weights
from vfm_isbench.datasets.sbd_sample import SAMPLE_SIZE, SbdSample
from vfm_isbench.datasets.scenes.dataset import Split
from vfm_isbench.datasets.scenes.embedded import EMBEDDED, EmbeddedScenes
from vfm_isbench.datasets.single_object import (
    BerkeleyDataset,
    CocoMvalDataset,
    DavisDataset,
    GrabCutDataset,
    SingleObjectDataset,
)
from vfm_isbench.datasets.tetris import TetrisDataset
from vfm_isbench.errors import DataError, VfmIsbenchWarning
from vfm_isbench.protocol import Protocol
from vfm_isbench.registry.plugins import Plugins
from vfm_isbench.registry.registry import Registry
from vfm_isbench.types import Array

Role = Literal["train", "validation", "test"]
Opener = Callable[[Role, Path | None, Protocol], ObjectDataset]


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """A registered data set.

    Attributes:
        description: One line for lists.
        open: Opens it for a role, from the data root (None if none was given), with the protocol's settings.
        files_of: Name of the data set whose files it reads, if that is another one.
    """

    description: str
    open: Opener
    files_of: str | None = None


DATASETS: Registry[DatasetEntry] = Registry("data set")
SAMPLE_WEIGHTS_FILE = "sbd_samples_weights.pkl"

DATASET_PLUGINS = Plugins(
    "data set",
    "vfm_isbench.datasets",
    "a function (role, data_root, protocol) that opens a vfm_isbench.datasets.ObjectDataset of the same name",
    lambda: list(DATASETS),
)


def list_datasets() -> dict[str, str]:
    """Names of the built-in data sets, each with a one-line description."""
    return {name: DATASETS.get(name).description for name in DATASETS}


def open_dataset(name: str, role: Role, data_root: Path | None, protocol: Protocol) -> ObjectDataset:
    """Open a data set for training, validation or test: a built-in one, ``folder:PATH``, ``hf:…``, or a plugin's.

    Raises:
        UnknownNameError: if no data set has this name.
        DataError: if its folder is missing or incomplete, it has no training images but needs them, or it lists an
            image or an object more than once.
        PluginError: if it comes from a plugin that is broken or refused.
    """
    if name in DATASETS:
        DATASET_PLUGINS.warn_if_refused(name)
        return DATASETS.get(name).open(role, data_root, protocol)
    if is_own(name):
        # Granularity is learned from parts, and the published data sets here have none.
        if not (name.startswith(FOLDER) and folder_has_parts(name, data_root)):
            _require_test(name, role)
        return open_folder(name, data_root) if name.startswith(FOLDER) else open_hub_dataset(name)
    plugin = DATASET_PLUGINS.find(name, "Your own images and masks: folder:PATH, or hf:OWNER/NAME.")
    dataset = plugin.make(ObjectDataset, role, data_root, protocol)  # type: ignore[type-abstract]
    if getattr(dataset, "name", None) != name:
        called = getattr(dataset, "name", None)
        raise plugin.error(f"opens a data set that calls itself {called!r}, and results would record that name")
    check_image_ids(name, dataset.image_ids)
    if role == "test":
        check_objects(name, dataset.objects)
    return dataset


def _folder(name: str, folder: str, data_root: Path | None) -> Path:
    if data_root is None:
        raise DataError(
            f"data set {name!r} needs files: pass the folder that contains {folder}/ as data_root=… (command line: "
            f"--data-root DIR), or download it first: vfm-isbench data download {DATASETS.get(name).files_of or name} "
            "--data-root DIR. The protocol 'demo' needs no files: it uses the embedded scenes."
        )
    if not data_root.is_dir():
        raise DataError(f"data_root {data_root} is not a folder; expected a folder that contains {folder}/")
    return data_root / folder


def _require_test(name: str, role: Role) -> None:
    if role != "test":
        raise DataError(f"data set {name!r} is a test set; train and validate on 'sbd' or 'scenes'")


def _test_set(
    kind: type[SingleObjectDataset] | type[PascalVocDataset] | type[HqSegDataset] | type[TetrisDataset],
) -> Opener:
    def open_it(role: Role, data_root: Path | None, _protocol: Protocol) -> ObjectDataset:
        _require_test(kind.name, role)
        return kind(_folder(kind.name, kind.folder, data_root))

    return open_it


def _open_sbd(role: Role, data_root: Path | None, protocol: Protocol) -> ObjectDataset:
    split: Literal["train", "val"] = "train" if role == "train" else "val"
    return SbdDataset(_folder("sbd", SbdDataset.folder, data_root), split, protocol.min_fill_ratio)


def _open_sbd_sample(role: Role, data_root: Path | None, _protocol: Protocol) -> ObjectDataset:
    _require_test(SbdSample.name, role)
    return SbdSample(_folder(SbdSample.name, SbdSample.folder, data_root))


_SPLITS: dict[Role, Split] = {"train": "train", "validation": "val", "test": "test"}


def _embedded(name: str, scenes: EmbeddedScenes) -> DatasetEntry:
    return DatasetEntry(scenes.description, lambda role, _data_root, _protocol: scenes.open(name, _SPLITS[role]))


_SBD = "SBD: for training; as a test set its 2857 validation images, 6671 instances (SBD/)"
DATASETS.add("sbd", DatasetEntry(_SBD, _open_sbd))
DATASETS.add("grabcut", DatasetEntry("GrabCut: 50 objects (GrabCut/)", _test_set(GrabCutDataset)))
DATASETS.add("berkeley", DatasetEntry("Berkeley: 100 objects in 96 images (Berkeley/)", _test_set(BerkeleyDataset)))
DATASETS.add("davis", DatasetEntry("DAVIS: 345 video frames, one object each (DAVIS/)", _test_set(DavisDataset)))
DATASETS.add(
    SbdSample.name,
    DatasetEntry(f"{SAMPLE_SIZE} of SBD's 6671 validation instances, of all sizes (SBD/)", _open_sbd_sample, "sbd"),
)
DATASETS.add("coco_mval", DatasetEntry("COCO-MVal: 800 objects (COCO_MVal/)", _test_set(CocoMvalDataset)))
DATASETS.add(
    "pascal_voc",
    DatasetEntry("PASCAL VOC 2012: 1449 validation images, 3427 instances (VOC2012/)", _test_set(PascalVocDataset)),
)
DATASETS.add(
    "hqseg44k", DatasetEntry("HQSeg-44K: 1537 validation images, one object each (HQSeg44K/)", _test_set(HqSegDataset))
)
DATASETS.add(
    "tetris", DatasetEntry("TETRIS: 2531 objects in 2000 images, high resolution (TETRIS/)", _test_set(TetrisDataset))
)
for _name, _scenes in EMBEDDED.items():
    DATASETS.add(_name, _embedded(_name, _scenes))


def training_weights(
    dataset: ObjectDataset, protocol: Protocol, data_root: Path | None
) -> tuple[Array | None, Literal["ritm", "uniform"]]:
    """Probability of each training image, and the rule that was actually used.

    RITM's scores are expected beside or inside the SBD folder.

    Raises:
        DataError: if the file is broken.
    """
    if protocol.sample_weights == "uniform" or not isinstance(dataset, SbdDataset) or data_root is None:
        return None, "uniform"
    places = [data_root / SAMPLE_WEIGHTS_FILE, data_root / SbdDataset.folder / SAMPLE_WEIGHTS_FILE]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        warnings.warn(
            f"{SAMPLE_WEIGHTS_FILE} is neither at {places[0]} nor in the SBD folder: training images are drawn evenly "
            "instead of by RITM's scores, and the result's protocol and fingerprint say so. You can find the file in "
            "the folder assets/ of the RITM repository",
            VfmIsbenchWarning,
            stacklevel=3,
        )
        return None, "uniform"
    if not is_published_sample_weights(found):
        warnings.warn(f"{found} differs from the file that RITM published", VfmIsbenchWarning, stacklevel=3)
    return read_sample_weights(found, dataset.image_ids, protocol.sample_weight_gamma), "ritm"


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a probe is trained on.

    Attributes:
        training: Training set.
        validation: Validation set.
        weights: Probability of each training image; None draws evenly.
        protocol: The protocol as results record it: with the ``sample_weights`` that were actually used, and without
            the paths of the user's own test sets.
    """

    training: ObjectDataset
    validation: ObjectDataset
    weights: Array | None
    protocol: Protocol

    def notes(self) -> list[str]:
        """What the two data sets say about themselves, for the result's notes."""
        parts = {"trained": self.training, "validated": self.validation}
        return [
            f"{verb} on {dataset.name}: {note}"
            for verb, dataset in parts.items()
            for note in notes_of(dataset, self.protocol)
        ]


def open_training_data(protocol: Protocol, data_root: Path | None) -> TrainingData:
    """Open training and validation set; raises errors like :func:`open_dataset` and :func:`training_weights`."""
    training = open_dataset(protocol.train_dataset, "train", data_root, protocol)
    weights, rule = training_weights(training, protocol, data_root)
    validation = open_dataset(protocol.validation_dataset, "validation", data_root, protocol)
    protocol = as_recorded(protocol.replace(sample_weights=rule))
    if protocol.granularity != "none" and not training.has_parts:
        warnings.warn(
            f"granularity {protocol.granularity!r} cannot be learned from {training.name!r}: it has no parts, so every "
            "granularity in it is 1. Train on a data set with parts, such as 'part_scenes' (command line: --set "
            "train_dataset=part_scenes)",
            VfmIsbenchWarning,
            stacklevel=2,
        )
    return TrainingData(training, validation, weights, protocol)
