"""Does the demo protocol tell upsamplers apart? Several upsamplers, several seeds, paired differences.

    python benchmarks/recipes/demo.py --output runs/demo

Every pair of neighbours in the list is compared on the same objects and seeds: mean difference of the mean IoU over all
clicks, and of NoC80, averaged over the seeds, with a 95 % interval from a bootstrap that draws whole images (objects of
an image are not independent). Interrupted runs go on where they stopped. The run folders, NAME-seedN in the output
folder, are what ``vfm-isbench leaderboard submit`` makes entries of.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np

from vfm_isbench import Benchmark, Protocol, Result
from vfm_isbench.metrics import number_of_clicks

RESAMPLES = 10_000


def measure(names: list[str], seeds: list[int], output: Path, protocol: Protocol) -> dict[str, list[Result]]:
    """Run what is not there yet."""
    results: dict[str, list[Result]] = {name: [] for name in names}
    for seed in seeds:
        for name in names:
            folder = output / f"{name}-seed{seed}"
            done = folder / "result.json"
            if done.is_file():
                result = Result.load(done)
            else:
                result = Benchmark(protocol.replace(seed=seed), output_dir=folder).run(name)
            results[name].append(result)
            print(f"\n{result}\n", flush=True)
    return results


def per_object(results: list[Result], score: str) -> np.ndarray:
    """Score of every object, averaged over the seeds."""
    (dataset,) = results[0].datasets
    ious = np.stack([result.datasets[dataset].ious for result in results])
    if score == "mean IoU":
        return ious.mean(axis=(0, 2))
    return np.mean([number_of_clicks(of_seed, 0.8) for of_seed in ious], axis=0)


def interval(difference: np.ndarray, images: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """95 % percentile interval of the mean, images drawn with replacement."""
    _, index = np.unique(images, return_inverse=True)
    sums, counts = np.bincount(index, weights=difference), np.bincount(index)
    drawn = rng.integers(len(sums), size=(RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def compare(results: dict[str, list[Result]]) -> None:
    """Print the paired differences of neighbours."""
    rng = np.random.default_rng(0)
    for (worse, first), (better, second) in pairwise(results.items()):
        (found,) = first[0].datasets.values()
        images = np.array([evidence.object_id.image for evidence in found.objects])
        for score in ("mean IoU", "NoC80"):
            difference = per_object(second, score) - per_object(first, score)
            low, high = interval(difference, images, rng)
            by_seed = [
                float(np.mean(per_object([b], score) - per_object([a], score)))
                for a, b in zip(first, second, strict=True)
            ]
            seeds = ", ".join(f"{value:+.3f}" for value in by_seed)
            print(f"{better} − {worse}: {score} {difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]  by seed: {seeds}")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upsamplers", nargs="+", default=["nearest", "bilinear", "jbu"], help="from worse to better")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("runs/demo"))
    options = parser.parse_args()
    results = measure(options.upsamplers, options.seeds, options.output, Protocol.preset("demo"))
    compare(results)


if __name__ == "__main__":
    main()
