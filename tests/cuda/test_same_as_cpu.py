"""A CUDA device computes what the CPU computes: logits, gradients, clicks and IoUs, up to rounding."""

from __future__ import annotations

import itertools
from typing import get_args

import numpy as np
import pytest
import torch
from devices import LEARNED, assert_agrees, evidence_of, new_probe, protocol_with, trained_probe

from vfm_isbench.acceleration.cached_probe import CachedProbe, UncachedProbe
from vfm_isbench.acceleration.speed import Speed
from vfm_isbench.probe import Probe
from vfm_isbench.probe.torch_state import benchmark_settings
from vfm_isbench.protocol import Protocol
from vfm_isbench.protocol.validation import HeadName, Injection
from vfm_isbench.testing.fakes import FakeDataset
from vfm_isbench.training import TrainingSamples, normalized_focal_loss
from vfm_isbench.training.prediction import predict_batch
from vfm_isbench.training.samples import collate
from vfm_isbench.upsamplers import check_upsampler, list_upsamplers

pytestmark = pytest.mark.cuda

LOGITS_TOLERANCE = 2e-4
"""Largest difference of a logit, relative to the largest logit."""

GRADIENT_TOLERANCE = 2e-3
"""Largest difference of a weight's gradient, relative to its norm."""

UPSAMPLERS = [*list_upsamplers(), *LEARNED]
CASES = [
    *((name, "late", "conv") for name in UPSAMPLERS),
    *((name, injection, "conv") for name in ("bilinear", "jbu", *LEARNED) for injection in ("early", "pre_upsampler")),
    *itertools.product(("bilinear", "loftup"), ("late", "early"), ("linear",)),
    ("identity", "late", "pyramid"),
    ("bilinear", "late", "upsampled_pyramid"),
    ("jbu", "early", "upsampled_pyramid_full"),
]


def of_case(name: str, injection: Injection, head: HeadName) -> Protocol:
    encoder = "patch_embedding" if injection == "early" else "simple_vit"
    return protocol_with(injection=injection, head=head, click_encoder=encoder, pyramid_width=8)


def test_the_cases_name_every_injection_and_head() -> None:
    assert {case[1] for case in CASES} == set(get_args(Injection))
    assert {case[2] for case in CASES} == set(get_args(HeadName))


@pytest.mark.parametrize(("name", "injection", "head"), CASES)
def test_clicks_and_ious(name: str, injection: Injection, head: HeadName, device: torch.device) -> None:
    protocol = of_case(name, injection, head)
    expected = evidence_of(trained_probe(name, protocol), protocol)
    assert np.ptp([evidence.ious for evidence in expected]) > 0.05, "predictions follow the clicks"
    assert_agrees(expected, evidence_of(trained_probe(name, protocol, device), protocol))


@pytest.mark.parametrize(("name", "injection", "head"), CASES)
def test_logits(name: str, injection: Injection, head: HeadName, device: torch.device) -> None:
    protocol = of_case(name, injection, head)
    expected = _logits(UncachedProbe(trained_probe(name, protocol)))
    probe = trained_probe(name, protocol, device)
    for network in (UncachedProbe(probe), CachedProbe(probe)):
        _assert_close(_logits(network), expected, LOGITS_TOLERANCE * float(expected.abs().max()))


@pytest.mark.parametrize(("name", "injection", "head"), CASES)
def test_gradients_of_a_training_step(name: str, injection: Injection, head: HeadName, device: torch.device) -> None:
    protocol = of_case(name, injection, head).replace(max_iterative_clicks=0)
    expected = _gradients(new_probe(name, protocol), protocol)
    found = _gradients(new_probe(name, protocol).to(device), protocol)
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        difference = torch.linalg.vector_norm(found[key] - gradient)
        assert difference <= GRADIENT_TOLERANCE * torch.linalg.vector_norm(gradient) + 1e-7, key


@pytest.mark.parametrize("name", UPSAMPLERS)
def test_the_contract_holds_including_steps_and_strips(name: str, device: torch.device) -> None:
    probe = new_probe(name, protocol_with()).to(device)
    report = check_upsampler(
        probe.upsampler, channels=8, grid=(4, 4), image_size=(56, 56), device=device, needs_gradient=True
    )
    assert report.deterministic and report.batch_independent


@pytest.mark.parametrize("name", ["bilinear", "loftup"])
def test_the_whole_network_for_every_click_gives_the_same(name: str, device: torch.device) -> None:
    protocol = protocol_with()
    probe = trained_probe(name, protocol, device)
    assert_agrees(evidence_of(probe, protocol, Speed(shortcut=False)), evidence_of(probe, protocol))


@benchmark_settings()
def _logits(network: UncachedProbe | CachedProbe) -> torch.Tensor:
    images, click_maps = (torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    with torch.no_grad():
        encoded = network.encode(images.to(network.device))
        return network.logits(encoded, click_maps.to(network.device)).cpu()


@benchmark_settings()
def _gradients(probe: Probe, protocol: Protocol) -> dict[str, torch.Tensor]:
    samples = TrainingSamples(FakeDataset(), protocol)
    batch = collate([samples[0, item] for item in range(4)])
    logits, targets = predict_batch(probe, batch, protocol, np.random.default_rng(0))
    torch.autograd.backward(normalized_focal_loss(logits, targets).mean())
    parameters = probe.trainable().named_parameters()
    return {name: value.grad.cpu() for name, value in parameters if value.grad is not None}


def _assert_close(found: torch.Tensor, expected: torch.Tensor, within: float) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=within)
