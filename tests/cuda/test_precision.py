"""Less precise arithmetic on a device: results are near, and the settings of the caller come back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from devices import evidence_of, new_probe, protocol_with, trained, trained_probe

from vfm_isbench.acceleration.speed import Precision, Speed

pytestmark = pytest.mark.cuda

FIRST_IOU_TOLERANCE = 0.1
"""Largest difference of the IoU after the first click, which every precision places alike."""

WEIGHTS_TOLERANCE = 0.3
"""Largest difference of the trained weights, relative to the distance that training moved them."""


@pytest.fixture(params=["tf32", "bfloat16"])
def precision(request: pytest.FixtureRequest, device: torch.device) -> Precision:
    if request.param == "tf32" and device.type != "cuda":
        pytest.skip("needs a CUDA device")
    return request.param  # type: ignore[no-any-return]


def flags() -> tuple[object, ...]:
    return (
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.get_float32_matmul_precision(),
        torch.is_autocast_enabled("cuda"),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cuda"),
    )


@pytest.mark.parametrize("name", ["bilinear", "loftup", "featup"])
def test_evaluation(name: str, precision: Precision, device: torch.device) -> None:
    protocol, before = protocol_with(), flags()
    probe = trained_probe(name, protocol, device)
    exact, rough = evidence_of(probe, protocol), evidence_of(probe, protocol, Speed(precision=precision))
    assert [one.clicks[0] for one in exact] == [one.clicks[0] for one in rough]
    differences = [abs(a.ious[0] - b.ious[0]) for a, b in zip(exact, rough, strict=True)]
    assert np.max(differences) < FIRST_IOU_TOLERANCE
    assert flags() == before


@pytest.mark.parametrize("name", ["bilinear", "loftup"])
def test_training(name: str, precision: Precision, device: torch.device) -> None:
    protocol, before = protocol_with(max_iterative_clicks=0), flags()
    start = new_probe(name, protocol).trainable().state_dict()
    exact, rough = (
        trained(new_probe(name, protocol).to(device), protocol, speed=Speed(precision=chosen))
        for chosen in ("float32", precision)
    )
    weights = [key for key in exact if key.endswith("weight")]
    moved = sum(float((exact[key] - start[key]).square().sum()) for key in weights)
    apart = sum(float((exact[key] - rough[key]).square().sum()) for key in weights)
    assert 0 < apart < WEIGHTS_TOLERANCE**2 * moved
    assert flags() == before
