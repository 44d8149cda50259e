"""The verdict of a regression test for a terminal, and for a job summary in Markdown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vfm_isbench.results.comparison_text import MISSING, count, interval, number, seeds_text
from vfm_isbench.results.markdown import code, escape, markdown_table
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.table import lay_out

if TYPE_CHECKING:
    from vfm_isbench.results.regression import Judgement, Regression

_MARKS = {"pass": "✅", "regression": "❌", "incomparable": "🚫", "inconclusive": "❔"}


def regression_text(regression: Regression) -> str:
    """Verdict, one row per data set, what would settle it, signatures, remarks."""
    lines = [f"{regression.verdict}: {_meaning(regression)}"]
    if regression.judgements:
        lines += ["", *lay_out(_rows(regression)), ""]
    lines += [f"{one.difference.dataset}: {_settled_by(one)}" for one in _open(regression)]
    lines += [f"incomparable: {reason}" for reason in regression.reasons]
    lines += [f"{label}: {line}" for label, line in regression.signatures]
    return "\n".join([*lines, *(f"note: {remark}" for remark in regression.remarks)])


def regression_markdown(regression: Regression) -> str:
    """The same in GitHub's Markdown."""
    blocks = [
        f"### {_MARKS[regression.verdict]} vfm-isbench regress: {regression.verdict}",
        escape(_meaning(regression)),
    ]
    if regression.judgements:
        blocks.append(markdown_table(_rows(regression), text_columns=2))
    lines = [f"- {escape(f'{one.difference.dataset}: {_settled_by(one)}')}" for one in _open(regression)]
    lines += [f"- **incomparable**: {escape(reason)}" for reason in regression.reasons]
    lines += [f"- {escape(label)}: {code(line)}" for label, line in regression.signatures]
    lines += [f"- note: {escape(remark)}" for remark in regression.remarks]
    return "\n\n".join([*blocks, "\n".join(lines)]) + "\n"


def _meaning(regression: Regression) -> str:
    metric = Metric.named(regression.metric)
    unit = "clicks" if metric.is_noc else "IoU points"
    margin = f"{number(regression.margin, metric)} {unit}"
    sure = f"(each bound with {100 * regression.confidence:g} % confidence)"
    return {
        "pass": f"{metric.label} is not worse than the baseline by more than {margin} {sure}",
        "regression": f"{metric.label} is worse than the baseline by more than {margin} {sure}",
        "inconclusive": f"whether {metric.label} is worse than the baseline by more than {margin} remains open {sure}",
        "incomparable": "the results must not be compared",
    }[regression.verdict]


def _rows(regression: Regression) -> list[list[str]]:
    metric = Metric.named(regression.metric)
    head = ["data set", "verdict", "objects", "seeds", "baseline", "result", "worse by", "bounds", "at the cap"]
    rows = [head]
    for one in regression.judgements:
        found = one.difference
        at_cap = [count(value) for value in (found.first_at_cap, found.second_at_cap)]
        rows.append(
            [
                found.dataset,
                one.verdict,
                str(found.objects),
                seeds_text(found.first_seeds, found.second_seeds, found.paired_seeds),
                number(found.first_value, metric),
                number(found.second_value, metric),
                number(one.worsening.value, metric, signed=True),
                interval(one.worsening.low, one.worsening.high, metric),
                f"{at_cap[0]} → {at_cap[1]}" if metric.is_noc else MISSING,
            ]
        )
    return rows


def _open(regression: Regression) -> list[Judgement]:
    return [one for one in regression.judgements if one.verdict == "inconclusive"]


def _settled_by(judgement: Judgement) -> str:
    found = judgement.difference
    if judgement.objects_needed is not None:
        return (
            f"if the difference stays what it is, about {judgement.objects_needed:,} objects would settle it "
            f"({found.objects:,} were measured)"
        )
    if math.isnan(judgement.worsening.high):
        return "all objects lie in one image, which gives no interval; more images are needed"
    if judgement.worsening.seeds_error:
        return "with these seeds no number of objects would settle it: they differ by too much. Add seeds on both sides"
    return "no number of objects would settle it: the difference is the margin"
