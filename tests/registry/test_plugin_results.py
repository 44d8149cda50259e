"""What a result says about the packages that provided parts of its run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from plugin_packages import Packages
from tiny import TINY

from vfm_isbench import Benchmark, Result, VfmIsbenchWarning, evaluate_checkpoint
from vfm_isbench.errors import RunError
from vfm_isbench.runs.checkpoints import load_trained
from vfm_isbench.training import load_checkpoint, save_checkpoint

PARTS = """
from torch.nn import functional
from vfm_isbench.click_encoders import PatchEmbedding
from vfm_isbench.datasets.scenes.dataset import ScenesDataset

class Scenes(ScenesDataset):
    name = "my_scenes"

def scenes(role, data_root, protocol):
    return Scenes(split="val" if role == "validation" else role)

def encoder(channels, patch_size, protocol):
    return PatchEmbedding(channels, patch_size)

def resize(features, image):
    return functional.interpolate(features, image.shape[-2:])
"""
POINTS = {
    ("data set", "my_scenes"): "parts_module:scenes",
    ("click encoder", "my_encoder"): "parts_module:encoder",
    ("upsampler", "my_resize"): "parts_module:resize",
}
MY_PROTOCOL = TINY.replace(
    click_encoder="my_encoder", train_dataset="my_scenes", epochs=1, validation_samples=0, object_limit=1
)


def origins(result: Result) -> list[tuple[str, str]]:
    return [(origin["kind"], origin["version"]) for origin in result.environment["plugins"]]


def evidence(result: Result) -> list[tuple[float, ...]]:
    return [object_.ious for found in result.datasets.values() for object_ in found.objects]


def test_a_result_names_the_packages_of_its_parts(packages: Packages, tmp_path: Path) -> None:
    packages.install("parts", POINTS, {"parts_module": PARTS}, version="1.0")
    result = Benchmark(MY_PROTOCOL, device="cpu", output_dir=tmp_path, progress=False).run("my_resize")
    assert origins(result) == [("click encoder", "1.0"), ("upsampler", "1.0"), ("data set", "1.0")]
    assert origins(Result.load(tmp_path / "result.json")) == origins(result)
    (note,) = [note for note in result.notes if note.startswith("from other packages: ")]
    parts = "click encoder my_encoder (parts 1.0), upsampler my_resize (parts 1.0), data set my_scenes (parts 1.0)"
    assert note.endswith(parts)
    assert result.upsampler["source"]["plugin"]["package"] == "parts"

    again = evaluate_checkpoint(tmp_path, upsampler="my_resize", device="cpu", progress=False)
    assert (origins(again), evidence(again)) == (origins(result), evidence(result))
    assert not any("trained with" in note for note in again.notes)

    packages.install("parts", POINTS, {"parts_module": PARTS}, version="1.1")
    with pytest.warns(VfmIsbenchWarning, match="trained with"):
        other = evaluate_checkpoint(tmp_path, upsampler="my_resize", device="cpu", progress=False)
    assert origins(other) == [("click encoder", "1.1"), ("upsampler", "1.1"), ("data set", "1.0")]
    told = "evaluated with the click encoder 'my_encoder' of parts 1.1, trained with that of parts 1.0"
    assert told in other.notes
    with pytest.raises(RunError, match=r"another run; it differs in .*plugins: .*'1\.0'.* there, .*'1\.1'.* now"):
        Benchmark(MY_PROTOCOL, device="cpu", output_dir=tmp_path, progress=False).run("my_resize")

    packages.install("parts", POINTS, {"parts_module": PARTS + "# edited\n"}, version="1.0")
    with pytest.warns(VfmIsbenchWarning, match="trained with"):
        loaded = load_trained(tmp_path, upsampler="my_resize", device="cpu")
    assert f"{told.replace('1.1', '1.0')}, whose code differs" in loaded.notes


def test_a_run_of_built_ins_does_not_mention_plugins(tmp_path: Path) -> None:
    short = TINY.replace(epochs=1, validation_samples=0, object_limit=1)
    result = Benchmark(short, device="cpu", output_dir=tmp_path, progress=False).run("nearest")
    assert "plugins" not in result.environment
    assert not any("packages" in note for note in result.notes)
    extra = load_checkpoint(tmp_path / "checkpoint.safetensors").extra
    assert extra.keys() == {"backbone_sha256", "backbone_input", "precision"}


@pytest.mark.parametrize("recorded", [3, "text", [3], [{}], [{"kind": "click encoder", "name": 1}], {"a": 1}])
def test_a_malformed_record_of_plugins_in_a_checkpoint_is_ignored(recorded: object, tmp_path: Path) -> None:
    short = TINY.replace(epochs=1, samples_per_epoch=4, validation_samples=0)
    Benchmark(short, device="cpu", output_dir=tmp_path, progress=False).train("nearest")
    path = tmp_path / "checkpoint.safetensors"
    checkpoint = load_checkpoint(path)
    save_checkpoint(path, dataclasses.replace(checkpoint, extra={**checkpoint.extra, "plugins": recorded}))
    assert load_trained(path, device="cpu").plugins == ()
