"""Count what a GPU would wait for: synchronising calls, copies and operations per click, with and without lockstep.

    python benchmarks/speed/waiting.py --data-root DATA --json waiting.json

A GPU needs some microseconds to start an operation, and the program some more to ask for it, so small operations cost
about the same as large ones; at every synchronising call the GPU runs empty. Both can be counted on a CPU: operations
are those PyTorch dispatches, views left out.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

import torch
from cases import (
    Case,
    SomeObjects,
    evaluated,
    evaluation_datasets,
    finish,
    parse_case,
    parser,
    probe_of,
    protocol_of,
    started,
    table,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vfm_isbench import Speed

CASES = (Case("bilinear", "late"), Case("bilinear", "early"), Case("loftup", "late"), Case("loftup", "early"))

WAITING_CALLS = ("cpu", "item", "__bool__")
"""Methods of tensors for which the program waits until the GPU has done everything it was asked for."""

WAYS = {"one object, clicks on the CPU": False, "in lockstep, clicks on the device": True}


_NEVER = 10**9


class Calls(TorchFunctionMode):
    """Counts the calls for which a GPU would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note a call and carry it out."""
        name = getattr(function, "__name__", "")
        if name in WAITING_CALLS:
            self.found[name] += 1
        return function(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):
    """Counts operations that are more than a view, each of which a GPU would have to start."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count an operation and carry it out."""
        self.count += not function.is_view
        return function(*args, **(kwargs or {}))


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = parser(__doc__)
    made.add_argument("--cases", nargs="+", type=parse_case, default=list(CASES), metavar="UPSAMPLER:INJECTION")
    made.add_argument("--objects", type=int, default=8, help="objects, which lockstep clicks all at once (default: 8)")
    made.add_argument("--clicks", type=int, default=5, help="clicks per object (default: 5)")
    return made


def measure(options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Waits and operations per click, by case and way."""
    rows = []
    for case in options.cases:
        protocol = protocol_of(case, options, max_clicks=options.clicks)
        probe = probe_of(case, protocol, device)
        dataset = SomeObjects(evaluation_datasets(options, protocol)[0], 0, options.objects)
        for way, on_device in WAYS.items():
            at_once = options.objects if on_device else 1
            # Winograd's filtering runs on CPUs only.
            speed = Speed(
                objects_at_once=at_once, clicks_on_device=on_device, read_ahead=False, winograd_channels=_NEVER
            )
            with Calls() as calls, Operations() as operations:
                found = evaluated(probe, dataset, protocol, speed)
            clicks = found.times.clicks
            rows.append(
                {
                    "case": str(case),
                    "way": way,
                    "clicks": clicks,
                    "waits_per_click": sum(calls.found.values()) / clicks,
                    "waits": dict(calls.found),
                    "operations_per_click": operations.count / clicks,
                }
            )
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    cells = [
        [row["case"], row["way"], f"{row['waits_per_click']:.2f}", f"{row['operations_per_click']:.0f}"] for row in rows
    ]
    return table(["case", "way", "waits per click", "operations per click"], cells)


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    options = arguments().parse_args(argv)
    device, results = started(options)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # operations on further threads would not be counted
    try:
        results["waiting"] = measure(options, device)
    finally:
        torch.set_num_threads(threads)
    print(markdown(results["waiting"]))
    finish(results, options)


if __name__ == "__main__":
    main()
