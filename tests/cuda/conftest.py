"""The device of these tests: CUDA, or another one that tries out the tests themselves."""

from __future__ import annotations

import os

import pytest
import torch

from vfm_isbench.probe.preparation import choose_device


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The device that is compared with the CPU."""
    name = os.environ.get("VFM_ISBENCH_TEST_DEVICE", "cuda")
    if name.startswith("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device; VFM_ISBENCH_TEST_DEVICE=cpu tries out the test itself on the CPU")
    return choose_device(name)


@pytest.fixture
def card(device: torch.device) -> torch.device:
    """The device, for what only CUDA devices do."""
    if device.type != "cuda":
        pytest.skip("needs a CUDA device")
    return device
