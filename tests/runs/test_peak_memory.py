"""Peak memory: that of the card since counting began, elsewhere that of the process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from small import SMALL, small_probe

from vfm_isbench.results import Result
from vfm_isbench.runs import TrainedProbe, measure
from vfm_isbench.runs.peak_memory import peak_bytes, start_counting
from vfm_isbench.testing.fakes import FakeDataset
from vfm_isbench.upsamplers import check_upsampler, identity_of

CPU = torch.device("cpu")


def measured(training: int | None) -> Result:
    probe = small_probe()
    trained = TrainedProbe(
        probe=probe,
        protocol=SMALL,
        upsampler=identity_of(probe.upsampler),
        contract=check_upsampler(probe.upsampler, channels=8, grid=(2, 2), image_size=(28, 28)),
        behaviour={"upsampler": None, "backbone": None},
        training_peak_bytes=training,
    )
    return measure(trained, [FakeDataset(images=1)])


def test_the_peak_of_a_process_is_what_the_system_says() -> None:
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("needs Linux, which tells it in two ways")
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    assert peak_bytes(CPU) == pytest.approx(1024 * int(line.split()[1]), rel=0.05)


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_bytes(CPU) is None
    assert measured(training=None).peak_memory == {}


def test_counting_starts_anew_on_the_card_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    card, counted = torch.device("cuda", 1), []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", counted.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 5 if device == card else 7)
    start_counting(card)
    start_counting(CPU)
    assert counted == [card]
    assert peak_bytes(card) == 5


def test_a_result_holds_the_peaks_of_training_and_evaluation() -> None:
    found = measured(training=3 * 2**29)
    assert found.peak_memory["training"] == 3 * 2**29
    assert 2**24 < found.peak_memory["evaluation"] < 2**40
    assert "\npeak memory: training 1.50 GiB, evaluation " in str(found)
    assert list(measured(training=None).peak_memory) == ["evaluation"], "trained elsewhere"
