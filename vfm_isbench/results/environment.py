"""Describes the software and hardware of a run, for the result file."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

_PACKAGES = ("vfm_isbench", "torch", "torchvision", "timm", "numpy", "scipy", "pillow")


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def package_versions() -> dict[str, str | None]:
    """Versions of this library and of the packages that every run depends on; None for those that are missing."""
    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    versions["torch"] = torch.__version__  # includes the build (+cu…, +cpu), unlike the package version
    return versions


def describe_environment(device: torch.device) -> dict[str, str | int | None]:
    """Versions and hardware: library, Python, PyTorch, timm, CUDA, processor, threads, device."""
    environment: dict[str, str | int | None] = {"python": platform.python_version(), "platform": platform.platform()}
    environment |= package_versions()
    environment["cpu"] = _processor()
    environment["cpu_count"] = os.cpu_count()
    environment["threads"] = torch.get_num_threads()
    environment["cuda"] = torch.version.cuda if device.type == "cuda" else None
    environment["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return environment
