"""Our reader of SBD's files gives what SciPy's gives, and refuses damaged files, on some of which SciPy's crashes."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest
from bad_inputs import bad_bytes
from scipy.io import loadmat, savemat
from small_archives import instances

from vfm_isbench.datasets.mat_files import read_field
from vfm_isbench.datasets.sbd import read_instances
from vfm_isbench.errors import DataError


def written(content: object, *, is_compressed: bool = False) -> bytes:
    stream = io.BytesIO()
    savemat(stream, {"before": "text", "GTinst": content}, do_compression=is_compressed)
    return stream.getvalue()


@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float64, np.uint32, np.bool_])
def test_a_field_is_read_as_by_scipy(kind: type, is_compressed: bool) -> None:
    values = np.random.default_rng(0).integers(0, 2, (7, 5)).astype(kind)
    content = written({"Other": ["a", "b"], "Segmentation": values, "Last": 3}, is_compressed=is_compressed)
    expected = loadmat(io.BytesIO(content))["GTinst"]["Segmentation"].item()
    found = read_field(content, "GTinst", "Segmentation")
    assert found.dtype == expected.dtype and np.array_equal(found, expected)


def test_real_files_are_read_as_by_scipy(real_root: Path) -> None:
    files = sorted((real_root / "SBD" / "inst").glob("*.mat"))
    assert files
    for file in files:
        expected = loadmat(file)["GTinst"]["Segmentation"].item()
        assert np.array_equal(read_field(file.read_bytes(), "GTinst", "Segmentation"), expected)


def test_a_file_that_crashes_scipy_is_refused(tmp_path: Path) -> None:
    """On these bytes, SciPy 1.17.1 ends the process with a segmentation fault."""
    path = tmp_path / "crash.mat"
    path.write_bytes(bad_bytes(instances(), random.Random("instances130")))
    with pytest.raises(DataError, match=r"crash\.mat: cannot be read as SBD's instances"):
        read_instances(path)


def test_no_single_damaged_byte_gives_another_error() -> None:
    good = written({"Segmentation": np.ones((4, 6), np.uint8)})
    for place in range(len(good)):
        for value in (0x00, 0x7F, 0xFF):
            try:
                found = read_field(good[:place] + bytes([value]) + good[place + 1 :], "GTinst", "Segmentation")
            except (ValueError, KeyError):
                continue
            assert found.size == 24


@pytest.mark.parametrize("length", [0, 100, 127, 130, 200, 300, -1])
def test_a_file_that_is_cut_short_is_refused(length: int) -> None:
    with pytest.raises((ValueError, KeyError)):
        read_field(written({"Segmentation": np.ones((20, 30), np.uint8)})[:length], "GTinst", "Segmentation")


@pytest.mark.parametrize("content", [3, "text", {"Other": 3}, {"Segmentation": "text"}, {"Segmentation": 1j}])
def test_other_contents_are_refused(content: object) -> None:
    with pytest.raises(ValueError, match="structure|field|numbers"):
        read_field(written(content), "GTinst", "Segmentation")
