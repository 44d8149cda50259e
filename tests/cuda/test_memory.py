"""Memory of a device: what a result says of it, and what happens when there is not enough."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from devices import CHANNELS, evidence_of, protocol_with, trained, trained_probe, upsampler_called
from small import SMALL
from torch import Tensor

from vfm_isbench import Benchmark, Result, VfmIsbenchWarning
from vfm_isbench.acceleration.speed import Speed
from vfm_isbench.errors import OutOfMemoryError, RunError, StoppedError
from vfm_isbench.probe import Probe, build_probe
from vfm_isbench.testing.fakes import FakeBackbone
from vfm_isbench.training.samples import Batch

pytestmark = pytest.mark.cuda

SCENES = {"train_dataset": "scenes", "validation_dataset": "scenes", "test_datasets": ("scenes",), "object_limit": 2}
MOST_AT_ONCE = 4
"""Images in a batch for which there is memory: two objects with their mirror images."""


def raises(_images: Tensor) -> None:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def allocates(images: Tensor) -> None:
    """Take up memory until none is left; what was taken is free again after the error."""
    held, size = [], 2**33 if images.device.type == "cuda" else 2**60  # more than any process may have on a CPU
    while True:
        held.append(torch.empty(size, dtype=torch.uint8, device=images.device))


class Demanding(FakeBackbone):
    """A backbone for which there is memory for a few images only."""

    def __init__(self, failing: Callable[[Tensor], None], most: int) -> None:
        super().__init__(CHANNELS)
        self.failing, self.most = failing, most

    def forward(self, image: Tensor, click_tokens: Tensor | None = None) -> Tensor:
        if len(image) > self.most:
            self.failing(image)
        return super().forward(image, click_tokens)


def demanding_probe(failing: Callable[[Tensor], None], device: torch.device, most: int = MOST_AT_ONCE) -> Probe:
    """A trained probe whose backbone has little memory."""
    protocol = protocol_with()
    modest = trained_probe("bilinear", protocol, device)
    probe = build_probe(protocol, Demanding(failing, most), upsampler_called("bilinear")).to(device)
    probe.load_state_dict(modest.state_dict())
    return probe.eval()


@pytest.mark.parametrize("failing", [raises, allocates])
def test_an_evaluation_goes_on_with_fewer_objects_at_once(
    failing: Callable[[Tensor], None], device: torch.device
) -> None:
    protocol = protocol_with()
    expected = evidence_of(trained_probe("bilinear", protocol, device), protocol, Speed(objects_at_once=2))
    with pytest.warns(VfmIsbenchWarning, match="memory ran out"):
        found = evidence_of(demanding_probe(failing, device), protocol, Speed(objects_at_once=8))
    assert [one.clicks for one in found] == [one.clicks for one in expected]
    assert [one.ious for one in found] == [pytest.approx(one.ious, abs=0.01) for one in expected]


@pytest.mark.parametrize("failing", [raises, allocates])
def test_an_evaluation_stops_if_there_is_no_memory_for_one_object(
    failing: Callable[[Tensor], None], device: torch.device
) -> None:
    with pytest.raises(StoppedError, match="memory"):
        evidence_of(demanding_probe(failing, device, most=1), protocol_with(), Speed(objects_at_once=1))


def run_on(device: torch.device | str, monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.setattr("vfm_isbench.benchmark.load_backbone", lambda *_, **__: FakeBackbone(CHANNELS))
    return Benchmark(protocol_with(**SCENES), device=device, progress=False).run("bilinear")


def test_a_result_tells_the_peak_of_the_card(card: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    large = torch.empty(2**30, dtype=torch.uint8, device=card)
    del large  # an earlier peak of the process, which is not that of the run
    found = run_on(card, monkeypatch)
    assert set(found.peak_memory) == {"training", "evaluation"}
    assert all(2**10 < count < 2**29 for count in found.peak_memory.values())
    assert "peak memory: training " in str(found)


def test_a_run_names_its_card(card: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    last, before = torch.cuda.device_count() - 1, torch.cuda.current_device()
    assert card.type == "cuda"
    found = run_on(f"cuda:{last}", monkeypatch)
    assert found.environment["device"] == torch.cuda.get_device_name(last)
    assert found.environment["cuda"] == torch.version.cuda
    assert torch.cuda.current_device() == before, "the caller's device is as before"


def test_a_card_that_is_not_there_is_refused(card: torch.device) -> None:
    assert card.type == "cuda"
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(RunError, match=rf"no device '{missing}': PyTorch finds cuda:0 \("):
        Benchmark(SMALL, device=missing)


def test_batches_come_from_pinned_memory(card: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned, original = [], Batch.pin_memory

    def pin_memory(batch: Batch) -> Batch:
        made = original(batch)
        pinned.append((made.images.is_pinned(), torch.equal(made.images, batch.images)))
        return made

    monkeypatch.setattr(Batch, "pin_memory", pin_memory)
    protocol = protocol_with()
    trained(trained_probe("bilinear", protocol, card), protocol)
    assert pinned and set(pinned) == {(True, True)}


@pytest.mark.parametrize("failing", [raises, allocates])
def test_a_training_stops_and_names_how_many_images_fit(
    failing: Callable[[Tensor], None], device: torch.device
) -> None:
    protocol = protocol_with(max_iterative_clicks=0)
    with pytest.raises(OutOfMemoryError, match=r"memory with 4 images .*images_at_once=2\b"):
        trained(demanding_probe(failing, device, most=2), protocol)
    fitting = trained(demanding_probe(failing, device, most=2), protocol, speed=Speed(images_at_once=2))
    expected = trained(demanding_probe(failing, device), protocol, speed=Speed(images_at_once=2))
    assert all(torch.equal(value, expected[name]) for name, value in fitting.items())
