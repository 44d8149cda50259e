"""Miniature data sets in the published layouts and archives, and sources with their numbers."""

from __future__ import annotations

import functools
import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from archive_server import Answer, ArchiveServer
from PIL import Image
from scipy.io import savemat

from vfm_isbench.datasets.download.sources import SOURCES, Counts, DatasetSource

SAMPLE_WEIGHTS = b"stands for the scores"
"""Content of the score file that :func:`serve_small` serves."""

IMAGES = {
    "grabcut": ["21077.jpg", "person1.jpg"],
    "berkeley": ["12003.jpg", "239007.jpg", "239007a.jpg"],
    "davis": ["bear_00000.jpg", "bear_00001.jpg"],
    "coco_mval": ["000000000139.jpg", "000000000285.jpg"],
    "tetris": ["cat.jpg", "dog.jpg"],
}
COUNTS = {
    "grabcut": {"test": Counts(images=2, objects=2)},
    "berkeley": {"test": Counts(images=2, objects=3)},
    "davis": {"test": Counts(images=2, objects=2)},
    "sbd": {"train": Counts(images=2, objects=4), "val": Counts(images=1, objects=2)},
    "coco_mval": {"test": Counts(images=2, objects=2)},
    "pascal_voc": {"val": Counts(images=2, objects=4)},
    "hqseg44k": {"test": Counts(images=4, objects=4)},
    "tetris": {"val": Counts(images=2, objects=4)},
}
WRAPPED_IN = {
    **{"grabcut": "GrabCut", "berkeley": "Berkeley", "davis": "DAVIS", "sbd": "benchmark_RELEASE/dataset"},
    **{"coco_mval": "COCO_MVal", "pascal_voc": "VOCdevkit/VOC2012", "hqseg44k": ".", "tetris": "TETRIS"},
}
"""Folders around the layout in the published archives."""


def small_files(name: str) -> dict[str, bytes]:
    """Contents by path, laid out like the published archive of a data set, with junk from a file manager."""
    files = {f"__MACOSX/{WRAPPED_IN[name]}/._x": b"junk"}
    files |= {f"{WRAPPED_IN[name]}/{path}": content for path, content in _layout(name).items()}
    return files


def _layout(name: str) -> dict[str, bytes]:
    if name == "sbd":
        splits = {"train": ["2008_000002", "2008_000003"], "val": ["2008_000004"]}
        images = [image for names in splits.values() for image in names]
        return {
            **{f"{split}.txt": "".join(f"{image}\n" for image in names).encode() for split, names in splits.items()},
            **{f"img/{image}.jpg": picture("JPEG") for image in images},
            **{f"inst/{image}.mat": instances() for image in images},
            **{f"cls/{image}.mat": b"ignored" for image in images},
        }
    if name == "pascal_voc":
        images = ["2007_000033", "2007_000042"]
        return {
            "ImageSets/Segmentation/val.txt": "".join(f"{image}\n" for image in images).encode(),
            **{f"JPEGImages/{image}.jpg": picture("JPEG") for image in [*images, "2007_000027"]},
            **{f"SegmentationObject/{image}.png": voc_instances() for image in images},
        }
    if name == "hqseg44k":
        folders = iter(SOURCES[name].folders)
        return {
            path: content
            for images, masks in zip(folders, folders, strict=True)
            for path, content in ((f"{images}/1#a.jpg", picture("JPEG")), (f"{masks}/1#a.png", mask()))
        }
    images_folder, masks_folder = SOURCES[name].folders
    if name == "tetris":
        return {f"{images_folder}/{image}": picture("JPEG") for image in IMAGES[name]} | {
            f"{masks_folder}/{Path(image).stem}.png": coloured_mask() for image in IMAGES[name]
        }
    return {f"{images_folder}/{image}": picture("JPEG") for image in IMAGES[name]} | {
        f"{masks_folder}/{Path(image).stem}.png": mask() for image in IMAGES[name]
    }


def picture(kind: str) -> bytes:
    """Noise of 40×60 pixels."""
    return _encode(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8), kind)


def mask() -> bytes:
    """A rectangle."""
    pixels = np.zeros((40, 60), np.uint8)
    pixels[10:30, 10:40] = 255
    return _encode(pixels, "PNG")


def coloured_mask() -> bytes:
    """Two rectangles of different colours: the second comes first in the order of blue, green, red."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[5:20, 5:20], pixels[20:35, 30:50] = (0, 0, 1), (255, 255, 0)
    return _encode(pixels, "PNG")


def voc_instances() -> bytes:
    """Two rectangles with a void border between them, as a palette picture."""
    labels = np.zeros((40, 60), np.uint8)
    labels[5:20, 5:20], labels[20:35, 30:50], labels[20:35, 28:30] = 1, 2, 255
    file = Image.fromarray(labels).convert("P")
    file.putpalette([channel for index in range(256) for channel in (index, 255 - index, 7 * index % 256)])
    stream = io.BytesIO()
    file.save(stream, "PNG")
    return stream.getvalue()


def _encode(pixels: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def instances() -> bytes:
    """Two rectangles."""
    labels = np.zeros((40, 60), np.uint8)
    labels[5:20, 5:20], labels[20:35, 30:50] = 1, 2
    stream = io.BytesIO()
    savemat(stream, {"GTinst": {"Segmentation": labels}})
    return stream.getvalue()


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return stream.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@functools.cache  # archives contain the time of their creation, and are compared by content
def small_archive(name: str) -> bytes:
    """The archive of a small data set, in its published format."""
    if name == "pascal_voc":
        return tarred(small_files(name), "w:")
    return (tarred if name == "sbd" else zipped)(small_files(name))


def serve_small(server: ArchiveServer, name: str, *answers: Answer, **archive_fields: object) -> DatasetSource:
    """Serve a small data set, correctly unless other answers are given; returns its source."""
    source = SOURCES[name]
    if source.more_archives:  # fetched by hand
        return replace(source, counts=COUNTS[name])
    path = f"/{source.archive.file_name}"
    url = server.serve(path, *(answers or [Answer(content=small_archive(name))]))
    fields = {"urls": (url,), "copies": (), "md5": None, **archive_fields}
    source = replace(source, archive=replace(source.archive, **fields), counts=COUNTS[name])  # type: ignore[arg-type]
    if source.sample_weights is None:
        return source
    url = server.serve(f"/{source.sample_weights.file_name}", Answer(content=SAMPLE_WEIGHTS))
    return replace(source, sample_weights=replace(source.sample_weights, urls=(url,), sha256=None))
