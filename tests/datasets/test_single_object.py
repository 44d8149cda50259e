"""GrabCut, Berkeley and DAVIS on real photographs, and on small folders with every possible fault."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import distance_transform_edt

from vfm_isbench.datasets.single_object import (
    BerkeleyDataset,
    DavisDataset,
    GrabCutDataset,
    SingleObjectDataset,
    decode_any_channel,
    decode_trimap,
)
from vfm_isbench.errors import DataError, VfmIsbenchWarning
from vfm_isbench.types import Array, ObjectId

SIZE = (6, 8)


def gray_mask() -> Array:
    """Background, one ignored column, object; and the values on both sides of the two limits."""
    mask = np.zeros(SIZE, np.uint8)
    mask[:, 4] = 128
    mask[:, 5:] = 255
    mask[0, :4] = (1, 127, 129, 200)
    return mask


GRAY_LABELS = np.zeros(SIZE, np.int32)
GRAY_LABELS[:, 4] = -1
GRAY_LABELS[:, 5:] = 1
GRAY_LABELS[0, 2:4] = 1


def photograph(seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def add_image(root: Path, name: str, pixels: Array | None = None) -> Path:
    path = root / "data_GT" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photograph() if pixels is None else pixels).save(path)
    return path


def add_mask(root: Path, name: str, pixels: Array | None = None) -> Path:
    path = root / "boundary_GT" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(gray_mask() if pixels is None else pixels).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A GrabCut folder with two images, whose PNG files keep their pixels."""
    folder = tmp_path / "GrabCut"
    for name in ("b", "a"):
        add_image(folder, f"{name}.png")
        add_mask(folder, f"{name}.bmp")
    return folder


@pytest.mark.parametrize("kind", [GrabCutDataset, BerkeleyDataset, DavisDataset])
def test_real_photographs_have_their_recorded_objects(real_root: Path, kind: type[SingleObjectDataset]) -> None:
    dataset = kind(real_root / kind.folder)
    assert len(dataset) == 10
    assert list(dataset.image_ids) == sorted(
        path.name for path in (real_root / kind.folder / kind.images_folder).iterdir()
    )
    assert dataset.objects == [ObjectId(name, None) for name in dataset.image_ids]
    for image_id in dataset.image_ids:
        sample = dataset.read(image_id)
        assert sample.image_id == image_id
        assert sample.image.dtype == np.uint8 and sample.labels.dtype == np.int32
        assert sample.image.shape == (*sample.labels.shape, 3)
        assert set(np.unique(sample.labels)) == ({-1, 0, 1} if kind is GrabCutDataset else {0, 1})
        assert 0.01 < (sample.labels == 1).mean() < 0.5
        assert sample.instance_ids() == [1]
    assert not {path.suffix for path in (real_root / kind.folder).rglob("*")} & {".pkl", ".npy"}


def test_trimap_limits(root: Path) -> None:
    sample = GrabCutDataset(root).read("a.png")
    np.testing.assert_array_equal(sample.labels, GRAY_LABELS)
    np.testing.assert_array_equal(sample.image, photograph())


def test_any_channel_above_zero_is_object() -> None:
    mask = np.zeros((1, 5, 3), np.uint8)
    mask[0, 1, 2] = 1
    mask[0, 2, 0] = 128
    mask[0, 3] = 255
    assert decode_any_channel(mask).tolist() == [[0, 1, 1, 1, 0]]
    assert decode_trimap(mask).tolist() == [[0, 0, -1, 1, 0]]


