"""SBD on real photographs, and on small folders with every possible fault; RITM's score file."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from vfm_isbench.datasets import sbd
from vfm_isbench.datasets.sbd import (
    SAMPLE_WEIGHTS_SHA256,
    SbdDataset,
    fill_ratios,
    is_published_sample_weights,
    read_sample_weights,
)
from vfm_isbench.errors import DataError
from vfm_isbench.types import IGNORE, AnnotatedImage, Array, ObjectId


class NothingUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name}")


def write_instances(path: Path, labels: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"Segmentation": labels, "Categories": np.ones((1, 1), np.uint8)}
    savemat(path, {"GTinst": content}, do_compression=True)


def make_sbd(root: Path, instances: dict[str, Array]) -> Path:
    """SBD with all these images in both splits."""
    (root / "img").mkdir(parents=True)
    for name, labels in instances.items():
        Image.fromarray(np.full((*labels.shape, 3), 77, np.uint8)).save(root / "img" / f"{name}.jpg")
        write_instances(root / "inst" / f"{name}.mat", labels)
    for split in ("train", "val"):
        (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in instances))
    return root


@pytest.fixture
def labels() -> Array:
    """Three instances with gaps between the labels; 9 is a diagonal line, a broken mask."""
    labels = np.zeros((20, 30), np.uint8)
    labels[2:8, 2:8] = 255
    labels[10:14, 10:20] = 3
    labels[11:13, 12:18] = 0
    labels[range(1, 20), range(11, 30)] = 9
    return labels


@pytest.fixture
def root(tmp_path: Path, labels: Array) -> Path:
    return make_sbd(tmp_path / "SBD", {"2008_02": labels, "2008_01": labels.T.copy()})


def test_objects_are_the_recorded_ones_in_the_recorded_order(real_root: Path) -> None:
    dataset = SbdDataset(real_root / "SBD", "val")
    with (real_root / "SBD" / "val_images_and_ids_list.pkl").open("rb") as stream:
        recorded = NothingUnpickler(stream).load()
    assert [(each.image, each.instance) for each in dataset.objects] == recorded
    assert len(dataset) == 30


def test_real_training_images(real_root: Path) -> None:
    dataset = SbdDataset(real_root / "SBD", "train")
    assert len(dataset) == 120
    assert list(dataset.image_ids) == (real_root / "SBD" / "train.txt").read_text().splitlines()
    for image_id in dataset.image_ids[:10]:
        sample = dataset.read(image_id)
        assert sample.image.shape == (*sample.labels.shape, 3) and sample.labels.dtype == np.int32
        assert sample.instance_ids() == list(range(1, len(sample.instance_ids()) + 1))
        assert set(dataset.instances_for_training(sample)) <= set(sample.instance_ids())


def test_order_labels_and_pixels(root: Path, labels: Array) -> None:
    dataset = SbdDataset(root, "val")
    assert list(dataset.image_ids) == ["2008_02", "2008_01"], "the split file's order, not the alphabet's"
    expected = [ObjectId(name, label) for name in ("2008_02", "2008_01") for label in (3, 9, 255)]
    assert dataset.objects == expected, "255 is an instance like any other"
    sample = dataset.read("2008_01")
    np.testing.assert_array_equal(sample.labels, labels.T)
    assert sample.labels.dtype == np.int32 and (sample.image == 77).all()


def test_broken_masks_are_left_out_of_training_only(root: Path) -> None:
    sample = SbdDataset(root, "train").read("2008_02")
    assert SbdDataset(root, "train").instances_for_training(sample) == [3, 255]
    assert SbdDataset(root, "train", min_fill_ratio=0.0).instances_for_training(sample) == [3, 9, 255]
    assert SbdDataset(root, "train", min_fill_ratio=0.9).instances_for_training(sample) == [255]
    assert sample.instance_ids() == [3, 9, 255]
    assert len(SbdDataset(root, "val").objects) == 6


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12))
def test_fill_ratio_is_area_over_bounding_box(seed: int, height: int, width: int) -> None:
    labels = np.random.default_rng(seed).integers(-1, 4, (height, width)).astype(np.int32)
    assert IGNORE == -1
    expected = {}
    for label in (1, 2, 3):
        rows, cols = np.nonzero(labels == label)
        if len(rows):
            expected[label] = len(rows) / ((rows.max() - rows.min() + 1) * (cols.max() - cols.min() + 1))
    assert fill_ratios(labels) == pytest.approx(expected)
    assert list(fill_ratios(labels)) == sorted(expected)


def test_fill_ratio_at_the_limit_is_kept(root: Path) -> None:
    labels = np.zeros((5, 10), np.int32)
    labels[0, 0] = labels[4, 9] = labels[2, 2] = labels[2, 3] = 1
    assert fill_ratios(labels) == {1: 0.08}
    sample = AnnotatedImage("x", np.zeros((5, 10, 3), np.uint8), labels)
    assert SbdDataset(root, "train", min_fill_ratio=0.08).instances_for_training(sample) == [1]


def test_image_without_instance_is_an_error_in_val_only(tmp_path: Path, labels: Array) -> None:
    root = make_sbd(tmp_path / "SBD", {"full": labels, "bare": np.zeros_like(labels)})
    for use in (lambda: SbdDataset(root, "val").objects, lambda: SbdDataset(root, "val").read("bare")):
        with pytest.raises(DataError, match=r"bare\.mat: has no instance"):
            use()
    train = SbdDataset(root, "train")
    assert train.read("bare").instance_ids() == [] and len(train.objects) == 3


def test_nothing_is_read_before_it_is_needed(root: Path) -> None:
    for path in root.glob("*/*"):
        path.write_bytes(b"broken")
    dataset = SbdDataset(root, "val")
    before = sorted(root.rglob("*"))
    with pytest.raises(DataError, match=r"2008_02\.mat"):
        _ = dataset.objects
    assert sorted(root.rglob("*")) == before


def test_lists_of_other_programs_are_not_used(root: Path) -> None:
    (root / "val_images_and_ids_list.pkl").write_bytes(pickle.dumps([("2008_01", 9)]))
    assert len(SbdDataset(root, "val").objects) == 6
    assert (root / "val_images_and_ids_list.pkl").read_bytes() == pickle.dumps([("2008_01", 9)])


def test_progress_bar_for_long_lists_only(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(SbdDataset(root, "val").objects) == 6
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sbd, "SILENT_UP_TO", 1)
    assert len(SbdDataset(root, "val").objects) == 6
    assert "listing the objects of SBD val" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [b"", b"no matlab file at all" * 20, {"GTcls": 1}, {"GTinst": {"Boundaries": 1}}, {"GTinst": 7}],
    ids=["empty", "garbage", "class file", "no segmentation", "no struct"],
)
def test_foreign_instance_files_are_named(root: Path, content: bytes | dict[str, Any]) -> None:
    path = root / "inst" / "2008_01.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        savemat(path, content)
    with pytest.raises(DataError, match=r"2008_01\.mat: .*GTinst"):
        SbdDataset(root, "train").read("2008_01")


def test_truncated_instance_file(root: Path) -> None:
    path = root / "inst" / "2008_01.mat"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"2008_01\.mat: cannot be read"):
        SbdDataset(root, "train").read("2008_01")


@pytest.mark.parametrize("array", [np.zeros((2, 3, 4), np.uint8), np.full((4, 4), 0.5), np.full((4, 4), -1, np.int16)])
def test_segmentations_that_are_not_label_maps(root: Path, array: Array) -> None:
    write_instances(root / "inst" / "2008_01.mat", array)
    with pytest.raises(DataError, match=r"2008_01\.mat: GTinst\.Segmentation has shape"):
        SbdDataset(root, "train").read("2008_01")


def test_sizes_must_agree(root: Path) -> None:
    write_instances(root / "inst" / "2008_01.mat", np.ones((20, 30), np.uint8))
    with pytest.raises(DataError, match=r"2008_01\.mat: the mask has 20×30.*2008_01\.jpg has 30×20"):
        SbdDataset(root, "val").read("2008_01")


def test_broken_photograph(root: Path) -> None:
    path = root / "img" / "2008_01.jpg"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"2008_01\.jpg: cannot be read as a picture"):
        SbdDataset(root, "val").read("2008_01")


@pytest.mark.parametrize("name", ["img/2008_01.jpg", "inst/2008_01.mat"])
def test_missing_file_is_reported_immediately(root: Path, name: str) -> None:
    (root / name).unlink()
    with pytest.raises(DataError, match=rf"{Path(name).parent}: no file for {Path(name).name}, which .*val\.txt lists"):
        SbdDataset(root, "val")


def test_unknown_id_and_split(root: Path) -> None:
    with pytest.raises(DataError, match=r"no image '2008_01\.jpg' in split val.*without suffix: 2008_02, 2008_01"):
        SbdDataset(root, "val").read("2008_01.jpg")
    with pytest.raises(DataError, match=r"no split 'test'"):
        SbdDataset(root, "test")  # type: ignore[arg-type]


def test_split_files(root: Path) -> None:
    (root / "val.txt").write_text("\n2008_01  \r\n\n")
    assert list(SbdDataset(root, "val").image_ids) == ["2008_01"]
    (root / "val.txt").write_text("2008_01\n2008_02\n2008_01\n")
    with pytest.raises(DataError, match=r"val\.txt: names 2008_01 more than once"):
        SbdDataset(root, "val")
    (root / "val.txt").write_text("\n")
    with pytest.raises(DataError, match=r"val\.txt: empty"):
        SbdDataset(root, "val")
    (root / "val.txt").unlink()
    with pytest.raises(DataError, match=r"SBD: val\.txt not found.*SBD holds img/, inst/, train\.txt\."):
        SbdDataset(root, "val")


def test_original_release_works_where_it_is_and_is_recognised_nearby(root: Path, tmp_path: Path) -> None:
    (root / "cls").mkdir()
    raw = tmp_path / "download" / "SBD" / "benchmark_RELEASE" / "dataset"
    raw.parent.mkdir(parents=True)
    root.rename(raw)
    assert len(SbdDataset(raw, "val").objects) == 6
    with pytest.raises(DataError, match=f"{raw} has this layout.*called SBD"):
        SbdDataset(tmp_path / "download" / "SBD", "val")
    with pytest.raises(DataError, match=f"{raw} has this layout.*called SBD"):
        SbdDataset(raw / "SBD", "val")


def test_data_root_that_is_the_data_set_itself(root: Path) -> None:
    with pytest.raises(DataError, match=f"give {root.parent} as the data root"):
        SbdDataset(root / "SBD", "val")


# RITM's score file


def write_scores(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "form",
    [float, np.float64, np.float32, np.array, lambda score: np.array([score]), lambda score: np.array([[score]])],
)
def test_weights_follow_the_formula_in_the_requested_order(tmp_path: Path, protocol: int, form: Any) -> None:
    entries = [(np.int64(0), "a", form(0.5)), (1, np.str_("b"), form(0.0)), (2, "c", form(1.0)), (3, "d", form(0.75))]
    path = write_scores(tmp_path / "scores.pkl", entries, protocol)
    weights = read_sample_weights(path, ["d", "a", "c"])
    expected = np.array([0.25, 0.5, 0.0]) ** 1.25
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-12)
    assert weights.dtype == np.float64 and weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(read_sample_weights(path, ["a", "b"], gamma=1.0), [1 / 3, 2 / 3])


def test_big_endian_and_fortran_arrays_keep_their_values(tmp_path: Path) -> None:
    from vfm_isbench.datasets.files import read_plain_pickle

    arrays = [
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(["é", "x"]),
    ]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for read, array in zip(read_plain_pickle(write_scores(tmp_path / "p", arrays, protocol)), arrays, strict=True):
            np.testing.assert_array_equal(np.asarray(read), array)


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


def test_pickles_that_refer_to_anything_else_are_refused_unrun(tmp_path: Path) -> None:
    target = tmp_path / "was_run"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path = write_scores(tmp_path / "scores.pkl", [(0, "a", 0.5), Evil(target)], protocol)
        with pytest.raises(DataError, match=rf"scores\.pkl: .*refers to {os.system.__module__}\.system"):
            read_sample_weights(path, ["a"])
    assert not target.exists()


@pytest.mark.parametrize(
    ("opcodes", "named"),
    [
        (b"cbuiltins\neval\n.", r"builtins\.eval"),
        (b"cnumpy\nload\n.", r"numpy\.load"),
        (b"cnumpy.core.multiarray\nfromfile\n.", r"numpy\.core\.multiarray\.fromfile"),
        (b"cnumpy\ndtype.__class__\n.", r"numpy\.dtype\.__class__"),
        (b"cnumpy\ndtype\n(VO\ntR.", "holds the numpy type 'O'"),
        (b"P1\n.", "persistent"),
    ],
)
def test_crafted_pickles(tmp_path: Path, opcodes: bytes, named: str) -> None:
    path = tmp_path / "scores.pkl"
    path.write_bytes(opcodes)
    with pytest.raises(DataError, match=named):
        read_sample_weights(path, ["a"])


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"a": 0.5}, "holds a dict, expected a list"),
        ([("a", 0.5)], "entry 0 is"),
        ([(0, "a", 0.5), 3], "entry 1 is 3"),
        ([(0, "a", "high")], "entry 0 is"),
        ([(0, "a", None)], "score of 'a' is nan"),
        ([(0, "a", np.array([0.1, 0.2]))], "entry 0 is"),
        ([(0, 7, 0.5)], "has the name 7"),
        ([(0, "a", 1.01)], "score of 'a' is 1.01, expected 0 to 1"),
        ([(0, "a", -0.1)], "score of 'a' is -0.1"),
        ([(0, "a", float("nan"))], "score of 'a' is nan"),
        ([(0, "a", 0.5), (1, "a", 0.4)], "more than one score for 'a'"),
        ([(0, "a", 1.0)], "every image has score 1"),
        ([(0, "b", 0.5)], "no score for 1 of 1 images: a"),
        ([], "no score for 1 of 1 images: a"),
    ],
)
def test_contents_that_are_not_scores(tmp_path: Path, content: object, named: str) -> None:
    with pytest.raises(DataError, match=rf"scores\.pkl: .*{named}"):
        read_sample_weights(write_scores(tmp_path / "scores.pkl", content), ["a"])


def test_missing_names_are_counted_and_listed(tmp_path: Path) -> None:
    path = write_scores(tmp_path / "scores.pkl", [(0, "n0", 0.5)])
    with pytest.raises(DataError, match=r"no score for 19 of 20 images: n1, .*n8 and 11 more"):
        read_sample_weights(path, [f"n{i}" for i in range(20)])


def test_broken_and_missing_score_files(tmp_path: Path) -> None:
    path = write_scores(tmp_path / "scores.pkl", [(0, "a", np.float64(0.5))])
    for length in range(len(path.read_bytes())):
        cut = tmp_path / "cut.pkl"
        cut.write_bytes(path.read_bytes()[:length])
        with pytest.raises(DataError, match=r"cut\.pkl"):
            read_sample_weights(cut, ["a"])
    with pytest.raises(DataError, match=r"nowhere\.pkl: no such file"):
        read_sample_weights(tmp_path / "nowhere.pkl", ["a"])
    with pytest.raises(DataError, match="gamma is -1"):
        read_sample_weights(path, ["a"], gamma=-1)


def test_published_file_is_recognised_by_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scores.pkl"
    path.write_bytes(b"abc")
    assert not is_published_sample_weights(path)
    # The digest of "abc", from FIPS 180-2.
    monkeypatch.setattr(
        sbd, "SAMPLE_WEIGHTS_SHA256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert is_published_sample_weights(path)
    with pytest.raises(DataError, match=r"nowhere"):
        is_published_sample_weights(tmp_path / "nowhere")
    assert len(SAMPLE_WEIGHTS_SHA256) == 64
