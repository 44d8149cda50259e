"""The semantic probe end to end, on generated scenes and on a folder of label maps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vfm_isbench.cli import main
from vfm_isbench.datasets.scenes.dataset import ScenesDataset
from vfm_isbench.datasets.scenes.embedded import EMBEDDED
from vfm_isbench.errors import ChannelsError, DataError, ProtocolError, ResultError, UpsamplerError
from vfm_isbench.semantic import SemanticResult, SemanticSettings, open_classes, probe_semantic
from vfm_isbench.semantic.data import square
from vfm_isbench.types import Array

COLOURS = np.array([(200, 30, 30), (30, 200, 30), (30, 30, 200)], np.uint8)
"""One colour per class, so that even random features tell classes apart."""


def label_map(rng: np.random.Generator, size: int = 64) -> Array:
    """Three classes in two straight cuts, and a band that does not count."""
    labels = np.zeros((size, size), np.uint8)
    labels[:, rng.integers(16, 48) :] = 1
    labels[rng.integers(24, 56) :] = 2
    labels[:, :4] = 255
    return labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("maps")
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (root / name).mkdir()
    for number in range(6):
        labels = label_map(rng)
        noise = rng.integers(-20, 20, (*labels.shape, 3))
        image = np.clip(COLOURS[np.minimum(labels, 2) * (labels != 255)] + noise, 0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / "images" / f"{number}.png")
        Image.fromarray(labels).save(root / "labels" / f"{number}.png")
    (root / "first.txt").write_text("0\n1\n2\n3\n")
    (root / "last.txt").write_text("4\n5\n")
    return root


def settings_of(folder: Path, **changes: object) -> SemanticSettings:
    chosen = {
        "image_size": 64,
        "train": f"folder:{folder / 'first.txt'}",
        "test": f"folder:{folder / 'last.txt'}",
        "epochs": 12,
        "batch_size": 4,
        "learning_rate": 0.05,
    } | changes
    return SemanticSettings.of("demo", **chosen)


@pytest.fixture(scope="module")
def result(folder: Path) -> SemanticResult:
    return probe_semantic("bilinear", settings_of(folder), device="cpu", progress=False)


def test_it_learns_classes_and_counts_every_pixel(result: SemanticResult, folder: Path) -> None:
    assert result.losses[-1] < 0.5 * result.losses[0]
    assert result.mean_iou > 0.6
    assert [image.image_id for image in result.images] == ["4", "5"]
    for image in result.images:
        labels = np.asarray(Image.open(folder / "labels" / f"{image.image_id}.png"))
        assert image.counts.sum(axis=1).tolist() == np.bincount(labels[labels != 255], minlength=3).tolist()
        assert image.sharpness is not None and 0 < image.agreement <= 1
    assert "mIoU" in str(result) and result.upsampler["name"] == "bilinear"
    assert str(folder) not in json.dumps(result.to_dict()), "results travel, and name no path"


def test_the_same_seed_gives_the_same_counts(result: SemanticResult, folder: Path) -> None:
    again = probe_semantic("bilinear", settings_of(folder), device="cpu", progress=False)
    other = probe_semantic("bilinear", settings_of(folder, seed=1), device="cpu", progress=False)
    assert (again.losses, again.counts.tolist()) == (result.losses, result.counts.tolist())
    assert other.losses != result.losses


def test_a_result_is_read_back(result: SemanticResult, tmp_path: Path) -> None:
    file = result.save(tmp_path / "deep" / "result.json")
    read = SemanticResult.load(file)
    assert read.to_dict() == json.loads(file.read_text())
    assert (read.settings, read.mean_iou, str(read)) == (result.settings, result.mean_iou, str(result))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean_iou": 0.99}, "mean_iou is not that of its counts"),
        ({"schema": "result-1"}, "schema"),
        ({"images": []}, "no images"),
        ({"classes": ["only one"]}, "triples|beyond|items"),
        ({"losses": ["a"]}, "losses"),
        ({"settings": {}}, "missing or unknown"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    result: SemanticResult, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps(result.to_dict() | change))
    with pytest.raises(ResultError, match=message):
        SemanticResult.load(file)


def test_missing_file_and_foreign_json(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="could not be read"):
        SemanticResult.load(tmp_path / "none.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ResultError, match="not a result of probe-semantic"):
        SemanticResult.load(tmp_path / "list.json")


def test_an_upsampler_that_breaks_later_gives_our_error(folder: Path) -> None:
    calls = []

    def breaks(features: Tensor, image: Tensor) -> Tensor:
        calls.append(1)
        if float(image.std()) > 0 and len(calls) > 40:
            raise RuntimeError("out of luck")
        return functional.interpolate(features, image.shape[-2:])

    with pytest.raises(UpsamplerError, match="out of luck"):
        probe_semantic(breaks, settings_of(folder, epochs=60), device="cpu", progress=False)


def test_another_backbone_than_the_upsampler_was_made_for_is_refused(folder: Path) -> None:
    with pytest.raises(ChannelsError, match="dinov2_vits14"):
        probe_semantic("loftup:dinov2s", settings_of(folder), device="cpu", progress=False)


def test_folders_with_other_classes_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="classes"):
        probe_semantic("bilinear", settings_of(folder, test="compact_scenes"), device="cpu", progress=False)
    with pytest.raises(DataError, match="expected a folder with images/"):
        open_classes(f"folder:{tmp_path}", "train")
    with pytest.raises(DataError, match="there is no"):
        open_classes("folder:nowhere", "train")
    with pytest.raises(DataError, match="with classes"):
        open_classes("sbd", "train")


def test_the_layout_of_pascal_voc_and_named_classes(folder: Path, tmp_path: Path) -> None:
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (tmp_path / "JPEGImages").symlink_to(folder / "images")
    (tmp_path / "SegmentationClass").symlink_to(folder / "labels")
    (tmp_path / "classes.txt").write_text("sky\nsea\nland")
    (lists / "val.txt").write_text("3\n1\n")
    found = open_classes(f"folder:{lists / 'val.txt'}", "test")
    assert (list(found.image_ids), list(found.class_names)) == (["3", "1"], ["sky", "sea", "land"])
    (tmp_path / "classes.txt").write_text("sky\nsea")
    with pytest.raises(DataError, match="labels 2 are beyond"):
        open_classes(f"folder:{tmp_path}", "test").read("0")
    (lists / "val.txt").write_text("3\nmissing\n")
    with pytest.raises(DataError, match="missing listed"):
        open_classes(f"folder:{lists / 'val.txt'}", "test")


def test_scenes_get_the_classes_of_their_patterns() -> None:
    scenes = ScenesDataset(split="test", n_images=3, image_size=(96, 128))
    opened = open_classes("compact_scenes", "test")
    assert len(opened.image_ids) == EMBEDDED["compact_scenes"].images["test"]
    for image_id in opened.image_ids[:2]:
        image, labels = opened.read(image_id)
        sample = EMBEDDED["compact_scenes"].open("compact_scenes", "test").read(image_id)
        assert np.array_equal(image, sample.image)
        assert ((labels == 0) == (sample.labels == 0)).all()
        patterns = EMBEDDED["compact_scenes"].open("compact_scenes", "test").patterns(image_id)
        for number, name in enumerate(patterns, start=1):
            assert set(labels[sample.labels == number]) == {list(opened.class_names).index(name)}
    assert len(scenes.patterns("test-00000")) == scenes.read("test-00000").labels.max()


def test_labels_are_resized_without_mixing() -> None:
    labels = label_map(np.random.default_rng(0))
    image = COLOURS[np.minimum(labels, 2)]
    small, found = square(np.pad(image, ((0, 0), (9, 9), (0, 0))), np.pad(labels, ((0, 0), (9, 9))), 32)
    assert small.shape == (32, 32, 3)
    np.testing.assert_array_equal(found, labels[1::2, 1::2])


@pytest.mark.parametrize("change", [{"epochs": 0}, {"learning_rate": float("nan")}, {"limit": 0}, {"unknown": 1}])
def test_settings_out_of_range_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ProtocolError, match="semantic probe"):
        SemanticSettings.of("demo", **change)


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--train", f"folder:{folder / 'first.txt'}", "--test", f"folder:{folder / 'last.txt'}"]
    small = ["--image-size", "64", "--epochs", "1", "--limit", "1", "--random-weights", "--device", "cpu", "--quiet"]
    file = tmp_path / "out.json"
    size = "vfm_isbench.semantic.at_size:AtSize?upsampler=jbu&size=32"
    assert main(["probe-semantic", size, *places, *small, "--output", str(file)]) == 0
    assert "a dry run" in capsys.readouterr().out
    read = SemanticResult.load(file)
    assert len(read.images) == 1 and read.backbone["weights"] == "random"
    assert main(["probe-semantic", "bilinear", *places, *small, "--output", str(tmp_path)]) == 2


def test_an_upsampler_asked_for_another_size() -> None:
    from vfm_isbench.semantic.at_size import AtSize
    from vfm_isbench.upsamplers import load_upsampler

    features, image = torch.randn(1, 4, 6, 6), torch.randn(1, 3, 48, 48)
    same = AtSize("jbu", 48)(features, image)
    torch.testing.assert_close(same, load_upsampler("jbu")(features, image))
    assert AtSize("jbu", 24)(features, image).shape[-2:] == (24, 24)
    assert AtSize("jbu", 96)(features, image).shape[-2:] == (96, 96)


def test_sizes_that_cannot_be_asked_for() -> None:
    from vfm_isbench.errors import ContractError
    from vfm_isbench.semantic.at_size import AtSize

    with pytest.raises(ContractError, match="patches per side"):
        AtSize("bilinear", 4)(torch.randn(1, 4, 6, 6), torch.randn(1, 3, 48, 48))
    with pytest.raises(ContractError, match="positive|whole number"):
        AtSize("bilinear", 0)
    with pytest.raises(ContractError, match="keeps the patch grid"):
        AtSize("identity", 24)


def test_scenes_whose_objects_have_parts_are_refused() -> None:
    with pytest.raises(DataError, match="several patterns each"):
        open_classes("part_scenes", "test")
