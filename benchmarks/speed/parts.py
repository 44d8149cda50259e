"""Measure where the time goes: seconds per click and per training step, by part.

    python benchmarks/speed/parts.py --data-root DATA --json parts.json --picture where-the-time-goes.svg

Parts are measured inside whole evaluations, by the slow and the fast way, so work done once per crop is spread over the
clicks that follow. Each round evaluates a different object. Weights are random, which does not change the time.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

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
    parse_case,
    parser,
    probe_of,
    protocol_of,
    started,
    table,
    training_samples,
)
from charts import draw_parts
from stopwatch import Stopwatch
from timing import spread, turned

from vfm_isbench.acceleration.cached_probe import CachedProbe
from vfm_isbench.acceleration.strip_head import StripHead
from vfm_isbench.evaluation.simulated_user import UserOnCpu, UserOnDevice
from vfm_isbench.heads import ConvHead
from vfm_isbench.kernels.resized_conv import EnlargedConv
from vfm_isbench.kernels.row_strips import RowsOfStrips
from vfm_isbench.probe import Probe
from vfm_isbench.training import prediction
from vfm_isbench.upsamplers import LoadedUpsampler, TwoStepUpsampler
from vfm_isbench.upsamplers.published.loftup import LoftUp

BACKBONE, IMAGE, FEATURES = "backbone", "upsampler: image", "upsampler: features"
FIRST, SECOND, ENCODER = "first convolution", "second convolution, classifier", "click encoder"
CLICKER, BACKWARD, REST = "clicker and IoU", "backward pass", "rest"
CLICK_PARTS = (BACKBONE, IMAGE, FEATURES, FIRST, SECOND, ENCODER, CLICKER, REST)
STEP_PARTS = (BACKBONE, IMAGE, FEATURES, FIRST, SECOND, ENCODER, CLICKER, BACKWARD, REST)
CASES = [Case("bilinear", "late"), Case("bilinear", "early"), Case("loftup", "late"), Case("loftup", "early")]


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = parser(__doc__)
    made.add_argument("--cases", nargs="+", type=parse_case, default=CASES, metavar="UPSAMPLER:INJECTION")
    made.add_argument("--clicks", type=int, default=20, help="clicks per object (default: 20)")
    made.add_argument("--slow-clicks", type=int, default=20, metavar="K", help="place only the first K the slow way")
    made.add_argument("--training", action="store_true", help="also measure training steps, with one iterative click")
    made.add_argument("--batch-size", type=int, default=2, help="images per training step (default: 2)")
    made.add_argument("--picture", type=Path, metavar="FILE", help="draw the clicks to this file, as .svg and .png")
    return made


def watch_parts(probe: Probe, device: torch.device) -> Stopwatch:
    """A stopwatch for all parts of a probe, for either way of running it."""
    watch = Stopwatch(device)
    watch.watch(probe.backbone, "forward", BACKBONE)
    watch.watch(probe.click_encoder, "forward", ENCODER)
    upsampler: Any = probe.upsampler.call
    if isinstance(upsampler, LoftUp):  # all its public methods call these
        watch.watch(upsampler, "_encode_guidance", IMAGE)
        for name in ("_upsample", "_second_step", "_attend"):
            watch.watch(upsampler, name, FEATURES)
    elif isinstance(upsampler, TwoStepUpsampler):
        for owner in (type(upsampler), LoadedUpsampler):  # the slow way calls the first, the fast way the second
            watch.watch(owner, "encode_guidance", IMAGE)
            watch.watch(owner, "upsample", FEATURES)
    else:
        watch.watch(type(upsampler), "__call__", FEATURES)
    head: Any = probe.head
    watch.watch(head, "forward", SECOND)
    watch.watch(head.convs[0].conv, "forward", FIRST)
    watch.watch(CachedProbe, "_convolve", FIRST)
    watch.watch(CachedProbe, "_convolve_enlarged", FIRST)
    watch.watch(EnlargedConv, "rows", FIRST)
    watch.watch(RowsOfStrips, "__call__", FIRST)  # called by the second convolution
    watch.watch(ConvHead, "after_first", SECOND)
    watch.watch(StripHead, "after_first", SECOND)
    for owner in (UserOnCpu, UserOnDevice):
        for name in ("click", "show", "see"):
            watch.watch(owner, name, CLICKER)
    watch.watch(prediction, "next_training_clicks", CLICKER)
    watch.watch(torch.autograd, "backward", BACKWARD)
    return watch


def parts_of_a_click(
    case: Case, options: argparse.Namespace, device: torch.device
) -> dict[str, dict[str, list[float]]]:
    """Seconds per click of every round, by way and part."""
    protocol = protocol_of(case, options, max_clicks=options.clicks)
    protocols = {"slow": protocol.replace(max_clicks=min(options.slow_clicks, options.clicks)), "fast": protocol}
    probe = probe_of(case, protocol, device)
    dataset = evaluation_datasets(options, protocol)[0]
    found: dict[str, dict[str, list[float]]] = {way: {part: [] for part in CLICK_PARTS} for way in WAYS}
    for way in WAYS:
        evaluated(probe, SomeObjects(dataset, 0, 1), protocol.replace(max_clicks=1), SPEEDS[way])
    for turn in range(options.rounds):
        for way in turned(WAYS, turn):
            watch = watch_parts(probe, device)
            with watch, watch.part(REST):
                evaluated(probe, SomeObjects(dataset, turn, 1), protocols[way], SPEEDS[way])
            for part, values in found[way].items():
                values.append(watch.seconds[part] / protocols[way].max_clicks)
    return found


def parts_of_a_step(case: Case, options: argparse.Namespace, device: torch.device) -> dict[str, dict[str, list[float]]]:
    """Seconds of a training step of every round, by way and part."""
    protocol = protocol_of(case, options)
    probe = probe_of(case, protocol, device)
    step = TrainingStep(probe, training_samples(options, protocol), options.batch_size)
    found: dict[str, dict[str, list[float]]] = {way: {part: [] for part in STEP_PARTS} for way in WAYS}
    for way in WAYS:
        step(way, 1)
    for turn in range(options.rounds):
        for way in turned(WAYS, turn):
            watch = watch_parts(probe, device)
            with watch, watch.part(REST):
                step(way, 1)
            for part, values in found[way].items():
                values.append(watch.seconds[part])
    return found


def parts_table(found: dict[str, dict[str, list[float]]]) -> str:
    """Seconds and shares by part, as a Markdown table."""
    totals = {way: [sum(values) for values in zip(*parts.values(), strict=True)] for way, parts in found.items()}
    rows = []
    for part in found["slow"]:
        cells = []
        for way in WAYS:
            values, total = found[way][part], totals[way]
            share = statistics.median(value / whole for value, whole in zip(values, total, strict=True))
            cells += [spread(values), f"{100 * share:.1f}"]
        rows.append([part, *cells])
    rows.append(["all", spread(totals["slow"]), "100", spread(totals["fast"]), "100"])
    return table(["part", "slow, s", "%", "fast, s", "%"], rows)


def markdown(results: dict[str, Any]) -> str:
    """All tables."""
    sections = [f"### {case}: seconds per click\n\n{parts_table(found)}" for case, found in results["clicks"].items()]
    size = results["options"]["batch_size"]
    sections += [
        f"### {case}: seconds per training step, {size} images, one iterative click\n\n{parts_table(found)}"
        for case, found in results["steps"].items()
    ]
    return "\n\n".join(sections)


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the medians of the clicks as bars."""
    bars = {
        f"{case}, {way}": {part: statistics.median(values) for part, values in found[way].items()}
        for case, found in results["clicks"].items()
        for way in WAYS
    }
    draw_parts(bars, CLICK_PARTS, path)


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    options = arguments().parse_args(argv)
    device, results = started(options)
    results |= {"clicks": {}, "steps": {}}
    for case in options.cases:
        results["clicks"][str(case)] = parts_of_a_click(case, options, device)
        print(f"{case}: seconds per click\n\n{parts_table(results['clicks'][str(case)])}\n", flush=True)
        if options.training:
            results["steps"][str(case)] = parts_of_a_step(case, options, device)
            print(f"{case}: seconds per training step\n\n{parts_table(results['steps'][str(case)])}\n", flush=True)
    finish(results, options)
    if options.picture:
        draw(results, options.picture)


if __name__ == "__main__":
    main()
