"""Every Eval Ever: one JSON file of scores, and one line of JSON per object and training seed.

Follows ``eval.schema.json`` and ``instance_level_eval.schema.json`` of the EvalEval coalition, both in version 0.2.2.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from vfm_isbench.datasets.download.sources import source_for
from vfm_isbench.export.eval_results import task_id
from vfm_isbench.export.options import ExportOptions
from vfm_isbench.export.scores import Score, score_of, scores_of
from vfm_isbench.results.object_scores import Metric, object_scores
from vfm_isbench.results.sides import Side, named_seeds
from vfm_isbench.results.signature import score_signature, signature
from vfm_isbench.types import ObjectEvidence

SCHEMA_VERSION = "0.2.2"

BENCHMARK = "vfm_isbench"
"""Name of the evaluation, and of its folder."""

_INTERVAL = "analytic, from variance components: objects clustered by image, and training seeds if there are several"


def every_eval_ever(side: Side, options: ExportOptions) -> dict[str, Any]:
    """The aggregate record of one upsampler, without its reference to the lines."""
    scores = scores_of(side, options.metrics, options.confidence)
    created = max(result.created for result in side.results)
    model = model_of(side, options)
    first = side.results[0]
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": evaluation_id(side, options),
        "retrieved_timestamp": repr(time.time()),
        "source_metadata": _source(options),
        "eval_library": {"name": "vfm_isbench", "version": str(first.environment.get("vfm_isbench", "unknown"))},
        "model_info": {
            "name": side.label,
            "id": model,
            "developer": model.partition("/")[0],
            "inference_engine": {"name": "pytorch", "version": str(first.environment.get("torch", "unknown"))},
            "additional_details": _model_details(side),
        },
        "evaluation_results": [_result(score, options, created) for score in scores],
    }
    return record | ({"evaluation_timestamp": created} if created else {})


def lines_of(side: Side, options: ExportOptions) -> Iterator[str]:
    """One line of JSON per object and training seed, for the headline metric of the protocol.

    A line holds every click and the IoU after it, so all other scores can be computed from it too.
    """
    metric = Metric.named(side.results[0].protocol.headline)
    shared = {"evaluation_id": evaluation_id(side, options), "model_id": model_of(side, options)}
    for dataset in side.results[0].datasets:
        score = score_of(side, dataset, metric, options.confidence)
        if math.isnan(score.value):
            continue
        for result in side.results:
            found = result.datasets[dataset]
            for evidence, value in zip(found.objects, object_scores(found, metric), strict=True):
                line = {"schema_version": SCHEMA_VERSION, **shared, **_names(score), **_of_object(evidence)}
                line["evaluation"] = _evaluation(score, evidence, float(value))
                line["metadata"] = {
                    "seed": str(result.protocol.seed),
                    "metric": metric.name,
                    "image": evidence.object_id.image,
                    "instance": json.dumps(evidence.object_id.instance),
                    "content_sha256": found.content_sha256 or "unknown",
                }
                yield json.dumps(line, ensure_ascii=False, allow_nan=False)


def with_lines(record: Mapping[str, Any], folder: str, name: str, lines: bytes) -> dict[str, Any]:
    """The record with a reference to the file of its lines, which lies in the same folder."""
    reference = {
        "format": "jsonl",
        "file_path": f"{folder}/{name}_samples.jsonl",
        "hash_algorithm": "sha256",
        "checksum": hashlib.sha256(lines).hexdigest(),
        "total_rows": lines.count(b"\n"),
    }
    return {**record, "detailed_evaluation_results": reference}


def file_name(record: Mapping[str, Any], lines: bytes) -> str:
    """A UUID of version 4 that is always the same for the same results, so that a second export adds no second file."""
    content = {key: value for key, value in record.items() if key != "retrieved_timestamp"}
    text = json.dumps(content, sort_keys=True, allow_nan=False).encode()
    return str(uuid.UUID(bytes=hashlib.sha256(text + b"\0" + lines).digest()[:16], version=4))


def model_of(side: Side, options: ExportOptions) -> str:
    """Id of the model: the one that was given, otherwise that of an unknown developer."""
    if options.model is not None:
        return options.model
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{side.label}-on-{side.results[0].backbone.get('name')}")
    return f"unknown/{re.sub(r'[.]{2,}', '.', words).strip('.-')[:120] or 'upsampler'}"


def evaluation_id(side: Side, options: ExportOptions) -> str:
    """What ties the lines to their record: benchmark, model, and the time of the evaluation or its protocol."""
    created = max(result.created for result in side.results)
    try:
        when = repr(datetime.fromisoformat(created).timestamp())
    except (ValueError, OverflowError, OSError):
        when = side.results[0].fingerprint[:12]
    seeds = "-".join(map(str, side.seeds))
    return f"{BENCHMARK}/{model_of(side, options).replace('/', '_')}/seed{seeds}/{when}"


def _names(score: Score) -> dict[str, str]:
    protocol = score.side.results[0].protocol.label
    return {
        "evaluation_name": f"{BENCHMARK}.{protocol}.{score.dataset}",
        "evaluation_result_id": task_id(score),
    }


def _source(options: ExportOptions) -> dict[str, Any]:
    source = {
        "source_name": "vfm_isbench",
        "source_type": "evaluation_run",
        "source_organization_name": options.source_name or "unknown",
        "evaluator_relationship": "other",  # a result does not know who ran it
    }
    return source | ({"source_organization_url": options.source_url} if options.source_url else {})


def _model_details(side: Side) -> dict[str, str]:
    first = side.results[0]
    details = {
        "deployment_type": "self_deployed",
        "model_availability": "unknown",
        "upsampler": side.label,
        "upsampler_sha256": side.sha256 or "unknown",
        "backbone": first.backbone.get("name"),
        "backbone_sha256": first.backbone.get("sha256") or "unknown",
        "upsampler_parameters": first.upsampler.get("n_parameters"),
        "signature": signature(side.results, list(first.datasets)),
        "seeds": list(side.seeds),
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in details.items()}


def _result(score: Score, options: ExportOptions, created: str) -> dict[str, Any]:
    low, high = score.metric.limits(score.cap)
    parameters = {"max_clicks": score.cap}
    if score.metric.threshold is not None:
        parameters["iou_percent"] = score.metric.threshold
    elif score.metric.clicks is not None:
        parameters["clicks"] = score.metric.clicks
    side = score.side
    protocol = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in side.results[0].protocol.to_dict().items()
    }
    result: dict[str, Any] = {
        **_names(score),
        "source_data": _data(score, options),
        "metric_config": {
            "evaluation_description": score.description,
            "metric_id": f"{BENCHMARK}.{score.metric.name}",
            "metric_name": score.metric.label,
            "metric_kind": "clicks" if score.metric.is_noc else "iou",
            "metric_unit": "clicks" if score.metric.is_noc else "proportion",
            "metric_parameters": parameters,
            "lower_is_better": score.metric.is_noc,
            "score_type": "continuous",
            "min_score": low,
            "max_score": high,
        },
        "score_details": {
            "score": score.value,
            "details": {
                "seeds": named_seeds(side.seeds),
                "signature": score_signature(side.results, score.dataset, score.metric.name),
            },
            "uncertainty": _uncertainty(score, options.confidence),
        },
        "generation_config": {"additional_details": protocol},
    }
    return result | ({"evaluation_timestamp": created} if created else {})


def _uncertainty(score: Score, confidence: float) -> dict[str, Any]:
    found: dict[str, Any] = {"standard_deviation": score.deviation, "num_samples": score.objects}
    if math.isfinite(score.estimate.error):
        found["standard_error"] = {"value": score.estimate.error, "method": _INTERVAL}
    if score.has_interval:
        found["confidence_interval"] = {
            "lower": score.estimate.low,
            "upper": score.estimate.high,
            "confidence_level": confidence,
            "method": _INTERVAL,
        }
    return found


def _data(score: Score, options: ExportOptions) -> dict[str, Any]:
    """Where the images come from: the Hub if an id was given, the published address or page, or neither."""
    content = score.side.results[0].datasets[score.dataset].content_sha256
    details = {"additional_details": {"objects": str(score.objects), "content_sha256": content or "unknown"}}
    if (hub := options.hub_dataset(score.dataset)) is not None:
        revision = {"hf_revision": hub.revision} if hub.revision else {}
        where: dict[str, Any] = {"source_type": "hf_dataset", "hf_repo": hub.repository, **revision}
    elif addresses := _addresses(score.dataset):
        where = {"source_type": "url", "url": addresses}
    else:
        where = {"source_type": "other"}
    return {"dataset_name": score.dataset, **where, **details}


def _addresses(dataset: str) -> list[str]:
    """Those of the archive; of one that is fetched by hand, the page where people find it."""
    source = source_for(dataset)
    if source is None:
        return []
    return list(source.archive.urls) or ([source.page] if source.page else [])


def _of_object(evidence: ObjectEvidence) -> dict[str, Any]:
    """An object as a conversation: a click of the user, and the mask of the model, of which only the IoU is kept."""
    messages: list[dict[str, Any]] = []
    for click, iou in zip(evidence.clicks, evidence.ious, strict=True):
        sign = "positive" if click.is_positive else "negative"
        messages.append({"role": "user", "content": f"{sign} click at row {click.row}, column {click.col}"})
        messages.append({"role": "assistant", "content": f"mask with an IoU of {iou!r}"})
    messages = [{"turn_idx": number, **message} for number, message in enumerate(messages)]
    what = {"raw": f"segment object {_id(evidence)} by clicks", "reference": []}
    text = json.dumps(what, sort_keys=True, separators=(",", ":"))
    return {
        "sample_id": _id(evidence),
        "sample_hash": hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest(),
        "interaction_type": "multi_turn",
        "input": what,
        "output": None,
        "messages": messages,
        "answer_attribution": [
            {
                "turn_idx": len(messages) - 1,
                "source": "messages[turn_idx].content",
                "extracted_value": repr(evidence.ious[-1]),
                "extraction_method": "intersection over union with the published mask of the object",
                "is_terminal": True,
            }
        ],
    }


def _id(evidence: ObjectEvidence) -> str:
    object_id = evidence.object_id
    return object_id.image if object_id.instance is None else f"{object_id.image}#{object_id.instance}"


def _evaluation(score: Score, evidence: ObjectEvidence, value: float) -> dict[str, Any]:
    """The object's score, and whether it reached the IoU of NoC, or of 90 % if the metric names none."""
    goal = (score.metric.threshold or 90) / 100
    return {"score": value, "is_correct": max(evidence.ious) >= goal, "num_turns": 2 * len(evidence.ious)}
