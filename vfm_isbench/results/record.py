"""The result of a run: its protocol, what was measured, and the evidence behind every score."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfm_isbench.errors import ProtocolError, ResultError
from vfm_isbench.protocol import Protocol
from vfm_isbench.results.by_size import by_size as split_by_size
from vfm_isbench.results.columns import OF_SIZES, STANDARD, RunFigures
from vfm_isbench.results.dataset_result import DatasetResult
from vfm_isbench.results.display import html_block, html_table, quoted
from vfm_isbench.results.signature import is_dry_run, score_signature, signature
from vfm_isbench.results.table import score_rows, score_table, units_of
from vfm_isbench.storage import json_fields
from vfm_isbench.storage.atomic import write_text
from vfm_isbench.storage.printable import escaped, quote
from vfm_isbench.storage.strict_json import UnreadableError, read_json
from vfm_isbench.types import is_number

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1

MOST_EPOCHS = 100_000
MOST_DATASETS = 100
MOST_NOTES = 1_000
MOST_COLOURS = 100

RESULT_FILE = "result.json"
"""The result in a run folder."""


@dataclass(frozen=True)
class Result:
    """What :func:`vfm_isbench.evaluate` returns: prints as the standard table, saves as JSON.

    Attributes:
        protocol: Protocol of the run.
        upsampler: Name, kind, sha256, parameters, ms per image, findings of the contract check.
        backbone: Name, channels (as "width"), patch size, hash of the weights, "mean" and "std" of its input, what
            brings its features to a usual size ("feature_norm"), and its "commit" on the hub if it has one; "weights"
            is "random" after a dry run, and missing otherwise.
        datasets: Result per data set.
        training: One record per epoch.
        environment: Versions and hardware.
        timings: Seconds by part.
        peak_memory: Bytes needed at most, by part: "training" (if this process trained) and "evaluation".
        trained_parameters: Trained parameters of the "click_encoder" and the "head"; files of versions up to 0.4.0 lack
            them.
        speed: Speed settings that differ from the default ones, see :class:`vfm_isbench.Speed`.
        created: Time of the evaluation, ISO 8601 with offset.
        notes: Remarks for readers of the numbers.
    """

    protocol: Protocol
    upsampler: Mapping[str, Any]
    backbone: Mapping[str, Any]
    datasets: Mapping[str, DatasetResult]
    training: tuple[Mapping[str, Any], ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    created: str = ""
    notes: tuple[str, ...] = ()
    speed: Mapping[str, Any] = field(default_factory=dict)
    peak_memory: Mapping[str, float] = field(default_factory=dict)
    trained_parameters: Mapping[str, float] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the protocol, see :meth:`vfm_isbench.Protocol.fingerprint`."""
        return self.protocol.fingerprint()

    @property
    def has_random_weights(self) -> bool:
        """Whether this was a dry run: the backbone's weights were random."""
        return is_dry_run(self)

    def signature(self) -> str:
        """One line that says what was measured under which protocol."""
        return signature([self], list(self.datasets))

    def score_signature(self, dataset: str, metric: str) -> str:
        """The same for one score, as in ``noc90|grabcut:50|bb:…|hash:…|data:…``; see :func:`score_signature`."""
        return score_signature([self], dataset, metric)

    def to_frame(self) -> pd.DataFrame:
        """One row per data set: all of :meth:`DatasetResult.scores`, and s/click."""
        import pandas as pd

        rows = [
            {"dataset": name, **found.scores(), "seconds_per_click": found.seconds_per_click}
            for name, found in self.datasets.items()
        ]
        frame: pd.DataFrame = pd.DataFrame(rows)
        return frame

    def table(self, columns: Sequence[str] | None = None, *, by_size: bool = False) -> str:
        """A table with other columns than the standard one, or with a row for each size of objects.

        Args:
            columns: Names such as "noc95", "nof90", "iou_auc", "iou_at_5", "boundary_iou_at_5", "gflops"; an unknown
                name gives an error that lists all of them. None for the usual ones.
            by_size: A row for the small, the medium and the large objects of each data set, see
                :data:`vfm_isbench.results.by_size.SIZES`.

        Raises:
            UnknownNameError: if there is no such column.
            ResultError: if the sizes are unknown.
        """
        datasets = split_by_size(self.datasets) if by_size else self.datasets
        chosen = columns or (OF_SIZES if by_size else STANDARD)
        run = RunFigures(self.upsampler, self.peak_memory, self.trained_parameters)
        return "\n".join([self._heading(), "", *score_table(datasets, self.protocol.max_clicks, chosen, run)])

    def __str__(self) -> str:
        table = score_table(self.datasets, self.protocol.max_clicks)
        return "\n".join([self._heading(), "", *table, *self._lines()])

    def _repr_html_(self) -> str:
        cap = self.protocol.max_clicks
        table = html_table(self._heading(), score_rows(self.datasets, cap))
        return html_block([table], units_of(cap), self._lines())

    def __repr__(self) -> str:
        names = (self.upsampler.get("name"), self.protocol.label, self.backbone.get("name"))
        scores = [found.in_short(self.protocol.headline) for found in self.datasets.values()]
        return f"<Result {', '.join(map(quoted, names))}, seed {self.protocol.seed}: {'; '.join(scores)}>"

    def _heading(self) -> str:
        weights = ", random weights: a dry run" if self.has_random_weights else ""
        return f"{self.upsampler['name']} · {self.protocol.label} protocol · {self.backbone['name']}{weights}"

    def _lines(self) -> list[str]:
        return [self.signature(), *self._memory_line(), *(f"note: {note}" for note in self.notes)]

    def _memory_line(self) -> list[str]:
        own = self.upsampler.get("peak_bytes")
        parts = {**({"upsampler": own} if is_number(own) else {}), **self.peak_memory}
        peaks = [f"{part} {count / 2**30:.2f} GiB" for part, count in parts.items()]
        return [f"peak memory: {', '.join(peaks)}"] if peaks else []

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content of the result file."""
        return {
            "schema_version": SCHEMA_VERSION,
            "signature": self.signature(),
            "fingerprint": self.fingerprint,
            "protocol": self.protocol.to_dict(),
            "upsampler": dict(self.upsampler),
            "backbone": dict(self.backbone),
            "training": [dict(epoch) for epoch in self.training],
            "environment": dict(self.environment),
            "timings": dict(self.timings),
            **({"peak_memory": dict(self.peak_memory)} if self.peak_memory else {}),
            **({"trained_parameters": dict(self.trained_parameters)} if self.trained_parameters else {}),
            "speed": dict(self.speed),
            "created": self.created,
            "notes": list(self.notes),
            "datasets": {name: found.to_dict() for name, found in self.datasets.items()},
        }

    def save(self, path: str | Path) -> Path:
        """Write the result as JSON; if that fails, the old file stays. Returns the path.

        Raises:
            ResultError: if the file cannot be written.
        """
        path = Path(path)
        text = json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        except OSError as error:
            raise ResultError(f"{path} cannot be written: {error.strerror or error}") from error
        return path

    @classmethod
    def load(cls, path: str | Path) -> Result:
        """Read a result and recompute every score from the evidence.

        Args:
            path: A result file, or a run folder with its ``result.json``.

        Raises:
            ResultError: if the file is missing, broken or of another schema, or if its scores or fingerprint contradict
                its evidence or protocol.
        """
        path = _result_file(Path(path))
        try:
            content = read_json(path)
        except OSError as error:
            raise ResultError(f"{path} could not be read: {error.strerror or error}") from error
        except UnreadableError as error:
            raise ResultError(f"{path} is not a result: it {error}") from error
        try:
            return cls.from_dict(content)
        except ResultError as error:
            beside = path.with_name(RESULT_FILE)
            is_other = path.name == "run.json" and beside.is_file()
            hint = f"; the result of this run is in {beside}" if is_other else ""
            raise ResultError(f"{path}: {error}{hint}") from error

    @classmethod
    def from_dict(cls, content: Any) -> Result:
        """The inverse of :meth:`to_dict`; see :meth:`load` for the checks.

        Texts come from a stranger: control characters in them become escapes, so that they can be shown anywhere.
        """
        if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
            found = content.get("schema_version") if isinstance(content, dict) else type(content).__name__
            raise ResultError(f"not a result of schema version {SCHEMA_VERSION}: found {found!r}")
        try:
            datasets = json_fields.mapping(content, "datasets")
            result = cls(
                protocol=Protocol.from_dict(json_fields.mapping(content, "protocol")),
                upsampler=_part(content, "upsampler"),
                backbone=_part(content, "backbone"),
                datasets={
                    name: DatasetResult.from_dict(name, json_fields.mapping(datasets, name, "datasets."))
                    for name in _checked_names(datasets)
                },
                training=_shown(json_fields.mappings(content, "training", MOST_EPOCHS)),
                environment=_shown(json_fields.mapping(content, "environment")),
                timings=_shown(json_fields.numbers(content, "timings")),
                speed=_shown(json_fields.mapping(content, "speed")) if "speed" in content else {},
                peak_memory=_later_numbers(content, "peak_memory"),
                trained_parameters=_later_numbers(content, "trained_parameters"),
                created=_shown(json_fields.text(content, "created", longest=json_fields.LONGEST_NAME)),
                notes=_shown(json_fields.texts(content, "notes", MOST_NOTES)),
            )
        except (UnreadableError, ProtocolError) as error:
            raise ResultError(str(error)) from error
        for name, dataset in result.datasets.items():
            if dataset.max_clicks != result.protocol.max_clicks:
                raise ResultError(
                    f"data set {name!r} has {dataset.max_clicks} clicks per object, but its protocol says "
                    f"{result.protocol.max_clicks}"
                )
        if content.get("fingerprint") != result.fingerprint:
            raise ResultError(
                "the fingerprint does not match the protocol written beside it: the file was edited, or written under "
                "other rules of this library. Run it again; for another protocol, use --set FIELD=VALUE"
            )
        return result


def _part(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An upsampler or a backbone: an object with a name, a text or null as its hash, an object or null as its source.

    Raises:
        UnreadableError: if it is anything else.
    """
    found = json_fields.mapping(content, key)
    json_fields.text(found, "name", f"{key}.", json_fields.LONGEST_NAME)
    for field_name in ("sha256", "feature_norm", "weights", "commit"):
        json_fields.optional_text(found, field_name, f"{key}.")
    for field_name in ("mean", "std") if key == "backbone" else ():
        values = json_fields.sequence(found, field_name, f"{key}.", MOST_COLOURS) if field_name in found else ()
        if not all(map(is_number, values)):
            raise UnreadableError(f"the field '{key}.{field_name}' has {quote(values)}; expected a list of numbers")
    if found.get("source") is not None:
        json_fields.mapping(found, "source", f"{key}.")
    shown: Mapping[str, Any] = _shown(found)
    return shown


