"""Tells whether an upsampler got worse than a baseline, for continuous integration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vfm_isbench.errors import ComparisonError
from vfm_isbench.results.difference import check_confidence
from vfm_isbench.results.difference_text import MISSING, at_cap_text, interval, number, seeds_text
from vfm_isbench.results.display import html_block, html_table, quoted
from vfm_isbench.results.intervals import CONFIDENCE, warn_without_effect
from vfm_isbench.results.judgement import Judgement, Verdict, judge
from vfm_isbench.results.judgement_text import RECOMMENDED_SEEDS, open_question, unit_of
from vfm_isbench.results.markdown import code, escape, markdown_table
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.sides import (
    ONE_SEED,
    Given,
    Pair,
    Side,
    check_datasets,
    each_given,
    named_seeds,
    side_of,
    why_apart,
)
from vfm_isbench.results.signature import score_signature
from vfm_isbench.results.table import lay_out

MARGIN = 0.05
EXIT_CODES: dict[Verdict, int] = {"pass": 0, "regression": 1, "incomparable": 3, "inconclusive": 4}
"""2 is reserved for wrong use and broken files, which raise."""

_WORST_FIRST: tuple[Verdict, ...] = ("regression", "inconclusive", "pass")
_MARKS = {"pass": "✅", "regression": "❌", "incomparable": "🚫", "inconclusive": "❔"}
_ALLOWED_MARK = "☑️"
_MOSTLY_AT_CAP = 0.5
"""If a larger share of the objects is at the cap, a remark says that NoC can hardly tell the sides apart."""


@dataclass(frozen=True)
class Regression:
    """What :func:`vfm_isbench.regress` returns.

    Attributes:
        verdict: Over all data sets: "incomparable" or "regression" if any data set is, else "inconclusive" if any is,
            else "pass".
        metric: Name of the score.
        margin: Largest worsening that passes, in the unit of the metric: clicks, or IoU of [0, 1].
        confidence: Confidence of each one-sided bound.
        judgements: One per data set; none if incomparable.
        reasons: Why the results are incomparable.
        signatures: Label and signature of each side on each data set.
        remarks: Remarks for readers.
        allow_inconclusive: Whether an inconclusive verdict has exit code 0.
    """

    verdict: Verdict
    metric: str
    margin: float
    confidence: float
    judgements: tuple[Judgement, ...] = ()
    reasons: tuple[str, ...] = ()
    signatures: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
    allow_inconclusive: bool = False

    @property
    def exit_code(self) -> int:
        """0 pass, 1 regression, 3 incomparable, 4 inconclusive (0 if that is allowed)."""
        if self.verdict == "inconclusive" and self.allow_inconclusive:
            return 0
        return EXIT_CODES[self.verdict]

    @property
    def is_likely_regression(self) -> bool:
        """Whether it is inconclusive, and an estimate is beyond the margin."""
        return self.verdict == "inconclusive" and any(one.is_likely_regression for one in self.judgements)

    def to_markdown(self) -> str:
        """For the summary of a continuous-integration job, in GitHub's Markdown."""
        blocks = [
            self._title(),
            escape(self._meaning()),
        ]
        if self.judgements:
            blocks.append(markdown_table(self._rows(), text_columns=2))
        lines = [f"- {escape(line)}" for line in self._open()]
        lines += [f"- {escape(reason)}" for reason in self.reasons]
        lines += [f"- {escape(label)}: {code(line)}" for label, line in self.signatures]
        lines += [f"- note: {escape(remark)}" for remark in self.remarks]
        return "\n\n".join([*blocks, "\n".join(lines)]) + "\n"

    def _title(self) -> str:
        if self.verdict == "inconclusive" and self.allow_inconclusive:
            likely = " (likely a regression)" if self.is_likely_regression else ""
            return f"### {_ALLOWED_MARK} vfm-isbench regress: inconclusive, allowed to pass{likely}"
        likely = ", likely a regression" if self.is_likely_regression else ""
        return f"### {_MARKS[self.verdict]} vfm-isbench regress: {self.verdict}{likely}"

    def __str__(self) -> str:
        lines = [f"{self.verdict}: {self._meaning()}"]
        if self.judgements:
            lines += ["", *lay_out(self._rows()), ""]
        return "\n".join([*lines, *self._lines()])

    def _repr_html_(self) -> str:
        heading = f"{self.verdict}: {self._meaning()}"
        if not self.judgements:
            return html_block([], heading, self._lines())
        return html_block([html_table(heading, self._rows(), text_columns=2)], lines=self._lines())

    def __repr__(self) -> str:
        metric = Metric.named(self.metric)
        margin = f"{number(self.margin, metric)} {'clicks' if metric.is_noc else 'IoU points'}"
        names = ", ".join(quoted(judgement.difference.dataset) for judgement in self.judgements)
        return f"<Regression {self.verdict}: {metric.label}, margin {margin}{f', on {names}' if names else ''}>"

    def _lines(self) -> list[str]:
        lines = [*(f"- {reason}" for reason in self.reasons), *self._open()]
        lines += [f"{label}: {line}" for label, line in self.signatures]
        return [*lines, *(f"note: {remark}" for remark in self.remarks)]

    def _meaning(self) -> str:
        metric = Metric.named(self.metric)
        margin = f"{number(self.margin, metric)} {unit_of(metric)}"
        sure = f"(each bound with {100 * self.confidence:g} % confidence)"
        if self.is_likely_regression:
            return (
                f"likely regression, not established: by estimate, {metric.label} is worse than the baseline by more "
                f"than {margin}, but the data are too few to be sure {sure}"
            )
        return {
            "pass": f"{metric.label} is not worse than the baseline by more than {margin} {sure}",
            "regression": f"{metric.label} is worse than the baseline by more than {margin} {sure}",
            "inconclusive": f"{metric.label} may or may not be worse than the baseline by more than {margin} {sure}",
            "incomparable": "the results must not be compared, because they differ in more than the upsampler",
        }[self.verdict]

    def _rows(self) -> list[list[str]]:
        metric = Metric.named(self.metric)
        rows = [["data set", "verdict", "objects", "seeds", "baseline", "result", "worse by", "bounds", "at the cap"]]
        for judgement in self.judgements:
            found, worsening = judgement.difference, judgement.worsening
            rows.append(
                [
                    found.dataset,
                    judgement.verdict,
                    str(found.objects),
                    seeds_text(found),
                    number(found.first_value, metric),
                    number(found.second_value, metric),
                    number(worsening.value, metric, signed=True),
                    interval(worsening.low, worsening.high, metric),
                    at_cap_text(found) if metric.is_noc else MISSING,
                ]
            )
        return rows

    def _open(self) -> list[str]:
        lines = [
            f"{judgement.difference.dataset}: {open_question(judgement, self.margin)}"
            for judgement in self.judgements
            if judgement.verdict == "inconclusive"
        ]
        if self.verdict == "incomparable":
            return [
                "Run the results again with the options, data and device settings of the baseline; or, if the new ones "
                "shall count, make the baseline again with them: vfm-isbench baseline make --again DIR"
            ]
        if self.verdict != "inconclusive":
            return lines
        if self.allow_inconclusive:
            return [*lines, "An inconclusive verdict is allowed here, so this passes (exit code 0)"]
        return [
            *lines,
            f"This fails (exit code {self.exit_code}), because a pass means that nothing is worse by more than the "
            "margin, and that is not shown. To let inconclusive verdicts pass, add --allow-inconclusive; in Python, "
            "allow_inconclusive=True",
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content: null for what is missing."""
        return {
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "allow_inconclusive": self.allow_inconclusive,
            "is_likely_regression": self.is_likely_regression,
            "metric": self.metric,
            "unit": Metric.named(self.metric).unit,
            "margin": self.margin,
            "confidence": self.confidence,
            "datasets": [judgement.to_dict() for judgement in self.judgements],
            "reasons": list(self.reasons),
            "signatures": [{"side": label, "signature": line} for label, line in self.signatures],
            "remarks": list(self.remarks),
        }


def regress(
    result: Given,
    baseline: Given,
    *,
    metric: str | None = None,
    margin: float = MARGIN,
    confidence: float = CONFIDENCE,
    dataset: str | None = None,
    allow_inconclusive: bool = False,
    resamples: int | None = None,
    seed: int | None = None,
) -> Regression:
    """Judge whether a result is worse than a baseline by more than a margin.

    Let w be the worsening: additional clicks, or lost IoU. On each data set the verdict is

    - "pass" if the upper bound of w is at most the margin, or if no object's score differs;
    - "regression" if the lower bound of w is above the margin;
    - "inconclusive" otherwise: the margin lies between the bounds.

    So both statements carry the confidence, and lack of data leads to neither: an inconclusive verdict is no pass. Pass
    is a test of non-inferiority: of upsamplers that are worse by more than the margin, at most 1 − confidence pass,
    however many data sets there are. Of the others, at most 1 − confidence *per data set* are called a regression.

    Args:
        result: The result to judge: a result, the path of a result file, a run folder or a folder of result files, or
            several, one per seed.
        baseline: The result to compare it with, likewise.
        metric: "noc90" or another NoC, "iou_at_1" (or "iou@1") or another IoU@k, "mean_iou"; None for the headline
            metric of the baseline's protocol, :attr:`vfm_isbench.Protocol.headline`.
        margin: At least 0: clicks for NoC, otherwise IoU of [0, 1), where 0.01 is one IoU point.
        confidence: Confidence of each one-sided bound, in (0.5, 1).
        dataset: Data set to judge by; None for all of the baseline's.
        allow_inconclusive: Whether an inconclusive verdict has exit code 0 instead of 4.
        resamples: Deprecated, without effect.
        seed: Likewise.

    Raises:
        ComparisonError: if an argument is out of range, a result is a dry run with random weights of the backbone, the
            baseline has no data set, or the results lack the score.
        UnknownNameError: if neither side has the data set asked for.
        ResultError: if a file cannot be read.
    """
    warn_without_effect(resamples=resamples, seed=seed)
    given = [each_given(result), each_given(baseline)]
    second, first = map(side_of, given)
    _refuse_dry_runs({"result": second, "baseline": first})
    measure = Metric.named(metric or first.results[0].protocol.headline)
    check_confidence(confidence, least=0.5)
    if not (margin >= 0 and math.isfinite(margin)):
        raise ComparisonError(f"expected a margin of at least 0 {measure.unit}; got {margin}")
    if not measure.is_noc and margin >= 1:
        raise ComparisonError(
            f"expected a margin below 1 for {measure.label}, because IoU lies in [0, 1]; got {margin:g}, with which "
            f"nothing could ever fail. 0.01 is one point: for {margin:g} point{'s' * (margin != 1)}, use "
            f"{margin / 100:g}"
        )
    first = Side(f"{first.label} (baseline)", first.results)
    every = dict.fromkeys(name for run in first.results for name in run.datasets)
    if not every:
        raise ComparisonError("the baseline has no data set to judge by")
    names = list(every) if dataset is None else [dataset]
    check_datasets([first, second], names)
    if reasons := list(dict.fromkeys(reason for name in names for reason in why_apart(first, second, name))):
        return Regression("incomparable", measure.name, margin, confidence, reasons=tuple(reasons))
    pairs = [Pair.of(first, second, name) for name in names]
    judgements = [judge(pair, measure, margin, confidence) for pair in pairs]
    verdicts = [judgement.verdict for judgement in judgements]
    remarks = [
        *_copies(second, given[0]),
        *_copies(first, given[1]),
        *(remark for pair in pairs for remark in pair.remarks if remark != ONE_SEED),
        *_single_seeds(pairs),
        *_missing_seeds(pairs),
        *_at_cap(judgements),
    ]
    return Regression(
        verdict=next(verdict for verdict in _WORST_FIRST if verdict in verdicts),
        metric=measure.name,
        margin=margin,
        confidence=confidence,
        judgements=tuple(judgements),
        signatures=tuple(
            (side.label, score_signature(side.results, pair.dataset, measure.name))
            for pair in pairs
            for side in (pair.first, pair.second)
        ),
        remarks=tuple(dict.fromkeys(remarks)),
        allow_inconclusive=allow_inconclusive,
    )


def _refuse_dry_runs(sides: Mapping[str, Side]) -> None:
    for role, side in sides.items():
        if any(run.has_random_weights for run in side.results):
            raise ComparisonError(
                f"the {role}, {side.label}, is a dry run: its backbone has random weights, so a verdict would mean "
                "nothing. Run it again without --random-weights"
            )


def _single_seeds(pairs: Sequence[Pair]) -> list[str]:
    """A remark if the bounds do not cover the spread between seeds, because it could not be measured."""
    if any(len(pair.first.seeds) == len(pair.second.seeds) == 1 for pair in pairs):
        return [
            "a single training seed on both sides: the verdict holds for these trained probes only, not for the "
            f"upsampler: the spread of seeds is unknown. Run at least {RECOMMENDED_SEEDS} seeds on both sides"
        ]
    return []


def _copies(side: Side, given: Sequence[object]) -> list[str]:
    """A remark if a result was given more than once."""
    if len(given) == len(side.results):
        return []
    return [
        f"{side.label}: {len(given)} results were given, but some are copies of others; each seed counts once "
        f"({named_seeds(side.seeds)})"
    ]


def _missing_seeds(pairs: Sequence[Pair]) -> list[str]:
    """A remark if one side has fewer seeds than the other, and all count."""
    remarks = []
    for pair in pairs:
        fewer, more = sorted((pair.first, pair.second), key=lambda side: len(side.seeds))
        if len(fewer.seeds) < len(more.seeds):
            missing = [seed for seed in more.seeds if seed not in fewer.seeds]
            remarks.append(
                f"{fewer.label} has only {named_seeds(fewer.seeds)}, {more.label} has {named_seeds(more.seeds)}, so "
                "seeds could not be paired, and the bounds are rougher. For a sound verdict, run "
                f"{named_seeds(missing)} of {fewer.label} too"
            )
    return remarks


def _at_cap(judgements: Sequence[Judgement]) -> list[str]:
    remarks = []
    for found in (judgement.difference for judgement in judgements):
        if min(found.first_at_cap, found.second_at_cap) > _MOSTLY_AT_CAP * found.objects:
            remarks.append(
                f"{found.dataset}: on both sides more than half of the objects need all clicks, so "
                f"{Metric.named(found.metric).label} cannot tell them apart; look at a lower IoU or at mean_iou too"
            )
    return remarks
