"""The loop over objects: evidence that can be replayed, and work that is not done twice."""

from __future__ import annotations

import dataclasses
import signal

import numpy as np
import pytest
import torch
from small import SMALL, CallCounter, MemoryStore, evaluated, small_probe

from vfm_isbench.acceleration.cached_probe import CachedProbe, UncachedProbe
from vfm_isbench.acceleration.speed import RunOptions, Speed
from vfm_isbench.clicks import next_click
from vfm_isbench.datasets.content import content_sha256
from vfm_isbench.errors import DataError, Terminated
from vfm_isbench.evaluation import (
    ClickedObject,
    EvaluationTimes,
    ObjectPredictor,
    evaluate_dataset,
    evaluate_objects,
)
from vfm_isbench.evaluation.predictor import ImageCrops
from vfm_isbench.metrics import BoundaryIou, intersection_over_union, number_of_clicks
from vfm_isbench.probe import Probe
from vfm_isbench.progress import StopSignals
from vfm_isbench.protocol.validation import Injection
from vfm_isbench.testing.fakes import FakeDataset, FakeUpsampler
from vfm_isbench.types import AnnotatedImage, ObjectId, ObjectSize
from vfm_isbench.upsamplers import Bilinear, Upsampler


class Oracle(Probe):
    """Marks what is bright: of a fake data set with one instance per image, the object."""

    def __init__(self) -> None:
        inner = small_probe(SMALL)
        super().__init__(inner.backbone, inner.upsampler, inner.click_encoder, inner.head, injection="early")

    def forward(self, image: torch.Tensor, click_map: torch.Tensor) -> torch.Tensor:
        return 30 * self.normalise(image)[0].mean(dim=1, keepdim=True)


def test_clicks_and_ious_follow_from_one_another() -> None:
    """Replaying the clicks gives the same IoUs, and every click follows from the prediction before it."""
    dataset, probe = FakeDataset(images=2), small_probe()
    evidence, times = evaluated(probe, dataset, SMALL)
    assert [found.object_id for found in evidence] == dataset.objects
    assert times.clicks == 4 * len(evidence) == 16
    assert times.predicting > 0 and times.clicking > 0
    for found in evidence:
        sample = dataset.read(found.object_id.image)
        truth = sample.object_mask(found.object_id.instance)
        predictor = ObjectPredictor(ImageCrops(CachedProbe(probe), sample.image, SMALL))
        predicted, clicked = np.zeros(truth.shape, bool), np.zeros(truth.shape, bool)
        for count, (click, iou) in enumerate(zip(found.clicks, found.ious, strict=True), start=1):
            assert click == next_click(truth, predicted, clicked)
            clicked[int(click.row), int(click.col)] = True
            predicted = predictor.predict(found.clicks[:count]) > 0.5
            assert iou == intersection_over_union(truth, predicted)
        assert len({(click.row, click.col) for click in found.clicks}) == 4


def test_all_clicks_are_placed_even_if_they_change_nothing() -> None:
    """So that IoU is known after every click."""
    dataset = FakeDataset(images=2, instances=1, size=(28, 28))
    evidence, _ = evaluated(Oracle(), dataset, SMALL.replace(zoom_in=False, flip_test=False))
    for found in evidence:
        assert found.ious[0] > 0.9
        assert found.ious == (found.ious[0],) * 4
        assert len(found.clicks) == 4


def test_ignored_pixels_count_neither_way() -> None:
    sample = FakeDataset(instances=1, size=(28, 28)).read("fake0")
    truth = sample.object_mask(1)
    protocol = SMALL.replace(zoom_in=False, flip_test=False, max_clicks=1)
    probe = Oracle().eval()
    network = UncachedProbe(probe)
    predicted = ObjectPredictor(ImageCrops(network, sample.image, protocol)).predict([]) > 0.5
    truth[predicted != (truth == 1)] = -1
    objects = [ClickedObject(ImageCrops(network, sample.image, protocol), truth)]
    ((_, ious, _),) = evaluate_objects(network, objects, protocol)
    assert ious == [1.0]


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_the_limit_cuts_the_list_of_objects(limit: int) -> None:
    dataset = FakeDataset(images=2)
    evidence, _ = evaluated(small_probe(), dataset, SMALL.replace(object_limit=limit))
    assert [found.object_id for found in evidence] == dataset.objects[:limit]


