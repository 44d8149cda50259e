"""Measure what less precise arithmetic changes in trained models: NoC, IoU and seconds per click, against float32.

    python benchmarks/speed/precision.py --models runs/jbu-demo@2-seed0 recorded/bilinear.safetensors --data-root DATA

Models are run folders or checkpoints, as for ``vfm-isbench eval``. Every precision places its own clicks. A click
depends on the prediction before it, so a tiny change can affect all later clicks.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from cases import Evaluated, evaluated, finish, parser, started, table
from timing import figure, ratio, turned

from vfm_isbench import Speed
from vfm_isbench.acceleration.speed import Precision
from vfm_isbench.datasets import open_dataset
from vfm_isbench.metrics import number_of_clicks
from vfm_isbench.runs.checkpoints import load_trained
from vfm_isbench.runs.trained import TrainedProbe
from vfm_isbench.types import Array

THRESHOLDS = (80, 85, 90)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = parser(__doc__)
    made.add_argument("--models", nargs="+", required=True, type=Path, metavar="CHECKPOINT")
    made.add_argument("--precisions", nargs="+", choices=get_args(Precision), default=["bfloat16"])
    made.add_argument("--objects", type=int, help="use only the first objects of each data set")
    made.set_defaults(rounds=1)  # every round gives the same result
    return made


def measure(path: Path, options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Measure the rows of one model, one per precision."""
    model = load_trained(path, device=device)
    speeds = {name: Speed(precision=name) for name in dict.fromkeys(["float32", *options.precisions])}
    found: dict[str, list[list[Evaluated]]] = {name: [] for name in speeds}
    for turn in range(options.rounds):
        for name in turned(list(speeds), turn):
            found[name].append(_evaluate(model, speeds[name], options))
    return [
        {
            "model": path.stem if path.is_file() else path.name,
            "precision": name,
            **_changes(found["float32"][0], found[name][0], model.protocol.max_clicks),
            "seconds": {way: [_per_click(datasets) for datasets in found[way]] for way in ("float32", name)},
        }
        for name in options.precisions
    ]


def _evaluate(model: TrainedProbe, speed: Speed, options: argparse.Namespace) -> list[Evaluated]:
    protocol = model.protocol.replace(object_limit=options.objects or model.protocol.object_limit)
    datasets = [open_dataset(name, "test", options.data_root, protocol) for name in protocol.test_datasets]
    return [evaluated(model.probe, dataset, protocol, speed) for dataset in datasets]


def _per_click(found: list[Evaluated]) -> float:
    return sum(dataset.seconds for dataset in found) / sum(dataset.times.clicks for dataset in found)


def _changes(exact: list[Evaluated], rough: list[Evaluated], clicks: int) -> dict[str, Any]:
    """The differences between two precisions, object by object."""
    pairs = [pair for a, b in zip(exact, rough, strict=True) for pair in zip(a.evidence, b.evidence, strict=True)]
    ious: tuple[Array, Array] = (np.array([a.ious for a, _ in pairs]), np.array([b.ious for _, b in pairs]))
    noc = {}
    for percent in THRESHOLDS:
        before, after = (number_of_clicks(values, percent / 100) for values in ious)
        noc[percent] = {
            "float32": float(before.mean()),
            "change": float((after - before).mean()),
            "objects": int((after != before).sum()),
        }
    return {
        "objects": len(pairs),
        "clicks_per_object": clicks,
        "same_clicks": sum(a.clicks == b.clicks for a, b in pairs),
        "noc": noc,
        "first_iou": float(np.abs(ious[1] - ious[0])[:, 0].max()),
        "mean_iou": float(ious[1].mean() - ious[0].mean()),
    }


def precision_table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    head = ["model", "precision", "objects", *(f"NoC{percent}: float32, change (objects)" for percent in THRESHOLDS)]
    head += ["same clicks", "largest change of IoU@1", "change of mean IoU", "s/click, float32", "s/click", "ratio"]
    return table(head, [_cells(row) for row in rows])


def _cells(row: dict[str, Any]) -> list[object]:
    exact, rough = row["seconds"]["float32"], row["seconds"][row["precision"]]
    noc = [f"{cell['float32']:.2f}, {cell['change']:+.2f} ({cell['objects']})" for cell in row["noc"].values()]
    return [
        row["model"],
        row["precision"],
        row["objects"],
        *noc,
        f"{row['same_clicks']} of {row['objects']}",
        f"{row['first_iou']:.4f}",
        f"{row['mean_iou']:+.4f}",
        figure(statistics.median(exact)),
        figure(statistics.median(rough)),
        f"{ratio(exact, rough):.2f}",
    ]


def markdown(results: dict[str, Any]) -> str:
    """The table with its explanation."""
    return (
        "NoC of trained models and its change with less precise arithmetic, with the number of objects whose NoC "
        f"differs in brackets. Later clicks depend on earlier predictions.\n\n{precision_table(results['models'])}"
    )


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    options = arguments().parse_args(argv)
    device, results = started(options)
    results["models"] = []
    for path in options.models:
        results["models"] += measure(path, options, device)
        print(precision_table(results["models"]).splitlines()[-1], flush=True)
    print(f"\n{markdown(results)}")
    finish(results, options)


if __name__ == "__main__":
    main()
