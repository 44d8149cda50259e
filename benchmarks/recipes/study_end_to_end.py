"""Frozen against end-to-end: what is gained by training the upsampler, the backbone, or both, and what it costs.

    python benchmarks/recipes/study_end_to_end.py --upsamplers runs/upsamplers

``runs/upsamplers`` holds lift.safetensors of ``train_upsampler.py``; with ``--names lift jbu loftup`` also
jbu.safetensors and loftup.safetensors. Bilinear has no weights, so for it only the backbone is trained. Differences
are paired by object and seed; the drift of features is the mean cosine to the features at the start of the training.
Under ``demo``, half its training and 128 objects are used, which takes an hour on two CPU cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from study.cases import Case, Runs, add_arguments, run_cases, run_study, study_protocol
from study.kept import keep, keep_figures, kept, kept_figures
from study.page import table, write_page
from study.statistics import mean, mean_difference, shown

from vfm_isbench import Benchmark, Protocol, Result
from vfm_isbench.datasets import open_training_data
from vfm_isbench.inspection.drift import feature_drift
from vfm_isbench.probe import build_probe
from vfm_isbench.probe.preparation import follow_protocol
from vfm_isbench.runs import load_trained
from vfm_isbench.training import TrainingSamples
from vfm_isbench.upsamplers import load_upsampler

NAME = "end-to-end"
KINDS = {"lift": "lift", "jbu": "featup", "loftup": "loftup"}
METRICS = {"noc90": "NoC90", "iou_at_1": "IoU@1", "mean_iou": "mean IoU"}
MODES = {"frozen": (), "upsampler": ("upsampler",), "backbone": ("backbone",), "both": ("upsampler", "backbone")}
SHORTER: dict[str, int] = {"samples_per_epoch": 160, "object_limit": 128}
"""What the demo is shortened to: the question needs many runs, and answers differ by more than objects do."""

_DRIFT_BATCHES, _DRIFT_BATCH = 4, 16


def cases(protocol: Protocol, upsamplers: Path, names: Sequence[str] = ("lift",)) -> list[Case]:
    """Every upsampler with every part that it has trained or frozen."""
    specs = {"bilinear": "bilinear", **{name: f"{KINDS[name]}:{upsamplers / f'{name}.safetensors'}" for name in names}}
    found = []
    for name, spec in specs.items():
        for mode, parts in MODES.items():
            if name == "bilinear" and "upsampler" in parts:
                continue
            changed = protocol.replace(train_upsampler="upsampler" in parts, train_backbone="backbone" in parts)
            found.append(Case(label=f"{name}-{mode}", upsampler=spec, protocol=changed))
    return found


def drift_of(case: Case, folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """How far the training of a run has moved features of validation images."""
    trained = load_trained(folder, upsampler=case.upsampler, device=arguments.device)
    protocol = trained.protocol
    frozen = protocol.replace(train_upsampler=False, train_backbone=False)
    backbone = Benchmark(frozen, device=arguments.device, data_root=arguments.data_root).backbone
    upsampler, _, _ = follow_protocol(load_upsampler(case.upsampler), frozen)
    start = build_probe(frozen, backbone, upsampler).to(trained.probe.device)
    samples = TrainingSamples(open_training_data(frozen, arguments.data_root).validation, frozen, validation=True)
    batches = (
        torch.stack([samples[0, batch * _DRIFT_BATCH + item].image for item in range(_DRIFT_BATCH)])
        for batch in range(_DRIFT_BATCHES)
    )
    return asdict(feature_drift(trained.probe, start, batches))


def drifts(found: Sequence[Case], runs: Runs, arguments: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """The drift of every run whose parts were trained, by label."""
    return {
        case.label: [drift_of(case, folder, arguments) for folder in runs.folders[case.label]]
        for case in found
        if case.label in runs.folders and case.protocol.trained_parts
    }


def blocks() -> dict[str, str]:
    """The figures of the page, from what is kept."""
    results, figures = kept(NAME), kept_figures(NAME)
    if not results:
        return dict.fromkeys(("gap", "cost"), "Not measured yet.")
    names = list(dict.fromkeys(label.rpartition("-")[0] for label in results))
    order = [f"{name}-{mode}" for name in names for mode in MODES if f"{name}-{mode}" in results]
    ordered = {label: results[label] for label in order}
    return {"gap": _gap(ordered), "cost": _cost(ordered, figures.get("drift", {}))}


def _gap(results: Mapping[str, Sequence[Result]]) -> str:
    heads = [f"{name}, difference" for name in METRICS.values()]
    rows = [["upsampler", "trained", "NoC90", *heads]]
    for label, runs in results.items():
        name, _, mode = label.rpartition("-")
        frozen = results.get(f"{name}-frozen")
        cells = ["" for _ in METRICS]
        if frozen is not None and mode != "frozen":
            cells = [shown(mean_difference(frozen, runs, metric), percent=metric != "noc90") for metric in METRICS]
        rows.append([name, _said(mode), shown(mean(runs, "noc90"), signed=False), *cells])
    return table(rows, text_columns=2)


def _cost(results: Mapping[str, Sequence[Result]], drift: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    rows = [
        ["upsampler", "trained", "training, s", "of frozen", "memory, GiB", "cosine, backbone", "cosine, upsampled"]
    ]
    for label, runs in results.items():
        name, _, mode = label.rpartition("-")
        seconds = _mean_of([run.timings["training"] for run in runs])
        frozen = results.get(f"{name}-frozen")
        times = "" if frozen is None else f"{seconds / _mean_of([run.timings['training'] for run in frozen]):.1f}×"
        peaks = [run.peak_memory["training"] / 2**30 for run in runs if "training" in run.peak_memory]
        cells = [f"{seconds:.0f}", times, f"{_mean_of(peaks):.2f}" if peaks else "unknown"]
        moved = drift.get(label)
        for part in ("backbone", "upsampled"):
            cells.append("1" if moved is None else f"{_mean_of([one[part] for one in moved]):.3f}")
        rows.append([name, _said(mode), *cells])
    return table(rows, text_columns=2)


def _said(mode: str) -> str:
    return {"frozen": "nothing", "both": "both"}.get(mode, mode)


def _mean_of(values: Sequence[float]) -> float:
    return float(np.mean(values))


def shortened(protocol: Protocol) -> Protocol:
    """The demo with half its training and 128 objects; other presets, and a limit that was asked for, stay."""
    if protocol.name != "demo":
        return protocol
    changes: Any = SHORTER if protocol.object_limit is None else {"samples_per_epoch": SHORTER["samples_per_epoch"]}
    return protocol.replace(**changes)


def main(arguments: argparse.Namespace) -> None:
    """Run what is missing, keep it, and write the page."""
    if not arguments.only_page:
        protocol = shortened(study_protocol(arguments))
        if arguments.epochs is not None:
            protocol = protocol.replace(epochs=arguments.epochs)
        found = cases(protocol, arguments.upsamplers, arguments.names)
        runs = run_cases(found, arguments)
        if arguments.trial:
            print(_gap(runs.results), _cost(runs.results, drifts(found, runs, arguments)), sep="\n\n")
            return
        keep(NAME, runs.results)
        keep_figures(NAME, {"drift": drifts(found, runs, arguments)})
    write_page(NAME, blocks())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, NAME)
    parser.add_argument("--upsamplers", type=Path, default=Path("runs/upsamplers"), help="folder of trained upsamplers")
    parser.add_argument("--names", nargs="*", choices=list(KINDS), default=["lift"], help="which of them")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs, instead of the protocol's")
    parser.add_argument("--trial", action="store_true", help="print the tables, and keep and write nothing")
    run_study(lambda: main(parser.parse_args()))
