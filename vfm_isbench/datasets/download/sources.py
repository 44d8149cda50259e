"""What can be downloaded, as data: addresses, checksums, licences, citations and expected contents."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from vfm_isbench.datasets.base import ObjectDataset
from vfm_isbench.datasets.catalogue import DATASETS, SAMPLE_WEIGHTS_FILE, Role
from vfm_isbench.datasets.sbd import SAMPLE_WEIGHTS_SHA256, SbdDataset
from vfm_isbench.datasets.sbd_sample import SAMPLE_SIZE, SbdSample
from vfm_isbench.datasets.single_object import BerkeleyDataset, DavisDataset, GrabCutDataset, SingleObjectDataset
from vfm_isbench.registry.registry import unknown_name

_SBD_SITE = "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours"
_FBRS_RELEASE = "https://github.com/saic-vul/fbrs_interactive_segmentation/releases/download/v1.0"
_RITM_COMMIT = "https://raw.githubusercontent.com/SamsungLabs/ritm_interactive_segmentation/b9b44603672e15aa0be878b54fd26e7e1c5d2311"
_ISEGPROBE_COMMIT = "https://raw.githubusercontent.com/havrylovv/iSegProbe/16815f3de1d7817840dbebff04ac225e32ae350c"


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteFile:
    """A file to download.

    Attributes:
        file_name: Its name on every mirror and on disk.
        urls: Official addresses, tried in order.
        about_size: Approximate size in words, for people.
        sha256: Published SHA-256, if any.
        md5: Published MD5, if any.
    """

    file_name: str
    urls: tuple[str, ...]
    about_size: str
    sha256: str | None = None
    md5: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Numbers of photographs and of objects in a split."""

    images: int
    objects: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSource:
    """A data set that can be downloaded.

    Attributes:
        name: Registered name of the data set.
        folder: Its folder in the data root.
        archive: The published archive, ``.zip`` or ``.tar.gz``.
        folders: Folders of its layout.
        files: Files of its layout.
        counts: Published numbers by split; the split is "test" if there is only one.
        open_split: Opens a split, given the data set's folder.
        photograph: Maps an image id to the id of its photograph, if one photograph has several objects.
        description: What it is.
        licence: What is known about the terms of use.
        citation: What to cite.
        sample_weights: Scores of the training images, stored in the same folder, if any.
    """

    name: str
    folder: str
    archive: RemoteFile
    folders: tuple[str, ...]
    files: tuple[str, ...] = ()
    counts: Mapping[str, Counts]
    open_split: Callable[[Path, str], ObjectDataset]
    photograph: Callable[[str], str] = str
    description: str
    licence: str
    citation: str
    sample_weights: RemoteFile | None = None


def source_of(name: str) -> DatasetSource:
    """Look up a data set.

    Raises:
        UnknownNameError: if no data set with this name can be downloaded.
    """
    if name not in SOURCES:
        raise unknown_name("data set to download", name, list(SOURCES))
    return SOURCES[name]


def source_for(name: str) -> DatasetSource | None:
    """Where the files of a data set come from; None if they cannot be downloaded, or it needs none."""
    files_of = DATASETS.get(name).files_of if name in DATASETS else None
    return SOURCES.get(files_of or name)


def published_counts(name: str, role: Role) -> Counts | None:
    """What a data set holds for a role according to its publication; None if nothing is known."""
    if name == SbdSample.name:
        return Counts(images=SAMPLE_SIZE, objects=SAMPLE_SIZE)  # nearly every object on an image of its own
    if name not in SOURCES:
        return None
    counts = SOURCES[name].counts
    return counts.get("train" if role == "train" else "val") or counts["test"]


def berkeley_photograph(image_id: str) -> str:
    """The photograph of a Berkeley image; Berkeley stores a photograph with two objects twice.

    >>> berkeley_photograph("239007a.jpg")
    '239007'
    """
    stem = PurePath(image_id).stem
    number = re.match(r"\d+", stem)
    return number.group() if number else stem


def _open_sbd(root: Path, split: str) -> ObjectDataset:
    return SbdDataset(root, "train" if split == "train" else "val")


