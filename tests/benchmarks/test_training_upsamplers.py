"""The trainings of learned upsamplers: their losses fall, and the library loads what they write."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from result_builder import synthetic_result
from torch import Tensor
from torch.nn import functional

from vfm_isbench import Protocol
from vfm_isbench.testing.fakes import FakeBackbone
from vfm_isbench.upsamplers import load_upsampler

RECIPES = Path(__file__).parents[2] / "benchmarks" / "recipes"
SIZE, PATCH, CHANNELS = 32, 8, 8
OURS = ("training_upsamplers", "train_upsampler", "study")


@pytest.fixture(scope="module")
def recipe() -> Iterator[Callable[[str], ModuleType]]:
    """Imports the modules beside the recipes, as a recipe does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(RECIPES))
        yield importlib.import_module
    for name in [name for name in sys.modules if name.startswith(OURS)]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def features(recipe: Callable[[str], ModuleType]) -> Any:
    return recipe("training_upsamplers.features").FrozenFeatures(lambda _: FakeBackbone(CHANNELS, PATCH), SIZE)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small smooth pictures, so that crops of them have something to upsample."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "more").mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        small.resize((120, 90)).save(folder / ("more" if number % 2 else ".") / f"{number:02d}.png")
    return folder


@pytest.mark.parametrize("mirrored", [False, True])
def test_views_are_turned_back_exactly(recipe: Callable[[str], ModuleType], mirrored: bool) -> None:
    views = recipe("training_upsamplers.views")
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 64, 64)
    offsets = set()
    for _ in range(20):
        view = views.draw_view(64, PATCH, float(mirrored), generator)
        assert view.mirrored is mirrored
        seen = view.of(image)
        # Put back, the view is the image where it was cut out, bit by bit, and changes nothing elsewhere.
        assert torch.equal(view.put_back(seen, image), image)
        blank = view.put_back(seen, torch.full_like(image, -1))
        assert torch.equal(blank[blank >= 0], image[blank >= 0])
        assert int((blank >= 0).sum()) == 2 * 3 * view.side**2
        assert torch.equal(view.of(blank), seen)
        assert view.side % PATCH == 0
        offsets.add((view.top % PATCH, view.left % PATCH))
    assert len(offsets) > 5  # the new information: cells at other places than those of the image


