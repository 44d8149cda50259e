"""IoU and NoC equal the numbers recorded from the reference implementation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vfm_isbench.metrics import intersection_over_union, mean_iou_at, not_reached, number_of_clicks


@pytest.fixture(scope="module")
def recorded(parity_root: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((parity_root / "metrics.json").read_text())
    return content


def test_noc_its_deviation_and_the_objects_at_the_cap(recorded: dict[str, Any]) -> None:
    ious = np.array(recorded["ious"])
    for index, threshold in enumerate(recorded["thresholds"]):
        counts = number_of_clicks(ious, threshold)
        assert counts.mean() == pytest.approx(recorded["noc"][index], abs=1e-6)
        assert counts.std() == pytest.approx(recorded["noc_std"][index], abs=1e-6)
        assert not_reached(ious, threshold) == recorded["not_reached"][index]


def test_mean_iou_after_every_click(recorded: dict[str, Any]) -> None:
    ious = np.array(recorded["ious"])
    measured = [mean_iou_at(ious, clicks) for clicks in range(1, ious.shape[1] + 1)]
    np.testing.assert_allclose(measured, recorded["mean_iou_at_k"], rtol=0, atol=1e-6)


def test_iou_with_ignored_pixels(recorded: dict[str, Any]) -> None:
    measured = [
        intersection_over_union(np.array(truth), np.array(prediction).astype(bool))
        for truth, prediction in zip(recorded["gts"], recorded["preds"], strict=True)
    ]
    np.testing.assert_allclose(measured, recorded["iou"], rtol=0, atol=1e-6)
