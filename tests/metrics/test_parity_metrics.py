"""IoU and NoC equal the numbers recorded from the reference implementation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity_models import Deviation

from vfm_isbench.metrics import intersection_over_union, mean_iou_at, not_reached, number_of_clicks


@pytest.fixture(scope="module")
def recorded(parity_root: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((parity_root / "metrics.json").read_text())
    return content


def test_noc_its_deviation_and_the_objects_at_the_cap(recorded: dict[str, Any], deviation: Deviation) -> None:
    ious = np.array(recorded["ious"])
    for index, threshold in enumerate(recorded["thresholds"]):
        counts = number_of_clicks(ious, threshold)
        deviation("metrics: NoC", abs(counts.mean() - recorded["noc"][index]), 1e-6)
        assert counts.std() == pytest.approx(recorded["noc_std"][index], abs=1e-6)
        assert not_reached(ious, threshold) == recorded["not_reached"][index]


def test_mean_iou_after_every_click(recorded: dict[str, Any], deviation: Deviation) -> None:
    ious = np.array(recorded["ious"])
    measured = [mean_iou_at(ious, clicks) for clicks in range(1, ious.shape[1] + 1)]
    assert len(measured) == len(recorded["mean_iou_at_k"])
    deviation("metrics: IoU@k", np.abs(np.subtract(measured, recorded["mean_iou_at_k"])).max(), 1e-6)


def test_iou_with_ignored_pixels(recorded: dict[str, Any], deviation: Deviation) -> None:
    measured = [
        intersection_over_union(np.array(truth), np.array(prediction).astype(bool))
        for truth, prediction in zip(recorded["gts"], recorded["preds"], strict=True)
    ]
    deviation("metrics: IoU outside ignored pixels", np.abs(np.subtract(measured, recorded["iou"])).max(), 1e-6)
