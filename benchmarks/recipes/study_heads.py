"""Does a pyramid of upsampled features fail because it has too few channels? The study of docs/studies/heads.md.

    python benchmarks/recipes/study_heads.py
    python benchmarks/recipes/study_heads.py --protocol paper --data-root data --device cuda --workers 8

It compares four heads under one protocol: the conv head, SimpleClick's pyramid from the backbone's own map, and the
same pyramid from upsampled features, with its usual channels and with all channels kept. Under the demo,
EfficientNet-Lite0 has 40 channels where DINOv2 ViT-S has 384, so the pyramid's widths shrink with them: 16, 32, 64 and
128 instead of 128, 256, 512 and 1024. Ranked entries of the conv head are reused, finished runs are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from study.cases import Case, add_arguments, run_cases, run_study, study_protocol
from study.kept import keep, kept, ranked
from study.page import table, write_page
from study.statistics import mean, mean_difference, shown

from vfm_isbench import Protocol, Result
from vfm_isbench.probe.build import build_head

NAME = "heads"
DEMO_WIDTH = 16
UPSAMPLED = ("bilinear", "jbu")
HEADS = ("conv", "upsampled_pyramid", "upsampled_pyramid_full")
METRICS = ("mean_iou", "iou_at_1", "iou_at_5", "noc90")
LABELS = {"mean_iou": "mean IoU", "iou_at_1": "IoU@1", "iou_at_5": "IoU@5", "noc90": "NoC90"}

QUESTIONS = (
    ("conv, identity", "pyramid, identity", "the pyramid instead of the conv head, without upsampling"),
    ("conv, identity", "conv, {}", "the upsampler, with the conv head"),
    ("conv, {}", "upsampled_pyramid, {}", "the pyramid instead of the conv head"),
    ("upsampled_pyramid, {}", "upsampled_pyramid_full, {}", "all channels instead of the usual ones"),
    ("conv, {}", "upsampled_pyramid_full, {}", "all channels, against the conv head"),
    ("pyramid, identity", "upsampled_pyramid_full, {}", "upsampled features instead of the backbone's own map"),
)
"""What is compared: from, to, in words. ``{}`` stands for each upsampler."""


def cases(protocol: Protocol) -> list[Case]:
    """Every head with every upsampler that it takes."""
    narrow = {"pyramid_width": DEMO_WIDTH} if protocol.name == "demo" else {}
    pairs = [("conv", "identity"), ("pyramid", "identity")]
    pairs += [(head, upsampler) for upsampler in UPSAMPLED for head in HEADS]
    return [
        Case(
            label=f"{head}, {upsampler}",
            upsampler=upsampler,
            protocol=protocol.replace(head=head, **(narrow if "pyramid" in head else {})),
        )
        for head, upsampler in pairs
    ]


def reused(protocol: Protocol) -> dict[str, list[Result]]:
    """The ranked entries of the conv head under this protocol."""
    entries = ranked(protocol)
    return {f"conv, {name}": entries[name] for name in ("identity", *UPSAMPLED) if name in entries}


def all_results() -> dict[str, list[Result]]:
    """What is kept of this study, with the ranked entries of its protocol; empty if the study was not run."""
    own = kept(NAME)
    if not own:
        return {}
    known = next(iter(own.values()))[0].protocol
    base = known.replace(head="conv", pyramid_width=Protocol().pyramid_width)
    found = {**reused(base), **own}
    return {case.label: found[case.label] for case in cases(base) if case.label in found}


def head_parameters(result: Result) -> int:
    """Trained parameters of the head; earlier versions did not record them."""
    recorded = result.trained_parameters.get("head")
    if recorded is not None:
        return int(recorded)
    head = build_head(result.protocol, int(result.backbone["width"]))
    return sum(weight.numel() for weight in head.parameters())


def blocks() -> dict[str, str]:
    """The figures of the page."""
    results = all_results()
    if not results:
        return {"scores": "Not run yet.", "differences": "Not run yet."}
    return {"scores": _scores(results), "differences": _differences(results)}


def _scores(results: Mapping[str, Sequence[Result]]) -> str:
    rows = [["head", "upsampler", "parameters of the head", *(LABELS[name] for name in METRICS)]]
    for label, runs in results.items():
        head, upsampler = label.split(", ")
        scores = [shown(mean(runs, name), percent=name != "noc90", signed=False) for name in METRICS]
        rows.append([f"`{head}`", f"`{upsampler}`", f"{head_parameters(runs[0]):,}", *scores])
    return table(rows, text_columns=2)


def _differences(results: Mapping[str, Sequence[Result]]) -> str:
    rows = [["effect of", "from", "to", *(LABELS[name] for name in METRICS)]]
    for before, after, words in QUESTIONS:
        for upsampler in UPSAMPLED if "{}" in after else ("",):
            first, second = before.format(upsampler), after.format(upsampler)
            if first in results and second in results:
                differences = (mean_difference(results[first], results[second], name) for name in METRICS)
                cells = [shown(one, percent=name != "noc90") for one, name in zip(differences, METRICS, strict=True)]
                rows.append([words, first, second, *cells])
    return table(rows, text_columns=3)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, NAME)
    arguments = parser.parse_args()
    if not arguments.only_page:
        protocol = study_protocol(arguments)
        there = reused(protocol)
        runs = run_cases([case for case in cases(protocol) if case.label not in there], arguments)
        keep(NAME, runs.results)
    write_page(NAME, blocks())


if __name__ == "__main__":
    run_study(main)
