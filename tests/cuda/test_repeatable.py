"""Runs on a device repeat bit by bit: twice, after an interruption, in other groups, on another stream."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from devices import (
    CHANNELS,
    assert_agrees,
    checkpoints,
    evidence_of,
    new_probe,
    protocol_with,
    trained,
    trained_probe,
    weights_of,
)

from vfm_isbench import Benchmark, evaluate_checkpoint
from vfm_isbench.acceleration.speed import Speed
from vfm_isbench.protocol import Protocol
from vfm_isbench.protocol.validation import Injection
from vfm_isbench.runs import checkpoints as loading
from vfm_isbench.testing.fakes import FakeBackbone

pytestmark = pytest.mark.cuda

CASES = [
    ("bilinear", "late"),
    ("bilinear", "early"),
    ("loftup", "late"),
    ("loftup", "early"),
    ("featup", "late"),
    ("two steps", "pre_upsampler"),
]
SCENES = {"train_dataset": "scenes", "validation_dataset": "scenes", "test_datasets": ("scenes",), "object_limit": 3}


def of_case(injection: Injection) -> Protocol:
    return protocol_with(injection=injection, click_encoder="patch_embedding" if injection == "early" else "simple_vit")


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    different = [name for name, value in one.items() if not torch.equal(value, other[name])]
    assert not different, "bit by bit"


@pytest.mark.parametrize(("name", "injection"), CASES)
def test_the_same_run_twice(name: str, injection: Injection, device: torch.device) -> None:
    protocol = of_case(injection)
    probes = [new_probe(name, protocol).to(device) for _ in range(2)]
    assert_equal(*(trained(probe, protocol) for probe in probes))
    one, other = (evidence_of(probe, protocol) for probe in probes)
    assert one == other


@pytest.mark.parametrize(("name", "injection"), CASES)
def test_an_interrupted_training_ends_as_if_it_had_not_been(
    name: str, injection: Injection, device: torch.device
) -> None:
    protocol = of_case(injection)
    whole = new_probe(name, protocol).to(device)
    first, _ = checkpoints(whole, protocol)
    resumed = new_probe(name, protocol).to(device)
    (last,) = checkpoints(resumed, protocol, start=first)
    assert last.is_complete
    assert_equal(weights_of(whole), weights_of(resumed))


def test_workers_with_pinned_memory_change_nothing(device: torch.device) -> None:
    protocol = protocol_with()
    probes = [new_probe("bilinear", protocol).to(device) for _ in range(2)]
    assert_equal(trained(probes[0], protocol), trained(probes[1], protocol, workers=2))


@pytest.mark.parametrize("name", ["bilinear", "loftup", "two steps"])
@pytest.mark.parametrize("injection", ["late", "early"])
def test_the_number_of_objects_at_once_changes_no_click(name: str, injection: Injection, device: torch.device) -> None:
    protocol = of_case(injection)
    probe = trained_probe(name, protocol, device)
    alone = evidence_of(probe, protocol, Speed(objects_at_once=1))
    for together in (3, 8):
        assert_agrees(alone, evidence_of(probe, protocol, Speed(objects_at_once=together)))


def test_the_user_on_the_device_clicks_like_the_user_on_the_cpu(device: torch.device) -> None:
    protocol = protocol_with(max_clicks=12)
    probe = trained_probe("loftup", protocol, device)
    for together in (1, 8):
        speeds = [Speed(objects_at_once=together, clicks_on_device=on_device) for on_device in (True, False)]
        one, other = (evidence_of(probe, protocol, speed) for speed in speeds)
        assert one == other


def test_on_a_stream_of_the_caller(device: torch.device) -> None:
    protocol = protocol_with()
    plain = new_probe("loftup", protocol).to(device)
    weights, evidence = trained(plain, protocol), evidence_of(plain, protocol)
    beside = new_probe("loftup", protocol).to(device)
    with _other_stream(device):
        assert_equal(trained(beside, protocol), weights)
        assert evidence_of(beside, protocol) == evidence


def _other_stream(device: torch.device) -> AbstractContextManager[object]:
    if device.type != "cuda":
        return nullcontext()
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    return torch.cuda.stream(stream)


def test_what_was_trained_on_the_device_is_evaluated_on_the_cpu(
    device: torch.device, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("vfm_isbench.benchmark", loading.__name__):
        monkeypatch.setattr(f"{module}.load_backbone", lambda *_, **__: FakeBackbone(CHANNELS))
    protocol = protocol_with(**SCENES)
    there = Benchmark(protocol, device=device, output_dir=tmp_path, progress=False).run("bilinear")  # type: ignore[arg-type]
    here = evaluate_checkpoint(tmp_path, device="cpu", progress=False)  # type: ignore[arg-type]
    assert here.environment["device"] == "cpu"
    assert_agrees(there.datasets["scenes"].objects, here.datasets["scenes"].objects)
