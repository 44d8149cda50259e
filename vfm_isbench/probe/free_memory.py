"""Whether memory is there for what a run needs, and what to do if it is not."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import torch

from vfm_isbench.errors import OutOfMemoryError, VfmIsbenchWarning
from vfm_isbench.storage.room import size
from vfm_isbench.upsamplers.costs import MemoryNeed

_TIGHT = 0.9
"""Share of the free memory from which a need is warned of: other programs, and gaps between tensors, take some too."""


def free_bytes(device: torch.device) -> int | None:
    """Memory in bytes that a process could still take.

    Returns:
        On CUDA devices, what the driver reports as free, and what PyTorch holds without using it. On CPUs, what the
        system reports as available without swapping, or what the limits of the process's control groups leave, if that
        is less. None where the system does not tell, which is everywhere but on Linux.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return _free_on_linux() if device.type == "cpu" else None


def _free_on_linux(root: Path = Path("/")) -> int | None:
    found = re.search(r"^MemAvailable:\s*(\d+) kB$", _read(root / "proc/meminfo"), re.MULTILINE)
    if found is None:
        return None
    return min([1024 * int(found[1]), *_left_by_groups(root)])


def _left_by_groups(root: Path) -> Iterator[int]:
    """What each control group that the process is in leaves it; of both versions of control groups."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if controllers == "":
            files = ("memory.max", "memory.current", "inactive_file")
            base = root / "sys/fs/cgroup"
        elif "memory" in controllers.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            base = root / "sys/fs/cgroup/memory"
        else:
            continue
        # In a container, the path may be that of the host, and the group itself lie at the top.
        parts = PurePosixPath(path.lstrip("/")).parts
        for length in range(len(parts) + 1):
            yield from _left_by_group(base.joinpath(*parts[:length]), *files)


def _left_by_group(folder: Path, limit: str, usage: str, cache: str) -> Iterator[int]:
    most, used = _read(folder / limit).strip(), _read(folder / usage).strip()
    if not most.isdigit() or not used.isdigit():  # "max", or no such file: no limit
        return
    # The system gives up cached files before it runs out of memory.
    cached = re.search(rf"^{cache} (\d+)$", _read(folder / "memory.stat"), re.MULTILINE)
    yield max(0, int(most) - int(used) + (int(cached[1]) if cached else 0))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def require_memory(need: MemoryNeed | None, images: int, device: torch.device, what: str) -> None:
    """Check that memory is there for so many images in one pass; warn if it is tight.

    Args:
        need: What is needed; None if that is unknown, then nothing is checked.
        images: Images in one pass of the network.
        device: The device.
        what: What needs the memory, as the subject of a sentence.

    Raises:
        OutOfMemoryError: if it is not there; the message says what would fit.
    """
    free = free_bytes(device)
    if need is None or free is None:
        return
    needed = need.of(images)
    said = f"{what} needs about {size(needed)} with {_images(images)} in one pass, and {device} has {size(free)} free"
    if needed > free:
        raise OutOfMemoryError(f"{said}, so nothing was trained. {advice(need, images, free)}")
    if needed > _TIGHT * free:
        warnings.warn(f"{said}, which is tight: the run may stop half-way", VfmIsbenchWarning, stacklevel=3)


def advice(need: MemoryNeed, images: int, free: int) -> str:
    """What to do where memory is short."""
    fitting = min(need.most_images(int(_TIGHT * free)), images - 1)
    ways = [f"choose a device with at least {size(need.of(images) / _TIGHT)} of free memory (command line: --device)"]
    if fitting > 0:
        ways.insert(
            0,
            f"use Speed(images_at_once={fitting}) (command line: --images-at-once {fitting}), which changes the "
            "weights only by rounding",
        )
    ways += [
        "free memory that other programs use",
        "for a quick look that is not ranked, use --precision bfloat16, or the small network of --protocol demo",
    ]
    return "; or ".join([ways[0][0].upper() + ways[0][1:], *ways[1:]])


def _images(number: int) -> str:
    return "1 image" if number == 1 else f"{number} images"
