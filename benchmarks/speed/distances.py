"""Measure which distance transform is fastest on real error regions, and how exact each is.

    python benchmarks/speed/distances.py --data-root DATA --json distances.json

Every click of an evaluation needs two transforms: one of the missed pixels and one of the wrongly marked pixels. The
regions come from simulated predictions: masks of the data set that are shifted, grown, shrunk or cut in half. OpenCV
and the package edt are measured if installed (pip install opencv-python-headless edt).
"""

from __future__ import annotations

import argparse
import importlib
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from cases import Case, SomeObjects, evaluation_datasets, finish, parser, protocol_of, started, table
from scipy import ndimage
from timing import in_turns, ratio, spread
from torch import Tensor

from vfm_isbench.clicks.distance import inner_distance
from vfm_isbench.types import Array

Transform = Callable[[Array], Array]
"""From a mask H×W to the distance of each pixel to the nearest pixel outside; beyond the border counts as outside."""

OURS = "scipy, bounding box (the library's)"
_WORTH = 0.01
"""A transform is worth a change if it saves at least this share of a click."""

_BORDER = 1
_ROWS = 16


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = parser(__doc__)
    made.add_argument("--objects", type=int, default=10, help="objects per data set (default: 10)")
    return made


def scipy_whole(mask: Array) -> Array:
    """Exact distances on the whole image."""
    return _inside(ndimage.distance_transform_edt(np.pad(mask, _BORDER)))


def torch_exact(mask: Array) -> Array:
    """Exact distances with operations that a GPU also has."""
    return _in_box(mask, lambda box: _torch_squared(torch.from_numpy(box)).sqrt().numpy())


def _torch_squared(mask: Tensor) -> Tensor:
    """Squared distances: first within each column, then by comparing all columns of a row."""
    rows, cols = torch.arange(mask.shape[0])[:, None], torch.arange(mask.shape[1])
    above = torch.where(mask, -1, rows).cummax(0).values
    below = torch.where(mask, len(mask), rows).flip(0).cummin(0).values.flip(0)
    # The border is outside the mask, so both exist.
    within = torch.minimum(rows - above, below - rows).float() ** 2
    across = (cols[:, None] - cols).float() ** 2
    # A few rows at a time, because all at once would take H·W·W numbers.
    return torch.cat([(across + part[:, None]).amin(2) for part in within.split(_ROWS)])


def _in_box(mask: Array, transform: Transform) -> Array:
    """Apply a transform to the bounding box only, with a border of zeros, as the library does."""
    distance = np.zeros(mask.shape)
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows):
        box = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
        distance[box] = _inside(transform(np.pad(mask[box], _BORDER)))
    return distance


def _inside(padded: Array) -> Array:
    return padded[_BORDER:-_BORDER, _BORDER:-_BORDER]


def transforms() -> tuple[dict[str, Transform], list[str]]:
    """The transforms that can be measured, and the missing packages."""
    found: dict[str, Transform] = {OURS: inner_distance, "scipy, whole image": scipy_whole}
    missing = []
    try:
        cv2 = importlib.import_module("cv2")
        cv2.setNumThreads(torch.get_num_threads())
        for name, size in (("OpenCV, 5×5 mask", cv2.DIST_MASK_5), ("OpenCV, precise", cv2.DIST_MASK_PRECISE)):
            found[f"{name}, bounding box"] = lambda mask, size=size: _in_box(
                mask, lambda box: cv2.distanceTransform(box.astype(np.uint8), cv2.DIST_L2, size)
            )
    except ImportError:
        missing.append("opencv-python-headless")
    try:
        edt = importlib.import_module("edt").edt
        found["edt, bounding box"] = lambda mask: _in_box(mask, edt)
    except ImportError:
        missing.append("edt")
    found["torch, bounding box"] = torch_exact
    return found, missing


