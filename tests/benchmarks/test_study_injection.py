"""What the study of injection records: gradient norms of every step of a real run, and the reach of a click."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from small import SMALL, small_probe
from torch import Tensor

from vfm_isbench import Protocol
from vfm_isbench.acceleration.speed import RunOptions
from vfm_isbench.testing.fakes import FakeDataset
from vfm_isbench.training import TrainingSamples, train

RECIPES = Path(__file__).parents[2] / "benchmarks" / "recipes"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(RECIPES))
    yield importlib.import_module("study_injection")
    for name in [name for name in sys.modules if name == "study" or name.startswith(("study.", "study_"))]:
        del sys.modules[name]


def test_every_step_of_a_training_is_recorded(recipe: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs of two steps; each norm is that of the gradient that the optimiser used."""
    protocol = SMALL.replace(epochs=2, milestones=())
    probe, samples = small_probe(protocol), TrainingSamples(FakeDataset(), protocol)
    of_head = len(list(probe.head.parameters()))
    assert of_head == 2 * protocol.head_layers + 2
    expected: list[list[float]] = []
    step = torch.optim.Adam.step

    def watched(optimizer: torch.optim.Adam, *given: Any) -> Any:
        parts = probe.click_encoder, probe.head
        expected.append([float(torch.cat([w.grad.flatten() for w in part.parameters()]).norm()) for part in parts])
        return step(optimizer, *given)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    steps: dict[str, list[float]] = {}
    with recipe.recorded_norms(of_head, steps):
        train(probe, samples, None, options=RunOptions(progress=False))
    assert list(steps) == ["0", "1", "2", "3"]
    np.testing.assert_allclose(list(steps.values()), expected, rtol=1e-4)
    curve = recipe.gradient_curve(steps, points=2)
    assert curve["step"] == [0.5, 2.5]
    assert curve["ratio"][0] == pytest.approx(np.median([one / other for one, other in expected[:2]]), rel=1e-3)


def test_a_traced_run_writes_what_it_recorded(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(words: list[str]) -> int:
        weights = [torch.ones(2, requires_grad=True) for _ in range(5)]  # the head of the demo has four of them
        optimizer = torch.optim.Adam(weights)
        for weight in weights:
            weight.grad = torch.tensor([3.0, 4.0])
        optimizer.step()
        return 3

    monkeypatch.setattr(recipe.cli, "main", run)
    assert recipe.traced_run(["run", "bilinear", "--protocol", "demo@2", "--output", str(tmp_path)]) == 3
    content = json.loads((tmp_path / recipe.GRADIENTS).read_text(encoding="utf-8"))
    assert content == {"steps": {"0": [5.0, 10.0]}}


class ByDistance(torch.nn.Module):
    """Logits that change by 1 within 7 pixels of a negative click, and do not depend on anything else."""

    device = torch.device("cpu")

    def forward(self, image: Tensor, click_map: Tensor) -> Tensor:
        grid = torch.arange(image.shape[-1]).float() % 2
        near = torch.nn.functional.max_pool2d(click_map[:, 2:], 5, 1, 2)
        return 2 * grid.expand(1, 1, image.shape[-1], -1) + near


def test_the_reach_of_a_click_is_by_its_distance(recipe: ModuleType) -> None:
    protocol = SMALL.replace(image_size=100)
    mask = np.zeros((100, 100), dtype=np.int8)
    mask[:50, :50] = 1
    image = np.zeros((100, 100, 3), dtype=np.uint8)
    reach = recipe.measure_reach(ByDistance(), protocol, [(image, mask)])
    spread = 1.0
    assert reach[0] == pytest.approx(1 / spread, rel=0.02)
    assert 0 < reach[1] < 1
    assert reach[3:7] == [0, 0, 0, 0]


def test_a_probe_is_measured_as_it_is(recipe: ModuleType) -> None:
    probe = small_probe().eval()
    mask = np.zeros((40, 30), dtype=np.int8)
    mask[10:30, 5:20] = 1
    image = np.random.default_rng(0).integers(0, 255, (40, 30, 3)).astype(np.uint8)
    reach = recipe.measure_reach(probe, SMALL, [(image, mask)])
    assert len(reach) == len(recipe.DISTANCES) - 1 and max(one for one in reach if one is not None) > 0


@pytest.mark.parametrize("name", ["demo", "paper"])
def test_the_cases_differ_in_what_is_compared_only(recipe: ModuleType, name: str) -> None:
    cases = recipe.cases(Protocol.preset(name), Path("weights"))
    assert len(cases) == 12
    first = cases[0].protocol
    compared = {"click_encoder": "simple_vit", "injection": "late", "simple_vit_depth": 6}
    assert {case.protocol.replace(**compared) for case in cases} == {first.replace(**compared)}
    assert len({case.protocol.fingerprint() for case in cases}) == 12
    assert all(("--backbone-weights" in case.options) == (name == "demo") for case in cases)
