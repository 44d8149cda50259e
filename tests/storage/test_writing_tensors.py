"""Files of tensors are safetensors files, written like all others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, load_file, save_file

from vfm_isbench.storage.tensor_files import _DTYPES, write_tensors


def test_the_library_reads_what_was_written(tmp_path: Path) -> None:
    tensors = {
        f"{dtype} {shape}": torch.randn(shape).mul(100).to(dtype)
        for dtype in _DTYPES
        for shape in ((), (3,), (5, 1, 7))
    }
    tensors |= {"none": torch.empty(0, 3), "é": torch.arange(12.0).view(3, 4).T, "b": torch.tensor([torch.nan, -0.0])}
    path = tmp_path / "tensors.safetensors"
    write_tensors(path, tensors, {"about": '"é" \n'})
    for found in (load_file(path), load(path.read_bytes())):
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
            assert found[name].reshape(-1).view(torch.uint8).tolist() == (
                tensor.contiguous().reshape(-1).view(torch.uint8).tolist()
            )
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"about": '"é" \n'}
    assert list(tmp_path.iterdir()) == [path]


def test_the_data_are_those_that_the_library_writes(tmp_path: Path) -> None:
    tensors = {name: torch.randn(4, 5) for name in "cab"}
    write_tensors(tmp_path / "ours", tensors, {})
    save_file(tensors, tmp_path / "theirs")
    ours, theirs = ((tmp_path / name).read_bytes()[-3 * 80 :] for name in ("ours", "theirs"))
    assert ours == theirs


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_tensors(tmp_path / "none" / "file", {"a": torch.ones(1)}, {})
