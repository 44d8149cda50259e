"""Which upsamplers keep their advantage over bilinear on other backbones?

    python benchmarks/recipes/study_backbones.py --vit runs/studies/vit

It runs upsamplers on several backbones, everything else equal, and tests the interaction: how much the gain over
bilinear differs between a backbone and the first one. Results go into ``benchmarks/studies/backbones/``, the page is
``docs/studies/backbones.md``. Pairs that do not fit, and backbones whose weights cannot be had, are skipped with the
reason.

The backbones of the default protocol are those that need no hub. ``--protocol paper`` takes those of :data:`FULL`.
``loftup`` and ``featup`` stand for the weights that were trained for the backbone.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from study.cases import Case, add_arguments, run_cases, run_study, study_protocol
from study.kept import keep, keep_figures, kept, kept_figures
from study.page import table, write_page
from study.statistics import interaction, mean, mean_difference, shown

from vfm_isbench import Protocol, Result, VfmIsbenchError
from vfm_isbench.backbones import load_backbone
from vfm_isbench.probe import check_combination
from vfm_isbench.probe.preparation import require_fit
from vfm_isbench.upsamplers import KNOWN, fitting_backbones

NAME = "backbones"

VIT = "hf-hub:studies/vit"
"""The small transformer of ``study_backbone.py``; its weights are a folder."""
HERE = ("efficientnet_lite0@8", "efficientnet_lite0@16", VIT)
FULL = (
    "dinov2_vits14",
    "timm:vit_base_patch16_clip_quickgelu_224.openai",
    "timm:vit_base_patch16_224.mae",
    "timm:vit_base_patch16_siglip_224.v2_webli",
    "timm:vit_base_patch16_dinov3.lvd1689m",
    "timm:vit_base_patch16_224.augreg_in21k_ft_in1k",
)
"""DINOv2 as in the paper, CLIP, MAE, SigLIP 2, DINOv3, supervised."""
BASE = "bilinear"
UPSAMPLERS_HERE = ("nearest", "bilinear", "bicubic", "jbu")
UPSAMPLERS_FULL = (*UPSAMPLERS_HERE, "loftup", "featup")
FAMILIES = ("loftup", "featup")
"""Published upsamplers with weights for several backbones."""
SHORTER = {"samples_per_epoch": 96, "object_limit": 128}
"""What the demo is cut down to, for every backbone alike, so that all runs take an hour."""
METRICS = ("noc90", "mean_iou")
_NOTHING = "Not measured yet."


def label_of(upsampler: str, backbone: str) -> str:
    """The label of a case; :func:`blocks` takes it apart again."""
    return f"{upsampler} on {backbone}"


def spec_for(upsampler: str, backbone: str) -> tuple[str | None, str]:
    """What to run on a backbone, or None and the reason why the pair does not fit."""
    if upsampler in FAMILIES:
        own = [known for known in KNOWN if known.spec.startswith(f"{upsampler}:")]
        found = next((known.spec for known in own if backbone in [name for name, _ in known.fits]), None)
        return found, "" if found else f"no weights of {upsampler} were trained for {backbone}"
    fits = [name for name, _ in fitting_backbones(upsampler)]
    if fits and backbone not in fits:
        return None, f"{upsampler} was trained for {' or '.join(fits)}"
    try:
        require_fit(upsampler, backbone)
    except VfmIsbenchError as error:
        return None, str(error)
    return upsampler, ""


def unusable(backbone: str, protocol: Protocol, arguments: argparse.Namespace) -> str | None:
    """Why a backbone cannot be run, or None: its weights cannot be had, or it does not take the protocol's images."""
    try:
        loaded = load_backbone(
            backbone,
            protocol.image_size,
            position_embedding=protocol.position_embedding,
            weights=arguments.vit if backbone == VIT else None,
            pretrained=not arguments.random_weights,
        )
        check_combination(protocol.replace(backbone=backbone), loaded)
    except VfmIsbenchError as error:
        return str(error)
    return None


def cases(
    arguments: argparse.Namespace, why_not: Callable[[str, Protocol, argparse.Namespace], str | None] = unusable
) -> tuple[list[Case], dict[str, str]]:
    """The pairs to run, and why others are skipped.

    Args:
        arguments: Of the command line.
        why_not: Says why a backbone cannot be run, see :func:`unusable`.
    """
    protocol = study_protocol(arguments)
    if arguments.protocol == "demo":
        protocol = protocol.replace(**SHORTER | ({} if arguments.limit is None else {"object_limit": arguments.limit}))
    found, skipped = [], {}
    for backbone in chosen(arguments.backbones, arguments.protocol, HERE, FULL):
        reason = why_not(backbone, protocol, arguments)
        if reason is not None:
            skipped[backbone] = reason
            continue
        own = protocol.replace(backbone=backbone)
        options = ("--random-weights",) if arguments.random_weights else ()
        if backbone == VIT and arguments.vit is not None and not arguments.random_weights:
            options = ("--backbone-weights", str(arguments.vit))
        for upsampler in chosen(arguments.upsamplers, arguments.protocol, UPSAMPLERS_HERE, UPSAMPLERS_FULL):
            spec, reason = spec_for(upsampler, backbone)
            label = label_of(upsampler, backbone)
            if spec is None:
                skipped[label] = reason
            else:
                found.append(Case(label=label, upsampler=spec, protocol=own, options=options))
    return found, skipped


