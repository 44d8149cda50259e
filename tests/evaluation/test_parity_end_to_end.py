"""Whole evaluations reproduce those recorded from the reference implementation, click for click."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity_models import Deviation, recorded_dataset, recorded_probe
from small import evaluated

from vfm_isbench.acceleration.speed import Speed
from vfm_isbench.kernels.winograd import LEAST_CHANNELS
from vfm_isbench.metrics import mean_iou_at, not_reached, number_of_clicks
from vfm_isbench.protocol import Protocol
from vfm_isbench.types import ObjectEvidence

IDENTITY = "identity_pre-upsampler_simple-vit"
AT_IMAGE_SIZE = ["bilinear_early_patch-embedding", "bilinear_pre-upsampler_simple-vit", "lift_early_patch-embedding"]
"""Models whose head runs at 224×224, and takes half a minute."""
DATASETS = ["GrabCut", "Berkeley", "DAVIS", "SBD"]


def evaluate(
    parity_root: Path,
    real_root: Path,
    model: str,
    dataset: str,
    objects: int,
    clicks: int = 20,
    speed: Speed | None = None,
) -> list[ObjectEvidence]:
    probe = recorded_probe(parity_root / "end_to_end" / f"{model}.safetensors")
    protocol = Protocol.preset("reference").replace(object_limit=objects, max_clicks=clicks)
    return evaluated(probe, recorded_dataset(real_root, dataset), protocol, speed=speed)[0]


def recorded(parity_root: Path, model: str, dataset: str) -> dict[str, Any]:
    content = json.loads((parity_root / "end_to_end" / f"{model}.json").read_text())
    found: dict[str, Any] = content[dataset]
    return found


def follows(found: ObjectEvidence, record: dict[str, Any], model: str, deviation: Deviation) -> bool:
    """Whether an object was clicked as recorded; then its IoUs must be the recorded ones, too."""
    assert (found.object_id.image, found.object_id.instance) == (record["image"], record["instance"])
    count = len(found.clicks)
    if [[click.row, click.col, int(click.is_positive)] for click in found.clicks] != record["clicks"][:count]:
        return False
    deviation(f"end to end: IoU, {model}", np.abs(np.subtract(found.ious, record["iou"][:count])).max(), 1e-3)
    return True


@pytest.mark.parametrize("model", [IDENTITY, *(pytest.param(name, marks=pytest.mark.slow) for name in AT_IMAGE_SIZE)])
def test_all_objects_and_clicks(parity_root: Path, real_root: Path, model: str, deviation: Deviation) -> None:
    """At least 98 % of the objects are clicked as recorded, and every score of every data set agrees."""
    followed = []
    for dataset in DATASETS:
        expected = recorded(parity_root, model, dataset)
        evidence = evaluate(parity_root, real_root, model, dataset, objects=len(expected["objects"]))
        followed += [follows(*pair, model, deviation) for pair in zip(evidence, expected["objects"], strict=True)]
        ious = np.array([found.ious for found in evidence])
        for percent, noc in expected["noc"].items():
            counts = number_of_clicks(ious, int(percent) / 100)
            deviation(f"end to end: NoC80/85/90, {model}", abs(counts.mean() - noc), 0.05)
            assert abs(not_reached(ious, int(percent) / 100) - expected["not_reached"][percent]) <= 1
        deviation(f"end to end: IoU@1, {model}", abs(mean_iou_at(ious, 1) - expected["iou_at_1"]), 1e-3)
        assert mean_iou_at(ious, 20) == pytest.approx(expected["iou_at_20"], abs=1e-3)
    assert len(followed) >= 12
    deviation(f"end to end: share of objects not clicked as recorded, {model}", 1 - np.mean(followed), 0.02)


@pytest.mark.parametrize("winograd_channels", [LEAST_CHANNELS, 1], ids=["as it is", "by strips"])
@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("model", AT_IMAGE_SIZE)
def test_the_first_clicks_of_two_objects(
    parity_root: Path, real_root: Path, model: str, dataset: str, winograd_channels: int, deviation: Deviation
) -> None:
    """What of the complete comparison can be had in seconds."""
    evidence = evaluate(
        parity_root, real_root, model, dataset, objects=2, clicks=8, speed=Speed(winograd_channels=winograd_channels)
    )
    records = recorded(parity_root, model, dataset)["objects"][:2]
    assert all(follows(*pair, model, deviation) for pair in zip(evidence, records, strict=True))