def _single_object(
    kind: type[SingleObjectDataset],
    counts: Counts,
    about_size: str,
    photograph: Callable[[str], str] = str,
    *,
    description: str,
    licence: str,
    citation: str,
) -> DatasetSource:
    archive = RemoteFile(
        file_name=f"{kind.folder}.zip", urls=(f"{_FBRS_RELEASE}/{kind.folder}.zip",), about_size=about_size
    )
    return DatasetSource(
        name=kind.name,
        folder=kind.folder,
        archive=archive,
        folders=(kind.images_folder, kind.masks_folder),
        counts={"test": counts},
        open_split=lambda root, _split: kind(root),
        photograph=photograph,
        description=description,
        licence=licence,
        citation=citation,
    )


SOURCES: dict[str, DatasetSource] = {
    "grabcut": _single_object(
        GrabCutDataset,
        Counts(images=50, objects=50),
        "11 MB",
        description="50 photographs with one object each",
        licence="No licence is stated. Published by Microsoft Research Cambridge for research; some of the photographs "
        "are from the Berkeley Segmentation Dataset (non-commercial research and education).",
        citation='Rother, Kolmogorov, Blake: "GrabCut": Interactive foreground extraction using iterated graph cuts. '
        "ACM Transactions on Graphics 23(3), 2004.",
    ),
    "berkeley": _single_object(
        BerkeleyDataset,
        Counts(images=96, objects=100),
        "7 MB",
        berkeley_photograph,
        description="100 objects in 96 photographs",
        licence="Photographs of the Berkeley Segmentation Dataset: non-commercial research and education. For the "
        "masks no licence is stated.",
        citation="McGuinness, O'Connor: A comparative evaluation of interactive segmentation algorithms. "
        "Pattern Recognition 43(2), 2010. "
        "Photographs: Martin, Fowlkes, Tal, Malik: A database of human segmented natural images. ICCV 2001.",
    ),
    "davis": _single_object(
        DavisDataset,
        Counts(images=345, objects=345),
        "43 MB",
        description="345 video frames with one object each",
        licence="Terms of the DAVIS authors: https://davischallenge.org.",
        citation="Perazzi, Pont-Tuset, McWilliams, Van Gool, Gross, Sorkine-Hornung: A benchmark dataset and "
        "evaluation methodology for video object segmentation. CVPR 2016.",
    ),
    "sbd": DatasetSource(
        name="sbd",
        folder=SbdDataset.folder,
        # The archive that torchvision downloads. Its train_noval.txt is not needed: RITM trains on another split.
        archive=RemoteFile(
            file_name="benchmark.tgz",
            urls=(f"{_SBD_SITE}/benchmark.tgz",),
            about_size="1.4 GB",
            md5="82b4d87ceb2ed10f6038a1cba92111cb",
        ),
        folders=("img", "inst"),
        files=("train.txt", "val.txt"),
        # All instances, including the broken masks that training leaves out.
        counts={"train": Counts(images=8498, objects=20172), "val": Counts(images=2857, objects=6671)},
        open_split=_open_sbd,
        description="8498 photographs to train on, 2857 to test on, with several instances each",
        licence="Photographs of PASCAL VOC 2011, from Flickr, under Flickr's terms of use. For the annotations no "
        "licence is stated.",
        citation="Hariharan, Arbeláez, Bourdev, Maji, Malik: Semantic contours from inverse detectors. ICCV 2011. "
        "Scores of the training images: Sofiiuk, Petrov, Konushin: Reviving iterative training with mask guidance for "
        "interactive segmentation. ICIP 2022 (RITM, MIT licence).",
        sample_weights=RemoteFile(
            file_name=SAMPLE_WEIGHTS_FILE,
            urls=(f"{_RITM_COMMIT}/assets/{SAMPLE_WEIGHTS_FILE}", f"{_ISEGPROBE_COMMIT}/assets/{SAMPLE_WEIGHTS_FILE}"),
            about_size="below 1 MB",
            sha256=SAMPLE_WEIGHTS_SHA256,
        ),
    ),
}
"""All data sets that can be downloaded, by name. GrabCut, Berkeley and DAVIS are the archives prepared for f-BRS
(Sofiiuk et al. 2020), which have no published hashes."""
