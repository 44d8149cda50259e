"""Study: can a probe follow a granularity, and what does that do to the backbone's features?

    python benchmarks/recipes/study_granularity.py --backbone-weights runs/studies/vit

trains a probe without granularity, and the three ways to use one (protocol fields ``granularity``, ``lora_rank`` and
``lora_alpha``), on scenes whose objects have parts. It then evaluates the trained probes again with one granularity for
all objects, and measures how far the adapters have moved the features of each layer. ``docs/studies/granularity.md``
shows the figures. At full size, on a data set with parts:

    python benchmarks/recipes/study_granularity.py --protocol paper --backbone dinov2_vits14 --lora-alpha 8 \
        --train folder:PARTS/train --test folder:PARTS/val --device cuda --workers 8
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from study.cases import Case, add_arguments, parallel, results_of, run_cases, run_study, study_protocol, vfm_isbench
from study.kept import keep, keep_figures, kept, kept_figures
from study.page import table, write_page
from study.statistics import mean_difference, shown

from vfm_isbench import Result
from vfm_isbench.datasets import ObjectDataset, open_dataset, read_sample
from vfm_isbench.inspection.distortion import layer_distortions
from vfm_isbench.runs.checkpoints import load_trained
from vfm_isbench.types import PART_LABELS

NAME = "granularity"
UPSAMPLER = "bilinear"
WITHOUT = "no granularity"
WAYS = {WITHOUT: "none", "input": "input", "LoRA": "lora", "gated LoRA": "gated_lora"}
"""Lines of the table, and the value of the protocol's field."""
LEVELS = {"objects": 0, "parts": 1, "parts of parts": 2}
FIXED = {"1": 1.0, "0.4": 0.4, "0.1": 0.1}
"""Granularities that all objects are evaluated with; about the medians of the three levels of part_scenes."""
METRICS = ("noc80", "noc90")
_IMAGES = 8
"""Images whose features are compared."""


def cases(arguments: argparse.Namespace) -> list[Case]:
    """The probe without granularity, and the three ways."""
    base = study_protocol(arguments).replace(
        backbone=arguments.backbone,
        train_dataset=arguments.train,
        validation_dataset=arguments.train,
        validation_samples=0,
        test_datasets=(arguments.test,),
        sample_weights="uniform",
    )
    weights = () if arguments.backbone_weights is None else ("--backbone-weights", str(arguments.backbone_weights))
    options = ("--random-weights",) if arguments.random_weights else weights
    return [
        Case(
            label=label,
            upsampler=UPSAMPLER,
            protocol=base.replace(granularity=way, **({"lora_alpha": arguments.lora_alpha} if "lora" in way else {})),
            options=options,
        )
        for label, way in WAYS.items()
    ]


def blocks() -> dict[str, str]:
    """The page's tables, from what is kept."""
    results, figures = kept(NAME), kept_figures(NAME)
    if not results:
        return dict.fromkeys(("scores", "differences", "fixed", "distortion"), "*Not measured yet.*")
    return {
        "scores": _scores(results),
        "differences": _differences(results),
        "fixed": _fixed(results, figures["fixed"]),
        "distortion": _distortions(figures["distortion"]),
    }


