"""Free memory as the system and its control groups tell it, and runs that do not fit into it."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from small import SMALL
from torch import Tensor

from vfm_isbench.errors import ContractError, OutOfMemoryError, VfmIsbenchWarning
from vfm_isbench.probe import free_memory, preparation
from vfm_isbench.probe.free_memory import free_bytes, require_memory
from vfm_isbench.testing.fakes import FakeBackbone
from vfm_isbench.upsamplers import Bilinear, LoadedUpsampler
from vfm_isbench.upsamplers.costs import MemoryNeed

CPU = torch.device("cpu")


def system(root: Path, **files: str) -> Path:
    """A file system whose files have ``__`` for slashes in their names here."""
    for name, text in {"proc__meminfo": "MemTotal: 9 kB\nMemAvailable:   1000 kB\n", **files}.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_what_the_system_says_is_available(tmp_path: Path) -> None:
    assert free_memory._free_on_linux(system(tmp_path)) == 1_024_000
    assert free_memory._free_on_linux(tmp_path / "elsewhere") is None


def test_the_tightest_control_group_counts(tmp_path: Path) -> None:
    root = system(
        tmp_path,
        proc__self__cgroup="0::/jobs/mine\n",
        sys__fs__cgroup__jobs__memory_max="",
    )
    groups = root / "sys/fs/cgroup/jobs"
    (groups / "mine").mkdir()
    for folder, most, used, cached in ((groups, "700000", "300000", 50000), (groups / "mine", "max", "10", 0)):
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cached}\nactive_file 9\n")
    assert free_memory._free_on_linux(root) == 700000 - 300000 + 50000


def test_control_groups_of_the_first_version_in_a_container(tmp_path: Path) -> None:
    """There the path is that of the host, and the group itself lies at the top."""
    root = system(tmp_path, proc__self__cgroup="5:cpu,cpuacct:/x\n4:memory:/docker/0123\n")
    top = root / "sys/fs/cgroup/memory"
    top.mkdir(parents=True)
    (top / "memory.limit_in_bytes").write_text("500000\n")
    (top / "memory.usage_in_bytes").write_text("600000\n")
    assert free_memory._free_on_linux(root) == 0


def test_this_machine_has_some_memory() -> None:
    if not Path("/proc/meminfo").is_file():
        pytest.skip("needs Linux")
    free = free_bytes(CPU)
    assert free is not None and 2**20 < free < 2**50


def test_a_card_counts_what_is_held_and_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 200)
    assert free_bytes(torch.device("cuda", 0)) == 1300


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_memory, "free_bytes", lambda _: 10**9)


@pytest.mark.usefixtures("free")
def test_what_does_not_fit_is_refused_with_what_would() -> None:
    with pytest.raises(OutOfMemoryError) as caught:
        require_memory(MemoryNeed(10**8, 10**8), 16, CPU, "the upsampler 'mine'")
    said = str(caught.value)
    assert said.startswith(
        "the upsampler 'mine' needs about 1.6 GB with 16 images in one pass, and cpu has 1.0 GB free"
    )
    assert "--images-at-once 9)" in said and "at least 1.8 GB" in said and "nothing was trained" in said
    with pytest.raises(OutOfMemoryError) as caught:
        require_memory(MemoryNeed(2 * 10**9, 0), 1, CPU, "training")
    assert "with 1 image in one pass" in str(caught.value) and "images-at-once" not in str(caught.value)


@pytest.mark.usefixtures("free")
def test_what_just_fits_is_warned_of() -> None:
    with pytest.warns(VfmIsbenchWarning, match="0 MB with 2 images.*which is tight"):
        require_memory(MemoryNeed(475 * 10**6, 475 * 10**6), 2, CPU, "training")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        require_memory(MemoryNeed(10**8, 10**8), 8, CPU, "training")
        require_memory(None, 8, CPU, "training")


def test_an_upsampler_that_does_not_fit_is_refused_before_a_batch_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def watched(features: Tensor, image: Tensor) -> Tensor:
        sizes.append(len(features))
        return Bilinear()(features, image)

    monkeypatch.setattr(free_memory, "free_bytes", lambda _: 3 * 8 * 28 * 28 * 4)
    upsampler = LoadedUpsampler.of(watched)
    with pytest.raises(OutOfMemoryError, match=r"needs about 100 kB with 4 images .* --images-at-once 2\)"):
        preparation.check_on_device(upsampler, SMALL, FakeBackbone(), CPU)
    assert max(sizes) == 2
    with pytest.warns(VfmIsbenchWarning):
        report = preparation.check_on_device(upsampler, SMALL, FakeBackbone(), CPU, images_at_once=3)
    assert max(sizes) == 3
    assert report.peak_bytes == 3 * 8 * 28 * 28 * 4
    assert "memory of a batch: 0.00 GiB" in str(report)


def test_memory_that_runs_out_in_the_check_is_named() -> None:
    def large(features: Tensor, image: Tensor) -> Tensor:
        if len(features) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nmore advice")
        return Bilinear()(features, image)

    with pytest.raises(OutOfMemoryError) as caught:
        preparation.check_on_device(LoadedUpsampler.of(large), SMALL, FakeBackbone(), CPU)
    assert "test_memory_that_runs_out" in str(caught.value)
    assert "tried with 4 images on cpu (CUDA out of memory. Tried to allocate 9 GiB.)" in str(caught.value)
    assert "--images-at-once 1" in str(caught.value)


def test_other_failures_stay_what_they_are() -> None:
    def fails(features: Tensor, image: Tensor) -> Tensor:
        raise ValueError("odd")

    with pytest.raises(ContractError, match="raised ValueError: odd"):
        preparation.check_on_device(LoadedUpsampler.of(fails), SMALL, FakeBackbone(), CPU)
