"""Go through the whole leaderboard with the demo protocol: run, submit, validate, table, page, compare, regress.

    python benchmarks/recipes/demo.py --output runs/demo

It runs four built-in upsamplers, from worse to better, with three training seeds each, and resumes interrupted runs.
Every step is a command, printed as you would type it, with its exit code; the recipe stops at the first unexpected one.
The regression tests produce each of the five outcomes. Entries, table and page go into the output folder;
``--entries benchmarks/entries --table leaderboard.csv`` makes those of this repository.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from vfm_isbench import Protocol, cli

NAMES = ("nearest", "bilinear", "bicubic", "jbu")


def command(*arguments: str | Path, ends: int = 0) -> None:
    """Print and run a command; exit if its exit code is not the expected one."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ vfm-isbench {shlex.join(words)}", flush=True)
    code = cli.main(words)
    print(f"[exit code {code}]", flush=True)
    if code != ends:
        sys.exit(f"expected exit code {ends}")


def run_all(names: Sequence[str], seeds: Sequence[int], protocol: str, output: Path) -> dict[str, list[Path]]:
    """Do the runs that have no result yet; return the run folders of each upsampler."""
    folders = {name: [output / f"{name}-seed{seed}" for seed in seeds] for name in names}
    for number, seed in enumerate(seeds):
        for name in names:
            folder = folders[name][number]
            if not (folder / "result.json").is_file():
                command("run", name, "--protocol", protocol, "--seed", str(seed), "--output", folder)
    return folders


def submit_all(folders: dict[str, list[Path]], protocol: str, entries: Path) -> None:
    """Make the missing entries, bilinear first, because every other entry of its protocol requires it."""
    ending = Protocol.preset(protocol).fingerprint()[:12]
    for name in sorted(folders, key=lambda name: name != "bilinear"):
        if not (entries / f"{name}-{ending}.json.gz").exists():
            about = ["--name", name, "--spec", name, "--submitter", "the vfm_isbench authors"]
            command("leaderboard", "submit", *folders[name], *about, "--entries", entries)


def regress_all(folders: dict[str, list[Path]], protocol: str, output: Path) -> None:
    """Run regression tests with each of the five outcomes."""
    worst, *_, best = folders
    baseline = ("--baseline", *folders[best], "--metric", "mean_iou", "--margin", "0.01")
    command("regress", *folders[best], *baseline, ends=0)
    command("regress", *folders[worst], *baseline, ends=1)
    command("regress", output / "nothing-here.json", *baseline, ends=2)
    few = output / "few-objects"
    command("run", worst, "--protocol", protocol, "--limit", "3", "--set", "epochs=1", "--output", few, "--quiet")
    command("regress", few, *baseline, ends=3)
    # Smaller than the difference between training seeds: only more objects or seeds could decide.
    narrow = ("--baseline", folders["bilinear"][0], "--metric", "noc90", "--margin", "0")
    command("regress", folders["bilinear"][1], *narrow, ends=4)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upsamplers", nargs="+", default=NAMES, help="from worse to better")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--protocol", default="demo")
    parser.add_argument("--output", type=Path, default=Path("runs/demo"))
    parser.add_argument("--entries", type=Path, help="folder of entries (default: OUTPUT/entries)")
    parser.add_argument("--table", type=Path, help="table to write (default: OUTPUT/leaderboard.csv)")
    options = parser.parse_args(arguments)
    output, entries = options.output, options.entries or options.output / "entries"
    table = options.table or output / "leaderboard.csv"
    folders = run_all(options.upsamplers, options.seeds, options.protocol, output)
    submit_all(folders, options.protocol, entries)
    command("leaderboard", "validate", "--entries", entries)
    command("leaderboard", "csv", "--entries", entries, "--output", table)
    command("leaderboard", "csv", "--entries", entries, "--output", table, "--check")
    command("leaderboard", "build", "--entries", entries, "--output", output / "site")
    for worse, better in pairwise(options.upsamplers):
        command("compare", *folders[worse], *folders[better])
    regress_all(folders, options.protocol, output)


if __name__ == "__main__":
    main()
