"""The folder of a run: what it belongs to, its checkpoint, and the evidence gathered so far."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from vfm_isbench.errors import ProtocolError, ResultError, RunError, VfmIsbenchWarning
from vfm_isbench.protocol import Protocol
from vfm_isbench.results.record import evidence_from_dict, evidence_to_dict
from vfm_isbench.training import Checkpoint, load_checkpoint, save_checkpoint
from vfm_isbench.types import ObjectEvidence, ObjectId

KeptEvidence: TypeAlias = tuple[dict[ObjectId, ObjectEvidence], Callable[[ObjectEvidence], None]]
"""Evidence found on disk, and the function that appends more."""


class RunFolder:
    """Keeps a run's work on disk, so that an interrupted run goes on where it stopped.

    Files: ``run.json`` (what the folder belongs to), ``checkpoint.safetensors``, ``evidence/NAME.jsonl`` (a line per
    evaluated object), ``result.json``. Evaluations under other speed settings that change what is known of a score
    have files of their own, such as ``result-stop90.json``.

    Args:
        folder: Created if absent.
        belongs_to: JSON values that must be equal for work to be taken over: protocol, upsampler, backbone weights,
            origins of plugins.
        overwrite: Remove the files of another run instead of refusing.

    Raises:
        RunError: if the folder cannot be written, or holds another run and ``overwrite`` is False.
    """

    def __init__(self, folder: Path, belongs_to: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.folder = folder
        self._manifest = folder / "run.json"
        self._checkpoint = folder / "checkpoint.safetensors"
        try:
            (folder / "evidence").mkdir(parents=True, exist_ok=True)
            self._claim(json.loads(json.dumps(belongs_to)), overwrite)
        except OSError as error:
            raise RunError(f"the output folder {folder} cannot be written: {error}") from error

    def result_path(self, label: str = "") -> Path:
        """Where the result goes; the label is that of the speed settings, see :meth:`vfm_isbench.Speed.label`."""
        return self.folder / f"result{label}.json"

    def _claim(self, belongs_to: dict[str, Any], overwrite: bool) -> None:
        if self._manifest.is_file() and not overwrite:
            try:
                earlier = json.loads(self._manifest.read_text(encoding="utf-8"))
            except ValueError as error:
                raise RunError(f"{self._manifest} is broken ({error}); choose another folder or overwrite") from error
            different = _differences(_in_todays_form(earlier), belongs_to)
            if different:
                raise RunError(
                    f"the folder {self.folder} holds another run; it differs in {'; '.join(different)}. Choose another "
                    "output folder, or overwrite=True (command line: --overwrite) to give its work up"
                )
            if belongs_to.get("upsampler", {}).get("sha256") is None and self._checkpoint.exists():
                warnings.warn(
                    f"the run in {self.folder} is resumed because its upsampler has the same name; whether it is the "
                    "same code cannot be told of this callable",
                    VfmIsbenchWarning,
                    stacklevel=4,
                )
            return
        files = [self._checkpoint, *self.folder.glob("result*.json"), *(self.folder / "evidence").glob("*.jsonl")]
        files = [file for file in files if file.exists()]
        if files and not overwrite:
            raise RunError(
                f"the folder {self.folder} holds {', '.join(file.name for file in files)} but no {self._manifest.name} "
                "that says of which run. Choose another output folder, or overwrite=True (command line: --overwrite), "
                "which deletes them"
            )
        for file in files:
            file.unlink()
        self._manifest.write_text(json.dumps(belongs_to, indent=1), encoding="utf-8")

    def load_checkpoint(self) -> Checkpoint | None:
        """Checkpoint of the last finished epoch, if there is one."""
        return load_checkpoint(self._checkpoint) if self._checkpoint.is_file() else None

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint in place of the last one."""
        save_checkpoint(self._checkpoint, checkpoint)

    def evidence(self, dataset: str, belongs_to: str, label: str = "") -> KeptEvidence:
        """Evidence kept for a data set, and the function that appends more; see :func:`keep_evidence`."""
        return keep_evidence(self.folder / "evidence" / f"{dataset}{label}.jsonl", belongs_to)


def keep_evidence(path: Path, belongs_to: str) -> KeptEvidence:
    """Open a file of evidence, a line per object, so that an interrupted evaluation goes on where it stopped.

    Args:
        path: The file; its folder must exist.
        belongs_to: Hash of what was evaluated, weights and data; evidence gathered with another is dropped.

    Returns:
        The evidence found, and the function that appends more.
    """
    head = json.dumps({"weights": belongs_to})
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    done: dict[ObjectId, ObjectEvidence] = {}
    if lines[:1] == [head]:
        for line in lines[1:]:
            try:
                found = evidence_from_dict(json.loads(line))
            except (ValueError, ResultError):
                break  # the run was stopped in the middle of writing this line
            done[found.object_id] = found
    # Written anew, so that a half-written line does not stay in the middle of the file.
    kept = [head, *(json.dumps(evidence_to_dict(found)) for found in done.values())]
    path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def keep(found: ObjectEvidence) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(evidence_to_dict(found)) + "\n")

    return done, keep


def _in_todays_form(belongs_to: dict[str, Any]) -> dict[str, Any]:
    """What an earlier version wrote, with the protocol fields that came later."""
    belongs_to = {"precision": "float32", **belongs_to}
    try:
        return {**belongs_to, "protocol": Protocol.from_dict(belongs_to["protocol"]).to_dict()}
    except (KeyError, TypeError, ProtocolError):
        return belongs_to


def _differences(earlier: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two runs, in words."""
    found = []
    for part in now:
        before, after = earlier.get(part), now[part]
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
            found += [f"{part}.{key}: {before.get(key)!r} there, {after.get(key)!r} now" for key in keys]
        else:
            found.append(f"{part}: {before!r} there, {after!r} now")
    return found
