"""How the speed programs measure: wall time, medians with spread, ratios, and the machine."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from vfm_isbench.results.environment import describe_environment

_BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))"
"""Keeps a core busy for as long as the process that started it lives."""


@contextmanager
def busy_neighbours(count: int) -> Iterator[None]:
    """Run a block beside this many processes that each keep a core busy."""
    processes = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, including everything it started on the device."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_turns(work: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Time every function once per round, after a first call that is not counted.

    Every other round goes backwards, so that no function always follows the same one.
    """
    for function in work.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds):
        for name in turned(list(work), turn):
            times[name].append(seconds(work[name], device))
    return times


def turned(names: Sequence[str], turn: int) -> Sequence[str]:
    """The names in the order of a round: every other round goes backwards."""
    return names if turn % 2 == 0 else names[::-1]


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """The median of the first divided by the median of the second."""
    return statistics.median(slow) / statistics.median(fast)


def spread(values: Sequence[float], factor: float = 1.0) -> str:
    """Median, minimum and maximum of values times a factor: ``0.61 (0.6 to 0.66)``."""
    middle, least, most = (figure(value * factor) for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({least} to {most})"


def figure(value: float) -> str:
    """A number rounded to three digits."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine(device: torch.device) -> dict[str, str | int | None]:
    """Describe the machine of the measurement."""
    return describe_environment(device)


def machine_line(found: dict[str, str | int | None]) -> str:
    """The same in one line."""
    where = "no GPU" if found["device"] == "cpu" else str(found["device"])
    return (
        f"{found['cpu']}, {found['cpu_count']} cores, {found['threads']} threads, {where}; PyTorch {found['torch']}, "
        f"Python {found['python']}"
    )
