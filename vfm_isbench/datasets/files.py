"""Reads files of published data sets: folders, pictures and plain pickles, with errors that name the file."""

from __future__ import annotations

import io
import pickle  # nosec B403 # _PlainUnpickler below resolves no names
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vfm_isbench.errors import DataError
from vfm_isbench.types import Array

BROKEN_FILE_ERRORS = (
    *(OSError, EOFError, ValueError, TypeError, SyntaxError, IndexError, OverflowError, MemoryError),
    *(struct.error, zlib.error),
)
"""Errors that decoders raise for damaged files; Pillow: SyntaxError for some PNGs, MemoryError for absurd sizes."""

EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})

LOSSY_FORMATS = frozenset({"JPEG", "MPO", "JPEG2000", "WEBP", "AVIF"})
"""Pillow's names of formats that may change pixel values when a picture is saved."""

ORIENTATION_TAG, UPRIGHT = 0x0112, 1
_TURNED = frozenset(range(2, 9))
"""EXIF orientations that mirror or turn the stored pixels."""

SYSTEM_FILES = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX"})
"""Left by file managers and archivers; like names with a leading dot, they do not belong to any data set."""

LISTED_NAMES = 8
"""Number of names that an error quotes before it counts the rest."""


def some_names(names: Iterable[str]) -> str:
    """Quote the first names and count the others, for messages: ``a, b and 3 more``."""
    every = list(names)
    more = len(every) - LISTED_NAMES
    return ", ".join(every[:LISTED_NAMES]) + (f" and {more} more" if more > 0 else "")


def list_entries(folder: Path) -> list[Path]:
    """Entries of a folder sorted by name, without hidden entries and the leftovers of file managers."""
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.name not in SYSTEM_FILES)
    return sorted(entries, key=lambda entry: entry.name)


def check_layout(root: Path, *, folders: Sequence[str], files: Sequence[str] = ()) -> None:
    """Check that a data set's folder has the expected layout.

    Args:
        root: The data set's folder, for example ``data_root / "GrabCut"``.
        folders: Names of the folders it must contain.
        files: Names of the files it must contain.

    Raises:
        DataError: if something is missing; the message gives the expected layout, what was found instead and, if a
            folder nearby has that layout, how to use it.
    """
    if _has_layout(root, folders, files):
        return
    missing = [f"{name}/" for name in folders if not (root / name).is_dir()]
    missing += [name for name in files if not (root / name).is_file()]
    expected = ", ".join([f"{root.name}/{name}/" for name in folders] + [f"{root.name}/{name}" for name in files])
    present = next((folder for folder in (root, root.parent) if folder.is_dir()), None)
    if present is None:
        found = f"there is no folder {root.parent}"
    else:
        names = [entry.name + "/" * entry.is_dir() for entry in list_entries(present)]
        found = f"{present} holds {some_names(names) or 'nothing'}"
        if present != root:
            found = f"there is no folder {root}; {found}"
    raise DataError(
        f"{root.name}: {', '.join(missing)} not found. Expected under the data root {root.parent}: {expected}. "
        f"Found: {found}. {_layout_hint(root, folders, files)}"
    )


def _has_layout(root: Path, folders: Sequence[str], files: Sequence[str]) -> bool:
    return all((root / name).is_dir() for name in folders) and all((root / name).is_file() for name in files)


def _layout_hint(root: Path, folders: Sequence[str], files: Sequence[str]) -> str:
    """Advice for common mistakes: a data root one level too deep, or an archive unpacked with its outer folders."""
    candidate = find_layout(root, folders, files)
    if candidate is None:
        return f"Give the folder that contains {root.name}/ as the data root, or put the data set there."
    advice = (
        f"give {candidate.parent} as the data root"
        if candidate.name == root.name
        else f"rename or link it to a folder called {root.name}, and give that folder's parent as the data root"
    )
    return f"{candidate} has this layout: if it is the data set, {advice}."


def find_layout(root: Path, folders: Sequence[str], files: Sequence[str]) -> Path | None:
    """A folder near ``root`` that has the layout which ``root`` should have; None if there is none."""
    return next((folder for folder in _folders_nearby(root) if _has_layout(folder, folders, files)), None)


