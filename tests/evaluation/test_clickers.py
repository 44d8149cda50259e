"""Click patterns in the evaluation: whatever the order, the lockstep or the device, and clicks that are tried first."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from small import SMALL, MemoryStore, evaluated, small_probe

from vfm_isbench.acceleration.cached_probe import CachedProbe
from vfm_isbench.acceleration.speed import RunOptions, Speed
from vfm_isbench.clicks import Scene, candidate_clicks, click_generator, place_click
from vfm_isbench.errors import NonFiniteError, ProtocolError
from vfm_isbench.evaluation import ObjectPredictor, evaluate_dataset
from vfm_isbench.evaluation.predictor import ImageCrops
from vfm_isbench.metrics import intersection_over_union
from vfm_isbench.protocol.clicker import Clicker
from vfm_isbench.testing.fakes import FakeDataset, FakeUpsampler
from vfm_isbench.types import Array, Click, ObjectEvidence

PATTERNS = ["random", "boundary", "clustered", "jitter:4", "realistic", "mix:center=0.5,random=0.5"]
TRIED = ["worst_of:3", "best_of:3"]
SHORT = SMALL.replace(max_clicks=3)


def scenes(found: ObjectEvidence) -> list[tuple[Scene, Click, float]]:
    """What the user saw before each click of an object, replayed; the click, and the IoU after it."""
    sample = FakeDataset(images=2).read(found.object_id.image)
    truth = sample.object_mask(found.object_id.instance)
    predictor = ObjectPredictor(ImageCrops(CachedProbe(small_probe()), sample.image, SHORT))
    predicted, clicked, last = np.zeros(truth.shape, bool), np.zeros(truth.shape, bool), None
    seen = []
    for count, (click, iou) in enumerate(zip(found.clicks, found.ious, strict=True), start=1):
        seen.append((Scene(truth, predicted, clicked.copy(), last), click, iou))
        clicked[int(click.row), int(click.col)] = True
        predicted, last = predictor.predict(found.clicks[:count]) > 0.5, click
        assert iou == intersection_over_union(truth, predicted)
    return seen


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_click_follows_from_the_prediction_seed_object_and_number(pattern: str) -> None:
    protocol = SHORT.replace(clicker=pattern, seed=7)
    evidence, _ = evaluated(small_probe(), FakeDataset(images=2), protocol)
    for found in evidence[1:3]:
        for number, (scene, click, _) in enumerate(scenes(found)):
            rng = click_generator(7, found.object_id, number)
            assert click == place_click(Clicker.parse(pattern), scene, rng)


@pytest.mark.parametrize("pattern", ["random", *TRIED])
def test_neither_lockstep_nor_device_nor_order_nor_earlier_evidence_changes_a_click(pattern: str) -> None:
    dataset, protocol, probe = (
        FakeDataset(images=2),
        SHORT.replace(clicker=pattern),
        small_probe(SMALL, FakeUpsampler()),
    )
    whole, times = evaluated(probe, dataset, protocol)
    assert times.clicks == 3 * len(whole)
    clicks = {found.object_id: found.clicks for found in whole}
    assert len(set(clicks.values())) == len(clicks)
    for speed in (Speed(objects_at_once=3), Speed(objects_at_once=2, clicks_on_device=True), Speed(shortcut=False)):
        found, _ = evaluated(probe, dataset, protocol, speed=speed)
        assert {one.object_id: one.clicks for one in found} == clicks
    half = MemoryStore(whole[0], whole[2])
    assert [one.clicks for one in evaluated(probe, dataset, protocol, store=half)[0]] == list(clicks.values())
    last = FakeDataset(images=2)
    last.objects = last.objects[::-1]
    assert {one.object_id: one.clicks for one in evaluated(probe, last, protocol)[0]} == clicks


def test_center_is_what_it_was_and_the_seed_only_moves_random_clicks() -> None:
    dataset, probe = FakeDataset(images=1), small_probe()

    def clicks(**changes: object) -> list[tuple[Click, ...]]:
        return [one.clicks for one in evaluated(probe, dataset, dataclasses.replace(SHORT, **changes))[0]]  # type: ignore[arg-type]

    assert clicks() == clicks(seed=5) == clicks(clicker="jitter:0.01")
    assert clicks(clicker="random") != clicks(clicker="random", seed=5)


@pytest.mark.parametrize("pattern", TRIED)
def test_of_the_candidates_the_worst_or_the_best_is_placed(pattern: str) -> None:
    """Each candidate is predicted here by a predictor of its own, from the clicks before it."""
    evidence, _ = evaluated(small_probe(), FakeDataset(images=2), SHORT.replace(clicker=pattern))
    differ = 0
    for found in evidence[:2]:
        for number, (scene, click, iou) in enumerate(scenes(found)):
            candidates = candidate_clicks(3, scene, click_generator(0, found.object_id, number))
            ious = [iou_after(found, number, candidate, scene.ground_truth) for candidate in candidates]
            assert iou == (min if pattern == "worst_of:3" else max)(ious)
            assert click == candidates[ious.index(iou)]
            assert min(ious) <= ious[0] <= max(ious), "the centre is among them"
            differ += len(set(ious)) > 1
    assert differ >= 3


def iou_after(found: ObjectEvidence, number: int, candidate: Click, truth: Array) -> float:
    sample = FakeDataset(images=2).read(found.object_id.image)
    predictor = ObjectPredictor(ImageCrops(CachedProbe(small_probe()), sample.image, SHORT))
    for count in range(1, number + 1):
        predictor.predict(found.clicks[:count])
    return intersection_over_union(truth, predictor.predict([*found.clicks[:number], candidate]) > 0.5)


def test_a_trial_that_is_not_finite_names_object_and_click() -> None:
    probe = small_probe()
    with torch.no_grad():
        next(iter(probe.head.parameters())).fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="object fake0:1, click 1"):
        evaluated(probe, FakeDataset(), SHORT.replace(clicker="worst_of:2"))


def test_clicks_of_people_must_be_given() -> None:
    protocol = SHORT.replace(clicker="realistic:clicks@0123456789ab")
    with pytest.raises(
        ProtocolError, match="are not given: train with .* vfm-isbench eval RUN --clicker realistic:FILE"
    ):
        evaluate_dataset(small_probe(), FakeDataset(), protocol, options=RunOptions(progress=False))
