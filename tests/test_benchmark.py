"""The whole way, on real features: train, evaluate, interrupt, resume, refuse."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY
from torch.nn import functional

import vfm_isbench
from vfm_isbench import Benchmark, Result, Speed, VfmIsbenchWarning
from vfm_isbench.errors import ContractError, DataError, ProtocolError, RunError, UnknownNameError
from vfm_isbench.evaluation import Lockstep
from vfm_isbench.metrics import number_of_clicks
from vfm_isbench.training import loop as training_loop
from vfm_isbench.upsamplers.published.featup import FeatUpJBU


def upsample(features, image):
    """An upsampler as a user would write it."""
    return functional.interpolate(features, image.shape[-2:], mode="bicubic")


@pytest.fixture(scope="module")
def result() -> Result:
    """One run, shared by the tests that only look at its result."""
    return vfm_isbench.evaluate(upsample, TINY, device="cpu", progress=False)


def test_result_prints_the_standard_table(result):
    text = str(result)
    for column in ("NoC80", "NoC85", "NoC90", "IoU@1", "≥3@90", "s/click"):
        assert column in text
    assert "scenes" in text
    assert "upsample" in text


def test_result_holds_evidence_per_object_and_click(result):
    found = result.datasets["scenes"]
    assert len(found.objects) == 3
    assert found.ious.shape == (3, 3)
    assert all(evidence.clicks[0].is_positive for evidence in found.objects)
    assert result.to_frame().loc[0, "noc90"] == found.noc(90)


def test_result_says_what_was_run(result):
    assert result.backbone["sha256"]
    assert result.upsampler["ms_per_image"] > 0
    assert result.upsampler["deterministic"] is True
    assert [record["epoch"] for record in result.training] == [0, 1]
    assert result.environment["torch"] == torch.__version__
    assert result.protocol.sample_weights == "uniform"
    assert set(result.peak_memory) == {"training", "evaluation"}
    channels = result.backbone["width"]
    assert result.trained_parameters["head"] == 2 * (9 * channels**2 + channels) + channels + 1
    assert result.trained_parameters["click_encoder"] > 0


def test_saved_result_loads_equal(result, tmp_path):
    loaded = Result.load(result.save(tmp_path / "r.json"))
    assert loaded.to_dict() == json.loads(json.dumps(result.to_dict()))


def test_same_seed_gives_the_same_numbers_and_another_seed_others(result):
    again = vfm_isbench.evaluate(upsample, TINY, device="cpu", progress=False)
    assert again.datasets["scenes"].objects == result.datasets["scenes"].objects
    other = vfm_isbench.evaluate(upsample, TINY.replace(seed=1), device="cpu", progress=False)
    assert other.datasets["scenes"].objects != result.datasets["scenes"].objects
    assert other.fingerprint == result.fingerprint


def test_worker_processes_do_not_change_the_numbers(result):
    again = vfm_isbench.evaluate(upsample, TINY, device="cpu", progress=False, workers=1)
    assert again.datasets["scenes"].objects == result.datasets["scenes"].objects


def test_run_interrupted_in_evaluation_continues(result, tmp_path, monkeypatch):
    evaluated = []
    original = Lockstep.click

    def stop_after_one(*arguments, **options):
        if evaluated:
            raise KeyboardInterrupt
        evaluated.append(1)
        return original(*arguments, **options)

    monkeypatch.setattr(Lockstep, "click", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        Benchmark(TINY, device="cpu", output_dir=tmp_path, progress=False).run(upsample)
    monkeypatch.setattr(Lockstep, "click", original)
    seen = []
    monkeypatch.setattr(Lockstep, "click", lambda *a, **k: seen.append(1) or original(*a, **k))
    resumed = Benchmark(TINY, device="cpu", output_dir=tmp_path, progress=False).run(upsample)
    assert len(seen) == 2
    assert resumed.datasets["scenes"].objects == result.datasets["scenes"].objects
    assert Result.load(tmp_path / "result.json").datasets["scenes"].objects == result.datasets["scenes"].objects


def test_an_evaluation_that_stops_early_leaves_the_whole_one_alone(result, tmp_path):
    plain = Benchmark(TINY, device="cpu", output_dir=tmp_path, progress=False).run(upsample)
    speed = Speed(stop_at_iou=(1, 2))
    stopped = Benchmark(TINY, device="cpu", output_dir=tmp_path, progress=False, speed=speed).run(upsample)
    found = stopped.datasets["scenes"]
    assert stopped.speed == {"early_stop": [1, 2]} and found.stop_at_iou == (1, 2)
    assert found.iou_at(1) == plain.datasets["scenes"].iou_at(1)
    assert (found.clicks_to(2) == number_of_clicks(plain.datasets["scenes"].ious, 0.02)).all()
    assert any("are missing" in note for note in stopped.notes)
    assert Result.load(tmp_path / "result.json").datasets["scenes"] == plain.datasets["scenes"]
    assert Result.load(tmp_path / "result-stop2.json").datasets["scenes"].objects == found.objects
    assert stopped.training == plain.training, "the probe trained before was used"


def test_another_precision_is_another_run(tmp_path):
    short = TINY.replace(epochs=1, object_limit=1, validation_samples=0)
    Benchmark(short, device="cpu", output_dir=tmp_path, progress=False).run("nearest")
    with pytest.raises(RunError, match="precision: 'float32' there, 'bfloat16' now"):
        half = Speed(precision="bfloat16")
        Benchmark(short, device="cpu", output_dir=tmp_path, progress=False, speed=half).run("nearest")


def test_folders_of_earlier_versions_are_continued(tmp_path, monkeypatch):
    short = TINY.replace(epochs=1, object_limit=1, validation_samples=0)
    first = Benchmark(short, device="cpu", output_dir=tmp_path, progress=False).run("nearest")
    manifest = json.loads((tmp_path / "run.json").read_text())
    del manifest["precision"], manifest["protocol"]["shuffled"]
    (tmp_path / "run.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(training_loop, "predict_batch", lambda *a, **k: pytest.fail("trained again"))
    monkeypatch.setattr(Lockstep, "click", lambda *a, **k: pytest.fail("evaluated again"))
    again = Benchmark(short, device="cpu", output_dir=tmp_path, progress=False).run("nearest")
    assert again.datasets["scenes"].objects == first.datasets["scenes"].objects
    assert again.training == first.training


def test_folder_of_another_run_is_refused_and_the_difference_named(tmp_path):
    short = TINY.replace(epochs=1, object_limit=1, validation_samples=0)
    Benchmark(short, device="cpu", output_dir=tmp_path, progress=False).run("nearest")
    with pytest.raises(RunError, match=r"upsampler\.name"):
        Benchmark(short, device="cpu", output_dir=tmp_path, progress=False).run("bilinear")
    with pytest.raises(RunError, match=r"protocol\.learning_rate"):
        Benchmark(short.replace(learning_rate=1.0), device="cpu", output_dir=tmp_path, progress=False).run("nearest")
    Benchmark(short, device="cpu", output_dir=tmp_path, progress=False, overwrite=True).run("bilinear")
    assert Result.load(tmp_path / "result.json").upsampler["name"] == "bilinear"


def test_missing_test_set_fails_before_any_training(monkeypatch):
    monkeypatch.setattr("vfm_isbench.benchmark.train", lambda *a, **k: pytest.fail("trained before looking"))
    with pytest.raises(DataError, match="data_root"):
        vfm_isbench.evaluate(upsample, TINY.replace(test_datasets=("scenes", "grabcut")), device="cpu")
    with pytest.raises(UnknownNameError, match="grabcut"):
        vfm_isbench.evaluate(upsample, TINY.replace(test_datasets=("grabcat",)), device="cpu")


def test_broken_upsampler_fails_before_any_training(monkeypatch):
    monkeypatch.setattr("vfm_isbench.benchmark.train", lambda *a, **k: pytest.fail("trained before looking"))
    with pytest.raises(ContractError, match="channels"):
        vfm_isbench.evaluate(lambda features, image: image, TINY, device="cpu")


def test_early_injection_on_a_cnn_is_refused():
    with pytest.raises(ProtocolError, match="early"):
        vfm_isbench.evaluate(upsample, TINY.replace(injection="early", click_encoder="patch_embedding"), device="cpu")


def test_mismatched_pair_warns_and_is_noted():
    short = TINY.replace(epochs=1, object_limit=1, validation_samples=0, click_encoder="patch_embedding")
    with pytest.warns(VfmIsbenchWarning, match="mismatched"):
        result = vfm_isbench.evaluate(upsample, short, device="cpu", progress=False)
    assert any("mismatched pair" in note for note in result.notes)


def test_files_left_out_of_a_test_set_are_noted(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / "Berkeley" / folder).mkdir(parents=True)
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 30:60] = 255
    Image.fromarray(np.dstack([mask] * 3)).save(tmp_path / "Berkeley" / "images" / "a.png")
    for name in ("a", "b"):
        Image.fromarray(mask).save(tmp_path / "Berkeley" / "masks" / f"{name}.png")
    short = TINY.replace(epochs=1, validation_samples=0, test_datasets=("berkeley",))
    with pytest.warns(VfmIsbenchWarning, match=r"ignored masks without an image: b\.png"):
        result = vfm_isbench.evaluate(upsample, short, device="cpu", progress=False, data_root=tmp_path)
    assert "data set berkeley: ignored masks without an image: b.png" in result.notes
    assert "ignored masks without an image: b.png" in str(result)


def featup(has_norm):
    """FeatUp with the same weights in every run, with or without its channel norm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FeatUpJBU(112, channel_norm=has_norm).eval()


