"""Headers of safetensors files are checked before anything large is read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vfm_isbench.storage.strict_json import UnreadableError
from vfm_isbench.storage.tensor_files import MOST_BYTES, read_tensors


def written(path: Path, header: bytes, rest: bytes = b"", length: int | None = None) -> Path:
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + rest)
    return path


def one(**changes: object) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}).encode()


def test_tensors_and_texts_come_back(tmp_path: Path) -> None:
    save_file({"a": torch.arange(3.0)}, tmp_path / "a", metadata={"note": "x"})
    tensors, texts = read_tensors(tmp_path / "a")
    assert tensors["a"].tolist() == [0, 1, 2] and texts == {"note": "x"}
    assert read_tensors(written(tmp_path / "b", one(shape=[0], data_offsets=[0, 0])))[0]["a"].shape == (0,)


OVERLAP = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'


@pytest.mark.parametrize(
    ("header", "length", "reason"),
    [
        (one(), 2**63, "its header should have 9223372036854775808"),
        (one(), 2**30, "cut short or not a safetensors file"),
        (b"[]", None, "not an object"),
        (b"[" * 9999 + b"]" * 9999, None, "deeper"),
        (b'{"a":1,"a":2}', None, "'a' twice"),
        (b"\xff", None, "not UTF-8"),
        (one(shape=[2**62, 2**62]), None, "not a safetensors file"),
        (one(shape=[-1]), None, "not a safetensors file"),
        (one(shape=[3]), None, "not a safetensors file"),
        (one(dtype="F99"), None, "not a safetensors file"),
        (OVERLAP, None, "not a safetensors file"),
    ],
)
def test_absurd_headers_are_refused(tmp_path: Path, header: bytes, length: int | None, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        read_tensors(written(tmp_path / "a", header, b"\0" * 8, length))


def test_what_is_too_large_or_a_pipe_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MOST_BYTES + 1)  # takes no room
    with pytest.raises(UnreadableError, match="larger than"):
        read_tensors(tmp_path / "large")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(UnreadableError, match="not a regular file"):
            read_tensors(tmp_path / "pipe")
