"""Recorded clicks, replayed: the predictions that were measured, or a word that they are not."""

from __future__ import annotations

import dataclasses

import pytest
from small import SMALL, evaluated, small_probe

from vfm_isbench.errors import DataError, PictureError
from vfm_isbench.inspection.replay import replay, shown_objects
from vfm_isbench.metrics import intersection_over_union
from vfm_isbench.testing.fakes import FakeDataset
from vfm_isbench.types import Click, ObjectEvidence, ObjectId


@pytest.fixture(scope="module")
def probe():
    return small_probe().eval()


@pytest.fixture(scope="module")
def dataset() -> FakeDataset:
    return FakeDataset()


@pytest.fixture(scope="module")
def evidence(probe, dataset) -> list[ObjectEvidence]:
    return evaluated(probe, dataset, SMALL)[0]


def test_every_click_gives_the_iou_that_was_measured(probe, dataset, evidence) -> None:
    for one in evidence[:3]:
        sample = dataset.read(one.object_id.image)
        truth = sample.object_mask(one.object_id.instance)
        for number in range(1, SMALL.max_clicks + 1):
            predicted = replay(probe, sample.image, SMALL, one.clicks[:number])
            assert intersection_over_union(truth, predicted) == pytest.approx(one.ious[number - 1], abs=1e-3)


def test_shown_after_the_last_click_or_another(probe, dataset, evidence) -> None:
    for click in (None, 2):
        placed = click or SMALL.max_clicks
        for one, shown in zip(evidence, shown_objects(evidence, dataset, SMALL, probe=probe, click=click), strict=True):
            assert (shown.clicks, shown.iou) == (one.clicks[:placed], one.ious[placed - 1])
            assert not shown.differs and shown.remark == "" and shown.title == str(one.object_id)
            assert shown.prediction is not None and shown.prediction.shape == shown.ground_truth.shape


def test_another_probe_is_found_out(dataset, evidence) -> None:
    other = small_probe(SMALL.replace(seed=5)).eval()
    assert any(one.differs for one in shown_objects(evidence, dataset, SMALL, probe=other))


def test_without_a_probe(dataset, evidence) -> None:
    (shown,) = shown_objects(evidence[:1], dataset, SMALL)
    assert shown.prediction is None and shown.replayed_iou is None and not shown.differs


def test_clicks_needed_and_early_stop(dataset) -> None:
    clicks = (Click(30, 20, True), Click(2, 2, False), Click(3, 3, False), Click(4, 4, False))
    nan = float("nan")
    cases = {
        (0.2, 0.9, 0.8, 0.7): ("NoC90 2", 0.7, ""),
        (0.2, 0.3, 0.4, 0.5): ("NoC90 > 4", 0.5, ""),
        (0.2, 0.85, nan, nan): ("NoC90 unknown, > 2", 0.85, "stopped after click 2"),
        (0.2, 0.85): ("NoC90 unknown, > 2", 0.85, "stopped after click 2"),
    }
    for ious, expected in cases.items():
        one = ObjectEvidence(ObjectId("fake0", 1), clicks[: len(ious)], ious)
        (shown,) = shown_objects([one], dataset, SMALL, click=4)
        assert (shown.clicks_needed, shown.iou, shown.remark) == expected


def test_other_data_are_found_out(dataset, evidence) -> None:
    one = evidence[0]
    outside = dataclasses.replace(one, clicks=(Click(200, 3, True), *one.clicks[1:]))
    with pytest.raises(DataError, match="outside its image of 60×80"):
        shown_objects([outside], dataset, SMALL)
    beside = dataclasses.replace(one, clicks=(Click(0, 0, True), *one.clicks[1:]))
    assert shown_objects([beside], dataset, SMALL)[0].remark == "first click is not on this object: other data?"


@pytest.mark.parametrize("click", [0, 5])
def test_a_click_that_was_never_placed(click, dataset, evidence) -> None:
    with pytest.raises(PictureError, match="1 … 4"):
        shown_objects(evidence, dataset, SMALL, click=click)