def _later_numbers(content: Mapping[str, Any], key: str) -> Any:
    """Numbers by name, which older files lack."""
    return _shown(json_fields.numbers(content, key)) if key in content else {}


def _checked_names(datasets: Mapping[str, Any]) -> list[str]:
    """Names of data sets.

    Raises:
        UnreadableError: if there are too many, or one is not a line of text.
    """
    if len(datasets) > MOST_DATASETS:
        raise UnreadableError(f"the field 'datasets' has {len(datasets)} items; at most {MOST_DATASETS} are allowed")
    for name in datasets:
        if not name.isprintable() or not 0 < len(name) <= json_fields.LONGEST_NAME:
            raise UnreadableError(f"the field 'datasets' has {quote(name)}, which is not the name of a data set")
    return list(datasets)


def _shown(value: Any) -> Any:
    return tuple(map(escaped, value)) if isinstance(value, tuple) else escaped(value)


def _result_file(path: Path) -> Path:
    """The file to read: in a folder, that of a finished run.

    Raises:
        ResultError: if the folder has none.
    """
    if not path.is_dir() or (path / RESULT_FILE).is_file():
        return path / RESULT_FILE if path.is_dir() else path
    others = sorted(path.glob("result*.json"))
    if others:
        advice = f"; to read one of another evaluation, name it: {', '.join(map(str, others))}"
    elif (path / "run.json").is_file():
        advice = ": this run is not finished; the same command or call continues it"
    else:
        advice = "; give a result file, or the folder of a finished run"
    raise ResultError(f"the folder {path} has no {RESULT_FILE}{advice}")
