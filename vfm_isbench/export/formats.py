"""The formats by name, and one call that exports results in any of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from vfm_isbench.errors import ComparisonError, ResultError
from vfm_isbench.export import every_eval_ever as eee
from vfm_isbench.export.eval_results import eval_results
from vfm_isbench.export.latex import latex_table
from vfm_isbench.export.model_card import model_card
from vfm_isbench.export.options import ExportOptions
from vfm_isbench.export.tidy_csv import tidy_csv
from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.results.record import Result
from vfm_isbench.results.sides import Side, each_given, group_sides, load_result
from vfm_isbench.storage import atomic

EVERY_EVAL_EVER = "every-eval-ever"

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "eval-results": "YAML for the folder .eval_results/ of a model on the Hugging Face Hub",
        EVERY_EVAL_EVER: "JSON of Every Eval Ever, and a line per object; --output is a folder",
        "model-card": "metadata (model-index) and a section for a model card on the Hub",
        "csv": "a row per upsampler, data set and score, with intervals",
        "latex": "a table for a paper",
    }
)
"""What each format is."""

_OF_ONE: Mapping[str, Callable[[Side, ExportOptions], str]] = {
    "eval-results": eval_results,
    EVERY_EVAL_EVER: lambda side, options: _json(eee.every_eval_ever(side, options)),
    "model-card": model_card,
}
"""Formats of one upsampler, with any number of seeds."""

_OF_SEVERAL: Mapping[str, Callable[[Sequence[Side], ExportOptions], str]] = {"csv": tidy_csv, "latex": latex_table}


def export_results(
    results: Result | str | Path | Sequence[Result | str | Path],
    format: str,
    output: str | Path | None = None,
    options: ExportOptions | None = None,
) -> str:
    """Results in the format of someone else.

    Results of one upsampler with different training seeds are combined: values are means over the seeds, and intervals
    account for them.

    Args:
        results: A result, the path of a result file or run folder, or several of these.
        format: "eval-results", "every-eval-ever", "model-card", "csv" or "latex"; see :data:`FORMATS`. Only csv and
            latex take several upsamplers.
        output: File to write; for "every-eval-ever" a folder, which gets the record and the lines of all objects.
        options: Scores, confidence and what a result does not know.

    Returns:
        The text; for "every-eval-ever" that of the record, which refers to the lines only if they were written.

    Raises:
        UnknownNameError: if there is no such format.
        ComparisonError: if the results are of several upsamplers and the format takes one, or a metric does not exist.
        IncomparableError: if seeds, or the upsamplers of a LaTeX table, were measured under different protocols.
        ResultError: if a file cannot be read or written, a result is a dry run with random weights of the backbone, or
            the format needs something that was not given.

    Example:
        >>> import vfm_isbench
        >>> print(vfm_isbench.export_results("runs/jbu-demo@2-seed0", "latex"))  # doctest: +SKIP
    """
    if format not in FORMATS:
        raise unknown_name("format", format, list(FORMATS))
    options = options or ExportOptions()
    sides = group_sides(item if isinstance(item, Result) else load_result(item) for item in each_given(results))
    if not sides:
        raise ComparisonError("there is no result to export: give a result file or a run folder")
    _refuse_dry_runs(sides)
    if format in _OF_SEVERAL:
        text = _OF_SEVERAL[format](sides, options)
    elif len(sides) > 1:
        raise ComparisonError(
            f"the format {format} describes one upsampler, but the results are of {len(sides)}: "
            f"{', '.join(side.label for side in sides)}. Export them one by one, or take csv or latex"
        )
    elif format == EVERY_EVAL_EVER and output is not None:
        return _write_every_eval_ever(sides[0], Path(output), options)
    else:
        text = _OF_ONE[format](sides[0], options)
    if output is not None:
        _write(Path(output), text.encode("utf-8", "backslashreplace"))
    return text


def _refuse_dry_runs(sides: Sequence[Side]) -> None:
    """In the formats of others, numbers that mean nothing would look like any others."""
    dry = [side.label for side in sides if any(result.has_random_weights for result in side.results)]
    if dry:
        raise ResultError(
            f"dry runs are not exported, because their numbers mean nothing: {', '.join(dry)} ran on a backbone with "
            "random weights. Run again without --random-weights"
        )


def _write_every_eval_ever(side: Side, folder: Path, options: ExportOptions) -> str:
    """Write both files, in the layout of the datastore. The record comes last, so that its lines are there."""
    # A file name that is not UTF-8 has lone surrogates, which become escapes of JSON.
    lines = "".join(f"{line}\n" for line in eee.lines_of(side, options)).encode("utf-8", "backslashreplace")
    record = eee.every_eval_ever(side, options)
    inside = f"data/{eee.BENCHMARK}/{eee.model_of(side, options)}"
    name = eee.file_name(record, lines)
    if lines:
        record = eee.with_lines(record, inside, name, lines)
        _write(folder / inside / f"{name}_samples.jsonl", lines)
    text = _json(record)
    _write(folder / inside / f"{name}.json", text.encode("utf-8", "backslashreplace"))
    return text


def _json(record: Mapping[str, object]) -> str:
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(path, content)
    except OSError as error:
        raise ResultError(f"{path} cannot be written: {error.strerror or error}") from error
