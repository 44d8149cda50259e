"""Measure training steps by both ways; a part of ratios.py."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from cases import WAYS, Case, TrainingStep, probe_of, protocol_of, table, training_samples
from timing import ratio, seconds, spread, turned

TARGETS = {Case("bilinear", "late"): 1.8, Case("loftup", "late"): 2.5}
"""How many times faster the fast way should be."""


def measure_training(options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Measure the rows of the table, one per case: seconds per step, the mean over all numbers of iterative clicks."""
    rows = []
    for case in options.training_cases:
        protocol = protocol_of(case, options)
        step = TrainingStep(probe_of(case, protocol, device), training_samples(options, protocol), options.batch_size)
        row = {"case": str(case), "target": TARGETS.get(case), "batch_size": options.batch_size}
        rows.append(row | _measure_step(step, options.rounds, device))
        print(training_table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def _measure_step(step: TrainingStep, rounds: int, device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {way: [] for way in WAYS} | {"loss_difference": 0.0}
    for way in WAYS:
        step(way, 0)
    for turn in range(rounds):
        losses: dict[str, list[float]] = {}
        for way in turned(WAYS, turn):
            took = seconds(lambda way=way, losses=losses: losses.update({way: step.all_numbers(way)}), device)
            found[way].append(took / len(losses[way]))
        differences = [abs(slow - fast) / slow for slow, fast in zip(losses["slow"], losses["fast"], strict=True)]
        found["loss_difference"] = max(found["loss_difference"], *differences)
    return found


def training_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    head = ["upsampler, injection", "batch", "slow, s/step", "fast, s/step", "fast, s/image", "ratio", "target"]
    return table([*head, "largest relative difference of the loss"], [_cells(row) for row in rows])


def _cells(row: dict[str, Any]) -> list[object]:
    return [
        row["case"],
        row["batch_size"],
        spread(row["slow"]),
        spread(row["fast"]),
        spread(row["fast"], factor=1 / row["batch_size"]),
        f"{ratio(row['slow'], row['fast']):.2f}",
        "–" if row["target"] is None else f"≥ {row['target']}",
        f"{row['loss_difference']:.0e}",
    ]