def test_what_was_done_before_is_not_done_again() -> None:
    dataset, probe = FakeDataset(images=2), small_probe()
    whole, _ = evaluated(probe, dataset, SMALL)
    marked = dataclasses.replace(whole[1], ious=(0.125,) * 4)
    store = MemoryStore(marked)
    counter = CallCounter(probe.click_encoder)
    evidence, times = evaluated(probe, dataset, SMALL, store=store)
    assert evidence == [whole[0], marked, *whole[2:]]
    assert store.kept == [whole[0], *whole[2:]]
    assert times.clicks == counter.calls == 12


def test_evidence_without_a_size_gets_one() -> None:
    """Versions up to 0.4.0 kept none; the image is read anyway."""
    dataset, probe = FakeDataset(images=1), small_probe()
    whole, _ = evaluated(probe, dataset, SMALL)
    for found in whole:
        mask = dataset.read(found.object_id.image).object_mask(found.object_id.instance)
        assert found.size == ObjectSize(int((mask == 1).sum()), *mask.shape)
    store = MemoryStore(*(dataclasses.replace(found, size=None) for found in whole))
    assert evaluated(probe, dataset, SMALL, store=store)[0] == whole
    assert store.kept == []


@pytest.mark.parametrize("clicks_on_device", [False, True])
def test_boundary_iou_is_measured_on_the_predictions_and_changes_nothing_else(clicks_on_device: bool) -> None:
    dataset, probe = FakeDataset(images=1), small_probe()
    options = RunOptions(
        boundary_iou=True, speed=Speed(clicks_on_device=clicks_on_device, objects_at_once=2), progress=False
    )
    plain, plain_times = evaluated(probe, dataset, SMALL, speed=options.speed)
    found = evaluate_dataset(probe, dataset, SMALL, options=options)
    assert [dataclasses.replace(one, boundary_ious=None) for one in found.evidence] == plain
    for one in found.evidence:
        sample = dataset.read(one.object_id.image)
        truth = sample.object_mask(one.object_id.instance)
        predictor = ObjectPredictor(ImageCrops(CachedProbe(probe), sample.image, SMALL))
        predicted = [predictor.predict(one.clicks[:count]) > 0.5 for count in range(1, 5)]
        assert one.boundary_ious == tuple(BoundaryIou(truth).of(mask) for mask in predicted)
    assert found.times.boundaries > 0 == plain_times.boundaries


def test_evidence_without_boundary_ious_is_measured_again_where_they_are_asked_for() -> None:
    dataset, probe = FakeDataset(images=1), small_probe()
    options = RunOptions(boundary_iou=True, progress=False)
    whole = evaluate_dataset(probe, dataset, SMALL, options=options).evidence
    first, second = whole
    store = MemoryStore(first, dataclasses.replace(second, boundary_ious=None))
    assert evaluate_dataset(probe, dataset, SMALL, store=store, options=options).evidence == whole
    assert store.kept == [second]
    without, _ = evaluated(probe, dataset, SMALL, store=MemoryStore(*whole))
    assert [found.boundary_ious for found in without] == [None, None], "all or none of a result has them"


def test_evidence_is_kept_object_by_object() -> None:
    class Stopped(FakeDataset):
        def read(self, image_id: str) -> object:  # type: ignore[override]
            if store.kept:
                raise KeyboardInterrupt
            return super().read(image_id)

    store = MemoryStore()
    dataset = Stopped(images=2, instances=1)
    assert dataset.objects == [ObjectId("fake0", 1), ObjectId("fake1", 1)]
    speed = Speed(read_ahead=False)
    with pytest.raises(KeyboardInterrupt):
        evaluated(small_probe(), dataset, SMALL, store=store, speed=speed)
    assert [found.object_id for found in store.kept] == [ObjectId("fake0", 1)]


