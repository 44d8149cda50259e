"""A run on a GPU says which one."""

from __future__ import annotations

import pytest
import torch
from tiny import TINY

from vfm_isbench import Benchmark


def test_a_gpu_is_named(card: torch.device, capsys: pytest.CaptureFixture[str]) -> None:
    Benchmark(TINY, device=card).run("bilinear")
    assert torch.cuda.get_device_name() in capsys.readouterr().err
