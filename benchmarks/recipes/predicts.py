"""How well does a smaller protocol predict what `paper` says? Run both, and compare what they say of pairs.

    python benchmarks/recipes/predicts.py --data-root data --output runs/predicts --device cuda --workers 8

Runs every upsampler with every seed under every protocol (finished runs are kept, interrupted ones resumed), then looks
at each pair of upsamplers on each test set that the protocols share; sbd600 counts as sbd. The table shows Kendall's τ
between the two orders by mean NoC, and of the pairs that the large protocol separates, how many the small one separates
the same way, leaves open, or separates the other way. `--only-table` reads the runs that are there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from vfm_isbench import Result, VfmIsbenchError, cli, compare

UPSAMPLERS = ("nearest", "bilinear", "bicubic", "jbu", "featup:dinov2", "loftup:dinov2s")
SAME_IMAGES = {"sbd600": "sbd"}
"""Samples of a data set, and which data set of the large protocol they stand for."""

Runs = Mapping[str, Sequence[Result]]
"""The runs of each upsampler under one protocol, one per seed."""


@dataclass(frozen=True)
class Agreement:
    """What a small protocol says of the pairs that a large one speaks of.

    Attributes:
        pairs: All pairs of upsamplers.
        same_order: Pairs whose mean scores are in the same order.
        separated: Pairs that the large protocol separates.
        confirmed: Of these, pairs that the small one separates the same way.
        left_open: Of these, pairs that the small one does not separate.
        contradicted: Of these, pairs that the small one separates the other way.
    """

    pairs: int
    same_order: int
    separated: int
    confirmed: int
    left_open: int
    contradicted: int

    @property
    def kendall(self) -> float:
        """Kendall's τ of the two orders."""
        return (2 * self.same_order - self.pairs) / self.pairs


def agreement(small: Runs, large: Runs, datasets: tuple[str, str], metric: str) -> Agreement:
    """Compare all pairs of upsamplers on a data set of the small and one of the large protocol."""
    counts = dict.fromkeys(("same_order", "separated", "confirmed", "left_open", "contradicted"), 0)
    pairs = list(combinations([name for name in large if name in small], 2))
    for first, second in pairs:
        verdicts = []
        for runs, dataset in zip((small, large), datasets, strict=True):
            (found,) = compare(runs[first], runs[second], datasets=[dataset], metrics=[metric]).differences
            difference = found.second_value - found.first_value
            verdicts.append((difference > 0, found.is_separable))
        (small_sign, small_separates), (large_sign, large_separates) = verdicts
        counts["same_order"] += small_sign == large_sign
        if large_separates:
            counts["separated"] += 1
            outcome = (
                "left_open" if not small_separates else "confirmed" if small_sign == large_sign else "contradicted"
            )
            counts[outcome] += 1
    return Agreement(len(pairs), **counts)


def folder_of(output: Path, protocol: str, upsampler: str, seed: int) -> Path:
    """The run folder of one run."""
    return output / protocol / f"{upsampler.replace(':', '-')}-seed{seed}"


def run_all(options: argparse.Namespace) -> None:
    """Do the runs that have no result yet, the small protocols first."""
    for protocol in [*options.protocols, options.large]:
        for seed in options.seeds:
            for upsampler in options.upsamplers:
                folder = folder_of(options.output, protocol, upsampler, seed)
                if (folder / "result.json").is_file():
                    continue
                words = ["run", upsampler, "--protocol", protocol, "--seed", str(seed), "--output", str(folder)]
                words += ["--device", options.device, "--workers", str(options.workers), "--quiet"]
                words += ["--data-root", str(options.data_root)] if options.data_root else []
                words += [word for text in options.set for word in ("--set", text)]
                print("$ vfm-isbench " + " ".join(words), flush=True)
                if code := cli.main(words):
                    sys.exit(f"the run ended with exit code {code}")


def results_of(options: argparse.Namespace, protocol: str) -> dict[str, list[Result]]:
    """The finished runs of a protocol; upsamplers of which a seed is missing are left out."""
    found = {}
    for upsampler in options.upsamplers:
        folders = [folder_of(options.output, protocol, upsampler, seed) for seed in options.seeds]
        if all((folder / "result.json").is_file() for folder in folders):
            found[upsampler] = [Result.load(folder / "result.json") for folder in folders]
    return found


def hours(runs: Runs) -> float:
    """Mean hours of a run, as its result says."""
    spent = [sum(result.timings.values()) for results in runs.values() for result in results]
    return sum(spent) / len(spent) / 3600


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--protocols", nargs="+", default=["quick", "lite"], help="the smaller protocols")
    parser.add_argument("--large", default="paper", help="the protocol to predict")
    parser.add_argument("--upsamplers", nargs="+", default=list(UPSAMPLERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--metrics", nargs="+", default=["noc80", "noc90"])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/predicts"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="changes every protocol")
    parser.add_argument("--only-table", action="store_true", help="run nothing")
    options = parser.parse_args(arguments)
    if not options.only_table:
        run_all(options)
    large = results_of(options, options.large)
    print("| Protocol | Hours per run | Test set | Score | Pairs | τ | Separated | Confirmed | Open | Contradicted |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for protocol in options.protocols:
        small = results_of(options, protocol)
        shared = [name for name in large if name in small]
        if len(shared) < 2:
            sys.exit(f"fewer than two upsamplers have all their runs under {protocol} and {options.large}")
        known = set(large[shared[0]][0].datasets)
        for dataset in small[shared[0]][0].datasets:
            same = dataset if dataset in known else SAME_IMAGES.get(dataset)
            if same not in known:
                continue
            for metric in options.metrics:
                try:
                    found = agreement(small, large, (dataset, same), metric)
                except VfmIsbenchError as error:
                    sys.exit(str(error))
                spent = f"{hours(small):.2f} ({options.large}: {hours(large):.2f})"
                counts = (found.separated, found.confirmed, found.left_open, found.contradicted)
                cells = [protocol, spent, dataset, metric, found.pairs, f"{found.kendall:.2f}", *counts]
                print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
