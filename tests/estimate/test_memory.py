"""Runs that would not fit into memory: found out from steps with one and two images, before anything is trained."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from tiny import TINY

from vfm_isbench import Benchmark, cli
from vfm_isbench.acceleration.speed import RunOptions, Speed
from vfm_isbench.backbones import load_backbone
from vfm_isbench.errors import OutOfMemoryError
from vfm_isbench.estimate import announcement, memory, require_memory_to_train
from vfm_isbench.estimate.amounts import Holding, amounts_of
from vfm_isbench.probe import Probe, build_probe, free_memory, preparation
from vfm_isbench.protocol import PRESETS
from vfm_isbench.training.prediction import predict_batch
from vfm_isbench.training.samples import TrainingSamples, collate
from vfm_isbench.upsamplers import load_upsampler
from vfm_isbench.upsamplers.costs import counted_memory

LARGE = TINY.replace(batch_size=4)


@pytest.fixture(scope="module")
def probe() -> Probe:
    backbone = load_backbone(TINY.backbone, TINY.image_size, pretrained=False)
    return build_probe(TINY, backbone, load_upsampler("jbu"))


@pytest.fixture(scope="module")
def training() -> Holding:
    return amounts_of(TINY, None).training


def free(monkeypatch: pytest.MonkeyPatch, n_bytes: int) -> None:
    for module in (free_memory, memory):
        monkeypatch.setattr(module, "free_bytes", lambda _: n_bytes)


def test_a_step_with_a_batch_needs_what_steps_with_one_and_two_images_say(probe: Probe, training: Holding) -> None:
    assert training.dataset is not None
    samples = TrainingSamples(training.dataset, LARGE)
    batch = collate([samples[0, item] for item in range(4)])
    drawn = memory.drawing(0, LARGE.max_iterative_clicks)
    before = {name: value.clone() for name, value in probe.state_dict().items()}
    random_numbers = torch.get_rng_state()
    need = memory.training_memory(probe, training, LARGE, RunOptions())
    assert all(torch.equal(before[name], value) for name, value in probe.state_dict().items())
    assert torch.equal(random_numbers, torch.get_rng_state())
    with counted_memory(probe.device) as peak:
        predict_batch(probe, batch, LARGE, drawn, backward=lambda logits, _: torch.autograd.backward(logits.mean()))
    moments = 2 * sum(value.nbytes for value in probe.trainable().parameters())
    assert need is not None
    assert need.of(4) == pytest.approx(peak.n_bytes + moments, rel=0.1)


def test_what_does_not_fit_is_refused_with_the_images_that_fit(
    probe: Probe, training: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = memory.training_memory(probe, training, LARGE, RunOptions())
    assert need is not None
    free(monkeypatch, round(need.of(2) / 0.9) + 10)
    with pytest.raises(OutOfMemoryError, match=r"^the training needs about .* with 4 images .*--images-at-once 2\)"):
        require_memory_to_train(probe, training, LARGE, RunOptions())
    assert require_memory_to_train(probe, training, LARGE, RunOptions(speed=Speed(images_at_once=2))) == need


def test_nothing_is_measured_where_it_certainly_fits(
    probe: Probe, training: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "training_memory", lambda *_: pytest.fail("measured"))
    for n_bytes in (2**40, None):
        monkeypatch.setattr(memory, "free_bytes", lambda _, given=n_bytes: given)
        assert require_memory_to_train(probe, training, LARGE, RunOptions()) is None


@pytest.mark.parametrize("command", ["run", "estimate"])
def test_a_run_that_would_not_fit_is_told_before_training(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    monkeypatch.setattr(preparation, "require_memory", lambda *_: None)  # the upsampler alone fits
    free(monkeypatch, 2**20)
    estimate = ["--estimate"] if command == "estimate" else []
    assert cli.main(["run", "bilinear", "--protocol", "tiny", "--device", "cpu", *estimate]) == 2
    error = capsys.readouterr().err
    assert "the training needs about" in error and "cpu has 1 MB free, so nothing was trained." in error
    assert not list(tmp_path.rglob("checkpoint*"))


def test_an_upsampler_that_would_not_fit_is_told_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 2**20)
    with pytest.raises(OutOfMemoryError, match="^the upsampler 'bilinear' needs about .* nothing was trained"):
        Benchmark(TINY, device="cpu", progress=False).run("bilinear")


def test_memory_that_runs_out_in_a_measured_step_stops_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_large(*_: object, **__: object) -> None:
        raise OutOfMemoryError("the step ran out of memory with 2 images. 1 image fits: …")

    monkeypatch.setattr(announcement, "measure_outlook", too_large)
    with pytest.raises(OutOfMemoryError, match="1 image fits"):
        Benchmark(TINY, device="cpu").run("bilinear")
    assert "epoch" not in capsys.readouterr().err.split("run folder")[1]


@pytest.mark.skipif(not os.path.exists("/proc/meminfo"), reason="needs Linux")  # noqa: PTH110
def test_estimate_and_announcement_say_what_is_free(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = Benchmark(TINY.replace(epochs=1, milestones=()), device="cpu")
    assert " were free" in str(benchmark.estimate("bilinear")).split("peak memory")[1].splitlines()[0]
    benchmark.run("bilinear")
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("  memory      ") and line.endswith("were free") for line in lines)
