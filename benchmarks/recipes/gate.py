"""Measure the regression gate of docs/ci.md: what it says of an unchanged and of a broken upsampler, and its cost.

    python benchmarks/recipes/gate.py --output runs/gate
    python benchmarks/recipes/gate.py --output runs/gate --metric mean_iou --margin 0.01

The baseline is an upsampler with some seeds. Three cases are judged against it, as ``vfm-isbench regress`` does:

* unchanged: the same upsampler with other seeds, the worst that a change without effect can look like;
* broken: features averaged over 2x2 cells, then enlarged without interpolation, with the seeds of the baseline;
* rerun: the same upsampler with the seeds of the baseline, which differs in nothing on the same machine.

It prints verdict, bounds and CPU minutes of each case. It fails if the unchanged upsampler is called a regression, the
broken one passes, or the rerun does not. Results that are there are reused, and interrupted runs resume.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import vfm_isbench
from vfm_isbench import Protocol, Regression, Result, cli
from vfm_isbench.errors import ComparisonError
from vfm_isbench.results.difference_text import interval, number
from vfm_isbench.results.measured import stored
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.resolution import resolution_of
from vfm_isbench.results.table import lay_out
from vfm_isbench.storage.atomic import write_text

BROKEN = '''"""Broken on purpose: half the resolution of the features, and blocks instead of interpolation."""

import torch
from torch.nn import functional


class Broken(torch.nn.Module):
    def forward(self, features, image):
        return functional.interpolate(functional.avg_pool2d(features, 2), image.shape[-2:], mode="nearest")
'''


@dataclass(frozen=True)
class Case:
    """What is judged.

    Attributes:
        name: Name of the case, and first part of its run folders.
        spec: Upsampler.
        seeds: Seeds.
        forbidden: Verdicts that fail the program.
    """

    name: str
    spec: str
    seeds: Sequence[int]
    forbidden: tuple[str, ...] = ()


def run_all(case: Case, protocol: str, output: Path) -> tuple[list[Path], float]:
    """Do the runs of a case that have no result yet; return the run folders, and the CPU seconds of all of them."""
    folders = [output / f"{case.name}-seed{seed}" for seed in case.seeds]
    seconds = 0.0
    for seed, folder in zip(case.seeds, folders, strict=True):
        if not (folder / "result.json").is_file():
            words = ["run", case.spec, "--protocol", protocol, "--seed", str(seed), "--output", str(folder), "--quiet"]
            print(f"$ vfm-isbench {shlex.join(words)}", flush=True)
            began = time.process_time()
            if code := cli.main(words):
                sys.exit(f"exit code {code}")
            write_text(folder / "cpu.json", json.dumps({"seconds": time.process_time() - began}))
        seconds += cpu_seconds(folder)
    return folders, seconds


def cpu_seconds(folder: Path) -> float:
    """CPU time of a run; the wall time that its result records, if another command did it."""
    file = folder / "cpu.json"
    if file.is_file():
        return float(json.loads(file.read_text(encoding="utf-8"))["seconds"])
    return sum(Result.load(folder / "result.json").timings.values())


def smallest_difference(protocol: Protocol, metric: str, seeds: int) -> float | None:
    """The difference that the protocol shows with 80 % probability, from stored components; None if there are none."""
    try:
        return resolution_of(stored(protocol), seeds=seeds, metric=metric).smallest(metric)
    except ComparisonError:
        return None


def rows_of(case: Case, found: Regression, seconds: float) -> list[list[str]]:
    """One row per data set."""
    metric = Metric.named(found.metric)
    return [
        [
            case.name,
            ",".join(map(str, case.seeds)),
            one.difference.dataset,
            one.verdict,
            number(one.worsening.value, metric, signed=True),
            interval(one.worsening.low, one.worsening.high, metric),
            f"{seconds / 60:.1f}",
        ]
        for one in found.judgements
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upsampler", default="bilinear")
    parser.add_argument("--protocol", default="demo")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--other-seeds", nargs="+", type=int, default=[3, 4, 5])
    parser.add_argument("--metric", help="default: the protocol's headline score")
    parser.add_argument("--margin", type=float, help="default: the smallest difference that vfm-isbench power names")
    parser.add_argument("--output", type=Path, default=Path("runs/gate"))
    options = parser.parse_args(arguments)
    protocol, output = Protocol.preset(options.protocol), options.output
    metric = options.metric or protocol.headline
    smallest = smallest_difference(protocol, metric, len(options.seeds))
    margin = smallest if options.margin is None else options.margin
    if margin is None:
        parser.error(f"nothing is stored about the resolution of {options.protocol!r}: give --margin")
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "broken.py", BROKEN)
    cases = [
        Case("unchanged", options.upsampler, options.other_seeds, ("regression", "incomparable")),
        Case("broken", f"{output / 'broken.py'}:Broken", options.seeds, ("pass", "incomparable")),
        Case("rerun", options.upsampler, options.seeds, ("regression", "inconclusive", "incomparable")),
    ]
    baseline, seconds = run_all(Case("baseline", options.upsampler, options.seeds), options.protocol, output)
    print(f"\nbaseline: {options.upsampler}, seeds {options.seeds}, {seconds / 60:.1f} CPU minutes")
    rows, wrong = [["case", "seeds", "data set", "verdict", "worse by", "bounds", "CPU min"]], []
    for case in cases:
        folders, seconds = run_all(case, options.protocol, output)
        found = vfm_isbench.regress(folders, baseline, metric=metric, margin=margin)
        rows += rows_of(case, found, seconds)
        if found.verdict in case.forbidden:
            wrong.append(f"{case.name}: {found}")
    score = Metric.named(metric)
    shown = "unknown" if smallest is None else number(smallest, score)
    print(f"{score.label}, margin {number(margin, score)}; smallest difference by vfm-isbench power: {shown}\n")
    print("\n".join(lay_out(rows)))
    if wrong:
        sys.exit("\n" + "\n\n".join(wrong))


if __name__ == "__main__":
    main()