def _folders_nearby(root: Path) -> Iterator[Path]:
    yield root.parent
    # Two levels down, because the SBD archive unpacks to benchmark_RELEASE/dataset.
    for start, depth in ((root, 2), (root.parent, 1)):
        level = [start]
        for _ in range(depth):
            level = [entry for folder in level if folder.is_dir() for entry in list_entries(folder) if entry.is_dir()]
            yield from level


class PictureBytes:
    """A picture file in memory.

    Args:
        name: What messages call it.
        content: The bytes of the file.
    """

    def __init__(self, name: str, content: bytes) -> None:
        self.name = name
        self.content = content

    def __str__(self) -> str:
        return self.name


def open_picture(source: Path | PictureBytes) -> Image.Image:
    """Open a picture with Pillow, which reads its pixels later; raises Pillow's errors."""
    return Image.open(io.BytesIO(source.content) if isinstance(source, PictureBytes) else source)


def read_rgb(path: Path | PictureBytes) -> Array:
    """Read a photograph as colours.

    Palette files give their palette's colours, as viewers show them; gray files give three equal channels; alpha
    channels are dropped.

    Returns:
        RGB, H×W×3, uint8, writable.

    Raises:
        DataError: if the file is missing, broken, truncated or absurdly large, has more than 8 bits per channel, or is
            stored in another orientation than viewers show it.
    """
    return _read_picture(path)[0]


def read_mask(path: Path) -> Array:
    """Read a mask file as colours, like :func:`read_rgb`.

    Raises:
        DataError: as :func:`read_rgb`; also if the format is lossy, or if transparency, which is not read, may be part
            of the drawing.
    """
    colours, alpha, stored_as = _read_picture(path)
    if stored_as in LOSSY_FORMATS:
        values = some_names(map(str, np.unique(colours)))
        raise DataError(
            f"{path}: the mask is stored as {stored_as}, which changes pixel values near outlines (here: {values})"
            ". Expected a format without loss, such as PNG or BMP. Use the original mask: converting this one does "
            "not restore it."
        )
    if alpha is not None:
        raise DataError(
            f"{path}: the mask has transparent pixels (alpha values {some_names(map(str, np.unique(alpha)))}), but "
            "only its colours are read. Save the mask in opaque gray or colours."
        )
    return colours


def _read_picture(path: Path | PictureBytes) -> tuple[Array, Array | None, str | None]:
    """Colours (RGB, H×W×3), alpha (H×W) if it says more than the colours, and the name of the file format."""
    try:
        with open_picture(path) as picture:
            _check_depth(path, picture)
            has_channel = "A" in picture.mode
            if has_channel or "transparency" in picture.info:
                # Pillow warns when a palette with transparent entries goes straight to RGB.
                rgba = np.array(picture.convert("RGBA"))
                colours, alpha = rgba[..., :3].copy(), rgba[..., 3] if _uses_alpha(rgba, has_channel) else None
            else:
                colours, alpha = np.array(picture.convert("RGB")), None
            _check_orientation(path, picture)
            return colours, alpha, picture.format
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Check that the data set was unpacked completely.") from error
    except (*BROKEN_FILE_ERRORS, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: cannot be read as a picture ({type(error).__name__}: {error}). The file is damaged, incomplete "
            "or not a picture; download it again."
        ) from error


def _check_depth(path: Path | PictureBytes, picture: Image.Image) -> None:
    # Pillow opens colours of 16 bits as 8-bit RGB; only the decoder's raw mode ("RGB;16B") tells.
    raw_modes = [str(tile[3]) for tile in getattr(picture, "tile", ())]
    deep = [mode for mode in raw_modes if ";16" in mode]
    if picture.mode not in EIGHT_BIT_MODES or deep:
        stored = picture.mode if picture.mode not in EIGHT_BIT_MODES else deep[0]
        raise DataError(
            f"{path}: pixels are stored as {stored!r}, expected 8 bits per channel (gray, palette or RGB). "
            "Convert the file."
        )


def _check_orientation(path: Path | PictureBytes, picture: Image.Image) -> None:
    try:
        orientation = picture.getexif().get(ORIENTATION_TAG, UPRIGHT)
    except BROKEN_FILE_ERRORS:
        return  # Broken EXIF data have no say; the pixels were read.
    if orientation in _TURNED:
        raise DataError(
            f"{path}: its EXIF orientation is {orientation}, so viewers turn or mirror the stored pixels, and it is "
            f"unclear whether image and mask still match. Expected {UPRIGHT}, or none. Make sure that image and mask "
            "match, turn the pixels if need be (for example with PIL.ImageOps.exif_transpose), and save the file "
            "without the tag."
        )


