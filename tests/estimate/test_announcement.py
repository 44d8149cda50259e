"""What a run says before it starts."""

from __future__ import annotations

import dataclasses
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY, UPSAMPLER

from vfm_isbench import Benchmark, Protocol, cli
from vfm_isbench.acceleration.speed import RunOptions
from vfm_isbench.backbones import load_backbone
from vfm_isbench.errors import UpsamplerError
from vfm_isbench.estimate import announcement, outlook, timing
from vfm_isbench.estimate.amounts import amounts_of
from vfm_isbench.estimate.announcement import Start, announce
from vfm_isbench.estimate.timing import ClickCost, TrainingCost
from vfm_isbench.probe import build_probe
from vfm_isbench.progress import RunProgress
from vfm_isbench.protocol import PRESETS
from vfm_isbench.runs import RunFolder
from vfm_isbench.training import Checkpoint
from vfm_isbench.training.samples import Batch
from vfm_isbench.upsamplers import ContractReport, load_upsampler

Printed = pytest.CaptureFixture[str]
SHORT = TINY.replace(epochs=1, milestones=())


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured; a training step takes 60 s."""
    training = TrainingCost(step=60.0, validation_step=30.0, sample=0.0, peak_bytes=None)
    clicks = ClickCost(predicting=0.1, placing=0.0, crop=0.0, image_size=(375, 500), peak_bytes=None)
    monkeypatch.setattr(outlook, "time_training", lambda *_, **__: training)
    monkeypatch.setattr(outlook, "time_clicks", lambda *_, **__: clicks)


def start_of(protocol: Protocol, folder: Path | None = None) -> Start:
    """A start of ``bilinear`` without any weights or data."""
    backbone = load_backbone(protocol.backbone, protocol.image_size, pretrained=False)
    return Start(
        name="bilinear",
        probe=build_probe(protocol, backbone, load_upsampler("bilinear")),
        protocol=protocol,
        contract=ContractReport((224, 224), True, True, 0.0, 0.0, 0, 1.5),
        amounts=amounts_of(protocol, None),
        options=RunOptions(),
        folder=folder,
    )


def test_a_run_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    (tmp_path / "mine.py").write_text(UPSAMPLER)
    assert cli.main(["run", "mine.py:Upsampler", "--protocol", "tiny", "--device", "cpu"]) == 0
    shown = capsys.readouterr().err
    lines = [
        r"Upsampler under tiny, seed 0, on cpu \(\d+ threads?\)",
        r"  backbone    efficientnet_lite0@16: 112 channels at 4×4 from images of 64 px",
        r"  upsampler   to 64×64, no parameters, [\d.]+ ms per image",
        r"  trained     click encoder simple_vit \(injection late\) and head conv: 0\.\d\d M parameters",
        r"  training    scenes \(\d+ images\); 2 epochs of 2 steps of 2 images",
        r"  validation  scenes \(\d+ images\); 2 samples after every epoch",
        r"  test        scenes \(3 objects\); 3 clicks per object",
        r"  run folder  runs/mine.py-Upsampler-tiny-seed0",
        r"  time        about \d+ s \(.*\), judging by a few steps and clicks measured now",
    ]
    assert [line for line in lines if not re.search(f"^{line}$", shown, re.MULTILINE)] == []
    assert re.search(r"training, epoch 2/2 .*left", shown) and re.search(r"scenes, 3 of 3 objects 100%", shown)


def test_numbers_are_words_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    once = TINY.replace(
        epochs=1, samples_per_epoch=1, batch_size=1, validation_samples=1, max_clicks=1, object_limit=1, milestones=()
    )
    facts = "\n".join(announcement._facts(start_of(once)))
    for said in (
        "cpu (1 thread)",
        "1 epoch of 1 step of 1 image\n",
        "1 sample after",
        "(1 object); 1 click per object",
    ):
        assert said in facts
    assert announcement._parameters(45625) == "45,625 parameters"


def test_announcing_changes_no_number(tmp_path: Path, capsys: Printed) -> None:
    shown, quiet = (
        Benchmark(SHORT, device="cpu", output_dir=tmp_path / str(progress), progress=progress).run("jbu")
        for progress in (True, False)
    )
    assert shown.datasets["scenes"].objects == quiet.datasets["scenes"].objects
    records = [[{**record, "seconds": 0} for record in result.training] for result in (shown, quiet)]  # losses and IoUs
    assert records[0] == records[1]
    assert "jbu under tiny" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("minutes", "says"),
    [(10.0, "which continues after epoch 1 of 2"), (1e-9, "which continues in epoch 1 of 2, after step 1")],
    ids=["after an epoch", "inside an epoch"],
)
def test_a_resumed_run_counts_what_is_left(
    minutes: float, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    keep = RunFolder.save_checkpoint

    def interrupted(folder: RunFolder, checkpoint: Checkpoint) -> None:
        keep(folder, checkpoint)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "save_checkpoint", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Benchmark(TINY, device="cpu", output_dir=tmp_path, checkpoint_minutes=minutes).run("bilinear")
    assert "continues" not in capsys.readouterr().err
    Benchmark(TINY, device="cpu", output_dir=tmp_path).run("bilinear")
    assert says in capsys.readouterr().err


def test_a_finished_training_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    Benchmark(SHORT, device="cpu", output_dir=tmp_path, progress=False).train("bilinear")

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a step of a training that is over was measured")

    monkeypatch.setattr(outlook, "time_training", fail)
    Benchmark(SHORT, device="cpu", output_dir=tmp_path).run("bilinear")
    assert re.search(r"  time        about \d+ s \(scenes \d+ s\)", capsys.readouterr().err)


def test_a_step_that_cannot_be_measured_stops_nothing(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UpsamplerError("no luck")

    monkeypatch.setattr(announcement, "measure_outlook", fail)
    result = Benchmark(SHORT, device="cpu").run("bilinear")
    assert len(result.datasets["scenes"].objects) == 3
    assert "could not be measured beforehand" in capsys.readouterr().err


def test_the_paper_on_a_cpu_says_how_long_and_what_fits(slow: None, capsys: Printed, tmp_path: Path) -> None:
    with RunProgress() as progress:
        announce(progress, start_of(Protocol.preset("paper"), tmp_path))
    shown = capsys.readouterr().err
    assert re.search(r"  time        about 1\d days \(training 1\d days, ", shown)
    assert re.search(r"  warning     this will take 1\d days: paper is made for a GPU, and this is a CPU", shown)
    assert re.search(r"--protocol lite does not fit this machine either: about [\d a-z]+; compare", shown)
    assert re.search(r"--protocol quick (does not fit|fits) this machine( either)?: about [\d a-z]+; compare", shown)
    assert "--protocol demo fits every machine" in shown
    assert "the run goes on now; Ctrl+C loses nothing yet" in shown


def test_what_is_slow_is_measured_on_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """50 s per step: measuring three whole steps would take minutes before a run says that it takes days."""
    protocol = Protocol.preset("paper").replace(
        backbone="efficientnet_lite0@16", image_size=32, click_encoder="distances"
    )
    start = start_of(protocol)
    trained: list[int] = []
    clicked: list[int] = []

    def predict(_probe: object, batch: Batch, *_: object, **__: object) -> tuple[torch.Tensor, torch.Tensor]:
        trained.append(len(batch.images))
        time.sleep(0.002 * len(batch.images))
        return real_predict(_probe, batch, *_, **__)  # type: ignore[arg-type]

    def evaluate(_network: object, _objects: object, protocol: Protocol, **more: Any) -> object:
        clicked.append(protocol.max_clicks)
        return real_evaluate(_network, _objects, protocol, **more)  # type: ignore[arg-type]

    real_predict, real_evaluate = timing.predict_batch, timing.evaluate_objects
    monkeypatch.setattr(timing, "predict_batch", predict)
    monkeypatch.setattr(timing, "evaluate_objects", evaluate)
    for most, images, clicks in ((1e-9, {1}, [1, 2]), (1e9, {1, protocol.batch_size}, [1, 4])):
        trained.clear(), clicked.clear()
        found = outlook.measure_outlook(
            start.probe, start.amounts, protocol, start.options, least_seconds=0.0, most_seconds=most
        )
        assert (set(trained), clicked) == (images, clicks)
        assert found.training.step >= 0.002 * protocol.batch_size, "for the whole batch"


def test_a_short_run_gets_no_advice(capsys: Printed, slow: None) -> None:
    protocol = Protocol.preset("paper").replace(epochs=1, samples_per_epoch=320, object_limit=5)
    with RunProgress() as progress:
        announce(progress, start_of(protocol))
        assert progress.state() == (0.0, None)
    shown = capsys.readouterr().err
    assert "made for a GPU" not in shown
    assert "nothing is kept" in shown


def test_advice_is_for_the_same_network_only(slow: None, capsys: Printed) -> None:
    protocol = dataclasses.replace(Protocol.preset("paper"), backbone="dinov2_vitb14", name="mine")
    with RunProgress() as progress:
        announce(progress, start_of(protocol))
    shown = capsys.readouterr().err
    assert "made for a GPU" in shown and "--protocol quick" not in shown
