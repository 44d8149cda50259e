"""Compare evaluations that stop at an IoU with those that place all clicks; a part of ratios.py."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from cases import SPEEDS, Evaluated, evaluated, evaluation_datasets, table
from timing import ratio, spread, turned

from vfm_isbench import Protocol
from vfm_isbench.isegprobe import assemble_reference, read_reference
from vfm_isbench.metrics import number_of_clicks
from vfm_isbench.types import Array, ObjectEvidence

TARGET = 1.5
STOPS = (50, 70, 90)
"""Default IoUs to stop at, in percent; the benchmark's highest threshold is 90."""

_SCORED = (50, 60, 70, 80, 85, 90)
_ALL = "all clicks"


def measure_early_stop(options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Measure the rows of the table, by recorded model and IoU to stop at: seconds for all objects of all data sets."""
    protocol = Protocol.preset("reference").replace(object_limit=options.objects, max_clicks=options.clicks)
    datasets = evaluation_datasets(options, protocol)
    speeds = {_ALL: SPEEDS["fast"]} | {stop: replace(SPEEDS["fast"], stop_at_iou=(stop,)) for stop in options.stop_at}
    rows = []
    for path in sorted((options.parity / "end_to_end").glob("*.safetensors")):
        probe = assemble_reference(read_reference(path)).to(device)
        for dataset in datasets:  # warm up: reading files and choosing algorithms is slower at first
            evaluated(probe, dataset, protocol.replace(object_limit=1, max_clicks=1), SPEEDS["fast"])
        found: dict[str | int, list[list[Evaluated]]] = {name: [] for name in speeds}
        for turn in range(options.rounds):
            for name in turned(list(speeds), turn):
                found[name].append([evaluated(probe, dataset, protocol, speeds[name]) for dataset in datasets])
        rows += [_row(path.stem, stop, found[_ALL], found[stop], options.clicks) for stop in options.stop_at]
        print("\n".join(early_stop_table(rows).splitlines()[-len(options.stop_at) :]), flush=True)
    return rows


def _row(
    model: str, stop: int, whole: Sequence[Sequence[Evaluated]], stopped: Sequence[Sequence[Evaluated]], clicks: int
) -> dict[str, Any]:
    """One row, from the rounds with all clicks and the stopped rounds, each with every data set."""
    pairs = [pair for rounds in zip(whole, stopped, strict=True) for pair in zip(*rounds, strict=True)]
    return {
        "model": model,
        "stop": stop,
        "target": TARGET,
        "objects": sum(len(dataset.evidence) for dataset in whole[0]),
        "clicks": {"all": _clicks(whole[0]), "stop": _clicks(stopped[0])},
        "all": [sum(dataset.seconds for dataset in round_) for round_ in whole],
        "stopped": [sum(dataset.seconds for dataset in round_) for round_ in stopped],
        "equal": all(_scores(a.evidence, clicks, stop) == _scores(b.evidence, clicks, stop) for a, b in pairs),
    }


def _clicks(datasets: Sequence[Evaluated]) -> int:
    return sum(dataset.times.clicks for dataset in datasets)


def _scores(evidence: Sequence[ObjectEvidence], clicks: int, stop: int) -> list[list[float]]:
    """Clicks to every threshold up to the IoU to stop at, and IoU after the first click, by object."""
    ious: Array = np.full((len(evidence), clicks), np.nan)
    for row, found in zip(ious, evidence, strict=True):
        row[: len(found.ious)] = found.ious
    reached = [number_of_clicks(ious, percent / 100).tolist() for percent in _SCORED if percent <= stop]
    return [*reached, ious[:, 0].tolist()]


def early_stop_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    head = ["recorded model", "objects", "stop at, %", "clicks, all", "clicks, stopped", "all clicks, s", "stopped, s"]
    return table([*head, "ratio", "target", "same NoC up to there and IoU@1"], [_cells(row) for row in rows])


def _cells(row: dict[str, Any]) -> list[object]:
    return [
        row["model"],
        row["objects"],
        row["stop"],
        row["clicks"]["all"],
        row["clicks"]["stop"],
        spread(row["all"]),
        spread(row["stopped"]),
        f"{ratio(row['all'], row['stopped']):.2f}",
        f"≥ {row['target']}",
        "yes" if row["equal"] else "NO",
    ]
