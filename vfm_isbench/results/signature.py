"""One line that names everything a score depends on, modelled on sacreBLEU's (Post 2018, arXiv 1804.08771)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from typing import Protocol as Interface

from vfm_isbench.protocol import Protocol
from vfm_isbench.results.dataset_result import DatasetResult

DIGITS = 12
"""Hexadecimal digits shown of a hash."""

RANDOM = "random"
"""What a backbone's field ``weights`` says if it was not pretrained; pretrained ones have no such field."""

FLOAT32 = "float32"
"""The default precision, which signatures omit."""


class Measured(Interface):
    """The fields of a :class:`vfm_isbench.Result` that a signature needs."""

    @property
    def protocol(self) -> Protocol:
        """Protocol of the run."""

    @property
    def upsampler(self) -> Mapping[str, Any]:
        """What is known of the upsampler."""

    @property
    def backbone(self) -> Mapping[str, Any]:
        """What is known of the backbone."""

    @property
    def datasets(self) -> Mapping[str, DatasetResult]:
        """Result per data set."""

    @property
    def environment(self) -> Mapping[str, Any]:
        """Versions and hardware."""

    @property
    def speed(self) -> Mapping[str, Any]:
        """Speed settings that differ from the default ones."""


def score_signature(results: Sequence[Measured], dataset: str, metric: str) -> str:
    """Signature of one score on one data set, for results of one protocol that differ only in their seeds.

    Args:
        results: At least one result; all comparable (see :mod:`vfm_isbench.results.comparability`).
        dataset: Data set that all of them have.
        metric: Name of the score ("noc90"), or several names joined by commas.

    Returns:
        ``metric|data set:objects|protocol, with all seeds|up:upsampler|v:version|hash:protocol|data:content``, with
        ``prec:bfloat16`` before ``up:`` if the precision was not float32, and ``weights:random`` after a dry run.
        Scores may be compared if their signatures differ only in seed, upsampler and version.
    """
    return f"{metric}|{signature(results, [dataset])}"


def signature(results: Sequence[Measured], datasets: Sequence[str]) -> str:
    """The same without a score, for several data sets."""
    first = results[0]
    counts = ",".join(f"{name}:{len(first.datasets[name].objects)}" for name in datasets)
    protocol = first.protocol.signature([result.protocol.seed for result in results])
    versions = _joined(result.environment.get("vfm_isbench", "unknown") for result in results)
    precisions = _joined(precision_of(result) for result in results)
    if precisions != FLOAT32:
        protocol += f"|prec:{precisions}"
    if any(is_dry_run(result) for result in results):
        protocol += f"|weights:{RANDOM}"
    contents = ",".join(short_hash(first.datasets[name].content_sha256) for name in datasets)
    upsampler = _joined(short_hash(result.upsampler.get("sha256")) for result in results)
    fingerprint = short_hash(first.protocol.fingerprint())
    return f"{counts}|{protocol}|up:{upsampler}|v:{versions}|hash:{fingerprint}|data:{contents}"


def precision_of(result: Measured) -> str:
    """Precision in which a result was computed: "float32" unless its speed settings say otherwise."""
    return str(result.speed.get("precision", FLOAT32))


def is_dry_run(result: Measured) -> bool:
    """Whether the backbone's weights were random."""
    return result.backbone.get("weights") == RANDOM


def short_hash(sha256: str | None) -> str:
    """The shown part of a hash, "unknown" if there is none."""
    return sha256[:DIGITS] if sha256 else "unknown"


def _joined(values: Iterable[object]) -> str:
    """The different values, in order of appearance."""
    return ",".join(dict.fromkeys(str(value) for value in values))
