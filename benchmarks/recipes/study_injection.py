"""Why do click encoder and injection come in pairs, and what does depth decide? See docs/studies/injection.md.

    python benchmarks/recipes/study_backbone.py --output runs/studies/vit
    python benchmarks/recipes/study_injection.py --backbone-weights runs/studies/vit
    python benchmarks/recipes/study_injection.py --protocol paper --data-root data --device cuda --workers 8

It trains two click encoders with three injections, and SimpleViT with 0, 1, 2 and 6 blocks with early and late
injection. Three figures explain what comes out: the norm of the gradient that reaches the click encoder in each step,
recorded by a hook of PyTorch's optimisers around the library's own run; how far a click reaches, as the mean change of
the trained network's logits by distance from an added click; and the courses of the loss. Finished runs are kept.

Under the demo, the backbone is the small transformer of ``study_backbone.py``, and SimpleViT is as narrow as it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from study.cases import Case, Runs, add_arguments, parallel, run_cases, run_study, study_protocol
from study.kept import keep, keep_figures, kept, kept_figures
from study.page import table, write_page
from study.statistics import mean, mean_difference, shown

from vfm_isbench import Protocol, Result, cli
from vfm_isbench.clicks import click_maps, next_click, points_tensor
from vfm_isbench.datasets import open_dataset
from vfm_isbench.probe import Probe
from vfm_isbench.runs.checkpoints import load_trained
from vfm_isbench.storage.atomic import replacing, write_text
from vfm_isbench.storage.strict_json import read_json
from vfm_isbench.types import Array, Click

NAME = "injection"
PICTURES = Path(__file__).parents[2] / "docs" / "images"
PICTURE, DEPTH_PICTURE = f"study-{NAME}.png", f"study-{NAME}-depth.png"
ENCODERS = ("patch_embedding", "simple_vit")
INJECTIONS = ("early", "late", "pre_upsampler")
DEPTHS = (0, 1, 2, 6)
METRICS = ("mean_iou", "iou_at_1", "iou_at_5", "noc90")
LABELS = {"mean_iou": "mean IoU", "iou_at_1": "IoU@1", "iou_at_5": "IoU@5", "noc90": "NoC90"}
GRADIENTS, REACH = "gradients.json", "reach.json"
"""What a run folder keeps besides the run."""

DISTANCES = (0, 5, 10, 15, 20, 30, 40, 60, 90)
"""Edges of the rings around an added click, in percent of the side of the network's input."""
OBJECTS = 48
POINTS = 40
"""Points of a curve of gradient norms."""
STEP_PROGRAM = "--traced-run"

# The transformer has 64 channels and 144 tokens; so few steps need a learning rate above the paper's.
DEMO_CHANGES: dict[str, Any] = {
    "backbone": "hf-hub:studies/vit",
    "simple_vit_heads": 4,
    "simple_vit_head_width": 16,
    "simple_vit_hidden": 256,
    "learning_rate": 2e-3,
    "samples_per_epoch": 160,
    "object_limit": 64,
}


def cases(protocol: Protocol, weights: Path | None = None) -> list[Case]:
    """Two encoders with three injections, then the other depths of SimpleViT with two.

    Args:
        protocol: A preset, with a limit of objects if there is one.
        weights: Folder of the demo's backbone.
    """
    is_demo, limit = protocol.name == "demo", protocol.object_limit
    base = protocol.replace(**DEMO_CHANGES) if is_demo else protocol
    base = base if limit is None else base.replace(object_limit=limit)
    settings: dict[str, dict[str, Any]] = {
        f"{encoder}, {injection}": {"click_encoder": encoder, "injection": injection, "simple_vit_depth": 6}
        for encoder in ENCODERS
        for injection in INJECTIONS
    }
    settings |= {
        _label(depth, injection): {"click_encoder": "simple_vit", "injection": injection, "simple_vit_depth": depth}
        for depth in DEPTHS[:-1]
        for injection in ("early", "late")
    }
    return [
        Case(
            label=label,
            upsampler="bilinear",
            protocol=base.replace(**changes),
            options=("--backbone-weights", str(weights)) if is_demo and weights is not None else (),
            program=(__file__, STEP_PROGRAM),
        )
        for label, changes in settings.items()
    ]


def _label(depth: int, injection: str) -> str:
    return f"simple_vit, {injection}" if depth == DEPTHS[-1] else f"simple_vit of {depth}, {injection}"


