"""``folder:PATH`` and ``hf:OWNER/NAME``: what masks mean, what is refused and why, and names without machine paths."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vfm_isbench.datasets import open_dataset, read_sample
from vfm_isbench.datasets.own_hub import choose_files
from vfm_isbench.datasets.own_names import as_given, as_recorded, recorded_name
from vfm_isbench.errors import DataError, MissingPackageError, UnknownNameError, VfmIsbenchWarning
from vfm_isbench.protocol import Protocol
from vfm_isbench.types import Array

SIZE = (12, 16)


def photograph(seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


def values(*parts: int) -> Array:
    """Vertical stripes of four columns."""
    return np.repeat(np.array([parts], np.int32), 4, axis=1).repeat(SIZE[0], axis=0)


def picture(array: Array, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


def mask(*parts: int) -> bytes:
    return picture(values(*parts).astype(np.uint8 if max(parts) < 256 else np.uint16))


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(
        tmp_path / "My photos",
        {
            "images/b.png": picture(photograph()),
            "images/a.jpg": picture(photograph(1), "JPEG"),
            "masks/a.png": mask(0, 255, 255, 0),
            "masks/b.png": mask(0, 1, 2, 255),
        },
    )


def opened(path: object):
    return open_dataset(f"folder:{path}", "test", None, Protocol())


def test_images_and_masks_are_matched_by_name(root):
    dataset = opened(root)
    assert dataset.name == "folder:My-photos" and list(dataset.image_ids) == ["a.jpg", "b.png"]
    assert list(map(str, dataset.objects)) == ["a.jpg:1", "b.png:1", "b.png:2"]
    np.testing.assert_array_equal(read_sample(dataset, "a.jpg").labels, values(0, 1, 1, 0))
    np.testing.assert_array_equal(read_sample(dataset, "b.png").labels, values(0, 1, 2, -1))
    np.testing.assert_array_equal(read_sample(dataset, "b.png").image, photograph())


@pytest.mark.parametrize(
    ("stored", "labels"),
    [
        ((0, 1, 0, 0), (0, 1, 0, 0)),  # one value: one object
        ((0, 255, 0, 0), (0, 1, 0, 0)),
        ((0, 7, 7, 0), (0, 1, 1, 0)),
        ((3, 3, 3, 3), (1, 1, 1, 1)),
        ((0, 5, 9, 0), (0, 5, 9, 0)),  # several: instances
        ((0, 5, 9, 255), (0, 5, 9, -1)),  # 255 ignored
        ((0, 255, 1000, 0), (0, 255, 1000, 0)),  # not where labels have 16 bits
    ],
)
def test_what_a_mask_means(stored, labels, root):
    (root / "masks" / "a.png").write_bytes(mask(*stored))
    np.testing.assert_array_equal(read_sample(opened(root), "a.jpg").labels, values(*labels))


def test_palette_and_colour_files(root):
    file = Image.fromarray(values(0, 1, 2, 0).astype(np.uint8)).convert("P")
    file.putpalette([200, 100, 50] * 256)
    file.save(root / "masks" / "a.png")
    np.testing.assert_array_equal(read_sample(opened(root), "a.jpg").labels, values(0, 1, 2, 0))
    gray = np.repeat(values(0, 4, 4, 0).astype(np.uint8)[..., None], 3, axis=2)
    (root / "masks" / "a.png").write_bytes(picture(gray))
    np.testing.assert_array_equal(read_sample(opened(root), "a.jpg").labels, values(0, 1, 1, 0))
    Image.fromarray(values(0, 255, 0, 0) > 0).save(root / "masks" / "a.png")
    np.testing.assert_array_equal(read_sample(opened(root), "a.jpg").labels, values(0, 1, 0, 0))


COLOURED = np.zeros((*SIZE, 3), np.uint8)
COLOURED[2] = (255, 0, 0)
REFUSED = {
    "empty": ({"masks/a.png": mask(0, 0, 0, 0)}, r"masks/a\.png: the mask is empty"),
    "trimap": ({"masks/a.png": mask(0, 128, 255, 0)}, r"masks/a\.png: the mask has the values 128 and 255"),
    "soft outline without white": ({"masks/a.png": mask(0, 30, 120, 254)}, r"masks/a\.png: .*30, 120, 254.*index\.csv"),
    "soft outline": ({"masks/a.png": mask(0, 90, 255, 255)}, r"masks/a\.png: .*soft outline"),
    "lossy": ({"masks/a.png": picture(values(0, 255, 0, 0).astype(np.uint8), "JPEG")}, r"masks/a\.png: .*JPEG"),
    "coloured": ({"masks/a.png": picture(COLOURED)}, r"masks/a\.png: the mask has colours"),
    "other size": (
        {"masks/a.png": picture(np.ones((5, 6), np.uint8))},
        r"masks/a\.png: the mask has 5×6.*a\.jpg has 12×16",
    ),
    "broken": ({"masks/a.png": b"?"}, r"masks/a\.png: cannot be read as a picture"),
    "broken image": ({"images/a.jpg": b"?"}, r"images/a\.jpg: cannot be read as a picture"),
    "no mask": ({"images/c.png": picture(photograph())}, r"no mask for .*images/c\.png: .*such as c\.png"),
    "two of a name": ({"images/a.png": picture(photograph())}, r"a\.jpg and a\.png differ only in their suffix"),
    "two masks": ({"masks/a.bmp": mask(0, 1, 0, 0)}, r"a\.bmp and a\.png differ only in their suffix"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_files_are_named_when_the_folder_is_opened(case, root):
    files, message = REFUSED[case]
    write(root, files)
    with pytest.raises(DataError, match=message):
        opened(root)


def test_folders_that_are_none_and_files_that_belong_to_nothing(root, tmp_path):
    with pytest.raises(DataError, match=r"there is no .*nowhere.*Expected a folder with images/ and masks/"):
        opened(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"has no images and no masks.*found: My photos/"):
        opened(tmp_path)
    write(root, {"masks/widow.png": mask(0, 1, 0, 0), "images/readme.txt": b""})
    with pytest.warns(VfmIsbenchWarning) as caught:
        dataset = opened(root)
    assert [str(warning.message).split(": ", 1)[1] for warning in caught] == list(dataset.notes)
    assert "widow.png" in dataset.notes[0] and "readme.txt" in dataset.notes[1]
    for role in ("train", "validation"):
        with pytest.raises(DataError, match="is a test set"):
            open_dataset(f"folder:{root}", role, None, Protocol())
    with pytest.raises(UnknownNameError, match="folder:PATH, or hf:OWNER/NAME"):
        open_dataset("photos", "test", None, Protocol())


INDEX = "image,mask,instance\nimages/b.png,masks/b.png,2\nimages/b.png,masks/b.png,1\nimages/a.jpg,masks/a.png,\n"


def test_an_index_chooses_files_and_instances(root):
    write(root, {"index.csv": INDEX.encode()})
    for path in (root, root / "index.csv"):
        dataset = opened(path)
        assert dataset.name == "folder:My-photos"
        assert list(map(str, dataset.objects)) == ["images/b.png:1", "images/b.png:2", "images/a.jpg:1"]
    write(root, {"list.csv": b"\xef\xbb\xbfmask,image\nmasks/a.png,images/a.jpg\nmasks/b.png,images/a.jpg\n"})
    (root / "masks" / "a.png").write_bytes(mask(0, 255, 255, 0))
    dataset = opened(root / "list.csv")
    assert dataset.name == "folder:list"
    # Masks of several files may overlap.
    assert list(map(str, dataset.objects)) == [
        "images/a.jpg with masks/a.png:1",
        "images/a.jpg with masks/b.png:1",
        "images/a.jpg with masks/b.png:2",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has the columns none; expected image,mask"),
        ("image,label\na,b\n", "has the columns image, label; expected image,mask"),
        ("image,mask\n", "lists no image"),
        ("image,mask\nimages/a.jpg,masks/a.png\nimages/a.jpg,masks/a.png\n", r"line 3: images/a\.jpg .*listed before"),
        (INDEX + "images/b.png,masks/b.png,1\n", r"line 5: images/b\.png .*listed before"),
        ("image,mask\n/etc/a.png,masks/a.png\n", r"line 2: '/etc/a\.png' is not a path below the folder"),
        ("image,mask\nimages/a.jpg,../x.png\n", r"line 2: '\.\./x\.png' is not a path"),
        ("image,mask\nimages/a.jpg,\n", "line 2: '' is not a path"),
        ("image,mask,instance\nimages/b.png,masks/b.png,x\n", "line 2: instance is 'x'"),
        ("image,mask,instance\nimages/b.png,masks/b.png,9\n", r"masks/b\.png: the mask has no pixel with the value 9"),
        ("image,mask\nimages/a.jpg,masks/none.png\n", r"masks/none\.png: no such file"),
        ("image,mask\nimages/none.jpg,masks/a.png\n", r"images/none\.jpg: no such file"),
        (f"image,mask\n{'long' * 251},masks/a.png\n", "has 1004 characters; expected at most 1000"),
    ],
)
def test_bad_indices_name_the_line_or_the_file(text, message, root):
    write(root, {"index.csv": text.encode()})
    with pytest.raises(DataError, match=message):
        opened(root)


def test_results_record_names_not_paths(tmp_path):
    protocol = Protocol().replace(test_datasets=("grabcut", f"folder:{tmp_path}/x", "hf:a/b@main:test"))
    recorded = as_recorded(protocol)
    assert recorded.test_datasets == ("grabcut", "folder:x", "hf:a/b@main:test")
    assert recorded.fingerprint() == protocol.fingerprint() == Protocol().fingerprint()
    assert as_given(recorded.test_datasets, protocol.test_datasets) == protocol.test_datasets
    assert as_recorded(Protocol()) is not None and as_recorded(Protocol()) == Protocol()
    assert recorded_name("folder:.") == f"folder:{Path.cwd().name}"
    with pytest.raises(DataError, match="have the same name"):
        as_recorded(Protocol().replace(test_datasets=("folder:a/x", "folder:b/x")))


def test_a_recorded_name_is_found_in_the_data_root(root):
    (root.parent / "My-photos").symlink_to(root)
    assert len(open_dataset("folder:My-photos", "test", root.parent, Protocol()).objects) == 3


# The Hugging Face hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot of a data set in a cache of the hub, without a network; returns the folder of its files."""
    from huggingface_hub import constants

    from vfm_isbench.datasets import own_hub

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(own_hub, "is_hub_out_of_reach", lambda: True)
    repository = tmp_path / "cache" / "datasets--me--photos"
    write(repository, {"refs/main": b"0123456789" * 4})
    (repository / "snapshots" / ("0123456789" * 4)).mkdir(parents=True)
    return repository / "snapshots" / ("0123456789" * 4)


