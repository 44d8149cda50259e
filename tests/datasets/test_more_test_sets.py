"""COCO-MVal, PASCAL VOC, HQSeg-44K and TETRIS on small folders in the published layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_archives import COUNTS, WRAPPED_IN, small_files, write_files

from vfm_isbench.datasets import open_dataset
from vfm_isbench.datasets.download.sources import SOURCES
from vfm_isbench.datasets.pascal_voc import PascalVocDataset
from vfm_isbench.datasets.tetris import LONGEST_SIDE, TetrisDataset, shrink, shrink_labels
from vfm_isbench.errors import DataError
from vfm_isbench.protocol import Protocol
from vfm_isbench.types import ObjectId

NAMES = ["coco_mval", "pascal_voc", "hqseg44k", "tetris"]


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    for name in NAMES:
        files = {path: content for path, content in small_files(name).items() if "MACOSX" not in path}
        write_files(tmp_path, {p.replace(WRAPPED_IN[name], SOURCES[name].folder, 1): c for p, c in files.items()})
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_test_set_of_a_protocol(name, data_root):
    dataset = open_dataset(name, "test", data_root, Protocol())
    counts = next(iter(COUNTS[name].values()))
    assert (dataset.name, len(dataset), len(dataset.objects)) == (name, counts.images, counts.objects)
    for found in dataset.objects:
        sample = dataset.read(found.image)
        assert sample.image.shape == (*sample.labels.shape, 3) and sample.labels.dtype == np.int32
        assert (sample.object_mask(found.instance) == 1).any()
    for role in ("train", "validation"):
        with pytest.raises(DataError, match="is a test set"):
            open_dataset(name, role, data_root, Protocol())
    with pytest.raises(DataError, match="no image 'x'"):
        dataset.read("x")


def test_void_of_pascal_voc_is_ignored_and_other_instances_are_background(data_root):
    dataset = open_dataset("pascal_voc", "test", data_root, Protocol())
    assert list(dataset.image_ids) == ["2007_000033", "2007_000042"]  # the list's order; unlisted images are left out
    assert dataset.objects[:2] == [ObjectId("2007_000033", 1), ObjectId("2007_000033", 2)]
    mask = dataset.read("2007_000033").object_mask(2)
    assert (mask[20:35, 28:30] == -1).all() and (mask == -1).sum() == 30
    assert (mask[20:35, 30:50] == 1).all() and (mask[5:20, 5:20] == 0).all()


def test_files_of_pascal_voc_that_are_not_the_published_ones(data_root):
    root = data_root / "VOC2012"
    path = root / "SegmentationObject" / "2007_000033.png"
    with Image.open(path) as picture:
        picture.convert("RGB").save(path)
    with pytest.raises(
        DataError, match=r"2007_000033\.png: pixels are stored as 'RGB', expected the published palette"
    ):
        PascalVocDataset(root).read("2007_000033")
    path.unlink()
    with pytest.raises(DataError, match=r"SegmentationObject: no file for 2007_000033\.png, which .*val\.txt lists"):
        PascalVocDataset(root)
    (root / "ImageSets" / "Segmentation" / "val.txt").unlink()
    with pytest.raises(DataError, match="VOC2012: ImageSets/Segmentation/val.txt not found"):
        PascalVocDataset(root)


def test_ids_of_hqseg_name_their_part_in_the_order_of_segnext(data_root):
    dataset = open_dataset("hqseg44k", "test", data_root, Protocol())
    assert list(dataset.image_ids) == [f"{part}/1#a.jpg" for part in ("DIS-VD", "ThinObject5K", "COIFT", "HRSOD")]
    (data_root / "HQSeg44K" / "thin_object_detection" / "COIFT" / "masks" / "1#a.png").unlink()
    with pytest.raises(DataError, match=r"no mask for .*COIFT/images/1#a\.jpg"):
        open_dataset("hqseg44k", "test", data_root, Protocol())


def test_objects_of_tetris_are_numbered_by_colour(data_root):
    sample = open_dataset("tetris", "test", data_root, Protocol()).read("cat.jpg")
    assert (sample.labels[20:35, 30:50] == 1).all() and (sample.labels[5:20, 5:20] == 2).all()
    assert sample.instance_ids() == [1, 2]


def test_large_images_of_tetris_are_shrunk_as_by_opencv(data_root):
    root = data_root / "TETRIS"
    wide = np.zeros((30, 2 * LONGEST_SIDE, 3), np.uint8)
    wide[:, :1000] = 200
    Image.fromarray(wide).save(root / "images" / "cat.png")
    (root / "images" / "cat.jpg").unlink()
    Image.fromarray((wide > 0).astype(np.uint8) * 255).save(root / "masks" / "cat.png")
    sample = TetrisDataset(root).read("cat.png")
    assert sample.image.shape == (15, LONGEST_SIDE, 3)
    assert (sample.labels[:, :500] == 1).all() and not sample.labels[:, 500:].any()


def test_shrinking_is_linear_interpolation():
    import torch

    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].double()
    expected = torch.nn.functional.interpolate(tensor, (20, 31), mode="bilinear", align_corners=False)[0]
    assert np.abs(shrink(image, 20, 31) - expected.permute(1, 2, 0).numpy()).max() <= 0.6
    labels = np.zeros((40, 40), np.int32)
    labels[:20], labels[20:] = 3, 70_000
    assert np.unique(shrink_labels(labels, 20, 20)).tolist() == [3, 70_000]
