"""Scores of single objects: their means are the scores of the data set, and missing scores stay missing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from result_builder import made_dataset, random_ious

from vfm_isbench.errors import ComparisonError
from vfm_isbench.results.object_scores import Metric, object_scores

NAN = math.nan
STOPPED = made_dataset([[0.5, 0.92, NAN, NAN], [0.91, NAN, NAN, NAN], [0.2, 0.3, 0.4, 0.5]], stop_at_iou=(80, 85, 90))


@pytest.mark.parametrize("name", ["noc80", "noc85", "noc90", "noc95", "iou_at_1", "iou_at_5", "mean_iou", "iou_auc"])
def test_their_mean_is_the_score_of_the_data_set(name: str) -> None:
    found = made_dataset(random_ious(1))
    scores = object_scores(found, Metric.named(name))
    assert scores.shape == (40,)
    assert scores.mean() == pytest.approx(found.scores()[name])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("noc90", [2, 1, 4]),
        ("noc80", [2, 1, 4]),
        ("iou_at_1", [0.5, 0.91, 0.2]),
        ("iou_at_2", [0.92, NAN, 0.3]),
        ("mean_iou", [NAN, NAN, 0.35]),
        ("iou_auc", [NAN, NAN, 0.35]),
        ("noc95", [NAN, NAN, NAN]),
    ],
)
def test_clicks_that_were_spared_are_missing_and_count_as_nothing_else(name: str, expected: list[float]) -> None:
    np.testing.assert_allclose(object_scores(STOPPED, Metric.named(name)), expected)


def test_names_have_labels_and_units() -> None:
    metrics = [Metric.named(name) for name in ("noc90", "iou_at_10", "mean_iou")]
    assert [metric.label for metric in metrics] == ["NoC90", "IoU@10", "mean IoU"]
    assert [metric.unit for metric in metrics] == ["clicks", "IoU", "IoU"]
    assert [metric.is_noc for metric in metrics] == [True, False, False]


def test_a_click_may_be_written_with_an_at_sign() -> None:
    assert Metric.named("iou@5") == Metric.named("iou_at_5")


@pytest.mark.parametrize(
    "name",
    ["noc", "noc0", "noc100", "noc9O", "iou_at_0", "iou_at_", "iou@", "iou@0", "iou5", "NoC90", "", "noc90 ", "iou"],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ComparisonError, match="unknown metric.*expected noc80.*mean_iou"):
        Metric.named(name)


def test_a_click_beyond_the_cap_is_refused() -> None:
    with pytest.raises(ComparisonError, match="iou_at_20 asked for, but davis has 6 clicks"):
        object_scores(made_dataset(random_ious(1)), Metric.named("iou_at_20"))