def write_table(path: Path, rows: int = 3, group: int = 2, **columns: list[object]) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    given = columns or {
        "image": [{"bytes": picture(photograph(row)), "path": None} for row in range(rows)],
        "mask": [{"bytes": mask(0, 1, 1 + row, 0), "path": f"/home/me/{row}.png"} for row in range(rows)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.table(given), path, row_group_size=group)


def hub_dataset(spec: str = "hf:me/photos"):
    return open_dataset(spec, "test", None, Protocol())


def test_columns_of_a_data_set_on_the_hub(hub):
    write_table(hub / "data" / "test-00000-of-00001.parquet")
    write_table(hub / "data" / "train-00000-of-00001.parquet", rows=1)
    dataset = hub_dataset()
    assert dataset.name == "hf:me/photos"
    assert list(dataset.image_ids) == [f"test-00000-of-00001/{row}" for row in range(3)]
    assert [found.instance for found in dataset.objects] == [1, 1, 2, 1, 3]
    for row in (2, 0, 1):
        sample = read_sample(dataset, f"test-00000-of-00001/{row}")
        np.testing.assert_array_equal(sample.image, photograph(row))
    assert f"commit {hub.name}" in dataset.notes[0] and "test-00000" in dataset.notes[0]
    assert len(hub_dataset("hf:me/photos@main:train")) == 1


def test_a_part_of_a_data_set_in_the_cache_is_not_taken_for_all_of_it(hub):
    write_table(hub / "data" / "test-00000-of-00002.parquet")
    with pytest.raises(DataError, match="holds 1 of the 2 files of its split"):
        hub_dataset()
    write_table(hub / "data" / "test-00001-of-00002.parquet")
    assert len(hub_dataset()) == 6
    for file in (hub / "data").iterdir():
        file.unlink()
    write_table(hub / "data" / "train-00000-of-00001.parquet")
    with pytest.raises(DataError, match="its cache holds no split 'test'. Name the split: hf:OWNER/NAME:SPLIT"):
        hub_dataset()
    assert len(hub_dataset("hf:me/photos:train")) == 3


def test_pictures_beside_an_index_on_the_hub(hub):
    write(
        hub / "test",
        {
            "metadata.csv": b"file_name,mask_file_name\n1.png,1m.png\n",
            "1.png": picture(photograph()),
            "1m.png": mask(0, 9, 9, 0),
        },
    )
    assert list(map(str, hub_dataset("hf:me/photos:test").objects)) == ["1.png:1"]


def test_bad_data_sets_on_the_hub(hub, monkeypatch):
    with pytest.raises(DataError, match=r"expected hf:OWNER/NAME\[@REVISION\]"):
        hub_dataset("hf:photos")
    with pytest.raises(DataError, match=r"me/none could not be fetched .*only its cache was looked into"):
        hub_dataset("hf:me/none")
    with pytest.raises(DataError, match="no Parquet file and no metadata.csv; it holds nothing"):
        hub_dataset()
    path = hub / "test-0.parquet"
    write_table(path, image=[{"bytes": b""}], title=["x"])
    with pytest.raises(DataError, match=r"has the columns image, title; expected one named mask or label"):
        hub_dataset()
    write_table(path, image=[{"bytes": picture(photograph())}], mask=[{"bytes": mask(0, 0, 0, 0)}])
    with pytest.raises(DataError, match=r"hf:me/photos, test-0/0, column mask: the mask is empty"):
        hub_dataset()
    write_table(path, image=[{"bytes": picture(photograph())}], mask=["text"])
    with pytest.raises(DataError, match="column mask: holds str, expected the bytes of a picture"):
        hub_dataset()
    path.write_bytes(b"PAR1?")
    with pytest.raises(DataError, match=r"test-0\.parquet: cannot be read as a Parquet file"):
        hub_dataset()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match=r"needs pyarrow: pip install 'vfm_isbench\[hf\]'"):
        hub_dataset()