def error_regions(options: argparse.Namespace) -> list[Array]:
    """Missed and wrongly marked pixels of predictions with typical errors."""
    protocol = protocol_of(Case("bilinear", "late"), options)
    regions = []
    for dataset in evaluation_datasets(options, protocol):
        for object_id in SomeObjects(dataset, 0, min(options.objects, len(dataset.objects))).objects:
            truth = dataset.read(object_id.image).object_mask(object_id.instance) == 1
            half = truth.copy()
            half[:, : np.flatnonzero(truth.any(axis=0)).mean().astype(int)] = False
            for predicted in (
                np.zeros_like(truth),  # before the first click
                half,
                np.roll(truth, (7, 11), axis=(0, 1)),
                ndimage.binary_dilation(truth, iterations=5),
                ndimage.binary_erosion(truth, iterations=5),
            ):
                regions += [truth & ~predicted, ~truth & predicted]
    return regions


def measure(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Seconds per click, largest deviation, and number of clicks that would move, by transform."""
    regions = error_regions(options)
    found, missing = transforms()
    work = {
        name: (lambda transform=transform: [transform(region) for region in regions])
        for name, transform in found.items()
    }
    times = in_turns(work, options.rounds, device)
    exact = [scipy_whole(region) for region in regions]
    rows = []
    for name, transform in found.items():
        pairs = [(transform(region), expected) for region, expected in zip(regions, exact, strict=True)]
        rows.append(
            {
                "transform": name,
                "seconds_per_click": [2 * seconds / len(regions) for seconds in times[name]],
                "deviation": max(float(np.abs(distance - expected).max()) for distance, expected in pairs),
                "other_clicks": sum(int(distance.argmax()) != int(expected.argmax()) for distance, expected in pairs),
            }
        )
    return {"rows": rows, "regions": len(regions), "missing": missing}


def distance_table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    ours = next(row["seconds_per_click"] for row in rows if row["transform"] == OURS)
    cells = [
        [
            row["transform"],
            spread(row["seconds_per_click"], 1000),
            f"{ratio(ours, row['seconds_per_click']):.2f}",
            f"{row['deviation']:.1e}",
            row["other_clicks"],
        ]
        for row in rows
    ]
    head = ["transform", "ms per click", "times faster than ours", "largest deviation, px"]
    return table([*head, "regions whose deepest pixel is another"], cells)


def markdown(results: dict[str, Any], seconds_per_click: float | None = None) -> str:
    """The table and its conclusion.

    Args:
        results: The results of :func:`main`.
        seconds_per_click: Time of the fastest case, to say which share of a click another transform would save.
    """
    found = results["distances"]
    text = (
        f"Two transforms per click, on {found['regions']} error regions. scipy's transform of the whole image counts "
        f"as exact.\n\n{distance_table(found['rows'])}"
    )
    if found["missing"]:
        text += f"\n\nNot installed, so not measured: {', '.join(found['missing'])}."
    usable = [row for row in found["rows"] if row["other_clicks"] == 0]
    medians = {row["transform"]: statistics.median(row["seconds_per_click"]) for row in usable}
    best = min(medians, key=lambda name: medians[name])
    if best == OURS:
        return f"{text}\n\nOf the transforms that place every click alike, the library's is the fastest."
    saved = medians[OURS] - medians[best]
    text += (
        f"\n\nOf the transforms that place every click alike, {best} is the fastest: it saves {1000 * saved:.2f} ms "
        "per click"
    )
    if seconds_per_click is None:
        return f"{text}."
    share = saved / seconds_per_click
    verdict = "worth a change" if share >= _WORTH else "too little for another dependency: the library stays with scipy"
    return f"{text}, {100 * share:.2f} % of the fastest case's. That is {verdict}."


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    options = arguments().parse_args(argv)
    device, results = started(options)
    results["distances"] = measure(options, device)
    print(markdown(results))
    finish(results, options)


if __name__ == "__main__":
    main()
