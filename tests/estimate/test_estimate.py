"""Estimates of tiny runs: their numbers, what they need, and that they leave nothing behind."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from small import SMALL, small_probe
from tiny import TINY, UPSAMPLER

from vfm_isbench import Benchmark, Protocol, Speed, cli
from vfm_isbench.acceleration.speed import RunOptions
from vfm_isbench.errors import ContractError, DataError, UnknownNameError, WeightsError
from vfm_isbench.estimate import outlook as outlook_module
from vfm_isbench.estimate import timing
from vfm_isbench.estimate.amounts import amounts_of
from vfm_isbench.estimate.cost import CostEstimate
from vfm_isbench.estimate.photographs import StandInPhotographs
from vfm_isbench.estimate.timing import ClickCost, TrainingCost, drawing, seconds_of
from vfm_isbench.evaluation import EvaluationTimes
from vfm_isbench.protocol import PRESETS
from vfm_isbench.runs.evidence_store import bytes_per_object

CPU = torch.device("cpu")
PAPER_DATA = TINY.replace(
    train_dataset="sbd",
    validation_dataset="sbd",
    samples_per_epoch=None,
    object_limit=None,
    max_clicks=20,
    test_datasets=("grabcut", "berkeley", "davis", "sbd", "sbd600"),
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an estimate wanted the network")

    monkeypatch.setattr("socket.getaddrinfo", refuse)


def test_amounts_without_any_data_are_those_published() -> None:
    amounts = amounts_of(PAPER_DATA.replace(epochs=20, batch_size=8, validation_samples=500), None)
    assert (amounts.steps, amounts.training_images, amounts.validation_steps) == (21240, 169920, 1260)
    assert [(test.name, test.objects) for test in amounts.tests] == [
        ("grabcut", 50), ("berkeley", 100), ("davis", 345), ("sbd", 6671), ("sbd600", 600)
    ]  # fmt: skip
    assert all(holding.dataset is None and holding.source is not None for holding in amounts.holdings())
    limited = amounts_of(PAPER_DATA.replace(object_limit=70), None)
    assert [test.objects for test in limited.tests] == [50, 70, 70, 70, 70]
    assert [test.images for test in limited.tests] == [50, 70, 70, 70, 70], "no more images than objects"


def test_amounts_of_data_that_is_here_are_its_own() -> None:
    amounts = amounts_of(TINY, None)
    assert (amounts.steps, amounts.validation_steps) == (4, 2)
    (scenes,) = amounts.tests
    assert (scenes.objects, scenes.image_size) == (3, (240, 320))
    assert scenes.dataset is not None and scenes.source is None


def test_broken_data_is_reported_like_in_a_run(tmp_path: Path) -> None:
    (tmp_path / "SBD").mkdir()
    with pytest.raises(DataError, match="SBD: img/, inst/, train.txt not found"):
        amounts_of(PAPER_DATA, tmp_path)


def test_the_parts_are_what_was_measured_times_the_amounts() -> None:
    training = TrainingCost(step=2.0, validation_step=1.0, sample=0.125, peak_bytes=None)
    assert training.seconds(10, 5, batch_size=4, workers=0) == 10 * 2.5 + 5 * 1.5
    assert training.seconds(10, 5, batch_size=4, workers=1) == 10 * 2.0 + 5 * 1.0
    slow = TrainingCost(step=0.1, validation_step=0.1, sample=1.0, peak_bytes=None)
    assert slow.seconds(10, 0, batch_size=4, workers=2) == 10 * 2.0, "the device waits for the samples"
    clicks = ClickCost(predicting=0.5, placing=0.1, crop=1.0, image_size=(100, 100), peak_bytes=None)
    assert clicks.per_click((200, 100)) == pytest.approx(0.7)


def test_a_step_is_measured_with_the_mean_number_of_iterative_clicks(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = iter([1.0, 3.0, 0.5])  # a step without clicks, one with the most, a batch of validation
    monkeypatch.setattr(timing, "seconds_of", lambda work, device, least: (work(), next(measured))[1])
    training = amounts_of(TINY, None).training
    cost = timing.time_training(small_probe(), training, SMALL, RunOptions(progress=False), validates=True)
    assert (cost.step, cost.validation_step) == (2.0, 1.5)
    assert 0 < cost.sample < 10


def test_clicks_and_crops_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate_objects(
        network: object, objects: Sequence[object], protocol: Protocol, *, speed: Speed, times: EvaluationTimes
    ) -> None:
        times.predicting += len(objects) * (1.0 + 0.1 * protocol.max_clicks)
        times.clicking += len(objects) * 0.25 * protocol.max_clicks

    monkeypatch.setattr(timing, "evaluate_objects", evaluate_objects)
    (test,) = amounts_of(TINY, None).tests
    options = RunOptions(progress=False, speed=Speed(objects_at_once=2))
    cost = timing.time_clicks(small_probe(), test, SMALL, options)
    assert (cost.predicting, cost.placing, cost.crop) == pytest.approx((0.1, 0.25, 1.0))


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured; everything takes a known time."""
    training = TrainingCost(step=1.0, validation_step=1.0, sample=0.0, peak_bytes=2_000_000_000)
    clicks = ClickCost(predicting=0.01, placing=0.0, crop=1.0, image_size=(375, 500), peak_bytes=3_000_000_000)
    monkeypatch.setattr(outlook_module, "time_training", lambda *_, **__: training)
    monkeypatch.setattr(outlook_module, "time_clicks", lambda *_, **__: clicks)


