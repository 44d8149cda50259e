"""Several CUDA devices, played by the CPU: which one is chosen and current, whose random numbers come back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from vfm_isbench import Benchmark
from vfm_isbench.errors import RunError
from vfm_isbench.probe.preparation import choose_device
from vfm_isbench.probe.torch_state import current_device, own_random_numbers, settings_restored


class Cards:
    """Two CUDA devices without hardware: their numbers, and a random generator for each."""

    def __init__(self) -> None:
        self.current = 0
        self.generators = (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2))

    def drawn(self) -> list[float]:
        return [float(torch.rand(1, generator=generator)) for generator in self.generators]

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        before, self.current = self.current, device.index
        yield
        self.current = before


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Cards:
    made = Cards()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Card {'AB'[index]}")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: made.current)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: setattr(made, "current", index))
    monkeypatch.setattr(torch.cuda, "device", made.device)
    monkeypatch.setattr(torch.cuda, "default_generators", made.generators)
    return made


@pytest.mark.usefixtures("cards")
@pytest.mark.parametrize("device", ["cuda:2", "cuda:7", torch.device("cuda", 2)])
def test_a_number_that_is_too_high_is_refused_with_the_devices_there_are(device: str | torch.device) -> None:
    with pytest.raises(RunError, match=rf"'{device}': PyTorch finds cuda:0 \(Card A\), cuda:1 \(Card B\)"):
        Benchmark("demo", device=device)


def test_a_device_comes_with_its_number(monkeypatch: pytest.MonkeyPatch, cards: Cards) -> None:
    cards.current = 1

    def empty(*_size: int, device: torch.device) -> torch.Tensor:
        tensor = torch.zeros(1)
        place = torch.device("cuda", cards.current if device.index is None else device.index)
        return type("OnCard", (), {"device": place, "value": tensor})()  # type: ignore[no-any-return]

    monkeypatch.setattr(torch, "empty", empty)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda", 1)
    assert choose_device("cuda:0") == torch.device("cuda", 0)


def test_the_cpu_stays_the_cpu(cards: Cards) -> None:
    assert choose_device("cpu") == torch.device("cpu")
    with current_device(torch.device("cpu")):
        assert cards.current == 0


def test_code_of_others_that_says_cuda_runs_on_the_chosen_card(cards: Cards) -> None:
    with current_device(torch.device("cuda", 1)):
        assert cards.current == 1
    assert cards.current == 0


def test_foreign_code_may_choose_another_card(cards: Cards) -> None:
    with settings_restored():
        torch.cuda.set_device(1)
        assert cards.current == 1
    assert cards.current == 0


def test_foreign_code_may_seed_one_card_or_all(cards: Cards) -> None:
    untouched = Cards().drawn()
    with settings_restored():
        cards.generators[1].manual_seed(9)
        cards.drawn()
    first, second = cards.drawn()
    assert second == untouched[1], "what was seeded is as before"
    assert first != untouched[0], "what only drew goes on"


def test_the_benchmark_seeds_no_card_of_the_caller(cards: Cards) -> None:
    untouched, on_cpu = Cards().drawn(), torch.get_rng_state()
    with own_random_numbers():
        torch.manual_seed(3)
        for generator in cards.generators:
            generator.manual_seed(3)
    assert cards.drawn() == untouched
    assert torch.equal(torch.get_rng_state(), on_cpu)


@pytest.mark.parametrize("device", ["gpu", "warp"])
def test_a_device_that_does_not_exist_is_refused_with_the_usual_ones(device: str) -> None:
    with pytest.raises(RunError) as caught:
        choose_device(device)
    assert str(caught.value) == f"there is no device {device!r}; choose 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'"