def without_times(result):
    """What must be equal between two runs."""
    training = [{key: value for key, value in record.items() if key != "seconds"} for record in result.training]
    upsampler = {key: value for key, value in result.upsampler.items() if key != "ms_per_image"}
    objects = {name: found.objects for name, found in result.datasets.items()}
    return result.protocol, result.fingerprint, upsampler, result.notes, training, objects


@pytest.mark.parametrize("norms", [(False, True), (True, False)])
def test_upsamplers_of_one_benchmark_do_not_affect_each_other(norms):
    """FeatUp without a channel norm switches a protocol field off: for itself, not for whoever comes next."""
    short = TINY.replace(epochs=1, samples_per_epoch=4, object_limit=1, validation_samples=0)
    shared = Benchmark(short, device="cpu", progress=False)
    before = dict(vars(shared))
    together = [shared.train(featup(norm)) for norm in norms]
    assert {key: value for key, value in vars(shared).items() if key != "backbone"} == before
    together = [without_times(shared.evaluate(trained)) for trained in together]
    apart = [without_times(Benchmark(short, device="cpu", progress=False).run(featup(norm))) for norm in norms]
    assert together == apart
    assert [protocol.featup_channel_norm for protocol, *_ in together] == list(norms)
    assert together[0][1] != together[1][1]