def test_an_estimate_adds_up(fixed: None) -> None:
    found = Benchmark(PAPER_DATA.replace(epochs=3, batch_size=8), device="cpu", workers=2).estimate("bilinear")
    assert {part.name: part.seconds for part in found.parts} == pytest.approx({
        "training": 3 * 1062 + 3 * 1,
        "grabcut": 50 * 20 * 0.01 + 2 * 50,
        "berkeley": 100 * 20 * 0.01 + 96 + 100,
        "davis": 345 * 20 * 0.01 + 2 * 345,
        "sbd": 6671 * 20 * 0.01 + 2857 + 6671,
        "sbd600": 600 * 20 * 0.01 + 2 * 600,
    })  # fmt: skip
    assert found.total_seconds == pytest.approx(sum(part.seconds for part in found.parts))
    assert found.peak_bytes == 3_000_000_000
    assert [download.how for download in found.downloads] == [
        f"vfm-isbench data download {name}" for name in ("sbd", "grabcut", "berkeley", "davis")
    ]
    assert any("counted as published" in note for note in found.notes)
    fewer = Benchmark(PAPER_DATA.replace(max_clicks=10), device="cpu").estimate("bilinear")
    per_object = 2 * (bytes_per_object(20) - bytes_per_object(10))  # evidence and result
    assert found.run_folder_bytes - fewer.run_folder_bytes == per_object * (50 + 100 + 345 + 6671 + 600)
    assert fewer.run_folder_bytes > 2 * bytes_per_object(10) * 7766, "and checkpoints"
    whole = Benchmark(PAPER_DATA.replace(zoom_in=False), device="cpu").estimate("bilinear")
    assert whole.parts[1].seconds == pytest.approx(50 * 20 * 0.01 + 50), "one crop per image"


@pytest.mark.parametrize("name", ["loftup:dinov2s", "featup:dinov2"])
def test_missing_weights_are_random_and_counted(
    fixed: None, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VFM_ISBENCH_CACHE", str(tmp_path))
    small = PAPER_DATA.replace(backbone="timm:vit_tiny_patch16_224")
    found = Benchmark(small, device="cpu").estimate(name)
    assert [each.what for each in found.downloads][-2:] == [f"weights of {small.backbone}", f"weights of {name}"]
    assert found.downloads[-2].about_size == "about 22 MB"
    assert f"random weights of {small.backbone} and weights of {name}, which take the same time" in found.notes
    with pytest.raises(WeightsError):
        Benchmark(small, device="cpu", backbone_weights=tmp_path / "none.pth").estimate("bilinear")


def test_what_a_run_refuses_is_refused(fixed: None) -> None:
    with pytest.raises(UnknownNameError, match="unknown upsampler"):
        Benchmark(TINY, device="cpu").estimate("bilinaer")
    with pytest.raises(UnknownNameError, match="data set"):
        Benchmark(TINY.replace(test_datasets=("grabcat",)), device="cpu").estimate("bilinear")
    with pytest.raises(ContractError):
        Benchmark(TINY, device="cpu").estimate(3)  # type: ignore[arg-type]


def test_the_command_measures_prints_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(UPSAMPLER)
    monkeypatch.setitem(PRESETS, "tiny", TINY.replace(train_dataset="sbd", validation_dataset="sbd", max_clicks=5))
    arguments = ["run", "mine.py:Upsampler", "--protocol", "tiny", "--device", "cpu", "--output", "out", "--estimate"]
    assert cli.main(arguments) == 0
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["mine.py"]
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"Upsampler under the protocol tiny on cpu \(\d+ threads?\), 0 workers$", lines[0])
    assert "  data set sbd, about 1.4 GB: vfm-isbench data download sbd" in lines
    assert lines[-1] == "Nothing was started, downloaded or written."
    starts = ["  training step", "  training ", "  scenes", "  total", "  peak memory", "  disk"]
    assert [start for start in starts if not any(line.startswith(start) for line in lines)] == []


