"""Shared fixtures: where real photographs and recorded numbers lie, if they are there at all."""

from pathlib import Path

import pytest
from hypothesis import settings

# A machine that is busy with other work is no reason to fail.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared_folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs the folder {name}/ of the shared material beside this repository, which is absent")
    return folder


@pytest.fixture(scope="session")
def real_root() -> Path:
    """Photographs with human masks in the four data-set layouts."""
    return _shared_folder("real")


@pytest.fixture(scope="session")
def parity_root() -> Path:
    """Numbers recorded from the reference implementation."""
    return _shared_folder("parity")