def chosen(given: Sequence[str] | None, protocol: str, here: Sequence[str], full: Sequence[str]) -> Sequence[str]:
    """What was asked for, else the usual ones: small for the demo's presets, full for all others."""
    return given or (here if protocol.startswith("demo") else full)


def by_pair(results: Mapping[str, Sequence[Result]]) -> dict[str, dict[str, Sequence[Result]]]:
    """Results by backbone and upsampler."""
    found: dict[str, dict[str, Sequence[Result]]] = {}
    for label, runs in results.items():
        upsampler, _, backbone = label.partition(" on ")
        found.setdefault(backbone, {})[upsampler] = runs
    return found


def blocks() -> dict[str, str]:
    """The figures of the page."""
    results = kept(NAME)
    if not results:
        return dict.fromkeys(("gains", "interactions", "skipped"), _NOTHING)
    return tables(results, kept_figures(NAME))


def tables(results: Mapping[str, Sequence[Result]], figures: Mapping[str, Any]) -> dict[str, str]:
    """The blocks of some results."""
    pairs = by_pair(results)
    usual = figures.get("backbones", list(pairs))
    order = [backbone for backbone in usual if BASE in pairs.get(backbone, {})]
    skipped = figures.get("skipped", {})
    rows = [["skipped", "reason"], *([f"`{name}`", reason.replace("|", "/")] for name, reason in skipped.items())]
    return {
        "gains": _gains(pairs, order),
        "interactions": _interactions(pairs, order),
        "skipped": table(rows, 2) if skipped else "Nothing was skipped.",
    }


def _gains(pairs: Mapping[str, Mapping[str, Sequence[Result]]], order: Sequence[str]) -> str:
    rows = [["backbone", "upsampler", "NoC90", "against bilinear", "mean IoU", "against bilinear"]]
    for backbone in order:
        own = pairs[backbone]
        for upsampler in sorted(own, key=lambda name: mean(own[name], "noc90").value):
            row = [f"`{backbone}`", upsampler]
            for metric in METRICS:
                is_iou = metric != "noc90"
                row.append(shown(mean(own[upsampler], metric), percent=is_iou, signed=False))
                gain = None if upsampler == BASE else mean_difference(own[BASE], own[upsampler], metric)
                row.append("" if gain is None else shown(gain, percent=is_iou))
            rows.append(row)
    return table(rows, 2)


def _interactions(pairs: Mapping[str, Mapping[str, Sequence[Result]]], order: Sequence[str]) -> str:
    if len(order) < 2:
        return "One backbone has no interaction."
    first = order[0]
    rows = [["upsampler", "backbone", "gain in NoC90", "interaction", "verdict"]]
    for upsampler in pairs[first]:
        for backbone in order:
            own = pairs[backbone]
            if upsampler == BASE or upsampler not in own:
                continue
            gain = mean_difference(own[BASE], own[upsampler], "noc90")
            change, verdict = "", kept_advantage(gain.low, gain.high)
            if backbone != first:
                sides = (pairs[first][BASE], pairs[first][upsampler]), (own[BASE], own[upsampler])
                change = shown(interaction(*sides, "noc90"))
            rows.append([upsampler, f"`{backbone}`", shown(gain), change, verdict])
    return table(rows, 2)


def kept_advantage(low: float, high: float) -> str:
    """What the interval of a difference in clicks, upsampler minus bilinear, says."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "unknown"
    if high < 0:
        return "better"
    return "worse" if low > 0 else "open"


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, NAME)
    parser.add_argument("--backbones", nargs="+", help="the first one is what the others are compared with")
    parser.add_argument("--upsamplers", nargs="+", help=f"with {BASE}")
    parser.add_argument("--vit", type=Path, metavar="DIR", help=f"weights of {VIT}, from study_backbone.py")
    parser.add_argument("--random-weights", action="store_true", help="a dry run: nothing is kept")
    arguments = parser.parse_args(words)
    if arguments.upsamplers and BASE not in arguments.upsamplers:
        parser.error(f"--upsamplers needs {BASE}, which all others are compared with")
    if not arguments.only_page:
        wanted, skipped = cases(arguments)
        for name, reason in skipped.items():
            print(f"skipped: {name}: {reason}", flush=True)
        runs = run_cases(wanted, arguments)
        figures = {
            "skipped": {**skipped, **runs.skipped},
            "backbones": list(chosen(arguments.backbones, arguments.protocol, HERE, FULL)),
        }
        if arguments.random_weights:
            print(f"dry run: {len(runs.results)} of {len(wanted)} pairs ran; nothing is kept")
            return
        keep(NAME, runs.results)
        keep_figures(NAME, figures)
    write_page(NAME, blocks())


if __name__ == "__main__":
    run_study(main)
