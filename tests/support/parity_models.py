"""What parity tests share: the small models and the data sets behind the numbers recorded from the reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from vfm_isbench.datasets import ObjectDataset
from vfm_isbench.datasets.sbd import SbdDataset
from vfm_isbench.datasets.single_object import BerkeleyDataset, DavisDataset, GrabCutDataset
from vfm_isbench.isegprobe import assemble_reference, read_reference
from vfm_isbench.probe import Probe
from vfm_isbench.types import AnnotatedImage


class TrainingPhotographs(SbdDataset):
    """The training images of SBD, each decoded once."""

    def __init__(self, real_root: Path) -> None:
        super().__init__(real_root / "SBD", "train")
        self._read: dict[str, AnnotatedImage] = {}

    def read(self, image_id: str) -> AnnotatedImage:
        if image_id not in self._read:
            self._read[image_id] = super().read(image_id)
        return self._read[image_id]


Deviation: TypeAlias = Callable[[str, float, float], None]
"""Called with the step of the protocol, the largest deviation found, and the largest that is allowed."""


def recorded_probe(path: Path) -> Probe:
    """Assemble the model of one ``end_to_end/*.safetensors`` file, in eval mode."""
    return assemble_reference(read_reference(path))


def recorded_dataset(root: Path, name: str) -> ObjectDataset:
    """The data set that the recorded evaluation calls ``name``."""
    if name == "SBD":
        return SbdDataset(root / name, "val")
    kinds: dict[str, Callable[[Path], ObjectDataset]] = {
        "GrabCut": GrabCutDataset,
        "Berkeley": BerkeleyDataset,
        "DAVIS": DavisDataset,
    }
    return kinds[name](root / name)
