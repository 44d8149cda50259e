"""The studies of other tasks and of backbones: their cases, and their figures from made-up results."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from result_builder import seeds_of

from vfm_isbench import Protocol
from vfm_isbench.cli.commands import build_parser
from vfm_isbench.cli.options import protocol_from
from vfm_isbench.semantic import SemanticResult, SemanticSettings, open_classes
from vfm_isbench.semantic.result import ImageCounts

RECIPES = Path(__file__).parents[2] / "benchmarks" / "recipes"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    monkeypatch.syspath_prepend(str(RECIPES))
    yield importlib.import_module
    for name in [name for name in sys.modules if name == "study" or name.startswith(("study.", "study_"))]:
        del sys.modules[name]


def arguments_of(recipe: Callable[[str], ModuleType], tmp_path: Path, **more: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    recipe("study.cases").add_arguments(parser, "trial")
    parsed = parser.parse_args(["--output", str(tmp_path), "--jobs", "1"])
    return argparse.Namespace(**vars(parsed) | more)


def test_pairs_of_the_full_list_are_run_or_skipped_with_a_reason(
    recipe: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    study = recipe("study_backbones")
    asked = {"backbones": None, "upsamplers": None, "random_weights": True, "vit": None, "protocol": "paper"}
    cases, skipped = study.cases(arguments_of(recipe, tmp_path, **asked), lambda *_: None)
    pairs = {case.label for case in cases} | skipped.keys()
    wanted = {study.label_of(upsampler, name) for name in study.FULL for upsampler in study.UPSAMPLERS_FULL}
    assert pairs == wanted
    specs = {case.label: case.upsampler for case in cases}
    siglip = "timm:vit_base_patch16_siglip_224.v2_webli"
    assert specs[f"loftup on {siglip}"] == "loftup:siglip2"
    assert specs["featup on dinov2_vits14"] == "featup:dinov2"
    assert "no weights of featup were trained for" in skipped[f"featup on {siglip}"]
    case = next(case for case in cases if case.label == f"jbu on {siglip}")
    parsed = build_parser().parse_args(case.command(Path("out"), 0, arguments_of(recipe, tmp_path)))
    assert protocol_from(parsed) == Protocol.preset("paper").replace(backbone=siglip)
    assert parsed.random_weights


def test_a_backbone_without_weights_is_skipped(recipe: Callable[[str], ModuleType], tmp_path: Path) -> None:
    study = recipe("study_backbones")
    asked = {"backbones": ["efficientnet_lite0@8", "nothing_of_the_kind"], "random_weights": False, "vit": None}
    arguments = arguments_of(recipe, tmp_path, **asked, upsamplers=["bilinear", "loftup:dinov2s"], limit=3)
    cases, skipped = study.cases(arguments)
    assert [case.label for case in cases] == ["bilinear on efficientnet_lite0@8"]
    assert cases[0].protocol.object_limit == 3
    assert "nothing_of_the_kind" in skipped
    assert "dinov2_vits14" in skipped["loftup:dinov2s on efficientnet_lite0@8"]


@pytest.mark.slow
def test_every_backbone_of_the_full_list_is_built(recipe: Callable[[str], ModuleType], tmp_path: Path) -> None:
    study = recipe("study_backbones")
    asked = {"backbones": None, "upsamplers": None, "random_weights": True, "vit": None, "protocol": "paper"}
    cases, skipped = study.cases(arguments_of(recipe, tmp_path, **asked))
    assert {case.protocol.backbone for case in cases} == set(study.FULL)
    assert all("on" in name for name in skipped)


@pytest.mark.slow
def test_the_full_list_runs_with_random_weights_on_a_tiny_protocol(
    recipe: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study, cases = recipe("study_backbones"), recipe("study.cases")
    really = cases.study_protocol
    small = {
        "image_size": 224,
        "train_dataset": "compact_scenes",
        "validation_dataset": "compact_scenes",
        "validation_samples": 0,
        "test_datasets": ("compact_scenes",),
        "sample_weights": "uniform",
        "epochs": 1,
        "milestones": (),
        "samples_per_epoch": 1,
        "batch_size": 1,
        "object_limit": 1,
        "max_clicks": 1,
        "head": "linear",
        "simple_vit_depth": 1,
        "flip_test": False,
    }
    monkeypatch.setattr(study, "study_protocol", lambda arguments: really(arguments).replace(**small))
    words = ["--protocol", "paper", "--random-weights", "--seeds", "0", "--upsamplers", "bilinear", "loftup"]
    study.main([*words, "--output", str(tmp_path), "--jobs", "1", "--device", "cpu"])
    printed = capsys.readouterr()
    # LoftUp's own weights cannot be had here.
    assert len(list(tmp_path.glob("bilinear*/result.json"))) == len(study.FULL)
    assert "nothing is kept" in printed.out


def test_gains_and_interactions_of_backbones(recipe: Callable[[str], ModuleType]) -> None:
    study = recipe("study_backbones")
    results = {
        study.label_of(name, backbone): seeds_of(name, (0, 1, 2), shift=shift)
        for backbone, gain in (("first", 0.2), ("second@8", 0.0))
        for name, shift in (("bilinear", 0.0), ("jbu", gain))
    }
    found = study.tables(results, {"backbones": ["first", "second@8"], "skipped": {"third": "no | weights"}})
    assert "`second@8`" in found["gains"] and "no / weights" in found["skipped"]
    lines = found["interactions"].splitlines()
    assert len(lines) == 4 and "| better |" in lines[2]
    assert "| open |" in lines[3] and "+" in lines[3]


def probed(label: str, skill: float, images: list[str]) -> list[SemanticResult]:
    rng = np.random.default_rng(int(100 * skill))
    results = []
    for seed in range(3):
        counted = []
        for image in images:
            right = rng.binomial(100, skill, 2)
            counts = np.array([[right[0], 100 - right[0]], [100 - right[1], right[1]]])
            counted.append(ImageCounts(image, counts, 1 + skill, 1 - skill / 10))
        settings = SemanticSettings.of("demo", seed=seed)
        results.append(SemanticResult(settings, {"name": label}, {}, ("a", "b"), tuple(counted)))
    return results


def test_the_figures_of_other_tasks(
    recipe: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = recipe("study_other_tasks")
    skills = {"nearest": 0.6, "bilinear": 0.7, "jbu": 0.9}
    clicked = {name: seeds_of(name, (0, 1, 2), shift=skill - 0.6) for name, skill in skills.items()}
    images = sorted({one.image for one in clicked["jbu"][0].datasets["davis"].object_ids})
    semantic = {name: probed(name, skill, images) for name, skill in skills.items()}
    semantic |= {f"{name}, photographs": probed(name, 1.5 - skill, ["x", "y", "z"]) for name, skill in skills.items()}
    semantic["jbu@24px"] = probed("jbu@24px", 0.8, images)
    clicked["jbu@24px"] = seeds_of("jbu", (0, 1), shift=0.2)
    figures = study.figures_of(clicked, semantic, list(skills), draws=20)
    assert figures["correlations"]["mIoU on scenes"] == [1, 1, 1]
    assert figures["correlations"]["mIoU on photographs"][0] == -1
    assert figures["correlations"]["sharpness"][0] == 1 and figures["correlations"]["agreement"][0] == -1
    assert figures["scenes"]["bilinear"]["against_bilinear"] == [0, 0, 0]
    monkeypatch.setattr(study, "kept_figures", lambda _: figures)
    found = study.blocks()
    assert found["tasks"].splitlines()[2].startswith("| jbu | ")
    assert "| 24 px | – | – |" in found["sizes"]
    study.draw(figures, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_the_cases_of_other_tasks(recipe: Callable[[str], ModuleType], tmp_path: Path) -> None:
    study = recipe("study_other_tasks")
    asked = {"upsamplers": study.UPSAMPLERS, "also": [["mine", "lift:here.pth"]]}
    arguments = arguments_of(recipe, tmp_path, **asked)
    there = ("nearest", "bilinear", "bicubic", "jbu")
    runs = [*study.clicked_cases(arguments, there), *study.clicked_size_cases(arguments)]
    labels = [case.label for case in runs]
    assert labels == ["lanczos", "guided_filter", "mine", "jbu@24px", "jbu@48px", "jbu@192px"]
    semantic = study.semantic_cases(arguments, ("folder:a", "folder:b"))
    assert len({case.label for case in semantic}) == len(semantic) == 7 + 9 + 7
    parsed = build_parser().parse_args(semantic[-1].command(Path("out.json"), 2, arguments))
    assert (parsed.upsampler, parsed.train, parsed.test, parsed.seed) == ("lift:here.pth", "folder:a", "folder:b", 2)


def test_instance_masks_become_label_maps(
    recipe: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes = recipe("study.probes")
    (tmp_path / "SBD" / "img").mkdir(parents=True)
    labels = np.zeros((20, 30), np.int32)
    labels[4:9, 4:9], labels[10:15, 10:15], labels[:, :2] = 1, 2, -1

    class Made:
        def __init__(self, root: Path, split: str) -> None:
            self.image_ids = [f"{split}-1"]
            Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(root / "img" / f"{split}-1.jpg")

        def read(self, image_id: str) -> argparse.Namespace:
            return argparse.Namespace(labels=labels)

    monkeypatch.setattr(probes, "SbdDataset", Made)
    train, test = probes.object_label_maps(tmp_path, tmp_path / "maps")
    opened = open_classes(test, "test")
    assert list(opened.image_ids) == ["val-1"] and list(opened.class_names) == ["background", "object"]
    _, found = opened.read("val-1")
    assert np.array_equal(found, np.where(labels == -1, 255, labels > 0))
    assert list(open_classes(train, "train").image_ids) == ["train-1"]


def test_results_keep_their_settings() -> None:
    settings = SemanticSettings.of("demo", limit=3)
    assert SemanticSettings.from_dict(settings.to_dict()) == settings
    assert settings.protocol().backbone == dataclasses.asdict(settings)["backbone"]
