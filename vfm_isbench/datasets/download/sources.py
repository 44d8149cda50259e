"""What can be downloaded, as data: addresses, checksums, licences, citations and expected contents."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from vfm_isbench.datasets.base import ObjectDataset
from vfm_isbench.datasets.catalogue import DATASETS, SAMPLE_WEIGHTS_FILE, Role
from vfm_isbench.datasets.hqseg import HqSegDataset
from vfm_isbench.datasets.own_names import is_own
from vfm_isbench.datasets.pascal_voc import PascalVocDataset
from vfm_isbench.datasets.sbd import SAMPLE_WEIGHTS_SHA256, SbdDataset
from vfm_isbench.datasets.sbd_sample import SAMPLE_SIZE, SbdSample
from vfm_isbench.datasets.single_object import (
    BerkeleyDataset,
    CocoMvalDataset,
    DavisDataset,
    GrabCutDataset,
    SingleObjectDataset,
)
from vfm_isbench.datasets.tetris import TetrisDataset
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
        copies: Addresses of archives that others packed anew: no checksum fits, only the content tells whether they
            are right. Tried last.
    """

    file_name: str
    urls: tuple[str, ...]
    about_size: str
    sha256: str | None = None
    md5: str | None = None
    copies: tuple[str, ...] = ()


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
        archive: The published archive, ``.zip``, ``.tar`` or ``.tar.gz``.
        more_archives: Names of further archives that the data set consists of. Such a data set is fetched by hand.
        page: Where people find the archive, if this library does not download it.
        folders: Folders of its layout.
        files: Files of its layout.
        counts: Published numbers by split; the split is "test" if there is only one.
        open_split: Opens a split, given the data set's folder.
        photograph: Maps an image id to the id of its photograph, if one photograph has several objects.
        description: What it is.
        licence: What is known about the terms of use.
        citation: What to cite.
        sample_weights: Scores of the training images, stored in the same folder, if any.
        has_instances: Whether images can have several objects, told apart by a number.
        disputed_objects: Other numbers of objects that publications give for the same files.
    """

    name: str
    folder: str
    archive: RemoteFile
    more_archives: tuple[str, ...] = ()
    page: str | None = None
    folders: tuple[str, ...]
    files: tuple[str, ...] = ()
    counts: Mapping[str, Counts]
    open_split: Callable[[Path, str], ObjectDataset]
    photograph: Callable[[str], str] = str
    description: str
    licence: str
    citation: str
    sample_weights: RemoteFile | None = None
    has_instances: bool = False
    disputed_objects: tuple[int, ...] = ()

    @property
    def archive_names(self) -> tuple[str, ...]:
        """File names of all archives."""
        return (self.archive.file_name, *self.more_archives)


def on_drive(file_id: str) -> str:
    """Address of a public file on Google Drive."""
    return f"https://drive.google.com/uc?export=download&id={file_id}"


def source_of(name: str) -> DatasetSource:
    """Look up a data set.

    Raises:
        UnknownNameError: if no data set with this name can be downloaded.
    """
    if name not in SOURCES:
        files_of = DATASETS.get(name).files_of if name in DATASETS else None
        hint = f"{name} is made of the files of {files_of}." if files_of else ""
        if is_own(name):
            hint = f"Your own data are not downloaded; check them with: vfm-isbench data objects {name}"
        raise unknown_name("published data set", name, list(SOURCES), hint)
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
    drive: str,
    description: str,
    licence: str,
    citation: str,
) -> DatasetSource:
    archive = RemoteFile(
        file_name=f"{kind.folder}.zip",
        urls=(f"{_FBRS_RELEASE}/{kind.folder}.zip", on_drive(drive)),
        about_size=about_size,
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
        drive="1tU17eJaevYd5PQAwzEK6oG1N9eBJORC4",
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
        drive="1yStolKW8AnS5rYm3VhgnID_XReNCXbEJ",
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
        drive="1DhwMOqbwH4tcIrVfqtSczdofjdHHnMCJ",
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
            copies=(on_drive("13LOm0eorDCWO19PzgEI2NeDpWGiZanAf"),),
        ),
        has_instances=True,
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
    "coco_mval": _single_object(
        CocoMvalDataset,
        Counts(images=800, objects=800),
        "127 MB",
        drive="1oz1VT8YqykQFfx_Vtp_wtYFGz5mYBOnp",
        description="800 photographs with one object each",
        licence="Photographs of COCO, from Flickr, under Flickr's terms of use; annotations of COCO: CC BY 4.0.",
        citation="Lin, Maire, Belongie et al.: Microsoft COCO: Common objects in context. ECCV 2014. The choice of "
        "objects: Sofiiuk, Petrov, Barinova, Konushin: f-BRS: Rethinking backpropagating refinement for interactive "
        "segmentation. CVPR 2020.",
    ),
    "pascal_voc": DatasetSource(
        name="pascal_voc",
        folder=PascalVocDataset.folder,
        # The archive that torchvision downloads, and its first home.
        archive=RemoteFile(
            file_name="VOCtrainval_11-May-2012.tar",
            urls=(
                "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
            ),
            about_size="2.0 GB",
            md5="6cd6e144f989b92b3379bac3b3de84fd",
        ),
        folders=("JPEGImages", "SegmentationObject"),
        files=(PascalVocDataset.list_file,),
        counts={"val": Counts(images=1449, objects=3427)},
        open_split=lambda root, _split: PascalVocDataset(root),
        description="1449 photographs of PASCAL VOC 2012 val, with several instances each",
        licence="Photographs from Flickr, under Flickr's terms of use.",
        citation="Everingham, Van Gool, Williams, Winn, Zisserman: The PASCAL visual object classes (VOC) challenge. "
        "International Journal of Computer Vision 88(2), 2010.",
        has_instances=True,
        disputed_objects=(3417, 3422),
    ),
    "hqseg44k": DatasetSource(
        name="hqseg44k",
        folder=HqSegDataset.folder,
        archive=RemoteFile(file_name="DIS5K.zip", urls=(), about_size="by hand"),
        more_archives=("thin_object_detection.zip",),
        page="https://huggingface.co/sam-hq-team/sam-hq-training/tree/main/data",
        folders=HqSegDataset.folders(),
        counts={"test": Counts(images=1537, objects=1537)},
        open_split=lambda root, _split: HqSegDataset(root),
        description="1537 photographs of HQSeg-44K val, with one finely drawn object each",
        licence="Terms of the parts: DIS5K (its terms of use are in the archive), ThinObject-5K, COIFT and HRSOD.",
        citation="Ke, Ye, Danelljan, Liu, Tai, Tang, Yu: Segment anything in high quality. NeurIPS 2023.",
    ),
    "tetris": DatasetSource(
        name="tetris",
        folder=TetrisDataset.folder,
        archive=RemoteFile(
            file_name="TETRIS.zip", urls=(on_drive("1iJgohY1XBSnY-kRUoaRZJlu0HZbyHcyK"),), about_size="6.3 GB"
        ),
        folders=(TetrisDataset.images_folder, TetrisDataset.masks_folder),
        counts={"val": Counts(images=2000, objects=2531)},
        open_split=lambda root, _split: TetrisDataset(root),
        description="2000 photographs of high resolution, with 2531 objects",
        licence="No licence is stated.",
        citation="Moskalenko, Shakhuro, Vorontsova, Konushin, Antonov, Krapukhin, Shepelev, Soshin: TETRIS: Towards "
        "exploring the robustness of interactive segmentation. AAAI 2024.",
        has_instances=True,
    ),
}
"""All published data sets that this library reads, by name. GrabCut, Berkeley, DAVIS and COCO-MVal are the archives
prepared for f-BRS (Sofiiuk et al. 2020), which have no published hashes; they were reported gone from their release, so
copies that the README of RClicks (Antonov et al. 2024) names follow."""
