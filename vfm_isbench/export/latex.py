r"""A LaTeX table for a paper: ``\usepackage{booktabs}``, a row per upsampler, a group of columns per data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

from vfm_isbench.errors import IncomparableError
from vfm_isbench.export.options import ExportOptions
from vfm_isbench.export.scores import Score, check_seeds, score_of
from vfm_isbench.results.comparability import why_incomparable
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.sides import Side, named_seeds
from vfm_isbench.results.signature import signature

STANDARD = ("noc80", "noc90", "iou_at_1")
"""Scores of the table unless others are asked for: as many as fit beside each other."""

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "`": r"\textasciigrave{}",
    "≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$", "±": r"$\pm$", "·": r"$\cdot$", "→": r"$\to$", "−": r"$-$",
    "–": "--", "…": r"\dots{}",
}  # fmt: skip


def latex_table(sides: Sequence[Side], options: ExportOptions) -> str:
    """The table, below comments with the signature of every row.

    Raises:
        IncomparableError: if the upsamplers were measured under different protocols or on different data, so that one
            table would mislead.
    """
    for side in sides:
        check_seeds(side)
    _check_comparable(sides)
    datasets = list(dict.fromkeys(name for side in sides for name in side.results[0].datasets))
    metrics = [Metric.named(name) for name in options.metrics or STANDARD]
    if options.metrics is None:
        cap = sides[0].results[0].protocol.max_clicks
        metrics = [metric for metric in metrics if (metric.clicks or 0) <= cap]
    rows = [
        rf"{escape(side.label)} & " + " & ".join(_cells(side, datasets, metrics, options.confidence)) + r" \\"
        for side in sides
    ]
    comments = [f"% {_one_line(side.label)}: {_one_line(_signature_of(side))}" for side in sides]
    return "\n".join(
        [
            *comments,
            rf"% needs \usepackage{{booktabs}}; {_meaning(sides, options.confidence)}",
            rf"\begin{{tabular}}{{l{'r' * (len(datasets) * len(metrics))}}}",
            r"\toprule",
            *_heading(datasets, metrics),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def escape(text: str) -> str:
    r"""Text as LaTeX prints it, in one line.

    >>> print(escape("50% of a_b & {c}"))
    50\% of a\_b \& \{c\}
    """
    return "".join(_SPECIAL.get(char, char) for char in " ".join(text.split()) if char.isprintable())


def _one_line(text: str) -> str:
    """Text for a comment, which ends with its line."""
    return "".join(char for char in " ".join(text.split()) if char.isprintable())


def _signature_of(side: Side) -> str:
    return signature(side.results, list(side.results[0].datasets))


def _check_comparable(sides: Sequence[Side]) -> None:
    """Check that all upsamplers may stand in one table: on every data set that two of them share."""
    for one, side in combinations(sides, 2):
        first, other = one.results[0], side.results[0]
        shared = [name for name in first.datasets if name in other.datasets]
        reasons = [*why_incomparable(first, other)]
        reasons += [reason for name in shared for reason in why_incomparable(first, other, name)]
        if reasons:
            raise IncomparableError(
                f"{one.label} and {side.label} are incomparable, so one table would mislead: "
                f"{'; '.join(dict.fromkeys(reasons))}. Make one table of each"
            )


def _heading(datasets: Sequence[str], metrics: Sequence[Metric]) -> list[str]:
    width = len(metrics)
    groups = " & ".join(rf"\multicolumn{{{width}}}{{c}}{{{escape(name)}}}" for name in datasets)
    starts = [2 + number * width for number in range(len(datasets))]
    rules = " ".join(rf"\cmidrule(lr){{{start}-{start + width - 1}}}" for start in starts)
    better = {True: r"$\downarrow$", False: r"$\uparrow$"}
    labels = [f"{escape(metric.label)} {better[metric.is_noc]}" for metric in metrics]
    return [rf" & {groups} \\", rules, rf"upsampler & {' & '.join(labels * len(datasets))} \\"]


def _cells(side: Side, datasets: Sequence[str], metrics: Sequence[Metric], confidence: float) -> list[str]:
    known = side.results[0].datasets
    return [
        _cell(score_of(side, name, metric, confidence)) if name in known else "--"
        for name in datasets
        for metric in metrics
    ]


def _cell(score: Score) -> str:
    r"""``$10.19 \pm 0.85$``: the value, and half the width of its interval if there is one."""
    if math.isnan(score.value):
        return "--"
    value = score.shown(score.value)
    if not score.has_interval:
        return f"${value}$"
    return rf"${value} \pm {score.shown((score.estimate.high - score.estimate.low) / 2)}$"


def _meaning(sides: Sequence[Side], confidence: float) -> str:
    seeds = dict.fromkeys(named_seeds(side.seeds) for side in sides)
    over = "objects and training seeds" if any(len(side.seeds) > 1 for side in sides) else "objects, not training seeds"
    return (
        f"NoC: clicks, IoU: in percent; +-: half the width of the {100 * confidence:g} percent interval over {over} "
        f"({'; '.join(seeds)})"
    )
