"""Archives that no data set would be: with links, devices, escaping paths, bombs or damage."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from small_archives import tarred, zipped

from vfm_isbench.datasets.download import unpack as unpack_module
from vfm_isbench.datasets.download.unpack import unpack
from vfm_isbench.errors import DataError


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "one" / "two" / "target"


def unpack_bytes(content: bytes, target: Path, **options: int) -> None:
    archive = target.parents[2] / "archive"
    archive.write_bytes(content)
    unpack(archive, target, progress=False, **options)


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_files_arrive_with_their_bytes(pack, target):
    files = {"a/b/c.txt": b"1", "a/d.txt": b"2", "./e.txt": b""}
    unpack_bytes(pack({**files, "__MACOSX/a/._d.txt": b"x", "a/.DS_Store": b"x", "a/._d.txt": b"x"}), target)
    assert files_below(target) == {"a/b/c.txt": b"1", "a/d.txt": b"2", "e.txt": b""}


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize(
    "name", ["../out", "a/../../out", "/out-of-the-target", "..\\..\\out", "C:\\out", "c:out", "a/.."]
)
def test_no_file_leads_out_of_the_target(pack, name, target):
    with pytest.raises(DataError, match="leads out of the target folder"):
        unpack_bytes(pack({name: b"x"}), target)
    assert files_below(target.parents[2]).keys() == {"archive"}
    assert not Path("/out-of-the-target").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_tar_are_refused(kind, target):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = kind, "/etc"
        archive.addfile(member)
        archive.addfile(tarfile.TarInfo("link/passwd"))
    with pytest.raises(DataError, match="'link' is a link or device"):
        unpack_bytes(stream.getvalue(), target)
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_zip_are_refused(mode, target):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (mode | 0o777) << 16
        archive.writestr(info, "/etc")
    with pytest.raises(DataError, match="'link' is a link or device"):
        unpack_bytes(stream.getvalue(), target)
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_absurd_sizes_and_numbers_are_refused(pack, target, monkeypatch):
    files = {str(number): b"x" * 100 for number in range(10)}
    with pytest.raises(DataError, match="more than 999 bytes"):
        unpack_bytes(pack(files), target, largest=999)
    unpack_bytes(pack(files), target / "fits", largest=1000)
    monkeypatch.setattr(unpack_module, "MOST_MEMBERS", 9)
    with pytest.raises(DataError, match="9 files"):
        unpack_bytes(pack(files), target / "too many")


def test_a_zip_that_lies_about_its_size_gives_no_more_than_it_says(target):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", b"\0" * 1_000_000)
    honest, lie = (1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    with pytest.raises(DataError, match="broken"):
        unpack_bytes(stream.getvalue().replace(honest, lie), target, largest=100)
    assert sum(len(content) for content in files_below(target).values()) <= 100


def test_a_duplicate_file_is_refused(target):
    with pytest.raises(DataError, match="it contains 'a/b' twice"):
        unpack_bytes(zipped({"a": b"x", "a/b": b"x"}), target)


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("damage", ["cut", "changed", "nothing left"])
def test_a_damaged_archive_is_reported(pack, damage, target):
    content = bytearray(pack({"a": bytes(range(256)) * 40, "b": b"y" * 1000}))
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "changed":
        content[60:70] = b"\xff" * 10
    else:
        content = bytearray(b"<html>")
    with pytest.raises(DataError, match="archive: broken, or not an archive"):
        unpack_bytes(bytes(content), target)


def test_an_encrypted_zip_is_reported(target):
    content = bytearray(zipped({"a": b"x"}))
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + offset] |= 1
    with pytest.raises(DataError, match="encrypted"):
        unpack_bytes(bytes(content), target)