def test_a_signal_is_heard_while_objects_are_only_skipped() -> None:
    """Every object is done, but its image has still to be read and compared."""
    reads: list[str] = []

    class Signalling(FakeDataset):
        def read(self, image_id: str) -> AnnotatedImage:
            reads.append(image_id)
            if is_listed:
                signal.raise_signal(signal.SIGTERM)
            return super().read(image_id)

    is_listed = False
    dataset = Signalling(images=4)
    assert len(dataset.objects) == 8  # the fake reads its images to list them
    is_listed, reads = True, []
    whole, _ = evaluated(small_probe(), FakeDataset(images=4), SMALL)
    stop = StopSignals()
    options = RunOptions(progress=False, speed=Speed(read_ahead=False), stop=stop)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(Terminated), stop.heard():
            evaluate_dataset(small_probe(), dataset, SMALL, store=MemoryStore(*whole), options=options)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(reads) == 1


def test_an_image_is_read_and_encoded_once_for_all_its_objects() -> None:
    reads: list[str] = []

    class Counting(FakeDataset):
        def read(self, image_id: str) -> object:  # type: ignore[override]
            reads.append(image_id)
            return super().read(image_id)

    dataset, probe = Counting(images=2, instances=3), small_probe()
    assert len(dataset.objects) == 6
    reads.clear()
    counter = CallCounter(probe.backbone)
    evaluated(probe, dataset, SMALL.replace(zoom_in=False))
    assert reads == ["fake0", "fake1"]
    assert counter.calls == 2


def test_evaluation_is_in_eval_mode_and_repeatable() -> None:
    probe = small_probe().train()
    one, _ = evaluated(probe, FakeDataset(images=1), SMALL)
    assert not any(module.training for module in probe.modules())
    assert evaluated(probe, FakeDataset(images=1), SMALL)[0] == one


def test_seconds_per_click() -> None:
    assert EvaluationTimes(predicting=3.0, clicking=1.0, clicks=8).seconds_per_click == 0.5
    assert EvaluationTimes().seconds_per_click == 0


def test_the_progress_bar_shows_the_running_noc(capsys: pytest.CaptureFixture[str]) -> None:
    dataset = FakeDataset(images=2, instances=1)
    evidence = evaluate_dataset(small_probe(), dataset, SMALL).evidence
    counts = [next((k for k, iou in enumerate(found.ious, 1) if iou >= 0.9), 4) for found in evidence]
    assert f"NoC90 {np.mean(counts):.2f}" in capsys.readouterr().err