@pytest.mark.parametrize("form", ["palette", "rgb", "rgba", "gif", "upper case suffix"])
def test_mask_formats_mean_the_same(root: Path, form: str) -> None:
    (root / "boundary_GT" / "a.bmp").unlink()
    gray = Image.fromarray(gray_mask())
    if form == "palette":
        # Indices that are not the gray values: the colour that a viewer shows is what counts.
        levels = [255, 0, 128, 129, 127, 1, 200]
        indices = np.vectorize(levels.index)(gray_mask()).astype(np.uint8)
        picture = Image.fromarray(indices, mode=None).convert("P")
        picture.putpalette([channel for level in levels for channel in (level, level, level)])
        picture.save(root / "boundary_GT" / "a.png", transparency=bytes([0, 128, 255]))
        with Image.open(root / "boundary_GT" / "a.png") as stored:
            assert stored.mode == "P" and not np.array_equal(np.array(stored), gray_mask())
    elif form == "gif":
        gray.save(root / "boundary_GT" / "a.gif")
    elif form == "upper case suffix":
        gray.save(root / "boundary_GT" / "a.PNG")
    else:
        gray.convert(form.upper()).save(root / "boundary_GT" / "a.png")
    np.testing.assert_array_equal(GrabCutDataset(root).read("a.png").labels, GRAY_LABELS)


def test_order_is_that_of_file_names(tmp_path: Path) -> None:
    names = ["10.png", "9.png", "B.png", "a.png", "a.b.png"]
    for name in names:
        add_image(tmp_path, name)
        add_mask(tmp_path, Path(name).stem + ".png")
    dataset = GrabCutDataset(tmp_path)
    assert list(dataset.image_ids) == ["10.png", "9.png", "B.png", "a.b.png", "a.png"]
    assert [str(each) for each in dataset.objects] == list(dataset.image_ids)


def test_leftovers_of_file_managers_are_ignored(root: Path) -> None:
    for folder in (root / "data_GT", root / "boundary_GT"):
        (folder / ".DS_Store").write_bytes(b"x")
        (folder / "._a.png").write_bytes(b"x")
        (folder / "Thumbs.db").write_bytes(b"x")
        (folder / "__MACOSX").mkdir()
    assert list(GrabCutDataset(root).image_ids) == ["a.png", "b.png"]


def test_image_without_mask_is_named(root: Path) -> None:
    add_image(root, "lonely.png")
    with pytest.raises(DataError, match=r"no mask for .*lonely\.png"):
        GrabCutDataset(root)


def test_mask_without_image_warns_and_is_ignored(root: Path) -> None:
    add_mask(root, "widow.png")
    with pytest.warns(VfmIsbenchWarning, match=r"without an image.*widow\.png"):
        dataset = GrabCutDataset(root)
    assert len(dataset) == 2


def test_other_files_warn(root: Path) -> None:
    (root / "data_GT" / "notes.txt").write_text("hello")
    with pytest.warns(VfmIsbenchWarning, match=r"not pictures: notes\.txt") as caught:
        assert len(GrabCutDataset(root)) == 2
    assert caught[0].filename == __file__


def test_two_masks_or_images_for_one_name_are_refused(root: Path) -> None:
    second = add_mask(root, "a.png")
    with pytest.raises(DataError, match=r"boundary_GT: a\.bmp and a\.png"):
        GrabCutDataset(root)
    second.unlink()
    add_image(root, "a.jpg")
    with pytest.raises(DataError, match=r"data_GT: a\.jpg and a\.png"):
        GrabCutDataset(root)


def test_sizes_must_agree(root: Path) -> None:
    add_mask(root, "a.bmp", np.full((8, 6), 255, np.uint8))
    with pytest.raises(DataError, match=r"a\.bmp: the mask has 8×6 .*a\.png has 6×8"):
        GrabCutDataset(root).read("a.png")


def test_mask_without_object_is_refused(root: Path) -> None:
    # A common mistake: objects saved as 1 instead of 255.
    add_mask(root, "a.bmp", np.eye(*SIZE, dtype=np.uint8))
    with pytest.raises(DataError, match=r"a\.bmp: the mask has no object pixel.*above 128.*in the file are 0, 1\."):
        GrabCutDataset(root).read("a.png")


def test_sixteen_bit_masks_are_refused(root: Path) -> None:
    (root / "boundary_GT" / "a.bmp").unlink()
    add_mask(root, "a.png", gray_mask().astype(np.uint16) * 256)
    with pytest.raises(DataError, match=r"a\.png: pixels are stored as 'I;16', expected 8 bits"):
        GrabCutDataset(root).read("a.png")