def at_level(results: Sequence[Result], level: int | None) -> list[Result]:
    """The results on the objects of one level; None for all."""
    if level is None:
        return list(results)
    found = []
    for result in results:
        ((name, data),) = result.datasets.items()
        chosen = np.array([(one.object_id.instance or 0) // PART_LABELS == level for one in data.objects])
        found.append(dataclasses.replace(result, datasets={name: data.of_objects(chosen)}))
    return found


def score(results: Sequence[Result], metric: str, level: int | None) -> float:
    """Mean over seeds of a score on the objects of a level; NaN if there are none."""
    values = [next(iter(result.datasets.values())) for result in at_level(results, level)]
    return float(np.mean([data.scores()[metric] for data in values])) if values[0].objects else float("nan")


def _scores(results: Mapping[str, Sequence[Result]]) -> str:
    levels: dict[str, int | None] = {"all": None, **LEVELS}
    rows = [["", *(f"{_named(metric)} {level}" for metric in METRICS for level in levels)]]
    for label, runs in results.items():
        rows.append([label, *(f"{score(runs, metric, at):.2f}" for metric in METRICS for at in levels.values())])
    return table(rows)


def _differences(results: Mapping[str, Sequence[Result]]) -> str:
    pairs = [(WITHOUT, label) for label in results if label != WITHOUT]
    pairs += [("input", label) for label in results if label not in (WITHOUT, "input")]
    levels: dict[str, int | None] = {"all": None, **LEVELS}
    rows = [["", *levels]]
    for metric in METRICS:
        for first, second in pairs:
            if first in results:
                found = [
                    mean_difference(at_level(results[first], at), at_level(results[second], at), metric)
                    for at in levels.values()
                ]
                rows.append([f"{_named(metric)}: {second} − {first}", *map(shown, found)])
    return table(rows)


def _fixed(results: Mapping[str, Sequence[Result]], figures: Mapping[str, Any]) -> str:
    rows = [["", "granularity", *LEVELS]]
    for label in results:
        for value, by_level in figures.get(label, {}).items():
            rows.append([label, value, *(f"{by_level[level]:.2f}" if level in by_level else "" for level in LEVELS)])
    return table(rows, text_columns=2)


def _distortions(figures: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    layers = list(next(iter(figures.values())))
    rows = [["", *layers]]
    for label, by_layer in figures.items():
        rows.append([label, *(_spread(by_layer[layer]) for layer in layers)])
    return table(rows)


def _spread(values: Sequence[float]) -> str:
    return "0" if not any(values) else f"{np.mean(values):.2g} ({min(values):.2g} to {max(values):.2g})"


def _named(metric: str) -> str:
    return f"NoC{metric.removeprefix('noc')}"


def evaluate_fixed(folder: Path, arguments: argparse.Namespace) -> None:
    """Evaluate a trained probe with one granularity for all objects, once for each of :data:`FIXED`."""
    for label, value in FIXED.items():
        output = folder / f"fixed-{label}.json"
        words = ["eval", str(folder), "--granularity", str(value), "--output", str(output), "--quiet"]
        words += ["--device", arguments.device, "--limit", str(arguments.fixed_limit)]
        words += ["--datasets", arguments.test] if arguments.test.startswith("folder:") else []
        words += ["--data-root", str(arguments.data_root)] if arguments.data_root else []
        words += ["--backbone-weights", str(arguments.backbone_weights)] if arguments.backbone_weights else []
        words += ["--random-weights"] if arguments.random_weights else []
        if not output.is_file() and (reason := vfm_isbench(words, arguments.jobs)):
            print(f"skipped: {output}: {reason}", file=sys.stderr)


def distortions(folders: Sequence[Path], arguments: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Distortion by layer and seed, as mean over :data:`FIXED`: of what the upsampler gets, and of a gated copy."""
    found: dict[str, dict[str, list[float]]] = {}
    for folder in folders:
        weights = None if arguments.random_weights else arguments.backbone_weights
        options = {"backbone_weights": weights, "random_weights": arguments.random_weights, "device": arguments.device}
        trained = load_trained(folder, **options)
        protocol = trained.protocol
        dataset = open_dataset(arguments.test, "test", arguments.data_root, protocol)
        images = pictures(dataset, protocol.image_size)
        for name, of_copy in {"what the upsampler gets": False, "the gated copy": True}.items():
            if of_copy and protocol.granularity != "gated_lora":
                continue
            each = [layer_distortions(trained.probe, images, value, of_copy=of_copy) for value in FIXED.values()]
            label = next(label for label, way in WAYS.items() if way == protocol.granularity)
            layers = found.setdefault(f"{label}: {name}", {})
            for layer in each[0]:
                layers.setdefault(layer, []).append(float(np.mean([one[layer] for one in each])))
    return found


def pictures(dataset: ObjectDataset, side: int) -> Tensor:
    """The first images of a data set, resized: B×3×side×side in [0, 1]."""
    found = []
    for image_id in dataset.image_ids[:_IMAGES]:
        pixels = torch.from_numpy(np.array(read_sample(dataset, image_id).image)).permute(2, 0, 1)[None].float() / 255
        found.append(functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True))
    return torch.cat(found)


def gather_fixed(folders: Mapping[str, Sequence[Path]]) -> dict[str, dict[str, dict[str, float]]]:
    """NoC80 by way, fixed granularity and level."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for label, of_case in folders.items():
        for value in FIXED:
            files = [folder / f"fixed-{value}.json" for folder in of_case]
            if all(file.is_file() for file in files):
                runs = [Result.load(file) for file in files]
                own = [_as_far(Result.load(folder), run) for folder, run in zip(of_case, runs, strict=True)]
                for name, each in {"each its own": own, f"{value} for all": runs}.items():
                    by_level = {level: score(each, "noc80", number) for level, number in LEVELS.items()}
                    by_level = {level: value for level, value in by_level.items() if not np.isnan(value)}
                    found.setdefault(label, {})[name] = by_level
    return found


def _as_far(result: Result, other: Result) -> Result:
    """A result on the objects of another one, which are the first of its own."""
    ((name, data),) = result.datasets.items()
    count = len(next(iter(other.datasets.values())).objects)
    return dataclasses.replace(result, datasets={name: data.of_objects(np.arange(len(data.objects)) < count)})


def main(arguments: argparse.Namespace) -> None:
    """Run what is missing, keep it, and write the page."""
    if not arguments.only_page:
        wanted = cases(arguments)
        runs = run_cases(wanted, arguments)
        adapted = {label: folders for label, folders in runs.folders.items() if label != WITHOUT}
        every = [folder for folders in adapted.values() for folder in folders]
        parallel(lambda folder: evaluate_fixed(folder, arguments), every, arguments)
        figures = {"fixed": gather_fixed(adapted), "distortion": distortions(every, arguments)}
        if arguments.keep:
            keep(NAME, results_of(wanted, arguments).results)
            keep_figures(NAME, figures)
        else:
            print(json.dumps(figures, indent=1))
            return
    write_page(NAME, blocks())


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(options, NAME)
    options.add_argument("--backbone", default="hf-hub:studies/vit")
    options.add_argument("--backbone-weights", type=Path, help="file or folder with the backbone's weights")
    options.add_argument("--random-weights", action="store_true", help="try out the recipe without weights")
    options.add_argument("--train", default="part_scenes", help="data set with parts to train on")
    options.add_argument("--test", default="part_scenes", help="data set with parts to test on")
    options.add_argument("--lora-alpha", type=float, default=0.8, help="protocol field lora_alpha (default: 0.8)")
    options.add_argument("--fixed-limit", type=int, default=100, help="objects evaluated with a fixed granularity")
    options.add_argument("--no-keep", dest="keep", action="store_false", help="write neither entries nor page")
    return options


if __name__ == "__main__":
    run_study(lambda: main(parser().parse_args()))