def test_the_split_decides_which_files_are_read():
    files = ["data/latest.parquet", "data/test-0.parquet", "data/test-1.parquet", "data/validation-0.parquet"]
    assert choose_files("x", files, None) == files[1:3]
    assert choose_files("x", files, "validation") == files[3:]
    assert choose_files("x", ["only.parquet"], None) == ["only.parquet"]
    with pytest.raises(DataError, match="of a split 'dev'"):
        choose_files("x", files, "dev")
    with pytest.raises(DataError, match="several folders .one, two."):
        choose_files("x", ["one/test-0.parquet", "two/test-0.parquet"], None)


def test_parts_lie_beside_the_masks_under_the_name_of_their_image(root, tmp_path):
    write(root, {"parts/b.png": mask(0, 1, 2, 0), "parts/a.png": mask(0, 9, 0, 0), "subparts/b.png": mask(0, 0, 5, 0)})
    dataset = opened(root)
    assert dataset.has_parts
    assert [object_id.instance for object_id in dataset.objects if object_id.image == "a.jpg"] == [1, 100001]
    sample = read_sample(dataset, "b.png")
    assert sample.instance_ids() == [1, 2, 100001, 100002, 200001]
    np.testing.assert_array_equal(sample.object_mask(100002), np.where(values(0, 0, 1, -1) < 0, -1, values(0, 0, 1, 0)))
    assert read_sample(dataset, "a.jpg").granularity([100001]) == 0.5
    protocol = Protocol().replace(train_dataset=f"folder:{root}", validation_dataset=f"folder:{root}")
    assert open_dataset(f"folder:{root}", "train", None, protocol).has_parts
    recorded = as_recorded(protocol)
    assert recorded.train_dataset == recorded.validation_dataset == "folder:My-photos"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"parts/b.png": mask(1, 1, 2, 2)},
            r"part 100001 of level 1 does not lie within one label.*0, 1 at its pixels",
        ),
        ({"parts/c.png": mask(0, 1, 2, 0)}, r"c\.png: there is no mask of the same name in .*masks"),
        ({"subparts/b.png": mask(0, 1, 2, 0)}, r"b\.png: there is no mask of the same name in .*parts"),
        ({"parts/b.png": picture(values(0, 1, 2, 0).T.astype(np.uint8))}, r"the parts have 16×12 pixels"),
    ],
)
def test_parts_that_fit_nothing_are_refused(files, message, root):
    write(root, files)
    with pytest.raises(DataError, match=message):
        opened(root)