def test_features_on_a_finer_grid_lie_where_they_should(recipe: Callable[[str], ModuleType]) -> None:
    """With a backbone that averages patches, a finer grid is an average over windows at finer steps."""
    finer = recipe("training_upsamplers.finer")

    class Averages:
        channels, patch_size = 3, PATCH

        def __call__(self, images: Tensor) -> Tensor:
            return functional.avg_pool2d(images, PATCH)

    images = torch.rand(2, 3, SIZE, SIZE, dtype=torch.float64)
    found = finer.finer_features(Averages(), images, 4)
    assert found.shape == (2, 3, 16, 16)
    for row, col in ((1, 1), (2, 5), (13, 14), (9, 2)):
        top, left = (2 * place + 1 - PATCH // 2 for place in (row, col))  # the centre of the cell, minus half a patch
        if min(top, left) >= 0 and max(top, left) + PATCH <= SIZE:
            window = images[..., top : top + PATCH, left : left + PATCH]
            torch.testing.assert_close(found[..., row, col], window.mean(dim=(2, 3)))
    # Averaged over the cells of the coarse grid, it lies where the coarse grid does: a ramp stays the same ramp.
    ramp = torch.linspace(0, 1, SIZE, dtype=torch.float64).expand(1, 3, SIZE, SIZE)
    coarse = functional.avg_pool2d(finer.finer_features(Averages(), ramp, 2), 2)
    torch.testing.assert_close(coarse[..., 1:-1], Averages()(ramp)[..., 1:-1])


def test_a_downsampler_averages_around_each_cell(recipe: Callable[[str], ModuleType]) -> None:
    downsampler = recipe("training_upsamplers.downsampler").AttentionDownsampler(CHANNELS, PATCH).eval()
    with torch.no_grad():
        constant = downsampler(torch.ones(1, CHANNELS, SIZE, SIZE))
        torch.testing.assert_close(constant, torch.ones(1, CHANNELS, 4, 4))
        downsampler.scale.zero_()
        downsampler.shift.zero_()
        maps = torch.rand(1, CHANNELS, SIZE, SIZE)
        border = [PATCH // 2] * 4
        expected = functional.avg_pool2d(functional.pad(maps, border, mode="reflect"), 2 * PATCH, PATCH)
        torch.testing.assert_close(downsampler(maps), expected)


@pytest.mark.parametrize(("method", "size", "steps"), [("lift", 32, 40), ("jbu", 24, 20), ("loftup", 16, 40)])
def test_a_loss_falls_and_the_file_loads_by_its_public_name(
    method: str,
    size: int,
    steps: int,
    recipe: Callable[[str], ModuleType],
    features: Any,
    photographs: Path,
    tmp_path: Path,
) -> None:
    loop, methods = recipe("training_upsamplers.loop"), recipe("training_upsamplers.methods")
    training, _ = recipe("training_upsamplers.pictures").photographs(photographs)
    settings = loop.Settings(crops=8, steps=steps, batch_size=2, learning_rate=1e-2, progress=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = methods.METHODS[method](features, size)
        before = {name: tensor.clone() for name, tensor in features.backbone.state_dict().items()}
        curve = loop.train(made, [training], settings)
    losses = [loss for _, loss in curve]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    assert all(torch.equal(before[name], tensor) for name, tensor in features.backbone.state_dict().items())
    file = tmp_path / f"{method}.safetensors"
    recipe("train_upsampler").write_tensors(file, made.tensors(), {})
    loaded = load_upsampler(f"{made.spec_kind}:{file}")
    image, grid = torch.rand(2, 3, size, size), torch.rand(2, CHANNELS, size // PATCH, size // PATCH)
    with torch.no_grad():
        assert torch.equal(loaded(grid, image), made.upsampler(grid, image))


def test_photographs_are_held_out_and_crops_are_the_same_with_a_seed(
    recipe: Callable[[str], ModuleType], photographs: Path
) -> None:
    pictures = recipe("training_upsamplers.pictures")
    training, held_out = pictures.photographs(photographs)
    assert (len(training.images), len(held_out.images)) == (10, 2)
    assert not any(torch.equal(one, other) for one in training.images for other in held_out.images)
    crops = [pictures.batch_of([training], 3, SIZE, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(crops[0], crops[1]) and not torch.equal(crops[0], crops[2])
    assert crops[0].shape == (3, 3, SIZE, SIZE) and 0 <= crops[0].min() < crops[0].max() <= 1
    named, _ = pictures.photographs(photographs, ["01", "02", "03"])
    assert len(named.images) == 2
    with pytest.raises(SystemExit, match="no photograph elsewhere"):
        pictures.photographs(photographs, ["01", "elsewhere"])


def test_the_recipe_writes_the_file_and_what_is_known_about_it(
    recipe: Callable[[str], ModuleType],
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = recipe("train_upsampler")
    monkeypatch.setattr(program, "load_backbone", lambda *_, **__: FakeBackbone(CHANNELS, PATCH))
    monkeypatch.setattr(recipe("training_upsamplers.held_out").held_out_errors, "__defaults__", (2,))
    words = ["lift", "--images", str(photographs), "--scenes", "0", "--image-size", str(SIZE)]
    words += [
        "--crops",
        "4",
        "--steps",
        "3",
        "--batch-size",
        "2",
        "--output",
        str(tmp_path / "out" / "lift.safetensors"),
    ]
    program.main(words)
    report = json.loads((tmp_path / "out" / "lift.json").read_text())
    assert report["pictures"] == {"photographs": 10}
    assert [step for step, _ in report["curve"]] == [1, 2, 3]
    assert {entry["upsampler"] for entry in report["held_out"]} == {"trained", "nearest", "bilinear", "bicubic", "jbu"}
    assert {entry["wanted"] for entry in report["held_out"]} == {"shifted", "enlarged 2", "enlarged 4"}
    written = (tmp_path / "out" / "lift.safetensors").read_bytes()
    program.main([*words, "--seed", "0"])
    assert (tmp_path / "out" / "lift.safetensors").read_bytes() == written
    (tmp_path / "out" / "lift.json").write_text(json.dumps({**report, "held_out": []}))
    program.main([*words, "--only-errors"])
    assert json.loads((tmp_path / "out" / "lift.json").read_text()) == report
    assert "use it as lift:" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="nothing to train on"):
        program.main(["lift", "--scenes", "0", "--output", str(tmp_path / "none.safetensors")])


def test_photographs_of_several_sets_are_compared_together(recipe: Callable[[str], ModuleType]) -> None:
    study = recipe("study_trained_upsamplers")
    protocol = Protocol.preset("demo@1").replace(test_datasets=("grabcut", "berkeley"))
    results = {
        name: [synthetic_result(name, seed=seed, skill=skill, protocol=protocol) for seed in (0, 1)]
        for name, skill in (("bilinear", 0.0), ("better", 0.5))
    }
    found = study.estimates(results, ["grabcut", "berkeley"])
    means = {
        name: np.mean([np.concatenate([one.ious for one in run.datasets.values()]).mean() for run in members])
        for name, members in results.items()
    }
    assert found["bilinear"]["mean_iou"][0] == pytest.approx(means["bilinear"], abs=1e-4)
    value, low, high = found["better"]["mean_iou - bilinear"]
    assert value == pytest.approx(means["better"] - means["bilinear"], abs=1e-4)
    assert low < value < high
    assert "mean_iou - bilinear" not in found["bilinear"]
    (last,) = [line for line in study.score_table(found).splitlines() if line.startswith("| better")]
    assert f"{100 * value:+.2f}" in last
