"""SHA-256 of files, code and weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    """Hexadecimal hash of a file, read in chunks.

    Raises:
        OSError: if the file cannot be read.
    """
    # MD5 only recognises files that were published with it; nothing depends on it being hard to forge.
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def code_sha256(path: Path) -> str:
    """Hexadecimal hash of a Python file, or of all Python files in a folder: paths and contents, sorted by path."""
    files: Iterable[Path] = [path] if path.is_file() else path.rglob("*.py")
    top = path.parent if path.is_file() else path
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.relative_to(top).as_posix()):
        for part in (file.relative_to(top).as_posix().encode(), file.read_bytes()):
            digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def weights_sha256(module: nn.Module) -> str:
    """Hash over the names and values of a module's parameters and buffers."""
    return tensors_sha256(module.state_dict())


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hash over names, shapes, types and values of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}:{tuple(value.shape)}:{value.dtype}".encode())
        # As bytes, because NumPy lacks some of PyTorch's types.
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
