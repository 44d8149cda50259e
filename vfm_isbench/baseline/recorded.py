"""Reads the results of a baseline, those written under other rules of the library included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vfm_isbench.errors import IncomparableError, ProtocolError, ResultError
from vfm_isbench.protocol import PROTOCOL_REVISION, Protocol
from vfm_isbench.results import Result
from vfm_isbench.results.comparability import why_incomparable
from vfm_isbench.results.sides import side_of
from vfm_isbench.storage.printable import escaped
from vfm_isbench.storage.strict_json import UnreadableError, read_json

MADE = "baseline"
"""Key of a result file for what only :mod:`vfm_isbench.baseline.make` writes; results ignore it."""

_REVISIONS = (PROTOCOL_REVISION, *range(1, PROTOCOL_REVISION + 20))
"""Revisions that are recognised in a file: today's first, then earlier ones and some of later versions."""


@dataclass(frozen=True)
class Recorded:
    """One result of a baseline.

    Attributes:
        path: Its file.
        result: The result, with today's fingerprint of its protocol.
        revision: Revision of the rules that it was measured under; today's is ``PROTOCOL_REVISION``.
        spec: How to load its upsampler, if the file says so.
    """

    path: Path
    result: Result
    revision: int = PROTOCOL_REVISION
    spec: str | None = None

    @property
    def seed(self) -> int:
        """Training seed."""
        return self.result.protocol.seed


def load_recorded(path: str | Path) -> Recorded:
    """Load the result of a file or run folder, whatever revision of the rules its fingerprint names.

    Raises:
        ResultError: if its backbone has random weights; see also :meth:`vfm_isbench.Result.load`.
    """
    path = Path(path)
    path = path / "result.json" if path.is_dir() else path
    recorded = _load_recorded(path)
    if recorded.result.has_random_weights:
        raise ResultError(
            f"{path} is a dry run: its backbone has random weights, so it says nothing about an upsampler. Make a "
            "baseline with pretrained weights: vfm-isbench baseline make UPSAMPLER"
        )
    return recorded


def _load_recorded(path: Path) -> Recorded:
    try:
        content = read_json(path)
        protocol = Protocol.from_dict(content["protocol"])
        revision = next(found for found in _REVISIONS if protocol.fingerprint(found) == content["fingerprint"])
    except (OSError, UnreadableError, LookupError, TypeError, AttributeError, ProtocolError, StopIteration):
        return Recorded(path, Result.load(path))  # which says what is wrong with the file
    try:
        result = Result.from_dict({**content, "fingerprint": protocol.fingerprint()})
    except ResultError as error:
        raise ResultError(f"{path}: {error}") from error
    made = content.get(MADE)
    spec = escaped(made.get("upsampler")) if isinstance(made, Mapping) else None
    return Recorded(path, result, revision, spec if isinstance(spec, str) else None)


def load_baseline(paths: Sequence[str | Path]) -> list[Recorded]:
    """Load the results of a baseline, by ascending seed, and check that they belong together.

    Args:
        paths: Result files or run folders, one per seed; or one folder of result files.

    Raises:
        ResultError: if there are none, or one is broken.
        ComparisonError: if they are not results of one upsampler with one result per seed.
        IncomparableError: if they were not measured alike.
    """
    files = [Path(path) for path in paths]
    if len(files) == 1 and files[0].is_dir() and not (files[0] / "result.json").exists():
        files = sorted(files[0].glob("*.json"))
    if not files:
        raise ResultError(f"{', '.join(map(str, paths)) or 'nothing'}: expected result files, one per seed; found none")
    found = sorted((load_recorded(file) for file in files), key=lambda recorded: recorded.seed)
    side_of([recorded.result for recorded in found])
    first = found[0].result
    for recorded in found[1:]:
        for dataset in first.datasets:
            if reasons := why_incomparable(first, recorded.result, dataset):
                raise IncomparableError(
                    f"{found[0].path} and {recorded.path} do not belong to one baseline: {'; '.join(reasons)}"
                )
    return found
