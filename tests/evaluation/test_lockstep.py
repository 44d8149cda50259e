"""Objects in lockstep: how often a device is waited for, what takes turns, and what happens when memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small import SMALL, MemoryStore, evaluated, small_probe
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vfm_isbench.acceleration.cached_probe import CachedImage
from vfm_isbench.acceleration.speed import RunOptions, Speed
from vfm_isbench.acceleration.transfers import Download, upload
from vfm_isbench.errors import OutOfMemoryError, UpsamplerError, VfmIsbenchWarning
from vfm_isbench.evaluation import evaluate_dataset, lockstep, predictor, simulated_user
from vfm_isbench.evaluation.simulated_user import UserOnDevice
from vfm_isbench.protocol.validation import Injection
from vfm_isbench.testing.fakes import FakeDataset, FakeUpsampler
from vfm_isbench.upsamplers import Bilinear, Upsampler


class Waits(TorchDispatchMode):
    """Notes the operations for which a device would have to be waited for."""

    WAITING = (
        torch.ops.aten._local_scalar_dense.default,
        torch.ops.aten.nonzero.default,
        torch.ops.aten.index.Tensor,
        torch.ops.aten.masked_select.default,
        torch.ops.aten.equal.default,
    )

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, _types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if function in self.WAITING:
            self.found.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("injection", ["early", "late", "pre_upsampler"])
@pytest.mark.parametrize("upsampler", [Bilinear(), FakeUpsampler()], ids=repr)
def test_each_click_of_a_group_costs_one_upload_and_one_download(
    injection: Injection, upsampler: Upsampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many objects it has; it also uploads its ground truth and downloads its first clicks."""
    protocol, dataset, groups = SMALL.replace(injection=injection), FakeDataset(images=2), 2
    assert len(dataset.objects) == 2 * groups
    copies = {"upload": 0, "download": 0}

    def counted_upload(values: Tensor, device: torch.device) -> Tensor:
        copies["upload"] += 1
        return upload(values, device)

    def counted_download(values: Tensor) -> Download:
        copies["download"] += 1
        return Download(values)

    for module in (predictor, simulated_user):
        monkeypatch.setattr(module, "upload", counted_upload)
    monkeypatch.setattr(simulated_user, "Download", counted_download)
    speed = Speed(objects_at_once=2, clicks_on_device=True, read_ahead=False)
    with Waits() as waits:
        evaluated(small_probe(protocol, upsampler), dataset, protocol, speed=speed)
    per_group = protocol.max_clicks + 1
    assert copies == {"upload": groups * per_group + len(dataset.image_ids), "download": groups * per_group}
    assert waits.found == []


def test_groups_take_turns_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the answer for one group is computed, the next group is prepared."""
    order: list[int] = []
    known: list[UserOnDevice] = []
    show = UserOnDevice.show

    def noted(user: UserOnDevice, *arguments: Any) -> None:
        if user not in known:
            known.append(user)
        order.append(known.index(user))
        show(user, *arguments)

    monkeypatch.setattr(UserOnDevice, "show", noted)
    speed = Speed(objects_at_once=2, clicks_on_device=True)
    evaluated(small_probe(), FakeDataset(images=2), SMALL, speed=speed)
    assert order == [0, 1] * SMALL.max_clicks


def hungry(forward: Callable[..., Tensor], most: int, failures: list[int]) -> Callable[..., Tensor]:
    """A call that runs out of memory with more than so many images at once."""

    def call(first: Tensor, second: Tensor | None = None) -> Tensor:
        if len(first) > most:
            failures.append(len(first))
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return forward(first, second)

    return call


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("injection", ["early", "late"])
@pytest.mark.parametrize(("most", "size", "halvings"), [(8, 4, 1), (4, 2, 2), (2, 1, 3)])
def test_when_memory_runs_out_fewer_objects_are_clicked_at_once(
    injection: Injection, most: int, size: int, halvings: int, on_device: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In images: each object has two, with its mirror image."""
    dataset, protocol = FakeDataset(images=8, instances=1), SMALL.replace(injection=injection)
    probe = small_probe(protocol, FakeUpsampler())
    expected, _ = evaluated(probe, dataset, protocol)
    failures: list[int] = []
    monkeypatch.setattr(probe.backbone, "forward", hungry(probe.backbone.forward, most, failures))
    speed = Speed(objects_at_once=8, clicks_on_device=on_device)
    with pytest.warns(VfmIsbenchWarning, match="memory ran out with 8 objects at once, so .* went on with"):
        evaluation = evaluate_dataset(probe, dataset, protocol, options=RunOptions(speed=speed, progress=False))
    assert [found.clicks for found in evaluation.evidence] == [found.clicks for found in expected]
    for found, alone in zip(evaluation.evidence, expected, strict=True):
        np.testing.assert_allclose(found.ious, alone.ious, rtol=0, atol=1e-4)
    assert len(evaluation.notes) == 1 and f"--objects-at-once {size}" in evaluation.notes[0]
    assert len(failures) == halvings


def test_the_upsampler_sees_one_object_at_a_time() -> None:
    """With late injection it is called crop by crop; early, after the backbone has seen all objects."""
    failures: list[int] = []
    dataset = FakeDataset(images=2)
    for injection in ("late", "early"):
        protocol = SMALL.replace(injection=injection)
        probe = small_probe(protocol, hungry(FakeUpsampler(), 2, failures))
        evaluated(probe, dataset, protocol, speed=Speed(objects_at_once=8))
    assert failures == []


def test_when_memory_runs_out_with_one_object_the_evaluation_stops() -> None:
    store = MemoryStore()
    with pytest.raises(UpsamplerError, match="(?s)image 'fake0', object fake0:1, click 1.*ran out of memory.*kept"):
        evaluated(small_probe(SMALL, hungry(FakeUpsampler(), 1, [])), FakeDataset(), SMALL, store=store)
    probe = small_probe()
    probe.backbone.forward = hungry(probe.backbone.forward, 1, [])  # type: ignore[method-assign]
    with pytest.raises(OutOfMemoryError, match="(?s)memory ran out with a single object.*Tried to allocate 20 GiB"):
        evaluated(probe, FakeDataset(), SMALL, store=store)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def broken(_features: Tensor, _image: Tensor) -> Tensor:
        raise RuntimeError("no kernel image is available")

    with pytest.raises(UpsamplerError, match="no kernel image"):
        evaluated(small_probe(SMALL, broken), FakeDataset(), SMALL, speed=Speed(objects_at_once=4))


def test_encoded_crops_are_dropped_before_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise they would go on filling the memory that ran out."""
    alive: list[int] = []
    monkeypatch.setattr(
        lockstep, "free_memory", lambda _: alive.append(sum(type(one) is CachedImage for one in gc.get_objects()))
    )
    probe = small_probe(SMALL.replace(injection="early"), FakeUpsampler())
    monkeypatch.setattr(probe.backbone, "forward", hungry(probe.backbone.forward, 4, []))
    gc.collect()
    with pytest.warns(VfmIsbenchWarning, match="memory ran out"):
        evaluated(probe, FakeDataset(images=2), SMALL, speed=Speed(objects_at_once=4))
    assert alive == [0]