def test_a_run_of_changed_code_or_settings_is_not_answered_with_old_numbers(tmp_path):
    """The same command after an edit of a file that the upsampler imports, or with another setting in a dict."""

    class Up(torch.nn.Module):
        upsampler_name = "mine"

        def __init__(self, mode):
            super().__init__()
            self.cfg = {"mode": mode}

        def forward(self, features, image):
            return functional.interpolate(features, image.shape[-2:], mode=self.cfg["mode"])

    short = TINY.replace(epochs=1, samples_per_epoch=4, object_limit=1, validation_samples=0)
    runs = Benchmark(short, device="cpu", progress=False, output_dir=tmp_path)
    first = runs.run(Up("bicubic"))
    with pytest.raises(RunError, match=r"upsampler\.sha256"):
        runs.run(Up("nearest"))
    assert runs.run(Up("bicubic")).datasets["scenes"].objects == first.datasets["scenes"].objects


def test_an_upsampler_that_cannot_be_identified_is_told_and_not_resumed(tmp_path):
    unreadable = iter([1])

    def up(features, image):
        return functional.interpolate(features, image.shape[-2:]) + 0 * (unreadable is None)

    short = TINY.replace(epochs=1, samples_per_epoch=4, object_limit=1, validation_samples=0)
    with pytest.warns(VfmIsbenchWarning, match="no fingerprint .*list_iterator.* --identity TEXT"):
        result = Benchmark(short, device="cpu", progress=False, output_dir=tmp_path / "a").run(up)
    assert result.upsampler["sha256"] is None and any("no fingerprint" in note for note in result.notes)
    with pytest.warns(VfmIsbenchWarning), pytest.raises(RunError, match="cannot be resumed"):
        Benchmark(short, device="cpu", progress=False, output_dir=tmp_path / "a").run(up)
    for _ in range(2):
        named = Benchmark(short, device="cpu", progress=False, output_dir=tmp_path / "b").run(up, identity="mine 1")
    assert named.upsampler["sha256"]
    with pytest.raises(RunError, match="another run"):
        Benchmark(short, device="cpu", progress=False, output_dir=tmp_path / "b").run(up, identity="mine 2")


