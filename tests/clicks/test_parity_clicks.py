"""Clicks and disks equal those recorded from the reference implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from parity_models import Deviation
from safetensors.torch import load_file
from scipy import ndimage

from vfm_isbench.clicks import disk_maps, error_region, next_click


@pytest.mark.parametrize("case", range(8))
def test_evaluation_clicks(parity_root: Path, case: int, deviation: Deviation) -> None:
    with np.load(parity_root / "clicker.npz") as recorded:
        truth, predictions = recorded[f"gt_{case}"], recorded[f"preds_{case}"]
        expected = recorded[f"clicks_{case}"].tolist()
    clicked = np.zeros(truth.shape, bool)
    clicks = []
    for prediction in predictions:
        click = next_click(truth, prediction, clicked)
        clicked[int(click.row), int(click.col)] = True
        clicks.append([click.row, click.col, int(click.is_positive)])
    assert len(clicks) == len(expected)
    wrong = sum(click != other for click, other in zip(clicks, expected, strict=True))
    deviation("evaluation: clicks that differ, of 10", wrong, 0)


def test_disks(parity_root: Path, deviation: Deviation) -> None:
    recorded = load_file(parity_root / "disks.safetensors")
    disks = disk_maps(recorded["points"], 64, 48, 5.0)
    assert disks.shape == recorded["disks"].shape
    deviation("click map: disks", float((disks - recorded["disks"]).abs().max()), 0)


@pytest.mark.parametrize("case", range(6))
def test_region_and_sign_of_the_next_training_click(parity_root: Path, case: int, deviation: Deviation) -> None:
    """The reference's distance transform is approximate, so the rim of the region may differ in a few pixels."""
    with np.load(parity_root / "next_training_click.npz") as recorded:
        probability, truth = recorded["prob"][case], recorded["gt"][case]
        allowed, sign = recorded["allowed"][case], bool(recorded["positive"][case])
    region, is_positive = error_region(truth, probability)
    assert is_positive == sign
    neighbours = np.ones((3, 3), bool)
    rim = ndimage.binary_dilation(allowed, neighbours) & ~ndimage.binary_erosion(allowed, neighbours, border_value=1)
    different = region != allowed
    assert not (different & ~rim).any()
    share = np.count_nonzero(different) / np.count_nonzero(allowed)
    deviation("training: pixels where the next click may fall, share that differs", share, 0.1)