@pytest.mark.parametrize("where", ["data_GT/a.png", "boundary_GT/a.bmp"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "gone", "folder"])
def test_damaged_files_are_named(root: Path, where: str, damage: str) -> None:
    dataset = GrabCutDataset(root)
    path = root / where
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) * 2 // 3])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "garbage":
        path.write_bytes(bytes(range(256)))
    elif damage == "folder":
        path.mkdir()
    with pytest.raises(DataError, match=str(path)):
        dataset.read("a.png")
    assert dataset.read("b.png").image_id == "b.png"


def test_absurdly_large_pictures_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SIZE[0] * SIZE[1] // 2 - 1)
    with pytest.raises(DataError, match=r"a\.png: cannot be read as a picture \(DecompressionBombError"):
        GrabCutDataset(root).read("a.png")


def test_truncated_jpeg_is_not_read_as_half_a_picture(real_root: Path, tmp_path: Path) -> None:
    shutil.copytree(real_root / "GrabCut", tmp_path / "GrabCut")
    dataset = GrabCutDataset(tmp_path / "GrabCut")
    path = tmp_path / "GrabCut" / "data_GT" / dataset.image_ids[0]
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=str(path)):
        dataset.read(dataset.image_ids[0])


def test_unknown_id(root: Path) -> None:
    with pytest.raises(DataError, match=r"no image 'c\.png'.*a\.png, b\.png"):
        GrabCutDataset(root).read("c.png")


def test_no_images_at_all(root: Path) -> None:
    shutil.rmtree(root / "data_GT")
    (root / "data_GT").mkdir()
    with pytest.raises(DataError, match=r"data_GT: contains no image"):
        GrabCutDataset(root)


def test_missing_folder_says_what_is_expected_and_found(tmp_path: Path) -> None:
    (tmp_path / "SBD").mkdir()
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match=r"Berkeley/images/, Berkeley/masks/.*holds SBD/, notes\.txt") as error:
        BerkeleyDataset(tmp_path / "Berkeley")
    assert f"under the data root {tmp_path}" in str(error.value)
    (tmp_path / "Berkeley" / "images").mkdir(parents=True)
    with pytest.raises(DataError, match=r"Berkeley: masks/ not found.*Berkeley holds images/"):
        BerkeleyDataset(tmp_path / "Berkeley")
    with pytest.raises(DataError, match=r"there is no folder .*nowhere\."):
        BerkeleyDataset(tmp_path / "nowhere" / "Berkeley")


def test_data_root_one_level_too_deep_is_recognised(root: Path) -> None:
    with pytest.raises(DataError, match=f"give {root.parent} as the data root"):
        GrabCutDataset(root / "GrabCut")


def test_folder_of_another_name_is_recognised(root: Path) -> None:
    other = root.rename(root.with_name("grabcut_images"))
    with pytest.raises(DataError, match=f"{other} has this layout.*rename or link it to a folder called GrabCut"):
        GrabCutDataset(root)


@pytest.mark.parametrize("kind", [GrabCutDataset, BerkeleyDataset, DavisDataset])
def test_first_recorded_clicks_lie_at_the_deepest_points(
    real_root: Path, parity_root: Path, kind: type[SingleObjectDataset]
) -> None:
    # The first click depends on the mask alone, so it tells whether the reference read the same object pixels.
    runs = json.loads((parity_root / "end_to_end" / "bilinear_early_patch-embedding.json").read_text())
    dataset = kind(real_root / kind.folder)
    recorded = runs[kind.folder]["objects"]
    assert [each["image"] for each in recorded] == [each.image for each in dataset.objects]
    for each in recorded:
        depth = distance_transform_edt(np.pad(dataset.read(each["image"]).labels == 1, 1))[1:-1, 1:-1]
        assert list(np.unravel_index(depth.argmax(), depth.shape)) == each["clicks"][0][:2]