@contextmanager
def recorded_norms(of_head: int, steps: dict[str, list[float]]) -> Iterator[None]:
    """Record the gradient norms of click encoder and head in every step of an optimiser inside a block.

    Args:
        of_head: How many of the trained weights are the head's; they come after those of the click encoder.
        steps: Gets the two norms by the number of steps before.
    """
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    def record(optimizer: torch.optim.Optimizer, *_: object) -> None:
        weights = optimizer.param_groups[0]["params"]
        done = optimizer.state.get(weights[0], {}).get("step", 0)
        steps[str(int(done))] = [_norm(weights[:-of_head]), _norm(weights[-of_head:])]

    hook = register_optimizer_step_pre_hook(record)
    try:
        yield
    finally:
        hook.remove()


def traced_run(words: Sequence[str]) -> int:
    """``vfm-isbench run …``, with the gradient norms of each step written into the run folder."""
    folder = Path(words[words.index("--output") + 1])
    # Each convolution of the head has a weight and a bias.
    of_head = 2 * Protocol.preset(words[words.index("--protocol") + 1]).head_layers + 2
    file = folder / GRADIENTS
    steps: dict[str, list[float]] = read_json(file)["steps"] if file.is_file() else {}
    try:
        with recorded_norms(of_head, steps):
            return cli.main(words)
    finally:
        if folder.is_dir():
            write_text(file, json.dumps({"steps": steps}))


def _norm(weights: Sequence[torch.Tensor]) -> float:
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(one) for one in gradients])))


def gradient_curve(steps: Mapping[str, Sequence[float]], points: int = POINTS) -> dict[str, list[float]]:
    """Medians over stretches of the training: of the click encoder's norm, and of its ratio to the head's.

    Args:
        steps: For each step its two norms.
        points: Stretches.
    """
    norms = np.array([steps[key] for key in sorted(steps, key=int)])
    stretches = np.array_split(norms, min(points, len(norms)))
    return {
        "step": [_rounded(float(np.mean(part))) for part in np.array_split(np.arange(len(norms)), len(stretches))],
        "norm": [_rounded(np.median(part[:, 0])) for part in stretches],
        "ratio": [_rounded(np.median(part[:, 0] / np.maximum(part[:, 1], 1e-12))) for part in stretches],
    }


def _rounded(value: Any) -> float:
    return float(f"{float(value):.4g}")


def measure_reach(probe: Probe, protocol: Protocol, images: Sequence[tuple[Array, Array]]) -> list[float | None]:
    """How much an added click changes the logits at each distance from it, relative to their spread.

    On each whole image, the trained network gets the first click of the simulated user and its own prediction as the
    previous mask. Then the second click is added, all else equal. The absolute change of the logits is averaged over
    rings around that click, and divided by the standard deviation of the logits before.

    Args:
        probe: The trained probe.
        protocol: Its protocol.
        images: Images H×W×3 and masks H×W.

    Returns:
        One number per ring of :data:`DISTANCES`; None where no image has such pixels.
    """
    size, sums, counts = protocol.image_size, np.zeros(len(DISTANCES) - 1), np.zeros(len(DISTANCES) - 1)
    rows, cols = np.mgrid[:size, :size]
    for image, mask in images:
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        resized = torch.nn.functional.interpolate(pixels, (size, size), mode="bilinear", align_corners=True)
        truth = torch.from_numpy((mask == 1).astype(np.float32))[None, None]
        truth_small = torch.nn.functional.interpolate(truth, (size, size))[0, 0].numpy().astype(np.int8)
        if not truth_small.any():
            continue
        clicked = np.zeros((size, size), dtype=bool)
        first = next_click(truth_small, clicked, clicked)
        nothing = torch.zeros(1, 1, size, size)
        previous = torch.sigmoid(_logits(probe, protocol, resized, nothing, [first]))
        clicked[int(first.row), int(first.col)] = True
        second = next_click(truth_small, previous[0, 0].numpy() > protocol.prediction_threshold, clicked)
        before = _logits(probe, protocol, resized, previous, [first])
        after = _logits(probe, protocol, resized, previous, [first, second])
        change = ((after - before).abs() / before.std().clamp_min(1e-6))[0, 0].numpy()
        distance = 100 * np.hypot(rows - second.row, cols - second.col) / size
        ring = np.digitize(distance, DISTANCES) - 1
        for number in range(len(sums)):
            if (ring == number).any():
                sums[number] += change[ring == number].mean()
                counts[number] += 1
    return [_rounded(total / count) if count else None for total, count in zip(sums, counts, strict=True)]


@torch.no_grad()
def _logits(
    probe: Probe, protocol: Protocol, image: torch.Tensor, previous: torch.Tensor, clicks: Sequence[Click]
) -> torch.Tensor:
    maps = click_maps(points_tensor([clicks]), previous, protocol.disk_radius)
    return probe(image.to(probe.device), maps.to(probe.device)).cpu()


