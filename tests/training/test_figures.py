"""Figures of the steps: read late, in order, and with errors that name the right step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vfm_isbench.errors import NonFiniteError, UpsamplerError
from vfm_isbench.probe.guarded import during
from vfm_isbench.training.figures import StepFigures
from vfm_isbench.training.prediction import batch_iou

TARGETS = torch.ones(2, 1, 2, 3)
GOOD, BAD = torch.ones(2, 1, 2, 3), torch.full((2, 1, 2, 3), float("nan"))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 4))
def test_figures_are_those_of_every_step(seed: int, steps: int, images: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    losses, ious = [], []
    with StepFigures() as figures:
        for step in range(steps):
            logits = torch.randn(images, 1, 5, 4, generator=generator)
            targets = (torch.rand(images, 1, 5, 4, generator=generator) < 0.3 * step).float()
            loss = torch.rand((), generator=generator)
            losses.append(loss.item())
            ious += batch_iou(logits, targets)
            figures.add(f"step {step}", logits, targets, loss)
            assert figures.losses == losses[:-1], "the step is read only after the next one was added"
    assert (figures.losses, figures.ious) == (losses, ious)


def test_without_losses_there_are_only_ious() -> None:
    with StepFigures() as figures:
        figures.add("step 1", GOOD, TARGETS)
    assert (figures.losses, figures.ious) == ([], [1.0, 1.0])


@pytest.mark.parametrize(
    ("logits", "loss", "problem"),
    [
        (BAD, 0.5, "step 2: the prediction is NaN or infinite in 12 of 12"),
        (GOOD, float("inf"), "step 2: the loss is inf"),
    ],
)
@pytest.mark.parametrize("further", [0, 1])
def test_an_error_names_the_step_where_it_happened(logits: Tensor, loss: float, problem: str, further: int) -> None:
    with pytest.raises(NonFiniteError, match=problem), StepFigures() as figures:
        figures.add("step 1", GOOD, TARGETS, torch.tensor(0.5))
        figures.add("step 2", logits, TARGETS, torch.tensor(loss))
        for _ in range(further):
            figures.add("step 3", BAD, TARGETS, torch.tensor(0.5))


def test_nan_of_a_step_explains_the_failure_of_the_next_one() -> None:
    with pytest.raises(NonFiniteError, match="step 1: the prediction is NaN"), StepFigures() as figures:
        figures.add("step 1", BAD, TARGETS, torch.tensor(0.5))
        with during("step 2"):
            raise UpsamplerError("the upsampler failed, because the weights are NaN by now")


def test_ending_the_program_comes_first() -> None:
    with pytest.raises(KeyboardInterrupt), StepFigures() as figures:
        figures.add("step 1", BAD, TARGETS)
        raise KeyboardInterrupt


def test_large_but_finite_logits_are_no_error() -> None:
    with StepFigures() as figures:
        figures.add("step 1", torch.full((2, 1, 2, 3), 3e38), TARGETS)
    assert figures.ious == [1.0, 1.0]


class Reads(TorchDispatchMode):
    """Counts reads of single values, each of which waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return function(*args, **(kwargs or {}))


def test_adding_a_step_does_not_wait_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    with StepFigures() as figures, Reads() as reads:
        figures.add("step 1", GOOD, TARGETS, torch.tensor(0.5))
        assert reads.count == 0
        monkeypatch.setattr(Tensor, "tolist", lambda _: pytest.fail("the first step has no step before it to read"))
        figures._pending = None
        figures.add("step 1", GOOD, TARGETS, torch.tensor(0.5))
        monkeypatch.undo()
    assert reads.count == 0
