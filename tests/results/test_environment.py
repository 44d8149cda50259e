"""What is recorded about the machine."""

from __future__ import annotations

import json

import torch

from vfm_isbench.results import describe_environment


def test_versions_and_hardware() -> None:
    environment = describe_environment(torch.device("cpu"))
    assert environment["torch"] == torch.__version__
    assert environment["device"] == "cpu" and environment["cuda"] is None
    assert environment["cpu"] and isinstance(environment["cpu_count"], int)
    for package in ("vfm_isbench", "torchvision", "timm", "numpy", "scipy", "python"):
        assert environment[package], package
    assert json.loads(json.dumps(environment)) == environment
