"""The folder of a run: what it belongs to, its checkpoint, and the evidence so far."""

from __future__ import annotations

import json
import re
import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vfm_isbench.datasets.own_names import file_stem
from vfm_isbench.errors import ProtocolError, RunError, VfmIsbenchWarning
from vfm_isbench.metrics.behaviour import differs
from vfm_isbench.protocol import Protocol
from vfm_isbench.runs.evidence_store import EvidenceStore
from vfm_isbench.storage import atomic
from vfm_isbench.storage.printable import printable, quote
from vfm_isbench.storage.strict_json import SMALL, UnreadableError, read_json
from vfm_isbench.training import Checkpoint, load_checkpoint, save_checkpoint
from vfm_isbench.types import is_number

_OBJECTS = ("protocol", "upsampler", "versions", "behaviour", "backbone_input")
"""Parts of ``run.json`` with fields of their own."""


_LATER = ("behaviour", "backbone_input")
"""Parts that earlier versions did not write; without them, nothing is compared."""


class RunFolder:
    """Keeps a run's work on disk, so that an interrupted run continues where it stopped.

    Files: ``run.json`` (what the folder belongs to), ``checkpoint.safetensors``, ``evidence/NAME.jsonl`` (a line per
    evaluated object), ``result.json``. Evaluations under speed settings that leave scores missing or less exact have
    files of their own, such as ``result-stop90.json``.

    Args:
        folder: Created if missing.
        belongs_to: JSON values that must be equal for earlier work to be reused: protocol, upsampler, backbone weights,
            origins of plugins.
        overwrite: Delete the files of another run instead of refusing.
        spec: What the user called the upsampler, for messages; None if it is a callable.

    Raises:
        RunError: if the folder cannot be written, or holds another run and ``overwrite`` is False.
    """

    def __init__(
        self, folder: Path, belongs_to: Mapping[str, Any], *, overwrite: bool = False, spec: str | None = None
    ) -> None:
        self.folder = folder
        self._spec = spec
        self._manifest = folder / "run.json"
        self._checkpoint = folder / "checkpoint.safetensors"
        self.notes: tuple[str, ...] = ()
        try:
            (folder / "evidence").mkdir(parents=True, exist_ok=True)
            for place in (folder, folder / "evidence"):
                atomic.remove_left_over(place)
            self._claim(json.loads(json.dumps(belongs_to)), overwrite)
            self._claimed = self._manifest.read_bytes()
        except OSError as error:
            raise RunError(f"the output folder {folder} cannot be written: {error}") from error

    def require_unchanged(self) -> None:
        """Check that the folder still belongs to this run, before it is used again after a while.

        Raises:
            RunError: if another run has replaced it, or it was deleted.
        """
        if not self._manifest.is_file() or self._manifest.read_bytes() != self._claimed:
            raise RunError(
                f"the folder {self.folder} no longer belongs to this training: another run has replaced it, or it was "
                "deleted. Train again in another folder; or, to evaluate this training and keep nothing, pass "
                "dataclasses.replace(trained, folder=None)"
            )

    def result_path(self, label: str = "") -> Path:
        """Where the result is written; the label is that of the speed settings, :meth:`vfm_isbench.Speed.label`."""
        return self.folder / f"result{label}.json"

    def _claim(self, belongs_to: dict[str, Any], overwrite: bool) -> None:
        if self._manifest.is_file() and not overwrite:
            try:
                earlier = _checked(read_json(self._manifest, SMALL))
            except UnreadableError as error:
                raise RunError(
                    f"{self._manifest} is broken: it {error}. Choose another output folder, or overwrite=True (command "
                    "line: --overwrite) to discard the work in this one"
                ) from error
            self._continue(_in_current_form(earlier), belongs_to)
            return
        files = [self._checkpoint, *self.folder.glob("result*.json"), *(self.folder / "evidence").glob("*.jsonl")]
        files = [file for file in files if file.exists()]
        if files and not overwrite:
            raise RunError(
                f"the folder {self.folder} holds {', '.join(file.name for file in files)} but no {self._manifest.name} "
                "that says which run they belong to. Choose another output folder, or overwrite=True (command line: "
                "--overwrite), which deletes them"
            )
        for file in files:
            file.unlink()
        atomic.write_text(self._manifest, json.dumps(belongs_to, indent=1))

    def _continue(self, earlier: dict[str, Any], belongs_to: dict[str, Any]) -> None:
        """Check that the work in the folder belongs to this run.

        Raises:
            RunError: if it belongs to another run, or nobody can tell.
        """
        advice = "Choose another output folder, or overwrite=True (command line: --overwrite) to discard the work in it"
        different = _differences(earlier, belongs_to)
        if different:
            raise RunError(
                f"the folder {self.folder} holds another run; it differs in {'; '.join(different)}."
                f"{self._evaluation_advice(earlier, belongs_to)}\n{advice}."
            )
        if belongs_to.get("upsampler", {}).get("sha256") is None and self._checkpoint.exists():
            raise RunError(
                f"the run in {self.folder} cannot be resumed: its upsampler has no fingerprint, so nobody can tell "
                f"whether it is still the same. {advice}; or give it an identity (command line: --identity TEXT)"
            )
        now: dict[str, Any] = belongs_to.get("versions", {})
        then: dict[str, Any] = earlier.get("versions", now)
        changed = [f"{name} {then.get(name)} before, {now[name]} now" for name in now if then.get(name) != now[name]]
        if changed:
            self.notes = (f"the run was continued under other versions: {', '.join(changed)}",)
            warnings.warn(self.notes[0], VfmIsbenchWarning, stacklevel=6)

    def _evaluation_advice(self, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
        """How to keep a training when nothing but the upsampler has changed since; empty if anything else has."""
        is_same = earlier.get("upsampler", {}).get("name") == now.get("upsampler", {}).get("name")
        if not (is_same and self._checkpoint.exists()) or _differences({**earlier, **_of_upsampler(now)}, dict(now)):
            return ""
        in_python = f"vfm_isbench.evaluate_checkpoint({str(self.folder)!r}, upsampler=…)"
        output = shlex.quote(str(self.folder / "result-edited.json"))
        command = (
            f"vfm-isbench eval {shlex.quote(str(self.folder))} --upsampler {shlex.quote(self._spec)} --output {output}"
            if self._spec
            else in_python
        )
        return (
            "\nTo keep the training, evaluate its checkpoint with the upsampler as it is now and the same data folder; "
            f"the result says so, and has no rank:\n    {command}"
        )

    def load_checkpoint(self) -> Checkpoint | None:
        """The last checkpoint; None before the first."""
        return load_checkpoint(self._checkpoint) if self._checkpoint.is_file() else None

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Replace the last checkpoint."""
        save_checkpoint(self._checkpoint, checkpoint)

    def evidence(self, dataset: str, belongs_to: str, label: str = "") -> EvidenceStore:
        """Evidence of a data set; ``belongs_to`` is the hash of the trained weights, the label as above."""
        return EvidenceStore(self.folder / "evidence" / f"{file_stem(dataset)}{label}.jsonl", belongs_to)


def _checked(content: Any) -> dict[str, Any]:
    """What ``run.json`` says, if it is an object, and so are its parts.

    Raises:
        UnreadableError: if it is anything else.
    """
    if not isinstance(content, dict):
        raise UnreadableError(f"holds {quote(content)}; expected an object")
    for part in _OBJECTS:
        if not isinstance(content.get(part, {}), dict):
            raise UnreadableError(f"says {quote(content[part])} in the field {part!r}; expected an object")
    behaviours = content.get("behaviour", {}).values()
    if not all(value is None or (isinstance(value, list) and all(map(is_number, value))) for value in behaviours):
        raise UnreadableError("has something other than lists of numbers in the field 'behaviour'")
    return content


def _of_upsampler(belongs_to: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run depends on its upsampler's code alone."""
    return {name: belongs_to[name] for name in ("upsampler", "behaviour") if name in belongs_to}


def _in_current_form(belongs_to: dict[str, Any]) -> dict[str, Any]:
    """What an earlier version wrote, with what was added later."""
    belongs_to = {"precision": "float32", "protocol_revision": 1, "random_weights": False, **belongs_to}
    try:
        return {**belongs_to, "protocol": Protocol.from_dict(belongs_to["protocol"]).to_dict()}
    except (KeyError, TypeError, ProtocolError):
        return belongs_to


def _differences(earlier: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two runs, in words."""
    found = []
    for part in now:
        if part == "versions" or (part in _LATER and part not in earlier):
            continue
        before, after = earlier.get(part), now[part]
        if part == "behaviour":
            then = before or {}
            found += [f"what the {name} computes" for name in after if differs(then.get(name), after[name])]
            continue
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
            if part == "upsampler" and "sha256" not in keys and after.get("sha256") is not None:
                keys = [key for key in keys if key != "name"]  # the same upsampler under another name
            found += [f"{part}.{key}: {_value(before.get(key))} there, {_value(after.get(key))} now" for key in keys]
        else:
            found.append(f"{part}: {_value(before)} there, {_value(after)} now")
    return found


def _value(value: Any) -> str:
    """A value for messages; of a hash, the first digits."""
    is_hash = isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)
    return f"{value[:12]}…" if is_hash else printable(repr(value), 300)