def test_a_probe_is_evaluated_under_its_own_protocol_and_kept_in_its_own_folder(tmp_path):
    short = TINY.replace(epochs=1, samples_per_epoch=4, object_limit=1, validation_samples=0)
    trained = Benchmark(short, device="cpu", progress=False, output_dir=tmp_path).train("nearest")
    other = Benchmark(short.replace(max_clicks=1, seed=3), device="cpu", progress=False)
    result = other.evaluate(trained)
    assert result.protocol == trained.protocol
    assert result.datasets["scenes"].ious.shape == (1, 3)
    assert Result.load(tmp_path / "result.json").datasets["scenes"] == result.datasets["scenes"]


def test_paper_protocol_on_real_photographs_in_all_four_layouts(real_root):
    short = TINY.replace(
        name="paper",
        train_dataset="sbd",
        validation_dataset="sbd",
        test_datasets=("grabcut", "berkeley", "davis", "sbd"),
        epochs=1,
        object_limit=1,
    )
    with pytest.warns(VfmIsbenchWarning, match="sbd_samples_weights"):
        result = vfm_isbench.evaluate("bilinear", short, device="cpu", data_root=real_root, progress=False)
    assert list(result.datasets) == ["grabcut", "berkeley", "davis", "sbd"]
    assert all(found.ious.shape == (1, 3) for found in result.datasets.values())
    assert any("differs from the paper protocol" in note for note in result.notes)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_nearly_the_same_result(result):
    again = vfm_isbench.evaluate(upsample, TINY, device="cuda", progress=False)
    assert again.datasets["scenes"].ious == pytest.approx(result.datasets["scenes"].ious, abs=0.1)


def test_unusable_device_is_an_error():
    with pytest.raises(RunError, match="warp"):
        Benchmark(TINY, device="warp")


@pytest.mark.parametrize("is_kept", [True, False])
def test_an_interrupt_says_what_is_kept(is_kept, tmp_path, monkeypatch):
    def interrupt(*_given, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr("vfm_isbench.benchmark.train", interrupt)
    folder = tmp_path / "run" if is_kept else None
    with pytest.raises(KeyboardInterrupt) as caught:
        vfm_isbench.evaluate(upsample, TINY, device="cpu", progress=False, output_dir=folder)
    said = f"the run so far is kept in {folder}, and the same call continues it" if is_kept else "nothing was kept"
    assert said in str(caught.value)


def test_evaluate_takes_a_name():
    smallest = TINY.replace(epochs=1, samples_per_epoch=4, validation_samples=0, object_limit=1, max_clicks=1)
    result = vfm_isbench.evaluate(upsample, smallest, name="mine", device="cpu", progress=False)
    assert result.upsampler["name"] == "mine"