@pytest.mark.parametrize("injection", ["early", "late", "pre_upsampler"])
@pytest.mark.parametrize("upsampler", [Bilinear(), FakeUpsampler()], ids=repr)
@pytest.mark.parametrize(
    "speed",
    [
        Speed(objects_at_once=3),
        Speed(read_ahead=False),
        Speed(objects_at_once=50),
        Speed(objects_at_once=3, clicks_on_device=True),
        Speed(clicks_on_device=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("least_channels", [1, 128])
def test_objects_in_lockstep_are_clicked_as_alone(
    injection: Injection, upsampler: Upsampler, speed: Speed, least_channels: int
) -> None:
    dataset, protocol = FakeDataset(images=4), SMALL.replace(injection=injection)
    probe = small_probe(protocol, upsampler)
    speed = dataclasses.replace(speed, winograd_channels=least_channels)
    alone, _ = evaluated(probe, dataset, protocol, speed=Speed(winograd_channels=least_channels))
    store = MemoryStore()
    together, times = evaluated(probe, dataset, protocol, speed=speed, store=store)
    assert [found.object_id for found in together] == dataset.objects == [found.object_id for found in store.kept]
    assert [found.clicks for found in together] == [found.clicks for found in alone]
    np.testing.assert_allclose([found.ious for found in together], [found.ious for found in alone], rtol=0, atol=1e-4)
    assert times.clicks == protocol.max_clicks * len(dataset.objects)


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("at_once", [1, 3])
def test_an_object_is_left_once_it_has_reached_the_iou(at_once: int, on_device: bool) -> None:
    """What was clicked until then is the same, and nothing that follows is made up."""
    dataset, protocol, probe = FakeDataset(images=4), SMALL, small_probe()
    whole, _ = evaluated(probe, dataset, protocol)
    reached = sorted(max(found.ious) for found in whole)
    percent = max(1, int(100 * reached[len(reached) // 2]))
    speed = Speed(stop_at_iou=(1, percent), objects_at_once=at_once, clicks_on_device=on_device)
    stopped, times = evaluated(probe, dataset, protocol, speed=speed)
    lengths = [number_of_clicks(np.array([found.ious]), percent / 100)[0] for found in whole]
    assert min(lengths) < protocol.max_clicks, "the test would show nothing"
    for found, short, length in zip(whole, stopped, lengths, strict=True):
        assert short.clicks == found.clicks[:length] and len(short.ious) == length
        np.testing.assert_allclose(short.ious, found.ious[:length], rtol=0, atol=1e-4)
    assert times.clicks == sum(lengths)


def test_earlier_evidence_keeps_its_place() -> None:
    dataset, probe = FakeDataset(images=3), small_probe()
    whole, _ = evaluated(probe, dataset, SMALL)
    store = MemoryStore(whole[1], whole[3])
    again, times = evaluated(probe, dataset, SMALL, store=store, speed=Speed(objects_at_once=2))
    assert again[1] == whole[1] and again[3] == whole[3]
    assert [found.clicks for found in again] == [found.clicks for found in whole]
    assert times.clicks == SMALL.max_clicks * (len(whole) - 2)


def test_an_unreadable_image_stops_the_evaluation_and_earlier_evidence_is_kept() -> None:
    class Broken(FakeDataset):
        is_listed = False

        def read(self, image_id: str) -> AnnotatedImage:
            if image_id == "fake1" and self.is_listed:
                raise DataError("fake1 is broken")
            return super().read(image_id)

    store = MemoryStore()
    dataset = Broken(images=3)
    assert len(dataset.objects) == 6
    dataset.is_listed = True
    with pytest.raises(DataError, match="fake1 is broken"):
        evaluated(small_probe(), dataset, SMALL, store=store)
    assert [found.object_id.image for found in store.kept] == ["fake0", "fake0"]


def test_half_precision_is_close_and_gives_whole_evidence() -> None:
    dataset, probe = FakeDataset(images=2), small_probe()
    exact, _ = evaluated(probe, dataset, SMALL.replace(max_clicks=1))
    speed = Speed(precision="bfloat16")
    rough, _ = evaluated(probe, dataset, SMALL.replace(max_clicks=1), speed=speed)
    assert [found.clicks for found in rough] == [found.clicks for found in exact]
    np.testing.assert_allclose([found.ious for found in rough], [found.ious for found in exact], rtol=0, atol=0.1)


def test_the_hash_of_the_content_comes_from_the_same_read(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = FakeDataset(images=2)
    expected = content_sha256(dataset, dataset.objects)
    store = MemoryStore(*evaluate_dataset(small_probe(), dataset, SMALL).evidence)
    reads: list[str] = []
    monkeypatch.setattr(dataset, "read", lambda image: reads.append(image) or FakeDataset.read(dataset, image))
    for kept in (None, store):
        assert evaluate_dataset(small_probe(), dataset, SMALL, store=kept).content_sha256 == expected
        assert reads == ["fake0", "fake1"]
        reads.clear()
    assert content_sha256(FakeDataset(images=2, seed=1), dataset.objects) != expected


def test_probabilities_go_to_the_cpu_once_per_click(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[torch.Size] = []
    to_cpu = torch.Tensor.cpu

    def counting(tensor: torch.Tensor) -> torch.Tensor:
        copies.append(tensor.shape)
        return to_cpu(tensor)

    dataset = FakeDataset(images=1, instances=1)
    monkeypatch.setattr(torch.Tensor, "cpu", counting)
    _, times = evaluated(small_probe(), dataset, SMALL)
    assert copies == [dataset.read("fake0").labels.shape] * times.clicks
