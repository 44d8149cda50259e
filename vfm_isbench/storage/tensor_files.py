"""Safetensors files: written without a second copy in memory, and read only if their header is what it should be."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from vfm_isbench.storage.atomic import replacing
from vfm_isbench.storage.strict_json import LARGE, UnreadableError, parse_json

MOST_BYTES = 16 * 2**30
"""Bytes of a file. The checkpoint of the paper's protocol has 0.3 GB."""
MOST_HEADER = 32 * 2**20
"""Bytes of a header, which names the tensors and holds our JSON; the paper's has 0.03 MB."""

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
    torch.uint16: "U16",
    torch.uint32: "U32",
    torch.uint64: "U64",
}


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of a safetensors file, and the texts in its header.

    Raises:
        UnreadableError: if it is not a regular file, too large, not safetensors, or its header is refused by
            :func:`vfm_isbench.storage.strict_json.parse_json`.
        OSError: if it cannot be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError("is not a regular file")
        if status.st_size > MOST_BYTES:
            raise UnreadableError(f"is larger than {MOST_BYTES} bytes, the most that is read")
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(MOST_HEADER, status.st_size - 8):
            raise UnreadableError(
                f"is cut short or not a safetensors file: it has {status.st_size} bytes, and its header should have "
                f"{length} (at most {MOST_HEADER} are read)"
            )
        text = file.read(length)
        header = parse_json(text.rstrip(b" "), LARGE)
        if not isinstance(header, dict):
            raise UnreadableError("has a header that is not an object")
        content = start + text + file.read(status.st_size - 8 - length)
    try:
        tensors: dict[str, Tensor] = load(content)
    except Exception as error:  # besides its own error, safetensors raises several for types that PyTorch lacks
        kind = "" if isinstance(error, SafetensorError) else f"{type(error).__name__}: "
        raise UnreadableError(f"is not a safetensors file: {kind}{error}") from error
    metadata = header.get("__metadata__") or {}
    return tensors, {str(key): str(value) for key, value in metadata.items()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors in the safetensors format; at any moment, readers find the old file or the new one.

    The library's own ``save_file`` writes under a hidden name of its own (0.8). After a kill, nobody would know whose
    file that is. Its ``save`` takes twice the memory of the tensors.

    Args:
        path: The file; its folder must exist.
        tensors: Tensors by name; those on other devices are copied one by one.
        metadata: Texts for the header.

    Raises:
        OSError: if the file cannot be written.
    """
    # The larger numbers first, so that all of them are aligned.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            flat = tensor.detach().to("cpu").contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)
