"""A section for a model card: metadata that the Hugging Face Hub reads (``model-index``), and a table for people."""

from __future__ import annotations

from typing import Any

from vfm_isbench.errors import ResultError
from vfm_isbench.export.options import ExportOptions
from vfm_isbench.export.scores import Score, scores_of
from vfm_isbench.results.markdown import code, escape, markdown_table
from vfm_isbench.results.sides import Side, named_seeds
from vfm_isbench.results.signature import signature

TASK_TYPE, TASK_NAME = "image-segmentation", "Interactive segmentation with simulated clicks"


def model_card(side: Side, options: ExportOptions) -> str:
    """The metadata between ``---`` lines, and the section below. NoC is in clicks, IoU in percent.

    Raises:
        ResultError: if there is no score to show.
    """
    scores = scores_of(side, options.metrics, options.confidence)
    if not scores:
        raise ResultError(f"the results of {side.label} have no score that a model card could show")
    return f"---\n{_metadata(side, scores, options)}\n---\n\n{_section(side, scores, options)}"


def _metadata(side: Side, scores: list[Score], options: ExportOptions) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    def result(score: Score) -> EvalResult:
        hub = options.hub_dataset(score.dataset)
        metric: dict[str, Any] = {"max_clicks": score.cap}
        if score.has_interval:
            low, high = score.estimate.low, score.estimate.high
            metric |= {
                "low": float(score.shown(low)),
                "high": float(score.shown(high)),
                "confidence": options.confidence,
            }
        return EvalResult(
            task_type=TASK_TYPE,
            task_name=TASK_NAME,
            dataset_type=score.dataset if hub is None else hub.repository,
            dataset_name=score.dataset,
            dataset_config=score.dataset,
            dataset_revision=None if hub is None else hub.revision,
            dataset_args={"objects": score.objects, "protocol": side.results[0].protocol.label},
            metric_type=score.metric.name,
            metric_name=f"{score.metric.label} ({'clicks' if score.metric.is_noc else '%'})",
            metric_value=float(score.shown(score.value)),
            metric_args=metric,
            source_url=options.source_url,
            source_name=options.source_name,
        )

    name = options.model.partition("/")[2] if options.model else side.label
    data = ModelCardData(model_name=name, eval_results=[result(score) for score in scores])
    text: str = data.to_yaml()
    return text


def _section(side: Side, scores: list[Score], options: ExportOptions) -> str:
    first = side.results[0]
    metrics = list(dict.fromkeys(score.metric.label for score in scores))
    cells = {(score.dataset, score.metric.label): _cell(score) for score in scores}
    objects = {score.dataset: str(score.objects) for score in scores}
    rows = [["data set", "objects", *metrics]]
    rows += [[name, count, *(cells.get((name, metric), "–") for metric in metrics)] for name, count in objects.items()]
    cap = first.protocol.max_clicks
    seeds = "objects" if len(side.seeds) == 1 else "objects and training seeds"
    about = (
        f"{escape(side.label)} on {escape(str(first.backbone.get('name')))}, measured with vfm\\_isbench under the "
        f"protocol {code(first.protocol.label)} ({named_seeds(side.seeds)}): a probe is trained on frozen, upsampled "
        "features, and a simulated user clicks on objects."
    )
    meaning = (
        f"NoC: mean clicks to reach an IoU in percent (fewer is better, at most {cap}). IoU@k: mean IoU in percent "
        f"after click k. In brackets: {100 * options.confidence:g} % intervals over {seeds}."
    )
    notes = [f"- {escape(note)}" for note in dict.fromkeys(note for result in side.results for note in result.notes)]
    more = [f"- More: <{options.source_url}>"] if options.source_url else []
    lines = [f"- Signature: {code(signature(side.results, list(first.datasets)))}", *notes, *more]
    blocks = ["## Interactive segmentation (vfm\\_isbench)", about, markdown_table(rows), meaning, "\n".join(lines)]
    return "\n\n".join(blocks) + "\n"


def _cell(score: Score) -> str:
    value = score.shown(score.value)
    if not score.has_interval:
        return value
    return f"{value} [{score.shown(score.estimate.low)}, {score.shown(score.estimate.high)}]"
