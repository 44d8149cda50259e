"""Evaluation results of the Hugging Face Hub: a YAML file for the folder ``.eval_results/`` of a model.

The fields are those of ``EvalResultEntry``, as huggingface_hub 2.4 reads and writes them.
"""

from __future__ import annotations

import re
from typing import Any

from vfm_isbench.errors import ResultError
from vfm_isbench.export.options import ExportOptions
from vfm_isbench.export.scores import Score, scores_of
from vfm_isbench.results.sides import Side, named_seeds
from vfm_isbench.results.signature import score_signature


def eval_results(side: Side, options: ExportOptions) -> str:
    """One entry per data set and score, as YAML. NoC is in clicks, IoU in percent.

    Raises:
        ResultError: if the Hub's id of a data set is missing.
    """
    from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]

    scores = scores_of(side, options.metrics, options.confidence)
    unknown = [name for name in dict.fromkeys(score.dataset for score in scores) if options.hub_dataset(name) is None]
    if unknown:
        given = " ".join(f"--hub-dataset {name}=OWNER/NAME" for name in unknown)
        raise ResultError(
            "eval-results name a data set by its id on the Hugging Face Hub, and a result does not know the id of "
            f"{', '.join(unknown)}. Add {given}, or one --hub-dataset OWNER/NAME if a single benchmark on the Hub "
            "holds all of them"
        )
    text: str = yaml_dump([_entry(score, options) for score in scores], sort_keys=False)
    return text


def _entry(score: Score, options: ExportOptions) -> dict[str, Any]:
    hub = options.hub_dataset(score.dataset)
    assert hub is not None, "checked above"
    dataset = {"id": hub.repository, "task_id": task_id(score)}
    entry: dict[str, Any] = {
        "dataset": dataset | ({"revision": hub.revision} if hub.revision else {}),
        "value": round(score.value if score.metric.is_noc else 100 * score.value, 4),
    }
    if created := max(result.created for result in score.side.results):
        entry["date"] = created
    if options.source_url is not None:
        name = {"name": options.source_name} if options.source_name is not None else {}
        entry["source"] = {"url": options.source_url, **name}
    entry["notes"] = _notes(score, options.confidence)
    return entry


def task_id(score: Score) -> str:
    """Name of a task: protocol, data set and score, in small letters, digits and underscores."""
    words = (score.side.results[0].protocol.label, score.dataset, score.metric.name)
    return re.sub(r"[^a-z0-9]+", "_", "_".join(words).lower()).strip("_")


def _notes(score: Score, confidence: float) -> str:
    side, estimate = score.side, score.estimate
    interval = ""
    if score.has_interval:
        interval = f", {100 * confidence:g} % interval {score.shown(estimate.low)} to {score.shown(estimate.high)}"
    unit = "clicks" if score.metric.is_noc else "%"
    return (
        f"{score.metric.label} in {unit}{interval}; {score.objects} objects, {named_seeds(side.seeds)}; "
        f"upsampler {side.label} on {side.results[0].backbone.get('name')}; "
        f"{score_signature(side.results, score.dataset, score.metric.name)}"
    )
