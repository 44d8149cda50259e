"""Describes the software and hardware of a run, for the result file."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from vfm_isbench.storage.hashing import code_sha256

_PACKAGES = ("vfm_isbench", "torch", "torchvision", "timm", "numpy", "scipy", "pillow")

_PACKAGE = Path(__file__).resolve().parents[1]

_NUMERIC = (
    "acceleration",
    "backbones",
    "benchmark.py",
    "click_encoders",
    "clicks",
    "datasets",
    "evaluation",
    "heads",
    "kernels",
    "metrics",
    "probe",
    "protocol",
    "runs",
    "training",
    "types.py",
    "upsamplers",
)
"""Rooms and files of this library whose code takes part in a run."""


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


def library_sha256(package: Path = _PACKAGE) -> str | None:
    """Hash of the code of this library that takes part in a run; None if it is not installed as files.

    The version says which code it should be; this says whether somebody edited it.

    Args:
        package: Folder of the package.
    """
    parts = [package / name for name in _NUMERIC]
    if not all(part.exists() for part in parts):
        return None
    return hashlib.sha256("".join(map(code_sha256, parts)).encode()).hexdigest()


def describe_environment(device: torch.device) -> dict[str, str | int | None]:
    """Versions and hardware: library, Python, PyTorch, timm, CUDA, processor and its capability, threads, device."""
    environment: dict[str, str | int | None] = {"python": platform.python_version(), "platform": platform.platform()}
    environment |= package_versions()
    environment["vfm_isbench_code"] = library_sha256()
    environment["cpu"] = _processor()
    # Which kernels PyTorch picks: AVX2, AVX512, DEFAULT, … ATEN_CPU_CAPABILITY can lower it.
    environment["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    environment["cpu_count"] = os.cpu_count()
    environment["threads"] = torch.get_num_threads()
    environment["cuda"] = torch.version.cuda if device.type == "cuda" else None
    environment["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return environment
