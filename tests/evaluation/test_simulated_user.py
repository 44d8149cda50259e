"""The simulated user on the CPU and on a device: the same clicks, IoUs and extents."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import SMALL

from vfm_isbench.errors import NonFiniteError
from vfm_isbench.evaluation.simulated_user import SimulatedUser, UserOnCpu, UserOnDevice
from vfm_isbench.evaluation.zoom_in import Box
from vfm_isbench.types import Array

PROTOCOL = SMALL.replace(prediction_threshold=0.49, zoom_threshold=0.5)
LEVELS = np.array([0.0, 0.25, 0.49, 0.495, 0.5, 0.75, 1.0], np.float32)
"""Probabilities on both sides of the thresholds, and on them."""


def users(truths: list[Array]) -> tuple[SimulatedUser, SimulatedUser]:
    return UserOnCpu(truths, PROTOCOL), UserOnDevice(truths, PROTOCOL, torch.device("cpu"))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 5))
def test_both_place_the_same_clicks(seed: int, objects: int, clicks: int) -> None:
    rng = np.random.default_rng(seed)
    truths = [
        rng.choice([-1, 0, 1], size=rng.integers(1, 12, size=2), p=[0.1, 0.4, 0.5]).astype(np.int32)
        for _ in range(objects)
    ]
    both = users(truths)
    numbers = list(range(objects))
    for _ in range(clicks):
        first, second = ([user.click(number) for number in numbers] for user in both)
        assert first == second
        # As when some objects have reached the IoU at which clicking stops.
        numbers = [number for number in numbers if number == 0 or rng.random() < 0.8]
        shown = [torch.from_numpy(rng.choice(LEVELS, size=truths[number].shape)) for number in numbers]
        logits = [torch.zeros(2, 1, 4, 4)] * len(numbers)
        for user in both:
            user.show(numbers, logits, shown)
        for position in range(len(numbers)):
            assert both[0].see(position) == both[1].see(position)


def test_thresholds_are_exclusive() -> None:
    at = torch.full((4, 6), 0.49)
    at[1, 2] = 0.5
    for user in users([np.ones((4, 6), np.int32)]):
        user.show([0], [torch.zeros(1)], [at])
        assert user.see(0).iou == 1 / 24 and user.see(0).extent is None
        user.show([0], [torch.zeros(1)], [at + 1e-3])
        assert user.see(0).iou == 1 and user.see(0).extent == Box(1, 1, 2, 2)


def test_nothing_to_mark_and_nothing_marked_is_right() -> None:
    for user in users([np.zeros((4, 6), np.int32)]):
        user.show([0], [torch.zeros(1)], [torch.zeros(4, 6)])
        assert user.see(0).iou == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_prediction_that_is_not_finite_is_seen_at_its_object(bad: float) -> None:
    logits = [torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)]
    logits[1][0, 0, 2, 3] = bad
    for user in users([np.ones((4, 6), np.int32)] * 2):
        user.show([0, 1], logits, [torch.zeros(4, 6)] * 2)
        user.see(0)
        with pytest.raises(NonFiniteError, match="in 1 of 32 pixels"):
            user.see(1)


def test_logits_whose_sum_overflows_are_finite() -> None:
    logits = [torch.full((1, 1, 8, 8), 1e38)]
    for user in users([np.ones((4, 6), np.int32)]):
        user.show([0], logits, [torch.ones(4, 6)])
        assert user.see(0).iou == 1
