"""One line that says what a score is a score of, in the manner of sacreBLEU's (Post 2018, arXiv 1804.08771)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vfm_isbench.results.record import Result

DIGITS = 12
"""Hexadecimal digits that are shown of a hash."""

FLOAT32 = "float32"
"""The precision that goes without saying."""


def score_signature(results: Sequence[Result], dataset: str, metric: str) -> str:
    """Signature of one score of one data set, over results of one protocol that differ in their seeds.

    Args:
        results: At least one result; comparable ones (see :mod:`vfm_isbench.results.comparability`).
        dataset: Data set, which all of them have.
        metric: Name of the score ("noc90"), or several, joined by commas.

    Returns:
        ``metric|data set:objects|protocol, with all seeds|v:version|hash:protocol|data:content``, and before ``v:`` a
        ``prec:bfloat16`` where it was not computed in float32. Equal lines but for seed and version belong to scores
        that may be compared.
    """
    return f"{metric}|{signature(results, [dataset])}"


def signature(results: Sequence[Result], datasets: Sequence[str]) -> str:
    """The same without a score, over several data sets."""
    first = results[0]
    counts = ",".join(f"{name}:{len(first.datasets[name].objects)}" for name in datasets)
    protocol = first.protocol.signature([result.protocol.seed for result in results])
    versions = _joined(result.environment.get("vfm_isbench", "unknown") for result in results)
    precisions = _joined(precision_of(result) for result in results)
    if precisions != FLOAT32:
        protocol += f"|prec:{precisions}"
    contents = ",".join(short_hash(first.datasets[name].content_sha256) for name in datasets)
    return f"{counts}|{protocol}|v:{versions}|hash:{short_hash(first.fingerprint)}|data:{contents}"


def precision_of(result: Result) -> str:
    """Precision in which a result was computed: "float32" unless its speed settings say otherwise."""
    return str(result.speed.get("precision", FLOAT32))


def short_hash(sha256: str | None) -> str:
    """The shown part of a hash, "unknown" where there is none."""
    return sha256[:DIGITS] if sha256 else "unknown"


def _joined(values: Iterable[object]) -> str:
    """Different values, in the order in which they came."""
    return ",".join(dict.fromkeys(str(value) for value in values))