def _uses_alpha(rgba: Array, has_channel: bool) -> bool:
    if has_channel:
        return bool((rgba[..., 3] < 255).any())
    # A transparent palette entry is harmless, unless an entry of the same colour has another transparency.
    opaque = rgba.copy()
    opaque[..., 3] = 255
    return len(np.unique(rgba.view(np.uint32))) != len(np.unique(opaque.view(np.uint32)))


def check_same_size(image_path: object, image: Array, mask_path: object, labels: Array) -> None:
    """Check that an image (H×W×3) and its labels (H×W) cover the same pixels.

    Raises:
        DataError: if they do not; the message names both files and sizes.
    """
    if image.shape[:2] != labels.shape:
        raise DataError(
            f"{mask_path}: the mask has {labels.shape[0]}×{labels.shape[1]} pixels (rows × columns), but its image "
            f"{image_path} has {image.shape[0]}×{image.shape[1]}. They must be equal; check which one is wrong."
        )


_PLAIN_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|[US][0-9]{1,4})")


class _PickledDtype:
    """Stands for ``numpy.dtype`` while a pickle is read; accepts only numbers and text."""

    def __init__(self, spec: object, *_flags: object) -> None:
        if not (isinstance(spec, str) and _PLAIN_DTYPE.fullmatch(spec)):
            raise pickle.UnpicklingError(f"holds the numpy type {spec!r}, but only plain numbers and text are accepted")
        self.dtype = np.dtype(spec)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        byte_order = state[1]
        if byte_order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(byte_order)


class PickledArray:
    """Stands for a numpy array read from a pickle; ``numpy.asarray`` converts it."""

    def __init__(self, *_reconstruct_arguments: object) -> None:
        self._array: Array = np.empty(0)

    def __setstate__(self, state: tuple[int, tuple[int, ...], _PickledDtype, bool, bytes]) -> None:
        _version, shape, dtype, is_fortran, raw = state
        self._array = np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if is_fortran else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self._array, dtype=dtype)


def _pickled_scalar(dtype: _PickledDtype, raw: bytes) -> Any:
    (scalar,) = np.frombuffer(raw, dtype.dtype)
    return scalar.item()


def _pickled_buffer(raw: bytes, dtype: _PickledDtype, shape: tuple[int, ...], order: str, *_axes: object) -> Array:
    array: Array = np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")
    return array


def _pickled_bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"holds bytes in the unknown encoding {encoding!r}")
    return text.encode("latin1")


# Our own replacements for the few globals that numpy writes into pickles. Reading a pickle imports nothing, and does
# not call numpy's own reconstruction code, which trusts its input.
_PICKLE_GLOBALS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _PickledDtype,
    ("numpy", "ndarray"): PickledArray,
    ("_codecs", "encode"): _pickled_bytes,
}
for _core in ("numpy.core", "numpy._core"):
    _PICKLE_GLOBALS[f"{_core}.multiarray", "scalar"] = _pickled_scalar
    _PICKLE_GLOBALS[f"{_core}.multiarray", "_reconstruct"] = PickledArray
    _PICKLE_GLOBALS[f"{_core}.numeric", "_frombuffer"] = _pickled_buffer


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PICKLE_GLOBALS:
            raise pickle.UnpicklingError(f"refers to {module}.{name}, which plain values never do")
        return _PICKLE_GLOBALS[module, name]


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle of plain values: numbers, text, tuples, lists, dicts, numpy scalars and arrays.

    Pickles can run any code. This function refuses references to anything but numpy's scalars, arrays and types, which
    it reconstructs itself, and imports nothing that the file names.

    Returns:
        The values; numpy scalars as Python numbers, numpy arrays as objects that ``numpy.asarray`` accepts.

    Raises:
        DataError: if the file is missing or broken, or refers to anything else; the message names the reference.
    """
    try:
        with path.open("rb") as stream:
            return _PlainUnpickler(stream).load()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file.") from error
    except (pickle.UnpicklingError, *BROKEN_FILE_ERRORS, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: cannot be read as a pickle of plain values: {error}. The file is damaged, or it is another file; "
            "do not open it in another way unless you trust its origin."
        ) from error