def measure_reach_of(folder: Path, arguments: argparse.Namespace) -> None:
    """Write the reach of a click in the network of a run folder, unless it is there."""
    if (folder / REACH).is_file():
        return
    weights = arguments.backbone_weights if arguments.protocol.startswith("demo") else None
    trained = load_trained(folder, backbone_weights=weights, device=arguments.device)
    dataset = open_dataset(trained.protocol.test_datasets[0], "test", arguments.data_root, trained.protocol)
    images = []
    for object_id in dataset.objects[: min(OBJECTS, trained.protocol.object_limit or OBJECTS)]:
        annotated = dataset.read(object_id.image)
        images.append((annotated.image, annotated.object_mask(object_id.instance)))
    with torch.random.fork_rng(devices=[]):
        reach = measure_reach(trained.probe, trained.protocol, images)
    write_text(folder / REACH, json.dumps({"reach": reach}))


def figures_of(runs: Runs) -> dict[str, Any]:
    """Means over seeds of what the run folders keep."""
    gradients, reach = {}, {}
    for label, folders in runs.folders.items():
        curves = [gradient_curve(read_json(folder / GRADIENTS)["steps"]) for folder in folders]
        gradients[label] = {
            key: [_rounded(value) for value in np.mean([curve[key] for curve in curves], axis=0)] for key in curves[0]
        }
        rings = np.array([read_json(folder / REACH)["reach"] for folder in folders], dtype=float)
        reach[label] = [None if np.isnan(value) else _rounded(value) for value in rings.mean(axis=0)]
    return {"gradients": gradients, "reach": reach, "distances": list(DISTANCES)}


def blocks() -> dict[str, str]:
    """The figures of the page."""
    results, figures = kept(NAME), kept_figures(NAME)
    if not results:
        return dict.fromkeys(("grid", "pairs", "depths", "explanations"), "Not run yet.")
    return {
        "grid": _grid(results),
        "pairs": _pairs(results),
        "depths": _depths(results),
        "explanations": _explanations(results, figures),
    }


def _cell(results: Mapping[str, Sequence[Result]], label: str, metric: str) -> str:
    if label not in results:
        return "–"
    return shown(mean(results[label], metric), percent=metric != "noc90", signed=False)


def _effect(results: Mapping[str, Sequence[Result]], first: str, second: str, metric: str) -> str:
    if first not in results or second not in results:
        return "–"
    return shown(mean_difference(results[first], results[second], metric), percent=metric != "noc90")


def _grid(results: Mapping[str, Sequence[Result]]) -> str:
    rows = [["click encoder", "injection", *(LABELS[name] for name in METRICS)]]
    for encoder in ENCODERS:
        for injection in INJECTIONS:
            label = f"{encoder}, {injection}"
            rows.append([f"`{encoder}`", f"`{injection}`", *(_cell(results, label, name) for name in METRICS)])
    return table(rows, text_columns=2)


def _pairs(results: Mapping[str, Sequence[Result]]) -> str:
    rows = [["from", "to", *(LABELS[name] for name in METRICS)]]
    pairs = [(f"{encoder}, early", f"{encoder}, late") for encoder in ENCODERS]
    pairs += [(f"{encoder}, pre_upsampler", f"{encoder}, late") for encoder in ENCODERS]
    pairs += [(f"patch_embedding, {injection}", f"simple_vit, {injection}") for injection in INJECTIONS]
    pairs += [("patch_embedding, early", "simple_vit, late")]
    rows += [[first, second, *(_effect(results, first, second, name) for name in METRICS)] for first, second in pairs]
    return table(rows, text_columns=2)


def _depths(results: Mapping[str, Sequence[Result]]) -> str:
    rows = [["blocks", "parameters of the encoder", "early, mean IoU", "late, mean IoU", "late − early"]]
    for depth in DEPTHS:
        early, late = _label(depth, "early"), _label(depth, "late")
        runs = results.get(late) or results.get(early)
        count = f"{int(runs[0].trained_parameters['click_encoder']):,}" if runs else "–"
        cells = [_cell(results, early, "mean_iou"), _cell(results, late, "mean_iou")]
        rows.append([str(depth), count, *cells, _effect(results, early, late, "mean_iou")])
    alternative = "Mean IoU by the number of blocks of SimpleViT, with early and with late injection"
    return f"{table(rows)}\n\n![{alternative}](../images/{DEPTH_PICTURE})"


