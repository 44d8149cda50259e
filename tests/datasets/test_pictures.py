"""Pictures that would be read as something else than they show: lossy, transparent, deep and turned ones, and links."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.ndimage import binary_dilation, zoom

from vfm_isbench.datasets.sbd import SbdDataset, read_instances
from vfm_isbench.datasets.single_object import (
    BerkeleyDataset,
    DavisDataset,
    GrabCutDataset,
    SingleObjectDataset,
)
from vfm_isbench.errors import DataError, VfmIsbenchWarning
from vfm_isbench.types import Array

SIZE = (48, 64)
GRAY_KINDS = [GrabCutDataset, BerkeleyDataset]
KINDS = [*GRAY_KINDS, DavisDataset]


def disc(radius: float) -> Array:
    rows, cols = np.mgrid[: SIZE[0], : SIZE[1]]
    inside: Array = (rows - 22) ** 2 + (cols - 30) ** 2 <= radius**2
    return inside


def mask() -> Array:
    """A disc, and a band to ignore around it."""
    return np.where(disc(12), 255, np.where(disc(15), 128, 0)).astype(np.uint8)


def binary() -> Array:
    return np.where(disc(12), 255, 0).astype(np.uint8)


def save(path: Path, pixels: Array, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def make(
    root: Path, kind: type[SingleObjectDataset], pixels: Array, suffix: str = ".png", **options: Any
) -> tuple[SingleObjectDataset, Path]:
    """A data set of one image, and the path of its mask."""
    save(root / kind.images_folder / "a.png", np.full((*SIZE, 3), 90, np.uint8))
    path = save(root / kind.masks_folder / f"a{suffix}", pixels, **options)
    return kind(root), path


def make_sbd(root: Path, labels: Array) -> Path:
    """SBD with one image in both splits."""
    save(root / "img" / "one.jpg", np.full((*SIZE, 3), 90, np.uint8))
    (root / "inst").mkdir()
    savemat(root / "inst" / "one.mat", {"GTinst": {"Segmentation": labels}})
    for split in ("train", "val"):
        (root / f"{split}.txt").write_text("one\n")
    return root


def deep_png(path: Path, colour_type: int, channels: int) -> None:
    """A PNG with 16 bits per channel, which Pillow cannot write in colour."""
    values = np.repeat(np.where(disc(12), 0x00FF, 0)[..., None], channels, axis=2).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", SIZE[1], SIZE[0], 16, colour_type, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(content)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".jpg", ".JPEG"])
def test_jpeg_masks_are_refused_on_opening(tmp_path: Path, kind: type[SingleObjectDataset], suffix: str) -> None:
    with pytest.raises(DataError, match=rf"a\{suffix}: the mask is stored as JPEG, .*\(here: 0, 1, .* more\).*PNG"):
        make(tmp_path, kind, binary(), suffix, quality=85)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stored_as", ["JPEG", "WEBP"])
def test_the_format_counts_not_the_suffix(tmp_path: Path, kind: type[SingleObjectDataset], stored_as: str) -> None:
    dataset, _ = make(tmp_path, kind, binary(), ".png", format=stored_as)
    with pytest.raises(DataError, match=rf"a\.png: the mask is stored as {stored_as}"):
        dataset.read("a.png")


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_without_loss_may_be_called_jpg(tmp_path: Path, kind: type[SingleObjectDataset]) -> None:
    dataset, _ = make(tmp_path, kind, binary(), ".jpg", format="PNG")
    np.testing.assert_array_equal(dataset.read("a.png").labels, disc(12))


@pytest.mark.parametrize("kind", GRAY_KINDS)
@pytest.mark.parametrize("damage", ["saved as JPEG before", "resized smoothly", "blurred outline"])
def test_masks_with_smooth_outlines_are_refused(tmp_path: Path, kind: type[SingleObjectDataset], damage: str) -> None:
    if damage == "saved as JPEG before":
        with Image.open(save(tmp_path / "before.jpg", mask(), quality=75)) as before:
            pixels = np.array(before)
    elif damage == "resized smoothly":
        pixels = np.array(Image.fromarray(mask()[::3, ::3]).resize(SIZE[::-1], Image.Resampling.BILINEAR))
    else:
        pixels = np.clip(zoom(zoom(mask().astype(float), 0.5), 2), 0, 255).astype(np.uint8)
    dataset, path = make(tmp_path, kind, pixels)
    with pytest.raises(DataError, match=rf"{path}: the mask has \d+ different gray values \(0, .* 255 object"):
        dataset.read("a.png")


@pytest.mark.parametrize("kind", GRAY_KINDS)
def test_coloured_masks_are_refused_where_gray_counts(tmp_path: Path, kind: type[SingleObjectDataset]) -> None:
    """Read by its first channel, dark red would be ignored, and green would be background."""
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[disc(12)] = (128, 0, 0)
    pixels[disc(5)] = (255, 255, 255)
    dataset, path = make(tmp_path, kind, pixels)
    with pytest.raises(
        DataError, match=rf"{path}: the mask has colours, for example \(128, 0, 0\) at row 10, column 30"
    ):
        dataset.read("a.png")


def test_colours_and_shades_are_objects_in_davis(tmp_path: Path) -> None:
    shades = np.arange(SIZE[0] * SIZE[1] * 3).reshape(*SIZE, 3) % 251
    pixels = np.where(disc(12)[..., None], shades, 0).astype(np.uint8)
    dataset, _ = make(tmp_path, DavisDataset, pixels)
    np.testing.assert_array_equal(dataset.read("a.png").labels, (pixels > 0).any(axis=-1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["RGBA", "LA", "faint", "palette"])
def test_masks_drawn_in_transparency_are_refused(tmp_path: Path, kind: type[SingleObjectDataset], form: str) -> None:
    """Their colours alone would make the whole image one object, or none."""
    options: dict[str, Any] = {}
    if form == "palette":
        picture = Image.fromarray(disc(12).astype(np.uint8)).convert("P")
        picture.putpalette([255, 255, 255] * 2)
        options["transparency"] = bytes([0, 255])
    else:
        alpha = np.where(disc(12), 255, 254 if form == "faint" else 0).astype(np.uint8)
        white = np.full((*SIZE, 1 if form == "LA" else 3), 255, np.uint8)
        picture = Image.fromarray(np.dstack([white, alpha]))
    dataset, path = make(tmp_path, kind, binary())
    picture.save(path, **options)
    with pytest.raises(DataError, match=rf"{path}: the mask has transparent pixels \(alpha values (0|254), 255\)"):
        dataset.read("a.png")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (6, 4), (4, 2), (0, 1)], ids=["RGB", "RGBA", "LA", "L"])
@pytest.mark.parametrize("folder", ["images_folder", "masks_folder"])
def test_more_than_8_bits_are_refused(
    tmp_path: Path, kind: type[SingleObjectDataset], colour_type: int, channels: int, folder: str
) -> None:
    """Values up to 255 of 65535 would become black."""
    dataset, _ = make(tmp_path, kind, binary())
    path = tmp_path / getattr(kind, folder) / "a.png"
    deep_png(path, colour_type, channels)
    with pytest.raises(DataError, match=rf"{path}: pixels are stored as '\w+;16B?', expected 8 bits"):
        dataset.read("a.png")


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("folder", ["images_folder", "masks_folder"])
def test_turned_pictures_are_refused(tmp_path: Path, orientation: int, folder: str) -> None:
    """Even if the sizes agree: a photograph turned by 180°, or a square one, would be beside an upright mask."""
    dataset, _ = make(tmp_path, GrabCutDataset, mask())
    path = tmp_path / getattr(GrabCutDataset, folder) / "a.png"
    save(path, mask(), exif=turned(orientation))
    with pytest.raises(DataError, match=rf"{path}: its EXIF orientation is {orientation}, .*exif_transpose"):
        dataset.read("a.png")


@pytest.mark.parametrize(
    "exif", [turned(1), turned(0), turned(9), b"Exif\0\0MM\0*broken", None], ids=["1", "0", "9", "broken", "none"]
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_pictures_without_a_turn_are_read(tmp_path: Path, exif: Any) -> None:
    dataset, _ = make(tmp_path, GrabCutDataset, mask())
    (tmp_path / "data_GT" / "a.png").unlink()
    photograph = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    path = save(tmp_path / "data_GT" / "a.jpg", photograph, **({} if exif is None else {"exif": exif}))
    with Image.open(path) as stored:
        expected = np.array(stored)
    np.testing.assert_array_equal(GrabCutDataset(tmp_path).read("a.jpg").image, expected)
    assert dataset.image_ids == ["a.png"]


def test_turned_photographs_of_sbd_are_refused(tmp_path: Path) -> None:
    root = make_sbd(tmp_path, disc(12).astype(np.uint8))
    save(root / "img" / "one.jpg", np.full((*SIZE, 3), 90, np.uint8), exif=turned(3))
    with pytest.raises(DataError, match=r"one\.jpg: its EXIF orientation is 3"):
        SbdDataset(root, "val").read("one")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("folder", ["images_folder", "masks_folder"])
def test_links_that_lead_nowhere_are_refused(tmp_path: Path, kind: type[SingleObjectDataset], folder: str) -> None:
    make(tmp_path, kind, binary())
    path = tmp_path / getattr(kind, folder) / "b.png"
    path.symlink_to(tmp_path / "elsewhere" / "b.png")
    with pytest.raises(DataError, match=rf"{path}: a link to .*elsewhere/b\.png, which is not a file"):
        kind(tmp_path)


def test_links_to_files_are_read(tmp_path: Path) -> None:
    make(tmp_path, GrabCutDataset, mask())
    for path in tmp_path.glob("*/a.png"):
        path.rename(tmp_path / f"{path.parent.name}.png")
        path.symlink_to(tmp_path / f"{path.parent.name}.png")
    assert GrabCutDataset(tmp_path).read("a.png").instance_ids() == [1]


@pytest.mark.parametrize("name", ["img/one.jpg", "inst/one.mat"])
def test_links_of_sbd_that_lead_nowhere_are_refused_on_opening(tmp_path: Path, name: str) -> None:
    root = make_sbd(tmp_path, disc(12).astype(np.uint8))
    (root / name).rename(tmp_path / "moved")
    (root / name).symlink_to(tmp_path / "moved")
    assert SbdDataset(root, "val").read("one").instance_ids() == [1]
    (tmp_path / "moved").unlink()
    with pytest.raises(DataError, match=rf"no file for {Path(name).name}, .*links lead to files"):
        SbdDataset(root, "val")


def instances(*, border: bool) -> Array:
    labels = np.zeros(SIZE, np.uint8)
    labels[4:14, 4:20], labels[20:40, 30:50] = 1, 2
    if border:
        labels[binary_dilation(labels > 0, iterations=2) & (labels == 0)] = 255
    return labels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("split", ["train", "val"])
def test_borders_in_instance_files_are_refused(tmp_path: Path, dtype: Any, split: Any) -> None:
    root = make_sbd(tmp_path, instances(border=True).astype(dtype))
    with pytest.raises(DataError, match=r"one\.mat: GTinst\.Segmentation contains 255 .*borders"):
        SbdDataset(root, split).read("one")
    with pytest.raises(DataError, match=r"one\.mat: .*255"):
        _ = SbdDataset(root, split).objects


def test_a_frame_and_a_lone_outline_are_borders_too(tmp_path: Path) -> None:
    frame = instances(border=False)
    frame[[0, -1]], frame[:, [0, -1]] = 255, 255
    outline = np.where(disc(12) & ~disc(10), 255, 0).astype(np.uint8)
    for name, labels in {"frame": frame, "outline": outline}.items():
        path = make_sbd(tmp_path / name, labels) / "inst" / "one.mat"
        with pytest.raises(DataError, match="255"):
            read_instances(path)


@pytest.mark.parametrize("label", [65536, 2**32 + 1, 2**64 - 1])
def test_labels_out_of_range_are_refused_not_wrapped(tmp_path: Path, label: int) -> None:
    root = make_sbd(tmp_path, np.where(disc(12), np.uint64(label), np.uint64(0)))
    with pytest.raises(
        DataError, match=rf"one\.mat: GTinst\.Segmentation contains {label}, expected labels up to 65535"
    ):
        SbdDataset(root, "val").read("one")


def test_what_is_left_out_is_in_the_notes(tmp_path: Path) -> None:
    make(tmp_path, GrabCutDataset, mask())
    (tmp_path / "data_GT" / "b.tif").write_bytes(b"")
    (tmp_path / "boundary_GT" / "readme.txt").write_bytes(b"")
    save(tmp_path / "boundary_GT" / "b.png", mask())
    with pytest.warns(VfmIsbenchWarning) as caught:
        dataset = GrabCutDataset(tmp_path)
    assert dataset.notes == (
        "ignored files in data_GT/ that are not pictures: b.tif",
        "ignored files in boundary_GT/ that are not pictures: readme.txt",
        "ignored masks without an image: b.png",
    )
    assert [str(warning.message) for warning in caught] == [f"{tmp_path}: {note}" for note in dataset.notes]
