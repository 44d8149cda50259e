"""Measure how the time grows with the number of objects, clicks, image size, feature channels and batch size.

    python benchmarks/speed/growth.py --data-root DATA --json growth.json --picture growth.svg

The exponent is the slope of a straight line through the points on logarithmic axes: 1 means that twice as much takes
twice as long. All measurements use bilinear upsampling and late injection.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import (
    SPEEDS,
    WAYS,
    Case,
    SomeObjects,
    TrainingStep,
    evaluated,
    evaluation_datasets,
    finish,
    parser,
    probe_of,
    protocol_of,
    started,
    table,
    training_samples,
)
from charts import draw_growth
from timing import figure, in_turns

_CASE = Case("bilinear", "late")


@dataclass(frozen=True)
class Axis:
    """A quantity that grows.

    Attributes:
        label: Its name in tables.
        values: The values to measure.
        expected: The expected exponent.
        why: The reason for that exponent.
        ways: The ways to measure; the slow way only if it is cheap enough.
    """

    label: str
    values: tuple[int, ...]
    expected: float
    why: str
    ways: tuple[str, ...] = ("fast",)


AXES = {
    "objects": Axis("objects", (1, 2, 4), 1, "each is clicked separately"),
    "clicks": Axis("clicks per object", (2, 5, 10), 1, "plus a first crop, which weighs more with few clicks"),
    "size": Axis("image side, px", (112, 224, 336), 2, "linear in pixels", WAYS),
    "width": Axis("feature channels", (96, 192, 384), 2, "convolutions are products of channels", WAYS),
    "batch": Axis("images per training step", (1, 2, 4), 1, "each is computed separately"),
}


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = parser(__doc__)
    made.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    for name, axis in AXES.items():
        made.add_argument(f"--{name}", nargs="+", type=int, default=list(axis.values), metavar="N", help=axis.label)
    made.add_argument("--clicks-per-object", type=int, default=3, help="clicks on the other axes (default: 3)")
    made.add_argument("--picture", type=Path, metavar="FILE", help="draw the chart to this file, as .svg and .png")
    return made


def work_at(axis: str, value: int, way: str, options: argparse.Namespace, device: torch.device) -> Callable[[], object]:
    """The work to time at one point of an axis."""
    size = value if axis == "size" else options.image_size
    clicks = value if axis == "clicks" else options.clicks_per_object
    protocol = protocol_of(_CASE, options, image_size=size, max_clicks=clicks)
    probe = probe_of(_CASE, protocol, device, channels=value if axis == "width" else None)
    if axis == "batch":
        step = TrainingStep(probe, training_samples(options, protocol), value)
        return lambda: step(way, 1)
    objects = SomeObjects(evaluation_datasets(options, protocol)[0], 0, value if axis == "objects" else 1)
    return lambda: evaluated(probe, objects, protocol, SPEEDS[way])


def measure(options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Measure one row per axis and way: seconds of every round at every value."""
    rows = []
    for name in options.axes:
        axis, values = AXES[name], getattr(options, name)
        points = {(way, value): (name, value, way) for way in axis.ways for value in values}
        work = {f"{way} {value}": work_at(*point, options, device) for (way, value), point in points.items()}
        times = in_turns(work, options.rounds, device)
        for way in axis.ways:
            seconds = [times[f"{way} {value}"] for value in values]
            rows.append(
                {"axis": name, "way": way, "values": values, "seconds": seconds, "exponent": exponent(values, seconds)}
            )
            print(growth_table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def exponent(values: list[int], seconds: list[list[float]]) -> float:
    """Slope of the least-squares line through the medians, on logarithmic axes."""
    medians = [statistics.median(found) for found in seconds]
    return float(np.polyfit(np.log(values), np.log(medians), 1)[0])


def growth_table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    cells = []
    for row in rows:
        axis = AXES[row["axis"]]
        pairs = zip(row["values"], row["seconds"], strict=True)
        found = ", ".join(
            f"{value}: {figure(statistics.median(times))} ({figure(min(times))}–{figure(max(times))})"
            for value, times in pairs
        )
        cells.append([axis.label, row["way"], found, f"{row['exponent']:.2f}", f"{axis.expected:g} ({axis.why})"])
    return table(["what grows", "way", "seconds: median (min–max)", "exponent", "expected"], cells)


def markdown(results: dict[str, Any]) -> str:
    """The table with its explanation."""
    return (
        f"Bilinear, late; {results['options']['clicks_per_object']} clicks on one object unless stated otherwise. "
        f"The exponent is the slope of the line through the medians on logarithmic axes.\n\n"
        f"{growth_table(results['growth'])}"
    )


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    options = arguments().parse_args(argv)
    device, results = started(options)
    results["growth"] = measure(options, device)
    print(f"\n{markdown(results)}")
    finish(results, options)
    if options.picture:
        draw_growth(results["growth"], {name: axis.label for name, axis in AXES.items()}, options.picture)


if __name__ == "__main__":
    main()