def _explanations(results: Mapping[str, Sequence[Result]], figures: Mapping[str, Any]) -> str:
    far = sum(1 for edge in DISTANCES[:-1] if edge < 30)
    rows = [["case", "gradient norm, first tenth", "last tenth", "ratio to the head's, last tenth",
             "change at the click", "change beyond 30 % of the side", "loss, first epoch", "last epoch"]]  # fmt: skip
    for label, runs in results.items():
        curve, reach = figures["gradients"].get(label), figures["reach"].get(label)
        if curve is None or reach is None:
            continue
        tenth = max(1, len(curve["norm"]) // 10)
        beyond = [value for value in reach[far:] if value is not None]
        losses = np.mean([[epoch["loss"] for epoch in run.training] for run in runs], axis=0)
        numbers = [np.mean(curve["norm"][:tenth]), np.mean(curve["norm"][-tenth:]), np.mean(curve["ratio"][-tenth:])]
        numbers += [reach[0], np.mean(beyond) if beyond else np.nan, losses[0], losses[-1]]
        rows.append([label, *(f"{number:.3f}" for number in numbers)])
    alternative = "Gradient norm by step, change of the logits by distance from a click, loss by epoch; a line per pair"
    return f"{table(rows)}\n\n![{alternative}](../images/{PICTURE})"


def draw(pictures: Path = PICTURES) -> list[Path]:
    """Draw the pictures of the page from what is kept; returns their files."""
    results, figures = kept(NAME), kept_figures(NAME)
    if not results or not figures:
        return []
    from matplotlib.figure import Figure

    explained = Figure(figsize=(12, 4.2), layout="constrained")
    axes = explained.subplots(1, 3)
    _draw_lines(axes, results, figures)
    depths = Figure(figsize=(6, 4), layout="constrained")
    _draw_depths(depths.subplots(), results)
    files = [pictures / PICTURE, pictures / DEPTH_PICTURE]
    for figure, file in zip((explained, depths), files, strict=True):
        with replacing(file) as partial:
            # Without the version of matplotlib, the same figures give the same file.
            figure.savefig(partial, format="png", dpi=110, metadata={"Software": None})
    return files


def _draw_lines(axes: Any, results: Mapping[str, Sequence[Result]], figures: Mapping[str, Any]) -> None:
    middles = [(low + high) / 2 for low, high in zip(DISTANCES[:-1], DISTANCES[1:], strict=True)]
    styles = dict(zip(INJECTIONS, ("-", "--", ":"), strict=True))
    colours = dict(zip(ENCODERS, ("#c44e52", "#2a7f9e"), strict=True))
    for encoder in ENCODERS:
        for injection in INJECTIONS:
            label = f"{encoder}, {injection}"
            if label not in figures["gradients"] or label not in results:
                continue
            look = {"linestyle": styles[injection], "color": colours[encoder], "label": label}
            curve = figures["gradients"][label]
            axes[0].plot(curve["step"], curve["norm"], **look)
            axes[1].plot(middles, [np.nan if one is None else one for one in figures["reach"][label]], **look)
            losses = np.mean([[epoch["loss"] for epoch in run.training] for run in results[label]], axis=0)
            axes[2].plot(np.arange(1, len(losses) + 1), losses, **look)
    words = (
        ("gradient norm at the click encoder", "step"),
        ("change of the logits / their spread", "distance from the added click, % of the side"),
        ("training loss", "epoch"),
    )
    for axis, (above, below) in zip(axes, words, strict=True):
        axis.set(title=above, xlabel=below)
        axis.grid(alpha=0.3)
    for axis in axes[:2]:
        axis.set_yscale("log")
    axes[0].legend(fontsize=8)


def _draw_depths(axis: Any, results: Mapping[str, Sequence[Result]]) -> None:
    for injection, colour in (("early", "#c44e52"), ("late", "#2a7f9e")):
        found = [(number, mean(results[_label(depth, injection)], "mean_iou"))
                 for number, depth in enumerate(DEPTHS) if _label(depth, injection) in results]  # fmt: skip
        places = [number for number, _ in found]
        values = [100 * one.value for _, one in found]
        spread = [[100 * (one.value - one.low) for _, one in found], [100 * (one.high - one.value) for _, one in found]]
        axis.errorbar(places, values, yerr=spread, color=colour, marker="o", capsize=3, label=injection)
    axis.set(xlabel="blocks of SimpleViT", ylabel="mean IoU, %")
    axis.set_xticks(range(len(DEPTHS)), [str(depth) for depth in DEPTHS])
    axis.grid(alpha=0.3)
    axis.legend(title="injection")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, NAME)
    parser.add_argument(
        "--backbone-weights", type=Path, default=Path("runs/studies/vit"), help="of the demo's backbone"
    )
    arguments = parser.parse_args()
    if not arguments.only_page:
        runs = run_cases(cases(study_protocol(arguments), arguments.backbone_weights), arguments)
        folders = [folder for several in runs.folders.values() for folder in several]
        parallel(lambda folder: measure_reach_of(folder, arguments), folders, arguments)
        keep(NAME, runs.results)
        keep_figures(NAME, figures_of(runs))
    write_page(NAME, blocks())
    draw()


if __name__ == "__main__":
    if sys.argv[1:2] == [STEP_PROGRAM]:
        sys.exit(traced_run(sys.argv[2:]))
    run_study(main)
