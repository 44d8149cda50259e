"""Calls of an upsampler after the contract check: whatever goes wrong becomes our error, with its place."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable

import pytest
import torch
from small import SMALL, MemoryStore, evaluated, small_probe
from torch import Tensor
from torch.nn import functional

from vfm_isbench.acceleration.speed import RunOptions, Speed
from vfm_isbench.errors import NonFiniteError, StoppedError, UpsamplerError
from vfm_isbench.probe.finite import finite_logits
from vfm_isbench.probe.guarded import during
from vfm_isbench.protocol.validation import HeadName, Injection
from vfm_isbench.testing.fakes import FakeDataset, FakeUpsampler
from vfm_isbench.training import TrainingSamples, train
from vfm_isbench.upsamplers import identity_of

FEATURES, IMAGE = torch.rand(2, 8, 2, 3), torch.rand(2, 3, 28, 42)
WHOLE = SMALL.replace(zoom_in=False)
"""Every image has one crop only."""


def upsample(features: Tensor, image: Tensor) -> Tensor:
    return functional.interpolate(features, image.shape[-2:], mode="bicubic")


class Failing:
    """An upsampler that works, except in one call."""

    def __init__(self, at: int, fail: Callable[[Tensor], object]) -> None:
        self.at, self.fail, self.calls = at, fail, 0

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        self.calls += 1
        upsampled = upsample(features, image)
        return self.fail(upsampled) if self.calls == self.at else upsampled  # type: ignore[return-value]


def raises(error: BaseException) -> Callable[[Tensor], object]:
    def fail(_upsampled: Tensor) -> object:
        raise error

    return fail


FAILURES: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "exception": (lambda up: up / [], "raised TypeError: "),
    "exception without a text": (raises(ZeroDivisionError()), "raised ZeroDivisionError"),
    "assertion": (raises(AssertionError("sizes")), "raised AssertionError: sizes"),
    "exit": (lambda up: sys.exit(0), r"ended the program with sys.exit\(0\)"),
    "exit with a text": (lambda up: sys.exit("over"), r"ended the program with sys.exit\('over'\)"),
    "memory": (raises(MemoryError()), r"ran out of memory \(MemoryError\)"),
    "memory of the device": (
        raises(torch.cuda.OutOfMemoryError("tried 20 GiB\nmore")),
        r"ran out of memory \(tried 20 GiB\)",
    ),
    "end of an iterator": (raises(StopIteration()), "raised StopIteration"),
    "nothing": (lambda up: None, "returned None for features 2×8×2×3"),
    "tuple": (lambda up: (up, up), r"returned a tuple \(2×8×28×42, 2×8×28×42\)"),
    "array": (lambda up: up.numpy(), "returned a value of type ndarray"),
    "fewer channels": (lambda up: up[:, 1:], "returned 2×7×28×42"),
    "one image": (lambda up: up[:1], "returned 1×8×28×42"),
    "one dimension less": (lambda up: up[0], "returned 8×28×42"),
    "smaller than the grid": (lambda up: up[:, :, :1], r"returned 2×8×1×42 .* at least 2×3"),
    "integers": (lambda up: up.long(), "returned torch.int64 on cpu"),
    "another device": (lambda up: up.to("meta"), "returned torch.float32 on meta"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_whatever_goes_wrong_becomes_one_error(kind: str) -> None:
    fail, message = FAILURES[kind]
    guarded = small_probe(upsampler=Failing(2, fail)).guarded_upsampler
    assert torch.equal(guarded(FEATURES, IMAGE), upsample(FEATURES, IMAGE))
    with pytest.raises(UpsamplerError, match=f"the upsampler {message}"):
        guarded.upsample(FEATURES, IMAGE)


def test_ctrl_c_passes() -> None:
    with pytest.raises(KeyboardInterrupt):
        small_probe(upsampler=Failing(1, raises(KeyboardInterrupt()))).guarded_upsampler(FEATURES, IMAGE)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("injection", ["late", "early", "pre_upsampler"])
def test_other_floats_are_cast_to_those_of_the_features(dtype: torch.dtype, injection: Injection) -> None:
    protocol = SMALL.replace(injection=injection, epochs=1, milestones=())
    probe = small_probe(protocol, lambda features, image: upsample(features, image).to(dtype))
    assert probe.guarded_upsampler(FEATURES, IMAGE).dtype == torch.float32
    train(probe, TrainingSamples(FakeDataset(), protocol), None, options=RunOptions(progress=False))
    evidence, _ = evaluated(probe, FakeDataset(images=1), protocol)
    assert len(evidence) == 2


def test_outputs_made_in_inference_mode_can_be_trained_on() -> None:
    protocol = SMALL.replace(epochs=1, milestones=())
    losses = []
    for upsampler in (upsample, torch.inference_mode()(upsample)):
        samples = TrainingSamples(FakeDataset(), protocol)
        history = train(small_probe(protocol, upsampler), samples, None, options=RunOptions(progress=False))
        losses.append(history[0].loss)
    assert losses[0] == losses[1]


def test_the_guard_leaves_identity_copies_and_pickles_alone() -> None:
    probe = small_probe(upsampler=FakeUpsampler())
    assert identity_of(probe.upsampler) == identity_of(FakeUpsampler())
    for other in (copy.deepcopy(probe), pickle.loads(pickle.dumps(probe))):  # noqa: S301
        assert torch.equal(other.guarded_upsampler(FEATURES, IMAGE), probe.upsampler(FEATURES, IMAGE))


class Strips(FakeUpsampler):
    """Yields its rows in strips, of which one is wrong."""

    def __init__(self, wrong: Callable[[int, Tensor], object]) -> None:
        super().__init__()
        self.wrong = wrong

    def upsample_strips(self, features, guidance):
        rows = self.upsample(features, guidance).permute(0, 2, 3, 1)
        for top in range(0, rows.shape[1], 7):
            strip = (top, rows[:, top : top + 7])
            yield strip if top < 14 else self.wrong(*strip)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda top, strip: (top + 1, strip), r"gave a tuple \(15, 2×7×28×8\) as the strip that starts in row 14"),
        (lambda top, strip: strip, "gave 2×7×28×8 as the strip that starts in row 14"),
        (lambda top, strip: (top, strip[..., 1:]), r"gave a tuple \(14, 2×7×28×7\)"),
        (lambda top, strip: (top, strip.permute(0, 3, 1, 2)), r"gave a tuple \(14, 2×8×7×28\)"),
        (lambda top, strip: (top, strip[0]), r"gave a tuple \(14, 7×28×8\)"),
        (lambda top, strip: None, "gave None as the strip"),
        (lambda top, strip: (top, strip.long()), "returned torch.int64"),
        (lambda top, strip: sys.exit(), "ended the program"),
        (lambda top, strip: strip / [], "raised TypeError"),
    ],
)
def test_strips_are_guarded_one_by_one(wrong: Callable[[int, Tensor], object], message: str) -> None:
    protocol = SMALL.replace(injection="early")
    with pytest.raises(UpsamplerError, match=f"click 1: the upsampler {message}"):
        evaluated(
            small_probe(protocol, Strips(wrong)), FakeDataset(images=1), protocol, speed=Speed(winograd_channels=1)
        )


def test_places_are_named_from_the_outside_in() -> None:
    kept = during("outer", lambda: "kept here")
    with pytest.raises(StoppedError) as caught, kept, during("inner"), during("core"):
        raise NonFiniteError("it broke")
    assert str(caught.value) == "outer, inner, core: it broke\nkept here"
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert str(again) == str(caught.value)


@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("injection", ["late", "early"])
def test_evaluation_names_test_set_image_object_and_click(injection: Injection, at_once: int, shortcut: bool) -> None:
    """Also in lockstep, where several images are predicted together."""
    protocol = WHOLE.replace(injection=injection)
    once_per_image = injection == "late" and shortcut
    dataset = FakeDataset(images=3, instances=1)
    calls: list[int] = []

    def upsampler(features: Tensor, image: Tensor) -> Tensor:
        calls.append(1)
        # All images come once for their first click.
        first_of_third = 3 if once_per_image or at_once == 3 else 2 * protocol.max_clicks + 1
        return upsample(features, image) * (float("nan") if len(calls) >= first_of_third else 1.0)

    store = MemoryStore()
    with pytest.raises(NonFiniteError) as caught:
        evaluated(
            small_probe(protocol, upsampler),
            dataset,
            protocol,
            store=store,
            speed=Speed(objects_at_once=at_once, shortcut=shortcut),
        )
    assert caught.value.places[0].startswith("test set 'fake' with upsampler ")
    assert caught.value.places[1] == "image 'fake2', object fake2:1, click 1"
    assert "NaN or infinite" in str(caught.value)
    assert "the same command continues" in str(caught.value)
    assert [evidence.object_id.image for evidence in store.kept] == (["fake0", "fake1"] if at_once == 1 else [])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("injection", ["late", "early", "pre_upsampler"])
@pytest.mark.parametrize("head", ["linear", "conv"])
def test_one_bad_value_in_the_features_stops_the_evaluation(value: float, injection: Injection, head: HeadName) -> None:
    def upsampler(features: Tensor, image: Tensor) -> Tensor:
        upsampled = upsample(features, image)
        upsampled[-1, 3, 5, 7] = value
        return upsampled

    protocol = SMALL.replace(injection=injection, head=head)
    with pytest.raises(NonFiniteError, match="click 1: the prediction is NaN or infinite"):
        evaluated(small_probe(protocol, upsampler), FakeDataset(images=1), protocol)


def test_large_but_finite_logits_are_no_error() -> None:
    large = torch.full((1, 1, 4, 4), 3e38)
    assert finite_logits(large) is large
    large[..., 0, 1], large[..., 2, 3] = float("inf"), float("nan")
    with pytest.raises(NonFiniteError, match="in 2 of 16 pixels"):
        finite_logits(large)
