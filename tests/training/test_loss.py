"""The loss against a plain formula, pixel by pixel."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vfm_isbench.training import normalized_focal_loss


def of_one_image(logits: list[float], labels: list[int], alpha: float, gamma: float) -> float:
    """Mean over valid pixels of weight × focal / (sum of focal / number of valid pixels) × (−log p)."""
    terms = []
    for logit, label in zip(logits, labels, strict=True):
        if label == -1:
            continue
        object_probability = 1 / (1 + math.exp(-logit))
        p = object_probability if label == 1 else 1 - object_probability
        terms.append(((1 - p) ** gamma, alpha if label == 1 else 1 - alpha, -math.log(p)))
    total = sum(focal for focal, _, _ in terms)
    return sum(focal * weight * surprise for focal, weight, surprise in terms) / total if terms else 0.0


def as_maps(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), 1, 2, 3)


images = st.lists(
    st.tuples(
        st.lists(st.floats(-6, 6), min_size=6, max_size=6),
        st.lists(st.sampled_from([-1, 0, 1]), min_size=6, max_size=6),
    ),
    min_size=1,
    max_size=3,
)


@settings(deadline=None)
@given(images, st.floats(0.1, 0.9), st.sampled_from([0.0, 1.0, 2.0]))
def test_equals_the_plain_formula(batch: list[tuple[list[float], list[int]]], alpha: float, gamma: float) -> None:
    logits, labels = as_maps([one for one, _ in batch]), as_maps([[float(v) for v in one] for _, one in batch])
    losses = normalized_focal_loss(logits, labels, alpha=alpha, gamma=gamma)
    expected = [of_one_image(one, other, alpha, gamma) for one, other in batch]
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-9)


@settings(deadline=None)
@given(images)
def test_ignored_pixels_have_no_say_and_no_gradient(batch: list[tuple[list[float], list[int]]]) -> None:
    labels = as_maps([[float(v) for v in one] for _, one in batch])
    logits = as_maps([one for one, _ in batch]).requires_grad_()
    losses = normalized_focal_loss(logits, labels)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert not gradient[labels == -1].any()
    elsewhere = torch.where(labels == -1, logits.detach() + 3, logits.detach())
    torch.testing.assert_close(normalized_focal_loss(elsewhere, labels), losses.detach(), rtol=0, atol=0)
    wrong = (labels != -1) & (((logits > 0) != (labels == 1)) | (logits.abs() < 3))
    assert gradient[wrong].abs().min() > 0 if wrong.any() else True


def test_the_scale_of_the_weights_has_no_gradient() -> None:
    """With gradient through it, the loss of equally wrong pixels would be that of plain cross-entropy."""
    logits = torch.full((1, 1, 2, 3), -1.0, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(normalized_focal_loss(logits, torch.ones_like(logits)).sum(), logits)
    p = 1 / (1 + math.e)
    # d/dz of (1 − p)² · (−log p), divided by the focal weight (1 − p)², times α, over 6 pixels
    derivative = (2 * (1 - p) * -p * (1 - p) * -math.log(p) + (1 - p) ** 2 * -(1 - p)) / (1 - p) ** 2
    torch.testing.assert_close(gradient, torch.full_like(gradient, 0.5 * derivative / 6), rtol=1e-5, atol=0)


@pytest.mark.parametrize("certainty", [50.0, -50.0, 200.0])
def test_stays_finite_for_certain_predictions(certainty: float) -> None:
    logits = torch.full((2, 1, 3, 3), certainty, requires_grad=True)
    labels = torch.ones(2, 1, 3, 3)
    labels[1] = 0
    losses = normalized_focal_loss(logits, labels)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert losses.isfinite().all()
    assert gradient.isfinite().all()


def test_an_image_of_ignored_pixels_costs_nothing() -> None:
    logits = torch.ones(1, 1, 2, 2, requires_grad=True)
    losses = normalized_focal_loss(logits, torch.full((1, 1, 2, 2), -1.0))
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert losses.tolist() == [0.0]
    assert not gradient.any()