def test_an_estimate_is_about_right() -> None:
    """Within a factor of three, on a machine that may be busy; a unit or a factor of the batch size is more."""
    protocol = TINY.replace(epochs=1, samples_per_epoch=24, validation_samples=0, object_limit=5, max_clicks=10)
    benchmark = Benchmark(protocol, device="cpu", progress=False)
    found = benchmark.estimate("bilinear")
    began = time.perf_counter()
    trained = benchmark.train("bilinear")
    assert trained.training_seconds is not None
    middle = time.perf_counter()
    benchmark.evaluate(trained)
    ended = time.perf_counter()
    assert middle > began
    assert 1 / 3 < found.parts[0].seconds / trained.training_seconds < 3
    assert 1 / 3 < found.parts[1].seconds / (ended - middle) < 3
    assert found.peak_bytes is None or found.peak_bytes > 50_000_000


def test_stand_ins_are_samples_like_others() -> None:
    photographs = StandInPhotographs((60, 90))
    sample = photographs.read(photographs.image_ids[0])
    assert sample.image.shape == (60, 90, 3) and sample.labels.shape == (60, 90)
    assert photographs.instances_for_training(sample) == sample.instance_ids() == [1, 2]


def test_a_generator_draws_the_number_asked_for() -> None:
    assert [int(drawing(number, 3).integers(4)) for number in range(4)] == [0, 1, 2, 3]


def test_slow_work_is_done_once_and_fast_work_repeatedly() -> None:
    calls: list[float] = []

    def work(seconds: float) -> None:
        calls.append(seconds)
        time.sleep(seconds)

    assert seconds_of(lambda: work(1.05), CPU) > 1
    assert len(calls) == 1
    assert 0.001 <= seconds_of(lambda: work(0.001), CPU) < 0.5
    assert len(calls) > 5


def test_settings_that_change_the_time_are_mentioned(fixed: None, tmp_path: Path) -> None:
    speed = Speed(stop_at_iou=(90,), feature_cache=tmp_path / "features")
    notes = Benchmark(TINY, device="cpu", speed=speed).estimate("bilinear").notes
    assert any("stop_at_iou" in note for note in notes) and any("feature cache" in note for note in notes)
    assert not (tmp_path / "features").exists()


def test_it_can_be_printed_without_knowing_the_memory() -> None:
    unknown = CostEstimate(
        title="x",
        downloads=(),
        parts=(),
        training=TrainingCost(1.0, 0.0, 0.1, None),
        clicks=ClickCost(0.1, 0.0, 0.1, (10, 10), None),
        batch_size=8,
        peak_bytes=None,
        memory_of="",
        run_folder_bytes=1,
    )
    assert "peak memory      unknown" in str(unknown) and "to download: nothing" in str(unknown)


def test_the_presets_between_demo_and_paper() -> None:
    paper, quick, lite = (Protocol.preset(name) for name in ("paper", "quick", "lite"))
    for preset in (quick, lite):
        changed = {field for field, value in preset.to_dict().items() if value != paper.to_dict()[field]}
        assert changed <= {
            "name", "validation_samples", "epochs", "samples_per_epoch", "learning_rate", "warmup_steps", "milestones",
            "test_datasets",
        }, "the model, the samples and the clicks are the paper's"  # fmt: skip
    assert quick.test_datasets == ("grabcut", "berkeley")
    assert lite.test_datasets == ("grabcut", "berkeley", "davis", "sbd600")
    images = [preset.epochs * (preset.samples_per_epoch or 8498) for preset in (quick, lite, paper)]
    assert images == sorted(images)
    assert len({preset.fingerprint() for preset in (quick, lite, paper)}) == 3
