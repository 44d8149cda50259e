"""Reads one field of a structure in a MATLAB 5 file, and nothing else of it.

SciPy's reader trusts sizes and types in the file: some damaged files end the whole process with a segmentation fault.
Here every size is checked against what is there.

Source: MathWorks, MAT-File Format, Level 5. Why not SciPy: docs/decisions/0028-reading-mat-files.md.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vfm_isbench.types import Array

MOST_BYTES = 64 * 2**20
"""Bytes of a file; those of SBD have a few thousand."""
MOST_UNPACKED = 512 * 2**20
"""Bytes of a variable after decompression."""

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_STRUCTURE = 2
_NUMERIC = range(6, 16)
"""Classes of arrays of numbers."""
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""numpy's names of the types in which numbers are stored."""


def read_field(content: bytes, variable: str, field: str) -> Array:
    """Read an array of numbers from a field of a variable that is a structure of 1×1.

    Args:
        content: The file.
        variable: Name of the structure.
        field: Name of the field.

    Returns:
        The array in the type that it is stored in.

    Raises:
        KeyError: if there is no such variable.
        ValueError: if the file is broken, not of this format, or holds something else there.
    """
    try:
        return _read_field(content, variable, field)
    except (struct.error, zlib.error, StopIteration, IndexError) as error:
        raise ValueError(f"it is damaged: {error}") from error


def _read_field(content: bytes, variable: str, field: str) -> Array:
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None or content[124:126] not in (b"\x00\x01", b"\x01\x00"):
        raise ValueError("not a MATLAB 5 file")
    for element in _elements(content, _HEADER, order):
        if element.kind == _COMPRESSED:
            element = next(_elements(_unpacked(element.content), 0, order))
        if element.kind == _MATRIX:
            matrix = _Matrix.of(element.content, order)
            if matrix.name == variable:
                return matrix.field(field).numbers()
    raise KeyError(variable)


@dataclass(frozen=True, slots=True)
class _Element:
    """The smallest unit of a file: a type and the bytes that belong to it."""

    kind: int
    content: bytes


@dataclass(frozen=True, slots=True)
class _Matrix:
    """An array of anything: its class, shape and name, and the elements of its content."""

    kind: int
    shape: tuple[int, ...]
    name: str
    rest: tuple[_Element, ...]
    order: str

    @classmethod
    def of(cls, content: bytes, order: str) -> _Matrix:
        elements = tuple(_elements(content, 0, order))
        if len(elements) < 3 or len(elements[0].content) < 4:
            raise ValueError("an array has no flags, size or name")
        flags, size, name, *rest = elements
        (word,) = struct.unpack(f"{order}I", flags.content[:4])
        shape = tuple(np.frombuffer(size.content, f"{order}i4").tolist())
        return cls(word & 0xFF, shape, name.content.decode("latin1"), tuple(rest), order)

    def field(self, name: str) -> _Matrix:
        """The value of a field, if this is one structure."""
        if self.kind != _STRUCTURE or math.prod(self.shape) != 1 or len(self.rest) < 2:
            raise ValueError(f"{self.name} is not a structure of 1×1")
        (length,) = struct.unpack(f"{self.order}i", self.rest[0].content)
        names = self.rest[1].content
        if not 0 < length <= len(names):
            raise ValueError(f"{self.name} has no fields")
        known = [names[at : at + length].split(b"\0")[0].decode("latin1") for at in range(0, len(names), length)]
        values = self.rest[2:]
        if name not in known or len(values) != len(known) or values[known.index(name)].kind != _MATRIX:
            raise ValueError(f"{self.name} has no field {name}")
        return _Matrix.of(values[known.index(name)].content, self.order)

    def numbers(self) -> Array:
        """The numbers, if this is an array of real ones."""
        stored = _STORED.get(self.rest[0].kind) if len(self.rest) == 1 and self.kind in _NUMERIC else None
        if stored is None:
            raise ValueError("not an array of real numbers")
        values: Array = np.frombuffer(self.rest[0].content, f"{self.order}{stored}")
        if min(self.shape, default=0) < 0 or math.prod(self.shape) != len(values):
            raise ValueError(f"an array of size {self.shape} has {len(values)} numbers")
        return values.reshape(self.shape, order="F")


def _elements(content: bytes, start: int, order: str) -> Iterator[_Element]:
    """The elements one after another; each begins with its type and its length."""
    while start < len(content):
        if len(content) - start < 8:
            raise ValueError("it is cut short")
        kind, length = struct.unpack_from(f"{order}II", content, start)
        if kind >> 16:  # at most four bytes, written where the length would be
            kind, length, begin = kind & 0xFFFF, kind >> 16, start + 4
            start += 8
        else:
            begin = start + 8
            start = begin + (length if kind == _COMPRESSED else -(-length // 8) * 8)
        if length > len(content) - begin:
            raise ValueError(f"it is cut short: a part should have {length} bytes, but {len(content) - begin} are left")
        yield _Element(kind, content[begin : begin + length])


def _unpacked(content: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    found = unpacker.decompress(content, MOST_UNPACKED)
    if not unpacker.eof:
        raise ValueError(f"a compressed part is cut short, or has more than {MOST_UNPACKED} bytes")
    return found
